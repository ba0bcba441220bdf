"""What the agent's plans need for the power cap that holds on its node: readings, measured power,
the cap that is in force.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime

from attrs import define, field

from kpm.agent.external import External
from kpm.agent.machine import Tuner
from kpm_planner.caps.schedule import CapState, Reading, Signals
from kpm_planner.model.cap_objects import PowerCap
from kpm_planner.plan import NodePlan

#: Seconds between a plan's end and its next look at least: a clock that runs unevenly must not make
#: the loop spin.
_SHORTEST = 0.05
#: A clock that was set back by more than so many seconds makes another plan.
_BACK = 2.0


@define(eq=False)
class CapFollower:
    """The signals of one agent. Wall clock for schedules, monotonic for measuring."""

    tuner: Tuner
    external: External
    _previous: CapState | None = None
    _parts: dict[int, int] = field(factory=dict)
    _known: bool = False
    _measured: dict[int, int] = field(factory=dict)
    _measure_at: float = 0.0
    _planned_at: datetime | None = None

    def signals(
        self, cap: PowerCap | None, published: Mapping[str, Reading] | None = None
    ) -> Signals:
        """The signals of now for the cap that holds here; nothing is measured or asked that it does
        not want.

        published: answers of servers as the caps' statuses have them, by PowerCap.
        """
        self.external.follow(cap)
        if cap is None:
            self._measured = {}
            return Signals()
        if not self._known:  # a new process goes on from the limits that are in force
            self._previous, self._parts = self.tuner.cap_in_force()
            self._known = True
        self._measure(cap)
        from kpm.request.readings import signals_of

        answers = {
            name: reading
            for name, reading in (published or {}).items()
            if name == cap.meta.name and cap.source.external is not None and cap.source.external.url
        }
        return signals_of(
            [cap],
            {**answers, **self.external.readings()},
            self._measured,
            self._previous,
            self._parts,
        )

    def planned(self, plan: NodePlan, instant: datetime) -> None:
        """Take note of the cap that a plan set, and when it was made."""
        self._previous, self._planned_at = plan.cap_state, instant
        if self._measured:
            self._parts = {}

    def due(self, plan: NodePlan) -> bool:
        """Whether time alone has made another plan of it: it is over, or the clock was set back
        before it.
        """
        if plan.valid_until is None:
            return False
        now = datetime.now(UTC)
        return now >= plan.valid_until or (
            self._planned_at is not None and (self._planned_at - now).total_seconds() > _BACK
        )

    def wait(self, plan: NodePlan) -> float | None:
        """Seconds until then."""
        return (
            None
            if plan.valid_until is None
            else max(_SHORTEST, (plan.valid_until - datetime.now(UTC)).total_seconds())
        )

    def stop(self) -> None:
        """Ask nobody any more."""
        self.external.stop()

    def _measure(self, cap: PowerCap) -> None:
        """Sample once a period, where the cap is divided by demand."""
        now = time.monotonic()
        if cap.divide != "demand":
            self._measured = {}
        elif now >= self._measure_at:
            self._measure_at = now + cap.interval.total_seconds() * 0.9
            self._measured = self.tuner.measure(now) or self._measured
