"""A machine as a value: what is worked out from it."""

from attrs import evolve
from hypothesis import given

from kpm_planner.model.machine import SCALING_POWERSAVE, TESTED_DRIVERS, Cpu, Machine
from kpm_planner.model.problems import Code
from tests.planner.build import idle_states, machine, on_cpu, plan, profile, uncore, workload
from tests.planner.reading import codes
from tests.strategies.machines import machines


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
    other = evolve(
        one, domains=(one.domains[0], evolve(one.domains[1], settings=settings), one.domains[2])
    )
    assert sorted(sorted(cpus) for _, cpus in other.kinds) == [[0, 2], [1]]
    deeper = evolve(one, cpus=(*one.cpus[:2], evolve(one.cpus[2], idle=idle_states(("POLL", 0)))))
    assert sorted(sorted(cpus) for _, cpus in deeper.kinds) == [[0, 1], [2]]


def test_a_cpu_without_cpufreq_is_of_a_kind_without_a_frequency_domain() -> None:
    """As is one whose domain does not exist."""
    lone = Machine(cpus=(Cpu(0), Cpu(1, domain=7)))
    assert [(kind.frequency, sorted(cpus)) for kind, cpus in lone.kinds] == [(None, [0, 1])]
    assert lone.managed_kinds == ()


def test_a_machine_that_says_nothing_of_its_topology_is_planned_like_any_other() -> None:
    """No package, die, cluster, core or siblings: only uncore is off (field report 53)."""
    plain = machine("0-1")
    bare = evolve(
        plain, cpus=tuple(Cpu(cpu.id, domain=cpu.domain, idle=cpu.idle) for cpu in plain.cpus)
    )
    found = plan(
        profile("shared", shared=True, max=2000, names={"C6": False}),
        workload(),
        uncore(sys_min=900_000, sys_max=900_000),
        on=bare,
    )
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
    mixed = Machine(
        cpus=(
            Cpu(0, idle=idle_states(("POLL", 0), ("C6", 100))),
            Cpu(1, online=False, idle=idle_states(("POLL", 0), ("C1", 2))),
        )
    )
    assert mixed.idle_names == ("POLL", "C1", "C6")


def test_drivers_whose_powersave_scales_are_tested_ones() -> None:
    """The two tables agree."""
    assert SCALING_POWERSAVE < TESTED_DRIVERS
    assert len(TESTED_DRIVERS) == 6


# --- cores ---


def test_hyperthreads_of_one_core_are_siblings_whatever_the_number_of_their_core() -> None:
    """As in modules of two cores, which share so much that the kernel calls them siblings."""
    module = machine("0-3", siblings=[(0, 1), (2, 3)])
    own_numbers = evolve(module, cpus=tuple(evolve(cpu, core=cpu.id) for cpu in module.cpus))
    assert (module.cores, own_numbers.cores) == (2, 2)


def test_cpus_whose_siblings_are_not_told_count_by_their_package_die_and_core() -> None:
    """One whose core has no number either is a core of its own."""
    places = [(0, 0, 0), (0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, None), (0, 0, None)]
    assert (
        Machine(
            cpus=tuple(
                Cpu(number, True, package, die, None, core)
                for number, (package, die, core) in enumerate(places)
            )
        ).cores
        == 5
    )
    assert Machine(cpus=(Cpu(0), Cpu(1))).cores == 2


def test_only_cores_that_are_online_count() -> None:
    """One hyperthread is enough for that."""
    assert machine("0-7", offline="4-7", siblings=[(0, 4), (1, 5), (2, 6), (3, 7)]).cores == 4
    assert machine("0-7", offline="3,7", siblings=[(0, 4), (1, 5), (2, 6), (3, 7)]).cores == 3


@given(machines())
def test_cores_are_counted_alike_by_siblings_and_by_number(found: Machine) -> None:
    """Where both are told; there are never more of them than CPUs."""
    bare = evolve(found, cpus=tuple(evolve(cpu, siblings=()) for cpu in found.cpus))
    assert found.cores == bare.cores
    assert 1 <= found.cores <= len(found.online)


# --- how far turbo goes ---


def unnamed(found: Machine, *domains: int) -> Machine:
    """A machine on which no file names the highest frequency of these domains, or of all."""
    return evolve(
        found,
        domains=tuple(
            evolve(domain, limit_named=bool(domains) and domain.id not in domains)
            for domain in found.domains
        ),
    )


def test_how_far_turbo_goes_is_not_known_where_no_file_says_so_while_it_is_off() -> None:
    """Where we turned it on, a limit that is the hardware's own may still be that of before."""
    assert evolve(machine(), boost=False).limits_known
    assert not unnamed(evolve(machine(), boost=False)).limits_known
    assert not unnamed(evolve(machine(), boost=False, boost_before=True)).limits_known
    assert not evolve(machine(), boost=True, boost_before=False).limits_known
    assert evolve(machine(limit=4_000_000), boost=True, boost_before=False).limits_known
    assert evolve(machine(), boost=True, boost_before=True).limits_known


def test_one_domain_without_a_named_limit_is_enough_and_one_that_is_not_managed_is_none() -> None:
    """Its frequencies are nobody's to ask for."""
    off = evolve(machine("0-1"), boost=False)
    assert not unnamed(off, 1).limits_known
    without = unnamed(evolve(off, domains=(off.domains[0], evolve(off.domains[1], driver=None))), 1)
    assert without.limits_known


def test_cpus_of_which_the_limit_is_named_and_is_not_are_of_two_kinds() -> None:
    """A profile is judged by each kind once."""
    assert sorted(sorted(cpus) for _, cpus in unnamed(machine("0-2"), 1).kinds) == [[0, 2], [1]]
