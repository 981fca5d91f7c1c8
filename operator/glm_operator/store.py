"""What is known of the cluster, fed by the watches: so that deciding, and a resource at rest, cost no request."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from glm_operator import names

#: Namespace and name of a GLMDeployment.
Key = tuple[str, str]
_Id = tuple[str, str]

#: Who wrote what is long and not needed, but for the scale, see `rollout`.
_SCALE: Final = "scale"


class Store:
    """Resources, their children and pods. Safe for threads; what it returns must not be changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._resources: dict[Key, dict[str, Any]] = {}
        self._children: defaultdict[Key, dict[_Id, dict[str, Any]]] = defaultdict(dict)

    def put(self, kind: str, body: Mapping[str, Any]) -> Key | None:
        """Take in an object; an older version than the known one is dropped. Returns the resource that it concerns."""
        key = key_of(kind, body)
        if key is None:
            return None
        with self._lock:
            place, index = self._place(kind, key, body)
            if index in place and _version(place[index]) > _version(body):
                return None
            place[index] = _slim(kind, body)
        return key

    def remove(self, kind: str, body: Mapping[str, Any]) -> Key | None:
        """Forget an object, unless another of the same name has come. Returns the resource that it concerns."""
        key = key_of(kind, body)
        if key is None:
            return None
        with self._lock:
            place, index = self._place(kind, key, body)
            known = place.get(index)
            if known is not None and known["metadata"].get("uid") == body["metadata"].get("uid"):
                del place[index]
        return key

    def replace(self, kind: str, bodies: Iterable[Mapping[str, Any]], listed_at: int) -> set[Key]:
        """Take in a whole list, and forget what is older and not in it. Returns the resources that changed."""
        changed = set()
        found = set()
        for body in bodies:
            if (key := key_of(kind, body)) is None:
                continue
            found.add((key, body["metadata"]["name"]))
            with self._lock:
                place, index = self._place(kind, key, body)
                same = index in place and _version(place[index]) >= _version(body)
            if not same:
                self.put(kind, body)
                changed.add(key)
        with self._lock:
            for key, name, body in list(self._known(kind)):
                if (key, name) not in found and _version(body) <= listed_at:
                    place, index = self._place(kind, key, body)
                    place.pop(index, None)
                    changed.add(key)
        return changed

    def resource(self, key: Key) -> dict[str, Any] | None:
        """The GLMDeployment, or None."""
        with self._lock:
            return self._resources.get(key)

    def children(self, key: Key) -> list[dict[str, Any]]:
        """All objects of a resource but pods."""
        with self._lock:
            return [body for (kind, _), body in self._children.get(key, {}).items() if kind != "Pod"]

    def pods(self, key: Key) -> list[dict[str, Any]]:
        """The pods of a resource."""
        with self._lock:
            return [body for (kind, _), body in self._children.get(key, {}).items() if kind == "Pod"]

    def keys(self) -> list[Key]:
        """All resources."""
        with self._lock:
            return list(self._resources)

    def phases(self) -> dict[str, int]:
        """Number of resources by phase."""
        counts: dict[str, int] = defaultdict(int)
        with self._lock:
            for body in self._resources.values():
                counts[(body.get("status") or {}).get("phase") or "Pending"] += 1
        return dict(counts)

    def _place(self, kind: str, key: Key, body: Mapping[str, Any]) -> tuple[dict[Any, dict[str, Any]], Any]:
        if kind == names.KIND:
            return self._resources, key
        return self._children[key], (kind, body["metadata"]["name"])

    def _known(self, kind: str) -> Iterator[tuple[Key, str, dict[str, Any]]]:
        if kind == names.KIND:
            for key, body in self._resources.items():
                yield key, key[1], body
            return
        for key, items in self._children.items():
            for (item_kind, name), body in items.items():
                if item_kind == kind:
                    yield key, name, body


def key_of(kind: str, body: Mapping[str, Any]) -> Key | None:
    """The resource that an object is, or belongs to by its label."""
    meta = body["metadata"]
    if kind == names.KIND:
        return meta["namespace"], meta["name"]
    instance = (meta.get("labels") or {}).get(names.LABEL_INSTANCE)
    return (meta["namespace"], instance) if instance else None


def _version(body: Mapping[str, Any]) -> int:
    return int(body["metadata"].get("resourceVersion") or 0)


def _slim(kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    meta = dict(body["metadata"])
    written = meta.pop("managedFields", None) or ()
    scale = [{"manager": w.get("manager"), "subresource": _SCALE} for w in written if w.get("subresource") == _SCALE]
    if scale:
        meta["managedFields"] = scale
    # The items of a list say neither kind nor version.
    slim = {**body, "apiVersion": names.KINDS[kind][0], "kind": kind, "metadata": meta}
    if kind == "Pod":  # nothing of a pod's spec is looked at
        slim.pop("spec", None)
    return slim
