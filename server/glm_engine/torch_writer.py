"""Writing torch files in a stream.

``torch.save`` needs a shard's tensors in memory, 16 GB or more for GLM-130B. Here the container that it would write (a
zip of stored records, storages at multiples of 64 bytes) is filled block by block.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from glm_engine.shard_writer import ShardWriter, TensorSpec

_ALIGNMENT: Final = 64
_LOCAL_HEADER_BYTES: Final = 30
_ZIP64_FIELD_BYTES: Final = 20
_STORAGES: Final = {"float16": "HalfStorage", "float32": "FloatStorage", "int8": "CharStorage"}


class TorchWriter(ShardWriter):
    """Writes ``{"module": {key: tensor}}`` as ``torch.load`` reads it. ``tensors`` are in the file's order."""

    def __init__(self, path: Path, tensors: Sequence[TensorSpec]) -> None:
        super().__init__(path, tensors)
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_STORED)
        self._record: IO[bytes] | None = None
        self._begun = 0
        self._left = 0
        try:
            self._put_record("data.pkl", describe(tensors))
            self._put_record("byteorder", b"little")
        except BaseException:
            self.__exit__()
            raise

    def begin(self, tensor: TensorSpec) -> None:
        self._end_record()
        self._record = self._open_record(f"data/{self._begun}")
        self._begun += 1
        self._left = tensor.bytes

    def write(self, block: NDArray[Any]) -> None:
        if self._record is None:
            raise RuntimeError(f"{self.path}: data before the first tensor")
        data = np.ascontiguousarray(block).data.cast("B")
        self._record.write(data)
        self._left -= len(data)

    def __exit__(self, *error: object) -> None:
        if self._record is not None:  # left without a commit; zipfile wants its handle closed before the file is
            with suppress(OSError, RuntimeError):
                self._record.close()
        self._zip.fp = None
        super().__exit__(*error)

    def _finish(self) -> None:
        self._end_record()
        if self._begun != len(self.tensors):
            raise RuntimeError(f"{self.path}: {self._begun} tensors written where {len(self.tensors)} were announced")
        self._put_record("version", b"3\n")
        self._zip.close()

    def _end_record(self) -> None:
        if self._left:
            raise RuntimeError(f"{self.path}: tensor {self._begun - 1} is {self._left} bytes short")
        if self._record is not None:
            self._record.close()
            self._record = None

    def _put_record(self, name: str, data: bytes) -> None:
        with self._open_record(name) as record:
            record.write(data)

    def _open_record(self, name: str) -> IO[bytes]:
        info = zipfile.ZipInfo(f"{self.path.name.removesuffix('.pt')}/{name}")
        header = self._file.tell() + _LOCAL_HEADER_BYTES + len(info.filename.encode()) + _ZIP64_FIELD_BYTES
        # an extra field of torch's own kind ("FB") moves the data to the next multiple of 64
        padding = -(header + 4) % _ALIGNMENT
        info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
        return self._zip.open(info, "w", force_zip64=True)


class _Storage:
    def __init__(self, index: int, tensor: TensorSpec) -> None:
        self.index, self.tensor = index, tensor


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, _Storage):
            return None
        import torch

        kind = getattr(torch, _STORAGES[obj.tensor.dtype])
        return ("storage", kind, str(obj.index), "cpu", obj.tensor.items)

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, _TensorStub):
            return NotImplemented
        import torch

        shape = obj.storage.tensor.shape
        stride = (shape[1], 1) if len(shape) == 2 else (1,)
        # the name under which every version of torch reads tensors back
        return torch._utils._rebuild_tensor_v2, (obj.storage, 0, shape, stride, False, OrderedDict())


class _TensorStub:
    def __init__(self, storage: _Storage) -> None:
        self.storage = storage


def describe(tensors: Sequence[TensorSpec]) -> bytes:
    """``data.pkl`` of a file with these tensors under ``module``; storage i belongs to tensor i."""
    module = {tensor.key: _TensorStub(_Storage(index, tensor)) for index, tensor in enumerate(tensors)}
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=2).dump({"module": module})
    return buffer.getvalue()
