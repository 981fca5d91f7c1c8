"""GLM-130B's forward pass in plain PyTorch, its quantization, and greedy decoding: what trains and checks the sample.

Weights are a dict of whole (unsharded) float32 tensors under the original's names without ``transformer.``. Everything
is float32 arithmetic with the original's half-precision rotary tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own usage

from glm_engine.config import ModelConfig

Weights = dict[str, Tensor]

COLUMN_SPLIT = ("attention.dense.weight", "mlp.dense_4h_to_h.weight")
QUANTIZED = ("attention.query_key_value.weight", "mlp.dense_h_to_4h.weight", *COLUMN_SPLIT)


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor, in the original's order."""
    h, f = config.hidden_size, config.inner_hidden_size
    result: dict[str, tuple[int, ...]] = {"word_embeddings.weight": (config.vocab_size, h)}
    for i in range(config.num_layers):
        layer = {
            "input_layernorm": (h,),
            "attention.query_key_value": (3 * h, h),
            "attention.dense": (h, h),
            "post_attention_layernorm": (h,),
            "mlp.dense_h_to_4h": (2 * f, h),
            "mlp.dense_4h_to_h": (h, f),
        }
        for name, shape in layer.items():
            result[f"layers.{i}.{name}.weight"] = shape
            result[f"layers.{i}.{name}.bias"] = shape[:1]
    return result | {"final_layernorm.weight": (h,), "final_layernorm.bias": (h,)}


def rotary_tables(config: ModelConfig, length: int) -> tuple[Tensor, Tensor]:
    """cos and sin [length, head_dim]: the frequencies, the angles and the results are each rounded to float16."""
    d = config.head_dim
    frequency = (1.0 / 10000 ** (torch.arange(0, d, 2).float() / d)).half().float()
    angle = (torch.arange(length).float()[:, None] * frequency).half().float()
    angle = torch.cat((angle, angle), -1)
    return angle.cos().half().float(), angle.sin().half().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on ``x`` [batch, heads, length, head_dim]; pairs are (i, i + head_dim / 2)."""
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat((-high, low), -1) * sin


def positions(context: Tensor, mask: Tensor, gmask: Tensor, length: int) -> Tensor:
    """Position ids [batch, length]: from sop on they stay at the mask's index, or run on for a [gMASK].

    context, mask, gmask : [batch], as in ``glm_engine.request.Prompt``.
    """
    index = torch.arange(length, device=context.device)[None]
    fixed = (index >= context[:, None] - 1) & ~gmask[:, None]
    return torch.where(fixed, mask[:, None], index)


def visible(context: Tensor, length: int) -> Tensor:
    """Attention mask [batch, 1, length, length], True where a row may look: causal, and all of the prompt but sop."""
    index = torch.arange(length, device=context.device)
    causal = index[None, :] <= index[:, None]
    return (causal[None] | (index[None, None] < context[:, None, None] - 1))[:, None]


def forward(
    w: Weights, config: ModelConfig, tables: tuple[Tensor, Tensor], ids: Tensor, pos: Tensor, see: Tensor
) -> Tensor:
    """Final hidden states [batch, length, hidden]; multiply by the embedding's transpose for logits."""
    batch, length = ids.shape
    h, heads, d, eps = config.hidden_size, config.num_attention_heads, config.head_dim, config.layernorm_eps
    alpha = math.sqrt(2 * config.num_layers)
    cos, sin = tables[0][pos][:, None], tables[1][pos][:, None]

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (h,), w[name + ".weight"], w[name + ".bias"], eps)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, w[name + ".weight"], w[name + ".bias"])

    x = F.embedding(ids, w["word_embeddings.weight"])
    for i in range(config.num_layers):
        layer = f"layers.{i}."
        a = norm(x, layer + "input_layernorm")
        qkv = linear(a, layer + "attention.query_key_value").view(batch, length, heads, 3, d)
        q, k, v = qkv.permute(3, 0, 2, 1, 4)
        mixed = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, attn_mask=see)
        y = a * alpha + linear(mixed.transpose(1, 2).reshape(batch, length, h), layer + "attention.dense")
        b = norm(y, layer + "post_attention_layernorm")
        x1, x2 = linear(b, layer + "mlp.dense_h_to_4h").chunk(2, -1)
        x = b * alpha + linear(x1 * F.gelu(x2), layer + "mlp.dense_4h_to_h")
    return norm(x, "final_layernorm")


def fake_quantize(weight: Tensor, bits: int) -> Tensor:
    """What a matrix [rows, columns] is worth after the original's quantization: per row, symmetric, float16 scale."""
    weight = weight.half().float()
    limit = 2 ** (bits - 1) - 1
    scale = (weight.abs().amax(1, keepdim=True) / limit).half().float()
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return ((weight / scale).half().float().round() * scale).half().float()


def at_precision(w: Weights, bits: int, tensor_parallel: int = 2) -> Weights:
    """The weights as stored in float16 (``bits=16``), or quantized after the split to ``tensor_parallel`` ranks.

    Only the column-split matrices depend on the degree: each rank has scales of its own.
    """
    stored = {name: tensor.half().float() for name, tensor in w.items()}
    if bits < 16:
        for name, tensor in stored.items():
            if name.endswith(QUANTIZED):
                parts = tensor.chunk(tensor_parallel, 1) if name.endswith(COLUMN_SPLIT) else (tensor,)
                stored[name] = torch.cat([fake_quantize(part, bits) for part in parts], 1)
    return stored


@torch.no_grad()
def greedy(
    w: Weights, config: ModelConfig, prompts: Sequence[tuple[list[int], int, bool]], longest: int
) -> list[list[int]]:
    """Greedy continuations, without their end token. A prompt is (ids up to sop, mask position, gmask)."""
    device = w["word_embeddings.weight"].device
    room = max(len(ids) for ids, _, _ in prompts) + longest
    tables = tuple(t.to(device) for t in rotary_tables(config, room))
    ids = torch.zeros(len(prompts), room, dtype=torch.long)
    for row, (prompt, _, _) in zip(ids, prompts, strict=True):
        row[: len(prompt)] = torch.tensor(prompt)
    ids = ids.to(device)
    context = torch.tensor([len(prompt) for prompt, _, _ in prompts], device=device)
    mask, gmask = (torch.tensor([p[i] for p in prompts], device=device) for i in (1, 2))
    pos, see = positions(context, mask, gmask, room), visible(context, room)
    rows, end = torch.arange(len(prompts), device=device), context.clone()
    running = torch.ones_like(gmask)
    for _ in range(longest):
        now = int(end.max())
        hidden = forward(w, config, tables, ids[:, :now], pos[:, :now], see[:, :, :now, :now])  # type: ignore[arg-type] # a pair
        token = (hidden[rows, end - 1] @ w["word_embeddings.weight"].T).argmax(-1)
        running &= ~torch.isin(token, torch.tensor(config.end_ids, device=device))
        if not running.any():
            break
        ids[rows[running], end[running]] = token[running]
        end += running
    return [row[c:e].tolist() for row, c, e in zip(ids.cpu(), context.tolist(), end.tolist(), strict=True)]


def accuracy_table(rows: Sequence[tuple[str, bool]], label: Callable[[str], str] = str) -> str:
    """Right answers per label, as text."""
    groups: dict[str, list[bool]] = {}
    for key, right in rows:
        groups.setdefault(label(key), []).append(right)
    return ", ".join(f"{key} {sum(right)}/{len(right)}" for key, right in sorted(groups.items()))
