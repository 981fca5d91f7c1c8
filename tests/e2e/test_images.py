"""The project's own images, built for real and run in the cluster."""

import json

import pytest

from e2e.kit import objects
from e2e.kit.cluster import Cluster
from e2e.kit.images import Built
from e2e.kit.waiting import eventually

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsGroup": 10001,  # the kubelet takes the user from the image, not its group
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def logs_of(namespace: Cluster, image: Built, command: list[str]) -> str:
    """Runs `command` in the image to its end, as the restricted Pod Security Standard wants it, and returns its log."""
    pod = objects.pod("once", restartPolicy="Never")
    pod["spec"]["containers"][0] |= {"image": image.reference, "command": command, "securityContext": RESTRICTED}
    namespace.apply(pod)
    eventually(lambda: namespace.get("pod", "once")["status"]["phase"] in ("Succeeded", "Failed"), within_s=90)
    log = namespace.kubectl("logs", "once")
    assert namespace.get("pod", "once")["status"]["phase"] == "Succeeded", log
    return log


@pytest.fixture(params=[0, 1], ids=["server", "operator"])
def image(request: pytest.FixtureRequest, server_image: Built, operator_image: Built) -> Built:
    """Each of the project's images in turn."""
    built: Built = (server_image, operator_image)[request.param]
    return built


def test_the_image_runs_restricted(namespace: Cluster, image: Built) -> None:
    script = (
        "import os, shutil; print(os.getuid(), os.getgid(), *(shutil.which(p) for p in ('g++', 'cc', 'nvcc', 'uv')))"
    )
    assert logs_of(namespace, image, ["python", "-c", script]).split() == ["10001", "10001", *["None"] * 4]


def test_the_image_lists_what_it_holds(namespace: Cluster, image: Built) -> None:
    name = image.reference.split("/")[1].split(":")[0]
    sbom = json.loads(logs_of(namespace, image, ["cat", f"/usr/share/sbom/{name}.cdx.json"]))
    purls = {component["purl"].split("@")[0] for component in sbom["components"]}
    own = {"glm-server": "pkg:pypi/glm-serving", "glm-operator": "pkg:pypi/glm-operator"}[name]
    assert {own, "pkg:deb/debian/libc6"} <= purls


def test_the_server_image_has_its_program_and_engine(namespace: Cluster, server_image: Built) -> None:
    script = "import glm_engine._core, glm_server, importlib.util as u; print(*map(u.find_spec, ('triton', 'icetk')))"
    assert logs_of(namespace, server_image, ["python", "-c", script]).split() == ["None", "None"]


def test_the_server_image_converts(namespace: Cluster, server_image: Built) -> None:
    script = (
        "cd /dev/shm && glm fake-checkpoint --preset glm-sample --layers 1 --tp 1 --seed 1 source &&"
        " glm convert --input-folder source --output-folder out --target-tp 2 --quantization-bit-width 4"
        " --model source/model.json --link artifact && glm verify artifact && ls artifact/"
    )
    log = logs_of(namespace, server_image, ["sh", "-euc", script])
    assert log.split()[-3:] == ["manifest.json", "rank_00.safetensors", "rank_01.safetensors"]
