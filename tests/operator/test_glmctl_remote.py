"""What `glmctl status`, `doctor` and `top` show; the operator's health; its metrics."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from glm_operator import checkup, names
from glm_operator.commands.top import COLUMNS, samples
from glm_operator.crd import crd
from glm_operator.health import Health, serve
from glm_operator.pods import facts
from glm_operator.screen import screen
from glm_operator.telemetry import Telemetry
from glm_server.metrics import METRICS, PREFIX
from operator_builders import document
from operator_pods import answering

NOW = datetime(2026, 1, 1, 1, tzinfo=UTC)


def test_the_screen_says_where_it_stands() -> None:
    doc = document()
    doc["metadata"]["generation"] = 2
    doc["status"] = {
        "observedGeneration": 1,
        "phase": "Converting",
        "message": "converting: 45%",
        "readyReplicas": 1,
        "artifact": {"bytes": 2_000_000_000, "progress": "45%"},
        "conditions": [
            {"type": "Available", "status": "True", "reason": "Answering", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        ],
    }
    doc["spec"] |= {"precision": "int8", "backend": "cpu", "replicas": 2}
    events = [{"lastTimestamp": "2026-01-01T00:59:30Z", "reason": "Converting", "message": "m"}]
    text = "\n".join(f"{label}|{value}" for label, value in screen(doc, [facts(answering())], events, NOW))
    for part in (
        "phase|Converting: converting: 45%",
        "|the operator has not yet seen the latest change",
        "replicas|1 of 2 answer",
        "artifact|2.0 GB, 45%",
        "conditions|Available      True   Answering            for 60 min",
        "pods|demo-1 ready",
        "events|30 s ago Converting: m",
    ):
        assert part in text


def test_the_screen_of_a_resource_that_nobody_looked_at() -> None:
    assert "is the operator running?" in screen(document(), [], [], NOW)[0][1]


def test_doctor_judges_the_crd() -> None:
    assert checkup.definition(None).grade == "fail"
    assert checkup.definition(crd()).grade == "ok"
    older, newer, alien = crd(), crd(), crd()
    fields = older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    del fields["rollout"]
    assert "lacks spec.rollout" in checkup.definition(older).text
    fields = newer["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    fields["more"] = {}
    assert "does not know spec.more" in checkup.definition(newer).text
    alien["spec"]["versions"][0]["name"] = "v9"
    assert checkup.definition(alien).grade == "fail"


def deployment(ready: int) -> dict[str, Any]:
    meta = {"name": "op", "namespace": "s", "labels": {names.LABEL_NAME: names.MANAGER}}
    return {"metadata": meta, "status": {"readyReplicas": ready}}


@pytest.mark.parametrize(
    ("finding", "grade"),
    [
        pytest.param(checkup.operator([]), "fail", id="no operator"),
        pytest.param(checkup.operator([deployment(0)]), "fail", id="operator not ready"),
        pytest.param(checkup.operator([deployment(1)]), "ok", id="operator"),
        pytest.param(checkup.operator([deployment(1), deployment(1)]), "warn", id="two operators"),
        pytest.param(checkup.gpus([{"status": {"allocatable": {"cpu": "4"}}}]), "warn", id="no GPU"),
        pytest.param(checkup.gpus([{"status": {"allocatable": {"nvidia.com/gpu": "8"}}}]), "ok", id="GPUs"),
        pytest.param(checkup.storage([{"metadata": {"name": "x"}}]), "warn", id="no default class"),
        pytest.param(
            checkup.storage(
                [{"metadata": {"name": "x", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}}]
            ),
            "ok",
            id="default class",
        ),
        pytest.param(checkup.webhooks([]), "ok", id="no webhook"),
        pytest.param(
            checkup.webhooks(
                [{"metadata": {"name": "w"}, "webhooks": [{"name": "x", "rules": [{"resources": ["pods"]}]}]}]
            ),
            "warn",
            id="strict webhook",
        ),
        pytest.param(
            checkup.webhooks(
                [
                    {
                        "metadata": {"name": "w"},
                        "webhooks": [{"name": "x", "failurePolicy": "Ignore", "rules": [{"resources": ["pods"]}]}],
                    }
                ]
            ),
            "ok",
            id="lenient webhook",
        ),
    ],
)
def test_doctor_judges(finding: checkup.Finding, grade: str) -> None:
    assert finding.grade == grade


def test_top_shows_series_that_the_server_has() -> None:
    assert set(COLUMNS.values()) <= {PREFIX + metric.name for metric in METRICS}
    assert samples('glm_requests_running 3.0\nglm_x{a="b"} 1.0\n') == {"glm_requests_running": 3.0}


@pytest.fixture
def health() -> Iterator[tuple[Health, str, list[float]]]:
    overdue = [0.0]
    made = Health(lambda: overdue[0])
    server = serve(made, CollectorRegistry(), 0)
    yield made, f"http://127.0.0.1:{server.server_port}", overdue
    server.shutdown()
    server.server_close()


def status(url: str) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_probes(health: tuple[Health, str, list[float]]) -> None:
    made, url, overdue = health
    assert (status(f"{url}/livez"), status(f"{url}/readyz")) == (200, 503), "not listed yet"
    made.synced = True
    assert status(f"{url}/readyz") == 200
    assert status(f"{url}/metrics") == 200
    assert status(f"{url}/secret") == 404
    overdue[0] = 601
    assert status(f"{url}/livez") == 503, "a reconciliation hangs"


def test_a_silent_loop_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Health(lambda: 0.0)
    beaten = made._beat_s
    monkeypatch.setattr("glm_operator.health.time.monotonic", lambda: beaten + 61)
    assert made.problems() == ["the event loop has been silent for 61 s"]
    made.beat()
    assert made.problems() == []


def test_phases_are_counted_when_they_are_asked_for() -> None:
    phases = {"Ready": 2}
    telemetry = Telemetry(lambda: phases)
    assert telemetry.registry.get_sample_value("glm_operator_resources", {"phase": "Ready"}) == 2
    phases.clear()
    assert telemetry.registry.get_sample_value("glm_operator_resources", {"phase": "Ready"}) is None
    json.dumps(phases)
