"""Pods as the API server returns them, for the operator's tests."""

from __future__ import annotations

from typing import Any

from glm_operator import names

START = "2026-01-01T00:00:00Z"


def container(name: str, state: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A container's status."""
    return {"name": name, "image": "glm-server:1", "state": state, **more}


RUNNING: dict[str, Any] = {"running": {"startedAt": START}}
DONE: dict[str, Any] = {"terminated": {"exitCode": 0, "reason": "Completed"}}


def ended(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    """The state of a container that ended."""
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def backing_off(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    """State and last state of a container that is about to be started again."""
    return {
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
        "lastState": ended(code, reason, message),
    }


def pod(
    name: str = "demo-1",
    *,
    convert: dict[str, Any] | None = None,
    serve: dict[str, Any] | None = None,
    ready: bool = False,
    template: str = "t1",
    artifact: str = "a1",
    unscheduled: str | None = None,
    job: bool = False,
    deleted: bool = False,
) -> dict[str, Any]:
    """A pod of the resource `demo` in `team`. convert, serve : parts of the containers' statuses."""
    labels = names.labels("demo") | ({names.LABEL_NAME: names.APP_CONVERT} if job else {})
    meta: dict[str, Any] = {
        "name": name,
        "namespace": "team",
        "uid": name,
        "resourceVersion": "1",
        "labels": labels,
        "creationTimestamp": START,
        "annotations": {names.ANNOTATION_ARTIFACT: artifact},
    }
    if not job:
        meta["annotations"][names.ANNOTATION_TEMPLATE] = template
    if deleted:
        meta["deletionTimestamp"] = START
    status: dict[str, Any] = {"phase": "Running" if ready else "Pending", "conditions": []}
    if ready:
        status["conditions"].append({"type": "Ready", "status": "True"})
    if unscheduled is not None:
        status["conditions"].append(
            {"type": "PodScheduled", "status": "False", "message": unscheduled, "lastTransitionTime": START}
        )
    if convert is not None:
        key = "containerStatuses" if job else "initContainerStatuses"
        status[key] = [{"name": "convert", "image": "glm-server:1"} | convert]
    if serve is not None:
        status["containerStatuses"] = [{"name": "serve", "image": "glm-server:1"} | serve]
    return {"kind": "Pod", "metadata": meta, "status": status}


def answering(name: str = "demo-1", **more: Any) -> dict[str, Any]:
    """A pod that answers."""
    return pod(
        name, convert={"state": DONE}, serve={"state": RUNNING, "ready": True, "started": True}, ready=True, **more
    )
