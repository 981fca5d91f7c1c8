"""A pod's life on one machine: init containers, then the main container, restarted as the pod's policy says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from glm_operator.errors import LocalError
from glm_operator.local.output import Console
from glm_operator.local.probe import answers
from glm_operator.local.process import Process
from glm_operator.local.translate import command_of, environment_of, mounts_of

_TICK_S: Final = 0.1
_KILL_WAIT_S: Final = 10.0
_INIT_ATTEMPTS: Final = 3
_FIRST_BACKOFF_S: Final = 1.0
_LAST_BACKOFF_S: Final = 30.0
#: A container that ran this long starts its back-off anew, in seconds.
_STEADY_S: Final = 60.0
#: Exit codes by which the programs say that the input is wrong: trying again would give the same.
_INPUT_ERRORS: Final = (1, 2, 127)


@dataclass(frozen=True)
class Signals:
    """What the person at the keyboard wants: ``stop`` to drain and leave, ``kill`` to leave now."""

    stop: threading.Event
    kill: threading.Event


class LocalPod:
    """Runs one pod template.

    template : as rendered; folders : of its volumes; programs : see ``environment_of``; on_ready : called once, at the
    first time that the readiness probe succeeds.
    """

    def __init__(
        self,
        template: Mapping[str, Any],
        *,
        folders: Mapping[str, Path],
        programs: Path | None,
        console: Console,
        signals: Signals,
        on_ready: Callable[[], None],
    ) -> None:
        self._spec = template["spec"]
        self._folders = folders
        self._programs = programs
        self._console = console
        self._signals = signals
        self._on_ready = on_ready
        self._was_ready = False

    def run(self) -> None:
        """Run until told to stop. Raises ``LocalError`` where a container cannot do its work."""
        for container in self._spec["initContainers"]:
            self._init(container)
        if not self._signals.stop.is_set():
            (main,) = self._spec["containers"]
            self._main(main)

    def _start(self, container: Mapping[str, Any]) -> Process:
        mounts = mounts_of(container, self._folders)
        environment = environment_of(container, mounts, self._programs)
        return Process(container["name"], command_of(container, mounts), environment, self._console)

    def _init(self, container: Mapping[str, Any]) -> None:
        name = container["name"]
        for attempt in range(1, _INIT_ATTEMPTS + 1):
            process = self._start(container)
            while (code := process.poll()) is None and not self._signals.stop.wait(_TICK_S):
                pass
            if code is None:
                self._end(process)
                return
            if code == 0:
                return
            if code in _INPUT_ERRORS or attempt == _INIT_ATTEMPTS:
                raise LocalError(f"{name}: ended with exit code {code}; its last lines above say why")
            delay = _FIRST_BACKOFF_S * 2 ** (attempt - 1)
            self._console.say(f"{name}: {_reason(code)}; attempt {attempt + 1} of {_INIT_ATTEMPTS} in {delay:.0f} s")
            if self._signals.stop.wait(delay):
                return

    def _main(self, container: Mapping[str, Any]) -> None:
        backoff = _FIRST_BACKOFF_S
        while True:
            started = time.monotonic()
            process = self._start(container)
            try:
                code = self._watch(process, container)
            finally:
                self._end(process)
            if self._signals.stop.is_set():
                return
            if code in _INPUT_ERRORS and not self._was_ready:
                raise LocalError(f"{process.name}: ended with exit code {code}; its last lines above say why")
            if time.monotonic() - started > _STEADY_S:
                backoff = _FIRST_BACKOFF_S
            self._console.say(f"{process.name}: {_reason(code)}; restarted in {backoff:.0f} s")
            if self._signals.stop.wait(backoff):
                return
            backoff = min(2 * backoff, _LAST_BACKOFF_S)

    def _watch(self, process: Process, container: Mapping[str, Any]) -> int | None:
        """Probe as the kubelet would, until the process ends, a probe has failed for good (None), or we are told to."""
        port = next(p["containerPort"] for p in container["ports"] if p["name"] == "management")
        start, live = container["startupProbe"], container["livenessProbe"]
        ready, failures = False, 0
        next_probe, start_by = 0.0, time.monotonic() + start["failureThreshold"] * start["periodSeconds"]
        while not self._signals.stop.wait(_TICK_S):
            if (code := process.poll()) is not None:
                return code
            now = time.monotonic()
            if not ready:
                ready = answers(port, start["httpGet"]["path"])
                if ready:
                    self._announce()
                elif now > start_by:
                    return None
                next_probe = now + live["periodSeconds"]
            elif now > next_probe:
                failures = 0 if answers(port, live["httpGet"]["path"]) else failures + 1
                if failures >= live["failureThreshold"]:
                    return None
                next_probe = now + live["periodSeconds"]
        return None

    def _announce(self) -> None:
        if not self._was_ready:
            self._was_ready = True
            self._on_ready()

    def _end(self, process: Process) -> None:
        """SIGTERM, the grace period, SIGKILL: as the kubelet ends a container."""
        process.terminate()
        deadline = time.monotonic() + self._spec["terminationGracePeriodSeconds"]
        while process.poll() is None and time.monotonic() < deadline and not self._signals.kill.wait(_TICK_S):
            pass
        process.kill()
        process.wait(_KILL_WAIT_S)


def _reason(code: int | None) -> str:
    if code is None:
        return "did not answer its probes"
    return f"killed by signal {code - 128}" if code > 128 else f"ended with exit code {code}"
