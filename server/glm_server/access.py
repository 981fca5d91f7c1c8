"""Who may ask what: every route of the API needs a key, except those named here."""

from __future__ import annotations

from typing import Final

from flask import request

from glm_server.errors import UnauthorizedError
from glm_server.state import current_state

#: Endpoints that need no key: probes.
PUBLIC: Final = frozenset({"health.livez", "health.readyz"})


def check_access() -> None:
    """Raise ``UnauthorizedError`` for a request without a known key, if the server has keys.

    An address that does not exist needs a key, too, so that nothing can be learned without one.
    """
    keys = current_state().keys
    if keys is None or request.endpoint in PUBLIC:
        return
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        current_state().metrics.count("rejected_total", "no_key")
        raise UnauthorizedError(
            "an API key is needed; send the header `Authorization: Bearer KEY`", code="missing_api_key"
        )
    if not keys.allows(key.strip()):
        current_state().metrics.count("rejected_total", "unknown_key")
        raise UnauthorizedError("this API key is not known here; ask for one that is")
