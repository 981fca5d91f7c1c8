"""OpenAI's API: `/v1/completions` and `/v1/models`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

from flask import Response, g, jsonify
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from glm_engine.errors import RequestError
from glm_server.completing import Completing
from glm_server.completion_plan import FIELDS, CompletionPlan, check_model
from glm_server.errors import InvalidRequestError
from glm_server.fanout import Fanout
from glm_server.lifecycle import Runtime
from glm_server.openai_schemas import CompletionRequest, CompletionResponse, Model, ModelList
from glm_server.schemas import refusals
from glm_server.state import client_watch, current_state

api = APIBlueprint(
    "openai", __name__, abp_tags=[Tag(name="OpenAI", description="OpenAI's API.")], abp_security=[{}, {"key": []}]
)
_ERRORS: Final = refusals("404", "413", "429", "503")


class ModelPath(BaseModel):
    """Which model."""

    model: str = Field(description="The model's name.")


@api.post("/v1/completions", summary="Continue or fill texts", responses={"200": CompletionResponse, **_ERRORS})
def completions(body: CompletionRequest) -> Response:
    """Continue each prompt, or fill its blank. With `stream` the answer is `text/event-stream`: a chunk per event."""
    state = current_state()
    with ExitStack() as stack:
        stack.enter_context(state.admission)
        runtime = state.lifecycle.runtime()
        plan = CompletionPlan(body, runtime, state.config.max_prompts)
        fanout = Fanout(stack.enter_context(runtime.service.session()), plan.requests, client_watch())
        try:
            fanout.start()
        except RequestError as error:
            raise InvalidRequestError(str(error), param=FIELDS.get(error.field or "", error.field)) from error
        completing = Completing(plan, runtime, fanout, g.request_id)
        if not plan.stream:
            return jsonify(completing.whole())
        include_usage = body.stream_options is not None and body.stream_options.include_usage
        response = Response(
            completing.stream(include_usage, state.config.keepalive_s),
            content_type="text/event-stream; charset=utf-8",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )
        response.call_on_close(stack.pop_all().close)  # the slots are free once the stream ends, or its client goes
        return response


@api.post("/v1/chat/completions", summary="Not served", responses=refusals())
def chat() -> Response:
    """Always refused: GLM-130B is a base model. It was not trained on turns, so any format of them would be made up."""
    raise InvalidRequestError(
        "chat is not served: GLM-130B is a base model that was trained without turns and roles; "
        "write the conversation as a text and send it to /v1/completions",
        code="chat_not_supported",
    )


@api.get("/v1/models", summary="What is served", responses={"200": ModelList, **refusals("503")})
def models() -> Response:
    """The one model of this server."""
    return jsonify(ModelList(data=[_model(current_state().lifecycle.runtime())]).model_dump())


@api.get("/v1/models/<path:model>", summary="One model", responses={"200": Model, **refusals("404", "503")})
def model(path: ModelPath) -> Response:
    """The model, if it is the one that is served."""
    runtime = current_state().lifecycle.runtime()
    check_model(path.model, runtime)
    return jsonify(_model(runtime).model_dump())


def _model(runtime: Runtime) -> Model:
    return Model(id=runtime.name, created=runtime.created)
