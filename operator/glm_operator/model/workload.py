"""How it runs: limits, GPUs, and what a user may override in the pods."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from glm_operator.model.base import Base
from glm_operator.model.storage import ObjectName, Quantity
from glm_operator.quantity import QUANTITY_PATTERN

_Text = Annotated[str, Field(max_length=1024)]
_Key = Annotated[str, Field(min_length=1, max_length=316)]


def _amount(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | str) or not re.fullmatch(QUANTITY_PATTERN, str(value)):
        raise ValueError("must be a quantity, for example 500m, 2 or 16Gi")
    return value


_Amount = Annotated[
    Any,
    AfterValidator(_amount),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "pattern": QUANTITY_PATTERN,
            "description": "A quantity, for example 500m, 2 or 16Gi.",
        }
    ),
]


class Limits(Base):
    """How much the server takes on at once."""

    max_sequence_length: Annotated[int, Field(ge=2)] | None = None
    """Longest sequence, prompt and answer, in tokens; without it, the model's own."""
    max_batch_size: Annotated[int, Field(ge=1, le=1024)] = 16
    """Number of sequences that are computed at once; more requests wait."""
    kv_cache: Quantity | None = None
    """Memory for keys and values, all GPUs together, for example 40Gi; without it, enough for maxBatchSize sequences
    of maxSequenceLength."""


class Gpu(Base):
    """The GPUs of a pod; their number is tensorParallelSize."""

    resource: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$", max_length=316)] = "nvidia.com/gpu"
    """Name of the extended resource that stands for one GPU."""
    memory: Quantity | None = None
    """Memory of one GPU, for example 80G; where given, it is checked whether the model fits."""


class Auth(Base):
    """Who may use the API. A Secret of the same namespace; the operator itself never reads it."""

    secret: ObjectName
    """Name of the Secret with the API keys."""
    key: Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)] = "keys"
    """Key in the Secret: its value holds one API key a line, each of at least 16 characters. A change is taken up
    without a restart."""


class Toleration(Base):
    """A toleration of the pods, as in Kubernetes."""

    key: _Key | None = None
    """Taint key; without it, all keys."""
    operator: Literal["Exists", "Equal"] | None = None
    """Relation of key and value; Equal where not given."""
    value: _Text | None = None
    """Taint value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Taint effect; without it, all effects."""
    toleration_seconds: int | None = None
    """How long a NoExecute taint is tolerated, in seconds."""


class EnvVar(Base):
    """An environment variable of the containers."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
    """Name of the variable."""
    value: _Text = ""
    """Value of the variable."""


class Resources(Base):
    """Requests and limits beside the GPUs, as in Kubernetes."""

    requests: Annotated[dict[_Key, _Amount], Field(max_length=16)] | None = None
    """What a pod is given: cpu, memory, and others."""
    limits: Annotated[dict[_Key, _Amount], Field(max_length=16)] | None = None
    """What a pod may use: cpu, memory, and others."""


class Pod(Base):
    """What may be overridden in the pods. Nothing here gives a pod more rights than it has without."""

    labels: Annotated[dict[str, _Text], Field(max_length=64)] = Field(default_factory=dict)
    """More labels of the pods; the operator's own cannot be changed."""
    annotations: Annotated[dict[str, Annotated[str, Field(max_length=16384)]], Field(max_length=64)] = Field(
        default_factory=dict
    )
    """More annotations of the pods."""
    node_selector: Annotated[dict[str, _Text], Field(max_length=64)] = Field(default_factory=dict)
    """Labels that the node must have."""
    tolerations: Annotated[list[Toleration], Field(max_length=64)] = Field(default_factory=list)
    """Taints that the pods tolerate."""
    affinity: (
        Annotated[
            dict[str, Any],
            WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
        ]
        | None
    ) = None
    """Affinity of the pods, as in Kubernetes."""
    resources: Resources = Resources()
    """Requests and limits of the server's container, beside the GPUs; what is not given is computed from the model."""
    runtime_class_name: ObjectName | None = None
    """Runtime class of the pods, for example nvidia."""
    priority_class_name: ObjectName | None = None
    """Priority class of the pods."""
    run_as_user: Annotated[int, Field(ge=1)] | None = None
    """User id of the processes; without it, the image's (10001)."""
    fs_group: Annotated[int, Field(ge=1)] | None = None
    """Group id that owns the volumes; without it 10001."""
    env: Annotated[list[EnvVar], Field(max_length=64)] = Field(default_factory=list)
    """More environment variables of both containers."""
    termination_grace_period_seconds: Annotated[int, Field(ge=10, le=3600)] = 120
    """How long running requests may take to finish when a pod is stopped, in seconds."""
