"""The chart: what is generated from it is current, values are checked, every pod is restricted."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from glm_operator import names

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts/glm-operator"
_spec = importlib.util.spec_from_file_location("charts_generate", ROOT / "charts/generate.py")
assert _spec is not None
assert _spec.loader is not None
generate = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generate)

INSTALL = [d for d in yaml.safe_load_all((ROOT / "manifests/install.yaml").read_text(encoding="utf-8")) if d]
VALUES = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def helm() -> str:
    found: str | None = generate.helm()
    if found is None:
        pytest.skip("no helm; tests/e2e/cluster/build.sh builds it")
    return found


def template(helm: str, *values: str) -> list[dict[str, Any]]:
    command = [helm, "template", "glm-operator", str(CHART), "--namespace", "s"]
    for value in values:
        command += ["--set", value]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [document for document in yaml.safe_load_all(out) if document]


def of_kind(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in documents if document["kind"] == kind]


def test_install_yaml_is_current(helm: str) -> None:
    assert (ROOT / "manifests/install.yaml").read_text(encoding="utf-8") == generate.install(helm), "make manifests"


def test_the_readme_is_current() -> None:
    assert (CHART / "README.md").read_text(encoding="utf-8") == generate.readme(), "make manifests"


def test_helm_lints_it(helm: str) -> None:
    subprocess.run([helm, "lint", "--strict", str(CHART)], capture_output=True, check=True)


def test_every_value_is_known_to_the_schema_and_no_other() -> None:
    jsonschema.validate(VALUES, SCHEMA)
    assert set(VALUES) == set(SCHEMA["properties"]) - {"global"}
    for path in ({"imgae": {}}, {"image": {"tga": "1"}}, {"image": {"digest": "sha256:1"}}, {"threads": 0}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(VALUES | path, SCHEMA)


def test_every_pod_is_restricted(helm: str) -> None:
    documents = template(helm)
    specs = [d["spec"]["template"]["spec"] for d in of_kind(documents, "Deployment")]
    specs += [d["spec"] for d in of_kind(documents, "Pod")]
    assert len(specs) == 2
    for spec in specs:
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def rules() -> list[dict[str, Any]]:
    (role,) = (d for d in of_kind(INSTALL, "ClusterRole") if d["metadata"]["name"] == "glm-operator")
    found: list[dict[str, Any]] = role["rules"]
    return found


def test_the_role_is_least() -> None:
    granted = {(resource, verb) for rule in rules() for resource in rule["resources"] for verb in rule["verbs"]}
    assert not any("*" in pair for pair in granted)
    forbidden = {"secrets", "nodes", "pods/exec", "namespaces", "serviceaccounts/token"}
    assert not forbidden & {resource for resource, _ in granted}
    assert {verb for resource, verb in granted if resource == "pods"} == {"list", "watch"}
    children = {plural for _, plural in names.CHILD_KINDS.values()}
    written = {resource for resource, verb in granted if verb in ("create", "delete")}
    assert written == children | {"events"}


def test_namespaced_mode_has_no_cluster_wide_rights(helm: str) -> None:
    documents = template(helm, "watchNamespaces={a,b}")
    assert [d["metadata"]["namespace"] for d in of_kind(documents, "Role")] == ["a", "b"]
    assert all("glm-operator-" in d["metadata"]["name"] for d in of_kind(documents, "ClusterRole")), "only aggregated"
    assert of_kind(documents, "ClusterRoleBinding") == []
    (operator,) = of_kind(documents, "Deployment")
    assert operator["spec"]["template"]["spec"]["containers"][0]["args"][-2:] == ["--namespace=a", "--namespace=b"]


def test_digests_go_before_tags_and_extras_are_passed_on(helm: str) -> None:
    digest = "sha256:" + "0" * 64
    documents = template(
        helm, f"image.digest={digest}", "extraLabels.team=x", "extraEnv[0].name=A", "extraEnv[0].value=b"
    )
    (operator,) = of_kind(documents, "Deployment")
    container = operator["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == f"glm-operator@{digest}"
    assert container["env"] == [{"name": "A", "value": "b"}]
    assert operator["metadata"]["labels"]["team"] == "x"


def test_the_crd_is_kept_on_uninstall_and_can_be_left_out(helm: str) -> None:
    (crd,) = of_kind(template(helm), "CustomResourceDefinition")
    assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert of_kind(template(helm, "crds.enabled=false"), "CustomResourceDefinition") == []


def test_one_operator_at_a_time() -> None:
    (operator,) = of_kind(INSTALL, "Deployment")
    assert operator["spec"]["replicas"] == 1
    assert operator["spec"]["strategy"] == {"type": "Recreate"}
