"""Errors of the operator's distribution.

OperatorError
├── SpecError    a resource that cannot be: one ``Problem`` per field at fault
└── LocalError   a resource that this machine cannot run

Every message names the field or file, the bound, what was given, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class OperatorError(Exception):
    """Base of all errors that are a person's to mend; `glmctl` prints its text, without a traceback."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: the field's path as in the YAML (``spec.limits.maxBatchSize``), and what to do.

    ``field`` is empty where the message names it itself.
    """

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class SpecError(OperatorError):
    """A resource that cannot be. ``problems`` holds all that was found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class LocalError(OperatorError):
    """A resource that this machine cannot run."""
