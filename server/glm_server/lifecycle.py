"""Where the server stands between its start and its end, and what it serves meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final, Literal

from glm_engine.config import ModelConfig
from glm_server.errors import UnavailableError
from glm_server.metrics import Metrics
from glm_server.service import Service
from glm_server.tokenizer import Tokenizer

Phase = Literal["loading", "warming", "ready", "draining", "failed"]

_MESSAGES: Final[dict[Phase, str]] = {
    "loading": "the model is being loaded; try again when /readyz says ready",
    "warming": "the engine is being warmed up; try again when /readyz says ready",
    "draining": "the server is shutting down; another replica will answer",
    "failed": "the engine failed; the server restarts",
}


@dataclass(frozen=True)
class Runtime:
    """What is served once it is loaded.

    ``max_sequence_length`` (tokens) and ``max_batch_size`` (sequences) are what the engine has allocated, not what the
    model could take.
    """

    service: Service
    tokenizer: Tokenizer
    model: ModelConfig
    name: str
    digest: str
    precision: str
    tensor_parallel_size: int
    backend: str
    max_sequence_length: int
    max_batch_size: int
    created: int = field(default_factory=lambda: int(time.time()))  #: seconds since 1970


class Lifecycle:
    """The phase and the runtime. Set by the main thread, read by all."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._phase: Phase = "loading"
        self._runtime: Runtime | None = None
        self.reason = ""
        self._metrics.set("ready", 0)

    @property
    def phase(self) -> Phase:
        """Where the server stands."""
        return self._phase

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self._phase == "ready"

    @property
    def alive(self) -> bool:
        """Whether the process is worth keeping: not failed, and the engine makes progress when it has work."""
        return self._phase != "failed" and (self._runtime is None or self._runtime.service.alive)

    def loaded(self, runtime: Runtime) -> None:
        """The engine runs; it is warmed up next."""
        self._runtime = runtime
        self._phase = "warming"

    def serve(self) -> None:
        """Take requests from now on."""
        self._phase = "ready"
        self._metrics.set("ready", 1)

    def drain(self) -> None:
        """Take no requests any more."""
        if self._phase != "failed":
            self._phase = "draining"
        self._metrics.set("ready", 0)

    def fail(self, reason: str) -> None:
        """The engine is lost."""
        self._phase, self.reason = "failed", reason
        self._metrics.set("ready", 0)

    def runtime(self) -> Runtime:
        """What to answer with. Raises ``UnavailableError`` unless ready."""
        if self._phase != "ready" or self._runtime is None:
            raise UnavailableError(_MESSAGES.get(self._phase, "not ready"), code=self._phase)
        return self._runtime
