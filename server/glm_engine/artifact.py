"""An artifact: the folder from which an engine is loaded. One safetensors file per rank, described by
``manifest.json``.

The folder's name is the digest of what it was made from. It is published by one rename, its manifest written last: what
has a manifest is whole.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, get_args

import blake3

from glm_engine.config import PRECISION_BITS, ModelConfig, Precision
from glm_engine.errors import ArtifactError, ConfigError
from glm_engine.shard_writer import hash_file

FORMAT: Final = "glm-artifact"
#: Raised when a reader of the old layout would misread the new one; part of the digest.
LAYOUT_VERSION: Final = 1
MANIFEST: Final = "manifest.json"
#: bits per weight -> its name
PRECISIONS: Final = {bits: name for name, bits in PRECISION_BITS.items()}
_HEAL: Final = "convert the checkpoint again: `glm convert` rebuilds what is not whole"


@dataclass(frozen=True)
class RankFile:
    """A rank's safetensors file: name in the folder, size in bytes, BLAKE3 hash (hex)."""

    file: str
    bytes: int
    blake3: str


@dataclass(frozen=True)
class Source:
    """The checkpoint that an artifact was made from: ``identity`` is a hash of its content's directory."""

    iteration: str
    tensor_parallel_size: int
    identity: str


@dataclass(frozen=True)
class Artifact:
    """An artifact whose manifest and file sizes were found right; ``Artifact.open`` is the way to get one."""

    path: Path
    digest: str
    model: ModelConfig
    tensor_parallel_size: int
    precision: Precision
    source: Source
    ranks: tuple[RankFile, ...]
    tool_version: str

    @property
    def rank_files(self) -> list[Path]:
        """Paths of the ranks' files, rank 0 first."""
        return [self.path / rank.file for rank in self.ranks]

    @property
    def bytes(self) -> int:
        """Bytes of all ranks."""
        return sum(rank.bytes for rank in self.ranks)

    def manifest(self) -> dict[str, Any]:
        """The content of ``manifest.json``."""
        return {
            "format": FORMAT,
            "layout_version": LAYOUT_VERSION,
            "digest": self.digest,
            "model": self.model.to_dict(),
            "tensor_parallel_size": self.tensor_parallel_size,
            "precision": self.precision,
            "source": vars(self.source),
            "ranks": [vars(rank) for rank in self.ranks],
            "tool_version": self.tool_version,
        }

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Read the manifest in ``path`` and compare the files' sizes with it. Raises ``ArtifactError``."""
        folder = Path(path).resolve()
        data = _read_manifest(folder, shown=Path(path))
        try:
            artifact = cls(
                path=folder,
                digest=str(data["digest"]),
                model=ModelConfig.from_dict(data["model"]),
                tensor_parallel_size=int(data["tensor_parallel_size"]),
                precision=data["precision"],
                source=Source(**data["source"]),
                ranks=tuple(RankFile(**rank) for rank in data["ranks"]),
                tool_version=str(data["tool_version"]),
            )
        except (KeyError, TypeError, ValueError, ConfigError) as error:
            raise ArtifactError(f"{folder / MANIFEST}: is damaged ({error!r}); {_HEAL}") from error
        artifact._check()
        return artifact

    def _check(self) -> None:
        if self.precision not in get_args(Precision):
            raise ArtifactError(f"{self.path}: expected a precision of {get_args(Precision)}; found {self.precision!r}")
        if len(self.ranks) != self.tensor_parallel_size:
            raise ArtifactError(
                f"{self.path}: expected {self.tensor_parallel_size} ranks; the manifest has {len(self.ranks)}. {_HEAL}"
            )
        for rank in self.ranks:
            file = self.path / rank.file
            if Path(rank.file).name != rank.file:
                raise ArtifactError(f"{self.path}: {rank.file!r} in the manifest is no file's name. {_HEAL}")
            found = file.stat().st_size if file.is_file() else None
            if found != rank.bytes:
                seen = "no such file" if found is None else f"{found} bytes"
                raise ArtifactError(f"{file}: expected {rank.bytes} bytes; found {seen}. {_HEAL}")

    def damaged(self) -> list[str]:
        """Read every byte and return the names of the files that are not what was written."""
        return [rank.file for rank in self.ranks if hash_file(self.path / rank.file).blake3 != rank.blake3]


def _read_manifest(folder: Path, shown: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ArtifactError(f"{shown}: there is no such folder; `glm convert` makes one from a checkpoint")
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(f"{shown}: has no {MANIFEST}, so it is not an artifact, or not a whole one; {_HEAL}")
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, OSError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); {_HEAL}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ArtifactError(f"{path}: expected the format {FORMAT!r}; this is another program's file")
    if data.get("layout_version") != LAYOUT_VERSION:
        raise ArtifactError(
            f"{path}: expected layout version {LAYOUT_VERSION}; found {data.get('layout_version')!r}. Use the "
            "version of glm that wrote it, or convert the checkpoint again with this one"
        )
    return data


def digest_of(value: Any) -> str:
    """A name for content: 32 hex digits of the BLAKE3 hash of ``value``'s JSON."""
    return blake3.blake3(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest(length=16)
