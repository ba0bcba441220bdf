"""Power caps by example: what a source asks for, what becomes of it on a node, and what is wrong
with an object.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve

from kpm_planner.caps.division import divided
from kpm_planner.caps.rules import validate_cap
from kpm_planner.caps.schedule import CapState, Reading, Signals, asked_at
from kpm_planner.model.cap_objects import (
    CapEntry,
    CapSource,
    ConfigMapKey,
    ExternalCap,
    MarketCap,
    PowerCap,
    SolarCap,
    StaticCap,
)
from kpm_planner.model.cluster import LabelSelector, NodeSelector
from kpm_planner.model.machine import Machine, PowerLimit
from kpm_planner.model.problems import Code, Severity
from kpm_planner.model.quantities import UW
from kpm_planner.plan import NodePlan
from tests.planner.build import (
    EVERYWHERE,
    config,
    machine,
    moment,
    plan,
    power_cap,
    rapl,
    socket,
    with_zones,
)
from tests.planner.reading import limits_of, with_code
from tests.strategies.scenarios import ZONES

TWO_SOCKETS = with_zones(rapl(0), rapl(1))
NOON = datetime(2026, 6, 17, 12, tzinfo=UTC)  # a Wednesday


def utc(text: str) -> datetime:
    """An instant."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def watts(cap: PowerCap, at: datetime = NOON, **signals: Any) -> float | None:
    """What a cap's source asks at an instant, W."""
    uw = asked_at(cap, at, Signals(**{"zones": ZONES, **signals}), None).uw
    return None if uw is None else uw / UW


def schedule(
    *entries: tuple[str, int] | CapEntry, zone: str | None = None, **fields: Any
) -> PowerCap:
    """A cap by time of day."""
    found = tuple(
        entry if isinstance(entry, CapEntry) else CapEntry(entry[0], watts=entry[1])
        for entry in entries
    )
    return power_cap(source=CapSource(schedule=found, time_zone=zone), **fields)


def totals(found: NodePlan) -> list[float | None]:
    """The long-term or only limit of each zone, W; None for baseline."""
    named = limits_of(found).values()
    return [
        next((limits[name] / UW for name in ("long_term", "power_cap") if name in limits), None)
        for limits in named
    ]


# --- from the node to its zones ---


def test_a_nodes_budget_is_divided_over_its_packages() -> None:
    """Not written to each of them (field report 36)."""
    assert totals(plan(power_cap(300), on=TWO_SOCKETS)) == [150, 150]
    assert totals(plan(power_cap(300), on=with_zones(rapl(0), rapl(1), rapl(2)))) == [100, 100, 100]


def test_a_budget_for_each_package_is_not_divided() -> None:
    """per: package."""
    assert totals(plan(power_cap(150, per="package"), on=TWO_SOCKETS)) == [150, 150]


def test_dies_share_the_part_of_their_package() -> None:
    """Two sockets of two dies have one budget (field report 34)."""
    zones = (rapl(0, 0), rapl(0, 1), rapl(1, 0), rapl(1, 1))
    assert totals(plan(power_cap(400), on=with_zones(*zones))) == [100, 100, 100, 100]
    assert totals(plan(power_cap(400), on=with_zones(rapl(0, 0), rapl(0, 1), rapl(1)))) == [
        100,
        100,
        200,
    ]


def test_by_demand_the_measured_power_decides() -> None:
    """With 1 W for a package that takes none; equally as long as a
    package has not been measured.
    """
    cap = power_cap(300, divide="demand", min_watts=20)
    assert totals(
        plan(cap, on=TWO_SOCKETS, signals=Signals(power_uw={0: 200 * UW, 1: 100 * UW}))
    ) == [200, 100]
    assert totals(plan(cap, on=TWO_SOCKETS, signals=Signals(power_uw={0: 200 * UW}))) == [150, 150]
    assert totals(
        plan(
            evolve(cap, source=CapSource(static=StaticCap(100))),
            on=TWO_SOCKETS,
            signals=Signals(power_uw={0: 99 * UW, 1: 0}),
        )
    ) == [90, 10]


def test_what_one_package_cannot_take_the_other_gets() -> None:
    """max_power_uw bounds each."""
    assert totals(plan(power_cap(300), on=with_zones(rapl(0, top=100), rapl(1, top=205)))) == [
        100,
        200,
    ]


def test_a_package_that_gets_no_more_than_it_can_take_says_so() -> None:
    """The other one does not, nor one whose maximum nobody knows."""
    found = plan(power_cap(300), on=with_zones(rapl(0, top=100), rapl(1, top=205)))
    told = [[line for line in target.because if "max_power_uw" in line] for target in found.caps]
    assert told == [["package 0: at most max_power_uw 100 W"]] * 2
    unknown = plan(power_cap(8000), on=with_zones(rapl(0, top=None), rapl(1, top=None)))
    assert not [line for cap in unknown.caps for line in cap.because if "max_power_uw" in line]


@pytest.mark.parametrize(("top", "expected"), [(205, 205), (None, 400), (0, 400)])
def test_the_most_is_what_the_firmware_names_never_the_limit_of_now(
    top: int | None, expected: int
) -> None:
    """0 or absent is unknown (field report 36)."""
    assert totals(plan(power_cap(400), on=with_zones(rapl(long=60, top=top)))) == [expected]


def test_the_most_is_what_the_register_holds() -> None:
    """More would be cut off silently: 4096 W would be written as 0, for the register has 15
    bits.
    """
    assert totals(plan(power_cap(5000), on=with_zones(rapl(top=None)))) == [4095.875]


def test_the_least_is_10_w_a_package_unless_min_watts_says_otherwise() -> None:
    """Less, and the node might not answer; minWatts is the stronger of the two bounds."""
    assert totals(plan(power_cap(1), on=TWO_SOCKETS)) == [10, 10]
    assert totals(plan(power_cap(1, min_watts=6), on=TWO_SOCKETS)) == [3, 3]
    assert totals(plan(power_cap(1, min_watts=6, per="package"), on=TWO_SOCKETS)) == [6, 6]
    assert totals(plan(power_cap(500, min_watts=40, max_watts=80), on=TWO_SOCKETS)) == [40, 40]
    assert totals(plan(power_cap(1, max_watts=6), on=TWO_SOCKETS)) == [3, 3]


def test_a_die_has_no_more_than_its_own_maximum() -> None:
    """Where the dies of a package are unlike: max_power_uw is that of the zone."""
    assert (
        totals(plan(power_cap(300), on=with_zones(rapl(0, 0, top=100), rapl(0, 1, top=200))))[0]
        or 0
    ) <= 100
    assert (
        totals(plan(power_cap(300), on=with_zones(rapl(0, 0, top=100), rapl(0, 1, top=None))))[0]
        or 0
    ) <= 100


def test_a_small_maximum_of_one_package_does_not_starve_the_other() -> None:
    """10 W are left to each that can take them."""
    found = plan(
        power_cap(100, divide="demand"),
        on=with_zones(rapl(0, top=400), rapl(1, top=5), rapl(2, top=400)),
        signals=Signals(power_uw={0: 500 * UW, 1: UW, 2: UW}),
    )
    assert totals(found)[1:] == [5, 10]


@pytest.mark.parametrize("least", [50, None])
def test_a_ramp_that_begins_below_the_least_is_lifted_to_it(least: int | None) -> None:
    """minWatts was raised, or little was in force before: it holds at once, of the node and of each
    package.
    """
    for per in ("node", "package"):
        before = Signals(previous=CapState("budget", 5 * UW))
        found = plan(
            power_cap(200, min_watts=least, max_step_watts=1, per=per),
            on=TWO_SOCKETS,
            at=NOON,
            signals=before,
        )
        assert all(
            (uw or 0) >= (least or 10) / (2 if per == "node" and least else 1)
            for uw in totals(found)
        )


@pytest.mark.parametrize("year", [1, 1969, 8999, 9999])
@pytest.mark.parametrize("source", ["schedule", "solar", "static"])
def test_no_instant_is_too_far(year: int, source: str) -> None:
    """A clock that is wrong by ages costs the schedule, never the plan."""
    sources = {
        "schedule": CapSource(schedule=(CapEntry("12:00", watts=100),)),
        "solar": CapSource(solar=SolarCap(100)),
        "static": CapSource(static=StaticCap(100)),
    }
    found = plan(
        evolve(power_cap(1), source=evolve(sources[source], time_zone="Europe/Paris")),
        on=TWO_SOCKETS,
        at=NOON.replace(year=year),
        signals=Signals(ZONES),
    )
    assert all(uw for uw in totals(found))


def test_a_time_zone_that_does_not_exist_is_an_error_beside_any_source() -> None:
    """Also beside one that no time changes (field report 57)."""
    found = plan(
        evolve(power_cap(100), source=CapSource(static=StaticCap(100), time_zone="Mars/Base")),
        on=TWO_SOCKETS,
    )
    assert [problem.code for problem in found.problems if problem.code is Code.CAP_TIME_ZONE]
    assert totals(found) == [None, None]


def test_a_clock_that_was_set_back_does_not_stop_the_ramp() -> None:
    """A period in which the cap last rose may lie in the future then."""
    before = Signals(previous=CapState("budget", 50 * UW, NOON + timedelta(hours=3)))
    found = plan(
        power_cap(200, max_step_watts=10), on=with_zones(rapl(top=None)), at=NOON, signals=before
    )
    assert totals(found) == [60]


def test_without_measurements_the_parts_in_force_stay() -> None:
    """A new agent has measured nothing yet, and writes nothing (field report 2)."""
    known = Signals(parts_uw={0: 150 * UW, 1: 50 * UW})
    assert totals(plan(power_cap(200, divide="demand"), on=TWO_SOCKETS, signals=known)) == [150, 50]
    assert totals(plan(power_cap(200, divide="equal"), on=TWO_SOCKETS, signals=known)) == [100, 100]
    assert totals(plan(power_cap(200, divide="demand"), on=TWO_SOCKETS)) == [100, 100]


# --- limits by name ---

LONG, SHORT, PEAK = (
    PowerLimit(name, f"constraint_{index}", 205 * UW)
    for index, name in enumerate(("long_term", "short_term", "peak_power"))
)


@pytest.mark.parametrize(
    ("constraint", "long", "short", "expected"),
    [
        (None, 205, 246, {"long_term": 100}),
        ("long_term", 205, 246, {"long_term": 100}),
        ("long_term", 205, 60, {"long_term": 100, "short_term": 100}),
        ("short_term", 205, 246, {"long_term": 100, "short_term": 100}),
        ("short_term", 60, 246, {"short_term": 100}),
        ("all", 205, 246, {"long_term": 100, "short_term": 100}),
        ("all", 60, 60, {"long_term": 100, "short_term": 100}),
    ],
)
def test_which_limits_are_set(
    constraint: str | None, long: int, short: int, expected: dict[str, int]
) -> None:
    """By name, in any order, never peak_power; the other one only where short would fall below long
    (field report 36).
    """
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        limits = (evolve(LONG, limit_uw=long * UW), evolve(SHORT, limit_uw=short * UW), PEAK)
        found = plan(
            power_cap(100, constraint=constraint),
            on=with_zones(rapl(limits=tuple(limits[index] for index in order))),
        )
        assert {name: uw // UW for name, uw in limits_of(found)["package-0"].items()} == expected


def test_a_zone_without_the_limit_that_is_asked_for_stays_at_baseline() -> None:
    """With a warning; other zones are capped (R6)."""
    found = plan(
        power_cap(200, constraint="short_term"), on=with_zones(rapl(0), rapl(1, short=None))
    )
    assert [bool(limits) for limits in limits_of(found).values()] == [True, False]
    assert [problem.severity for problem in with_code(found.problems, Code.CAP_CONSTRAINT)] == [
        Severity.WARNING
    ]


def test_a_zone_with_the_short_term_limit_alone_can_be_capped_by_it() -> None:
    """By name: what is asked for is there."""
    found = plan(power_cap(100, constraint="short_term"), on=with_zones(rapl(limits=(SHORT,))))
    assert limits_of(found) == {"package-0": {"short_term": 100 * UW}}
    assert not found.problems


@pytest.mark.parametrize("constraint", ["short_term", "all"])
def test_the_short_term_limit_has_no_more_than_its_own_maximum(constraint: str) -> None:
    """It may have another one than the long-term limit (field report 36)."""
    found = plan(
        power_cap(300, constraint=constraint),
        on=with_zones(rapl(limits=(evolve(LONG, max_uw=None), evolve(SHORT, max_uw=200 * UW)))),
    )
    assert (
        0
        < limits_of(found)["package-0"]["long_term"]
        <= limits_of(found)["package-0"]["short_term"]
        <= 200 * UW
    )


@pytest.mark.parametrize("control", ["amd_hsmp_hwmon", "hsmp"])
@pytest.mark.parametrize("constraint", [None, "short_term", "all"])
def test_amds_only_limit_is_set_whatever_the_constraint(
    control: str, constraint: str | None
) -> None:
    """One cap a socket, up to its power1_cap_max."""
    found = plan(
        power_cap(700, constraint=constraint),
        on=with_zones(socket(0, control=control), socket(1, control=control, top=400)),
    )
    assert limits_of(found) == {
        "socket-0": {"power_cap": 280 * UW},
        "socket-1": {"power_cap": 400 * UW},
    }


@pytest.mark.parametrize(
    ("mirror", "warned"), [(40, True), (150, False), (400, False), (None, False)]
)
def test_a_lower_memory_mapped_twin_is_told(mirror: int | None, warned: bool) -> None:
    """The hardware obeys the lower one; it is never written (field report 35)."""
    found = plan(
        power_cap(150), on=with_zones(rapl(mirror_uw=None if mirror is None else mirror * UW))
    )
    assert bool(with_code(found.problems, Code.CAP_MIRROR)) is warned
    assert limits_of(found) == {"package-0": {"long_term": 150 * UW}}


# --- ramp ---


def test_up_by_a_step_a_period_and_down_at_once() -> None:
    """However often a node is looked at meanwhile; the plan holds until the next step."""
    state, seen = CapState("budget", 100 * UW), []
    for seconds, asked in (
        (0, 200),
        (10, 200),
        (59, 200),
        (60, 200),
        (125, 200),
        (126, 90),
        (127, 200),
        (180, 200),
    ):
        found = plan(
            power_cap(asked, max_step_watts=30),
            on=TWO_SOCKETS,
            at=NOON + timedelta(seconds=seconds),
            signals=Signals(previous=state),
        )
        assert found.cap_state is not None
        state = found.cap_state
        seen.append(
            (
                state.uw // UW,
                None if found.valid_until is None else (found.valid_until - NOON).seconds,
            )
        )
    assert seen == [
        (130, 60),
        (130, 60),
        (130, 60),
        (160, 120),
        (190, 180),
        (90, None),
        (90, 180),
        (120, 240),
    ]


@pytest.mark.parametrize(
    ("previous", "expected"),
    [
        (None, 200),
        (CapState("other", 50 * UW), 200),
        (CapState("", 50 * UW), 75),
        (CapState("budget", 50 * UW), 75),
        (CapState("", 900 * UW), 200),
    ],
)
def test_what_was_in_force_before_counts_if_it_can_be_this_ones(
    previous: CapState | None, expected: int
) -> None:
    """After a restart it is not known whose cap it was; another object's does not count."""
    found = plan(
        power_cap(200, max_step_watts=25),
        on=TWO_SOCKETS,
        at=NOON,
        signals=Signals(previous=previous),
    )
    assert found.cap_state is not None
    assert found.cap_state.uw == expected * UW


# --- time of day ---

OFFICE = schedule(
    CapEntry("07:30", ("Mon", "Tue", "Wed", "Thu", "Fri"), watts=300),
    ("19:00", 120),
    CapEntry("00:00", ("Sun",), watts=90),
)


@pytest.mark.parametrize(
    ("at", "expected", "until"),
    [
        ("2026-06-17T07:29:59.999999", 120, "2026-06-17T07:30"),
        ("2026-06-17T07:30", 300, "2026-06-17T19:00"),
        ("2026-06-17T19:00", 120, "2026-06-18T07:30"),
        ("2026-06-18T00:00", 120, "2026-06-18T07:30"),
        ("2026-06-20T12:00", 120, "2026-06-20T19:00"),
        ("2026-06-20T23:59:59", 120, "2026-06-21T00:00"),
        ("2026-06-21T00:00", 90, "2026-06-21T19:00"),
        ("2026-06-22T07:00", 120, "2026-06-22T07:30"),
    ],
)
def test_the_latest_past_entry_is_in_force_until_the_next_begins(
    at: str, expected: int, until: str
) -> None:
    """Also one that began days ago (field report 57)."""
    asked = asked_at(OFFICE, utc(at), Signals(), None)
    assert (asked.uw, asked.until) == (expected * UW, utc(until))


def test_an_entry_of_one_day_holds_for_a_week() -> None:
    """To the minute before it begins anew."""
    cap = schedule(CapEntry("12:00", ("Wed",), watts=100))
    assert asked_at(cap, NOON, Signals(), None).until == NOON + timedelta(days=7)
    assert watts(cap, NOON - timedelta(seconds=1)) == 100


#: Time zone; the moment at which its clock is turned forward; a time that it passes over.
PASSED_OVER = [
    ("Europe/Paris", "2026-03-29T01:00", "02:30"),
    ("America/New_York", "2026-03-08T07:00", "02:20"),
    ("Australia/Lord_Howe", "2026-10-03T15:30", "02:15"),
    ("Africa/Casablanca", "2026-03-22T02:00", "02:59"),
    ("Pacific/Apia", "2011-12-30T10:00", "08:00"),
]


@pytest.mark.parametrize(("zone", "turn", "time"), PASSED_OVER)
def test_an_entry_that_the_clock_passes_over_begins_as_it_is_turned(
    zone: str, turn: str, time: str
) -> None:
    """Not later, and the plan of before holds until then, no longer (field report 57)."""
    cap, at = schedule((time, 100), ("01:00", 50), zone=zone), utc(turn)
    if zone == "Pacific/Apia":  # it passed over a whole Friday
        cap = schedule(
            CapEntry(time, ("Fri",), watts=100), CapEntry("01:00", ("Thu",), watts=50), zone=zone
        )
    before = asked_at(cap, at - timedelta(minutes=5), Signals(ZONES), None)
    assert (before.uw, watts(cap, at)) == (50 * UW, 100)
    assert before.until == at


#: Time zone; the moment at which its clock is turned back; a time that comes twice; how long what
#: comes twice takes, in minutes.
TWICE = [
    ("Europe/Paris", "2026-10-25T01:00", "02:30", 60),
    ("America/New_York", "2026-11-01T06:00", "01:15", 60),
    ("Australia/Lord_Howe", "2026-04-04T15:00", "01:45", 30),
    ("Africa/Casablanca", "2026-02-15T02:00", "02:30", 60),
]


@pytest.mark.parametrize(("zone", "turn", "time", "minutes"), TWICE)
def test_an_entry_whose_time_comes_twice_begins_once(
    zone: str, turn: str, time: str, minutes: int
) -> None:
    """At the first time, and holds through the second (field report 57)."""
    cap, at = schedule((time, 100), ("00:30", 50), zone=zone), utc(turn)
    first = next(
        minute
        for minute in range(minutes)
        if watts(cap, at - timedelta(minutes=minutes - minute)) == 100
    )
    local = (at - timedelta(minutes=minutes - first)).astimezone(ZONES[zone])
    assert f"{local:%H:%M}" == time
    assert {watts(cap, at + timedelta(minutes=minute)) for minute in range(2 * minutes)} == {100}


# --- sun and market ---


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("00:00", 0),
        ("03:59", 0),
        ("04:00", 0),
        ("08:00", 100),
        ("12:00", 400),
        ("16:00", 100),
        ("20:00", 0),
        ("20:01", 0),
        ("23:59", 0),
    ],
)
def test_the_sun_of_the_documentation(at: str, expected: int) -> None:
    """peakWatts × sin⁴ from 04:00 to 20:00, and nothing outside: not a quarter of full power at
    midnight (field report 71).
    """
    assert watts(
        power_cap(source=CapSource(solar=SolarCap(400))), utc(f"2026-06-17T{at}")
    ) == pytest.approx(expected, abs=1e-6)


def test_at_night_the_least_holds() -> None:
    """The budget never falls to nothing."""
    cap = power_cap(source=CapSource(solar=SolarCap(400)), min_watts=60)
    assert totals(plan(cap, on=TWO_SOCKETS, at=utc("2026-06-17T00:00"))) == [30, 30]


def test_the_last_part_of_the_day_is_a_part_like_the_others() -> None:
    """23:45 to midnight, on the first day and the next ones (field report 57)."""
    cap = power_cap(source=CapSource(market=MarketCap(200, tuple(range(1, 97)))))
    for day in (17, 18, 30):
        seen = [
            watts(cap, utc(f"2026-06-{day}T{time}"))
            for time in ("00:00", "23:44:59", "23:45", "23:59:59")
        ]
        assert seen == [pytest.approx(200 * part / 96, abs=1e-6) for part in (1, 95, 96, 96)]


def test_parts_of_a_day_that_are_no_whole_minutes_begin_at_the_next_one() -> None:
    """7 parts of 205 minutes and 43 seconds."""
    cap = power_cap(source=CapSource(market=MarketCap(70, (1, 2, 3, 4, 5, 6, 7))))
    assert [
        watts(cap, utc(f"2026-06-17T{time}")) for time in ("03:25", "03:26", "20:34", "20:35")
    ] == [10, 20, 60, 70]


# --- somebody else's word ---

EXTERNAL = power_cap(
    source=CapSource(
        external=ExternalCap(ConfigMapKey("grid", "watts"), max_age="10m", fallback_watts=90)
    )
)


@pytest.mark.parametrize(
    ("reading", "expected", "said"),
    [
        (Reading(180.5, NOON), 180.5, None),
        (Reading(0, NOON), 0, None),
        (Reading(180, NOON - timedelta(minutes=10)), 180, None),
        (Reading(180, NOON - timedelta(minutes=10, seconds=1)), 90, "older than 10m"),
        (Reading(1e300, NOON), 1e6, None),
        (Reading(float("nan"), NOON), 90, ""),
        (Reading(float("inf"), NOON), 90, ""),
        (Reading(-1, NOON), 90, ""),
        (None, 90, "has not answered yet"),
    ],
)
def test_an_answer_counts_while_it_is_young_and_makes_sense(
    reading: Reading | None, expected: float, said: str | None
) -> None:
    """Else fallbackWatts, with a warning."""
    asked = asked_at(
        EXTERNAL, NOON, Signals(external={} if reading is None else {"budget": reading}), None
    )
    assert asked.uw == expected * UW
    assert [(problem.severity, problem.code) for problem in asked.problems] == (
        [] if said is None else [(Severity.WARNING, Code.CAP_STALE)]
    )
    assert (said or "") in "".join(problem.message for problem in asked.problems)


@pytest.mark.parametrize("number", [float("nan"), -1.0])
def test_a_young_answer_that_is_no_number_of_watts_is_not_called_old(number: float) -> None:
    """The message says what is wrong."""
    (problem,) = asked_at(
        EXTERNAL, NOON, Signals(external={"budget": Reading(number, NOON)}), None
    ).problems
    assert "older" not in problem.message


def test_without_a_fallback_silence_is_no_cap() -> None:
    """Mistakes do not slow pods (R8)."""
    found = plan(
        power_cap(source=CapSource(external=ExternalCap(url="https://grid.example.com/watts"))),
        on=TWO_SOCKETS,
    )
    assert totals(found) == [None, None]
    assert "no cap is set" in found.problems[0].message


def test_the_answer_of_another_source_does_not_count() -> None:
    """Readings are by the name of the object."""
    assert watts(EXTERNAL, external={"other": Reading(180, NOON)}) == 90


# --- percent ---


@pytest.mark.parametrize(
    ("cap", "on", "expected"),
    [
        ({"max_watts": 300}, TWO_SOCKETS, [75, 75]),
        ({"max_watts": 300, "per": "package"}, TWO_SOCKETS, [150, 150]),
        ({}, TWO_SOCKETS, [102.5, 102.5]),
        ({"per": "package"}, with_zones(rapl(0, top=100), rapl(1, top=300)), [100, 100]),
        ({}, with_zones(rapl(0, 0, top=100), rapl(0, 1, top=100)), [50, 50]),
        ({"max_watts": 300}, with_zones(rapl(top=None)), [150]),
    ],
)
def test_percent_of_what(cap: dict[str, Any], on: Machine, expected: list[float]) -> None:
    """maxWatts, or else what the firmware names for all packages, or on average for each."""
    assert (
        totals(
            plan(
                power_cap(source=CapSource(schedule=(CapEntry("00:00", percent=50),)), **cap), on=on
            )
        )
        == expected
    )


def test_percent_of_nothing_is_an_error() -> None:
    """A maximum of one package is not enough."""
    found = plan(
        power_cap(source=CapSource(schedule=(CapEntry("00:00", percent=50),))),
        on=with_zones(rapl(0), rapl(1, top=None)),
    )
    assert totals(found) == [None, None]
    assert [
        (problem.severity, problem.field) for problem in with_code(found.problems, Code.CAP_SOURCE)
    ] == [(Severity.ERROR, "spec.source.schedule")]


# --- which object holds ---


def test_without_a_cap_everything_is_at_baseline() -> None:
    """And says so."""
    found = plan(on=TWO_SOCKETS)
    assert totals(found) == [None, None]
    assert {target.because for target in found.caps} == {("no PowerCap covers it",)}
    assert found.cap_state is None


def test_a_cap_without_a_selector_selects_no_node() -> None:
    """As all new kinds."""
    for selector in (None, NodeSelector(), NodeSelector(LabelSelector({"zone": "b"}))):
        found = plan(power_cap(node_selector=selector), on=TWO_SOCKETS)
        assert totals(found) == [None, None]
        assert not found.problems


def test_of_two_caps_the_older_holds_alone() -> None:
    """And the loser is told; they are not added, nor is the lower taken (R5)."""
    old, young = (
        power_cap(200, "old", meta_created=moment(8)),
        power_cap(100, "young", meta_created=moment(9)),
    )
    for order in ((old, young), (young, old)):
        found = plan(*order, on=TWO_SOCKETS)
        assert totals(found) == [100, 100]
        assert [problem.object for problem in with_code(found.problems, Code.CAP_SUPERSEDED)] == [
            "PowerCap/young"
        ]


def test_an_invalid_cap_sets_nothing_and_lets_no_younger_one_in() -> None:
    """It holds, at baseline, until it is corrected."""
    found = plan(
        power_cap(0, "old", meta_created=moment(8)),
        power_cap(100, "young", meta_created=moment(9)),
        on=TWO_SOCKETS,
    )
    assert totals(found) == [None, None]
    assert {target.because for target in found.caps} == {("PowerCap/old has errors, so baseline",)}


def test_a_node_that_is_not_ours_is_not_capped() -> None:
    """The PowerConfig does not select it."""
    found = plan(power_cap(100), config(power_node_selector={"zone": "b"}), on=TWO_SOCKETS)
    assert totals(found) == [None, None]


def test_a_node_that_cannot_cap_is_a_problem_for_its_object_only() -> None:
    """Field report 37; where AMD's mailbox does not answer, that is the reason."""
    assert [problem.code for problem in plan(power_cap()).problems] == [Code.CAP_UNSUPPORTED]
    silent = evolve(machine(), fabric_fault="the firmware does not answer")
    assert (
        plan(power_cap(), on=silent).problems[0].message.endswith(": the firmware does not answer")
    )


# --- what may stand in an object ---

GOOD = CapSource(static=StaticCap(100))


@pytest.mark.parametrize(
    ("source", "field"),
    [
        (CapSource(), "spec.source"),
        (CapSource(static=StaticCap(1), external=ExternalCap(url="http://a")), "spec.source"),
        (CapSource(static=StaticCap()), "spec.source.static.watts"),
        (CapSource(static=StaticCap(-1)), "spec.source.static.watts"),
        (CapSource(schedule=(CapEntry(watts=1),)), "spec.source.schedule[0].time"),
        (
            CapSource(schedule=(CapEntry("08:00", watts=1), CapEntry("25:10:30", watts=1))),
            "spec.source.schedule[1].time",
        ),
        (CapSource(schedule=(CapEntry("24:00", watts=1),)), "spec.source.schedule[0].time"),
        (CapSource(schedule=(CapEntry("08:00:00", watts=1),)), "spec.source.schedule[0].time"),
        (CapSource(schedule=(CapEntry(" 8:00", watts=1),)), "spec.source.schedule[0].time"),
        (CapSource(schedule=(CapEntry("٠٨:٠٠", watts=1),)), "spec.source.schedule[0].time"),
        (
            CapSource(schedule=(CapEntry("08:00", ("monday",), watts=1),)),
            "spec.source.schedule[0].days",
        ),
        (CapSource(schedule=(CapEntry("08:00"),)), "spec.source.schedule[0]"),
        (CapSource(schedule=(CapEntry("08:00", watts=1, percent=1),)), "spec.source.schedule[0]"),
        (CapSource(schedule=(CapEntry("08:00", watts=0),)), "spec.source.schedule[0].watts"),
        (CapSource(schedule=(CapEntry("08:00", percent=101),)), "spec.source.schedule[0].percent"),
        (
            CapSource(
                schedule=(
                    CapEntry("08:00", ("Mon", "Tue"), watts=1),
                    CapEntry("08:00", ("Tue",), watts=2),
                )
            ),
            "spec.source.schedule[1].time",
        ),
        (CapSource(solar=SolarCap()), "spec.source.solar.peakWatts"),
        (CapSource(solar=SolarCap(1, sunrise="7")), "spec.source.solar.sunrise"),
        (CapSource(solar=SolarCap(1, sunset="25:10:30")), "spec.source.solar.sunset"),
        (CapSource(solar=SolarCap(1, "08:00", "08:00")), "spec.source.solar.sunset"),
        (CapSource(solar=SolarCap(1, sunrise="21:00")), "spec.source.solar.sunset"),
        (CapSource(solar=SolarCap(1, exponent=17)), "spec.source.solar.exponent"),
        (CapSource(market=MarketCap(0, (1,))), "spec.source.market.peakWatts"),
        (CapSource(market=MarketCap(1)), "spec.source.market.volumes"),
        (CapSource(market=MarketCap(1, (0, 0))), "spec.source.market.volumes"),
        (CapSource(market=MarketCap(1, (1, -1))), "spec.source.market.volumes"),
        (CapSource(market=MarketCap(1, (1,) * 1441)), "spec.source.market.volumes"),
        (CapSource(external=ExternalCap()), "spec.source.external"),
        (
            CapSource(external=ExternalCap(ConfigMapKey("a", "b"), "http://a")),
            "spec.source.external",
        ),
        (CapSource(external=ExternalCap(ConfigMapKey("a"))), "spec.source.external.configMap"),
        (CapSource(external=ExternalCap(url="ftp://a")), "spec.source.external.url"),
        (
            CapSource(external=ExternalCap(url="http://a", max_age="0s")),
            "spec.source.external.maxAge",
        ),
        (
            CapSource(external=ExternalCap(url="http://a", fallback_watts=0)),
            "spec.source.external.fallbackWatts",
        ),
    ],
)
def test_a_wrong_source_is_one_error_at_its_place(source: CapSource, field: str) -> None:
    """Seen without a machine; it sets no cap on any node."""
    found = validate_cap(power_cap(source=source))
    assert [(problem.severity, problem.code, problem.field) for problem in found] == [
        (Severity.ERROR, Code.CAP_SOURCE, field)
    ]
    assert totals(plan(power_cap(source=source), on=TWO_SOCKETS)) == [None, None]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"min_watts": 0}, "minWatts"),
        ({"max_watts": -1}, "maxWatts"),
        ({"max_step_watts": 0}, "maxStepWatts"),
        ({"min_watts": 200, "max_watts": 199}, "minWatts"),
        ({"divide": "fair"}, "divide"),
        ({"per": "rack"}, "per"),
        ({"constraint": "peak_power"}, "constraint"),
        *(
            ({"period": text}, "period")
            for text in ("4s", "2h", "61m", "60", "1.5m", "-60s", "١٠s")
        ),
    ],
)
def test_a_wrong_bound_is_one_error_at_its_place(fields: dict[str, Any], field: str) -> None:
    """With what is allowed."""
    found = validate_cap(power_cap(**fields))
    assert [(problem.severity, problem.code, problem.field) for problem in found] == [
        (Severity.ERROR, Code.CAP_RANGE, f"spec.{field}")
    ]


def test_a_time_that_is_missing_is_called_missing() -> None:
    """None is no word for a user; and two that are missing do not begin twice."""
    found = validate_cap(schedule(CapEntry(watts=1), CapEntry(watts=2)))
    assert [problem.field for problem in found] == [
        "spec.source.schedule[0].time",
        "spec.source.schedule[1].time",
    ]
    assert not [problem for problem in found if "None" in problem.message]


@pytest.mark.parametrize(
    "source",
    [
        CapSource(schedule=(CapEntry("08:00", watts=1),)),
        CapSource(solar=SolarCap(1)),
        CapSource(market=MarketCap(1, (1,))),
    ],
)
def test_a_time_zone_that_does_not_exist_is_an_error(source: CapSource) -> None:
    """It is not taken for UTC (field report 57)."""
    found = plan(
        power_cap(source=evolve(source, time_zone="Europe/Atlantis")),
        on=TWO_SOCKETS,
        signals=Signals(ZONES),
    )
    assert totals(found) == [None, None]
    assert [
        (problem.severity, problem.field)
        for problem in with_code(found.problems, Code.CAP_TIME_ZONE)
    ] == [(Severity.ERROR, "spec.source.timeZone")]


def test_a_cap_that_selects_everything_and_says_only_watts_is_valid() -> None:
    """The smallest one."""
    assert validate_cap(PowerCap(power_cap().meta, node_selector=EVERYWHERE, source=GOOD)) == ()


# --- division ---


@pytest.mark.parametrize(
    ("budget", "weights", "least", "tops", "parts"),
    [
        (300, [1, 1], 10, [200, 200], [150, 150]),
        (300, [2, 1], 10, [400, 400], [200, 100]),
        (300, [2, 1], 10, [150, 400], [150, 150]),
        (300, [9, 1], 100, [400, 400], [200, 100]),
        (300, [9, 1, 1], 40, [100, 400, 400], [100, 100, 100]),
        (500, [1, 1], 10, [100, 100], [100, 100]),
        (10, [5, 1], 10, [100, 100], [10, 10]),
        (100, [1, 1, 1], 1, [100, 100, 100], [33, 33, 33]),
        (0, [1], 0, [10], [0]),
    ],
)
def test_a_budget_is_divided(
    budget: int, weights: list[int], least: int, tops: list[int], parts: list[int]
) -> None:
    """In proportion, between the bounds."""
    assert divided(budget, weights, least, tops) == parts


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (None, "expected HH:MM from 00:00 to 23:59, got nothing"),
        ("24:00", "expected HH:MM from 00:00 to 23:59, got '24:00'"),
    ],
)
def test_a_time_that_is_none_says_what_one_is(time: str | None, words: str) -> None:
    """One that was left out, and one that no clock shows."""
    cap = power_cap(source=CapSource(schedule=(CapEntry(time, watts=100),)))
    (problem,) = (item for item in validate_cap(cap) if item.field.endswith(".time"))
    assert problem.message == words


@pytest.mark.parametrize(
    "source",
    [
        CapSource(static=StaticCap()),
        CapSource(solar=SolarCap()),
        CapSource(market=MarketCap(volumes=(1,))),
    ],
)
def test_watts_that_are_left_out_are_said_to_be(source: CapSource) -> None:
    """Not 0, which somebody might have written."""
    (problem,) = (
        item for item in validate_cap(power_cap(source=source)) if item.field.endswith("atts")
    )
    assert problem.message == "expected watts from 1, got nothing"
