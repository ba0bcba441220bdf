"""U1, U2, uncore: system, package, die."""

from typing import Any

import pytest
from attrs import evolve

from kpm_planner.model.cluster import LabelSelector, NodeSelector
from kpm_planner.model.machine import Machine, UncoreEntry
from kpm_planner.model.objects import DieSelector, Uncore
from kpm_planner.model.problems import Code, Severity
from kpm_planner.plan import NodePlan
from kpm_planner.report.earlier import uncore_status
from tests.planner.build import EVERYWHERE, config, die, machine, moment, plan, uncore
from tests.planner.reading import with_code

TWO_SOCKETS = machine(uncore=(die(0, 0), die(0, 1), die(1, 0), die(1, 1)))


def limits(found: NodePlan) -> list[tuple[int | None, int | None]]:
    """Limits of the entries, in order."""
    return [(target.min_khz, target.max_khz) for target in found.uncore]


def asked(*dies: DieSelector, on: Machine = TWO_SOCKETS, **fields: Any) -> NodePlan:
    """The plan of an Uncore object named like the node."""
    return plan(uncore(die_selector=dies, **fields), on=on)


def test_system_limits_are_for_every_entry() -> None:
    """In kHz."""
    assert limits(asked(sys_min=1_000_000, sys_max=2_000_000)) == [(1_000_000, 2_000_000)] * 4


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        ("min", "max", (800_000, 2_400_000)),
        ("max", "max", (2_400_000, 2_400_000)),
        (1_050_000, "max", (1_000_000, 2_400_000)),
        ("min", 1_000_000, (800_000, 1_000_000)),
    ],
)
def test_an_end_may_be_that_of_the_hardware(
    low: int | str, high: int | str, expected: tuple[int, int]
) -> None:
    """Of each entry its own."""
    assert limits(asked(sys_min=low, sys_max=high)) == [expected] * 4
    assert limits(asked(DieSelector(0, 0, low, high)))[0] == expected


@pytest.mark.parametrize(
    ("low", "high", "code"),
    [
        ("base", "max", Code.UNCORE_RANGE),
        ("min", "Max", Code.UNCORE_RANGE),
        ("max", "min", Code.UNCORE_ORDER),
        ("max", 1_000_000, Code.UNCORE_RANGE),
        ("min", 100_000, Code.UNCORE_RANGE),
    ],
)
def test_words_that_are_none_or_the_wrong_way_round_are_errors(
    low: int | str, high: int | str, code: Code
) -> None:
    found = asked(sys_min=low, sys_max=high)
    assert [problem.code for problem in found.problems] == [code]
    if code is Code.UNCORE_ORDER:
        assert found.problems[0].message == "max is above spec.sysMax min"
    assert limits(found) == [(None, None)] * 4


def test_the_wrong_way_round_is_said_with_the_units() -> None:
    (problem,) = asked(sys_min=2_000_000, sys_max=1_000_000).problems
    assert problem.message == "2000000 kHz is above spec.sysMax 1000000 kHz"


def test_an_end_of_the_hardware_that_no_file_says_is_an_error() -> None:
    """Nothing is set; kHz may be asked for all the same."""
    silent = evolve(
        TWO_SOCKETS,
        uncore=tuple(evolve(entry, hardware_max_khz=None) for entry in TWO_SOCKETS.uncore),
    )
    found = asked(on=silent, sys_min=1_000_000, sys_max="max")
    (problem,) = found.problems
    assert (problem.code, problem.field) == (Code.UNCORE_RANGE, "spec.sysMin")
    assert limits(found) == [(None, None)] * 4
    assert not asked(on=silent, sys_min=1_000_000, sys_max=2_000_000).problems


def test_die_beats_package_beats_system() -> None:
    """Whatever their order in the list."""
    rules = (DieSelector(0, None, 1_100_000, 1_200_000), DieSelector(0, 1, 1_300_000, 1_400_000))
    for order in (rules, rules[::-1]):
        found = asked(*order, sys_min=800_000, sys_max=900_000)
        assert limits(found) == [
            (1_100_000, 1_200_000),
            (1_300_000, 1_400_000),
            (800_000, 900_000),
            (800_000, 900_000),
        ]


def test_entries_that_no_rule_covers_stay_at_baseline() -> None:
    """A die on another package has no limits."""
    assert limits(asked(DieSelector(1, 0, 900_000, 900_000))) == [
        (None, None),
        (None, None),
        (900_000, 900_000),
        (None, None),
    ]


def test_values_are_rounded_down_to_100_mhz() -> None:
    """As the hardware's steps are."""
    assert limits(asked(sys_min=1_050_000, sys_max=1_999_999))[0] == (1_000_000, 1_900_000)
    assert limits(asked(sys_min=850_000, sys_max=899_999))[0] == (800_000, 800_000)


@pytest.mark.parametrize(
    ("low", "high", "code", "field"),
    [
        (1_000_000, None, Code.UNCORE_ENDS, "spec.sysMax"),
        (None, 1_000_000, Code.UNCORE_ENDS, "spec.sysMin"),
        (2_000_000, 1_000_000, Code.UNCORE_ORDER, "spec.sysMin"),
        (700_000, 1_000_000, Code.UNCORE_RANGE, "spec.sysMin"),
        (1_000_000, 2_500_000, Code.UNCORE_RANGE, "spec.sysMin"),
        (0, 0, Code.UNCORE_RANGE, "spec.sysMin"),
        (-200_000, 1_000_000, Code.UNCORE_RANGE, "spec.sysMin"),
    ],
)
def test_an_invalid_object_is_an_error_and_changes_nothing(
    low: int | None, high: int | None, code: Code, field: str
) -> None:
    """Not even what is right in it (field report 42)."""
    found = asked(DieSelector(0, 0, 1_000_000, 1_000_000), sys_min=low, sys_max=high)
    assert limits(found) == [(None, None)] * 4
    assert [(problem.severity, problem.field) for problem in with_code(found.problems, code)] == [
        (Severity.ERROR, field)
    ]


@pytest.mark.parametrize(
    ("rule", "code", "field"),
    [
        (DieSelector(0, 0, 900_000, None), Code.UNCORE_ENDS, "spec.dieSelector[0].max"),
        (DieSelector(0, 0, None, None), Code.UNCORE_ENDS, "spec.dieSelector[0]"),
        (DieSelector(0, 0, 2_000_000, 900_000), Code.UNCORE_ORDER, "spec.dieSelector[0].min"),
        (DieSelector(None, 0, 900_000, 900_000), Code.UNCORE_DIE, "spec.dieSelector[0].package"),
        (DieSelector(0, 2, 900_000, 900_000), Code.UNCORE_DIE, "spec.dieSelector[0]"),
        (DieSelector(2, None, 900_000, 900_000), Code.UNCORE_DIE, "spec.dieSelector[0]"),
        (DieSelector(0, 0, 900_000, 2_500_000), Code.UNCORE_RANGE, "spec.dieSelector[0]"),
    ],
)
def test_a_wrong_die_rule_is_an_error_at_its_place(
    rule: DieSelector, code: Code, field: str
) -> None:
    """Field report 42."""
    found = asked(rule, sys_min=1_000_000, sys_max=2_000_000)
    assert limits(found) == [(None, None)] * 4
    assert [(problem.severity, problem.field) for problem in with_code(found.problems, code)] == [
        (Severity.ERROR, field)
    ]


def test_a_place_that_is_named_twice_is_an_error() -> None:
    """Neither of the two would be more specific."""
    rule = DieSelector(0, 0, 900_000, 900_000)
    assert [
        problem.severity
        for problem in with_code(asked(rule, evolve(rule, max=1_000_000)).problems, Code.UNCORE_DIE)
    ] == [Severity.ERROR]


def test_limits_are_those_of_each_entry() -> None:
    """Packages may differ (field report 41)."""
    unlike = machine(uncore=(die(0), die(1, low=1_200_000)))
    assert with_code(
        asked(on=unlike, sys_min=1_000_000, sys_max=2_000_000).problems, Code.UNCORE_RANGE
    )
    assert limits(asked(DieSelector(0, 0, 1_000_000, 2_000_000), on=unlike)) == [
        (1_000_000, 2_000_000),
        (None, None),
    ]


def test_dies_are_domains_in_tpmis_layout() -> None:
    """uncoreNN has a domain where the older layout has a die; all clusters of it take part
    (field report 41).
    """
    entries = [
        UncoreEntry(
            f"uncore{index:02}", 0, None, domain, cluster, 800_000, 2_400_000, 800_000, 2_400_000
        )
        for index, (domain, cluster) in enumerate([(0, 0), (0, 1), (1, 0)])
    ]
    assert limits(
        asked(DieSelector(0, 0, 900_000, 900_000), on=machine(uncore=tuple(entries)))
    ) == [(900_000, 900_000), (900_000, 900_000), (None, None)]


def test_all_that_is_asked_of_the_uncore_is_one_sentence() -> None:
    """Each rule once, in order, with a semicolon between them."""
    found = asked(DieSelector(0, 0, 900_000, 900_000), sys_min=1_000_000, sys_max=2_000_000)
    status = uncore_status(found, ())
    assert status.config == (
        "0.9..0.9 GHz: Uncore/node-1 spec.dieSelector[0], rounded down to 100 MHz;"
        " 1..2 GHz: Uncore/node-1 spec.sysMin, rounded down to 100 MHz"
    )


def test_an_entry_of_which_only_the_package_is_known_has_the_limits_of_its_package() -> None:
    """It is no die 0: a rule for that one says nothing of it."""
    entry = evolve(UncoreEntry("uncore00", 0), hardware_min_khz=800_000, hardware_max_khz=2_400_000)
    one = machine(uncore=(entry,))
    assert limits(asked(DieSelector(0, None, 900_000, 900_000), on=one)) == [(900_000, 900_000)]
    found = asked(DieSelector(0, 0, 900_000, 900_000), on=one)
    assert limits(found) == [(None, None)]
    (problem,) = with_code(found.problems, Code.UNCORE_DIE)
    assert problem.message.endswith("the node has package 0")


@pytest.mark.parametrize("layout", ["dies", "domains"])
def test_who_names_a_place_that_is_not_there_is_told_what_is(layout: str) -> None:
    """Each package with its dies, which TPMI calls domains."""
    entries = [
        UncoreEntry(
            f"uncore{number:02}",
            0,
            number if layout == "dies" else None,
            None if layout == "dies" else number,
            None,
            800_000,
            2_400_000,
            800_000,
            2_400_000,
        )
        for number in (0, 1)
    ]
    found = asked(DieSelector(0, 7, 900_000, 900_000), on=machine(uncore=tuple(entries)))
    (problem,) = with_code(found.problems, Code.UNCORE_DIE)
    assert problem.message.endswith("the node has package 0 die 0, package 0 die 1")


@pytest.mark.parametrize(
    "obj",
    [
        uncore(sys_min=900_000, sys_max=900_000),
        uncore("any", sys_min=900_000, sys_max=900_000, node_selector=EVERYWHERE),
    ],
)
def test_an_object_holds_on_the_node_of_its_name_or_on_those_it_selects(obj: Uncore) -> None:
    """Without a selector, the name is the node's."""
    assert limits(plan(obj, on=TWO_SOCKETS)) == [(900_000, 900_000)] * 4


@pytest.mark.parametrize(
    "obj",
    [
        uncore("node-2", sys_min=900_000, sys_max=900_000),
        uncore(
            sys_min=900_000,
            sys_max=900_000,
            node_selector=NodeSelector(LabelSelector({"zone": "b"})),
        ),
        uncore("my-node-1", sys_min=900_000, sys_max=900_000),
    ],
)
def test_other_objects_have_no_effect(obj: Uncore) -> None:
    """A selector that does not match, though the name does; a name that ends like the node's
    (field report 45).
    """
    found = plan(obj, on=TWO_SOCKETS)
    assert limits(found) == [(None, None)] * 4
    assert not found.problems


def test_of_two_objects_the_older_holds() -> None:
    """And the loser is told."""
    old, young = (
        uncore(name, sys_min=khz, sys_max=khz, node_selector=EVERYWHERE, meta_created=moment(hour))
        for name, khz, hour in (("b", 900_000, 8), ("a", 800_000, 9))
    )
    found = plan(young, old, on=TWO_SOCKETS)
    assert limits(found)[0] == (900_000, 900_000)
    assert [
        (problem.severity, problem.object)
        for problem in with_code(found.problems, Code.UNCORE_SUPERSEDED)
    ] == [(Severity.WARNING, "Uncore/a")]


def test_of_two_of_one_age_the_one_that_names_the_node_holds() -> None:
    """Before one that only selects it (R5)."""
    named = uncore(sys_min=900_000, sys_max=900_000, meta_created=moment(8))
    selecting = uncore(
        "a", sys_min=800_000, sys_max=800_000, node_selector=EVERYWHERE, meta_created=moment(8)
    )
    for order in ((named, selecting), (selecting, named)):
        assert limits(plan(*order, on=TWO_SOCKETS))[0] == (900_000, 900_000)


def test_a_node_without_uncore_is_a_problem_for_its_object_only() -> None:
    """Field report 53: everything else goes on."""
    found = plan(uncore(sys_min=900_000, sys_max=900_000))
    assert [(problem.code, problem.object) for problem in found.problems] == [
        (Code.UNCORE_UNSUPPORTED, "Uncore/node-1")
    ]
    assert found.uncore == ()


def test_uncore_targets_have_reasons() -> None:
    """The object, the field and the values; where there are none, why not."""
    found = asked(DieSelector(0, 0, 950_000, 1_000_000))
    assert found.uncore[0].because == (
        "0.9..1 GHz: Uncore/node-1 spec.dieSelector[0], rounded down to 100 MHz",
    )
    assert found.uncore[1].because == ("Uncore/node-1 does not cover it",)
    assert plan(on=TWO_SOCKETS).uncore[0].because == ("no Uncore object covers it",)
    assert asked(sys_min=1).uncore[0].because == ("Uncore/node-1 has errors, so baseline",)
    assert plan(config(power_node_selector={"zone": "b"}), on=TWO_SOCKETS).uncore[0].because == (
        "the PowerConfig does not select this node",
    )
