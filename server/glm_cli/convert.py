"""`glm convert`: change a checkpoint's tensor parallel degree and precision."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from glm_cli.progress import meter
from glm_cli.signals import orderly_exit
from glm_engine.checkpoint import Checkpoint
from glm_engine.config import PRESETS, ModelConfig
from glm_engine.convert import make_artifact, plan_artifact
from glm_engine.convert_sat import write_checkpoint
from glm_engine.errors import ConfigError
from glm_engine.fsio import storage_errors
from glm_engine.progress import Progress
from glm_engine.reshard import Target


@click.command(name="convert")
@click.option(
    "--input-folder",
    required=True,
    type=click.Path(path_type=Path),
    help="Checkpoint folder: `latest` beside the iteration's folder.",
)
@click.option("--output-folder", required=True, type=click.Path(path_type=Path), help="Where the result goes.")
@click.option("--target-tp", default=4, show_default=True, type=click.IntRange(min=1), help="Tensor parallel degree.")
@click.option(
    "--quantization-bit-width",
    type=click.Choice(["4", "8"]),
    help="Quantize the layers' weights to INT4 or INT8; without it they stay FP16.",
)
@click.option(
    "--format",
    "layout",
    type=click.Choice(["artifact", "sat"]),
    default="artifact",
    show_default=True,
    help="artifact: what `glm serve` loads, in OUTPUT/<digest>/. sat: the original's checkpoint layout.",
)
@click.option(
    "--model",
    help=f"Preset ({', '.join(PRESETS)}) or JSON file that describes the model; recognised by its shape without it. "
    "Only for artifacts.",
)
@click.option(
    "--link",
    type=click.Path(path_type=Path),
    help="Symbolic link to the artifact, made or replaced once it is whole.",
)
@click.option("--progress-file", type=click.Path(path_type=Path), help="JSON file that always tells the progress.")
def command(
    *,
    input_folder: Path,
    output_folder: Path,
    target_tp: int,
    quantization_bit_width: str | None,
    layout: Literal["artifact", "sat"],
    model: str | None,
    link: Path | None,
    progress_file: Path | None,
) -> None:
    """Convert a checkpoint to another tensor parallel degree and precision.

    The result's path is printed on stdout. What is there already is reused; what was interrupted is continued.
    """
    target = Target(target_tp, int(quantization_bit_width or 16))
    if layout == "sat" and (model or link):
        raise ConfigError("--model and --link belong to --format artifact; a checkpoint needs neither")
    with orderly_exit(), meter(progress_file) as progress, Checkpoint(input_folder) as checkpoint:
        if layout == "sat":
            write_checkpoint(checkpoint, target, output_folder, progress)
            click.echo(output_folder)
            return
        description = ModelConfig.load(model) if model else None
        click.echo(_make_artifact(checkpoint, target, description, output_folder, link=link, progress=progress))


def _make_artifact(
    checkpoint: Checkpoint,
    target: Target,
    model: ModelConfig | None,
    output: Path,
    *,
    link: Path | None,
    progress: Progress,
) -> Path:
    artifact = make_artifact(plan_artifact(checkpoint, target, model, output), progress)
    if link is not None:
        with storage_errors(link):
            point(link, artifact.path)
    return artifact.path


def point(link: Path, target: Path) -> None:
    """Make ``link`` a symbolic link to ``target`` in one step. Raises ``ConfigError`` where something else is there."""
    if link.exists() and not link.is_symlink():
        raise ConfigError(f"--link {link}: there is something else than a link; remove it or give another path")
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
