"""Helpers of the server's tests: a toy tokenizer and the golden cases."""

from __future__ import annotations

import json
import re
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from glm_engine.config import ModelConfig
from glm_engine.fake import Answer, FakeEngine
from glm_engine.request import Engine, Request
from glm_server.app import create_app, create_management_app
from glm_server.config import ServerConfig
from glm_server.lifecycle import Runtime
from glm_server.service import Service
from glm_server.state import new_state
from glm_server.tokenizer import Tokenizer
from golden_micro import GOLDEN, SMALL_ZIP


class ToyText:
    """The golden cases' text: ``w123 w7`` is the tokens 123 and 7."""

    def __init__(self, size: int, eos: int) -> None:
        self._size, self._eos = size, eos

    def size(self) -> int:
        return self._size

    def eos_id(self) -> int:
        return self._eos

    def has_piece(self, piece: str) -> bool:
        return False

    def encode(self, text: str) -> list[int]:
        return [int(token) for token in re.findall(r"w(\d+)", text)]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(f"w{token} " for token in ids)


def toy_config(num_text_tokens: int = 240, eos: int = 20, max_sequence_length: int = 128) -> ModelConfig:
    names = ("[MASK]", "[gMASK]", "[sMASK]", "eod", "sop", "eop", "ENC", "dBLOCK")
    return ModelConfig(
        num_layers=2,
        hidden_size=64,
        num_attention_heads=8,
        inner_hidden_size=176,
        vocab_size=num_text_tokens + 16,
        num_text_tokens=num_text_tokens,
        max_sequence_length=max_sequence_length,
        layernorm_eps=1e-5,
        special_ids={name: num_text_tokens + i for i, name in enumerate(names)} | {"eos": eos},
    )


def write_artifact(folder: Path, model: ModelConfig, **changes: Any) -> None:
    """An artifact as far as a fake engine needs one: a manifest and files of no bytes."""
    ranks = [{"file": f"rank_{rank:02}.safetensors", "bytes": 0, "blake3": ""} for rank in range(2)]
    for rank in ranks:
        (folder / str(rank["file"])).touch()
    manifest = {
        "format": "glm-artifact",
        "layout_version": 1,
        "digest": "abc",
        "model": model.to_dict(),
        "tensor_parallel_size": 2,
        "precision": "int8",
        "source": {"iteration": "49300", "tensor_parallel_size": 2, "identity": "x"},
        "ranks": ranks,
        "tool_version": "0",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest | changes), encoding="utf-8")


def golden_cases() -> list[str]:
    """The cut in the repository, and a larger case where ``GLM_GOLDEN`` names the folder."""
    return ["micro", "tiny"]


def read_golden(case: str) -> dict[str, Any]:
    """A case's expectations."""
    if case == "micro":
        with zipfile.ZipFile(SMALL_ZIP) as container:
            data: dict[str, Any] = json.loads(container.read("example_micro/expected.json"))
            return data
    if GOLDEN is None:
        pytest.skip("GLM_GOLDEN names no folder of golden cases")
    return dict(json.loads((GOLDEN / case / "expected.json").read_text(encoding="utf-8")))


class Harness:
    """The API over a fake engine, without sockets."""

    def __init__(self, tokenizer: Tokenizer | None = None, **engine: Any) -> None:
        self.model: ModelConfig = engine.pop("model", toy_config())
        settings = engine.pop("settings", {})
        real: Engine | None = engine.pop("real", None)
        self.engine: Any = real or FakeEngine(self.model, **engine)
        self.failures: list[str] = []
        self.config = ServerConfig(max_batch_size=engine.get("max_batch_size", 8), **settings)
        self.state = new_state(self.config)
        service = Service(
            self.engine,
            self.state.metrics,
            step_deadline_s=self.config.step_deadline_s,
            on_failure=self._on_failure,
        )
        service.start()
        toy = ToyText(self.model.num_text_tokens, self.model.special_ids["eos"])
        self.runtime = Runtime(
            service=service,
            tokenizer=tokenizer or Tokenizer(toy, self.model),
            model=self.model,
            name="toy",
            digest="d" * 16,
            precision="fp16",
            tensor_parallel_size=1,
            backend="cpu",
            max_sequence_length=self.model.max_sequence_length,
            max_batch_size=self.config.max_batch_size,
        )
        self.state.lifecycle.loaded(self.runtime)
        self.state.lifecycle.serve()
        self.app = create_app(self.state)
        self.client = self.app.test_client()
        self.management = create_management_app(self.state).test_client()

    @property
    def service(self) -> Service:
        return self.runtime.service

    def metric(self, name: str, **labels: str) -> float:
        """A sample's value; 0 where there is none."""
        return self.state.metrics.registry.get_sample_value(f"glm_{name}", labels) or 0.0

    def close(self) -> None:
        self.service.close()

    def _on_failure(self, reason: str) -> None:
        self.failures.append(reason)
        self.state.lifecycle.fail(reason)


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Fail the test unless ``condition`` comes true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.005)


def scripted(*answers: Sequence[int]) -> Answer:
    """A fake engine's answers: the n-th prompt that is new gets the n-th script, choices and beams alike."""
    seen: dict[tuple[int, ...], Sequence[int]] = {}

    def answer(request: Request, index: int, tokens: Sequence[int]) -> int:
        prompt = tuple(request.prompt.ids)
        if prompt not in seen:
            seen[prompt] = answers[len(seen)]
        return seen[prompt][len(tokens)]

    return answer
