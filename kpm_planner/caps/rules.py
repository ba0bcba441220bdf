"""What may stand in a PowerCap, as far as it can be seen without a machine."""

from collections.abc import Iterator

from kpm_planner.caps.schedule import LONGEST_PERIOD_S, SHORTEST_PERIOD_S
from kpm_planner.model.cap_objects import (
    DAYS,
    MAX_AGE,
    PERIOD,
    SUNRISE,
    SUNSET,
    CapEntry,
    CapSource,
    ExternalCap,
    MarketCap,
    PowerCap,
    SolarCap,
)
from kpm_planner.model.problems import Code, Problem, error
from kpm_planner.model.quantities import clock_minutes, duration_s
from kpm_planner.selection import reference, selector_problems

_KINDS = ("static", "schedule", "solar", "market", "external")
_WORDS = {
    "divide": ("equal", "demand"),
    "per": ("node", "package"),
    "constraint": ("long_term", "short_term", "all"),
}
_Faults = Iterator[tuple[str, str]]


def validate_cap(cap: PowerCap) -> tuple[Problem, ...]:
    """Faults of a PowerCap that can be seen without a machine."""
    obj = reference(cap)
    wrong = [
        error(Code.CAP_SOURCE, obj, f"spec.source{field}", text)
        for field, text in _source_faults(cap.source)
    ]
    wrong += [
        error(Code.CAP_RANGE, obj, f"spec.{field}", text) for field, text in _bound_faults(cap)
    ]
    return (*wrong, *selector_problems(cap.node_selector, obj))


def _bound_faults(cap: PowerCap) -> _Faults:
    for name, value in (
        ("minWatts", cap.min_watts),
        ("maxWatts", cap.max_watts),
        ("maxStepWatts", cap.max_step_watts),
    ):
        if value is not None and value < 1:
            yield name, f"expected watts from 1, got {value}"
    if cap.min_watts is not None and cap.max_watts is not None and cap.min_watts > cap.max_watts:
        yield "minWatts", f"{cap.min_watts} W is above maxWatts {cap.max_watts} W"
    for name, words in _WORDS.items():
        value = getattr(cap, name)
        if value is not None and value not in words:
            yield name, f"expected {' or '.join(words)}, got {value!r}"
    seconds = duration_s(cap.period or PERIOD)
    if seconds is None or not SHORTEST_PERIOD_S <= seconds <= LONGEST_PERIOD_S:
        yield "period", f"expected 5s to 1h, such as 60s, got {cap.period!r}"


def _source_faults(source: CapSource) -> _Faults:
    given = [name for name in _KINDS if getattr(source, name)]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        yield "", f"expected exactly one of {', '.join(_KINDS)}, got {found}"
    if source.static is not None and not _right(source.static.watts):
        yield ".static.watts", _watts_text(source.static.watts)
    yield from _schedule_faults(source.schedule)
    if source.solar is not None:
        yield from _solar_faults(source.solar)
    if source.market is not None:
        yield from _market_faults(source.market)
    if source.external is not None:
        yield from _external_faults(source.external)


def _right(watts: int | None) -> bool:
    return watts is not None and watts >= 1


def _watts_text(watts: int | None) -> str:
    return f"expected watts from 1, got {'nothing' if watts is None else watts}"


def _schedule_faults(entries: tuple[CapEntry, ...]) -> _Faults:
    seen: set[tuple[str | None, int]] = set()
    for index, entry in enumerate(entries):
        place = f".schedule[{index}]"
        unknown = [day for day in entry.days if day not in DAYS]
        if entry.time is None:
            yield f"{place}.time", "expected HH:MM from 00:00 to 23:59, got nothing"
        elif clock_minutes(entry.time) is None:
            yield f"{place}.time", f"expected HH:MM from 00:00 to 23:59, got {entry.time!r}"
        if unknown:
            yield f"{place}.days", f"expected {', '.join(DAYS)}, got {unknown[0]!r}"
        if (entry.watts is None) == (entry.percent is None):
            found = "neither" if entry.watts is None else "both"
            yield place, f"expected watts or percent, got {found}"
        elif entry.watts is not None and entry.watts < 1:
            yield f"{place}.watts", _watts_text(entry.watts)
        elif entry.percent is not None and not 1 <= entry.percent <= 100:
            yield f"{place}.percent", f"expected 1 to 100, got {entry.percent}"
        starts = (
            set()
            if unknown or entry.time is None
            else {(entry.time, day) for day in entry.weekdays}
        )
        if starts & seen:
            day = DAYS[min(day for _, day in starts & seen)]
            yield f"{place}.time", f"{entry.time} begins twice on {day}; once is allowed"
        seen |= starts


def _solar_faults(solar: SolarCap) -> _Faults:
    if not _right(solar.peak_watts):
        yield ".solar.peakWatts", _watts_text(solar.peak_watts)
    rise, sets = clock_minutes(solar.sunrise or SUNRISE), clock_minutes(solar.sunset or SUNSET)
    for name, text, minute in (("sunrise", solar.sunrise, rise), ("sunset", solar.sunset, sets)):
        if minute is None:
            yield f".solar.{name}", f"expected HH:MM from 00:00 to 23:59, got {text!r}"
    if rise is not None and sets is not None and rise >= sets:
        yield (
            ".solar.sunset",
            f"{solar.sunset or SUNSET} is not after sunrise {solar.sunrise or SUNRISE}",
        )
    if solar.exponent is not None and not 1 <= solar.exponent <= 16:
        yield ".solar.exponent", f"expected 1 to 16, got {solar.exponent}"


def _market_faults(market: MarketCap) -> _Faults:
    if not _right(market.peak_watts):
        yield ".market.peakWatts", _watts_text(market.peak_watts)
    if not 1 <= len(market.volumes) <= 1440 or min(market.volumes) < 0 or max(market.volumes) == 0:
        yield (
            ".market.volumes",
            (
                f"{len(market.volumes)} numbers from {min(market.volumes, default=0)} are not"
                " allowed: 1 to 1440 from 0, not all of them 0"
            ),
        )


def _external_faults(external: ExternalCap) -> _Faults:
    key = external.config_map
    if (key is None) == (external.url is None):
        yield ".external", "exactly one of configMap and url is allowed"
    if key is not None and not (key.name and key.key):
        yield ".external.configMap", "needs name and key"
    if external.url is not None and not external.url.startswith(("http://", "https://")):
        yield (
            ".external.url",
            (
                "expected an address that begins with http:// or https://, got"
                f" {external.url[:60]!r}"
            ),
        )
    seconds = duration_s(external.max_age or MAX_AGE)
    if seconds is None or seconds < 1:
        yield ".external.maxAge", f"expected a duration such as 10m, got {external.max_age!r}"
    if external.fallback_watts is not None and external.fallback_watts < 1:
        yield ".external.fallbackWatts", _watts_text(external.fallback_watts)
