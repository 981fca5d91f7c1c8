"""Text <-> ids: icetk equals sentencepiece on the same file, real and small vocabularies by one rule."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from glm_engine.config import PRESETS, ModelConfig
from glm_engine.errors import ConfigError
from glm_server import tokenizer as tokenizer_module
from glm_server.tokenizer import Tokenizer, load_tokenizer
from server_support import ToyText, toy_config

TEXTS = [
    "",
    " ",
    "Paris",
    "The capital of France is Paris.",
    "法国的首都是巴黎。",
    "a\nb",
    "naïve café",
    "😀 👩‍👩‍👧",
    "\t x  y",
]


def config_for(path: Path, offset: int = 0) -> ModelConfig:
    size = sentencepiece.SentencePieceProcessor(model_file=str(path)).vocab_size()
    return toy_config(num_text_tokens=size + offset, eos=2 + offset)


@pytest.mark.parametrize("offset", [0, 20000], ids=["small", "image-offset"])
@pytest.mark.parametrize("text", TEXTS)
def test_icetk_and_sentencepiece_agree(sp_model: Path, text: str, offset: int) -> None:
    config = config_for(sp_model, offset)
    icetk = load_tokenizer(sp_model, config, "icetk")
    plain = load_tokenizer(sp_model, config, "sentencepiece")
    ids = icetk.encode(text)
    assert ids == plain.encode(text)
    assert icetk.decode(ids) == plain.decode(ids)
    assert all(offset <= token < config.num_text_tokens for token in ids)


@settings(max_examples=50, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_text_agrees(sp_model: Path, text: str) -> None:
    config = config_for(sp_model)
    assert load_tokenizer(sp_model, config, "icetk").encode(text) == (
        load_tokenizer(sp_model, config, "sentencepiece").encode(text)
    )


def test_icetk_is_read_without_torch(sp_model: Path) -> None:
    code = (
        "import json, sys\n"
        "from glm_engine.config import ModelConfig\n"
        "from glm_server.tokenizer import load_tokenizer\n"
        "load_tokenizer(sys.argv[1], ModelConfig.from_dict(json.loads(sys.argv[2])), 'icetk')\n"
        "print('torch' in sys.modules, 'icetk' in sys.modules)"
    )
    config = json.dumps(config_for(sp_model).to_dict())
    done = subprocess.run(
        [sys.executable, "-c", code, str(sp_model), config], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


def test_line_breaks_survive(sp_model: Path) -> None:
    tokenizer = load_tokenizer(sp_model, config_for(sp_model))
    assert tokenizer.decode(tokenizer.encode("Paris\nRome\r\nParis")) == "Paris\nRome\nParis"


def test_auto_falls_back(sp_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: Path) -> object:
        raise ImportError("no icetk here")

    monkeypatch.setattr(tokenizer_module, "_icetk_processor", missing)
    config = config_for(sp_model)
    plain = load_tokenizer(sp_model, config, "sentencepiece")
    assert load_tokenizer(sp_model, config).encode("Paris") == plain.encode("Paris")
    with pytest.raises(ImportError):
        load_tokenizer(sp_model, config, "icetk")


def test_real_vocabulary_offset() -> None:
    config = PRESETS["glm-130b"]
    tokenizer = Tokenizer(ToyText(130000, 2), config)
    assert tokenizer.encode("w7") == [20007]
    assert tokenizer.decode([20007, 5, 150520, 150000, 20002]) == "w7 [MASK][eos]"


def test_special_tokens_are_written_by_name(toy: Tokenizer) -> None:
    special = toy.special_ids
    assert toy.decode([1, special["[gMASK]"], 2, special["sop"], -1, 999]) == "w1 [gMASK]w2 [sop]"


@pytest.mark.parametrize("name", ["missing.model", "."])
def test_missing_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="--tokenizer"):
        load_tokenizer(tmp_path / name, toy_config())


def test_other_file(tmp_path: Path) -> None:
    (tmp_path / "x.model").write_bytes(b"\x00not a model")
    for implementation in ("icetk", "sentencepiece"):
        with pytest.raises(ConfigError, match="not a SentencePiece model"):
            load_tokenizer(tmp_path / "x.model", toy_config(), implementation)


def test_another_models_file(sp_model: Path) -> None:
    config = config_for(sp_model)
    with pytest.raises(ConfigError, match="do not fit"):
        load_tokenizer(sp_model, replace(config, num_text_tokens=config.num_text_tokens - 1))
    with pytest.raises(ConfigError, match="end-of-text"):
        Tokenizer(ToyText(10, -1), config)
