"""The status: what is observed of a resource, in the words of the CRD. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from glm_operator import names
from glm_operator.condition import Condition, merge
from glm_operator.conversion import Conversion
from glm_operator.model import GLMDeployment
from glm_operator.pods import PodFacts, Trouble
from glm_operator.quantity import human
from glm_operator.sizing import nearest_that_fits, sizes

#: Troubles that mend themselves when something else comes, as against those that need a person.
_WAITING: Final = frozenset({"Unschedulable", "ClaimPending", "QuotaExceeded"})


@dataclass(frozen=True)
class View:
    """What the status is computed from: the resource, its live Deployment and claim, its pods and their logs.

    template, artifact : what is wanted now; held : a conversion must end before the pods may follow the spec.
    trouble : of the operator's own writes.
    """

    deployment: GLMDeployment
    workload: Mapping[str, Any] | None
    claim: Mapping[str, Any] | None
    pods: Sequence[PodFacts]
    logs: Mapping[str, Conversion]
    template: str
    artifact: str
    held: bool
    trouble: Trouble | None
    old: Mapping[str, Any]
    now: datetime

    @property
    def serving(self) -> list[PodFacts]:
        """Pods that serve or shall, those that end left out."""
        return [pod for pod in self.pods if pod.serves and pod.stage != "ending"]

    @property
    def ready(self) -> list[PodFacts]:
        """Pods that answer."""
        return [pod for pod in self.serving if pod.stage == "ready"]

    @property
    def current(self) -> list[PodFacts]:
        """Pods of the present spec."""
        return [] if self.held else [pod for pod in self.serving if pod.template == self.template]

    @property
    def wanted(self) -> int:
        """Number of pods that shall be."""
        if self.workload is not None and "replicas" in self.workload.get("spec", {}):
            return int(self.workload["spec"]["replicas"])
        return self.deployment.spec.replicas

    @property
    def complete(self) -> bool:
        """Whether every wanted pod is there, of the present spec, and answers, and no other is."""
        current = self.current
        settled = len(current) == len(self.serving) == self.wanted
        return not self.held and settled and all(pod.stage == "ready" for pod in current)


def status(view: View) -> dict[str, Any]:
    """The status to write."""
    deployment, generation = view.deployment, view.deployment.metadata.generation
    trouble = _trouble(view)
    artifact = _artifact(view)
    phase, words = _phase(view, trouble, artifact)
    conditions = [
        _progressing(view, phase, words),
        _artifact_ready(view, trouble, artifact),
        _available(view, words),
        _degraded(view, trouble),
        *_feasible(deployment),
    ]
    namespace = deployment.metadata.namespace
    return {
        "observedGeneration": generation,
        "phase": phase,
        "message": words,
        "replicas": len(view.serving),
        "readyReplicas": len(view.ready),
        "updatedReplicas": len(view.current),
        "selector": ",".join(f"{key}={value}" for key, value in names.selector(deployment.name).items()),
        "endpoint": f"http://{deployment.name}.{namespace}:{names.API_PORT}",
        "artifact": artifact,
        "conditions": merge(conditions, view.old.get("conditions") or (), generation, view.now),
    }


def refused(
    generation: int, problem: Trouble, old: Mapping[str, Any], now: datetime, *, answering: bool
) -> dict[str, Any]:
    """The status of a resource that cannot be: nothing is changed for it, and what runs is left alone."""
    conditions = [
        Condition("Progressing", False, problem.reason, problem.message),
        Condition("Available", answering, problem.reason, problem.message),
        Condition("Degraded", True, problem.reason, problem.message),
    ]
    merged = merge(conditions, old.get("conditions") or (), generation, now)
    kept = {key: value for key, value in old.items() if key in ("replicas", "readyReplicas", "selector", "endpoint")}
    head = {"observedGeneration": generation, "phase": "Failed", "message": problem.message}
    return kept | head | {"conditions": merged}


def _trouble(view: View) -> Trouble | None:
    """What a person should look at first."""
    if view.trouble is not None:
        return view.trouble
    # Of the pods that are wanted, and of the job; an old pod's trouble ends with it.
    pods = [pod for pod in view.pods if pod.stage != "ending" and (not pod.serves or pod.template == view.template)]
    found = [pod.trouble for pod in pods if pod.trouble is not None]
    if (quota := _replica_failure(view.workload)) is not None:
        found.append(quota)
    claim = view.claim
    if claim is not None and claim.get("status", {}).get("phase") == "Lost":
        found.append(Trouble("ClaimLost", f"claim {claim['metadata']['name']} has lost its volume"))
    found.sort(key=lambda trouble: trouble.reason in _WAITING)
    return found[0] if found else None


def _replica_failure(workload: Mapping[str, Any] | None) -> Trouble | None:
    for item in (workload or {}).get("status", {}).get("conditions") or ():
        if item["type"] == "ReplicaFailure" and item["status"] == "True":
            reason = "QuotaExceeded" if "exceeded quota" in item.get("message", "") else "PodsRefused"
            return Trouble(reason, f"pods cannot be created: {item.get('message', '')}")
    return None


def _artifact(view: View) -> dict[str, Any]:
    """The artifact that is wanted: its size, its digest once a pod has told it, how far the conversion is."""
    result: dict[str, Any] = {"key": view.artifact, "bytes": sizes(view.deployment.spec).artifact}
    old = view.old.get("artifact") or {}
    digest = old.get("digest") if old.get("key") == view.artifact else None
    progress = None
    for pod in view.pods:
        if pod.artifact == view.artifact and (log := view.logs.get(pod.name)) is not None:
            digest = log.digest or digest
            progress = log.progress if pod.stage == "converting" else progress
    if digest is not None:
        result["digest"] = digest
    elif progress is not None:
        result["progress"] = progress
    return result


def _converted(view: View) -> bool:
    return (
        any(pod.artifact == view.artifact and (pod.converted or pod.stage in ("loading", "ready")) for pod in view.pods)
        and not view.held
    )


def _phase(view: View, trouble: Trouble | None, artifact: Mapping[str, Any]) -> tuple[str, str]:  # noqa: PLR0911 -- a table
    if view.complete:
        if view.wanted == 0:
            return "Ready", "scaled to zero: raise replicas to serve"
        return "Ready", f"{_pods(len(view.ready))} answer{'s' if len(view.ready) == 1 else ''}"
    if trouble is not None and not trouble.retried:
        old = f"; {_pods(len(view.ready))} of before still answer" if view.ready else ""
        text = f"{trouble.message}{old}"
        if view.ready:
            return "Degraded", text
        return ("Pending" if trouble.reason in _WAITING else "Failed"), text
    working = [pod for pod in view.pods if pod.artifact == view.artifact and pod.stage != "ending"]
    after = f"; {_pods(len(view.ready))} answer meanwhile" if view.ready else ""
    if view.held or any(pod.stage == "converting" for pod in working):
        return "Converting", f"converting: {artifact.get('progress', 'beginning')}{after}"
    current = view.current
    if any(pod.stage == "loading" for pod in current):
        return "Loading", f"{human(artifact['bytes'])} of weights are being loaded{after}"
    if view.ready and len(view.ready) < view.wanted and len(current) == len(view.serving):
        return "Degraded", f"{len(view.ready)} of {_pods(view.wanted)} answer"
    return "Pending", f"{len(current)} of {_pods(view.wanted)} run the present spec{after}"


def _progressing(view: View, phase: str, words: str) -> Condition:
    if view.complete:
        return Condition("Progressing", False, "Complete", "all pods run the present spec")
    reason = {"Converting": "Converting", "Loading": "Loading", "Failed": "Stuck"}.get(phase, "WaitingForPods")
    return Condition("Progressing", phase != "Failed", reason, words)


def _artifact_ready(view: View, trouble: Trouble | None, artifact: Mapping[str, Any]) -> Condition:
    if _converted(view) or (view.complete and "digest" in artifact):
        return Condition("ArtifactReady", True, "Converted", f"artifact {artifact.get('digest', 'is whole')}")
    if trouble is not None and trouble.reason.startswith("Conversion"):
        return Condition("ArtifactReady", False, trouble.reason, f"{trouble.message}; it is tried again")
    return Condition("ArtifactReady", False, "NotConverted", artifact.get("progress", "the conversion has not begun"))


def _available(view: View, words: str) -> Condition:
    ready = len(view.ready)
    if ready:
        old = ready - sum(pod.stage == "ready" for pod in view.current)
        which = f", {old} of them by an older spec" if old else ""
        return Condition("Available", True, "Answering", f"{ready} of {_pods(view.wanted)} answer{which}")
    if view.wanted == 0:
        return Condition("Available", False, "ScaledToZero", "replicas is 0")
    return Condition("Available", False, "NoPodReady", words)


def _degraded(view: View, trouble: Trouble | None) -> Condition:
    if trouble is not None:
        return Condition("Degraded", True, trouble.reason, trouble.message)
    return Condition("Degraded", False, "AsExpected", "nothing is known to be wrong")


def _feasible(deployment: GLMDeployment) -> list[Condition]:
    size = sizes(deployment.spec)
    if size.gpu is None:
        return []
    share = f"each GPU needs {human(size.rank)} of its {human(size.gpu)}"
    if size.fits:
        return [Condition("Feasible", True, "Fits", share)]
    remedy = nearest_that_fits(deployment.spec)
    return [Condition("Feasible", False, "DoesNotFit", f"{share}; {f'what would fit: {remedy}' if remedy else ''}")]


def _pods(count: int) -> str:
    return "1 pod" if count == 1 else f"{count} pods"
