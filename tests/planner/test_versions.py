"""R8: while an object has errors of its own on a node, the version that was last valid there stays
in force.
"""

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kpm_planner.model.cap_objects import CapSource, StaticCap
from kpm_planner.model.changes import Pass
from kpm_planner.model.cluster import INTEL_GROUP, LabelSelector, Node, NodeSelector, Requirement
from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import Intent, PStates, ReservedCpus, Unreadable
from kpm_planner.model.problems import Code
from kpm_planner.plan import NodeInput, NodePlan, plan_node
from kpm_planner.report.explain import explain_cpu, explain_profile, explain_uncore
from kpm_planner.report.node import node_state
from kpm_planner.report.types import EarlierVersion
from kpm_planner.versions import Version, Versioned, Versions, since_text
from tests.planner.build import (
    NODE,
    allocation,
    die,
    intent,
    machine,
    moment,
    node_config,
    on_cpu,
    owns,
    plan,
    pod,
    power_cap,
    profile,
    rapl,
    reserved,
    uncore,
    workload,
)
from tests.planner.reading import codes, limits_of, with_code
from tests.strategies.scenarios import Scenario, scenarios

BROKEN = NodeSelector(LabelSelector({}, (Requirement("zone", "Gt", ("a",)),)))
ELSEWHERE = NodeSelector(LabelSelector({"zone": "b"}))
MACHINE = evolve(machine(uncore=(die(),)), power_zones=(rapl(),))
FAST = profile(min=3000, max=3500, names={"C6": False})
WEB = allocation([pod()], [owns("2-3")])


def edited(obj: Any, **changes: Any) -> Any:
    """The next generation of an object."""
    return evolve(obj, meta=evolve(obj.meta, generation=obj.meta.generation + 1), **changes)


class History:
    """A node that plans again and again, with what it remembers."""

    def __init__(
        self, *, on: Machine = MACHINE, node: Node = NODE, versions: Versions = Versions()
    ) -> None:
        self.machine, self.node, self.versions = on, node, versions

    def look(
        self, *objects: Any, at: datetime = moment(8), unreadable: tuple[Unreadable, ...] = ()
    ) -> NodePlan:
        """The plan of these objects now."""
        wanted = evolve(intent(*objects), unreadable=unreadable)
        found = plan_node(
            wanted, NodeInput(self.node, self.machine, WEB, versions=self.versions), at
        )
        self.versions = Versions(found.versions)
        return found


def asked(found: NodePlan) -> object:
    """All that a plan asks for, without the reasons."""
    groups = {
        cpu: (group.pool, group.profile, group.target, group.held)
        for group in found.groups
        for cpu in group.cpus
    }
    uncores = [(target.entry.name, target.min_khz, target.max_khz) for target in found.uncore]
    return (
        groups,
        uncores,
        limits_of(found),
        found.boost,
        dict(found.extended_resources),
        found.scaling,
        [target.pstates for target in found.fabrics],
    )


BAD_EDITS: dict[str, dict[str, Any]] = {
    "beyond the hardware": {"pstates": PStates(3000, 9000)},
    "upside down": {"pstates": PStates(3500, 3000)},
    "no such governor": {"pstates": PStates(3000, 3500, "turbo")},
    "no such idle state": {"cstates": evolve(FAST.cstates, names={"C66": False})},
    "no frequency": {"pstates": PStates("fast", 3500)},
    "no capacity": {"cpu_capacity": 0},
    "a selector that cannot be": {"node_selector": BROKEN},
}


@pytest.mark.parametrize("change", BAD_EDITS.values(), ids=BAD_EDITS)
def test_an_edit_that_cannot_be_honoured_changes_nothing_of_what_is_in_force(
    change: dict[str, Any],
) -> None:
    """CPUs, advertised capacity and all; the error is told, and which version holds since when."""
    node = History()
    before = node.look(FAST)
    after = node.look(edited(FAST, **change), at=moment(9))
    assert asked(after) == asked(before)
    assert any(
        problem.severity == "error" and problem.object == "PowerProfile/performance"
        for problem in after.problems
    )
    assert with_code(after.problems, Code.LAST_VALID)[0].message == (
        "has errors on this node; its last valid version stays in force"
        " (valid here since 2026-01-31T08:00:00Z)"
    )


def test_the_state_of_the_node_says_which_version_is_in_force_since_when() -> None:
    """While an earlier one is; neither before the edit nor once it is mended."""
    node = History()
    states = []
    for written, hour in (
        (FAST, 8),
        (edited(FAST, pstates=PStates(3000, 9000)), 9),
        (edited(edited(FAST)), 10),
    ):
        found = node_state(node.look(written, at=moment(hour)), MACHINE, Pass(), (), {})
        states.append(found.earlier_versions)
    assert states[0] == states[2] == ()
    assert states[1] == (EarlierVersion("PowerProfile/performance", None, "2026-01-31T08:00:00Z"),)


def test_it_holds_for_pods_that_come_later_and_is_told_where_people_look() -> None:
    """As a whole: whoever asks for the profile now gets the version that is in force."""
    node = History()
    node.look(edited(FAST))
    bad = edited(edited(FAST), pstates=PStates(9000, 9000))
    found = node.look(bad)
    assert on_cpu(found, 2).target.min_khz == 3_000_000
    told = "generation 1, valid here since 2026-01-31T08:00:00Z"
    (named,) = (line for line in explain_cpu(found, 2) if line.startswith("  profile"))
    assert named == f"  profile performance, {told}"
    assert any(line.startswith("  min 3 GHz: ") for line in explain_cpu(found, 2))
    assert "last-valid" in "\n".join(explain_profile(found, "performance"))


def test_the_last_valid_version_counts_and_a_valid_edit_ends_it() -> None:
    """Good, bad, good, bad: each bad one leaves the good one before it."""
    node, slow = History(), edited(FAST, pstates=PStates(1000, 1500))
    node.look(FAST)
    bad = edited(FAST, pstates=PStates(9000, 9000))
    assert on_cpu(node.look(bad), 2).target.max_khz == 3_500_000
    assert on_cpu(node.look(slow), 2).target.max_khz == 1_500_000
    assert on_cpu(node.look(bad), 2).target.max_khz == 1_500_000


def test_an_object_that_was_never_valid_here_is_baseline() -> None:
    """There is nothing to go back to, and nothing is said of earlier versions."""
    found = History().look(profile(min=9000))
    assert on_cpu(found, 2).target.max_khz is None
    assert codes(found.problems).isdisjoint({Code.LAST_VALID, Code.VERSION_UNKNOWN})


def test_where_earlier_versions_are_not_known_that_is_said() -> None:
    """An offline plan, or state that was lost."""
    found = History(
        versions=Versions(note="which version was last valid there is not known offline")
    ).look(profile(min=9000))
    assert [problem.message for problem in with_code(found.problems, Code.VERSION_UNKNOWN)] == [
        "which version was last valid there is not known offline"
    ]


def test_deletion_another_uid_and_a_selector_that_leaves_the_node_end_it() -> None:
    """Then there is no version any more."""
    bad = edited(FAST, pstates=PStates(9000, 9000))
    for end in (
        (),
        (evolve(bad, meta=evolve(bad.meta, uid="another")),),
        (evolve(bad, node_selector=ELSEWHERE),),
    ):
        node = History()
        node.look(FAST)
        assert on_cpu(node.look(*end), 2).target.max_khz is None
        assert on_cpu(node.look(bad), 2).target.max_khz is None


def test_conflicts_neither_make_a_version_nor_end_one() -> None:
    """The same name in both groups: neither is used meanwhile; afterwards the version is there
    still.
    """
    node, twin = History(), profile(group=INTEL_GROUP, max=1000)
    node.look(FAST)
    bad = edited(FAST, pstates=PStates(9000, 9000))
    assert on_cpu(node.look(bad, twin), 2).target.max_khz is None
    assert on_cpu(node.look(bad), 2).target.max_khz == 3_500_000
    assert [item.obj.group for item in node.versions.items] == [FAST.group]


def test_a_machine_that_no_longer_can_is_no_edit() -> None:
    """The same object has errors now: nothing goes back to an earlier version of it, and once the
    machine can again it is in force as before.
    """
    node = History()
    node.look(FAST)
    (before,) = node.versions.items
    node.machine = machine(khz=(800_000, 2_000_000))
    found = node.look(FAST, at=moment(9))
    assert on_cpu(found, 2).target.max_khz is None
    assert codes(found.problems).isdisjoint({Code.LAST_VALID, Code.VERSION_UNKNOWN})
    assert node.versions.items == (before,)
    node.machine = MACHINE
    assert on_cpu(node.look(FAST, at=moment(10)), 2).target.max_khz == 3_500_000


def test_a_version_of_which_nobody_knows_since_when_was_valid_before() -> None:
    """As one that was kept without a clock."""
    node = History()
    node.look(FAST)
    node.versions = Versions(tuple(evolve(item, since=None) for item in node.versions.items))
    found = node.look(edited(FAST, pstates=PStates(9000, 9000)))
    (told,) = with_code(found.problems, Code.LAST_VALID)
    assert told.message.endswith("stays in force (valid here before)")


@pytest.mark.parametrize(
    "zone", [None, UTC, timezone(timedelta(hours=2))], ids=["none", "UTC", "+02:00"]
)
def test_since_when_a_version_is_valid_is_told_in_utc(zone: tzinfo | None) -> None:
    """Whatever zone the clock had; a time without one is UTC already."""
    hour = 10 if zone not in (None, UTC) else 8
    since = datetime(2026, 1, 31, hour, tzinfo=zone)
    assert since_text(Version(FAST, since)) == "2026-01-31T08:00:00Z"
    assert since_text(Version(FAST, None)) is None


def test_it_is_judged_anew_on_the_machine_of_today() -> None:
    """Where it fails too: baseline, and it comes back with the machine."""
    node = History()
    node.look(FAST)
    bad = edited(FAST, pstates=PStates(9000, 9000))
    node.machine = machine(khz=(800_000, 2_000_000))
    found = node.look(bad)
    assert on_cpu(found, 2).target.max_khz is None
    assert (
        "and so has its last valid version" in with_code(found.problems, Code.LAST_VALID)[0].message
    )
    node.machine = MACHINE
    assert on_cpu(node.look(bad), 2).target.max_khz == 3_500_000


def test_node_wide_objects_keep_their_last_valid_version_too() -> None:
    """Uncore, PowerCap and PowerNodeConfig."""
    shared = profile("shared", shared=True, max=1500)
    good = (
        shared,
        uncore(sys_min=1_000_000, sys_max=2_000_000),
        power_cap(150),
        node_config(uses="shared", turbo=None, reserved=[reserved("0")]),
    )
    bad = (
        edited(good[1], sys_max=9_000_000),
        edited(good[2], source=CapSource(static=StaticCap(-1))),
        edited(good[3], reserved_cpus=(ReservedCpus((-1,), None),)),
    )
    node = History()
    before = node.look(*good)
    for index, obj in enumerate(bad, 1):
        objects = [*good]
        objects[index] = obj
        after = node.look(*objects, at=moment(9))
        assert asked(after) == asked(before)
        assert len(with_code(after.problems, Code.LAST_VALID)) == 1
    assert "last-valid" in "\n".join(explain_uncore(node.look(shared, bad[0]), "package_00_die_00"))


def test_a_claim_that_was_lost_makes_no_version() -> None:
    """The younger Uncore has never been in force; when it is alone, with errors, nothing is known
    of it.
    """
    older, younger = (
        uncore("a", sys_min=1_000_000, sys_max=1_000_000, meta_created=moment(1)),
        uncore("b", sys_min=2_000_000, sys_max=2_000_000, meta_created=moment(2)),
    )
    here = NodeSelector(LabelSelector())
    older, younger = evolve(older, node_selector=here), evolve(younger, node_selector=here)
    node = History()
    node.look(older, younger)
    assert node.look(edited(younger, sys_max=1)).uncore[0].max_khz is None
    node.look(older)
    node.look(
        edited(older, sys_max=1), evolve(younger, meta=evolve(younger.meta, created=moment(0)))
    )
    assert node.look(edited(older, sys_max=1)).uncore[0].max_khz == 1_000_000


def test_an_object_that_cannot_be_read_any_more_is_one_with_errors() -> None:
    """It is there, so it was not deleted."""
    node = History()
    before = node.look(FAST)
    lost = (Unreadable("PowerProfile", FAST.group, FAST.meta.name, FAST.meta.uid),)
    after = node.look(unreadable=lost)
    assert asked(after) == asked(before)
    assert "cannot be read" in with_code(after.problems, Code.LAST_VALID)[0].message
    assert asked(node.look()) == asked(plan(with_=WEB, on=MACHINE))


def test_the_same_objects_give_the_same_versions() -> None:
    """Nothing is new where nothing was edited, whatever the time."""
    node = History()
    first = node.look(FAST, workload()).versions
    assert node.look(FAST, workload(), at=moment(12)).versions == first


def _damaged(obj: Versioned) -> Versioned:
    """The object as nobody can honour it."""
    changes: dict[str, dict[str, Any]] = {
        "PowerProfile": {"cpu_capacity": 0},
        "Uncore": {"sys_min": 2, "sys_max": 1},
        "PowerCap": {"source": CapSource()},
        "PowerNodeConfig": {"reserved_cpus": (ReservedCpus((-1,), None),)},
    }
    return edited(obj, **changes[type(obj).__name__])  # type: ignore[no-any-return]


def _all_damaged(wanted: Intent, which: set[tuple[str, str, str]]) -> Intent:
    def made(items: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            _damaged(item) if (type(item).__name__, item.group, item.meta.name) in which else item
            for item in items
        )

    return evolve(
        wanted,
        profiles=made(wanted.profiles),
        uncores=made(wanted.uncores),
        caps=made(wanted.caps),
        node_configs=made(wanted.node_configs),
    )


@given(scenarios(), st.data())
def test_no_edit_that_cannot_be_honoured_changes_what_a_plan_asks_for(
    scenario: Scenario, data: st.DataObject
) -> None:
    """Whatever is in force without errors, and whichever of it is spoiled at once."""
    before = scenario.plan()
    names = [
        (type(item.obj).__name__, item.obj.group, item.obj.meta.name) for item in before.versions
    ]
    spoiled = {name for name in names if data.draw(st.booleans())}
    item = evolve(scenario.item, versions=Versions(before.versions))
    after = plan_node(_all_damaged(scenario.intent, spoiled), item, scenario.instant)
    assert asked(after) == asked(before)
    assert {(problem.object) for problem in with_code(after.problems, Code.LAST_VALID)} == {
        f"{kind}/{name}" for kind, _, name in spoiled
    }
    assert [evolve(item, since=None) for item in after.versions] == [
        evolve(item, since=None) for item in before.versions
    ]
