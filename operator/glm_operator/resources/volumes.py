"""The pod's volumes: which there are, and where each container finds them."""

from __future__ import annotations

import posixpath
from typing import Any

from glm_operator import names
from glm_operator.model import GLMDeployment


def volumes(deployment: GLMDeployment) -> list[dict[str, Any]]:
    """The volumes of the pod template."""
    spec = deployment.spec
    cache = spec.artifact_cache
    claim = cache.claim or names.artifact_claim(deployment.name)
    result = [
        _volume("checkpoint", spec.checkpoint.claim, spec.checkpoint.host_path, read_only=True),
        _volume("artifacts", None if cache.host_path else claim, cache.host_path, read_only=False),
        {"name": "run", "emptyDir": {"sizeLimit": "64Mi"}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
    ]
    if own_tokenizer(deployment):
        result.append(_volume("tokenizer", spec.tokenizer.claim, spec.tokenizer.host_path, read_only=True))
    if spec.model.dimensions is not None:
        result.append({"name": "config", "configMap": {"name": names.model_config_map(deployment.name)}})
    if spec.auth is not None:
        items = [{"key": spec.auth.key, "path": names.KEYS_FILE}]
        # Read by the group of the pod only.
        result.append(
            {"name": "auth", "secret": {"secretName": spec.auth.secret, "items": items, "defaultMode": 0o440}}
        )
    if spec.backend == "cuda":
        # NCCL keeps its rings in /dev/shm; the container runtime's default of 64 MiB makes it fail.
        result.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}})
    return result


def convert_mounts(deployment: GLMDeployment) -> list[dict[str, Any]]:
    """Mounts of the converting container."""
    mounts: list[dict[str, Any]] = [
        {"name": "checkpoint", "mountPath": names.PATH_CHECKPOINT, "readOnly": True},
        {"name": "artifacts", "mountPath": names.PATH_ARTIFACTS},
        {"name": "run", "mountPath": names.PATH_RUN},
        {"name": "tmp", "mountPath": names.PATH_TMP},
    ]
    if deployment.spec.model.dimensions is not None:
        mounts.append({"name": "config", "mountPath": names.PATH_CONFIG, "readOnly": True})
    return mounts


def serve_mounts(deployment: GLMDeployment) -> list[dict[str, Any]]:
    """Mounts of the serving container."""
    mounts: list[dict[str, Any]] = [
        {"name": "artifacts", "mountPath": names.PATH_ARTIFACTS, "readOnly": True},
        {"name": "run", "mountPath": names.PATH_RUN, "readOnly": True},
        {"name": "tmp", "mountPath": names.PATH_TMP},
    ]
    if own_tokenizer(deployment):
        mounts.append({"name": "tokenizer", "mountPath": names.PATH_TOKENIZER, "readOnly": True})
    else:
        mounts.append({"name": "checkpoint", "mountPath": names.PATH_CHECKPOINT, "readOnly": True})
    if deployment.spec.auth is not None:
        mounts.append({"name": "auth", "mountPath": names.PATH_AUTH, "readOnly": True})
    if deployment.spec.backend == "cuda":
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108 -- a mount in the container
    return mounts


def checkpoint_path(deployment: GLMDeployment) -> str:
    """The checkpoint's folder as the containers see it."""
    return posixpath.normpath(posixpath.join(names.PATH_CHECKPOINT, deployment.spec.checkpoint.path))


def tokenizer_path(deployment: GLMDeployment) -> str:
    """The tokenizer's file as the serving container sees it."""
    volume = names.PATH_TOKENIZER if own_tokenizer(deployment) else names.PATH_CHECKPOINT
    return posixpath.normpath(posixpath.join(volume, deployment.spec.tokenizer.path))


def own_tokenizer(deployment: GLMDeployment) -> bool:
    """Whether the tokenizer has a volume of its own."""
    tokenizer = deployment.spec.tokenizer
    return tokenizer.claim is not None or tokenizer.host_path is not None


def _volume(name: str, claim: str | None, host_path: str | None, *, read_only: bool) -> dict[str, Any]:
    if host_path is not None:
        # Only the artifact cache may be made: a missing checkpoint must be an error, not an empty folder.
        return {
            "name": name,
            "hostPath": {"path": host_path, "type": "Directory" if read_only else "DirectoryOrCreate"},
        }
    source: dict[str, Any] = {"claimName": claim}
    if read_only:
        source["readOnly"] = True
    return {"name": name, "persistentVolumeClaim": source}
