"""Which artifact a resource needs, and the job that makes it while pods of another one still serve."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from glm_operator import names
from glm_operator.model import GLMDeployment
from glm_operator.resources.objects import meta

#: What a pod of the job needs of the pod template; everything else is about serving.
_KEPT: Final = frozenset(
    {"serviceAccountName", "automountServiceAccountToken", "enableServiceLinks", "securityContext", "imagePullSecrets"}
    | {"nodeSelector", "tolerations", "affinity", "runtimeClassName", "priorityClassName", "volumes"}
)
#: The kubelet restarts a failed conversion with its own back-off, up to five minutes, for as long as it is wanted.
_NEVER_GIVE_UP: Final = 1_000_000


def artifact_key(deployment: GLMDeployment) -> str:
    """Identity of the artifact that is asked for: equal keys need no conversion between them."""
    spec = deployment.spec
    parts = {
        "model": spec.model.resolve().describe(),
        "checkpoint": spec.checkpoint.model_dump(),
        "cache": spec.artifact_cache.model_dump(include={"claim", "host_path"}),
        "precision": spec.precision,
        "tensor_parallel_size": spec.tensor_parallel_size,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def convert_job(deployment: GLMDeployment, template: dict[str, Any]) -> dict[str, Any]:
    """The job that runs ``template``'s init container only: the artifact is made beside the one that is in use."""
    key = template["metadata"]["annotations"][names.ANNOTATION_ARTIFACT]
    pod = {field: value for field, value in template["spec"].items() if field in _KEPT}
    labels = names.labels(deployment.name) | {names.LABEL_NAME: names.APP_CONVERT, names.LABEL_COMPONENT: "converter"}
    pod["containers"] = template["spec"]["initContainers"]
    pod["restartPolicy"] = "OnFailure"
    # A claim that only one node can mount is mounted by the pods that serve: near them it can be used.
    near = {
        "weight": 100,
        "podAffinityTerm": {
            "labelSelector": {"matchLabels": names.selector(deployment.name)},
            "topologyKey": "kubernetes.io/hostname",
        },
    }
    affinity = dict(pod.get("affinity", {}))
    together = dict(affinity.get("podAffinity", {}))
    preferred = "preferredDuringSchedulingIgnoredDuringExecution"
    pod["affinity"] = affinity | {"podAffinity": together | {preferred: [*together.get(preferred, []), near]}}
    annotations = {names.ANNOTATION_ARTIFACT: key}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta(deployment, names.convert_job(deployment.name, key)) | {"annotations": annotations},
        "spec": {
            "backoffLimit": _NEVER_GIVE_UP,
            "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod},
        },
    }
