"""The compiled engine behind the ``Engine`` seam: ``load`` an artifact, then submit and poll."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from glm_engine import _core
from glm_engine.artifact import Artifact
from glm_engine.config import ModelConfig
from glm_engine.errors import ArtifactError, ConfigError, EngineError, QueueFullError, RequestError
from glm_engine.request import BackendName, Event, FinishReason, Request
from glm_engine.safetensors_reader import Located, read_header


@dataclass(frozen=True)
class EngineLimits:
    """What the engine sets aside.

    max_sequence_length : tokens of prompt and answer together; None takes the model's.
    max_batch_size : sequences that run at once (a choice or a beam is one).
    max_waiting : requests that wait beside them; one more is refused with ``QueueFullError``.
    block_size : tokens in a KV block.
    kv_blocks : KV blocks; 0 gives every sequence of a full batch its whole context.
    max_prefill_tokens : prompt tokens that are computed together.
    prefill_layer_tokens : layers x tokens of prompts computed between two decode steps; 0 is no bound.
    """

    max_sequence_length: int | None = None
    max_batch_size: int = 16
    max_waiting: int = 64
    block_size: int = 16
    kv_blocks: int = 0
    max_prefill_tokens: int = 4096
    prefill_layer_tokens: int = 8192


def blocks_in(kv_cache_bytes: int, model: ModelConfig, backend: BackendName, block_size: int) -> int:
    """KV blocks of ``block_size`` tokens that fit in ``kv_cache_bytes`` over all ranks; 0 for 0, the default.

    A token takes a key and a value of ``hidden_size`` in each layer: float32 on the CPU, float16 on CUDA.
    Raises ``ConfigError`` if not even one block fits.
    """
    block_bytes = 2 * model.num_layers * model.hidden_size * {"cpu": 4, "cuda": 2}[backend] * block_size
    if kv_cache_bytes and kv_cache_bytes < block_bytes:
        raise ConfigError(f"kv_cache_bytes must be at least {block_bytes}, one block of KV; got {kv_cache_bytes}")
    return kv_cache_bytes // block_bytes


def load(
    artifact: str | Path | Artifact, *, backend: BackendName = "cpu", limits: EngineLimits | None = None
) -> CompiledEngine:
    """Load an artifact into an engine.

    Raises ``ArtifactError`` (incomplete or misshaped), ``ConfigError`` (limits that cannot be) or ``EngineError``.
    """
    opened = artifact if isinstance(artifact, Artifact) else Artifact.open(artifact)
    return CompiledEngine(opened, backend, limits or EngineLimits())


class CompiledEngine:
    """An ``Engine`` (see ``glm_engine.request``) of one thread per rank."""

    def __init__(self, artifact: Artifact, backend: BackendName, limits: EngineLimits) -> None:
        self.artifact = artifact
        self.model: ModelConfig = artifact.model
        self.limits = _core_limits(artifact.model, limits)
        shards = [_shard(file, artifact.precision == "int4") for file in artifact.rank_files]
        try:
            self._core = _core.Engine(_core_model(artifact.model), self.limits, backend, shards)
        except _core.Error as error:
            raise ArtifactError(f"{artifact.path}: {error}") from error

    def submit(self, request: Request) -> int:
        """See ``Engine.submit``."""
        core = _core_request(request)
        try:
            return self._core.submit(core)
        except _core.RequestError as error:
            message, field = error.args
            raise RequestError(f"{field}: {message}", field) from error
        except _core.QueueFullError as error:
            raise QueueFullError(str(error)) from error
        except _core.Error as error:
            raise EngineError(str(error)) from error

    def poll(self, timeout_s: float) -> list[Event]:
        """See ``Engine.poll``. Raises ``EngineError`` once the engine has failed and all its events are taken."""
        try:
            return [_event(event) for event in self._core.poll(timeout_s)]
        except _core.Error as error:
            raise EngineError(str(error)) from error

    def cancel(self, request: int) -> None:
        """See ``Engine.cancel``."""
        self._core.cancel(request)

    def score(self, ids: Sequence[int], context_length: int, mask_position: int, gmask: bool) -> NDArray[np.float32]:
        """See ``Engine.score``."""
        try:
            return self._core.score(list(ids), context_length, mask_position, gmask)
        except _core.RequestError as error:
            message, field = error.args
            raise RequestError(f"{field}: {message}", field) from error
        except _core.Error as error:
            raise EngineError(str(error)) from error

    def stats(self) -> Mapping[str, Any]:
        """See ``Engine.stats``."""
        return cast(Mapping[str, Any], self._core.stats())

    def close(self) -> None:
        """See ``Engine.close``."""
        self._core.close()


def _core_model(model: ModelConfig) -> _core.ModelConfig:
    core = _core.ModelConfig()
    core.num_layers = model.num_layers
    core.hidden_size = model.hidden_size
    core.num_heads = model.num_attention_heads
    core.inner_size = model.inner_hidden_size
    core.vocab_size = model.vocab_size
    core.max_sequence_length = model.max_sequence_length
    core.layernorm_eps = model.layernorm_eps
    core.end_ids = list(model.end_ids)
    return core


def _core_limits(model: ModelConfig, limits: EngineLimits) -> _core.EngineConfig:
    length = limits.max_sequence_length or model.max_sequence_length
    if not 2 <= length <= model.max_sequence_length:
        raise ConfigError(f"max_sequence_length must be 2 to {model.max_sequence_length} (the model's); got {length}")
    core = _core.EngineConfig()
    core.max_sequence_length = length
    for field, least in (
        ("max_batch_size", 1),
        ("max_waiting", 0),
        ("block_size", 1),
        ("max_prefill_tokens", 1),
        ("prefill_layer_tokens", 0),
    ):
        value = getattr(limits, field)
        if value < least:
            raise ConfigError(f"{field} must be at least {least}; got {value}")
        setattr(core, field, value)
    least_blocks = math.ceil(length / limits.block_size)
    if limits.kv_blocks and limits.kv_blocks < least_blocks:
        raise ConfigError(
            f"kv_blocks must be at least {least_blocks}, or a sequence of {length} tokens has no room; "
            f"got {limits.kv_blocks}. Raise it or lower max_sequence_length"
        )
    core.num_blocks = limits.kv_blocks
    return core


def _shard(path: Path, packed: bool) -> _core.ShardSource:
    tensors = read_header(path)
    quantized = {t.name.removesuffix("_scale") for t in tensors if t.name.endswith("_scale")}
    return _core.ShardSource(str(path), [_shard_tensor(path, t, t.name in quantized and packed) for t in tensors])


def _shard_tensor(path: Path, tensor: Located, packed: bool) -> _core.ShardTensor:
    """A tensor as the engine wants it: INT4 counts values, two a byte; a vector is one row."""
    if tensor.dtype not in {"F16", "I8"} or len(tensor.shape) not in {1, 2}:
        raise ArtifactError(
            f"{path}: {tensor.name}: expected F16 or I8, 1-D or 2-D; found {tensor.dtype}{tensor.shape}"
        )
    rows, cols = (1, *tensor.shape)[-2:]
    dtype = "f16" if tensor.dtype == "F16" else "i4" if packed else "i8"
    return _core.ShardTensor(tensor.name, dtype, rows, 2 * cols if packed else cols, tensor.offset)


def _core_request(request: Request) -> _core.Request:
    core = _core.Request()
    try:
        core.prompt = list(request.prompt.ids)
        core.mask_position = request.prompt.mask_position
        core.gmask = request.prompt.gmask
        for field in ("max_new_tokens", "min_new_tokens", "n", "no_repeat_ngram_size", "ignore_end", "share_key"):
            setattr(core, field, getattr(request, field))
        core.stop_ids = list(request.stop_ids)
        core.logprobs = -1 if request.logprobs is None else request.logprobs
        core.max_time_s = request.max_time_s or 0.0
        given = request.sampling
        sampling = _core.Sampling()
        for field in ("temperature", "top_k", "top_p", "repetition_penalty", "frequency_penalty", "presence_penalty"):
            setattr(sampling, field, getattr(given, field))
        sampling.seed = given.seed % 2**64
        sampling.logit_bias = list(given.logit_bias.items())
        core.sampling = sampling
        if request.beams is not None:
            beams = _core.Beams()
            beams.num_beams = request.beams.num_beams
            beams.length_penalty = request.beams.length_penalty
            beams.deterministic = request.beams.deterministic
            beams.seed = request.beams.seed % 2**64
            core.beams = beams
    except TypeError as error:
        raise RequestError(f"a value of the request has the wrong type or does not fit: {error}") from error
    return core


def _event(event: _core.Event) -> Event:
    return Event(
        request=event.request,
        index=event.index,
        token=None if event.token < 0 else event.token,
        logprob=event.logprob if event.token >= 0 else None,
        top_logprobs=event.top,
        finish=cast(FinishReason, event.finish) if event.finish else None,
        beams=event.beams,
        scores=event.scores,
        message=event.message,
        started=event.started,
    )
