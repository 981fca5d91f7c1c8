"""The operator as the chart installs it, and what its resources say."""

import json
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from e2e.kit.cluster import Cluster
from e2e.kit.images import ROOT, Built
from e2e.kit.waiting import eventually

CHART = str(ROOT / "charts/glm-operator")
RELEASE = "glm-operator"
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def install(cluster: Cluster, image: Built) -> Cluster:
    """Installs the chart in a restricted namespace of its own; returns the handle on that namespace."""
    own = replace(cluster, namespace="glm-system")
    own.kubectl("create", "namespace", own.namespace)
    own.kubectl("label", "namespace", own.namespace, "pod-security.kubernetes.io/enforce=restricted")
    upgrade(own, image, "--install")
    return own


def upgrade(own: Cluster, image: Built, *options: str) -> None:
    """Installs or upgrades the release, and waits until the operator is ready."""
    repository, tag = image.reference.rsplit(":", 1)
    values = [f"image.repository={repository}", f"image.tag={tag}", "image.pullPolicy=Never"]
    sets = [part for value in values for part in ("--set", value)]
    own.helm("upgrade", RELEASE, CHART, *options, *sets)
    own.kubectl("rollout", "status", f"deployment/{RELEASE}", "--timeout=60s")


def pause(own: Cluster) -> None:
    """Takes the operator away."""
    own.kubectl("scale", f"deployment/{RELEASE}", "--replicas=0")
    eventually(lambda: not own.get("pods")["items"], within_s=40)


def resume(own: Cluster) -> None:
    """Brings the operator back."""
    own.kubectl("scale", f"deployment/{RELEASE}", "--replicas=1")
    own.kubectl("rollout", "status", f"deployment/{RELEASE}", "--timeout=60s")


def metrics(own: Cluster) -> dict[str, float]:
    """The operator's own series, with their labels, as its Service shows them."""
    address = own.get("service", RELEASE)["spec"]["clusterIP"]
    with _OPENER.open(f"http://{address}:8080/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}


def requests(own: Cluster) -> float:
    """Number of requests that the operator has sent to the API server."""
    return sum(v for k, v in metrics(own).items() if k.startswith("glm_operator_api_requests_total"))


def status(cluster: Cluster, name: str) -> dict[str, Any]:
    """The status of a GLMDeployment, empty at first."""
    found: dict[str, Any] = cluster.get("glmd", name).get("status", {})
    return found


def reach(cluster: Cluster, name: str, phase: str, *, within_s: float = 60) -> dict[str, Any]:
    """Waits until the resource is in a phase, by the spec of now; returns its status."""

    def there() -> dict[str, Any] | None:
        resource = cluster.get("glmd", name)
        found: dict[str, Any] = resource.get("status", {})
        current = found.get("observedGeneration") == resource["metadata"]["generation"]
        if not current or found["phase"] != phase:
            raise AssertionError(f"{found.get('phase')}: {found.get('message')}")
        return found

    return eventually(there, within_s=within_s) or {}


def reason(status: dict[str, Any], condition: str) -> str:
    """Status and reason of a condition."""
    found = next((c for c in status.get("conditions", ()) if c["type"] == condition), None)
    return f"{found['status']} {found['reason']}" if found else "none"


def ask(cluster: Cluster, name: str, text: str) -> str:
    """The model's answer, through its Service."""
    address = cluster.get("service", name)["spec"]["clusterIP"]
    body = json.dumps({"text": text, "topk": 1, "min_gen_length": 1, "out_seq_length": 32}).encode()
    request = urllib.request.Request(f"http://{address}:5000/generate", body, {"Content-Type": "application/json"})
    with _OPENER.open(request, timeout=60) as answer:
        return "\n".join(json.load(answer)["text"])


def holds(check: Callable[[], bool], *, for_s: float) -> None:
    """Raises AssertionError unless `check()` is true all the time."""
    end = time.monotonic() + for_s
    while time.monotonic() < end:
        assert check()
        time.sleep(0.2)
