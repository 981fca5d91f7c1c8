"""/openapi.json describes what is served, by the types that validate."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest

from server_support import Harness

MakeHarness = Callable[..., Harness]
PROBES = {"/livez", "/readyz", "/openapi.json"}


@pytest.fixture
def document(harness: MakeHarness) -> dict[str, Any]:
    response = harness().client.get("/openapi.json")
    assert response.status_code == 200
    return dict(response.get_json())


def resolve(document: dict[str, Any], reference: str) -> dict[str, Any]:
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)


def request_schema(document: dict[str, Any], path: str) -> dict[str, Any]:
    content = document["paths"][path]["post"]["requestBody"]["content"]
    return {**content["application/json"]["schema"], "components": document["components"]}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_every_route_is_in_it(harness: MakeHarness, document: dict[str, Any]) -> None:
    served = {
        (re.sub(r"<path:(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in harness().app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule not in PROBES
    }
    assert {(path, method) for path, method, _ in operations(document)} == served


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    references = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(document)))
    assert references
    for reference in references:
        assert resolve(document, reference)


def test_every_field_and_operation_is_described(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert schema.get("description"), name
        for field, properties in schema.get("properties", {}).items():
            assert properties.get("description") or "$ref" in properties, (name, field)
    for path, method, operation in operations(document):
        assert operation["summary"], (path, method)
        assert operation["description"], (path, method)


def test_refusals_have_our_shape(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for path, method, operation in operations(document):
        assert operation["security"] == [{}, {"key": []}]  # a key, or none where the server has no file of keys
        for status, response in operation["responses"].items():
            if status != "200":
                schema = response["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorResponse"}, (path, method, status)


@pytest.mark.parametrize(
    ("path", "body", "valid"),
    [
        ("/v1/completions", {"model": "toy", "prompt": "w1", "stop": ["a"], "logit_bias": {"7": 1}}, True),
        ("/v1/completions", {"model": "toy", "prompt": [[1, 2], [3]], "max_tokens": None}, True),
        ("/v1/completions", {"model": "toy", "prompt": "w1", "temperature": 3}, False),
        ("/v1/completions", {"model": "toy"}, False),
        ("/v1/score", {"model": "toy", "context": "w1", "continuations": ["w2", [3]]}, True),
        ("/v1/score", {"model": "toy", "context": 1, "continuations": ["w2"]}, False),
        ("/generate", {"text": "w1", "topk": None}, True),
        ("/generate", {"text": "w1", "unknown": 1}, False),
        ("/tokenize", {"text": "w1"}, True),
    ],
)
def test_document_and_server_agree(
    harness: MakeHarness, document: dict[str, Any], path: str, body: dict[str, Any], valid: bool
) -> None:
    validator = jsonschema.Draft202012Validator(request_schema(document, path))
    assert validator.is_valid(body) == valid
    assert (harness().client.post(path, json=body).status_code == 200) == valid
