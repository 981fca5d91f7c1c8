"""`glmctl status`."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from glm_operator.commands.remote import connect, options
from glm_operator.commands.text import table
from glm_operator.pods import facts
from glm_operator.screen import screen


@click.command("status")
@click.argument("name")
@options
def command(name: str, context: str | None, namespace: str | None) -> None:
    """Show where the GLMDeployment NAME stands, and what to do next."""
    target = connect(context, namespace)
    resource = target.resource(name)
    uid = resource["metadata"]["uid"]
    events = target.cluster.events(target.namespace, f"involvedObject.uid={uid}")
    pods = [facts(pod) for pod in target.pods(name)]
    rows = screen(resource, pods, events, datetime.now(UTC))
    click.echo(f"GLMDeployment {target.namespace}/{name}\n{table(rows)}")
