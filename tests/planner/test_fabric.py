"""P-states of AMD's data fabric: 0 is the fastest, equal ends fix it, an invalid object changes
nothing.
"""

from typing import Any

import pytest
from attrs import evolve

from kpm_planner.model.machine import Fabric, Machine
from kpm_planner.model.objects import AmdFabric, DieSelector, Uncore
from kpm_planner.model.problems import Code, Severity
from kpm_planner.plan import NodePlan
from kpm_planner.validate import validate_intent
from tests.planner.build import EVERYWHERE, config, die, intent, machine, moment, plan, uncore


def with_fabrics(*protocols: int | None, **fields: Any) -> Machine:
    """A machine with an AMD package for each protocol."""
    return evolve(
        machine(uncore=fields.pop("uncore", ())),
        fabrics=tuple(Fabric(package, protocol) for package, protocol in enumerate(protocols)),
        **fields,
    )


def asked(
    slow: int | None,
    fast: int | None,
    package: int | None = None,
    *,
    on: Machine | None = None,
    **fields: Any,
) -> NodePlan:
    """The plan of dfPstateMin and dfPstateMax."""
    return plan(uncore(amd=AmdFabric(slow, fast, package), **fields), on=on or with_fabrics(5, 5))


def pstates(found: NodePlan) -> list[str | None]:
    """What is asked of each fabric, in order."""
    return [target.pstates for target in found.fabrics]


@pytest.mark.parametrize("pstate", range(4))
@pytest.mark.parametrize("protocol", [None, 2, 4, 5, 6, 7])
def test_equal_ends_fix_the_pstate_with_any_protocol(pstate: int, protocol: int | None) -> None:
    """Message 0Dh is older than the ranges."""
    found = asked(pstate, pstate, on=with_fabrics(protocol))
    assert pstates(found) == [str(pstate)]
    assert not found.problems


@pytest.mark.parametrize(("slow", "fast"), [(1, 0), (2, 0), (3, 0), (2, 1), (3, 2)])
@pytest.mark.parametrize("protocol", [5, 7])
def test_a_range_is_the_slowest_and_the_fastest(slow: int, fast: int, protocol: int) -> None:
    """In this order, as message 22h takes them; dfPstateMin is the larger number (field report
    70).
    """
    found = asked(slow, fast, on=with_fabrics(protocol))
    assert pstates(found) == [f"{slow} {fast}"]
    assert not found.problems


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 6, 8, 16])
def test_a_range_needs_protocol_5_or_7(protocol: int) -> None:
    """Others do not know the message, 6 between them neither."""
    found = asked(2, 0, on=with_fabrics(protocol))
    assert pstates(found) == [None]
    assert [(problem.severity, problem.code, problem.field) for problem in found.problems] == [
        (Severity.ERROR, Code.FABRIC_UNSUPPORTED, "spec.amd")
    ]
    assert f"this node has {protocol};" in found.problems[0].message


def test_a_protocol_that_is_not_known_is_not_called_none() -> None:
    """A range is refused all the same."""
    found = asked(2, 0, on=with_fabrics(None))
    assert [problem.code for problem in found.problems] == [Code.FABRIC_UNSUPPORTED]
    assert "None" not in found.problems[0].message


def test_every_package_is_meant_unless_one_is_named() -> None:
    """The others stay at baseline, which is automatic."""
    assert pstates(asked(2, 0)) == ["2 0", "2 0"]
    assert pstates(asked(1, 1, 1)) == [None, "1"]
    assert pstates(asked(1, 1, 0)) == ["1", None]


def test_only_the_package_that_is_named_has_to_know_ranges() -> None:
    """Packages of one node may differ; where all are meant, all have to."""
    on = with_fabrics(2, 5)
    assert pstates(asked(2, 0, 1, on=on)) == [None, "2 0"]
    assert pstates(asked(2, 0, 0, on=on)) == [None, None]
    assert pstates(asked(2, 0, on=on)) == [None, None]


@pytest.mark.parametrize(
    ("slow", "fast", "field"),
    [
        (None, 0, "spec.amd.dfPstateMin"),
        (2, None, "spec.amd.dfPstateMax"),
        (None, None, "spec.amd.dfPstateMin"),
        (4, 0, "spec.amd.dfPstateMin"),
        (-1, -1, "spec.amd.dfPstateMin"),
        (2, -1, "spec.amd.dfPstateMax"),
        (0, 2, "spec.amd.dfPstateMax"),
        (2, 3, "spec.amd.dfPstateMax"),
    ],
)
def test_wrong_ends_are_an_error_that_no_machine_is_needed_to_see(
    slow: int | None, fast: int | None, field: str
) -> None:
    """One end, out of range, or the wrong way round: 0 is the fastest (field report 70)."""
    obj = uncore(amd=AmdFabric(slow, fast))
    for problems in (validate_intent(intent(obj)), plan(obj, on=with_fabrics(5)).problems):
        assert [(problem.severity, problem.code, problem.field) for problem in problems] == [
            (Severity.ERROR, Code.FABRIC_RANGE, field)
        ]


@pytest.mark.parametrize(
    "amd", [AmdFabric(0, 2), AmdFabric(2), AmdFabric(9, 9), AmdFabric(1, 1, 7), AmdFabric(2, 0)]
)
def test_an_invalid_object_changes_nothing_not_even_intel_limits(amd: AmdFabric) -> None:
    """All or nothing: ends, package, and a range that the firmware does not know (field report
    42).
    """
    found = plan(
        uncore(amd=amd, sys_min=900_000, sys_max=1_000_000), on=with_fabrics(2, uncore=(die(),))
    )
    assert pstates(found) == [None]
    assert [(target.min_khz, target.max_khz) for target in found.uncore] == [(None, None)]
    assert {target.because for target in found.fabrics} == {
        ("Uncore/node-1 has errors, so baseline",)
    }


@pytest.mark.parametrize(
    ("limits", "rules"),
    [
        ((2_000_000, 900_000), ()),
        ((900_000, None), ()),
        ((900_000, 9_900_000), ()),
        ((None, None), (DieSelector(7, 0, 900_000, 900_000),)),
    ],
)
def test_wrong_intel_limits_change_no_fabric(
    limits: tuple[int | None, int | None], rules: tuple[DieSelector, ...]
) -> None:
    """Of one object either all applies or nothing."""
    found = plan(
        uncore(amd=AmdFabric(1, 1), sys_min=limits[0], sys_max=limits[1], die_selector=rules),
        on=with_fabrics(5, uncore=(die(),)),
    )
    assert pstates(found) == [None]
    assert found.problems


def test_both_parts_of_an_object_apply() -> None:
    """Where a machine has both."""
    found = plan(
        uncore(amd=AmdFabric(2, 1), sys_min=900_000, sys_max=1_000_000),
        on=with_fabrics(7, uncore=(die(),)),
    )
    assert pstates(found) == ["2 1"]
    assert [(target.min_khz, target.max_khz) for target in found.uncore] == [(900_000, 1_000_000)]
    assert not found.problems


def test_a_package_that_does_not_exist_is_an_error_that_lists_those_that_do() -> None:
    """As dies are."""
    found = asked(1, 1, 7)
    assert [(problem.code, problem.field) for problem in found.problems] == [
        (Code.FABRIC_RANGE, "spec.amd.package")
    ]
    assert "the node has 0, 1" in found.problems[0].message
    assert pstates(found) == [None, None]


@pytest.mark.parametrize(
    ("fault", "words"),
    [("", "the driver is amd_hsmp"), ("the firmware does not answer (ETIMEDOUT)", "ETIMEDOUT")],
)
def test_a_node_without_a_mailbox_says_why(fault: str, words: str) -> None:
    """The driver is missing, or the firmware has it off; both are told apart (field report 53)."""
    found = asked(1, 1, on=with_fabrics(fabric_fault=fault))
    assert [problem.code for problem in found.problems] == [Code.FABRIC_UNSUPPORTED]
    assert words in found.problems[0].message


def test_without_an_object_the_fabric_is_automatic() -> None:
    """Removal returns to what was: nothing is asked, with the reason."""
    on = with_fabrics(5)
    for found, why in (
        (plan(on=on), "no Uncore object covers it"),
        (plan(uncore(sys_min=900_000, sys_max=900_000), on=on), "Uncore/node-1 does not cover it"),
        (
            plan(uncore(amd=AmdFabric(1, 1)), config(power_node_selector={"zone": "b"}), on=on),
            "the PowerConfig does not select this node",
        ),
    ):
        assert pstates(found) == [None]
        assert found.fabrics[0].because == (why,)


def test_of_two_objects_the_older_holds_with_both_its_parts() -> None:
    """The younger one's fabric is not added to it."""
    old, young = (
        Uncore(evolve(uncore(name).meta, created=moment(hour)), node_selector=EVERYWHERE)
        for name, hour in (("old", 8), ("young", 9))
    )
    found = plan(
        evolve(young, amd=AmdFabric(1, 1)),
        evolve(old, sys_min=900_000, sys_max=900_000),
        on=with_fabrics(5, uncore=(die(),)),
    )
    assert pstates(found) == [None]
    assert found.uncore[0].min_khz == 900_000


def test_fabric_targets_have_reasons() -> None:
    """The object, the field and the P-states."""
    assert asked(1, 1).fabrics[0].because == ("P-state 1: Uncore/node-1 spec.amd",)
    assert asked(2, 0).fabrics[0].because == ("P-states 0 to 2: Uncore/node-1 spec.amd",)
    assert asked(1, 1, 1).fabrics[0].because == ("Uncore/node-1 does not cover it",)


def test_an_object_for_both_makers_limits_intel_nodes_too() -> None:
    """What such a node cannot do is a warning there; its own part applies."""
    found = plan(
        uncore(sys_min=1_200_000, sys_max=2_000_000, amd=AmdFabric(2, 0)),
        on=machine(uncore=(die(),)),
    )
    assert [(target.min_khz, target.max_khz) for target in found.uncore] == [(1_200_000, 2_000_000)]
    assert [(problem.severity, problem.code) for problem in found.problems] == [
        (Severity.WARNING, Code.FABRIC_UNSUPPORTED)
    ]
