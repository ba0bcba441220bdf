"""All inputs of one plan together."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from attrs import evolve, frozen
from hypothesis import strategies as st

from kpm_planner.caps.schedule import CapState, Reading, Signals
from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import Intent
from kpm_planner.model.quantities import UW
from kpm_planner.plan import NodeInput, NodePlan, plan_node
from tests.strategies.choices import often, pick
from tests.strategies.machines import MOST_CPUS, TESTED, UNTRIED, Driver, draw_machine
from tests.strategies.objects import NODE, TIME_ZONES, draw_intent
from tests.strategies.pods import draw_allocation

ZONES = {name: ZoneInfo(name) for name in TIME_ZONES}
#: Just before, at and after moments at which a clock is turned, and days without any such moment.
INSTANTS = tuple(
    datetime.fromisoformat(text).replace(tzinfo=UTC) + timedelta(minutes=minutes)
    for text in (
        "2026-06-17T11:29:30",
        "2026-03-29T01:00:00",
        "2026-10-25T01:00:00",
        "2026-03-08T07:00:00",
        "2026-11-01T06:00:00",
        "2026-04-04T15:00:00",
        "2026-10-03T15:30:00",
        "2026-02-15T02:00:00",
        "2026-03-22T02:00:00",
        "2011-12-30T10:00:00",
        "2025-12-31T23:59:30",
    )
    for minutes in (0, -1, 29, 300, -700)
)


@frozen
class Scenario:
    """What a cluster wants, one node of it, and when."""

    intent: Intent
    item: NodeInput
    instant: datetime = INSTANTS[0]

    @property
    def machine(self) -> Machine:
        """The node's machine."""
        return self.item.machine

    def plan(self) -> NodePlan:
        """The plan of the node."""
        return plan_node(self.intent, self.item, self.instant)

    def with_item(self, **changes: Any) -> "Scenario":
        """The same with another node, machine, allocation or signals."""
        return evolve(self, item=evolve(self.item, **changes))


@st.composite
def scenarios(
    draw: st.DrawFn,
    *,
    awkward: bool | None = None,
    drivers: Sequence[Driver | None] = (*TESTED, *TESTED, *UNTRIED, None),
    most_cpus: int = MOST_CPUS,
) -> Scenario:
    """A scenario. awkward: None for either kind, False for one in which nothing is wrong by
    construction.
    """
    machine = draw_machine(draw, drivers=drivers, most_cpus=most_cpus)
    odd = pick(draw, (False, True))[0] if awkward is None else awkward
    intent = draw_intent(draw, machine, awkward=odd)
    group = intent.profiles[0].group if intent.profiles else "power.openshift.io"
    allocation = draw_allocation(draw, machine, group=group, awkward=odd)
    (instant,) = pick(draw, INSTANTS)
    return Scenario(
        intent,
        NodeInput(
            NODE, machine, allocation, draw_signals(draw, intent, machine, instant, awkward=odd)
        ),
        instant,
    )


def draw_signals(
    draw: st.DrawFn, intent: Intent, machine: Machine, instant: datetime, *, awkward: bool = False
) -> Signals:
    """What caps follow: answers of external sources, measured power, and what the node was capped
    at before.

    awkward: answers that are stale, missing or no sensible number.
    """
    names = sorted({cap.meta.name for cap in intent.caps})
    watts, age, missing, first, second, unmeasured = pick(
        draw,
        (180.0, 0.0, 62.5, *((float("inf"), -3.0, 1e300) if awkward else ())),
        (0, 30, -5, 60, *((700, 86_400) if awkward else ())),
        often(False, awkward),
        (80, 0, 400),
        (80, 150),
        often(False, True),
    )
    name, uw, rose = pick(
        draw, ("", "b", "none", *names), (20, 100, 1000), (None, 0, 45, 120, 86_400)
    )
    readings = (
        {} if missing else {cap: Reading(watts, instant - timedelta(seconds=age)) for cap in names}
    )
    measured = {
        zone.package: (first, second)[zone.package % 2] * UW
        for zone in machine.power_zones
        if not (unmeasured and zone.package)
    }
    previous = (
        None
        if name == "none"
        else CapState(name, uw * UW, None if rose is None else instant - timedelta(seconds=rose))
    )
    return Signals(ZONES, readings, measured, previous)
