"""The quality test of quantization: held-back questions to the sample model, answered by the compiled engine.

At least 97% are right in FP16, and INT8 and INT4 lose at most one point.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from engine_support import make, run
from glm_engine.config import PRESETS, Precision
from glm_engine.handle import CompiledEngine, EngineLimits, load
from glm_engine.request import Request, Sampling
from glm_server.blanks import Filling
from glm_server.prompt import parse
from glm_server.tokenizer import Tokenizer, load_tokenizer

SAMPLE: Final = Path(__file__).parents[2] / "samples" / "glm-sample"
MODEL: Final = PRESETS["glm-sample"]
#: Longer than any answer.
LENGTH: Final = 72


def answers(engine: CompiledEngine, tokenizer: Tokenizer, texts: list[str]) -> list[list[str]]:
    """The blanks' texts of each text, blank after blank; all texts side by side."""
    fillings = [Filling(parse(text, tokenizer), tokenizer) for text in texts]
    while open_ones := [f for f in fillings if not f.done]:
        requests = [Request(f.prompt(), LENGTH, Sampling(top_k=1)) for f in open_ones]
        for filling, answer in zip(open_ones, run(engine, requests), strict=True):
            filling.fill([answer.tokens[0]])
    return [filling.blanks[0] for filling in fillings]


@pytest.fixture(scope="module")
def questions() -> list[dict[str, Any]]:
    lines = (SAMPLE / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def right(engine: CompiledEngine, questions: list[dict[str, Any]]) -> float:
    """Percent of the questions that are answered right, every blank of them."""
    found = answers(engine, load_tokenizer(str(SAMPLE / "tokenizer.model"), MODEL), [q["text"] for q in questions])
    wanted = [q["answer"] if isinstance(q["answer"], list) else [q["answer"]] for q in questions]
    good = sum([b.strip() for b in blanks] == list(want) for blanks, want in zip(found, wanted, strict=True))
    return 100 * good / len(questions)


def test_held_back_questions_in_every_precision(
    tmp_path: Path, questions: list[dict[str, Any]], record_property: Callable[[str, object], None]
) -> None:
    assert len(questions) == 200
    accuracy: dict[Precision, float] = {}
    for precision in ("fp16", "int8", "int4"):
        limits = EngineLimits(max_batch_size=32, max_waiting=400)
        engine = load(make(SAMPLE, tmp_path, MODEL, 2, precision), limits=limits)
        accuracy[precision] = right(engine, questions)
        engine.close()
        record_property(precision, accuracy[precision])
    print(f"right answers in percent: {accuracy}")
    assert accuracy["fp16"] >= 97
    assert accuracy["int8"] >= accuracy["fp16"] - 1
    assert accuracy["int4"] >= accuracy["fp16"] - 1
