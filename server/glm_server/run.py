"""`glm serve`: one process from the first signal handler to the last byte sent."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Final

from glm_engine import __version__
from glm_engine.errors import EngineError, GlmError
from glm_server.app import create_app, create_management_app
from glm_server.config import ServerConfig
from glm_server.http_server import HttpServer, PortLimits
from glm_server.lifecycle import Runtime
from glm_server.loading import LoadEngine, load_runtime, warm_up
from glm_server.state import ServerState, new_state

#: Seconds that responses get to notice that their requests were ended by the drain's deadline.
_LAST_WORDS_S: Final = 2.0
_WATCH_S: Final = 0.5

_log = logging.getLogger(__name__)


def serve(config: ServerConfig, load_engine: LoadEngine, announce: Callable[[str], None] = print) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code: 0 after a drain, 1 after a failure.

    The ports answer from the beginning (not ready), the model is loaded beside. A second signal ends at once. Raises
    ``GlmError`` for what a person can mend: a taken port, a missing file.
    """
    return _Process(config, load_engine, announce).run()


class _Process:
    """The main thread's view: it waits for a signal or a failure, so that nothing can hold it up."""

    def __init__(self, config: ServerConfig, load_engine: LoadEngine, announce: Callable[[str], None]) -> None:
        self._config = config
        self._load_engine = load_engine
        self._announce = announce
        self._wake = threading.Event()
        self._signals = 0
        self._state: ServerState = new_state(config)
        self._runtime: Runtime | None = None
        self._load_error: GlmError | None = None
        self._started = time.monotonic()

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._state.metrics.set("build_info", 1, __version__)
        config = self._config
        api = HttpServer(create_app(self._state), host=config.host, port=config.port, limits=self._api_limits())
        management = HttpServer(
            create_management_app(self._state),
            host=config.host,
            port=config.management_port,
            limits=PortLimits(4, 200, 64 << 10, 16 << 10, 10.0),
        )
        for server in (api, management):
            server.start()
        self._announce(f"glm: listening on http://{config.host}:{api.port} (management port {management.port})")
        threading.Thread(target=self._load, name="load", daemon=True).start()
        try:
            self._wait()
            if self._load_error is not None:
                raise self._load_error
            if self._state.lifecycle.phase == "failed":
                _log.error("leaving: %s", self._state.lifecycle.reason)
                self._await_responses(api, _LAST_WORDS_S)
                return 1
            return self._drain(api)
        finally:
            api.stop()
            management.stop(0)

    def _api_limits(self) -> PortLimits:
        config = self._config
        threads = config.open_limit + 8  # 8 to refuse what is too much, and for the small routes
        return PortLimits(
            threads, 2 * threads + 200, config.max_body_bytes, config.max_header_bytes, config.receive_timeout_s
        )

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(1)
        self._wake.set()

    def _load(self) -> None:
        lifecycle = self._state.lifecycle
        try:
            runtime = load_runtime(self._config, self._load_engine, self._state.metrics, self._on_failure)
            self._runtime = runtime
            lifecycle.loaded(runtime)
            warm_up(runtime, self._config.step_deadline_s)
        except GlmError as error:
            self._load_error = error
        except Exception as error:  # the main thread would wait for ever
            _log.exception("loading failed")
            self._load_error = EngineError(f"loading failed: {type(error).__name__}: {error}")
        if self._load_error is not None:
            lifecycle.fail(str(self._load_error))
            self._wake.set()
        elif not self._wake.is_set():
            lifecycle.serve()
            seconds = time.monotonic() - self._started
            self._state.metrics.set("load_seconds", seconds)
            self._announce(f"glm: ready after {seconds:.1f} s")

    def _on_failure(self, reason: str) -> None:
        self._state.lifecycle.fail(reason)
        self._wake.set()

    def _wait(self) -> None:
        while not self._wake.wait(_WATCH_S):
            if self._runtime is not None:
                self._runtime.service.check()

    def _drain(self, api: HttpServer) -> int:
        self._state.lifecycle.drain()
        runtime = self._runtime
        if runtime is None:  # still loading: nothing is lost, and the loader can't be interrupted
            _log.info("signal while loading: leaving")
            os._exit(0)
        _log.info("draining %d open responses", api.open_responses)
        runtime.service.drop_waiting()
        self._await_responses(api, self._config.drain_timeout)
        closer = threading.Thread(target=runtime.service.close, name="close", daemon=True)
        closer.start()
        self._await_responses(api, _LAST_WORDS_S)
        closer.join(_LAST_WORDS_S)
        if closer.is_alive():
            _log.error("the engine does not close; leaving without it")
            api.stop()
            os._exit(1)
        return 0

    def _await_responses(self, api: HttpServer, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while api.open_responses and time.monotonic() < deadline:
            time.sleep(0.02)
