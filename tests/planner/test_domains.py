"""E7: CPUs that share a frequency domain have one frequency target, the
highest.
"""

import pytest
from attrs import evolve

from kpm_planner.model.machine import CpufreqSettings
from kpm_planner.model.objects import PowerProfile
from kpm_planner.model.problems import Code, Severity
from kpm_planner.plan import NodePlan
from tests.planner.build import (
    allocation,
    asking,
    machine,
    node_config,
    on_cpu,
    owns,
    plan,
    pod,
    profile,
    reserved,
)
from tests.planner.reading import with_code


def pair(
    first: PowerProfile | None,
    second: PowerProfile | None,
    driver: str = "acpi-cpufreq",
    settings: CpufreqSettings | None = None,
) -> NodePlan:
    """CPUs 0 and 1 of one domain, each reserved under its own profile; None is a CPU that nobody
    claims.
    """
    entries = [
        reserved(str(cpu), name)
        for cpu, name in enumerate(("first", "second"))
        if (first, second)[cpu] is not None
    ]
    both = [
        evolve(item, meta=evolve(item.meta, name=name))
        for item, name in ((first, "first"), (second, "second"))
        if item is not None
    ]
    return plan(
        *both,
        node_config(reserved=entries),
        on=machine("0-1", driver=driver, shared=[(0, 1)], settings=settings),
    )


def test_the_highest_minimum_and_the_highest_maximum_hold() -> None:
    """They may come from different CPUs."""
    found = pair(profile(min=1000, max=3000), profile(min=1500, max=2000))
    for cpu in (0, 1):
        assert (on_cpu(found, cpu).target.min_khz, on_cpu(found, cpu).target.max_khz) == (
            1_500_000,
            3_000_000,
        )


@pytest.mark.parametrize(
    ("one", "other", "holds"),
    [
        ("performance", "schedutil", "performance"),
        ("schedutil", "ondemand", "schedutil"),
        ("ondemand", "conservative", "ondemand"),
        ("conservative", "powersave", "conservative"),
        ("userspace", "powersave", "powersave"),
        ("userspace", "userspace", "userspace"),
    ],
)
def test_governors_have_an_order_and_userspace_holds_only_if_all_ask_for_it(
    one: str, other: str, holds: str
) -> None:
    """performance > schedutil > ondemand > conservative > powersave."""
    for first, second in ((one, other), (other, one)):
        found = pair(profile(governor=first), profile(governor=second))
        assert {on_cpu(found, cpu).target.governor for cpu in (0, 1)} == {holds}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("performance", "balance_performance"),
        ("balance_performance", "balance_power"),
        ("balance_power", "power"),
    ],
)
def test_epps_have_an_order(one: str, other: str) -> None:
    """performance > balance_performance > balance_power > power."""
    for first, second in ((one, other), (other, one)):
        found = pair(profile(epp=first), profile(epp=second), driver="intel_pstate")
        assert {on_cpu(found, cpu).target.epp for cpu in (0, 1)} == {one}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (CpufreqSettings(800_000, 3_700_000, "schedutil"), (1_000_000, None, None)),
        (CpufreqSettings(1_200_000, 1_500_000, "conservative"), (None, 2_000_000, "ondemand")),
    ],
)
def test_a_member_at_baseline_takes_part_with_its_baseline(
    settings: CpufreqSettings, expected: tuple[int | None, int | None, str | None]
) -> None:
    """Where it is the highest, the domain stays at baseline; the neighbour never loses what it has
    (R8).
    """
    found = pair(profile(min=1000, max=2000, governor="ondemand"), None, settings=settings)
    for cpu in (0, 1):
        target = on_cpu(found, cpu).target
        assert (target.min_khz, target.max_khz, target.governor) == expected


def test_a_raw_epp_at_baseline_counts_as_high_as_the_next_word_above_it() -> None:
    """intel_pstate shows a number where no word fits: 0 is performance, 255 is power."""
    held = CpufreqSettings(800_000, 3_700_000, "powersave", "64")
    assert (
        on_cpu(pair(profile(epp="balance_power"), None, "intel_pstate", held), 0).target.epp is None
    )
    assert (
        on_cpu(
            pair(profile(epp="balance_power"), None, "intel_pstate", evolve(held, epp="255")), 1
        ).target.epp
        == "balance_power"
    )
    assert (
        on_cpu(
            pair(profile(epp="performance"), None, "intel_pstate", evolve(held, epp="10")), 0
        ).target.epp
        == "performance"
    )


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        ("0", "performance"),
        ("1", "balance_performance"),
        ("128", "balance_performance"),
        ("129", "balance_power"),
        ("192", "balance_power"),
        ("193", "power"),
        ("255", "power"),
    ],
)
def test_a_raw_epp_lies_where_its_next_word_does(raw: str, word: str) -> None:
    """So a neighbour with that word decides, and one with the next lower word does not."""
    words = ("power", "balance_power", "balance_performance", "performance")
    held = CpufreqSettings(800_000, 3_700_000, "powersave", raw)
    for asked in words:
        found = on_cpu(pair(profile(epp=asked), None, "intel_pstate", held), 0).target.epp
        assert found == (asked if words.index(asked) >= words.index(word) else None)


def test_there_is_one_warning_a_domain() -> None:
    """It names the CPUs and what holds (field report 52)."""
    found = pair(profile(max=2000), profile(max=3000))
    problems = with_code(found.problems, Code.DOMAIN_CONFLICT)
    assert [(problem.severity, problem.field) for problem in problems] == [
        (Severity.WARNING, "cpufreq/policy0")
    ]
    assert "CPUs 0-1" in problems[0].message
    assert "0.8..3 GHz" in problems[0].message


def test_targets_that_mean_the_same_are_no_conflict() -> None:
    """Other words for the same values, or other idle states."""
    assert not pair(profile(max=2000), profile(max=2_000_000)).problems
    assert not pair(profile(min="0%", max="100%"), None).problems
    assert not pair(profile(names={"C6": False}), profile(names={"C1": False})).problems


def test_idle_states_stay_each_cpus_own() -> None:
    """They belong to the CPU, not to the domain."""
    found = pair(profile(max=2000, names={"C6": False}), profile(max=3000))
    assert on_cpu(found, 0).target.idle == (("C6", False),)
    assert on_cpu(found, 1).target.idle == ()


def test_a_value_that_the_domain_decided_says_which_it_is() -> None:
    """The reasons of CPU 0 name 3 GHz, not only the 2 that it asked for."""
    found = pair(profile(max=2000), profile(max=3000))
    assert on_cpu(found, 0).target.max_khz == 3_000_000
    assert any("domain 0" in line for line in on_cpu(found, 0).because)
    assert any("max" in line and "3 GHz" in line for line in on_cpu(found, 0).because)


def test_offline_cpus_of_a_domain_have_no_say() -> None:
    """The others decide; the domain is there as long as one of them is online."""
    found = plan(
        profile(max=2000),
        node_config(reserved=[reserved("0", "performance")]),
        on=machine("0-1", shared=[(0, 1)], offline="1"),
    )
    assert on_cpu(found, 0).target.max_khz == 2_000_000
    assert on_cpu(found, 1).held
    assert not found.problems


def test_a_domain_with_a_held_cpu_is_not_settled() -> None:
    """What is not known cannot take part; the applier leaves the whole domain (R7)."""
    waiting = allocation([pod(asking(1))], answered=False, allocatable=frozenset({1}))
    found = plan(
        profile(max=2000),
        node_config(reserved=[reserved("0", "performance")]),
        on=machine("0-1", shared=[(0, 1)]),
        with_=waiting,
    )
    assert (on_cpu(found, 0).held, on_cpu(found, 1).held) == (False, True)
    assert not with_code(found.problems, Code.DOMAIN_CONFLICT)


def test_exclusive_cpus_of_two_pods_in_one_domain_both_get_the_higher() -> None:
    """Neither pod runs slower than it asked for (R8)."""
    items = [
        pod(asking(1, "first"), name="a", uid="a"),
        pod(asking(1, "second"), name="b", uid="b"),
    ]
    found = plan(
        profile("first", min=2000),
        profile("second", max=1000),
        with_=allocation(items, [owns("0", "a"), owns("1", "b")]),
        on=machine("0-1", shared=[(0, 1)]),
    )
    for cpu in (0, 1):
        assert (on_cpu(found, cpu).target.min_khz, on_cpu(found, cpu).target.max_khz) == (
            2_000_000,
            3_700_000,
        )
    assert on_cpu(found, 0).profile == "first"
    assert on_cpu(found, 1).profile == "second"
