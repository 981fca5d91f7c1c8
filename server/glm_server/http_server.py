"""waitress as one listening port: JSON for its own errors, slow senders cut off, a stop that loses no byte.

waitress reads and buffers requests in one thread and answers them in a pool, so that clients which send or read slowly
hold no worker.
"""

from __future__ import annotations

import errno
import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher

from glm_engine.errors import ConfigError
from glm_server.errors import error_body

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: A slow reader's answer is buffered up to here; beyond it, its worker waits for it.
_READER_BUFFER: Final = 4 << 20
#: waitress' refusals: status -> code of our errors
_CODES: Final = {400: "malformed_request", 413: "body_too_large", 431: "headers_too_large", 501: "not_implemented"}


@dataclass(frozen=True)
class PortLimits:
    """Limits of one port. ``threads`` is how many requests are answered at once."""

    threads: int
    connections: int
    max_body_bytes: int
    max_header_bytes: int
    receive_timeout_s: float


class HttpServer:
    """One port. Listens from construction on, answers after ``start``.

    Raises ``ConfigError`` if the port can't be had.
    """

    def __init__(self, app: WSGIApplication, *, host: str, port: int, limits: PortLimits) -> None:
        self._map: dict[int, Any] = {}
        self._stopping = False
        self._counter = _OpenResponses(app)
        settings: dict[str, Any] = {
            "host": host,
            "port": port,
            "ident": None,
            "threads": limits.threads,
            "connection_limit": limits.connections,
            "channel_request_lookahead": 1,  # keeps reading while a request runs: how a gone client is noticed
            "max_request_body_size": limits.max_body_bytes + 1,
            "max_request_header_size": limits.max_header_bytes,
            "inbuf_overflow": limits.max_body_bytes + 1,  # never a temporary file: /tmp may be read-only or full
            "outbuf_overflow": 2 * _READER_BUFFER,
            "outbuf_high_watermark": _READER_BUFFER,
            "cleanup_interval": max(1, int(limits.receive_timeout_s / 4)),
            "asyncore_use_poll": True,
            "log_socket_errors": False,
        }
        try:
            adjustments = Adjustments(**settings)
            self._dispatcher = ThreadedTaskDispatcher()
            self._server = _Server(
                self._counter,
                self._map,
                adj=adjustments,
                dispatcher=self._dispatcher,
            )
        except (OSError, ValueError) as error:
            wasyncore.close_all(self._map)
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            why = "is taken; give another (0: any free one)" if taken else f"can't be listened on ({error})"
            raise ConfigError(f"port {port} of {host} {why}") from error
        self._server.receive_timeout_s = limits.receive_timeout_s
        self._dispatcher.set_thread_count(limits.threads)
        self._thread = threading.Thread(target=self._loop, name=f"http-{self.port}", daemon=True)

    @property
    def port(self) -> int:
        """The port listened on."""
        return int(self._server.getsockname()[1])

    @property
    def open_responses(self) -> int:
        """Requests taken whose answers have not been given whole to the sending buffer."""
        return self._counter.open

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self, flush_s: float = 2.0) -> None:
        """Send what is buffered, at most for ``flush_s``, then close everything."""
        self._server.accepting = False
        deadline = time.monotonic() + flush_s
        while time.monotonic() < deadline and self._unsent():
            time.sleep(0.01)
        self._stopping = True
        self._server.pull_trigger()
        self._thread.join()
        self._dispatcher.shutdown(timeout=1)
        wasyncore.close_all(self._map)

    def _unsent(self) -> bool:
        channels: Iterable[HTTPChannel] = list(self._server.active_channels.values())  # type: ignore[attr-defined]  # stubs
        return any(channel.total_outbufs_len for channel in channels)

    def _loop(self) -> None:
        while not self._stopping:
            wasyncore.loop(timeout=1, map=self._map, use_poll=True, count=1)


class _OpenResponses:
    """WSGI middleware that counts answers from their beginning to the close of their body."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._lock = threading.Lock()
        self.open = 0

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self.add(1)
        try:
            return _CountedBody(self._app(environ, start_response), self)
        except BaseException:
            self.add(-1)
            raise

    def add(self, change: int) -> None:
        with self._lock:
            self.open += change


class _CountedBody:
    """A response's body that tells when it is closed."""

    def __init__(self, body: Iterable[bytes], counter: _OpenResponses) -> None:
        self._body = body
        self._counter: _OpenResponses | None = counter

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            if self._counter is not None:
                self._counter.add(-1)
                self._counter = None


class _Parser(HTTPRequestParser):
    """Refuses a request of two lengths, by which a proxy and we could disagree where it ends."""

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        if self.chunked and "CONTENT_LENGTH" in self.headers:
            raise ParsingError("Content-Length and Transfer-Encoding exclude each other")


class _JsonErrorTask(ErrorTask):
    """waitress' own refusals in the shape of ours."""

    def execute(self) -> None:
        request: Any = self.request  # the stubs take it for its own error
        error = request.error
        message = f"{error.reason}: {error.body}"
        body = json.dumps(error_body("invalid_request_error", _CODES.get(error.code, "http_error"), message)).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers = [("Content-Type", "application/json")]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):
    """A connection that knows since when it has been sending the request that is not whole yet."""

    parser_class = _Parser
    error_task_class = _JsonErrorTask
    receiving_since: float | None = None

    def received(self, data: bytes) -> bool:
        result = bool(super().received(data))
        if self.request is None:
            self.receiving_since = None
        elif self.receiving_since is None:
            self.receiving_since = time.monotonic()
        return result


class _Server(TcpWSGIServer):
    channel_class = _Channel
    receive_timeout_s = 30.0

    def set_socket_options(self, conn: socket.socket) -> None:
        super().set_socket_options(conn)
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a peer that vanished is noticed in the end

    def maintenance(self, now: int) -> None:
        """Beside idle connections, close those that drip a request for too long."""
        super().maintenance(int(now))
        latest = time.monotonic() - self.receive_timeout_s
        for channel in list(self.active_channels.values()):  # type: ignore[attr-defined]  # stubs
            if channel.receiving_since is not None and channel.receiving_since < latest:
                channel.will_close = True
