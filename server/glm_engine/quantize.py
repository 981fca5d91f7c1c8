"""Weight quantization with the original's rounding, to the last bit.

Per output row, symmetric: ``scale = half(max|row| / 127)`` (INT4: 7), ``q = round_half_even(half(w / scale))``. The
quotient is rounded to half *before* it is rounded to an integer, which an arithmetic in float32 gets wrong by one in
about 1% of INT8 values. Nothing is clamped: where the scale is subnormal, quotients run over and wrap as an integer
conversion does; where it is 0, infinite or no number, the quotient has no integer value and 0 is stored, as torch on a
CPU does.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from glm_engine.errors import ConfigError

#: bits -> the largest value that the scale maps max|row| to
LEVELS: Final = {8: 127, 4: 7}


def packed_columns(columns: int, bits: int) -> int:
    """Bytes that hold ``columns`` quantized values. Raises ``ConfigError`` where INT4 has half a byte left."""
    if bits == 4 and columns % 2:
        raise ConfigError(f"INT4 packs two values in a byte and needs an even number of columns; got {columns}")
    return columns * bits // 8


def quantize_rows(weights: NDArray[np.float16], bits: int) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Quantize whole rows.

    weights : float16 [rows, columns]; bits : 8 or 4.
    Returns int8 [rows, columns * bits / 8] and the scales, float16 [rows]. INT4 holds the even column in the high
    nibble. Rows do not depend on each other, so a matrix may be quantized a few rows at a time.
    """
    import torch

    levels = LEVELS[bits]
    packed_columns(weights.shape[1], bits)
    source = torch.from_numpy(weights if weights.flags.writeable else weights.copy())
    scale = source.abs().amax(dim=-1).div_(levels)
    quotient = (source / scale[:, None]).round_()
    if not bool(((scale > 0) & (scale < torch.inf)).all()):  # only then can a quotient be infinite or no number
        quotient.masked_fill_(~torch.isfinite(quotient), 0)
    # by way of int16: an int16 takes every finite quotient here, and narrowing it wraps on every machine
    values: NDArray[np.int8] = quotient.to(torch.int16).to(torch.int8).numpy()
    if bits == 4:
        values = (values[:, 0::2] << 4) | (values[:, 1::2] & 15)
    return values, scale.numpy()
