"""`glmctl status`: one screen of text about a resource. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from glm_operator.pods import PodFacts
from glm_operator.quantity import human

_EVENTS: Final = 6


def screen(
    resource: Mapping[str, Any], pods: Sequence[PodFacts], events: Sequence[Mapping[str, Any]], now: datetime
) -> list[tuple[str, str]]:
    """Rows of label and text; a label that is empty goes on with the one above."""
    meta, spec, status = resource["metadata"], resource["spec"], resource.get("status") or {}
    if not status:
        return [("phase", "nobody has looked at it yet: is the operator running? `kubectl glm doctor` tells")]
    rows = [("phase", f"{status.get('phase')}: {status.get('message', '')}")]
    if status.get("observedGeneration") != meta.get("generation"):
        rows.append(("", "the operator has not yet seen the latest change"))
    ready, wanted = status.get("readyReplicas", 0), spec.get("replicas", 1)
    updated = status.get("updatedReplicas", 0)
    rows.append(("replicas", f"{ready} of {wanted} answer, {updated} run the present spec"))
    rows.append(("spec", f"{spec.get('precision')}, tensor parallel {spec['tensorParallelSize']}, {spec['backend']}"))
    artifact = status.get("artifact") or {}
    rows.append(("artifact", _artifact(artifact)))
    rows.append(("endpoint", status.get("endpoint", "none")))
    conditions = status.get("conditions") or ()
    rows += _labelled("conditions", [_condition(item, now) for item in conditions])
    rows += _labelled("pods", [_pod(pod) for pod in pods] or ["none"])
    latest = sorted(events, key=lambda e: e.get("lastTimestamp") or "")[-_EVENTS:]
    rows += _labelled("events", [_event(event, now) for event in latest] or ["none"])
    return rows


def _labelled(label: str, texts: list[str]) -> list[tuple[str, str]]:
    return [(label if i == 0 else "", text) for i, text in enumerate(texts)]


def _artifact(artifact: Mapping[str, Any]) -> str:
    size = human(artifact["bytes"]) if "bytes" in artifact else "of unknown size"
    if "digest" in artifact:
        return f"{artifact['digest'][:16]}, {size}"
    return f"{size}, {artifact.get('progress', 'not converted yet')}"


def _condition(item: Mapping[str, Any], now: datetime) -> str:
    since = _age(item.get("lastTransitionTime"), now)
    return f"{item['type']:<14} {item['status']:<6} {item['reason']:<20} for {since}"


def _pod(pod: PodFacts) -> str:
    kind = "" if pod.serves else " (conversion)"
    trouble = f": {pod.trouble.message}" if pod.trouble is not None else ""
    return f"{pod.name} {pod.stage}{kind}{trouble}"


def _event(event: Mapping[str, Any], now: datetime) -> str:
    return f"{_age(event.get('lastTimestamp'), now)} ago {event.get('reason')}: {event.get('message', '')}"


def _age(text: str | None, now: datetime) -> str:
    if not text:
        return "?"
    seconds = max(0, int((now - datetime.fromisoformat(text)).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
