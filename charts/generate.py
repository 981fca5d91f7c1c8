"""Writes what is generated from the chart: manifests/install.yaml, by Helm, and the table of values in its README.

Helm is the one on the PATH, or else the one that the end-to-end tests built (tests/e2e/cluster/build.sh).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
CHART: Final = ROOT / "charts/glm-operator"
INSTALL: Final = ROOT / "manifests/install.yaml"
README: Final = CHART / "README.md"
NAMESPACE: Final = "glm-system"

_HEAD: Final = f"""\
# The operator with the chart's default values: generated from charts/glm-operator by `make manifests`.
#   kubectl apply --server-side -f manifests/install.yaml
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels:
    pod-security.kubernetes.io/enforce: restricted
"""
_README: Final = """\
# glm-operator

Installs the operator of `GLMDeployment` resources, and their CustomResourceDefinition.

```sh
helm install glm-operator charts/glm-operator --namespace glm-system --create-namespace
helm upgrade glm-operator charts/glm-operator --namespace glm-system   # upgrades the CustomResourceDefinition as well
helm test glm-operator --namespace glm-system
```

An upgrade moves no pod of a model: they are rendered anew only when their resource changes, or its annotation
`serving.glm.io/revision`. Uninstalling keeps the CustomResourceDefinition, and so every resource and what it runs.

## Values

Generated from `values.yaml`.

| Value | Default | Meaning |
| --- | --- | --- |
"""


def helm() -> str | None:
    """Path of Helm, or None where there is none."""
    if found := shutil.which("helm"):
        return found
    env = ROOT / "tests/e2e/cluster/env.sh"
    script = f". {env}; command -v helm || true"
    found = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    return found or None


def install(program: str) -> str:
    """The text of manifests/install.yaml."""
    command = [program, "template", "glm-operator", str(CHART), "--namespace", NAMESPACE, "--no-hooks"]
    rendered = subprocess.run([*command, "--kube-version", "1.37.0"], capture_output=True, text=True, check=True).stdout
    return _HEAD + rendered


def readme() -> str:
    """The text of the chart's README.md."""
    rows = []
    path: list[str] = []
    meaning = ""
    for line in (CHART / "values.yaml").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"^\s*# -- (.*)$", line):
            meaning = match[1]
        elif match := re.match(r"^(\s*)([A-Za-z]+):\s*(.*)$", line):
            path = [*path[: len(match[1]) // 2], match[2]]
            if meaning:
                default = match[3] or "see values.yaml"
                rows.append(f"| `{'.'.join(path)}` | `{default}` | {meaning} |")
            meaning = ""
    return _README + "\n".join(rows) + "\n"


def main() -> None:
    """Write both; without Helm say so and fail."""
    README.write_text(readme(), encoding="utf-8")
    if (program := helm()) is None:
        sys.exit("manifests/install.yaml needs helm; tests/e2e/cluster/build.sh builds it")
    INSTALL.write_text(install(program), encoding="utf-8")


if __name__ == "__main__":
    main()
