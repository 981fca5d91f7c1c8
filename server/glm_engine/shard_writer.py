"""What the two formats' writers have in common: tensors announced beforehand, then written in order, piece by piece."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import blake3
from numpy.typing import NDArray

from glm_engine.shard_pickle import ITEM_BYTES


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype (numpy's name) and shape of a tensor to be written, row-major."""

    key: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def items(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def bytes(self) -> int:
        """Bytes of the data."""
        return self.items * ITEM_BYTES[self.dtype]

    def renamed(self, key: str) -> TensorSpec:
        """The same tensor under another name."""
        return replace(self, key=key)


@dataclass(frozen=True)
class FileSum:
    """Size in bytes and BLAKE3 hash (hex) of a file that was written."""

    bytes: int
    blake3: str


class ShardWriter(ABC):
    """Writes ``path`` by way of a temporary file beside it, which only ``commit`` turns into ``path``."""

    def __init__(self, path: Path, tensors: Sequence[TensorSpec]) -> None:
        self.path = path
        self.tensors = list(tensors)
        self._temporary = path.with_name(f".{path.name}.tmp")
        self._file = self._temporary.open("wb")

    @abstractmethod
    def begin(self, tensor: TensorSpec) -> None:
        """The data of ``tensor`` follows; tensors come in the order of ``tensors``."""

    @abstractmethod
    def write(self, block: NDArray[Any]) -> None:
        """More elements of the tensor that was begun, in row-major order."""

    @abstractmethod
    def _finish(self) -> None: ...

    def commit(self) -> None:
        """Make the file durable and visible."""
        self._finish()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.replace(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(
            OSError
        ):  # closing flushes: on a full disk it fails once more, and the first error is the one to show
            self._file.close()
        self._temporary.unlink(missing_ok=True)


def hash_file(path: Path) -> FileSum:
    """Read ``path`` once and return its sum."""
    hasher = blake3.blake3(max_threads=blake3.blake3.AUTO)
    hasher.update_mmap(path)
    return FileSum(path.stat().st_size, hasher.hexdigest())
