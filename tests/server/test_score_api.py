"""`/v1/score` over the fake engine, and chat's refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from server_support import Harness

MakeHarness = Callable[..., Harness]


def score(server: Harness, **fields: Any) -> tuple[int, dict[str, Any]]:
    body = {"model": "toy", "context": "w1 [MASK] w2", "continuations": ["w7 w8"]}
    response = server.client.post("/v1/score", json=body | fields)
    return response.status_code, response.get_json()


def test_log_likelihoods(harness: MakeHarness) -> None:
    server = harness()
    status, body = score(server, continuations=["w7 w8", [9]])
    assert (status, body["model"], body["context_tokens"]) == (200, "toy", 5)
    prompt = [1, 240, 2, 20, 244]
    for found, ids in zip(body["scores"], ([7, 8], [9]), strict=True):
        logits = server.engine.score([*prompt, *ids], 5, 1, False).astype(np.float64)
        rows = logits[4 : 4 + len(ids)]
        expected = [row[token] - np.log(np.exp(row).sum()) for row, token in zip(rows, ids, strict=True)]
        assert found["tokens"] == ids
        assert found["token_logprobs"] == pytest.approx(expected)
        assert found["logprob"] == pytest.approx(sum(expected))
        assert found["greedy"] is False


def test_greedy(harness: MakeHarness) -> None:
    server = harness()
    best = int(server.engine.score([1, 241, 244, 0], 3, 1, True)[2].argmax())
    _, body = score(server, context=[1], continuations=[[best], [best, 0, 0]])
    assert [found["greedy"] for found in body["scores"]] == [True, False]


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"context": []}, "invalid_value", "context"),
        ({"context": [999]}, "invalid_value", "context"),
        ({"context": "[MASK] [MASK]"}, "invalid_value", "context"),
        ({"context": "w1 " * 126}, "context_length_exceeded", "continuations"),
        ({"continuations": []}, "invalid_value", "continuations"),
        ({"continuations": [""]}, "invalid_value", "continuations"),
        ({"continuations": [[-1]]}, "invalid_value", "continuations"),
        ({"continuations": "w1"}, "invalid_value", "continuations"),
        ({"continuations": ["w1"] * 65}, "invalid_value", "continuations"),
        ({"model": "other"}, "model_not_found", "model"),
        ({"extra": 1}, "unknown_field", "extra"),
    ],
)
def test_refusals(harness: MakeHarness, fields: dict[str, Any], code: str, param: str) -> None:
    status, body = score(harness(), **fields)
    assert (body["error"]["code"], body["error"]["param"]) == (code, param)
    assert status == (404 if code == "model_not_found" else 400)


def test_chat_is_refused_with_the_reason(harness: MakeHarness) -> None:
    response = harness().client.post("/v1/chat/completions", json={"model": "toy", "messages": []})
    assert response.status_code == 400
    assert response.get_json()["error"]["code"] == "chat_not_supported"
    assert "/v1/completions" in response.get_json()["error"]["message"]
