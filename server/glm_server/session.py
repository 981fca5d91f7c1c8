"""What one HTTP request has running in the engine: one queue of events for all of it."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Protocol, Self

from glm_engine.errors import EngineError
from glm_engine.request import Event, Request


class Submitter(Protocol):
    """The side of the service that a session needs."""

    def submit(self, request: Request, session: Session) -> int:
        """Queue a request whose events go to ``session``."""
        ...

    def cancel(self, number: int) -> None:
        """End a request at the next step; one that has ended is ignored."""
        ...


class Session:
    """A context manager: leaving it (the client went away, an error, a stop string) cancels what still runs.

    For one thread; only ``deliver`` is called by another.
    """

    def __init__(self, service: Submitter) -> None:
        self._service = service
        self._queue: SimpleQueue[list[Event] | EngineError] = SimpleQueue()
        self._submitted: set[int] = set()

    def submit(self, request: Request) -> int:
        """Queue a request and return its number; its events will come through ``events``.

        Raises ``RequestError``, ``QueueFullError`` or ``EngineError``.
        """
        number = self._service.submit(request, self)
        self._submitted.add(number)
        return number

    def events(self, timeout_s: float) -> list[Event]:
        """Wait for events and take all there are, in order; none after ``timeout_s``.

        Raises ``EngineError`` once the engine has failed.
        """
        try:
            taken = [self._queue.get(timeout=timeout_s)]
            while not self._queue.empty():
                taken.append(self._queue.get_nowait())
        except Empty:
            return []
        events: list[Event] = []
        for item in taken:
            if isinstance(item, EngineError):
                raise item
            events += item
        return events

    def cancel(self, number: int) -> None:
        """End one request at the next step; its last event still comes."""
        self._service.cancel(number)

    def deliver(self, item: list[Event] | EngineError) -> None:
        """Hand over events, or the engine's failure."""
        self._queue.put(item)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in self._submitted:
            self._service.cancel(number)
        self._submitted.clear()
