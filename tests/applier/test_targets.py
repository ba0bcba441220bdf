"""A plan as texts: which groups it claims, what their files should hold, and which go back (R2,
R8).
"""

from attrs import evolve

from kpm_applier.discovery.discover import discover
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.state.baseline import new_group_state
from kpm_applier.state.record import State
from kpm_applier.wants import Want, released, wanted
from kpm_planner.model.machine import IdleState, Machine
from kpm_planner.model.target import BASELINE, Target
from kpm_planner.model.why import Why
from kpm_planner.plan import NodePlan
from kpm_planner.uncore import UncoreTarget
from tests.applier import rig
from tests.applier.rig import GHZ

FULL = Target(GHZ, 2 * GHZ, "powersave", "power", (("C6", False), ("C1", True)))


def wants_of(machine: Machine, plan: NodePlan, owned: tuple[str, ...] = ()) -> dict[str, Want]:
    found = discover(KernelModel(machine))
    state = State(
        {
            group.key: new_group_state(group, found.observed.values)
            for group in found.groups
            if group.key in owned
        }
    )
    return {
        want.group.key: want
        for want in wanted(plan, found.machine, found.groups, found.observed, state)
    }


def test_each_value_goes_to_its_file() -> None:
    """Governor, EPP, limits of the domain; the disable switch is the opposite of "on" (K14)."""
    wants = wants_of(rig.intel(1), rig.everywhere(rig.intel(1), FULL))
    assert wants["cpufreq:0"].values == ("powersave", "power", "1000000", "2000000")
    assert wants["idle:0"].values == ("0", "0", "1")
    assert not any(want.release for want in wants.values())


def test_a_machine_without_epp_has_three_files_a_domain() -> None:
    """K12: ask the file, not the driver."""
    machine = rig.tabled(1)
    wants = wants_of(
        machine, rig.everywhere(machine, Target(800_000, 2_600_000, "ondemand", "power"))
    )
    assert wants["cpufreq:0"].values == ("ondemand", "800000", "2600000")


def test_what_a_target_leaves_out_is_baseline() -> None:
    """Every attribute of a claimed group has a target or is explicitly baseline (R2); an idle state
    that is not named as well.
    """
    idle = (*rig.IDLE[:2], evolve(rig.IDLE[2], enabled=False))
    machine = rig.machine(
        [rig.domain(settings=(900_000, 3 * GHZ, "powersave", "balance_power"))], idle=idle
    )
    wants = wants_of(
        machine, rig.everywhere(machine, Target(max_khz=2 * GHZ, idle=(("C1", False),)))
    )
    assert wants["cpufreq:0"].values == ("powersave", "balance_power", "900000", "2000000")
    assert wants["idle:0"].values == ("0", "1", "1")


def test_a_group_nobody_claims_and_we_do_not_own_is_left_out() -> None:
    """R2: CPU 1 is unmanaged; CPU 0 asks for nothing of its idle states."""
    machine = rig.intel(2)
    assert set(wants_of(machine, rig.plan(machine, {0: Target(max_khz=2 * GHZ)}))) == {"cpufreq:0"}
    assert wants_of(machine, rig.plan(machine, {})) == {}


def test_an_owned_group_nobody_claims_is_released() -> None:
    """It goes back to baseline and out of the state file."""
    machine = rig.intel(1, uncore=(rig.package_entry(),), boost=True)
    wants = wants_of(
        machine, rig.plan(machine, {}), ("cpufreq:0", "idle:0", "uncore:package_00_die_00", "boost")
    )
    assert {key: (want.values, want.release) for key, want in wants.items()} == {
        "cpufreq:0": (("powersave", "balance_performance", "800000", "4000000"), True),
        "idle:0": (("0", "0", "0"), True),
        "uncore:package_00_die_00": (("800000", "2400000"), True),
        "boost": (("0",), True),
    }


def test_a_held_cpu_is_neither_claimed_nor_released() -> None:
    """R7: nothing is known, so nothing of it is touched, owned or not."""
    machine = rig.intel(2)
    plan = rig.plan(machine, {0: FULL, 1: FULL}, held=(0,))
    assert set(wants_of(machine, plan, ("cpufreq:0", "idle:0"))) == {"cpufreq:1", "idle:1"}


def test_one_held_cpu_holds_its_whole_domain() -> None:
    """A domain has one setting for all its CPUs."""
    machine = rig.arm(1, 2)
    plan = rig.plan(machine, {0: FULL, 1: FULL}, held=(1,))
    assert set(wants_of(machine, plan, ("cpufreq:0",))) == {"idle:0"}


def test_a_shared_domain_is_asked_once() -> None:
    """Field report 52: one write a policy, whichever of its CPUs is online."""
    machine = rig.arm(1, 3)
    plan = rig.everywhere(machine, Target(GHZ, 2 * GHZ, "schedutil"))
    assert wants_of(machine, plan)["cpufreq:0"].values == ("schedutil", "1000000", "2000000")
    partly = rig.machine(machine.domains, offline=(0,))
    assert wants_of(partly, rig.everywhere(partly, Target(GHZ, 2 * GHZ, "schedutil")))[
        "cpufreq:0"
    ].values == ("schedutil", "1000000", "2000000")


def test_an_offline_cpu_is_left_out() -> None:
    """Nothing is asked of it, and what is owned stays owned until it can be reached."""
    machine = rig.intel(2, offline=(1,))
    assert set(wants_of(machine, rig.plan(machine, {0: FULL}), ("cpufreq:1", "idle:1"))) == {
        "cpufreq:0",
        "idle:0",
    }


def test_idle_states_differ_between_cpus() -> None:
    """K16: states are found by name on each CPU; a name that a CPU lacks is skipped there."""
    machine = rig.intel(2)
    small = (IdleState(0, "POLL", 0, True, True), IdleState(1, "C6", 50, True, True))
    machine = evolve(machine, cpus=(machine.cpus[0], evolve(machine.cpus[1], idle=small)))
    wants = wants_of(machine, rig.everywhere(machine, Target(idle=(("C6", False), ("C1", False)))))
    assert wants["idle:0"].values == ("0", "1", "1")
    assert wants["idle:1"].values == ("0", "1")


def test_uncore_and_boost_have_one_value_each() -> None:
    """no_turbo is the opposite of boost."""
    entry = rig.package_entry()
    machine = rig.intel(1, uncore=(entry,), boost=True)
    wants = wants_of(
        machine,
        rig.plan(
            machine, {}, uncore=[UncoreTarget(entry, GHZ, 2 * GHZ, (Why("asked"),))], boost=False
        ),
    )
    assert wants["uncore:package_00_die_00"].values == ("1000000", "2000000")
    assert wants["uncore:package_00_die_00"].because == ("asked",)
    assert wants["boost"].values == ("1",)
    arm = rig.machine([rig.domain(driver="cppc_cpufreq")], boost=True)
    assert wants_of(arm, rig.plan(arm, {}, boost=False))["boost"].values == ("0",)
    assert wants_of(arm, rig.plan(arm, {}, boost=True))["boost"].values == ("1",)


def test_reasons_go_along() -> None:
    """R4: what is written can say why."""
    machine = rig.intel(1)
    assert wants_of(machine, rig.everywhere(machine, FULL))["cpufreq:0"].because == (
        "test asked for CPU 0",
    )


def test_releasing_everything_leaves_out_what_cannot_be_reached() -> None:
    """A restore asks of owned groups only, and of those that are there."""
    model = KernelModel(rig.intel(3))
    found = discover(model)
    state = State(
        {
            group.key: new_group_state(group, found.observed.values)
            for group in found.groups
            if group.key in ("cpufreq:0", "cpufreq:2", "idle:2")
        }
    )
    model.plug(2, online=False)
    found = discover(model)
    wants = released(found.groups, found.observed, state)
    assert {want.group.key for want in wants} >= {"cpufreq:0"}
    assert "cpufreq:2" not in {want.group.key for want in wants}
    assert all(want.release for want in wants)


def test_baseline_alone_claims_nothing() -> None:
    """A CPU in a pool at baseline (a missing profile, R8) is not touched for that."""
    machine = rig.intel(1)
    assert wants_of(machine, rig.everywhere(machine, BASELINE)) == {}
