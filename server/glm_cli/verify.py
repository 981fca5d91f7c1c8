"""`glm verify`: read every byte of an artifact and compare it with its checksums."""

from __future__ import annotations

from pathlib import Path

import click

from glm_engine.artifact import Artifact
from glm_engine.errors import ArtifactError
from glm_engine.fsio import gigabytes


@click.command(name="verify")
@click.argument("artifact", type=click.Path(path_type=Path))
def command(artifact: Path) -> None:
    """Check every byte of ARTIFACT against its checksums; exit code 1 names what is damaged."""
    opened = Artifact.open(artifact)
    damaged = opened.damaged()
    if damaged:
        raise ArtifactError(
            f"{opened.path}: {', '.join(damaged)} differ from what was written; remove {opened.path} and run "
            "`glm convert` again"
        )
    click.echo(f"{opened.path}: {len(opened.ranks)} files, {gigabytes(opened.bytes)}, all as written")
