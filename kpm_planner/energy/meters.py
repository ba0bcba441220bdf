"""Meters of energy as values, and how much passed through one between two readings.

Units: µJ, µW, µs. Source: kernel documentation of powercap and hwmon; field reports 33 and 34.
"""

from collections.abc import Collection, Iterable

from attrs import frozen

from kpm_planner.model.problems import Code

_US = 1_000_000

#: Zones that do not contain each other: their energy may be added up.
APART = ("package", "dram")
#: Zones that are the whole machine, the one that is believed first.
WHOLE = ("psys", "platform")
#: Names of zones that mean the same everywhere; a part of a board has its label.
ZONES = frozenset({*APART, *WHOLE, "core", "uncore", "other"})
#: The most that can pass through a meter, µW; above that a reading is wrong. No package of today
#: comes near.
MOST_UW = {
    "package": 2_000 * _US,
    "core": 2_000 * _US,
    "uncore": 1_000 * _US,
    "dram": 1_000 * _US,
    "psys": 20_000 * _US,
    "platform": 20_000 * _US,
}


@frozen
class Meter:
    """A source of energy readings.

    id: its file below /sys, or another name that stays. zone: package, core, uncore, dram, psys,
    platform. source: rapl, amd_energy, amd_hsmp_hwmon, hwmon, battery, estimated. package, die:
    None where it measures the whole machine. range_uj: where the counter begins again at 0; None
    where that is not known. power: whether it shows power and not energy. volts: of a sensor of
    amperes, the file (mV) that it (mA) is multiplied by. A zone that is none of ZONES is a part by
    its label.
    """

    id: str
    zone: str
    source: str = "rapl"
    package: int | None = None
    die: int | None = None
    range_uj: int | None = None
    power: bool = False
    volts: str = ""

    @property
    def place(self) -> str:
        """Where in the machine it measures: package-0, package-0-die-1, or node."""
        if self.package is None:
            return "node"
        return (
            f"package-{self.package}"
            if self.die is None
            else f"package-{self.package}-die-{self.die}"
        )

    @property
    def most_uw(self) -> int:
        """The most that can pass through it."""
        return MOST_UW.get(self.zone, MOST_UW["platform"])


@frozen
class Passed:
    """What passed through a meter. uj: never negative; fault: why it is not known, or not known for
    sure.
    """

    uj: int = 0
    fault: Code | None = None


def whole_zone(zones: Collection[str]) -> str:
    """The one of some zones that is the whole machine, "" for none."""
    return next((zone for zone in WHOLE if zone in zones), "")


def telling(zones: Iterable[str]) -> tuple[str, ...]:
    """Those of some zones whose sum tells what a node takes: packages and memory, else the whole by
    one of its names; none of parts alone.
    """
    known = set(zones)
    apart = tuple(zone for zone in APART if zone in known)
    whole = whole_zone(known)
    return apart or ((whole,) if whole else ())


def energy_between(
    meter: Meter, before: int | None, after: int | None, elapsed_us: int, *, suspended: bool = False
) -> Passed:
    """The energy between two readings (µJ, or µW of a meter that shows power).

    A counter that fell has wrapped once where that makes a possible power, else it has begun anew
    and the interval is lost; so it is where the machine slept, as counters may begin anew then.
    Where the interval is long enough for more than one wrap the energy is the least that it can be,
    and marked. A reading below 0 is none.
    """
    if after is None or after < 0:
        return Passed(fault=Code.ENERGY_UNREADABLE)
    if before is None or before < 0 or elapsed_us <= 0:
        return Passed()
    if meter.power:
        return _integrated(meter, before, after, elapsed_us)
    if suspended:
        return Passed(fault=Code.ENERGY_RESET)
    most_uj = meter.most_uw * elapsed_us // _US
    if after < before:
        return _fallen(meter, before, after, most_uj)
    if after - before > most_uj:
        return Passed(fault=Code.ENERGY_IMPLAUSIBLE)
    return Passed(after - before, _long(meter, most_uj))


def _integrated(meter: Meter, before: int, after: int, elapsed_us: int) -> Passed:
    if max(before, after) > meter.most_uw:
        return Passed(fault=Code.ENERGY_IMPLAUSIBLE)
    return Passed((before + after) * elapsed_us // (2 * _US))


def _fallen(meter: Meter, before: int, after: int, most_uj: int) -> Passed:
    if not meter.range_uj or before > meter.range_uj:
        return Passed(fault=Code.ENERGY_RESET)
    wrapped = meter.range_uj - before + after
    return (
        Passed(fault=Code.ENERGY_RESET)
        if wrapped > most_uj
        else Passed(wrapped, _long(meter, most_uj))
    )


def _long(meter: Meter, most_uj: int) -> Code | None:
    return Code.ENERGY_WRAPPED if meter.range_uj and most_uj > meter.range_uj else None
