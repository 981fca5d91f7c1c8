"""A deterministic engine without a model: the second side of the ``Engine`` seam, for tests of what stands on it.

It queues, admits, steps, cancels and ends requests by the rules of ``glm_engine.request``; only what a token is comes
from a function instead of a model. It can be made slow, and made to fail in each way that a real engine can.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glm_engine.config import ModelConfig
from glm_engine.errors import EngineError, QueueFullError, RequestError
from glm_engine.request import Event, FinishReason, Request

#: (request, index of the choice or beam, tokens so far) -> next token
Answer = Callable[[Request, int, Sequence[int]], int]


@dataclass(frozen=True)
class Faults:
    """What goes wrong, counted in steps from the start (None: never), and how long a step takes."""

    step_s: float = 0.0
    hang_after: int | None = None  #: no step ends any more; ``poll`` still returns
    crash_after: int | None = None  #: ``poll`` and ``submit`` raise ``EngineError``
    nan_after: int | None = None  #: running requests end with ``error``, as for logits that are not finite


@dataclass
class _Running:
    """One admitted request: the tokens of its choices or beams."""

    request: Request
    deadline: float | None
    tokens: list[list[int]]
    live: set[int] = field(default_factory=set)


class FakeEngine:
    """``Engine`` by rule. ``requests`` keeps every request that was accepted, in order.

    ``max_batch_size`` sequences run at once (a request's choices and beams count one each), ``max_waiting`` requests
    wait.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        max_batch_size: int = 8,
        max_waiting: int = 16,
        answer: Answer | None = None,
        faults: Faults = Faults(),
    ) -> None:
        self.config = config
        self.requests: list[Request] = []
        self._slots, self._max_waiting = max_batch_size, max_waiting
        self._answer = answer or self._default_answer
        self._faults = faults
        self._changed = threading.Condition()
        self._waiting: deque[tuple[int, Request]] = deque()
        self._running: dict[int, _Running] = {}
        self._events: list[Event] = []
        self._steps = 0
        self._recent: list[tuple[int, int, int, float]] = []
        self._crashed = self._closed = False
        self._thread = threading.Thread(target=self._work, name="fake-engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> int:
        room = self.config.max_sequence_length - len(request.prompt.ids)
        if request.max_new_tokens > room:
            raise RequestError(f"`max_new_tokens` must be <= {room}; got {request.max_new_tokens}", "max_new_tokens")
        if self._sequences(request) > self._slots:
            raise RequestError(f"`n` must be <= {self._slots}; got {self._sequences(request)}", "n")
        with self._changed:
            if self._crashed or self._closed:
                raise EngineError("the fake engine crashed" if self._crashed else "the engine is closed")
            if len(self._waiting) >= self._max_waiting:
                raise QueueFullError(f"{self._max_waiting} requests wait already; try again later")
            self.requests.append(request)
            self._waiting.append((len(self.requests), request))
            self._changed.notify_all()
            return len(self.requests)

    def poll(self, timeout_s: float) -> list[Event]:
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._crashed or self._closed, timeout_s)
            if self._crashed:
                raise EngineError("the fake engine crashed")
            taken, self._events = self._events, []
            return taken

    def cancel(self, request: int) -> None:
        with self._changed:
            if request in self._running:
                self._finish_all(request, "cancelled")
            for waiting in [entry for entry in self._waiting if entry[0] == request]:
                self._waiting.remove(waiting)
                self._events.append(Event(request, finish="cancelled"))
            self._changed.notify_all()

    def score(self, ids: Sequence[int], context_length: int, mask_position: int, gmask: bool) -> NDArray[np.float32]:
        rows = [
            np.random.default_rng([context_length, mask_position, int(gmask), *ids[: i + 1]]).standard_normal(
                self.config.vocab_size, np.float32
            )
            for i in range(len(ids))
        ]
        return np.stack(rows)

    def stats(self) -> Mapping[str, Any]:
        with self._changed:
            live = sum(len(running.live) for running in self._running.values())
            recent, self._recent = self._recent, []
            return {
                "steps": self._steps,
                "running": live,
                "waiting": len(self._waiting),
                "kv_blocks_total": self._slots,
                "kv_blocks_live": live,
                "kv_blocks_cached": 0,
                "recent_steps": recent,
                "failure": "the fake engine crashed" if self._crashed else "",
            }

    def close(self) -> None:
        with self._changed:
            self._closed = True
            for request in list(self._running):
                self._finish_all(request, "shutdown")
            self._events += [Event(request, finish="shutdown") for request, _ in self._waiting]
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join()

    @staticmethod
    def _sequences(request: Request) -> int:
        return request.beams.num_beams if request.beams else request.n

    def _default_answer(self, request: Request, index: int, tokens: Sequence[int]) -> int:
        """One to eight text tokens that depend on prompt, seed and choice, then eop."""
        base = sum(request.prompt.ids) + 17 * request.sampling.seed + 5 * index
        if len(tokens) >= max(1 + base % 8, request.min_new_tokens):
            return self.config.special_ids["eop"]
        taken = set(self.config.special_ids.values())
        text = [token for token in range(3, self.config.num_text_tokens) if token not in taken]
        return text[(31 * base + 13 * len(tokens)) % len(text)]

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting or self._running)
                if self._closed:
                    return
                if self._faults.hang_after is not None and self._steps >= self._faults.hang_after:
                    self._changed.wait_for(lambda: self._closed)
                    return
                if self._faults.crash_after is not None and self._steps >= self._faults.crash_after:
                    self._crashed = True
                    self._changed.notify_all()
                    return
            if self._faults.step_s:
                time.sleep(self._faults.step_s)
            with self._changed:
                self._step()
                self._changed.notify_all()

    def _step(self) -> None:
        admitted = self._admit()
        self._steps += 1
        decoding = sum(len(running.live) for running in self._running.values()) - admitted
        self._recent.append((admitted, self.config.num_layers if admitted else 0, decoding, self._faults.step_s))
        nan = self._faults.nan_after is not None and self._steps > self._faults.nan_after
        for request, running in list(self._running.items()):
            if nan:
                self._finish_all(request, "error", "the logits are not finite")
            elif running.deadline is not None and time.monotonic() > running.deadline:
                self._finish_all(request, "time")
            else:
                self._advance(request, running)

    def _admit(self) -> int:
        """Take up what has room; how many sequences began."""
        before = used = sum(len(running.live) for running in self._running.values())
        while self._waiting and used + self._sequences(self._waiting[0][1]) <= self._slots:
            number, request = self._waiting.popleft()
            count = self._sequences(request)
            used += count
            deadline = None if request.max_time_s is None else time.monotonic() + request.max_time_s
            self._running[number] = _Running(request, deadline, [[] for _ in range(count)], set(range(count)))
            self._events.append(Event(number, started=True))
        return used - before

    def _advance(self, number: int, running: _Running) -> None:
        request = running.request
        for index in sorted(running.live):
            tokens = running.tokens[index]
            token = self._answer(request, index, tokens)
            tokens.append(token)
            finish: FinishReason | None = None
            if (token in self.config.end_ids and not request.ignore_end) or token in request.stop_ids:
                finish = "stop"
            elif len(tokens) >= request.max_new_tokens:
                finish = "length"
            if finish:
                running.live.discard(index)
            if request.beams is None:
                top = [(token + i, -0.5 - i) for i in range(request.logprobs or 0)]
                self._events.append(Event(number, index, token, -0.5, top, finish))
        if not running.live:
            del self._running[number]
            if request.beams is not None:
                scores = [-float(i) for i in range(len(running.tokens))]
                self._events.append(Event(number, finish="stop", beams=running.tokens, scores=scores))

    def _finish_all(self, number: int, reason: FinishReason, message: str = "") -> None:
        running = self._running.pop(number)
        if running.request.beams is not None:
            self._events.append(Event(number, finish=reason, message=message))
        else:
            self._events += [Event(number, index, finish=reason, message=message) for index in sorted(running.live)]
