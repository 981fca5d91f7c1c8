"""`glmctl render`."""

from __future__ import annotations

import click

from glm_operator.commands.text import to_yaml
from glm_operator.document import load
from glm_operator.resources import Settings, render


@click.command("render")
@click.argument("file")
@click.option("--image", help="Image of the server, where the resource names none.")
def command(file: str, image: str | None) -> None:
    """Print the objects that the operator makes of the GLMDeployment in FILE (`-`: standard input)."""
    settings = Settings() if image is None else Settings(image=image)
    click.echo(to_yaml(render(load(file), settings)), nl=False)
