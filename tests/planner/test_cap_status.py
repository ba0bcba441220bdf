"""What a node's agent says of its power caps: whether they are in force, and where not, why (user-asks 35)."""

import errno

import pytest
from attrs import evolve

from kpm_planner.caps import CapTarget
from kpm_planner.changes import Outcome, Status
from kpm_planner.fabric import FabricTarget
from kpm_planner.machine import Fabric, Machine, PowerLimit, PowerZone
from kpm_planner.plan import NodePlan
from kpm_planner.state_types import CapState, Condition, FabricState
from kpm_planner.status import Pass, node_state

ZONE = PowerZone("z", "package-0", "intel-rapl", 0, None, True, (PowerLimit("long_term", "a", 165_000_000, 165_000_000), PowerLimit("short_term", "b", 198_000_000)))
PLAN = NodePlan("n", caps=(CapTarget(ZONE, (100_000_000, None)),))


def honoured(*outcomes: Outcome, plan: NodePlan = PLAN) -> Condition | None:
    state = node_state(plan, Machine(power_zones=(ZONE,)), Pass(outcomes), (), {})
    return next((item for item in state.conditions if item.type == "CapHonoured"), None)


def outcome(status: Status, wanted: str = "100000000", shows: str | None = "100000000", number: int | None = None, path: str = "z/a") -> Outcome:
    return Outcome(path, "cap:package-0", status, wanted, shows, number)


def test_what_is_in_force_is_said_and_nothing_where_nothing_is_asked() -> None:
    found = honoured()
    assert found is not None
    assert (found.status, found.reason) == ("True", "InForce")
    assert honoured(plan=NodePlan("n", caps=(CapTarget(ZONE, (None, None)),))) is None
    assert honoured(plan=NodePlan("n")) is None


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (outcome(Status.FAILED, shows="165000000", number=errno.ENODATA), "Locked"),
        (outcome(Status.LIMITED, shows="165000000"), "Locked"),
        (outcome(Status.FAILED, "1", "0", errno.ENOSYS, "z/enabled"), "NoSwitch"),
        (outcome(Status.FAILED, number=errno.ETIMEDOUT), "NoAnswer"),
        (outcome(Status.FAILED, number=errno.EIO), "NotWritten"),
        (outcome(Status.LIMITED, shows="99875000"), "InForce"),
        (outcome(Status.FAILED, number=errno.EIO, path="elsewhere/a"), "InForce"),
    ],
)
def test_why_a_cap_is_not_in_force(found: Outcome, reason: str) -> None:
    """ENODATA and a kept value are a lock, ENOSYS no switch; rounding is none of these."""
    condition = honoured(found)
    assert condition is not None
    assert (condition.status, condition.reason) == ("True" if reason == "InForce" else "False", reason)
    assert reason == "InForce" or found.path in condition.message


def test_a_lower_twin_is_said() -> None:
    """The effective cap is the lower of both."""
    lower = evolve(ZONE, mirror_uw=60_000_000)
    condition = honoured(plan=NodePlan("n", caps=(CapTarget(lower, (100_000_000, None)),)))
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "LowerTwin")
    assert honoured(plan=NodePlan("n", caps=(CapTarget(evolve(ZONE, mirror_uw=100_000_000), (100_000_000, None)),))).reason == "InForce"  # type: ignore[union-attr]


def test_limits_fabrics_and_turbo_are_in_the_state() -> None:
    """What is asked beside what is shown, in mW; nothing of what is left at baseline."""
    plan = evolve(PLAN, fabrics=(FabricTarget(Fabric(0), "2 1"), FabricTarget(Fabric(1))), boost=False)
    state = node_state(plan, Machine(power_zones=(ZONE,)), Pass(), (), {})
    assert state.power_caps == (CapState("package-0", "long_term", 100_000, 165_000),)
    assert state.fabrics == (FabricState(0, "2 1"),)
    assert state.turbo is False
