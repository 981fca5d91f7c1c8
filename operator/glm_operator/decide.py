"""One decision: what to write for a resource, from what is observed of it. Pure; called by every kind of trigger.

The same observation always leads to the same decision, whatever came before: an operator that was killed between two
writes decides, when it is back, what is left to be done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from glm_operator import names
from glm_operator.condition import Note, transitions
from glm_operator.conversion import Conversion
from glm_operator.errors import SpecError
from glm_operator.model import GLMDeployment, parse
from glm_operator.plan import Step, plan
from glm_operator.pods import PodFacts, Trouble, facts
from glm_operator.quantity import to_number
from glm_operator.resources import Settings, render
from glm_operator.rollout import PATIENCE_S, Rollout, roll, waited, waits_for_place
from glm_operator.status import View, refused, status

#: How often a running conversion's log is read, in seconds.
_PROGRESS_S: Final = 5.0


@dataclass(frozen=True)
class Observed:
    """A resource, its children, its pods, the ends of logs by pod, and what went wrong with the last writes."""

    resource: Mapping[str, Any]
    children: Sequence[Mapping[str, Any]]
    pods: Sequence[Mapping[str, Any]]
    now: datetime
    logs: Mapping[str, Conversion] = field(default_factory=dict)
    trouble: Trouble | None = None


@dataclass(frozen=True)
class Decision:
    """``steps`` : writes, in their order; ``status`` : to write if it differs, or None; ``notes`` : events, written
    with the status; ``again_s`` : seconds after which to look again without being told, or None."""

    steps: tuple[Step, ...] = ()
    status: dict[str, Any] | None = None
    notes: tuple[Note, ...] = ()
    again_s: float | None = None


@dataclass(frozen=True)
class Policy:
    """What the operator's installation allows. ``host_paths`` : folders of nodes may be mounted."""

    rendering: Settings = field(default_factory=Settings)
    host_paths: bool = False


def logs_wanted(pods: Iterable[PodFacts], known: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pods and containers whose log tells something new; ``known`` : the artifact of the status."""
    wanted = []
    for pod in pods:
        told = known.get("key") == pod.artifact and known.get("digest") is not None
        if pod.stage == "converting" or (pod.converted and not told):
            wanted.append((pod.name, names.CONTAINER_CONVERT))
    return wanted


def decide(observed: Observed, policy: Policy) -> Decision:
    """What to do for the resource."""
    resource = observed.resource
    meta, old = resource["metadata"], resource.get("status") or {}
    if meta.get("deletionTimestamp"):
        return Decision()  # its children go with it, by their owner references
    pods = [facts(pod) for pod in observed.pods]
    try:
        deployment = parse(resource)
        problem = _forbidden(deployment, policy)
    except SpecError as error:
        problem = Trouble("InvalidSpec", str(error))
    if problem is not None:
        answering = any(pod.serves and pod.stage == "ready" for pod in pods)
        new = refused(meta.get("generation", 0), problem, old, observed.now, answering=answering)
        return _concluded(new, old, (), None)

    own = [child for child in observed.children if owned(child, meta["uid"])]
    live = {(child["kind"], child["metadata"]["name"]): child for child in own}
    *around, rendered = render(deployment, policy.rendering)
    workload = live.get(("Deployment", deployment.name))
    jobs = [child for child in own if child["kind"] == "Job"]
    rollout = roll(deployment, rendered, workload, jobs=jobs, pods=pods, now=observed.now)
    grows = deployment.spec.artifact_cache.size is not None
    desired = [_kept(item, live, grows=grows) for item in around]
    if rollout.job is not None:
        desired.append(_kept(rollout.job, live, grows=grows))
    desired.append(rollout.workload)
    view = _view(deployment, rendered, rollout, live=live, pods=pods, observed=observed)
    return _concluded(status(view), old, plan(desired, own), _again(view, observed.now))


def owned(child: Mapping[str, Any], uid: str) -> bool:
    """Whether the object is the resource's own: a label alone is anybody's."""
    return any(owner.get("uid") == uid for owner in child["metadata"].get("ownerReferences") or ())


def _forbidden(deployment: GLMDeployment, policy: Policy) -> Trouble | None:
    spec = deployment.spec
    places = {
        "checkpoint": spec.checkpoint.host_path,
        "tokenizer": spec.tokenizer.host_path,
        "artifactCache": spec.artifact_cache.host_path,
    }
    used = [f"spec.{name}.hostPath" for name, path in places.items() if path is not None]
    if used and not policy.host_paths:
        return Trouble("HostPathNotAllowed", f"{', '.join(used)}: this operator allows no host paths; use a claim")
    return None


def _kept(desired: dict[str, Any], live: Mapping[tuple[str, str], Mapping[str, Any]], *, grows: bool) -> dict[str, Any]:
    """``desired`` less what cannot be changed in an object that exists: a job's pods, a claim but for its growth.

    grows : the claim's size is the user's word; a computed one never makes the operator resize anything.
    """
    existing = live.get((desired["kind"], desired["metadata"]["name"]))
    if existing is None:
        return desired
    if desired["kind"] == "Job":
        return {key: value for key, value in desired.items() if key != "spec"}
    if desired["kind"] == "PersistentVolumeClaim":
        spec, now = desired["spec"], existing["spec"]
        size, has = spec["resources"]["requests"]["storage"], now["resources"]["requests"]["storage"]
        bigger = grows and to_number(size) > to_number(has)
        kept = {"accessModes": now["accessModes"], "resources": {"requests": {"storage": size if bigger else has}}}
        if "storageClassName" in spec:
            kept["storageClassName"] = now.get("storageClassName", spec["storageClassName"])
        return desired | {"spec": kept}
    return desired


def _view(
    deployment: GLMDeployment,
    rendered: Mapping[str, Any],
    rollout: Rollout,
    *,
    live: Mapping[tuple[str, str], Mapping[str, Any]],
    pods: Sequence[PodFacts],
    observed: Observed,
) -> View:
    held = rollout.job is not None
    template = rollout.workload["spec"]["template"]["metadata"]["annotations"]
    wanted = rendered["spec"]["template"]["metadata"]["annotations"] if held else template
    return View(
        deployment=deployment,
        workload=live.get(("Deployment", deployment.name)),
        claim=live.get(("PersistentVolumeClaim", names.artifact_claim(deployment.name))),
        pods=pods,
        logs=observed.logs,
        template=template[names.ANNOTATION_TEMPLATE],
        artifact=wanted[names.ANNOTATION_ARTIFACT],
        held=held,
        trouble=observed.trouble,
        old=observed.resource.get("status") or {},
        now=observed.now,
    )


def _again(view: View, now: datetime) -> float | None:
    """Progress and patience are not told by events."""
    if any(pod.stage == "converting" for pod in view.pods):
        return _PROGRESS_S
    left = [PATIENCE_S - waited(pod, now) for pod in view.serving if waits_for_place(pod)]
    due = [seconds for seconds in left if seconds > 0]
    return min(due) + 0.5 if due and view.deployment.spec.rollout == "auto" else None


def _concluded(new: dict[str, Any], old: Mapping[str, Any], steps: tuple[Step, ...], again_s: float | None) -> Decision:
    if new == old:
        return Decision(steps, None, (), again_s)
    notes = transitions(old.get("conditions") or (), new["conditions"])
    return Decision(steps, new, tuple(notes), again_s)
