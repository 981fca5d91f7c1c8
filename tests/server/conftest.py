"""Fixtures of the server's tests: a toy tokenizer and a trained SentencePiece file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from glm_server.tokenizer import Tokenizer
from server_support import Harness, ToyText, toy_config

CORPUS = """The capital of France is Paris.\nThe capital of Italy is Rome. A café with naïve coöperation.
法国的首都是巴黎。意大利的首都是罗马。
Numbers 0123456789, quotes "x" 'y', brackets [a] {b} <c> and emoji 😀👩‍👩‍👧.
"""


@pytest.fixture
def toy() -> Tokenizer:
    config = toy_config()
    return Tokenizer(ToyText(config.num_text_tokens, config.special_ids["eos"]), config)


@pytest.fixture(scope="session")
def sp_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SentencePiece file with a line-break piece and byte fallback, as real ones have."""
    folder = tmp_path_factory.mktemp("sp")
    (folder / "corpus.txt").write_text(CORPUS * 20, encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=420,
        user_defined_symbols=["<n>"],
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return folder / "tokenizer.model"


@pytest.fixture
def harness() -> Iterator[Callable[..., Harness]]:
    """Make harnesses; all are closed after the test."""
    made: list[Harness] = []

    def make(*args: Any, **settings: Any) -> Harness:
        made.append(Harness(*args, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()
