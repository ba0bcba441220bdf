"""R7: unknown is not empty. What has not been reported is kept as last known, or not written."""

from attrs import evolve
from hypothesis import assume, given

from kpm_planner.model.assignment import Pool
from kpm_planner.model.problems import Code
from kpm_planner.model.target import BASELINE
from kpm_planner.plan import NodePlan
from tests.planner.property import reference
from tests.planner.reading import codes, group_of, held_cpus, with_code
from tests.strategies.scenarios import Scenario, scenarios


def by_cpu(plan: NodePlan) -> dict[int, tuple[object, ...]]:
    """Pool, profile, owner and target of every CPU."""
    return {
        cpu: (group.pool, group.profile, group.container, group.target, group.held)
        for cpu, group in group_of(plan).items()
    }


@given(scenarios())
def test_a_held_cpu_has_no_target(scenario: Scenario) -> None:
    """Nothing is asked of it: neither a profile nor a value."""
    for group in scenario.plan().groups:
        if group.held:
            assert group.target == BASELINE
            assert group.profile is None


@given(scenarios())
def test_with_no_answer_and_nothing_known_no_cpu_that_could_be_allocated_is_written(
    scenario: Scenario,
) -> None:
    """Every online CPU that the kubelet may hand out and that nobody reserves is held, and a
    problem says so.
    """
    allocation = evolve(scenario.item.allocation, answered=False, last_known=None)
    plan = scenario.with_item(allocation=allocation).plan()
    assume(Code.NODE_NOT_SELECTED not in codes(plan.problems))
    reserved = {
        cpu
        for item in reference.definitions(scenario.intent, scenario.item.node)
        for entry in item.reserved_cpus
        for cpu in entry.cores
    }
    could_be = (
        scenario.machine.online
        if allocation.allocatable is None
        else scenario.machine.online & allocation.allocatable
    )
    assert could_be - reserved <= held_cpus(plan) <= could_be
    assert not any(group.pool is Pool.EXCLUSIVE for group in plan.groups)
    assert with_code(plan.problems, Code.ALLOCATION_UNKNOWN)


@given(scenarios())
def test_a_cpu_that_the_kubelet_can_hand_out_is_held_even_if_a_definition_reserves_it(
    scenario: Scenario,
) -> None:
    """A container that owns a reserved CPU wins, so while nobody knows, such a CPU could be a
    container's.
    """
    order = scenario.machine.online
    allocation = evolve(
        scenario.item.allocation, answered=False, last_known=None, allocatable=order
    )
    plan = scenario.with_item(allocation=allocation).plan()
    assume(Code.NODE_NOT_SELECTED not in codes(plan.problems))
    assert held_cpus(plan) == order


@given(scenarios())
def test_without_an_answer_the_last_known_allocation_stays(scenario: Scenario) -> None:
    """As if the kubelet had answered what it answered last; only the
    problem tells the difference.
    """
    allocation = scenario.item.allocation
    known = evolve(allocation, answered=True, last_known=None)
    unanswered = evolve(allocation, answered=False, reported=(), last_known=allocation.reported)
    before, after = (
        scenario.with_item(allocation=known).plan(),
        scenario.with_item(allocation=unanswered).plan(),
    )
    assume(not held_cpus(before))
    assert by_cpu(after) == by_cpu(before)
    assert after.extended_resources == before.extended_resources
    if Code.NODE_NOT_SELECTED not in codes(after.problems):
        assert with_code(after.problems, Code.ALLOCATION_UNKNOWN)


def entitled(scenario: Scenario) -> list[int]:
    """Indices of reported entries that R7 speaks of: running containers that ask for a profile and
    can own CPUs.
    """
    allocation = scenario.item.allocation
    found = []
    for index, entry in enumerate(allocation.reported):
        container = reference.container_of(allocation.pods, entry)
        if container is None or container[0].phase != "Running" or not entry.cpus:
            continue
        asks = any(
            resource.startswith("power.") for resource, amount in container[1].resources if amount
        )
        if asks and reference.owns(allocation.pods, entry, ()):
            found.append(index)
    return found


@given(scenarios())
def test_a_running_container_that_is_left_out_keeps_its_last_known_cpus(scenario: Scenario) -> None:
    """The kubelet answers, but reports no CPUs for it: as if it had reported the same as before."""
    allocation = scenario.item.allocation
    assume(
        allocation.answered
        and (allocation.allocatable is None or allocation.allocatable)
        and entitled(scenario)
    )
    index = entitled(scenario)[0]
    gone = evolve(
        allocation,
        reported=allocation.reported[:index] + allocation.reported[index + 1 :],
        last_known=allocation.reported,
    )
    before, after = (
        scenario.with_item(allocation=evolve(allocation, last_known=allocation.reported)).plan(),
        scenario.with_item(allocation=gone).plan(),
    )
    keys = {(entry.namespace, entry.pod, entry.container) for entry in gone.reported}
    left = allocation.reported[index]
    assume((left.namespace, left.pod, left.container) not in keys)
    assert by_cpu(after) == by_cpu(before)


@given(scenarios())
def test_a_running_container_whose_cpus_were_never_known_holds_what_could_be_its(
    scenario: Scenario,
) -> None:
    """The free CPUs that can be allocated are not written; containers that are reported keep
    theirs.
    """
    allocation = scenario.item.allocation
    assume(
        allocation.answered
        and (allocation.allocatable is None or allocation.allocatable)
        and entitled(scenario)
    )
    index = entitled(scenario)[0]
    left = allocation.reported[index]
    gone = evolve(
        allocation,
        reported=allocation.reported[:index] + allocation.reported[index + 1 :],
        last_known=None,
    )
    assume(
        left.namespace + left.pod + left.container
        not in {entry.namespace + entry.pod + entry.container for entry in gone.reported}
    )
    plan = scenario.with_item(allocation=gone).plan()
    assume(Code.NODE_NOT_SELECTED not in codes(plan.problems))
    could_be = (
        scenario.machine.online
        if allocation.allocatable is None
        else scenario.machine.online & allocation.allocatable
    )
    for cpu, group in group_of(plan).items():
        if group.pool in (Pool.SHARED, Pool.UNMANAGED):
            assert group.held == (cpu in could_be)
        elif group.pool is Pool.EXCLUSIVE:
            assert not group.held
    assert with_code(plan.problems, Code.ALLOCATION_UNKNOWN)
