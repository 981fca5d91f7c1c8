"""The ``glmctl`` program (also `kubectl glm`): one module per command, each imported only when it is called."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version

import click

from glm_operator.errors import OperatorError

#: command -> (module, one line for `glmctl --help`)
COMMANDS = {
    "up": ("glm_operator.commands.up", "Run a GLMDeployment on this machine: convert, serve, until Ctrl-C."),
    "plan": ("glm_operator.commands.plan", "Show what a GLMDeployment needs, and whether it fits."),
    "render": ("glm_operator.commands.render", "Print the objects that the operator makes of a GLMDeployment."),
    "status": ("glm_operator.commands.status", "Show where a GLMDeployment of a cluster stands, and what to do next."),
    "logs": ("glm_operator.commands.logs", "Show the logs of its conversion and of its servers."),
    "prompt": ("glm_operator.commands.prompt", "Ask it to fill the blanks of a text."),
    "top": ("glm_operator.commands.top", "Show what its servers are doing."),
    "doctor": ("glm_operator.commands.doctor", "Check whether a cluster can run GLMDeployments."),
    "run": ("glm_operator.commands.run", "Run the operator itself; the chart does so in a cluster."),
    "crd": ("glm_operator.commands.crd", "Print the CustomResourceDefinition."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called: `glmctl up` never pays for kopf."""

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
@click.version_option(version("glm-operator"), prog_name="glmctl")
def cli() -> None:
    """GLMDeployment: run one here, or see what a cluster makes of it."""


def main() -> None:
    """Entry point: errors that are a person's to mend are on stderr, with exit code 1."""
    try:
        cli()
    except OperatorError as error:
        for line in str(error).splitlines():
            click.echo(f"glmctl: error: {line}", err=True)
        sys.exit(1)
