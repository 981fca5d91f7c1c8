"""`glmctl prompt`."""

from __future__ import annotations

import json

import click

from glm_operator import names
from glm_operator.commands.remote import connect, options
from glm_operator.errors import OperatorError
from glm_operator.local.probe import body_of


@click.command("prompt")
@click.argument("name")
@click.argument("text")
@options
def command(name: str, text: str, context: str | None, namespace: str | None) -> None:
    """Ask the GLMDeployment NAME to fill the blanks of TEXT, through the API server: no port is opened.

    \b
    Example:
      glmctl prompt quickstart "The capital of Norway is [MASK]."
    """
    target = connect(context, namespace)
    if target.resource(name)["spec"].get("auth"):
        raise OperatorError(
            f"GLMDeployment {name} wants an API key, which the API server does not pass on;"
            f" use kubectl port-forward service/{name} {names.API_PORT} and curl -H 'Authorization: Bearer KEY'"
        )
    path = f"{target.namespace}/services/{name}:{names.PORT_API}/proxy/generate"
    answer = json.loads(target.cluster.through(path, json.loads(body_of(text))))
    click.echo("\n".join(answer["text"]))
