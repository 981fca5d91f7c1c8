"""`glmctl crd`."""

from __future__ import annotations

import click

from glm_operator.commands.text import to_yaml
from glm_operator.crd import crd


@click.command("crd")
def command() -> None:
    """Print the CustomResourceDefinition.

    \b
    Example:
      glmctl crd | kubectl apply --server-side -f -
    """
    click.echo(to_yaml([crd()]), nl=False)
