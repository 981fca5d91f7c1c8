"""What stops a server from loading is said clearly, before anything heavy is done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glm_engine.errors import ArtifactError, ConfigError, GlmError
from glm_engine.fake import FakeEngine
from glm_server.config import ServerConfig
from glm_server.loading import ArtifactInfo, load_runtime, read_artifact
from glm_server.metrics import Metrics
from server_support import toy_config


def write_manifest(folder: Path, **changes: object) -> None:
    manifest = {"model": toy_config().to_dict(), "digest": "d", "precision": "int8", "tensor_parallel_size": 2}
    (folder / "manifest.json").write_text(json.dumps(manifest | changes), encoding="utf-8")


def test_manifest(tmp_path: Path) -> None:
    write_manifest(tmp_path)
    assert read_artifact(str(tmp_path)) == ArtifactInfo(toy_config(), "d", "int8", 2)


@pytest.mark.parametrize("changes", [{"model": 5}, {"tensor_parallel_size": "many"}, {"model": {}}])
def test_bad_manifest(tmp_path: Path, changes: dict[str, object]) -> None:
    write_manifest(tmp_path, **changes)
    with pytest.raises(GlmError):
        read_artifact(str(tmp_path))


def test_missing_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="write one with `glm convert`"):
        read_artifact(str(tmp_path / "none"))


def test_tokenizer_is_checked_before_the_engine(tmp_path: Path) -> None:
    write_manifest(tmp_path)
    config = ServerConfig(artifact=str(tmp_path), tokenizer=str(tmp_path / "none.model"))

    def load(config: ServerConfig, artifact: ArtifactInfo) -> FakeEngine:
        raise AssertionError("the engine must not be loaded")

    with pytest.raises(ConfigError, match="--tokenizer"):
        load_runtime(config, load, Metrics(), lambda reason: None)
