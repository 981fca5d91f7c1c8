"""What a rank of the target holds, computed from source shards a few rows at a time.

Memory is bounded by a block of rows, whatever the size of a tensor: rows are quantized independently of each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from glm_engine.ahead import ahead
from glm_engine.checkpoint import Checkpoint
from glm_engine.errors import ConfigError
from glm_engine.quantize import packed_columns, quantize_rows
from glm_engine.shard_pickle import ITEM_BYTES
from glm_engine.shard_writer import TensorSpec
from glm_engine.sharding import SCALE_SUFFIX, Piece, Split, Strip, TensorRule, rule_for, shard_shape, strips

#: Source bytes that are in work at once.
BLOCK_BYTES: Final = 16 << 20


@dataclass(frozen=True)
class Target:
    """What to make of a checkpoint: the tensor parallel degree, and 16 (as it is), 8 or 4 bits per weight."""

    tensor_parallel_size: int
    bits: int


def check_target(checkpoint: Checkpoint, target: Target) -> None:
    """Raise ``ConfigError`` where ``checkpoint`` cannot become ``target``, naming what would work."""
    tp, source_tp = target.tensor_parallel_size, checkpoint.tensor_parallel_size
    checkpoint.dimensions.check_tensor_parallel(tp)
    if checkpoint.bits != 16 and (checkpoint.bits, source_tp) != (target.bits, tp):
        raise ConfigError(
            f"the checkpoint {checkpoint.folder} is already quantized to INT{checkpoint.bits} for {source_tp} shards, "
            f"and its scales belong to exactly these; asked for {_precision(target.bits)} in {tp} shards. What works: "
            f"--target-tp {source_tp} --quantization-bit-width {checkpoint.bits}, or an FP16 checkpoint as the source"
        )
    for axis, size in (
        ("hidden", checkpoint.dimensions.hidden_size),
        ("inner", checkpoint.dimensions.inner_hidden_size),
    ):
        if target.bits == 4 and size // tp % 2:
            raise ConfigError(
                f"INT4 packs two values in a byte: the {axis} size {size} over {tp} shards is odd ({size // tp}); "
                "use a smaller --target-tp or --quantization-bit-width 8"
            )


def _precision(bits: int) -> str:
    return "FP16" if bits == 16 else f"INT{bits}"


class RankTensors:
    """The tensors of one target rank: ``specs`` in the source's order, ``blocks`` for their data."""

    def __init__(self, checkpoint: Checkpoint, target: Target, rank: int) -> None:
        self._checkpoint, self._target, self._rank = checkpoint, target, rank
        self._scales: dict[str, NDArray[np.float16]] = {}
        self._quantizing = target.bits != 16 and checkpoint.bits == 16
        self.specs = [spec for key in checkpoint.keys for spec in self._specs_of(key)]

    def _specs_of(self, key: str) -> Iterator[TensorSpec]:
        rule = rule_for(key)
        source = self._checkpoint.shards[0].tensors[key]
        if self._checkpoint.bits != 16 or rule is None:  # passed through
            yield TensorSpec(key, source.dtype, source.shape)
            return
        if rule.split is Split.REPLICATED:
            yield TensorSpec(key, source.dtype, source.shape)
            return
        shape = shard_shape(rule, self._checkpoint.dimensions.full_shape(rule), self._target.tensor_parallel_size)
        if rule.quantized and self._quantizing:
            yield TensorSpec(key, "int8", (shape[0], packed_columns(shape[1], self._target.bits)))
            yield TensorSpec(key + SCALE_SUFFIX, "float16", shape[:1])
        else:
            yield TensorSpec(key, source.dtype, shape)

    def stream(self, order: Sequence[TensorSpec]) -> Iterator[tuple[TensorSpec, NDArray[Any]]]:
        """All blocks of these tensors one after the other, computed in advance of their reader."""
        return ahead((spec, block) for spec in order for block in self.blocks(spec))

    def blocks(self, spec: TensorSpec) -> Iterator[NDArray[Any]]:
        """The data of one of ``specs``, in row-major blocks of whole rows.

        Raises ``CheckpointError`` where the source is damaged.
        """
        weight = spec.key.removesuffix(SCALE_SUFFIX)
        rule = rule_for(weight)
        if not (self._quantizing and rule and rule.quantized):
            yield from self._source_blocks(spec.key, rule if weight == spec.key else None)
        elif weight == spec.key:
            yield from self._quantized_blocks(weight, rule)
        else:
            if weight not in self._scales:  # wanted before its weights: only where sizes force an unusual order
                for _ in self._quantized_blocks(weight, rule):
                    pass
            yield self._scales.pop(weight)

    def _quantized_blocks(self, key: str, rule: TensorRule) -> Iterator[NDArray[np.int8]]:
        scales = []
        for block in ahead(self._source_blocks(key, rule)):
            values, scale = quantize_rows(block, self._target.bits)
            scales.append(scale)
            yield values
        self._scales[key] = np.concatenate(scales)

    def _source_blocks(self, key: str, rule: TensorRule | None) -> Iterator[NDArray[Any]]:
        refs = [shard.tensors[key] for shard in self._checkpoint.shards]
        if rule is None or self._checkpoint.bits != 16:
            rule = TensorRule(Split.REPLICATED, ())
        tp, target_tp = self._checkpoint.tensor_parallel_size, self._target.tensor_parallel_size
        layout = strips(rule, refs[0].shape, tp, target_tp, self._rank)
        for strip in layout:
            yield from self._strip_blocks(key, strip)
        for rank in {piece.rank for strip in layout for piece in strip}:
            self._checkpoint.shards[rank].finish(refs[rank])

    def _strip_blocks(self, key: str, strip: Strip) -> Iterator[NDArray[Any]]:
        refs = [self._checkpoint.shards[piece.rank].tensors[key] for piece in strip]
        row_bytes = sum(max(ref.stride[0], 1) * ITEM_BYTES[ref.dtype] for ref in refs)
        step = max(BLOCK_BYTES // row_bytes, 1)
        for first in range(0, strip[0].rows, step):
            rows = min(step, strip[0].rows - first)
            parts = [self._read_rows(key, piece, piece.row + first, rows) for piece in strip]
            yield parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def _read_rows(self, key: str, piece: Piece, row: int, rows: int) -> NDArray[Any]:
        """Rows of a piece, [rows, piece.columns]; a vector is a matrix of one column."""
        shard = self._checkpoint.shards[piece.rank]
        ref = shard.tensors[key]
        pitch = ref.stride[0]
        width = ref.shape[1] if len(ref.shape) == 2 else 1
        data = np.frombuffer(shard.read(ref, row * pitch, (rows - 1) * pitch + width), dtype=np.dtype(ref.dtype))
        item = data.itemsize
        matrix = np.lib.stride_tricks.as_strided(data, (rows, width), (pitch * item, item), writeable=False)
        return matrix[:, piece.column : piece.column + piece.columns]
