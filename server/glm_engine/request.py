"""Requests to the engine and the events that answer them: the vocabulary of the ``Engine`` seam."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

#: What computes.
BackendName = Literal["cpu", "cuda"]

#: ``stop``: an end token or a stop id; ``length``: max_new_tokens or the context; ``time``: the deadline;
#: ``cancelled``: by the client; ``error``: this request failed alone (see ``Event.message``);
#: ``shutdown``: the engine drained.
FinishReason = Literal["stop", "length", "time", "cancelled", "error", "shutdown"]


@dataclass(frozen=True)
class Prompt:
    """A prompt as the model reads it.

    ids : the prompt's tokens, up to and including ``sop``; ``len(ids)`` is the original's *context length*.
    mask_position : index in ``ids`` of the mask that is filled.
    gmask : whether that mask is a [gMASK]: generated positions then run on, else they stay at the mask's index.
    """

    ids: Sequence[int]
    mask_position: int
    gmask: bool


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen when ``Request.beams`` is None. ``top_k=1`` or ``temperature=0`` is greedy.

    Order, as in the original: bans and penalties on the logits, temperature, top-k (ties kept), top-p, draw.
    ``top_k=0`` and ``top_p=0`` or ``1`` switch that filter off. The draw depends on ``seed``, the choice's index and
    the step alone, so a request's tokens do not depend on what else runs.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 0.0
    seed: int = 0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Beams:
    """Beam search with the original's parameters (``BeamSearchStrategy``).

    ``deterministic`` takes the best candidates; without it they are drawn without replacement, as the original's
    ``generate.py`` does.
    """

    num_beams: int = 4
    length_penalty: float = 1.0
    deterministic: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Request:
    """One prompt and how to continue it, ``n`` times (``n`` is 1 with beams)."""

    prompt: Prompt
    max_new_tokens: int
    sampling: Sampling = Sampling()
    beams: Beams | None = None
    n: int = 1
    min_new_tokens: int = 0
    no_repeat_ngram_size: int = 0
    ignore_end: bool = False
    stop_ids: Sequence[int] = ()
    logprobs: int | None = None
    max_time_s: float | None = None
    share_key: str = ""  #: prompts are computed once only among requests of the same key


@dataclass(frozen=True)
class Event:
    """Something that happened to a request.

    The scheduler takes it up (``started``, once, before its first token: it waits no longer); a token of choice
    ``index`` (``token`` set; end tokens are reported, too); the end of that choice (``finish`` set, in the same event
    as its last token where there is one); or, for beam search, everything at once at the end: ``beams`` best first,
    each without the prompt and with its end token, and ``scores`` their penalised scores.
    A request that never started ends with one event for all its choices.
    """

    request: int
    index: int = 0
    token: int | None = None
    logprob: float | None = None
    top_logprobs: Sequence[tuple[int, float]] = ()
    finish: FinishReason | None = None
    beams: Sequence[Sequence[int]] = ()
    scores: Sequence[float] = ()
    message: str = ""
    started: bool = False


class Engine(Protocol):
    """The seam between the server and whatever computes. Thread-safe; ``poll`` is for one caller."""

    def submit(self, request: Request) -> int:
        """Queue a request and return its id.

        Raises ``RequestError`` (it could never run), ``QueueFullError`` (try later) or ``EngineError``.
        """
        ...

    def poll(self, timeout_s: float) -> list[Event]:
        """Wait until there are events or the time is over, and take them all, in order."""
        ...

    def cancel(self, request: int) -> None:
        """End a request at the next step; an id that has ended is ignored."""
        ...

    def score(self, ids: Sequence[int], context_length: int, mask_position: int, gmask: bool) -> NDArray[np.float32]:
        """Logits [len(ids), vocab_size] of a prompt (its first ``context_length`` ids) plus its continuation."""
        ...

    def stats(self) -> Mapping[str, Any]:
        """Counters and gauges of the scheduler; see ``glm_server.metrics`` for what is read."""
        ...

    def close(self) -> None:
        """Stop and free everything; running requests end with ``shutdown``."""
        ...
