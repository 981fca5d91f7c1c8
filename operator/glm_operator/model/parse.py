"""From a document to the typed resource, with every problem found at once."""

from __future__ import annotations

import difflib
import json
from typing import Any

from pydantic import ValidationError

from glm_operator.errors import Problem, SpecError
from glm_operator.model.base import Base
from glm_operator.model.deployment import GLMDeployment


def parse(document: object) -> GLMDeployment:
    """The typed resource of a YAML or API document, checked as the API server would: types, bounds, rules.

    Raises ``SpecError`` with one ``Problem`` per field at fault.
    """
    if not isinstance(document, dict):
        raise SpecError([Problem("document", f"must be a mapping; got {type(document).__name__}")])
    try:
        # By JSON, because strict types of JSON are what the API server knows: no text that looks like a number.
        deployment = GLMDeployment.model_validate_json(json.dumps(_without_nulls(document)))
    except (TypeError, ValueError) as error:
        if isinstance(error, ValidationError):
            raise SpecError(_explain(error)) from None
        raise SpecError([Problem("document", f"holds a value that JSON has not: {error}; quote it")]) from None
    problems = list(deployment.problems(""))
    if problems:
        raise SpecError([Problem(p.field.removeprefix("."), p.message) for p in problems])
    return deployment


def _without_nulls(value: Any) -> Any:
    """The API server drops nulls before it applies defaults: `limits:` with nothing below it is no limits."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _explain(error: ValidationError) -> list[Problem]:
    problems = []
    for detail in error.errors(include_url=False):
        path = [str(part) for part in detail["loc"]]
        field = ".".join(path) or "document"
        given = detail.get("input")
        match detail["type"]:
            case "missing":
                message = "is required"
            case "extra_forbidden":
                message = f"is not a field{_suggest(path)}"
            case "literal_error":
                message = f"must be one of {detail['ctx']['expected']}; got {_show(given)}"
            case _:
                message = f"{detail['msg'].removeprefix('Input ').removeprefix('Value error, ')}; got {_show(given)}"
        problems.append(Problem(field, message))
    return problems


def _show(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _suggest(path: list[str]) -> str:
    """Name the nearest field, or all that there are."""
    model: Any = GLMDeployment
    for part in path[:-1]:
        model = next((_model_of(f.annotation) for f in model.model_fields.values() if f.alias == part), None)
        if model is None:
            return ""
    known = [field.alias for field in model.model_fields.values()]
    close = difflib.get_close_matches(path[-1], known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; fields here: {', '.join(known)}"


def _model_of(annotation: Any) -> type[Base] | None:
    """The model class in an annotation such as ``Limits`` or ``Gpu | None``."""
    candidates = getattr(annotation, "__args__", (annotation,))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, Base)), None)
