"""Power caps: inside their bounds whatever is asked, divided fairly, up slowly and down at once,
and at any instant what the clock on the wall says.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import permutations
from random import Random

from attrs import evolve, frozen
from hypothesis import assume, given
from hypothesis import strategies as st

from kpm_planner.caps.division import LEAST_UW, MOST_UW, divided
from kpm_planner.caps.rules import validate_cap
from kpm_planner.caps.schedule import CapState, Reading, Signals, asked_at, tick
from kpm_planner.caps.zones import CapTarget, cap_at
from kpm_planner.model.cap_objects import (
    DAYS,
    CapEntry,
    CapSource,
    ConfigMapKey,
    ExternalCap,
    MarketCap,
    PowerCap,
    SolarCap,
    StaticCap,
)
from kpm_planner.model.machine import PowerLimit, PowerZone
from kpm_planner.model.quantities import UW
from kpm_planner.plan import NodePlan
from tests.planner.build import plan, power_cap, with_zones
from tests.planner.reading import limits_of
from tests.strategies.scenarios import ZONES

#: The smallest step of a limit; every zone loses less than one by rounding down.
UNIT = UW // 8
NO_TIME, MINUTE, QUARTER = timedelta(0), timedelta(minutes=1), timedelta(minutes=15)
#: Time zone → a moment at which its clock is turned forward, and one at which it is turned back.
TURNS = {
    "UTC": ("2026-02-28T23:59:00", "2025-12-31T23:59:00"),
    "Europe/Paris": ("2026-03-29T01:00:00", "2026-10-25T01:00:00"),
    "America/New_York": ("2026-03-08T07:00:00", "2026-11-01T06:00:00"),
    "Australia/Lord_Howe": ("2026-10-03T15:30:00", "2026-04-04T15:00:00"),
    "Pacific/Apia": ("2011-12-30T10:00:00", "2011-04-02T14:00:00"),
    "Africa/Casablanca": ("2026-03-22T02:00:00", "2026-02-15T02:00:00"),
}
NAMES = st.sampled_from(sorted(TURNS))
WATTS = st.integers(1, 6000) | st.integers(1, 400)
BOUNDS = st.sampled_from((5, 20, 60, 110, 400, 1000, 5000))
ANY_TIMES = (
    "00:00",
    "00:01",
    "01:15",
    "01:30",
    "01:45",
    "02:00",
    "02:10",
    "02:30",
    "02:59",
    "03:00",
    "12:00",
    "23:45",
    "23:59",
)


def zone_of(name: str | None) -> tzinfo:
    """The rules of a time zone; left out, UTC."""
    return UTC if name in (None, "UTC") else ZONES[name]


@st.composite
def instants(draw: st.DrawFn, zone: str) -> datetime:
    """Instants around the moments at which a clock is turned: within two hours, or within some
    days.
    """
    turn = datetime.fromisoformat(draw(st.sampled_from(TURNS[zone]))).replace(tzinfo=UTC)
    seconds = draw(
        st.sampled_from((7200, 7200, 7 * 86_400)).flatmap(lambda most: st.integers(-most, most))
    )
    return turn + timedelta(seconds=seconds, microseconds=draw(st.sampled_from((0, 1, 999_999))))


@st.composite
def schedules(draw: st.DrawFn) -> tuple[CapEntry, ...]:
    """Entries at different times of day, in any order, every day or on some."""
    times = draw(st.lists(st.sampled_from(ANY_TIMES), min_size=1, max_size=6, unique=True))
    return tuple(
        CapEntry(
            time,
            tuple(draw(st.lists(st.sampled_from(DAYS), max_size=3, unique=True))),
            watts=draw(WATTS),
        )
        for time in times
    )


SOURCES: dict[str, st.SearchStrategy[CapSource]] = {
    "static": WATTS.map(lambda watts: CapSource(static=StaticCap(watts))),
    "schedule": schedules().map(lambda entries: CapSource(schedule=entries)),
    "solar": st.builds(
        SolarCap,
        WATTS,
        st.sampled_from((None, "00:00", "06:15")),
        st.sampled_from((None, "23:59", "18:00")),
        st.none() | st.integers(1, 16),
    ).map(lambda solar: CapSource(solar=solar)),
    "market": st.builds(
        MarketCap,
        WATTS,
        st.lists(st.integers(0, 10**6), min_size=1, max_size=100).filter(any).map(tuple),
    ).map(lambda market: CapSource(market=market)),
    "external": st.builds(
        ExternalCap,
        st.just(ConfigMapKey("grid", "watts")),
        st.none(),
        st.sampled_from((None, "1m")),
        st.none() | WATTS,
    ).map(lambda external: CapSource(external=external)),
}


@st.composite
def power_caps(draw: st.DrawFn, *kinds: str) -> PowerCap:
    """Any valid PowerCap of some kinds of source, or of all."""
    source = evolve(
        draw(SOURCES[draw(st.sampled_from(kinds or tuple(SOURCES)))]),
        time_zone=draw(st.sampled_from((None, *TURNS))),
    )
    least, most = sorted((draw(BOUNDS), draw(BOUNDS)))
    return power_cap(
        source=source,
        min_watts=draw(st.sampled_from((None, least))),
        max_watts=draw(st.sampled_from((None, most))),
        max_step_watts=draw(st.sampled_from((None, 1, 30, 500))),
        divide=draw(st.sampled_from((None, "equal", "demand"))),
        per=draw(st.sampled_from((None, "node", "package"))),
        constraint=draw(st.sampled_from((None, "long_term", "short_term", "all"))),
        period=draw(st.sampled_from((None, "5s", "7m", "1h"))),
    )


@st.composite
def power_zones(draw: st.DrawFn) -> tuple[PowerZone, ...]:
    """One to four packages, of RAPL with one or two dies each, or AMD sockets; limits in any order,
    maxima known, 0 or absent.
    """
    dies, sockets = draw(st.sampled_from((1, 1, 2))), draw(st.booleans())
    found = []
    for package in range(draw(st.integers(1, 4))):
        top = draw(st.sampled_from((None, 0)) | st.integers(20, 500).map(lambda watts: watts * UW))
        if sockets:
            found.append(
                PowerZone(
                    f"s{package}",
                    f"socket-{package}",
                    "hsmp",
                    package,
                    limits=(PowerLimit("power_cap", "power_limit_mw", draw(LIMITS), top),),
                )
            )
            continue
        for die in range(dies):
            names = draw(
                st.sampled_from(
                    (
                        ("long_term",),
                        *permutations(("long_term", "short_term")),
                        *permutations(("long_term", "short_term", "peak_power")),
                    )
                )
            )
            limits = tuple(
                PowerLimit(
                    name, f"constraint_{index}", draw(LIMITS), top if name == "long_term" else None
                )
                for index, name in enumerate(names)
            )
            found.append(
                PowerZone(
                    f"p{package}d{die}",
                    f"package-{package}-die-{die}",
                    "intel-rapl",
                    package,
                    die,
                    True,
                    limits,
                )
            )
    return tuple(found)


LIMITS = st.none() | st.integers(1, 5000).map(lambda watts: watts * UW)
PREVIOUS = st.none() | st.builds(
    CapState,
    st.sampled_from(("budget", "", "other")),
    st.sampled_from((0, 10, 100, 1000, 10_000)).map(lambda watts: watts * UW),
)


@st.composite
def signals_at(draw: st.DrawFn, instant: datetime, *, restarted: bool = False) -> Signals:
    """Any signals. restarted: nothing is known of before."""
    reading = draw(
        st.none()
        | st.builds(
            Reading,
            st.floats() | st.floats(0, 1000),
            st.integers(-60, 1200).map(lambda age: instant - timedelta(seconds=age)),
        )
    )
    measured = draw(st.dictionaries(st.integers(0, 3), st.integers(0, 600 * UW)))
    return Signals(
        ZONES,
        {} if reading is None else {"budget": reading},
        measured,
        None if restarted else draw(PREVIOUS),
    )


@frozen
class World:
    """A PowerCap, the zones of a node, an instant, and what is measured."""

    cap: PowerCap
    zones: tuple[PowerZone, ...]
    instant: datetime
    signals: Signals

    def plan(self, at: datetime | None = None, previous: CapState | None = None) -> NodePlan:
        """The plan of now, or of another instant that remembers a cap."""
        signals = self.signals if previous is None else evolve(self.signals, previous=previous)
        return plan(self.cap, on=with_zones(*self.zones), at=at or self.instant, signals=signals)

    @property
    def packages(self) -> list[int]:
        return sorted({zone.package for zone in self.zones})

    @property
    def least(self) -> int:
        """What minWatts, or its default, is for the whole node. Units: µW."""
        count = len(self.packages)
        least = (
            LEAST_UW * (1 if self.cap.per == "package" else count)
            if self.cap.min_watts is None
            else self.cap.min_watts * UW
        )
        if self.cap.min_watts is None and self.cap.max_watts is not None:
            least = min(least, self.cap.max_watts * UW)
        return least * (count if self.cap.per == "package" else 1)

    def top(self, package: int) -> int:
        """The most that a package can be set to, µW."""
        tops = [
            limit.max_uw
            for zone in self.zones
            if zone.package == package
            for limit in zone.limits
            if limit.name in ("long_term", "power_cap")
        ]
        return min(MOST_UW, sum(top or MOST_UW for top in tops))


@st.composite
def worlds(draw: st.DrawFn, *kinds: str, restarted: bool = False) -> World:
    """Any node under any valid PowerCap."""
    cap = draw(power_caps(*kinds))
    instant = draw(instants(cap.source.time_zone or "UTC"))
    return World(cap, draw(power_zones()), instant, draw(signals_at(instant, restarted=restarted)))


def zone_uw(target: CapTarget) -> int | None:
    """What a zone is limited to; all of its limits that are asked for are alike."""
    asked = {uw for uw in target.limits if uw is not None}
    assert len(asked) <= 1
    return next(iter(asked), None)


def by_package(found: NodePlan) -> dict[int, int]:
    """What the zones of a package are limited to together; only packages all of whose zones are
    limited.
    """
    whole = {target.zone.package for target in found.caps} - {
        target.zone.package for target in found.caps if zone_uw(target) is None
    }
    return {
        package: sum(
            zone_uw(target) or 0 for target in found.caps if target.zone.package == package
        )
        for package in whole
    }


# --- bounds ---


@given(power_caps())
def test_generated_caps_are_valid(cap: PowerCap) -> None:
    """What the laws below rest on."""
    assert validate_cap(cap) == ()


@given(worlds())
def test_no_limit_is_above_what_the_firmware_names_or_the_register_holds(world: World) -> None:
    """max_power_uw of the long-term limit where it is known and not 0, never a limit of now
    (field report 36); the register has 15 bits of 1/8 W.
    """
    for target in world.plan().caps:
        uw = zone_uw(target)
        tops = [limit.max_uw for limit in target.zone.limits if limit.max_uw]
        assert uw is None or UNIT <= uw <= min([MOST_UW, *tops])


@given(worlds())
def test_limits_are_what_a_register_can_hold(world: World) -> None:
    """Whole eighths of a watt, so that a value read back is the value written (field report 35)."""
    assert all(
        uw % UNIT == 0 for target in world.plan().caps for uw in target.limits if uw is not None
    )


@given(worlds(), st.booleans())
def test_nothing_is_below_the_least(world: World, from_nothing: bool) -> None:
    """minWatts of the node or of each package, or 10 W a package where it is left out, but for what
    rounding takes; also while the cap rises, from nothing even.
    """
    if from_nothing:
        signals = evolve(world.signals, previous=CapState("budget", 0))
        world = evolve(world, cap=evolve(world.cap, max_step_watts=1), signals=signals)
    shares, lost = by_package(world.plan()), (len(world.zones) + len(world.packages)) * UNIT
    if len(shares) == len(world.packages):
        parts = (
            [world.least // len(shares)] * len(shares)
            if world.cap.per == "package"
            else [world.least]
        )
        tops = (
            [world.top(package) for package in sorted(shares)]
            if world.cap.per == "package"
            else [sum(map(world.top, shares))]
        )
        assert sum(shares.values()) > sum(map(min, parts, tops)) - lost
    if world.cap.min_watts is None or world.cap.per == "package":
        assert all(
            uw > min(world.least // len(world.packages), world.top(package)) - lost
            for package, uw in shares.items()
        )


@given(worlds())
def test_the_parts_sum_to_at_most_the_budget(world: World) -> None:
    """A node of two sockets has not twice the budget (field report 36); minWatts alone
    is stronger than what is asked.
    """
    asked = asked_at(world.cap, world.instant, world.signals, None)
    if asked.uw is not None:
        units = len(world.packages) if world.cap.per == "package" else 1
        most = math.inf if world.cap.max_watts is None else world.cap.max_watts * UW
        assert sum(zone_uw(target) or 0 for target in world.plan().caps) <= max(
            min(asked.uw, most) * units, world.least
        )


@given(worlds())
def test_nothing_is_lost_but_by_rounding(world: World) -> None:
    """The packages have the whole of the budget that their maxima leave room for."""
    found = world.plan()
    shares = by_package(found)
    if found.cap_state is not None and len(shares) == len(world.packages):
        room = sum(min(found.cap_state.uw // len(shares), world.top(package)) for package in shares)
        if world.cap.per != "package":
            room = min(found.cap_state.uw, sum(map(world.top, shares)))
        assert sum(shares.values()) > room - (len(shares) + len(world.zones)) * UNIT


@given(worlds())
def test_dies_share_the_part_of_their_package_equally(world: World) -> None:
    """And each zone of a machine has one target, in the machine's order (field report 34)."""
    found = world.plan()
    assert tuple(target.zone for target in found.caps) == world.zones
    for package in world.packages:
        assert (
            len(
                {zone_uw(target) for target in found.caps if target.zone.package == package}
                - {None}
            )
            <= 1
        )


@given(worlds())
def test_limits_are_set_by_name_and_short_never_falls_below_long(world: World) -> None:
    """Whatever their order; peak_power is never set (field report 36)."""
    for target in world.plan().caps:
        asked = {
            limit.name: uw for limit, uw in zip(target.zone.limits, target.limits, strict=True)
        }
        after = {
            limit.name: limit.limit_uw if asked[limit.name] is None else asked[limit.name]
            for limit in target.zone.limits
        }
        long, short = after.get("long_term"), after.get("short_term")
        assert asked.get("peak_power") is None
        assert long is None or short is None or not any(asked.values()) or short >= long


@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_limits_in_a_zone_changes_nothing(world: World, rng: Random) -> None:
    """The number of a constraint says nothing (field report 36)."""
    turned = tuple(
        evolve(zone, limits=tuple(rng.sample(zone.limits, len(zone.limits))))
        for zone in world.zones
    )
    assert limits_of(evolve(world, zones=turned).plan()) == limits_of(world.plan())


@given(worlds())
def test_every_limit_says_where_it_comes_from(world: World) -> None:
    """The object, and the watts of the zone; without an instruction why there is none."""
    for target in world.plan().caps:
        text = "\n".join(target.because)
        uw = zone_uw(target)
        assert "PowerCap/budget" in text
        assert uw is None or f"{uw / UW:g} W" in target.because[-1]
        assert all(line == line.strip() and line for line in target.because)


# --- division ---

WEIGHTS = st.lists(
    st.tuples(st.integers(1, 10**9), st.integers(100, 10**9)), min_size=1, max_size=6
)


@given(st.integers(0, 10**10), WEIGHTS, st.integers(0, 100))
def test_parts_lie_in_their_bounds_and_sum_to_the_budget(
    budget: int, shares: list[tuple[int, int]], least: int
) -> None:
    """But for less than 1 µW a part; what one part cannot take the others get."""
    weights, tops = zip(*shares, strict=True)
    parts = divided(budget, weights, least, tops)
    assert all(least <= part <= top for part, top in zip(parts, tops, strict=True))
    room = min(max(budget, least * len(parts)), sum(tops))
    assert room - len(parts) <= sum(parts) <= room


@given(st.integers(0, 10**10), WEIGHTS, st.integers(0, 100))
def test_parts_are_in_proportion_unless_a_bound_stands_between(
    budget: int, shares: list[tuple[int, int]], least: int
) -> None:
    """A part that could be larger has as much for its weight as any that could be smaller."""
    weights, tops = zip(*shares, strict=True)
    parts = divided(budget, weights, least, tops)
    for one in range(len(parts)):
        for other in range(len(parts)):
            if parts[one] < tops[one] and parts[other] > least:
                slack = len(parts) * (weights[one] + weights[other])
                assert parts[one] * weights[other] >= parts[other] * weights[one] - slack


@given(st.integers(0, 10**10), WEIGHTS, st.integers(0, 100), st.data())
def test_the_order_of_parts_changes_nothing(
    budget: int, shares: list[tuple[int, int]], least: int, data: st.DataObject
) -> None:
    """Each has what it has in any other order."""

    def parts_of(pairs: Sequence[tuple[int, int]]) -> list[int]:
        return divided(budget, [weight for weight, _ in pairs], least, [top for _, top in pairs])

    order = data.draw(st.permutations(range(len(shares))))
    parts = parts_of(shares)
    assert parts_of([shares[index] for index in order]) == [parts[index] for index in order]


@given(st.integers(0, 10**10), st.integers(0, 10**10), WEIGHTS, st.integers(0, 100))
def test_a_larger_budget_gives_nobody_less(
    one: int, other: int, shares: list[tuple[int, int]], least: int
) -> None:
    """But for less than 1 µW a part."""
    weights, tops = zip(*shares, strict=True)
    small, large = (divided(budget, weights, least, tops) for budget in sorted((one, other)))
    assert all(less <= more + len(shares) for less, more in zip(small, large, strict=True))


# --- ramp ---


@given(worlds(), st.lists(st.tuples(st.integers(0, 4000), WATTS), min_size=1, max_size=12))
def test_down_at_once_and_up_by_one_step_a_period(
    world: World, course: list[tuple[int, int]]
) -> None:
    """Over any course of a static cap, looked at any number of times; units of the node (field
    report 72).
    """
    units = len(world.packages) if world.cap.per == "package" else 1
    ceilings = dict.fromkeys(world.packages)
    instant, state = world.instant, None
    risen: dict[datetime, int] = {}
    for seconds, watts in course:
        instant += timedelta(seconds=seconds)
        cap = evolve(world.cap, source=CapSource(static=StaticCap(watts)))
        wanted = cap_at(cap, ceilings, instant, Signals()).state
        found = cap_at(cap, ceilings, instant, Signals(previous=state)).state
        assert wanted is not None
        assert found is not None
        if state is not None:
            period = tick(instant, cap.interval)
            step = math.inf if cap.max_step_watts is None else cap.max_step_watts * UW * units
            risen[period] = risen.get(period, 0) + max(found.uw - state.uw, 0)
            assert risen[period] <= step
            assert (
                found.uw == wanted.uw
                if wanted.uw <= state.uw
                else state.uw <= found.uw <= wanted.uw
            )
        assert cap_at(cap, ceilings, instant, Signals(previous=found)).state == found
        state = found


@given(worlds("static"), st.integers(1, 600))
def test_once_the_ramp_is_done_the_cap_is_what_it_would_be_without_a_history(
    world: World, step: int
) -> None:
    """Whatever was before, and after a restart that knows nothing or not whose it was: same
    instant, same cap.
    """
    cap = evolve(world.cap, max_step_watts=step)
    world = evolve(
        world, cap=cap, signals=evolve(world.signals, power_uw=dict.fromkeys(range(4), 100 * UW))
    )
    instant, state = world.instant, world.signals.previous
    fresh = evolve(world, signals=evolve(world.signals, previous=None))
    for _ in range(2 + 6000 * len(world.packages) // step):
        found = world.plan(instant, state)
        state = found.cap_state
        if state is not None and state.uw == fresh.plan(instant).cap_state.uw:  # type: ignore[union-attr]
            break
        instant += cap.interval
    assert found.caps == fresh.plan(instant).caps
    assert found.valid_until == fresh.plan(instant).valid_until


@given(worlds(), st.integers(0, 10**10))
def test_the_history_of_another_object_does_not_matter(world: World, uw: int) -> None:
    """A cap that replaces another one holds at once (R1)."""
    found = [
        evolve(world, signals=evolve(world.signals, previous=before)).plan()
        for before in (None, CapState("other", uw, world.instant))
    ]
    assert found[0] == found[1]


@given(worlds(), st.integers(0, 3))
def test_the_same_instant_twice_gives_the_same_plan(world: World, times: int) -> None:
    """What the first plan remembers is handed to the second, as after any event of a node."""
    found = world.plan()
    again = found
    for _ in range(times):
        again = evolve(world, signals=evolve(world.signals, previous=again.cap_state)).plan()
    assert (again.caps, again.cap_state, again.valid_until) == (
        found.caps,
        found.cap_state,
        found.valid_until,
    )


# --- time ---


def in_force(entries: Sequence[CapEntry], instant: datetime, zone: tzinfo) -> CapEntry:
    """The entry that began last, found minute by minute: a clock that is turned back begins nothing
    twice, and one that is turned forward begins all that it passes over. A quarter of an hour that
    the clock just goes through, and in which nothing begins, is passed at once.
    """
    current: CapEntry | None = None
    begins = {(int(entry.time[:2]), int(entry.time[3:])): entry for entry in entries if entry.time}
    busy = {(hour, minute // 15) for hour, minute in begins}
    now, ends = instant.replace(second=0, microsecond=0) - timedelta(days=9), instant

    def wall(moment: datetime) -> datetime:
        return moment.astimezone(zone).replace(tzinfo=None)

    reached = wall(now)
    while now <= ends:
        local, later = wall(now), wall(now + QUARTER)
        plain = local - reached in (NO_TIME, MINUTE) and later - local == QUARTER
        if (
            plain
            and now + QUARTER <= ends
            and busy.isdisjoint((at.hour, at.minute // 15) for at in (local, later))
        ):
            now, reached = now + QUARTER, later
            continue
        while reached < local:
            reached += MINUTE
            entry = begins.get((reached.hour, reached.minute))
            if entry is not None and (not entry.days or DAYS[reached.weekday()] in entry.days):
                current = entry
        now += MINUTE
    assert current is not None
    return current


@given(NAMES, schedules(), st.data())
def test_exactly_the_latest_past_entry_is_in_force(
    name: str, entries: tuple[CapEntry, ...], data: st.DataObject
) -> None:
    """At any instant, at midnight, on days, and around every turn of the clock (field report
    57).
    """
    instant = data.draw(instants(name))
    cap = power_cap(source=CapSource(schedule=entries, time_zone=name))
    assert (
        asked_at(cap, instant, Signals(ZONES), None).uw
        == (in_force(entries, instant, zone_of(name)).watts or 0) * UW
    )


@given(NAMES, schedules(), st.data())
def test_no_entry_begins_before_a_schedule_expires(
    name: str, entries: tuple[CapEntry, ...], data: st.DataObject
) -> None:
    """Nor does one that the clock passes over as it is turned (field report 57)."""
    instant, zone = data.draw(instants(name)), zone_of(name)
    until = asked_at(
        power_cap(source=CapSource(schedule=entries, time_zone=name)), instant, Signals(ZONES), None
    ).until
    assert until is not None
    assert until > instant
    assert in_force(entries, until - timedelta(microseconds=1), zone) == in_force(
        entries, instant, zone
    )


@given(worlds(), st.floats(0, 1, exclude_max=True))
def test_what_is_asked_stays_the_same_until_it_expires(world: World, share: float) -> None:
    """At many instants between; what never expires is the same for years."""
    asked = asked_at(world.cap, world.instant, world.signals, None)
    left = timedelta(days=900) if asked.until is None else asked.until - world.instant
    assert left > timedelta(0)
    for part in (share, share / 1000, 0.25, 0.5, 0.75, 0.9, 0.99, 1):
        later = world.instant + min(left * part, left - timedelta(microseconds=1))
        assert asked_at(world.cap, later, world.signals, None).uw == asked.uw


@given(worlds(), st.floats(0, 1, exclude_max=True))
def test_a_plan_stays_the_same_until_it_expires(world: World, share: float) -> None:
    """Ramp and division by demand included; whether or not what it remembers is handed on."""
    found = world.plan()
    left = timedelta(days=900) if found.valid_until is None else found.valid_until - world.instant
    assert left > timedelta(0)
    for part in (share, 1):
        later = world.instant + min(left * part, left - timedelta(microseconds=1))
        for previous in (None, found.cap_state):
            again = world.plan(later, previous)
            assert (limits_of(again), again.valid_until) == (limits_of(found), found.valid_until)
            assert (again.cap_state and again.cap_state.uw) == (
                found.cap_state and found.cap_state.uw
            )


@given(power_caps("solar"), NAMES, st.data())
def test_the_sun_gives_nothing_outside_the_day_and_never_more_than_its_peak(
    cap: PowerCap, name: str, data: st.DataObject
) -> None:
    """No quarter of full power at midnight, no negative, no NaN (field report 71); the curve is
    that of the documentation.
    """
    instant = data.draw(instants(name))
    cap = evolve(cap, source=evolve(cap.source, time_zone=name))
    solar = cap.source.solar
    assert solar is not None
    asked = asked_at(cap, instant, Signals(ZONES), None)
    local = tick(instant, cap.interval).astimezone(zone_of(name))
    rise, sets = (
        int(text[:2]) + int(text[3:]) / 60
        for text in (solar.sunrise or "04:00", solar.sunset or "20:00")
    )
    hour = local.hour + local.minute / 60 + local.second / 3600
    assert asked.uw is not None
    assert 0 <= asked.uw <= (solar.peak_watts or 0) * UW
    expected = (
        math.sin(math.pi * (hour - rise) / (sets - rise)) ** (solar.exponent or 4)
        * (solar.peak_watts or 0)
        if rise < hour < sets
        else 0
    )
    assert abs(asked.uw / UW - expected) < 0.001


@given(power_caps("market"), st.integers(0, 10 * 86_400 - 1))
def test_the_market_gives_the_share_of_the_part_of_the_day(cap: PowerCap, second: int) -> None:
    """volume / largest volume, in equal parts from midnight on, today as on every day (field
    report 57).
    """
    cap = evolve(cap, source=evolve(cap.source, time_zone="UTC"))
    market = cap.source.market
    assert market is not None
    part = second % 86_400 // 60 * len(market.volumes) // 1440
    expected = (market.peak_watts or 0) * UW * market.volumes[part] // max(market.volumes)
    assert (
        asked_at(
            cap, datetime(2026, 2, 25, tzinfo=UTC) + timedelta(seconds=second), Signals(), None
        ).uw
        == expected
    )


@given(power_caps("external"), st.floats(), st.integers(-100, 2000))
def test_an_answer_counts_while_it_is_young_and_a_number_from_0(
    cap: PowerCap, watts: float, age: int
) -> None:
    """Else fallbackWatts, and without it no cap at all, with a warning (field report 57)."""
    instant = datetime(2026, 6, 1, tzinfo=UTC)
    external = cap.source.external
    assert external is not None
    signals = Signals(ZONES, {"budget": Reading(watts, instant - timedelta(seconds=age))})
    asked = asked_at(cap, instant, signals, None)
    if age <= (60 if external.max_age else 600) and math.isfinite(watts) and watts >= 0:
        assert asked.uw == int(min(watts, 10**6) * UW)
        assert not asked.problems
        assert asked.until is not None
        assert asked_at(cap, asked.until, signals, None).problems
    else:
        assert asked.uw == (
            None if external.fallback_watts is None else external.fallback_watts * UW
        )
        assert [problem.code for problem in asked.problems] == ["cap-stale"]


@given(worlds(), st.integers(1, 100), st.booleans())
def test_percent_is_of_max_watts_or_of_what_the_firmware_names(
    world: World, percent: int, known: bool
) -> None:
    """Of all packages, or of each; where neither is known the object is in error and nothing is
    asked.
    """
    cap = evolve(
        world.cap,
        source=CapSource(schedule=(CapEntry("08:00", percent=percent),)),
        min_watts=1,
        max_step_watts=None,
    )
    tops = {package: (200 + package) * UW for package in world.packages}
    ceilings: Mapping[int, int | None] = tops if known else {**tops, 0: None}
    found = cap_at(cap, ceilings, world.instant, Signals())
    hundred = (
        cap.max_watts * UW
        if cap.max_watts
        else sum(tops.values()) // (len(tops) if cap.per == "package" else 1)
    )
    if not known and cap.max_watts is None:
        assert not found.shares
        assert [problem.code for problem in found.problems] == ["cap-source"]
    else:
        assert found.state is not None
        assert found.state.uw == max(hundred * percent // 100, UW) * (
            len(tops) if cap.per == "package" else 1
        )


@given(
    worlds("schedule", "solar", "market"),
    st.sampled_from(("Mars/Olympus_Mons", "", "../../etc/passwd", "europe/paris")),
)
def test_without_its_time_zone_a_cap_is_an_error_and_asks_for_nothing(
    world: World, name: str
) -> None:
    """It is not taken for UTC (field report 57)."""
    found = evolve(
        world, cap=evolve(world.cap, source=evolve(world.cap.source, time_zone=name))
    ).plan()
    assert all(zone_uw(target) is None for target in found.caps)
    assert ("error", "cap-time-zone") in {
        (problem.severity, problem.code) for problem in found.problems
    }
    assert found.cap_state is None


@given(worlds("schedule", "solar", "market", "static"))
def test_a_cap_does_not_depend_on_when_the_agent_was_started(world: World) -> None:
    """The whole of a day is the same whether it was lived through or begun at any moment of it
    (field report 57).
    """
    assume(world.cap.max_step_watts is None)
    state = None
    for hours in (0, 1, 5, 11, 24):
        at = world.instant + timedelta(hours=hours)
        lived = evolve(world, signals=evolve(world.signals, previous=state)).plan(at)
        begun = evolve(world, signals=evolve(world.signals, previous=None)).plan(at)
        assert (lived.caps, lived.valid_until) == (begun.caps, begun.valid_until)
        state = lived.cap_state
