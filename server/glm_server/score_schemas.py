"""`/v1/score`: requests and answers; validation and documentation come from these types."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from glm_server.wire import StrictModel


def is_text_or_ids(value: Any) -> bool:
    """Whether this is a text, or a list of token ids that is not empty."""
    return isinstance(value, str) or (
        isinstance(value, list) and bool(value) and all(type(item) is int for item in value)
    )


def _check_context(value: Any) -> Any:
    if not is_text_or_ids(value):
        raise ValueError("must be a text or a list of token ids")
    return value


def _check_continuations(value: Any) -> Any:
    if not isinstance(value, list) or not value or not all(is_text_or_ids(item) for item in value):
        raise ValueError("must be a list of texts or of lists of token ids, and not be empty")
    return value


class ScoreRequest(StrictModel):
    """How likely some texts are as the filling of one blank."""

    model: str = Field(description="The name that `/v1/models` gives.")
    context: Annotated[str | list[int], BeforeValidator(_check_context)] = Field(
        description="A text or token ids, read in both directions; its blank is filled, else it is continued."
    )
    continuations: Annotated[list[str | list[int]], BeforeValidator(_check_continuations)] = Field(
        description="Texts or token ids, each scored alone."
    )


class Score(BaseModel):
    """Of one continuation."""

    logprob: float = Field(description="Its log-likelihood: the sum over its tokens.")
    greedy: bool = Field(description="Whether each of its tokens is the likeliest one.")
    tokens: list[int] = Field(description="Its token ids.")
    token_logprobs: list[float] = Field(description="Log-probability of each, given the context and those before it.")


class ScoreResponse(BaseModel):
    """One entry per continuation."""

    model: str = Field(description="The model's name.")
    scores: list[Score] = Field(description="In the order of the continuations.")
    context_tokens: int = Field(description="Tokens of the context as the model reads it, mask and `sop` included.")
