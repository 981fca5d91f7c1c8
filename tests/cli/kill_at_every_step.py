"""Run `glm convert` again and again, each time killed (SIGKILL) at its next operation on files; helper of a test.

Usage: kill_at_every_step.py OUTPUT CONVERT-ARGUMENTS...
Run k works in the folder OUTPUT/<k>. Prints how many runs were killed before one came through.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

WRITING_EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir", "fcntl.flock"}


def die_at(step: int) -> None:
    """Arm this process: the operation number ``step`` that changes files is its last moment."""
    left = step

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, args: tuple[Any, ...]) -> None:
        opened_to_write = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if opened_to_write or event in WRITING_EVENTS:
            count()

    fsync = os.fsync

    def counted_fsync(fd: int) -> None:
        count()
        fsync(fd)

    os.fsync = counted_fsync  # no audit event tells of it
    sys.addaudithook(audit)


def main() -> None:
    # imported before the fork, so that a run takes milliseconds
    import torch  # noqa: F401

    from glm_cli import cli, convert  # noqa: F401

    output, arguments = Path(sys.argv[1]), sys.argv[2:]
    step = 0
    while True:
        child = os.fork()
        if child == 0:
            die_at(step)
            cli(["convert", *arguments, "--output-folder", str(output / str(step))])
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            sys.exit(os.WEXITSTATUS(status) if os.WEXITSTATUS(status) else print(step))
        step += 1


if __name__ == "__main__":
    main()
