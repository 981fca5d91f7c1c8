"""What stops a server from loading is said clearly, before anything heavy is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from glm_engine.artifact import Artifact
from glm_engine.errors import ArtifactError, ConfigError
from glm_engine.fake import FakeEngine
from glm_server.config import ServerConfig
from glm_server.loading import load_runtime
from glm_server.metrics import Metrics
from server_support import toy_config, write_artifact


def never(config: ServerConfig, artifact: Artifact) -> FakeEngine:
    raise AssertionError("the engine must not be loaded")


def test_tokenizer_is_checked_before_the_engine(tmp_path: Path) -> None:
    write_artifact(tmp_path, toy_config())
    config = ServerConfig(artifact=str(tmp_path), tokenizer=str(tmp_path / "none.model"))
    with pytest.raises(ConfigError, match="--tokenizer"):
        load_runtime(config, never, Metrics(), lambda reason: None)


def test_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="glm convert"):
        load_runtime(ServerConfig(artifact=str(tmp_path)), never, Metrics(), lambda reason: None)
