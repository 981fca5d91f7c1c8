"""The only thread that polls the engine, and the registry of what runs; everything about tokens is measured here."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from glm_engine.errors import EngineError
from glm_engine.request import Engine, Event, Prompt, Request
from glm_server.metrics import Metrics
from glm_server.session import Session

#: How long one ``poll`` waits, in seconds: bounds how late a stop is noticed.
POLL_S: Final = 0.2
#: Seconds between two looks at the engine's own counters; it keeps the times of its last 4096 steps only.
STATS_S: Final = 1.0

_log = logging.getLogger(__name__)


@dataclass
class _Record:
    """One engine request on its way. Times are seconds of the monotonic clock."""

    session: Session
    request: Request
    submitted: float
    choices_left: int
    started: float | None = None
    first_token: float | None = None
    last_token: dict[int, float] = field(default_factory=dict)
    tokens: int = 0


class Service:
    """Runs one engine for all sessions.

    ``on_failure`` is called once, with the reason, when the engine has failed: the process should end then. A failed
    service refuses everything with ``EngineError``.
    """

    def __init__(
        self, engine: Engine, metrics: Metrics, *, step_deadline_s: float, on_failure: Callable[[str], None]
    ) -> None:
        self.engine = engine
        self._metrics = metrics
        self._step_deadline_s = step_deadline_s
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self._scoring = threading.Lock()
        self._records: dict[int, _Record] = {}
        self._failure: str | None = None
        self._closing = False
        self._steps: Any = None
        self._progress = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="engine-poll", daemon=True)

    def start(self) -> None:
        """Begin to poll."""
        self._metrics.show_engine(self.stats)
        self._thread.start()

    def session(self) -> Session:
        """A place to submit requests from; use it as a context manager."""
        return Session(self)

    @property
    def live(self) -> int:
        """Engine requests that have not ended."""
        return len(self._records)

    def submit(self, request: Request, session: Session) -> int:
        """Queue a request whose events go to ``session``; see ``Engine.submit`` for what is raised."""
        with self._lock:  # the request's first event must find its record
            if self._failure is not None:
                raise EngineError(self._failure)
            number = self.engine.submit(request)
            now = time.monotonic()
            if not self._records:
                self._progress = now
            choices = 1 if request.beams else request.n
            self._records[number] = _Record(session, request, now, choices)
        self._metrics.count("prompt_tokens_total", by=len(request.prompt.ids))
        self._metrics.observe("request_prompt_tokens", len(request.prompt.ids))
        return number

    def score(self, ids: Sequence[int], prompt: Prompt) -> NDArray[np.float32]:
        """Logits [len(ids), vocab_size] of the prompt with its continuation; see ``Engine.score``.

        One at a time: with the whole vocabulary the logits of a full context take more than a gigabyte.
        """
        with self._scoring:
            if self._failure is not None:
                raise EngineError(self._failure)
            return self.engine.score(ids, len(prompt.ids), prompt.mask_position, prompt.gmask)

    def cancel(self, number: int) -> None:
        """End a request at the next step; one that has ended is ignored."""
        if number in self._records and self._failure is None:
            self.engine.cancel(number)

    def stalled_s(self) -> float:
        """Seconds since the engine last made progress while it had work; 0 without work. Never waits for the engine."""
        return time.monotonic() - self._progress if self._records else 0.0

    @property
    def alive(self) -> bool:
        """Whether the engine makes progress when it has work. Never waits for the engine."""
        return self._failure is None and self.stalled_s() < self._step_deadline_s

    def check(self) -> None:
        """Fail the service if no step ended within the deadline. For a thread that the engine can't hold up."""
        if self._failure is None and self.stalled_s() >= self._step_deadline_s:
            self.fail(f"no step ended for {self._step_deadline_s:g} s")

    def fail(self, reason: str) -> None:
        """The engine is lost: every session is told, new ones are refused, ``on_failure`` is called (once)."""
        with self._lock:
            if self._failure is not None or self._closing:
                return
            self._failure = reason
            sessions = {id(record.session): record.session for record in self._records.values()}
            self._records.clear()
        _log.error("the engine failed: %s", reason)
        for session in sessions.values():
            session.deliver(EngineError(reason))
        self._on_failure(reason)

    def close(self) -> None:
        """Close the engine: what still runs ends with ``shutdown``. Idempotent."""
        if self._closing:
            return
        if self._failure is None:
            self.engine.close()
        self._closing = True
        if self._failure is None and self._thread.is_alive():
            self._thread.join()

    def drop_waiting(self) -> None:
        """Cancel what no step has begun: for a drain. A session of which something runs is left to finish."""
        with self._lock:
            busy = {id(record.session) for record in self._records.values() if record.started is not None}
            idle = [number for number, record in self._records.items() if id(record.session) not in busy]
        for number in idle:
            self.cancel(number)

    def stats(self) -> Mapping[str, Any]:
        """The engine's counters, its step times taken over into the metrics; empty when it has ended."""
        if self._failure is not None or self._closing:
            return {}
        stats = dict(self.engine.stats())
        for prefill_rows, _, decode_rows, seconds in stats.pop("recent_steps", ()):
            phase = "mixed" if prefill_rows and decode_rows else "prefill" if prefill_rows else "decode"
            self._metrics.observe("engine_step_seconds", seconds, phase)
            if decode_rows:
                self._metrics.observe("engine_batch_sequences", decode_rows)
        if stats.get("steps") != self._steps:  # a long prefill reports nothing, but counts its steps
            self._steps, self._progress = stats.get("steps"), time.monotonic()
        if "kv_blocks_total" in stats:
            used = stats["kv_blocks_live"] + stats.get("kv_blocks_cached", 0)
            stats["kv_blocks_free"] = stats["kv_blocks_total"] - used
        return stats

    def _run(self) -> None:
        looked, interval = time.monotonic(), min(STATS_S, self._step_deadline_s / 4)
        try:
            while self._failure is None:
                events = self.engine.poll(POLL_S)
                if events:
                    self._dispatch(events)
                elif self._closing:
                    return
                if self._records and time.monotonic() - looked > interval:
                    looked = time.monotonic()
                    self.stats()
        except Exception as error:  # whatever it is, nobody would poll any more
            if not isinstance(error, EngineError):
                _log.exception("the poll thread crashed")
            self.fail(str(error) or type(error).__name__)

    def _dispatch(self, events: list[Event]) -> None:
        now = time.monotonic()
        if any(event.finish == "error" for event in events) and (failure := self.engine.stats().get("failure")):
            raise EngineError(failure)  # not these requests' own error: the engine is lost
        batches: dict[int, tuple[Session, list[Event]]] = {}
        with self._lock:
            self._progress = now
            for event in events:
                record = self._records.get(event.request)
                if record is None:
                    continue
                self._measure(record, event, now)
                batches.setdefault(id(record.session), (record.session, []))[1].append(event)
        for session, batch in batches.values():
            session.deliver(batch)

    def _measure(self, record: _Record, event: Event, now: float) -> None:
        metrics = self._metrics
        if event.started:
            record.started = now
            metrics.observe("request_queue_seconds", now - record.submitted)
        if event.token is not None:
            record.tokens += 1
            metrics.count("generation_tokens_total")
            if record.first_token is None:
                record.first_token = now
                metrics.observe("time_to_first_token_seconds", now - record.submitted)
                metrics.observe("request_prefill_seconds", now - (record.started or record.submitted))
            elif event.index in record.last_token:
                metrics.observe("inter_token_seconds", now - record.last_token[event.index])
            record.last_token[event.index] = now
        if event.finish is not None:
            self._end(record, event, now)

    def _end(self, record: _Record, event: Event, now: float) -> None:
        metrics = self._metrics
        metrics.count("requests_total", event.finish or "")
        record.choices_left = 0 if record.started is None else record.choices_left - 1
        if record.choices_left:
            return
        del self._records[event.request]
        if event.beams:
            record.tokens = len(event.beams[0])
            metrics.count("generation_tokens_total", by=record.tokens)
        metrics.observe("request_seconds", now - record.submitted)
        metrics.observe("request_generation_tokens", record.tokens)
        if record.first_token is not None:
            metrics.observe("request_decode_seconds", now - record.first_token)
