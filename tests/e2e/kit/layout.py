"""An OCI image layout on disk: which images it holds, which blobs those need, and forgetting old ones.

See https://github.com/opencontainers/image-spec/blob/main/image-layout.md. Tools add to such a folder; none of those
that the cluster needs anyway takes an image out again.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TAG = "org.opencontainers.image.ref.name"


def index(layout: Path) -> dict[str, Any]:
    """The layout's index.json with its tagged manifests; without any where there is no layout yet."""
    file = layout / "index.json"
    content: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"schemaVersion": 2, "manifests": []}
    content["manifests"] = [entry for entry in content["manifests"] if TAG in entry.get("annotations", {})]
    return content


def tags(layout: Path) -> list[str]:
    """Tags of the images, oldest first."""
    return [manifest["annotations"][TAG] for manifest in index(layout)["manifests"]]


def blobs_of(layout: Path, manifest: dict[str, Any]) -> list[str]:
    """Digests (`sha256:...`) of an image's manifest, configuration and layers, given its entry in the index."""
    content = json.loads(blob(layout, manifest["digest"]).read_bytes())
    return [manifest["digest"], content["config"]["digest"], *(layer["digest"] for layer in content["layers"])]


def blob(layout: Path, digest: str) -> Path:
    """Where a blob lies."""
    return layout / "blobs" / digest.replace(":", "/")


def keep_newest(layout: Path, count: int) -> None:
    """Forgets all but the newest `count` images, and removes the blobs that none of those needs."""
    content = index(layout)
    content["manifests"] = content["manifests"][-count:]
    (layout / "index.json").write_text(json.dumps(content))
    needed = _union(blobs_of(layout, manifest) for manifest in content["manifests"])
    for file in (layout / "blobs/sha256").iterdir():
        if f"sha256:{file.name}" not in needed:
            file.unlink()


def _union(digests: Iterable[list[str]]) -> set[str]:
    return {digest for some in digests for digest in some}
