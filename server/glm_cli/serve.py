"""`glm serve`: answer over HTTP from an artifact. The flags are the fields of ``ServerConfig``."""

from __future__ import annotations

import os
import sys
from dataclasses import fields
from typing import Any

import click

from glm_engine.artifact import Artifact
from glm_engine.request import Engine
from glm_server.config import ENV_PREFIX, ServerConfig, flag, read_environment, setting_type


def _load_engine(config: ServerConfig, artifact: Artifact) -> Engine:
    """The compiled engine; imported here, so that `glm serve --help` and the tests need no compiler."""
    from glm_engine.handle import EngineLimits, blocks_in, load

    limits = EngineLimits(
        max_sequence_length=config.max_sequence_length or None,
        max_batch_size=config.max_batch_size,
        max_waiting=config.waiting_limit,
        kv_blocks=blocks_in(config.kv_cache_bytes, artifact.model, config.backend, EngineLimits.block_size),
    )
    return load(artifact, backend=config.backend, limits=limits)


def _options() -> list[click.Parameter]:
    options: list[click.Parameter] = []
    for setting in fields(ServerConfig):
        env, default = ENV_PREFIX + setting.name.upper(), setting.default
        shown = f"default: {default}; " if default != "" else ""
        text = f"{setting.metadata['help']}  [{shown}env: {env}]"
        options.append(click.Option([flag(setting.name)], type=setting_type(setting), default=None, help=text))
    return options


def _serve(**flags: Any) -> None:
    from glm_server.logs import set_up_logs
    from glm_server.run import serve

    given = {name: value for name, value in flags.items() if value is not None}
    config = read_environment(os.environ, given)
    for name in ("artifact", "tokenizer"):
        if not getattr(config, name):
            raise click.UsageError(f"{flag(name)} is required (or {ENV_PREFIX}{name.upper()})")
    set_up_logs(config.log_format, config.log_level)

    def announce(line: str) -> None:
        click.echo(line)
        sys.stdout.flush()

    sys.exit(serve(config, _load_engine, announce))


command = click.Command(
    "serve",
    params=_options(),
    callback=_serve,
    help="""Answer over HTTP from an artifact.

    The ports answer at once, with "not ready" until the model is loaded and warmed up (/readyz). SIGTERM or SIGINT
    finishes running requests and leaves; a second one leaves at once.

    Example: glm serve --artifact RUN/artifact --tokenizer tokenizer.model --port 5000""",
)
