"""The sample's vocabulary (SentencePiece) and GLM's prompts: text with masks -> token ids."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import sentencepiece

from glm_engine.config import PRESETS

CONFIG: Final = PRESETS["glm-sample"]
SPECIAL: Final = CONFIG.special_ids
EOS: Final = SPECIAL["eos"]  # SentencePiece's </s>

#: Marks, in the training text, where no piece may cross.
BORDER: Final = "\x1f"

#: Line ends, tabs and ideographic spaces become spaces; everything else stays as it is.
NORMALIZATION: Final = "A\t20\nD\t20\n9\t20\nA0\t20\n3000\t20\n"


def seeds(texts: Iterable[str], longest: int = 16) -> Counter[str]:
    """Candidate pieces: every substring of every word, with how often it occurs.

    SentencePiece's own candidates are substrings shared by *different* words, so that in a text of few words the
    commonest of them ("▁capital") would never be a piece.
    """
    count: Counter[str] = Counter()
    for word, times in Counter(word for text in texts for word in split_words(text)).items():
        for start in range(len(word)):
            for stop in range(start + 1, min(len(word), start + longest) + 1):
                count[word[start:stop]] += times
    return Counter({piece: times for piece, times in count.items() if times > 1 and len(piece) > 1})


def split_words(text: str) -> list[str]:
    """The stretches that no piece crosses, spaces written as SentencePiece writes them."""
    marked = "▁" + text.replace(" ", BORDER + "▁")
    return [word for word in marked.split(BORDER) if word]


def train_tokenizer(texts: Iterable[str], path: Path) -> None:
    """Train a unigram SentencePiece model of exactly the preset's number of pieces on the texts.

    ``<n>`` is a piece of its own: icetk writes a line break that way. All of printable ASCII can be spelled.
    """
    lines = list(texts)
    rows = sorted(seeds(lines).items(), key=lambda row: (-row[1] * len(row[0]), row[0]))
    # The model records the names of its inputs: relative ones, so that the file is the same wherever it is made.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("corpus.txt").write_text("\n".join(lines), encoding="utf-8")
        Path("rules.tsv").write_text(NORMALIZATION, encoding="utf-8")
        Path("seeds.tsv").write_text("".join(f"{piece}\t{times}\n" for piece, times in rows), encoding="utf-8")
        sentencepiece.SentencePieceTrainer.train(
            input="corpus.txt",
            model_prefix="tokenizer",
            model_type="unigram",
            vocab_size=CONFIG.num_text_tokens,
            character_coverage=1.0,
            required_chars="".join(chr(c) for c in range(33, 127)),
            user_defined_symbols=["<n>"],
            normalization_rule_tsv="rules.tsv",
            split_digits=True,
            pretokenization_delimiter=BORDER,
            seed_sentencepieces_file="seeds.tsv",
            shuffle_input_sentence=False,
            num_threads=1,
            minloglevel=2,
        )
        data = Path("tokenizer.model").read_bytes()
    path.write_bytes(data)


class Tokenizer:
    """Text <-> ids, and prompts."""

    def __init__(self, path: Path) -> None:
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=str(path))

    def encode(self, text: str) -> list[int]:
        """Ids of a text without masks."""
        return list(self.pieces.encode(text))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; special tokens and eos are left out."""
        return str(self.pieces.decode([i for i in ids if i < CONFIG.num_text_tokens and i != EOS]))

    def body(self, text: str) -> list[int]:
        """A text with masks as ids: each stretch between masks is encoded alone; eos unless a mask ends the text."""
        if "MASK]" not in text:
            text += " [gMASK]"
        ids: list[int] = []
        for part in re.split(r"(\[[sg]?MASK\])", text):
            ids += [SPECIAL[part]] if part in SPECIAL else self.encode(part)
        return ids if text.endswith("MASK]") else [*ids, EOS]

    @staticmethod
    def mask(body: list[int]) -> tuple[int, bool]:
        """Where the mask to be filled stands, and whether it is a [gMASK]."""
        for name in ("[MASK]", "[sMASK]", "[gMASK]"):
            if SPECIAL[name] in body:
                return body.index(SPECIAL[name]), name == "[gMASK]"
        raise ValueError("no mask to fill")
