"""Fixtures of the end-to-end tests: one real cluster for the whole run, a namespace for each test.

Fixtures and tests that use `network` (all that use `namespace`) run inside the cluster's network.
"""

import itertools
import re
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.kit import images, operating, prerequisites
from e2e.kit.cluster import SCRIPTS, Cluster, Paths, scripts_env
from e2e.kit.lifetime import shared_cluster
from e2e.kit.loading import load
from e2e.kit.network import network_of
from e2e.kit.report import collect

HERE = Path(__file__).parent
TEST_TIMEOUT_S = 300
COUNTER = itertools.count(1)
NAMESPACE = pytest.StashKey[Cluster]()


@pytest.hookimpl(tryfirst=True)  # before xdist reads the group
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks everything below this folder: one worker for all, and no time limit on what fixtures build."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.xdist_group("e2e"))
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_S, func_only=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds pods, events and logs of the test's namespace to the report of a failure, while they still exist."""
    report = yield
    if report.failed and report.when != "teardown" and NAMESPACE in item.stash:
        cluster = item.stash[NAMESPACE]
        report.sections.append((f"namespace {cluster.namespace}", collect(cluster)))
    return report


@pytest.fixture(scope="session")
def note(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Says at once, past pytest's capturing, what takes long or changes the machine."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"e2e: {text}", file=sys.stderr, flush=True)

    return say


@pytest.fixture(scope="session")
def machine(note: Callable[[str], None], testrun_uid: str) -> str:
    """Makes this machine fit for the cluster, or skips with the reason. Returns the name of this run's cluster."""
    if reason := prerequisites.why_not():
        pytest.skip(reason)
    if missing := prerequisites.missing_packages():
        note(f"installing {' '.join(missing)} by apt-get")
        prerequisites.install_missing()
    run = testrun_uid[:8]
    if not Paths.of(run).bin.exists():
        note("building Kubernetes from its Go modules; once, 6 to 10 minutes")
    done = subprocess.run([SCRIPTS / "build.sh"], env=scripts_env(run), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return run


@pytest.fixture(scope="session")
def cluster(machine: str, note: Callable[[str], None]) -> Iterator[Cluster]:
    """The cluster of this test run; tests want `namespace`."""
    with shared_cluster(machine, note) as started:
        yield started


def _image(image: images.Image, cluster: Cluster, note: Callable[[str], None]) -> images.Built:
    with images.alone(cluster.run):
        built = images.build(image, cluster.run, note)
        load(built.layout, built.tag, cluster)
    return built


@pytest.fixture(scope="session")
def server_image(cluster: Cluster, note: Callable[[str], None]) -> images.Built:
    """The CPU serving image of this checkout, known to the node."""
    return _image(images.SERVER, cluster, note)


@pytest.fixture(scope="session")
def operator_image(cluster: Cluster, note: Callable[[str], None]) -> images.Built:
    """The operator's image of this checkout, known to the node."""
    return _image(images.OPERATOR, cluster, note)


@pytest.fixture(scope="session")
def system(cluster: Cluster, operator_image: images.Built) -> Iterator[Cluster]:
    """The operator, installed by the chart; the handle is on its namespace."""
    with network_of(cluster.pid):
        own = operating.install(cluster, operator_image)
    yield own
    with network_of(cluster.pid):
        own.helm("uninstall", operating.RELEASE)
        own.kubectl("delete", "namespace", own.namespace, "--wait=false")


@pytest.fixture
def network(cluster: Cluster) -> Iterator[None]:
    """Inside, this thread and the programs it starts reach the API server, Services and pods."""
    with network_of(cluster.pid):
        yield


@pytest.fixture
def namespace(cluster: Cluster, network: None, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The cluster, with an empty namespace of the test's own, which is deleted after it."""
    title = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:50].strip("-")
    name = f"{title}-{next(COUNTER)}"  # a repeated test must not wait until its namespace is gone
    own = replace(cluster, namespace=name)
    own.kubectl("create", "namespace", name)
    request.node.stash[NAMESPACE] = own
    yield own
    own.kubectl("delete", "namespace", name, "--wait=false")
