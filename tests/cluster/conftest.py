"""One cluster for the whole story; the tests of a module follow each other, each leaves the cluster
as it found it.

KPM_CLUSTER_KEY_USAGE=1 gives the authority a keyUsage. KPM_CLUSTER_KEEP=1 keeps the logs' folder.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator

import pytest

from tests.apiserver.envtest import prepare
from tests.cluster import story
from tests.cluster.cluster import Cluster, new_folder


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Control plane and node, without the product; gone afterwards whatever happened, a signal to
    end included.
    """
    # pytest ends at this as at nothing else
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    made = Cluster(
        new_folder(), prepare(cluster=True), key_usage="KPM_CLUSTER_KEY_USAGE" in os.environ
    )
    try:
        made.start()
        yield made
    finally:
        made.stop()
        if "KPM_CLUSTER_KEEP" in os.environ:
            print(made.folder)
        else:
            made.remove()


@pytest.fixture(scope="session")
def baseline(cluster: Cluster) -> dict[str, bytes]:
    """The machine's files as they were before anything was installed."""
    return cluster.before


@pytest.fixture
def no_pods_left(cluster: Cluster) -> Iterator[None]:
    """A test that fails takes its pods along."""
    yield
    cluster.kubectl("delete", "pods", "--all", "-n", "default", "--wait=true", check=False)


@pytest.fixture
def installed(cluster: Cluster) -> Cluster:
    """The product as README installs it, with the shared pool set."""
    story.install(cluster)
    return cluster


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure tells what pods, agent and kubelet said."""
    report = yield
    made = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and made is not None and report.when == "call":
        report.sections.append(("cluster", made.say()))
    return report
