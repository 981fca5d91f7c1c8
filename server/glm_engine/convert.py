"""Checkpoint -> artifact. Interrupted anywhere, the next run goes on; run twice at once, one works and the other waits.

In the output folder, while it works: ``<digest>.partial/`` with the finished shards, each beside a small file of its
sum (written once the shard is durable), and the lock ``.<digest>.lock``. At the end the manifest is written, the sums
are removed and the folder is renamed to ``<digest>/``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from glm_engine import __version__
from glm_engine.artifact import LAYOUT_VERSION, MANIFEST, PRECISIONS, Artifact, RankFile, Source, digest_of
from glm_engine.checkpoint import Checkpoint, is_rotary
from glm_engine.config import ModelConfig
from glm_engine.errors import ArtifactError
from glm_engine.fsio import fsync_folder, no_temporaries, require_space, storage_errors, write_json
from glm_engine.locking import exclusive
from glm_engine.progress import Progress
from glm_engine.reshard import RankTensors, Target, check_target
from glm_engine.safetensors_io import SafetensorsWriter, aligned_order
from glm_engine.shard_writer import FileSum, ShardWriter, TensorSpec
from glm_engine.sharding import PREFIX

#: More than a safetensors header and a manifest take per rank.
_OVERHEAD_BYTES = 1 << 20


@dataclass(frozen=True)
class ArtifactPlan:
    """A conversion that was checked: where the artifact goes and what goes into it."""

    checkpoint: Checkpoint
    target: Target
    model: ModelConfig
    output: Path

    @cached_property
    def source(self) -> Source:
        """What the manifest says of the checkpoint."""
        identity = digest_of(self.checkpoint.identity)
        return Source(self.checkpoint.iteration, self.checkpoint.tensor_parallel_size, identity)

    @cached_property
    def digest(self) -> str:
        """Name of the artifact: the same for the same content made by the same layout."""
        return digest_of(
            {
                "source": vars(self.source),
                "tensor_parallel_size": self.target.tensor_parallel_size,
                "precision": PRECISIONS[self.target.bits],
                "layout_version": LAYOUT_VERSION,
                "model": self.model.to_dict(),
            }
        )

    @property
    def folder(self) -> Path:
        """The artifact's folder once it is whole."""
        return self.output / self.digest

    @property
    def partial(self) -> Path:
        """Where it is built."""
        return self.output / f"{self.digest}.partial"


def plan_artifact(checkpoint: Checkpoint, target: Target, model: ModelConfig | None, output: Path) -> ArtifactPlan:
    """Check that ``checkpoint`` can become ``target``; a ``model`` of None is recognised by its shape.

    Raises ``ConfigError`` naming what does not fit.
    """
    check_target(checkpoint, target)
    if model is None:
        model = checkpoint.dimensions.detect_model()
    checkpoint.dimensions.check_model(model, str(checkpoint.folder))
    model.check_tensor_parallel(target.tensor_parallel_size)
    return ArtifactPlan(checkpoint, target, model, output)


def make_artifact(plan: ArtifactPlan, progress: Progress) -> Artifact:
    """Return the artifact of ``plan``, made now unless it is there.

    Raises ``CheckpointError`` (a damaged source), ``StorageError`` (the disk). Whatever happens, ``plan.folder`` is a
    whole artifact or not there.
    """
    ready = _ready(plan)
    if ready is None:
        with storage_errors(plan.output):
            plan.output.mkdir(parents=True, exist_ok=True)
            with exclusive(plan.output / f".{plan.digest}.lock", progress.waiting):
                ready = _ready(plan)  # by the process that we waited for
                if ready is None:
                    _build(plan, progress)
                    artifact = Artifact.open(plan.folder)
                    progress.end("done")
                    return artifact
    progress.end("reused")
    return ready


def _ready(plan: ArtifactPlan) -> Artifact | None:
    try:
        return Artifact.open(plan.folder)
    except ArtifactError:
        return None


def _build(plan: ArtifactPlan, progress: Progress) -> None:
    if plan.folder.exists():  # not whole, or it would have been taken: some of it was deleted or cut
        shutil.rmtree(plan.folder)
    plan.partial.mkdir(exist_ok=True)
    if _only_the_rename_is_missing(plan):
        return
    (plan.partial / MANIFEST).unlink(missing_ok=True)
    with no_temporaries(plan.partial):
        _write_and_publish(plan, progress)


def _write_and_publish(plan: ArtifactPlan, progress: Progress) -> None:
    count = plan.target.tensor_parallel_size
    ranks = [RankTensors(plan.checkpoint, plan.target, rank) for rank in range(count)]
    sums = [_finished(plan.partial, rank) for rank in range(count)]
    sizes = [sum(s.bytes for s in tensors.specs if not is_rotary(s.key)) for tensors in ranks]
    done = sum(size for size, known in zip(sizes, sums, strict=True) if known)
    require_space(plan.partial, sum(sizes) - done + _OVERHEAD_BYTES * (count - len([s for s in sums if s])))
    progress.begin("converting", sum(sizes), count, done)
    for rank, tensors in enumerate(ranks):
        if sums[rank] is None:
            progress.shard(rank)
            sums[rank] = _write_rank(plan, rank, tensors, progress)
    plan.checkpoint.check_unchanged()
    _publish(plan, [known for known in sums if known])


def _only_the_rename_is_missing(plan: ArtifactPlan) -> bool:
    try:
        Artifact.open(plan.partial)
    except ArtifactError:
        return False
    _rename(plan)
    return True


def rank_file(rank: int) -> str:
    """Name of a rank's file in an artifact."""
    return f"rank_{rank:02d}.safetensors"


def _sum_file(folder: Path, rank: int) -> Path:
    return folder / f".{rank_file(rank)}.sum"


def _finished(folder: Path, rank: int) -> FileSum | None:
    """The sum of a shard that an earlier run finished, or None."""
    with suppress(OSError, ValueError, TypeError):
        known = FileSum(**json.loads(_sum_file(folder, rank).read_bytes()))
        if (folder / rank_file(rank)).stat().st_size == known.bytes:
            return known
    return None


def _write_rank(plan: ArtifactPlan, rank: int, tensors: RankTensors, progress: Progress) -> FileSum:
    specs = {spec.key.removeprefix(PREFIX): spec for spec in tensors.specs if not is_rotary(spec.key)}
    order = aligned_order([spec.renamed(name) for name, spec in specs.items()])
    metadata = {"format": "pt", "rank": str(rank), "tensor_parallel_size": str(plan.target.tensor_parallel_size)}
    with SafetensorsWriter(plan.partial / rank_file(rank), order, metadata) as writer:
        copy_tensors(tensors, [specs[renamed.key] for renamed in order], writer, progress)
        writer.commit()
        known = writer.sum
    fsync_folder(plan.partial)
    write_json(_sum_file(plan.partial, rank), vars(known))
    return known


def copy_tensors(tensors: RankTensors, order: Sequence[TensorSpec], writer: ShardWriter, progress: Progress) -> None:
    """Write all tensors of a rank in the order in which ``writer`` announced them."""
    begun = iter(writer.tensors)
    current = None
    for spec, block in tensors.stream(order):
        if spec is not current:
            current = spec
            writer.begin(next(begun))
        writer.write(block)
        progress.advance(block.nbytes)


def _publish(plan: ArtifactPlan, sums: list[FileSum]) -> None:
    artifact = Artifact(
        path=plan.folder,
        digest=plan.digest,
        model=plan.model,
        tensor_parallel_size=plan.target.tensor_parallel_size,
        precision=PRECISIONS[plan.target.bits],
        source=plan.source,
        ranks=tuple(RankFile(rank_file(i), known.bytes, known.blake3) for i, known in enumerate(sums)),
        tool_version=__version__,
    )
    write_json(plan.partial / MANIFEST, artifact.manifest())
    _rename(plan)


def _rename(plan: ArtifactPlan) -> None:
    for rank in range(plan.target.tensor_parallel_size):
        _sum_file(plan.partial, rank).unlink(missing_ok=True)
    fsync_folder(plan.partial)
    plan.partial.rename(plan.folder)
    fsync_folder(plan.output)
