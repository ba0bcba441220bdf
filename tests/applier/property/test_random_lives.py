"""Whole lives of nodes on every driver's model; and what such lives have broken, one by one.

tests/kernel/sequences_life.py says what a life is and which laws hold in it: no residue, `settled`
exactly where that is true, no write to what was released, no write where nothing has changed.
tests/bench/lives.py leads ten thousand of them, tests/kernel/test_sequences.py leads them on real
drivers (R1, R3, R6, R7, A2, A6, A7).
"""

import errno
from collections import Counter
from collections.abc import Callable

import pytest
from attrs import evolve

from kpm_applier.attributes import CPU_ROOT
from kpm_applier.kernel_model.model import KernelModel
from kpm_planner.model.machine import Machine
from kpm_planner.model.target import Target
from kpm_planner.plan import NodePlan
from tests.applier import rig
from tests.applier.property.test_world import bring_in_force
from tests.kernel.sequences_life import life_of, seed_of, told
from tests.kernel.sequences_model import MACHINES, lead
from tests.parts import in_parts

LIVES, PIECES, SEED = 20, 2, 20261128
NO_TURBO = f"{CPU_ROOT}/intel_pstate/no_turbo"
C6_OFF = Target(idle=(("C6", False),))
Deny = Callable[[str, str], int | None]


@in_parts(PIECES)
@pytest.mark.parametrize("name", MACHINES)
def test_random_lives_keep_the_laws(name: str, part: int) -> None:
    """A failure names the seed; `shortened` of sequences_model.py cuts its life down."""
    counts: Counter[str] = Counter()
    for number in range(part, LIVES, PIECES):
        life = life_of(seed_of(SEED, name, number))
        fault = lead(name, life, counts)
        assert fault is None, f"life {number} of {name}, seed {SEED}: {fault.why}\n{told(life)}"
    assert counts["apply"] > LIVES // PIECES
    assert any(kind.startswith("met: ") for kind in counts)


# --- what lives have broken ---


def once(verb: str, path: str, what: Callable[[], int | None], skip: int = 0) -> Deny:
    """Something that happens at one access to a file or folder, the first but `skip`."""
    left = [skip]

    def deny(met_verb: str, met_path: str) -> int | None:
        if (met_verb, met_path) != (verb, path):
            return None
        left[0] -= 1
        return what() if left[0] == -1 else None

    return deny


def everywhere(target: Target) -> Callable[[Machine], NodePlan]:
    return lambda found: rig.everywhere(found, target)


@pytest.mark.parametrize("comes", [True, False])
def test_a_cpu_that_comes_or_goes_while_the_machine_is_read_is_noticed(comes: bool) -> None:
    """A2: what a machine is compared with is what was read of it, not what was there afterwards."""
    model = KernelModel(rig.intel(3))
    model.plug(2, online=not comes)
    moment = once("list", f"{CPU_ROOT}/cpu0/cpuidle", lambda: model.plug(2, online=comes))
    with rig.state_folder() as folder, rig.applier(rig.Probe(model, deny=moment), folder) as handle:
        assert (2 in handle.machine.online) is not comes, "it was seen as it was before"
        assert handle.changed()
        handle.discover()
        assert (2 in handle.machine.online) is comes
        assert not handle.changed()


def test_a_cpu_that_was_away_just_while_the_machine_was_read_is_noticed() -> None:
    """A2: the list of CPUs is the same before and after, and was another one in between."""
    model = KernelModel(rig.intel(3))
    away = once("read", f"{CPU_ROOT}/online", lambda: model.plug(2, online=False), skip=2)
    with rig.state_folder() as folder, rig.applier(rig.Probe(model, deny=away), folder) as handle:
        assert 2 not in handle.machine.online
        model.plug(2, online=True)
        assert handle.changed()
        handle.discover()
        assert 2 in handle.machine.online
        assert not handle.changed()


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENODEV])
@pytest.mark.parametrize(("verb", "file"), [("list", "cpuidle"), ("read", "cpuidle/state2/name")])
def test_what_could_not_be_read_is_looked_for_again(verb: str, file: str, number: int) -> None:
    """R6, R7: also where it is not ours yet; else one failing read leaves a CPU untuned."""
    model = KernelModel(rig.intel(2))
    host = rig.Probe(model, deny=once(verb, f"{CPU_ROOT}/cpu1/{file}", lambda: number))
    with rig.state_folder() as folder, rig.applier(host, folder) as handle:
        bring_in_force(handle, rig.everywhere(handle.machine, C6_OFF), model)
        assert rig.shown(model)[rig.idle_path(1, 2)] == "1"


def test_a_file_that_cannot_be_read_to_verify_it_is_not_given_up() -> None:
    """A7: what is given back is verified before it is forgotten; `settled` says whether it was."""
    model = KernelModel(rig.intel(2))
    host = rig.Probe(model)
    with rig.state_folder() as folder, rig.applier(host, folder) as handle:
        handle.bring(everywhere(C6_OFF))
        host.deny = once("read", rig.idle_path(0, 2), lambda: errno.EIO, skip=1)
        report = handle.restore()
        assert not report.settled
        assert "idle:0" in rig.owned(folder)
        assert handle.restore().settled
        assert rig.owned(folder) == set()


def test_the_limits_that_held_turbo_moves_stay_ours() -> None:
    """A7, K24, R7: while turbo is held, the hardware's limit is not what it was before us."""
    model = KernelModel(rig.intel(2, boost=True))
    before = rig.shown(model)
    slow = Target(900_000, 1_800_000)
    with rig.state_folder() as folder, rig.applier(model, folder) as handle:
        handle.bring(lambda found: evolve(rig.everywhere(found, slow), boost=False))
        model.clock += 1000
        handle.bring(lambda found: rig.plan(found, {}, held=[1]))
        model.clock += 1000
        assert handle.restore().settled
        assert rig.shown(model) == before
        assert rig.owned(folder) == set()


def test_an_epp_that_could_not_be_read_at_first_is_given_back() -> None:
    """R7, K10: a governor takes the EPP along, so that is read before the governor is written."""
    model = KernelModel(rig.amd(1))
    rig.foreign_write(model, rig.epp_path(), "balance_power")
    before = rig.shown(model)
    host = rig.Probe(model, deny=once("read", rig.epp_path(), lambda: errno.EMFILE))
    with rig.state_folder() as folder:
        with rig.applier(host, folder) as handle:
            handle.bring(everywhere(Target(governor="performance")))
            assert handle.restore().settled
        assert rig.shown(model) == before


def test_a_limit_that_could_not_be_read_before_turbo_moves_it_is_given_back() -> None:
    """A7, K24: drivers overwrite all limits when turbo changes, also what is not ours yet."""
    found = rig.machine([rig.domain(driver="cppc_cpufreq", high=2_500_000)], boost=False)
    model = KernelModel(found, boosted={0: 2_900_000})
    rig.foreign_write(model, rig.max_path(), "1500000")
    before = rig.shown(model)
    host = rig.Probe(model)
    with rig.state_folder() as folder, rig.applier(host, folder) as handle:
        host.deny = once("read", rig.max_path(), lambda: errno.EIO)
        handle.bring(lambda machine: evolve(rig.plan(machine, {}), boost=True))
        assert handle.restore().settled
        assert rig.shown(model) == before


def test_a_limit_whose_hardware_cannot_be_read_is_given_back_later() -> None:
    """A7: `hardware limit` is no value while the hardware's is unknown; it stays owed."""
    model = KernelModel(rig.intel(1))
    before = rig.shown(model)
    slow = Target(900_000, 1_800_000)
    unread = once("read", rig.cpufreq(0, "cpuinfo_min_freq"), lambda: errno.EIO)
    with rig.state_folder() as folder:
        rig.apply_once(model, folder, rig.everywhere(rig.intel(1), slow))
        with rig.applier(rig.Probe(model, deny=unread), folder) as handle:
            handle.apply(rig.plan(handle.machine, {}))
            handle.apply(rig.everywhere(handle.machine, C6_OFF))
        assert rig.restore_once(model, folder).settled
    assert rig.shown(model) == before


def one_limited_and_away() -> tuple[KernelModel, dict[str, str]]:
    """Two domains without turbo, somebody's limit on the second, whose CPU is away; and what the
    files show while it is there.
    """
    found = rig.machine(
        (rig.domain(number, driver="cppc_cpufreq", high=2_500_000) for number in range(2)),
        boost=False,
    )
    model = KernelModel(found, boosted={0: 2_900_000, 1: 2_900_000})
    rig.foreign_write(model, rig.max_path(1), "1500000")
    before = rig.shown(model)
    model.plug(1, online=False)
    return model, before


def test_a_cpu_that_came_since_loses_no_limit_when_turbo_is_given_back() -> None:
    """A7, K24: a restore keeps the limits of all domains before it moves them, as a pass does."""
    model, before = one_limited_and_away()
    with rig.state_folder() as folder, rig.applier(model, folder) as handle:
        handle.bring(lambda machine: evolve(rig.plan(machine, {}), boost=True))
        model.plug(1, online=True)
        handle.discover()
        assert handle.restore().settled
        assert rig.shown(model) == before


def test_a_cpu_that_comes_during_a_restore_loses_no_limit() -> None:
    """A7, K24: one that comes after a restore has looked, and before it moves the limits."""
    model, before = one_limited_and_away()
    moments: list[Deny] = []

    def deny(verb: str, path: str) -> int | None:
        return moments[0](verb, path) if moments else None

    with rig.state_folder() as folder, rig.applier(rig.Probe(model, deny=deny), folder) as handle:
        handle.bring(lambda machine: evolve(rig.plan(machine, {}), boost=True))
        moments.append(once("read", rig.max_path(0), lambda: model.plug(1, online=True)))
        assert handle.restore().settled
    assert rig.shown(model) == before


def test_an_epp_that_a_driver_forgets_before_it_is_verified_is_given_back() -> None:
    """A7, K18: a CPU bounces between write and reading back; what is shown then is no limit."""
    model = KernelModel(rig.amd(2))
    before = rig.shown(model)

    def bounce() -> None:
        model.plug(1, online=False)
        model.plug(1, online=True)

    host = rig.Probe(model)
    with rig.state_folder() as folder, rig.applier(host, folder) as handle:
        handle.bring(everywhere(Target(governor="performance", epp="performance")))
        host.deny = once("read", rig.epp_path(1), bounce)
        handle.bring(everywhere(Target(900_000, 1_800_000)))
        assert rig.shown(model)[rig.epp_path(1)] != before[rig.epp_path(1)], "it was forgotten"
        assert handle.restore().settled
        assert rig.shown(model) == before


def test_a_minimum_that_turbo_off_hides_is_given_back() -> None:
    """A7, K1, K24: of a CPU that comes while turbo is off, a minimum at the top is unknown."""
    model = KernelModel(rig.intel(2, boost=True))
    rig.foreign_write(model, rig.min_path(1), "3900000")
    before = rig.shown(model)
    model.plug(1, online=False)
    with rig.state_folder() as folder, rig.applier(model, folder) as handle:
        turbo_off = lambda machine: evolve(rig.plan(machine, {}), boost=False)  # noqa: E731
        handle.bring(turbo_off)
        model.plug(1, online=True)
        handle.discover()
        handle.bring(turbo_off)
        assert handle.restore().settled
        assert rig.shown(model) == before


def test_an_end_of_a_range_waits_while_the_other_cannot_be_read() -> None:
    """A7, K1: a lowered maximum takes the minimum along, of which nobody would know what it was."""
    model = KernelModel(rig.intel(1))
    rig.foreign_write(model, rig.min_path(), "2250000")
    before = rig.shown(model)
    denied = {"left": 3}

    def unreadable(verb: str, path: str) -> int | None:
        denied["left"] -= (verb, path) == ("read", rig.min_path())
        return errno.EMFILE if path == rig.min_path() and denied["left"] >= 0 else None

    slow = everywhere(Target(900_000, 1_800_000))
    with rig.state_folder() as folder:
        with rig.applier(rig.Probe(model, deny=unreadable), folder) as handle:
            handle.bring(slow)
            bring_in_force(handle, slow(handle.machine), model)
            assert rig.shown(model)[rig.max_path()] == "1800000"
        assert rig.restore_once(model, folder).settled
    assert rig.shown(model) == before


def test_what_is_released_after_it_was_held_is_looked_at_first() -> None:
    """A7: nobody looks at what a plan holds, so what others have made of it meanwhile is not known
    when it is given back.
    """
    model = KernelModel(rig.intel(2))
    before = rig.shown(model)
    with rig.state_folder() as folder, rig.applier(model, folder) as handle:
        handle.apply(rig.everywhere(handle.machine, Target(idle=(("C1", True),))))
        handle.apply(rig.plan(handle.machine, {}, held=[0, 1]))
        rig.foreign_write(model, rig.idle_path(0, 1), "1")
        handle.apply(rig.plan(handle.machine, {}))
        assert rig.shown(model) == before
        assert rig.owned(folder) == set()


def test_turbo_waits_for_a_domain_that_could_not_be_read() -> None:
    """A2, K24: its limits would be moved before anybody knew them."""
    model = KernelModel(rig.intel(2, boost=True))
    rig.foreign_write(model, rig.max_path(1), "2000000")
    before = rig.shown(model)
    goes = once("read", rig.cpufreq(1, "related_cpus"), lambda: model.plug(1, online=False))
    unread = once("read", f"{CPU_ROOT}/online", lambda: errno.EIO)
    host = rig.Probe(model)
    with rig.state_folder() as folder, rig.applier(host, folder) as handle:
        host.deny = lambda verb, path: goes(verb, path) or unread(verb, path)
        handle.discover()
        model.plug(1, online=True)
        assert [item.id for item in handle.machine.domains] == [0]
        handle.bring(lambda machine: evolve(rig.plan(machine, {}), boost=False))
        assert handle.restore().settled
        assert rig.shown(model) == before


@pytest.mark.parametrize("name", ["cpuinfo_max_freq", "cpuinfo_min_freq"])
def test_a_restore_that_cannot_know_a_range_keeps_both_ends_and_says_so(name: str) -> None:
    """A7: a minimum that is put back below a maximum that is not is cut to it, and forgotten."""
    model = KernelModel(rig.intel(1))
    rig.foreign_write(model, rig.min_path(), "2250000")
    before = rig.shown(model)
    with rig.state_folder() as folder:
        rig.apply_once(model, folder, rig.everywhere(rig.intel(1), Target(900_000, 1_800_000)))
        unread = once("read", rig.cpufreq(0, name), lambda: errno.EBUSY)
        with rig.applier(rig.Probe(model, deny=unread), folder) as handle:
            first = handle.restore()
            assert first.settled is (rig.owned(folder) == set())
            assert handle.restore().settled
        assert rig.shown(model) == before


def test_a_verification_that_failed_before_all_is_well_again_is_no_failure() -> None:
    """`settled` of a restore is about what is left, not about what had to be read twice."""
    model = KernelModel(rig.intel(1, boost=True))
    before = rig.shown(model)
    host = rig.Probe(model)
    with rig.state_folder() as folder, rig.applier(host, folder) as handle:
        handle.bring(lambda machine: evolve(rig.plan(machine, {}), boost=False))
        host.deny = once("read", NO_TURBO, lambda: errno.EMFILE, skip=2)
        assert handle.restore().settled
        assert rig.owned(folder) == set()
        assert rig.shown(model) == before


def test_a_rounding_beside_a_file_that_could_not_be_verified_is_learned() -> None:
    """A3, K3: what a later round puts right says nothing of the groups of the rounds before."""
    model = KernelModel(rig.tabled())
    host = rig.Probe(model)
    wanted = everywhere(Target(max_khz=2_000_001, idle=(("C1", True), ("C6", False))))
    with rig.state_folder() as folder:
        with rig.applier(host, folder) as handle:
            host.deny = once("read", rig.idle_path(0, 1), lambda: errno.EMFILE, skip=3)
            handle.bring(wanted)
            shown = rig.shown(model)
            assert (shown[rig.max_path()], shown[rig.idle_path(0, 2)]) == ("1800000", "1")
        assert rig.apply_once(model, folder, wanted(model.machine)).writes == ()


def test_a_minimum_that_the_kernel_does_not_look_at_anew_is_given_back() -> None:
    """K36: it is asked for already, so only a write to the governor shows it again."""
    found = rig.machine([rig.domain(driver="cppc_cpufreq", high=2_500_000)], boost=True)
    model = KernelModel(found, boosted={0: 2_500_000}, unboosted={0: 2_000_000})
    for path in (rig.max_path(), rig.min_path()):
        rig.foreign_write(model, path, "2500000")
    before = rig.shown(model)
    model.plug(0, online=False)
    rig.foreign_write(model, f"{CPU_ROOT}/cpufreq/boost", "0")
    model.plug(0, online=True)
    rig.foreign_write(model, f"{CPU_ROOT}/cpufreq/boost", "1")
    assert rig.shown(model)[rig.min_path()] == "2000000"
    with rig.state_folder() as folder, rig.applier(model, folder) as handle:
        report = handle.bring(everywhere(Target(2_500_000, 2_500_000)))[1]
        assert [write.path for write in report.writes] == [
            rig.min_path(),
            rig.cpufreq(0, "scaling_governor"),
        ]
    assert rig.shown(model) == before


def test_a_domain_with_a_cpu_that_is_away_is_looked_at_again() -> None:
    """A2: what could not be read of it is no matter of the CPU that is away."""
    machine = rig.machine([rig.domain(cpus=(0, 1))])
    model = KernelModel(machine)
    model.plug(0, online=False)
    unread = once("read", rig.cpufreq(0, "cpuinfo_min_freq"), lambda: errno.EBUSY)
    host = rig.Probe(model, deny=unread)
    slow = everywhere(Target(900_000, 1_800_000))
    with rig.state_folder() as folder, rig.applier(host, folder) as handle:
        bring_in_force(handle, slow(handle.machine), model)
        assert rig.shown(model)[rig.max_path()] == "1800000"


def test_a_limit_that_was_cut_by_turbo_off_is_given_back_with_turbo() -> None:
    """K1, K24: where it settled while turbo was off is no end for it."""
    found = rig.machine([rig.domain(driver="cppc_cpufreq", high=2_500_000)], boost=True)
    model = KernelModel(found, boosted={0: 2_500_000}, unboosted={0: 2_000_000})
    rig.foreign_write(model, rig.min_path(), "2500000")
    before = rig.shown(model)
    with rig.state_folder() as folder, rig.applier(model, folder) as handle:
        handle.bring(lambda machine: evolve(rig.plan(machine, {}), boost=False))
        rig.foreign_write(model, rig.min_path(), "2000000")
        assert handle.restore().settled
    assert rig.shown(model) == before


def test_what_was_given_back_in_part_is_looked_at_when_it_is_claimed_again() -> None:
    """A7: one file of a group could not be read and stays ours; the others are not meanwhile."""
    model = KernelModel(rig.intel(1))
    unread: list[str] = []

    def deny(verb: str, path: str) -> int | None:
        return errno.EMFILE if verb == "read" and path in unread else None

    with rig.state_folder() as folder, rig.applier(rig.Probe(model, deny=deny), folder) as handle:
        handle.apply(everywhere(C6_OFF)(handle.machine))
        unread.append(rig.idle_path(0, 0))
        handle.discover()
        handle.apply(rig.plan(handle.machine, {}))
        assert handle.state.groups["idle:0"].labels == ("state0",)
        rig.foreign_write(model, rig.idle_path(0, 2), "1")
        before = rig.shown(model)
        handle.apply(everywhere(Target(idle=(("C1", False),)))(handle.machine))
        unread.clear()
        assert handle.restore().settled
    assert rig.shown(model) == before


@pytest.mark.parametrize(
    ("name", "seed", "number"),
    [
        ("acpi-cpufreq", 7, 132),
        ("acpi-cpufreq", 7, 628),
        ("acpi-cpufreq", 10, 303),
        ("acpi-cpufreq", 14, 44),
        ("cppc_cpufreq", 14, 339),
        ("intel_pstate, HWP off", 14, 516),
        ("intel_cpufreq", 15, 303),
        ("acpi-cpufreq", 15, 499),
        ("acpi-cpufreq, shared", 17, 674),
        ("acpi-cpufreq", 17, 1044),
        ("acpi-cpufreq", 18, 492),
        ("cppc_cpufreq, shared", 18, 850),
        ("acpi-cpufreq", 19, 216),
        ("acpi-cpufreq", 19, 796),
        ("amd-pstate-epp", 24, 131),
        ("amd-pstate-epp", 27, 1029),
        ("amd-pstate-epp", 29, 656),
        ("intel_cpufreq", 32, 776),
        ("cppc_cpufreq", 35, 417),
        ("acpi-cpufreq, shared", 37, 962),
        ("acpi-cpufreq, shared", 42, 196),
    ],
)
def test_lives_that_once_broke_a_law_keep_it(name: str, seed: int, number: int) -> None:
    """One in some thousands of lives, of other seeds than the usual one."""
    fault = lead(name, life_of(seed_of(seed, name, number)))
    assert fault is None, fault.why
