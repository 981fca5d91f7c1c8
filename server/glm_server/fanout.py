"""Several engine requests of one HTTP request, side by side as far as the queue has room."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from glm_engine.errors import QueueFullError
from glm_engine.request import Event, Request
from glm_server.errors import InternalError, UnavailableError
from glm_server.filling import QUEUE_S, WATCH_S
from glm_server.session import Session


@dataclass
class _Running:
    place: int
    choices_left: int
    started: bool = False


class Fanout:
    """``start`` submits what there is room for, ``events`` gives (place of the request, event) until all have ended.

    ``watch`` is called at least every ``WATCH_S`` and may raise to give up.
    """

    def __init__(self, session: Session, requests: Sequence[Request], watch: Callable[[], None]) -> None:
        self._session = session
        self._pending = deque(enumerate(requests))
        self._watch = watch
        self._running: dict[int, _Running] = {}

    def start(self) -> None:
        """Submit. Raises ``QueueFullError`` if not even the first request found room, and what ``submit`` raises."""
        if not self._submit() and not self._running:
            raise QueueFullError("no room in the queue; try again later")

    def events(self) -> Iterator[tuple[int, Event] | None]:
        """Events in order; None now and then while nothing happens. Raises ``InternalError``, ``UnavailableError``."""
        full_since: float | None = None
        while self._pending or self._running:
            if self._submit():
                full_since = None
            elif not self._running:
                full_since = full_since or time.monotonic()
                if time.monotonic() - full_since > QUEUE_S:
                    raise QueueFullError(f"no room in the queue for {QUEUE_S:g} s; try again later")
                time.sleep(0.01)
            events = self._session.events(WATCH_S) if self._running else []
            for event in events:
                if event.request in self._running:
                    yield from self._take(event)
            self._watch()
            if not events:
                yield None

    def drop(self, place: int) -> None:
        """Cancel a request: none of its events are wanted any more."""
        for number in [number for number, running in self._running.items() if running.place == place]:
            del self._running[number]
            self._session.cancel(number)

    def _submit(self) -> bool:
        """Submit what there is room for; whether that was everything."""
        while self._pending:
            place, request = self._pending[0]
            try:
                number = self._session.submit(request)
            except QueueFullError:
                return False
            self._running[number] = _Running(place, request.n)
            self._pending.popleft()
        return True

    def _take(self, event: Event) -> list[tuple[int, Event]]:
        running = self._running[event.request]
        running.started |= event.started
        if event.finish == "error":
            raise InternalError(event.message or "the engine could not finish this request")
        if event.finish in ("shutdown", "cancelled"):
            raise UnavailableError("the server is shutting down; another replica will answer", code="draining")
        if event.finish is None:
            return [(running.place, event)]
        if not running.started:  # one event for all choices
            del self._running[event.request]
            return [(running.place, replace(event, index=index)) for index in range(running.choices_left)]
        running.choices_left -= 1
        if not running.choices_left:
            del self._running[event.request]
        return [(running.place, event)]
