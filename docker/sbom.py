"""Writes a software bill of materials, CycloneDX 1.6, of the image that it runs in.

Usage: sbom.py FILE. Lists every Debian package and every Python distribution that the running interpreter sees.
The result depends on nothing but those, so equal images have equal files.
"""

import json
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote


def debian() -> list[dict[str, Any]]:
    """Installed Debian packages; none where the image has no dpkg."""
    fields = "${Package}\t${Version}\t${Architecture}\t${db:Status-Abbrev}\n"
    out = subprocess.run(["dpkg-query", "--show", "--showformat", fields], capture_output=True, text=True, check=True)
    rows = [line.split("\t") for line in out.stdout.splitlines()]
    return [
        _component(name, version, f"pkg:deb/debian/{name}@{quote(version)}?arch={arch}")
        for name, version, arch, status in rows
        if status.startswith("ii")
    ]


def python() -> list[dict[str, Any]]:
    """Installed Python distributions with their licences, as they state them."""
    found = []
    for distribution in distributions():
        metadata = distribution.metadata
        name = metadata["Name"].lower().replace("_", "-")
        component = _component(name, distribution.version, f"pkg:pypi/{name}@{quote(distribution.version)}")
        if expression := metadata.get("License-Expression"):
            component["licenses"] = [{"expression": expression}]
        found.append(component)
    return found


def _component(name: str, version: str, purl: str) -> dict[str, Any]:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def main() -> None:
    """Writes the file, components sorted and each once."""
    components = {component["purl"]: component for component in [*debian(), *python()]}
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "components": [components[purl] for purl in sorted(components)],
    }
    file = Path(sys.argv[1])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(bom, indent=1) + "\n")
    print(f"{file}: {len(components)} components")


if __name__ == "__main__":
    main()
