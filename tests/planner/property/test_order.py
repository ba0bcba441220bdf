"""R5: the order in which things arrive or stand in a list changes nothing."""

import random
import re
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kpm_planner.caps.zones import CapTarget
from kpm_planner.model.allocation import Allocation
from kpm_planner.model.cap_objects import PowerCap
from kpm_planner.model.cluster import NodeSelector
from kpm_planner.model.objects import Intent, PowerNodeConfig, PowerProfile, PowerWorkload, Uncore
from kpm_planner.plan import NodePlan, plan_cluster
from kpm_planner.selection import accept
from kpm_planner.validate import validate_intent
from tests.planner.reading import group_of
from tests.strategies.scenarios import Scenario, scenarios


def shuffled(values: Any, rng: random.Random) -> Any:
    """A tuple in another order."""
    return tuple(rng.sample(values, len(values)))


def shuffled_intent(intent: Intent, rng: random.Random) -> Intent:
    """The same objects in another order."""
    return Intent(*(shuffled(objects, rng) for objects in _kinds(intent)))


def _kinds(intent: Intent) -> tuple[tuple[Any, ...], ...]:
    """The objects of each kind, as Intent takes them."""
    return (
        intent.profiles,
        intent.workloads,
        intent.node_configs,
        intent.uncores,
        intent.configs,
        intent.caps,
    )


def shuffled_allocation(allocation: Allocation, rng: random.Random) -> Allocation:
    """The same pods, containers and answers in another order."""
    pods = tuple(
        evolve(
            pod,
            containers=tuple(
                evolve(item, resources=shuffled(item.resources, rng))
                for item in shuffled(pod.containers, rng)
            ),
        )
        for pod in allocation.pods
    )
    known = None if allocation.last_known is None else shuffled(allocation.last_known, rng)
    return evolve(
        allocation,
        pods=shuffled(pods, rng),
        reported=shuffled(allocation.reported, rng),
        last_known=known,
    )


@given(scenarios(), st.integers(0, 2**32))
def test_the_order_of_objects_pods_and_answers_changes_nothing(
    scenario: Scenario, seed: int
) -> None:
    """Not a value, a reason, a problem or a word of a message; also where timestamps are equal or
    missing.
    """
    rng = random.Random(seed)
    other = evolve(scenario, intent=shuffled_intent(scenario.intent, rng)).with_item(
        allocation=shuffled_allocation(scenario.item.allocation, rng)
    )
    assert other.plan() == scenario.plan()
    assert accept(other.intent).problems == accept(scenario.intent).problems
    assert validate_intent(other.intent) == validate_intent(scenario.intent)


def _relisted(obj: Any, rng: random.Random) -> Any:
    """An object with the lists inside it in another order."""
    selector = getattr(obj, "node_selector", None)
    if isinstance(selector, NodeSelector) and selector.label_selector is not None:
        label = evolve(
            selector.label_selector,
            match_expressions=shuffled(selector.label_selector.match_expressions, rng),
        )
        obj = evolve(obj, node_selector=NodeSelector(label))
    if isinstance(obj, PowerWorkload | PowerNodeConfig):
        entries = tuple(
            evolve(entry, cores=shuffled(entry.cores, rng)) for entry in obj.reserved_cpus
        )
        return evolve(obj, reserved_cpus=shuffled(entries, rng))
    if isinstance(obj, Uncore):
        return evolve(obj, die_selector=shuffled(obj.die_selector, rng))
    if isinstance(obj, PowerCap):
        schedule = tuple(
            evolve(entry, days=shuffled(entry.days, rng)) for entry in obj.source.schedule
        )
        return evolve(obj, source=evolve(obj.source, schedule=shuffled(schedule, rng)))
    if isinstance(obj, PowerProfile) and obj.cstates.names is not None:
        return evolve(
            obj,
            cstates=evolve(
                obj.cstates, names=dict(shuffled(tuple(obj.cstates.names.items()), rng))
            ),
        )
    return obj


def _without_places(plan: NodePlan) -> tuple[object, ...]:
    """All of a plan but texts, in which list indices and examples stand."""
    cpus = {
        cpu: (group.pool, group.profile, group.container, group.target, group.held)
        for cpu, group in group_of(plan).items()
    }
    uncore = {target.entry: (target.min_khz, target.max_khz) for target in plan.uncore}
    problems = sorted(
        {
            (problem.severity, problem.code, problem.object, re.sub(r"\[\d+]", "[]", problem.field))
            for problem in plan.problems
        }
    )
    fabrics, caps = (
        {target.fabric: target.pstates for target in plan.fabrics},
        {target.zone.name: dict(_named_limits(target)) for target in plan.caps},
    )
    return (
        cpus,
        uncore,
        fabrics,
        caps,
        plan.boost,
        plan.cap_state,
        plan.valid_until,
        dict(plan.extended_resources),
        problems,
    )


def _named_limits(target: CapTarget) -> list[tuple[str, int | None]]:
    return [(limit.name, uw) for limit, uw in zip(target.zone.limits, target.limits, strict=True)]


@given(scenarios(), st.integers(0, 2**32))
def test_the_order_in_which_a_machine_is_listed_changes_no_decision(
    scenario: Scenario, seed: int
) -> None:
    """CPUs, frequency domains, uncore entries, power zones, their limits and fabrics as discovery
    happened to find them (field report 34).
    """
    rng = random.Random(seed)
    machine = scenario.machine
    zones = tuple(evolve(zone, limits=shuffled(zone.limits, rng)) for zone in machine.power_zones)
    other = evolve(
        machine,
        cpus=shuffled(machine.cpus, rng),
        domains=shuffled(machine.domains, rng),
        uncore=shuffled(machine.uncore, rng),
        power_zones=shuffled(zones, rng),
        fabrics=shuffled(machine.fabrics, rng),
    )
    assert _without_places(scenario.with_item(machine=other).plan()) == _without_places(
        scenario.plan()
    )


@given(scenarios(), st.integers(0, 2**32))
def test_the_order_of_lists_inside_an_object_changes_no_decision(
    scenario: Scenario, seed: int
) -> None:
    """Reserved CPUs, dies, expressions, idle states, times and days of a schedule: only the indices
    in messages follow the list.
    """
    rng = random.Random(seed)
    intent = scenario.intent
    other = evolve(
        scenario,
        intent=Intent(
            *(tuple(_relisted(obj, rng) for obj in objects) for objects in _kinds(intent))
        ),
    )
    assert _without_places(other.plan()) == _without_places(scenario.plan())


@given(scenarios(most_cpus=6), scenarios(most_cpus=6), st.booleans())
def test_the_order_of_nodes_changes_nothing(first: Scenario, second: Scenario, swap: bool) -> None:
    """A cluster's plan is sorted by node."""
    items = [first.item, evolve(second.item, node=evolve(second.item.node, name="node-2"))]
    assert plan_cluster(first.intent, items[::-1] if swap else items) == plan_cluster(
        first.intent, items
    )
