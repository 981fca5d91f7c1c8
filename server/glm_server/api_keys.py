"""API keys from a mounted file that is read again when it changes; without a file everybody may ask."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import threading
import time
from pathlib import Path
from typing import Final

from glm_engine.errors import ConfigError

#: Seconds between two looks at the file.
LOOK_S: Final = 1.0
#: Characters of the shortest key: a shorter one can be guessed.
MIN_LENGTH: Final = 16

_log = logging.getLogger(__name__)


class ApiKeys:
    """The keys of a file: one a line, blank lines and lines that begin with ``#`` aside.

    Kept as hashes, which are compared in constant time. A file that later can't be read, or is wrong, leaves the last
    good keys in force: a half-written file must not lock everybody out, nor let anybody in. A file without keys is
    read as it stands: it lets nobody in.

    Raises ``ConfigError`` if the file can't be read at the start, or has a key that can be guessed.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._seen = self._state()
        self._hashes = self._read()
        self._looked = time.monotonic()

    def allows(self, key: str) -> bool:
        """Whether the key is one of the file's, as it stood within the last ``LOOK_S``."""
        self._refresh()
        given = _hash(key)
        found = False
        for known in self._hashes:  # all of them, so that the time does not tell which
            found |= hmac.compare_digest(given, known)
        return found

    def _refresh(self) -> None:
        with self._lock:
            if time.monotonic() - self._looked < LOOK_S:
                return
            self._looked = time.monotonic()
            try:
                state = self._state()
                if state == self._seen:
                    return
                self._hashes, self._seen = self._read(), state
            except ConfigError as error:
                _log.error("the API keys stay as they were: %s", error)
            else:
                _log.info("read %d API keys", len(self._hashes))

    def _state(self) -> tuple[int, int, int]:
        """What changes with the file; a mounted Secret changes by a link to another file."""
        try:
            found = os.stat(self._path)
        except OSError as error:
            raise ConfigError(f"--api-keys-file: {self._path} can't be read ({error.strerror})") from error
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self) -> tuple[bytes, ...]:
        try:
            lines = [line.strip() for line in self._path.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--api-keys-file: {self._path} can't be read ({type(error).__name__})") from error
        keys = [line for line in lines if line and not line.startswith("#")]
        for number, key in enumerate(keys, 1):
            if len(key) < MIN_LENGTH:
                raise ConfigError(
                    f"--api-keys-file: keys must have >= {MIN_LENGTH} characters; key {number} has {len(key)}"
                )
        return tuple(_hash(key) for key in keys)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
