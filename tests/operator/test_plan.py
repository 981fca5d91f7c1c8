"""Desired against observed, as a table."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from glm_operator.model import parse
from glm_operator.plan import difference, plan
from glm_operator.resources import Settings, render
from operator_builders import document


def wanted(**spec: Any) -> list[dict[str, Any]]:
    return render(parse(document(**spec)), Settings())


def as_the_server_returns(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With defaults, canonical quantities and the server's own fields."""
    result = copy.deepcopy(objects)
    for item in result:
        item["metadata"] |= {"uid": "1", "resourceVersion": "7", "managedFields": []}
        item["status"] = {}
        if item["kind"] == "NetworkPolicy":
            del item["spec"]["egress"]
        if item["kind"] == "PersistentVolumeClaim":
            item["spec"] |= {"volumeMode": "Filesystem", "storageClassName": "standard"}
            item["spec"]["resources"]["requests"]["storage"] = str(
                int(item["spec"]["resources"]["requests"]["storage"].removesuffix("Mi")) * 2**20
            )
        if item["kind"] == "Deployment":
            item["spec"]["template"]["spec"]["dnsPolicy"] = "ClusterFirst"
    return result


def steps(desired: list[dict[str, Any]], observed: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(step.verb, step.key[0], step.why) for step in plan(desired, observed)]


def test_nothing_is_there() -> None:
    assert [(verb, kind) for verb, kind, _ in steps(wanted(), [])] == [
        ("create", "ServiceAccount"),
        ("create", "NetworkPolicy"),
        ("create", "PersistentVolumeClaim"),
        ("create", "Service"),
        ("create", "Service"),
        ("create", "PodDisruptionBudget"),
        ("create", "Deployment"),
    ]


def test_at_rest_nothing_is_written() -> None:
    assert steps(wanted(), as_the_server_returns(wanted())) == []


@pytest.mark.parametrize("index", range(7))
def test_each_object_comes_back_when_it_is_deleted(index: int) -> None:
    live = as_the_server_returns(wanted())
    gone = live.pop(index)
    assert steps(wanted(), live) == [("create", gone["kind"], "is missing")]


def test_an_edit_by_hand_is_repaired_and_named() -> None:
    live = as_the_server_returns(wanted())
    live[-1]["spec"]["template"]["spec"]["containers"][0]["image"] = "other"
    assert steps(wanted(), live) == [("repair", "Deployment", "differs in spec.template.spec.containers[0].image")]


def test_what_is_not_wanted_any_more_goes_but_artifacts_stay() -> None:
    live = as_the_server_returns(wanted())
    live.append({"kind": "ConfigMap", "metadata": {"name": "demo-model"}})
    now = wanted(artifactCache={"claim": "shared"})
    assert steps(now, live) == [
        ("repair", "Deployment", "differs in spec.template.metadata.annotations.serving.glm.io/artifact"),
        ("delete", "ConfigMap", "is not wanted any more"),
    ]


def test_what_is_being_deleted_is_waited_for() -> None:
    live = as_the_server_returns(wanted())
    live[0]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert steps(wanted(), live) == []


@pytest.mark.parametrize(
    ("want", "live", "path"),
    [
        pytest.param({"a": 1}, {"a": 1, "b": 2}, None, id="others' fields"),
        pytest.param({"a": {"b": 1}}, {}, "a", id="absent object"),
        pytest.param({"a": {}}, {}, None, id="empty equals absent"),
        pytest.param({"a": []}, {}, None, id="empty list equals absent"),
        pytest.param({"a": [1]}, {"a": [1, 2]}, "a", id="longer list"),
        pytest.param({"a": "1024Mi"}, {"a": "1Gi"}, None, id="quantity"),
        pytest.param({"a": 8}, {"a": "8"}, None, id="number as quantity"),
        pytest.param({"a": "1024Mi"}, {"a": "2Gi"}, "a", id="other quantity"),
        pytest.param({"a": True}, {"a": 1.5}, "a", id="bool"),
        pytest.param({"a": None}, {}, None, id="null"),
        pytest.param({"a": [{"b": "x"}]}, {"a": [{"b": "y"}]}, "a[0].b", id="path"),
    ],
)
def test_differences(want: Any, live: Any, path: str | None) -> None:
    assert difference(want, live) == path
