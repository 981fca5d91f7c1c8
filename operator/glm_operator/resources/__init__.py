"""From the typed resource to the objects that a cluster should hold. Pure: the same input gives the same objects."""

from __future__ import annotations

from typing import Any

from glm_operator.model import GLMDeployment
from glm_operator.resources import objects
from glm_operator.resources.pod import pod_template
from glm_operator.resources.settings import Settings
from glm_operator.resources.workload import workload

__all__ = ["Settings", "pod_template", "render"]


def render(deployment: GLMDeployment, settings: Settings) -> list[dict[str, Any]]:
    """All objects of the resource, in the order in which they are applied: what pods need comes before the pods."""
    candidates = [
        objects.service_account(deployment),
        objects.network_policy(deployment),
        objects.model_config_map(deployment),
        objects.artifact_claim(deployment),
        objects.api_service(deployment, settings),
        objects.metrics_service(deployment, settings),
        objects.disruption_budget(deployment),
        workload(deployment, settings),
    ]
    return [candidate for candidate in candidates if candidate is not None]
