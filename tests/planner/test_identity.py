"""I1 to I4, identity, namespaces, selectors; R5 for which of two objects holds."""

from collections.abc import Callable
from datetime import datetime

import pytest
from attrs import evolve

from kpm_planner.model.cluster import (
    INTEL_GROUP,
    OPENSHIFT_GROUP,
    LabelSelector,
    Node,
    NodeSelector,
    Requirement,
)
from kpm_planner.model.objects import Intent
from kpm_planner.model.problems import Code, Severity
from kpm_planner.plan import NodeInput, plan_cluster
from kpm_planner.selection import PowerObject, accept, reference
from tests.planner.build import (
    HOST,
    NODE,
    config,
    intent,
    machine,
    moment,
    node_config,
    on_cpu,
    plan,
    pools,
    profile,
    profiles_of,
    reserved,
    uncore,
    workload,
)
from tests.planner.reading import codes, with_code

SHARED = profile("shared", shared=True)


# --- namespaces and names ---


@pytest.mark.parametrize(
    ("group", "system"), [(OPENSHIFT_GROUP, "power-manager"), (INTEL_GROUP, "intel-power")]
)
def test_only_objects_in_the_systems_namespace_count(group: str, system: str) -> None:
    """Offline, an object without a namespace is taken to be in it."""
    resource = f"{group}/performance"
    for namespace in (None, "", system):
        assert plan(profile(group=group, meta_namespace=namespace)).extended_resources == {
            resource: 4
        }
    for namespace in (
        "default",
        "kube-system",
        "intel-power" if system == "power-manager" else "power-manager",
    ):
        assert plan(profile(group=group, meta_namespace=namespace)).extended_resources == {}


@pytest.mark.parametrize("make", [profile, workload, node_config, uncore, config])
def test_an_object_elsewhere_is_ignored_with_a_warning_that_says_where_it_belongs(
    make: Callable[..., PowerObject],
) -> None:
    """Of every kind; it has no effect (field reports 43 and 47)."""
    moved = make(meta_namespace="default")
    given = evolve(intent(moved), namespace="power-manager")
    problems = accept(given).problems
    assert [(problem.code, problem.severity, problem.object) for problem in problems] == [
        (Code.NAMESPACE_IGNORED, Severity.WARNING, reference(moved))
    ]
    assert "power-manager" in problems[0].message
    assert accept(given).intent == Intent(namespace="power-manager")


def test_the_system_may_be_installed_in_any_namespace() -> None:
    """An agent knows its own; offline the PowerConfig stands in it too, unless there are several
    that differ.
    """
    elsewhere = profile(meta_namespace="cpu-power")
    assert accept(evolve(intent(elsewhere), namespace="cpu-power")).profiles.keys() == {
        "performance"
    }
    there = config(meta_namespace="cpu-power")
    assert accept(intent(elsewhere, there)).problems == ()
    other = config("second", meta_namespace="power-manager")
    assert {item.code for item in accept(intent(elsewhere, there, other)).problems} >= {
        Code.NAMESPACE_IGNORED
    }
    usual = profile()
    assert accept(evolve(intent(usual), namespace="cpu-power")).problems == ()


def test_metadata_name_is_the_identity() -> None:
    """A different spec.name is a warning, and nothing else (field report 45)."""
    named = evolve(profile(), name="other")
    assert plan(named).extended_resources == {"power.openshift.io/performance": 4}
    problems = accept(intent(named, evolve(workload(), name="shared-pool"))).problems
    assert [(problem.code, problem.severity, problem.object) for problem in problems] == [
        (Code.NAME_MISMATCH, Severity.WARNING, "PowerProfile/performance")
    ]


def test_a_problem_that_two_objects_have_in_the_same_words_is_told_once() -> None:
    """Profiles of one name in both groups, with the same wrong spec.name."""
    twins = [evolve(profile(group=group), name="other") for group in (OPENSHIFT_GROUP, INTEL_GROUP)]
    problems = plan_cluster(intent(*twins), []).problems
    assert len(problems) == len(set(problems))


def test_a_name_longer_than_63_characters_does_not_fit_in_a_resource() -> None:
    """An error of the profile; 63 are fine."""
    assert plan(profile("p" * 63)).extended_resources == {f"power.openshift.io/{'p' * 63}": 4}
    found = plan(profile("p" * 64))
    assert found.extended_resources == {}
    assert [problem.severity for problem in with_code(found.problems, Code.NAME_TOO_LONG)] == [
        Severity.ERROR
    ]


def test_the_same_profile_name_in_both_groups_is_an_error_and_neither_is_used() -> None:
    """Other profiles are."""
    both = (profile("both"), profile("both", group=INTEL_GROUP), profile())
    assert plan(*both).extended_resources == {"power.openshift.io/performance": 4}
    assert [
        (problem.severity, problem.object)
        for problem in with_code(accept(intent(*both)).problems, Code.NAME_IN_BOTH_GROUPS)
    ] == [(Severity.ERROR, "PowerProfile/both")]


def test_nodes_whose_names_end_alike_have_nothing_to_do_with_each_other() -> None:
    """Nodes a and b-a, worker and big-worker (field report 45)."""
    only_a = workload("performance-a-workload", power_node_selector={"kubernetes.io/hostname": "a"})
    nodes = [
        NodeInput(Node(name, {"kubernetes.io/hostname": name}), machine()) for name in ("a", "b-a")
    ]
    first, second = plan_cluster(intent(SHARED, only_a), nodes).nodes
    assert set(pools(first).values()) == {"shared"}
    assert set(pools(second).values()) == {"unmanaged"}


# --- selectors ---


def test_a_profile_without_a_selector_is_in_force_on_all_nodes() -> None:
    """With one, on those it selects."""
    assert plan(profile(), node=Node("any")).extended_resources
    for selector, selected in (
        (NodeSelector(), True),
        (NodeSelector(LabelSelector()), True),
        (NodeSelector(LabelSelector({"zone": "a"})), True),
        (NodeSelector(LabelSelector({"zone": "b"})), False),
    ):
        assert bool(plan(profile(node_selector=selector)).extended_resources) is selected


def test_a_profile_that_does_not_select_the_node_is_missing_there() -> None:
    """The workload that names it is told, and its CPUs are at baseline."""
    found = plan(
        profile(node_selector=NodeSelector(LabelSelector({"zone": "b"}))),
        workload(uses="performance"),
    )
    assert profiles_of(found)[0] is None
    assert codes(found.problems) == {Code.PROFILE_MISSING}


def test_a_profile_is_not_judged_on_nodes_it_does_not_select() -> None:
    """A frequency out of range here may be right there."""
    there = NodeSelector(LabelSelector({}, (Requirement("zone", "NotIn", ("a",)),)))
    assert not plan(profile(max=9000, node_selector=there)).problems


@pytest.mark.parametrize("make", [profile, node_config, uncore])
def test_a_selector_that_is_not_valid_selects_nothing_and_its_object_is_told(
    make: Callable[..., PowerObject],
) -> None:
    """An error at the expression, for every kind that has a label selector; on every node."""
    bad = NodeSelector(LabelSelector({}, (Requirement("zone", "Exists", ("a",)),)))
    found = plan(make(node_selector=bad))
    assert [
        (problem.severity, problem.field)
        for problem in with_code(found.problems, Code.SELECTOR_INVALID)
    ] == [(Severity.ERROR, "spec.nodeSelector.labelSelector.matchExpressions[0].values")]
    assert found.extended_resources == {}
    assert set(pools(found).values()) == {"unmanaged"}


# --- PowerConfig ---


@pytest.mark.parametrize("selector", [None, {}, {"zone": "a"}, HOST])
def test_without_a_power_config_or_with_one_that_selects_it_a_node_is_managed(
    selector: dict[str, str] | None,
) -> None:
    """Left out: all nodes."""
    assert (
        profiles_of(plan(SHARED, workload(), config(power_node_selector=selector)))[0] == "shared"
    )
    assert profiles_of(plan(SHARED, workload()))[0] == "shared"


def test_nothing_is_managed_on_a_node_that_the_power_config_does_not_select() -> None:
    """Removing the label restores the node (field report 44); the problem says why."""
    found = plan(
        SHARED,
        workload(),
        profile(),
        config(power_node_selector={"zone": "b"}),
        on=machine(offline="3"),
    )
    assert pools(found) == {0: "unmanaged", 1: "unmanaged", 2: "unmanaged", 3: "offline"}
    assert found.extended_resources == {}
    assert [problem.code for problem in found.problems] == [Code.NODE_NOT_SELECTED]
    assert on_cpu(found, 0).because == ("the PowerConfig does not select this node",)


def test_of_two_power_configs_the_oldest_holds() -> None:
    """The other is told, never deleted by a plan (field report 43)."""
    old, young = (
        config("young", meta_created=moment(8)),
        config("a", power_node_selector={"zone": "b"}, meta_created=moment(9)),
    )
    for order in ((old, young), (young, old)):
        assert plan(SHARED, workload(), *order).problems == ()
        assert [problem.object for problem in accept(intent(*order)).problems] == ["PowerConfig/a"]


# --- which of two objects holds ---


def winner(*objects: object) -> str | None:
    """The profile of the shared pool, in either order of arrival."""
    profiles = (profile("one", shared=True), profile("two", shared=True))
    found = {profiles_of(plan(*profiles, *order))[0] for order in (objects, objects[::-1])}
    assert len(found) == 1
    return found.pop()


@pytest.mark.parametrize(("first", "second"), [(8, 9), (8, None)])
def test_the_older_holds_and_a_missing_timestamp_is_newest(first: int, second: int | None) -> None:
    """creationTimestamp comes first."""
    later: datetime | None = None if second is None else moment(second)
    assert (
        winner(
            workload("b", "one", meta_created=moment(first)),
            workload("a", "two", meta_created=later),
        )
        == "one"
    )


@pytest.mark.parametrize("created", [None, moment(8)])
def test_of_one_age_a_node_config_holds_before_a_workload_then_the_name_decides(
    created: datetime | None,
) -> None:
    """Within one namespace."""
    assert (
        winner(
            node_config("b", "one", meta_created=created),
            workload("a", "two", meta_created=created),
        )
        == "one"
    )
    assert (
        winner(
            workload("a", "one", meta_created=created), workload("b", "two", meta_created=created)
        )
        == "one"
    )
    assert (
        winner(
            node_config("a", "one", meta_created=created),
            node_config("b", "two", meta_created=created),
        )
        == "one"
    )


@pytest.mark.parametrize(
    "spaces", [(None, "power-manager"), ("power-manager", None), ("", "power-manager")]
)
def test_an_object_without_a_namespace_is_in_the_systems_for_precedence_too(
    spaces: tuple[str | None, str | None],
) -> None:
    """So the kind decides, not who left the namespace out."""
    assert (
        winner(
            node_config("b", "one", meta_namespace=spaces[0]),
            workload("a", "two", meta_namespace=spaces[1]),
        )
        == "one"
    )


def test_objects_of_the_two_groups_are_in_two_namespaces() -> None:
    """intel-power comes before power-manager, said or left out; also for objects of one name."""
    for namespace in (None, "intel-power"):
        intel = workload("b", "one", group=INTEL_GROUP, meta_namespace=namespace)
        assert winner(intel, workload("a", "two", meta_namespace="power-manager")) == "one"
    assert winner(workload("a", "one", group=INTEL_GROUP), workload("a", "two")) == "one"


def test_of_two_power_configs_of_one_name_and_no_age_the_namespace_decides() -> None:
    """Not the order in which they were read."""
    intel, open_shift = config(group=INTEL_GROUP, power_node_selector={"zone": "b"}), config()
    both = [plan(*order).problems for order in ((intel, open_shift), (open_shift, intel))]
    assert both[0] == both[1]
    assert codes(both[0]) == {Code.NODE_NOT_SELECTED}


def test_a_decision_that_rests_on_a_missing_timestamp_is_marked() -> None:
    """And one that does not is not."""
    for created, marked in ((None, True), (moment(9), False)):
        found = plan(
            SHARED, workload("a", meta_created=moment(8)), workload("b", meta_created=created)
        )
        assert (
            "without creationTimestamp"
            in with_code(found.problems, Code.SHARED_SUPERSEDED)[0].message
        ) is marked
        pair = (
            uncore(meta_created=moment(8)),
            uncore("b", node_selector=NodeSelector(LabelSelector()), meta_created=created),
        )
        assert (
            "without creationTimestamp"
            in with_code(plan(*pair).problems, Code.UNCORE_SUPERSEDED)[0].message
        ) is marked
        configs = accept(
            intent(config("a", meta_created=moment(8)), config("b", meta_created=created))
        ).problems
        assert ("without creationTimestamp" in configs[0].message) is marked


def test_three_power_configs_are_marked_by_what_each_decision_rests_on() -> None:
    """b lost to a by age; only c's place rests on a missing timestamp."""
    problems = accept(
        intent(
            config("a", meta_created=moment(8)), config("b", meta_created=moment(9)), config("c")
        )
    ).problems
    assert [(problem.object, "without" in problem.message) for problem in problems] == [
        ("PowerConfig/b", False),
        ("PowerConfig/c", True),
    ]


# --- the whole cluster ---


def test_problems_that_do_not_depend_on_a_node_are_told_once() -> None:
    """In the cluster's plan, not in every node's."""
    nodes = [NodeInput(Node(name), machine()) for name in ("b", "a")]
    found = plan_cluster(intent(profile(meta_namespace="default")), nodes)
    assert [item.node for item in found.nodes] == ["a", "b"]
    assert codes(found.problems) == {Code.NAMESPACE_IGNORED}
    assert all(item.problems == () for item in found.nodes)


def test_one_bad_object_never_stops_the_rest() -> None:
    """Everything wrong is told, everything right is done."""
    wrong = (
        profile("bad", min="fast"),
        workload("lost", "ghost", power_node_selector={"zone": "a"}),
        uncore(sys_min=1),
    )
    found = plan(
        SHARED,
        profile(),
        node_config(uses="shared", reserved=[reserved("0", "performance")]),
        *wrong,
        node=NODE,
    )
    assert profiles_of(found) == {0: "performance", 1: "shared", 2: "shared", 3: "shared"}
    assert codes(found.problems) >= {
        Code.FREQUENCY_FORMAT,
        Code.SHARED_SUPERSEDED,
        Code.UNCORE_UNSUPPORTED,
    }
