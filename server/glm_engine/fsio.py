"""Files that appear whole or not at all, and disk errors that say what to do."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from glm_engine.errors import StorageError

#: ENOSPC: the disk; EDQUOT: the user's share of it; EFBIG: the largest file allowed
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def gigabytes(size: float) -> str:
    """A size for people, e.g. ``"67.5 GB"`` (powers of 1000, as disks are sold)."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:.0f} B"


def fsync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file so that a reader sees the old content or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_json(path: Path, value: Any) -> None:
    """``write_whole`` of a JSON document, indented for people."""
    write_whole(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written where ``folder`` is or will be."""
    while not folder.exists():
        folder = folder.parent
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def require_space(folder: Path, needed: int) -> None:
    """Raise ``StorageError`` unless ``needed`` more bytes fit where ``folder`` is or will be."""
    free = free_bytes(folder)
    if needed > free:
        raise StorageError(
            f"{folder}: needs {gigabytes(needed)} ({needed} bytes) of free space, has {gigabytes(free)} ({free} "
            f"bytes); free {gigabytes(needed - free)} more or choose another output folder. Nothing was written"
        )


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` of writing below ``path`` into a ``StorageError``."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageError(
                f"{path}: no room to go on writing ({error.strerror}); {gigabytes(free_bytes(path))} free. Make room "
                "and run the same command again: what is finished is kept"
            ) from error
        raise StorageError(
            f"{error.filename or path}: cannot be written: {error.strerror}; the folder must be writable"
        ) from error


@contextmanager
def no_temporaries(folder: Path) -> Iterator[None]:
    """Before and after the work within, remove the temporary files in ``folder``; for the one process that works there.

    Before: a killed run leaves its own. After: a signal may come just between making one and minding it.
    """
    _remove_temporaries(folder)
    try:
        yield
    finally:
        _remove_temporaries(folder)


def _remove_temporaries(folder: Path) -> None:
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)
