"""An OpenAI request as the engine takes it: prompts, limits, and the meaning of every field."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

from glm_engine.request import Prompt, Request, Sampling
from glm_server.errors import InvalidRequestError, NotFoundError
from glm_server.lifecycle import Runtime
from glm_server.openai_schemas import CompletionRequest
from glm_server.prompt import MASKS, MaskedText, parse, read_ids
from glm_server.wire import check_text, quote

#: The engine's names of fields -> OpenAI's
FIELDS: Final = {"max_new_tokens": "max_tokens", "min_new_tokens": "min_tokens", "max_time_s": "max_time", "n": "n"}


def check_model(name: str, runtime: Runtime) -> None:
    """Raise ``NotFoundError`` unless the model is the one that is served."""
    if name != runtime.name:
        raise NotFoundError(
            f"the model {quote(name)} is not served here; `model` must be {runtime.name!r}",
            param="model",
            code="model_not_found",
        )


def read_prompt_ids(ids: Sequence[int], runtime: Runtime, field: str) -> MaskedText:
    """A prompt given as token ids. Raises ``InvalidRequestError`` for ids that the model does not have."""
    size = runtime.model.vocab_size
    if wrong := [token for token in ids if not 0 <= token < size]:
        raise InvalidRequestError(f"`{field}` must hold ids from 0 to {size - 1}; got {wrong[0]}", param=field)
    return read_ids(tuple(ids), runtime.tokenizer)


def check_one_blank(text: MaskedText, field: str) -> None:
    """Raise ``InvalidRequestError`` unless one blank is to be filled."""
    if len(text.positions) > 1:
        raise InvalidRequestError(
            f"`{field}` must hold one {text.mask} at most; got {len(text.positions)}; /generate fills several",
            param=field,
        )


class CompletionPlan:
    """``requests`` for the engine, one per prompt (none of them if ``max_tokens`` is 0), and what else is asked.

    Raises ``InvalidRequestError`` or ``NotFoundError`` for what can't be.
    """

    def __init__(self, body: CompletionRequest, runtime: Runtime, max_prompts: int) -> None:
        check_model(body.model, runtime)
        self._body = body
        self._runtime = runtime
        self.n: Final = body.n or 1
        self.best_of: Final = body.best_of or self.n
        self.stream: Final = bool(body.stream)
        self.stops: Final[Sequence[str]] = [check_text(stop, "stop") for stop in body.stop or ()]
        self.logprobs: Final = body.logprobs
        self._check()
        self._texts = self._read_prompts(max_prompts)
        self.prompts = [self._prompt(text) for text in self._texts]
        self.max_tokens = 16 if body.max_tokens is None else body.max_tokens
        self.requests: list[Request] = [self._request(prompt) for prompt in self.prompts] if self.max_tokens else []

    def echo(self, place: int) -> list[int]:
        """The ids of the text with which the choices of a prompt begin; none without ``echo``."""
        if not self._body.echo:
            return []
        special, ids, prompt = self._runtime.tokenizer.special_ids, self._texts[place].ids, self.prompts[place]
        if self._body.suffix:
            return list(ids[: prompt.mask_position])
        if ids[-1] == special["eos"] or (prompt.gmask and prompt.mask_position == len(ids) - 1):
            return list(ids[:-1])
        return list(ids)

    def _check(self) -> None:
        body = self._body
        if self.best_of < self.n:
            raise InvalidRequestError(f"`best_of` must be >= `n` ({self.n}); got {self.best_of}", param="best_of")
        field = "best_of" if body.best_of else "n"
        if self.best_of > self._runtime.max_batch_size:
            raise InvalidRequestError(
                f"`{field}` must be <= {self._runtime.max_batch_size} (the batch size); got {self.best_of}", param=field
            )
        if self.stream and self.best_of > self.n:
            raise InvalidRequestError(
                f"`best_of` must be `n` ({self.n}) with `stream`: the best is known at the end; got {self.best_of}",
                param="best_of",
            )
        if body.stream_options is not None and not self.stream:
            raise InvalidRequestError("`stream_options` must be left out without `stream`", param="stream_options")
        if (body.min_tokens or 0) > (16 if body.max_tokens is None else body.max_tokens):
            raise InvalidRequestError(
                f"`min_tokens` must be <= `max_tokens`; got {body.min_tokens}", param="min_tokens"
            )

    def _read_prompts(self, max_prompts: int) -> list[MaskedText]:
        prompt = self._body.prompt
        single = isinstance(prompt, str) or isinstance(prompt[0], int)
        prompts: list[str | list[int]] = [prompt] if single else list(prompt)  # type: ignore[list-item, arg-type]  # narrowed by hand: the union's lists are of one kind
        if len(prompts) > max_prompts:
            raise InvalidRequestError(
                f"`prompt` must hold <= {max_prompts} prompts; got {len(prompts)}", param="prompt"
            )
        return [self._read_prompt(each) for each in prompts]

    def _read_prompt(self, prompt: str | list[int]) -> MaskedText:
        tokenizer, suffix = self._runtime.tokenizer, self._body.suffix
        if suffix and not isinstance(prompt, str):
            raise InvalidRequestError("`suffix` must be left out with token ids; put [MASK] in them", param="suffix")
        if isinstance(prompt, str):
            text = check_text(prompt, "prompt")
            if suffix and any(mask in text + check_text(suffix, "suffix") for mask in MASKS):
                raise InvalidRequestError("`suffix` must be left out if there is a blank already", param="suffix")
            read = parse(f"{text}[MASK]{suffix}" if suffix else text, tokenizer)
        else:
            read = read_prompt_ids(prompt, self._runtime, "prompt")
        check_one_blank(read, "prompt")
        return read

    def _prompt(self, text: MaskedText) -> Prompt:
        prompt = Prompt((*text.ids, self._runtime.tokenizer.special_ids["sop"]), text.positions[0], text.gmask)
        context, given = self._runtime.max_sequence_length, self._body.max_tokens
        room = context - len(prompt.ids)
        if room < 1 or (given is not None and "max_tokens" in self._body.model_fields_set and given > room):
            raise InvalidRequestError(
                f"`prompt` ({len(prompt.ids)} tokens) and `max_tokens` ({16 if given is None else given}) must fit the "
                f"context of {context} tokens together; shorten one of them",
                param="prompt" if room < 1 else "max_tokens",
                code="context_length_exceeded",
            )
        return prompt

    def _request(self, prompt: Prompt) -> Request:
        body = self._body
        length = min(self.max_tokens, self._runtime.max_sequence_length - len(prompt.ids))
        top_k, top_p = body.top_k or 0, 1.0 if body.top_p is None else body.top_p
        return Request(
            prompt,
            max_new_tokens=length,
            sampling=Sampling(
                temperature=1.0 if body.temperature is None else body.temperature,
                top_k=top_k if top_p else 1,  # the engine's 0 is off, OpenAI's the likeliest token alone
                top_p=top_p,
                seed=secrets.randbits(63) if body.seed is None else body.seed & ((1 << 63) - 1),
                repetition_penalty=1.0 if body.repetition_penalty is None else body.repetition_penalty,
                frequency_penalty=body.frequency_penalty or 0.0,
                presence_penalty=body.presence_penalty or 0.0,
                logit_bias=self._logit_bias(),
            ),
            n=self.best_of,
            min_new_tokens=min(body.min_tokens or 0, length),
            no_repeat_ngram_size=body.no_repeat_ngram_size or 0,
            ignore_end=bool(body.ignore_eos),
            logprobs=0 if body.logprobs is None and self.best_of > self.n else body.logprobs,
            max_time_s=body.max_time,
        )

    def _logit_bias(self) -> dict[int, float]:
        size = self._runtime.model.vocab_size
        found = {}
        for key, value in (self._body.logit_bias or {}).items():
            if not (key.isascii() and key.isdigit() and len(key) < 10 and int(key) < size):
                raise InvalidRequestError(
                    f"`logit_bias` must have token ids from 0 to {size - 1} as keys; got {quote(key)}",
                    param="logit_bias",
                )
            found[int(key)] = value
        return found
