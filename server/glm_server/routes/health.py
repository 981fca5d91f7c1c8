"""Is the process worth keeping (`/livez`), and does it take requests (`/readyz`)? Neither ever waits for the engine."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from glm_server.state import current_state

blueprint = Blueprint("health", __name__)


@blueprint.get("/livez")
def livez() -> tuple[Response, int]:
    """200 while the engine makes progress whenever it has work; 503 tells the kubelet to restart the process."""
    lifecycle = current_state().lifecycle
    alive = lifecycle.alive
    return jsonify(status="alive" if alive else "dead", phase=lifecycle.phase), 200 if alive else 503


@blueprint.get("/readyz")
def readyz() -> tuple[Response, int]:
    """200 from the end of the warm-up to the beginning of the drain."""
    lifecycle = current_state().lifecycle
    return jsonify(status="ready" if lifecycle.ready else "not ready", phase=lifecycle.phase), (
        200 if lifecycle.ready else 503
    )
