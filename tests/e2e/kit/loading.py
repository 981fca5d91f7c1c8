"""Puts an image from an OCI layout into the cluster's containerd, moving only the blobs that it lacks."""

import io
import json
import subprocess
import tarfile
from pathlib import Path

from e2e.kit.cluster import SCRIPTS, Cluster, scripts_env
from e2e.kit.layout import TAG, blob, blobs_of, index

NAME = "io.containerd.image.name"


def load(layout: Path, tag: str, cluster: Cluster) -> None:
    """Makes `localhost/<layout's name>:<tag>` known to the node.

    Raises StopIteration where the layout has no such tag, CalledProcessError where containerd refuses.
    """
    reference = f"localhost/{layout.name}:{tag}"
    if reference in _ctr(cluster, "images", "list", "--quiet").split():
        return  # a tag always means the same content
    content = index(layout)
    manifest = next(entry for entry in content["manifests"] if entry["annotations"][TAG] == tag)
    manifest["annotations"] = {NAME: reference}
    content["manifests"] = [manifest]
    present = set(_ctr(cluster, "content", "list", "--quiet").split())
    command = _command("images", "import", "-")
    with subprocess.Popen(
        command, env=scripts_env(cluster.run), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as importing:
        assert importing.stdin is not None
        with tarfile.open(fileobj=importing.stdin, mode="w|") as tar:
            for digest in blobs_of(layout, manifest):
                if digest not in present:
                    tar.add(blob(layout, digest), arcname=f"blobs/{digest.replace(':', '/')}")
            _add(tar, "oci-layout", (layout / "oci-layout").read_bytes())
            _add(tar, "index.json", json.dumps(content).encode())
    if importing.returncode != 0:
        raise subprocess.CalledProcessError(importing.returncode, command)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _command(*args: str) -> list[str]:
    return ["bash", "-euc", f'. {SCRIPTS}/env.sh; ctr "$@"', "ctr", *args]


def _ctr(cluster: Cluster, *args: str) -> str:
    env = scripts_env(cluster.run)
    return subprocess.run(_command(*args), env=env, check=True, capture_output=True, text=True).stdout
