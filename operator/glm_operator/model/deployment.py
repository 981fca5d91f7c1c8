"""The resource: its spec, and the rules between the parts of the spec."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field

from glm_operator import names
from glm_operator.model.base import Base, Rule
from glm_operator.model.dimensions import PRESETS, Dimensions, Model, dimension_cel
from glm_operator.model.storage import _TENSOR_PARALLEL, ArtifactCache, Checkpoint, ObjectName, Precision, Tokenizer
from glm_operator.model.workload import Auth, Gpu, Limits, Pod

_HEADS, _INNER, _HIDDEN, _VOCAB, _CONTEXT = map(
    dimension_cel,
    ("num_attention_heads", "inner_hidden_size", "hidden_size", "vocab_size", "max_sequence_length"),
)
_DEGREES: Final = range(1, 17)


def divides(model: Dimensions, tp: int) -> bool:
    """Whether the model can be cut into ``tp`` equal shards."""
    return not any(size % tp for size in (model.num_attention_heads, model.inner_hidden_size, model.vocab_size))


def packs(model: Dimensions, tp: int) -> bool:
    """Whether every row of every shard holds an even number of INT4 weights, two to a byte."""
    return not (model.hidden_size % (2 * tp) or model.inner_hidden_size % (2 * tp))


def _degrees(model: Dimensions) -> str:
    return ", ".join(str(tp) for tp in _DEGREES if divides(model, tp))


def _degree_detail(spec: Spec) -> str:
    model = spec.model.resolve()
    return (
        f"must divide the model's attention heads ({model.num_attention_heads}), inner size"
        f" ({model.inner_hidden_size}) and vocabulary ({model.vocab_size}); degrees that work: {_degrees(model)};"
        f" got {spec.tensor_parallel_size}"
    )


def _same_as_checkpoint(spec: Spec) -> bool:
    source = spec.checkpoint
    return source.precision == "fp16" or (
        spec.precision == source.precision and spec.tensor_parallel_size == source.tensor_parallel_size
    )


class Spec(Base):
    """What is wanted: which model, from which checkpoint, how it is cut and kept, and where it runs."""

    model: Model
    """Which model the checkpoint holds."""
    checkpoint: Checkpoint
    """The original checkpoint; it is only read."""
    tokenizer: Tokenizer = Tokenizer()
    """The tokenizer's model file."""
    tensor_parallel_size: Annotated[int, _TENSOR_PARALLEL]
    """Number of shards the model is cut into: GPUs of one pod, or threads of the cpu backend."""
    precision: Precision = "fp16"
    """How weights are kept: fp16, or quantized to int8 or int4 with a scale per row."""
    backend: Literal["cuda", "cpu"] = "cuda"
    """What computes: cuda, or cpu for small models and trials."""
    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Number of pods, each with the whole model."""
    rollout: Literal["auto", "surge", "recreate"] = "auto"
    """How pods are replaced: surge starts the new one first, which takes its GPUs twice; recreate ends the old one
    first; auto tries surge, and goes on by recreate where the new pod finds no place."""
    limits: Limits = Limits()
    """How much the server takes on at once."""
    auth: Auth | None = None
    """Who may use the API; without it, everybody who reaches it."""
    artifact_cache: ArtifactCache = ArtifactCache()
    """Where converted checkpoints are kept."""
    gpu: Gpu | None = None
    """The GPUs of a pod; without it nvidia.com/gpu of unknown memory. Only for backend cuda."""
    image: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """Image of the server; without it, the one the operator was installed with."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """When the image is pulled."""
    image_pull_secrets: Annotated[list[ObjectName], Field(max_length=16)] = Field(default_factory=list)
    """Names of the Secrets with the registry's credentials."""
    pod: Pod = Pod()
    """What may be overridden in the pods."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel=" && ".join(f"{size} % self.tensorParallelSize == 0" for size in (_HEADS, _INNER, _VOCAB)),
            holds=lambda s: divides(s.model.resolve(), s.tensor_parallel_size),
            message="must divide the model's attention heads, inner size and vocabulary; degrees that work: "
            + "; ".join(f"{name}: {_degrees(model)}" for name, model in PRESETS.items())
            + "; own dimensions: 1 always does",
            field="tensorParallelSize",
            detail=_degree_detail,
        ),
        Rule(
            cel="self.precision != 'int4' || "
            f"({_HIDDEN} % (2 * self.tensorParallelSize) == 0 && {_INNER} % (2 * self.tensorParallelSize) == 0)",
            holds=lambda s: s.precision != "int4" or packs(s.model.resolve(), s.tensor_parallel_size),
            message="int4 packs two weights into a byte, so hiddenSize and innerHiddenSize must be multiples of twice"
            " tensorParallelSize: take int8, or a smaller tensorParallelSize",
            field="precision",
        ),
        Rule(
            cel=f"!has(self.limits.maxSequenceLength) || self.limits.maxSequenceLength <= {_CONTEXT}",
            holds=lambda s: (s.limits.max_sequence_length or 0) <= s.model.resolve().max_sequence_length,
            message="must not exceed the model's maxSequenceLength; leave it out for the longest",
            field="limits.maxSequenceLength",
            detail=lambda s: (
                f"must not exceed the model's {s.model.resolve().max_sequence_length};"
                f" leave it out for the longest; got {s.limits.max_sequence_length}"
            ),
        ),
        Rule(
            cel="self.checkpoint.precision == 'fp16' || (self.precision == self.checkpoint.precision"
            " && has(self.checkpoint.tensorParallelSize)"
            " && self.tensorParallelSize == self.checkpoint.tensorParallelSize)",
            holds=_same_as_checkpoint,
            message="a quantized checkpoint can neither be cut anew nor quantized anew: set precision and"
            " tensorParallelSize to those of checkpoint, or give the fp16 checkpoint",
            field="checkpoint",
        ),
        Rule(
            cel="self.backend == 'cuda' || !has(self.gpu)",
            holds=lambda s: s.backend == "cuda" or s.gpu is None,
            message="belongs to backend cuda: leave it out with backend cpu",
            field="gpu",
        ),
    )

    @property
    def max_sequence_length(self) -> int:
        """Longest sequence that is served, in tokens."""
        return self.limits.max_sequence_length or self.model.resolve().max_sequence_length


class ObjectMeta(Base):
    """The part of a Kubernetes object's metadata that is read; the rest passes."""

    model_config = ConfigDict(extra="ignore")

    name: str
    """Name of the resource."""
    namespace: str = "default"
    """Namespace of the resource."""
    uid: str = ""
    """Identity of the resource; empty while it is only a file."""
    generation: int = 0
    """Number of the spec's version."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations of the resource."""


class GLMDeployment(Base):
    """A GLM model that is converted from its checkpoint and served over HTTP."""

    api_version: Literal["serving.glm.io/v1alpha1"]
    """Group and version of the resource."""
    kind: Literal["GLMDeployment"]
    """Kind of the resource."""
    metadata: ObjectMeta
    """Standard metadata."""
    spec: Spec
    """What is wanted."""
    status: dict[str, Any] = Field(default_factory=dict, exclude=True)
    """What is observed; written by the operator, never read as input."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel=f"self.metadata.name.matches('{names.NAME_PATTERN}') && size(self.metadata.name) <= {names.MAX_NAME}",
            holds=lambda d: _name_fits(d.metadata.name),
            message="metadata.name must begin with a letter, hold only a-z, 0-9 and -, and have at most"
            f" {names.MAX_NAME} characters, since Services are named after it",
        ),
    )

    @property
    def name(self) -> str:
        """Name of the resource."""
        return self.metadata.name


def _name_fits(name: str) -> bool:
    return re.fullmatch(names.NAME_PATTERN, name) is not None and len(name) <= names.MAX_NAME
