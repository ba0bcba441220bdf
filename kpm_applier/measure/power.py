"""How much power each package takes, out of energy counters and power inputs (kernel documentation,
powercap and hwmon).

Read only while a power budget is divided by demand: reading RAPL's counter runs on a CPU of the
package (rule A1).
"""

from collections.abc import Iterable

from attrs import define, field

from kpm_applier.sysfs.host import Host
from kpm_applier.sysfs.reader import Reader
from kpm_planner.energy.meters import Meter, energy_between
from kpm_planner.model.machine import PowerZone
from kpm_planner.model.problems import Code

_US = 1_000_000


@define
class PowerMeter:
    """The power of packages between two samples. seconds, counters: of the last sample, by zone."""

    host: Host
    _seconds: float | None = None
    _counters: dict[str, int] = field(factory=dict)

    def sample(self, zones: Iterable[PowerZone], seconds: float) -> dict[int, int]:
        """Package → µW since the last sample; packages of which that is not known are left out.
        seconds: monotonic.

        A counter that fell has wrapped once where that makes a possible power, else the sample is
        dropped (field report 33).
        """
        reader = Reader(self.host, {}, {})
        counters: dict[str, int] = {}
        found: dict[int, int] = {}
        lost: set[int] = set()
        took = None if self._seconds is None else seconds - self._seconds
        for zone in zones:
            uw = _input(reader, zone)
            if uw is None:
                uw = self._rate(reader, zone, took, counters)
            if uw is None:
                lost.add(zone.package)
            else:
                found[zone.package] = found.get(zone.package, 0) + uw
        self._seconds, self._counters = seconds, counters
        return {package: uw for package, uw in found.items() if package not in lost}

    def _rate(
        self, reader: Reader, zone: PowerZone, took: float | None, counters: dict[str, int]
    ) -> int | None:
        now = reader.number(f"{zone.id}/energy_uj")
        if now is None:
            return None
        counters[zone.id] = now
        before = self._counters.get(zone.id)
        if before is None or not took or took <= 0:
            return None
        reach = reader.number(f"{zone.id}/max_energy_range_uj") if now < before else None
        meter = Meter(zone.id, "package", range_uj=reach or None)
        passed = energy_between(meter, before, now, round(took * _US))
        return None if passed.fault not in (None, Code.ENERGY_WRAPPED) else int(passed.uj / took)


def _input(reader: Reader, zone: PowerZone) -> int | None:
    """What the firmware of an AMD socket says it takes, µW."""
    if zone.control == "hsmp":
        milli = reader.number(f"{zone.id}/power_mw")
        return None if milli is None else milli * 1000
    return reader.number(f"{zone.id}/power1_input") if zone.control == "amd_hsmp_hwmon" else None
