"""`glmctl up` as a person runs it: a process of its own, with a stand-in for the image's programs."""

from __future__ import annotations

import http.client
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from operator_builders import DIMENSIONS, document

STANDIN = Path(__file__).parent / "standin"
PATIENCE_S = 60


@dataclass
class Up:
    """One `glmctl up` and what it printed so far."""

    folder: Path
    popen: subprocess.Popen[bytes]
    stream: int
    text: str = ""
    state: Path = field(init=False)

    def __post_init__(self) -> None:
        self.state = self.folder / "state"

    def until(self, wanted: str) -> str:
        """Read until ``wanted`` appears; everything read so far."""
        while wanted not in self.text:
            try:
                data = os.read(self.stream, 65536)
            except OSError:  # a terminal whose other side is closed
                data = b""
            if not data:
                pytest.fail(f"ended without {wanted!r}; it printed:\n{self.text}")
            self.text += data.decode()
        return self.text

    def end(self, number: int) -> int:
        """Send a signal, read the rest, return the exit code."""
        self.popen.send_signal(number)
        return self.rest()

    def rest(self) -> int:
        """Read until it ends; the exit code."""
        while True:
            try:
                data = os.read(self.stream, 65536)
            except OSError:
                break
            if not data:
                break
            self.text += data.decode()
        return self.popen.wait(PATIENCE_S)

    @property
    def url(self) -> str:
        """The URL that it printed."""
        match = re.search(r"http://127\.0\.0\.1:\d+", self.until("ready after"))
        assert match
        return match[0]


class Starter:
    """Starts `glmctl up` on resources written to a folder, and ends what a failed test leaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[Up] = []
        sample = folder / "sample"
        sample.mkdir()
        (sample / "latest").write_text("49300")
        (sample / "tokenizer.model").write_text("model")

    def write(self, env: dict[str, str] | None = None, **spec: Any) -> Path:
        doc = document(
            backend="cpu",
            model={"preset": "glm-sample"},
            checkpoint={"claim": "weights"},
            tokenizer={"path": "tokenizer.model"},
            tensorParallelSize=2,
            precision="int8",
            pod={
                "env": [{"name": k, "value": v} for k, v in (env or {}).items()],
                "terminationGracePeriodSeconds": 30,
            },
        )
        doc["spec"].update(spec)
        doc["metadata"]["annotations"] = {
            "serving.glm.io/local-volumes": "weights: sample",
            "serving.glm.io/sample-prompts": "- one [MASK]\n- 二 [MASK]\n",
        }
        path = self.folder / "resource.yaml"
        path.write_text(yaml.safe_dump(doc, allow_unicode=True), encoding="utf-8")
        return path

    def __call__(self, path: Path, *options: str, tty: bool = False) -> Up:
        command = [sys.executable, "-m", "glm_operator", "up", str(path), "--programs", str(STANDIN)]
        command += ["--state", str(self.folder / "state"), "--port", "0", *options]
        stream, sink = pty.openpty() if tty else os.pipe()
        popen = subprocess.Popen(command, stdout=sink, stderr=sink, env=os.environ | {"GLM_OF_THE_USER": "1"})
        os.close(sink)
        up = Up(self.folder, popen, stream)
        self.running.append(up)
        return up

    def close(self) -> None:
        for up in self.running:
            up.popen.kill()
            up.popen.wait()
            os.close(up.stream)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(tmp_path)
    yield starter
    starter.close()


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def eventually_gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not all(map(gone, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def read_pids(path: Path) -> list[int]:
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return [int(word) for word in path.read_text().split()]


def ask(url: str, text: str) -> str:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE_S)
    try:
        connection.request("POST", "/generate", json.dumps({"text": text}))
        return str(json.load(connection.getresponse())["text"][0])
    finally:
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_from_file_to_answers_and_nothing_left(start: Starter, tmp_path: Path, number: int) -> None:
    pids = tmp_path / "sample/pids"
    up = start(start.write({"STANDIN_PIDS": "pids", "STANDIN_DRAIN": "0.3"}))
    text = up.until("Ctrl-C ends it.")
    for expected in (
        "2 shards in int8",
        "convert | converted",
        "one [MASK]\n  -> answer to one [MASK]",
        "二 [MASK]\n  -> answer to 二 [MASK]",
        f"curl -s {up.url}/generate",
    ):
        assert expected in text
    assert ask(up.url, "x") == "answer to x"
    assert up.end(number) == 0
    assert "serve | draining\nserve | drained\n" in up.text
    assert eventually_gone(read_pids(pids))
    assert sorted(p.relative_to(up.state).as_posix() for p in up.state.rglob("*")) == [
        "artifacts",
        "artifacts/49300-2-8",
    ]


def test_the_second_run_reuses_the_artifact(start: Starter) -> None:
    path = start.write()
    first = start(path)
    first.until("ready after")
    assert first.end(signal.SIGINT) == 0
    second = start(path)
    second.until("convert | reused")
    second.until("ready after")
    assert second.end(signal.SIGINT) == 0


def test_kill_9_leaves_no_process_and_the_next_run_tidies_up(start: Starter, tmp_path: Path) -> None:
    pids = tmp_path / "sample/pids"
    up = start(start.write({"STANDIN_PIDS": "pids"}))
    up.until("ready after")
    up.popen.kill()
    assert eventually_gone(read_pids(pids))
    assert len(list((up.state / "run").iterdir())) == 1
    again = start(start.write())
    again.until("ready after")
    assert len(list((up.state / "run").iterdir())) == 1
    assert again.end(signal.SIGINT) == 0
    assert not (up.state / "run").exists()


def test_a_crashed_server_is_started_again_at_the_same_url(start: Starter, tmp_path: Path) -> None:
    pids = tmp_path / "sample/pids"
    up = start(start.write({"STANDIN_PIDS": "pids"}))
    url = up.url
    first = read_pids(pids)
    pids.unlink()
    os.kill(first[0], signal.SIGKILL)
    up.until("serve: killed by signal 9; restarted in 1 s")
    second = read_pids(pids)
    assert eventually_gone(first)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            assert ask(url, "y") == "answer to y"
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert up.end(signal.SIGINT) == 0
    assert eventually_gone(second)


def test_a_failed_conversion_ends_with_its_message(start: Starter) -> None:
    up = start(start.write({"STANDIN_EXIT": "1"}))
    assert up.rest() == 1
    assert "convert | glm: error: torn shard\n" in up.text
    assert "glmctl: error: convert: ended with exit code 1; its last lines above say why" in up.text
    assert not (up.state / "run").exists()


def test_a_killed_conversion_is_tried_again(start: Starter) -> None:
    up = start(start.write({"STANDIN_KILL_ONCE": "once"}))
    up.until("ready after")
    assert "convert: killed by signal 9; attempt 2 of 3 in 1 s\n" in up.text
    assert up.end(signal.SIGINT) == 0


def test_ctrl_c_during_the_conversion(start: Starter) -> None:
    up = start(start.write({"STANDIN_SLOW": "1000"}))
    up.until("convert | ")
    assert up.end(signal.SIGINT) == 0
    assert not (up.state / "run").exists()


def test_a_second_ctrl_c_does_not_wait_for_the_drain(start: Starter, tmp_path: Path) -> None:
    pids = tmp_path / "sample/pids"
    up = start(start.write({"STANDIN_PIDS": "pids", "STANDIN_DRAIN": "1000"}))
    up.until("ready after")
    up.popen.send_signal(signal.SIGINT)
    up.until("serve | draining")
    assert up.end(signal.SIGINT) == 0
    assert eventually_gone(read_pids(pids))


def test_a_terminal_shows_the_containers_own_terminal(start: Starter) -> None:
    up = start(start.write(), tty=True)
    text = up.until("Ctrl-C ends it.")
    assert re.search(r"convert \|\x1b\[22m terminal \d+", text)
    assert up.end(signal.SIGINT) == 0
    assert up.text.endswith("\x1b[?25h")


def test_own_dimensions_reach_the_converter_as_a_file(start: Starter) -> None:
    up = start(start.write(model={"dimensions": DIMENSIONS}))
    up.until("ready after")
    (model,) = up.state.glob("run/*/config/model.json")
    assert json.loads(model.read_text())["special_ids"]["eos"] == 508
    assert up.end(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        pytest.param({"replicas": -1}, (), "spec.replicas: should be greater than or equal to 0; got -1", id="field"),
        pytest.param(
            {"checkpoint": {"claim": "other"}},
            (),
            "claim other: no folder stands for it on this machine; give --volume other=FOLDER,",
            id="claim without a folder",
        ),
        pytest.param({}, ("--volume", "weights=/nowhere"), "claim weights: /nowhere: is not a folder", id="no folder"),
        pytest.param({}, ("--volume", "weights"), "must be CLAIM=FOLDER; got 'weights'", id="option"),
    ],
)
def test_refusals_of_up(start: Starter, spec: dict[str, Any], options: tuple[str, ...], message: str) -> None:
    up = start(start.write(**spec), *options)
    assert up.rest() in (1, 2)
    assert message in up.text
    assert not (up.state / "run").exists()


def test_a_taken_port_is_named(start: Starter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        up = start(start.write(), "--port", str(port))
        assert up.rest() == 1
    assert f"--port {port}: Address already in use; give another one, or 0 for any that is free" in up.text
