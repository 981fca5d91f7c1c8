"""How many requests may be in the server at once: more are refused at once, never piled up."""

from __future__ import annotations

import threading
from types import TracebackType

from glm_server.errors import OverloadedError
from glm_server.metrics import Metrics


class Admission:
    """A counter with a ceiling; a context manager per request. Raises ``OverloadedError`` at the ceiling."""

    def __init__(self, max_open: int, metrics: Metrics) -> None:
        self._max_open = max_open
        self._metrics = metrics
        self._lock = threading.Lock()
        self._open = 0

    def __enter__(self) -> None:
        with self._lock:
            if self._open >= self._max_open:
                self._metrics.count("rejected_total", "overloaded")
                raise OverloadedError(f"{self._max_open} requests are being answered already; try again later")
            self._open += 1
            self._metrics.set("http_requests_open", self._open)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._open -= 1
            self._metrics.set("http_requests_open", self._open)
