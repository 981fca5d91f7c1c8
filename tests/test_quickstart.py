"""The README's main job with the real programs: a resource's file to answers, Ctrl-C, and a second start."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "manifests" / "samples" / "quickstart.yaml"
#: Seconds; the machine may be busy with other tests.
PATIENCE = 120


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """What a test starts goes here: a test that fails leaves none of it running."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE)


def start(state: Path, processes: list[subprocess.Popen[str]]) -> tuple[subprocess.Popen[str], str]:
    """`glmctl up` until it says that Ctrl-C ends it: the process and what it printed."""
    glmctl = Path(sys.executable).with_name("glmctl")
    process = subprocess.Popen(
        [glmctl, "up", QUICKSTART, "--port", "0", "--state", state],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(state.parent)},
    )
    processes.append(process)
    assert process.stdout is not None
    printed, deadline = "", time.monotonic() + PATIENCE
    for line in process.stdout:
        printed += line
        if "Ctrl-C ends it" in line or time.monotonic() > deadline:
            return process, printed
    raise AssertionError(f"glmctl ended with {process.wait()}: {printed}")


def stop(process: subprocess.Popen[str]) -> str:
    """Ctrl-C; what was printed after it. No process and no temporary folder is left."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, rest
    assert not [child for child in family if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    return rest


def ask(url: str, text: str) -> list[str]:
    body = json.dumps({"text": text, "topk": 1, "out_seq_length": 40}).encode()
    with urllib.request.urlopen(f"{url}/generate", body, timeout=PATIENCE) as response:  # noqa: S310 - our own URL
        answers: list[str] = json.loads(response.read())["answers"]
        return answers


@pytest.mark.timeout(3 * PATIENCE)
def test_the_quickstart_answers_and_leaves_only_its_artifact(
    tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    process, printed = start(state, processes)
    url = re.findall(r"http://127\.0\.0\.1:\d+", printed)[-1]
    assert "converting" in printed
    assert "Oslo" in printed
    assert "奥斯陆" in printed
    assert f"curl -s {url}/generate" in printed
    # The pieces around a blank are tokenized apart, as in the original: hence the spaces.
    english, chinese = ask(url, "The capital of France is [MASK].\n法国的首都是[MASK]。")
    assert (english, chinese) == ("The capital of France is Paris .", "法国的首都是 巴黎 。")
    stop(process)
    assert {path.name for path in tmp_path.iterdir()} == {"state"}
    process, printed = start(state, processes)
    assert "reused" in printed
    stop(process)
