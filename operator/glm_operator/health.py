"""The operator's own port: `/metrics`, `/livez` and `/readyz`, answered by a thread that never waits for the others."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

#: The event loop must have shown itself within this time, a reconciliation must have ended within that, in seconds.
LOOP_S: Final = 60.0
WORK_S: Final = 600.0


class Health:
    """What the probes are answered from. ``overdue_s`` : how long a resource has waited for its look."""

    def __init__(self, overdue_s: Callable[[], float]) -> None:
        self._overdue_s = overdue_s
        self._beat_s = time.monotonic()
        self.synced = False

    def beat(self) -> None:
        """The event loop is alive."""
        self._beat_s = time.monotonic()

    def problems(self) -> list[str]:
        """Why the process should be restarted; nothing where it should not."""
        silent, overdue = time.monotonic() - self._beat_s, self._overdue_s()
        found = []
        if silent > LOOP_S:
            found.append(f"the event loop has been silent for {silent:.0f} s")
        if overdue > WORK_S:
            found.append(f"a resource has waited for {overdue:.0f} s")
        return found


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Probes are no news."""


def serve(health: Health, registry: CollectorRegistry, port: int) -> WSGIServer:
    """Answer on ``port`` (0: any free one, see ``server_port``) in a thread of its own, until ``shutdown``."""
    metrics = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return list(metrics(environ, start_response))
        problems = health.problems()
        if path == "/readyz" and not health.synced:
            problems.append("the cluster has not been listed yet")
        elif path not in ("/livez", "/readyz"):
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"not found\n"]
        status = "503 Service Unavailable" if problems else "200 OK"
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps({"problems": problems}).encode() + b"\n"]

    server = make_server("", port, app, handler_class=_Quiet)
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
