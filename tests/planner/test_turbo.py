"""Turbo of a node: which PowerNodeConfig decides it, and that each of
its fields counts by itself.
"""

import pytest
from attrs import evolve

from kpm_planner.model.cluster import INTEL_GROUP, LabelSelector, NodeSelector
from kpm_planner.model.objects import PowerNodeConfig
from kpm_planner.model.problems import Code, Severity
from kpm_planner.plan import NodePlan
from tests.planner.build import (
    config,
    machine,
    moment,
    node_config,
    plan,
    pools,
    profile,
    profiles_of,
    reserved,
    workload,
)
from tests.planner.reading import with_code

ON, OFF = evolve(machine(), boost=True), evolve(machine(), boost=False)
SLOW = profile("slow", shared=True, max=1000)


def decided(*configs: PowerNodeConfig) -> NodePlan:
    """The plan of these PowerNodeConfigs."""
    return plan(SLOW, profile(), *configs, on=ON)


@pytest.mark.parametrize("on", [ON, OFF])
@pytest.mark.parametrize("wanted", [True, False, None])
def test_turbo_is_what_is_asked_whatever_it_is_now(on: object, wanted: bool | None) -> None:
    """Left out, it stays as it was."""
    found = plan(node_config(turbo=wanted), on=on)  # type: ignore[arg-type]
    assert found.boost is wanted
    assert not found.problems


def test_without_a_selector_that_matches_nothing_is_asked() -> None:
    """Left out: no node."""
    for selector in (None, NodeSelector(), NodeSelector(LabelSelector({"zone": "b"}))):
        assert decided(node_config(turbo=False, node_selector=selector)).boost is None


def test_of_two_the_older_holds_and_the_other_is_told_if_it_wants_something_else() -> None:
    """In any order (R5)."""
    old, young = (
        node_config("old", turbo=False, meta_created=moment(8)),
        node_config("young", turbo=True, meta_created=moment(9)),
    )
    for order in ((old, young), (young, old)):
        found = decided(*order)
        assert found.boost is False
        assert [
            (problem.severity, problem.object, problem.field) for problem in found.problems
        ] == [(Severity.WARNING, "PowerNodeConfig/young", "spec.turbo")]
    assert not decided(old, evolve(young, turbo=False)).problems


def test_without_creation_timestamps_the_name_decides_and_it_is_marked() -> None:
    """A missing one counts as newest."""
    found = decided(node_config("b", turbo=True), node_config("a", turbo=False))
    assert found.boost is False
    assert found.problems[0].message.endswith("(decided without creationTimestamp)")
    assert (
        decided(
            node_config("a", turbo=False), node_config("b", turbo=True, meta_created=moment(9))
        ).boost
        is True
    )


@pytest.mark.parametrize("hours", [(8, 9), (9, 8)])
def test_a_claim_on_turbo_alone_hides_no_pool_and_is_hidden_by_none(hours: tuple[int, int]) -> None:
    """Precedence is per field: neither the older nor the younger of the two loses anything."""
    first, second = (moment(hour) for hour in hours)
    found = decided(
        node_config("turbo", turbo=False, meta_created=first),
        node_config("pools", "slow", reserved=[reserved("0", "performance")], meta_created=second),
    )
    assert found.boost is False
    assert profiles_of(found) == {0: "performance", 1: "slow", 2: "slow", 3: "slow"}
    assert not found.problems


def test_an_older_one_that_sets_both_wins_only_what_it_sets() -> None:
    """The younger one's reserved CPUs are added as always; its shared pool and turbo lose."""
    both = node_config("both", "slow", turbo=True, meta_created=moment(8))
    other = node_config(
        "other", "performance", reserved=[reserved("1")], turbo=False, meta_created=moment(9)
    )
    found = decided(both, other)
    assert found.boost is True
    assert pools(found) == {0: "shared", 1: "reserved", 2: "shared", 3: "shared"}
    assert profiles_of(found)[0] == "slow"
    told = {(problem.code, problem.object) for problem in found.problems}
    assert {
        (Code.TURBO_SUPERSEDED, "PowerNodeConfig/other"),
        (Code.SHARED_SUPERSEDED, "PowerNodeConfig/other"),
    } <= told


def test_a_claim_on_turbo_alone_does_not_hide_a_workload() -> None:
    """A PowerNodeConfig goes before a PowerWorkload of its age only where both claim the same
    thing.
    """
    found = plan(
        SLOW,
        node_config(turbo=True, meta_created=moment(8)),
        workload(uses="slow", meta_created=moment(8)),
        on=ON,
    )
    assert found.boost is True
    assert set(profiles_of(found).values()) == {"slow"}
    assert not found.problems


def test_a_claim_on_turbo_alone_changes_no_cpu() -> None:
    """No pool, no target, no reason."""
    assert plan(SLOW, node_config(turbo=False), on=ON).groups == plan(SLOW, on=ON).groups


def test_missing_profiles_do_not_hold_turbo_back() -> None:
    """What is wrong costs only itself (R6)."""
    assert decided(node_config(uses="ghost", turbo=False)).boost is False


def test_profiles_stay_valid_with_turbo_off() -> None:
    """Limits are judged against the range with turbo on, whatever is asked."""
    boosted = evolve(
        machine(driver="acpi-cpufreq", khz=(800_000, 2_500_000), limit=3_500_000), boost=True
    )
    for wanted in (True, False):
        found = plan(profile(max=3500), node_config(turbo=wanted), on=boosted)
        assert [item.valid for item in found.profiles] == [True]


def test_a_node_without_a_switch_is_a_problem_for_turbo_only() -> None:
    """The rest of the object applies; one warning, of the one that holds."""
    found = plan(
        SLOW,
        node_config("b", "slow", turbo=False, meta_created=moment(8)),
        node_config("c", turbo=False, meta_created=moment(9)),
        on=evolve(machine(), boost=None),
    )
    assert found.boost is None
    assert [
        (problem.severity, problem.object)
        for problem in with_code(found.problems, Code.TURBO_UNSUPPORTED)
    ] == [(Severity.WARNING, "PowerNodeConfig/b")]
    assert set(profiles_of(found).values()) == {"slow"}


def test_turbo_of_a_node_that_is_not_ours_stays() -> None:
    """The PowerConfig does not select it; an object of another namespace does not count either."""
    assert (
        plan(node_config(turbo=False), config(power_node_selector={"zone": "b"}), on=ON).boost
        is None
    )
    assert plan(node_config(turbo=False, meta_namespace="default"), on=ON).boost is None
    assert (
        plan(node_config(turbo=False, group=INTEL_GROUP, meta_namespace="intel-power"), on=ON).boost
        is False
    )
