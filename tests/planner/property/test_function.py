"""R1: a plan is a function of its arguments; nothing of an earlier plan stays."""

import copy
import pickle
from datetime import UTC, datetime

from attrs import evolve
from hypothesis import given

from kpm_planner.plan import plan_cluster, plan_node
from kpm_planner.selection import accept
from tests.strategies.scenarios import Scenario, scenarios

NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)


@given(scenarios(), scenarios(most_cpus=6))
def test_the_same_input_gives_the_same_plan_whatever_was_planned_before(scenario: Scenario, other: Scenario) -> None:
    """Planning something else in between, on the same machine or another, leaves no residue."""
    first = scenario.plan()
    other.plan()
    scenario.with_item(allocation=other.item.allocation).plan()
    evolve(scenario, intent=other.intent).plan()
    assert scenario.plan() == first


@given(scenarios())
def test_equal_input_gives_an_equal_plan(scenario: Scenario) -> None:
    """Copies in other memory plan the same: nothing depends on identity, and caches are no part of a value."""
    plan = scenario.plan()
    assert pickle.loads(pickle.dumps(scenario)).plan() == plan
    assert copy.deepcopy(scenario).plan() == plan
    assert Scenario(evolve(scenario.intent), evolve(scenario.item, machine=evolve(scenario.machine))).plan() == plan
    assert pickle.loads(pickle.dumps(plan)) == plan


@given(scenarios())
def test_planning_changes_none_of_its_arguments(scenario: Scenario) -> None:
    """Mappings inside objects are left as they were."""
    before = copy.deepcopy(scenario)
    scenario.plan()
    assert scenario == before


@given(scenarios())
def test_what_a_plan_asks_for_is_what_it_asks_for_at_any_instant_until_it_expires(scenario: Scenario) -> None:
    """No rule of today depends on time, so a plan never expires."""
    plan = plan_node(scenario.intent, scenario.item, NOON)
    assert plan.valid_until is None
    assert plan == scenario.plan()


@given(scenarios(most_cpus=8), scenarios(most_cpus=8))
def test_a_clusters_plan_is_the_plan_of_each_node(first: Scenario, second: Scenario) -> None:
    """plan_cluster only does once what does not depend on the node, and reports it once."""
    items = [first.item, evolve(second.item, node=evolve(second.item.node, name="a-node"))]
    cluster = plan_cluster(first.intent, iter(items))
    assert cluster.nodes == (plan_node(first.intent, items[1]), plan_node(first.intent, items[0]))
    assert cluster.nodes[1] == plan_node(accept(first.intent), items[0])
    assert cluster.problems == accept(first.intent).problems
