"""From the original's checkpoint to an HTTP answer by the compiled engine: the original's own answers come out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from glm_engine.artifact import Artifact
from glm_engine.checkpoint import Checkpoint
from glm_engine.config import ModelConfig
from glm_engine.convert import make_artifact, plan_artifact
from glm_engine.handle import EngineLimits, load
from glm_engine.progress import Progress
from glm_engine.reshard import Target
from golden_micro import extract_small
from server_support import Harness, read_golden

#: How the golden fill_blanks were searched.
BEAMS = {"num_beams": 4, "length_penalty": 1.0, "no_repeat_ngram_size": 3, "min_gen_length": 2}


@pytest.fixture(scope="module")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The small golden case as a 2-way FP16 artifact."""
    folder = tmp_path_factory.mktemp("micro")
    model = ModelConfig.from_dict(read_golden("micro")["config"])
    with Checkpoint(extract_small(folder) / "src") as checkpoint:
        return make_artifact(plan_artifact(checkpoint, Target(2, 16), model, folder / "out"), Progress())


@pytest.fixture
def server(micro: Artifact, harness: Callable[..., Harness]) -> Harness:
    return harness(model=micro.model, real=load(micro, limits=EngineLimits(max_batch_size=8)))


def single_calls() -> list[tuple[str, dict[str, Any]]]:
    return [(name, fill) for name, fill in read_golden("micro")["fill_blanks"].items() if len(fill["calls"]) == 1]


@pytest.mark.parametrize(("name", "golden"), single_calls(), ids=[name for name, _ in single_calls()])
def test_answers_of_the_original(server: Harness, name: str, golden: dict[str, Any]) -> None:
    room = golden["out_seq_length"] - len(golden["calls"][0]["input"])  # the original counts the prompt in
    fields = {"text": golden["text"], "sampling_strategy": golden["strategy"], "out_seq_length": room, "topk": 1}
    response = server.client.post("/generate", json=fields | (BEAMS if "Beam" in name else {}))
    body = response.get_json()
    assert response.status_code == 200, body
    answers = [answer.replace("[[gMASK]]", "[gMASK]") for answer in golden["answers"]]
    if golden["strategy"] == "BeamSearchStrategy":
        assert body["beams"] == [answers]
    assert body["answers"] == answers[:1]
    assert body["text"] == golden["blanks"][0]


def test_lines_together_and_alone_are_the_same(server: Harness) -> None:
    lines = [golden["text"] for _, golden in single_calls()]
    fields = {"out_seq_length": 20, "temperature": 0.9, "topk": 0, "topp": 0.9, "seed": 5}
    together = server.client.post("/generate", json={"text": "\n".join(lines), **fields}).get_json()["text"]
    alone = [server.client.post("/generate", json={"text": line, **fields}).get_json()["text"][0] for line in lines]
    assert together == alone


def test_two_blanks(server: Harness) -> None:
    golden = read_golden("micro")["fill_blanks"]["two_masks/BeamSearchStrategy"]
    body = server.client.post(
        "/generate",
        json={
            "text": golden["text"],
            "sampling_strategy": "BeamSearchStrategy",
            "out_seq_length": 22,
            **BEAMS,
        },
    ).get_json()
    assert body["blanks"][0] == golden["blanks"][0]
    assert body["answers"][0] == golden["answers"][0]


def test_engine_refusals_name_the_originals_fields(micro: Artifact, harness: Callable[..., Harness]) -> None:
    engine = load(micro, limits=EngineLimits(max_batch_size=4, max_sequence_length=64, kv_blocks=4))
    server = harness(model=micro.model, real=engine)
    response = server.client.post("/generate", json={"text": "w1", "out_seq_length": 100})
    assert (response.status_code, response.get_json()["error"]["param"]) == (400, "out_seq_length")


def test_metrics_of_the_compiled_engine(server: Harness) -> None:
    server.client.post("/generate", json={"text": "w1", "out_seq_length": 5, "min_gen_length": 5})
    text = server.management.get("/metrics").get_data(as_text=True)
    for name in ("kv_blocks_capacity", "kv_blocks_free", "engine_steps_total", "preemptions_total", "requests_running"):
        assert f"glm_{name} " in text
    assert server.metric("generation_tokens_total") == 5


def test_openai_completions_of_the_compiled_engine(server: Harness) -> None:
    """As `/generate` says it, whole and streamed, with log-probabilities that are ones."""
    fields = {"model": "toy", "prompt": "w9 w12 [sMASK]", "max_tokens": 12, "seed": 5, "temperature": 0.9}
    original = {"text": fields["prompt"], "out_seq_length": 12, "seed": 5, "temperature": 0.9, "topk": 0}
    expected = server.client.post("/generate", json=original).get_json()["text"][0]
    whole = server.client.post("/v1/completions", json=fields | {"logprobs": 3, "n": 2}).get_json()
    choice = whole["choices"][0]
    assert expected
    assert choice["text"] == expected == "".join(choice["logprobs"]["tokens"])
    assert all(value < 0 for value in choice["logprobs"]["token_logprobs"])
    stream = server.client.post("/v1/completions", json=fields | {"stream": True}).get_data(as_text=True)
    *chunks, done = [line.removeprefix("data: ") for line in stream.split("\n\n") if line.startswith("data: ")]
    assert done == "[DONE]"
    assert "".join(json.loads(chunk)["choices"][0]["text"] for chunk in chunks) == expected


@pytest.mark.parametrize("prompt", ["w1", "w9 w12 [sMASK]", "w30 [gMASK]"])
def test_scores_are_the_log_probabilities_of_generation(server: Harness, prompt: str) -> None:
    """What was generated token by token, scored in one pass."""
    body = {"model": "toy", "prompt": prompt, "max_tokens": 8, "temperature": 0, "logprobs": 0}
    choice = server.client.post("/v1/completions", json=body).get_json()["choices"][0]
    assert len(choice["logprobs"]["tokens"]) == 8
    score = {"model": "toy", "context": prompt, "continuations": [choice["text"]]}
    (found,) = server.client.post("/v1/score", json=score).get_json()["scores"]
    assert found["greedy"]
    assert found["token_logprobs"] == pytest.approx(choice["logprobs"]["token_logprobs"], abs=1e-4)
