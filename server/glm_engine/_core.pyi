"""Types of the compiled engine; see csrc/bindings/module.cc."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

class Error(Exception): ...
class RequestError(Error): ...
class QueueFullError(Error): ...

class ModelConfig:
    num_layers: int
    hidden_size: int
    num_heads: int
    inner_size: int
    vocab_size: int
    max_sequence_length: int
    layernorm_eps: float
    end_ids: list[int]

class EngineConfig:
    max_sequence_length: int
    max_batch_size: int
    max_waiting: int
    block_size: int
    num_blocks: int
    max_prefill_tokens: int
    prefill_layer_tokens: int

class ShardTensor:
    def __init__(self, name: str, dtype: str, rows: int, cols: int, offset: int) -> None: ...

class ShardSource:
    def __init__(self, path: str, tensors: Sequence[ShardTensor]) -> None: ...

class Sampling:
    temperature: float
    top_k: int
    top_p: float
    seed: int
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    logit_bias: list[tuple[int, float]]

class Beams:
    num_beams: int
    length_penalty: float
    deterministic: bool
    seed: int

class Request:
    prompt: list[int]
    mask_position: int
    gmask: bool
    max_new_tokens: int
    min_new_tokens: int
    n: int
    no_repeat_ngram_size: int
    ignore_end: bool
    stop_ids: list[int]
    logprobs: int
    max_time_s: float
    share_key: str
    sampling: Sampling
    beams: Beams | None

class Event:
    request: int
    index: int
    token: int
    logprob: float
    top: list[tuple[int, float]]
    finish: str
    beams: list[list[int]]
    scores: list[float]
    message: str
    started: bool

class Engine:
    def __init__(
        self, model: ModelConfig, engine: EngineConfig, backend: str, shards: Sequence[ShardSource]
    ) -> None: ...
    def submit(self, request: Request) -> int: ...
    def cancel(self, id: int) -> None: ...
    def poll(self, timeout_s: float) -> list[Event]: ...
    def score(self, ids: list[int], context_length: int, mask_position: int, gmask: bool) -> NDArray[np.float32]: ...
    def stats(self) -> dict[str, Any]: ...
    def close(self) -> None: ...

ops: ModuleType
