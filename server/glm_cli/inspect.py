"""`glm inspect`: what a checkpoint or an artifact holds."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from glm_engine.artifact import MANIFEST, PRECISIONS, Artifact
from glm_engine.checkpoint import Checkpoint
from glm_engine.errors import ConfigError
from glm_engine.fsio import gigabytes


@click.command(name="inspect")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(path: Path, output: Literal["table", "json"]) -> None:
    """Show what the checkpoint or artifact in the folder PATH holds; no weights are read."""
    if (path / MANIFEST).exists():
        report = describe_artifact(Artifact.open(path))
    elif (path / "latest").exists():
        with Checkpoint(path) as checkpoint:
            report = describe_checkpoint(checkpoint)
    else:
        raise ConfigError(
            f"{path}: expected an artifact (with {MANIFEST}) or a checkpoint (with `latest`); found neither"
        )
    if output == "json":
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        _show(report)


def describe_artifact(artifact: Artifact) -> dict[str, Any]:
    """The manifest, with its total of bytes."""
    return {"kind": "artifact", "path": str(artifact.path), "bytes": artifact.bytes} | artifact.manifest()


def describe_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    """Dimensions, precision and shards of an original checkpoint."""
    dimensions = checkpoint.dimensions
    dtypes = Counter(ref.dtype for ref in checkpoint.shards[0].tensors.values())
    return {
        "kind": "checkpoint",
        "path": str(checkpoint.folder),
        "bytes": checkpoint.bytes,
        "iteration": checkpoint.iteration,
        "tensor_parallel_size": checkpoint.tensor_parallel_size,
        "precision": PRECISIONS[checkpoint.bits],
        "checksums": all(shard.has_checksums for shard in checkpoint.shards),
        "model": {
            "num_layers": dimensions.num_layers,
            "hidden_size": dimensions.hidden_size,
            "num_attention_heads": dimensions.num_attention_heads,
            "inner_hidden_size": dimensions.inner_hidden_size,
            "vocab_size": dimensions.vocab_size,
        },
        "tensors_per_shard": dict(dtypes),
        "ranks": [{"file": shard.path.name, "bytes": shard.size} for shard in checkpoint.shards],
    }


def _show(report: dict[str, Any]) -> None:
    console = Console()
    table = Table(title=f"{report['kind']} {report['path']}", show_header=False, title_justify="left")
    for name, value in report.items():
        if name in ("kind", "path", "format", "ranks"):
            continue
        table.add_row(name, Text(_text(name, value)))  # a Text: [gMASK] is no markup
    console.print(table)
    ranks = Table("file", "size", *(["blake3"] if report["kind"] == "artifact" else []))
    for rank in report["ranks"]:
        ranks.add_row(rank["file"], gigabytes(rank["bytes"]), *([rank["blake3"][:16]] if "blake3" in rank else []))
    console.print(ranks)


def _text(name: str, value: Any) -> str:
    if name == "bytes":
        return f"{gigabytes(value)} ({value} bytes)"
    if isinstance(value, dict):
        return "\n".join(f"{key}: {item}" for key, item in value.items())
    return str(value)
