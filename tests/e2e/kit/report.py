"""What a person needs to see of a namespace when a test of it failed."""

from collections.abc import Iterator

from e2e.kit.cluster import Cluster

LOG_LINES = 60


def collect(cluster: Cluster) -> str:
    """Objects, events and the logs of every container of the handle's namespace, as text. Never raises."""
    return "\n".join(_sections(cluster))


def _sections(cluster: Cluster) -> Iterator[str]:
    yield _output(cluster, "get", "all,pvc", "--output", "wide")
    yield _output(cluster, "get", "events", "--sort-by", ".lastTimestamp")
    for pod in _output(cluster, "get", "pods", "--output", "name").splitlines():
        if pod.startswith("pod/"):
            yield _output(cluster, "get", pod, "--output", "jsonpath={.status}")
            yield _output(cluster, "logs", pod, "--all-containers", "--prefix", f"--tail={LOG_LINES}")
            yield _output(cluster, "logs", pod, "--all-containers", "--prefix", "--previous", f"--tail={LOG_LINES}")


def _output(cluster: Cluster, *args: str) -> str:
    try:
        return f"$ kubectl {' '.join(args)}\n{cluster.kubectl(*args, timeout_s=20)}"
    except AssertionError as failure:
        return str(failure)
