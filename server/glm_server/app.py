"""The two Flask applications: the API, and the management port's. Both answer every error with JSON."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Final

from flask import Flask, Response, g, jsonify, request
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from glm_engine import __version__
from glm_engine.errors import GlmError
from glm_server.access import check_access
from glm_server.errors import ApiError, ClientGoneError, InternalError, as_api_error, error_body
from glm_server.routes import health, openai, original, score
from glm_server.schemas import ErrorResponse
from glm_server.state import ServerState, current_state
from glm_server.wire import StrictRequest, from_validation

#: A caller's own request id is kept if it looks like one.
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS: Final = ("GET", "HEAD", "POST", "OPTIONS")
#: werkzeug's own refusals: status -> (type, code)
_HTTP_ERRORS: Final = {
    404: ("not_found_error", "not_found"),
    405: ("invalid_request_error", "method_not_allowed"),
    413: ("invalid_request_error", "body_too_large"),
}

_log = logging.getLogger(__name__)


class _ApiApp(OpenAPI):
    """Flask with requests whose JSON is strict."""

    request_class = StrictRequest


def create_app(state: ServerState) -> Flask:
    """The API's application."""
    app = _ApiApp(
        "glm_server",
        info=Info(title="GLM-130B", version=__version__),
        validation_error_status=400,
        validation_error_model=ErrorResponse,
        security_schemes={"key": {"type": "http", "scheme": "bearer", "description": "With --api-keys-file only."}},
        validation_error_callback=_refuse,
        doc_ui=False,
        static_folder=None,
    )
    app.register_api(original.api)
    app.register_api(openai.api)
    app.register_api(score.api)
    document = app.api_doc  # complete now; the types do not change

    @app.get("/openapi.json", doc_ui=False)
    def openapi() -> Response:
        return jsonify(document)

    _prepare(app, state)
    app.before_request(check_access)  # after the request has its id
    return app


def create_management_app(state: ServerState) -> Flask:
    """The management port's application: probes and metrics."""
    app = Flask("glm_management", static_folder=None)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(state.metrics.exposition(), content_type="text/plain; version=0.0.4; charset=utf-8")

    return _prepare(app, state)


def _prepare(app: Flask, state: ServerState) -> Flask:
    state.attach(app)
    app.register_blueprint(health.blueprint)
    app.before_request(_begin)
    app.after_request(_end)
    app.register_error_handler(Exception, _on_error)
    return app


def _refuse(error: ValidationError) -> Response:
    raise from_validation(error)


def _begin() -> None:
    given = request.headers.get("x-request-id", "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    g.started = time.monotonic()


def _end(response: Response) -> Response:
    response.headers["x-request-id"] = g.request_id
    route = request.url_rule.rule if request.url_rule else "other"
    method = request.method if request.method in _METHODS else "other"
    current_state().metrics.count("http_requests_total", route, method, str(response.status_code))
    return response


def _on_error(error: Exception) -> Response:
    if isinstance(error, HTTPException):
        type_, code = _HTTP_ERRORS.get(error.code or 500, ("invalid_request_error", "http_error"))
        response = jsonify(error_body(type_, code, _http_message(error), None, g.request_id))
        response.status_code = error.code or 500
        if allow := dict(error.get_headers()).get("Allow"):
            response.headers["Allow"] = allow
        return response
    if isinstance(error, ClientGoneError):
        return Response(status=499)  # nobody reads it; the number is nginx's, for the metrics
    if not isinstance(error, GlmError):
        _log.exception("internal error", extra={"request_id": g.request_id})
        error = InternalError("internal error; the server's log has it under this request's id")
    elif isinstance(error, InternalError):
        _log.error("internal error: %s", error, extra={"request_id": g.request_id})
    return api_error_response(as_api_error(error))


def api_error_response(error: ApiError) -> Response:
    """An error as a response of the current request."""
    response = jsonify(error.body(g.request_id))
    response.status_code = error.status
    response.headers.update(error.headers)
    return response


def _http_message(error: HTTPException) -> str:
    if error.code == 404:
        return "there is nothing at this address"
    if error.code == 405:
        return f"{request.method if request.method in _METHODS else 'this method'} is not allowed here"
    return error.description or error.name
