"""The `glm` program as a whole: every command that it lists is there and explains itself."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from glm_cli import COMMANDS, cli


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_has_help(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0, result.exception
    assert "Usage" in result.stdout


def test_an_unknown_command_is_refused() -> None:
    result = CliRunner().invoke(cli, ["bench"])
    assert result.exit_code == 2
    assert "No such command" in result.stderr
