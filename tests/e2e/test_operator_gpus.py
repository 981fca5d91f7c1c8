"""Rollouts where GPUs are scarce, and many resources: on fake nodes, whose pods become Ready without containers."""

import time
from collections.abc import Callable, Iterator

import pytest

from e2e.kit import objects
from e2e.kit.cluster import Cluster
from e2e.kit.models import fake, sample_volumes
from e2e.kit.operating import holds, reach, reason, status
from e2e.kit.waiting import eventually

CHANGE = '{"spec":{"limits":{"maxBatchSize":4}}}'


@pytest.fixture
def team(system: Cluster, namespace: Cluster) -> Cluster:
    """A namespace with the sample's volumes, whose content no fake pod reads."""
    sample_volumes(namespace)
    return namespace


@pytest.fixture
def fake_node(team: Cluster) -> Iterator[None]:
    """One fake node with eight GPUs."""
    team.apply(objects.fake_node("scarce"))
    team.kubectl("wait", "node/scarce", "--for=condition=Ready", "--timeout=20s")
    yield
    team.kubectl("delete", "node", "scarce", "--wait=false")


def pods(team: Cluster) -> set[str]:
    return {pod["metadata"]["name"] for pod in team.get("pods")["items"] if "deletionTimestamp" not in pod["metadata"]}


def test_without_a_spare_gpu_auto_makes_room(team: Cluster, fake_node: None) -> None:
    team.apply(fake("demo"))
    reach(team, "demo", "Ready")
    before = pods(team)
    team.kubectl("patch", "glmd", "demo", "--type=merge", "-p", CHANGE)
    eventually(lambda: reason(status(team, "demo"), "Degraded") == "True Unschedulable", within_s=15)
    assert reason(status(team, "demo"), "Available") == "True Answering"
    reach(team, "demo", "Ready", within_s=60)
    assert not pods(team) & before
    strategy = team.get("deployment", "demo")["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": 1, "maxUnavailable": 0}, "the next rollout tries to surge again"


def test_with_a_spare_gpu_auto_surges(team: Cluster, fake_node: None) -> None:
    team.apply(objects.fake_node("spare"))
    try:
        team.apply(fake("demo"))
        reach(team, "demo", "Ready")
        before = pods(team)
        team.kubectl("patch", "glmd", "demo", "--type=merge", "-p", CHANGE)

        def always_answered() -> bool:
            return int(status(team, "demo")["readyReplicas"]) >= 1

        holds(always_answered, for_s=5)
        reach(team, "demo", "Ready")
        assert not pods(team) & before
    finally:
        team.kubectl("delete", "node", "spare", "--wait=false")


def test_surge_waits_for_a_gpu_while_the_old_pod_serves(team: Cluster, fake_node: None) -> None:
    team.apply(fake("demo", rollout="surge"))
    reach(team, "demo", "Ready")
    team.kubectl("patch", "glmd", "demo", "--type=merge", "-p", CHANGE)
    eventually(lambda: reason(status(team, "demo"), "Degraded") == "True Unschedulable", within_s=15)
    holds(lambda: reason(status(team, "demo"), "Available") == "True Answering", for_s=25)
    assert "Insufficient nvidia.com/gpu" in status(team, "demo")["message"]


def test_scale_and_columns(team: Cluster, fake_node: None) -> None:
    team.apply(fake("demo", tensorParallelSize=2))
    reach(team, "demo", "Ready")
    team.kubectl("scale", "glmd/demo", "--replicas=3")
    assert reach(team, "demo", "Ready")["readyReplicas"] == 3
    header, row = team.kubectl("get", "glmd").splitlines()
    assert header.split()[:5] == ["NAME", "READY", "PHASE", "REPLICAS", "TP"]
    assert row.split()[:5] == ["demo", "True", "Ready", "3", "2"]


def test_two_hundred_at_once(team: Cluster, note: Callable[[str], None]) -> None:
    nodes = [objects.fake_node(f"many-{i}", gpus=16) for i in range(20)]
    team.apply(*nodes)
    try:
        began = time.monotonic()
        team.apply(*(fake(f"many-{i}", tensorParallelSize=1, precision="int8") for i in range(200)))

        def ready() -> bool:
            found = [r.get("status", {}).get("phase") for r in team.get("glmd")["items"]]
            return found.count("Ready") == 200

        eventually(ready, within_s=180, every_s=1)
        note(f"200 resources applied to Ready in {time.monotonic() - began:.0f} s")
        team.kubectl("delete", "glmd", "--all", "--wait=false")
        eventually(lambda: not team.get("glmd")["items"], within_s=60)
    finally:
        team.kubectl("delete", "node", *(n["metadata"]["name"] for n in nodes), "--wait=false")
