"""One terminal for several containers: whose line it is stands before it, and progress bars stay alive."""

from __future__ import annotations

import codecs
import re
import sys
import threading
from typing import Final, TextIO

#: Escape sequences, line ends, and runs of text between them.
_TOKEN: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[^\[\x1b\r\n]|\x1b|\n|\r|[^\x1b\r\n]+")
#: An escape sequence whose end has not arrived.
_UNFINISHED: Final = re.compile(r"\x1b(\[[0-9;?]*)?\Z")


class Prefixer:
    """Puts a prefix before every line of a stream of bytes.

    A progress bar returns to the line's start and clears it: the prefix is written after such sequences, before the
    first character that shows, so that it is not cleared with the line.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""
        self._fresh = True

    def feed(self, data: bytes) -> str:
        """The text to write for these bytes."""
        text = self._pending + self._decoder.decode(data)
        unfinished = _UNFINISHED.search(text)
        self._pending = unfinished[0] if unfinished else ""
        out = []
        for token in _TOKEN.findall(text.removesuffix(self._pending)):
            if token in ("\n", "\r"):
                self._fresh = True
            elif self._fresh and not token.startswith("\x1b"):
                out.append(self._prefix)
                self._fresh = False
            out.append(token)
        return "".join(out)


class Console:
    """Standard output, shared by the containers' readers and `glmctl` itself."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._lock = threading.Lock()
        self._column = 0
        self.is_tty = self._stream.isatty()

    def write(self, text: str) -> None:
        """Write text as it is."""
        if not text:
            return
        with self._lock:
            self._put(text)

    def say(self, text: str = "") -> None:
        """Write a line of `glmctl`'s own, on a line of its own."""
        with self._lock:
            self._put(("\n" if self._column else "") + text + "\n")

    def prefix(self, name: str) -> str:
        """What stands before a container's lines; dim on a terminal."""
        return f"\x1b[2m{name} |\x1b[22m " if self.is_tty else f"{name} | "

    def restore(self) -> None:
        """Show the cursor again: a progress bar that was killed has left it hidden."""
        if self.is_tty:
            self.write("\x1b[?25h")

    def _put(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError:
            return  # the reader of our output has left; the service goes on
        last = text[max(text.rfind("\n"), text.rfind("\r")) + 1 :]
        self._column = (self._column if last == text else 0) + len(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", last))
