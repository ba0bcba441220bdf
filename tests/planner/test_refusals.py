"""A write that the kernel refused: told to the object that asked, with errno and what to do."""

import errno

import pytest

from kpm_planner.model.changes import Outcome, Status
from kpm_planner.model.problems import Code, Severity
from kpm_planner.report.refusals import refusal_problems, refused, remedy
from tests.planner.build import machine, plan, profile, workload

CPU = "devices/system/cpu"
ON = machine("0-3", shared=[(2, 3)])
PLAN = plan(profile(shared=True, names={"C6": False}), workload(uses="performance"), on=ON)


def failed(group: str, path: str, number: int) -> Outcome:
    return Outcome(f"{CPU}/{path}", group, Status.FAILED, "1", "0", number)


IDLE = [failed(f"idle:{cpu}", f"cpu{cpu}/cpuidle/state3/disable", errno.EPERM) for cpu in (1, 3)]


def test_the_profile_of_the_cpus_says_how_many_files_which_errno_and_what_to_do() -> None:
    (problem,) = refusal_problems(PLAN, ON, IDLE)
    assert (problem.severity, problem.code, problem.object, problem.field) == (
        Severity.ERROR,
        Code.WRITE_REFUSED,
        "PowerProfile/performance",
        "spec.cstates",
    )
    assert (
        problem.message
        == f"{CPU}/cpu1/cpuidle/state3/disable wanted 1, shows 0: EPERM: needs CAP_SYS_ADMIN: run"
        " the helper container as shipped, or set agent.idleStates: byLatency (and 1 more"
        " files)"
    )


def test_each_kind_and_errno_is_a_line_of_its_own() -> None:
    governor = failed("cpufreq:2", "cpufreq/policy2/scaling_governor", errno.EINVAL)
    found = refusal_problems(
        PLAN, ON, [*IDLE, governor, failed("uncore:uncore00", "x", errno.EROFS)]
    )
    assert [(problem.object, problem.field) for problem in found] == [
        ("Node/node-1", ""),
        ("PowerProfile/performance", "spec.cstates"),
        ("PowerProfile/performance", "spec.pstates"),
    ]
    assert "its module is missing" in found[2].message


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.FAILED])
def test_what_was_not_refused_is_no_problem(status: Status) -> None:
    assert not refusal_problems(PLAN, ON, [Outcome("a", "idle:0", status, "1", "0", errno.EPERM)])


def test_a_group_of_nobody_is_the_nodes() -> None:
    for key in ("idle:9", "cpufreq:9", "boost", "cap:package-0", "idle:x"):
        (problem,) = refusal_problems(PLAN, ON, [failed(key, "x", errno.EIO)])
        assert problem.object == "Node/node-1"


@pytest.mark.parametrize(
    "number",
    [
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ETIMEDOUT,
        errno.ENOENT,
        errno.ENOTSUP,
    ],
)
def test_every_errno_that_deployment_can_cause_has_a_remedy(number: int) -> None:
    for kind in ("idle", "latency", "cpufreq", "uncore", "cap", "boost"):
        name, _, meaning = remedy(kind, number).partition(": ")
        assert name == errno.errorcode[number]
        assert len(meaning) > 10


def test_a_number_that_no_errno_has_is_said_all_the_same() -> None:
    assert refused(failed("idle:0", "x", 9999)).endswith("shows 0: 9999")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_fabric_that_may_not_be_told_anything_names_the_overlay(number: int) -> None:
    assert remedy("fabric", number).endswith("use the hsmp overlay of deploy/")
