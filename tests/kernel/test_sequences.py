"""On real drivers, random plans end in what was planned, without a trace of the ones before and,
after restore, without a trace at all.

And whole lives of nodes keep the laws of sequences_life.py: kills at any step, a lost state file,
storms of hotplug, reads that fail. Their time and number are settings:

    KPM_SEQUENCE_SECONDS=300   for the lives on all drivers together, boots among them
    KPM_SEQUENCES_MOST=18      and no more than so many on each: life N of a seed is the same
                               on every machine, so a faster one does not meet what a slower
                               one has not
    KPM_SEQUENCES=300          so many lives on each driver instead, as before a release
    KPM_SEQUENCES_SEED=...     of the run
    KPM_SEQUENCES_KEEP=1       write what came of it to docs/developer/random-lives.md
"""

from __future__ import annotations

import json
import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.kernel.lab import DRIVERS, LabMachine, prepare
from tests.kernel.lab_python import report_of
from tests.kernel.sequences_record import keep, table, today

pytestmark = pytest.mark.kernel


@dataclass(frozen=True, slots=True)
class Case:
    """A machine, and the highest frequency that its firmware allows if
    that is not the hardware's.
    """

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
        return pool.submit(
            report_of, case.machine, "sequences.py", SEED, PLANS, KILLS, *limit, timeout=TIMEOUT
        )

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return {name: submit(case) for name, case in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_random_plans_end_in_what_was_planned_and_leave_nothing(
    runs: dict[str, Future[dict[str, Any]]], name: str
) -> None:
    """The claims of inside/sequences.py hold.

    Each plan shows, exactly or limited for a reason that is known; a second apply and a restart
    write nothing; B after A is B alone; hotplug, boost, driver switches and kill -9 change none of
    that; restore leaves the values at boot and an empty state.
    """
    report = runs[name].result()
    assert not report["fault count"], json.dumps(report, indent=1)


@pytest.mark.parametrize("name", CASES)
def test_the_run_met_what_it_was_made_for(
    runs: dict[str, Future[dict[str, Any]]], name: str
) -> None:
    """Enough plans, hotplug, kills in the middle of an apply; limits where there are some, driver
    switches and boost where they exist.
    """
    report = runs[name].result()
    counts, driver = report["counts"], CASES[name].machine.driver
    wanted = {
        "plans": PLANS,
        "compared alone": PLANS // 2,
        "hotplugs": 5,
        "restarts": 5,
        "restores": PLANS,
        "kills": KILLS,
        "kills in an apply": KILLS // 2,
    }
    wanted |= {"acpi-cpufreq": {"outcome limited": 20}, "cppc_cpufreq": {"boosts": 3}}.get(
        driver, {"switches": 5}
    )
    assert report["driver"] == DRIVERS[driver].scaling_driver
    assert {
        key: counts.get(key, 0) for key, least in wanted.items() if counts.get(key, 0) < least
    } == {}, json.dumps(report, indent=1)


LIVES = {
    "acpi-cpufreq": LabMachine(driver="acpi-cpufreq"),
    "amd-pstate": LabMachine(driver="amd-pstate"),
    "amd-pstate-epp": LabMachine(driver="amd-pstate-epp"),
    "cppc_cpufreq, shared": LabMachine(driver="cppc_cpufreq", domain_size=2),
}
BOOT_SECONDS = 60.0
WHOLE_SECONDS = float(os.environ.get("KPM_SEQUENCE_SECONDS", "300"))
MOST = int(os.environ.get("KPM_SEQUENCES_MOST", "18"))
COUNT = int(os.environ.get("KPM_SEQUENCES", "0"))
LIVES_SEED = os.environ.get("KPM_SEQUENCES_SEED", str(SEED))
LONGEST_LIFE = 60.0
#: What every run of more than a few lives has met.
MET = ("apply", "restart", "restore", "calm", "lose", "reboot", "storm", "foreign", "met: kill")


def _lead(name: str) -> dict[str, Any]:
    """Lives on one machine."""
    rounds = -(-len(LIVES) // AT_ONCE)
    seconds = max(WHOLE_SECONDS / rounds - BOOT_SECONDS, 10.0)
    longest = BOOT_SECONDS + LONGEST_LIFE + (COUNT * LONGEST_LIFE if COUNT else 2 * seconds)
    where = "../sequences_real.py"
    arguments = (name, LIVES_SEED, seconds, COUNT, MOST)
    return report_of(LIVES[name], where, *arguments, timeout=longest)


@pytest.fixture(scope="module")
def lives() -> dict[str, dict[str, Any]]:
    """Random lives on each machine, a few machines at a time; what came of them is printed."""
    prepare()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        reports = dict(zip(LIVES, pool.map(_lead, LIVES), strict=True))
    columns = {}
    for name, report in reports.items():
        ends = {" lives": report["lives"], " with a fault": report["fault count"]}
        ends[" seconds, boot too"] = report["whole seconds"]
        columns[name] = ends | report["counts"]
    lines = [f"{today()}: seed {LIVES_SEED}.", "", *table(columns)]
    for name, report in reports.items():
        for fault in report["faults"]:
            said = (f"{fault['seed']}, after event {fault['after']}:", fault["life"], fault["why"])
            lines += ["", name, "", "```", *said, "```"]
    print("", *lines, sep="\n")
    if os.environ.get("KPM_SEQUENCES_KEEP"):
        keep("On real drivers, in an emulated machine", lines)
    return reports


@pytest.mark.parametrize("name", LIVES)
def test_random_lives_keep_the_laws(lives: dict[str, dict[str, Any]], name: str) -> None:
    """Whatever happens to a node: no residue, and no word of `settled` where that is not true."""
    report = lives[name]
    told = [f"seed {item['seed']}: {item['why']}\n{item['life']}" for item in report["faults"]]
    assert not report["fault count"], "\n\n".join(told)


@pytest.mark.parametrize("name", LIVES)
def test_the_lives_met_what_can_happen(lives: dict[str, dict[str, Any]], name: str) -> None:
    """The driver was the one meant; every kind of event came, CPUs in the middle of a look too."""
    report = lives[name]
    counts = report["counts"]
    assert report["driver"] == DRIVERS[LIVES[name].driver].scaling_driver
    if report["lives"] >= 30:
        assert [kind for kind in MET if not counts.get(kind)] == []
        assert any(counts.get(f"met: {kind}") for kind in ("goes", "comes", "bounces"))
        assert all(counts.get(f"met: {error}") for error in ("EIO", "EBUSY", "EMFILE", "ENODEV"))
