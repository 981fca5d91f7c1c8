"""The Deployment that runs the pods."""

from __future__ import annotations

from typing import Any, Final

from glm_operator import names
from glm_operator.model import GLMDeployment
from glm_operator.resources.objects import meta
from glm_operator.resources.pod import pod_template
from glm_operator.resources.settings import Settings
from glm_operator.sizing import sizes

#: Reading the checkpoint and writing the artifact on a slow volume, bytes a second.
_CONVERT_BYTES_PER_S: Final = 100_000_000
_PROGRESS_BASE_S: Final = 600


def surge() -> dict[str, Any]:
    """The new pod first: nothing is lost, but its GPUs are needed twice for a while."""
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def recreate() -> dict[str, Any]:
    """One pod after the other is ended and made anew."""
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}


def workload(deployment: GLMDeployment, settings: Settings) -> dict[str, Any]:
    """The Deployment."""
    size = sizes(deployment.spec)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta(deployment, deployment.name),
        "spec": {
            "replicas": deployment.spec.replicas,
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": _PROGRESS_BASE_S + (size.source + size.artifact) // _CONVERT_BYTES_PER_S,
            "selector": {"matchLabels": names.selector(deployment.name)},
            "strategy": recreate() if deployment.spec.rollout == "recreate" else surge(),
            "template": pod_template(deployment, settings),
        },
    }
