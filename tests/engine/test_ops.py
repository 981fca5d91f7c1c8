"""Every op of the CPU backend against numpy, over odd shapes, for each instruction set of this machine."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from glm_engine import _core

ops = _core.ops
Floats = NDArray[np.float32]
KERNELS = ops.kernels()
DTYPES = ("f16", "i8", "i4")


def quantized(rng: np.random.Generator, n: int, m: int, dtype: str) -> tuple[Any, Any, Floats]:
    """A weight's bytes, its scales, and its values as float32."""
    if dtype == "f16":
        half = (rng.standard_normal((n, m)) * 0.3).astype(np.float16)
        return half.view(np.uint8).ravel(), np.zeros(0, np.uint16), half.astype(np.float32)
    limit = 127 if dtype == "i8" else 7
    q = rng.integers(-limit - 1, limit + 1, (n, m)).astype(np.int8)
    scale = (rng.random(n) * 0.1 + 1e-4).astype(np.float16)
    values = (q.astype(np.float32) * scale.astype(np.float32)[:, None]).astype(np.float16).astype(np.float32)
    if dtype == "i4":
        packed = ((q[:, 0::2] << 4) | (q[:, 1::2] & 15)).astype(np.int8)
        return packed.view(np.uint8).ravel(), scale.view(np.uint16), values
    return q.view(np.uint8).ravel(), scale.view(np.uint16), values


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
@given(
    rows=st.integers(1, 19),
    n=st.integers(1, 37),
    m=st.integers(1, 70),
    seed=st.integers(0, 2**32 - 1),
    biased=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_linear(kernels: str, dtype: str, rows: int, n: int, m: int, seed: int, biased: bool) -> None:
    m = m * 2 if dtype == "i4" else m
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, m)).astype(np.float32)
    data, scale, values = quantized(rng, n, m, dtype)
    bias = rng.standard_normal(n).astype(np.float32) if biased else np.zeros(0, np.float32)
    found = ops.linear(kernels, x, data, dtype, scale, n, bias, False)
    expected = x.astype(np.float64) @ values.T.astype(np.float64) + (bias if biased else 0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * m)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
@given(rows=st.integers(2, 9), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_a_row_does_not_depend_on_its_batch(kernels: str, dtype: str, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 94)).astype(np.float32)
    data, scale, _ = quantized(rng, 21, 94, dtype)
    none = np.zeros(0, np.float32)
    together = ops.linear(kernels, x, data, dtype, scale, 21, none, False)
    for i in range(rows):
        alone = ops.linear(kernels, x[i : i + 1], data, dtype, scale, 21, none, False)
        assert np.array_equal(alone[0], together[i])


@pytest.mark.parametrize("kernels", KERNELS)
@given(rows=st.integers(1, 5), n=st.integers(1, 20), m=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_geglu(kernels: str, rows: int, n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, m)).astype(np.float32)
    data, scale, values = quantized(rng, 2 * n, m, "f16")
    bias = rng.standard_normal(2 * n).astype(np.float32)
    found = ops.linear(kernels, x, data, "f16", scale, 2 * n, bias, True)
    both = x.astype(np.float64) @ values.T + bias
    gate = both[:, n:]
    erf = np.vectorize(math.erf)
    expected = both[:, :n] * (0.5 * gate * (1 + erf(gate / math.sqrt(2))))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def normalized(x: Floats, gamma: Floats, beta: Floats, eps: float) -> NDArray[np.float64]:
    wide = x.astype(np.float64)
    mean = wide.mean(1, keepdims=True)
    variance = wide.var(1, keepdims=True)
    return (wide - mean) / np.sqrt(variance + eps) * gamma + beta


@given(rows=st.integers(1, 5), n=st.integers(2, 99), offset=st.floats(-100, 100), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_layernorms(rows: int, n: int, offset: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, residual = rng.standard_normal((2, rows, n)).astype(np.float32)
    x = x + np.float32(offset)
    gamma, beta, bias = rng.standard_normal((3, n)).astype(np.float32)
    found = ops.layernorm(x, gamma, beta, 1e-5)
    np.testing.assert_allclose(found, normalized(x, gamma, beta, 1e-5), rtol=1e-3, atol=1e-3)
    alpha = math.sqrt(8)
    total = residual * np.float32(alpha) + (x + bias)
    found = ops.residual_layernorm(x, bias, residual, alpha, gamma, beta, 1e-5)
    np.testing.assert_allclose(found, normalized(total, gamma, beta, 1e-5), rtol=1e-3, atol=1e-3)


def rotary(positions: NDArray[Any], d: int) -> tuple[Floats, Floats]:
    """cos, sin [rows, d/2] as the original rounds them."""
    frequency = (1.0 / 10000.0 ** (np.arange(0, d, 2, dtype=np.float32) / np.float32(d))).astype(np.float16)
    angle = (positions[:, None].astype(np.float32) * frequency.astype(np.float32)).astype(np.float16)
    wide = angle.astype(np.float64)
    return np.cos(wide).astype(np.float16).astype(np.float32), np.sin(wide).astype(np.float16).astype(np.float32)


def rotate(x: Floats, positions: NDArray[Any]) -> Floats:
    """x [rows, heads, d]."""
    d = x.shape[-1]
    cos, sin = rotary(positions, d)
    a, b = x[..., : d // 2], x[..., d // 2 :]
    cos, sin = cos[:, None], sin[:, None]
    return np.concatenate((a * cos - b * sin, b * cos + a * sin), -1)


@pytest.mark.parametrize("kernels", KERNELS)
@given(
    lengths=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9), st.integers(0, 12)), min_size=1, max_size=4),
    heads=st.integers(1, 3),
    half=st.integers(1, 9),
    block_size=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_attention(
    kernels: str, lengths: list[tuple[int, int, int]], heads: int, half: int, block_size: int, seed: int
) -> None:
    """A pass of several sequences, each with tokens in the cache, against plain attention of each one whole."""
    rng = np.random.default_rng(seed)
    d = 2 * half
    shuffled = list(rng.permutation(200))
    sequences, earlier, inputs, positions, expected = [], [], [], [], []
    for cached, rows, wanted in lengths:
        total = cached + rows
        # What is cached must not depend on what comes later: a prompt is computed whole.
        prefix = min(wanted, cached or total)
        qkv = rng.standard_normal((total, heads, 3, d)).astype(np.float32)
        where = np.concatenate((np.arange(cached), rng.integers(0, 60, rows)))
        blocks = [int(shuffled.pop()) for _ in range(-(-total // block_size))]
        sequences.append((rows, cached, prefix, blocks))
        earlier.append(qkv[:cached].reshape(cached, heads * 3 * d))
        inputs.append(qkv[cached:].reshape(rows, heads * 3 * d))
        positions += where[cached:].tolist()
        q, k, v = (qkv[:, :, i] for i in range(3))
        q, k = rotate(q, where), rotate(k, where)
        scores = np.einsum("qhd,khd->hqk", q, k).astype(np.float64) / math.sqrt(d)
        row, column = np.arange(total)[:, None], np.arange(total)[None]
        scores[:, (column >= prefix) & (column > row)] = -np.inf
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        expected.append(np.einsum("hqk,khd->qhd", weights, v)[cached:].reshape(rows, -1))
    found = ops.attention(kernels, np.concatenate(inputs), positions, heads, 200, block_size, 64, sequences, earlier)
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-4, atol=1e-4)


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=50))
def test_half_rounding_is_numpys(values: list[float]) -> None:
    x = np.array(values, np.float32)
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16).astype(np.float32)
    assert np.array_equal(ops.half_round(x), expected)


def test_draws_follow_the_distribution() -> None:
    logits = np.array([2.0, 1.0, 0.5, -1.0, -3.0], np.float32)
    draws = [ops.sample(logits, 0.8, 0, 0.0, 7, 0, step) for step in range(20000)]
    expected = np.exp(logits / 0.8) / np.exp(logits / 0.8).sum()
    found = np.bincount(draws, minlength=5) / len(draws)
    np.testing.assert_allclose(found, expected, atol=0.012)
    assert draws == [ops.sample(logits, 0.8, 0, 0.0, 7, 0, step) for step in range(20000)]
    other = [ops.sample(logits, 0.8, 0, 0.0, 8, 0, step) for step in range(200)]
    assert other != draws[:200]
