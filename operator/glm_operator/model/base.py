"""What every part of the typed spec has in common, and the rules that no single field can express.

A rule stands once, as CEL for the API server and as a predicate for `glmctl`, side by side, with one message. The
tests evaluate both on the same resources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from glm_operator.errors import Problem


@dataclass(frozen=True)
class Rule:
    """A condition on the object it belongs to (``self`` in CEL).

    cel, holds : the same condition, for the API server and for Python.
    message : what is wrong and what would work.
    field : the field at fault, relative to the object, or "" for the object itself.
    detail : the same message with the values in it, for Python. Not for the API server: it prices the text of a number
    as if it were endless, and refuses a CRD whose messages hold one.
    """

    cel: str
    holds: Callable[[Any], bool]
    message: str
    field: str = ""
    detail: Callable[[Any], str] | None = None

    def to_crd(self) -> dict[str, str]:
        """The entry of ``x-kubernetes-validations``."""
        entry = {"rule": self.cel, "message": self.message}
        if self.field:
            entry["fieldPath"] = f".{self.field}"
        return entry

    def problem(self, subject: Base, path: str) -> Problem | None:
        """What is wrong with ``subject``, which stands at ``path`` of the document, or None."""
        if self.holds(subject):
            return None
        where = ".".join(filter(None, (path, self.field)))
        return Problem(where, self.detail(subject) if self.detail else self.message)


def _add_rules(schema: dict[str, Any], cls: type[Base]) -> None:
    if cls.rules:
        schema["x-kubernetes-validations"] = [rule.to_crd() for rule in cls.rules]


class Base(BaseModel):
    """Immutable, camelCase in YAML, unknown keys refused, no value converted; docstrings are the CRD's descriptions."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        json_schema_extra=_add_rules,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    def problems(self, path: str) -> Iterator[Problem]:
        """All rules that do not hold, here and below; ``path`` is where this object stands in the document."""
        for rule in self.rules:
            if (problem := rule.problem(self, path)) is not None:
                yield problem
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Base):
                yield from value.problems(f"{path}.{field.alias or name}")
