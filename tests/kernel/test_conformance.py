"""The kernel model is the kernel: the same random operations give the same errnos and the same
reads on both.
"""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.kernel.lab import DRIVERS, LabMachine, prepare
from tests.kernel.lab_python import report_of

pytestmark = pytest.mark.kernel

MACHINES = {
    "acpi-cpufreq": LabMachine(driver="acpi-cpufreq"),
    "acpi-cpufreq, shared": LabMachine(driver="acpi-cpufreq", domain_size=2),
    "amd-pstate": LabMachine(driver="amd-pstate"),
    "amd-pstate-epp": LabMachine(driver="amd-pstate-epp"),
    "cppc_cpufreq": LabMachine(driver="cppc_cpufreq"),
    "cppc_cpufreq, shared": LabMachine(driver="cppc_cpufreq", domain_size=2),
}
AT_ONCE = 2  # a machine keeps one host CPU busy
SEED = 20260131
OPERATIONS, SECONDS, FEWEST = 2600, 180, 2000
TIMEOUT = 300.0
#: Kinds of operation that every driver must have seen often enough to mean something.
EVERYWHERE = {
    "limit": 500,
    "governor": 100,
    "speed": 100,
    "idle": 50,
    "online": 50,
    "read-only": 20,
    "odd": 10,
}


@pytest.fixture(scope="module")
def walks() -> dict[str, Future[dict[str, Any]]]:
    """One long random walk on each machine, a few machines at a time."""
    prepare()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return {
            name: pool.submit(
                report_of, machine, "conformance.py", SEED, OPERATIONS, SECONDS, timeout=TIMEOUT
            )
            for name, machine in MACHINES.items()
        }


@pytest.mark.parametrize("name", MACHINES)
def test_the_model_agrees_with_the_kernel(
    walks: dict[str, Future[dict[str, Any]]], name: str
) -> None:
    """Not one of thousands of operations ends in another errno, leaves another text to read, or
    kills another descriptor.
    """
    report = walks[name].result()
    assert not report["disagreement count"], json.dumps(report, indent=1)


@pytest.mark.parametrize("name", MACHINES)
def test_the_walk_went_far_enough(walks: dict[str, Future[dict[str, Any]]], name: str) -> None:
    """The driver was the one meant, with its domains, and met enough operations of each kind,
    refusals among them.
    """
    report = walks[name].result()
    kinds = report["kinds"]
    machine = MACHINES[name]
    own = [[0], [1], [2], [3]] if machine.domain_size == 1 else [[0, 1], [2, 3]]
    assert (report["driver"], report["related"]) == (DRIVERS[machine.driver].scaling_driver, own)
    assert report["operations"] >= FEWEST, json.dumps(report, indent=1)
    wanted = {
        **EVERYWHERE,
        **{"acpi-cpufreq": {}, "cppc_cpufreq": {"boost": 50, "policy boost": 50}}.get(
            machine.driver, {"epp": 100, "mode": 20}
        ),
    }
    assert {
        kind: kinds.get(kind, 0) for kind, least in wanted.items() if kinds.get(kind, 0) < least
    } == {}
    assert {"EINVAL", "EBUSY", "ENOENT", "EACCES", "ERANGE"} <= report["refusals"].keys()
