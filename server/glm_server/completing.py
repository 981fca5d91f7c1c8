"""A completion from its requests to its choices: whole, or as a stream of server-sent events."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from glm_engine.errors import GlmError
from glm_server.completion import Choice
from glm_server.completion_plan import CompletionPlan
from glm_server.errors import ClientGoneError, InternalError, as_api_error
from glm_server.fanout import Fanout
from glm_server.lifecycle import Runtime
from glm_server.openai_schemas import CompletionChoice, CompletionResponse, Usage

#: The end of a stream.
DONE: Final = b"data: [DONE]\n\n"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frame:
    """What all chunks of an answer have in common."""

    request_id: str
    model: str
    fingerprint: str
    created: int

    def response(self, choices: list[CompletionChoice], usage: Usage | None = None) -> dict[str, Any]:
        """The answer, or a chunk of it, as JSON."""
        return CompletionResponse(
            id=f"cmpl-{self.request_id}",
            created=self.created,
            model=self.model,
            system_fingerprint=self.fingerprint,
            choices=choices,
            usage=usage,
        ).model_dump()


class Completing:
    """One completion on its way; ``fanout`` has been started."""

    def __init__(self, plan: CompletionPlan, runtime: Runtime, fanout: Fanout, request_id: str) -> None:
        self._plan = plan
        self._fanout = fanout
        self._frame = Frame(request_id, runtime.name, f"glm_{runtime.digest[:12]}", int(time.time()))
        self._choices = [
            [
                Choice(place * plan.n + i, runtime.tokenizer, runtime.model.end_ids, plan.stops, plan.logprobs)
                for i in range(plan.best_of)
            ]
            for place in range(len(plan.prompts))
        ]
        for place, choices in enumerate(self._choices):
            for choice in choices:
                choice.echo(plan.echo(place))
                if not plan.requests:
                    choice.end_at_once()

    def whole(self) -> dict[str, Any]:
        """Wait for everything; the answer as JSON. Raises what ``Fanout.events`` raises."""
        for _ in self._changes():
            pass
        best: list[CompletionChoice] = []
        for place, choices in enumerate(self._choices):
            ranked = choices
            if self._plan.best_of > self._plan.n:
                ranked = sorted(choices, key=lambda choice: -choice.mean_logprob)
            for i, choice in enumerate(ranked[: self._plan.n]):
                choice.index = place * self._plan.n + i
                if (done := choice.delta()) is not None:
                    best.append(done)
        return self._frame.response(best, self._usage())

    def stream(self, include_usage: bool, keepalive_s: float) -> Iterator[bytes]:
        """Server-sent events. An error after the beginning is an event, too; a client that has gone ends the stream."""
        try:
            quiet_since = time.monotonic()
            for changed in self._changes(at_first=True):
                for choice in changed:
                    if (delta := choice.delta()) is not None:
                        quiet_since = time.monotonic()
                        yield _sse(self._chunk([delta], include_usage))
                if time.monotonic() - quiet_since >= keepalive_s:
                    quiet_since = time.monotonic()
                    yield b": keepalive\n\n"
            if include_usage:
                yield _sse(self._frame.response([], self._usage()))
        except ClientGoneError:
            return
        except GlmError as error:
            if isinstance(error, InternalError):
                _log.error("internal error: %s", error, extra={"request_id": self._frame.request_id})
            yield _sse(as_api_error(error).body(self._frame.request_id))
        except Exception:  # the status has been sent already: the client can only be told here
            _log.exception("internal error", extra={"request_id": self._frame.request_id})
            hidden = InternalError("internal error; the server's log has it under this request's id")
            yield _sse(hidden.body(self._frame.request_id))
        yield DONE

    def _changes(self, at_first: bool = False) -> Iterator[list[Choice]]:
        """Take the events; the choices that each of them changed (none: a moment without events)."""
        if at_first and (self._plan.echo(0) or not self._plan.requests):
            yield [choice for choices in self._choices for choice in choices]
        for item in self._fanout.events():
            if item is None:
                yield []
                continue
            place, event = item
            choice = self._choices[place][event.index]
            if choice.finish_reason is not None:
                continue
            choice.take(event)
            if all(each.finish_reason is not None for each in self._choices[place]):
                self._fanout.drop(place)
            yield [choice]

    def _chunk(self, choices: list[CompletionChoice], include_usage: bool) -> dict[str, Any]:
        chunk = self._frame.response(choices)
        if not include_usage:
            del chunk["usage"]
        return chunk

    def _usage(self) -> Usage:
        prompt = sum(len(prompt.ids) for prompt in self._plan.prompts)
        generated = sum(choice.tokens for choices in self._choices for choice in choices)
        return Usage(prompt_tokens=prompt, completion_tokens=generated, total_tokens=prompt + generated)


def _sse(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False).encode("utf-8") + b"\n\n"
