"""Planner and applier together, as an agent runs them: the machine it plans for shows baselines,
and the plan it makes comes in force (R1, R3, A2, A7).
"""

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.session import Applier, Report
from kpm_planner.model.allocation import Allocation
from kpm_planner.model.changes import Status
from kpm_planner.model.machine import FrequencyDomain, Machine
from kpm_planner.model.objects import Intent
from kpm_planner.plan import NodeInput, NodePlan, plan_node
from tests.applier import rig
from tests.applier.property.asks import small_machines
from tests.strategies.objects import NODE, intents
from tests.strategies.pods import allocations

Asked = tuple[Intent, Allocation]
#: How far turbo goes above what a machine without it names.
_TURBO_KHZ = 400_000


@st.composite
def worlds(draw: st.DrawFn, count: int = 1) -> tuple[Machine, tuple[Asked, ...]]:
    """A machine, and what users and pods ask of it at different times, turbo among it; also things
    that cannot be honoured.
    """
    machine = draw(small_machines())
    if machine.boost and not any(
        _base(domain) < (domain.hardware_max_khz or 0) for domain in machine.domains
    ):
        machine = evolve(machine, boost=None)  # a switch that moves nothing is none
    asked = []
    for _ in range(count):
        odd = draw(st.integers(0, 3)) == 3
        intent = draw(intents(machine, awkward=odd))
        group = intent.profiles[0].group if intent.profiles else "power.openshift.io"
        asked.append((intent, draw(allocations(machine, group=group, awkward=odd))))
    return machine, tuple(asked)


def kernel(machine: Machine) -> KernelModel:
    """Its kernel, with maxima that turbo moves (K24); a frequency table has none above its last
    entry, and a driver that names its limit none above that.
    """
    boosted = {
        item.id: (
            item.limit_max_khz or 0
            if item.available_khz or str(item.driver).startswith("amd-")
            else (item.hardware_max_khz or 0) + _TURBO_KHZ
        )
        for item in machine.domains
    }
    return KernelModel(
        machine,
        boosted={} if machine.boost else boosted,
        unboosted={item.id: _base(item) for item in machine.domains} if machine.boost else {},
    )


def _base(domain: FrequencyDomain) -> int:
    """The highest frequency without turbo: no value that a setting of a generated machine has, so
    that no limit was set to it by hand.
    """
    low, high = domain.hardware_min_khz or 0, domain.hardware_max_khz or 0
    if domain.available_khz:
        return domain.available_khz[-2] + 1 if len(domain.available_khz) > 1 else high
    return high - (high - low) * 9 // 50


def lasting(machine: Machine) -> Machine:
    """The machine less what turbo moves, and less the list of preferences, which shows what can be
    chosen now (K9) and decides nothing.
    """
    return evolve(
        machine, boost=None, boost_before=None, domains=tuple(map(_lasting, machine.domains))
    )


def _lasting(domain: FrequencyDomain) -> FrequencyDomain:
    unlimited = domain.settings.max_khz == domain.hardware_max_khz
    settings = evolve(domain.settings, max_khz=None) if unlimited else domain.settings
    return evolve(
        domain,
        epps=(),
        hardware_max_khz=None,
        limit_max_khz=None,
        limit_named=True,
        settings=settings,
    )


def step(handle: Applier, asked: Asked) -> tuple[NodePlan, Report]:
    """A pass, long enough after the one before that nothing is left alone for having been changed a
    moment ago.
    """
    handle.host.wait(1000)
    return handle.bring(lambda machine: plan_node(asked[0], NodeInput(NODE, machine, asked[1])))


@given(worlds(3))
def test_what_is_planned_last_is_all_that_is_left(world: tuple[Machine, tuple[Asked, ...]]) -> None:
    """R1 from objects to sysfs: whatever was asked before, the machine, its state and the next plan
    are those of the last ask alone.
    """
    machine, (first, second, last) = world
    long_way, short_way = kernel(machine), kernel(machine)
    with (
        rig.state_folder() as one,
        rig.state_folder() as two,
        rig.applier(long_way, one) as walked,
        rig.applier(short_way, two) as direct,
    ):
        for asked in (first, second, last):
            wanted, _ = step(walked, asked)
        expected, _ = step(direct, last)
        assert wanted == expected
        # what is held stays as it is (R7), and that depends on before
        if any(group.held for group in wanted.groups):
            return
        assert rig.shown(long_way) == rig.shown(short_way)
        assert rig.owned(one) == rig.owned(two)
        assert lasting(walked.machine) == lasting(direct.machine)


@given(worlds(2))
def test_the_machine_of_the_planner_does_not_change_with_what_is_applied(
    world: tuple[Machine, tuple[Asked, ...]],
) -> None:
    """Baselines stand for settings, so equal intent gives an equal plan for ever, in the same
    process and the next, and writes nothing (R3).
    """
    machine, (first, second) = world
    model = kernel(machine)
    with rig.state_folder() as folder:
        with rig.applier(model, folder) as handle:
            before = lasting(handle.machine)
            step(handle, first)
            assert lasting(handle.machine) == before
            wanted, report = step(handle, second)
            assert lasting(handle.machine) == before
            settled = report.settled
            model.log.clear()
            again, report = step(handle, second)
            assert again == wanted
            assert report.writes == () or not settled
        with rig.applier(model, folder) as handle:
            assert lasting(handle.machine) == before
            again, report = step(handle, second)
            assert again == wanted
            assert report.writes == () or not settled


@given(worlds(2))
def test_every_plan_can_be_carried_out(world: tuple[Machine, tuple[Asked, ...]]) -> None:
    """What the planner lets through, the kernel takes: nothing fails but a switch of turbo that the
    hardware has not, and every planned value is there, or limited.
    """
    machine, asks = world
    model = kernel(machine)
    with rig.state_folder() as folder, rig.applier(model, folder) as handle:
        for asked in asks:
            wanted, report = step(handle, asked)
            failed = {
                outcome.group for outcome in report.outcomes if outcome.status is not Status.LIMITED
            }
            assert failed <= ({"boost"} if wanted.boost and not model.boost else set()), (
                report.outcomes
            )
            # turbo moves the limits of all domains, so what is held holds it too
            held = any(group.held for group in wanted.groups)
            assert wanted.boost in (None, model.boost) or failed or held
            shown = rig.shown(model)
            limited = {outcome.path for outcome in report.outcomes}
            texts = rig.texts(wanted, handle.machine)
            assert {
                path
                for path, text in texts.items()
                if shown[path] != text and not _rounded(handle.machine, path)
            } <= limited
            assert (
                not limited & texts.keys()
                or any(domain.available_khz for domain in machine.domains)
                or failed
            )


def _rounded(machine: Machine, path: str) -> bool:
    """Whether a file is a limit of a domain with a frequency table, which was said when it was
    written.
    """
    return "_freq" in path and any(
        domain.available_khz and f"/policy{domain.id}/" in path for domain in machine.domains
    )


@given(worlds(2))
def test_a_restore_after_any_plans_gives_everything_back(
    world: tuple[Machine, tuple[Asked, ...]],
) -> None:
    """A7."""
    machine, asks = world
    model = kernel(machine)
    before = rig.shown(kernel(machine))
    with rig.state_folder() as folder, rig.applier(model, folder) as handle:
        for asked in asks:
            step(handle, asked)
        assert handle.restore().settled
        assert rig.shown(model) == before
        assert rig.owned(folder) == set()
