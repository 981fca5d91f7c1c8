"""`glmctl up`."""

from __future__ import annotations

from pathlib import Path

import click

from glm_operator.commands.text import table
from glm_operator.document import load
from glm_operator.local.output import Console
from glm_operator.local.up import UpOptions, up
from glm_operator.local.volumes import default_state
from glm_operator.summary import summary


def _claim(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Path]:
    claims = {}
    for value in values:
        claim, equals, folder = value.partition("=")
        if not (claim and equals and folder):
            raise click.BadParameter(f"must be CLAIM=FOLDER; got {value!r}")
        claims[claim] = Path(folder)
    return claims


@click.command("up")
@click.argument("file")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port of the API; 0: any free one. [default: 5000, else a free one]"
)
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for artifacts, kept between runs. [default: $XDG_CACHE_HOME/glm, else ~/.cache/glm]",
)
@click.option(
    "--volume",
    "claims",
    multiple=True,
    metavar="CLAIM=FOLDER",
    callback=_claim,
    help="Folder that stands for a claim; goes before the annotation serving.glm.io/local-volumes. Repeatable.",
)
@click.option(
    "--programs",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with the programs that the image would bring. [default: the folder of this glmctl's Python]",
)
def command(file: str, port: int | None, state: Path | None, claims: dict[str, Path], programs: Path | None) -> None:
    """Run the GLMDeployment in FILE on this machine, until Ctrl-C.

    Its pod's containers run as processes: first the conversion, then the server. The artifact is kept, so that the next
    start is quick; nothing else is left behind. A cluster with the operator takes the same file.

    \b
    Exit codes: 0 ended by Ctrl-C or SIGTERM, 1 the resource or this machine is at fault, 2 wrong usage.
    """
    deployment = load(file)
    console = Console()
    console.say(f"GLMDeployment {deployment.name}\n{table(summary(deployment))}\n")
    base = Path.cwd() if file == "-" else Path(file).resolve().parent
    folder = (state or default_state()).resolve()
    up(deployment, UpOptions(base, folder, port, claims, programs and programs.resolve()), console)
