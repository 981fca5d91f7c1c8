"""Fill the blanks of several texts through one session."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from glm_engine.errors import QueueFullError
from glm_engine.request import Event, FinishReason, Prompt, Request
from glm_server.blanks import Filling
from glm_server.errors import InternalError, UnavailableError
from glm_server.session import Session

#: Seconds between two looks at whether the client is still there.
WATCH_S: Final = 0.25
#: Seconds after which a request that has begun gives up waiting for room in the queue.
QUEUE_S: Final = 60.0


@dataclass
class TextJob:
    """One text on its way, and why each of its blanks ended."""

    filling: Filling
    finish_reasons: list[FinishReason] = field(default_factory=list)


#: A blank's prompt -> the engine's request, or None where the context has no room for a single token.
MakeRequest = Callable[[Prompt], Request | None]


class Filler:
    """Fills all blanks of all jobs; lines run side by side, the blanks of a line one after the other.

    ``watch`` is called at least every ``WATCH_S`` and may raise to give up. ``QueueFullError`` is raised if not even
    the first text found room; what has begun waits for its turn.
    """

    def __init__(self, session: Session, make: MakeRequest, watch: Callable[[], None]) -> None:
        self._session = session
        self._make = make
        self._watch = watch
        self._running: dict[int, tuple[TextJob, list[int]]] = {}
        self._begun = False

    def run(self, jobs: Sequence[TextJob]) -> None:
        """Fill everything. Raises what ``Session.submit`` and ``watch`` raise, and ``UnavailableError``."""
        pending = deque(jobs)
        full_since: float | None = None
        while pending or self._running:
            if self._submit(pending):
                full_since = None
            elif not self._running:
                full_since = full_since or time.monotonic()
                if time.monotonic() - full_since > QUEUE_S:
                    raise QueueFullError(f"no room in the queue for {QUEUE_S:g} s; try again later")
                time.sleep(0.01)
            for event in self._session.events(WATCH_S) if self._running else ():
                job = self._take(event)
                if job is not None and not job.filling.done:
                    pending.appendleft(job)
            self._watch()

    def _submit(self, pending: deque[TextJob]) -> bool:
        """Submit what there is room for; whether the first one found room."""
        while pending:
            job = pending[0]
            request = self._make(job.filling.prompt())
            if request is None:
                job.filling.leave()
                job.finish_reasons.append("length")
            else:
                try:
                    number = self._session.submit(request)
                except QueueFullError:
                    if not self._begun:
                        raise
                    return False
                self._begun = True
                self._running[number] = (job, [])
            pending.popleft()
        return True

    def _take(self, event: Event) -> TextJob | None:
        """Note an event; the job whose blank it completes."""
        job, tokens = self._running[event.request]
        if event.token is not None:
            tokens.append(event.token)
        if event.finish is None:
            return None
        del self._running[event.request]
        if event.finish == "error":
            raise InternalError(event.message or "the engine could not finish this request")
        if event.finish in ("shutdown", "cancelled"):
            raise UnavailableError("the server is shutting down; another replica will answer", code="draining")
        job.filling.fill(list(event.beams) or [tokens])
        job.finish_reasons.append(event.finish)
        return job
