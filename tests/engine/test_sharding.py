"""The split table: merging undoes splitting, at any pair of degrees, and agrees with the original's description."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from glm_engine.errors import ConfigError
from glm_engine.sharding import GLOBAL_RULES, LAYER_RULES, Split, TensorRule, assemble, rule_for, shard_shape, strips

MATRIX = {split: TensorRule(split, ("rows", "columns")) for split in Split}
VECTOR = {split: TensorRule(split, ("rows",)) for split in Split if split is not Split.COLUMNS}


def split_into(rule: TensorRule, whole: NDArray[Any], tp: int) -> list[NDArray[Any]]:
    return reshard(rule, [whole], tp)


def reshard(rule: TensorRule, shards: list[NDArray[Any]], tp: int) -> list[NDArray[Any]]:
    shape = shards[0].shape
    return [assemble(strips(rule, shape, len(shards), tp, rank), shards) for rank in range(tp)]


def numbered(*shape: int) -> NDArray[np.int64]:
    return np.arange(np.prod(shape)).reshape(shape)


@given(
    split=st.sampled_from(list(Split)),
    degrees=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_any_degree_to_any_other_is_the_direct_split(
    split: Split, degrees: tuple[int, int], size: tuple[int, int]
) -> None:
    source, target = degrees
    whole = numbered(2 * source * target * size[0], source * target * size[1])
    rule = MATRIX[split]
    through = reshard(rule, split_into(rule, whole, source), target)
    direct = split_into(rule, whole, target)
    assert all(np.array_equal(a, b) for a, b in zip(through, direct, strict=True))
    assert np.array_equal(reshard(rule, direct, 1)[0], whole)


@given(split=st.sampled_from(list(VECTOR)), degrees=st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_vectors_are_split_as_matrices(split: Split, degrees: tuple[int, int]) -> None:
    whole = numbered(2 * degrees[0] * degrees[1])
    shards = split_into(VECTOR[split], whole, degrees[0])
    assert [shard.ndim for shard in shards] == [1] * degrees[0]
    assert np.array_equal(reshard(VECTOR[split], reshard(VECTOR[split], shards, degrees[1]), 1)[0], whole)


@pytest.mark.parametrize("tp", [1, 2, 3, 6])
def test_glu_halves_are_split_on_their_own(tp: int) -> None:
    whole = numbered(12, 5)
    gate, value = np.split(whole, 2)
    expected = [np.concatenate(pair) for pair in zip(np.split(gate, tp), np.split(value, tp), strict=True)]
    assert all(np.array_equal(a, b) for a, b in zip(split_into(MATRIX[Split.GLU], whole, tp), expected, strict=True))


def test_a_rank_has_the_shape_that_is_announced() -> None:
    for split, rule in MATRIX.items():
        for tp in (1, 2, 4):
            assert {shard.shape for shard in split_into(rule, numbered(16, 8), tp)} == {
                shard_shape(rule, (16, 8), tp)
            }, split


def test_an_uneven_cut_is_refused_with_its_numbers() -> None:
    with pytest.raises(ConfigError, match=r"rows size 10 is not a multiple of 4"):
        shard_shape(MATRIX[Split.ROWS], (10, 4), 4)
    with pytest.raises(ConfigError, match=r"rows size 12 is not a multiple of 8"):
        shard_shape(MATRIX[Split.GLU], (12, 4), 4)


@pytest.mark.parametrize(
    ("key", "split"),
    [
        ("transformer.word_embeddings.weight", Split.ROWS),
        ("transformer.final_layernorm.bias", Split.REPLICATED),
        ("transformer.layers.69.attention.query_key_value.bias", Split.ROWS),
        ("transformer.layers.0.attention.dense.weight", Split.COLUMNS),
        ("transformer.layers.0.attention.dense.bias", Split.REPLICATED),
        ("transformer.layers.0.mlp.dense_h_to_4h.bias", Split.GLU),
        ("transformer.layers.0.mlp.dense_4h_to_h.weight", Split.COLUMNS),
        ("transformer.layers.0.attention.rotary_emb.inv_freq", Split.REPLICATED),
    ],
)
def test_rule_for(key: str, split: Split) -> None:
    rule = rule_for(key)
    assert rule is not None
    assert rule.split is split


@pytest.mark.parametrize(
    "key", ["lm_head.weight", "transformer.layers.01.mlp.dense_4h_to_h.bias", "transformer.layers.0"]
)
def test_unknown_keys_have_no_rule(key: str) -> None:
    assert rule_for(key) is None


def test_exactly_the_four_linear_weights_are_quantized() -> None:
    quantized = {name for name, rule in {**LAYER_RULES, **GLOBAL_RULES}.items() if rule.quantized}
    assert quantized == {
        "attention.query_key_value.weight",
        "attention.dense.weight",
        "mlp.dense_h_to_4h.weight",
        "mlp.dense_4h_to_h.weight",
    }
