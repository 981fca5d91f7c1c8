"""Requests in JSON lines, as `glm score` and `glm generate` read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from glm_engine.artifact import Artifact
from glm_engine.errors import RequestError
from glm_engine.handle import CompiledEngine, EngineLimits, load
from glm_engine.request import BackendName

T = TypeVar("T")


def engine_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options of every command that loads an engine."""
    for option in (
        click.option("--backend", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True),
        click.option(
            "--in",
            "source",
            required=True,
            type=click.Path(exists=True, dir_okay=False, path_type=Path, allow_dash=True),
            help="JSON lines, one request each.",
        ),
        click.option(
            "--artifact",
            required=True,
            type=click.Path(path_type=Path),
            help="Folder that `glm convert` wrote (the one with manifest.json).",
        ),
    ):
        function = option(function)
    return function


def load_engine(
    artifact: Path, backend: BackendName, *, sequences: int = EngineLimits.max_batch_size
) -> CompiledEngine:
    """Load ``artifact`` (a folder that holds a single one does as well) with KV cache for ``sequences`` of them."""
    if artifact.is_dir() and not (artifact / "manifest.json").exists():
        inside = [folder for folder in artifact.iterdir() if (folder / "manifest.json").exists()]
        if len(inside) == 1:
            artifact = inside[0]
    opened = Artifact.open(artifact)
    blocks = -(-opened.model.max_sequence_length // EngineLimits.block_size)
    return load(opened, backend=backend, limits=EngineLimits(kv_blocks=sequences * blocks))


def read_requests(source: Path, parse: Callable[[Mapping[str, Any]], T]) -> Iterator[T]:
    """Parse every line that is not empty. Raises ``RequestError`` that names the line."""
    with click.open_file(str(source), encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                data = json.loads(line)
                if not isinstance(data, dict):
                    raise RequestError(f"expected an object; got {type(data).__name__}")
                yield parse(data)
            except (RequestError, ValueError) as error:
                raise RequestError(f"{source}: line {number}: {error}") from error


def take(data: Mapping[str, Any], field: str, kind: type[T], default: T | None = None) -> T:
    """A field of a request, of type ``kind`` (an int does as a float). Raises ``RequestError``."""
    value = data.get(field, default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if value is None:
        raise RequestError(f"`{field}` is missing", field)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise RequestError(f"`{field}` must be {kind.__name__}; got {value!r}", field)
    return value


def take_ids(data: Mapping[str, Any]) -> list[int]:
    """The field ``ids``: token ids, at least one."""
    ids = take(data, "ids", list)
    if not ids or not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        raise RequestError("`ids` must be a list of token ids, at least one", "ids")
    return ids


def take_name(data: Mapping[str, Any]) -> str:
    """The field ``id``, by which the answer is found: text or a number."""
    value = data.get("id")
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise RequestError(f"`id` must be a text or a number; got {value!r}", "id")
    return str(value)
