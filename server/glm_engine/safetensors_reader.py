"""Reads the header of a safetensors file: where each tensor lies, checked against the file's size."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from glm_engine.errors import ArtifactError

#: The largest header that is read: a 130B rank has about 1,000 tensors in 150 kB.
MAX_HEADER_BYTES: Final = 64 << 20


@dataclass(frozen=True)
class Located:
    """A tensor in its file: ``offset`` counts bytes from the file's start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    bytes: int


def read_header(path: Path) -> list[Located]:
    """The tensors of ``path``, in the file's order. Raises ``ArtifactError`` naming what is wrong."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > min(MAX_HEADER_BYTES, size - 8):
            raise ArtifactError(f"{path}: is no safetensors file: its header would have {length} of {size} bytes")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise ArtifactError(f"{path}: has a damaged header: {error}") from error
    if not isinstance(header, dict):
        raise ArtifactError(f"{path}: has a damaged header: {type(header).__name__} where an object was expected")
    return [_locate(path, name, entry, 8 + length, size) for name, entry in header.items() if name != "__metadata__"]


def _locate(path: Path, name: str, entry: Any, start: int, size: int) -> Located:
    try:
        begin, end = entry["data_offsets"]
        found = Located(name, str(entry["dtype"]), tuple(int(n) for n in entry["shape"]), start + begin, end - begin)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path}: {name}: has a damaged entry in the header: {error!r}") from error
    if begin < 0 or end < begin or start + end > size:
        raise ArtifactError(f"{path}: {name}: bytes {begin} to {end} do not lie in the file of {size} bytes")
    return found
