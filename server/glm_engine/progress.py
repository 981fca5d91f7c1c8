"""What a long job tells about itself. The engine reports through this seam; the program draws it."""

from __future__ import annotations


class Progress:
    """Receives the steps of a job; this one ignores them."""

    def begin(self, phase: str, bytes_total: int, shards: int, bytes_done: int = 0) -> None:
        """A phase begins: ``bytes_done`` of its ``bytes_total`` were there already."""

    def shard(self, index: int) -> None:
        """Shard ``index`` (from 0) is worked on now."""

    def advance(self, count: int) -> None:
        """``count`` more bytes are done."""

    def waiting(self, seconds: float) -> None:
        """Another process has had the lock for ``seconds`` since we came."""

    def end(self, phase: str) -> None:
        """The job is over: ``phase`` is "done" or "reused"."""
