"""Quantization against the original's formula, written down plainly in torch, for every kind of half."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from glm_engine.errors import ConfigError
from glm_engine.quantize import quantize_rows

SUBNORMAL = 2.0**-24
AS_BITS = hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40))


def plain_formula(weights: NDArray[np.float16], bits: int) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    w = torch.from_numpy(weights.copy())
    scale = (w.abs().max(dim=-1).values / (2 ** (bits - 1) - 1)).half()
    q = torch.round((w / scale[:, None]).half()).to(torch.int8)
    if bits == 4:
        q = (q[:, 0::2] << 4) | (q[:, 1::2] & 15)
    return q.numpy(), scale.numpy()


def same_bits(a: tuple[NDArray[np.int8], NDArray[np.float16]], b: tuple[NDArray[np.int8], NDArray[np.float16]]) -> bool:
    scales = [s.view(np.uint16).copy() for s in (a[1], b[1])]
    for bits, s in zip(scales, (a[1], b[1]), strict=True):
        bits[np.isnan(s)] = 0x7E00  # which of the NaNs it is has no meaning
    return np.array_equal(a[0], b[0]) and np.array_equal(scales[0], scales[1])


@settings(max_examples=300)
@given(pattern=AS_BITS, bits=st.sampled_from([8, 4]))
def test_every_bit_pattern_is_quantized_as_by_the_formula(pattern: NDArray[np.uint16], bits: int) -> None:
    weights = np.repeat(pattern, 2, axis=1).view(np.float16)
    assert same_bits(quantize_rows(weights, bits), plain_formula(weights, bits))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-6, 1e4])
def test_normal_weights(bits: int, scale: float) -> None:
    weights = (np.random.default_rng(1).standard_normal((64, 512)) * scale).astype(np.float16)
    assert same_bits(quantize_rows(weights, bits), plain_formula(weights, bits))


@pytest.mark.parametrize(
    ("row", "scale", "stored"),
    [
        pytest.param([0, 0], 0, [0, 0], id="zero row: 0/0"),
        pytest.param([np.inf, 1], np.inf, [0, 0], id="infinite scale"),
        pytest.param([np.nan, 1], np.nan, [0, 0], id="not a number"),
        pytest.param([SUBNORMAL, -SUBNORMAL], 0, [0, 0], id="scale rounds to zero"),
        pytest.param([190 * SUBNORMAL, 0], SUBNORMAL, [190 - 256, 0], id="subnormal scale: runs over and wraps"),
        pytest.param([127, -127], 1, [127, -127], id="ordinary"),
        pytest.param([127, 2.5], 1, [127, 2], id="ties go to even"),
    ],
)
def test_rows_at_the_edges_int8(row: list[float], scale: float, stored: list[int]) -> None:
    values, scales = quantize_rows(np.array([row], dtype=np.float16), 8)
    assert values.tolist() == [stored]
    assert np.array_equal(scales, np.array([scale], dtype=np.float16), equal_nan=True)


def test_int4_holds_the_even_column_in_the_high_nibble() -> None:
    values, scales = quantize_rows(np.array([[7, -1, -7, 3]], dtype=np.float16), 4)
    assert values.view(np.uint8).tolist() == [[0x7F, 0x93]]
    assert scales.tolist() == [1.0]


def test_rows_do_not_depend_on_each_other() -> None:
    weights = np.random.default_rng(2).standard_normal((33, 70)).astype(np.float16)
    whole = quantize_rows(weights, 4)
    parts = [quantize_rows(weights[i : i + 5], 4) for i in range(0, 33, 5)]
    assert np.array_equal(whole[0], np.concatenate([p[0] for p in parts]))
    assert np.array_equal(whole[1], np.concatenate([p[1] for p in parts]))


def test_rounding_the_quotient_to_half_first_matters() -> None:
    weights = np.random.default_rng(3).standard_normal((256, 1024)).astype(np.float16)
    values, scales = quantize_rows(weights, 8)
    in_float32 = np.rint(weights.astype(np.float32) / scales.astype(np.float32)[:, None])
    assert 0.001 < np.mean(values != in_float32) < 0.05


def test_int4_needs_an_even_number_of_columns() -> None:
    with pytest.raises(ConfigError, match="even number of columns; got 3"):
        quantize_rows(np.ones((1, 3), dtype=np.float16), 4)
