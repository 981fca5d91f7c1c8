"""The typed status: what the operator observed, never what it hopes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from glm_operator.model.base import Base

Phase = Literal["Pending", "Converting", "Loading", "Ready", "Degraded", "Failed"]


class Condition(Base):
    """A condition, as in Kubernetes."""

    type: Annotated[str, Field(max_length=316)]
    """Name of the condition: Progressing, ArtifactReady, Available, Degraded or Feasible."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    observed_generation: int = 0
    """The spec's version that the condition speaks of."""
    last_transition_time: Annotated[str, Field(max_length=64)]
    """When status last changed, RFC 3339."""
    reason: Annotated[str, Field(max_length=1024)]
    """One word for programs."""
    message: Annotated[str, Field(max_length=32768)]
    """What a person should know and do."""


class ArtifactStatus(Base):
    """The artifact that the pods serve, or that is being made."""

    key: Annotated[str, Field(max_length=64)] | None = None
    """Identity of what is asked for: checkpoint, model, degree and precision."""
    digest: Annotated[str, Field(max_length=128)] | None = None
    """Digest that names it in the cache."""
    bytes: int | None = None
    """Size of the whole artifact, in bytes."""
    progress: Annotated[str, Field(max_length=64)] | None = None
    """How far the conversion is, for people."""


class Status(Base):
    """What is observed."""

    observed_generation: int | None = None
    """The spec's version that this status speaks of."""
    phase: Phase | None = None
    """Where the resource stands, in one word."""
    message: Annotated[str, Field(max_length=32768)] | None = None
    """What a person should know and do next."""
    replicas: int | None = None
    """Number of pods."""
    ready_replicas: int | None = None
    """Number of pods that answer."""
    updated_replicas: int | None = None
    """Number of pods that run the present spec."""
    selector: Annotated[str, Field(max_length=1024)] | None = None
    """Label selector of the pods, for autoscalers."""
    endpoint: Annotated[str, Field(max_length=1024)] | None = None
    """URL of the API in the cluster."""
    artifact: ArtifactStatus | None = None
    """The artifact that is served."""
    conditions: Annotated[list[Condition], Field(max_length=16)] | None = None
    """Progressing, ArtifactReady, Available, Degraded, and Feasible where the GPUs' memory is known."""
