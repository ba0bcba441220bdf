"""What a PowerCap's source asks for at an instant: a constant, the time of day, the sun, a market,
or somebody else's word (pure).

Time zones come in as values, since their rules are files. Units behind this module are µW.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from attrs import field, frozen

from kpm_planner.model.cap_objects import (
    EVERY_DAY,
    MAX_AGE,
    CapEntry,
    CapSource,
    ExternalCap,
    MarketCap,
    PowerCap,
    SolarCap,
)
from kpm_planner.model.problems import Code, Problem, error, warning
from kpm_planner.model.quantities import UW, format_watts
from kpm_planner.selection import reference

_MINUTES = 24 * 60
#: Days to look back or ahead for an entry: today and the seven beside it.
_WEEK = 8
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SHORTEST_PERIOD_S, LONGEST_PERIOD_S = 5, 3600


@frozen
class Reading:
    """What an external source last said, W, and when."""

    watts: float
    at: datetime


@frozen
class CapState:
    """The cap that a PowerCap had last, µW of the whole node, and the period in which it last rose.
    name: "" where it is not known whose.
    """

    name: str
    uw: int
    rose: datetime | None = None


@frozen
class Signals:
    """What caps follow beside the objects and the machine.

    zones: time zone by name; one that is missing does not exist. external: by PowerCap name.
    power_uw: measured by package. parts_uw: limits in force by package, where they are ours.
    previous: what the node was capped at last.
    """

    zones: Mapping[str, tzinfo] = field(factory=dict, hash=False)
    external: Mapping[str, Reading] = field(factory=dict, hash=False)
    power_uw: Mapping[int, int] = field(factory=dict, hash=False)
    previous: CapState | None = None
    parts_uw: Mapping[int, int] = field(factory=dict, hash=False)


@frozen
class Asked:
    """What a source asks: µW, None for no cap; why; until when time alone does not change it, None
    for ever.
    """

    uw: int | None
    because: str
    until: datetime | None = None
    problems: tuple[Problem, ...] = ()


@frozen
class _Point:
    """What begins at a minute of the local day, on some days (0 is Monday)."""

    minute: int
    days: frozenset[int]
    uw: int
    text: str


def tick(instant: datetime, period: timedelta) -> datetime:
    """The beginning of the period that an instant lies in; periods are counted from 1970 on, so
    that all nodes agree.
    """
    return instant - (instant - EPOCH) % period


def asked_at(cap: PowerCap, instant: datetime, signals: Signals, ceiling_uw: int | None) -> Asked:
    """What a valid cap's source asks at an instant, before any bound. ceiling_uw: what 100 per cent
    is, None where not known.
    """
    source, obj = cap.source, reference(cap)
    zone = UTC if source.time_zone in (None, "UTC") else signals.zones.get(source.time_zone or "")
    if zone is None:
        return Asked(None, f"{obj} has errors", problems=(_no_zone(obj, source),))
    if source.static is not None:
        return Asked(source.static.uw, f"{obj} static: {source.static.watts} W")
    if source.external is not None:
        return _external(cap, source.external, instant, signals)
    if source.solar is not None:
        began = tick(instant, cap.interval)
        local = local_time(began, zone)
        uw = _solar_uw(source.solar, local.hour * 60 + local.minute + local.second / 60)
        return Asked(
            uw,
            f"{obj} solar at {local:%H:%M} {source.time_zone or 'UTC'}: {format_watts(uw)}",
            began + cap.interval,
        )
    if source.market is not None:
        return _by_clock(_market_points(source.market), instant, zone, f"{obj} market", source)
    # one entry in per cent of nobody knows what makes the whole schedule ask for nothing
    if ceiling_uw is None and any(entry.percent is not None for entry in source.schedule):
        message = (
            "percent is given, but neither spec.maxWatts nor any package's firmware says what"
            " 100% is"
        )
        return Asked(
            None,
            f"{obj} has errors",
            problems=(error(Code.CAP_SOURCE, obj, "spec.source.schedule", message),),
        )
    return _by_clock(
        _schedule_points(source.schedule, ceiling_uw or 0), instant, zone, f"{obj} schedule", source
    )


def _no_zone(obj: str, source: CapSource) -> Problem:
    return error(
        Code.CAP_TIME_ZONE,
        obj,
        "spec.source.timeZone",
        f"expected a time zone such as UTC or Europe/Paris, got {source.time_zone!r}",
    )


def _external(cap: PowerCap, source: ExternalCap, instant: datetime, signals: Signals) -> Asked:
    obj, reading, age = reference(cap), signals.external.get(cap.meta.name), source.age
    until = (
        None
        if reading is None or instant - reading.at > age
        else reading.at + age + timedelta(microseconds=1)
    )
    if (
        reading is not None
        and until is not None
        and math.isfinite(reading.watts)
        and reading.watts >= 0
    ):
        return Asked(
            int(min(reading.watts, 1e6) * UW), f"{obj} external: {reading.watts:g} W", until
        )
    if reading is None:
        said = "has not answered yet"
    elif until is not None:
        said = f"answered {reading.watts:g} where watts from 0 were expected"
    else:
        said = (
            f"answered last at {reading.at:%Y-%m-%dT%H:%M:%SZ}, which is older than"
            f" {source.max_age or MAX_AGE}"
        )
    fallback = source.fallback_watts
    instead = "no cap is set" if fallback is None else f"fallbackWatts {fallback} holds"
    problem = warning(Code.CAP_STALE, obj, "spec.source.external", f"{said}; {instead}")
    return Asked(
        source.fallback_uw,
        f"{obj} external source {said}; {instead}",
        until,
        (problem,),
    )


def _solar_uw(solar: SolarCap, minute: float) -> int:
    return int(solar.peak_uw * sun(minute, *solar.daylight, solar.steepness))


def sun(minute: float, rise: int, sets: int, exponent: float) -> float:
    """Share of the peak at a minute of the day, 0 to 1.

    Nothing outside the day: a negative sine raised to an even power would be a quarter of full
    power at midnight (field report 57).
    """
    if not rise <= minute <= sets:
        return 0.0
    return math.pow(max(math.sin(math.pi * (minute - rise) / (sets - rise)), 0.0), exponent)


def _market_points(market: MarketCap) -> list[_Point]:
    count, top = len(market.volumes), max(market.volumes)
    return [
        _Point(
            -(-index * _MINUTES // count),
            EVERY_DAY,
            market.peak_uw * volume // top,
            f"volume {volume} of {top}",
        )
        for index, volume in enumerate(market.volumes)
    ]


def _schedule_points(entries: Iterable[CapEntry], ceiling_uw: int) -> list[_Point]:
    return [
        _Point(
            entry.minute,
            entry.weekdays,
            entry.uw(ceiling_uw),
            f"entry {entry.time}{' ' + ','.join(entry.days) if entry.days else ''}",
        )
        for entry in entries
    ]


def _by_clock(
    points: Sequence[_Point], instant: datetime, zone: tzinfo, what: str, source: CapSource
) -> Asked:
    """The point that began last by the local clock (FR57); it holds until the next one begins."""
    wall = wall_clock(instant, zone)
    day = wall.date()
    began = max(
        (
            (start, point)
            for back in range(_WEEK)
            for point in points
            if (start := _start(point, day - timedelta(days=back))) is not None and start <= wall
        ),
        key=lambda pair: pair[0],
    )[1]
    later = [
        start
        for ahead in range(_WEEK)
        for point in points
        if (start := _start(point, day + timedelta(days=ahead))) is not None and start > wall
    ]
    following = _instant(min(later), zone)
    until = following if following > instant else instant + timedelta(minutes=1)
    return Asked(
        began.uw,
        f"{what} {began.text} {source.time_zone or 'UTC'}: {format_watts(began.uw)}",
        until,
    )


def _start(point: _Point, day: date) -> datetime | None:
    return (
        datetime.combine(day, time(point.minute // 60, point.minute % 60))
        if day.weekday() in point.days
        else None
    )


def local_time(instant: datetime, zone: tzinfo) -> datetime:
    """An instant as the clocks of a time zone show it."""
    return zone.fromutc((EPOCH + (instant - EPOCH)).replace(tzinfo=zone))


def _instant(wall: datetime, zone: tzinfo) -> datetime:
    """The first instant at which the clocks of a time zone show this; where they are turned forward
    past it, the moment of the turn.
    """
    earlier, later = sorted(
        (wall - (zone.utcoffset(wall.replace(tzinfo=zone, fold=fold)) or timedelta())).replace(
            tzinfo=UTC
        )
        for fold in (0, 1)
    )
    if local_time(earlier, zone).replace(tzinfo=None, fold=0) == wall:
        return earlier
    # a gap: the moment of the turn lies between the two
    while later - earlier > timedelta(seconds=1):
        middle = earlier + (later - earlier) // 2
        earlier, later = (
            (earlier, middle)
            if local_time(middle, zone).replace(tzinfo=None, fold=0) >= wall
            else (middle, later)
        )
    return later.replace(microsecond=0)


def wall_clock(instant: datetime, zone: tzinfo) -> datetime:
    """The local time without zone, made so that it never goes back: of an hour that comes twice,
    the second counts as the last moment of the first, so that no entry begins twice.
    """
    local = local_time(instant, zone)
    wall = local.replace(tzinfo=None, fold=0)
    if not local.fold:
        return wall
    wall = wall.replace(second=0, microsecond=0)
    while zone.utcoffset(wall.replace(fold=0)) != zone.utcoffset(wall.replace(fold=1)):
        wall += timedelta(minutes=1)
    return wall - timedelta(microseconds=1)
