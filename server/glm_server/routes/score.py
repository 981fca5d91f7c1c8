"""`/v1/score`: log-likelihoods of continuations, as the original's evaluation computes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from flask import Response, jsonify
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from glm_engine.request import Prompt
from glm_server.completion_plan import check_model, check_one_blank, read_prompt_ids
from glm_server.errors import InvalidRequestError
from glm_server.lifecycle import Runtime
from glm_server.prompt import parse
from glm_server.schemas import refusals
from glm_server.score_schemas import Score, ScoreRequest, ScoreResponse
from glm_server.state import client_watch, current_state
from glm_server.wire import check_text

api = APIBlueprint(
    "score", __name__, abp_tags=[Tag(name="Scoring", description="Log-likelihoods.")], abp_security=[{}, {"key": []}]
)
_ERRORS: Final = refusals("404", "413", "429", "503")


@api.post("/v1/score", summary="Log-likelihoods of continuations", responses={"200": ScoreResponse, **_ERRORS})
def score(body: ScoreRequest) -> Response:
    """Score each continuation as the filling of the context's blank, or as what follows the context."""
    state = current_state()
    with state.admission:
        runtime = state.lifecycle.runtime()
        check_model(body.model, runtime)
        if len(body.continuations) > state.config.max_prompts:
            raise InvalidRequestError(
                f"`continuations` must hold <= {state.config.max_prompts}; got {len(body.continuations)}",
                param="continuations",
            )
        prompt = _prompt(body.context, runtime)
        continuations = [_continuation(each, prompt, runtime) for each in body.continuations]
        scores = _score_all(continuations, prompt, runtime, client_watch())
    answer = ScoreResponse(model=runtime.name, scores=scores, context_tokens=len(prompt.ids))
    return jsonify(answer.model_dump())


def _score_all(
    continuations: Sequence[Sequence[int]], prompt: Prompt, runtime: Runtime, watch: Callable[[], None]
) -> list[Score]:
    scores = []
    for continuation in continuations:
        watch()
        scores.append(_score(continuation, prompt, runtime))
    return scores


def _score(continuation: Sequence[int], prompt: Prompt, runtime: Runtime) -> Score:
    logits = runtime.service.score((*prompt.ids, *continuation), prompt)
    values, greedy = [], True
    for row, token in enumerate(continuation, len(prompt.ids) - 1):  # a row says what comes after its token
        wide = logits[row].astype(np.float64)
        top = wide.max()
        values.append(float(wide[token] - top - np.log(np.exp(wide - top).sum())))
        greedy = greedy and bool(wide[token] == top)
    return Score(logprob=sum(values), greedy=greedy, tokens=list(continuation), token_logprobs=values)


def _prompt(context: str | list[int], runtime: Runtime) -> Prompt:
    if isinstance(context, str):
        text = parse(check_text(context, "context"), runtime.tokenizer)
    else:
        text = read_prompt_ids(context, runtime, "context")
    check_one_blank(text, "context")
    return Prompt((*text.ids, runtime.tokenizer.special_ids["sop"]), text.positions[0], text.gmask)


def _continuation(given: str | list[int], prompt: Prompt, runtime: Runtime) -> list[int]:
    size, room = runtime.model.vocab_size, runtime.max_sequence_length - len(prompt.ids)
    ids = runtime.tokenizer.encode(check_text(given, "continuations")) if isinstance(given, str) else given
    if not ids:
        raise InvalidRequestError("`continuations` must have a token each; got an empty one", param="continuations")
    if wrong := [token for token in ids if not 0 <= token < size]:
        raise InvalidRequestError(
            f"`continuations` must hold ids from 0 to {size - 1}; got {wrong[0]}", param="continuations"
        )
    if len(ids) > room:
        raise InvalidRequestError(
            f"`context` ({len(prompt.ids)} tokens) and each of `continuations` must fit the context of "
            f"{runtime.max_sequence_length} tokens; got {len(ids)} tokens more",
            param="continuations",
            code="context_length_exceeded",
        )
    return ids
