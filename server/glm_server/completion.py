"""The choices of a completion as they grow: tokens in, text with its log-probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glm_engine.request import Event
from glm_server.openai_schemas import CompletionChoice, Logprobs
from glm_server.text_stream import StopStrings, TextStream
from glm_server.tokenizer import Tokenizer


@dataclass(frozen=True)
class _Entry:
    """A token in the choice's text."""

    text: str
    offset: int
    logprob: float | None
    top: dict[str, float] | None


class Choice:
    """One choice. ``take`` events and ask for ``delta``; ``finish_reason`` is set at its end."""

    def __init__(
        self, index: int, tokenizer: Tokenizer, end_ids: Sequence[int], stops: Sequence[str], logprobs: int | None
    ) -> None:
        self.index = index
        self.tokens = 0  #: generated, end tokens included
        self.logprob_sum = 0.0
        self.finish_reason: str | None = None
        self._tokenizer = tokenizer
        self._end_ids = frozenset(end_ids)
        self._logprobs = logprobs
        self._stream = TextStream(tokenizer)
        self._stops = StopStrings(stops)
        self._entries: list[_Entry] = []
        self._read = 0  # letters decoded
        self._ready = ""  # letters that may be sent
        self._length = 0  # of all letters sent or ready

    def echo(self, ids: Sequence[int]) -> None:
        """Begin with a prompt's text; its tokens have no log-probability, for each of them was read with all others."""
        stream = TextStream(self._tokenizer)
        for token in ids:
            self._append(stream.add(token), None, None)
        if rest := stream.finish():
            self._append(rest, None, None)
        self._ready = "".join(entry.text for entry in self._entries)
        self._length = len(self._ready)
        if self._logprobs is None:
            self._entries.clear()

    def take(self, event: Event) -> None:
        """Note a token, or the end. Ignored after the end."""
        if self.finish_reason is not None:
            return
        if event.token is not None:
            self.tokens += 1
            self.logprob_sum += event.logprob or 0.0
            if event.token not in self._end_ids:
                top = {self._tokenizer.decode([token]): value for token, value in event.top_logprobs}
                self._grow(self._stream.add(event.token), event.logprob, top)
        if event.finish is not None and self.finish_reason is None:
            self._grow(self._stream.finish(), None, None, last=True)
            if self.finish_reason is None:
                self._allow(self._stops.finish())
                self.finish_reason = "stop" if event.finish == "stop" else "length"

    def end_at_once(self) -> None:
        """Nothing is to be generated."""
        self.finish_reason = "length"

    def delta(self) -> CompletionChoice | None:
        """What is new since the last call; None where nothing is. The last one, which is empty or not, has the reason.

        To be called once after the end.
        """
        if not self._ready and self.finish_reason is None:
            return None
        text, self._ready = self._ready, ""
        return CompletionChoice(
            text=text,
            index=self.index,
            logprobs=self._take_logprobs(),
            finish_reason=self.finish_reason,  # type: ignore[arg-type]  # one of the two by construction
        )

    @property
    def mean_logprob(self) -> float:
        """Of its tokens; for ``best_of``."""
        return self.logprob_sum / max(1, self.tokens)

    def _grow(self, text: str, logprob: float | None, top: dict[str, float] | None, last: bool = False) -> None:
        if last and self._entries and self._logprobs is not None:  # belongs to the tokens before
            entry = self._entries.pop()
            self._entries.append(_Entry(entry.text + text, entry.offset, entry.logprob, entry.top))
            self._read += len(text)
        elif not last:
            self._append(text, logprob, top)
        self._allow(self._stops.add(text))
        if self._stops.found:
            self.finish_reason = "stop"

    def _append(self, text: str, logprob: float | None, top: dict[str, float] | None) -> None:
        self._entries.append(_Entry(text, self._read, logprob, top))
        self._read += len(text)

    def _allow(self, text: str) -> None:
        self._ready += text
        self._length += len(text)

    def _take_logprobs(self) -> Logprobs | None:
        if self._logprobs is None:
            self._entries.clear()
            return None
        ended = self.finish_reason is not None
        count = next((i for i, entry in enumerate(self._entries) if entry.offset >= self._length), len(self._entries))
        if ended and not self._stops.found:
            count = len(self._entries)
        taken, self._entries = self._entries[:count], self._entries[count:]
        return Logprobs(
            tokens=[entry.text[: self._length - entry.offset] for entry in taken],  # a stop string may cut the last
            token_logprobs=[entry.logprob for entry in taken],
            top_logprobs=[entry.top for entry in taken],
            text_offset=[entry.offset for entry in taken],
        )
