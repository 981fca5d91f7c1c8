"""What the commands that talk to a cluster have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from glm_operator import names
from glm_operator.errors import OperatorError

if TYPE_CHECKING:
    from glm_operator.cluster import Cluster

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Target:
    """A connected cluster and the namespace that is meant."""

    cluster: Cluster
    namespace: str

    def resource(self, name: str) -> dict[str, Any]:
        """The GLMDeployment. Raises ``OperatorError`` where there is none."""
        found = self.cluster.get(names.KIND, self.namespace, name)
        if found is None:
            raise OperatorError(
                f"no GLMDeployment {name} in namespace {self.namespace}; `kubectl get glmd -A` shows all there are"
            )
        return found

    def pods(self, name: str) -> list[dict[str, Any]]:
        """Pods of the resource, the converting ones as well."""
        return self.cluster.list_all("Pod", self.namespace, f"{names.MANAGED},{names.LABEL_INSTANCE}={name}")[0]


def options(function: F) -> F:
    """The options that say which cluster and namespace."""
    function = click.option("-n", "--namespace", help="Namespace. [default: the kubeconfig's]")(function)
    return click.option("--context", help="Context of the kubeconfig. [default: its current one]")(function)


def connect(context: str | None, namespace: str | None) -> Target:
    """Connect. Raises ``ClusterError`` where no cluster is configured."""
    from glm_operator.cluster import Cluster, default_namespace

    return Target(Cluster(context), namespace or default_namespace(context))
