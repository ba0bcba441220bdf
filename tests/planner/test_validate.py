"""validate: everything wrong with objects that can be seen without a machine."""

import pytest
from attrs import evolve

from kpm_planner.model.cluster import LabelSelector, NodeSelector, Requirement
from kpm_planner.model.objects import DieSelector
from kpm_planner.model.problems import Code, Severity
from kpm_planner.validate import validate_intent
from tests.planner.build import intent, node_config, profile, reserved, uncore, workload
from tests.planner.reading import codes


def test_objects_that_are_right_have_no_problems() -> None:
    """Frequencies that only a machine can judge are not judged."""
    found = intent(
        profile(min=1, max=99_999, governor="any", epp="power", names={"C99": True}),
        profile("shared", shared=True, max_latency_us=0, cpu_capacity="1%"),
        workload(reserved=[reserved("0-1", "performance"), reserved("9999")]),
        node_config(uses="shared"),
        uncore(sys_min=1, sys_max=99_999_999, die_selector=(DieSelector(99, 99, 1, 1),)),
    )
    assert validate_intent(found) == ()


@pytest.mark.parametrize(
    ("obj", "code", "severity"),
    [
        (profile(min=2000, max=1000), Code.FREQUENCY_ORDER, Severity.ERROR),
        (profile(epp="turbo"), Code.EPP_WORD, Severity.ERROR),
        (profile(cpu_capacity=0), Code.CAPACITY_FORMAT, Severity.ERROR),
        (profile("p" * 64), Code.NAME_TOO_LONG, Severity.ERROR),
        (profile(meta_namespace="default", min="fast"), Code.FREQUENCY_FORMAT, Severity.ERROR),
        (evolve(profile(), name="x"), Code.NAME_MISMATCH, Severity.WARNING),
        (workload(), Code.PROFILE_MISSING, Severity.WARNING),
        (workload(uses=None), Code.PROFILE_MISSING, Severity.ERROR),
        (node_config(uses="ghost"), Code.PROFILE_MISSING, Severity.WARNING),
        (node_config(reserved=[reserved("0", "ghost")]), Code.PROFILE_MISSING, Severity.WARNING),
        (
            node_config(reserved=[reserved("0", "a"), reserved("0-1", "b")]),
            Code.RESERVED_CONFLICT,
            Severity.ERROR,
        ),
        (
            node_config(reserved=[evolve(reserved("0"), cores=(-1,))]),
            Code.RESERVED_UNKNOWN_CPU,
            Severity.ERROR,
        ),
        (
            node_config(node_selector=NodeSelector(LabelSelector({}, (Requirement("a", "Lt"),)))),
            Code.SELECTOR_INVALID,
            Severity.ERROR,
        ),
        (
            profile(node_selector=NodeSelector(LabelSelector({}, (Requirement("a", "In"),)))),
            Code.SELECTOR_INVALID,
            Severity.ERROR,
        ),
        (uncore(sys_max=1), Code.UNCORE_ENDS, Severity.ERROR),
        (uncore(die_selector=(DieSelector(None, None, 2, 1),)), Code.UNCORE_ORDER, Severity.ERROR),
    ],
)
def test_what_is_wrong_in_itself_is_found_without_a_machine(
    obj: object, code: Code, severity: Severity
) -> None:
    """A profile that is not among the objects may be on the cluster: a warning."""
    found = [problem for problem in validate_intent(intent(obj)) if problem.code is code]
    assert [problem.severity for problem in found[:1]] == [severity]


def test_all_faults_are_told_at_once() -> None:
    """Not only the first (field report 60)."""
    found = validate_intent(
        intent(profile(min="fast", epp="turbo", names={}, max_latency_us=-1, cpu_capacity=0))
    )
    assert codes(found) == {
        Code.FREQUENCY_FORMAT,
        Code.EPP_WORD,
        Code.IDLE_BOTH,
        Code.IDLE_LATENCY,
        Code.CAPACITY_FORMAT,
    }


def test_both_frequencies_are_told_where_both_are_wrong() -> None:
    """One problem a field (field report 60)."""
    found = [
        problem.field
        for problem in validate_intent(intent(profile(min="fast", max="slow")))
        if problem.code is Code.FREQUENCY_FORMAT
    ]
    assert found == ["spec.pstates.max", "spec.pstates.min"]
