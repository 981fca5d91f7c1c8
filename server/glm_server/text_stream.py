"""Tokens -> text as it grows, without ever splitting a character; and strings at which the text ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from glm_server.tokenizer import LINE_BREAK, Tokenizer

#: What the text of a character's first bytes, or of a line break's first letters, ends with.
_UNFINISHED: Final = ("\ufffd", *(LINE_BREAK[:i] for i in range(1, len(LINE_BREAK))))
#: Tokens after which an unfinished character is taken for a broken one.
_PATIENCE: Final = 64


class TextStream:
    """Decodes one answer token by token: ``add`` gives the text that is sure, ``finish`` the rest.

    A token is decoded together with those just before it, so the cost of a token does not grow with the text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []  # tokens that give the next ones their context, and those not yet given out
        self._read = 0  # how many of the window have been given out

    def add(self, token: int) -> str:
        """Take a token; the text that it completes, often empty."""
        self._window.append(token)
        text = self._tokenizer.decode(self._window)
        if text.endswith(_UNFINISHED) and len(self._window) - self._read <= _PATIENCE:
            return ""
        return self._give_out(text)

    def finish(self) -> str:
        """The text that was held back; for the end of the answer."""
        return self._give_out(self._tokenizer.decode(self._window))

    def _give_out(self, text: str) -> str:
        new = text[len(self._tokenizer.decode(self._window[: self._read])) :]
        if new.strip():  # blanks alone are no context: a decoder drops them at its beginning
            del self._window[: self._read]
        self._read = len(self._window)
        return new


class StopStrings:
    """Cuts a growing text at the first of some strings, and holds back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found = False

    def add(self, text: str) -> str:
        """Take more text; what can be given out. ``found`` tells whether the text ends there."""
        held = self._held + text
        places = [place for stop in self._stops if (place := held.find(stop)) >= 0]
        if places:
            self.found, self._held = True, ""
            return held[: min(places)]
        keep = max((_overlap(held, stop) for stop in self._stops), default=0)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def finish(self) -> str:
        """The text that was held back; for the end of the answer."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """How many letters at the text's end may be the beginning of ``stop``."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
