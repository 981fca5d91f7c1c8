"""`glm generate`: continue given token sequences by a strategy that each line names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from glm_cli.requests import engine_options, load_engine, read_requests, take, take_ids, take_name
from glm_engine.errors import QueueFullError, RequestError
from glm_engine.handle import CompiledEngine
from glm_engine.request import BackendName, Beams, Event, Prompt, Request, Sampling

#: A strategy's names: ours, and the original's classes.
STRATEGIES: Final = {
    "greedy": "greedy",
    "sampling": "sampling",
    "beam": "beam",
    "BaseStrategy": "sampling",
    "BeamSearchStrategy": "beam",
}
FIELDS: Final = {
    "id", "ids", "context_length", "mask_position", "gmask", "strategy", "max_new_tokens", "min_gen_length",
    "no_repeat_ngram_size", "ignore_end", "temperature", "top_k", "top_p", "seed", "num_beams", "length_penalty",
    "deterministic",
}  # fmt: skip


def parse(data: Mapping[str, Any]) -> tuple[str, Request]:
    """Read one line. Raises ``RequestError``."""
    unknown = sorted(data.keys() - FIELDS)
    if unknown:
        raise RequestError(f"unknown field {unknown[0]!r}; a request has {', '.join(sorted(FIELDS))}", unknown[0])
    ids = take_ids(data)
    length = take(data, "context_length", int, len(ids))
    if not 1 <= length <= len(ids):
        raise RequestError(f"`context_length` must be 1 to {len(ids)} (the ids); got {length}", "context_length")
    named = take(data, "strategy", str, "greedy")
    if named not in STRATEGIES:
        raise RequestError(f"`strategy` must be one of {', '.join(STRATEGIES)}; got {named!r}", "strategy")
    strategy = STRATEGIES[named]
    return take_name(data), Request(
        prompt=Prompt(ids[:length], take(data, "mask_position", int), take(data, "gmask", bool)),
        max_new_tokens=take(data, "max_new_tokens", int, 64),
        min_new_tokens=take(data, "min_gen_length", int, 0),
        no_repeat_ngram_size=take(data, "no_repeat_ngram_size", int, 0),
        ignore_end=take(data, "ignore_end", bool, False),
        sampling=_sampling(data, greedy=strategy == "greedy"),
        beams=_beams(data) if strategy == "beam" else None,
    )


def _sampling(data: Mapping[str, Any], *, greedy: bool) -> Sampling:
    if greedy:
        return Sampling(top_k=1)
    return Sampling(
        temperature=take(data, "temperature", float, 1.0),
        top_k=take(data, "top_k", int, 0),
        top_p=take(data, "top_p", float, 0.0),
        seed=take(data, "seed", int, 1234),
    )


def _beams(data: Mapping[str, Any]) -> Beams:
    return Beams(
        num_beams=take(data, "num_beams", int, 4),
        length_penalty=take(data, "length_penalty", float, 1.0),
        deterministic=take(data, "deterministic", bool, True),
        seed=take(data, "seed", int, 1234),
    )


@click.command(name="generate")
@engine_options
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write here instead of stdout.")
def command(*, artifact: Path, source: Path, out: Path | None, backend: BackendName) -> None:
    """Continue token sequences.

    A line of the input is {"id", "ids", "mask_position", "gmask", "strategy": greedy|sampling|beam, "max_new_tokens"}
    and, as far as the strategy has them, the original's parameters: temperature, top_k, top_p, seed, num_beams,
    length_penalty, no_repeat_ngram_size, min_gen_length, deterministic; ignore_end goes on after end tokens.

    A line of the output is {"id", "ids", "finish"}: the new tokens, with the end token; beam search adds "beams" and
    "scores", best first.
    """
    requests = list(read_requests(source, parse))
    engine = load_engine(artifact, backend)
    try:
        with click.open_file(str(out) if out else "-", "w", encoding="utf-8", atomic=out is not None) as answers:
            for answer in run_all(engine, requests):
                answers.write(json.dumps(answer) + "\n")
    finally:
        engine.close()


def run_all(engine: CompiledEngine, requests: Sequence[tuple[str, Request]]) -> Iterator[dict[str, Any]]:
    """Run the requests together and yield their answers in order."""
    waiting = list(enumerate(requests))[::-1]
    running: dict[int, tuple[int, str, list[int]]] = {}
    done: dict[int, dict[str, Any]] = {}
    position = 0
    while waiting or running:
        while waiting:
            index, (name, request) = waiting[-1]
            try:
                running[engine.submit(request)] = (index, name, [])
            except QueueFullError:
                break
            except RequestError as error:
                raise RequestError(f"request {name!r}: {error}") from error
            waiting.pop()
        for event in engine.poll(1.0):
            index, name, tokens = running[event.request]
            if event.token is not None:
                tokens.append(event.token)
            if event.finish:
                done[index] = _answer(name, tokens, event)
                del running[event.request]
        while position in done:
            yield done.pop(position)
            position += 1


def _answer(name: str, tokens: list[int], event: Event) -> dict[str, Any]:
    if event.finish == "error":
        raise RequestError(f"request {name!r}: {event.message}")
    answer: dict[str, Any] = {"id": name, "ids": tokens, "finish": event.finish}
    if event.beams:
        answer |= {"ids": event.beams[0], "beams": event.beams, "scores": event.scores}
    return answer
