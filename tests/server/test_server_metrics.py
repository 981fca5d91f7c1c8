"""Metrics: Prometheus' conventions hold, the engine's own counters are shown, labels stay bounded."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

from glm_server.metrics import METRICS, Metrics
from server_support import Harness


def test_names_follow_the_conventions() -> None:
    for spec in METRICS:
        assert spec.help.endswith("."), spec
        assert (spec.kind == "counter") == spec.name.endswith("_total"), spec
        assert bool(spec.buckets) == (spec.kind == "histogram"), spec
        assert not any(spec.name.endswith(unit) for unit in ("_ms", "_us", "_mb", "_percent")), spec
        assert list(spec.buckets) == sorted(set(spec.buckets)), spec


def test_every_engine_counter_is_shown() -> None:
    metrics = Metrics()
    stats = {
        "running": 1,
        "waiting": 2,
        "blocks_total": 3,
        "blocks_live": 4,
        "blocks_cached": 5,
        "blocks_free": 6,
        "preemptions": 7,
        "steps": 17,
        "steps_prefill": 8,
        "steps_decode": 9,
        "step_seconds_prefill": 0.5,
        "step_seconds_decode": 1.5,
        "allreduce_seconds": 0.25,
        "device_memory_bytes": [10, 11],
    }
    metrics.show_engine(lambda: stats)
    families = {family.name: family for family in text_string_to_metric_families(metrics.exposition().decode())}
    for spec in METRICS:
        if spec.stat is not None:
            assert families[f"glm_{spec.name.removesuffix('_total')}" if spec.kind == "counter" else f"glm_{spec.name}"]
    assert metrics.registry.get_sample_value("glm_engine_steps_total", {"phase": "decode"}) == 9
    assert metrics.registry.get_sample_value("glm_device_memory_bytes", {"rank": "1"}) == 11


def test_absent_counters_are_not_shown() -> None:
    metrics = Metrics()
    metrics.show_engine(lambda: {"running": 1})
    text = metrics.exposition().decode()
    assert "glm_requests_running 1.0" in text
    assert "glm_kv_blocks" not in text


def test_unknown_paths_and_methods_share_one_series(harness: Callable[..., Harness]) -> None:
    server = harness()
    for i in range(20):
        server.client.open(f"/secret-{i}", method=f"M{i}")
    assert server.metric("http_requests_total", route="other", method="other", status="404") == 20


def test_tokens_are_counted(harness: Callable[..., Harness]) -> None:
    server = harness()
    server.client.post("/generate", json={"text": "w1", "out_seq_length": 3, "min_gen_length": 3})
    assert server.metric("generation_tokens_total") == 3
    assert server.metric("prompt_tokens_total") == 3
    assert server.metric("time_to_first_token_seconds_count") == 1
    assert server.metric("inter_token_seconds_count") == 2
    assert server.metric("request_queue_seconds_count") == 1
