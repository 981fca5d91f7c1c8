"""Waiting for what a cluster does in its own time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    check: Callable[[], T],
    *,
    within_s: float,
    every_s: float = 0.2,
    tolerate: tuple[type[Exception], ...] = (AssertionError,),
) -> T:
    """The first true value of `check()`, tried every `every_s` seconds.

    Exceptions of the types `tolerate` count as "not yet". Raises AssertionError with the last value or exception
    once `within_s` seconds are over.
    """
    end = time.monotonic() + within_s
    while True:
        last: object
        try:
            value = check()
        except tolerate as error:
            last = error
        else:
            if value:
                return value
            last = value
        if time.monotonic() > end:
            raise AssertionError(f"not within {within_s:g} s; last seen: {last!r}")
        time.sleep(every_s)
