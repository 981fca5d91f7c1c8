"""Fill a text's blanks one after the other, as the original's ``generate.py`` does. Pure: ids in, prompts out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glm_engine.request import Prompt
from glm_server.prompt import MaskedText
from glm_server.tokenizer import Tokenizer


@dataclass(frozen=True)
class Segment:
    """A stretch of the finished text: the user's own, or generated."""

    text: str
    generated: bool


class Filling:
    """One text on its way: ask for ``prompt()``, answer with ``fill(...)``, until ``done``.

    Each answer may hold several alternatives (beams), best first: the best is spliced in, and the next blank is filled
    with it in place; the finished texts differ in their last blank.
    """

    def __init__(self, text: MaskedText, tokenizer: Tokenizer) -> None:
        self._text = text
        self._tokenizer = tokenizer
        self._end_ids = (tokenizer.special_ids["eop"], tokenizer.special_ids["eos"])
        self._ids = list(text.ids)  # the best text so far
        self._alternatives: list[list[int]] = []  # every text after the latest blank, best first
        self._spans: list[tuple[int, int]] = []  # where in the best text the filled blanks stand
        self._pending = list(text.positions)  # masks yet to fill, as positions in the best text
        self.blanks: list[list[str]] = []  #: per alternative, best first, the text of each blank that its answer holds

    @property
    def done(self) -> bool:
        """Whether every blank is filled."""
        return not self._pending

    def prompt(self) -> Prompt:
        """The prompt of the next blank, ``sop`` included."""
        sop = self._tokenizer.special_ids["sop"]
        return Prompt((*self._ids, sop), self._pending[0], self._text.gmask)

    def fill(self, alternatives: Sequence[Sequence[int]]) -> None:
        """Take what was generated for ``prompt()``: token ids per alternative, a last end token or not."""
        position = self._pending.pop(0)
        before = self.blanks[0] if self.blanks else []
        blanks = [self._without_end(generated) for generated in alternatives]
        self.blanks = [[*before, self._tokenizer.decode(blank)] for blank in blanks]
        self._alternatives = [self._ids[:position] + blank + self._ids[position + 1 :] for blank in blanks]
        grown = len(self._alternatives[0]) - len(self._ids)
        self._ids = self._alternatives[0]
        self._spans.append((position, position + 1 + grown))
        self._pending = [later + grown for later in self._pending]

    def leave(self) -> None:
        """Leave the blanks that are still open as they are: what is filled is the answer."""
        self._pending.clear()

    @property
    def answers(self) -> list[str]:
        """The whole text per alternative, best first, without the ``eos`` at its end."""
        return [self._tokenizer.decode(self._without_eos(ids)) for ids in self._alternatives or [self._ids]]

    @property
    def segments(self) -> list[Segment]:
        """The best text in stretches of the user's own and of generated text."""
        ids = self._without_eos(self._ids)
        found, start = [], 0
        for begin, end in self._spans:
            found += [(ids[start:begin], False), (ids[begin:end], True)]
            start = end
        found.append((ids[start:], False))
        return [Segment(self._tokenizer.decode(part), generated) for part, generated in found if part or generated]

    def _without_end(self, generated: Sequence[int]) -> list[int]:
        ended = bool(generated) and generated[-1] in self._end_ids
        return list(generated[:-1] if ended else generated)

    def _without_eos(self, ids: list[int]) -> list[int]:
        return ids[:-1] if ids and ids[-1] == self._tokenizer.special_ids["eos"] else ids
