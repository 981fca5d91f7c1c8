"""Read the object description of a torch file without running any of it.

``torch.load(weights_only=True)`` was broken twice (CVE-2025-32434, CVE-2026-24747), and it maps storages before anyone
can look at their sizes. Here the pickle is read by an interpreter in which every name stands for something inert: a
tensor becomes a description (``TensorRef``), anything else becomes an object that does nothing. Names from outside the
libraries that training writes into a checkpoint are refused: such a file is damaged or hostile.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from glm_engine.errors import CheckpointError

#: torch's storage classes -> dtype
_STORAGES: Final = {
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "BoolStorage": "bool",
}

ITEM_BYTES: Final = {
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "bool": 1,
}

#: Roots of the modules whose names may occur beside the weights (random states, arguments, optimizer leftovers).
_TRAINING_ROOTS: Final = frozenset(
    {"torch", "numpy", "collections", "argparse", "_codecs", "deepspeed", "SwissArmyTransformer", "sat", "apex"}
)
_PLAIN_BUILTINS: Final = frozenset({"set", "frozenset", "bytearray", "complex", "slice", "range", "object"})


@dataclass(frozen=True)
class TensorRef:
    """A tensor as its file describes it: nothing is read yet.

    dtype : name as in numpy ("bfloat16" beside it); offset, stride : in elements of the storage ``record``;
    storage_items : elements that the description claims the storage has.
    """

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    record: str
    storage_items: int


class _Inert:
    """Stands for any object that is not a tensor: takes everything, does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __new__(cls, *args: Any, **kwargs: Any) -> _Inert:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...


@dataclass(frozen=True)
class _Storage:
    dtype: str
    record: str
    items: int


class _StorageKind(_Inert):
    def __init__(self, dtype: str) -> None:
        self.dtype = dtype


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> TensorRef:
    integers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or not all(isinstance(n, int) and n >= 0 for n in integers):
        raise ValueError("a tensor with a negative or unknown size")
    return TensorRef(storage.dtype, tuple(size), tuple(stride), offset, storage.record, storage.items)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


class _Interpreter(pickle._Unpickler):  # the Python one: the C one allocates whatever memo size a file asks for
    def __init__(self, data: bytes, source: str) -> None:
        super().__init__(io.BytesIO(data))
        self._source = source

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _rebuild_parameter
        if module in ("torch", "torch.cuda") and name in _STORAGES:
            return _StorageKind(_STORAGES[name])
        root = module.partition(".")[0]
        if root in _TRAINING_ROOTS or (root in ("builtins", "__builtin__") and name in _PLAIN_BUILTINS):
            return _Inert
        return self._refuse(f"{module}.{name}")

    def _refuse(self, name: str) -> NoReturn:
        raise CheckpointError(
            f"{self._source}: its pickle asks for {name!r}, which no checkpoint needs; nothing of it was run. "
            "The file is damaged or hostile: get it from its source again"
        )

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise ValueError(f"unknown persistent id {pid!r}")
        kind, key, items = pid[1], pid[2], pid[4]
        if not isinstance(kind, _StorageKind) or not isinstance(items, int) or items < 0:
            raise ValueError(f"unknown storage {pid!r}")
        return _Storage(kind.dtype, f"data/{key}", items)


def read_description(data: bytes, source: str) -> dict[Any, Any]:
    """Interpret ``data.pkl`` of the torch file ``source`` and return its top-level dict.

    Raises ``CheckpointError`` for what is not such a description.
    """
    try:
        value = _Interpreter(data, source).load()
    except CheckpointError:
        raise
    except (RecursionError, MemoryError, Exception) as error:  # a damaged pickle can fail in any way
        raise CheckpointError(
            f"{source}: data.pkl cannot be read ({type(error).__name__}: {error}); the file is damaged, get it again"
        ) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{source}: expected a dict with the key `module`; found {type(value).__name__}")
    return value
