"""Checkpoint -> checkpoint of another degree or precision, in the original's layout and with its bytes.

Each shard appears by a rename; ``latest``, without which nobody reads the folder, is written last.
"""

from __future__ import annotations

from pathlib import Path

from glm_engine.checkpoint import Checkpoint, shard_name
from glm_engine.convert import copy_tensors
from glm_engine.errors import ConfigError
from glm_engine.fsio import fsync_folder, no_temporaries, require_space, storage_errors, write_whole
from glm_engine.locking import exclusive
from glm_engine.progress import Progress
from glm_engine.reshard import RankTensors, Target, check_target
from glm_engine.torch_writer import TorchWriter

#: More than the container of a shard takes beside its data.
_OVERHEAD_BYTES = 1 << 20


def write_checkpoint(checkpoint: Checkpoint, target: Target, output: Path, progress: Progress) -> None:
    """Write ``checkpoint`` as ``target`` into the folder ``output``.

    Raises ``ConfigError`` (what does not fit), ``CheckpointError`` (a damaged source), ``StorageError`` (the disk).
    """
    check_target(checkpoint, target)
    folder = output / checkpoint.iteration
    if output.resolve() == checkpoint.folder.resolve():
        raise ConfigError(
            f"--output-folder {output} is the input folder; the source is never overwritten, give another"
        )
    with storage_errors(output):
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive(output / ".convert.lock", progress.waiting), no_temporaries(folder):
            _write_shards(checkpoint, target, output, progress)
    progress.end("done")


def _write_shards(checkpoint: Checkpoint, target: Target, output: Path, progress: Progress) -> None:
    folder = output / checkpoint.iteration
    count = target.tensor_parallel_size
    paths = [folder / shard_name(rank) for rank in range(count)]
    others = sorted(path.name for path in folder.glob("mp_rank_*") if path not in paths)
    if others:
        raise ConfigError(
            f"{folder}: holds {others[0]}, a shard of another degree, which would be read as part of the result; "
            "remove it or choose another output folder"
        )
    ranks = [RankTensors(checkpoint, target, rank) for rank in range(count)]
    sizes = [sum(spec.bytes for spec in tensors.specs) for tensors in ranks]
    replaced = [path.stat().st_size for path in paths if path.exists()]
    # a replaced shard's room is free again only when its successor is written
    require_space(output, sum(sizes) + _OVERHEAD_BYTES * count - sum(replaced) + max(replaced, default=0))
    latest = output / "latest"
    latest.unlink(missing_ok=True)
    progress.begin("converting", sum(sizes), count)
    for rank, (path, tensors) in enumerate(zip(paths, ranks, strict=True)):
        progress.shard(rank)
        with TorchWriter(path, tensors.specs) as writer:
            copy_tensors(tensors, tensors.specs, writer, progress)
            writer.commit()
    checkpoint.check_unchanged()
    fsync_folder(folder)
    write_whole(latest, checkpoint.iteration.encode())
    fsync_folder(output)
