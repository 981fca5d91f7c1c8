"""Settings: flags over environment over defaults, each bad one named; the flags of `glm serve` are the settings."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from click.testing import CliRunner

from glm_cli.serve import command
from glm_engine.errors import ConfigError
from glm_server.config import ServerConfig, flag, read_environment


def test_flags_win_over_the_environment() -> None:
    environ = {"GLM_PORT": "7000", "GLM_DRAIN_TIMEOUT": "3.5", "GLM_MODEL_NAME": "mine", "GLM_OTHER": "x"}
    config = read_environment(environ, {"port": 8000})
    assert (config.port, config.drain_timeout, config.model_name) == (8000, 3.5, "mine")
    assert config.management_port == 9400


def test_derived_limits() -> None:
    assert (ServerConfig(max_batch_size=4).waiting_limit, ServerConfig(max_batch_size=4).open_limit) == (8, 12)
    assert ServerConfig(max_batch_size=4, max_waiting=1).open_limit == 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"port": -1}, "`--port` must be >= 0; got -1"),
        ({"port": 70000}, "`--port` must be <= 65535; got 70000"),
        ({"max_batch_size": 0}, "`--max-batch-size` must be >= 1; got 0"),
        ({"drain_timeout": float("nan")}, "`--drain-timeout` must be >= 0; got nan"),
        ({"backend": "tpu"}, "`--backend` must be one of cpu, cuda; got 'tpu'"),
        ({"log_format": "xml"}, "`--log-format` must be one of json, text; got 'xml'"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        ServerConfig(**settings)
    assert str(refused.value) == message


def test_bad_variable() -> None:
    with pytest.raises(ConfigError, match="GLM_PORT must be int; got 'x'"):
        read_environment({"GLM_PORT": "x"}, {})


def test_help_names_every_setting() -> None:
    result = CliRunner().invoke(command, ["--help"], terminal_width=200)
    assert result.exit_code == 0
    for setting in fields(ServerConfig):
        assert flag(setting.name) in result.output
        assert f"GLM_{setting.name.upper()}" in result.output


def test_artifact_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLM_ARTIFACT", raising=False)
    result = CliRunner().invoke(command, [])
    assert result.exit_code == 2
    assert "--artifact is required (or GLM_ARTIFACT)" in result.output
