"""Every target is one that the kernel can take and the profile asks for; CPUs of one frequency
domain agree.
"""

import math
from fractions import Fraction

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kpm_planner.model.assignment import Pool
from kpm_planner.model.cluster import Meta
from kpm_planner.model.machine import Cpu, CpufreqSettings, FrequencyDomain, Machine
from kpm_planner.model.objects import PowerProfile, PStates
from kpm_planner.model.quantities import frequency_khz
from kpm_planner.profiles import resolve_profile
from tests.planner.property import reference
from tests.planner.reading import domain_of, effective, group_of
from tests.strategies.machines import TESTED, machines
from tests.strategies.objects import profiles
from tests.strategies.scenarios import Scenario, scenarios


@given(scenarios())
def test_a_target_lies_in_the_hardwares_range_and_names_what_the_driver_offers(
    scenario: Scenario,
) -> None:
    """min ≤ max with baseline filled in; the governor exists; an EPP only where there is one,
    performance under performance.
    """
    for cpu, group in group_of(scenario.plan()).items():
        domain, target = domain_of(scenario.machine, cpu), group.target
        if domain is None:
            assert (target.min_khz, target.max_khz, target.governor, target.epp) == (
                None,
                None,
                None,
                None,
            )
            continue
        low, high = reference.limits(domain)
        assert all(
            low <= khz <= high for khz in (target.min_khz, target.max_khz) if khz is not None
        )
        assert target.governor is None or target.governor in domain.governors
        assert target.epp is None or domain.settings.epp is not None
        ends = effective(target, domain)
        assert ends.min_khz is not None
        assert ends.max_khz is not None
        assert ends.min_khz <= ends.max_khz
        if ends.governor == "performance" and ends.epp is not None:
            assert ends.epp == "performance"


@given(scenarios())
def test_idle_states_of_a_target_are_states_that_the_cpu_has(scenario: Scenario) -> None:
    """Each at most once; a state that a profile does not name is not in it."""
    for cpu, group in group_of(scenario.plan()).items():
        names = [name for name, _ in group.target.idle]
        assert len(set(names)) == len(names)
        assert set(names) <= {state.name for state in scenario.machine.by_id[cpu].idle}


@given(scenarios())
def test_online_cpus_of_a_frequency_domain_have_one_frequency_target_the_highest_of_their_wishes(
    scenario: Scenario,
) -> None:
    """Highest minimum and maximum, governor and EPP by their order, baseline among the candidates;
    a lone CPU has its wish. Idle states and the bias are each CPU's own.
    """
    plan = scenario.plan()
    groups, found = group_of(plan), reference.profiles(scenario.intent, scenario.item.node)
    for domain in scenario.machine.domains:
        cpus = [cpu for cpu in domain.cpus if cpu in scenario.machine.online]
        if any(groups[cpu].held for cpu in cpus):
            continue
        wishes = [
            reference.wish(found.get(groups[cpu].profile or ""), scenario.machine, cpu)
            for cpu in cpus
        ]
        targets = {evolve(groups[cpu].target, idle=(), epb=None) for cpu in cpus}
        assert [groups[cpu].target.idle for cpu in cpus] == [wish.idle for wish in wishes]
        assert [groups[cpu].target.epb for cpu in cpus] == [wish.epb for wish in wishes]
        assert len(targets) == 1
        got = effective(targets.pop(), domain)
        want = reference.highest(wishes, domain)
        assert (got.min_khz, got.max_khz, got.governor) == (
            want.min_khz,
            want.max_khz,
            want.governor,
        )
        assert (got.epp is None) == (want.epp is None)
        if got.epp is not None and want.epp is not None:
            assert reference.epp_rank(got.epp) == reference.epp_rank(want.epp)


@given(scenarios())
def test_cpus_outside_frequency_domains_have_the_idle_states_that_their_profile_asks_for(
    scenario: Scenario,
) -> None:
    """A machine without cpufreq still has its C-states set (field report 15)."""
    found = reference.profiles(scenario.intent, scenario.item.node)
    for cpu, group in group_of(scenario.plan()).items():
        if domain_of(scenario.machine, cpu) is None and group.pool is not Pool.OFFLINE:
            assert group.target == reference.wish(
                found.get(group.profile or ""), scenario.machine, cpu
            )


@given(machines(drivers=TESTED), st.data())
def test_a_valid_profile_resolves_on_every_kind_of_core_as_the_design_reads(
    machine: Machine, data: st.DataObject
) -> None:
    """resolve_profile gives a target for each kind; together they are the wishes of all online
    CPUs.
    """
    profile = data.draw(profiles(machine, "edge", awkward=data.draw(st.booleans())))
    resolved = resolve_profile(profile, machine)
    assert len(resolved.by_kind) == (len(machine.kinds) if resolved.valid else 0)
    for (_, cpus), item in zip(machine.kinds, resolved.by_kind, strict=False):
        assert all(item.target == reference.wish(profile, machine, cpu) for cpu in cpus)


def lone_cpu(low: int, high: int, driver: str = "intel_pstate") -> Machine:
    """A machine of one CPU with this range."""
    settings = CpufreqSettings(low, high, "powersave")
    return Machine(
        cpus=(Cpu(0, domain=0),),
        domains=(
            FrequencyDomain(
                0, (0,), driver, low, high, high, (), ("performance", "powersave"), (), settings
            ),
        ),
    )


@given(st.integers(1, 6_000_000), st.integers(0, 6_000_000), st.integers(0, 100))
def test_a_percentage_is_its_part_of_the_range_rounded_up(
    low: int, width: int, percent: int
) -> None:
    """hw_min + (hw_max - hw_min) * p / 100, rounded up to a whole kHz; exact, for any odd range."""
    high = low + width
    exact = low + Fraction(width * percent, 100)
    assert frequency_khz(f"{percent}%", (low, high)) == math.ceil(exact)
    target = (
        resolve_profile(
            PowerProfile(Meta("p"), pstates=PStates(f"{percent}%", f"{percent}%")),
            lone_cpu(low, high),
        )
        .by_kind[0]
        .target
    )
    assert (target.min_khz, target.max_khz) == (math.ceil(exact), math.ceil(exact))


@given(
    st.integers(1, 6_000_000), st.integers(0, 6_000_000), st.integers(0, 100), st.integers(0, 100)
)
def test_percentages_keep_their_order_on_every_range(
    low: int, width: int, first: int, second: int
) -> None:
    """A minimum that is the smaller percentage is never above the maximum, whatever the core."""
    profile = PowerProfile(
        Meta("p"), pstates=PStates(f"{min(first, second)}%", f"{max(first, second)}%")
    )
    resolved = resolve_profile(profile, lone_cpu(low, low + width))
    assert not resolved.problems
    target = resolved.by_kind[0].target
    assert target.min_khz is not None
    assert target.max_khz is not None
    assert low <= target.min_khz <= target.max_khz <= low + width


@given(st.integers(1, 20_000_000))
def test_an_integer_is_mhz_below_100000_and_khz_from_there_on(value: int) -> None:
    """1500 and 1500000 are the same frequency."""
    assert frequency_khz(value, None) == (value * 1000 if value < 100_000 else value)
