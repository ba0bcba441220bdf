"""Warnings are given exactly where there is something to warn of."""

from attrs import evolve
from hypothesis import given

from kpm_planner.model.objects import PStates
from kpm_planner.model.problems import Code
from kpm_planner.profiles import resolve_profile
from tests.planner.property import reference
from tests.planner.reading import codes, domain_of, effective, group_of, with_code
from tests.strategies.scenarios import Scenario, scenarios


@given(scenarios())
def test_a_frequency_domain_is_warned_of_exactly_where_the_wishes_of_its_cpus_differ(
    scenario: Scenario,
) -> None:
    """One warning a domain; none where all mean the same values, where its driver is not managed,
    or a CPU of it is held.
    """
    plan = scenario.plan()
    groups, found = group_of(plan), reference.profiles(scenario.intent, scenario.item.node)
    expected = []
    for domain in scenario.machine.domains:
        cpus = [cpu for cpu in domain.cpus if cpu in scenario.machine.online]
        wishes = {
            effective(
                reference.wish(found.get(groups[cpu].profile or ""), scenario.machine, cpu), domain
            )
            for cpu in cpus
        }
        if len(wishes) > 1 and not any(groups[cpu].held for cpu in cpus):
            expected.append(f"cpufreq/policy{domain.id}")
    assert sorted(
        problem.field for problem in with_code(plan.problems, Code.DOMAIN_CONFLICT)
    ) == sorted(expected)


@given(scenarios())
def test_a_core_is_warned_of_exactly_where_its_hyperthreads_have_different_targets(
    scenario: Scenario,
) -> None:
    """One warning a core, at its first CPU. Targets in other words for the same values do not
    differ, and hyperthreads of which the same is asked do not either, whatever their baselines are.
    Cores with a held CPU are not judged here.
    """
    plan = scenario.plan()
    groups = group_of(plan)
    told = {problem.field for problem in with_code(plan.problems, Code.SIBLING_CONFLICT)}
    for core in {
        tuple(sorted(scenario.machine.online & set(cpu.siblings)))
        for cpu in scenario.machine.cpus
        if cpu.online
    }:
        values = set()
        for cpu in core:
            domain = domain_of(scenario.machine, cpu)
            values.add(None if domain is None else effective(groups[cpu].target, domain))
        if not any(groups[cpu].held for cpu in core):
            asked = {evolve(groups[cpu].target, idle=(), epb=None) for cpu in core}
            assert (f"cpu{core[0]}" in told) == (len(values) > 1 and len(asked) > 1)


@given(scenarios())
def test_what_a_machine_does_not_have_is_told_exactly_where_a_valid_profile_asks_for_it(
    scenario: Scenario,
) -> None:
    """Frequencies without a driver, a driver that was not tried, an EPP without its
    file, idle states without any; never an error.
    """
    machine = scenario.machine
    domains = [domain_of(machine, cpu) for cpu in machine.online]
    managed = [domain for domain in domains if domain is not None]
    for profile in scenario.intent.profiles:
        resolved = resolve_profile(profile, machine)
        if not resolved.valid:
            continue
        found = codes(resolved.problems)
        idle = bool(profile.cstates.names) or profile.cstates.max_latency_us is not None
        assert (Code.FREQUENCY_UNSUPPORTED in found) == (
            profile.pstates != PStates() and len(managed) < len(domains)
        )
        assert (Code.DRIVER_UNTESTED in found) == (
            profile.pstates != PStates()
            and any(domain.driver not in reference.TESTED_DRIVERS for domain in managed)
        )
        assert (Code.EPP_UNSUPPORTED in found) == (
            profile.pstates.epp is not None
            and any(domain.settings.epp is None for domain in managed)
        )
        assert (Code.IDLE_UNSUPPORTED in found) == (
            idle and not any(cpu.idle for cpu in machine.cpus)
        )
        static = any(
            domain.driver not in ("intel_pstate", "amd-pstate-epp")
            and "powersave" in domain.governors
            for domain in managed
        )
        assert (Code.GOVERNOR_STATIC in found) == (
            profile.pstates.governor == "powersave" and static
        )
