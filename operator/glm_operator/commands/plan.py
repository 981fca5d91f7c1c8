"""`glmctl plan`."""

from __future__ import annotations

import click

from glm_operator.commands.text import table
from glm_operator.document import load
from glm_operator.summary import summary


@click.command("plan")
@click.argument("file")
def command(file: str) -> None:
    """Show what the GLMDeployment in FILE needs, and whether it fits. Nothing is started."""
    deployment = load(file)
    click.echo(f"GLMDeployment {deployment.name}\n{table(summary(deployment))}")
