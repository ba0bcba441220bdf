"""Planner and applier together, as an agent runs them: the machine it plans for shows baselines, and the plan it makes comes in force (R1, R3, A7)."""

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kpm_applier.kernel_model import KernelModel
from kpm_applier.session import Applier, Report
from kpm_planner.allocation import Allocation
from kpm_planner.changes import Status
from kpm_planner.intent import Intent
from kpm_planner.machine import Machine
from kpm_planner.plan import NodeInput, NodePlan, plan_node
from tests.applier import rig
from tests.applier.property.asks import small_machines
from tests.strategies.objects import NODE, intents
from tests.strategies.pods import allocations

Asked = tuple[Intent, Allocation]


@st.composite
def worlds(draw: st.DrawFn, count: int = 1) -> tuple[Machine, tuple[Asked, ...]]:
    """A machine, and what users and pods ask of it at different times; also things that cannot be honoured."""
    machine = draw(small_machines())
    asked = []
    for _ in range(count):
        odd = draw(st.integers(0, 3)) == 3
        intent = draw(intents(machine, awkward=odd))
        group = intent.profiles[0].group if intent.profiles else "power.openshift.io"
        asked.append((intent, draw(allocations(machine, group=group, awkward=odd))))
    return machine, tuple(asked)


def lasting(machine: Machine) -> Machine:
    """The machine less the list of preferences, which shows what can be chosen now (K9) and decides nothing."""
    return evolve(machine, domains=tuple(evolve(domain, epps=()) for domain in machine.domains))


def plan(handle: Applier, asked: Asked) -> NodePlan:
    return plan_node(asked[0], NodeInput(NODE, handle.machine, asked[1]))


def step(handle: Applier, asked: Asked) -> tuple[NodePlan, Report]:
    wanted = plan(handle, asked)
    return wanted, handle.apply(wanted)


@given(worlds(3))
def test_what_is_planned_last_is_all_that_is_left(world: tuple[Machine, tuple[Asked, ...]]) -> None:
    """R1 from objects to sysfs: whatever was asked before, the machine, its state and the next plan are those of the last ask alone."""
    machine, (first, second, last) = world
    long_way, short_way = KernelModel(machine), KernelModel(machine)
    with rig.state_folder() as one, rig.state_folder() as two, rig.applier(long_way, one) as walked, rig.applier(short_way, two) as direct:
        for asked in (first, second, last):
            wanted, _ = step(walked, asked)
        expected, _ = step(direct, last)
        assert wanted == expected
        if any(group.held for group in wanted.groups):  # what is held stays as it is (R7), and that depends on before
            return
        assert rig.shown(long_way) == rig.shown(short_way)
        assert rig.owned(one) == rig.owned(two)
        assert lasting(walked.machine) == lasting(direct.machine)


@given(worlds(2))
def test_the_machine_of_the_planner_does_not_change_with_what_is_applied(world: tuple[Machine, tuple[Asked, ...]]) -> None:
    """Baselines stand for settings, so equal intent gives an equal plan for ever, in the same process and the next, and writes nothing (R3)."""
    machine, (first, second) = world
    model = KernelModel(machine)
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
            assert plan(handle, second) == wanted
            assert handle.apply(wanted).writes == () or not settled


@given(worlds())
def test_every_plan_can_be_carried_out(world: tuple[Machine, tuple[Asked, ...]]) -> None:
    """What the planner lets through, the kernel takes: nothing fails, and every planned value is there, or rounded to the table."""
    machine, (asked,) = world
    model = KernelModel(machine)
    with rig.state_folder() as folder, rig.applier(model, folder) as handle:
        wanted, report = step(handle, asked)
        assert {outcome.status for outcome in report.outcomes} <= {Status.LIMITED}, report.outcomes
        shown = rig.shown(model)
        limited = {outcome.path for outcome in report.outcomes}
        assert {path for path, text in rig.texts(wanted, handle.machine).items() if shown[path] != text} <= limited
        assert not limited or any(domain.available_khz for domain in machine.domains)


@given(worlds(2))
def test_a_restore_after_any_plans_gives_everything_back(world: tuple[Machine, tuple[Asked, ...]]) -> None:
    """A7."""
    machine, asks = world
    model = KernelModel(machine)
    before = rig.shown(KernelModel(machine))
    with rig.state_folder() as folder, rig.applier(model, folder) as handle:
        for asked in asks:
            step(handle, asked)
        assert handle.restore().settled
        assert rig.shown(model) == before
        assert rig.owned(folder) == set()
