"""Writing safetensors files in a stream: https://huggingface.co/docs/safetensors (the file's own format).

The library writes a file from tensors in memory; here the data of a rank passes through in blocks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import blake3
import numpy as np
from numpy.typing import NDArray

from glm_engine.shard_writer import FileSum, ShardWriter, TensorSpec

ALIGNMENT: Final = 64
_DTYPES: Final = {"float16": "F16", "int8": "I8"}


def aligned_order(tensors: Sequence[TensorSpec]) -> list[TensorSpec]:
    """The tensors so ordered that, without gaps, each starts at a multiple of as many bytes as its size allows.

    The format permits no padding between tensors. Where all sizes are multiples of 64, as in every real model, the
    order is unchanged and all tensors start at multiples of 64; small models' odd sizes come last.
    """
    return sorted(tensors, key=lambda tensor: -min(tensor.bytes & -tensor.bytes, ALIGNMENT))


class SafetensorsWriter(ShardWriter):
    """Writes one rank's safetensors file and hashes it on the way. ``tensors`` are in the file's order."""

    def __init__(self, path: Path, tensors: Sequence[TensorSpec], metadata: Mapping[str, str]) -> None:
        super().__init__(path, tensors)
        self._hasher = blake3.blake3(max_threads=blake3.blake3.AUTO)
        self._bytes = 0
        self._expected = 0
        header: dict[str, Any] = {"__metadata__": dict(metadata)}
        offset = 0
        for tensor in tensors:
            header[tensor.key] = {
                "dtype": _DTYPES[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [offset, offset + tensor.bytes],
            }
            offset += tensor.bytes
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-(8 + len(text)) % ALIGNMENT)
        try:
            self._put(memoryview(len(text).to_bytes(8, "little") + text))
        except BaseException:
            self.__exit__()
            raise
        self._expected = self._bytes

    def begin(self, tensor: TensorSpec) -> None:
        self._check_complete()
        self._expected += tensor.bytes

    def write(self, block: NDArray[Any]) -> None:
        self._put(np.ascontiguousarray(block).data.cast("B"))

    def _put(self, data: memoryview) -> None:
        self._hasher.update(data)
        self._file.write(data)
        self._bytes += len(data)

    def _finish(self) -> None:
        self._check_complete()

    @property
    def sum(self) -> FileSum:
        """Size and hash of what was written so far: the file's, once all is."""
        return FileSum(self._bytes, self._hasher.hexdigest())

    def _check_complete(self) -> None:
        if self._bytes != self._expected:
            raise RuntimeError(f"{self.path}: {self._bytes} bytes written where {self._expected} were announced")
