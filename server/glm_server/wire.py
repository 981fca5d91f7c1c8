"""Bytes <-> typed requests: strict JSON, and pydantic's errors in our words."""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

from flask import Request
from pydantic import BaseModel, ConfigDict, ValidationError

from glm_server.errors import ApiError, InvalidRequestError

#: A given value is quoted up to so many characters, as ASCII: an error must be printable whatever was sent.
_QUOTED: Final = 40


class StrictModel(BaseModel):
    """Base of every request: no unknown field, no coercion, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class StrictRequest(Request):
    """A request whose body is one JSON object, whatever content type it claims (the original never looked at it)."""

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        """The body's object. Raises ``InvalidRequestError``; the arguments are Flask's and change nothing."""
        return parse_object(self.get_data(cache=True))


def parse_object(body: bytes) -> dict[str, Any]:
    """Read one JSON object. Raises ``InvalidRequestError`` for anything else, NaN and infinity included."""
    if not body.strip():
        raise InvalidRequestError("the body is empty; send a JSON object", code="invalid_json")
    try:
        data = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"the body is not UTF-8 (byte {error.start})", code="invalid_json") from error
    except RecursionError as error:
        raise InvalidRequestError("the body is nested too deeply", code="invalid_json") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidRequestError(f"the body is not JSON ({where}: {error.msg})", code="invalid_json") from error
    except ValueError as error:  # an integer of thousands of digits
        raise InvalidRequestError("the body holds a number that is too long", code="invalid_json") from error
    if not isinstance(data, dict):
        raise InvalidRequestError(f"the body must be a JSON object; got {type(data).__name__}", code="invalid_json")
    return data


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidRequestError(f"{name} is not JSON; numbers must be finite", code="invalid_json")


def check_text(text: str, field: str) -> str:
    """Refuse half of a surrogate pair, which no tokenizer can read."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            f"`{field}` must be Unicode text; half of a surrogate pair stands at character {error.start}", param=field
        ) from error
    return text


def quote(value: object) -> str:
    """A given value for an error message: ASCII, short."""
    text = ascii(value)
    return text if len(text) <= _QUOTED else text[: _QUOTED - 3] + "..."


def from_validation(error: ValidationError) -> ApiError:
    """The first of pydantic's complaints, as an answer."""
    first = error.errors(include_url=False)[0]
    if isinstance(cause := first.get("ctx", {}).get("error"), ApiError):
        return cause
    field = ".".join(str(part) for part in first["loc"][:2]) or "body"
    if first["type"] == "extra_forbidden":
        known = ", ".join(sorted(_known_fields(error)))
        return InvalidRequestError(
            f"unknown field `{quote(field)[1:-1]}`" + (f"; known: {known}" if known else ""),
            param=quote(field)[1:-1],
            code="unknown_field",
        )
    if first["type"] == "missing":
        return InvalidRequestError(f"`{field}` is required", param=field, code="missing_field")
    said = first["msg"].removeprefix("Value error, ")
    wanted = said.replace("Input should be", "must be", 1).replace("String should", "must", 1)
    wanted = wanted.replace("List should", "must", 1).replace("Dictionary should", "must", 1)
    return InvalidRequestError(f"`{field}` {wanted}; got {quote(first['input'])}", param=field)


def _known_fields(error: ValidationError) -> list[str]:
    models = StrictModel.__subclasses__()
    while models:
        model = models.pop()
        if model.__name__ == error.title:
            return list(model.model_fields)
        models += model.__subclasses__()
    return []
