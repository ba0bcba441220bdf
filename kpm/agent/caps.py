"""What the agent's plans need for power caps: readings, measured power, and the cap that is in force."""

import time
from datetime import UTC, datetime

from attrs import define, field

from kpm.agent.external import External
from kpm.agent.machine import Tuner
from kpm.signals import signals_of
from kpm_planner.budget import CapState, Signals, period_of
from kpm_planner.intent import Intent
from kpm_planner.plan import NodePlan


@define(eq=False)
class CapFollower:
    """The signals of one agent. Wall clock for schedules, monotonic for measuring."""

    tuner: Tuner
    external: External
    _previous: CapState | None = None
    _known: bool = False
    _measured: dict[int, int] = field(factory=dict)
    _measure_at: float = 0.0

    def signals(self, intent: Intent) -> Signals:
        """The signals of now; nothing is measured or asked where no cap wants it."""
        self.external.follow(intent.caps)
        if not intent.caps:
            return Signals()
        if not self._known:  # a new process goes on from the limits that are in force
            self._previous, self._known = self.tuner.cap_in_force(), True
        self._measure(intent)
        return signals_of(intent.caps, self.external.readings(), self._measured, self._previous)

    def planned(self, plan: NodePlan) -> None:
        """Take note of the cap that a plan set."""
        self._previous = plan.cap_state
        if not plan.by_demand:
            self._measured = {}

    def due(self, plan: NodePlan) -> bool:
        """Whether time alone has made another plan of it."""
        return plan.valid_until is not None and datetime.now(UTC) >= plan.valid_until

    def wait(self, plan: NodePlan) -> float | None:
        """Seconds until then."""
        return None if plan.valid_until is None else max(0.0, (plan.valid_until - datetime.now(UTC)).total_seconds())

    def stop(self) -> None:
        """Ask nobody any more."""
        self.external.stop()

    def _measure(self, intent: Intent) -> None:
        """Sample once a period, where a cap is divided by demand."""
        dividing = [cap for cap in intent.caps if cap.divide == "demand"]
        now = time.monotonic()
        if dividing and now >= self._measure_at:
            self._measure_at = now + min(period_of(cap).total_seconds() for cap in dividing) * 0.9
            self._measured = self.tuner.measure(now) or self._measured
