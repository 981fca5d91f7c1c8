"""The golden checkpoints: the cut in the repository, and the whole set where ``GLM_GOLDEN`` names its folder."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

SMALL_ZIP = Path(__file__).parent / "golden" / "micro_small.zip"
GOLDEN = Path(os.environ["GLM_GOLDEN"]) if os.environ.get("GLM_GOLDEN") else None


def extract_small(folder: Path) -> Path:
    """Unpack the cut of ``micro`` (its ``src``, manifest and expectations) and return its folder."""
    with zipfile.ZipFile(SMALL_ZIP) as container:
        container.extractall(folder)
    return folder / "example_micro"


def read_shards(folder: Path) -> list[dict[str, torch.Tensor]]:
    """All shards of a checkpoint as torch itself reads them."""
    iteration = (folder / "latest").read_text()
    paths = sorted((folder / iteration).glob("mp_rank_*_model_states.pt"))
    return [torch.load(path, weights_only=True)["module"] for path in paths]


def describe(tensor: torch.Tensor) -> list[Any]:
    """[dtype, shape, sha256[:16] of the bytes], as the golden manifests list tensors."""
    array = tensor.numpy()
    return [str(array.dtype), list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()[:16]]


def describe_checkpoint(folder: Path) -> list[dict[str, list[Any]]]:
    """What a golden manifest says of the checkpoint in ``folder``."""
    return [{key: describe(tensor) for key, tensor in shard.items()} for shard in read_shards(folder)]


def manifest(case: Path) -> dict[str, list[dict[str, list[Any]]]]:
    """The golden manifest of a case: folder name -> [rank] -> key -> description."""
    content: dict[str, list[dict[str, list[Any]]]] = json.loads((case / "manifest.json").read_text())
    return content
