"""What pods show, against what the status says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import jsonschema
import pytest

from glm_operator import names
from glm_operator.condition import transitions
from glm_operator.conversion import Conversion
from glm_operator.crd import crd
from glm_operator.decide import Decision, Observed, Policy, decide
from glm_operator.model import parse
from glm_operator.pods import Trouble
from glm_operator.resources import Settings, render
from operator_builders import document
from operator_pods import DONE, RUNNING, answering, backing_off, ended, pod

NOW = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
STATUS_SCHEMA = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]


def hashes(**spec: Any) -> dict[str, str]:
    template = render(parse(document(**spec)), Settings())[-1]["spec"]["template"]["metadata"]["annotations"]
    return {"template": template[names.ANNOTATION_TEMPLATE], "artifact": template[names.ANNOTATION_ARTIFACT]}


H = hashes()
OLD = {"template": "old", "artifact": "old"}


def resource(**spec: Any) -> dict[str, Any]:
    doc = document(**spec)
    doc["metadata"] |= {"uid": "u", "resourceVersion": "1", "generation": 3}
    return doc


def decided(pods: list[dict[str, Any]], **more: Any) -> Decision:
    doc = resource(**more.pop("spec", {}))
    doc["status"] = more.pop("old", {})
    children = more.pop("children", [])
    return decide(Observed(doc, children, pods, NOW, **more), Policy())


def told(decision: Decision) -> dict[str, Any]:
    assert decision.status is not None
    jsonschema.validate(decision.status, STATUS_SCHEMA | {"additionalProperties": False})
    return decision.status


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}


CASES = {
    "nothing yet": ([], "Pending", "NoPodReady", "AsExpected"),
    "converting": ([pod(convert={"state": RUNNING}, **H)], "Converting", "NoPodReady", "AsExpected"),
    "loading": ([pod(convert={"state": DONE}, serve={"state": RUNNING}, **H)], "Loading", "NoPodReady", "AsExpected"),
    "ready": ([answering(**H)], "Ready", "Answering", "AsExpected"),
    "no GPU": ([pod(unscheduled="Insufficient nvidia.com/gpu", **H)], "Pending", "NoPodReady", "Unschedulable"),
    "no image": (
        [pod(convert={"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}, **H)],
        "Failed",
        "NoPodReady",
        "ImagePullFailed",
    ),
    "conversion fails": (
        [pod(convert=backing_off(1, message="checkpoint is torn"), **H)],
        "Failed",
        "NoPodReady",
        "ConversionFailed",
    ),
    "conversion tries again": (
        [pod(convert={"state": RUNNING, "lastState": ended(1)}, **H)],
        "Converting",
        "NoPodReady",
        "ConversionFailed",
    ),
    "conversion needs memory": (
        [pod(convert=backing_off(137, "OOMKilled"), **H)],
        "Failed",
        "NoPodReady",
        "ConversionOutOfMemory",
    ),
    "server needs memory": (
        [pod(convert={"state": DONE}, serve=backing_off(137, "OOMKilled"), **H)],
        "Failed",
        "NoPodReady",
        "ServerOutOfMemory",
    ),
    "server crashes": (
        [pod(convert={"state": DONE}, serve=backing_off(1, message="no device"), **H)],
        "Failed",
        "NoPodReady",
        "ServerFailed",
    ),
    "crashed once, answers again": (
        [
            pod(
                convert={"state": DONE},
                serve={"state": RUNNING, "lastState": ended(1), "ready": True, "started": True},
                ready=True,
                **H,
            )
        ],
        "Ready",
        "Answering",
        "AsExpected",
    ),
    "old pod answers, new one converts": (
        [answering("old", **OLD), pod("new", convert={"state": RUNNING}, **H)],
        "Converting",
        "Answering",
        "AsExpected",
    ),
    "old pod answers, new one fails": (
        [answering("old", **OLD), pod("new", convert={"state": DONE}, serve=backing_off(1), **H)],
        "Degraded",
        "Answering",
        "ServerFailed",
    ),
    "an old pod's end is no trouble": (
        [answering(**H), pod("old", serve=backing_off(1), deleted=True, **OLD)],
        "Ready",
        "Answering",
        "AsExpected",
    ),
}


@pytest.mark.parametrize(("pods", "phase", "available", "degraded"), CASES.values(), ids=CASES)
def test_phase_and_conditions(pods: list[dict[str, Any]], phase: str, available: str, degraded: str) -> None:
    status = told(decided(pods))
    assert status["phase"] == phase
    assert conditions(status)["Available"][1] == available
    assert conditions(status)["Degraded"][1] == degraded
    assert {c["observedGeneration"] for c in status["conditions"]} == {3}


@pytest.mark.parametrize(
    ("message", "pods"),
    [
        ("checkpoint is torn", [pod(convert=backing_off(1, message="checkpoint is torn"), **H)]),
        ("raise pod.resources.limits.memory", [pod(serve=backing_off(137, "OOMKilled"), **H)]),
        ("Insufficient nvidia.com/gpu", [pod(unscheduled="Insufficient nvidia.com/gpu", **H)]),
        ("1 pod of before still answer", [answering("old", **OLD), pod("new", serve=backing_off(1), **H)]),
    ],
)
def test_messages_say_what_is_wrong_and_what_to_do(message: str, pods: list[dict[str, Any]]) -> None:
    assert message in told(decided(pods))["message"]


def test_old_pods_do_not_make_a_new_spec_ready() -> None:
    status = told(decided([answering("old", **OLD)]))
    assert (status["phase"], status["readyReplicas"], status["updatedReplicas"]) == ("Pending", 1, 0)
    available = next(c for c in status["conditions"] if c["type"] == "Available")
    assert "1 of them by an older spec" in available["message"]


def test_quota_is_named() -> None:
    deployment = render(parse(resource()), Settings())[-1]
    failure = {"type": "ReplicaFailure", "status": "True", "message": "pods is forbidden: exceeded quota: gpus"}
    deployment["status"] = {"conditions": [failure]}
    status = told(decided([], children=[deployment]))
    assert conditions(status)["Degraded"] == ("True", "QuotaExceeded")


def test_progress_and_digest_come_from_the_log_and_the_digest_is_kept() -> None:
    converting = decided([pod(convert={"state": RUNNING}, **H)], logs={"demo-1": Conversion("45%, 30 s left", None)})
    assert told(converting)["artifact"]["progress"] == "45%, 30 s left"
    assert "45%" in told(converting)["message"]
    assert converting.again_s is not None
    done = told(decided([answering(**H)], logs={"demo-1": Conversion(None, "abc")}))
    assert done["artifact"]["digest"] == "abc"
    assert told(decided([answering(**H)], old=done | {"phase": "Loading"}))["artifact"]["digest"] == "abc"
    other = told(decided([], spec={"precision": "int8"}, old=done))
    assert "digest" not in other["artifact"]


def test_a_write_that_was_refused_is_told() -> None:
    status = told(decided([answering(**H)], trouble=Trouble("NotApplied", "the API server answers 403: quota")))
    assert conditions(status)["Degraded"] == ("True", "NotApplied")


def test_the_same_observation_needs_no_write() -> None:
    status = told(decided([answering(**H)]))
    again = decided([answering(**H)], old=status)
    assert again.status is None
    assert again.notes == ()


def test_whether_it_fits_is_a_condition_with_the_nearest_setting() -> None:
    status = told(decided([], spec={"tensorParallelSize": 1, "gpu": {"memory": "80G"}}))
    assert conditions(status)["Feasible"] == ("False", "DoesNotFit")
    assert "what would fit: " in next(c["message"] for c in status["conditions"] if c["type"] == "Feasible")


def test_transitions_are_told_once() -> None:
    loading = told(decided([pod(convert={"state": DONE}, serve={"state": RUNNING}, **H)]))
    ready = told(decided([answering(**H)], old=loading))
    notes = transitions(loading["conditions"], ready["conditions"])
    assert {(note.type, note.reason) for note in notes} == {("Normal", "Complete"), ("Normal", "Answering")}
    assert transitions(ready["conditions"], ready["conditions"]) == []
    kept = {c["type"]: c["lastTransitionTime"] for c in ready["conditions"]}
    assert kept["Degraded"] == loading["conditions"][3]["lastTransitionTime"]


def test_scaled_to_zero_is_not_available_but_nothing_is_wrong() -> None:
    status = told(decided([], spec={"replicas": 0}))
    assert (status["phase"], conditions(status)["Available"]) == ("Ready", ("False", "ScaledToZero"))
