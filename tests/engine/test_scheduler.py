"""The scheduler through the whole engine: a request's tokens do not depend on what else runs, and nothing is lost.

Random traffic on a golden model, on an engine with so few KV blocks that requests are sent back and computed again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine_support import Golden, drain, make, run
from glm_engine.artifact import Artifact
from glm_engine.errors import ConfigError, EngineError, QueueFullError, RequestError
from glm_engine.handle import CompiledEngine, EngineLimits, load
from glm_engine.request import Beams, Prompt, Request, Sampling
from golden_micro import extract_small

#: 40 blocks of 4 tokens: a few requests at a time, and often one too many.
TIGHT = EngineLimits(
    max_sequence_length=96, max_batch_size=8, max_waiting=200, block_size=4, kv_blocks=40, prefill_layer_tokens=8
)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    golden = Golden.open(extract_small(tmp_path_factory.mktemp("golden")))
    return make(golden.folder / "src", tmp_path_factory.mktemp("artifacts"), golden.model, 2, "int8")


@pytest.fixture(scope="module")
def alone(artifact: Artifact) -> Iterator[CompiledEngine]:
    """An engine with room for everything, asked one request at a time."""
    engine = load(artifact, limits=EngineLimits(max_sequence_length=96, max_batch_size=8, max_waiting=200))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def crowded(artifact: Artifact) -> Iterator[CompiledEngine]:
    engine = load(artifact, limits=TIGHT)
    yield engine
    engine.close()


def prompt(ids: list[int], *, gmask: bool) -> Prompt:
    """A prompt of the golden model: [gMASK] last, or [MASK] in the middle and eos last; then sop."""
    if gmask:
        return Prompt([*ids, 241, 244], len(ids), True)
    middle = len(ids) // 2
    return Prompt([*ids[:middle], 240, *ids[middle:], 20, 244], middle, False)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    ids = draw(st.lists(st.integers(0, 239), min_size=0, max_size=40))
    # Few different prompts, so that some are asked twice.
    if draw(st.booleans()):
        ids = [7] * (len(ids) // 8)
    length = draw(st.integers(1, 30))
    base = Request(
        prompt(ids, gmask=draw(st.booleans())),
        length,
        min_new_tokens=draw(st.integers(0, length)),
        no_repeat_ngram_size=draw(st.sampled_from([0, 0, 2, 3])),
        ignore_end=draw(st.booleans()),
    )
    if draw(st.integers(0, 3)) == 0:
        return replace(
            base,
            beams=Beams(draw(st.integers(1, 3)), draw(st.floats(0, 1)), draw(st.booleans()), draw(st.integers(0, 9))),
        )
    return replace(
        base,
        n=draw(st.integers(1, 3)),
        logprobs=draw(st.sampled_from([None, 0, 3])),
        stop_ids=draw(st.lists(st.integers(0, 239), max_size=3)),
        sampling=Sampling(
            temperature=draw(st.sampled_from([0.0, 0.7, 1.0, 3.0])),
            top_k=draw(st.sampled_from([0, 1, 5, 300])),
            top_p=draw(st.sampled_from([0.0, 0.5, 0.9, 1.0])),
            seed=draw(st.integers(0, 2**64 - 1)),
            repetition_penalty=draw(st.sampled_from([1.0, 1.3])),
            frequency_penalty=draw(st.sampled_from([0.0, 0.5])),
            presence_penalty=draw(st.sampled_from([0.0, -0.5])),
            logit_bias=draw(st.dictionaries(st.integers(0, 255), st.floats(-5, 5), max_size=3)),
        ),
    )


def settle(engine: CompiledEngine) -> None:
    """Nothing runs, waits or holds a block."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        stats = engine.stats()
        if not (stats["running"] or stats["waiting"] or stats["kv_blocks_live"]):
            return
        time.sleep(0.005)
    raise AssertionError(engine.stats())


@given(traffic=st.lists(requests(), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_tokens_do_not_depend_on_what_else_runs(
    alone: CompiledEngine, crowded: CompiledEngine, traffic: list[Request]
) -> None:
    together = run(crowded, traffic)
    settle(crowded)
    for request, answer in zip(traffic, together, strict=True):
        single = run(alone, [request])[0]
        assert answer.tokens == single.tokens
        assert answer.finish == single.finish
        assert answer.last is not None
        assert single.last is not None
        assert answer.last.beams == single.last.beams
        assert answer.last.scores == single.last.scores
    settle(alone)


def test_requests_are_sent_back_and_computed_again(crowded: CompiledEngine) -> None:
    """The property above is worth little if blocks never run out: here they do."""
    before = crowded.stats()["preemptions"]
    traffic = [Request(prompt([i] * 20, gmask=True), 60, Sampling(seed=i), ignore_end=True, n=1) for i in range(8)]
    together = run(crowded, traffic)
    assert crowded.stats()["preemptions"] > before
    for request, answer in zip(traffic, together, strict=True):
        assert run(crowded, [request])[0].tokens == answer.tokens
        assert len(answer.tokens[0]) == 60


def test_many_long_choices_are_computed_again_in_parts(artifact: Artifact) -> None:
    """Together they have more rows than a pass may have: 4 choices of up to 80 tokens, and 96 rows."""
    limits = EngineLimits(
        max_sequence_length=96,
        max_batch_size=8,
        block_size=4,
        kv_blocks=90,
        max_prefill_tokens=8,
        prefill_layer_tokens=1,
    )
    engine = load(artifact, limits=limits)
    try:
        traffic = [Request(prompt([i] * 6, gmask=True), 80, Sampling(seed=i), ignore_end=True, n=4) for i in (1, 2)]
        together = run(engine, traffic)
        assert engine.stats()["preemptions"] > 0
        settle(engine)
        for request, answer in zip(traffic, together, strict=True):
            assert run(engine, [request])[0].tokens == answer.tokens
            assert [len(tokens) for tokens in answer.tokens.values()] == [80] * 4
    finally:
        engine.close()


def test_a_prompt_is_computed_once(alone: CompiledEngine) -> None:
    request = Request(prompt([9, 8, 7, 6] * 5, gmask=True), 8, Sampling(seed=3), n=3, share_key="one")
    first = run(alone, [request])[0]
    computed = alone.stats()["prompt_tokens"]
    again = run(alone, [request, replace(request, sampling=Sampling(seed=4)), request])
    assert alone.stats()["prompt_tokens"] == computed
    assert again[0].tokens == first.tokens == again[2].tokens
    assert again[1].tokens != first.tokens
    run(alone, [replace(request, share_key="other")])
    assert alone.stats()["prompt_tokens"] == computed + len(request.prompt.ids), "another key computes it anew"


@given(traffic=st.lists(st.tuples(requests(), st.integers(0, 4)), min_size=1, max_size=10))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_cancelled_requests_leave_nothing(crowded: CompiledEngine, traffic: list[tuple[Request, int]]) -> None:
    order = random.Random(len(traffic))
    running = {}
    for request, _ in traffic:
        running[crowded.submit(request)] = request
    for identity, (_, when) in zip(list(running), traffic, strict=True):
        if when:
            time.sleep(order.random() * 0.002)
            crowded.cancel(identity)
    answers = drain(crowded, running)
    settle(crowded)
    for request, answer in zip(running.values(), answers, strict=True):
        assert set(answer.finish.values()) <= {"stop", "length", "cancelled"}
        if "cancelled" not in answer.finish.values():
            assert len(answer.finish) == (1 if request.beams else request.n)


def test_a_deadline_ends_a_request_with_what_it_has(artifact: Artifact) -> None:
    engine = load(artifact, limits=EngineLimits(max_sequence_length=2000))
    try:
        request = Request(prompt([1, 2, 3], gmask=True), 1900, ignore_end=True, max_time_s=0.05)
        answer = run(engine, [request])[0]
        assert answer.finish == {0: "time"}
        assert 0 < len(answer.tokens[0]) < 1900
        beams = run(engine, [replace(request, beams=Beams(2))])[0]
        assert beams.last is not None
        assert beams.last.finish == "time"
        assert beams.last.beams
        settle(engine)
    finally:
        engine.close()


def test_a_full_queue_refuses(artifact: Artifact) -> None:
    engine = load(artifact, limits=EngineLimits(max_sequence_length=1000, max_batch_size=1, max_waiting=2))
    try:
        request = Request(prompt([1], gmask=True), 900, ignore_end=True)
        accepted = {}
        for _ in range(3):
            accepted[engine.submit(request)] = request
            time.sleep(0.02)  # the first runs, the others wait
        with pytest.raises(QueueFullError, match="2 requests are waiting"):
            engine.submit(request)
        for identity in accepted:
            engine.cancel(identity)
        drain(engine, accepted)
    finally:
        engine.close()


def test_closing_ends_everything_and_refuses_more(artifact: Artifact) -> None:
    engine = load(artifact, limits=EngineLimits(max_sequence_length=1000))
    running = {engine.submit(r): r for r in [Request(prompt([1], gmask=True), 900, ignore_end=True)] * 2}
    time.sleep(0.02)
    engine.close()
    answers = drain(engine, running)
    assert [a.finish for a in answers] == [{0: "shutdown"}] * 2
    with pytest.raises(EngineError, match="closed"):
        engine.submit(next(iter(running.values())))
    engine.close()


GOOD = Request(prompt([1, 2, 3], gmask=True), 5)


@pytest.mark.parametrize(
    ("bad", "field", "message"),
    [
        (replace(GOOD, prompt=Prompt([241, 256], 0, True)), "prompt", "0 to 255; got 256"),
        (replace(GOOD, prompt=Prompt([241, -1], 0, True)), "prompt", "0 to 255; got -1"),
        (replace(GOOD, prompt=Prompt([244], 0, True)), "prompt", "at least a mask and sop"),
        (replace(GOOD, prompt=Prompt([1] * 96, 0, True)), "prompt", "96 tokens; this server's context is 96"),
        (replace(GOOD, prompt=Prompt([241, 244], 2, True)), "mask_position", "0 to 1; got 2"),
        (replace(GOOD, max_new_tokens=0), "max_new_tokens", "1 to 91 for a 5-token prompt .context 96.; got 0"),
        (replace(GOOD, max_new_tokens=92), "max_new_tokens", "1 to 91 for a 5-token prompt .context 96.; got 92"),
        (replace(GOOD, min_new_tokens=6), "min_new_tokens", "0 to 5 .max_new_tokens.; got 6"),
        (replace(GOOD, n=0), "n", "1 to 8 .the batch.; got 0"),
        (replace(GOOD, n=9), "n", "1 to 8 .the batch.; got 9"),
        (replace(GOOD, beams=Beams(9)), "num_beams", "1 to 8 .the batch.; got 9"),
        (replace(GOOD, beams=Beams(2), n=2), "num_beams", "excludes n > 1"),
        (replace(GOOD, beams=Beams(2, float("nan"))), "length_penalty", "finite"),
        (replace(GOOD, stop_ids=[256]), "stop_ids", "below 256; got 256"),
        (replace(GOOD, sampling=Sampling(logit_bias={999: 1.0})), "logit_bias", "below 256; got 999"),
        (replace(GOOD, sampling=Sampling(logit_bias={1: float("inf")})), "logit_bias", "finite"),
        (replace(GOOD, sampling=Sampling(temperature=float("nan"))), "temperature", "finite"),
        (replace(GOOD, sampling=Sampling(temperature=-1)), "temperature", "0 or more"),
        (replace(GOOD, sampling=Sampling(top_k=-1)), "top_k", "got -1"),
        (replace(GOOD, sampling=Sampling(top_p=1.5)), "top_p", "0 to 1; got 1.5"),
        (replace(GOOD, sampling=Sampling(repetition_penalty=0)), "repetition_penalty", "above 0"),
        (replace(GOOD, n=8, max_new_tokens=80), "max_new_tokens", "need 169 KV blocks; this server has 40"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_can_never_run_is_refused(crowded: CompiledEngine, bad: Request, field: str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as refused:
        crowded.submit(bad)
    assert refused.value.field == field
    assert run(crowded, [GOOD])[0].finish, "the next request works"


def test_values_that_do_not_fit_are_refused(crowded: CompiledEngine) -> None:
    with pytest.raises(RequestError, match="wrong type"):
        crowded.submit(replace(GOOD, max_new_tokens=2**40))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (EngineLimits(max_sequence_length=2049), "2 to 2048 .the model's.; got 2049"),
        (EngineLimits(max_batch_size=0), "max_batch_size must be at least 1"),
        (EngineLimits(max_sequence_length=100, block_size=16, kv_blocks=6), "kv_blocks must be at least 7"),
    ],
    ids=["context", "batch", "blocks"],
)
def test_limits_that_cannot_be_are_refused(artifact: Artifact, limits: EngineLimits, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(artifact, limits=limits)


def test_a_prompt_that_cannot_be_scored_is_refused(crowded: CompiledEngine) -> None:
    with pytest.raises(RequestError, match="1 to 96 tokens; got 97"):
        crowded.score([1] * 97, 5, 3, True)
    for position in (-1, 3, 10**6):
        with pytest.raises(RequestError, match=f"mask_position: must be 0 to 2; got {position}"):
            crowded.score([1, 241, 244, 7], 3, position, False)
    with pytest.raises(RequestError, match="context_length: must be 1 to 3"):
        crowded.score([1, 241, 244], 4, 1, True)
    assert crowded.score([1, 241, 244], 3, 1, True).shape == (3, 256)


@pytest.mark.parametrize("tp", [2, 4, 8])
@pytest.mark.parametrize("gmask", [True, False])
def test_ranks_agree_with_a_single_one(tmp_path: Path, tp: int, gmask: bool) -> None:
    golden = Golden.open(extract_small(tmp_path))
    ids = np.random.default_rng(tp).integers(0, 240, 50).tolist()
    given_prompt = prompt(ids, gmask=gmask)
    logits = []
    for degree in (1, tp):
        engine = load(make(golden.folder / "src", tmp_path, golden.model, degree, "fp16"))
        sequence = [*given_prompt.ids, *range(30)]
        logits.append(engine.score(sequence, len(given_prompt.ids), given_prompt.mask_position, gmask))
        engine.close()
    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-5, atol=3e-5)
