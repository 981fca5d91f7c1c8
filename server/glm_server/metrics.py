"""Every metric of the server: names, help, units and buckets are defined here and nowhere else.

Names follow Prometheus' conventions (base units, ``_total``); the set is that of other LLM servers, so that their
dashboards translate. Labels come from closed sets only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

#: Buckets as OpenTelemetry's GenAI conventions give them, with finer steps below 10 ms for a fast decode.
TOKEN_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
FIRST_TOKEN_SECONDS: Final = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
)
REQUEST_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
LENGTHS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)


@dataclass(frozen=True)
class MetricSpec:
    """One metric: ``name`` without prefix, with its unit. ``stat`` is the key of ``Engine.stats()`` that it shows."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    stat: str | None = None


METRICS: Final[tuple[MetricSpec, ...]] = (
    MetricSpec("gauge", "build_info", "Always 1; the version of the server.", ("version",)),
    MetricSpec(
        "gauge", "model_info", "Always 1; the artifact served.", ("model", "digest", "precision", "tp", "backend")
    ),
    MetricSpec("gauge", "ready", "1 while requests are taken."),
    MetricSpec("gauge", "load_seconds", "Time from the start to readiness."),
    MetricSpec("counter", "http_requests_total", "Answers by route and status.", ("route", "method", "status")),
    MetricSpec("gauge", "http_requests_open", "Requests of the generating routes that are being answered."),
    MetricSpec("counter", "requests_total", "Sequences that ended, by outcome.", ("finish_reason",)),
    MetricSpec("counter", "rejected_total", "Requests refused before they ran, by reason.", ("reason",)),
    MetricSpec("counter", "prompt_tokens_total", "Prompt tokens taken in."),
    MetricSpec("counter", "generation_tokens_total", "Tokens generated."),
    MetricSpec("histogram", "request_prompt_tokens", "Prompt length.", (), LENGTHS),
    MetricSpec("histogram", "request_generation_tokens", "Tokens generated for a request.", (), LENGTHS),
    MetricSpec(
        "histogram", "time_to_first_token_seconds", "From submission to the first token.", (), FIRST_TOKEN_SECONDS
    ),
    MetricSpec("histogram", "inter_token_seconds", "Between two tokens of a sequence.", (), TOKEN_SECONDS),
    MetricSpec("histogram", "request_seconds", "From submission to the end.", (), REQUEST_SECONDS),
    MetricSpec(
        "histogram", "request_queue_seconds", "From submission to the scheduler's taking up.", (), REQUEST_SECONDS
    ),
    MetricSpec("histogram", "request_prefill_seconds", "From taking up to the first token.", (), REQUEST_SECONDS),
    MetricSpec("histogram", "request_decode_seconds", "From the first token to the end.", (), REQUEST_SECONDS),
    MetricSpec("gauge", "requests_running", "Sequences in the batch.", stat="running"),
    MetricSpec("gauge", "requests_waiting", "Requests that wait for a slot.", stat="waiting"),
    MetricSpec("gauge", "kv_blocks_capacity", "KV cache blocks allocated.", stat="kv_blocks_total"),
    MetricSpec("gauge", "kv_blocks_live", "KV cache blocks held by running sequences.", stat="kv_blocks_live"),
    MetricSpec("gauge", "kv_blocks_cached", "KV cache blocks kept for reuse, reclaimable.", stat="kv_blocks_cached"),
    MetricSpec("gauge", "kv_blocks_free", "KV cache blocks free.", stat="kv_blocks_free"),
    MetricSpec("counter", "preemptions_total", "Sequences set back to free blocks.", stat="preemptions"),
    MetricSpec("counter", "prompts_reused_total", "Prompts taken from the cache.", stat="prompts_reused"),
    MetricSpec("counter", "engine_steps_total", "Steps of the engine.", stat="steps"),
    MetricSpec("histogram", "engine_step_seconds", "Time of a step, by what it computed.", ("phase",), TOKEN_SECONDS),
    MetricSpec("histogram", "engine_batch_sequences", "Sequences that a step continued.", (), LENGTHS),
)

PREFIX: Final = "glm_"
Stats = Callable[[], Mapping[str, Any]]


class _EngineCollector(Collector):
    """Shows ``Engine.stats()`` at scrape time. A key that the engine does not give is not shown."""

    def __init__(self) -> None:
        self.stats: Stats | None = None

    def collect(self) -> Iterable[Metric]:
        stats = self.stats() if self.stats else {}
        for spec in METRICS:
            if spec.stat is None or spec.stat not in stats:
                continue
            kind = CounterMetricFamily if spec.kind == "counter" else GaugeMetricFamily
            yield kind(PREFIX + spec.name, spec.help, value=float(stats[spec.stat]))


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._engine = _EngineCollector()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for spec in METRICS:
            if spec.stat is not None:
                continue
            name = PREFIX + spec.name
            if spec.kind == "counter":
                self._counters[spec.name] = Counter(name, spec.help, spec.labels, registry=self.registry)
            elif spec.kind == "gauge":
                self._gauges[spec.name] = Gauge(name, spec.help, spec.labels, registry=self.registry)
            else:
                self._histograms[spec.name] = Histogram(
                    name, spec.help, spec.labels, buckets=spec.buckets, registry=self.registry
                )
        self.registry.register(self._engine)

    def show_engine(self, stats: Stats) -> None:
        """Show the engine's own counters from now on."""
        self._engine.stats = stats

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        """Add to a counter."""
        counter = self._counters[name]
        (counter.labels(*labels) if labels else counter).inc(by)

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge."""
        gauge = self._gauges[name]
        (gauge.labels(*labels) if labels else gauge).set(value)

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Add an observation to a histogram."""
        histogram = self._histograms[name]
        (histogram.labels(*labels) if labels else histogram).observe(value)

    def exposition(self) -> bytes:
        """The text format that Prometheus scrapes."""
        return generate_latest(self.registry)
