"""One cluster for the whole story of a driver.

KPM_CLUSTER_KEEP=1 keeps the logs' folder. KPM_CLUSTER_VM_RUNS names the page that keeps what a
run said.
"""

from __future__ import annotations

import collections
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.apiserver.envtest import prepare
from tests.cluster.cluster import new_folder
from tests.cluster_vm import vm_cluster, vm_runs

DRIVERS = ("amd-pstate-epp", "acpi-cpufreq")
_OUTCOMES: collections.Counter[str] = collections.Counter()


@pytest.fixture(scope="module", params=DRIVERS)
def cluster(request: pytest.FixtureRequest) -> Iterator[vm_cluster.VmCluster]:
    """Control plane and booting machine, without the product; gone afterwards whatever happened."""
    # pytest ends at this as at nothing else.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    keep = "KPM_CLUSTER_KEEP" in os.environ
    with vm_cluster.running(new_folder(), prepare(cluster=True), request.param, keep=keep) as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Each test is a line of what is told; a failure tells what pods and node said."""
    report = yield
    made = getattr(item, "funcargs", {}).get("cluster")
    if made is None or (report.when != "call" and not report.failed):
        return report
    _OUTCOMES[report.outcome] += 1
    name = item.originalname if isinstance(item, pytest.Function) else item.name
    made.tell(f"{report.outcome.upper()} {name}", f"{report.duration:.1f} s")
    if report.failed:
        made.tell("why", str(report.longrepr).strip().splitlines()[-1][:300])
        report.sections.append(("cluster", made.say()))
    return report


def pytest_sessionfinish() -> None:
    page = os.environ.get("KPM_CLUSTER_VM_RUNS")
    if page and _OUTCOMES:
        vm_runs.keep(
            Path(page),
            vm_cluster.LINES,
            ", ".join(f"{number} {name}" for name, number in _OUTCOMES.items()),
        )
