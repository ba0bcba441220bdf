"""The capping loop under the earlier tool's name: look at the source, set the limits, say so on the
Node; put everything back at the end.
"""

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from attrs import define, field

from kpm.kube.api import Api, ApiError
from kpm.kube.kinds import NODES
from kpm.powercap.settings import Environment, Provider
from kpm.powercap.sources import Sources, Supply
from kpm.process.errors import InputError
from kpm.process.logs import Log
from kpm_applier.session import Applier, Report
from kpm_applier.state.baseline import cap_in_force
from kpm_planner.caps.legacy_tool import capped, maximum_uw
from kpm_planner.model.changes import Status
from kpm_planner.plan import NodePlan

_PREFIX = "rapl"
_MARK = "power-manager/initialized"
_KEYS = (
    "pmax",
    "max_power_uw",
    "provider",
    "last-update",
    "market-period",
    "market-volume",
    "market-price",
)
Annotations = Mapping[str, str | None]


@define(eq=False)
class Capper:
    """One node. annotate: changes annotations of the Node, None removes one; whether it did."""

    environment: Environment
    applier: Applier
    sources: Sources
    annotate: Callable[[Annotations], bool]
    log: Log
    stopped: threading.Event = field(factory=threading.Event)
    _said: Annotations = field(factory=dict)

    def run(self) -> None:
        """Until told to stop: pass after pass. Then everything is put back."""
        while not self.stopped.is_set():
            self.once(datetime.now(UTC))
            self.stopped.wait(self.environment.stabilisation)
        self.leave()

    def once(self, instant: datetime) -> Report:
        """One pass. Errors: StateError where nothing may be written."""
        if self.applier.changed():
            self.applier.discover()
        zones = self.applier.machine.power_zones
        if not zones:
            self.log.warning(
                "no power limits",
                reason="no powercap zone of a package has limits, and no AMD driver offers one",
            )
            return Report()
        maximum = maximum_uw(zones)
        market = self.environment.provider not in (Provider.SOLAR, Provider.STATIC)
        if maximum is None and market and not self.environment.told_source:
            silent = next(
                zone.name for zone in zones if not zone.limits or zone.limits[0].max_uw is None
            )
            raise InputError(
                f"MAX_SOURCE: is missing; max_power_uw of {silent} names no maximum, and the"
                f" {self.environment.provider.value} provider needs one"
            )
        source = self.sources.at(
            instant, maximum if maximum is not None else self.environment.settings.max_source_uw
        )
        made = capped(self.environment.settings, zones, source.uw)
        report = self.applier.bring(lambda _: NodePlan(self.environment.node, caps=made.targets))[1]
        self._log(report)
        self._tell(instant, source, maximum)
        return report

    def _log(self, report: Report) -> None:
        """Say what did not become as it was asked, and what was written."""
        for item in report.outcomes:
            level = self.log.info if item.status is Status.LIMITED else self.log.warning
            level(
                "limit",
                path=item.path,
                wanted=item.wanted,
                shows=item.shows,
                status=str(item.status),
                errno=item.errno,
            )
        for write in report.writes:
            self.log.info(
                "written",
                path=write.path,
                old=write.old,
                value=write.value,
                why=list(write.because),
            )

    def leave(self) -> Report:
        """Put the limits back that were there, and take the annotations off."""
        report = self.applier.restore()
        self.log.info("limits put back", settled=report.settled, groups=list(report.released))
        self.annotate({f"{_PREFIX}/{key}": None for key in _KEYS} | {_MARK: None})
        return report

    def _tell(self, instant: datetime, source: Supply, maximum: int | None) -> None:
        """What is in force by the files themselves, where it is another than was said; a write that
        failed is not told as done.
        """
        in_force, _ = cap_in_force(self.applier.shown, self.applier.state.groups)
        trade = source.trade
        values = (
            str(in_force.uw) if in_force is not None else None,
            str(maximum) if maximum is not None else None,
            self.environment.provider.value,
            None,
            trade.name if trade else None,
            f"{trade.volume:.1f}" if trade else None,
            f"{trade.price:.2f}" if trade else None,
        )
        said = {f"{_PREFIX}/{key}": value for key, value in zip(_KEYS, values, strict=True)}
        if said != self._said and self.annotate(
            {**said, f"{_PREFIX}/last-update": instant.strftime("%Y-%m-%dT%H:%M:%SZ")}
        ):
            self._said = said


def annotator(api: Api | None, node: str, log: Log) -> Callable[[Annotations], bool]:
    """Changes annotations of a Node by a merge patch of just these keys; without an API server
    nothing is said.
    """

    def annotate(changes: Annotations) -> bool:
        try:
            if api is not None:
                api.patch(NODES, node, {"metadata": {"annotations": dict(changes)}})
        except ApiError as failure:
            log.warning("annotations failed", error=str(failure)[:200])
            return False
        return True

    return annotate
