"""Conditions, and the events that their changes are. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

#: Conditions whose being true is bad news.
_BAD: Final = frozenset({"Degraded"})
#: Messages are cut here; the schema's bound is larger.
_LONGEST: Final = 2000


@dataclass(frozen=True)
class Condition:
    """A condition without its time."""

    type: str
    holds: bool
    reason: str
    message: str


@dataclass(frozen=True)
class Note:
    """An event to record at the resource."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def merge(
    conditions: Iterable[Condition], old: Iterable[Mapping[str, Any]], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """The conditions for the status; the time of one that has not changed is kept."""
    before = {item["type"]: item for item in old}
    merged = []
    for item in conditions:
        status = "True" if item.holds else "False"
        known = before.get(item.type)
        same = known is not None and known["status"] == status
        merged.append(
            {
                "type": item.type,
                "status": status,
                "observedGeneration": generation,
                "lastTransitionTime": known["lastTransitionTime"]
                if known is not None and same
                else now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "reason": item.reason,
                "message": item.message[:_LONGEST],
            }
        )
    return merged


def transitions(old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]) -> list[Note]:
    """One event for each condition whose status or reason changed; none for a changed message."""
    before = {item["type"]: (item["status"], item["reason"]) for item in old}
    notes = []
    for item in new:
        if before.get(item["type"]) == (item["status"], item["reason"]):
            continue
        if item["type"] not in before and item["status"] == "False":
            continue  # at the beginning nothing holds; that is no news
        bad = (item["status"] == "True") == (item["type"] in _BAD)
        if item["type"] == "Progressing":
            bad = False
        notes.append(Note("Warning" if bad else "Normal", item["reason"], f"{item['type']}: {item['message']}"))
    return notes
