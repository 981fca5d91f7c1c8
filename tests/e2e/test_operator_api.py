"""The CRD and the rendered objects, judged by a real API server."""

import json
from typing import Any

import pytest

from e2e.kit.cluster import Cluster
from e2e.kit.images import ROOT
from glm_operator.errors import SpecError
from glm_operator.model import parse
from glm_operator.resources import Settings, render
from glm_operator.resources.artifact import convert_job
from operator_builders import VALUES, document

SPECS = [{field: value} for field, values in VALUES.items() for value in values]


@pytest.fixture
def team(system: Cluster, namespace: Cluster) -> Cluster:
    """A namespace in which only restricted pods may run."""
    namespace.kubectl("label", "namespace", namespace.namespace, "pod-security.kubernetes.io/enforce=restricted")
    return namespace


def variant(number: int, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    made = document(**spec)
    made["metadata"] = {"name": f"v{number}", "namespace": namespace}
    return made


def dry_run(team: Cluster, document: dict[str, Any]) -> str:
    """What the API server says against it; nothing if it takes it."""
    try:
        team.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(document))
    except AssertionError as refused:
        return str(refused)
    return ""


def test_the_server_and_glmctl_accept_the_same(team: Cluster) -> None:
    """Every value of the table, one at a time; `glmctl` says before what the server would say."""
    different = []
    for number, spec in enumerate(SPECS):
        made = variant(number, team.namespace, spec)
        try:
            parse(made)
            valid = True
        except SpecError:
            valid = False
        said = dry_run(team, made)
        if valid == bool(said):
            different.append((spec, valid, said))
    assert different == []


def test_whatever_the_crd_accepts_renders_what_the_server_accepts(team: Cluster) -> None:
    objects: list[dict[str, Any]] = []
    for number, spec in enumerate(SPECS):
        try:
            deployment = parse(variant(number, team.namespace, spec))
        except SpecError:
            continue
        rendered = render(deployment, Settings())
        objects += [*rendered, convert_job(deployment, rendered[-1]["spec"]["template"])]
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    out = team.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=manifest, timeout_s=240)
    assert len(out.splitlines()) == len(objects)
    assert len(objects) > 200


def test_messages_of_rules_say_what_would_work(team: Cluster) -> None:
    said = dry_run(team, variant(0, team.namespace, {"tensorParallelSize": 7}))
    assert "degrees that work: glm-130b: 1, 2, 4, 8, 16" in said
    said = dry_run(team, variant(0, team.namespace, {"limits": {"maxSequenceLength": 2049}}))
    assert "leave it out for the longest" in said


def test_every_field_is_explained(team: Cluster) -> None:
    text = team.kubectl("explain", "glmdeployment.spec", "--recursive=false")
    assert "<no description>" not in text
    assert "tensorParallelSize" in text


def test_install_yaml_is_accepted(team: Cluster) -> None:
    """Into the namespace that the chart has been installed in."""
    file = str(ROOT / "manifests/install.yaml")
    out = team.command("kubectl", "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", file)
    assert "customresourcedefinition.apiextensions.k8s.io/glmdeployments.serving.glm.io" in out
