"""The agent's own metrics: what the power side knows; docs/user/energy.md lists them with those of
energy.
"""

from collections import Counter as Counting
from collections.abc import Iterable, Mapping

from attrs import frozen
from prometheus_client import CollectorRegistry, Counter, Gauge

from kpm.agent.machine import Tuner
from kpm_planner.model.quantities import UW
from kpm_planner.plan import NodePlan
from kpm_planner.report.types import Condition


@frozen
class AgentMetrics:
    """The agent's own metrics."""

    passes: Counter
    written: Counter
    drift: Counter
    problems: Gauge
    seconds: Gauge
    caps: Gauge
    speeds: Gauge
    busy: Gauge
    conditions: Gauge

    @classmethod
    def on(cls, registry: CollectorRegistry) -> "AgentMetrics":
        """Register them."""
        return cls(
            passes=Counter("kpm_agent_passes", "Passes made.", registry=registry),
            written=Counter(
                "kpm_agent_files_written", "Files of sysfs written.", registry=registry
            ),
            drift=Counter(
                "kpm_agent_foreign_values", "Values that somebody else wrote.", registry=registry
            ),
            problems=Gauge(
                "kpm_agent_problems",
                "Problems of the plan in force.",
                ["severity", "code"],
                registry=registry,
            ),
            seconds=Gauge(
                "kpm_agent_apply_seconds",
                "How long the last pass took to compare, write and verify.",
                registry=registry,
            ),
            caps=Gauge(
                "kpm_agent_power_cap_watts",
                "Power limits that are asked for.",
                ["zone", "limit"],
                registry=registry,
            ),
            speeds=Gauge(
                "kpm_agent_scaled_khz",
                "Frequency that telemetry of a polling workload has led to.",
                ["domain"],
                registry=registry,
            ),
            busy=Gauge(
                "kpm_agent_scaled_busy_percent",
                "Busy share of the polling loop in its last sample.",
                ["domain"],
                registry=registry,
            ),
            conditions=Gauge(
                "kpm_agent_condition",
                "Conditions of the node's state: 1 for True, 0 for False.",
                ["type", "reason"],
                registry=registry,
            ),
        )

    def note(self, tuner: Tuner, plan: NodePlan, seconds: float) -> None:
        self.passes.inc()
        written, tuner.writes = tuner.writes, 0
        self.written.inc(written)
        self.drift.inc(tuner.new_drift())
        self.seconds.set(seconds)
        _set_all(
            self.problems,
            Counting((str(problem.severity), str(problem.code)) for problem in plan.problems),
        )

    def note_power(self, plan: NodePlan) -> None:
        """The power limits of a plan."""
        asked = (
            (target.zone.name, limit.name, uw)
            for target in plan.caps
            for limit, uw in zip(target.zone.limits, target.limits, strict=True)
        )
        _set_all(self.caps, {(zone, limit): uw / UW for zone, limit, uw in asked if uw is not None})

    def note_conditions(self, conditions: Iterable[Condition]) -> None:
        """What is reported of the node."""
        _set_all(
            self.conditions,
            {(item.type, item.reason): float(item.status == "True") for item in conditions},
        )

    def note_speeds(self, speeds: Mapping[int, tuple[int | None, float | None]]) -> None:
        """What the scaler said last."""
        _set_all(
            self.speeds,
            {(str(number),): khz for number, (khz, _) in speeds.items() if khz is not None},
        )
        _set_all(
            self.busy,
            {(str(number),): busy for number, (_, busy) in speeds.items() if busy is not None},
        )


def _set_all(gauge: Gauge, values: Mapping[tuple[str, ...], float]) -> None:
    """Make a gauge show these and nothing else."""
    gauge.clear()
    for labels, value in values.items():
        gauge.labels(*labels).set(value)
