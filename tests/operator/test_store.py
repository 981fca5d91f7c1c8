"""The store and the queue: versions, lists, doubled and old events, one worker for a key."""

from __future__ import annotations

import threading
from typing import Any

from glm_operator import names
from glm_operator.store import Store
from glm_operator.workqueue import WorkQueue


def child(name: str, version: int, *, uid: str = "u", kind: str = "Service") -> dict[str, Any]:
    meta = {"name": name, "namespace": "team", "uid": uid, "resourceVersion": str(version)}
    return {"kind": kind, "metadata": meta | {"labels": names.labels("demo")}}


KEY = ("team", "demo")


def test_an_older_version_is_dropped() -> None:
    store = Store()
    assert store.put("Service", child("a", 5)) == KEY
    assert store.put("Service", child("a", 4)) is None
    assert store.children(KEY)[0]["metadata"]["resourceVersion"] == "5"


def test_the_end_of_a_former_object_does_not_end_the_present_one() -> None:
    store = Store()
    store.put("Service", child("a", 5, uid="new"))
    store.remove("Service", child("a", 4, uid="old"))
    assert len(store.children(KEY)) == 1


def test_a_list_forgets_what_is_gone_but_not_what_came_later() -> None:
    store = Store()
    store.put("Service", child("gone", 1))
    store.put("Service", child("same", 2))
    store.put("Service", child("later", 99))
    store.put("ConfigMap", child("other", 1, kind="ConfigMap"))
    assert store.replace("Service", [child("same", 2)], listed_at=50) == {KEY}
    assert sorted(c["metadata"]["name"] for c in store.children(KEY)) == ["later", "other", "same"]
    assert store.replace("Service", [child("same", 2), child("later", 99)], listed_at=100) == set()


def test_who_wrote_what_is_not_kept_but_for_the_scale() -> None:
    store = Store()
    body = child("a", 1, kind="Deployment")
    body["metadata"]["managedFields"] = [
        {"manager": "x", "fieldsV1": {"f:spec": {}}},
        {"manager": "hpa", "subresource": "scale", "fieldsV1": {}},
    ]
    store.put("Deployment", body)
    assert store.children(KEY)[0]["metadata"]["managedFields"] == [{"manager": "hpa", "subresource": "scale"}]


def test_an_object_without_our_label_is_nobodys() -> None:
    store = Store()
    body = child("a", 1)
    body["metadata"]["labels"] = {}
    assert store.put("Service", body) is None


def test_a_key_waits_once_and_has_one_worker() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.add("a")
    assert len(queue) == 1
    assert queue.take() == "a"
    queue.add("a")
    queue.add("b")
    assert queue.take() == "b", "a is being worked on"
    queue.done("a")
    assert queue.take() == "a"


def test_the_earlier_time_counts() -> None:
    now = [0.0]
    queue: WorkQueue[str] = WorkQueue(clock=lambda: now[0])
    queue.add("a", 10)
    queue.add("a", 5)
    queue.add("a", 20)
    queue.add("b", 7)
    now[0] = 8
    assert [queue.take(), queue.take()] == ["a", "b"]
    assert len(queue) == 0


def test_failures_wait_longer_each_time_up_to_a_minute() -> None:
    now = [0.0]
    queue: WorkQueue[str] = WorkQueue(clock=lambda: now[0])
    queue.add("a")
    waits = []
    for _ in range(10):
        assert queue.take() == "a"
        queue.done("a", failed=True)
        waits.append(queue._due["a"] - now[0])
        now[0] = queue._due["a"]
    assert waits[:4] == [0.5, 1, 2, 4]
    assert waits[-1] == 60


def test_overdue_is_the_longest_wait() -> None:
    now = [0.0]
    queue: WorkQueue[str] = WorkQueue(clock=lambda: now[0])
    queue.add("later", 100)
    assert queue.overdue_s() == -100
    queue.add("a")
    assert queue.take() == "a"
    now[0] = 30
    assert queue.overdue_s() == 30, "what is worked on counts"


def test_closing_lets_everybody_go() -> None:
    queue: WorkQueue[str] = WorkQueue()
    thread = threading.Thread(target=queue.take)
    thread.start()
    queue.close()
    thread.join(5)
    assert not thread.is_alive()
