"""The loop: observe from the store, decide, act. Knows the cluster, not kopf.

Whatever happens, a resource's key is put into the queue, and one of a few threads looks at the whole resource. What
was written is taken into the store at once, so that the next look does not see the world of before.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from glm_operator import names
from glm_operator.cluster import ClusterError
from glm_operator.condition import Note
from glm_operator.conversion import TAIL, Conversion, read_log
from glm_operator.decide import Decision, Observed, Policy, decide, logs_wanted, owned
from glm_operator.plan import Step
from glm_operator.pods import Trouble, facts
from glm_operator.store import Key, Store
from glm_operator.telemetry import Telemetry
from glm_operator.workqueue import WorkQueue

_CONFLICT: Final = 409
_log = logging.getLogger(__name__)


class Api(Protocol):
    """What of `Cluster` is used: a test puts a faulty one between."""

    def list_all(
        self, kind: str, namespace: str | None = None, selector: str = ""
    ) -> tuple[list[dict[str, Any]], int]: ...
    def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None: ...
    def apply(self, body: Mapping[str, Any]) -> dict[str, Any]: ...
    def apply_status(self, resource: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]: ...
    def delete(self, body: Mapping[str, Any]) -> None: ...
    def log_tail(self, namespace: str, pod: str, container: str, lines: int) -> str: ...
    def record(self, resource: Mapping[str, Any], note: Note) -> None: ...


def _now() -> datetime:
    return datetime.now(UTC)


class Reconciler:
    """Looks at resources and acts. ``namespaces`` : the only ones it looks at; none: all."""

    def __init__(
        self,
        api: Api,
        store: Store,
        policy: Policy,
        telemetry: Telemetry,
        *,
        namespaces: tuple[str, ...] = (),
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._api, self.store, self._policy, self._telemetry = api, store, policy, telemetry
        self._namespaces: tuple[str | None, ...] = namespaces or (None,)
        self._clock = clock
        self.queue: WorkQueue[Key] = WorkQueue()
        self._troubles: dict[Key, Trouble] = {}
        self._threads: list[threading.Thread] = []

    def sync(self) -> None:
        """List all kinds anew: what the watches missed is seen, and every resource that changed is looked at."""
        for kind in reversed(names.KINDS):  # resources last, when all that belongs to them is known
            items: list[dict[str, Any]] = []
            versions = []
            for namespace in self._namespaces:
                found, version = self._api.list_all(kind, namespace, "" if kind == names.KIND else names.MANAGED)
                items += found
                versions.append(version)
            for key in self.store.replace(kind, items, min(versions)):
                self.queue.add(key)

    def told(self, kind: str, event: str | None, body: Mapping[str, Any]) -> None:
        """A watch tells of an object; ``event`` : DELETED, or anything else."""
        self._telemetry.events.labels(kind).inc()
        key = self.store.remove(kind, body) if event == "DELETED" else self.store.put(kind, body)
        if key is not None:
            self.queue.add(key)

    def start(self, threads: int) -> None:
        """Work from now on."""
        for number in range(threads):
            thread = threading.Thread(target=self._work, name=f"reconcile-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, timeout_s: float) -> None:
        """End after the work in hand."""
        self.queue.close()
        end = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _work(self) -> None:
        while (key := self.queue.take()) is not None:
            failed = True
            try:
                with self._telemetry.seconds.time():
                    again_s = self.reconcile(key)
                failed = False
                if again_s is not None:
                    self.queue.add(key, again_s)
            except ClusterError as error:
                failed = not error.namespace_ends
                _log.log(logging.WARNING if failed else logging.INFO, "%s/%s: %s", *key, error)
            except Exception:
                _log.exception("%s/%s: the reconciliation failed", *key)
            finally:
                self._telemetry.reconciles.labels("failed" if failed else "done").inc()
                self.queue.done(key, failed=failed)
                self._telemetry.queue.set(len(self.queue))

    def reconcile(self, key: Key) -> float | None:
        """One look at one resource. Returns the seconds after which to look again, or None.

        Raises ``ClusterError`` where a write failed; the resource is then looked at again, and tells of it.
        """
        resource = self.store.resource(key)
        if resource is None:
            self._troubles.pop(key, None)
            return None
        before = self._troubles.get(key)
        decision = self._decide(key, resource)
        failure = self._carry_out(resource, decision.steps)
        if failure is not None and failure.namespace_ends:
            return None
        if failure is None or failure.status in (0, _CONFLICT):
            self._troubles.pop(key, None)  # nothing that a person could mend
        else:
            self._troubles[key] = Trouble("NotApplied", str(failure))
        if decision.steps or self._troubles.get(key) != before:
            decision = self._decide(key, resource)  # the status is of what is there now
        self._tell(resource, decision)
        if failure is not None:
            raise failure
        return decision.again_s

    def _decide(self, key: Key, resource: Mapping[str, Any]) -> Decision:
        pods = self.store.pods(key)
        known = (resource.get("status") or {}).get("artifact") or {}
        logs: dict[str, Conversion] = {}
        for pod, container in logs_wanted(map(facts, pods), known):
            try:
                logs[pod] = read_log(self._api.log_tail(key[0], pod, container, TAIL))
            except ClusterError as error:  # a node that is away must not keep us from what matters
                _log.debug("%s/%s: no log of %s: %s", *key, pod, error)
        return decide(
            Observed(resource, self.store.children(key), pods, self._clock(), logs, self._troubles.get(key)),
            self._policy,
        )

    def _carry_out(self, resource: Mapping[str, Any], steps: tuple[Step, ...]) -> ClusterError | None:
        """All steps, even if one fails: what does not depend on it is done. Returns the first failure."""
        first: ClusterError | None = None
        for step in steps:
            kind, name = step.key
            try:
                self._one(resource, step)
            except ClusterError as error:
                _log.warning("%s %s %s: %s", step.verb, kind, name, error)
                first = first or error
            else:
                _log.info("%s %s %s/%s: %s", step.verb, kind, resource["metadata"]["namespace"], name, step.why)
        return first

    def _one(self, resource: Mapping[str, Any], step: Step) -> None:
        kind, name = step.key
        namespace = resource["metadata"]["namespace"]
        if step.verb == "delete":
            self._api.delete(step.body)
            return
        if step.verb == "create":
            there = self._api.get(kind, namespace, name)
            if there is not None and not owned(there, resource["metadata"]["uid"]):
                raise ClusterError(
                    403, f"{kind} {name} is there already and is not this resource's; delete it, or rename the resource"
                )
        self.store.put(kind, self._api.apply(step.body))
        if step.verb == "repair":
            self._api.record(resource, Note("Normal", "Applied", f"{kind} {name} {step.why}"))

    def _tell(self, resource: Mapping[str, Any], decision: Decision) -> None:
        if decision.status is None:
            return
        try:
            self.store.put(names.KIND, self._api.apply_status(resource, decision.status))
        except ClusterError as error:
            if error.status == 404:
                return  # it is gone; the watch will say so
            raise
        for note in decision.notes:
            self._api.record(resource, note)
