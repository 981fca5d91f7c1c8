"""When pods are replaced, and how."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from glm_operator import names
from glm_operator.model import GLMDeployment, parse
from glm_operator.pods import PodFacts, facts
from glm_operator.resources import Settings, render
from glm_operator.resources.artifact import artifact_key, convert_job
from glm_operator.rollout import PATIENCE_S, Rollout, roll, spec_hash
from operator_builders import document
from operator_pods import START, answering, pod

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NEW_OPERATOR = Settings(image="glm-server:of-a-later-release")
SURGE = {"maxSurge": 1, "maxUnavailable": 0}
RECREATE = {"maxSurge": 0, "maxUnavailable": 1}


def rolled(
    deployment: GLMDeployment,
    live: Any = None,
    jobs: Any = (),
    pods: Any = (),
    settings: Settings | None = None,
    at: float = 0,
) -> Rollout:
    rendered = render(deployment, settings or Settings())[-1]
    return roll(deployment, rendered, live, jobs=jobs, pods=pods, now=NOW + timedelta(seconds=at))


def running(deployment: GLMDeployment) -> dict[str, Any]:
    """The Deployment as it is when all its pods answer."""
    live = copy.deepcopy(rolled(deployment).workload)
    live["status"] = {"readyReplicas": deployment.spec.replicas}
    return live


def template_of(workload: dict[str, Any]) -> dict[str, Any]:
    template: dict[str, Any] = workload["spec"]["template"]
    return template


def test_an_upgrade_of_the_operator_moves_no_pod() -> None:
    deployment = parse(document())
    live = running(deployment)
    assert template_of(rolled(deployment, live, settings=NEW_OPERATOR).workload) == template_of(live)


def test_the_revision_annotation_takes_what_is_new() -> None:
    live = running(parse(document()))
    doc = document()
    doc["metadata"]["annotations"] = {names.ANNOTATION_REVISION: "2"}
    new = rolled(parse(doc), live, settings=NEW_OPERATOR)
    assert template_of(new.workload)["spec"]["containers"][0]["image"] == NEW_OPERATOR.image


def test_a_spec_change_after_an_upgrade_is_rendered_anew() -> None:
    live = running(parse(document()))
    new = rolled(parse(document(limits={"maxBatchSize": 2})), live, settings=NEW_OPERATOR)
    assert new.job is None
    assert "2" in template_of(new.workload)["spec"]["containers"][0]["command"]


@pytest.mark.parametrize("broken", ["", "{}", "[]", '{"metadata": {}}'])
def test_an_annotation_that_was_tampered_with_is_not_trusted(broken: str) -> None:
    deployment = parse(document())
    live = running(deployment)
    live["metadata"]["annotations"][names.ANNOTATION_RENDERED] = broken
    assert rolled(deployment, live).workload == rolled(deployment).workload


@pytest.mark.parametrize("field", ["replicas", "rollout"])
def test_what_pods_do_not_show_moves_none(field: str) -> None:
    value = {"replicas": 5, "rollout": "surge"}[field]
    assert spec_hash(parse(document(**{field: value}))) == spec_hash(parse(document()))


def test_another_artifact_is_made_before_the_pods_are_replaced() -> None:
    before, after = parse(document()), parse(document(precision="int8"))
    live = running(before)
    held = rolled(after, live)
    assert template_of(held.workload) == template_of(live)
    assert held.job is not None
    assert held.job["metadata"]["name"] == f"demo-convert-{artifact_key(after)[:8]}"

    failing = held.job | {"status": {"failed": 3}}
    assert template_of(rolled(after, live, jobs=[failing]).workload) == template_of(live)

    done = held.job | {"status": {"succeeded": 1}}
    switched = rolled(after, live, jobs=[done])
    assert switched.job is None
    assert template_of(switched.workload) == template_of(rolled(after).workload)


def test_an_operator_that_comes_back_after_the_switch_needs_no_job() -> None:
    after = parse(document(precision="int8"))
    assert rolled(after, running(after)).job is None


def test_the_first_artifact_and_one_that_nobody_serves_need_no_job() -> None:
    before, after = parse(document()), parse(document(precision="int8"))
    assert rolled(after).job is None
    live = running(before)
    live["status"] = {}
    assert rolled(after, live).job is None
    assert template_of(rolled(after, live).workload) == template_of(rolled(after).workload)


def test_a_change_and_back_again_ends_as_it_was() -> None:
    before, after = parse(document()), parse(document(precision="int8"))
    held = rolled(after, running(before))
    assert rolled(before, held.workload | {"status": {"readyReplicas": 1}}).workload == rolled(before).workload


def test_a_job_converts_like_the_init_container_and_gets_no_requests() -> None:
    deployment = parse(document(pod={"nodeSelector": {"a": "b"}}))
    template = template_of(rolled(deployment).workload)
    job = convert_job(deployment, template)
    made = job["spec"]["template"]
    assert made["spec"]["containers"] == template["spec"]["initContainers"]
    assert made["spec"]["nodeSelector"] == {"a": "b"}
    assert not names.selector("demo").items() <= made["metadata"]["labels"].items()


def homeless(template: str) -> PodFacts:
    return facts(pod("demo-2", template=template, unscheduled="0/1 nodes: Insufficient nvidia.com/gpu"))


def strategy(rollout: str, pods: list[PodFacts], at: float, live: Any = None) -> Any:
    deployment = parse(document(rollout=rollout))
    return rolled(deployment, live, pods=pods, at=at).workload["spec"]["strategy"]["rollingUpdate"]


def new_template() -> str:
    annotations = template_of(rolled(parse(document())).workload)["metadata"]["annotations"]
    return str(annotations[names.ANNOTATION_TEMPLATE])


@pytest.mark.parametrize(
    ("rollout", "old_serves", "waited", "expected"),
    [
        pytest.param("auto", True, 1, SURGE, id="a place may yet be found"),
        pytest.param("auto", True, PATIENCE_S + 1, RECREATE, id="no place: the old pod makes room"),
        pytest.param("auto", False, PATIENCE_S + 1, SURGE, id="no old pod could make room"),
        pytest.param("surge", True, PATIENCE_S + 1, SURGE, id="surge waits for ever"),
        pytest.param("recreate", True, 0, RECREATE, id="recreate never tries"),
    ],
)
def test_strategy(rollout: str, old_serves: bool, waited: float, expected: dict[str, int]) -> None:
    pods = [homeless(new_template())] + ([facts(answering("old", template="before"))] if old_serves else [])
    assert strategy(rollout, pods, waited) == expected


def test_a_rollout_goes_on_as_it_began_and_the_next_begins_anew() -> None:
    live = running(parse(document()))
    live["spec"]["strategy"]["rollingUpdate"] = RECREATE
    old = facts(answering("old", template="before"))
    new = facts(answering("new", template=new_template()))
    assert strategy("auto", [old, new], 0, live) == RECREATE
    assert strategy("auto", [new], 0, live) == SURGE


@pytest.mark.parametrize(
    ("manager", "ours"), [("kube-controller-manager", False), ("kubectl", True)], ids=["autoscaler", "by hand"]
)
def test_replicas_of_an_autoscaler_are_left_alone(manager: str, ours: bool) -> None:
    deployment = parse(document())
    live = running(deployment)
    live["metadata"]["managedFields"] = [{"manager": manager, "subresource": "scale"}]
    assert ("replicas" in rolled(deployment, live).workload["spec"]) == ours


def test_start_is_a_time() -> None:
    assert homeless("x").since == datetime.fromisoformat(START)
