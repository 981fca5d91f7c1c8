"""Errors of the engine side.

GlmError
├── ConfigError       a model description or a setting that cannot be
├── CheckpointError   a source checkpoint that is missing, torn or misshaped
├── ArtifactError     an artifact that is incomplete, damaged or of another layout version
├── StorageError      the disk cannot hold what is asked
├── RequestError      one request that the engine refuses; the others go on
├── QueueFullError    no room for another request now; try again later
└── EngineError       the engine itself failed; nothing can be answered any more

Every message names what failed, the bound, what was given, and what to do.
"""

from __future__ import annotations


class GlmError(Exception):
    """Base of all errors that are a person's to mend; a program prints its text, without a traceback."""


class ConfigError(GlmError):
    """A model description or a setting that cannot be."""


class CheckpointError(GlmError):
    """A source checkpoint that is missing, torn or misshaped."""


class ArtifactError(GlmError):
    """An artifact that is incomplete, damaged or of another layout version."""


class StorageError(GlmError):
    """The disk cannot hold what is asked."""


class RequestError(GlmError):
    """One request that the engine refuses: ``field`` is the request's field at fault."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class QueueFullError(GlmError):
    """No room for another request now; try again later."""


class EngineError(GlmError):
    """The engine itself failed; nothing can be answered any more."""
