"""`glmctl doctor`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from glm_operator import checkup, names
from glm_operator.checkup import Finding
from glm_operator.commands.remote import connect
from glm_operator.errors import OperatorError

if TYPE_CHECKING:
    from glm_operator.cluster import Cluster

_MARKS = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}


@click.command("doctor")
@click.option("--context", help="Context of the kubeconfig. [default: its current one]")
def command(context: str | None) -> None:
    """Check whether a cluster can run GLMDeployments: CRD, operator, GPUs, storage, webhooks of others.

    \b
    Exit codes: 0 nothing is wrong (there may be warnings), 1 something is.
    """
    failed = False
    for finding in _findings(connect(context, None).cluster):
        click.echo(f"{_MARKS[finding.grade]} {finding.subject}: {finding.text}")
        failed = failed or finding.grade == "fail"
    if failed:
        sys.exit(1)


def _findings(cluster: Cluster) -> Iterator[Finding]:
    yield Finding("ok", "API server", cluster.version())
    yield _looked("CRD", lambda: checkup.definition(_definition(cluster)))
    selector = f"{names.LABEL_NAME}={names.MANAGER}"
    yield _looked("operator", lambda: checkup.operator(cluster.listed("Deployment", labels=selector)))
    yield _looked("GPUs", lambda: checkup.gpus(cluster.listed("Node")))
    yield _looked("storage", lambda: checkup.storage(cluster.listed("StorageClass")))
    kinds = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
    yield _looked("webhooks", lambda: checkup.webhooks([item for kind in kinds for item in cluster.listed(kind)]))


def _definition(cluster: Cluster) -> dict[str, Any] | None:
    found = cluster.listed("CustomResourceDefinition", fields=f"metadata.name={names.CRD_NAME}")
    return found[0] if found else None


def _looked(subject: str, look: Callable[[], Finding]) -> Finding:
    """A finding, or that one may not look."""
    try:
        return look()
    except OperatorError as error:
        return Finding("warn", subject, f"cannot be seen: {error}")
