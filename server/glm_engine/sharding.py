"""How each tensor of the model is split over ranks: the only place where this is written.

A rank's tensor is described as *strips*: ranges of rows, top to bottom, each put together from *pieces* of source
shards, left to right. The same description serves merging, splitting and any mixture (3 shards from 2), and it lets a
reader take a few rows at a time. Vectors are matrices of one column.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from glm_engine.errors import ConfigError


class Split(Enum):
    """Where a tensor is cut. GLU: both halves of the rows are cut on their own, rank r has part r of each."""

    REPLICATED = "replicated"
    ROWS = "rows"
    COLUMNS = "columns"
    GLU = "glu"


@dataclass(frozen=True)
class TensorRule:
    """One kind of tensor: its split, its whole shape in names of ``Dimensions.sizes``, whether it is quantized."""

    split: Split
    shape: tuple[str, ...]
    quantized: bool = False


LAYER_RULES: Final[Mapping[str, TensorRule]] = {
    "input_layernorm.weight": TensorRule(Split.REPLICATED, ("hidden",)),
    "input_layernorm.bias": TensorRule(Split.REPLICATED, ("hidden",)),
    # rows are head by head (q, k, v of one head together), so that a cut between heads is a plain cut of rows
    "attention.query_key_value.weight": TensorRule(Split.ROWS, ("qkv", "hidden"), quantized=True),
    "attention.query_key_value.bias": TensorRule(Split.ROWS, ("qkv",)),
    "attention.dense.weight": TensorRule(Split.COLUMNS, ("hidden", "hidden"), quantized=True),
    "attention.dense.bias": TensorRule(Split.REPLICATED, ("hidden",)),
    "post_attention_layernorm.weight": TensorRule(Split.REPLICATED, ("hidden",)),
    "post_attention_layernorm.bias": TensorRule(Split.REPLICATED, ("hidden",)),
    "mlp.dense_h_to_4h.weight": TensorRule(Split.GLU, ("glu", "hidden"), quantized=True),
    "mlp.dense_h_to_4h.bias": TensorRule(Split.GLU, ("glu",)),
    "mlp.dense_4h_to_h.weight": TensorRule(Split.COLUMNS, ("hidden", "inner"), quantized=True),
    "mlp.dense_4h_to_h.bias": TensorRule(Split.REPLICATED, ("hidden",)),
}

GLOBAL_RULES: Final[Mapping[str, TensorRule]] = {
    "word_embeddings.weight": TensorRule(Split.ROWS, ("vocab", "hidden")),
    "final_layernorm.weight": TensorRule(Split.REPLICATED, ("hidden",)),
    "final_layernorm.bias": TensorRule(Split.REPLICATED, ("hidden",)),
}

#: A buffer that released shards carry: kept by ``--format sat``, left out of artifacts (it follows from the head size).
ROTARY_NAME: Final = "attention.rotary_emb.inv_freq"
ROTARY_RULE: Final = TensorRule(Split.REPLICATED, ("rotary",))

PREFIX: Final = "transformer."
SCALE_SUFFIX: Final = "_scale"

_LAYER_KEY: Final = re.compile(r"layers\.(0|[1-9]\d*)\.(.+)")


def parse_key(key: str) -> tuple[int | None, str] | None:
    """Split a checkpoint's key into (layer or None, name within it); None for what is not in the model's namespace."""
    if not key.startswith(PREFIX):
        return None
    name = key.removeprefix(PREFIX)
    match = _LAYER_KEY.fullmatch(name)
    return (int(match[1]), match[2]) if match else (None, name)


def rule_for(key: str) -> TensorRule | None:
    """The rule of a checkpoint's key (scales of quantized weights have none); None for an unknown key."""
    parsed = parse_key(key)
    if parsed is None:
        return None
    layer, name = parsed
    if layer is None:
        return GLOBAL_RULES.get(name)
    return ROTARY_RULE if name == ROTARY_NAME else LAYER_RULES.get(name)


@dataclass(frozen=True)
class Piece:
    """Rows ``[row, row + rows)`` and columns ``[column, column + columns)`` of source shard ``rank``."""

    rank: int
    row: int
    rows: int
    column: int
    columns: int


#: Pieces of equal height, side by side.
Strip = tuple[Piece, ...]


def shard_shape(rule: TensorRule, full: Sequence[int], tp: int) -> tuple[int, ...]:
    """Shape of one rank's part of a tensor whose whole shape is ``full``. Raises ``ConfigError`` if it is uneven."""
    shape = list(full)
    if rule.split is Split.REPLICATED:
        return tuple(shape)
    dim = 1 if rule.split is Split.COLUMNS else 0
    unit = tp * 2 if rule.split is Split.GLU else tp
    if shape[dim] % unit:
        raise ConfigError(f"{rule.shape[dim]} size {shape[dim]} is not a multiple of {unit}")
    shape[dim] //= tp
    return tuple(shape)


def strips(rule: TensorRule, shard: Sequence[int], source_tp: int, target_tp: int, rank: int) -> list[Strip]:
    """What rank ``rank`` of ``target_tp`` takes from the ``source_tp`` source shards, each of shape ``shard``."""
    rows, columns = shard[0], shard[1] if len(shard) == 2 else 1
    if rule.split is Split.REPLICATED:
        return [(Piece(rank * source_tp // target_tp, 0, rows, 0, columns),)]
    if rule.split is Split.COLUMNS:
        cuts = _overlaps(columns, source_tp, target_tp, rank)
        return [tuple(Piece(source, 0, rows, first, count) for source, first, count in cuts)]
    halves = 2 if rule.split is Split.GLU else 1
    part = rows // halves
    return [
        (Piece(source, half * part + first, count, 0, columns),)
        for half in range(halves)
        for source, first, count in _overlaps(part, source_tp, target_tp, rank)
    ]


def _overlaps(part: int, source_tp: int, target_tp: int, rank: int) -> Iterator[tuple[int, int, int]]:
    """(source, first, count): where target ``rank`` lies in an axis of ``source_tp`` parts of length ``part``."""
    size = part * source_tp // target_tp
    begin, end = rank * size, (rank + 1) * size
    for source in range(begin // part, -(-end // part)):
        first = max(begin - source * part, 0)
        yield source, first, min(end - source * part, part) - first


def assemble(layout: Sequence[Strip], shards: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Put a rank's tensor together from whole source arrays: ``strips`` applied, for small arrays and for tests."""
    parts = [
        np.concatenate(
            [shards[p.rank][p.row : p.row + p.rows, ...][(..., *_columns(shards[p.rank], p))] for p in strip], axis=-1
        )
        if shards[0].ndim == 2
        else np.concatenate([shards[p.rank][p.row : p.row + p.rows] for p in strip])
        for strip in layout
    ]
    return np.concatenate(parts)


def _columns(shard: NDArray[Any], piece: Piece) -> tuple[slice]:
    return (slice(piece.column, piece.column + piece.columns),)
