"""The operator's adapter to kopf: kopf watches, and whatever it tells goes into the store and the queue.

Only event handlers are registered, no daemons, timers or change handlers: kopf then writes nothing to any object, and
no finalizer keeps a resource from being deleted while the operator is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import kopf
from kopf._core.engines import peering  # where the type of `identity` is, which kopf does not export

from glm_operator import names
from glm_operator.cluster import Cluster, ClusterError
from glm_operator.decide import Policy
from glm_operator.health import Health, serve
from glm_operator.reconciler import Reconciler
from glm_operator.store import Store
from glm_operator.telemetry import Telemetry

_RETRY_S: Final = 2.0
#: From kopf's list to ours: long enough for the lists of all kinds, which break together.
_RELISTED_S: Final = 5.0
_STOP_S: Final = 20.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """namespaces : the only ones to look at, none: all; port : of metrics and probes; threads : that reconcile;
    resync_s : how often all is listed anew, in seconds."""

    policy: Policy
    namespaces: tuple[str, ...] = ()
    port: int = 8080
    threads: int = 4
    resync_s: float = 600.0


def run(options: Options) -> None:
    """Run the operator until SIGTERM or SIGINT. Raises ``ClusterError`` where no cluster is configured."""
    store = Store()
    telemetry = Telemetry(store.phases)
    cluster = Cluster(counted=lambda verb, kind: telemetry.requests.labels(verb, kind).inc())
    reconciler = Reconciler(cluster, store, options.policy, telemetry, namespaces=options.namespaces)
    health = Health(reconciler.queue.overdue_s)
    server = serve(health, telemetry.registry, options.port)
    try:
        asyncio.run(_operate(reconciler, health, options))
    finally:
        reconciler.stop(_STOP_S)
        server.shutdown()


async def _operate(reconciler: Reconciler, health: Health, options: Options) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    beating = asyncio.create_task(_beat(health))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await _sync(reconciler, stop)
    health.synced = True
    reconciler.start(options.threads)
    relisted = asyncio.Event()
    resyncing = asyncio.create_task(_resync(reconciler, options.resync_s, relisted, stop))
    watching = kopf.operator(
        registry=registry(reconciler, relisted.set),
        settings=settings(),
        clusterwide=not options.namespaces,
        namespaces=options.namespaces,
        standalone=True,
        identity=peering.Identity(names.MANAGER),  # kopf would ask the system for the user's name; an image has none
        stop_flag=stop,
    )
    try:
        if not stop.is_set():
            await watching
        else:
            watching.close()
    finally:
        beating.cancel()
        resyncing.cancel()


async def _beat(health: Health) -> None:
    while True:
        health.beat()
        await asyncio.sleep(1)


async def _sync(reconciler: Reconciler, stop: asyncio.Event) -> None:
    """The first list; the API server, or the CRD, may come later than we."""
    while not stop.is_set():
        try:
            await asyncio.to_thread(reconciler.sync)
            return
        except ClusterError as error:
            _log.warning("the cluster cannot be listed yet: %s", error)
            await asyncio.sleep(_RETRY_S)


async def _resync(reconciler: Reconciler, every_s: float, relisted: asyncio.Event, stop: asyncio.Event) -> None:
    """List all anew now and then, and soon after kopf did: of what went while its watch was broken it tells nothing."""
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(relisted.wait(), every_s)
            await asyncio.sleep(_RELISTED_S)  # there are more of them to come
        relisted.clear()
        await _sync(reconciler, stop)


def registry(reconciler: Reconciler, relisted: Callable[[], None]) -> kopf.OperatorRegistry:
    """kopf's registry: one handler for each kind. ``relisted`` is called for each object of a list."""
    found = kopf.OperatorRegistry()
    kopf.on.login(registry=found)(kopf.login_via_client)
    for kind, (api_version, plural) in names.KINDS.items():
        group, _, version = api_version.rpartition("/")
        told = functools.partial(_told, reconciler, relisted, kind)
        kopf.on.event(group, version, plural, id=f"told-{plural}", registry=found)(told)
    return found


async def _told(
    reconciler: Reconciler, relisted: Callable[[], None], kind: str, event: Mapping[str, Any], **_: Any
) -> None:
    if event["type"] is None:
        relisted()
    reconciler.told(kind, event["type"], event["object"])


class _Backoffs(Iterable[float]):
    """Seconds between attempts, without end: by default kopf gives up after a minute, and the operator would end."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1, 1, 2, 3), itertools.repeat(5))


def settings() -> kopf.OperatorSettings:
    """kopf's settings, with the reason of each that is not its default."""
    chosen = kopf.OperatorSettings()
    chosen.scanning.disabled = True  # of new namespaces and CRDs: it would need more rights; ours are there by now
    chosen.posting.enabled = False  # events are ours, and of transitions only
    chosen.networking.connect_timeout, chosen.networking.request_timeout = 10, 60  # no limit, five minutes
    chosen.networking.error_backoffs = _Backoffs()
    chosen.watching.connect_timeout, chosen.watching.server_timeout = 10, 300
    chosen.watching.chunk_size = 500
    chosen.queueing.idle_timeout = 1.0  # a task for each object that was told of
    for _, plural in [names.KINDS["Pod"], *names.CHILD_KINDS.values()]:
        chosen.watching.label_selectors[plural] = names.MANAGED  # not all pods of the cluster
    return chosen
