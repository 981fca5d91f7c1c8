"""From an artifact's folder to a running, warmed-up engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from glm_engine.artifact import Artifact
from glm_engine.errors import EngineError
from glm_engine.request import Engine, Prompt, Request, Sampling
from glm_server.config import ServerConfig
from glm_server.lifecycle import Runtime
from glm_server.metrics import Metrics
from glm_server.service import Service
from glm_server.tokenizer import load_tokenizer

DEFAULT_NAME: Final = "glm-130b"


#: Settings and the artifact -> a running engine.
LoadEngine = Callable[[ServerConfig, Artifact], Engine]


def load_runtime(
    config: ServerConfig, load_engine: LoadEngine, metrics: Metrics, on_failure: Callable[[str], None]
) -> Runtime:
    """Load everything. The tokenizer comes first: it is the cheaper one to find wrong.

    Raises ``GlmError`` of every kind that a wrong setting, file or device can cause.
    """
    artifact = Artifact.open(config.artifact)
    tokenizer = load_tokenizer(config.tokenizer, artifact.model)
    engine = load_engine(config, artifact)
    service = Service(engine, metrics, step_deadline_s=config.step_deadline_s, on_failure=on_failure)
    service.start()
    name = config.model_name or DEFAULT_NAME
    precision, tp = artifact.precision, artifact.tensor_parallel_size
    metrics.set("model_info", 1, name, artifact.digest, precision, str(tp), config.backend)
    return Runtime(
        service=service,
        tokenizer=tokenizer,
        model=artifact.model,
        name=name,
        digest=artifact.digest,
        precision=precision,
        tensor_parallel_size=tp,
        backend=config.backend,
        max_sequence_length=config.max_sequence_length or artifact.model.max_sequence_length,
        max_batch_size=config.max_batch_size,
    )


def warm_up(runtime: Runtime, deadline_s: float) -> None:
    """One short answer through everything: memory is touched, and an engine that can't step is found now.

    Raises ``EngineError`` if no answer comes within ``deadline_s``.
    """
    special = runtime.tokenizer.special_ids
    prompt = Prompt((special["[gMASK]"], special["sop"]), 0, True)
    request = Request(prompt, max_new_tokens=2, sampling=Sampling(top_k=1), ignore_end=True)
    with runtime.service.session() as session:
        session.submit(request)
        while True:
            events = session.events(deadline_s)
            if not events:
                raise EngineError(f"the warm-up did not end within {deadline_s:g} s")
            for event in events:
                if event.finish == "error":
                    raise EngineError(f"the warm-up failed: {event.message}")
                if event.finish is not None:
                    return
