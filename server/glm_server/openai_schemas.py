"""OpenAI's completion requests and answers; validation and documentation come from these types."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from glm_server.wire import StrictModel

_SHAPES = "must be a text, a list of texts, a list of token ids, or a list of such lists, and not be empty"


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def _check_prompt(value: Any) -> Any:
    """One sentence for a person instead of a complaint per member of the union."""
    texts = isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)
    lists = isinstance(value, list) and bool(value) and all(_is_ids(item) for item in value)
    if not (isinstance(value, str) or texts or _is_ids(value) or lists):
        raise ValueError(_SHAPES)
    return value


def _check_stop(value: Any) -> Any:
    stops = [value] if isinstance(value, str) else value
    if value is None:
        return None
    if not isinstance(stops, list) or len(stops) > 4 or not all(isinstance(stop, str) and stop for stop in stops):
        raise ValueError("must be a string or up to 4 strings, none of them empty")
    return stops


class StreamOptions(StrictModel):
    """What a stream holds beside text."""

    include_usage: bool = Field(False, description="One more chunk at the end, with `usage` and no choices.")


class CompletionRequest(StrictModel):
    """OpenAI's `/v1/completions`, and a few fields more. A field that is null takes its default."""

    model: str = Field(description="The name that `/v1/models` gives.")
    prompt: Annotated[str | list[str] | list[int] | list[list[int]], BeforeValidator(_check_prompt)] = Field(
        description="A text, texts, token ids or lists of them. A text may hold one blank, else it is continued."
    )
    suffix: str | None = Field(None, description="Text after the blank: `prompt` + [MASK] + `suffix`.")
    max_tokens: int | None = Field(16, ge=0, description="Tokens generated for a choice, at most.")
    n: int | None = Field(1, ge=1, le=128, description="Choices per prompt.")
    best_of: int | None = Field(
        None, ge=1, le=128, description="Generate so many, answer the `n` of the highest mean log-probability."
    )
    echo: bool | None = Field(False, description="Begin each choice with its prompt.")
    logprobs: int | None = Field(None, ge=0, le=5, description="Log-probabilities, with so many of the likeliest.")
    stop: Annotated[str | list[str] | None, BeforeValidator(_check_stop)] = Field(
        None, description="Up to 4 strings at which the text ends; they are not part of it."
    )
    seed: int | None = Field(None, ge=-(1 << 63), lt=1 << 63, description="Same seed, same answer; default: by chance.")
    stream: bool | None = Field(False, description="Server-sent events: a chunk per piece of text, then `[DONE]`.")
    stream_options: StreamOptions | None = Field(None, description="Only with `stream`.")
    temperature: float | None = Field(1.0, ge=0, le=2, description="0 is greedy.")
    top_p: float | None = Field(1.0, ge=0, le=1, description="Draw among the tokens of this probability; 1 is off.")
    frequency_penalty: float | None = Field(0.0, ge=-2, le=2, description="Per occurrence in the text so far.")
    presence_penalty: float | None = Field(0.0, ge=-2, le=2, description="Once for a token that occurred.")
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = Field(
        None, description="Token id -> what is added to its logit."
    )
    user: str | None = Field(None, description="Taken and not used.")
    top_k: int | None = Field(0, ge=0, description="Not OpenAI's. Draw among so many tokens; 0 is off.")
    min_tokens: int | None = Field(0, ge=0, description="Not OpenAI's. No end before so many tokens.")
    repetition_penalty: float | None = Field(
        1.0, gt=0, le=10, description="Not OpenAI's. Over 1: tokens that occurred become less likely."
    )
    no_repeat_ngram_size: int | None = Field(0, ge=0, description="Not OpenAI's. No such n-gram twice; 0 is off.")
    ignore_eos: bool | None = Field(False, description="Not OpenAI's. Go on after the model's end tokens.")
    max_time: float | None = Field(None, gt=0, description="Not OpenAI's. Seconds after which a choice ends.")


class Logprobs(BaseModel):
    """One entry per token of the choice."""

    tokens: list[str] = Field(description="Text of each token; together they are the choice's text.")
    token_logprobs: list[float | None] = Field(description="Null for the prompt's tokens (`echo`).")
    top_logprobs: list[dict[str, float] | None] = Field(description="The likeliest tokens instead of this one.")
    text_offset: list[int] = Field(description="Where in the choice's text the token begins.")


class CompletionChoice(BaseModel):
    """One text."""

    text: str = Field(description="What was generated, after the prompt if `echo` is set.")
    index: int = Field(description="Prompt's place x `n` + choice's place.")
    logprobs: Logprobs | None = Field(description="If they were asked for.")
    finish_reason: Literal["stop", "length"] | None = Field(
        description="`stop`: the model ended it, or a stop string; `length`: `max_tokens`, or `max_time`."
    )


class Usage(BaseModel):
    """Tokens of all prompts and choices; masks and end tokens count."""

    prompt_tokens: int = Field(description="Of all prompts, each counted once.")
    completion_tokens: int = Field(description="Generated, for `best_of` too.")
    total_tokens: int = Field(description="Both.")


class CompletionResponse(BaseModel):
    """The answer, or a chunk of it."""

    id: str = Field(description="`cmpl-` and the request's id.")
    object: Literal["text_completion"] = Field(default="text_completion", description="What this is.")
    created: int = Field(description="Seconds since 1970.")
    model: str = Field(description="The model's name.")
    system_fingerprint: str = Field(description="The artifact's digest: another one, other answers.")
    choices: list[CompletionChoice] = Field(description="The texts.")
    usage: Usage | None = Field(default=None, description="Token counts.")


class Model(BaseModel):
    """A model that is served."""

    id: str = Field(description="Its name.")
    object: Literal["model"] = Field(default="model", description="What this is.")
    created: int = Field(description="When it was loaded, in seconds since 1970.")
    owned_by: str = Field(default="glm", description="Always `glm`.")


class ModelList(BaseModel):
    """The models that are served: one."""

    object: Literal["list"] = Field(default="list", description="What this is.")
    data: list[Model] = Field(description="The models.")
