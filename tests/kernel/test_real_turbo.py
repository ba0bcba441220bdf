"""On real drivers, turbo is set before the frequencies, which follow the limits that it leaves, and
everything goes back (field report 8).
"""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.kernel.lab import LabMachine, prepare
from tests.kernel.lab_python import report_of

pytestmark = pytest.mark.kernel

MACHINES = {
    "cppc_cpufreq": LabMachine(driver="cppc_cpufreq"),
    "amd-pstate-epp": LabMachine(driver="amd-pstate-epp"),
}
TIMEOUT = 400.0
STEPS = ("off", "off with pools", "on with pools", "off again")
Report = dict[str, Any]


@pytest.fixture(scope="module")
def reports() -> dict[str, Future[Report]]:
    """The same commands on both machines."""
    prepare()
    with ThreadPoolExecutor(len(MACHINES)) as pool:
        return {
            name: pool.submit(report_of, machine, "turbo.py", timeout=TIMEOUT)
            for name, machine in MACHINES.items()
        }


@pytest.fixture(params=MACHINES)
def report(reports: dict[str, Future[Report]], request: pytest.FixtureRequest) -> Report:
    """What the commands did on a machine."""
    return reports[str(request.param)].result()


def brief(call: Report) -> str:
    """A command's outcome, for a failure."""
    return json.dumps(call, indent=1)[:3000]


def possible(report: Report) -> tuple[str, ...]:
    """The steps that the driver takes: without anything above the base frequency it refuses to turn
    turbo on.
    """
    return tuple(name for name in STEPS if report["taken"] or not name.startswith("on"))


def test_every_command_settles_and_a_second_one_writes_nothing(report: Report) -> None:
    """R3, with the switch among what is compared."""
    for name in possible(report):
        first, again = report[name], report[f"{name}, twice"]
        assert (first["status"], json.loads(first["out"])["settled"]) == (0, True), brief(first)
        assert json.loads(again["out"])["writes"] == [], brief(again)
        assert again["look"] == first["look"]


def test_the_switch_is_what_was_asked(report: Report) -> None:
    """Off, on where the driver can, off."""
    assert [report[name]["look"]["switch"] for name in STEPS] == [
        "0",
        "0",
        "1" if report["taken"] else "0",
        "0",
    ]


def test_a_switch_that_refuses_costs_only_itself(report: Report) -> None:
    """Exit 1, the path and EINVAL; the profile is in force all the same (R6)."""
    if not report["taken"]:
        refused = report["on with pools"]
        (outcome,) = json.loads(refused["out"])["outcomes"]
        assert (
            refused["status"],
            outcome["status"],
            outcome["errno"],
            outcome["path"].rpartition("/")[2],
        ) == (1, "failed", "EINVAL", "boost"), brief(refused)
        assert {name: text for name, text in refused["look"].items() if name != "switch"} == {
            name: text
            for name, text in report["off with pools"]["look"].items()
            if name != "switch"
        }


def test_profiles_follow_the_limits_that_the_switch_leaves(report: Report) -> None:
    """100% is the hardware's maximum of then; on cppc_cpufreq that is another one."""
    for name in ("off with pools", "on with pools", "off again"):
        for cpu in (2, 3):
            assert (
                int(report[name]["look"][f"cpu{cpu}/scaling_max_freq"]) == report[name]["tops"][cpu]
            ), name
    if report["taken"]:
        assert report["on with pools"]["tops"] == report["tops"]
        assert max(report["off"]["tops"]) < max(report["tops"])


def test_a_cpu_that_was_away_while_turbo_changed(report: Report) -> None:
    """It is brought to the plan by the hardware maximum that its driver shows then: cppc_cpufreq
    has forgotten the boosted one (K18).
    """
    if report["taken"]:
        assert report["on with a CPU away"]["status"] == 0, brief(report["on with a CPU away"])
        back = report["on with it back"]
        assert (back["status"], json.loads(back["out"])["settled"]) == (0, True), brief(back)
        assert [int(back["look"][f"cpu{cpu}/scaling_max_freq"]) for cpu in (2, 3)] == back["tops"][
            2:
        ]


def test_what_a_person_had_set_comes_back(report: Report) -> None:
    """Also the limit above the base frequency of a CPU that nobody claims, which the driver
    overwrites when turbo goes (K24).
    """
    assert report["restore"]["status"] == 0, brief(report["restore"])
    assert report["restore"]["look"] == report["before"]
