"""Kubernetes quantities (``16Gi``, ``1.5G``, ``500m``) to numbers and back."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

#: The subset of Kubernetes' grammar that people write; RE2, Rust and Python read it alike.
QUANTITY_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"

_SCALE: Final = {"": Decimal(1), "m": Decimal("0.001")}
_SCALE.update({unit: Decimal(1000) ** (i + 1) for i, unit in enumerate("kMGTP")})
_SCALE.update({f"{unit}i": Decimal(1024) ** (i + 1) for i, unit in enumerate("KMGTP")})


def to_number(text: str) -> Decimal:
    """The number that a quantity means. Raises ``ValueError`` where it is none."""
    match = re.fullmatch(QUANTITY_PATTERN.strip("^$"), text)
    if not match:
        raise ValueError(f"{text!r} is not a quantity; examples: 80Gi, 1.5G, 500m")
    unit = match[2] or ""
    return Decimal(text.removesuffix(unit) if unit else text) * _SCALE[unit]


def mebibytes(n_bytes: int) -> str:
    """A memory quantity of at least ``n_bytes``, in whole MiB so that a small change of the model moves nothing."""
    return f"{-(-n_bytes // 2**20)}Mi"


def human(n_bytes: float) -> str:
    """Bytes for people: decimal units, about three figures."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.0f} {unit}" if unit == "B" or n_bytes >= 99.95 else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"
