"""What is to be done: desired objects against observed ones, as ordered steps. Pure; `cluster` carries them out.

Objects are applied in the order in which they are rendered (what pods need comes before the pods) and only where they
differ, so that a resource at rest costs no write. What the resource no longer wants is deleted last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from glm_operator.quantity import to_number

Object = Mapping[str, Any]
Key = tuple[str, str]

#: Holds artifacts that took hours: only the resource's own deletion takes it away.
_KEPT_KINDS: Final = frozenset({"PersistentVolumeClaim"})


@dataclass(frozen=True)
class Step:
    """One write: ``body`` is the object to apply, or the one to delete; ``why`` is for the log and the event."""

    verb: Literal["create", "repair", "delete"]
    body: Object
    why: str

    @property
    def key(self) -> Key:
        """Kind and name."""
        return key_of(self.body)


def key_of(item: Object) -> Key:
    """Kind and name: unique among the objects of one resource."""
    return item["kind"], item["metadata"]["name"]


def plan(desired: Iterable[Object], observed: Iterable[Object]) -> tuple[Step, ...]:
    """Steps from ``observed`` (the resource's children, as the API server returns them) to ``desired``."""
    live = {key_of(item): item for item in observed}
    steps = []
    wanted = set()
    for item in desired:
        key = key_of(item)
        wanted.add(key)
        if key not in live:
            steps.append(Step("create", item, "is missing"))
        elif live[key]["metadata"].get("deletionTimestamp"):
            continue  # its end is an event that brings us back
        elif (path := difference(item, live[key])) is not None:
            steps.append(Step("repair", item, f"differs in {path}"))
    steps += [
        Step("delete", item, "is not wanted any more")
        for key, item in live.items()
        if key not in wanted and key[0] not in _KEPT_KINDS and not item["metadata"].get("deletionTimestamp")
    ]
    return tuple(steps)


def difference(wanted: Any, live: Any, path: str = "") -> str | None:
    """Path of the first field of ``wanted`` that is not so in ``live``; None if there is none.

    Fields that only ``live`` has are defaults or others' business. Quantities are compared by value, because the API
    server rewrites them (1024Mi comes back as 1Gi), and an empty value equals an absent one.
    """
    if isinstance(wanted, Mapping):
        if not isinstance(live, Mapping):
            return path if wanted or live else None
        found = (difference(value, live.get(key), f"{path}.{key}" if path else key) for key, value in wanted.items())
        return next((where for where in found if where is not None), None)
    if isinstance(wanted, list):
        if len(wanted) != len(live or ()):
            return path
        found = (
            difference(pair[0], pair[1], f"{path}[{i}]") for i, pair in enumerate(zip(wanted, live or (), strict=True))
        )
        return next((where for where in found if where is not None), None)
    return None if wanted == live or _same_quantity(wanted, live) else path


def _same_quantity(wanted: object, live: object) -> bool:
    if isinstance(wanted, bool) or not isinstance(wanted, int | str) or not isinstance(live, int | str):
        return False
    try:
        return to_number(str(wanted)) == to_number(str(live))
    except ValueError:
        return False
