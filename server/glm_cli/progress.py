"""Draws a job's progress: a bar on a terminal, plain lines elsewhere, a JSON file for the operator."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as RichProgress

from glm_engine.fsio import gigabytes, write_json
from glm_engine.progress import Progress

_LINE_EVERY_S: Final = 10.0
_FILE_EVERY_S: Final = 1.0


class Meter(Progress):
    """Counts, and derives speed and remaining time; subclasses show them in ``show``."""

    def __init__(self, file: Path | None = None) -> None:
        self.phase, self.done, self.total, self.index, self.shards = "checking", 0, 0, 0, 0
        self._file = file
        self._file_written_s = -_FILE_EVERY_S
        self._began_s = time.monotonic()
        self._began_bytes = 0
        self._write_file()

    @property
    def elapsed_s(self) -> float:
        """Seconds since this phase began."""
        return time.monotonic() - self._began_s

    @property
    def speed(self) -> float:
        """Bytes per second in this phase."""
        return (self.done - self._began_bytes) / max(self.elapsed_s, 1e-3)

    @property
    def eta_s(self) -> int | None:
        """Seconds that remain at this speed; None while nothing is done."""
        return round((self.total - self.done) / self.speed) if self.speed > 0 else None

    def begin(self, phase: str, bytes_total: int, shards: int, bytes_done: int = 0) -> None:
        self.phase, self.total, self.shards, self.done = phase, bytes_total, shards, bytes_done
        self._began_s, self._began_bytes = time.monotonic(), bytes_done
        self._update(force=True)

    def shard(self, index: int) -> None:
        self.index = index
        self._update()

    def advance(self, count: int) -> None:
        self.done += count
        self._update()

    def waiting(self, seconds: float) -> None:
        first = self.phase != "waiting"
        self.phase = "waiting"
        self._update(force=first)

    def end(self, phase: str) -> None:
        self.phase = phase
        self._update(force=True)

    def show(self, force: bool) -> None:
        """Show the numbers; ``force`` at the first and last time of a phase."""

    def close(self) -> None:
        """Nothing more will be shown."""

    def _update(self, force: bool = False) -> None:
        self.show(force)
        if force or time.monotonic() - self._file_written_s >= _FILE_EVERY_S:
            self._write_file()

    def _write_file(self) -> None:
        if self._file is None:
            return
        self._file_written_s = time.monotonic()
        numbers = {
            "phase": self.phase,
            "bytes_done": self.done,
            "bytes_total": self.total,
            "shard": self.index,
            "shards": self.shards,
            "eta_s": self.eta_s if self.phase == "converting" else None,
        }
        with suppress(OSError):  # a full disk must be reported by the conversion, not hidden by its progress
            write_json(self._file, numbers)


class LineMeter(Meter):
    """Plain lines: the first, the last, and one every ten seconds."""

    def __init__(self, console: Console, file: Path | None = None) -> None:
        self._console = console
        self._shown_s = time.monotonic()
        super().__init__(file)

    def show(self, force: bool) -> None:
        if not force and time.monotonic() - self._shown_s < _LINE_EVERY_S:
            return
        self._shown_s = time.monotonic()
        self._console.print(self._line(), highlight=False, markup=False, soft_wrap=True)

    def _line(self) -> str:
        if self.phase == "waiting":
            return "waiting: another process makes the same artifact"
        if self.phase == "reused":
            return "reused: the artifact is there already"
        if self.phase == "done":
            return f"done: {gigabytes(self.done)} in {self.elapsed_s:.1f} s ({gigabytes(self.speed)}/s)"
        if self.done == self._began_bytes:
            kept = f", {gigabytes(self.done)} kept from an earlier run" if self.done else ""
            return f"{self.phase}: {gigabytes(self.total)} in {self.shards} shards{kept}"
        return (
            f"{self.phase}: shard {self.index + 1}/{self.shards}, {gigabytes(self.done)} of {gigabytes(self.total)} "
            f"({100 * self.done / max(self.total, 1):.0f}%), {gigabytes(self.speed)}/s, {self.eta_s} s left"
        )


class BarMeter(LineMeter):
    """A bar with size, speed, remaining time and shard; single lines for the rest."""

    def __init__(self, console: Console, file: Path | None = None) -> None:
        self._bar: RichProgress | None = None
        self._task = TaskID(0)
        super().__init__(console, file)

    def show(self, force: bool) -> None:
        if self.phase != "converting":
            self.close()
            super().show(force)
            return
        if self._bar is None:
            self._bar = _make_bar(self._console)
            self._task = self._bar.add_task("converting", total=self.total, completed=self._began_bytes, shard="")
            self._bar.start()
        self._bar.update(self._task, completed=self.done, shard=f"shard {self.index + 1}/{self.shards}")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _make_bar(console: Console) -> RichProgress:
    columns: list[Any] = [
        TextColumn("{task.description} {task.fields[shard]}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    ]
    return RichProgress(*columns, console=console)


@contextmanager
def meter(file: Path | None) -> Iterator[Meter]:
    """The meter that fits stderr; whatever ends the job without ``end`` is recorded as "failed"."""
    console = Console(stderr=True)
    shown: Meter = BarMeter(console, file) if console.is_terminal else LineMeter(console, file)
    try:
        yield shown
    except BaseException:
        shown.close()
        shown.phase = "failed"
        shown._write_file()
        raise
    shown.close()
