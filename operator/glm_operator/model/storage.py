"""Where things lie: checkpoint, tokenizer, artifacts."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from glm_operator.model.base import Base, Rule
from glm_operator.quantity import QUANTITY_PATTERN

#: Name of an object in the resource's own namespace.
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
#: Relative path in a volume. No `$`: Kubernetes expands `$(NAME)` in arguments.
RelativePath = Annotated[str, Field(pattern=r"^[A-Za-z0-9._+@=-]+(/[A-Za-z0-9._+@=-]+)*$", max_length=1024)]
HostPath = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._+@=-]+)+$", max_length=1024)]
Quantity = Annotated[str, Field(pattern=QUANTITY_PATTERN, max_length=32)]
Precision = Literal["fp16", "int8", "int4"]

_NO_PARENT = Rule(
    cel="!self.path.matches('(^|/)[.][.](/|$)')",
    holds=lambda s: ".." not in s.path.split("/"),
    message="must stay inside the volume: no `..`",
    field="path",
)
_NO_HOST_PARENT = Rule(
    cel="!has(self.hostPath) || !self.hostPath.matches('/[.][.](/|$)')",
    holds=lambda s: ".." not in (s.host_path or "").split("/"),
    message="must be a plain absolute path: no `..`",
    field="hostPath",
)
_TENSOR_PARALLEL = Field(ge=1, le=16)


class Checkpoint(Base):
    """The original checkpoint: a folder with `latest` and `<iteration>/mp_rank_XX_model_states.pt`. Only read."""

    claim: ObjectName | None = None
    """Name of the PersistentVolumeClaim that holds it."""
    host_path: HostPath | None = None
    """Folder on the node that holds it, where the operator allows host paths; a claim is preferred."""
    path: RelativePath = "."
    """Folder of the checkpoint in the volume."""
    precision: Precision = "fp16"
    """What the checkpoint holds. A quantized checkpoint can be served only as it is."""
    tensor_parallel_size: Annotated[int, _TENSOR_PARALLEL] | None = None
    """Number of shards of the checkpoint; needed only where it is quantized, since such shards cannot be cut anew."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.claim) != has(self.hostPath)",
            holds=lambda s: (s.claim is None) != (s.host_path is None),
            message="give exactly one of claim (preferred) and hostPath",
        ),
        Rule(
            cel="self.precision == 'fp16' || has(self.tensorParallelSize)",
            holds=lambda s: s.precision == "fp16" or s.tensor_parallel_size is not None,
            message="must be given for a quantized checkpoint: its number of mp_rank files",
            field="tensorParallelSize",
        ),
        _NO_PARENT,
        _NO_HOST_PARENT,
    )


class Tokenizer(Base):
    """The SentencePiece model of the tokenizer (for GLM-130B: icetk's ice_text.model). Only read."""

    claim: ObjectName | None = None
    """Name of the PersistentVolumeClaim that holds it; without claim and hostPath: the checkpoint's volume."""
    host_path: HostPath | None = None
    """Folder on the node that holds it, where the operator allows host paths."""
    path: RelativePath = "ice_text.model"
    """The file in the volume."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!(has(self.claim) && has(self.hostPath))",
            holds=lambda s: s.claim is None or s.host_path is None,
            message="give at most one of claim and hostPath; without both it is the checkpoint's volume",
        ),
        _NO_PARENT,
        _NO_HOST_PARENT,
    )


class ArtifactCache(Base):
    """Where converted checkpoints are kept. Resources may share one: an artifact is found by its content's digest."""

    claim: ObjectName | None = None
    """Name of an existing PersistentVolumeClaim; without claim and hostPath the operator creates one."""
    host_path: HostPath | None = None
    """Folder on the node, where the operator allows host paths."""
    size: Quantity | None = None
    """Size of the claim to create, for example 300Gi; without it, room for two artifacts of this resource."""
    storage_class_name: ObjectName | None = None
    """Storage class of the claim to create; without it, the cluster's default."""
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] | None = None
    """Access mode of the claim to create; without it ReadWriteOnce, so that all replicas run on one node."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!(has(self.claim) && has(self.hostPath))",
            holds=lambda s: s.claim is None or s.host_path is None,
            message="give at most one of claim and hostPath; without both a claim is created",
        ),
        Rule(
            cel="!(has(self.claim) || has(self.hostPath))"
            " || !(has(self.size) || has(self.storageClassName) || has(self.accessMode))",
            holds=lambda s: not (s.claim or s.host_path) or not (s.size or s.storage_class_name or s.access_mode),
            message="size, storageClassName and accessMode belong to a claim to create: leave them out, or leave out"
            " claim and hostPath",
        ),
        _NO_HOST_PARENT,
    )
