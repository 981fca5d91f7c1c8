"""`/generate` and `/tokenize` over the fake engine: every field works, every blank is filled, refusals are clear."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from glm_engine.config import ModelConfig
from glm_engine.fake import Faults
from glm_engine.request import Beams, Request, Sampling
from server_support import Harness, golden_cases, read_golden, scripted, toy_config, wait_until

MakeHarness = Callable[..., Harness]


def generate(server: Harness, text: str = "w1 [MASK] w2", **fields: Any) -> tuple[int, dict[str, Any]]:
    response = server.client.post("/generate", json={"text": text, **fields})
    return response.status_code, response.get_json()


def error_of(answer: tuple[int, dict[str, Any]]) -> tuple[int, str, str | None]:
    status, body = answer
    assert set(body["error"]) == {"message", "type", "param", "code", "request_id"}
    return status, body["error"]["code"], body["error"]["param"]


def test_tokenize_as_the_original(harness: MakeHarness) -> None:
    response = harness().client.post("/tokenize", json={"text": "w1 w2 [MASK] w3\nw4\nw5 [sMASK]"})
    assert response.get_json() == {
        "start_ids": [[1, 2, 240, 3, 20, 244], [4, 241, 244, 0, 0, 0], [5, 242, 244, 0, 0, 0]],
        "start_lengths": [6, 3, 3],
        "mask_positions": [2, -1, 1],
    }


def test_lines_and_blanks(harness: MakeHarness) -> None:
    server = harness(answer=scripted([7, 245], [8, 9, 20], [245]), max_batch_size=1)
    status, body = generate(server, "w1 [MASK] w2\n\nw3 [MASK] w4")
    assert status == 200
    assert body == {
        "text": ["w7 ", "w8 w9 ", ""],
        "answers": ["w1 w7 w2 ", "w8 w9 ", "w3 w4 "],
        "blanks": [["w7 "], ["w8 w9 "], [""]],
        "finish_reasons": [["stop"], ["stop"], ["stop"]],
    }


def test_several_blanks_of_one_line(harness: MakeHarness) -> None:
    server = harness(answer=scripted([7, 8, 245], [9, 245]))
    _, body = generate(server, "w1 [MASK] w2 [MASK]")
    assert body["text"] == ["w7 w8 \nw9 "]
    assert body["answers"] == ["w1 w7 w8 w2 w9 "]
    assert [list(request.prompt.ids) for request in server.engine.requests] == [
        [1, 240, 2, 240, 244],
        [1, 7, 8, 2, 240, 244],
    ]


@pytest.mark.parametrize("case", golden_cases())
def test_golden_texts(harness: MakeHarness, case: str) -> None:
    """The original's fill_blanks, by HTTP: the same model calls, and the best answer."""
    data = read_golden(case)
    model = ModelConfig.from_dict(data["config"])
    for golden in data["fill_blanks"].values():
        outputs = {tuple(call["input"]): call["outputs"] for call in golden["calls"]}

        def answer(request: Request, index: int, tokens: Any, outputs: Any = outputs) -> int:
            prompt = tuple(request.prompt.ids)
            rest = outputs[prompt][index][len(prompt) :]
            return int(rest[len(tokens)] if len(tokens) < len(rest) else 245)

        server = harness(model=model, answer=answer)
        # The original counts the prompt in; ours is per blank, so the first blank's room is given.
        room = golden["out_seq_length"] - len(golden["calls"][0]["input"])
        status, body = generate(
            server, golden["text"], sampling_strategy=golden["strategy"], out_seq_length=room, num_beams=4
        )
        assert status == 200, body
        assert list(server.engine.requests[0].prompt.ids) == golden["calls"][0]["input"]
        if len(golden["calls"]) == 1:
            assert body["answers"][0] == golden["answers"][0].replace("[[gMASK]]", "[gMASK]")
            assert body["text"] == golden["blanks"][0]


def test_defaults(harness: MakeHarness) -> None:
    server = harness(model=toy_config(max_sequence_length=2048))
    assert generate(server)[0] == 200
    request = server.engine.requests[0]
    assert request.sampling == Sampling(temperature=1.0, top_k=5, top_p=0.0, seed=1234)
    assert (request.beams, request.max_new_tokens, request.min_new_tokens) == (None, 200, 0)
    assert request.no_repeat_ngram_size == 0


def test_default_length_gives_way_to_the_context(harness: MakeHarness) -> None:
    server = harness()
    assert generate(server)[0] == 200
    assert server.engine.requests[0].max_new_tokens == 128 - len(server.engine.requests[0].prompt.ids)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"seed": 0}, {"sampling": Sampling(top_k=5, seed=0)}),
        ({"out_seq_length": 7}, {"max_new_tokens": 7}),
        ({"min_gen_length": 3}, {"min_new_tokens": 3}),
        ({"no_repeat_ngram_size": 2}, {"no_repeat_ngram_size": 2}),
        ({"temperature": 0}, {"sampling": Sampling(temperature=0, top_k=5, seed=1234)}),
        ({"topk": 0}, {"sampling": Sampling(top_k=0, seed=1234)}),
        ({"topp": 0.7}, {"sampling": Sampling(top_k=5, top_p=0.7, seed=1234)}),
        ({"topp": None, "topk": None, "seed": None}, {"sampling": Sampling(top_k=5, seed=1234)}),
        (
            {"sampling_strategy": "BeamSearchStrategy"},
            {"beams": Beams(4, 0.9, seed=1234), "no_repeat_ngram_size": 3},
        ),
        (
            {"sampling_strategy": "BeamSearchStrategy", "num_beams": 2, "length_penalty": 0, "topk": 4},
            {"beams": Beams(2, 0.0, seed=1234)},
        ),
    ],
    ids=["seed", "length", "min", "ngram", "temperature", "topk", "topp", "null", "beam-defaults", "beam-fields"],
)
def test_every_field_reaches_the_engine(harness: MakeHarness, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    server = harness()
    assert generate(server, **fields)[0] == 200
    for name, value in expected.items():
        assert getattr(server.engine.requests[0], name) == value


def test_beams_are_all_shown(harness: MakeHarness) -> None:
    def answer(request: Request, index: int, tokens: Any) -> int:
        return 245 if tokens else 30 + index

    _, body = generate(harness(answer=answer), sampling_strategy="BeamSearchStrategy", num_beams=2)
    assert body["text"] == ["w30 "]
    assert body["beams"] == [["w1 w30 w2 ", "w1 w31 w2 "]]


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"text": ""}, "empty_text", "text"),
        ({"text": 5}, "invalid_value", "text"),
        ({"text": "\ud800"}, "invalid_value", "text"),
        ({"text": "w1\n" * 65}, "invalid_value", "text"),
        ({"text": "w1 " * 127}, "context_length_exceeded", "text"),
        ({"out_seq_length": 126}, "context_length_exceeded", "out_seq_length"),
        ({"out_seq_length": 0}, "invalid_value", "out_seq_length"),
        ({"out_seq_length": True}, "invalid_value", "out_seq_length"),
        ({"min_gen_length": 9, "out_seq_length": 8}, "invalid_value", "min_gen_length"),
        ({"num_beams": 9, "sampling_strategy": "BeamSearchStrategy"}, "invalid_value", "num_beams"),
        ({"sampling_strategy": "Beam"}, "invalid_value", "sampling_strategy"),
        ({"temperature": -1}, "invalid_value", "temperature"),
        ({"temperature": "1"}, "invalid_value", "temperature"),
        ({"topp": 1.5}, "invalid_value", "topp"),
        ({"topk": -1}, "invalid_value", "topk"),
        ({"seed": 1 << 63}, "invalid_value", "seed"),
        ({"top_k": 1}, "unknown_field", "top_k"),
    ],
)
def test_refusals(harness: MakeHarness, fields: dict[str, Any], code: str, param: str) -> None:
    server = harness()
    response = server.client.post("/generate", data=json.dumps({"text": "w1 [MASK]", **fields}))
    assert error_of((response.status_code, response.get_json())) == (400, code, param)
    assert response.headers["x-should-retry"] == "false"
    assert generate(server)[0] == 200  # the next one is served


def test_refusals_say_bound_and_given(harness: MakeHarness) -> None:
    server = harness()
    _, body = generate(server, out_seq_length=500)
    assert "<= 123 for a 5-token prompt (context 128); got 500" in body["error"]["message"]
    _, body = generate(server, topk=-3)
    assert body["error"]["message"] == "`topk` must be greater than or equal to 0; got -3"
    _, body = generate(server, top_k=1)
    assert "unknown field `top_k`; known: length_penalty" in body["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [b"", b"  ", b"{", b"[]", b'"text"', b"\xff", b'{"text": NaN}', b'{"temperature": 1e999, "text": "w1"}'],
)
def test_bad_bodies(harness: MakeHarness, body: bytes) -> None:
    response = harness().client.post("/generate", data=body)
    assert response.status_code == 400
    assert response.get_json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("body", [b"[" * 100000, b'{"seed": ' + b"9" * 5000 + b"}"], ids=["deep", "long number"])
def test_hostile_json(harness: MakeHarness, body: bytes) -> None:
    response = harness().client.post("/generate", data=body)
    assert error_of((response.status_code, response.get_json()))[:2] == (400, "invalid_json")


def test_any_content_type_is_read(harness: MakeHarness) -> None:
    response = harness().client.post("/generate", data='{"text": "w1"}', content_type="text/plain")
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", "/nothing", 404, "not_found"), ("GET", "/generate", 405, "method_not_allowed")],
)
def test_http_errors_are_json(harness: MakeHarness, method: str, path: str, status: int, code: str) -> None:
    response = harness().client.open(path, method=method)
    assert error_of((response.status_code, response.get_json())) == (status, code, None)


def test_request_ids(harness: MakeHarness) -> None:
    client = harness().client
    assert client.get("/livez", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    response = client.post("/generate", data=b"", headers={"x-request-id": "not mine!"})
    assert response.headers["x-request-id"] == response.get_json()["error"]["request_id"] != "not mine!"


def test_more_lines_than_room_wait_for_each_other(harness: MakeHarness) -> None:
    server = harness(max_batch_size=1, max_waiting=1)
    status, body = generate(server, "\n".join(f"w{i}" for i in range(3, 12)))
    assert status == 200
    assert len(body["text"]) == 9


def test_full_queue_is_429(harness: MakeHarness) -> None:
    server = harness(max_batch_size=1, max_waiting=1, faults=Faults(hang_after=0))
    sessions = [server.service.session() for _ in range(2)]
    prompt = Request(_prompt(server), max_new_tokens=3)
    sessions[0].submit(prompt)
    response = server.client.post("/generate", json={"text": "w1"})
    assert (response.status_code, response.get_json()["error"]["code"]) == (429, "queue_full")
    assert 0 < int(response.headers["Retry-After"]) <= 120


def test_too_many_open_requests_are_429(harness: MakeHarness) -> None:
    server = harness()
    for _ in range(server.config.open_limit):
        server.state.admission.__enter__()
    assert error_of(generate(server)) == (429, "queue_full", None)
    server.state.admission.__exit__(None, None, None)
    assert generate(server)[0] == 200
    assert server.metric("rejected_total", reason="overloaded") == 1


def test_nan_is_an_internal_error_and_the_server_goes_on(harness: MakeHarness) -> None:
    server = harness(faults=Faults(nan_after=0))
    assert error_of(generate(server))[:2] == (500, "internal_error")
    assert server.client.get("/livez").status_code == 200


def test_crash_is_503_and_not_alive(harness: MakeHarness) -> None:
    server = harness(faults=Faults(crash_after=1))
    assert error_of(generate(server)) == (503, "engine_failed", None)
    wait_until(lambda: server.failures == ["the fake engine crashed"])
    assert server.client.get("/livez").status_code == 503
    assert error_of(generate(server))[:2] == (503, "failed")


def test_draining_is_503(harness: MakeHarness) -> None:
    server = harness()
    server.state.lifecycle.drain()
    assert error_of(generate(server)) == (503, "draining", None)
    assert server.client.get("/livez").status_code == 200
    assert server.client.get("/readyz").status_code == 503


def _prompt(server: Harness) -> Any:
    from glm_server.blanks import Filling
    from glm_server.prompt import parse

    return Filling(parse("w1", server.runtime.tokenizer), server.runtime.tokenizer).prompt()
