"""The machine as the agent handles it: one applier, opened when its lock is free, and how its last
pass went.
"""

import errno
from collections.abc import Callable, Collection

from attrs import define, evolve, field

from kpm.agent.selftest import refusals
from kpm.process.logs import Log
from kpm.process.memory import Memory, path_beside
from kpm_applier.discovery.discover import HostError
from kpm_applier.measure.power import PowerMeter
from kpm_applier.session import Applier, Report
from kpm_applier.state.baseline import cap_in_force
from kpm_applier.state.record import StateError
from kpm_planner.caps.schedule import CapState
from kpm_planner.model.changes import Pass, Reason, Write
from kpm_planner.model.machine import Machine
from kpm_planner.plan import NodePlan


@define
class Tuner:
    """One machine. refused: why nothing can be written now, or nothing; forbidden: files that
    cannot be, with the remedy.

    names_states: idle states are set one by one, which needs a capability.
    """

    make: Callable[[], Applier]
    log: Log
    measure_only: bool = False
    names_states: bool = True
    applier: Applier | None = None
    last: Pass = Pass()
    refused: str = ""
    forbidden: tuple[str, ...] = ()
    writes: int = 0
    memory: Memory = field(factory=Memory)
    _counted: int = 0
    _proven: bool = False
    _meter: PowerMeter | None = None
    _empty: tuple[str, ...] = ()

    def ready(self) -> bool:
        """Open the applier if it is not; False where it cannot be, which is tried again at the next
        pass.
        """
        if self.applier is not None:
            return True
        applier = None
        try:
            applier = self.make()
            applier.open(writing=not self.measure_only)
        except (StateError, HostError, OSError) as failure:
            if applier is not None:
                applier.close()
            self._refuse(str(failure))
            return False
        self.applier, self.refused, self._counted = applier, "", 0
        self._recall(path_beside(applier.store.path))
        self._proven = False
        self._say_empty()
        return True

    def _recall(self, path: str) -> None:
        """Read what was remembered, unless it is known already."""
        if path != self.memory.path:
            self.memory = Memory(path)
            if self.memory.note:
                self.log.warning("last valid versions are lost", why=self.memory.note)

    def _say_empty(self) -> None:
        """A line about files that are empty, once: they have no value, so they are not managed."""
        discovery = self._open.discovery
        found = (
            ()
            if discovery is None
            else tuple(
                sorted(
                    path
                    for path, number in discovery.observed.errors.items()
                    if number == errno.ENODATA
                )
            )
        )
        if found and found != self._empty:
            self.log.warning("empty files are not managed", files=len(found), first=found[0])
        self._empty = found

    def prove(self) -> None:
        """Try once whether files can be written; `names_states` must be known by now."""
        if self._proven or self.measure_only:
            return
        self._proven, self.forbidden = True, refusals(self._open, names_states=self.names_states)
        for line in self.forbidden:
            self.log.warning("self-test", refused=line)

    def new_drift(self) -> int:
        """How many foreign values were found since this was asked last;
        one that stays counts once.
        """
        if self.applier is None:
            return 0
        before, self._counted = self._counted, self.applier.drift_count
        return self._counted - before

    def machine(self) -> Machine:
        """The machine with its baseline, for the planner."""
        return self._open.machine

    def shown(self) -> Machine:
        """The machine with what its files show."""
        return self._open.shown

    @property
    def seen(self) -> object:
        """A mark of what was last seen of the machine: another object
        whenever something new was.
        """
        return self._open.discovery

    def look_anew(self, plugged: Collection[int] = ()) -> bool:
        """Discover again where the machine itself has changed; whether it had. plugged: CPUs that
        are known to have come or gone.
        """
        self._open.came_back(plugged)
        if not self._open.changed():
            return False
        try:
            self._open.discover()
        except (HostError, OSError) as failure:  # it is opened anew at the next pass
            self.close()
            self._refuse(str(failure))
            return False
        self.log.info("machine discovered again", online=len(self._open.machine.online))
        self._say_empty()
        return True

    def cap_in_force(self) -> tuple[CapState | None, dict[int, int]]:
        """The power that the packages are capped at by us, and its parts by package."""
        return cap_in_force(self._open.shown, self._open.state.groups)

    def measure(self, seconds: float) -> dict[int, int]:
        """Package → µW since this was asked last. seconds: monotonic."""
        if self._meter is None or self._meter.host is not self._open.host:
            self._meter = PowerMeter(self._open.host)
        return self._meter.sample(self._open.machine.power_zones, seconds)

    def apply(
        self,
        plan: NodePlan,
        planned: Callable[[Machine], NodePlan],
        accepted: frozenset[tuple[str, str]] = frozenset(),
    ) -> tuple[NodePlan, Pass]:
        """Bring the machine to a plan, or to another one of the same wishes where turbo has moved
        its limits; the plan in the end, and how it went.

        accepted: containers whose CPU counts were found right, to be remembered with the plan's
        versions.
        """
        try:
            if not self.measure_only:
                self.memory.keep(plan.versions, accepted)
            plan, report = (
                (plan, Report()) if self.measure_only else self._open.bring(planned, plan)
            )
        except (StateError, HostError, OSError) as failure:
            self._refuse(str(failure))
            self.last = Pass(settled=False, refused=str(failure), measure_only=self.measure_only)
            return plan, self.last
        self.refused = ""
        self._note(report)
        if report.writes or report.outcomes or report.drift or not self.last.settled:
            self.last = Pass(
                report.outcomes,
                report.drift,
                report.settled,
                measure_only=self.measure_only,
                forbidden=self.forbidden,
            )
        else:
            self.last = evolve(
                self.last,
                drift=(),
                refused="",
                measure_only=self.measure_only,
                forbidden=self.forbidden,
            )
        return plan, self.last

    def restore(self) -> bool:
        """Put everything back; whether all of it could be."""
        try:
            report = self._open.restore()
            self.memory.forget()
        except (StateError, HostError, OSError) as failure:
            self._refuse(str(failure))
            return False
        self._note(report)
        return report.settled

    def close(self) -> None:
        """Let go of the machine; its settings stay."""
        if self.applier is not None:
            self.applier.close()
            self.applier = None

    @property
    def _open(self) -> Applier:
        if self.applier is None:
            raise RuntimeError("the applier is not open")
        return self.applier

    def _refuse(self, reason: str) -> None:
        if reason != self.refused:
            self.log.error("nothing can be written", reason=reason)
        self.refused = reason

    def _note(self, report: Report) -> None:
        """One log line for every group that was written."""
        self.writes += len(report.writes)
        groups: dict[str, list[Write]] = {}
        for write in report.writes:
            groups.setdefault(write.group, []).append(write)
        for group, writes in groups.items():
            values = {
                (
                    write.path.rpartition("/")[2]
                    if "cpuidle" not in write.path
                    else "/".join(write.path.split("/")[-2:])
                ): f"{write.old} -> {write.value}"
                for write in writes
            }
            self.log.info(
                "written",
                group=group,
                reason=str(writes[0].reason),
                why=list(writes[0].because),
                values=values,
            )
        for write in report.drift:
            if write.reason is Reason.DRIFT:
                self.log.warning(
                    "foreign value", path=write.path, wanted=write.value, found=write.old
                )
