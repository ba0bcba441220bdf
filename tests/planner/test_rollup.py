"""What the operator reports of users' objects: errors by message, with the nodes that see them."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpm_planner.model.changes import Pass
from kpm_planner.model.problems import Code, Problem, Severity, error, warning
from kpm_planner.report.node import node_state
from kpm_planner.report.rollup import (
    MOST_ERRORS,
    MOST_NODES,
    PowerWorkloadStatus,
    WorkloadNode,
    errors_by_object,
    exclusive_workload,
    shared_workload,
)
from kpm_planner.report.types import ContainerState, PowerNodeStateStatus, ProblemState
from tests.planner.build import config, machine, moment, plan, profile, workload

OBJECT = "PowerProfile/fast"
OUT_OF_RANGE = error(Code.FREQUENCY_RANGE, OBJECT, "spec.pstates.min", "9000000 is outside")
SUPERSEDED = (
    Code.CONFIG_SUPERSEDED,
    Code.SHARED_SUPERSEDED,
    Code.UNCORE_SUPERSEDED,
    Code.CAP_SUPERSEDED,
    Code.TURBO_SUPERSEDED,
)


def reports(*problems: Problem) -> PowerNodeStateStatus:
    """The state of a node with these problems."""
    return PowerNodeStateStatus(
        problems=tuple(
            ProblemState(str(item.severity), str(item.code), item.object, item.message, item.field)
            for item in problems
        )
    )


def on_nodes(count: int, *problems: Problem) -> dict[str, PowerNodeStateStatus]:
    """As many nodes that all see the same."""
    return {f"node-{number:03}": reports(*problems) for number in range(count)}


def test_one_fault_on_many_nodes_is_one_line() -> None:
    """With the field that asked and the names of the nodes, sorted."""
    states = {"b": reports(OUT_OF_RANGE), "a": reports(OUT_OF_RANGE), "c": reports()}
    assert errors_by_object((), states) == {
        OBJECT: ("spec.pstates.min: 9000000 is outside (on a, b)",)
    }


def test_no_more_than_ten_names_are_said() -> None:
    """The others are counted."""
    (ten,) = errors_by_object((), on_nodes(10, OUT_OF_RANGE))[OBJECT]
    assert ten.endswith("node-008, node-009)")
    (eleven,) = errors_by_object((), on_nodes(11, OUT_OF_RANGE))[OBJECT]
    assert eleven.endswith("node-009 and 1 more)")
    (many,) = errors_by_object((), on_nodes(5000, OUT_OF_RANGE))[OBJECT]
    assert many.endswith("node-009 and 4990 more)")


def test_what_no_node_is_needed_to_see_is_said_without_nodes() -> None:
    """Also where nodes report it too."""
    assert errors_by_object([OUT_OF_RANGE], on_nodes(3, OUT_OF_RANGE)) == {
        OBJECT: ("spec.pstates.min: 9000000 is outside",)
    }


def test_a_message_without_a_field_stands_alone() -> None:
    """No colon before it."""
    assert errors_by_object([error(Code.OBJECT_UNREADABLE, OBJECT, "", "is no mapping")], {}) == {
        OBJECT: ("is no mapping",)
    }


@pytest.mark.parametrize("code", Code)
def test_of_warnings_only_the_superseded_ones_are_said(code: Code) -> None:
    """Somebody else holds what the object asks for; other warnings leave it in force."""
    item = warning(code, "PowerWorkload/late", "", "the other one holds")
    for found in (errors_by_object([item], {}), errors_by_object((), on_nodes(1, item))):
        assert bool(found) == (code in SUPERSEDED)


def test_the_loser_of_two_shared_pools_is_told() -> None:
    """From what planner and agent really say of it: the later workload names the one that holds."""
    objects = (
        profile("shared", shared=True),
        workload("first", meta_created=moment(8)),
        workload("second", meta_created=moment(9)),
    )
    status = node_state(plan(*objects), machine(), Pass(), (), {})
    found = errors_by_object((), {"node-1": status})
    assert found == {
        "PowerWorkload/second": (
            "PowerWorkload/first defines the shared pool of this node already (on node-1)",
        )
    }


def test_a_corrected_object_has_no_errors() -> None:
    """Nothing is carried over: what is not seen now is not said."""
    assert errors_by_object((), on_nodes(2)) == {}
    wrong, right = (plan(profile(min=low), config()) for low in (9_000_000, 2_000_000))
    before, after = (
        errors_by_object((), {"node-1": node_state(item, machine(), Pass(), (), {})})
        for item in (wrong, right)
    )
    assert (list(before), after) == (["PowerProfile/performance"], {})


def test_a_list_of_errors_is_bounded() -> None:
    """Sorted, the first ones."""
    many = [error(Code.POD_COUNT, OBJECT, "", f"fault {number:03}") for number in range(100)]
    assert errors_by_object(many, {})[OBJECT] == tuple(
        f"fault {number:03}" for number in range(MOST_ERRORS)
    )


objects = st.sampled_from(("PowerProfile/a", "PowerWorkload/b"))
problems = st.builds(
    Problem,
    st.sampled_from(Severity),
    st.sampled_from((*SUPERSEDED, Code.POD_COUNT)),
    objects,
    st.sampled_from(("", "spec.x")),
    st.sampled_from(("m", "n", "o (p)")),
)
clusters = st.dictionaries(
    st.integers(0, 30).map("n{:02}".format), st.lists(problems, max_size=4), max_size=25
)


def said(items: Iterable[Problem]) -> set[tuple[str, str]]:
    """Object and line of those that count."""
    return {
        (item.object, f"{item.field}: {item.message}" if item.field else item.message)
        for item in items
        if item.severity is Severity.ERROR or item.code in SUPERSEDED
    }


@given(st.lists(problems, max_size=3), clusters)
def test_every_fault_is_said_once_with_those_that_see_it(
    general: list[Problem], cluster: dict[str, list[Problem]]
) -> None:
    """And nothing else; order of nodes and problems does not matter."""
    states = {node: reports(*items) for node, items in cluster.items()}
    expected: dict[str, list[str]] = {}
    for obj, line in said(general).union(*(said(items) for items in cluster.values())):
        nodes = (
            []
            if (obj, line) in said(general)
            else sorted(node for node, items in cluster.items() if (obj, line) in said(items))
        )
        more = f" and {len(nodes) - MOST_NODES} more" if len(nodes) > MOST_NODES else ""
        expected.setdefault(obj, []).append(
            f"{line} (on {', '.join(nodes[:MOST_NODES])}{more})" if nodes else line
        )
    found = errors_by_object(general, states)
    assert {obj: sorted(lines) for obj, lines in found.items()} == {
        obj: sorted(lines) for obj, lines in expected.items()
    }
    turned = {node: reports(*reversed(items)) for node, items in reversed(cluster.items())}
    assert errors_by_object(general[::-1], turned) == found


def test_the_workload_of_a_profile_and_a_node_lists_its_containers() -> None:
    """Only those under the profile; their CPUs together and sorted."""
    first, second = (
        ContainerState("app", exclusive_cpus=(5, 6), power_profile="fast"),
        ContainerState("b", exclusive_cpus=(2,), power_profile="fast"),
    )
    state = PowerNodeStateStatus(
        exclusive_pools=(
            first,
            ContainerState("other", exclusive_cpus=(3,), power_profile="slow"),
            second,
        )
    )
    found = exclusive_workload("node-1", "fast", state)
    assert found.workload_nodes == WorkloadNode("node-1", (2, 5, 6), (first, second))
    assert (found.node_count, found.cpu_count, found.cpus) == (1, 3, "2,5-6")
    none = exclusive_workload("node-1", "none", state)
    assert none == PowerWorkloadStatus(WorkloadNode("node-1"), 1, 0)


def test_a_node_that_has_not_reported_has_an_empty_workload() -> None:
    """Its name is known all the same."""
    found = exclusive_workload("node-1", "fast", None)
    assert found == PowerWorkloadStatus(WorkloadNode("node-1"), 1, 0)


def test_a_user_s_workload_reports_the_nodes_it_selects() -> None:
    """How many, and how many shared CPUs they have; which, where it is one node."""
    pools = {"a": (0, 1), "b": (2,)}
    one = PowerWorkloadStatus(WorkloadNode("a", (0, 1)), 1, 2, "0-1")
    assert shared_workload(["a"], pools) == one
    assert shared_workload({"a"}, {}) == PowerWorkloadStatus(WorkloadNode("a"), 1, 0)
    assert shared_workload([], pools) == PowerWorkloadStatus(None, 0, 0)
    assert shared_workload(["a", "b"], pools) == PowerWorkloadStatus(None, 2, 3)
    assert shared_workload(["a"], None, ("wrong",)) == PowerWorkloadStatus(
        node_count=1, errors=("wrong",)
    )
