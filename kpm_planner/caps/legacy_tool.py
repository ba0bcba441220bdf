"""What the earlier capping tool's settings come to, on packages instead of on every constraint
alike (pure).

Its one number for every constraint of every zone is not kept: a node's budget is divided over its
packages (field report 36).
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import assert_never

from attrs import field, frozen

from kpm_planner.caps.division import MOST_UW, UNIT_UW, divided
from kpm_planner.caps.schedule import sun
from kpm_planner.caps.zones import CapTarget
from kpm_planner.model.machine import PowerZone
from kpm_planner.model.why import Why

_SUNRISE, _SUNSET = 4 * 60, 20 * 60


class PmaxFunc(StrEnum):
    """How the limits that were there at the start make one number."""

    MIN = "min"
    MAX = "max"
    AVG = "avg"
    SUM = "sum"


class CalcMode(StrEnum):
    """What a volume is compared with: the largest of the day, or the average."""

    MAX = "max"
    AVERAGE = "average"


@frozen
class Trade:
    """What was traded in one period of a day: minutes from midnight, MWh, € a MWh."""

    begins: int
    ends: int
    volume: float
    price: float

    @property
    def name(self) -> str:
        """The period as the files have it; the last one ends at 24:00."""
        return (
            f"{self.begins // 60:02}:{self.begins % 60:02}-{self.ends // 60:02}:{self.ends % 60:02}"
        )


@frozen
class CapSettings:
    """The settings of the earlier tool.

    Units: µW. min_uw: of each package. ratio_floor: per cent, None where limits are not scaled but
    set.
    """

    max_source_uw: int = 40_000_000
    alpha: float = 4
    min_uw: int = 10_000_000
    ratio_floor: float | None = None
    pmax_func: PmaxFunc = PmaxFunc.MAX
    mode: CalcMode = CalcMode.MAX


@frozen
class Capped:
    """What is set: the node's power by the targets, µW, and the targets."""

    uw: int
    targets: tuple[CapTarget, ...] = field(default=())


def solar_uw(settings: CapSettings, minute: float) -> int:
    """MAX_SOURCE x sin(pi/16 x (t - 4)) ^ ALPHA from 4 to 20 hours, 0 outside."""
    return int(settings.max_source_uw * sun(minute, _SUNRISE, _SUNSET, settings.alpha))


def trade_at(trades: Sequence[Trade], minute: float) -> Trade | None:
    """The period that a minute of the day lies in; the last one holds until midnight."""
    return next((trade for trade in trades if trade.begins <= minute < trade.ends), None)


def market_uw(trades: Sequence[Trade], trade: Trade, maximum_uw: int, mode: CalcMode) -> int:
    """The maximum x volume of now / largest (or average) volume of the day, never above the
    maximum.
    """
    volumes = [item.volume for item in trades]
    top = max(volumes) if mode is CalcMode.MAX else sum(volumes) / len(volumes)
    return min(int(maximum_uw * (trade.volume / top)), maximum_uw) if top > 0 else 0


def pmax_uw(zones: Sequence[PowerZone], func: PmaxFunc) -> int:
    """One number out of the limits that were there at the start, those of 0 left out; 0 where there
    is none.
    """
    limits = [limit.limit_uw for zone in zones for limit in zone.limits if limit.limit_uw]
    if not limits:
        return 0
    match func:
        case PmaxFunc.MIN:
            return min(limits)
        case PmaxFunc.MAX:
            return max(limits)
        case PmaxFunc.AVG:
            return sum(limits) // len(limits)
        case PmaxFunc.SUM:
            return sum(limits)
        case _:
            assert_never(func)


def maximum_uw(zones: Sequence[PowerZone]) -> int | None:
    """The most that firmware allows all packages together, of long-term limits alone; None where
    one names none (field report 36).
    """
    tops = [zone.limits[0].max_uw for zone in zones if zone.limits]
    return sum(top for top in tops if top is not None) if tops and None not in tops else None


def capped(settings: CapSettings, zones: Sequence[PowerZone], source_uw: int) -> Capped:
    """The limits of all packages for the power that a source has. zones: with the limits of the
    start.
    """
    if settings.ratio_floor is not None:
        return _scaled(settings, zones, source_uw)
    maximum = maximum_uw(zones)
    budget = max(
        min(source_uw, maximum if maximum is not None else source_uw), settings.min_uw * len(zones)
    )
    tops = [min(zone.limits[0].max_uw or MOST_UW, MOST_UW) for zone in zones]
    parts = divided(budget, [1] * len(zones), min([settings.min_uw, *tops]), tops)
    why = f"node budget {budget} µW, divided over {len(zones)} packages"
    return _made(
        zones,
        [
            [part] + [None if _above(limit.limit_uw, part) else part for limit in zone.limits[1:]]
            for zone, part in zip(zones, parts, strict=True)
        ],
        why,
    )


def _above(limit: int | None, part: int) -> bool:
    """Whether the short-term limit may stay: it is not below the long-term one."""
    return limit is not None and limit >= part


def _scaled(settings: CapSettings, zones: Sequence[PowerZone], source_uw: int) -> Capped:
    """Each limit of the start by the ratio of source and pmax, the long-term ones together never
    above the source, not below RAPL_LIMIT per cent.
    """
    pmax, whole = (
        pmax_uw(zones, settings.pmax_func),
        sum(zone.limits[0].limit_uw or 0 for zone in zones if zone.limits),
    )
    ratio = max(
        min([source_uw / top for top in (pmax, whole) if top], default=1.0),
        (settings.ratio_floor or 0) / 100,
    )
    ratio = min(ratio, 1.0)
    limits = [
        [
            (
                None
                if not limit.limit_uw
                else max(int(limit.limit_uw * ratio), min(settings.min_uw, limit.limit_uw))
            )
            for limit in zone.limits
        ]
        for zone in zones
    ]
    return _made(zones, limits, f"limits of the start x {ratio:.3f}")


def _made(zones: Sequence[PowerZone], limits: Sequence[Sequence[int | None]], why: str) -> Capped:
    rounded = [
        tuple(None if uw is None else uw // UNIT_UW * UNIT_UW for uw in wanted) for wanted in limits
    ]
    targets = tuple(
        CapTarget(zone, wanted, (Why(why),)) for zone, wanted in zip(zones, rounded, strict=True)
    )
    return Capped(sum(wanted[0] or 0 for wanted in rounded if wanted), targets)
