"""When pods are replaced, and how: the desired Deployment against the live one. Pure.

Three rules. Pods are rendered anew only if what they are rendered from changed, never because the operator did. A
change that needs another artifact waits, while the old pods serve, until a job has made it. A new pod that finds no
place beside the old one takes the old one's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from glm_operator import names
from glm_operator.model import GLMDeployment
from glm_operator.pods import PodFacts
from glm_operator.resources.artifact import convert_job
from glm_operator.resources.workload import recreate, surge

#: Parts of the spec that no pod shows.
_NOT_IN_PODS: Final = frozenset({"replicas", "rollout"})
#: How long a new pod may look for a place before the old one makes room, in seconds.
PATIENCE_S: Final = 20


@dataclass(frozen=True)
class Rollout:
    """``workload`` : the Deployment to apply; ``job`` : the conversion that it waits for, or None."""

    workload: dict[str, Any]
    job: dict[str, Any] | None


def spec_hash(deployment: GLMDeployment) -> str:
    """Hash of all that the pods are rendered from."""
    spec = deployment.spec.model_dump(by_alias=True, exclude_none=True, exclude=set(_NOT_IN_PODS))
    revision = deployment.metadata.annotations.get(names.ANNOTATION_REVISION, "")
    return hashlib.sha256(json.dumps([spec, revision], sort_keys=True).encode()).hexdigest()[:16]


def roll(
    deployment: GLMDeployment,
    rendered: dict[str, Any],
    live: Mapping[str, Any] | None,
    *,
    jobs: Iterable[Mapping[str, Any]],
    pods: Iterable[PodFacts],
    now: datetime,
) -> Rollout:
    """The Deployment to apply. ``rendered`` : as of now; ``live``, ``jobs``, ``pods`` : as observed."""
    wanted, template = spec_hash(deployment), rendered["spec"]["template"]
    pinned = _pinned(live)
    job = None
    if pinned is not None:
        old_hash, old_template = pinned
        if old_hash == wanted:
            template = old_template
        elif _artifact(old_template) != _artifact(template) and (live or {}).get("status", {}).get("readyReplicas"):
            job = convert_job(deployment, template)
            if not _succeeded(job, jobs):
                wanted, template = old_hash, old_template
            else:
                job = None
    spec = rendered["spec"] | {"template": template}
    if deployment.spec.rollout == "auto":
        spec["strategy"] = _strategy(live, template, list(pods), now)
    if live is not None and _scaled_by_autoscaler(live):
        del spec["replicas"]
    annotations = {
        names.ANNOTATION_SPEC_HASH: wanted,
        names.ANNOTATION_RENDERED: json.dumps(template, sort_keys=True, ensure_ascii=False),
    }
    metadata = rendered["metadata"] | {"annotations": annotations}
    return Rollout(rendered | {"metadata": metadata, "spec": spec}, job)


def _pinned(live: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]] | None:
    """Hash and template that the live Deployment was rendered with; None if there is none, or it was tampered with."""
    annotations = (live or {}).get("metadata", {}).get("annotations") or {}
    try:
        template = json.loads(annotations[names.ANNOTATION_RENDERED])
        template["metadata"]["annotations"][names.ANNOTATION_ARTIFACT]
        template["spec"]["initContainers"]
        return str(annotations[names.ANNOTATION_SPEC_HASH]), template
    except (KeyError, ValueError, TypeError):
        return None


def _artifact(template: Mapping[str, Any]) -> str:
    return str(template["metadata"]["annotations"][names.ANNOTATION_ARTIFACT])


def _succeeded(job: Mapping[str, Any], jobs: Iterable[Mapping[str, Any]]) -> bool:
    name = job["metadata"]["name"]
    return any(j["metadata"]["name"] == name and j.get("status", {}).get("succeeded") for j in jobs)


def _strategy(
    live: Mapping[str, Any] | None, template: Mapping[str, Any], pods: list[PodFacts], now: datetime
) -> dict[str, Any]:
    current = template["metadata"]["annotations"][names.ANNOTATION_TEMPLATE]
    standing = [pod for pod in pods if pod.serves and pod.stage != "ending"]
    if all(pod.template == current for pod in standing):
        return surge()
    if live is not None and live["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxSurge") == 0:
        return recreate()  # once begun, a rollout goes on that way
    homeless = [pod for pod in standing if pod.template == current and waits_for_place(pod)]
    return recreate() if any(waited(pod, now) >= PATIENCE_S for pod in homeless) else surge()


def waits_for_place(pod: PodFacts) -> bool:
    """Whether the scheduler finds no node for the pod."""
    return pod.trouble is not None and pod.trouble.reason == "Unschedulable"


def waited(pod: PodFacts, now: datetime) -> float:
    """Seconds since the scheduler gave up on the pod."""
    return (now - pod.since).total_seconds() if pod.since else 0.0


def _scaled_by_autoscaler(live: Mapping[str, Any]) -> bool:
    """Whether an autoscaler was the last to write the Deployment's scale; a person's edit is repaired."""
    return any(
        entry.get("subresource") == "scale" and entry.get("manager") == "kube-controller-manager"
        for entry in live["metadata"].get("managedFields") or ()
    )
