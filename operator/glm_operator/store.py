"""What is known of the cluster, fed by the watches: so that deciding, and a resource at rest, cost no request."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from glm_operator import names

#: Namespace and name of a GLMDeployment.
Key = tuple[str, str]
_Id = tuple[str, str]

#: Who wrote what is long and not needed, but for the scale, see `rollout`.
_SCALE: Final = "scale"


class _Entry(NamedTuple):
    """An object as JSON: as Python objects thousands of them take several times the memory."""

    version: int
    uid: str
    phase: str
    text: bytes

    def body(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.text)
        return parsed


class Store:
    """Resources, their children and pods. Safe for threads; what it returns is the caller's own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._resources: dict[Key, _Entry] = {}
        self._children: defaultdict[Key, dict[_Id, _Entry]] = defaultdict(dict)

    def put(self, kind: str, body: Mapping[str, Any]) -> Key | None:
        """Take in an object; an older version than the known one is dropped. Returns the resource that it concerns."""
        key = key_of(kind, body)
        if key is None:
            return None
        entry = _entry(kind, body)
        with self._lock:
            place, index = self._place(kind, key, body["metadata"]["name"])
            if index in place and place[index].version > entry.version:
                return None
            place[index] = entry
        return key

    def remove(self, kind: str, body: Mapping[str, Any]) -> Key | None:
        """Forget an object, unless another of the same name has come. Returns the resource that it concerns."""
        key = key_of(kind, body)
        if key is None:
            return None
        with self._lock:
            place, index = self._place(kind, key, body["metadata"]["name"])
            known = place.get(index)
            if known is not None and known.uid == body["metadata"].get("uid", ""):
                del place[index]
                if not place and kind != names.KIND:
                    self._children.pop(key, None)
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
                place, index = self._place(kind, key, body["metadata"]["name"])
                same = index in place and place[index].version >= _version(body)
            if not same:
                self.put(kind, body)
                changed.add(key)
        with self._lock:
            for key, name, entry in list(self._known(kind)):
                if (key, name) not in found and entry.version <= listed_at:
                    place, index = self._place(kind, key, name)
                    place.pop(index, None)
                    changed.add(key)
        return changed

    def resource(self, key: Key) -> dict[str, Any] | None:
        """The GLMDeployment, or None."""
        with self._lock:
            entry = self._resources.get(key)
        return None if entry is None else entry.body()

    def children(self, key: Key) -> list[dict[str, Any]]:
        """All objects of a resource but pods."""
        return [entry.body() for kind, entry in self._of(key) if kind != "Pod"]

    def pods(self, key: Key) -> list[dict[str, Any]]:
        """The pods of a resource."""
        return [entry.body() for kind, entry in self._of(key) if kind == "Pod"]

    def _of(self, key: Key) -> list[tuple[str, _Entry]]:
        with self._lock:
            return [(kind, entry) for (kind, _), entry in self._children.get(key, {}).items()]

    def keys(self) -> list[Key]:
        """All resources."""
        with self._lock:
            return list(self._resources)

    def phases(self) -> dict[str, int]:
        """Number of resources by phase."""
        counts: dict[str, int] = defaultdict(int)
        with self._lock:
            for entry in self._resources.values():
                counts[entry.phase] += 1
        return dict(counts)

    def _place(self, kind: str, key: Key, name: str) -> tuple[dict[Any, _Entry], Any]:
        if kind == names.KIND:
            return self._resources, key
        return self._children[key], (kind, name)

    def _known(self, kind: str) -> Iterator[tuple[Key, str, _Entry]]:
        if kind == names.KIND:
            for key, entry in self._resources.items():
                yield key, key[1], entry
            return
        for key, items in self._children.items():
            for (item_kind, name), entry in items.items():
                if item_kind == kind:
                    yield key, name, entry


def key_of(kind: str, body: Mapping[str, Any]) -> Key | None:
    """The resource that an object is, or belongs to by its label."""
    meta = body["metadata"]
    if kind == names.KIND:
        return meta["namespace"], meta["name"]
    instance = (meta.get("labels") or {}).get(names.LABEL_INSTANCE)
    return (meta["namespace"], instance) if instance else None


def _version(body: Mapping[str, Any]) -> int:
    return int(body["metadata"].get("resourceVersion") or 0)


def _entry(kind: str, body: Mapping[str, Any]) -> _Entry:
    meta = dict(body["metadata"])
    written = meta.pop("managedFields", None) or ()
    scale = [{"manager": w.get("manager"), "subresource": _SCALE} for w in written if w.get("subresource") == _SCALE]
    if scale:
        meta["managedFields"] = scale
    # The items of a list say neither kind nor version.
    slim = {**body, "apiVersion": names.KINDS[kind][0], "kind": kind, "metadata": meta}
    if kind == "Pod":  # nothing of a pod's spec is looked at
        slim.pop("spec", None)
    phase = (body.get("status") or {}).get("phase") or "Pending" if kind == names.KIND else ""
    text = json.dumps(slim, separators=(",", ":"), ensure_ascii=False).encode()
    return _Entry(_version(body), meta.get("uid", ""), phase, text)
