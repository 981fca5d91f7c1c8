"""The objects around the pods: claim, model description, service account, services, disruption budget, network."""

from __future__ import annotations

import json
from typing import Any

from glm_operator import names
from glm_operator.model import GLMDeployment
from glm_operator.quantity import mebibytes
from glm_operator.resources.settings import Settings
from glm_operator.sizing import sizes


def meta(deployment: GLMDeployment, name: str) -> dict[str, Any]:
    """Metadata of an object of the resource; owned by it once it exists in a cluster."""
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": deployment.metadata.namespace,
        "labels": names.labels(deployment.name),
    }
    if deployment.metadata.uid:
        metadata["ownerReferences"] = [
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "name": deployment.name,
                "uid": deployment.metadata.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
    return metadata


def service_account(deployment: GLMDeployment) -> dict[str, Any]:
    """An account without any right, so that the pods do not run under the namespace's default one."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": meta(deployment, deployment.name),
        "automountServiceAccountToken": False,
    }


def model_config_map(deployment: GLMDeployment) -> dict[str, Any] | None:
    """The model's description as a file, where the resource gives dimensions."""
    if deployment.spec.model.dimensions is None:
        return None
    description = json.dumps(deployment.spec.model.resolve().describe(), indent=2, ensure_ascii=False)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta(deployment, names.model_config_map(deployment.name)),
        "data": {names.MODEL_FILE: description},
    }


def artifact_claim(deployment: GLMDeployment) -> dict[str, Any] | None:
    """The claim for the artifacts, where the resource names no volume of its own."""
    cache = deployment.spec.artifact_cache
    if cache.claim is not None or cache.host_path is not None:
        return None
    size = cache.size or mebibytes(max(sizes(deployment.spec).cache, 2**30))
    spec: dict[str, Any] = {
        "accessModes": [cache.access_mode or "ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
    }
    if cache.storage_class_name is not None:
        spec["storageClassName"] = cache.storage_class_name
    name = names.artifact_claim(deployment.name)
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta(deployment, name), "spec": spec}


def api_service(deployment: GLMDeployment, settings: Settings) -> dict[str, Any]:
    """Where clients reach the API: http://NAME.NAMESPACE:5000."""
    port = {"name": names.PORT_API, "port": settings.api_port, "targetPort": names.PORT_API, "appProtocol": "http"}
    return _service(deployment, deployment.name, {"ports": [port]})


def metrics_service(deployment: GLMDeployment, settings: Settings) -> dict[str, Any]:
    """Headless, so that each pod's metrics are read; pods that are not ready count, too."""
    port = {
        "name": names.PORT_MANAGEMENT,
        "port": settings.management_port,
        "targetPort": names.PORT_MANAGEMENT,
        "appProtocol": "http",
    }
    spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "ports": [port]}
    return _service(deployment, names.metrics_service(deployment.name), spec)


def _service(deployment: GLMDeployment, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(deployment, name),
        "spec": {"selector": names.selector(deployment.name)} | spec,
    }


def disruption_budget(deployment: GLMDeployment) -> dict[str, Any]:
    """One pod at a time may be evicted; `maxUnavailable` never blocks the drain of a node for good."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": meta(deployment, deployment.name),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": names.selector(deployment.name)}},
    }


def network_policy(deployment: GLMDeployment) -> dict[str, Any]:
    """In: the API from pods of any namespace, the management port from the own one. Out: nothing is needed."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta(deployment, deployment.name),
        "spec": {
            # Converting pods as well, which need no network at all.
            "podSelector": {
                "matchLabels": {names.LABEL_INSTANCE: deployment.name, names.LABEL_MANAGED_BY: names.MANAGER}
            },
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {"ports": [{"port": names.PORT_API, "protocol": "TCP"}]},
                {"ports": [{"port": names.PORT_MANAGEMENT, "protocol": "TCP"}], "from": [{"podSelector": {}}]},
            ],
            "egress": [],
        },
    }
