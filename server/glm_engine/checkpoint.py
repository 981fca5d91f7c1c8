"""An original checkpoint: ``latest`` and ``<iteration>/mp_rank_XX_model_states.pt``, at any tensor parallel degree.

Opening checks everything that can be checked without reading weights (names, dtypes, shapes, sizes, number of shards);
afterwards ``Checkpoint`` hands out descriptions and open shards, and nothing is held in memory.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from glm_engine.dimensions import Dimensions
from glm_engine.errors import CheckpointError, ConfigError
from glm_engine.shard_file import ShardFile
from glm_engine.shard_pickle import TensorRef
from glm_engine.sharding import (
    GLOBAL_RULES,
    LAYER_RULES,
    PREFIX,
    ROTARY_NAME,
    ROTARY_RULE,
    SCALE_SUFFIX,
    parse_key,
    shard_shape,
)

_SHARD_NAME: Final = re.compile(r"mp_rank_(\d{2,})_model_states\.pt")
_EMBEDDING: Final = PREFIX + "word_embeddings.weight"
_FINAL_NORM: Final = PREFIX + "final_layernorm.weight"
_QKV: Final = PREFIX + "layers.0.attention.query_key_value.weight"
_GLU_BIAS: Final = PREFIX + "layers.0.mlp.dense_h_to_4h.bias"
_ROTARY: Final = PREFIX + "layers.0." + ROTARY_NAME
_SHOWN: Final = 4


def shard_name(rank: int) -> str:
    """File name of a rank's shard."""
    return f"mp_rank_{rank:02d}_model_states.pt"


class Checkpoint:
    """An open checkpoint; a context manager.

    folder, iteration; shards : one open ``ShardFile`` per rank; dimensions; bits : 16, or 8 or 4 where the checkpoint
    is already quantized.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.iteration = _read_latest(folder)
        with ExitStack() as stack:
            paths = _list_shards(folder / self.iteration)
            self.shards = [stack.enter_context(ShardFile(path)) for path in paths]
            self.bits, self.dimensions = _measure(self.shards)
            _check_tensors(self.shards, self.dimensions, self.bits)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()

    @property
    def tensor_parallel_size(self) -> int:
        """Number of shards."""
        return len(self.shards)

    @property
    def keys(self) -> list[str]:
        """Keys of a shard, in the file's order."""
        return list(self.shards[0].tensors)

    @property
    def identity(self) -> dict[str, Any]:
        """What tells this checkpoint from any other: contents of the shards' directories, no weights read."""
        return {"iteration": self.iteration, "shards": [shard.identity for shard in self.shards]}

    @property
    def bytes(self) -> int:
        """Bytes of all shards together."""
        return sum(shard.size for shard in self.shards)

    def check_unchanged(self) -> None:
        """Raise ``CheckpointError`` if a shard was replaced or written since it was opened."""
        for shard in self.shards:
            shard.check_unchanged()


def _read_latest(folder: Path) -> str:
    latest = folder / "latest"
    if not latest.is_file():
        raise CheckpointError(
            f"{latest}: expected a file with the iteration's name, found none; --input-folder is the folder that holds "
            "`latest` beside the iteration's folder"
        )
    iteration = latest.read_text(encoding="utf-8", errors="replace")[:256].strip()
    if not re.fullmatch(r"[\w.+-]+", iteration) or set(iteration) == {"."}:
        raise CheckpointError(f"{latest}: expected the name of a folder beside it; found {iteration!r}")
    if not (folder / iteration).is_dir():
        raise CheckpointError(f"{folder / iteration}: `latest` names this folder, but it is not there")
    return iteration


def _list_shards(folder: Path) -> list[Path]:
    found = {int(m[1]): folder / m[0] for m in map(_SHARD_NAME.fullmatch, (p.name for p in folder.iterdir())) if m}
    if not found:
        raise CheckpointError(f"{folder}: expected {shard_name(0)} and so on; found no shard")
    missing = [shard_name(rank) for rank in range(max(found) + 1) if rank not in found]
    if missing:
        raise CheckpointError(
            f"{folder}: expected shards 0 to {max(found)}; missing {_some(missing)}. Get the missing files"
        )
    return [found[rank] for rank in range(len(found))]


def _some(items: list[str]) -> str:
    rest = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _measure(shards: list[ShardFile]) -> tuple[int, Dimensions]:
    """Bits per weight and dimensions, as rank 0 shows them; whether all agree is checked afterwards."""
    tp, first = len(shards), shards[0]

    def ref(key: str, ndim: int) -> TensorRef:
        tensor = first.tensors.get(key)
        if tensor is None or len(tensor.shape) != ndim:
            found = "no such key" if tensor is None else f"shape {list(tensor.shape)}"
            raise CheckpointError(f"{first.path}: {key}: expected a tensor of {ndim} dimensions; found {found}")
        return tensor

    layers = [parsed[0] for parsed in map(parse_key, first.tensors) if parsed and parsed[0] is not None]
    hidden = ref(_FINAL_NORM, 1).shape[0]
    qkv = ref(_QKV, 2)
    bits = 16
    if qkv.dtype == "int8":
        bits = 8 if qkv.shape[1] == hidden else 4
    if qkv.shape[0] * tp != 3 * hidden:
        degree = 3 * hidden / qkv.shape[0]
        raise CheckpointError(
            f"{first.path}: {_QKV}: expected {3 * hidden / tp:g} rows, because there are {tp} shards; found "
            f"{qkv.shape[0]} rows, as in a checkpoint of {degree:g} shards. Shards are missing or of another degree"
        )
    num_layers = max(layers) + 1
    if num_layers > len(first.tensors):  # before anything is sized by it
        raise CheckpointError(f"{first.path}: has a key of layer {num_layers - 1}, but {len(first.tensors)} tensors")
    rotary = first.tensors.get(_ROTARY)
    return bits, Dimensions(
        num_layers=num_layers,
        hidden_size=hidden,
        inner_hidden_size=ref(_GLU_BIAS, 1).shape[0] * tp // 2,
        vocab_size=ref(_EMBEDDING, 2).shape[0] * tp,
        head_dim=2 * rotary.shape[0] if rotary else None,
    )


def _check_tensors(shards: list[ShardFile], dimensions: Dimensions, bits: int) -> None:
    expected: dict[str, tuple[str, tuple[int, ...]]] = {}
    names = [(PREFIX + name, rule) for name, rule in GLOBAL_RULES.items()]
    for layer in range(dimensions.num_layers):
        names += [(f"{PREFIX}layers.{layer}.{name}", rule) for name, rule in LAYER_RULES.items()]
    for key, rule in names:
        try:
            shape = shard_shape(rule, dimensions.full_shape(rule), len(shards))
        except ConfigError as error:
            raise CheckpointError(f"{shards[0].path}: {key}: {error}, the number of shards times 2") from error
        if rule.quantized and bits != 16:
            expected[key] = ("int8", (shape[0], shape[1] * bits // 8))
            expected[key + SCALE_SUFFIX] = ("float16", shape[:1])
        else:
            expected[key] = ("float16", shape)
    for key, ref in shards[0].tensors.items():
        if is_rotary(key):  # whatever its dtype, it must be the same in every shard
            expected[key] = (ref.dtype, dimensions.full_shape(ROTARY_RULE) if dimensions.head_dim else ref.shape)
    for shard in shards:
        _check_keys(shard, expected)
        for key, (dtype, shape) in expected.items():
            found = shard.tensors[key]
            if (found.dtype, found.shape) != (dtype, shape):
                raise CheckpointError(
                    f"{shard.path}: {key}: expected {dtype} {list(shape)}; found {found.dtype} {list(found.shape)}"
                )


def _check_keys(shard: ShardFile, expected: dict[str, Any]) -> None:
    missing = [key for key in expected if key not in shard.tensors]
    if missing:
        raise CheckpointError(f"{shard.path}: missing {_some(missing)}; the file is not a whole shard of this model")
    extra = [key for key in shard.tensors if key not in expected]
    if extra:
        raise CheckpointError(
            f"{shard.path}: unexpected {_some(extra)}; GLM-130B has no such tensor (or not in a checkpoint of "
            "this precision)"
        )


def is_rotary(key: str) -> bool:
    """Whether a key is the rotary buffer that artifacts leave out."""
    return key.endswith("." + ROTARY_NAME)
