"""The training script's own forward pass and shards, against the engine and the converter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine_support import make
from glm_engine.config import Precision
from glm_engine.handle import load
from sample_model import at_precision, forward, greedy, positions, rotary_tables, shapes, visible
from sample_shards import merge, read, split, write
from sample_tokens import CONFIG, SPECIAL, Tokenizer

SAMPLE = Path(__file__).parents[2] / "samples" / "glm-sample"
TEXTS = ("The capital of France is [MASK].", "法国。 [gMASK]", "日本的货币是[MASK]。中国的首都是[MASK]。")


@pytest.mark.parametrize(("tp", "precision", "bits"), [(1, "fp16", 16), (2, "int8", 8), (4, "int4", 4)])
def test_engine_and_training_compute_the_same(tmp_path: Path, tp: int, precision: Precision, bits: int) -> None:
    weights = at_precision(read(SAMPLE), bits, tp)
    tokenizer = Tokenizer(SAMPLE / "tokenizer.model")
    engine = load(make(SAMPLE, tmp_path, CONFIG, tp, precision))
    for text in TEXTS:
        body = tokenizer.body(text)
        mask, gmask = tokenizer.mask(body)
        prompt = [*body, SPECIAL["sop"]]
        ids = [*prompt, *greedy(weights, CONFIG, [(prompt, mask, gmask)], longest=72)[0]]
        length = len(ids)
        context, at = torch.tensor([len(prompt)]), torch.tensor([mask])
        hidden = forward(
            weights,
            CONFIG,
            rotary_tables(CONFIG, length),
            torch.tensor([ids]),
            positions(context, at, torch.tensor([gmask]), length),
            visible(context, length),
        )
        logits = (hidden[0] @ weights["word_embeddings.weight"].T).numpy()
        assert np.abs(engine.score(ids, len(prompt), mask, gmask) - logits).max() < 1e-3
    engine.close()


@pytest.mark.parametrize("degree", [1, 2, 4, 8])
def test_shards_round_trip(tmp_path: Path, degree: int) -> None:
    torch.manual_seed(5)
    weights = {name: torch.randn(shape).half().float() for name, shape in shapes(CONFIG).items()}
    write(weights, tmp_path, degree, 7)
    assert (tmp_path / "latest").read_text() == "7"
    assert len(list((tmp_path / "7").iterdir())) == degree
    again = read(tmp_path)
    assert list(again) == list(weights)
    assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())


def test_a_rank_has_its_part_of_both_glu_halves() -> None:
    rows = torch.arange(8.0)[:, None]
    first, second = split("layers.0.mlp.dense_h_to_4h.weight", rows, 2)
    assert first[:, 0].tolist() == [0, 1, 4, 5]
    assert second[:, 0].tolist() == [2, 3, 6, 7]
    assert torch.equal(merge("layers.0.mlp.dense_h_to_4h.weight", [first, second]), rows)
