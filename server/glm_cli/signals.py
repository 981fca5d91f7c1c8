"""SIGTERM as an exception, so that a job cleans up on its way out; the exit code tells which signal it was."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


@contextmanager
def orderly_exit() -> Iterator[None]:
    """Within it, SIGTERM ends with exit code 143 and SIGINT with 130, after all cleaning up."""
    before = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
