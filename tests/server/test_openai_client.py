"""`/v1/completions` and `/v1/models` by the real `openai` client over a real socket."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
import sentencepiece

from glm_engine.fake import FakeEngine, Faults
from glm_engine.request import Event
from glm_server.http_server import HttpServer, PortLimits
from glm_server.tokenizer import load_tokenizer
from server_support import Harness, scripted, toy_config, wait_until

MakeHarness = Callable[..., Harness]
LIMITS = PortLimits(threads=10, connections=60, max_body_bytes=65536, max_header_bytes=8192, receive_timeout_s=20)


class Api:
    """A listening server and a client of it."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.http = HttpServer(harness.app, host="127.0.0.1", port=0, limits=LIMITS)
        self.http.start()
        self.url = f"http://127.0.0.1:{self.http.port}/v1"
        self.client = openai.OpenAI(base_url=self.url, api_key="none", max_retries=0, timeout=20)

    def complete(self, prompt: Any = "w1", **fields: Any) -> Any:
        return self.client.completions.create(model="toy", prompt=prompt, **fields)

    def close(self) -> None:
        self.client.close()
        self.http.stop(0.5)


@pytest.fixture
def serve(harness: MakeHarness) -> Iterator[Callable[..., Api]]:
    started: list[Api] = []

    def make(*args: Any, **settings: Any) -> Api:
        started.append(Api(harness(*args, **settings)))
        return started[-1]

    yield make
    for api in started:
        api.close()


def test_a_completion(serve: Callable[..., Api]) -> None:
    api = serve(answer=scripted([7, 8, 245]))
    answer = api.complete("w1 w2", temperature=0)
    assert answer.choices[0].model_dump() == {
        "text": "w7 w8 ",
        "index": 0,
        "logprobs": None,
        "finish_reason": "stop",
    }
    assert answer.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": 4,
        "completion_tokens": 3,
        "total_tokens": 7,
    }
    assert (answer.object, answer.model, answer.system_fingerprint) == ("text_completion", "toy", "glm_dddddddddddd")
    request = api.harness.engine.requests[0]
    assert (list(request.prompt.ids), request.max_new_tokens, request.sampling.temperature) == ([1, 2, 241, 244], 16, 0)


def test_models(serve: Callable[..., Api]) -> None:
    api = serve()
    assert [model.id for model in api.client.models.list()] == ["toy"]
    assert api.client.models.retrieve("toy").owned_by == "glm"
    with pytest.raises(openai.NotFoundError) as caught:
        api.client.models.retrieve("org/other")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError) as caught:
        api.client.completions.create(model="other", prompt="w1")
    assert caught.value.code == "model_not_found"


def test_stream_equals_whole_and_has_usage(serve: Callable[..., Api]) -> None:
    api = serve()
    fields = {"prompt": ["w1", "w2 [MASK] w3"], "n": 2, "seed": 3}
    whole = api.complete(**fields)
    chunks = list(api.complete(**fields, stream=True, stream_options={"include_usage": True}))
    texts, reasons = [""] * 4, [None] * 4
    for chunk in chunks[:-1]:
        assert chunk.usage is None
        (choice,) = chunk.choices
        assert reasons[choice.index] is None
        texts[choice.index] += choice.text
        reasons[choice.index] = choice.finish_reason
    assert texts == [choice.text for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1


def test_async_streams(serve: Callable[..., Api]) -> None:
    api = serve(faults=Faults(step_s=0.002))

    async def one(client: openai.AsyncOpenAI, seed: int) -> str:
        stream = await client.completions.create(model="toy", prompt="w1", seed=seed, stream=True)
        return "".join([chunk.choices[0].text async for chunk in stream])

    async def several() -> list[str]:
        async with openai.AsyncOpenAI(base_url=api.url, api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(one(client, seed) for seed in range(6)))

    texts = asyncio.run(several())
    assert texts == [api.complete("w1", seed=seed).choices[0].text for seed in range(6)]


def test_stop_strings_across_tokens(serve: Callable[..., Api]) -> None:
    api = serve(answer=lambda request, index, tokens: 30 + len(tokens), faults=Faults(step_s=0.01))
    for stream in (False, True):
        answer = api.complete(stop=["2 w3", "zzz"], max_tokens=100, stream=stream, logprobs=0)
        chunks = list(answer) if stream else [answer]
        assert "".join(chunk.choices[0].text for chunk in chunks) == "w30 w31 w3"
        assert chunks[-1].choices[0].finish_reason == "stop"
        tokens = [text for chunk in chunks for text in chunk.choices[0].logprobs.tokens]
        assert tokens == ["w30 ", "w31 ", "w3"]
    wait_until(lambda: api.harness.service.live == 0)
    assert api.harness.metric("requests_total", finish_reason="cancelled") == 2


def test_a_stop_string_that_does_not_come_costs_no_text(serve: Callable[..., Api]) -> None:
    api = serve(answer=scripted([7, 8, 245]))
    assert "".join(chunk.choices[0].text for chunk in api.complete(stop="w8 w9", stream=True)) == "w7 w8 "


def test_suffix_is_a_blank(serve: Callable[..., Api]) -> None:
    api = serve(answer=scripted([7, 245]))
    answer = api.complete("w1", suffix="w2", echo=True)
    assert answer.choices[0].text == "w1 w7 "
    assert list(api.harness.engine.requests[0].prompt.ids) == [1, 240, 2, 20, 244]


def test_token_ids_are_as_text(serve: Callable[..., Api]) -> None:
    api = serve()
    texts = [api.complete(prompt, seed=1).choices[0].text for prompt in ("w1 w2", [1, 2], [[1, 2]], ["w1 w2"])]
    assert len(set(texts)) == 1


def test_logprobs_and_echo(serve: Callable[..., Api]) -> None:
    api = serve(answer=scripted([7, 8, 245]))
    choice = api.complete("w1 w2", echo=True, logprobs=2).choices[0]
    assert choice.text == "w1 w2 w7 w8 "
    assert choice.logprobs.tokens == ["w1 ", "w2 ", "w7 ", "w8 "]
    assert choice.logprobs.token_logprobs == [None, None, -0.5, -0.5]
    assert choice.logprobs.text_offset == [0, 3, 6, 9]
    assert choice.logprobs.top_logprobs[2] == {"w7 ": -0.5, "w8 ": -1.5}


def test_no_tokens_at_all(serve: Callable[..., Api]) -> None:
    api = serve()
    choice = api.complete("w1 w2", echo=True, max_tokens=0).choices[0]
    assert (choice.text, choice.finish_reason) == ("w1 w2 ", "length")
    chunks = list(api.complete("w1", max_tokens=0, stream=True))
    assert [chunk.choices[0].finish_reason for chunk in chunks] == ["length"]
    assert api.harness.engine.requests == []


def test_best_of(serve: Callable[..., Api]) -> None:
    api = serve()
    answer = api.complete(n=2, best_of=5, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert api.harness.engine.requests[0].n == 5


def test_every_field_reaches_the_engine(serve: Callable[..., Api]) -> None:
    api = serve()
    more = {"top_k": 3, "min_tokens": 2, "repetition_penalty": 1.5, "no_repeat_ngram_size": 4, "ignore_eos": True}
    api.complete(
        max_tokens=5,
        top_p=0.5,
        frequency_penalty=0.25,
        presence_penalty=-1,
        logit_bias={"7": -100},
        seed=-1,
        temperature=0.5,
        user="someone",
        extra_body=more | {"max_time": 9},
    )
    request = api.harness.engine.requests[0]
    sampling = request.sampling
    assert (sampling.top_k, sampling.top_p, sampling.temperature, sampling.seed) == (3, 0.5, 0.5, (1 << 63) - 1)
    assert (sampling.frequency_penalty, sampling.presence_penalty, sampling.logit_bias) == (0.25, -1, {7: -100})
    assert (request.min_new_tokens, sampling.repetition_penalty, request.no_repeat_ngram_size) == (2, 1.5, 4)
    assert (request.ignore_end, request.max_time_s, request.max_new_tokens) == (True, 9, 5)
    api.complete(top_p=0)
    assert api.harness.engine.requests[1].sampling.top_k == 1


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [300]}, "prompt"),
        ({"prompt": "w1 [MASK] w2 [MASK]"}, "prompt"),
        ({"prompt": "w1 " * 200}, "prompt"),
        ({"prompt": ["w1"] * 65}, "prompt"),
        ({"max_tokens": 500}, "max_tokens"),
        ({"n": 9}, "n"),
        ({"n": 2, "best_of": 1}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ""}, "stop"),
        ({"logprobs": 6}, "logprobs"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"prompt": "w1 [gMASK]", "suffix": "w2"}, "suffix"),
        ({"prompt": [1], "suffix": "w2"}, "suffix"),
        ({"temperature": 2.5}, "temperature"),
        ({"extra_body": {"min_tokens": 17}}, "min_tokens"),
        ({"extra_body": {"tools": []}}, "tools"),
    ],
)
def test_refusals(serve: Callable[..., Api], fields: dict[str, Any], param: str) -> None:
    api = serve()
    with pytest.raises(openai.BadRequestError) as caught:
        api.complete(**fields)
    assert caught.value.param == param
    assert f"`{param}`" in caught.value.message
    assert api.harness.metric("http_requests_open") == 0


def test_full_queue_is_a_429_even_for_a_stream(serve: Callable[..., Api]) -> None:
    api = serve(max_batch_size=1, max_waiting=0)
    with pytest.raises(openai.RateLimitError) as caught:
        api.complete(stream=True)
    assert caught.value.response.headers["retry-after"] == "1"


def test_an_error_inside_a_stream(serve: Callable[..., Api]) -> None:
    api = serve(faults=Faults(nan_after=2), answer=lambda request, index, tokens: 9)
    with pytest.raises(openai.APIError, match="not finite"):
        list(api.complete(stream=True))
    assert api.harness.metric("http_requests_open") == 0


def test_keepalive_comments(serve: Callable[..., Api]) -> None:
    api = serve(faults=Faults(step_s=0.8), settings={"keepalive_s": 0.1}, answer=scripted([7, 245]))
    with api.client.completions.with_streaming_response.create(model="toy", prompt="w1", stream=True) as response:
        text = response.read().decode()
    assert text.startswith(": keepalive\n\n")
    assert text.endswith("data: [DONE]\n\n")
    first = next(line for line in text.splitlines() if line.startswith("data: "))
    assert "usage" not in json.loads(first[6:])


def test_a_gone_client_frees_its_slot(serve: Callable[..., Api]) -> None:
    api = serve(faults=Faults(step_s=0.01), answer=lambda request, index, tokens: 9)
    body = json.dumps({"model": "toy", "prompt": "w1", "max_tokens": 100, "stream": True}).encode()
    with socket.create_connection(("127.0.0.1", api.http.port), timeout=10) as connection:
        head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        connection.sendall(head + body)
        assert b"200 OK" in connection.recv(4096)
    wait_until(lambda: api.harness.service.live == 0, 0.8)
    wait_until(lambda: api.harness.metric("http_requests_open") == 0)
    assert api.harness.metric("requests_total", finish_reason="cancelled") == 1


def test_every_language_streams_whole(serve: Callable[..., Api], sp_model: Path) -> None:
    size = sentencepiece.SentencePieceProcessor(model_file=str(sp_model)).vocab_size()
    model = toy_config(num_text_tokens=size, eos=2)
    tokenizer = load_tokenizer(sp_model, model, "sentencepiece")
    text = "法国 😀🦄 naïve العربية"
    ids = [*tokenizer.encode(text), model.special_ids["eop"]]
    api = serve(tokenizer, model=model, answer=lambda request, index, tokens: ids[len(tokens)])
    chunks = list(api.complete("The", stream=True, max_tokens=100))
    assert "".join(chunk.choices[0].text for chunk in chunks) == text
    assert not any("\ufffd" in chunk.choices[0].text for chunk in chunks)
    assert len(chunks) > 5


class LaterIsLikelier(FakeEngine):
    """Choices whose tokens are the more likely the later the choice."""

    def poll(self, timeout_s: float) -> list[Event]:
        events = super().poll(timeout_s)
        return [replace(event, logprob=event.index - 9.0) if event.token is not None else event for event in events]


def test_best_of_answers_the_likeliest(serve: Callable[..., Api]) -> None:
    engine = LaterIsLikelier(toy_config(), answer=lambda request, index, tokens: 30 + index)
    answer = serve(real=engine).complete(n=2, best_of=4, max_tokens=2)
    assert [(choice.index, choice.text) for choice in answer.choices] == [(0, "w33 w33 "), (1, "w32 w32 ")]
    assert answer.usage.completion_tokens == 8
