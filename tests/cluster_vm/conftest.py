"""One cluster for the whole story of a driver.

KPM_CLUSTER_KEEP=1 keeps the logs' folder.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import vm_cluster
from cluster import new_folder
from envtest import prepare

DRIVERS = ("amd-pstate-epp", "acpi-cpufreq")


@pytest.fixture(scope="module", params=DRIVERS)
def cluster(request: pytest.FixtureRequest) -> Iterator[vm_cluster.VmCluster]:
    """Control plane and booting machine, without the product; gone afterwards whatever happened, a signal to end included."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # pytest ends at this as at nothing else
    with vm_cluster.running(new_folder(), prepare(cluster=True), request.param, keep="KPM_CLUSTER_KEEP" in os.environ) as made:
        yield made


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failure tells what pods, agent, helper and node said."""
    outcome = yield
    report = outcome.get_result()
    made = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and made is not None and report.when == "call":
        report.sections.append(("cluster", made.say()))
