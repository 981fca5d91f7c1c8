"""What the last lines of the converting container's log say: how far it is, or which artifact it made. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from glm_operator import names

#: `converting: shard 3/8, 1.2 GB of 2.6 GB (45%), 0.1 GB/s, 30 s left`
_LINE: Final = re.compile(
    r"^(?P<phase>\w+): shard (?P<shard>\d+/\d+), .*\((?P<percent>\d+)%\), (?P<speed>[^,]+), (?P<left>\d+) s left$"
)
_DIGEST: Final = re.compile(rf"^{names.PATH_ARTIFACTS}/(?P<digest>[0-9a-zA-Z_-]+)$")
#: Lines of the log that are enough to find either.
TAIL: Final = 5


@dataclass(frozen=True)
class Conversion:
    """``progress`` : for people; ``digest`` : of the artifact, once it is whole."""

    progress: str | None = None
    digest: str | None = None


def read_log(text: str) -> Conversion:
    """What the end of the log says; the latest line counts."""
    progress = digest = None
    for line in text.splitlines():
        if match := _LINE.match(line.strip()):
            progress = f"{match['percent']}%, shard {match['shard']}, {match['speed']}, {_duration(int(match['left']))}"
        elif line.startswith("waiting: "):
            progress = "another pod makes it"
        elif match := _DIGEST.match(line.strip()):
            digest = match["digest"]
    return Conversion(progress, digest)


def _duration(seconds: int) -> str:
    minutes = -(-seconds // 60)
    return f"{seconds} s left" if seconds < 120 else f"{minutes} min left"
