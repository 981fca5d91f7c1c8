"""Helpers of the server's tests: a toy tokenizer and the golden cases."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from glm_engine.config import ModelConfig


class ToyText:
    """The golden cases' text: ``w123 w7`` is the tokens 123 and 7."""

    def __init__(self, size: int, eos: int) -> None:
        self._size, self._eos = size, eos

    def size(self) -> int:
        return self._size

    def eos_id(self) -> int:
        return self._eos

    def has_piece(self, piece: str) -> bool:
        return False

    def encode(self, text: str) -> list[int]:
        return [int(token) for token in re.findall(r"w(\d+)", text)]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(f"w{token} " for token in ids)


def toy_config(num_text_tokens: int = 240, eos: int = 20, max_sequence_length: int = 128) -> ModelConfig:
    names = ("[MASK]", "[gMASK]", "[sMASK]", "eod", "sop", "eop", "ENC", "dBLOCK")
    return ModelConfig(
        num_layers=2,
        hidden_size=64,
        num_attention_heads=8,
        inner_hidden_size=176,
        vocab_size=num_text_tokens + 16,
        num_text_tokens=num_text_tokens,
        max_sequence_length=max_sequence_length,
        layernorm_eps=1e-5,
        special_ids={name: num_text_tokens + i for i, name in enumerate(names)} | {"eos": eos},
    )


def golden_cases() -> list[str]:
    return ["micro", "tiny"]


def read_golden(case: str) -> dict[str, Any]:
    root = os.environ.get("GLM_GOLDEN")
    if not root:
        pytest.skip("GLM_GOLDEN (folder of the golden cases) is not set")
    data: dict[str, Any] = json.loads((Path(root) / case / "expected.json").read_text(encoding="utf-8"))
    return data
