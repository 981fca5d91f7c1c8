"""Errors as a client sees them.

ApiError                  status, ``type`` and ``code`` that stay the same for ever
├── InvalidRequestError   400 invalid_request_error
├── UnauthorizedError     401 authentication_error
├── NotFoundError         404 not_found_error
├── TooLargeError         413 invalid_request_error
├── OverloadedError       429 overloaded_error, with Retry-After
├── UnavailableError      503 unavailable_error, with Retry-After
└── InternalError         500 internal_error
ClientGoneError           nobody reads the answer

The body is OpenAI's on every route: ``{"error": {"message", "type", "param", "code", "request_id"}}``. A message names
the field, the bound, what was given and what to do; it never holds a prompt, a path or a stack trace.
"""

from __future__ import annotations

from typing import Any, ClassVar

from glm_engine.errors import EngineError, GlmError, QueueFullError, RequestError


class ApiError(GlmError):
    """An answer that is an error. ``param`` is the field at fault, ``retry_after_s`` when to try again."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "internal_error"
    default_code: ClassVar[str] = "internal_error"

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.param = param
        self.code = code or self.default_code
        self.retry_after_s = retry_after_s

    def body(self, request_id: str | None = None) -> dict[str, Any]:
        """The JSON body; always serializable."""
        return error_body(self.type, self.code, str(self), self.param, request_id)

    @property
    def headers(self) -> dict[str, str]:
        """Headers beside the body: when to retry, or that retrying is useless."""
        if self.retry_after_s is not None:
            return {"Retry-After": str(self.retry_after_s)}
        return {"x-should-retry": "false"} if self.status < 500 else {}


class InvalidRequestError(ApiError):
    """The request can't be; the same again will fail again."""

    status = 400
    type = "invalid_request_error"
    default_code = "invalid_value"


class UnauthorizedError(ApiError):
    """No API key, or one that is not known."""

    status = 401
    type = "authentication_error"
    default_code = "invalid_api_key"

    @property
    def headers(self) -> dict[str, str]:
        return super().headers | {"WWW-Authenticate": "Bearer"}


class NotFoundError(ApiError):
    """What is named does not exist."""

    status = 404
    type = "not_found_error"
    default_code = "not_found"


class TooLargeError(ApiError):
    """More bytes than are read."""

    status = 413
    type = "invalid_request_error"
    default_code = "body_too_large"


class OverloadedError(ApiError):
    """No room now; nothing was begun."""

    status = 429
    type = "overloaded_error"
    default_code = "queue_full"

    def __init__(self, message: str, *, code: str | None = None, retry_after_s: int = 1) -> None:
        super().__init__(message, code=code, retry_after_s=retry_after_s)


class UnavailableError(ApiError):
    """Not able to answer now: loading, draining or failed."""

    status = 503
    type = "unavailable_error"
    default_code = "unavailable"

    def __init__(self, message: str, *, code: str | None = None, retry_after_s: int = 5) -> None:
        super().__init__(message, code=code, retry_after_s=retry_after_s)


class InternalError(ApiError):
    """Our fault; the log has the reason under the request's id."""


class ClientGoneError(GlmError):
    """The client closed its connection: nobody reads the answer."""


def error_body(
    type_: str, code: str | None, message: str, param: str | None = None, request_id: str | None = None
) -> dict[str, Any]:
    """The one shape of an error's body."""
    error = {"message": message, "type": type_, "param": param, "code": code}
    return {"error": error | ({"request_id": request_id} if request_id else {})}


def as_api_error(error: GlmError) -> ApiError:
    """Map the engine's errors to what a client is told."""
    match error:
        case ApiError():
            return error
        case RequestError():
            return InvalidRequestError(str(error), param=error.field)
        case QueueFullError():
            return OverloadedError(str(error))
        case EngineError():
            return UnavailableError("the engine failed; the server restarts", code="engine_failed")
        case _:
            return InternalError("internal error; the server's log has it under this request's id")
