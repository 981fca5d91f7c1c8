"""The original's checkpoint format, ``latest`` and ``<iteration>/mp_rank_XX_model_states.pt``: whole <-> shards."""

from __future__ import annotations

from pathlib import Path

import torch

from sample_model import COLUMN_SPLIT, Weights

ROW_SPLIT = ("word_embeddings.weight", "attention.query_key_value.weight", "attention.query_key_value.bias")
GLU_SPLIT = ("mlp.dense_h_to_4h.weight", "mlp.dense_h_to_4h.bias")


def split(name: str, tensor: torch.Tensor, degree: int) -> list[torch.Tensor]:
    """One tensor for each rank. A GLU's rank r has chunks r and degree + r: its part of both halves."""
    if name.endswith(GLU_SPLIT):
        chunks = tensor.chunk(2 * degree)
        return [torch.cat((chunks[r], chunks[degree + r])) for r in range(degree)]
    if name.endswith(ROW_SPLIT):
        return list(tensor.chunk(degree))
    if name.endswith(COLUMN_SPLIT):
        return list(tensor.chunk(degree, 1))
    return [tensor] * degree


def merge(name: str, parts: list[torch.Tensor]) -> torch.Tensor:
    """The whole tensor."""
    if name.endswith(GLU_SPLIT):
        first, second = zip(*(part.chunk(2) for part in parts), strict=True)
        return torch.cat((*first, *second))
    if name.endswith(ROW_SPLIT):
        return torch.cat(parts)
    return torch.cat(parts, 1) if name.endswith(COLUMN_SPLIT) else parts[0]


def write(weights: Weights, folder: Path, degree: int, iteration: int) -> None:
    """Write float16 shards and ``latest`` (the iteration, without a newline)."""
    target = folder / str(iteration)
    target.mkdir(parents=True, exist_ok=True)
    parts = {name: split(name, tensor.half().cpu(), degree) for name, tensor in weights.items()}
    for rank in range(degree):
        module = {"transformer." + name: shards[rank].clone().contiguous() for name, shards in parts.items()}
        torch.save({"module": module, "iteration": iteration}, target / f"mp_rank_{rank:02d}_model_states.pt")
    (folder / "latest").write_text(str(iteration))


def read(folder: Path) -> Weights:
    """Whole float32 tensors of a checkpoint."""
    files = sorted((folder / (folder / "latest").read_text().strip()).glob("mp_rank_*_model_states.pt"))
    ranks = [torch.load(file, weights_only=True)["module"] for file in files]
    names = [name for name in ranks[0] if not name.endswith("inv_freq")]
    return {n.removeprefix("transformer."): merge(n, [rank[n] for rank in ranks]).float() for n in names}
