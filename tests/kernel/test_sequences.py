"""On real drivers, random plans end in what was planned, without a trace of the ones before and, after restore, without a trace at all."""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from lab import DRIVERS, LabMachine, prepare
from lab_python import report_of

pytestmark = pytest.mark.kernel


@dataclass(frozen=True, slots=True)
class Case:
    """A machine, and the highest frequency that its firmware allows if that is not the hardware's."""

    machine: LabMachine
    limit_khz: int | None = None


CASES = {
    "acpi-cpufreq": Case(LabMachine(driver="acpi-cpufreq")),
    "acpi-cpufreq, shared": Case(LabMachine(driver="acpi-cpufreq", domain_size=2)),
    "acpi-cpufreq, limited": Case(LabMachine(driver="acpi-cpufreq", platform_limit=2), 2_600_000),
    "amd-pstate": Case(LabMachine(driver="amd-pstate")),
    "amd-pstate-epp": Case(LabMachine(driver="amd-pstate-epp")),
    "cppc_cpufreq": Case(LabMachine(driver="cppc_cpufreq")),
    "cppc_cpufreq, shared": Case(LabMachine(driver="cppc_cpufreq", domain_size=2)),
}
AT_ONCE = 2  # a machine keeps one host CPU busy
SEED = 20260131
PLANS, KILLS = 30, 15
TIMEOUT = 300.0


@pytest.fixture(scope="module")
def runs() -> dict[str, Future[dict[str, Any]]]:
    """One run on each machine, a few machines at a time."""
    prepare()

    def submit(case: Case) -> Future[dict[str, Any]]:
        limit = () if case.limit_khz is None else (case.limit_khz,)
        return pool.submit(report_of, case.machine, "sequences.py", SEED, PLANS, KILLS, *limit, timeout=TIMEOUT)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return {name: submit(case) for name, case in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_random_plans_end_in_what_was_planned_and_leave_nothing(runs: dict[str, Future[dict[str, Any]]], name: str) -> None:
    """The claims of inside/sequences.py hold.

    Each plan shows, exactly or limited for a reason that is known; a second apply and a restart write nothing; B after A is B alone; hotplug,
    boost, driver switches and kill -9 change none of that; restore leaves the values at boot and an empty state.
    """
    report = runs[name].result()
    assert not report["fault count"], json.dumps(report, indent=1)


@pytest.mark.parametrize("name", CASES)
def test_the_run_met_what_it_was_made_for(runs: dict[str, Future[dict[str, Any]]], name: str) -> None:
    """Enough plans, hotplug, kills in the middle of an apply; limits where there are some, driver switches and boost where they exist."""
    report = runs[name].result()
    counts, driver = report["counts"], CASES[name].machine.driver
    wanted = {"plans": PLANS, "compared alone": PLANS // 2, "hotplugs": 5, "restarts": 5, "restores": PLANS, "kills": KILLS, "kills in an apply": KILLS // 2}
    wanted |= {"acpi-cpufreq": {"outcome limited": 20}, "cppc_cpufreq": {"boosts": 3}}.get(driver, {"switches": 5})
    assert report["driver"] == DRIVERS[driver].scaling_driver
    assert {key: counts.get(key, 0) for key, least in wanted.items() if counts.get(key, 0) < least} == {}, json.dumps(report, indent=1)
