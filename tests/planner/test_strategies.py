"""The generated machines are such as a kernel could show: what the planner's and the applier's laws
rest on.
"""

from collections import Counter

import pytest
from attrs import evolve
from hypothesis import given, settings

from kpm_applier.discovery.discover import discover
from kpm_applier.kernel_model.model import KernelModel
from kpm_planner.model.assignment import Pool
from kpm_planner.model.cluster import SYSTEM_NAMESPACE
from kpm_planner.model.machine import TESTED_DRIVERS, Machine
from kpm_planner.model.problems import Code
from kpm_planner.selection import accept
from tests.strategies.machines import machines
from tests.strategies.scenarios import Scenario, scenarios


@given(machines())
def test_a_machine_is_consistent_in_itself(machine: Machine) -> None:
    """Settings lie in the range and on the table, words are offered, CPU 0 is online, no domain is
    without a CPU online.
    """
    assert 0 in machine.online
    assert len(machine.by_id) == len(machine.cpus) <= 16
    members = [cpu for domain in machine.domains for cpu in domain.cpus]
    assert len(members) == len(set(members))
    for domain in machine.domains:
        low, high, settings_ = domain.hardware_min_khz, domain.hardware_max_khz, domain.settings
        assert low is not None
        assert high is not None
        assert (
            low
            <= (settings_.min_khz or 0)
            <= (settings_.max_khz or 0)
            <= high
            <= (domain.limit_max_khz or 0)
        )
        assert settings_.governor in domain.governors
        assert settings_.epp is None or domain.driver in (
            "intel_pstate",
            "intel_cpufreq",
            "amd-pstate-epp",
        )
        assert settings_.governor != "performance" or settings_.epp in (None, "performance")
        assert not domain.available_khz or {low, high, settings_.min_khz, settings_.max_khz} <= set(
            domain.available_khz
        )
        assert machine.online & set(domain.cpus)
        assert all(machine.by_id[cpu].domain == domain.id for cpu in domain.cpus)
    for cpu in machine.cpus:
        assert not cpu.online or cpu.id in cpu.siblings
        assert len({state.name for state in cpu.idle}) == len(cpu.idle)
    assert all(
        entry.name and (entry.min_khz or 0) <= (entry.max_khz or 0) for entry in machine.uncore
    )


@given(machines())
def test_what_a_kernel_of_a_machine_shows_is_discovered_as_that_machine(machine: Machine) -> None:
    """The kernel model takes every generated machine; discovery reads the same CPUs, domains,
    states and limits back.
    """
    found = discover(KernelModel(machine)).machine
    assert {cpu.id: (cpu.online, cpu.domain, cpu.idle, cpu.siblings) for cpu in found.cpus} == {
        cpu.id: (cpu.online, cpu.domain, cpu.idle, cpu.siblings) for cpu in machine.cpus
    }
    assert [
        (domain.id, domain.cpus, domain.driver, domain.settings, domain.governors)
        for domain in found.domains
    ] == [
        (domain.id, domain.cpus, domain.driver, domain.settings, domain.governors)
        for domain in machine.domains
    ]
    assert found.uncore == machine.uncore
    # the model has no memory-mapped twins
    assert found.power_zones == tuple(evolve(zone, mirror_uw=None) for zone in machine.power_zones)
    assert found.fabrics == machine.fabrics
    assert found.online == machine.online


@given(scenarios())
def test_identities_are_unique_as_an_api_server_keeps_them(scenario: Scenario) -> None:
    """One object for a kind, group, namespace and name; of a pod's name, uids differ."""
    intent = scenario.intent
    for objects in (
        intent.profiles,
        intent.workloads,
        intent.node_configs,
        intent.uncores,
        intent.configs,
        intent.caps,
    ):
        names = [
            (obj.group, obj.meta.namespace or SYSTEM_NAMESPACE[obj.group], obj.meta.name)
            for obj in objects
        ]
        assert len(set(names)) == len(names)
    uids = Counter(pod.meta.uid for pod in scenario.item.allocation.pods)
    assert all(count == 1 for count in uids.values())


@pytest.mark.soak
def test_generated_machines_have_what_real_ones_have() -> None:
    """Unlike cores, hyperthreads, dies, gaps, offline CPUs, shared domains, tables, no cpufreq,
    foreign drivers, uncore of both layouts, power zones, fabrics.
    """
    seen: list[Machine] = []

    @settings(max_examples=1500, derandomize=True, database=None)
    @given(machines())
    def collect(machine: Machine) -> None:
        seen.append(machine)

    collect()
    assert any(len({domain.hardware_max_khz for domain in machine.domains}) > 1 for machine in seen)
    assert any(
        machine.shared_cores and len({cpu.die for cpu in machine.cpus if cpu.online}) > 1
        for machine in seen
    )
    assert any(
        max(machine.by_id) >= len(machine.cpus) and len(machine.online) < len(machine.cpus)
        for machine in seen
    )
    assert any(machine.shared_domains and machine.domains[0].available_khz for machine in seen)
    assert any(not machine.domains and machine.idle_names for machine in seen)
    assert any(
        domain.driver not in TESTED_DRIVERS for machine in seen for domain in machine.domains
    )
    assert any(len({cpu.idle for cpu in machine.cpus}) > 2 for machine in seen)
    assert any(entry.name.startswith("uncore") for machine in seen for entry in machine.uncore)
    assert any(domain.settings.epp == "128" for machine in seen for domain in machine.domains)
    zones = [machine.power_zones for machine in seen]
    assert {zone.control for found in zones for zone in found} == {
        "intel-rapl",
        "amd_hsmp_hwmon",
        "hsmp",
    }
    assert {len({zone.package for zone in found}) for found in zones} == {0, 1, 2}
    assert any(
        found and found[0].die is not None and found[0].mirror_uw is not None for found in zones
    )
    assert {tuple(limit.name for limit in zone.limits) for found in zones for zone in found} == {
        ("long_term",),
        ("long_term", "short_term"),
        ("power_cap",),
    }
    assert {
        (limit.name, limit.max_uw is None)
        for found in zones
        for zone in found
        for limit in zone.limits
    } >= {("long_term", True), ("long_term", False)}
    assert {fabric.protocol for machine in seen for fabric in machine.fabrics} == {2, 5, 6, 7}
    assert any(machine.fabric_fault for machine in seen)


@pytest.mark.soak
def test_generated_scenarios_reach_most_of_what_can_go_wrong() -> None:
    """A law that only ever sees plain plans proves little."""
    seen: set[Code] = set()
    pools: Counter[tuple[Pool, bool]] = Counter()
    asked: Counter[str] = Counter()

    @settings(max_examples=3500, derandomize=True, database=None)
    @given(scenarios())
    def collect(scenario: Scenario) -> None:
        plan = scenario.plan()
        seen.update(problem.code for problem in (*plan.problems, *accept(scenario.intent).problems))
        pools.update((group.pool, group.profile is not None) for group in plan.groups)
        asked.update(
            capped=any(any(target.limits) for target in plan.caps),
            fabric=any(target.pstates for target in plan.fabrics),
            turbo=plan.boost is not None,
        )

    collect()
    # what goes wrong with measuring stands in no plan
    planned = {code for code in Code if not code.value.startswith("energy-")}
    # nor do settings of the operator, nor what was in force before
    planned -= {Code.ADMISSION_MISSING, Code.AGENT_IMAGE, Code.CAP_HOST}
    planned -= {Code.LAST_VALID, Code.VERSION_UNKNOWN}
    # tests of their own
    planned -= {
        Code.FREQUENCY_BASE_UNKNOWN,
        Code.FREQUENCY_LIMITED,
        Code.FREQUENCY_LIMIT_UNKNOWN,
        Code.IDLE_LIMITED,
        Code.PROFILE_EARLIER_FORM,
    }
    assert len(seen) >= len(planned) - 10, sorted(code.value for code in planned - seen)
    assert all(pools[pool, True] >= 40 for pool in (Pool.EXCLUSIVE, Pool.RESERVED, Pool.SHARED))
    assert all(asked[what] >= 20 for what in ("capped", "fabric", "turbo")), asked
