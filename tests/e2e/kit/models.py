"""GLMDeployments for the tests: the sample model on the CPU, its volumes, and models that only fake nodes run."""

import shutil
from pathlib import Path
from typing import Any

from e2e.kit.cluster import Cluster
from e2e.kit.images import Built
from e2e.kit.objects import on_fake_nodes

SAMPLE = Path(__file__).parents[3] / "samples/glm-sample"
ANSWER_WITHIN_S = 60


def volume(cluster: Cluster, claim: str, folder: Path, *, writable: bool = False) -> list[dict[str, Any]]:
    """A volume that is a folder of this machine, and the claim that is bound to it."""
    name = f"{cluster.namespace}-{claim}"
    modes = ["ReadWriteOnce"] if writable else ["ReadOnlyMany"]
    size = {"storage": "1Gi"}
    reference = {"namespace": cluster.namespace, "name": claim}
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": size,
                "accessModes": modes,
                "storageClassName": name,
                "hostPath": {"path": str(folder)},
                "claimRef": reference,
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim},
            "spec": {
                "accessModes": modes,
                "storageClassName": name,
                "volumeName": name,
                "resources": {"requests": size},
            },
        },
    ]


def folder(cluster: Cluster, name: str) -> Path:
    """A new folder that every user may write; it goes with the cluster."""
    path = cluster.paths.state / "volumes" / cluster.namespace / name
    path.mkdir(parents=True)
    path.chmod(0o777)
    return path


def sample_volumes(cluster: Cluster) -> None:
    """The claims `checkpoint`, with a copy of the sample checkpoint, and `artifacts`, which is empty."""
    checkpoint = folder(cluster, "checkpoint")
    shutil.copytree(SAMPLE, checkpoint, dirs_exist_ok=True)
    cluster.apply(
        *volume(cluster, "checkpoint", checkpoint),
        *volume(cluster, "artifacts", folder(cluster, "artifacts"), writable=True),
    )


def sample(name: str, image: Built | str, **spec: Any) -> dict[str, Any]:
    """The sample model in two shards on the CPU."""
    reference = image if isinstance(image, str) else image.reference
    return {
        "apiVersion": "serving.glm.io/v1alpha1",
        "kind": "GLMDeployment",
        "metadata": {"name": name},
        "spec": {
            "model": {"preset": "glm-sample"},
            "checkpoint": {"claim": "checkpoint"},
            "tokenizer": {"path": "tokenizer.model"},
            "artifactCache": {"claim": "artifacts"},
            "backend": "cpu",
            "tensorParallelSize": 2,
            "precision": "int8",
            "image": reference,
            "imagePullPolicy": "Never",
            "limits": {"maxBatchSize": 2},
            "pod": {"resources": {"requests": {"cpu": "50m"}}},
            **spec,
        },
    }


def fake(name: str, **spec: Any) -> dict[str, Any]:
    """A model on eight GPUs of a fake node: its pods become Ready without containers."""
    fields = {"backend": "cuda", "tensorParallelSize": 8, "precision": "fp16", "pod": on_fake_nodes()}
    resource = sample(name, "localhost/none:1", **fields)
    resource["spec"] |= spec
    return resource
