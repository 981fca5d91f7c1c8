"""One container as a process: started under the guard, its output passed on, ended without leftovers."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from glm_operator.local import guard
from glm_operator.local.output import Console, Prefixer

_GUARD: Final = str(Path(guard.__file__))
_KILL: Final = b"k"


class Process:
    """A running container.

    command, env : as the container's, with paths of this machine.
    On a terminal the process gets a terminal of its own, so that it shows progress as a person expects.
    """

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], console: Console) -> None:
        self.name = name
        self._console = console
        liveline, self._line = os.pipe()
        source, sink = _terminal(len(name) + 3) if console.is_tty else os.pipe()
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-S", _GUARD, str(liveline), *command],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=dict(env),
                pass_fds=(liveline,),
                # Ctrl-C is for glmctl, which then drains.
                start_new_session=True,
            )
        finally:
            os.close(sink)
            os.close(liveline)
        self._reader = threading.Thread(target=self._pump, args=(source,), name=f"output of {name}", daemon=True)
        self._reader.start()

    def poll(self) -> int | None:
        """The exit code (128 plus the signal where one ended it), or None while it runs."""
        code = self._popen.poll()
        if code is None:
            return None
        self._reader.join(timeout=5)
        if self._line >= 0:
            os.close(self._line)
            self._line = -1
        return code if code >= 0 else 128 - code

    def terminate(self) -> None:
        """Ask it to drain and leave: SIGTERM to the program."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._popen.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it, and all it started, at once."""
        if self.poll() is None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._line, _KILL)

    def wait(self, timeout_s: float) -> int | None:
        """Wait for its end; None if it still runs then."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout_s)
        return self.poll()

    def _pump(self, source: int) -> None:
        prefixer = Prefixer(self._console.prefix(self.name))
        with contextlib.suppress(OSError):  # a terminal ends with EIO, not with end of file
            while data := os.read(source, 65536):
                self._console.write(prefixer.feed(data))
        os.close(source)


def _terminal(taken: int) -> tuple[int, int]:
    """A terminal as wide as ours less the prefix: our end and the program's."""
    ours, theirs = pty.openpty()
    size = shutil.get_terminal_size()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", size.lines, max(20, size.columns - taken), 0, 0))
    attributes = termios.tcgetattr(theirs)
    attributes[1] &= ~termios.OPOST  # our own terminal translates line ends
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(theirs, termios.TCSANOW, attributes)
    return ours, theirs
