"""Label selectors select what Kubernetes' own do."""

from hypothesis import given
from hypothesis import strategies as st

from kpm_planner.model.cluster import LabelSelector, NodeSelector
from kpm_planner.selection import matches, selector_problems, selects, selects_map
from tests.planner.property import reference
from tests.strategies.objects import LABEL_MAPS, label_selectors

LABELS = st.sampled_from(LABEL_MAPS) | st.dictionaries(
    st.sampled_from(("zone", "feature", "absent")), st.sampled_from(("", "a", "b"))
)


@given(label_selectors(awkward=True), LABELS)
def test_a_label_selector_matches_as_kubernetes_says(
    selector: LabelSelector, labels: dict[str, str]
) -> None:
    """Labels and expressions all have to match; one that is not valid matches nothing."""
    assert matches(selector, labels) == reference.selected(selector, labels)
    assert selects(NodeSelector(selector), labels) == reference.selected(selector, labels)


@given(label_selectors(awkward=True))
def test_a_selector_has_problems_exactly_when_an_expression_is_not_valid(
    selector: LabelSelector,
) -> None:
    """One error for each such expression, at its place."""
    wrong = [
        index
        for index, item in enumerate(selector.match_expressions)
        if item.operator not in ("In", "NotIn", "Exists", "DoesNotExist")
        or (item.operator in ("In", "NotIn")) != bool(item.values)
    ]
    problems = selector_problems(NodeSelector(selector), "PowerProfile/p")
    assert [
        problem.field.split(".matchExpressions")[1].partition(".")[0] for problem in problems
    ] == [f"[{index}]" for index in wrong]


@given(st.sampled_from(LABEL_MAPS), LABELS)
def test_a_plain_map_selects_what_the_same_labels_in_a_selector_do_but_an_empty_one_nothing(
    selector: dict[str, str], labels: dict[str, str]
) -> None:
    """The older kinds' powerNodeSelector."""
    assert selects_map(selector, labels) == (
        bool(selector) and reference.selected(LabelSelector(selector), labels)
    )
