"""The original server's API: `/generate` and `/tokenize`."""

from __future__ import annotations

from typing import Final

from flask import Response, jsonify
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from glm_engine.errors import RequestError
from glm_engine.request import Beams, Prompt, Request, Sampling
from glm_server.blanks import Filling
from glm_server.errors import InvalidRequestError
from glm_server.filling import Filler, TextJob
from glm_server.lifecycle import Runtime
from glm_server.prompt import parse
from glm_server.schemas import (
    GenerateRequest,
    GenerateResponse,
    TokenizeRequest,
    TokenizeResponse,
    refusals,
)
from glm_server.state import client_watch, current_state
from glm_server.wire import check_text

#: Tokens per blank where the request names no number.
DEFAULT_LENGTH: Final = 200

api = APIBlueprint(
    "original",
    __name__,
    abp_tags=[Tag(name="GLM-130B", description="The original server's API.")],
    abp_security=[{}, {"key": []}],
)
#: The engine's names of fields -> the original's
_FIELDS: Final = {"prompt": "text", "max_new_tokens": "out_seq_length", "min_new_tokens": "min_gen_length"}
_ERRORS: Final = refusals("413", "429", "503")


@api.post("/tokenize", summary="Prompts as token ids", responses={"200": TokenizeResponse, **_ERRORS})
def tokenize(body: TokenizeRequest) -> Response:
    """Show the prompts that `/generate` would give to the model, one per line of the text."""
    state = current_state()
    prompts = [
        filling.prompt() for filling in _fillings(body.text, state.lifecycle.runtime(), state.config.max_prompts)
    ]
    longest = max(len(prompt.ids) for prompt in prompts)
    answer = TokenizeResponse(
        start_ids=[[*prompt.ids, *[0] * (longest - len(prompt.ids))] for prompt in prompts],
        start_lengths=[len(prompt.ids) for prompt in prompts],
        mask_positions=[-1 if prompt.gmask else prompt.mask_position for prompt in prompts],
    )
    return jsonify(answer.model_dump())


@api.post("/generate", summary="Fill the blanks of texts", responses={"200": GenerateResponse, **_ERRORS})
def generate(body: GenerateRequest) -> Response:
    """Fill every blank of every line, or continue a line without a blank."""
    state = current_state()
    with state.admission:
        runtime = state.lifecycle.runtime()
        jobs = [TextJob(filling) for filling in _fillings(body.text, runtime, state.config.max_prompts)]
        plan = _Plan(body, runtime)
        for job in jobs:
            plan.check(job.filling.prompt())
        try:
            with runtime.service.session() as session:
                Filler(session, plan.request, client_watch()).run(jobs)
        except RequestError as error:
            raise InvalidRequestError(str(error), param=_FIELDS.get(error.field or "", error.field)) from error
    best = [job.filling for job in jobs]
    answer = GenerateResponse(
        text=["\n".join(filling.blanks[0]) for filling in best],
        answers=[filling.answers[0] for filling in best],
        blanks=[filling.blanks[0] for filling in best],
        finish_reasons=[list(job.finish_reasons) for job in jobs],
        beams=[filling.answers for filling in best] if plan.beams else None,
    )
    return jsonify(answer.model_dump(exclude_none=True))


def _fillings(text: str, runtime: Runtime, max_prompts: int) -> list[Filling]:
    lines = check_text(text, "text").splitlines()
    if not lines:
        raise InvalidRequestError("`text` must hold at least one line; got none", param="text", code="empty_text")
    if len(lines) > max_prompts:
        raise InvalidRequestError(f"`text` must have <= {max_prompts} lines; got {len(lines)}", param="text")
    return [Filling(parse(line, runtime.tokenizer), runtime.tokenizer) for line in lines]


class _Plan:
    """A request's fields as the engine takes them; defaults that depend on other fields are settled here."""

    def __init__(self, body: GenerateRequest, runtime: Runtime) -> None:
        self._length = body.out_seq_length
        self._context = runtime.max_sequence_length
        self._min_length = body.min_gen_length or 0
        self.beams: Beams | None = None
        self._sampling = Sampling()
        seed = 1234 if body.seed is None else body.seed
        if body.sampling_strategy == "BeamSearchStrategy":
            width = 4 if body.num_beams is None else body.num_beams
            if width > runtime.max_batch_size:
                raise InvalidRequestError(
                    f"`num_beams` must be <= {runtime.max_batch_size} (the batch size); got {width}", param="num_beams"
                )
            penalty = 0.9 if body.length_penalty is None else body.length_penalty
            self.beams = Beams(width, penalty, seed=seed)
        else:
            temperature = 1.0 if body.temperature is None else body.temperature
            top_k = 5 if body.topk is None else body.topk
            self._sampling = Sampling(temperature=temperature, top_k=top_k, top_p=body.topp or 0.0, seed=seed)
        ngram = body.no_repeat_ngram_size
        self._ngram = (3 if self.beams else 0) if ngram is None else ngram
        if self._min_length > (self._length or DEFAULT_LENGTH):
            raise InvalidRequestError(
                f"`min_gen_length` must be <= `out_seq_length` ({self._length or DEFAULT_LENGTH}); "
                f"got {self._min_length}",
                param="min_gen_length",
            )

    def check(self, prompt: Prompt) -> None:
        """Raise ``InvalidRequestError`` unless the prompt, and the length that was asked for, fit the context."""
        room = self._context - len(prompt.ids)
        if room < 1:
            raise InvalidRequestError(
                f"each line of `text` must have < {self._context} tokens; got {len(prompt.ids)}; shorten it",
                param="text",
                code="context_length_exceeded",
            )
        if self._length is not None and self._length > room:
            raise InvalidRequestError(
                f"`out_seq_length` must be <= {room} for a {len(prompt.ids)}-token prompt (context {self._context}); "
                f"got {self._length}",
                param="out_seq_length",
                code="context_length_exceeded",
            )

    def request(self, prompt: Prompt) -> Request | None:
        """The engine's request for one blank; None where the context has no room for it."""
        length = min(self._length or DEFAULT_LENGTH, self._context - len(prompt.ids))
        if length < 1:
            return None
        return Request(
            prompt,
            max_new_tokens=length,
            sampling=self._sampling,
            beams=self.beams,
            min_new_tokens=min(self._min_length, length),
            no_repeat_ngram_size=self._ngram,
        )
