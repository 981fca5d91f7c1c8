"""Logs on stderr, one JSON object per line or plain text; never a prompt, never a key."""

from __future__ import annotations

import logging
import sys

from pythonjsonlogger.json import JsonFormatter


def set_up_logs(log_format: str, level: str) -> None:
    """Send all logs to stderr in ``log_format`` (``json`` or ``text``) from ``level`` on."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        handler.setFormatter(
            JsonFormatter(
                "{asctime}{levelname}{name}{message}",
                style="{",
                rename_fields={"asctime": "ts", "levelname": "level", "name": "logger", "message": "msg"},
            )
        )
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("waitress").setLevel(logging.ERROR)  # its queue warnings are our Admission's business
