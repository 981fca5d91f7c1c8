"""Helpers of the engine's tests: a golden case as artifacts, and a driver that runs requests to their end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from glm_engine.artifact import Artifact
from glm_engine.checkpoint import Checkpoint
from glm_engine.config import PRECISION_BITS, ModelConfig, Precision
from glm_engine.convert import make_artifact, plan_artifact
from glm_engine.handle import CompiledEngine
from glm_engine.progress import Progress
from glm_engine.request import Event, Prompt, Request
from glm_engine.reshard import Target


def make(source: Path, output: Path, model: ModelConfig, tp: int, precision: Precision) -> Artifact:
    """Convert ``source`` into an artifact below ``output``; one that is there is taken as it is."""
    with Checkpoint(source) as checkpoint:
        return make_artifact(
            plan_artifact(checkpoint, Target(tp, PRECISION_BITS[precision]), model, output), Progress()
        )


@dataclass
class Golden:
    """A golden case: the original code's results for a small model."""

    folder: Path
    expected: dict[str, Any]
    arrays: dict[str, np.ndarray[Any, Any]]
    model: ModelConfig

    @classmethod
    def open(cls, folder: Path) -> Golden:
        expected = json.loads((folder / "expected.json").read_text())
        with np.load(folder / "expected.npz") as arrays:
            loaded = dict(arrays)
        return cls(folder, expected, loaded, ModelConfig.from_dict(expected["config"]))

    @property
    def prompts(self) -> dict[str, Any]:
        prompts: dict[str, Any] = self.expected["prompts"]
        return prompts

    def prompt(self, name: str) -> Prompt:
        p = self.prompts[name]
        return Prompt(p["ids"], p["mask_position"], p["gmask"])


@dataclass
class Answer:
    """What became of one request: per choice its tokens and how it ended; beams at the end."""

    tokens: dict[int, list[int]] = field(default_factory=dict)
    finish: dict[int, str] = field(default_factory=dict)
    last: Event | None = None

    def take(self, event: Event) -> None:
        if event.token is not None:
            self.tokens.setdefault(event.index, []).append(event.token)
        if event.finish:
            self.finish[event.index] = event.finish
            self.last = event


def run(engine: CompiledEngine, requests: Sequence[Request]) -> list[Answer]:
    """Submit all requests at once, and take the events until each has ended."""
    return drain(engine, {engine.submit(request): request for request in requests})


def drain(engine: CompiledEngine, running: dict[int, Request]) -> list[Answer]:
    """Take events until every request of ``running`` (id -> request) has ended; answers in the order of submission."""
    answers = {identity: Answer() for identity in running}
    open_choices = {
        (identity, choice)
        for identity, request in running.items()
        for choice in range(1 if request.beams else request.n)
    }
    while open_choices:
        for event in engine.poll(5.0):
            answers[event.request].take(event)
            if event.finish:
                open_choices.discard((event.request, event.index))
                if event.finish in {"cancelled", "time", "shutdown"} and not answers[event.request].tokens:
                    open_choices -= {(event.request, choice) for choice in range(64)}
    return list(answers.values())


def tokens_of(answers: Iterable[Answer]) -> list[dict[int, list[int]]]:
    """Just the tokens."""
    return [answer.tokens for answer in answers]
