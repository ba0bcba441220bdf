"""What power caps follow beside the objects: time zones and readings of external sources, as the
planner's values.
"""

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from kpm.formats.wire import WireError, parse_time
from kpm.process.errors import InputError, one_line
from kpm_planner.caps.schedule import CapState, Reading, Signals
from kpm_planner.model.cap_objects import PowerCap

#: Names of the time zone database; anything else never reaches a path.
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,31}(?:/[A-Za-z0-9_+-]{1,31}){0,2}")
_LONGEST_NUMBER = 40
_FIRST_YEAR, _LAST_YEAR = 1970, 2999


def signals_of(
    caps: Iterable[PowerCap],
    external: Mapping[str, Reading] | None = None,
    power_uw: Mapping[int, int] | None = None,
    previous: CapState | None = None,
    parts_uw: Mapping[int, int] | None = None,
) -> Signals:
    """The signals of a node. external: readings by PowerCap name; power_uw: measured, parts_uw: in
    force, by package.
    """
    zones = {
        cap.source.time_zone: zone
        for cap in caps
        if cap.source.time_zone and (zone := time_zone(cap.source.time_zone)) is not None
    }
    return Signals(
        zones, dict(external or {}), dict(power_uw or {}), previous, dict(parts_uw or {})
    )


@lru_cache(maxsize=256)
def time_zone(name: str) -> tzinfo | None:
    """The rules of a time zone; None where there is none of this name."""
    if not _ZONE.fullmatch(name):
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # not there, a folder, or no rules
        return None


def watts_of(text: str) -> float | None:
    """The number of watts that an external source answered; None for anything else than a finite
    number from 0.
    """
    text = text.strip()
    if len(text) > _LONGEST_NUMBER or not re.fullmatch(
        r"[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]{1,2})?", text
    ):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def instant_of(text: str | None, option: str) -> datetime:
    """The instant that an option names, now where it is left out. Errors: InputError."""
    if text is None:
        return datetime.now(UTC)
    try:
        moment = parse_time(text, option).astimezone(UTC)
    except (WireError, OverflowError, OSError) as failure:
        raise InputError(one_line(failure)) from None
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise InputError(
            f"{option}: expected a time from {_FIRST_YEAR} to {_LAST_YEAR}, got"
            f" {one_line(text, 60)!r}"
        )
    return moment


def readings_of(texts: Iterable[str], instant: datetime) -> dict[str, Reading]:
    """What external sources are taken to answer, from NAME=WATTS. Errors: InputError."""
    found = {}
    for text in texts:
        name, mark, number = text.partition("=")
        watts = watts_of(number)
        if not mark or not name or watts is None:
            raise InputError(
                "--cap-reading: expected NAME=WATTS, with the name of a PowerCap, got"
                f" {one_line(text, 60)!r}"
            )
        found[name] = Reading(watts, instant)
    return found
