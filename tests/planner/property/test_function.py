"""R1: a plan is a function of its arguments; nothing of an earlier plan stays."""

import copy
import pickle
from datetime import timedelta

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kpm_planner.caps.schedule import Signals
from kpm_planner.plan import plan_cluster, plan_node
from kpm_planner.selection import accept
from tests.planner.reading import codes, limits_of
from tests.strategies.scenarios import Scenario, scenarios


@given(scenarios(), scenarios(most_cpus=6))
def test_the_same_input_gives_the_same_plan_whatever_was_planned_before(
    scenario: Scenario, other: Scenario
) -> None:
    """Planning something else in between, on the same machine or another, leaves no residue."""
    first = scenario.plan()
    other.plan()
    scenario.with_item(allocation=other.item.allocation).plan()
    evolve(scenario, intent=other.intent).plan()
    assert scenario.plan() == first


@given(scenarios())
def test_equal_input_gives_an_equal_plan(scenario: Scenario) -> None:
    """Copies in other memory plan the same: nothing depends on identity, and caches are no part of
    a value.
    """
    plan = scenario.plan()
    assert pickle.loads(pickle.dumps(scenario)).plan() == plan
    assert copy.deepcopy(scenario).plan() == plan
    assert (
        Scenario(
            evolve(scenario.intent),
            evolve(scenario.item, machine=evolve(scenario.machine)),
            scenario.instant,
        ).plan()
        == plan
    )
    assert pickle.loads(pickle.dumps(plan)) == plan


@given(scenarios())
def test_planning_changes_none_of_its_arguments(scenario: Scenario) -> None:
    """Mappings inside objects are left as they were."""
    before = copy.deepcopy(scenario)
    scenario.plan()
    assert scenario == before


@given(scenarios(), st.floats(0, 1, exclude_max=True))
def test_what_a_plan_asks_for_is_what_it_asks_for_at_any_instant_until_it_expires(
    scenario: Scenario, share: float
) -> None:
    """All but the words of a reason and since when a version counts.

    Also where what it remembers of the cap is handed to the next plan; one that never expires is
    that of any later instant.
    """
    plan = scenario.plan()
    assert plan.valid_until is None or plan.valid_until > scenario.instant
    left = timedelta(days=400) if plan.valid_until is None else plan.valid_until - scenario.instant
    later = scenario.instant + min(left * share, left - timedelta(microseconds=1))
    again = plan_node(scenario.intent, scenario.item, later)
    assert (limits_of(again), codes(again.problems)) == (limits_of(plan), codes(plan.problems))
    assert evolve(again, caps=(), cap_state=None, problems=(), versions=()) == evolve(
        plan, caps=(), cap_state=None, problems=(), versions=()
    )
    signals = evolve(scenario.item.signals, previous=plan.cap_state)
    for instant in (scenario.instant, later):
        assert limits_of(
            plan_node(scenario.intent, evolve(scenario.item, signals=signals), instant)
        ) == limits_of(plan)


@given(scenarios())
def test_only_caps_depend_on_time(scenario: Scenario) -> None:
    """Without them a plan never expires, and is the same at any instant and with any signals."""
    bare = evolve(scenario, intent=evolve(scenario.intent, caps=()))
    plan = bare.plan()
    assert plan.valid_until is None
    assert plan.cap_state is None
    assert plan == plan_node(bare.intent, evolve(bare.item, signals=Signals()), scenario.instant)
    assert evolve(plan, versions=()) == evolve(plan_node(bare.intent, bare.item), versions=())
    with_caps = scenario.plan()
    assert (with_caps.groups, with_caps.uncore, with_caps.fabrics, with_caps.boost) == (
        plan.groups,
        plan.uncore,
        plan.fabrics,
        plan.boost,
    )


@given(scenarios(most_cpus=8), scenarios(most_cpus=8))
def test_a_clusters_plan_is_the_plan_of_each_node(first: Scenario, second: Scenario) -> None:
    """plan_cluster only does once what does not depend on the node, and reports it once."""
    items = [first.item, evolve(second.item, node=evolve(second.item.node, name="a-node"))]
    cluster = plan_cluster(first.intent, iter(items), first.instant)
    assert cluster.nodes == (
        plan_node(first.intent, items[1], first.instant),
        plan_node(first.intent, items[0], first.instant),
    )
    assert cluster.nodes[1] == plan_node(accept(first.intent), items[0], first.instant)
    assert cluster.problems == accept(first.intent).problems
