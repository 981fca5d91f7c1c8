"""`glmctl top`."""

from __future__ import annotations

import click
from prometheus_client.parser import text_string_to_metric_families

from glm_operator import names
from glm_operator.commands.remote import connect, options
from glm_operator.errors import OperatorError
from glm_operator.pods import facts

#: Column -> the server's series that it shows; a test compares them with the server's definitions.
COLUMNS = {
    "RUNNING": "glm_requests_running",
    "WAITING": "glm_requests_waiting",
    "TOKENS": "glm_generation_tokens_total",
    "KV LIVE": "glm_kv_blocks_live",
    "KV FREE": "glm_kv_blocks_free",
}


@click.command("top")
@click.argument("name")
@options
def command(name: str, context: str | None, namespace: str | None) -> None:
    """Show what the servers of the GLMDeployment NAME are doing: requests, tokens so far, KV blocks."""
    target = connect(context, namespace)
    target.resource(name)
    rows = [["POD", *COLUMNS]]
    for pod in map(facts, target.pods(name)):
        if not pod.serves:
            continue
        path = f"{target.namespace}/pods/{pod.name}:{names.MANAGEMENT_PORT}/proxy/metrics"
        try:
            values = samples(target.cluster.through(path, timeout_s=10))
        except OperatorError:
            values = {}
        rows.append([pod.name, *(f"{values[s]:.0f}" if s in values else "-" for s in COLUMNS.values())])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def samples(text: str) -> dict[str, float]:
    """Values of the series without labels, by name."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.labels:
                found[sample.name] = float(sample.value)
    return found
