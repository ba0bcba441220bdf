"""Limits that somebody else has set and a profile cannot pass: each is told once, with the CPUs
that meet it, and nothing else changes.
"""

import re
from collections.abc import Iterable
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kpm_planner.limited import limit_problems
from kpm_planner.model.agent_settings import AgentSettings
from kpm_planner.model.assignment import Pool
from kpm_planner.model.cpuset import parse_cpulist
from kpm_planner.model.machine import FrequencyDomain, Machine
from kpm_planner.model.problems import Code, Problem, Severity
from kpm_planner.model.target import Target
from kpm_planner.parts import CpuGroup
from kpm_planner.plan import NodePlan
from tests.planner.build import (
    allocation,
    config,
    machine,
    node_config,
    owns,
    plan,
    pod,
    profile,
    reserved,
    workload,
)
from tests.planner.reading import with_code
from tests.strategies.scenarios import Scenario, scenarios

MAX_FIELD, MIN_FIELD = "intel_pstate/max_perf_pct", "intel_pstate/min_perf_pct"
#: 800 to 3700 MHz, of which half is 1850.
PLAIN = machine()
#: A step of the bus: what is nearer than this to a limit, the hardware rounds either way.
STEP_KHZ = 100_000


def everywhere(on: Machine, **asked: Any) -> NodePlan:
    """The plan of a machine all of whose CPUs are under one profile."""
    return plan(profile("shared", shared=True, **asked), workload(), on=on)


def cpus_of(problem: Problem) -> set[int]:
    """The CPUs that a message names."""
    listed = re.search(r"CPUs ([0-9,-]+)", problem.message)
    assert listed is not None, problem.message
    return set(parse_cpulist(listed[1]))


def told(problems: Iterable[Problem], field: str) -> list[set[int]]:
    """The CPUs of each warning about a field."""
    found = [problem for problem in problems if problem.field == field]
    assert {problem.severity for problem in found} <= {Severity.WARNING}
    assert {problem.code for problem in found} <= {Code.FREQUENCY_LIMITED}
    return [cpus_of(problem) for problem in found]


def waiting(on: Machine, **limits: str | None) -> Machine:
    """A machine whose CPUs have these limits of latency, by number: cpu0="20"."""
    return evolve(
        on,
        cpus=tuple(
            evolve(cpu, resume_latency=limits.get(f"cpu{cpu.id}", cpu.resume_latency))
            for cpu in on.cpus
        ),
    )


def all_waiting(on: Machine, text: str | None) -> Machine:
    """A machine all of whose CPUs have one limit of latency."""
    return evolve(on, cpus=tuple(evolve(cpu, resume_latency=text) for cpu in on.cpus))


def slept(problems: Iterable[Problem]) -> dict[str, set[int]]:
    """Limit of latency → the CPUs that are told to have it; each limit once."""
    found: dict[str, set[int]] = {}
    for problem in with_code(problems, Code.IDLE_LIMITED):
        assert (problem.severity, problem.field) == (
            Severity.WARNING,
            "power/pm_qos_resume_latency_us",
        )
        text = problem.message.removeprefix("is ").partition(" ")[0]
        assert text not in found
        found[text] = cpus_of(problem)
    return found


# --- frequencies ---


@pytest.mark.parametrize(
    ("percent", "highest", "limited"),
    [
        (50, 3700, True),
        (50, 2000, True),
        (50, 1800, False),
        (50, 800, False),
        (97, 3700, True),
        (99, 3700, False),
        (100, 3700, False),
    ],
)
def test_a_maximum_above_what_max_perf_pct_allows_is_told(
    percent: int, highest: int, limited: bool
) -> None:
    """Per cent of the highest frequency, not of the range; what is less than a step of the bus is
    no limit.
    """
    found = everywhere(evolve(PLAIN, max_percent=percent), max=highest)
    assert told(found.problems, MAX_FIELD) == ([{0, 1, 2, 3}] if limited else [])
    assert told(found.problems, MIN_FIELD) == []


@pytest.mark.parametrize(
    ("percent", "lowest", "limited"),
    [
        (50, 800, True),
        (50, 1700, True),
        (50, 1850, False),
        (50, 3700, False),
        (100, 800, True),
        (100, 3700, False),
        (21, 800, False),
    ],
)
def test_a_minimum_below_what_min_perf_pct_allows_is_told(
    percent: int, lowest: int, limited: bool
) -> None:
    """CPUs run faster than they are asked to, down to which they may; the hardware's own lowest is
    no limit of anybody.
    """
    found = everywhere(evolve(PLAIN, min_percent=percent), min=lowest)
    assert told(found.problems, MIN_FIELD) == ([{0, 1, 2, 3}] if limited else [])
    assert told(found.problems, MAX_FIELD) == []


def test_below_the_hardwares_own_lowest_nobody_is_kept_from_anything() -> None:
    """Whatever stands in a target: 21 % are 777 MHz, and the CPUs do not go below 800."""
    groups = (CpuGroup((0,), Pool.SHARED, "shared", None, Target(min_khz=400_000), ()),)
    assert not list(limit_problems(groups, evolve(PLAIN, min_percent=21)))


def test_an_end_that_is_left_out_is_asked_for_too() -> None:
    """A profile without frequencies asks for the hardware's range."""
    found = everywhere(evolve(PLAIN, min_percent=40, max_percent=60))
    assert (told(found.problems, MIN_FIELD), told(found.problems, MAX_FIELD)) == (
        [{0, 1, 2, 3}],
        [{0, 1, 2, 3}],
    )


def test_the_message_names_the_file_the_value_and_the_cpus() -> None:
    """And who may have set it, for it was not us."""
    (problem,) = with_code(
        everywhere(evolve(PLAIN, max_percent=50), max=3000).problems, Code.FREQUENCY_LIMITED
    )
    assert (problem.object, problem.field) == ("Node/node-1", MAX_FIELD)
    for words in ("max_perf_pct is 50", "CPUs 0-3", "at most at 50 %", "somebody else has set it"):
        assert words in problem.message


@pytest.mark.parametrize(
    "driver",
    [
        "intel_pstate",
        "intel_cpufreq",
        "acpi-cpufreq",
        "cppc_cpufreq",
        "amd-pstate",
        "amd-pstate-epp",
        "apple-cpufreq",
        None,
    ],
)
def test_only_the_driver_of_those_files_obeys_them(driver: str | None) -> None:
    """In both of its modes."""
    found = everywhere(evolve(machine(driver=driver), min_percent=90, max_percent=10))
    assert bool(with_code(found.problems, Code.FREQUENCY_LIMITED)) is (
        driver in ("intel_pstate", "intel_cpufreq")
    )


@pytest.mark.parametrize(
    ("low", "high"), [(None, None), (None, 100), (0, 100), (0, None), (1, 100)]
)
def test_where_nothing_is_limited_nothing_is_told(low: int | None, high: int | None) -> None:
    assert not everywhere(evolve(PLAIN, min_percent=low, max_percent=high)).problems


def test_cpus_that_no_profile_asks_anything_of_are_not_told_of() -> None:
    """Reserved ones without a profile, and those that nobody claims."""
    limited = all_waiting(evolve(PLAIN, min_percent=90, max_percent=10), "1")
    assert not plan(on=limited).problems
    found = plan(
        profile("shared", shared=True),
        node_config("pools", "shared", reserved=[reserved("0,2")]),
        on=limited,
    )
    assert (told(found.problems, MIN_FIELD), told(found.problems, MAX_FIELD)) == (
        [{1, 3}],
        [{1, 3}],
    )
    assert slept(found.problems) == {"1": {1, 3}}


def test_cpus_that_are_held_are_not_told_of() -> None:
    """Nothing is asked of them until more is known."""
    limited = all_waiting(evolve(PLAIN, min_percent=90, max_percent=10), "1")
    found = plan(
        profile(),
        profile("shared", shared=True),
        workload(),
        on=limited,
        with_=allocation([pod()], answered=False),
    )
    assert any(group.held for group in found.groups)
    assert not with_code(found.problems, Code.FREQUENCY_LIMITED)
    assert not slept(found.problems)


def test_cpus_that_are_offline_are_not_told_of() -> None:
    """They have no frequency, and no sleep that anybody limits."""
    limited = all_waiting(evolve(machine("0-3", offline="2"), max_percent=50), "1")
    found = everywhere(limited)
    assert told(found.problems, MAX_FIELD) == [{0, 1, 3}]
    assert slept(found.problems) == {"1": {0, 1, 3}}


def test_each_core_is_judged_by_its_own_highest_frequency() -> None:
    """Half of 5000 MHz is enough for 2000, half of 3600 is not."""
    hybrid = machine(
        "0-3", khz=(800_000, 5_000_000), ranges={2: (800_000, 3_600_000), 3: (800_000, 3_600_000)}
    )
    assert told(everywhere(evolve(hybrid, max_percent=50), max=2000).problems, MAX_FIELD) == [
        {2, 3}
    ]
    assert told(everywhere(evolve(hybrid, min_percent=40), min=1700).problems, MIN_FIELD) == [
        {0, 1}
    ]


def test_cpus_of_several_profiles_stand_in_one_warning() -> None:
    """Those of them that are asked for more than the limit allows."""
    limited = evolve(machine("0-5"), max_percent=50)
    objects = [
        profile(max=3000),
        profile("shared", shared=True, max=1500),
        profile("kernel", max=2500),
    ]
    found = plan(
        *objects,
        node_config("pools", "shared", reserved=[reserved("0", "kernel")]),
        on=limited,
        with_=allocation([pod()], [owns("1-2")]),
    )
    assert told(found.problems, MAX_FIELD) == [{0, 1, 2}]


def test_per_cents_are_of_the_highest_frequency_with_turbo_on_also_while_it_is_off() -> None:
    """80 % of 3900 MHz is more than the 2900 that are left, 70 % is less."""
    off = evolve(machine(khz=(800_000, 2_900_000), limit=3_900_000), boost=False)
    assert told(everywhere(evolve(off, max_percent=80)).problems, MAX_FIELD) == []
    assert told(everywhere(evolve(off, max_percent=70)).problems, MAX_FIELD) == [{0, 1, 2, 3}]


# --- idle states: POLL 0, C1 2, C1E 10, C6 170 µs ---


@pytest.mark.parametrize(
    ("text", "limited"),
    [
        ("n/a", True),
        ("1", True),
        ("20", True),
        ("169", True),
        ("170", False),
        ("1000000", False),
        ("0", False),
        (None, False),
        ("", False),
        ("soon", False),
    ],
)
def test_a_limit_of_latency_below_the_deepest_state_is_told(
    text: str | None, limited: bool
) -> None:
    """0 is none, as the kernel spells it, and n/a allows nothing that takes time to leave."""
    assert slept(everywhere(all_waiting(PLAIN, text)).problems) == (
        {str(text): {0, 1, 2, 3}} if limited else {}
    )


def test_the_message_says_which_states_are_not_entered() -> None:
    """Those of more than the limit, or all that take time to leave."""
    (first,) = with_code(everywhere(all_waiting(PLAIN, "20")).problems, Code.IDLE_LIMITED)
    assert first.object == "Node/node-1"
    assert first.message.startswith(
        "is 20 on CPUs 0-3: no idle state of more than 20 µs is entered there"
    )
    (second,) = with_code(everywhere(all_waiting(PLAIN, "n/a")).problems, Code.IDLE_LIMITED)
    assert second.message.startswith(
        "is n/a on CPUs 0-3: no idle state that takes time to leave is entered there"
    )


@pytest.mark.parametrize(
    ("asked", "text", "limited"),
    [
        ({"names": {"C6": False}}, "20", False),
        ({"names": {"C6": False}}, "5", True),
        ({"names": {"C6": False, "C1E": False}}, "5", False),
        ({"names": {"C6": True}}, "20", True),
        ({"names": {"C1": False}}, "20", True),
        ({"max_latency_us": 10}, "20", False),
        ({"max_latency_us": 10}, "10", False),
        ({"max_latency_us": 10}, "9", True),
        ({"max_latency_us": 500}, "20", True),
        ({"max_latency_us": 0}, "n/a", False),
        ({"names": {"C1": False, "C1E": False, "C6": False}}, "n/a", False),
    ],
)
def test_a_state_that_the_profile_turns_off_is_not_kept_from_anybody(
    asked: dict[str, object], text: str, limited: bool
) -> None:
    """Only what may be entered and is not is worth a word."""
    assert slept(everywhere(all_waiting(PLAIN, text), **asked).problems) == (
        {text: {0, 1, 2, 3}} if limited else {}
    )


@pytest.mark.parametrize(
    ("asked", "limited"),
    [
        ({}, False),
        ({"names": {"C1": True}}, False),
        ({"names": {"C6": True}}, True),
        ({"max_latency_us": 200}, True),
    ],
)
def test_a_state_that_was_off_before_counts_where_the_profile_turns_it_on(
    asked: dict[str, object], limited: bool
) -> None:
    """Left out, it stays as it was."""
    off = evolve(
        PLAIN,
        cpus=tuple(
            evolve(cpu, idle=(*cpu.idle[:3], evolve(cpu.idle[3], enabled=False)))
            for cpu in PLAIN.cpus
        ),
    )
    assert slept(everywhere(all_waiting(off, "20"), **asked).problems) == (
        {"20": {0, 1, 2, 3}} if limited else {}
    )


def test_each_limit_of_latency_is_one_warning() -> None:
    """With its own CPUs."""
    found = everywhere(waiting(PLAIN, cpu0="n/a", cpu1="20", cpu2="0", cpu3="20"))
    assert slept(found.problems) == {"n/a": {0}, "20": {1, 3}}


def test_a_latency_that_we_set_ourselves_is_not_told() -> None:
    """By latency the file is ours, and what it holds now is replaced."""
    agents = config(agent=AgentSettings(idle_states="byLatency"))
    limited = all_waiting(PLAIN, "1")
    found = plan(profile("shared", shared=True, max_latency_us=50), workload(), agents, on=limited)
    assert {group.target.latency_us for group in found.groups} == {50}
    assert not found.problems


def test_a_cpu_without_idle_states_is_not_told_of() -> None:
    assert not everywhere(all_waiting(machine(idle=()), "n/a")).problems


# --- whatever the machine ---

_DRIVERS = ("intel_pstate", "intel_cpufreq", "acpi-cpufreq", "amd-pstate-epp")
_LATENCIES = (None, "0", "n/a", "1", "20", "200")
_PERCENT = st.none() | st.integers(0, 100)
_ENDS = st.tuples(st.none() | st.integers(800, 3700), st.none() | st.integers(800, 3700))


@st.composite
def planned(draw: st.DrawFn) -> tuple[tuple[CpuGroup, ...], Machine]:
    """One to four CPUs with limits of every kind, each with a target of its own."""
    count = draw(st.integers(1, 4))
    found = machine(
        f"0-{count - 1}",
        driver=draw(st.sampled_from(_DRIVERS)),
        ranges={0: (1_700_000, draw(st.sampled_from((2_000_000, 4_500_000))))},
    )
    found = waiting(
        found, **{f"cpu{cpu}": draw(st.sampled_from(_LATENCIES)) for cpu in range(count)}
    )
    groups = []
    for cpu in range(count):
        low, high = (None if mhz is None else mhz * 1000 for mhz in draw(_ENDS))
        idle = tuple(
            (state.name, draw(st.booleans()))
            for state in found.by_id[cpu].idle
            if draw(st.booleans())
        )
        latency = draw(st.sampled_from((None, None, 50)))
        target = Target(low, high, idle=() if latency is not None else idle, latency_us=latency)
        groups.append(
            CpuGroup(
                (cpu,),
                Pool.SHARED,
                draw(st.sampled_from(("shared", "shared", None))),
                None,
                target,
                (),
                draw(st.sampled_from((False, False, True))),
            )
        )
    return tuple(groups), evolve(found, min_percent=draw(_PERCENT), max_percent=draw(_PERCENT))


def beyond(target: Target, domain: FrequencyDomain, found: Machine) -> dict[str, float]:
    """By how many kHz each end lies beyond its limit; an end that nobody asks for or nothing limits
    is left out.
    """
    top, floor = domain.hardware_max_khz or 0, domain.hardware_min_khz or 0
    over = {}
    if target.max_khz is not None and found.max_percent is not None:
        over[MAX_FIELD] = min(target.max_khz, top) - top * found.max_percent / 100
    if target.min_khz is not None and found.min_percent is not None:
        over[MIN_FIELD] = top * found.min_percent / 100 - max(target.min_khz, floor)
    return over


@given(planned())
def test_frequencies_are_told_exactly_where_a_limit_is_met(
    case: tuple[tuple[CpuGroup, ...], Machine],
) -> None:
    """Each end at most once; nearer to the limit than a step of the bus, either answer is right."""
    groups, found = case
    problems = list(limit_problems(groups, found))
    for field in (MAX_FIELD, MIN_FIELD):
        warned = told(problems, field)
        assert len(warned) <= 1
        named = set().union(*warned)
        for group in groups:
            (cpu,) = group.cpus
            domain = found.domain_by_id[cpu]
            obeys = (
                group.profile is not None
                and not group.held
                and domain.driver in ("intel_pstate", "intel_cpufreq")
            )
            over = beyond(group.target, domain, found).get(field, 0) if obeys else 0
            assert cpu in named if over > STEP_KHZ else cpu not in named or over > 0


@given(planned())
def test_latencies_are_told_exactly_where_a_state_that_is_on_is_too_deep(
    case: tuple[tuple[CpuGroup, ...], Machine],
) -> None:
    """One warning for each limit, with all of its CPUs and no other."""
    groups, found = case
    expected: dict[str, set[int]] = {}
    for group in groups:
        cpu = found.by_id[group.cpus[0]]
        text = cpu.resume_latency
        if (
            group.profile is None
            or group.held
            or group.target.latency_us is not None
            or text in (None, "0")
        ):
            continue
        most = 0 if text == "n/a" else int(text)
        on = {state.name: state.enabled for state in cpu.idle} | dict(group.target.idle)
        if any(on[state.name] and state.latency_us > most for state in cpu.idle):
            expected.setdefault(text, set()).add(cpu.id)
    assert slept(limit_problems(groups, found)) == expected


@given(scenarios(most_cpus=8), _PERCENT, _PERCENT, st.sampled_from(("n/a", "20")))
def test_a_limit_of_somebody_else_changes_words_and_nothing_else(
    scenario: Scenario, low: int | None, high: int | None, text: str
) -> None:
    """Every target, cap and resource is as it would be without; only warnings of the two codes
    come.
    """
    free = all_waiting(evolve(scenario.machine, min_percent=None, max_percent=None), "0")
    limited = all_waiting(evolve(free, min_percent=low, max_percent=high), text)
    before, after = (scenario.with_item(machine=item).plan() for item in (free, limited))
    more = set(after.problems) - set(before.problems)
    assert {problem.code for problem in more} <= {Code.FREQUENCY_LIMITED, Code.IDLE_LIMITED}
    assert evolve(after, problems=()) == evolve(before, problems=())
    assert set(before.problems) <= set(after.problems)
