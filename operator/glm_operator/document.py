"""Reading a GLMDeployment from a YAML file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from glm_operator import names
from glm_operator.errors import OperatorError
from glm_operator.model import GLMDeployment, parse


def load(path: str) -> GLMDeployment:
    """The one GLMDeployment of a file (``-``: standard input); other documents in it are left alone.

    Raises ``OperatorError`` if the file cannot be read or holds none or several, ``SpecError`` if it is invalid.
    """
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        documents = list(yaml.safe_load_all(text))
    except (OSError, UnicodeError) as error:
        raise OperatorError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise OperatorError(f"{path}: is not YAML: {error}") from error
    found: list[Any] = [d for d in documents if isinstance(d, dict) and d.get("kind") == names.KIND]
    if len(found) != 1:
        raise OperatorError(f"{path}: must hold exactly one {names.KIND}; got {len(found)}")
    return parse(found[0])
