"""`glmctl doctor`: what a cluster has and lacks for GLMDeployments. Pure: judges what was listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from glm_operator import names
from glm_operator.crd import crd
from glm_operator.quantity import to_number

_DEFAULT_CLASS: Final = "storageclass.kubernetes.io/is-default-class"


@dataclass(frozen=True)
class Finding:
    """One judgement. ``fail`` : nothing works; ``warn`` : some resources will not."""

    grade: Literal["ok", "warn", "fail"]
    subject: str
    text: str


def definition(found: Mapping[str, Any] | None) -> Finding:
    """Whether the CRD is there, and is this program's."""
    if found is None:
        return Finding("fail", "CRD", "is not installed: helm install glm-operator charts/glm-operator")
    ours, theirs = crd()["spec"]["versions"], found["spec"]["versions"]
    served = next((version for version in theirs if version["name"] == names.VERSION), None)
    if served is None:
        return Finding("fail", "CRD", f"has no version {names.VERSION}: helm upgrade glm-operator")
    fields = (_fields(ours[0]), _fields(served))
    if missing := sorted(fields[0] - fields[1]):
        return Finding("warn", "CRD", f"is older than this program, it lacks {', '.join(missing[:5])}: helm upgrade")
    if more := sorted(fields[1] - fields[0]):
        return Finding("warn", "CRD", f"is newer than this program, which does not know {', '.join(more[:5])}")
    return Finding("ok", "CRD", f"{names.CRD_NAME} {names.VERSION}, as this program knows it")


def _fields(version: Mapping[str, Any]) -> set[str]:
    schema = version.get("schema", {}).get("openAPIV3Schema", {})
    found: set[str] = set()
    todo = [("spec", schema.get("properties", {}).get("spec", {}))]
    while todo:
        path, node = todo.pop()
        for key, item in node.get("properties", {}).items():
            found.add(f"{path}.{key}")
            todo.append((f"{path}.{key}", item))
    return found


def operator(deployments: Sequence[Mapping[str, Any]]) -> Finding:
    """Whether an operator runs."""
    found = [d for d in deployments if (d["metadata"].get("labels") or {}).get(names.LABEL_NAME) == names.MANAGER]
    if not found:
        return Finding("fail", "operator", "is not installed: helm install glm-operator charts/glm-operator")
    where = ", ".join(f"{d['metadata']['namespace']}/{d['metadata']['name']}" for d in found)
    if not any((d.get("status") or {}).get("readyReplicas") for d in found):
        return Finding("fail", "operator", f"{where} is not ready: look at its pod")
    if len(found) > 1:
        return Finding("warn", "operator", f"{len(found)} are installed ({where}): they must not share a namespace")
    return Finding("ok", "operator", f"{where} is ready")


def gpus(nodes: Sequence[Mapping[str, Any]]) -> Finding:
    """Which GPUs the nodes offer."""
    counts: dict[str, list[int]] = {}
    for node in nodes:
        for resource, amount in ((node.get("status") or {}).get("allocatable") or {}).items():
            if "gpu" in resource and to_number(str(amount)) > 0:
                counts.setdefault(resource, []).append(int(to_number(str(amount))))
    if not counts:
        return Finding("warn", "GPUs", "no node offers any: only backend cpu runs; is the device plugin installed?")
    texts = [f"{sum(each)} of {name} on {len(each)} nodes, up to {max(each)} in one" for name, each in counts.items()]
    return Finding("ok", "GPUs", "; ".join(texts))


def storage(classes: Sequence[Mapping[str, Any]]) -> Finding:
    """Whether a claim without a class finds one."""
    defaults = [c["metadata"]["name"] for c in classes if _is_default(c)]
    if defaults:
        return Finding("ok", "storage", f"default class {defaults[0]}")
    known = ", ".join(c["metadata"]["name"] for c in classes) or "none"
    return Finding("warn", "storage", f"no default class: set artifactCache.storageClassName or claim (there: {known})")


def _is_default(item: Mapping[str, Any]) -> bool:
    return (item["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"


def webhooks(configurations: Sequence[Mapping[str, Any]]) -> Finding:
    """Which webhooks of others stand between the operator and its pods."""
    strict = [
        f"{item['metadata']['name']}/{hook['name']}"
        for item in configurations
        for hook in item.get("webhooks") or ()
        if hook.get("failurePolicy") != "Ignore" and any(_meets(rule) for rule in hook.get("rules") or ())
    ]
    if strict:
        return Finding("warn", "webhooks", f"while these are down no pod or Deployment is made: {', '.join(strict)}")
    return Finding("ok", "webhooks", "none that could block pods or Deployments")


def _meets(rule: Mapping[str, Any]) -> bool:
    return bool({"*", "pods", "deployments", "*/*"} & set(rule.get("resources") or ()))
