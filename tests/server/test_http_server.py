"""One port with real sockets: JSON for malformed requests, gone clients, slow senders, a stop that loses nothing."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from glm_engine.errors import ConfigError
from glm_engine.fake import Faults
from glm_server.http_server import HttpServer, PortLimits
from server_support import Harness, wait_until

MakeHarness = Callable[..., Harness]
LIMITS = PortLimits(threads=6, connections=60, max_body_bytes=4096, max_header_bytes=2048, receive_timeout_s=20)


@contextmanager
def listening(app: Any, limits: PortLimits = LIMITS) -> Iterator[HttpServer]:
    server = HttpServer(app, host="127.0.0.1", port=0, limits=limits)
    server.start()
    try:
        yield server
    finally:
        server.stop(0.5)


def connect(server: HttpServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def read_all(connection: socket.socket) -> bytes:
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    return data


def exchange(server: HttpServer, request: bytes) -> tuple[int, dict[str, Any]]:
    """Send raw bytes with a closing connection; status and JSON body."""
    with closing(connect(server)) as connection:
        connection.sendall(request)
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert b"application/json" in head
    return int(head.split()[1]), json.loads(body)


def post(body: bytes, *headers: bytes, path: bytes = b"/generate") -> bytes:
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: x", b"Connection: close", *headers]
    if not any(header.lower().startswith((b"content-length", b"transfer-encoding")) for header in headers):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def test_answers(harness: MakeHarness) -> None:
    with listening(harness().app) as server:
        status, body = exchange(server, post(b'{"text": "w1"}'))
        assert status == 200
        assert body["text"]


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (post(b"x" * 4097), 413, "body_too_large"),
        (post(b"", b"X-Long: " + b"x" * 3000), 431, "headers_too_large"),
        (b"nonsense\r\n\r\n", 400, "malformed_request"),
        (post(b"", b"Content-Length: x"), 400, "malformed_request"),
        (post(b"0\r\n\r\n", b"Content-Length: 3", b"Transfer-Encoding: chunked"), 400, "malformed_request"),
        (post(b"", b"Transfer-Encoding: gzip"), 501, "not_implemented"),
    ],
    ids=["body", "headers", "line", "length", "two lengths", "encoding"],
)
def test_refusals_before_the_application(harness: MakeHarness, request_bytes: bytes, status: int, code: str) -> None:
    with listening(harness().app) as server:
        answer, body = exchange(server, request_bytes)
        assert (answer, body["error"]["code"]) == (status, code)
        assert exchange(server, post(b'{"text": "w1"}'))[0] == 200


def test_largest_body_is_read(harness: MakeHarness) -> None:
    with listening(harness().app) as server:
        body = b'{"text": "w1"' + b" " * (4096 - 14) + b"}"
        assert len(body) == 4096
        assert exchange(server, post(body))[0] == 200


def test_chunked_body(harness: MakeHarness) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in b'{"text": "w1"}') + b"0\r\n\r\n"
    with listening(harness().app) as server:
        assert exchange(server, post(chunks, b"Transfer-Encoding: chunked"))[0] == 200


@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
def test_gone_client_frees_its_slot(harness: MakeHarness, how: str) -> None:
    gate = harness(answer=lambda *_: 7, faults=Faults(step_s=0.02), max_batch_size=1)
    with listening(gate.app) as server, closing(connect(server)) as connection:
        connection.sendall(post(b'{"text": "w1", "out_seq_length": 120}'))
        wait_until(lambda: gate.engine.stats()["running"] == 1)
        if how == "half-close":
            connection.shutdown(socket.SHUT_WR)
        else:
            if how == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            connection.close()
        began = time.monotonic()
        wait_until(lambda: gate.service.live == 0)
        assert time.monotonic() - began < 1.5  # 120 steps would take 2.4 s
        wait_until(lambda: server.open_responses == 0)
    assert gate.metric("requests_total", finish_reason="cancelled") == 1


def test_stalled_senders_hold_nobody(harness: MakeHarness) -> None:
    with listening(harness().app) as server:
        stalled = [connect(server) for _ in range(12)]
        for i, connection in enumerate(stalled):
            connection.sendall(post(b"", b"Content-Length: 50")[: 30 if i % 2 else -1] if i % 3 else b"POST")
        began = time.monotonic()
        assert exchange(server, post(b'{"text": "w1"}'))[0] == 200
        assert time.monotonic() - began < 1
        for connection in stalled:
            connection.close()


def test_dripping_sender_is_cut_off(harness: MakeHarness) -> None:
    limits = replace(LIMITS, receive_timeout_s=0.5)
    with listening(harness().app, limits) as server, closing(connect(server)) as connection:
        connection.sendall(b"POST /generate HTTP/1.1\r\nX: ")
        connection.settimeout(0.1)
        wait_until(lambda: drip(connection), 5)


def drip(connection: socket.socket) -> bool:
    """Send one byte; whether the server has hung up."""
    try:
        connection.sendall(b"x")
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_stop_sends_what_is_buffered(harness: MakeHarness) -> None:
    big = b"x" * (1 << 20)

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(big)))])
        return [big]

    server = HttpServer(app, host="127.0.0.1", port=0, limits=LIMITS)
    server.start()
    with closing(connect(server)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        connection.recv(1)
        wait_until(lambda: server.open_responses == 0)
        stopper = threading.Thread(target=server.stop, args=(10,))
        stopper.start()
        received = 1 + len(read_all(connection))
        stopper.join()
    assert received > len(big)


def test_taken_port_is_a_clear_error(harness: MakeHarness) -> None:
    with listening(harness().app) as server, pytest.raises(ConfigError, match=r"port \d+ of 127.0.0.1 is taken"):
        HttpServer(harness().app, host="127.0.0.1", port=server.port, limits=LIMITS)


def test_failing_application_is_counted_out() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        raise RuntimeError("no")

    with listening(app) as server, closing(connect(server)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"500" in read_all(connection)
        assert server.open_responses == 0
