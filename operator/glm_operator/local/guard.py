"""Runs one program so that nothing of it outlives `glmctl`: ``python -I -S guard.py FD PROGRAM [ARGUMENT...]``.

The guard is to its program what the container runtime is to a container: it passes SIGTERM on, and when the program has
ended it ends everything that the program started. FD is the reading end of a pipe whose other end only `glmctl` holds:
end of file means that `glmctl` is gone (even by kill -9), and any byte means "kill now". If the guard itself is killed,
the kernel kills the program (PR_SET_PDEATHSIG). Standard library only, because it starts before every container.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_ORPHAN_GRACE_S = 5.0
_CANNOT_RUN = 127


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere the pipe alone must do."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _exec(guard: int, argv: list[str]) -> None:
    """In the child: become the program. Never returns."""
    os.setpgid(0, 0)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard:  # the guard died before the line above
        os._exit(_CANNOT_RUN)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 -- the very purpose; no shell
    except OSError as error:
        os.write(2, f"cannot run {argv[0]}: {error.strerror}\n".encode())
        os._exit(_CANNOT_RUN)


def _sweep(child: int) -> None:
    """Kill whatever the program left: its process group, and children that left the group (they are ours now)."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    me = os.getpid()
    while True:
        with contextlib.suppress(OSError), open(f"/proc/{me}/task/{me}/children") as listing:
            for pid in listing.read().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def main() -> int:
    """Run the program; the exit code is its own, or 128 plus the signal that ended it."""
    pipe, argv = int(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(pipe, False)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    wake_in, wake_out = os.pipe()
    os.set_blocking(wake_out, False)
    signal.set_wakeup_fd(wake_out)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)

    guard = os.getpid()
    child = os.fork()
    if child == 0:
        _exec(guard, argv)
    with contextlib.suppress(OSError):  # both sides do it, so that no kill can come before it
        os.setpgid(child, child)

    deadline = None
    watched = [pipe, wake_in]
    while True:
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select(watched, [], [], timeout)
        if wake_in in ready and signal.SIGTERM in os.read(wake_in, 512):
            os.kill(child, signal.SIGTERM)
        if pipe in ready:
            if os.read(pipe, 1):
                os.killpg(child, signal.SIGKILL)
            else:
                watched.remove(pipe)
                deadline = time.monotonic() + _ORPHAN_GRACE_S
                os.kill(child, signal.SIGTERM)
        if deadline is not None and time.monotonic() >= deadline:
            os.killpg(child, signal.SIGKILL)
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            _sweep(child)
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
