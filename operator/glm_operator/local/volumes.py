"""The pod's volumes as folders of this machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from glm_operator import names
from glm_operator.errors import LocalError

_LOCK: Final = ".lock"


def default_state() -> Path:
    """Where artifacts are kept between runs: they can be made again, so it is a cache."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "glm"


@contextmanager
def run_folder(state: Path, name: str) -> Iterator[Path]:
    """A folder that lives as long as this run; what runs that were killed have left is removed as well.

    Raises ``LocalError`` if the state folder cannot be written.
    """
    parent = state / "run"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(parent)
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
        lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise LocalError(f"--state {state}: cannot be written ({error.strerror}); give another folder") from error
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
        with contextlib.suppress(OSError):  # not empty: another run, or artifacts
            parent.rmdir()
            state.rmdir()


def _remove_stale(parent: Path) -> None:
    """Remove folders whose run has ended: the kernel drops a lock with its process, however that ended."""
    for folder in parent.iterdir():
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR)
        except OSError:
            continue  # being made by another run, or not ours
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # in use
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def map_volumes(
    volumes: list[dict[str, Any]],
    claims: Mapping[str, Path],
    config_maps: Mapping[str, Mapping[str, str]],
    state: Path,
    run: Path,
) -> dict[str, Path]:
    """Folder of each volume by name.

    claims : folders that stand for claims; config_maps : rendered ones by name; state : kept; run : of this run.
    Raises ``LocalError`` for a claim that is only read and has no folder, and for a folder that does not exist.
    """
    folders: dict[str, Path] = {}
    for volume in volumes:
        name = volume["name"]
        if (claim := volume.get("persistentVolumeClaim")) is not None:
            folders[name] = _claim(claim["claimName"], bool(claim.get("readOnly")), claims, state)
        elif (host := volume.get("hostPath")) is not None:
            folders[name] = Path(host["path"])
            if host["type"] == "DirectoryOrCreate":
                folders[name].mkdir(parents=True, exist_ok=True)
            _require(folders[name], f"hostPath {host['path']}")
        elif (secret := volume.get("secret")) is not None:
            folders[name] = run / name
            folders[name].mkdir(mode=0o700)
            _copy_secret(secret, claims, folders[name])
        else:
            folders[name] = run / name
            folders[name].mkdir()
            for file, text in config_maps.get(volume.get("configMap", {}).get("name"), {}).items():
                (folders[name] / file).write_text(text, encoding="utf-8")
    return folders


def _claim(name: str, read_only: bool, claims: Mapping[str, Path], state: Path) -> Path:
    if name in claims:
        _require(claims[name], f"claim {name}: {claims[name]}")
        return claims[name].resolve()
    if read_only:
        raise LocalError(
            f"claim {name}: no folder stands for it on this machine; give --volume {name}=FOLDER, "
            f"or name it in the annotation {names.ANNOTATION_LOCAL_VOLUMES}"
        )
    # Artifacts are found by their content's digest: one folder serves all resources.
    folder = state / "artifacts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _copy_secret(secret: Mapping[str, Any], claims: Mapping[str, Path], target: Path) -> None:
    """The chosen keys of a secret, from files of the same names in the folder that stands for it."""
    name = secret["secretName"]
    if name not in claims:
        raise LocalError(f"secret {name}: no folder stands for it on this machine; give --volume {name}=FOLDER")
    for item in secret["items"]:
        source = claims[name] / item["key"]
        if not source.is_file():
            raise LocalError(f"secret {name}: {source} is not a file; it stands for the secret's key {item['key']}")
        shutil.copyfile(source, target / item["path"])


def _require(folder: Path, what: str) -> None:
    if not folder.is_dir():
        raise LocalError(f"{what}: is not a folder on this machine")
