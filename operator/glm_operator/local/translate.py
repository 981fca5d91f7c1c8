"""A container's command and environment, with the folders of this machine in place of its mount paths."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def translate(text: str, mounts: Mapping[str, Path]) -> str:
    """``text`` with a leading mount path replaced, also behind the ``=`` of ``--option=PATH``."""
    option, equals, value = text.partition("=")
    if equals and option.startswith("--"):
        return f"{option}={translate(value, mounts)}"
    for mount in sorted(mounts, key=len, reverse=True):  # the longest first: mounts may lie in mounts
        if text == mount or text.startswith(f"{mount}/"):
            return f"{mounts[mount]}{text[len(mount) :]}"
    return text


def mounts_of(container: Mapping[str, Any], folders: Mapping[str, Path]) -> dict[str, Path]:
    """Folder of each mount path of a container."""
    return {mount["mountPath"]: folders[mount["name"]] for mount in container["volumeMounts"]}


def command_of(container: Mapping[str, Any], mounts: Mapping[str, Path]) -> list[str]:
    """The command line on this machine."""
    return [translate(word, mounts) for word in [*container["command"], *container.get("args", [])]]


def environment_of(container: Mapping[str, Any], mounts: Mapping[str, Path], programs: Path | None) -> dict[str, str]:
    """The environment on this machine: ours without `GLM_...` (a container does not see it either), then its own.

    programs : folder with the programs that the image would bring; without it, the folder of this Python.
    """
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("GLM_")}
    first = programs if programs is not None else Path(sys.executable).parent
    inherited["PATH"] = os.pathsep.join(filter(None, (str(first), inherited.get("PATH", os.defpath))))
    inherited["PYTHONUNBUFFERED"] = "1"
    return inherited | {item["name"]: translate(item["value"], mounts) for item in container["env"]}
