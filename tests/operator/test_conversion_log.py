"""The converter's log, as the operator reads it; the lines are those that the converter writes."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from glm_cli.progress import LineMeter
from glm_operator.conversion import Conversion, read_log


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", Conversion(), id="nothing yet"),
        pytest.param("Traceback\n  boom", Conversion(), id="something else"),
        pytest.param(
            "waiting: another process makes the same artifact", Conversion("another pod makes it"), id="waits"
        ),
        pytest.param("done: 1 GB\n/artifacts/0a1b2c\n", Conversion(None, "0a1b2c"), id="done"),
    ],
)
def test_lines(text: str, expected: Conversion) -> None:
    assert read_log(text) == expected


def test_the_converters_own_lines_are_understood() -> None:
    out = io.StringIO()
    meter = LineMeter(Console(file=out, width=200))
    meter.begin("converting", 1000, 8)
    meter.shard(2)
    meter.done, meter._began_bytes = 450, 0
    meter.show(force=True)
    progress = read_log(out.getvalue()).progress
    assert progress is not None
    assert progress.startswith("45%, shard 3/8, ")
    assert progress.endswith("left")
