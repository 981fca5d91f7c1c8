"""Which resource is looked at next: each key waits once, is worked on by one thread at a time, and may be due later."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

K = TypeVar("K")

#: Back-off of a key whose work failed, in seconds: doubled each time.
_FIRST_S: Final = 0.5
_LONGEST_S: Final = 60.0


class WorkQueue(Generic[K]):
    """Keys by the time at which they are due. Safe for threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0
        self._working: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._open = True

    def add(self, key: K, after_s: float = 0.0) -> None:
        """The key is due in ``after_s`` seconds, or earlier if it is already."""
        with self._changed:
            at = self._clock() + after_s
            if at >= self._due.get(key, float("inf")):
                return
            self._due[key] = at
            self._count += 1
            heapq.heappush(self._heap, (at, self._count, key))
            self._changed.notify()

    def take(self) -> K | None:
        """The next key that is due and that nobody works on; waits for one. None once the queue is closed."""
        with self._changed:
            while self._open:
                now, later = self._clock(), []
                found = None
                while self._heap and self._heap[0][0] <= now:
                    entry = heapq.heappop(self._heap)
                    at, _, key = entry
                    if self._due.get(key) != at:
                        continue  # moved to an earlier time since
                    if key in self._working:
                        later.append(entry)
                        continue
                    found = key
                    break
                for entry in later:
                    heapq.heappush(self._heap, entry)
                if found is not None:
                    del self._due[found]
                    self._working[found] = now
                    return found
                first = self._heap[0][0] - now if self._heap and not later else None
                self._changed.wait(first)
            return None

    def done(self, key: K, *, failed: bool = False) -> None:
        """The work on the key has ended; a failed one is due again, later each time."""
        with self._changed:
            self._working.pop(key, None)
            count = self._failures.pop(key, 0)
            if failed:
                self._failures[key] = count + 1
            self._changed.notify_all()
        if failed:
            self.add(key, min(_FIRST_S * 2.0**count, _LONGEST_S))

    def close(self) -> None:
        """Let all who wait go."""
        with self._changed:
            self._open = False
            self._changed.notify_all()

    def __len__(self) -> int:
        with self._changed:
            return len(self._due)

    def overdue_s(self) -> float:
        """Seconds that the key which waits or is worked on longest has done so."""
        with self._changed:
            now = self._clock()
            times = [*self._due.values(), *self._working.values()]
            return max((now - at for at in times), default=0.0)
