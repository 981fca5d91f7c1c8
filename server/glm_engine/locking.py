"""A lock between processes that dies with its holder: ``flock`` on a file that is gone when nobody needs it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from glm_engine.errors import StorageError

_POLL_S: Final = 0.2


@contextmanager
def exclusive(path: Path, waiting: Callable[[float], None]) -> Iterator[None]:
    """Hold the lock ``path``; while another process has it, ``waiting(seconds)`` is called now and then.

    Raises ``StorageError`` on a file system that has no locks.
    """
    began = time.monotonic()
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            while not _try(fd, path):
                waiting(time.monotonic() - began)
                time.sleep(_POLL_S)
            if _is_current(fd, path):
                break
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # its last holder removed the file after we had opened it: the lock is on nothing
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(fd)


def _try(fd: int, path: Path) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StorageError(
            f"{path}: this file system has no locks ({error.strerror}), so two conversions could collide; choose an "
            "output folder on another one"
        ) from error
    return True


def _is_current(fd: int, path: Path) -> bool:
    try:
        return os.fstat(fd).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False
