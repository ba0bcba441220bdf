"""What limiting idle states and choosing governors rests on, on a real kernel.

An agent has no capabilities: which files it may write all the same, what a latency limit reads
back as, that it keeps every state out that takes longer, and that a governor need not be offered
to be there. Which idle governors there are is the kernel's affair (Debian's has no teo): the same
is asked of each.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.kernel.lab import LabMachine, prepare
from tests.kernel.lab_python import report_of

pytestmark = pytest.mark.kernel
Report = dict[str, Any]

MACHINES = {
    name: LabMachine(driver=name, governors_loaded=False)
    for name in ("acpi-cpufreq", "amd-pstate-epp", "cppc_cpufreq")
}  # fmt: skip
RESIDENCY = "residency"
AT_ONCE = 2  # a machine keeps one host CPU busy
SECONDS, KICKS = 0.3, 5
#: A case, and the greatest latency in µs that it allows; None is every one.
ALLOWED: dict[str, int | None] = {
    "no limit": None,
    "disable > 10": 10,
    "pm_qos 10": 10,
    "pm_qos 49": 49,
    "pm_qos 50": 50,
    "pm_qos n/a": 0,
    "pm_qos 10, disable > 100": 10,
    "pm_qos 100, disable > 10": 10,
    "global 10, pm_qos 100": 10,
}


@pytest.fixture(scope="module")
def reports() -> dict[str, Future[Report]]:
    """What every machine reports, and what one CPU after the other did under each limit."""
    prepare()
    words = [word for case in ALLOWED for word in ("--case", case)]
    measure = ("--seconds", SECONDS, "--kicks", KICKS, *words)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        residency = pool.submit(report_of, LabMachine(), "residency.py", *measure, timeout=200.0)
        found = {RESIDENCY: residency}
        for name, machine in MACHINES.items():
            found[name] = pool.submit(report_of, machine, "idle_facts.py", timeout=120.0)
        return found


@pytest.fixture(params=MACHINES)
def report(reports: dict[str, Future[Report]], request: pytest.FixtureRequest) -> Report:
    """Of each machine."""
    return reports[str(request.param)].result()


def test_only_disabling_a_state_needs_a_capability(report: Report) -> None:
    """Root without any writes everything else; CAP_SYS_ADMIN is the one that is missing (K26)."""
    found = report["permissions"]
    assert found.pop("cpu1/cpuidle/state1/disable") == {"none": "EPERM", "sys_admin": "ok"}
    assert {name for outcome in found.values() for name in outcome.values()} <= {"ok", "EINVAL"}
    assert found["cpu1/power/pm_qos_resume_latency_us"]["none"] == "ok"
    refused = {path for path, outcome in found.items() if "EINVAL" in outcome.values()}
    assert refused <= {"cpu1/cpufreq/scaling_setspeed"}, "outside governor userspace (K13)"


def test_spellings_of_a_limit(report: Report) -> None:
    """Numbers from 0 to 2^31 - 2 and n/a, and what is read is what was written (K27)."""
    found = report["spellings"]
    taken = {text: shown for text, (outcome, shown) in found.items() if outcome == "ok"}
    numbers = {"5": "5", "5\n": "5", "+7": "7", "0x10": "16", "010": "8", "5\0": "5"}
    ends = {"0": "0", "-0": "0", "n/a": "n/a", "n/a\n": "n/a", "2147483646": "2147483646"}
    assert taken == {**numbers, **ends, "": "33"}
    assert all(pair == ["EINVAL", "33"] for text, pair in found.items() if text not in taken)


def test_a_limit_shows_what_was_written(report: Report) -> None:
    """Not the tightest that holds: the limit of all CPUs was 0 then, and a state disabled (K32)."""
    assert report["beside others"] == "42"


def test_a_limit_outlives_its_cpu(report: Report) -> None:
    """Away, the file is there, reads and takes a value; a kept descriptor goes on (K28)."""
    assert report["hotplug"] == {
        "away": ["42", "42"],
        "written away": ["ok", "43"],
        "back": ["43", "43"],
    }


@pytest.mark.parametrize("name", ["acpi-cpufreq", "cppc_cpufreq"])
def test_writing_its_name_loads_a_governor(reports: dict[str, Future[Report]], name: str) -> None:
    """Without capabilities; it is offered from then on. Without its file: EINVAL (K33)."""
    report = reports[name].result()
    assert report["offered"] == ["performance", "schedutil"]
    absent = report["absent"]
    assert (absent["files"], absent["write"], absent["after"]) == (1, "EINVAL", False)
    nonsense = report["governors"].pop("nonsense")
    assert nonsense == {"before": False, "write": "EINVAL", "shown": "schedutil", "after": False}
    for governor, selected in report["governors"].items():
        listed = governor in report["offered"]
        wanted = {"before": listed, "write": "ok", "shown": governor, "after": True}
        assert selected == wanted, governor
    assert sorted(report["still offered"]) == sorted(report["governors"])
    assert report["offered elsewhere"] == report["still offered"]


def test_a_driver_that_chooses_itself_loads_none(reports: dict[str, Future[Report]]) -> None:
    """amd-pstate-epp has its two, and refuses the others (K8)."""
    report = reports["amd-pstate-epp"].result()
    assert report["offered"] == report["still offered"] == ["performance", "powersave"]
    taken = {name for name, selected in report["governors"].items() if selected["write"] == "ok"}
    assert taken == {"performance", "powersave"}


def test_a_limit_keeps_every_longer_state_out(reports: dict[str, Future[Report]]) -> None:
    """Under each idle governor: not one entry, by limit, by disabling, or where both meet (K29)."""
    report = reports[RESIDENCY].result()
    latencies = [latency for _, latency in report["states"]]
    assert "menu" in report["governors"]
    for governor, found in report["governors"].items():
        assert found["shown"] == governor
        for case, allowed in ALLOWED.items():
            longer = [
                number
                for number, latency in enumerate(latencies)
                if allowed is not None and latency > allowed
            ]  # fmt: skip
            for cpu, grown in found["measured"][case].items():
                entered = [number for number in longer if grown["usage"][number]]
                assert entered == [], (governor, case, cpu, grown)


def test_a_limit_allows_the_states_that_meet_it(reports: dict[str, Future[Report]]) -> None:
    """A state of exactly that latency is used; without a limit the deepest is."""
    found = reports[RESIDENCY].result()["governors"]["menu"]["measured"]
    deepest = {"no limit": 3, "pm_qos 10": 1, "pm_qos 49": 1, "pm_qos 50": 2}
    for case, state in deepest.items():
        assert all(found[case][cpu]["usage"][state] for cpu in ("1", "2")), (case, found[case])


def test_only_the_limit_of_all_cpus_wakes_one_that_sleeps(
    reports: dict[str, Future[Report]],
) -> None:
    """A limit of one CPU holds from its next sleep on, as a disabled state does (K31)."""
    waits = reports[RESIDENCY].result()["slept on ms"]
    assert waits["global"][KICKS // 2] < min(waits["pm_qos"][-1], waits["disable"][-1])
