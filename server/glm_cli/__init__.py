"""The ``glm`` program: one module per command, each imported only when it is called."""

from __future__ import annotations

import importlib
import sys

import click

from glm_engine import __version__
from glm_engine.errors import GlmError

#: command -> (module, one line for `glm --help`)
COMMANDS = {
    "convert": ("glm_cli.convert", "Convert a checkpoint: tensor parallel degree and precision."),
    "inspect": ("glm_cli.inspect", "Show what a checkpoint or an artifact holds."),
    "verify": ("glm_cli.verify", "Check every byte of an artifact against its checksums."),
    "fake-checkpoint": ("glm_cli.fake_checkpoint", "Write a random checkpoint of any size, for tests and benchmarks."),
    "serve": ("glm_cli.serve", "Serve an artifact over HTTP."),
    "score": ("glm_cli.score", "Logits of given token sequences."),
    "generate": ("glm_cli.generate", "Continue given token sequences."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called: `glm convert` never pays for Flask."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="glm")
def cli() -> None:
    """GLM-130B: convert a checkpoint, serve it, check it.

    The usual way: `glm convert` writes an artifact, `glm serve` answers from it.
    """


def main() -> None:
    """Entry point: errors that are a person's to mend are one line on stderr and exit code 1."""
    try:
        cli()
    except GlmError as error:
        click.echo(f"glm: error: {error}", err=True)
        sys.exit(1)
