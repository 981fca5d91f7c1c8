"""docs/api.md speaks of what there is: every field, route and error code."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from glm_server.openai_schemas import (
    CompletionChoice,
    CompletionRequest,
    CompletionResponse,
    Logprobs,
    Model,
    ModelList,
    Usage,
)
from glm_server.schemas import GenerateRequest, GenerateResponse, TokenizeResponse
from glm_server.score_schemas import Score, ScoreRequest, ScoreResponse
from server_support import Harness

TEXT = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


def test_every_field_is_documented() -> None:
    original = (GenerateRequest, GenerateResponse, TokenizeResponse)
    openai = (CompletionRequest, CompletionResponse, CompletionChoice, Logprobs, Usage, Model, ModelList)
    scoring = (ScoreRequest, ScoreResponse, Score)
    for model in (*original, *openai, *scoring):
        for name in model.model_fields:
            assert f"`{name}`" in TEXT, name


def test_every_route_is_documented(harness: Callable[..., Harness]) -> None:
    for app in (harness().app, harness().management.application):
        for rule in app.url_map.iter_rules():
            for method in rule.methods - {"HEAD", "OPTIONS"}:
                assert f"{method} {rule.rule}" in TEXT


def test_every_code_is_documented() -> None:
    folder = Path(__file__).parents[2] / "server" / "glm_server"
    source = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py"))
    for code in re.findall(r'(?:default_code|code)\s*=\s*"([a-z_]+)"', source):
        assert f"`{code}`" in TEXT or code == "unavailable", code
