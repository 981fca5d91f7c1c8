"""Random checkpoints in the original's format, of any size, for tests and benchmarks.

Written shard by shard, a few rows at a time. A tensor's numbers depend on the seed, its key and the row alone, so the
same seed gives the same model at every tensor parallel degree.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from glm_engine.checkpoint import shard_name
from glm_engine.config import ModelConfig
from glm_engine.dimensions import Dimensions
from glm_engine.errors import StorageError
from glm_engine.fsio import require_space, storage_errors, write_whole
from glm_engine.progress import Progress
from glm_engine.shard_writer import TensorSpec
from glm_engine.sharding import (
    GLOBAL_RULES,
    LAYER_RULES,
    PREFIX,
    ROTARY_NAME,
    ROTARY_RULE,
    Strip,
    TensorRule,
    parse_key,
    rule_for,
    shard_shape,
    strips,
)
from glm_engine.torch_writer import TorchWriter

ITERATION: Final = "49300"
#: Rows that are drawn together: the unit of the random stream, whatever the degree.
_ROWS: Final = 64
_VECTOR_ROWS: Final = 1 << 16


def write_fake_checkpoint(model: ModelConfig, tp: int, seed: int, output: Path, progress: Progress) -> None:
    """Write a random checkpoint of ``model`` with ``tp`` shards into the folder ``output``, which must not have one.

    Raises ``ConfigError`` (the model cannot be cut so), ``StorageError`` (the disk, or a checkpoint is there).
    """
    model.check_tensor_parallel(tp)
    dimensions = Dimensions(
        model.num_layers, model.hidden_size, model.inner_hidden_size, model.vocab_size, model.head_dim
    )
    dimensions.check_tensor_parallel(tp)
    specs = [
        TensorSpec(key, "float16", shard_shape(rule, dimensions.full_shape(rule), tp))
        for key, rule in _keys(model.num_layers)
    ]
    total = tp * sum(spec.bytes for spec in specs)
    folder = output / ITERATION
    with storage_errors(output):
        if (output / "latest").exists():
            raise StorageError(f"{output}: holds a checkpoint already; remove it or give another folder")
        require_space(output, total + (tp << 20))
        folder.mkdir(parents=True, exist_ok=True)
        progress.begin("writing", total, tp)
        for rank in range(tp):
            progress.shard(rank)
            with TorchWriter(folder / shard_name(rank), specs) as writer:
                for spec in specs:
                    writer.begin(spec)
                    for block in _blocks(spec.key, dimensions, tp, rank, seed):
                        writer.write(block)
                        progress.advance(block.nbytes)
                writer.commit()
        write_whole(output / "latest", ITERATION.encode())
    progress.end("done")


def _keys(num_layers: int) -> Iterator[tuple[str, TensorRule]]:
    """Keys in the order of the original's shards, the rotary buffers at the end."""
    yield PREFIX + "word_embeddings.weight", GLOBAL_RULES["word_embeddings.weight"]
    for layer in range(num_layers):
        for name, rule in LAYER_RULES.items():
            yield f"{PREFIX}layers.{layer}.{name}", rule
    for name in ("final_layernorm.weight", "final_layernorm.bias"):
        yield PREFIX + name, GLOBAL_RULES[name]
    for layer in range(num_layers):
        yield f"{PREFIX}layers.{layer}.{ROTARY_NAME}", ROTARY_RULE


def _blocks(key: str, dimensions: Dimensions, tp: int, rank: int, seed: int) -> Iterator[NDArray[np.float16]]:
    """The data of rank ``rank``: the whole tensor's rows are drawn, then cut."""
    rule = rule_for(key)
    if rule is None:
        raise ValueError(f"no rule for {key}")
    if rule is ROTARY_RULE:
        yield _rotary(dimensions.head_dim or 0)
        return
    for strip in strips(rule, dimensions.full_shape(rule), 1, tp, rank):
        yield from _strip_blocks(key, rule, dimensions.full_shape(rule), strip, seed)


def _strip_blocks(
    key: str, rule: TensorRule, shape: tuple[int, ...], strip: Strip, seed: int
) -> Iterator[NDArray[np.float16]]:
    (piece,) = strip  # one source: the whole tensor
    unit = _unit(shape)
    row = piece.row
    while row < piece.row + piece.rows:
        group = row // unit
        until = min((group + 1) * unit, piece.row + piece.rows)
        block = _draw(key, rule, shape, group, seed)
        yield block[row - group * unit : until - group * unit, piece.column : piece.column + piece.columns]
        row = until


def _unit(shape: tuple[int, ...]) -> int:
    return _ROWS if len(shape) == 2 else _VECTOR_ROWS


def _draw(key: str, rule: TensorRule, shape: tuple[int, ...], group: int, seed: int) -> NDArray[np.float16]:
    """Group ``group`` of the whole tensor's rows, [_unit(shape), columns]: near 1 for norms, small for biases."""
    unit, columns = _unit(shape), shape[1] if len(shape) == 2 else 1
    generator = np.random.Generator(np.random.SFC64([seed, zlib.crc32(key.encode()), group]))
    index = generator.integers(0, 1 << 16, size=(unit, columns), dtype=np.uint16)
    parsed = parse_key(key)
    name = parsed[1] if parsed else key
    if rule.quantized:
        return np.take(_table(1 / math.sqrt(columns), 0.0), index)
    if name == "word_embeddings.weight":
        return np.take(_table(0.05, 0.0), index)
    return np.take(_table(0.02, 1.0 if name.endswith("layernorm.weight") else 0.0), index)


@cache
def _table(scale: float, mean: float) -> NDArray[np.float16]:
    """65,536 values of a normal distribution: drawing is a look-up, many times faster than drawing normals."""
    normal = NormalDist(mean, scale)
    return np.array([normal.inv_cdf((i + 0.5) / 65536) for i in range(65536)], dtype=np.float16)


def _rotary(head_dim: int) -> NDArray[np.float16]:
    """The rotary buffer [head_dim / 2], rounded to half as the original's ``.half()`` leaves it."""
    return np.array([10000.0 ** (-2 * i / head_dim) for i in range(head_dim // 2)], dtype=np.float32).astype(np.float16)
