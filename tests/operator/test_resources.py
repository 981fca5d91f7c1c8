"""The rendered objects: golden files, and what must hold for any of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from glm_operator import names
from glm_operator.commands.text import to_yaml
from glm_operator.document import load
from glm_operator.model import parse
from glm_operator.resources import Settings, render
from operator_builders import document

GOLDEN = Path(__file__).parent / "golden"
SAMPLES = Path(__file__).parents[2] / "manifests/samples"
INPUTS = {path.name.removesuffix(".in.yaml"): path for path in sorted(GOLDEN.glob("*.in.yaml"))}
INPUTS |= {path.stem: path for path in sorted(SAMPLES.glob("*.yaml"))}


@pytest.mark.parametrize("name", INPUTS)
def test_golden(name: str) -> None:
    """`GLM_UPDATE_GOLDEN=1` writes the files anew: read the difference before you commit it."""
    golden = GOLDEN / f"{name}.yaml"
    text = to_yaml(render(load(str(INPUTS[name])), Settings()))
    if os.environ.get("GLM_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert golden.read_text(encoding="utf-8") == text


@pytest.fixture(params=INPUTS)
def rendered(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return render(load(str(INPUTS[request.param])), Settings())


def pod_of(objects: list[dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = objects[-1]["spec"]["template"]["spec"]
    return spec


def test_pods_pass_the_restricted_pod_security_standard(rendered: list[dict[str, Any]]) -> None:
    """But for hostPath, which the operator allows only where it is told to."""
    pod = pod_of(rendered)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
    for container in pod["initContainers"] + pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True
    assert {next(iter(v.keys() - {"name"})) for v in pod["volumes"]} <= {
        "persistentVolumeClaim",
        "emptyDir",
        "configMap",
        "secret",
        "hostPath",
    }


def test_mounts_have_volumes_and_volumes_have_mounts(rendered: list[dict[str, Any]]) -> None:
    pod = pod_of(rendered)
    mounted = {m["name"] for c in pod["initContainers"] + pod["containers"] for m in c["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_all_belong_to_the_resource(rendered: list[dict[str, Any]]) -> None:
    name = rendered[-1]["metadata"]["name"]
    for item in rendered:
        assert item["metadata"]["labels"] == names.labels(name)
    template = rendered[-1]["spec"]["template"]["metadata"]["labels"]
    assert names.selector(name).items() <= template.items()
    assert len({(item["kind"], item["metadata"]["name"]) for item in rendered}) == len(rendered)


def spoil(value: Any) -> None:
    """Change everything that can be changed."""
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        spoil(item)
    if isinstance(value, dict):
        value["spoiled"] = True
    elif isinstance(value, list):
        value.append("spoiled")


@pytest.mark.parametrize("name", INPUTS)
def test_what_was_rendered_shares_nothing(name: str) -> None:
    deployment = load(str(INPUTS[name]))
    before = to_yaml(render(deployment, Settings()))
    spoil(render(deployment, Settings()))
    assert to_yaml(render(deployment, Settings())) == before


@pytest.mark.parametrize(
    ("spec", "bits"),
    [
        pytest.param({"precision": "fp16"}, None, id="fp16"),
        pytest.param({"precision": "int8"}, "8", id="int8"),
        pytest.param({"precision": "int4"}, "4", id="int4"),
        pytest.param(
            {"precision": "int4", "checkpoint": {"claim": "a", "precision": "int4", "tensorParallelSize": 8}},
            None,
            id="already int4",
        ),
    ],
)
def test_quantization_is_asked_for_once(spec: dict[str, Any], bits: str | None) -> None:
    command = pod_of(render(parse(document(**spec)), Settings()))["initContainers"][0]["command"]
    option = "--quantization-bit-width"
    assert (command[command.index(option) + 1] if option in command else None) == bits


def test_scaling_changes_no_pod() -> None:
    one, two = (render(parse(document(replicas=n)), Settings())[-1]["spec"] for n in (1, 2))
    assert one["template"] == two["template"]
    assert (one["replicas"], two["replicas"]) == (1, 2)


def test_a_small_limit_lowers_the_computed_request() -> None:
    limits = {"cpu": 2, "memory": "1Gi"}
    spec = render(parse(document(pod={"resources": {"limits": limits}})), Settings())[-1]["spec"]["template"]["spec"]
    resources = spec["containers"][0]["resources"]
    assert resources["requests"] == {"cpu": "2", "memory": "1Gi"}
    assert limits.items() <= resources["limits"].items()
