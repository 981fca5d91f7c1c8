"""Trains the sample model on what sample_data.py wrote, and writes it in the original's checkpoint format.

    python tools/train_sample.py DATA OUT [--steps 20000] [--max-seconds 0] [--init CHECKPOINT]

Runs on a GPU (minutes; every step is one CUDA graph) or a CPU (hours). Seeds are fixed, but a GPU does not add in a
fixed order: another run gives another model of the same quality. In the second half of the training, every other step
sees its matrices as INT4 stores them at tensor parallel 2, with the gradient passed straight through.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own usage

import sample_shards
from sample_model import (
    COLUMN_SPLIT,
    QUANTIZED,
    Weights,
    fake_quantize,
    forward,
    positions,
    rotary_tables,
    shapes,
    visible,
)
from sample_tokens import CONFIG

ITERATION = 49300  # the original checkpoint's number, so that paths look alike
DEGREE = 2


class Bucket:
    """Examples of similar length, padded, on the device; ``index`` [size] says which of them are the batch.

    ``answers``: the most tokens (with the end) that an answer has.
    """

    def __init__(self, data: dict[str, np.ndarray], chosen: np.ndarray, size: int, device: str) -> None:
        starts, stops = data["starts"][:-1][chosen], data["starts"][1:][chosen]
        context = data["context"][chosen].astype(np.int64)
        self.length = int((stops - starts).max())
        self.answers = int((stops - starts - context).max())
        column = np.arange(self.length + self.answers)[None]
        inside = column < (stops - starts)[:, None]
        ids = np.where(inside, data["ids"][np.where(inside, starts[:, None] + column, 0)], 0)
        self.ids, self.context, self.stop, self.mask, self.gmask = (
            torch.from_numpy(array).to(device)
            for array in (ids, context, (stops - starts), data["mask"][chosen], data["gmask"][chosen])
        )
        self.index = torch.zeros(size, dtype=torch.long, device=device)

    def draw(self, generator: torch.Generator) -> None:
        """Choose another batch at random."""
        self.index.random_(0, len(self.ids), generator=generator)

    def loss(self, weights: Weights, tables: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Summed cross entropy of the answers' tokens in the batch, and how many tokens these are."""
        ids, context, stop, mask = (x[self.index].long() for x in (self.ids, self.context, self.stop, self.mask))
        pos, see = positions(context, mask, self.gmask[self.index], self.length), visible(context, self.length)
        hidden = forward(weights, CONFIG, tables, ids[:, : self.length], pos, see)
        at = (context[:, None] - 1) + torch.arange(self.answers, device=ids.device)  # rows that predict the answer
        real = at + 1 < stop[:, None]
        target = torch.where(real, ids.gather(1, at + 1), -100)
        picked = hidden.gather(1, at.clamp(max=self.length - 1)[..., None].expand(-1, -1, hidden.shape[-1]))
        logits = (picked @ weights["word_embeddings.weight"].T).float()
        return F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="sum"), real.sum()


class Trainer:
    """One training step, as plain calls on a CPU and as a CUDA graph on a GPU."""

    def __init__(self, weights: Weights, buckets: list[Bucket], device: str) -> None:
        self.weights, self.buckets, self.device = weights, buckets, device
        self.large = {name: w for name, w in weights.items() if name.endswith(QUANTIZED)}
        cos, sin = rotary_tables(CONFIG, max(b.length for b in buckets))
        self.tables = cos.to(device), sin.to(device)
        self.int4 = torch.zeros((), device=device)
        self.rate: Tensor | float = torch.zeros((), device=device) if device == "cuda" else 0.0
        groups = [
            {"params": [w for w in weights.values() if w.dim() == 2], "weight_decay": 0.01},
            {"params": [w for w in weights.values() if w.dim() == 1], "weight_decay": 0.0},
        ]
        gpu = {"fused": True, "capturable": True} if device == "cuda" else {}
        self.optimizer = torch.optim.AdamW(groups, lr=self.rate, betas=(0.9, 0.95), **gpu)
        self.graph = self.capture() if device == "cuda" else None

    def compute(self) -> Tensor:
        """Loss, gradients, and the optimizer's step."""
        self.optimizer.zero_grad(set_to_none=True)
        weights = self.weights | as_int4(self.large, self.int4)
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.device == "cuda"):
            sums, counts = zip(*(bucket.loss(weights, self.tables) for bucket in self.buckets), strict=True)
        loss = torch.stack(sums).sum() / torch.stack(counts).sum()
        loss.backward()  # type: ignore[no-untyped-call] # as PyTorch declares it
        torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
        self.optimizer.step()
        return loss.detach()

    def capture(self) -> torch.cuda.CUDAGraph:
        """Record the step, after a few unrecorded ones at rate 0."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call] # as PyTorch declares it
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.compute()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.loss = self.compute()
        return graph

    def step(self, rate: float, int4: bool) -> None:
        """Take one step; ``self.loss`` is its loss."""
        self.int4.fill_(float(int4))
        if self.graph is not None:
            self.rate.fill_(rate)  # type: ignore[union-attr] # a tensor wherever there is a graph
            self.graph.replay()
        else:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.loss = self.compute()


def initial(seed: int) -> Weights:
    """Fresh weights."""
    torch.manual_seed(seed)
    weights = {}
    for name, shape in shapes(CONFIG).items():
        if name.endswith("norm.weight"):
            weights[name] = torch.ones(shape)
        elif len(shape) == 1:
            weights[name] = torch.zeros(shape)
        else:
            weights[name] = torch.randn(shape) * (0.04 if "embeddings" in name else 0.12)
    return weights


def as_int4(matrices: Weights, amount: Tensor) -> Weights:
    """Matrices moved by ``amount`` (0 or 1) of the way to their INT4 values, differentiable as if unmoved."""
    moved = {}
    for name, tensor in matrices.items():
        parts = tensor.detach().chunk(DEGREE, 1) if name.endswith(COLUMN_SPLIT) else (tensor.detach(),)
        target = torch.cat([fake_quantize(part, 4) for part in parts], 1)
        moved[name] = tensor + amount * (target - tensor.detach())
    return moved


def train(data: dict[str, np.ndarray], weights: Weights, args: argparse.Namespace, device: str) -> Weights:
    """Train and return the weights (float32, on the CPU)."""
    began = time.time()
    lengths, answer = np.diff(data["starts"]), np.diff(data["starts"]) - data["context"]
    short = (lengths <= args.short) & (answer <= 14)
    buckets = [
        Bucket(data, np.flatnonzero(chosen), max(1, round(args.batch * chosen.mean())), device)
        for chosen in (short, ~short)
    ]
    print([(len(b.ids), b.length, b.answers, len(b.index)) for b in buckets], flush=True)
    weights = {name: tensor.to(device).requires_grad_() for name, tensor in weights.items()}
    print("parameters", sum(w.numel() for w in weights.values()), flush=True)
    trainer = Trainer(weights, buckets, device)
    generator = torch.Generator(device).manual_seed(args.seed)
    steps, timed, step = args.steps, (20, 120), 0
    while step < steps:
        for bucket in buckets:
            bucket.draw(generator)
        rate = args.rate * min(1.0, (step + 1) / 300) * max(0.01, 0.5 + 0.5 * math.cos(math.pi * step / steps))
        trainer.step(rate, int4=step > steps // 2 and step % 2 == 1)
        step += 1
        if step in timed and args.max_seconds:
            trainer.loss.item()  # waits for the device
            if step == timed[0]:
                mark = time.time()
            else:
                each = (time.time() - mark) / (timed[1] - timed[0])
                steps = min(steps, step + int((args.max_seconds - (time.time() - began)) / each))
                print(f"{each * 1e3:.2f} ms a step: {steps} steps", flush=True)
        if step % args.log == 0 or step == steps:
            print(step, f"loss {trainer.loss.item():.4f}", f"{time.time() - began:.1f} s", flush=True)
    return {name: tensor.detach().cpu() for name, tensor in weights.items()}


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder made by sample_data.py")
    parser.add_argument("out", type=Path)
    parser.add_argument("--init", type=Path, help="go on from this checkpoint")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--max-seconds", type=float, default=0, help="take fewer steps if they would last longer")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--short", type=int, default=32, help="longest of the short examples, in tokens")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=int, default=1000)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with np.load(args.data / "examples.npz") as file:
        data = {name: file[name] for name in file.files}
    weights = sample_shards.read(args.init) if args.init else initial(args.seed)
    sample_shards.write(train(data, weights, args, device), args.out, DEGREE, ITERATION)


if __name__ == "__main__":
    main()
