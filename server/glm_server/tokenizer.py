"""Text <-> token ids: icetk's text tokenizer over a SentencePiece file given by path, plus the special tokens.

Nothing is ever downloaded. The ids of a model are those of the SentencePiece file moved up by one constant (GLM-130B's
vocabulary starts with 20,000 image tokens), which follows from where the model's description puts ``eos``.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal, Protocol

from glm_engine.config import ModelConfig
from glm_engine.errors import ConfigError

Implementation = Literal["auto", "icetk", "sentencepiece"]

#: The piece that stands for a line break: SentencePiece itself folds line breaks into blanks.
LINE_BREAK: Final = "<n>"

_log = logging.getLogger(__name__)


class TextModel(Protocol):
    """What is asked of a text tokenizer; ids are the file's own, from 0."""

    def size(self) -> int:
        """Number of pieces."""
        ...

    def eos_id(self) -> int:
        """Id of the end-of-text piece; -1 where the file has none."""
        ...

    def has_piece(self, piece: str) -> bool:
        """Whether ``piece`` is a token of its own."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids."""
        ...


class SentencePieceModel:
    """A processor of the ``sentencepiece`` package as a ``TextModel``."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def size(self) -> int:
        return int(self._processor.vocab_size())

    def eos_id(self) -> int:
        return int(self._processor.eos_id())

    def has_piece(self, piece: str) -> bool:
        return bool(self._processor.PieceToId(piece) != self._processor.unk_id())

    def encode(self, text: str) -> list[int]:
        return list(self._processor.EncodeAsIds(text))

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._processor.DecodeIds(list(ids)))


class Tokenizer:
    """Text <-> ids of one model, special tokens included. Thread-safe: nothing changes after construction.

    Raises ``ConfigError`` where the file's size and the model's description can't belong together.
    """

    def __init__(self, text_model: TextModel, config: ModelConfig) -> None:
        self.special_ids: Final = dict(config.special_ids)
        self._names = {token_id: name for name, token_id in config.special_ids.items()}
        self._model = text_model
        self._size = text_model.size()
        self._offset = self.special_ids["eos"] - text_model.eos_id()
        self._line_breaks = text_model.has_piece(LINE_BREAK)
        if text_model.eos_id() < 0:
            raise ConfigError("tokenizer: the file has no end-of-text piece; train it with an eos piece")
        if self._offset < 0 or self._offset + self._size > config.num_text_tokens:
            raise ConfigError(
                f"tokenizer: its {self._size} pieces (eos {text_model.eos_id()}) do not fit the model's "
                f"{config.num_text_tokens} text tokens (eos {self.special_ids['eos']}); give the model's own file"
            )

    def encode(self, text: str) -> list[int]:
        """Ids of a text without masks; line breaks become ``<n>`` where the vocabulary has it."""
        if self._line_breaks:
            text = text.replace("\r\n", "\n").replace("\n", LINE_BREAK)
        return [token + self._offset for token in self._model.encode(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids. Special tokens are written by name, as ``[MASK]``; ids that are no text (images, padding) are
        left out."""
        text, run = [], list[int]()
        for token in ids:
            name = self._names.get(token)
            if name is not None:
                text += [self._decode_text(run), name if name.startswith("[") else f"[{name}]"]
                run = []
            elif 0 <= token - self._offset < self._size:
                run.append(token - self._offset)
        return "".join([*text, self._decode_text(run)])

    def _decode_text(self, pieces: Sequence[int]) -> str:
        return self._model.decode(pieces).replace(LINE_BREAK, "\n") if pieces else ""


def load_tokenizer(path: str | Path, config: ModelConfig, implementation: Implementation = "auto") -> Tokenizer:
    """Read a SentencePiece ``.model`` file. ``auto`` takes icetk, and the same file by ``sentencepiece`` without it.

    Raises ``ConfigError`` for a file that is missing, no SentencePiece model, or another model's.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"tokenizer: {file} is not a file; give the model's SentencePiece file (--tokenizer)")
    if implementation == "icetk":
        return Tokenizer(_read(_icetk_processor, file), config)
    if implementation == "auto":
        try:
            return Tokenizer(_read(_icetk_processor, file), config)
        except (ImportError, TypeError) as error:  # TypeError: protobuf newer than icetk's generated code
            _log.warning("icetk is not usable (%s); reading the tokenizer by sentencepiece", type(error).__name__)
    return Tokenizer(_read(_sentencepiece_processor, file), config)


def _read(reader: Any, file: Path) -> SentencePieceModel:
    try:
        return SentencePieceModel(reader(file))
    except (ImportError, TypeError):
        raise
    except Exception as error:  # sentencepiece and protobuf each raise their own
        raise ConfigError(f"tokenizer: {file} is not a SentencePiece model ({type(error).__name__})") from error


def _sentencepiece_processor(file: Path) -> Any:
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_file=str(file))


def _icetk_processor(file: Path) -> Any:
    return _icetk_text_module().TextTokenizer(str(file)).sp


def _icetk_text_module() -> ModuleType:
    """icetk's text half alone: its package imports torch and torchvision for images, seconds and 300 MB for nothing.

    The sub-module is imported under a package of another name with icetk's search path, so that its own ``__init__``
    does not run and a later ``import icetk`` is not disturbed.
    """
    alias = "_glm_icetk_text"
    if alias not in sys.modules:
        found = importlib.util.find_spec("icetk")
        if found is None or found.submodule_search_locations is None:
            raise ImportError("icetk is not installed")
        package = ModuleType(alias)
        package.__path__ = list(found.submodule_search_locations)
        sys.modules[alias] = package
    return importlib.import_module(f"{alias}.text_tokenizer")
