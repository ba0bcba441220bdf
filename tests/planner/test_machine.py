"""A machine as a value: what is worked out from it."""

from attrs import evolve

from kpm_planner.machine import MANAGED_DRIVERS, SCALING_POWERSAVE, Cpu, Machine
from kpm_planner.problems import Code
from tests.planner.build import idle_states, machine, on_cpu, plan, profile, uncore, workload
from tests.planner.reading import codes


def test_cpus_that_can_do_the_same_are_one_kind() -> None:
    """A large machine has few kinds; offline CPUs are of none."""
    big = machine("0-127", offline="100-127")
    assert [sorted(cpus) for _, cpus in big.kinds] == [list(range(100))]
    hybrid = machine("0-3", ranges={2: (800_000, 2_000_000)})
    assert sorted(sorted(cpus) for _, cpus in hybrid.kinds) == [[0, 1, 3], [2]]


def test_cpus_with_other_settings_or_idle_states_are_of_another_kind() -> None:
    """Baseline takes part in targets, so it makes a kind."""
    one = machine("0-2")
    settings = evolve(one.domains[1].settings, governor="performance", epp="performance")
    other = evolve(one, domains=(one.domains[0], evolve(one.domains[1], settings=settings), one.domains[2]))
    assert sorted(sorted(cpus) for _, cpus in other.kinds) == [[0, 2], [1]]
    deeper = evolve(one, cpus=(*one.cpus[:2], evolve(one.cpus[2], idle=idle_states(("POLL", 0)))))
    assert sorted(sorted(cpus) for _, cpus in deeper.kinds) == [[0, 1], [2]]


def test_a_cpu_without_cpufreq_is_of_a_kind_without_a_frequency_domain() -> None:
    """As is one whose domain does not exist."""
    lone = Machine(cpus=(Cpu(0), Cpu(1, domain=7)))
    assert [(kind.frequency, sorted(cpus)) for kind, cpus in lone.kinds] == [(None, [0, 1])]
    assert lone.managed_kinds == ()


def test_a_machine_that_says_nothing_of_its_topology_is_planned_like_any_other() -> None:
    """No package, die, cluster, core or siblings: only uncore is off (user-asks 53)."""
    plain = machine("0-1")
    bare = evolve(plain, cpus=tuple(Cpu(cpu.id, domain=cpu.domain, idle=cpu.idle) for cpu in plain.cpus))
    found = plan(profile("shared", shared=True, max=2000, names={"C6": False}), workload(), uncore(sys_min=900_000, sys_max=900_000), on=bare)
    assert [on_cpu(found, cpu).target.max_khz for cpu in (0, 1)] == [2_000_000, 2_000_000]
    assert codes(found.problems) == {Code.UNCORE_UNSUPPORTED}


def test_shared_domains_and_cores_are_those_with_more_than_one_cpu_online() -> None:
    """An offline member leaves its neighbour alone."""
    pairs = machine("0-3", shared=[(0, 1), (2, 3)], siblings=[(0, 2), (1, 3)])
    assert [sorted(cpus) for _, cpus in pairs.shared_domains] == [[0, 1], [2, 3]]
    assert pairs.shared_cores == ((0, 2), (1, 3))
    less = machine("0-3", offline="3", shared=[(0, 1), (2, 3)], siblings=[(0, 2), (1, 3)])
    assert [sorted(cpus) for _, cpus in less.shared_domains] == [[0, 1]]
    assert less.shared_cores == ((0, 2),)


def test_idle_names_are_all_of_the_machines_shallow_first() -> None:
    """Of offline CPUs too: their states are there."""
    mixed = Machine(cpus=(Cpu(0, idle=idle_states(("POLL", 0), ("C6", 100))), Cpu(1, online=False, idle=idle_states(("POLL", 0), ("C1", 2)))))
    assert mixed.idle_names == ("POLL", "C1", "C6")


def test_drivers_whose_powersave_scales_are_managed_ones() -> None:
    """The two tables agree."""
    assert SCALING_POWERSAVE < MANAGED_DRIVERS
    assert len(MANAGED_DRIVERS) == 6
