"""On a real kernel, the command line does what its help says: exit statuses, what is written, what
is kept, what is put back.
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
    "amd-pstate-epp": LabMachine(driver="amd-pstate-epp"),
    "cppc_cpufreq": LabMachine(driver="cppc_cpufreq", domain_size=2),
}
TIMEOUT = 400.0
RESTORED_FILES = {"sys.json": "0o600", "sys.lock": "0o600"}
PRIVATE_FILES = {**RESTORED_FILES, "sys.versions": "0o600"}
OWNED = {"amd-pstate-epp": ["cpufreq:2-3", "idle:2-3"], "cppc_cpufreq": ["cpufreq:2", "idle:2-3"]}
#: What the policy asks of CPUs 2 and 3; 0 and 1 are reserved and stay as they are.
WANTED = {
    "amd-pstate-epp": {
        "cpufreq/scaling_governor": "powersave",
        "cpufreq/energy_performance_preference": "power",
        "cpufreq/scaling_min_freq": "1000000",
        "cpufreq/scaling_max_freq": "1400000",
        "cpuidle/state2/disable": "1",
        "cpuidle/state3/disable": "1",
    },
    "cppc_cpufreq": {
        "cpufreq/scaling_governor": "performance",
        "cpufreq/scaling_min_freq": "1000000",
        "cpufreq/scaling_max_freq": "1400000",
        "cpuidle/state1/disable": "1",
    },
}

Report = dict[str, Any]


@pytest.fixture(scope="module")
def reports() -> dict[str, Future[Report]]:
    """The same commands on both machines."""
    prepare()
    with ThreadPoolExecutor(len(MACHINES)) as pool:
        return {
            name: pool.submit(report_of, machine, "commands.py", timeout=TIMEOUT)
            for name, machine in MACHINES.items()
        }


@pytest.fixture(params=MACHINES)
def name(request: pytest.FixtureRequest) -> str:
    """A machine."""
    return str(request.param)


@pytest.fixture
def report(reports: dict[str, Future[Report]], name: str) -> Report:
    """What the commands did on that machine."""
    return reports[name].result()


@pytest.fixture
def applied(report: Report, name: str) -> dict[str, str]:
    """What the managed files show while the policy is in force."""
    return {
        **report["boot"],
        **{f"cpu{cpu}/{file}": text for cpu in (2, 3) for file, text in WANTED[name].items()},
    }


def brief(call: Report) -> str:
    """A command's outcome, for a failure."""
    return json.dumps({key: value for key, value in call.items() if key != "look"}, indent=1)


def test_diff_and_dry_run_show_the_writes_and_make_none(
    report: Report, applied: dict[str, str]
) -> None:
    """Diff and apply --dry-run end with 1; both print the same writes, with old and new value,
    and no state is begun.
    """
    diff, dry_run = report["diff before"], report["dry run"]
    assert (diff["status"], dry_run["status"]) == (1, 1), brief(diff) + brief(dry_run)
    assert diff["out"] == dry_run["out"]
    changes = {path: text for path, text in applied.items() if text != report["boot"][path]}
    for path, text in changes.items():
        if "cpuidle" in path:
            assert f"{path}: {report['boot'][path]} -> {text}  (" in diff["out"]
    assert report["diff before"]["look"] == report["dry run"]["look"] == report["boot"]
    assert not report["state before"].get("groups")


def test_apply_settles_in_the_policy(report: Report, applied: dict[str, str], name: str) -> None:
    """Exit 0, the files show what was asked for, and what was there before is kept in private
    files.
    """
    apply = report["apply"]
    said = json.loads(apply["out"])
    assert (apply["status"], said["settled"], said["outcomes"]) == (0, True, []), brief(apply)
    assert apply["look"] == applied
    assert report["state"] == {"mode": "0o700", "files": PRIVATE_FILES, "groups": OWNED[name]}


def test_a_second_apply_writes_nothing(report: Report, applied: dict[str, str]) -> None:
    """Diff then is empty and ends with 0, and apply reports no write."""
    assert (report["diff after"]["status"], report["diff after"]["out"]) == (0, "")
    again = report["apply again"]
    assert (again["status"], json.loads(again["out"])["writes"]) == (0, []), brief(again)
    assert again["look"] == applied


def test_what_somebody_else_wrote_is_named_and_repaired(
    report: Report, applied: dict[str, str]
) -> None:
    """Diff shows the one file, and that it was somebody else; apply writes it back."""
    drift, repaired = report["diff of drift"], report["apply against drift"]
    assert drift["status"] == 1, brief(drift)
    assert [line.partition("  (")[0].rpartition("/")[2] for line in drift["out"].splitlines()] == [
        "scaling_max_freq: 1300000 -> 1400000"
    ]
    assert "changed by somebody else" in drift["out"]
    assert (repaired["status"], repaired["look"]) == (0, applied), brief(repaired)


def test_a_cpu_that_goes_and_comes_back(report: Report, applied: dict[str, str]) -> None:
    """With a CPU offline apply succeeds; when it is back it is brought to the policy, whatever the
    driver forgot.
    """
    gone, back = report["apply with a CPU offline"], report["apply with it back"]
    assert gone["status"] == 0, brief(gone)
    assert {path: text for path, text in gone["look"].items() if not path.startswith("cpu3/")} == {
        path: text for path, text in applied.items() if not path.startswith("cpu3/")
    }
    assert (back["status"], back["look"]) == (0, applied), brief(back)


def test_a_second_writer_is_refused(report: Report, applied: dict[str, str]) -> None:
    """Exit 1, one line that names the lock, nothing written."""
    locked = report["apply locked"]
    assert (locked["status"], locked["out"], locked["look"]) == (2, "", applied), brief(locked)
    assert locked["err"].count("\n") == 1
    assert "/tmp/kpm-state/sys.lock" in locked["err"]


def test_input_that_cannot_be_read_changes_nothing(report: Report, applied: dict[str, str]) -> None:
    """Exit 2, one line with document, field and what is allowed, nothing written."""
    bad = report["apply of an unknown field"]
    assert (bad["status"], bad["out"], bad["look"]) == (2, "", applied), brief(bad)
    assert bad["err"].count("\n") == 1
    assert "powerProfiel" in bad["err"]
    assert "powerProfile" in bad["err"].replace("powerProfiel", "")


def test_a_mistake_in_a_profile_leaves_the_last_valid_version_in_force(
    report: Report, applied: dict[str, str]
) -> None:
    """Exit 1 with the error, and which version holds, on standard
    error; not a file changes (R8).
    """
    wrong = report["apply of a wrong profile"]
    assert wrong["status"] == 1, brief(wrong)
    assert "14 GHz" in wrong["err"]
    assert "its last valid version stays in force" in wrong["err"]
    assert wrong["look"] == applied


def test_restore_puts_everything_back(report: Report) -> None:
    """Exit 0 each time, the values at boot, and nothing is owned any more."""
    for step in ("restore", "restore again", "restore elsewhere"):
        assert (report[step]["status"], report[step]["look"]) == (
            0,
            report["boot"],
        ), f"{step}: {brief(report[step])}"
    assert report["state after"] == {"mode": "0o700", "files": RESTORED_FILES, "groups": []}
    assert json.loads(report["restore again"]["out"])["writes"] == []


def test_the_state_folder_can_be_chosen(report: Report, applied: dict[str, str], name: str) -> None:
    """The option --state-dir and the variable KPM_STATE_DIR mean the same folder; the other one is
    left alone.
    """
    apply, (elsewhere, usual) = report["apply elsewhere"], report["state elsewhere"]
    assert (apply["status"], apply["look"]) == (0, applied), brief(apply)
    assert elsewhere == {"mode": "0o700", "files": PRIVATE_FILES, "groups": OWNED[name]}
    assert usual["groups"] == []


def test_discover_tells_the_driver(report: Report, name: str) -> None:
    """Exit 0, and the JSON names the driver of every domain."""
    discover = report["discover"]
    assert discover["status"] == 0, brief(discover)
    assert {domain["driver"] for domain in json.loads(discover["out"])["frequencyDomains"]} == {
        name
    }


def test_no_command_ended_in_a_traceback(report: Report) -> None:
    """Whatever went wrong was said in a line."""
    calls = {
        step: call for step, call in report.items() if isinstance(call, dict) and "err" in call
    }
    assert len(calls) > 15
    assert [
        step
        for step, call in calls.items()
        if "Traceback" in call["err"] or "Traceback" in call["out"]
    ] == []
