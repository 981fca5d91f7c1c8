"""Streams of text: no character is split, nothing is lost, stop strings are found wherever tokens end."""

from __future__ import annotations

from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from glm_server.text_stream import StopStrings, TextStream
from glm_server.tokenizer import Tokenizer, load_tokenizer
from server_support import toy_config


@pytest.fixture(scope="module")
def tokenizer(sp_model: Path) -> Tokenizer:
    size = sentencepiece.SentencePieceProcessor(model_file=str(sp_model)).vocab_size()
    return load_tokenizer(sp_model, toy_config(num_text_tokens=size, eos=2), "sentencepiece")


def streamed(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    stream = TextStream(tokenizer)
    return [*[stream.add(token) for token in ids], stream.finish()]


TEXTS = (
    "The capital of France is Paris.",
    "法国的首都是巴黎。",
    "two\nlines <n and < b>",
    "emoji 😀👩‍👩‍👧 and unseen 🦄🏴‍☠️ ß Ω ก็ العربية",
    "   blanks   in  a row ",
)


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_the_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    pieces = streamed(tokenizer, ids)
    assert "".join(pieces) == tokenizer.decode(ids)
    assert not any("\ufffd" in piece for piece in pieces)


@given(st.data())
def test_any_tokens(tokenizer: Tokenizer, data: st.DataObject) -> None:
    """Whatever the model says, broken characters and special tokens included."""
    ids = data.draw(st.lists(st.integers(0, 440), max_size=60))
    assert "".join(streamed(tokenizer, ids)) == tokenizer.decode(ids)


def test_a_long_broken_character_is_given_out(tokenizer: Tokenizer) -> None:
    byte = tokenizer.encode("🦄")[-1]
    pieces = streamed(tokenizer, [byte] * 200)
    assert "".join(pieces[:-1])
    assert set("".join(pieces)) == {"\ufffd"}


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=4), max_size=4), st.data())
def test_stop_strings(text: str, stops: list[str], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    matcher = StopStrings(stops)
    got = ""
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        got += matcher.add(text[start:end])
        if matcher.found:
            break
    else:
        got += matcher.finish()
    ends = {text.find(stop) + len(stop): text.find(stop) for stop in stops if stop in text}
    assert matcher.found == bool(ends)
    if ends:
        assert any(got == text[: text.find(stop)] for stop in stops if stop in text)
        assert not any(stop in got for stop in stops)
    else:
        assert got == text
