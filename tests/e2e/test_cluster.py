"""The cluster itself: what the other end-to-end tests rely on."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from e2e.kit import objects
from e2e.kit.cluster import Cluster, scripts_env
from e2e.kit.waiting import eventually


def test_the_node_is_ready_and_has_gpus(namespace: Cluster) -> None:
    node = namespace.get("node", "node0")
    conditions = {c["type"]: c["status"] for c in node["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "16"


def test_kubectl_and_helm_talk_to_it(namespace: Cluster) -> None:
    version = json.loads(namespace.kubectl("version", "--output", "json"))
    assert version["clientVersion"]["gitVersion"] == version["serverVersion"]["gitVersion"]
    assert namespace.helm("list", "--output", "json").strip() == "[]"


def test_a_real_container_runs_and_the_service_reaches_the_api(namespace: Cluster) -> None:
    namespace.apply(objects.pod("real", gpus=1))
    namespace.kubectl("wait", "pod/real", "--for=condition=Ready", "--timeout=30s")
    ip = namespace.get("service", "kubernetes", "--namespace", "default")["spec"]["clusterIP"]
    with pytest.raises(urllib.error.URLError, match="certificate verify failed"):
        urllib.request.urlopen(f"https://{ip}/livez", timeout=5)


def test_pods_are_counted_against_gpus(namespace: Cluster) -> None:
    namespace.apply(objects.pod("too-many", gpus=17))

    def reasons() -> bool:
        return "Insufficient nvidia.com/gpu" in namespace.kubectl("get", "events", "--output", "yaml")

    eventually(reasons, within_s=20)


def test_fake_gpu_nodes_take_pods(namespace: Cluster) -> None:
    names = [f"fake-{i}" for i in range(3)]
    namespace.apply(*(objects.fake_node(name) for name in names))
    try:
        namespace.kubectl("wait", "node", "-l", "type=kwok", "--for=condition=Ready", "--timeout=20s")
        pods = [objects.pod(f"fake-{i}", gpus=8, **objects.on_fake_nodes()) for i in range(3)]
        namespace.apply(*pods)
        namespace.kubectl("wait", "pods", "--all", "--for=condition=Ready", "--timeout=30s")
        placed = {p["spec"]["nodeName"] for p in namespace.get("pods")["items"]}
        assert placed == set(names)
    finally:
        namespace.kubectl("delete", "node", *names, "--wait=false")


@pytest.mark.parametrize("daemon", ["kube-apiserver", "etcd", "kube-scheduler", "containerd", "kubelet"])
def test_a_killed_daemon_comes_back(namespace: Cluster, daemon: str) -> None:
    namespace.daemon("kill", daemon)
    namespace.reconnect()
    eventually(lambda: namespace.apply(objects.pod("after")) or True, within_s=30)
    namespace.kubectl("wait", "pod/after", "--for=condition=Ready", "--timeout=60s")


def test_a_stopped_api_server_stays_away_until_started(namespace: Cluster) -> None:
    namespace.daemon("stop", "kube-apiserver")
    try:
        with pytest.raises(AssertionError, match="refused"):
            namespace.kubectl("get", "nodes")
    finally:
        namespace.daemon("start", "kube-apiserver")
        namespace.reconnect()


def test_a_killed_test_run_leaves_nothing(machine: str) -> None:
    """SIGKILL of the process that holds a cluster ends the cluster, a second one beside the run's own."""
    run = f"{machine}-2"
    hold = "import sys, time; from e2e.kit.lifetime import shared_cluster\n"
    hold += "with shared_cluster(sys.argv[1], print) as c: print('pid', c.pid, flush=True); time.sleep(600)"
    tests = str(Path(__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", hold, run],
        env={**scripts_env(run), "PYTHONPATH": tests},
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        lines = iter(holder.stdout.readline, "")
        pid = next(int(line.split()[1]) for line in lines if line.startswith("pid "))
        assert Path(f"/proc/{pid}").exists()
        os.kill(holder.pid, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), within_s=20)
    eventually(lambda: not list(Path("/sys/fs/cgroup").glob(f"*/glm-e2e-{run}")), within_s=20)
