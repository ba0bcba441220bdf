"""Turbo of a whole node: set before the limits that it moves, which are those of the plan
afterwards, or those from before (A2, K24, field report 51).
"""

import contextlib
import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import define, evolve
from hypothesis import given
from hypothesis import strategies as st

from kpm_applier.attributes import CPU_ROOT
from kpm_applier.diff import Repair
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.session import Applier, Report
from kpm_applier.sysfs.host import Host
from kpm_planner.model.changes import Status
from kpm_planner.model.machine import Machine
from kpm_planner.model.target import Target
from kpm_planner.plan import NodePlan
from tests.applier import rig
from tests.applier.rig import GHZ, Probe

BASE, TOP = 2_500_000, 3 * GHZ
BOOST, NO_TURBO = f"{CPU_ROOT}/cpufreq/boost", f"{CPU_ROOT}/intel_pstate/no_turbo"
#: Limits set by hand before we came: above the base, below it, at neither end, none.
BY_HAND = ((None, 2_800_000), (None, 2 * GHZ), (2_700_000, 2_900_000), (None, None))
#: Drivers with a switch of the node.
DRIVERS = ("intel_pstate", "intel_cpufreq", "acpi-cpufreq", "cppc_cpufreq", "amd-pstate-epp")


def machine(
    driver: str = "cppc_cpufreq",
    *,
    on: bool = True,
    hand: tuple[tuple[int | None, int | None], ...] = BY_HAND,
) -> Machine:
    """A domain for each pair of limits that somebody has set by hand."""
    high = TOP if on else BASE
    status = {"intel_pstate": "active", "intel_cpufreq": "passive", "amd-pstate-epp": "active"}.get(
        driver
    )
    domains = [
        rig.domain(number, driver=driver, high=high, settings=(*limits, None, None))
        for number, limits in enumerate(hand)
    ]
    return rig.machine(
        [evolve(item, limit_max_khz=TOP) for item in domains], boost=on, status=status, idle=()
    )


def kernel(found: Machine, latency: float = 0.0) -> KernelModel:
    numbers = [domain.id for domain in found.domains]
    return KernelModel(
        found, latency, boosted=dict.fromkeys(numbers, TOP), unboosted=dict.fromkeys(numbers, BASE)
    )


def bring(
    handle: Applier,
    boost: bool | None,
    targets: dict[int, Target] | None = None,
    held: tuple[int, ...] = (),
) -> Report:
    """What a plan brings that asks for turbo, and for some CPUs; long enough after the pass before
    that nothing is left alone (A3).
    """
    handle.host.wait(1000)
    return handle.bring(lambda found: rig.plan(found, targets or {}, boost=boost, held=held))[1]


def limits(model: KernelModel, number: int) -> tuple[int, int]:
    low, high = (int(model.read(path)) for path in (rig.min_path(number), rig.max_path(number)))
    return low, high


def is_on(model: KernelModel) -> bool:
    return bool(model.boost)


def switch_of(driver: str) -> str:
    return NO_TURBO if driver.startswith("intel") else BOOST


# --- one after the other ---


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_plan_is_made_again_for_the_limits_that_turbo_leaves(
    tmp_path: Path, driver: str
) -> None:
    """A2: profiles stay what they are; in the end the plan is that of the machine without turbo,
    and one pass is enough.
    """
    model = kernel(machine(driver))
    seen: list[int | None] = []

    def planned(found: Machine) -> NodePlan:
        top = found.domains[0].hardware_max_khz
        seen.append(top)
        return rig.everywhere(found, Target(GHZ, min(2_900_000, top or 0)), boost=False)

    with rig.applier(model, str(tmp_path)) as handle:
        plan, report = handle.bring(planned)
        assert seen == [TOP, BASE]
        assert (plan.groups[0].target.max_khz, report.settled, report.outcomes) == (BASE, True, ())
        assert not is_on(model)
        assert [limits(model, number) for number in range(4)] == [(GHZ, BASE)] * 4
        assert handle.bring(planned) == (plan, Report())
        assert not handle.changed()
    with rig.applier(model, str(tmp_path)) as handle:
        assert handle.bring(planned) == (plan, Report())


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("on", [True, False])
def test_the_switch_is_the_first_write(tmp_path: Path, driver: str, on: bool) -> None:
    """A2: frequencies come after it, whichever way it goes."""
    model = kernel(machine(driver, on=not on, hand=((None, 2 * GHZ),)))
    with rig.applier(model, str(tmp_path)) as handle:
        report = bring(handle, on, {0: Target(GHZ, 2_200_000)})
    assert is_on(model) is on
    assert [path for path, _ in model.log].index(switch_of(driver)) == 0
    assert [(write.path, write.value) for write in report.writes] == model.log
    assert limits(model, 0) == (GHZ, 2_200_000)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("claimed", [(), (0,), (0, 1, 2, 3)])
def test_limits_set_by_hand_come_back_with_turbo(
    tmp_path: Path, driver: str, claimed: tuple[int, ...]
) -> None:
    """K24: drivers overwrite them when turbo changes, also those of domains that nobody asks
    anything of; off and on again, they are there.
    """
    model = kernel(machine(driver))
    before = rig.shown(model)
    targets = dict.fromkeys(claimed, Target(governor="performance"))
    with rig.applier(model, str(tmp_path)) as handle:
        bring(handle, None, targets)
        bring(handle, False, targets)
        assert not is_on(model)
        bring(handle, True, targets)
        assert is_on(model)
        assert [limits(model, number) for number in range(4)] == [
            (low or 800_000, high or TOP) for low, high in BY_HAND
        ]
        bring(handle, False, targets)
        bring(handle, None)
    assert rig.shown(model) == before
    assert rig.owned(str(tmp_path)) == set()


@pytest.mark.parametrize("driver", DRIVERS)
def test_limits_below_the_base_stay_while_turbo_is_off(tmp_path: Path, driver: str) -> None:
    """And those above it are as high as they can be; that is told once and is no drift."""
    model = kernel(machine(driver))
    with rig.applier(model, str(tmp_path)) as handle:
        report = bring(handle, False)
        assert {outcome.status for outcome in report.outcomes} <= {Status.LIMITED}
        assert [limits(model, number)[1] for number in range(4)] == [BASE, 2 * GHZ, BASE, BASE]
        assert limits(model, 1)[0] == 800_000
        assert bring(handle, False) == Report()
        assert handle.drift_count == 0


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_restart_with_turbo_off_writes_nothing(tmp_path: Path, driver: str) -> None:
    """S4; and it can give everything back."""
    model = kernel(machine(driver))
    before = rig.shown(model)
    with rig.applier(model, str(tmp_path)) as handle:
        bring(handle, False)
    model.log.clear()
    with rig.applier(model, str(tmp_path)) as handle:
        assert bring(handle, False) == Report()
    assert model.log == []
    assert rig.restore_once(model, str(tmp_path)).settled
    assert rig.shown(model) == before
    assert rig.owned(str(tmp_path)) == set()


def test_turbo_that_is_as_asked_is_not_written(tmp_path: Path) -> None:
    """It is ours all the same: somebody else's change of it is drift."""
    model = kernel(machine())
    with rig.applier(model, str(tmp_path)) as handle:
        assert bring(handle, True).writes == ()
        assert model.log == []
        rig.foreign_write(model, BOOST, "0")
        assert handle.changed()
        handle.discover()
        report = bring(handle, True)
        assert (is_on(model), handle.drift_count >= 1) == (True, True)
        assert BOOST in {write.path for write in report.writes}
        assert [limits(model, number) for number in range(4)] == [
            (low or 800_000, high or TOP) for low, high in BY_HAND
        ]


def test_turbo_of_somebody_else_may_only_be_reported(tmp_path: Path) -> None:
    """`repair: report`: the switch stays as it is."""
    model = kernel(machine())
    with rig.applier(model, str(tmp_path), Repair.REPORT) as handle:
        bring(handle, False)
        rig.foreign_write(model, BOOST, "1")
        handle.discover()
        report = bring(handle, False)
        assert BOOST in {write.path for write in report.drift}
        assert is_on(model)


def test_turbo_is_not_touched_where_nobody_asks(tmp_path: Path) -> None:
    """R2: nor are limits that nobody asked for; somebody else may turn it as they like."""
    model = kernel(machine())
    with rig.applier(model, str(tmp_path)) as handle:
        bring(handle, None, {0: Target(max_khz=2 * GHZ)})
        for text in "010":
            rig.foreign_write(model, BOOST, text)
            handle.discover()
            bring(handle, None, {0: Target(max_khz=2 * GHZ)})
    assert {path for path, _ in model.log} <= {rig.max_path(0), rig.min_path(0)}
    assert rig.owned(str(tmp_path)) == {"cpufreq:0"}


@pytest.mark.parametrize("driver", ["cppc_cpufreq", "amd-pstate-epp"])
def test_what_is_held_stays_as_it_is(tmp_path: Path, driver: str) -> None:
    """R7, K24: a domain whose pod's profile is gone keeps the limits that it was given, though
    turbo changes around it.
    """
    model = kernel(machine(driver, hand=((None, None), (None, None))))
    targets = {0: Target(GHZ, 2 * GHZ)}
    with rig.applier(model, str(tmp_path)) as handle:
        bring(handle, None, targets)
        assert limits(model, 0) == (GHZ, 2 * GHZ)
        bring(handle, False, targets, held=(0,))
        assert limits(model, 0) == (GHZ, 2 * GHZ)


# --- what our own switch moves ---


def test_limits_that_our_own_switch_moves_are_nobody_elses(tmp_path: Path) -> None:
    """K24: no drift is counted or told: it was the driver, because of us."""
    model = kernel(machine(hand=((None, None),)))
    with rig.applier(model, str(tmp_path)) as handle:
        for boost in (None, False, True, None):
            assert bring(handle, boost, {0: Target(max_khz=2_200_000)}).drift == ()
        assert handle.drift_count == 0


def test_turbo_that_changes_twice_in_a_moment_leaves_the_limits_of_the_plan(tmp_path: Path) -> None:
    """A3: the pause after a foreign change is not for what we did ourselves."""
    model = kernel(machine(hand=((None, None), (None, 2_800_000))))
    targets = {0: Target(max_khz=2_200_000)}
    with rig.applier(model, str(tmp_path)) as handle:
        for boost in (None, False, True):
            handle.bring(lambda found, boost=boost: rig.plan(found, targets, boost=boost))  # type: ignore[misc]
        assert [limits(model, number)[1] for number in range(2)] == [2_200_000, 2_800_000]


def test_turbo_by_the_plan_brings_its_limits_where_foreign_values_are_only_reported(
    tmp_path: Path,
) -> None:
    """A3, `repair: report`: the plan itself is always written."""
    model = kernel(machine(hand=((None, None),)))
    with rig.applier(model, str(tmp_path), Repair.REPORT) as handle:
        for boost in (None, False):
            bring(handle, boost, {0: Target(max_khz=2_200_000)})
        assert limits(model, 0)[1] == 2_200_000


# --- a switch that refuses ---


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO, errno.EPERM, errno.EBUSY])
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_switch_that_refuses_costs_itself(tmp_path: Path, driver: str, number: int) -> None:
    """A4, K24: where the hardware has no turbo, 1 is EINVAL: told with its errno, everything else
    is in force, nothing else has moved, and all of it is given back.
    """
    model = kernel(machine(driver))
    before = rig.shown(model)
    switch = switch_of(driver)
    host = Probe(
        model, deny=lambda verb, path: number if (verb, path) == ("write", switch) else None
    )
    with rig.applier(host, str(tmp_path)) as handle:
        for _ in range(3):
            report = bring(handle, False, {0: Target(GHZ, 2 * GHZ)})
            assert [
                (outcome.path, outcome.status, outcome.errno) for outcome in report.outcomes
            ] == [(switch, Status.FAILED, number)]
        assert limits(model, 0) == (GHZ, 2 * GHZ)
        after = rig.shown(model)
        assert {path for path in before if after[path] != before[path]} == {
            rig.min_path(0),
            rig.max_path(0),
        }
        host.deny = lambda _verb, _path: None
        assert handle.restore().settled
    assert rig.shown(model) == before
    assert rig.owned(str(tmp_path)) == set()


def test_hardware_without_turbo_refuses(tmp_path: Path) -> None:
    """The kernel's own EINVAL: 1 where the maximum would be the same; the plan is in force all the
    same.
    """
    found = machine(on=False, hand=((None, None), (None, 2 * GHZ)))
    model = KernelModel(found, boosted={0: BASE, 1: BASE})
    with rig.applier(model, str(tmp_path)) as handle:
        report = bring(handle, True, {0: Target(max_khz=2_200_000)})
        assert [(outcome.path, outcome.errno) for outcome in report.outcomes] == [
            (BOOST, errno.EINVAL)
        ]
        assert [limits(model, number)[1] for number in range(2)] == [2_200_000, 2 * GHZ]


# --- a switch in every policy, and none of the node ---


def policies(found: Machine) -> tuple[KernelModel, Probe]:
    """A kernel without a switch of the node, whose policies have one each, all of them on."""
    model = kernel(found)
    for domain in found.domains:
        rig.foreign_write(model, boost_path(domain.id), "1")
        for path, khz in (
            (rig.min_path(domain.id), domain.settings.min_khz),
            (rig.max_path(domain.id), domain.settings.max_khz),
        ):
            rig.foreign_write(model, path, str(khz))
    return model, Probe(model, deny=lambda _verb, path: errno.ENOENT if path == BOOST else None)


def boost_path(number: int) -> str:
    return rig.cpufreq(number, "boost")


@pytest.mark.parametrize("driver", ["cppc_cpufreq", "amd-pstate-epp", "amd-pstate"])
def test_switches_of_policies_are_set_alike(tmp_path: Path, driver: str) -> None:
    """All off, all on; limits set by hand come back; a second pass and a restart write nothing; a
    restore gives everything back.
    """
    model, host = policies(machine(driver))
    paths = [boost_path(number) for number in range(4)]
    with rig.applier(host, str(tmp_path)) as handle:
        before = dict(handle.discover().observed.values)
        assert handle.machine.boost is True
        report = bring(handle, False)
        assert report.settled
        assert [model.read(path) for path in paths] == [b"0\n"] * 4
        assert [path for path, _ in model.log[:4]] == paths
        assert [limits(model, number)[1] for number in range(4)] == [BASE, 2 * GHZ, BASE, BASE]
        assert bring(handle, False) == Report()
    with rig.applier(host, str(tmp_path)) as handle:
        assert bring(handle, False) == Report()
        bring(handle, True)
        assert [model.read(path) for path in paths] == [b"1\n"] * 4
        assert [limits(model, number) for number in range(4)] == [
            (low or 800_000, high or TOP) for low, high in BY_HAND
        ]
        bring(handle, False, {0: Target(GHZ, 2 * GHZ)})
        assert handle.restore().settled
        assert dict(handle.discover().observed.values) == before
    assert rig.owned(str(tmp_path)) == set()


def test_policies_that_differed_differ_again(tmp_path: Path) -> None:
    """A7: each has its own baseline."""
    model, host = policies(machine(hand=((None, None),) * 3))
    rig.foreign_write(model, boost_path(1), "0")
    with rig.applier(host, str(tmp_path)) as handle:
        before = dict(handle.discover().observed.values)
        for boost in (False, True):
            bring(handle, boost)
            assert {model.read(boost_path(number)) for number in range(3)} == {
                b"1\n" if boost else b"0\n"
            }
        assert handle.restore().settled
        assert dict(handle.discover().observed.values) == before


def test_a_policy_that_refuses_costs_itself(tmp_path: Path) -> None:
    """A4: the others are set; all limits are what they should be."""
    model, host = policies(machine())
    hidden = host.deny
    host.deny = lambda verb, path: (
        errno.EINVAL if (verb, path) == ("write", boost_path(2)) else hidden(verb, path)
    )
    with rig.applier(host, str(tmp_path)) as handle:
        before = dict(handle.discover().observed.values)
        for _ in range(2):
            report = bring(handle, False, {0: Target(GHZ, 2 * GHZ)})
            assert [
                (outcome.path, outcome.errno)
                for outcome in report.outcomes
                if outcome.status is Status.FAILED
            ] == [(boost_path(2), errno.EINVAL)]
            assert [model.read(boost_path(number)) for number in range(4)] == [
                b"0\n",
                b"0\n",
                b"1\n",
                b"0\n",
            ]
            assert [limits(model, number)[1] for number in range(4)] == [
                2 * GHZ,
                2 * GHZ,
                2_900_000,
                BASE,
            ]
        assert handle.restore().settled
        assert dict(handle.discover().observed.values) == before


@pytest.mark.parametrize("text", ["", "maybe", "2"])
def test_switches_that_say_nothing_are_none(tmp_path: Path, text: str) -> None:
    """R6: such a policy has no switch, which costs the others nothing."""
    model, host = policies(machine())
    model_read: Callable[[str], bytes] = model.read

    @define
    class Odd(Probe):
        def read(self, path: str) -> bytes:
            return f"{text}\n".encode() if path == boost_path(1) else Probe.read(self, path)

    with rig.applier(Odd(model, deny=host.deny), str(tmp_path)) as handle:
        assert handle.machine.boost is True
        bring(handle, False)
    assert model_read(boost_path(0)) == b"0\n"
    assert "boost:1" not in rig.owned(str(tmp_path))
    with rig.applier(host, str(tmp_path)) as handle:
        assert handle.restore().settled
    assert model_read(boost_path(0)) == b"1\n"


# --- laws ---

KHZ = st.sampled_from((800_000, 1_500_000, 2_400_000, 2_600_000, 2_999_999))
HAND = st.lists(
    st.none() | st.tuples(KHZ, KHZ).map(lambda ends: (min(ends), max(ends))), min_size=1, max_size=3
)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Machine, float]:
    """A machine with turbo on or off, and limits set by hand that it can have then."""
    driver, on = draw(st.sampled_from(DRIVERS)), draw(st.booleans())
    top = TOP if on else BASE
    hand = tuple(
        (None, None) if ends is None else (min(ends[0], top), min(ends[1], top))
        for ends in draw(HAND)
    )
    return machine(driver, on=on, hand=hand), draw(st.sampled_from((0.0, 0.004)))


@st.composite
def asks(draw: st.DrawFn) -> tuple[bool | None, dict[int, Target]]:
    """Turbo, and limits for some CPUs."""
    claimed = draw(st.sets(st.integers(0, 2)))
    ends = [sorted(draw(st.tuples(KHZ, KHZ))) for _ in claimed]
    return draw(st.sampled_from((None, True, False))), {
        cpu: Target(low, high) for cpu, (low, high) in zip(claimed, ends, strict=True)
    }


Ask = tuple[bool | None, dict[int, Target]]


def planned(found: Machine, ask: Ask) -> NodePlan:
    """Limits of the ask, as high as the machine goes."""
    tops = {domain.id: domain.hardware_max_khz or 0 for domain in found.domains}
    targets = {
        cpu: evolve(
            target,
            min_khz=min(target.min_khz or 0, tops[cpu]),
            max_khz=min(target.max_khz or 0, tops[cpu]),
        )
        for cpu, target in ask[1].items()
        if cpu in tops
    }
    return rig.plan(found, targets, boost=ask[0])


def once(host: Host, folder: str, ask: Ask) -> Report:
    with rig.applier(host, folder) as handle:
        return handle.bring(lambda found: planned(found, ask))[1]


@given(worlds(), st.lists(asks(), min_size=1, max_size=4), st.booleans())
def test_whatever_was_asked_the_last_ask_is_in_force_and_all_is_given_back(
    world: tuple[Machine, float], asked: list[Ask], restarts: bool
) -> None:
    """R1, R3, A7: with turbo going on and off between; every value by hand is there again in the
    end.
    """
    found, latency = world
    long_way, short_way = kernel(found, latency), kernel(found, latency)
    before = rig.shown(long_way)
    with rig.state_folder() as one, rig.state_folder() as two:
        if restarts:
            for ask in asked:
                once(long_way, one, ask)
        else:
            with rig.applier(long_way, one) as handle:
                for ask in asked:
                    handle.host.wait(1000)
                    handle.bring(lambda seen, ask=ask: planned(seen, ask))  # type: ignore[misc]
        once(short_way, two, asked[-1])
        assert rig.shown(long_way) == rig.shown(short_way)
        assert rig.owned(one) == rig.owned(two)
        assert once(long_way, one, asked[-1]).writes == ()
        assert rig.restore_once(long_way, one).settled
        assert (rig.shown(long_way), rig.owned(one)) == (before, set())


@given(
    worlds(),
    st.lists(st.tuples(asks(), st.integers(0, 8)), min_size=1, max_size=3),
    st.integers(0, 8),
)
def test_a_kill_between_two_writes_is_harmless(
    world: tuple[Machine, float], asked: list[tuple[Ask, int]], last: int
) -> None:
    """A6: between the switch and the limits that it has overwritten, too: what was set by hand is
    in the state file by then.
    """
    found, latency = world
    whole, broken = kernel(found, latency), kernel(found, latency)
    before = rig.shown(whole)
    with rig.state_folder() as one, rig.state_folder() as two:
        for ask, after in asked:
            once(whole, one, ask)
            with contextlib.suppress(rig.Crash):
                once(Probe(broken, crash_at=after), two, ask)
        once(broken, two, asked[-1][0])
        assert rig.shown(broken) == rig.shown(whole)
        assert rig.owned(one) == rig.owned(two)
        with contextlib.suppress(rig.Crash):
            rig.restore_once(Probe(broken, crash_at=last), two)
        rig.restore_once(broken, two)
        assert (rig.shown(broken), rig.owned(two)) == (before, set())


@given(worlds(), asks(), st.lists(st.booleans(), min_size=1, max_size=3))
def test_turbo_of_somebody_else_is_put_right_with_all_that_it_moved(
    world: tuple[Machine, float], ask: Ask, foreign: list[bool]
) -> None:
    """A3, K24: an agent that looks, plans and applies comes back to the same values, and to all
    that was by hand at the end.
    """
    found, latency = world
    model = kernel(found, latency)
    before = rig.shown(model)
    boost = ask[0] if ask[0] is not None else bool(found.boost)
    ask = (boost, ask[1])
    switch = switch_of(found.domains[0].driver or "")
    with rig.state_folder() as folder, rig.applier(model, folder) as handle:
        handle.bring(lambda seen: planned(seen, ask))
        reached = rig.shown(model)
        for on in foreign:
            rig.foreign_write(model, switch, "1" if on is (switch == BOOST) else "0")
            for _ in range(3):
                model.clock += 1000
                if handle.changed():
                    handle.discover()
                handle.bring(lambda seen: planned(seen, ask))
            assert rig.shown(model) == reached
        handle.restore()
        assert rig.shown(model) == before
