"""The CRD: generated, documented to the last leaf, and of one mind with the typed model."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cel
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glm_operator.commands.text import to_yaml
from glm_operator.crd import crd
from glm_operator.errors import SpecError
from glm_operator.model import parse
from glm_operator.model.base import Base, Rule
from operator_builders import VALUES, document

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for key, item in schema.get("properties", {}).items():
        yield from nodes(item, f"{path}.{key}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], f"{path}[]")


def test_the_chart_holds_what_is_generated() -> None:
    committed = ROOT / "charts/glm-operator/files/crd.yaml"
    assert committed.read_text(encoding="utf-8") == to_yaml([crd()]), "run `make manifests`"


def test_every_field_has_a_description_for_kubectl_explain() -> None:
    bare = [path for path, node in nodes(SCHEMA) if path and not path.endswith("[]") and not node.get("description")]
    assert bare == []


def test_the_schema_is_structural() -> None:
    for path, node in nodes(SCHEMA):
        assert not node.keys() & {"$ref", "anyOf", "oneOf", "allOf", "const", "title"}, path
        assert "type" in node or "x-kubernetes-int-or-string" in node, path
        if "properties" in node:
            assert "additionalProperties" not in node, path


def test_strings_lists_and_maps_are_bounded_where_rules_look() -> None:
    """The API server prices a CEL rule by the bounds of what it reads and refuses a CRD that could cost too much."""
    for path, node in nodes(SCHEMA["properties"]["spec"]):
        if node.get("type") == "string" and "enum" not in node:
            assert "maxLength" in node, path
        if node.get("type") == "array":
            assert "maxItems" in node, path


def with_defaults(value: Any, schema: dict[str, Any]) -> Any:
    """What the API server does before it evaluates rules."""
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    value = dict(value)
    for key, item in schema["properties"].items():
        if key not in value and "default" in item:
            value[key] = copy.deepcopy(item["default"])
        if key in value:
            value[key] = with_defaults(value[key], item)
    return value


def rule_failures(value: Any, schema: dict[str, Any]) -> int:
    """Rules of the CRD that do not hold, evaluated by a CEL implementation; their messages must evaluate, too."""
    failures = 0
    for rule in schema.get("x-kubernetes-validations", ()):
        context = cel.Context({"self": value})
        if not cel.evaluate(rule["rule"], context):
            failures += 1
            assert "messageExpression" not in rule
    for key, item in schema.get("properties", {}).items():
        if key in value:
            failures += rule_failures(value[key], item) if isinstance(value[key], dict) else 0
    return failures


def server_accepts(doc: dict[str, Any]) -> bool:
    relevant = {"metadata": {"name": doc["metadata"]["name"]}, "spec": doc["spec"]}
    closed = copy.deepcopy(SCHEMA)
    for _, node in list(nodes(closed["properties"]["spec"])):
        if "properties" in node:
            node["additionalProperties"] = False  # what `kubectl apply` asks for: strict field validation
        if "exclusiveMinimum" in node:
            node["exclusiveMinimum"], node["exclusiveMaximum"] = node.pop("minimum"), node.pop("maximum")
        if "x-kubernetes-int-or-string" in node:
            node["type"] = ["integer", "string"]
        if "pattern" in node:
            node["pattern"] = node["pattern"].replace("$", r"\Z")  # RE2's `$` is the end, Python's allows a line break
    try:
        jsonschema.validate(relevant, closed)
    except jsonschema.ValidationError:
        return False
    return rule_failures(with_defaults(relevant, SCHEMA), SCHEMA) == 0


def model_accepts(doc: dict[str, Any]) -> bool:
    try:
        parse(doc)
    except SpecError:
        return False
    return True


SPECS = st.lists(
    st.sampled_from([(field, value) for field, values in VALUES.items() for value in values]), max_size=3
).map(dict)


@settings(deadline=None)
@given(SPECS, st.sampled_from(["demo", "1demo", "a" * 53, "a" * 54]))
def test_server_and_glmctl_accept_the_same(spec: dict[str, Any], name: str) -> None:
    doc = document(**spec)
    doc["metadata"]["name"] = name
    assert server_accepts(doc) == model_accepts(doc)


def test_every_rule_is_in_the_crd() -> None:
    def rules(cls: type[Base]) -> Iterator[Rule]:
        for sub in cls.__subclasses__():
            yield from sub.rules
            yield from rules(sub)

    known = {rule["rule"] for _, node in nodes(SCHEMA) for rule in node.get("x-kubernetes-validations", ())}
    assert {rule.cel for rule in rules(Base)} == known


@pytest.mark.parametrize("path", ["spec.limits.maxBatchSize", "spec.gpu.resource", "spec.pod"])
def test_defaults_are_in_the_schema(path: str) -> None:
    node = SCHEMA
    for part in path.split("."):
        node = node["properties"][part]
    assert "default" in node
