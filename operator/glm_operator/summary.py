"""The plan for people: what will be made of a resource, how large it is, and whether it fits."""

from __future__ import annotations

from glm_operator.model import GLMDeployment
from glm_operator.quantity import human
from glm_operator.sizing import Sizes, nearest_that_fits, sizes


def summary(deployment: GLMDeployment) -> list[tuple[str, str]]:
    """Rows of label and text."""
    spec, size = deployment.spec, sizes(deployment.spec)
    model, limits = spec.model.resolve(), spec.limits
    name = spec.model.preset or "own dimensions"
    checkpoint = spec.checkpoint
    source = f"claim {checkpoint.claim}" if checkpoint.claim else f"hostPath {checkpoint.host_path}"
    shards = _count(size.tp, "shard")
    tokens = f"{_count(limits.max_batch_size, 'sequence')} of {spec.max_sequence_length} tokens"
    kept = limits.kv_cache or tokens
    return [
        (
            "model",
            f"{name}: {model.num_layers} layers, hidden {model.hidden_size}, {model.num_attention_heads} heads,"
            f" vocabulary {model.vocab_size}",
        ),
        ("checkpoint", f"{source}, {spec.checkpoint.precision}, {human(size.source)} of weights"),
        ("artifact", f"{shards} in {spec.precision}, {human(size.weights)} each, {human(size.artifact)} in all"),
        (
            "each rank",
            f"{human(size.weights)} of weights + {human(size.kv)} of keys and values ({kept})"
            + (f" + {human(size.workspace)} of workspace" if size.workspace else ""),
        ),
        ("runs on", _runs_on(deployment, size)),
        ("memory", f"{human(size.convert)} while converting, {human(size.host)} while serving, on the host"),
    ]


def _runs_on(deployment: GLMDeployment, size: Sizes) -> str:
    spec = deployment.spec
    if spec.backend == "cpu":
        return f"the CPU, {_count(size.tp, 'thread')} or more"
    gpus = _count(size.tp, "GPU")
    if size.gpu is None:
        return f"{gpus}, {human(size.rank)} needed in each; set gpu.memory to have it checked"
    if size.fits:
        return f"{gpus}: fits, {human(size.rank)} of {human(size.gpu)} in each"
    remedy = nearest_that_fits(spec)
    advice = f"what would fit: {remedy}" if remedy else "no setting of this model fits such GPUs"
    return f"{gpus}: DOES NOT FIT, {human(size.rank)} of {human(size.gpu)} in each; {advice}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}"
