"""Every metric of the operator: defined here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)


class _Phases(Collector):
    """Counted at scrape time: a resource that is gone leaves no number behind."""

    def __init__(self, phases: Callable[[], Mapping[str, int]]) -> None:
        self._phases = phases

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily("glm_operator_resources", "GLMDeployments by phase.", labels=["phase"])
        for phase, count in sorted(self._phases().items()):
            family.add_metric([phase], count)
        yield family


class Telemetry:
    """The metrics of one operator, in a registry of their own. ``phases`` : number of resources by phase."""

    def __init__(self, phases: Callable[[], Mapping[str, int]]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Phases(phases))
        self.requests = Counter(
            "glm_operator_api_requests_total", "Requests to the API server.", ("verb", "kind"), registry=self.registry
        )
        self.reconciles = Counter(
            "glm_operator_reconciles_total", "Reconciliations, by outcome.", ("outcome",), registry=self.registry
        )
        self.seconds = Histogram(
            "glm_operator_reconcile_seconds", "Time of a reconciliation.", buckets=_SECONDS, registry=self.registry
        )
        self.queue = Gauge("glm_operator_queue_length", "Resources that wait for a look.", registry=self.registry)
        self.events = Counter(
            "glm_operator_watch_events_total", "Objects that the watches told of.", ("kind",), registry=self.registry
        )
