"""The operator on a real Kubernetes: the sample model answers, and what is broken by hand is mended."""

import json
import sys
import time
from collections.abc import Callable

import pytest

from e2e.kit import operating
from e2e.kit.cluster import Cluster
from e2e.kit.images import Built
from e2e.kit.models import ANSWER_WITHIN_S, folder, sample, sample_volumes, volume
from e2e.kit.operating import ask, reach, reason, status
from e2e.kit.waiting import eventually

QUESTION = "The capital of Norway is [MASK]."


@pytest.fixture
def team(system: Cluster, namespace: Cluster) -> Cluster:
    """A namespace in which only restricted pods may run, with the sample's volumes."""
    namespace.kubectl("label", "namespace", namespace.namespace, "pod-security.kubernetes.io/enforce=restricted")
    sample_volumes(namespace)
    return namespace


def glmctl(cluster: Cluster, *args: str) -> str:
    return cluster.command(sys.executable, "-m", "glm_operator", *args, "--namespace", cluster.namespace)


def test_the_sample_answers_through_its_service(
    team: Cluster, server_image: Built, note: Callable[[str], None]
) -> None:
    began = time.monotonic()
    team.apply(sample("demo", server_image))
    team.kubectl("wait", "glmd/demo", "--for=condition=Available", f"--timeout={ANSWER_WITHIN_S}s", timeout_s=90)
    answer = ask(team, "demo", QUESTION)
    note(f"applied to answered in {time.monotonic() - began:.1f} s: {answer!r}")
    assert time.monotonic() - began < ANSWER_WITHIN_S
    assert answer.strip()

    found = reach(team, "demo", "Ready")
    assert found["artifact"]["digest"]
    assert reason(found, "ArtifactReady") == "True Converted"
    assert reason(found, "Degraded") == "False AsExpected"

    assert "Ready: 1 pod answers" in glmctl(team, "status", "demo")
    assert glmctl(team, "prompt", "demo", QUESTION).strip() == answer
    assert "/artifacts/" in glmctl(team, "logs", "demo")
    assert glmctl(team, "top", "demo").splitlines()[1].split()[1:3] == ["0", "0"]


def test_at_rest_the_operator_asks_for_nothing(team: Cluster, system: Cluster, server_image: Built) -> None:
    team.apply(sample("demo", server_image))
    reach(team, "demo", "Ready")
    time.sleep(6)  # the last look at a log
    before = operating.requests(system)
    time.sleep(10)
    assert operating.requests(system) == before


@pytest.mark.parametrize("kind", ["serviceaccount", "networkpolicy", "service", "pdb", "deployment"])
def test_what_is_deleted_by_hand_comes_back(team: Cluster, server_image: Built, kind: str) -> None:
    team.apply(sample("demo", server_image))
    before = eventually(lambda: team.get(kind, "demo")["metadata"]["uid"], within_s=20)
    team.kubectl("delete", kind, "demo", "--wait=false")
    eventually(lambda: team.get(kind, "demo")["metadata"]["uid"] != before, within_s=20)


def test_a_field_edited_by_hand_is_repaired_and_told(team: Cluster, server_image: Built) -> None:
    team.apply(sample("demo", server_image))
    eventually(lambda: team.get("service", "demo"), within_s=20)
    team.kubectl("patch", "service", "demo", "--type=merge", "-p", '{"spec":{"selector":{"wrong":"yes"}}}')
    team.kubectl("patch", "pdb", "demo", "--type=merge", "-p", '{"spec":{"maxUnavailable":7}}')
    eventually(lambda: team.get("pdb", "demo")["spec"]["maxUnavailable"] == 1, within_s=20)
    assert "differs in spec.maxUnavailable" in team.kubectl("get", "events")


def test_another_precision_is_converted_while_the_old_pods_serve(team: Cluster, server_image: Built) -> None:
    team.apply(sample("demo", server_image))
    first = reach(team, "demo", "Ready")["artifact"]["digest"]
    answers = 0
    team.kubectl("patch", "glmd", "demo", "--type=merge", "-p", '{"spec":{"precision":"fp16"}}')
    jobs = set()
    end = time.monotonic() + 90
    while time.monotonic() < end:
        assert ask(team, "demo", QUESTION).strip(), "the service must never be away"
        answers += 1
        jobs |= {job["metadata"]["name"] for job in team.get("jobs")["items"]}
        found = team.get("glmd", "demo")
        now = found["status"]
        if now["observedGeneration"] == found["metadata"]["generation"] and now["phase"] == "Ready":
            break
    assert now["phase"] == "Ready", now["message"]
    assert now["artifact"]["digest"] != first
    assert len(jobs) == 1
    assert answers > 3
    eventually(lambda: not team.get("jobs")["items"], within_s=20)


def test_two_resources_share_an_artifact_and_one_goes(team: Cluster, server_image: Built) -> None:
    team.apply(sample("one", server_image), sample("two", server_image))
    digests = {reach(team, name, "Ready")["artifact"]["digest"] for name in ("one", "two")}
    assert len(digests) == 1
    team.kubectl("delete", "glmd", "one", "--timeout=20s")
    eventually(lambda: "deployment.apps/one" not in team.kubectl("get", "deployments", "-o", "name"), within_s=30)
    assert ask(team, "two", QUESTION).strip()


def test_a_resource_is_deleted_while_the_operator_is_away(team: Cluster, system: Cluster, server_image: Built) -> None:
    team.apply(sample("demo", server_image))
    reach(team, "demo", "Ready")
    operating.pause(system)
    try:
        team.kubectl("delete", "glmd", "demo", "--timeout=20s")
        eventually(
            lambda: (
                not json.loads(
                    team.kubectl("get", "deploy,svc,sa,pdb", "-o", "json", "-l", "app.kubernetes.io/instance=demo")
                )["items"]
            ),
            within_s=40,
        )
    finally:
        operating.resume(system)


def test_the_operator_killed_at_work_finishes_it(team: Cluster, system: Cluster, server_image: Built) -> None:
    team.apply(*(sample(f"demo-{i}", server_image, replicas=0) for i in range(10)))
    system.kubectl("delete", "pod", "--all", "--grace-period=0", "--force")
    system.kubectl("rollout", "status", "deployment/glm-operator", "--timeout=60s")
    for i in range(10):
        reach(team, f"demo-{i}", "Ready", within_s=30)
        assert (
            len(
                json.loads(
                    team.kubectl(
                        "get",
                        "deploy,svc,sa,pdb,networkpolicy",
                        "-o",
                        "json",
                        "-l",
                        f"app.kubernetes.io/instance=demo-{i}",
                    )
                )["items"]
            )
            == 6
        )


def test_an_upgrade_moves_no_pod(team: Cluster, system: Cluster, operator_image: Built, server_image: Built) -> None:
    team.apply(sample("demo", server_image))
    reach(team, "demo", "Ready")
    before = [pod["metadata"]["uid"] for pod in team.get("pods")["items"]]
    # What a new release would bring: another default image of the server, other settings.
    operating.upgrade(system, operator_image, "--set", "serverImage.tag=other", "--set", "threads=2")
    time.sleep(5)
    reach(team, "demo", "Ready")
    assert [pod["metadata"]["uid"] for pod in team.get("pods")["items"]] == before
    assert system.helm("test", operating.RELEASE)


def test_an_empty_checkpoint_is_told(team: Cluster, server_image: Built) -> None:
    team.apply(*volume(team, "empty", folder(team, "empty")))
    team.apply(sample("demo", server_image, checkpoint={"claim": "empty"}))
    found = reach(team, "demo", "Failed")
    assert reason(found, "Degraded") == "True ConversionFailed"
    assert "latest" in found["message"]


def test_a_missing_claim_is_told(team: Cluster, server_image: Built) -> None:
    team.apply(sample("demo", server_image, checkpoint={"claim": "nowhere"}))
    found = eventually(
        lambda: reason(status(team, "demo"), "Degraded") == "True Unschedulable" and status(team, "demo"), within_s=30
    )
    assert '"nowhere" not found' in found["message"]


def test_a_missing_image_is_told(team: Cluster) -> None:
    team.apply(sample("demo", "localhost/no-such-image:1"))
    found = reach(team, "demo", "Failed")
    assert reason(found, "Degraded") == "True ImagePullFailed"


def test_an_exceeded_quota_is_told_and_its_end_is_seen(team: Cluster, server_image: Built) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    team.apply(quota)
    team.apply(sample("demo", server_image))
    eventually(lambda: reason(status(team, "demo"), "Degraded") == "True QuotaExceeded", within_s=30)
    team.kubectl("delete", "resourcequota", "none")
    team.kubectl("rollout", "restart", "deployment/demo")  # instead of the controller's back-off of minutes
    reach(team, "demo", "Ready", within_s=90)


def test_the_api_server_goes_and_comes_back(team: Cluster, system: Cluster, server_image: Built) -> None:
    team.apply(sample("demo", server_image, replicas=0))
    reach(team, "demo", "Ready")
    team.daemon("stop", "kube-apiserver")
    try:
        time.sleep(65)  # longer than kopf would try by itself
    finally:
        team.daemon("start", "kube-apiserver")
    eventually(lambda: team.kubectl("get", "--raw", "/readyz") == "ok", within_s=30)
    team.kubectl("delete", "service", "demo")
    eventually(lambda: team.get("service", "demo"), within_s=60)
    restarts = [c["restartCount"] for p in system.get("pods")["items"] for c in p["status"]["containerStatuses"]]
    assert restarts == [0]
