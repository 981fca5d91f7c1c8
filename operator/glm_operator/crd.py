"""The CustomResourceDefinition, generated from the typed model: `glmctl crd` prints it.

Pydantic's JSON Schema becomes a structural schema: references are resolved, "or null" is dropped (the API server
prunes nulls), defaults are kept. An object's default holds the defaults of its fields: the API server evaluates rules
on it before it would fill them in.
"""

from __future__ import annotations

import inspect
from typing import Any, Final

from glm_operator import names
from glm_operator.model import GLMDeployment, Spec, Status
from glm_operator.model.base import Base

#: Keywords of JSON Schema that a structural schema takes over as they are.
_KEPT: Final = frozenset(
    {"type", "description", "enum", "default", "required", "format", "pattern"}
    | {"minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"}
    | {"x-kubernetes-validations", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"}
)

_COLUMNS: Final = (
    ("Ready", "string", '.status.conditions[?(@.type=="Available")].status', "Whether requests are answered", 0),
    ("Phase", "string", ".status.phase", "Where it stands", 0),
    ("Replicas", "integer", ".status.readyReplicas", "Pods that answer", 0),
    ("TP", "integer", ".spec.tensorParallelSize", "Shards of the model", 0),
    ("Precision", "string", ".spec.precision", "How weights are kept", 0),
    ("Progress", "string", ".status.artifact.progress", "How far the conversion is", 0),
    ("Reason", "string", '.status.conditions[?(@.type=="Available")].reason', "Why it is, or is not, ready", 1),
    ("URL", "string", ".status.endpoint", "URL of the API in the cluster", 1),
    ("Age", "date", ".metadata.creationTimestamp", "Since when it exists", 0),
)


def structural(model: type[Base]) -> dict[str, Any]:
    """The structural schema of a typed model."""
    schema = model.model_json_schema(by_alias=True)
    return _convert(schema, schema.get("$defs", {}))


def _convert(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    node = dict(node)
    if "$ref" in node:
        node = definitions[node.pop("$ref").removeprefix("#/$defs/")] | node
    if "anyOf" in node:
        (choice,) = (option for option in node.pop("anyOf") if option.get("type") != "null")
        return _convert(choice | node, definitions)
    if "const" in node:
        node["enum"] = [node["const"]]
    if "exclusiveMinimum" in node:  # a boolean beside `minimum` in the OpenAPI of CRDs
        return _exclusive(node, definitions)
    result = {key: value for key, value in node.items() if key in _KEPT}
    if "description" in result:
        result["description"] = inspect.cleandoc(result["description"]).replace("\n", " ")
    given = result.pop("default", None)
    if "properties" in node:
        result["properties"] = {key: _convert(item, definitions) for key, item in node["properties"].items()}
    elif isinstance(extra := node.get("additionalProperties"), dict):
        result["additionalProperties"] = _convert(extra, definitions)
    if "items" in node:
        result["items"] = _convert(node["items"], definitions)
    if given is not None:
        result["default"] = _default(given, result)
    return result


def _default(given: Any, schema: dict[str, Any]) -> Any:
    if schema.get("type") == "array":
        return []
    if schema.get("type") != "object":
        return given
    return {key: item["default"] for key, item in schema.get("properties", {}).items() if "default" in item}


def _exclusive(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    low, high = node.pop("exclusiveMinimum"), node.pop("exclusiveMaximum")
    return _convert(node, definitions) | {
        "minimum": low,
        "exclusiveMinimum": True,
        "maximum": high,
        "exclusiveMaximum": True,
    }


def crd() -> dict[str, Any]:
    """The CustomResourceDefinition of GLMDeployment, as a new dict."""
    schema = {
        "type": "object",
        "description": inspect.cleandoc(GLMDeployment.__doc__ or ""),
        "required": ["spec"],
        "properties": {"spec": structural(Spec), "status": structural(Status)},
        "x-kubernetes-validations": [rule.to_crd() for rule in GLMDeployment.rules],
    }
    columns = [
        {"name": name, "type": kind, "jsonPath": path, "description": text, "priority": priority}
        for name, kind, path, text, priority in _COLUMNS
    ]
    version = {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": columns,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": names.CRD_NAME},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "listKind": f"{names.KIND}List",
                "plural": names.PLURAL,
                "singular": names.SINGULAR,
                "shortNames": [names.SHORT_NAME],
                "categories": ["all", "glm"],
            },
            "versions": [version],
        },
    }
