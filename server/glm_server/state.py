"""What every route needs, one object per application."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from flask import Flask, current_app, request

from glm_server.admission import Admission
from glm_server.api_keys import ApiKeys
from glm_server.config import ServerConfig
from glm_server.errors import ClientGoneError
from glm_server.lifecycle import Lifecycle
from glm_server.metrics import Metrics

_EXTENSION: Final = "glm"


@dataclass(frozen=True)
class ServerState:
    """The server's parts that outlive a request."""

    config: ServerConfig
    metrics: Metrics
    lifecycle: Lifecycle
    admission: Admission
    keys: ApiKeys | None  #: None: everybody may ask

    def attach(self, app: Flask) -> None:
        """Make this the state of ``app``'s routes."""
        app.extensions[_EXTENSION] = self


def new_state(config: ServerConfig) -> ServerState:
    """The state of a server that begins to load. Raises ``ConfigError`` for an API key file that can't be read."""
    metrics = Metrics()
    keys = ApiKeys(config.api_keys_file) if config.api_keys_file else None
    return ServerState(config, metrics, Lifecycle(metrics), Admission(config.open_limit, metrics), keys)


def current_state() -> ServerState:
    """The state of the application that handles the current request."""
    return cast(ServerState, current_app.extensions[_EXTENSION])


def client_watch() -> Callable[[], None]:
    """A function for the current request that raises ``ClientGoneError`` once its client has gone."""
    gone: Callable[[], bool] | None = request.environ.get("waitress.client_disconnected")

    def watch() -> None:
        if gone is not None and gone():
            raise ClientGoneError("the client closed its connection")

    return watch
