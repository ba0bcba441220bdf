"""C1 to C3: idle states by name or by latency."""

from typing import Any

import pytest
from attrs import evolve

from kpm_planner.model.agent_settings import AgentSettings, IdleStates
from kpm_planner.model.machine import Cpu, Machine
from kpm_planner.model.problems import Code, Severity
from kpm_planner.model.target import BASELINE
from kpm_planner.plan import NodePlan
from tests.planner.build import (
    config,
    idle_states,
    machine,
    node_config,
    on_cpu,
    plan,
    profile,
    profiles_of,
    reserved,
    workload,
)
from tests.planner.reading import with_code


def applied(on: Machine | None = None, how: str | None = None, **cstates: Any) -> NodePlan:
    """The plan of a machine under a profile with these idle states. how: they may be set so."""
    return plan(
        profile(shared=True, **cstates),
        workload(uses="performance"),
        config(agent=AgentSettings(idle_states=how)),
        on=on,
    )


def limiting(on: Machine) -> Machine:
    """The machine with CPUs whose latency can be limited as a whole."""
    return evolve(on, cpus=tuple(evolve(cpu, resume_latency="0") for cpu in on.cpus))


def mixed(*sets: tuple[tuple[str, int], ...]) -> Machine:
    """A machine without cpufreq whose CPUs have these idle states."""
    return Machine(
        cpus=tuple(Cpu(index, idle=idle_states(*states)) for index, states in enumerate(sets)),
        idle_driver="intel_idle",
    )


def test_names_turn_states_on_and_off_and_leave_the_others_at_baseline() -> None:
    """Only C6 is named: C1 keeps no other pool's value (field report 16)."""
    assert on_cpu(applied(names={"C6": False}), 0).target.idle == (("C6", False),)
    assert dict(on_cpu(applied(names={"C1": True, "C6": False}), 0).target.idle) == {
        "C1": True,
        "C6": False,
    }


@pytest.mark.parametrize(
    ("limit", "on"), [(0, 1), (1, 1), (2, 2), (9, 2), (10, 3), (169, 3), (170, 4), (100_000, 4)]
)
def test_a_latency_turns_off_what_takes_longer_and_the_others_on(limit: int, on: int) -> None:
    """Latencies 0, 2, 10, 170 µs: exactly those above are off; 0
    leaves only POLL (field report 17).
    """
    assert [state for _, state in on_cpu(applied(max_latency_us=limit), 0).target.idle] == [
        True
    ] * on + [False] * (4 - on)


def test_a_latency_is_of_each_cpus_own_states() -> None:
    """Latencies differ from core to core (field report 17)."""
    found = applied(
        mixed((("POLL", 0), ("C6", 100)), (("POLL", 0), ("C6", 300))), max_latency_us=200
    )
    assert [dict(on_cpu(found, cpu).target.idle)["C6"] for cpu in (0, 1)] == [True, False]


def test_by_latency_is_a_limit_of_each_cpu_and_names_no_state() -> None:
    """What needs no capability: the kernel lets exactly the states up to the limit be entered
    (kernel-facts).
    """
    able = limiting(machine())
    found = applied(able, max_latency_us=10, how="byLatency")
    assert (on_cpu(found, 0).target.idle, on_cpu(found, 0).target.latency_us) == ((), 10)
    assert on_cpu(applied(able, max_latency_us=0, how="byLatency"), 0).target.latency_us == 0
    assert on_cpu(applied(able, how="byLatency"), 0).target.latency_us is None
    assert not found.problems


@pytest.mark.parametrize(
    ("how", "cstates", "able"),
    [
        ("off", {"max_latency_us": 10}, True),
        ("off", {"names": {"C6": False}}, True),
        ("byLatency", {"names": {"C6": False}}, True),
        ("byLatency", {"max_latency_us": 10}, False),
        ("a word of tomorrow", {"names": {"C6": False}}, True),
    ],
)
def test_what_may_not_be_set_stays_as_it_is_and_the_profile_is_told(
    how: str, cstates: dict[str, Any], able: bool
) -> None:
    """A warning: the rest of the profile applies."""
    on = limiting(machine()) if able else machine()
    found = applied(on, how=how, **cstates)
    assert (on_cpu(found, 0).target.idle, on_cpu(found, 0).target.latency_us) == ((), None)
    assert [problem.severity for problem in with_code(found.problems, Code.IDLE_MECHANISM)] == [
        Severity.WARNING
    ]
    assert not applied(on, how=how).problems


def test_the_operator_allows_at_most() -> None:
    most = IdleStates.BY_LATENCY
    assert [
        IdleStates.of(word).within(most).value for word in (None, "byName", "byLatency", "off", "?")
    ] == ["byLatency", "byLatency", "byLatency", "off", "off"]


def test_names_and_latency_together_are_an_error() -> None:
    """Never both, even where names are empty (field report 17)."""
    for names in ({"C6": False}, {}):
        found = applied(names=names, max_latency_us=10)
        assert [problem.severity for problem in with_code(found.problems, Code.IDLE_BOTH)] == [
            Severity.ERROR
        ]
        assert on_cpu(found, 0).target == BASELINE


@pytest.mark.parametrize("name", ["C0", "C99", "c6", "C6 ", ""])
def test_a_name_that_no_cpu_knows_is_an_error_that_lists_those_it_has(name: str) -> None:
    """Field report 16."""
    found = applied(names={name: False})
    problem = with_code(found.problems, Code.IDLE_NAME_UNKNOWN)[0]
    assert (problem.severity, problem.field) == (Severity.ERROR, f"spec.cstates.names.{name}")
    assert "POLL, C1, C1E, C6" in problem.message
    assert profiles_of(found)[0] is None


def test_every_unknown_name_is_told() -> None:
    """Not only the first (field report 60)."""
    assert (
        len(
            with_code(
                applied(names={"C8": False, "C9": False, "C6": True}).problems,
                Code.IDLE_NAME_UNKNOWN,
            )
        )
        == 2
    )


def test_a_name_that_some_cpus_lack_is_skipped_there() -> None:
    """No problem: the node knows it."""
    found = applied(mixed((("POLL", 0), ("C6", 100)), (("POLL", 0),)), names={"C6": False})
    assert [on_cpu(found, cpu).target.idle for cpu in (0, 1)] == [(("C6", False),), ()]
    assert not found.problems


def test_names_are_those_of_the_driver() -> None:
    """C1_ACPI, LPI-0, WFI: whatever cpuidle calls them (field report 16)."""
    found = applied(mixed((("WFI", 1), ("LPI-1", 100))), names={"LPI-1": False, "WFI": True})
    assert dict(on_cpu(found, 0).target.idle) == {"LPI-1": False, "WFI": True}


def test_a_machine_without_idle_states_is_a_warning_and_frequencies_apply() -> None:
    """Driver none, or no cpuidle at all (field report 15)."""
    found = plan(
        profile(shared=True, max=2000, names={"C6": False}),
        workload(uses="performance"),
        on=machine(idle=()),
    )
    assert on_cpu(found, 0).target.max_khz == 2_000_000
    assert [problem.severity for problem in with_code(found.problems, Code.IDLE_UNSUPPORTED)] == [
        Severity.WARNING
    ]
    assert not plan(
        profile(shared=True, max=2000), workload(uses="performance"), on=machine(idle=())
    ).problems


def test_a_latency_below_the_first_state_is_a_warning() -> None:
    """All states are off, and the kernel then uses state 0 all the same (ARM has no POLL)."""
    arm = mixed((("WFI", 1), ("LPI-1", 100)))
    found = applied(arm, max_latency_us=0)
    assert dict(on_cpu(found, 0).target.idle) == {"WFI": False, "LPI-1": False}
    assert [
        (problem.severity, problem.field)
        for problem in with_code(found.problems, Code.IDLE_ALL_OFF)
    ] == [(Severity.WARNING, "spec.cstates.maxLatencyUs")]
    assert not applied(arm, max_latency_us=1).problems
    assert not applied(max_latency_us=0).problems


def test_a_negative_latency_is_an_error() -> None:
    """0 is the least."""
    assert [
        problem.severity
        for problem in with_code(applied(max_latency_us=-1).problems, Code.IDLE_LATENCY)
    ] == [Severity.ERROR]


def test_a_profile_of_idle_states_alone_applies_on_a_machine_without_cpufreq() -> None:
    """No problem, and no frequency (field report 15)."""
    found = plan(
        profile(shared=True, max_latency_us=10),
        workload(uses="performance"),
        on=machine(driver=None),
    )
    assert on_cpu(found, 0).target == evolve(
        BASELINE, idle=(("POLL", True), ("C1", True), ("C1E", True), ("C6", False))
    )
    assert not found.problems


def test_idle_states_have_reasons() -> None:
    """The field that asked."""
    assert "C6 off: spec.cstates.maxLatencyUs" in on_cpu(applied(max_latency_us=10), 0).because
    assert "C6 off: spec.cstates.names" in on_cpu(applied(names={"C6": False}), 0).because


def test_each_pool_has_its_own_idle_states() -> None:
    """Exclusive cores do not follow the shared setting (field report 16)."""
    found = plan(
        profile(names={"C6": False}),
        profile("shared", shared=True, names={"C6": True}),
        workload(reserved=[reserved("0", "performance")]),
        node_config(),
    )
    assert [on_cpu(found, cpu).target.idle for cpu in (0, 1)] == [(("C6", False),), (("C6", True),)]
