"""How many bytes a resource needs: on disk, in each rank's memory, while it is converted. Pure arithmetic.

Sizes of weights are exact (the tensors of the original, cut and quantized as the converter does). What a process takes
beside them is an allowance, each with its reason; nothing here is a measurement.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from glm_operator.model import Dimensions, Spec, divides, packs
from glm_operator.quantity import to_number

_GIB: Final = 2**30
_BITS: Final = {"fp16": 16, "int8": 8, "int4": 4}
#: Keys and values: fp16 on a GPU, fp32 on the CPU backend, which computes in fp32.
_KV_BYTES: Final = {"cuda": 2, "cpu": 4}
#: Activations, cuBLAS and the CUDA context on a GPU; with one GPU the whole vocabulary's logits lie there as well.
_GPU_WORKSPACE: Final = {True: 5 * _GIB // 2, False: 2 * _GIB}
#: Python, its libraries and the activations of small models.
_HOST_BASE: Final = _GIB
#: Pinned staging buffers of the parallel load, per rank.
_STAGING: Final = _GIB
#: The converter may hold two of the largest tensor and 300 MB beside its libraries.
_CONVERT_BASE: Final = _GIB


@dataclass(frozen=True)
class Sizes:
    """Bytes of one resource.

    weights : of one rank; artifact : all ranks' files; source : the checkpoint's files;
    kv : keys and values of one rank; workspace : what a rank takes beside; convert : peak memory of the converter;
    host : memory of the serving process on the host; gpu : memory of one GPU where known, else None.
    """

    tp: int
    weights: int
    source: int
    kv: int
    workspace: int
    convert: int
    host: int
    gpu: int | None

    @property
    def artifact(self) -> int:
        """Bytes of all ranks' files together."""
        return self.weights * self.tp

    @property
    def rank(self) -> int:
        """Bytes that one rank needs where it computes."""
        return self.weights + self.kv + self.workspace

    @property
    def fits(self) -> bool | None:
        """Whether a rank fits its GPU; None where that is not known."""
        return None if self.gpu is None else self.rank <= self.gpu

    @property
    def cache(self) -> int:
        """Bytes for the artifact cache: two artifacts, so that another precision is made beside the one in use."""
        return 2 * self.artifact + self.artifact // 10


def weight_bytes(model: Dimensions, tp: int, precision: str) -> int:
    """Bytes of one rank's tensors."""
    h, inner = model.hidden_size, model.inner_hidden_size
    # rows x columns of one rank: query-key-value and the GLU are cut by rows, the other two by columns
    matrices = ((3 * h // tp, h), (h, h // tp), (2 * inner // tp, h), (h, inner // tp))
    bits = _BITS[precision]
    linear = sum(rows * columns * bits // 8 for rows, columns in matrices)
    scales = 0 if bits == 16 else 2 * sum(rows for rows, _ in matrices)
    biases = 2 * (3 * h // tp + h + 2 * inner // tp + h)
    norms = 2 * 4 * h
    return model.num_layers * (linear + scales + biases + norms) + 2 * (model.vocab_size // tp) * h + 2 * 2 * h


def kv_bytes_per_token(model: Dimensions, tp: int, backend: str) -> int:
    """Bytes of one token's keys and values in one rank."""
    return 2 * model.num_layers * (model.hidden_size // tp) * _KV_BYTES[backend]


def sizes(spec: Spec) -> Sizes:
    """The bytes that ``spec`` needs."""
    model, tp = spec.model.resolve(), spec.tensor_parallel_size
    weights = weight_bytes(model, tp, spec.precision)
    if spec.limits.kv_cache is not None:
        kv = int(to_number(spec.limits.kv_cache)) // tp
    else:
        kv = kv_bytes_per_token(model, tp, spec.backend) * spec.max_sequence_length * spec.limits.max_batch_size
    on_gpu = spec.backend == "cuda"
    largest = 2 * model.hidden_size * max(model.vocab_size, 2 * model.inner_hidden_size)
    source_tp = spec.checkpoint.tensor_parallel_size or 1
    return Sizes(
        tp=tp,
        weights=weights,
        source=weight_bytes(model, source_tp, spec.checkpoint.precision) * source_tp,
        kv=kv,
        workspace=_GPU_WORKSPACE[tp == 1] if on_gpu else 0,
        convert=2 * largest + _CONVERT_BASE,
        host=_HOST_BASE + (tp * _STAGING if on_gpu else tp * (weights + kv)),
        gpu=int(to_number(spec.gpu.memory)) if spec.gpu is not None and spec.gpu.memory is not None else None,
    )


def nearest_that_fits(spec: Spec) -> str | None:
    """The smallest change that makes the model fit its GPUs, in words; None where nothing does."""
    for change, candidate in _changes(spec):
        if sizes(candidate).fits:
            return change
    return None


def _changes(spec: Spec) -> Iterator[tuple[str, Spec]]:
    """Candidates from the least to the greatest change: fewer sequences, more GPUs, fewer bits, both."""
    batch = spec.limits.max_batch_size
    while batch > 1 and spec.limits.kv_cache is None:
        batch //= 2
        limits = spec.limits.model_copy(update={"max_batch_size": batch})
        yield f"limits.maxBatchSize: {batch}", spec.model_copy(update={"limits": limits})
    if spec.checkpoint.precision != "fp16":
        return
    model, bits = spec.model.resolve(), _BITS[spec.precision]
    degrees = [tp for tp in range(spec.tensor_parallel_size + 1, 17) if divides(model, tp)]
    fewer = [name for name, width in _BITS.items() if width < bits]
    for tp in degrees:
        if spec.precision != "int4" or packs(model, tp):
            yield f"tensorParallelSize: {tp}", spec.model_copy(update={"tensor_parallel_size": tp})
    for tp in (spec.tensor_parallel_size, *degrees):
        for name in fewer:
            if name != "int4" or packs(model, tp):
                more = "" if tp == spec.tensor_parallel_size else f", tensorParallelSize: {tp}"
                update = {"precision": name, "tensor_parallel_size": tp}
                yield f"precision: {name}{more}", spec.model_copy(update=update)
