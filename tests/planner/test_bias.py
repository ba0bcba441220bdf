"""Energy performance bias: what a profile may ask, who gets it, and
what is said where nobody can.
"""

from typing import Any

import pytest
from attrs import evolve

from kpm_planner.bias import bias_of
from kpm_planner.model.changes import Pass
from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import EPB_WORDS
from kpm_planner.model.problems import Code, Severity
from kpm_planner.plan import NodePlan
from kpm_planner.report.explain import describe_values
from kpm_planner.report.node import node_state
from tests.planner.build import machine, on_cpu, plan, profile, reserved, workload
from tests.planner.reading import with_code


def biased(on: Machine, text: str | None = "6", cpus: tuple[int, ...] = ()) -> Machine:
    """A machine whose CPUs, all or these, have a bias."""
    return evolve(
        on,
        cpus=tuple(evolve(cpu, epb=text) if not cpus or cpu.id in cpus else cpu for cpu in on.cpus),
    )


def shared(epb: int | str | None, on: Machine) -> NodePlan:
    return plan(profile("shared", epb=epb, shared=True), workload(), on=on)


@pytest.mark.parametrize("asked", [*EPB_WORDS, *range(16), *map(str, range(16))])
def test_words_and_numbers_from_0_to_15_are_a_bias(asked: int | str) -> None:
    """The kernel's words mean the kernel's numbers."""
    found = shared(asked, biased(machine()))
    meant = EPB_WORDS[str(asked)] if str(asked) in EPB_WORDS else int(asked)
    assert on_cpu(found, 0).target.epb == meant
    assert not with_code(found.problems, Code.EPB_VALUE)


@pytest.mark.parametrize(
    "asked", [16, -1, "16", "low", "", "Normal", "6 ", "0x6", "07", "٣", "balance_power"]
)
def test_anything_else_is_an_error_of_the_profile(asked: int | str) -> None:
    """The message says what is expected and what was found."""
    (problem,) = with_code(shared(asked, biased(machine())).problems, Code.EPB_VALUE)
    assert problem.severity is Severity.ERROR
    assert problem.field == "spec.pstates.epb"
    assert problem.message.endswith(f"got {asked!r}")
    assert bias_of(asked) is None


def test_a_cpu_without_it_keeps_the_rest_of_the_profile() -> None:
    """One warning; the others get it."""
    found = shared(4, biased(machine("0-3"), cpus=(0, 1)))
    assert [on_cpu(found, cpu).target.epb for cpu in range(4)] == [4, 4, None, None]
    assert on_cpu(found, 3).target.governor == "powersave"
    (problem,) = with_code(found.problems, Code.EPB_UNSUPPORTED)
    assert problem.message.startswith("some CPUs have no energy_perf_bias")


def test_cpus_of_one_domain_keep_a_bias_each() -> None:
    """It is the CPU's own: a shared domain settles frequencies alone."""
    on = biased(machine("0-3", shared=[(0, 1, 2, 3)]))
    found = plan(
        profile("a", epb=0, max=2000),
        profile("b", epb=15, max=1000, shared=True),
        workload(uses="b", reserved=[reserved("0", "a")]),
        on=on,
    )
    assert on_cpu(found, 0).target.epb == 0
    assert on_cpu(found, 1).target.epb == 15
    assert on_cpu(found, 0).target.max_khz == on_cpu(found, 1).target.max_khz


def test_a_profile_of_a_bias_alone_needs_no_frequency_driver() -> None:
    """It is no question of cpufreq."""
    on = biased(machine(driver="pcc-cpufreq"))
    found = shared("power", on)
    assert on_cpu(found, 0).target.epb == 15
    assert not with_code(found.problems, Code.FREQUENCY_UNSUPPORTED)


def test_it_is_told_with_its_reason_and_in_the_state() -> None:
    """0 is a value as any other."""
    on = biased(machine())
    found = shared("performance", on)
    group = on_cpu(found, 0)
    assert "epb 0" in describe_values(group.target)
    assert "epb 0: spec.pstates.epb performance" in group.because
    (values,) = node_state(found, on, Pass(), (), {}).values
    asked: Any = values.requested
    shown: Any = values.effective
    assert (asked.epb, shown.epb) == (0, 6)
