"""An API server in memory, as far as the reconciler sees one: versions, uids, applies that merge, faults on demand."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping
from typing import Any

from glm_operator import names
from glm_operator.cluster import ClusterError
from glm_operator.condition import Note

Fault = Callable[[int], None]


class Killed(BaseException):
    """The operator dies here; nothing of it may catch this."""


class MemoryApi:
    """Objects by kind, namespace and name. ``fault`` is called with the number of each write, after it was done."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.notes: list[Note] = []
        self.requests: list[str] = []
        self.logs: dict[str, str] = {}
        self.before: Fault = lambda _count: None
        self.after: Fault = lambda _count: None
        self._versions = itertools.count(1)
        self._writes = 0

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Put an object there, as somebody else does."""
        meta = body["metadata"]
        stored = copy.deepcopy(dict(body))
        version = next(self._versions)
        stored["metadata"] |= {"uid": f"uid-{version}", "resourceVersion": str(version), "generation": 1}
        self.objects[body["kind"], meta["namespace"], meta["name"]] = stored
        return copy.deepcopy(stored)

    def change(self, kind: str, namespace: str, name: str, edit: Callable[[dict[str, Any]], None]) -> None:
        """Edit an object, as somebody else does."""
        stored = self.objects[kind, namespace, name]
        edit(stored)
        stored["metadata"]["resourceVersion"] = str(next(self._versions))

    def list_all(self, kind: str, namespace: str | None = None, selector: str = "") -> tuple[list[dict[str, Any]], int]:
        self.requests.append(f"list {kind}")
        found = [
            {key: value for key, value in copy.deepcopy(body).items() if key not in ("apiVersion", "kind")}
            for (item, place, _), body in self.objects.items()
            if item == kind and namespace in (None, place) and (not selector or _managed(body))
        ]
        return found, next(self._versions)

    def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        self.requests.append(f"get {kind}")
        return copy.deepcopy(self.objects.get((kind, namespace, name)))

    def apply(self, body: Mapping[str, Any]) -> dict[str, Any]:
        kind, meta = body["kind"], body["metadata"]
        with self._write(f"apply {kind}"):
            key = (kind, meta["namespace"], meta["name"])
            if key not in self.objects:
                self.create(body)
            else:
                stored = self.objects[key]
                merged = _merge(stored, body)
                if merged != stored:
                    merged["metadata"]["resourceVersion"] = str(next(self._versions))
                    self.objects[key] = merged
            return copy.deepcopy(self.objects[key])

    def apply_status(self, resource: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
        meta = resource["metadata"]
        with self._write("apply status"):
            stored = self.objects.get((names.KIND, meta["namespace"], meta["name"]))
            if stored is None or stored["metadata"]["uid"] != meta["uid"]:
                raise ClusterError(404, "not found")
            stored["status"] = copy.deepcopy(dict(status))
            stored["metadata"]["resourceVersion"] = str(next(self._versions))
            return copy.deepcopy(stored)

    def delete(self, body: Mapping[str, Any]) -> None:
        with self._write(f"delete {body['kind']}"):
            self.objects.pop((body["kind"], body["metadata"]["namespace"], body["metadata"]["name"]), None)

    def log_tail(self, namespace: str, pod: str, container: str, lines: int) -> str:
        self.requests.append("log")
        return "\n".join(self.logs.get(pod, "").splitlines()[-lines:])

    def record(self, resource: Mapping[str, Any], note: Note) -> None:
        with self._write("record"):
            self.notes.append(note)

    def state(self) -> dict[tuple[str, str, str], Any]:
        """All objects, without what differs between two runs that did the same."""
        return {key: _masked(body) for key, body in sorted(self.objects.items())}

    def _write(self, what: str) -> _Write:
        self.requests.append(what)
        self._writes += 1
        self.before(self._writes)
        return _Write(lambda count=self._writes: self.after(count))


class _Write:
    def __init__(self, done: Callable[[], None]) -> None:
        self._done = done

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._done()


def _managed(body: Mapping[str, Any]) -> bool:
    return (body["metadata"].get("labels") or {}).get(names.LABEL_MANAGED_BY) == names.MANAGER


def _merge(old: Any, new: Any) -> Any:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {**old, **{key: _merge(old.get(key), value) for key, value in new.items()}}
    return copy.deepcopy(new)


def _masked(value: Any) -> Any:
    if isinstance(value, Mapping):
        hidden = ("uid", "resourceVersion", "lastTransitionTime")
        return {key: _masked(item) for key, item in value.items() if key not in hidden}
    return [_masked(item) for item in value] if isinstance(value, list) else value
