"""An object that is not about a node says why: what it wants, and what the node has."""

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kpm_planner.left_out import left_out
from kpm_planner.model.cap_objects import PowerCap
from kpm_planner.model.cluster import GENERATED, LabelSelector, Node, NodeSelector, Requirement
from kpm_planner.model.objects import PowerNodeConfig, PowerProfile, Uncore
from kpm_planner.selection import accept, covers, reference, selector_problems
from tests.planner.build import intent, power_cap, profile, uncore, workload
from tests.strategies.scenarios import Scenario, scenarios

NODE = Node("node-1", {"zone": "a"})


def wanting(*requirements: Requirement, **labels: str) -> NodeSelector:
    return NodeSelector(LabelSelector(labels, requirements))


@pytest.mark.parametrize(
    ("selector", "reason"),
    [
        (wanting(zone="b"), "wants zone=b; the node has zone=a"),
        (wanting(pool="x"), "wants pool=x; the node has no label pool"),
        (
            wanting(Requirement("zone", "In", ("b", "c"))),
            "wants zone In b, c; the node has zone=a",
        ),
        (
            wanting(Requirement("zone", "DoesNotExist")),
            "wants zone DoesNotExist; the node has zone=a",
        ),
        (wanting(Requirement("gpu", "Exists")), "wants gpu Exists; the node has no label gpu"),
        (None, "has no selector, and so is for no node"),
    ],
)
def test_the_first_thing_that_a_selector_wants_and_the_node_has_not(
    selector: NodeSelector | None, reason: str
) -> None:
    (why,) = left_out(accept(intent(power_cap(node_selector=selector))), NODE)
    assert (why, why.object, why.field) == (reason, "PowerCap/budget", "spec.nodeSelector")


def test_objects_without_a_selector_are_for_a_node_of_their_name_for_none_or_for_all() -> None:
    """An Uncore for the node of its name, a workload for none, a profile for all."""
    objects = accept(
        intent(
            profile(),
            uncore("node-2", sys_min=900_000, sys_max=900_000),
            uncore("node-1", sys_min=900_000, sys_max=900_000),
            workload(power_node_selector=None),
        )
    )
    assert {(why.object, str(why)) for why in left_out(objects, NODE)} == {
        ("Uncore/node-2", "has no selector, so it is for the node named node-2"),
        ("PowerWorkload/shared-pool", "has no selector, and so is for no node"),
    }


@given(scenarios(), st.sampled_from(({}, {"zone": "a"}, {"zone": "b", "feature": ""})))
def test_exactly_the_objects_that_are_not_about_a_node_have_a_reason(
    scenario: Scenario, labels: dict[str, str]
) -> None:
    """Those whose selector is wrong have a problem instead."""
    accepted, node = accept(scenario.intent), Node("node-1", labels)
    told = [why.object for why in left_out(accepted, node)]
    selecting: list[PowerProfile | PowerNodeConfig | Uncore | PowerCap] = [
        *accepted.profiles.values(),
        *accepted.intent.node_configs,
        *accepted.intent.uncores,
        *accepted.intent.caps,
    ]
    expected = [
        reference(item)
        for item in selecting
        if not covers(item, node) and not selector_problems(item.node_selector, "")
    ]
    assert [item for item in told if not item.startswith("PowerWorkload/")] == expected
    assert all(why and "\n" not in why for why in left_out(accepted, node))


def test_what_the_system_makes_for_another_node_goes_without_saying() -> None:
    """One PowerWorkload for each node and profile."""
    other = workload(power_node_selector={"zone": "b"})
    made = evolve(other, meta=evolve(other.meta, labels={GENERATED: "true"}))
    assert left_out(accept(intent(made)), NODE) == ()
