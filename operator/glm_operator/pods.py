"""What a pod's status says, in our words: how far it is, and what stops it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from glm_operator import names

Stage = Literal["waiting", "converting", "loading", "ready", "ending"]

_IMAGE: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"})
_LONGEST: Final = 600


@dataclass(frozen=True)
class Trouble:
    """What stops a pod: ``reason`` for programs, ``message`` for people; ``retried`` : it is being tried again now."""

    reason: str
    message: str
    retried: bool = False


@dataclass(frozen=True)
class PodFacts:
    """One pod. ``template``, ``artifact`` : hashes it was made with; ``converted`` : its artifact is there."""

    name: str
    serves: bool
    template: str
    artifact: str
    stage: Stage
    converted: bool
    trouble: Trouble | None
    since: datetime | None


def facts(pod: Mapping[str, Any]) -> PodFacts:
    """The facts of a pod as the API server returns it."""
    meta, status = pod["metadata"], pod.get("status", {})
    annotations = meta.get("annotations") or {}
    serves = (meta.get("labels") or {}).get(names.LABEL_NAME) == names.APP
    convert, serve = _containers(status, serves)
    converted = _exit_code(convert) == 0
    unscheduled = _condition(status, "PodScheduled", "False")
    trouble = _unscheduled(unscheduled) or _stopped(convert, "Conversion") or _stopped(serve, "Server")
    return PodFacts(
        name=meta["name"],
        serves=serves,
        template=annotations.get(names.ANNOTATION_TEMPLATE, ""),
        artifact=annotations.get(names.ANNOTATION_ARTIFACT, ""),
        stage=_stage(meta, status, convert, serve, serves=serves),
        converted=converted,
        trouble=trouble,
        since=when((unscheduled or {}).get("lastTransitionTime") or meta.get("creationTimestamp")),
    )


def when(text: str | None) -> datetime | None:
    """A time of Kubernetes, with its zone."""
    return datetime.fromisoformat(text) if text else None


def _containers(status: Mapping[str, Any], serves: bool) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Status of the converting and of the serving container; a job's pod has the former as its main one."""
    main: Mapping[str, Any] = next(iter(status.get("containerStatuses") or ()), {})
    if not serves:
        return main, {}
    return next(iter(status.get("initContainerStatuses") or ()), {}), main


def _exit_code(container: Mapping[str, Any]) -> int | None:
    code: int | None = (container.get("state", {}).get("terminated") or {}).get("exitCode")
    return code


def _condition(status: Mapping[str, Any], kind: str, value: str) -> Mapping[str, Any] | None:
    found: Iterable[Mapping[str, Any]] = status.get("conditions") or ()
    return next((c for c in found if c["type"] == kind and c["status"] == value), None)


def _stage(
    meta: Mapping[str, Any],
    status: Mapping[str, Any],
    convert: Mapping[str, Any],
    serve: Mapping[str, Any],
    *,
    serves: bool,
) -> Stage:
    if meta.get("deletionTimestamp") or status.get("phase") in ("Succeeded", "Failed"):
        return "ending"
    if serves and _condition(status, "Ready", "True"):
        return "ready"
    if "running" in convert.get("state", {}):
        return "converting"
    if "running" in serve.get("state", {}):
        return "loading"
    return "waiting"


def _unscheduled(condition: Mapping[str, Any] | None) -> Trouble | None:
    if condition is None:
        return None
    return Trouble("Unschedulable", f"no node takes the pod: {condition.get('message', 'no reason given')}")


def _stopped(container: Mapping[str, Any], what: str) -> Trouble | None:
    """Why a container does not run, or did not until a moment ago."""
    state = container.get("state", {})
    waiting = state.get("waiting") or {}
    reason = waiting.get("reason", "")
    if reason in _IMAGE:
        return Trouble("ImagePullFailed", f"image {container.get('image')}: {waiting.get('message') or reason}")
    if reason.endswith("Error"):
        return Trouble(f"{what}Failed", f"the container {container['name']} does not start: {waiting.get('message')}")
    running = "running" in state
    if running and (container.get("started") and container.get("ready")):
        return None  # what was before it is over
    ended = state.get("terminated") or container.get("lastState", {}).get("terminated")
    if not ended or ended.get("exitCode") == 0:
        return None
    if ended.get("reason") == "OOMKilled":
        remedy = "; raise pod.resources.limits.memory" if what == "Server" else ""
        text = f"the container {container['name']} was killed for want of memory{remedy}"
        return Trouble(f"{what}OutOfMemory", text, running)
    said = (ended.get("message") or "").strip()[-_LONGEST:]
    text = f"the container {container['name']} ended with {ended.get('exitCode')}: {said}"
    return Trouble(f"{what}Failed", text, running)
