"""The original server's requests and answers; validation and documentation come from these types."""

from __future__ import annotations

from typing import Literal

from flask_openapi3.types import ResponseDict
from pydantic import BaseModel, Field

from glm_server.wire import StrictModel


class TokenizeRequest(StrictModel):
    """Texts to tokenize."""

    text: str = Field(description="One text per line.", examples=["The capital of [MASK] is Paris."])


class TokenizeResponse(BaseModel):
    """Prompts as the model reads them, one row per line of the text."""

    start_ids: list[list[int]] = Field(description="Token ids, `sop` included; rows are padded with 0 at their end.")
    start_lengths: list[int] = Field(description="Length of each row without its padding.")
    mask_positions: list[int] = Field(
        description="Where in the row the [MASK] or [sMASK] stands that is filled first; -1 where it is a [gMASK]."
    )


class GenerateRequest(TokenizeRequest):
    """The original's `/generate`. A field that is left out or null takes its default; 0 means 0."""

    seed: int | None = Field(1234, ge=0, lt=1 << 63, description="Same seed, same answer, whatever else runs.")
    out_seq_length: int | None = Field(
        None,
        ge=1,
        description="Tokens generated for each blank, at most. Default: 200, or what the context has room for.",
    )
    min_gen_length: int | None = Field(0, ge=0, description="No end before so many tokens of a blank.")
    sampling_strategy: Literal["BaseStrategy", "BeamSearchStrategy"] | None = Field(
        "BaseStrategy", description="Draw tokens one by one, or search with beams."
    )
    num_beams: int | None = Field(4, ge=1, description="Beams of BeamSearchStrategy; each takes a place in the batch.")
    length_penalty: float | None = Field(0.9, ge=-10, le=10, description="Of BeamSearchStrategy; more: longer answers.")
    no_repeat_ngram_size: int | None = Field(
        None, ge=0, description="No n-gram of this size is generated twice. Default: 3 with beams, else 0 (off)."
    )
    temperature: float | None = Field(1.0, ge=0, le=100, description="Of BaseStrategy; 0 is greedy.")
    topk: int | None = Field(5, ge=0, description="Of BaseStrategy: draw among so many tokens; 0 is off, 1 greedy.")
    topp: float | None = Field(
        0.0, ge=0, le=1, description="Of BaseStrategy: draw among the tokens of this probability; 0 is off."
    )


class GenerateResponse(BaseModel):
    """One entry per line of the text."""

    text: list[str] = Field(description="What was generated; several blanks of a line are joined by line breaks.")
    answers: list[str] = Field(description="The line with its blanks filled.")
    blanks: list[list[str]] = Field(description="What was generated for each blank of the line.")
    finish_reasons: list[list[str]] = Field(
        description="Why each blank ended: `stop` (the model ended it), `length`, or `time`."
    )
    beams: list[list[str]] | None = Field(
        None, description="With BeamSearchStrategy: the line as each beam fills it, best first."
    )


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str = Field(description="For a person: the field, the bound, what was given, what to do.")
    type: str = Field(description="For a program; stable.")
    param: str | None = Field(description="The request's field at fault.")
    code: str | None = Field(description="Finer than the type; stable.")
    request_id: str | None = Field(None, description="As in the header `x-request-id` and in the server's log.")


class ErrorResponse(BaseModel):
    """Every error of every route."""

    error: ErrorDetail


def refusals(*statuses: str) -> ResponseDict:
    """What every route may answer beside its 200 (malformed, without a key), and the further ``statuses``."""
    return dict.fromkeys(("400", "401", *statuses), ErrorResponse)
