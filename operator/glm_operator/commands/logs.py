"""`glmctl logs`."""

from __future__ import annotations

import threading

import click

from glm_operator import names
from glm_operator.commands.remote import Target, connect, options
from glm_operator.errors import OperatorError
from glm_operator.pods import facts

_ALL_LINES = 100_000


@click.command("logs")
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on as lines come.")
@click.option(
    "--tail", default=200, show_default=True, type=click.IntRange(min=1), help="Last lines of each container."
)
@options
def command(name: str, follow: bool, tail: int, context: str | None, namespace: str | None) -> None:
    """Show the logs of the pods of the GLMDeployment NAME: of the conversion and of the server."""
    target = connect(context, namespace)
    target.resource(name)
    pods = [facts(pod) for pod in target.pods(name)]
    if not pods:
        raise OperatorError(f"GLMDeployment {name} has no pods; `glmctl status {name}` tells why")
    threads = []
    for pod in pods:
        containers = (names.CONTAINER_CONVERT, names.CONTAINER_SERVE) if pod.serves else (names.CONTAINER_CONVERT,)
        for container in containers:
            if follow:
                threads.append(threading.Thread(target=_follow, args=(target, pod.name, container), daemon=True))
                threads[-1].start()
                continue
            for line in target.cluster.log_tail(target.namespace, pod.name, container, tail).splitlines():
                click.echo(f"{pod.name} {container} | {line}")
    for thread in threads:
        thread.join()


def _follow(target: Target, pod: str, container: str) -> None:
    rest = ""
    try:
        for chunk in target.cluster.follow_log(target.namespace, pod, container):
            *lines, rest = (rest + chunk).split("\n")
            for line in lines:
                click.echo(f"{pod} {container} | {line}")
    except OperatorError as error:
        click.echo(f"{pod} {container} | {error}", err=True)
