"""Uncore limits: in range, on whole steps, from the most specific rule of one valid object."""

from hypothesis import assume, given

from kpm_planner.model.machine import UncoreEntry
from kpm_planner.model.problems import Code, Severity
from tests.planner.property import reference
from tests.planner.reading import codes
from tests.strategies.scenarios import Scenario, scenarios


def in_force(end: int | str, entry: UncoreEntry) -> int | None:
    """An end in kHz: full hundreds of MHz, or the hardware's own."""
    if isinstance(end, int):
        return end // 100_000 * 100_000
    return {"min": entry.hardware_min_khz, "max": entry.hardware_max_khz}[end]


@given(scenarios())
def test_limits_lie_in_the_range_of_their_entry_and_on_whole_steps(scenario: Scenario) -> None:
    """Both ends or none; multiples of 100 MHz; min ≤ max."""
    plan = scenario.plan()
    for target in plan.uncore:
        assert (target.min_khz is None) == (target.max_khz is None)
        if target.min_khz is not None and target.max_khz is not None:
            assert target.min_khz % 100_000 == target.max_khz % 100_000 == 0
            assert target.entry.hardware_min_khz is not None
            assert target.entry.hardware_max_khz is not None
            assert (
                target.entry.hardware_min_khz
                <= target.min_khz
                <= target.max_khz
                <= target.entry.hardware_max_khz
            )


@given(scenarios())
def test_every_entry_of_the_machine_has_exactly_one_target(scenario: Scenario) -> None:
    """In the machine's order, with limits or at baseline; a machine without uncore has none."""
    assert tuple(target.entry for target in scenario.plan().uncore) == scenario.machine.uncore


@given(scenarios())
def test_the_most_specific_rule_of_one_matching_object_decides(scenario: Scenario) -> None:
    """Die beats package beats system.

    Where no object matches, or the one in force has errors, nothing is asked.
    """
    plan, node = scenario.plan(), scenario.item.node
    assume(Code.NODE_NOT_SELECTED not in codes(plan.problems))
    matching = [
        item
        for item in scenario.intent.uncores
        if reference.counts(item)
        and reference.chosen(item.node_selector, node.labels, left_out=item.meta.name == node.name)
    ]
    # Two API groups may each have an object of one name; problems name both alike.
    assume(
        len({item.meta.name for item in scenario.intent.uncores}) == len(scenario.intent.uncores)
    )
    losers = {problem.object for problem in plan.problems if problem.code is Code.UNCORE_SUPERSEDED}
    winners = [item for item in matching if f"Uncore/{item.meta.name}" not in losers]
    assert len(winners) == min(1, len(matching))
    bad = {problem.object for problem in plan.problems if problem.severity is Severity.ERROR}
    for target in plan.uncore:
        limits = None
        if winners and f"Uncore/{winners[0].meta.name}" not in bad:
            winner, entry = winners[0], target.entry
            die = entry.domain if entry.die is None else entry.die
            rules = [
                (rule.min, rule.max)
                for rule in winner.die_selector
                if (rule.package, rule.die) == (entry.package, die)
            ]
            rules += [
                (rule.min, rule.max)
                for rule in winner.die_selector
                if (rule.package, rule.die) == (entry.package, None)
            ]
            rules += [(winner.sys_min, winner.sys_max)]
            limits = next(
                (
                    (in_force(low, entry), in_force(high, entry))
                    for low, high in rules
                    if low is not None and high is not None
                ),
                None,
            )
        assert (target.min_khz, target.max_khz) == (limits or (None, None))
