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
    stats = {spec.stat: 7.0 for spec in METRICS if spec.stat is not None}
    metrics.show_engine(lambda: stats)
    families = {family.name: family for family in text_string_to_metric_families(metrics.exposition().decode())}
    for spec in METRICS:
        if spec.stat is not None:
            (sample,) = families[f"glm_{spec.name.removesuffix('_total')}"].samples
            assert sample.value == 7, spec


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


def test_steps_are_measured(harness: Callable[..., Harness]) -> None:
    server = harness()
    server.client.post("/generate", json={"text": "w1", "out_seq_length": 3, "min_gen_length": 3})
    text = server.management.get("/metrics").get_data(as_text=True)
    assert "glm_engine_steps_total 3.0" in text
    text = server.management.get("/metrics").get_data(as_text=True)
    assert 'glm_engine_step_seconds_count{phase="prefill"} 1.0' in text
    assert 'glm_engine_step_seconds_count{phase="decode"} 2.0' in text
    assert "glm_engine_batch_sequences_count 2.0" in text
    assert "glm_kv_blocks_free 8.0" in text
