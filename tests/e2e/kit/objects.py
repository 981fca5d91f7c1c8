"""Small objects that several tests apply."""

from typing import Any

FAKE_NODE = {"kwok.x-k8s.io/node": "fake"}


def fake_node(name: str, *, gpus: int = 8) -> dict[str, Any]:
    """A node that kwok plays: it becomes Ready, and pods on it run without containers."""
    size = {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": str(gpus)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": FAKE_NODE,
            "labels": {"type": "kwok", "kubernetes.io/hostname": name},
        },
        "spec": {"taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]},
        "status": {"capacity": size, "allocatable": size},
    }


def on_fake_nodes() -> dict[str, Any]:
    """The part of a pod's spec that brings it to fake nodes only."""
    toleration = {"key": "kwok.x-k8s.io/node", "operator": "Exists", "effect": "NoSchedule"}
    return {"nodeSelector": {"type": "kwok"}, "tolerations": [toleration]}


def pod(name: str, *, gpus: int = 0, **spec: Any) -> dict[str, Any]:
    """A pod of one container that does nothing, in an image that every test cluster has."""
    container: dict[str, Any] = {"name": "main", "image": "localhost/pause:1", "imagePullPolicy": "Never"}
    if gpus:
        container["resources"] = {"limits": {"nvidia.com/gpu": str(gpus)}}
    body = {"containers": [container], "terminationGracePeriodSeconds": 0, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body}
