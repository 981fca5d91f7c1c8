"""The loop against an API server in memory: end states, faults at every write, silence at rest."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from glm_operator import names
from glm_operator.cluster import ClusterError
from glm_operator.decide import Policy
from glm_operator.reconciler import Reconciler
from glm_operator.store import Store
from glm_operator.telemetry import Telemetry
from operator_builders import DIMENSIONS, document
from operator_memory_api import Killed, MemoryApi
from operator_pods import RUNNING, pod

KEY = ("team", "demo")
NOW = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)


def operator(api: MemoryApi) -> Reconciler:
    """An operator that has just started."""
    store = Store()
    started = Reconciler(api, store, Policy(), Telemetry(store.phases), clock=lambda: NOW)
    started.sync()
    return started


def applied(**spec: Any) -> MemoryApi:
    api = MemoryApi()
    api.create(document(**spec))
    return api


def settle(api: MemoryApi, reconciler: Reconciler | None = None) -> Reconciler:
    reconciler = reconciler or operator(api)
    reconciler.sync()
    reconciler.reconcile(KEY)
    return reconciler


def test_a_new_resource_gets_all_its_objects_and_a_status() -> None:
    api = applied()
    settle(api)
    kinds = [kind for kind, _, _ in api.objects]
    around = ["ServiceAccount", "NetworkPolicy", "PersistentVolumeClaim", "Service", "Service", "PodDisruptionBudget"]
    assert kinds[1:] == [*around, "Deployment"]
    status = api.objects[names.KIND, *KEY]["status"]
    assert status["phase"] == "Pending"
    assert status["observedGeneration"] == 1


def test_at_rest_nothing_is_asked_or_written() -> None:
    api = applied()
    reconciler = settle(api)
    api.requests.clear()
    for _ in range(5):
        reconciler.reconcile(KEY)
    assert api.requests == []


def test_a_restarted_operator_only_lists() -> None:
    api = applied()
    settle(api)
    api.requests.clear()
    settle(api)
    assert {request.split()[0] for request in api.requests} == {"list"}


@pytest.mark.parametrize("spec", [{}, {"model": {"dimensions": DIMENSIONS}, "backend": "cpu"}], ids=["preset", "own"])
def test_killed_after_any_write_it_ends_in_the_same_state(spec: dict[str, Any]) -> None:
    faultless = applied(**spec)
    settle(faultless)
    for kill_at in range(1, 100):
        api = applied(**spec)

        def die(count: int, kill_at: int = kill_at) -> None:
            if count == kill_at:
                raise Killed

        api.after = die
        try:
            settle(api)
        except Killed:
            settle(api)
            assert api.state() == faultless.state(), f"killed after write {kill_at}"
        else:
            assert kill_at > 8, "the fault was never injected"
            return
    pytest.fail("it never came to an end")


def test_a_conflict_on_every_write_once_is_overcome() -> None:
    faultless = applied()
    settle(faultless)
    api, refused = applied(), set()

    def conflict(_count: int) -> None:
        what = (api.requests[-1], len(api.objects))
        if what not in refused:
            refused.add(what)
            raise ClusterError(409, "conflict")

    api.before = conflict
    reconciler = operator(api)
    for _ in range(50):
        try:
            reconciler.reconcile(KEY)
        except ClusterError:
            continue
        break
    assert len(refused) >= 8
    assert api.state() == faultless.state()


@pytest.mark.parametrize("kind", [kind for kind in names.CHILD_KINDS if kind not in ("Job", "ConfigMap")])
def test_what_is_deleted_by_hand_comes_back(kind: str) -> None:
    api = applied()
    reconciler = settle(api)
    before = api.state()
    for key in [key for key in api.objects if key[0] == kind]:
        reconciler.told(kind, "DELETED", api.objects.pop(key))
    reconciler.reconcile(KEY)
    assert api.state() == before


def test_what_a_watch_missed_is_found_by_the_next_list() -> None:
    api = applied()
    reconciler = settle(api)
    before = api.state()
    del api.objects["Service", "team", "demo"]
    reconciler.reconcile(KEY)
    assert ("Service", "team", "demo") not in api.objects, "nobody has told it"
    settle(api, reconciler)
    assert api.state() == before


def test_an_edit_by_hand_is_repaired_and_told() -> None:
    api = applied()
    reconciler = settle(api)
    before = api.state()
    api.change("Deployment", *KEY, lambda d: d["spec"].update(replicas=7))
    settle(api, reconciler)
    assert api.state() == before
    assert [(note.reason, note.message) for note in api.notes if note.reason == "Applied"] == [
        ("Applied", "Deployment demo differs in spec.replicas")
    ]


def test_old_and_doubled_events_change_nothing() -> None:
    api = applied()
    old = copy.deepcopy(api.objects[names.KIND, *KEY])
    reconciler = settle(api)
    api.requests.clear()
    deployment = api.objects["Deployment", *KEY]
    for _ in range(3):
        reconciler.told(names.KIND, "MODIFIED", old)
        reconciler.told("Deployment", "MODIFIED", deployment)
    reconciler.reconcile(KEY)
    assert api.requests == []


def test_an_object_of_somebody_else_is_never_taken_over() -> None:
    api = applied()
    mine = {"kind": "Service", "metadata": {"name": "demo", "namespace": "team"}, "spec": {"mine": True}}
    api.create(mine)
    reconciler = operator(api)
    with pytest.raises(ClusterError, match="not this resource's; delete it, or rename"):
        reconciler.reconcile(KEY)
    assert api.objects["Service", *KEY]["spec"] == {"mine": True}
    status = api.objects[names.KIND, *KEY]["status"]
    assert status["phase"] == "Failed"
    assert "Service demo is there already" in status["message"]
    assert ("Deployment", *KEY) in api.objects, "what does not depend on it is made"


def test_an_object_with_our_label_but_another_owner_is_left_alone() -> None:
    api = applied()
    other = {"kind": "ConfigMap", "metadata": {"name": "x", "namespace": "team", "labels": names.labels("demo")}}
    api.create(other)
    settle(api)
    assert ("ConfigMap", "team", "x") in api.objects


def test_a_resource_that_is_being_deleted_is_left_to_the_garbage_collector() -> None:
    api = applied()
    api.change(names.KIND, *KEY, lambda d: d["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"))
    settle(api)
    assert len(api.objects) == 1


def test_an_invalid_resource_is_told_so_and_nothing_is_made() -> None:
    api = applied(tensorParallelSize=7)
    settle(api)
    assert len(api.objects) == 1
    status = api.objects[names.KIND, *KEY]["status"]
    assert status["phase"] == "Failed"
    assert "degrees that work" in status["message"]


def test_host_paths_are_refused_unless_allowed() -> None:
    api = applied(checkpoint={"hostPath": "/data"})
    settle(api)
    assert len(api.objects) == 1
    assert "use a claim" in api.objects[names.KIND, *KEY]["status"]["message"]


def test_events_are_of_transitions_only() -> None:
    api = applied()
    reconciler = settle(api)
    template = api.objects["Deployment", *KEY]["spec"]["template"]["metadata"]["annotations"]
    hashes = {
        "template": template[names.ANNOTATION_TEMPLATE],
        "artifact": template[names.ANNOTATION_ARTIFACT],
    }
    api.create(pod(convert={"state": RUNNING}, **hashes))
    api.logs["demo-1"] = "converting: shard 1/8, 1.0 GB of 2.0 GB (10%), 0.1 GB/s, 90 s left"
    before = len(api.notes)
    settle(api, reconciler)
    api.logs["demo-1"] = "converting: shard 3/8, 1.0 GB of 2.0 GB (30%), 0.1 GB/s, 70 s left"
    assert reconciler.reconcile(KEY) == 5.0
    assert [note.reason for note in api.notes[before:]] == ["Converting"]
    artifact = api.objects[names.KIND, *KEY]["status"]["artifact"]
    assert artifact["progress"] == "30%, shard 3/8, 0.1 GB/s, 70 s left"
