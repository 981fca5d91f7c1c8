"""`glm fake-checkpoint`: a random checkpoint in the original's format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from glm_cli.progress import meter
from glm_cli.signals import orderly_exit
from glm_engine.config import PRESETS, ModelConfig
from glm_engine.fake_checkpoint import write_fake_checkpoint
from glm_engine.fsio import write_json


@click.command(name="fake-checkpoint")
@click.option("--preset", default="glm-130b", show_default=True, help=f"{', '.join(PRESETS)} or a JSON file.")
@click.option("--layers", type=click.IntRange(min=1), help="Number of layers instead of the preset's.")
@click.option("--hidden", type=click.IntRange(min=1), help="Hidden size instead of the preset's.")
@click.option("--heads", type=click.IntRange(min=1), help="Number of attention heads instead of the preset's.")
@click.option("--inner", type=click.IntRange(min=1), help="Inner hidden size instead of the preset's.")
@click.option("--tp", default=8, show_default=True, type=click.IntRange(min=1), help="Number of shards.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same model at every degree.")
@click.argument("output", metavar="OUT", type=click.Path(path_type=Path))
def command(
    *,
    preset: str,
    layers: int | None,
    hidden: int | None,
    heads: int | None,
    inner: int | None,
    tp: int,
    seed: int,
    output: Path,
) -> None:
    """Write a checkpoint with random weights into the folder OUT, and OUT/model.json that describes it.

    It takes little memory at any size: all 70 layers of glm-130b are 260 GB on disk.
    """
    given: dict[str, Any] = {
        "num_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "inner_hidden_size": inner,
    }
    model = replace(ModelConfig.load(preset), **{name: value for name, value in given.items() if value is not None})
    with orderly_exit(), meter(None) as progress:
        write_fake_checkpoint(model, tp, seed, output, progress)
        write_json(output / "model.json", model.to_dict())
    click.echo(output)
