"""What a node's agent says of its power caps: whether they are in force, and where not, why
(field report 35).
"""

import errno

import pytest
from attrs import evolve

from kpm_planner.caps.zones import CapTarget
from kpm_planner.fabric import FabricTarget
from kpm_planner.model.changes import Outcome, Pass, Status
from kpm_planner.model.machine import Fabric, Machine, PowerLimit, PowerZone
from kpm_planner.plan import NodePlan
from kpm_planner.report.node import node_state
from kpm_planner.report.types import Condition, FabricState, PowerCapState

ZONE = PowerZone(
    "z",
    "package-0",
    "intel-rapl",
    0,
    None,
    True,
    (
        PowerLimit("long_term", "a", 165_000_000, 165_000_000),
        PowerLimit("short_term", "b", 198_000_000),
    ),
)
PLAN = NodePlan("n", caps=(CapTarget(ZONE, (100_000_000, None)),))


def honoured(
    *outcomes: Outcome,
    plan: NodePlan = PLAN,
    shows: int | None = 100_000_000,
    on: bool = True,
    last: Pass = Pass(),
) -> Condition | None:
    """The condition, where the long-term limit's file shows this."""
    zone = evolve(ZONE, enabled=on, limits=(evolve(ZONE.limits[0], limit_uw=shows), ZONE.limits[1]))
    state = node_state(plan, Machine(power_zones=(zone,)), evolve(last, outcomes=outcomes), (), {})
    return next((item for item in state.conditions if item.type == "CapHonoured"), None)


def failed(number: int, path: str = "z/a") -> Outcome:
    return Outcome(path, "cap:package-0", Status.FAILED, "100000000", "165000000", number)


def test_what_is_in_force_is_said_and_nothing_where_nothing_is_asked() -> None:
    """Nor where nothing may be written."""
    found = honoured()
    assert found is not None
    assert (found.status, found.reason) == ("True", "InForce")
    assert honoured(plan=NodePlan("n", caps=(CapTarget(ZONE, (None, None)),))) is None
    assert honoured(plan=NodePlan("n")) is None
    assert honoured(last=Pass(measure_only=True), shows=165_000_000) is None
    assert honoured(last=Pass(refused="locked"), shows=165_000_000) is None


@pytest.mark.parametrize(
    ("outcomes", "shows", "on", "reason"),
    [
        ((failed(errno.ENODATA),), 165_000_000, True, "Locked"),
        ((), 165_000_000, True, "Locked"),
        ((failed(errno.ETIMEDOUT),), 165_000_000, True, "NoAnswer"),
        ((failed(errno.EIO),), 165_000_000, True, "NotWritten"),
        ((failed(errno.EIO),), None, True, "NotWritten"),
        ((failed(errno.ENOSYS, "z/enabled"),), 100_000_000, False, "NoSwitch"),
        ((), 99_875_000, True, "InForce"),
        ((), 99_000_001, True, "InForce"),
        ((), 100_999_999, True, "InForce"),
        ((), 99_000_000, True, "Locked"),
        ((), 101_000_000, True, "Locked"),
        (
            (failed(errno.EIO, "elsewhere/a"), failed(errno.ETIMEDOUT, "z/df_pstate")),
            100_000_000,
            True,
            "InForce",
        ),
    ],
)
def test_why_a_cap_is_not_in_force(
    outcomes: tuple[Outcome, ...], shows: int | None, on: bool, reason: str
) -> None:
    """By what the files show now, whether or not the last pass wrote them; rounding is no
    hindrance, nor what becomes of other files.
    """
    condition = honoured(*outcomes, shows=shows, on=on)
    assert condition is not None
    assert (condition.status, condition.reason) == (
        "True" if reason == "InForce" else "False",
        reason,
    )
    assert reason == "InForce" or "z/" in condition.message


def test_a_lower_twin_is_said() -> None:
    """The effective cap is the lower of both."""
    found = [
        honoured(
            plan=NodePlan("n", caps=(CapTarget(evolve(ZONE, mirror_uw=uw), (100_000_000, None)),))
        )
        for uw in (60_000_000, 100_000_000)
    ]
    assert [item.reason for item in found if item is not None] == ["LowerTwin", "InForce"]


def test_limits_fabrics_and_turbo_are_in_the_state() -> None:
    """What is asked beside what is shown, in mW; nothing of what is left at baseline."""
    plan = evolve(
        PLAN, fabrics=(FabricTarget(Fabric(0), "2 1"), FabricTarget(Fabric(1))), boost=False
    )
    state = node_state(plan, Machine(power_zones=(ZONE,)), Pass(), (), {})
    assert state.power_caps == (PowerCapState("package-0", "long_term", 100_000, 165_000),)
    assert state.fabrics == (FabricState(0, "2 1"),)
    assert state.turbo is False
