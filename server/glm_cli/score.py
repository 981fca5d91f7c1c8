"""`glm score`: the logits of given token sequences, for comparing precisions and for checking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from glm_cli.requests import engine_options, load_engine, read_requests, take, take_ids, take_name
from glm_engine.errors import RequestError
from glm_engine.fsio import storage_errors
from glm_engine.request import BackendName


@dataclass(frozen=True)
class ScoreRequest:
    """A prompt (the first ``context_length`` ids) plus its continuation."""

    name: str
    ids: list[int]
    context_length: int
    mask_position: int
    gmask: bool


def parse(data: Mapping[str, Any]) -> ScoreRequest:
    """Read one line. Raises ``RequestError``."""
    known = {"id", "ids", "context_length", "mask_position", "gmask"}
    unknown = sorted(data.keys() - known)
    if unknown:
        raise RequestError(f"unknown field {unknown[0]!r}; a request has {', '.join(sorted(known))}", unknown[0])
    return ScoreRequest(
        take_name(data),
        take_ids(data),
        take(data, "context_length", int),
        take(data, "mask_position", int),
        take(data, "gmask", bool),
    )


@click.command(name="score")
@engine_options
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The .npz file to write.")
def command(*, artifact: Path, source: Path, out: Path, backend: BackendName) -> None:
    """Compute the logits of every token of prompt + continuation.

    A line of the input is {"id", "ids", "context_length", "mask_position", "gmask"}; OUT maps each id to float32
    [len(ids), vocabulary].
    """
    requests = list(read_requests(source, parse))
    engine = load_engine(artifact, backend, sequences=1)
    try:
        logits = {r.name: engine.score(r.ids, r.context_length, r.mask_position, r.gmask) for r in requests}
    finally:
        engine.close()
    temporary = out.with_name(f".{out.name}.tmp")
    with storage_errors(out), temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **logits)
    temporary.replace(out)
    click.echo(f"{out}: {len(logits)} requests", err=True)
