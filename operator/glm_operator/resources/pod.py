"""The pod template: an init container that converts, a container that serves."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any, Final

from glm_operator import names
from glm_operator.model import GLMDeployment
from glm_operator.quantity import mebibytes, to_number
from glm_operator.resources import command
from glm_operator.resources.artifact import artifact_key
from glm_operator.resources.settings import Settings
from glm_operator.resources.volumes import convert_mounts, serve_mounts, volumes
from glm_operator.sizing import sizes

_PROBE_PERIOD_S: Final = 5
#: Start-up budget: imports and warm-up, and the artifact read from a slow network volume.
_START_BASE_S: Final = 120
_LOAD_BYTES_PER_S: Final = 200_000_000
#: Liveness gives up after a minute; the server's own deadline for a step is shorter.
_LIVENESS_FAILURES: Final = 12


def pod_template(deployment: GLMDeployment, settings: Settings) -> dict[str, Any]:
    """The pod template that the Deployment runs, and whose containers `glmctl up` runs as processes."""
    spec, pod = deployment.spec, deployment.spec.pod
    metadata: dict[str, Any] = {"labels": pod.labels | names.labels(deployment.name)}
    annotations = dict(pod.annotations)
    if spec.model.dimensions is not None:
        annotations[names.ANNOTATION_MODEL_HASH] = model_hash(deployment)
    annotations[names.ANNOTATION_ARTIFACT] = artifact_key(deployment)
    metadata["annotations"] = annotations
    pod_spec: dict[str, Any] = {
        "serviceAccountName": deployment.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": pod.termination_grace_period_seconds,
        "securityContext": _security(deployment),
        "initContainers": [_convert(deployment, settings)],
        "containers": [_serve(deployment, settings)],
        "volumes": volumes(deployment),
    }
    optional = {
        "imagePullSecrets": [{"name": name} for name in spec.image_pull_secrets],
        "nodeSelector": dict(pod.node_selector),
        "tolerations": [t.model_dump(by_alias=True, exclude_none=True) for t in pod.tolerations],
        "affinity": copy.deepcopy(pod.affinity),
        "runtimeClassName": pod.runtime_class_name,
        "priorityClassName": pod.priority_class_name,
    }
    template = {"metadata": metadata, "spec": pod_spec | {key: value for key, value in optional.items() if value}}
    annotations[names.ANNOTATION_TEMPLATE] = _hash(template)
    return template


def model_hash(deployment: GLMDeployment) -> str:
    """Hash of the model's description."""
    return _hash(deployment.spec.model.resolve().describe())


def _hash(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _security(deployment: GLMDeployment) -> dict[str, Any]:
    pod = deployment.spec.pod
    user = names.UID if pod.run_as_user is None else pod.run_as_user
    group = names.UID if pod.fs_group is None else pod.fs_group
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": group,
        "fsGroup": group,
        # A checkpoint of hundreds of files on a slow volume must not be walked at every start.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _container(deployment: GLMDeployment, settings: Settings, name: str) -> dict[str, Any]:
    spec = deployment.spec
    # The root file system is read-only; whatever a library writes goes to the pod's own folder.
    env = [{"name": "TMPDIR", "value": names.PATH_TMP}]
    return {
        "name": name,
        "image": spec.image or settings.image,
        "imagePullPolicy": spec.image_pull_policy,
        "env": env + [variable.model_dump(by_alias=True) for variable in spec.pod.env],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _convert(deployment: GLMDeployment, settings: Settings) -> dict[str, Any]:
    memory = mebibytes(sizes(deployment.spec).convert)
    # The scheduler takes the larger of both containers' requests: the short conversion must not be what counts.
    serving = str(_resources(deployment)["requests"]["cpu"])
    cpu = serving if to_number(serving) < 1 else "1"
    return _container(deployment, settings, names.CONTAINER_CONVERT) | {
        "command": command.convert(deployment),
        "resources": {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}},
        "volumeMounts": convert_mounts(deployment),
    }


def _serve(deployment: GLMDeployment, settings: Settings) -> dict[str, Any]:
    return _container(deployment, settings, names.CONTAINER_SERVE) | {
        "command": command.serve(deployment, settings),
        "ports": [
            {"name": names.PORT_API, "containerPort": settings.api_port},
            {"name": names.PORT_MANAGEMENT, "containerPort": settings.management_port},
        ],
        "resources": _resources(deployment),
        "startupProbe": _probe("/readyz", failureThreshold=_start_failures(deployment)),
        "readinessProbe": _probe("/readyz", failureThreshold=2),
        "livenessProbe": _probe("/livez", failureThreshold=_LIVENESS_FAILURES),
        "volumeMounts": serve_mounts(deployment),
    }


def _probe(path: str, **settings: int) -> dict[str, Any]:
    get = {"path": path, "port": names.PORT_MANAGEMENT}
    return {"httpGet": get, "periodSeconds": _PROBE_PERIOD_S, "timeoutSeconds": 3, **settings}


def _start_failures(deployment: GLMDeployment) -> int:
    budget = _START_BASE_S + sizes(deployment.spec).artifact // _LOAD_BYTES_PER_S
    return -(-budget // _PROBE_PERIOD_S)


def _resources(deployment: GLMDeployment) -> dict[str, Any]:
    spec = deployment.spec
    memory = mebibytes(sizes(spec).host)
    given = spec.pod.resources
    computed = {"cpu": str(spec.tensor_parallel_size), "memory": memory}
    limits: dict[str, Any] = {"memory": memory} | (given.limits or {})
    for name, most in (given.limits or {}).items():
        if name in computed and to_number(str(most)) < to_number(computed[name]):
            computed[name] = str(most)  # a request above its limit is refused
    requests: dict[str, Any] = computed | (given.requests or {})
    if "memory" not in (given.limits or {}) and to_number(str(requests["memory"])) > to_number(limits["memory"]):
        limits["memory"] = requests["memory"]
    if spec.backend == "cuda":
        resource = spec.gpu.resource if spec.gpu is not None else "nvidia.com/gpu"
        limits[resource] = str(spec.tensor_parallel_size)
    return {"requests": requests, "limits": limits}
