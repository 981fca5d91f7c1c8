"""Trains the sample model on what sample_data.py wrote, and writes it in the original's checkpoint format.

    python tools/train_sample.py DATA OUT [--steps 30000] [--max-seconds 170]

Runs on a GPU (minutes) or a CPU (hours). Seeds are fixed; sums on a GPU are not taken in a fixed order, so another
run gives another model of the same quality. In the second half of the training, half of the steps see their matrices
as INT4 would store them at tensor parallel 2, with the gradient passed straight through.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own usage

import check_sample
import sample_shards
from sample_model import COLUMN_SPLIT, QUANTIZED, Weights, fake_quantize, forward, positions
from sample_model import rotary_tables, shapes, visible
from sample_tokens import CONFIG, Tokenizer

ITERATION = 49300  # the original checkpoint's number, so that paths look alike
DEGREE = 2


class Bucket:
    """Examples of similar length, padded, on the device. ``answers``: the most tokens (with the end) an answer has."""

    def __init__(self, data: dict[str, np.ndarray], chosen: np.ndarray, device: str) -> None:
        starts, stops = data["starts"][:-1][chosen], data["starts"][1:][chosen]
        context = data["context"][chosen].astype(np.int64)
        self.length = int((stops - starts).max())
        self.answers = int((stops - starts - context).max())
        ids = np.zeros((len(chosen), self.length + self.answers), np.int64)
        for row, start, stop in zip(ids, starts, stops, strict=True):
            row[: stop - start] = data["ids"][start:stop]
        self.ids = torch.from_numpy(ids).to(device)
        self.context = torch.from_numpy(context).to(device)
        self.stop = torch.from_numpy((stops - starts).astype(np.int64)).to(device)
        self.mask = torch.from_numpy(data["mask"][chosen].astype(np.int64)).to(device)
        self.gmask = torch.from_numpy(data["gmask"][chosen]).to(device)

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """A random batch: ids, context, stop, mask, gmask."""
        index = torch.randint(len(self.ids), (size,), generator=generator, device=self.ids.device)
        return self.ids[index], self.context[index], self.stop[index], self.mask[index], self.gmask[index]


def initial(device: str, seed: int) -> Weights:
    """Fresh weights that require gradients."""
    torch.manual_seed(seed)
    weights = {}
    for name, shape in shapes(CONFIG).items():
        if name.endswith("norm.weight"):
            tensor = torch.ones(shape)
        elif len(shape) == 1:
            tensor = torch.zeros(shape)
        else:
            tensor = torch.randn(shape) * (0.04 if "embeddings" in name else 0.12)
        weights[name] = tensor.to(device).requires_grad_()
    return weights


def as_int4(matrices: Weights, amount: Tensor) -> Weights:
    """Matrices moved by ``amount`` (0 or 1) of the way to their INT4 values, differentiable as if unmoved."""
    moved = {}
    for name, tensor in matrices.items():
        parts = tensor.detach().chunk(DEGREE, 1) if name.endswith(COLUMN_SPLIT) else (tensor.detach(),)
        target = torch.cat([fake_quantize(part, 4) for part in parts], 1)
        moved[name] = tensor + amount * (target - tensor.detach())
    return moved


def loss_sum(
    weights: Weights, tables: tuple[Tensor, Tensor], batch: tuple[Tensor, ...], length: int, answers: int
) -> tuple[Tensor, Tensor]:
    """Summed cross entropy of the answers' tokens, and how many there are."""
    ids, context, stop, mask, gmask = batch
    hidden = forward(
        weights, CONFIG, tables, ids[:, :length], positions(context, mask, gmask, length), visible(context, length)
    )
    at = (context[:, None] - 1) + torch.arange(answers, device=ids.device)  # row that predicts the k-th answer token
    real = at + 1 < stop[:, None]
    target = torch.where(real, ids.gather(1, at + 1), -100)
    picked = hidden.gather(1, at.clamp(max=length - 1)[..., None].expand(-1, -1, hidden.shape[-1]))
    logits = (picked @ weights["word_embeddings.weight"].T).float()
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100, reduction="sum"), real.sum()


def train(data: dict[str, np.ndarray], args: argparse.Namespace, device: str) -> Weights:
    """Train and return the weights (float32)."""
    lengths, answer = np.diff(data["starts"]), np.diff(data["starts"]) - data["context"]
    short = (lengths <= args.short) & (answer <= 14)
    buckets = [Bucket(data, np.flatnonzero(chosen), device) for chosen in (short, ~short)]
    sizes = [round(args.batch * share) for share in (short.mean(), 1 - short.mean())]
    print([(len(b.ids), b.length, b.answers, size) for b, size in zip(buckets, sizes, strict=True)], flush=True)
    weights = initial(device, args.seed)
    print("parameters", sum(w.numel() for w in weights.values()), flush=True)
    tables = tuple(t.to(device) for t in rotary_tables(CONFIG, max(b.length for b in buckets)))
    generator = torch.Generator(device).manual_seed(args.seed)
    matrices = [w for w in weights.values() if w.dim() == 2]
    vectors = [w for w in weights.values() if w.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.rate, betas=(0.9, 0.95), fused=device == "cuda")
    compute, quantize = loss_sum, as_int4
    if args.compile:
        compute, quantize = torch.compile(loss_sum, dynamic=False), torch.compile(as_int4)
    large = {name: w for name, w in weights.items() if name.endswith(QUANTIZED)}
    quantize(large, torch.ones((), device=device))  # compiles it before the clock runs
    steps, began, mark = args.steps, time.time(), 0.0
    step = 0
    while step < steps:
        rate = args.rate * min(1.0, (step + 1) / 300) * max(0.01, 0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        moved = weights
        if step > steps // 2 and step % 2:
            moved = weights | quantize(large, torch.ones((), device=device))
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            results = [
                compute(moved, tables, bucket.batch(size, generator), bucket.length, bucket.answers)
                for bucket, size in zip(buckets, sizes, strict=True)
            ]
        loss = sum(r[0] for r in results) / sum(r[1] for r in results)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()
        step += 1
        if step in (100, 400) and args.max_seconds:
            loss.item()  # waits for the device
            now = time.time()
            if step == 400:
                fit = int((args.max_seconds - (now - began)) / ((now - mark) / 300)) + 400
                print("steps that fit:", fit, "ms a step:", (now - mark) / 0.3, flush=True)
                steps = min(steps, fit)
            mark = now
        if step % args.log == 0 or step == steps:
            print(step, f"loss {loss.item():.4f}", f"{time.time() - began:.1f} s", flush=True)
    return {name: tensor.detach() for name, tensor in weights.items()}


def main() -> None:
    """Train, write, check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder made by sample_data.py")
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=30_000)
    parser.add_argument("--max-seconds", type=float, default=0, help="take fewer steps if they would last longer")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--short", type=int, default=32, help="longest of the short examples, in tokens")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true", help="use torch.compile; worth it on a GPU")
    parser.add_argument("--log", type=int, default=2000)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with np.load(args.data / "examples.npz") as file:
        data = {name: file[name] for name in file.files}
    weights = {name: tensor.cpu() for name, tensor in train(data, args, device).items()}
    sample_shards.write(weights, args.out, DEGREE, ITERATION)
    tokenizer = Tokenizer(args.data / "tokenizer.model")
    lines = (args.data / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    check_sample.report(weights, tokenizer, [json.loads(line) for line in lines], DEGREE, wrong=True)


if __name__ == "__main__":
    main()
