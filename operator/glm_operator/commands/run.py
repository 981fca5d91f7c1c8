"""`glmctl run`."""

from __future__ import annotations

import logging

import click


@click.command("run")
@click.option(
    "--image",
    envvar="GLM_OPERATOR_IMAGE",
    show_envvar=True,
    help="Image of the server, for resources that name none. [default: glm-server of this version]",
)
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    envvar="GLM_OPERATOR_NAMESPACES",
    show_envvar=True,
    help="Look at this namespace only; repeatable. [default: all]",
)
@click.option(
    "--allow-host-paths",
    is_flag=True,
    envvar="GLM_OPERATOR_ALLOW_HOST_PATHS",
    show_envvar=True,
    help="Let resources mount folders of nodes, which is as much as root on them.",
)
@click.option(
    "--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="Port of /metrics, /livez, /readyz."
)
@click.option("--threads", default=4, show_default=True, type=click.IntRange(1, 64), help="Threads that reconcile.")
@click.option(
    "--resync", default=600.0, show_default=True, type=click.FloatRange(min=1), help="Seconds between full lists."
)
@click.option("-v", "--verbose", is_flag=True, help="Log what is told by the watches, too.")
def command(
    *,
    image: str | None,
    namespaces: tuple[str, ...],
    allow_host_paths: bool,
    port: int,
    threads: int,
    resync: float,
    verbose: bool,
) -> None:
    """Run the operator itself, until SIGTERM. The chart glm-operator does so in a cluster."""
    from glm_operator.decide import Policy
    from glm_operator.handlers import Options, run
    from glm_operator.resources import Settings

    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("kopf").setLevel(logging.DEBUG if verbose else logging.WARNING)
    rendering = Settings() if image is None else Settings(image=image)
    run(Options(Policy(rendering, allow_host_paths), namespaces, port, threads, resync))
