"""The life of a serving process: loading, readiness, SIGTERM in every phase, failures; over the fake engine."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from server_support import toy_config, wait_until, write_artifact

PROGRAM = Path(__file__).with_name("serving_process.py")


class Process:
    """A serving process and its two ports."""

    def __init__(self, folder: Path, tokenizer: Path, **settings: Any) -> None:
        size = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer)).vocab_size()
        model = toy_config(num_text_tokens=size, eos=2)
        write_artifact(folder, model)
        config = {"artifact": str(folder), "tokenizer": str(tokenizer), **settings.pop("config", {})}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", str(PROGRAM), json.dumps({"config": config, **settings})],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+) \(management port (\d+)\)", line)
        assert found, line + self._process.communicate()[1]
        self.port, self.management_port = int(found[1]), int(found[2])

    def call(self, method: str, path: str, body: Any = None, management: bool = False) -> tuple[int, Any]:
        port = self.management_port if management else self.port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            text = response.read().decode()
            return response.status, json.loads(text) if text.startswith("{") else text
        finally:
            connection.close()

    def wait_ready(self) -> None:
        wait_until(lambda: self.call("GET", "/readyz", management=True)[0] == 200)

    def signal(self, number: int = signal.SIGTERM) -> None:
        self._process.send_signal(number)

    def end(self, timeout_s: float) -> tuple[int, str]:
        """Exit code and stderr."""
        _, stderr = self._process.communicate(timeout=timeout_s)
        return self._process.returncode, stderr

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


StartProcess = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path, sp_model: Path) -> Iterator[StartProcess]:
    started: list[Process] = []

    def make(**settings: Any) -> Process:
        started.append(Process(tmp_path, sp_model, **settings))
        return started[-1]

    yield make
    for process in started:
        process.kill()


def in_background(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    return thread, results


def test_idle_life(start: StartProcess) -> None:
    process = start(length=3)
    process.wait_ready()
    status, body = process.call("POST", "/generate", {"text": "The capital of [MASK] is Paris."})
    assert status == 200
    assert body["finish_reasons"] == [["stop"]]
    status, text = process.call("GET", "/metrics", management=True)
    assert status == 200
    for line in (
        "glm_ready 1.0",
        'glm_requests_total{finish_reason="stop"} 1.0',
        'glm_http_requests_total{method="POST",route="/generate",status="200"} 1.0',
        'glm_model_info{backend="cpu",digest="abc",model="glm-130b",precision="int8",tp="2"} 1.0',
        "glm_kv_blocks_live 0.0",
    ):
        assert line in text
    assert process.call("GET", "/metrics")[0] == 404  # not on the API's port
    process.signal()
    code, stderr = process.end(5)
    assert code == 0, stderr
    assert all(json.loads(line) for line in stderr.splitlines())


def test_sigterm_while_loading(start: StartProcess) -> None:
    process = start(load_s=60)
    assert process.call("GET", "/livez", management=True) == (200, {"status": "alive", "phase": "loading"})
    assert process.call("GET", "/readyz", management=True)[0] == 503
    status, body = process.call("POST", "/generate", {"text": "x"})
    assert (status, body["error"]["code"]) == (503, "loading")
    process.signal()
    assert process.end(5)[0] == 0


def test_sigterm_finishes_what_runs(start: StartProcess) -> None:
    process = start(length=20, faults={"step_s": 0.05})
    process.wait_ready()
    thread, results = in_background(lambda: process.call("POST", "/generate", {"text": "Paris"}))
    wait_until(lambda: "glm_requests_running 1.0" in process.call("GET", "/metrics", management=True)[1])
    process.signal()
    wait_until(lambda: process.call("GET", "/readyz", management=True)[0] == 503)
    assert process.call("GET", "/livez", management=True)[0] == 200
    status, body = process.call("POST", "/generate", {"text": "Paris"})
    assert (status, body["error"]["code"]) == (503, "draining")
    thread.join()
    assert results[0][0] == 200
    assert process.end(5)[0] == 0


def test_sigterm_turns_away_what_waits(start: StartProcess) -> None:
    process = start(length=20, faults={"step_s": 0.05}, config={"max_batch_size": 1})
    process.wait_ready()
    running, first = in_background(lambda: process.call("POST", "/generate", {"text": "Paris"}))
    wait_until(lambda: "glm_requests_running 1.0" in process.call("GET", "/metrics", management=True)[1])
    waiting, second = in_background(lambda: process.call("POST", "/generate", {"text": "Rome"}))
    wait_until(lambda: "glm_requests_waiting 1.0" in process.call("GET", "/metrics", management=True)[1])
    process.signal()
    waiting.join()
    assert running.is_alive()
    assert (second[0][0], second[0][1]["error"]["code"]) == (503, "draining")
    running.join()
    assert first[0][0] == 200
    assert process.end(5)[0] == 0


def test_drain_is_bounded(start: StartProcess) -> None:
    process = start(faults={"step_s": 0.2}, config={"drain_timeout": 0.5})
    process.wait_ready()
    thread, results = in_background(lambda: process.call("POST", "/generate", {"text": "Paris"}))
    wait_until(lambda: "glm_requests_running 1.0" in process.call("GET", "/metrics", management=True)[1])
    began = time.monotonic()
    process.signal(signal.SIGINT)
    code, stderr = process.end(6)
    assert code == 0, stderr
    assert time.monotonic() - began < 5
    thread.join()
    assert (results[0][0], results[0][1]["error"]["code"]) == (503, "draining")


def test_second_signal_leaves_at_once(start: StartProcess) -> None:
    process = start(faults={"step_s": 0.2})
    process.wait_ready()
    thread, results = in_background(lambda: _ignore_disconnect(process))
    wait_until(lambda: "glm_requests_running 1.0" in process.call("GET", "/metrics", management=True)[1])
    process.signal()
    wait_until(lambda: process.call("GET", "/readyz", management=True)[0] == 503)
    process.signal()
    assert process.end(3)[0] == 1
    thread.join()
    assert results == ["gone"]


def _ignore_disconnect(process: Process) -> Any:
    try:
        return process.call("POST", "/generate", {"text": "Paris"})
    except (OSError, http.client.HTTPException):
        return "gone"


@pytest.mark.parametrize(
    ("faults", "reason"),
    [({"crash_after": 5}, "the fake engine crashed"), ({"hang_after": 5}, "no step ended for 1 s")],
    ids=["crash", "hang"],
)
def test_lost_engine_ends_the_process(start: StartProcess, faults: dict[str, int], reason: str) -> None:
    process = start(faults=faults, config={"step_deadline_s": 1})
    process.wait_ready()
    status, body = process.call("POST", "/generate", {"text": "Paris"})
    assert (status, body["error"]["code"]) == (503, "engine_failed")
    code, stderr = process.end(5)
    assert code == 1
    assert reason in stderr


def test_engine_that_cannot_step_is_never_ready(start: StartProcess) -> None:
    process = start(faults={"nan_after": 0})
    code, stderr = process.end(10)
    assert code == 1
    assert "the warm-up failed: the logits are not finite" in stderr
