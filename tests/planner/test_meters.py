"""Meters by example: what passed between two readings of counters that wrap, begin anew or are
broken (field reports 33 and 34).
"""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kpm_planner.energy.meters import (
    APART,
    MOST_UW,
    WHOLE,
    ZONES,
    Meter,
    Passed,
    energy_between,
    telling,
)
from kpm_planner.model.problems import Code

SECOND = 1_000_000
RANGE = 262_143_328_850
COUNTER = Meter("intel-rapl:0/energy_uj", "package", package=0, range_uj=RANGE)
ENDLESS = evolve(COUNTER, range_uj=None)
POWER = Meter("hwmon0/power1_average", "platform", "hwmon", power=True)
#: How long a package of 2 kW takes for the whole range, rounded up to a second.
ROUND_US = 132 * SECOND

READABLE = st.none() | st.integers(-(10**6), 10**13) | st.integers(0, 10**9)


# --- counters ---


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (1_000, 1_000, Passed(0)),
        (1_000, 1_500, Passed(500)),
        (0, 2_000 * SECOND, Passed(2_000 * SECOND)),
        (262_143_328_000, 1_000, Passed(1_850)),
        (RANGE, 0, Passed(0)),
        (RANGE - 1, 0, Passed(1)),
        (RANGE - 1, 1, Passed(2)),
    ],
)
def test_a_counter_that_goes_on_or_wraps_once_is_exact(
    before: int, after: int, expected: Passed
) -> None:
    """In a second; the value after the highest one is 0 (field report 33)."""
    assert energy_between(COUNTER, before, after, SECOND) == expected


@pytest.mark.parametrize("before", [None, 0, 5_000, RANGE])
@pytest.mark.parametrize("after", [None, -1, -4_294_967_295_000])
@pytest.mark.parametrize("meter", [COUNTER, ENDLESS, POWER])
def test_what_cannot_be_read_is_marked(meter: Meter, before: int | None, after: int | None) -> None:
    """No reading, or one below 0, says nothing of what passed."""
    assert energy_between(meter, before, after, SECOND) == Passed(0, Code.ENERGY_UNREADABLE)


@pytest.mark.parametrize("meter", [COUNTER, ENDLESS, POWER])
@pytest.mark.parametrize("after", [0, 7, RANGE - 1])
def test_a_first_reading_counts_nothing(meter: Meter, after: int) -> None:
    """What the counter shows then has passed before anybody looked."""
    assert energy_between(meter, None, after, SECOND) == Passed()


@pytest.mark.parametrize("meter", [COUNTER, ENDLESS, POWER])
@pytest.mark.parametrize("before", [-1, -5 * SECOND])
def test_after_a_reading_below_0_the_next_one_is_a_first(meter: Meter, before: int) -> None:
    """It is no number to count from."""
    assert energy_between(meter, before, SECOND, SECOND).uj == 0


@pytest.mark.parametrize("meter", [COUNTER, ENDLESS, POWER])
@pytest.mark.parametrize("elapsed", [0, -1, -SECOND])
def test_in_no_time_nothing_passes(meter: Meter, elapsed: int) -> None:
    """Nor in an interval that a clock which went back shows."""
    assert energy_between(meter, 5, 9, elapsed) == Passed()


@pytest.mark.parametrize("reach", [None, 0])
@pytest.mark.parametrize("elapsed", [SECOND, 600 * SECOND])
def test_a_counter_without_a_range_goes_on(reach: int | None, elapsed: int) -> None:
    """The kernel shows no range, or 0: nothing can be said of wraps, and what rises is counted."""
    assert energy_between(evolve(COUNTER, range_uj=reach), 1_000, 1_500, elapsed) == Passed(500)


@pytest.mark.parametrize("reach", [None, 0])
def test_a_counter_without_a_range_that_fell_began_anew(reach: int | None) -> None:
    """The interval is lost, and never of some 1.8e19 µJ."""
    assert energy_between(
        evolve(COUNTER, range_uj=reach), 262_143_328_000, 1_000, SECOND
    ) == Passed(0, Code.ENERGY_RESET)


@pytest.mark.parametrize(
    ("before", "after"),
    [(100_000 * SECOND, 1_000), (250_000 * SECOND, 0), (1, 0), (RANGE + 1, 0), (2 * RANGE, RANGE)],
)
def test_a_counter_that_fell_further_than_a_wrap_could_take_it_began_anew(
    before: int, after: int
) -> None:
    """The driver was loaded again: to have wrapped it would have needed more power than there is,
    or it was beyond its range.
    """
    assert energy_between(COUNTER, before, after, SECOND) == Passed(0, Code.ENERGY_RESET)


@pytest.mark.parametrize(("before", "after"), [(262_143_328_000, 1_000), (5_000, 4_000)])
def test_a_counter_that_fell_while_the_machine_slept_began_anew(before: int, after: int) -> None:
    """Also where it might have wrapped."""
    assert energy_between(COUNTER, before, after, SECOND, suspended=True) == Passed(
        0, Code.ENERGY_RESET
    )


@pytest.mark.parametrize(
    ("before", "after", "least"), [(1_000, 1_500, 500), (262_143_328_000, 1_000, 1_850), (7, 7, 0)]
)
def test_where_more_than_one_wrap_is_possible_the_least_is_counted_and_marked(
    before: int, after: int, least: int
) -> None:
    """Two wraps look as one does; so does none."""
    assert energy_between(COUNTER, before, after, ROUND_US) == Passed(least, Code.ENERGY_WRAPPED)
    assert energy_between(COUNTER, before, after, 100 * ROUND_US) == Passed(
        least, Code.ENERGY_WRAPPED
    )
    assert energy_between(COUNTER, 1_000, 1_500, ROUND_US - SECOND).fault is None


@pytest.mark.parametrize(
    ("meter", "before", "after"),
    [
        (COUNTER, 5_000, 4_294_967_295_000),
        (ENDLESS, 5_000, 4_294_967_295_000),
        (ENDLESS, 0, 2**64 - 1),
        (COUNTER, 0, 2_000 * SECOND + 1),
        (Meter("dram", "dram", package=0), 0, 1_000 * SECOND + 1),
        (POWER, 5_000, 4_294_967_295_000),
        (POWER, 4_294_967_295_000, 5_000),
        (Meter("hwmon1/power1_input", "package", power=True), 0, 2_000 * SECOND + 1),
    ],
)
def test_more_than_can_be_is_not_counted(meter: Meter, before: int, after: int) -> None:
    """No package takes 2 kW; a sensor that says so is broken."""
    assert energy_between(meter, before, after, SECOND) == Passed(0, Code.ENERGY_IMPLAUSIBLE)


def test_the_reading_after_an_absurd_one_is_no_wrap() -> None:
    """The absurd one lies beyond the range."""
    assert energy_between(COUNTER, 4_294_967_295_000, 6_000, SECOND) == Passed(0, Code.ENERGY_RESET)


@given(
    st.sampled_from((COUNTER, ENDLESS, evolve(COUNTER, range_uj=0), POWER)),
    READABLE,
    READABLE,
    st.integers(-SECOND, 10**12),
    st.booleans(),
)
def test_what_passed_is_never_negative_and_never_more_than_can_be(
    meter: Meter, before: int | None, after: int | None, elapsed: int, suspended: bool
) -> None:
    """Whatever a meter shows; what is lost is marked and counts nothing."""
    passed = energy_between(meter, before, after, elapsed, suspended=suspended)
    assert 0 <= passed.uj <= max(meter.most_uw * elapsed // SECOND, 0)
    assert passed.fault in (
        None,
        Code.ENERGY_UNREADABLE,
        Code.ENERGY_RESET,
        Code.ENERGY_IMPLAUSIBLE,
        Code.ENERGY_WRAPPED,
    )
    assert not passed.uj or passed.fault in (None, Code.ENERGY_WRAPPED)


@given(st.integers(0, RANGE - 1), st.integers(0, 262_143 * SECOND), st.integers(0, SECOND))
def test_one_wrap_at_most_is_exact_for_every_start(start: int, true: int, spare: int) -> None:
    """As long as the interval is too short for a second one."""
    elapsed = -(-true // 2_000) + spare
    passed = energy_between(COUNTER, start, (start + true) % RANGE, elapsed)
    assert passed.uj == (true if elapsed else 0)


# --- meters that show power ---


@pytest.mark.parametrize(
    ("before", "after", "elapsed", "expected"),
    [
        (100 * SECOND, 100 * SECOND, SECOND, 100 * SECOND),
        (100 * SECOND, 200 * SECOND, SECOND, 150 * SECOND),
        (200 * SECOND, 100 * SECOND, 10 * SECOND, 1_500 * SECOND),
        (0, 0, SECOND, 0),
        (100 * SECOND, 100 * SECOND, SECOND // 2, 50 * SECOND),
        (1, 0, SECOND, 0),
    ],
)
def test_power_is_integrated(before: int, after: int, elapsed: int, expected: int) -> None:
    """Half of each reading for the whole interval, rounded down to the µJ; it falls as it likes,
    asleep or awake.
    """
    assert energy_between(POWER, before, after, elapsed) == Passed(expected)
    assert energy_between(POWER, before, after, elapsed, suspended=True) == Passed(expected)


@pytest.mark.parametrize(
    "error", [4_294_967_295_000, 0xFFFFFFFF * 1_000, 2**63 - 1, 20_001 * SECOND]
)
@pytest.mark.parametrize("other", [0, 165 * SECOND, 20_000 * SECOND])
def test_a_value_that_stands_for_an_error_is_no_power(error: int, other: int) -> None:
    """0xFFFFFFFF mW and the like: neither the interval that it ends nor the one that it begins is
    known; what is possible is.
    """
    for before, after in ((error, other), (other, error), (error, error)):
        assert energy_between(POWER, before, after, SECOND) == Passed(0, Code.ENERGY_IMPLAUSIBLE)
    assert energy_between(POWER, other, other, SECOND) == Passed(other)


# --- what they tell together ---


@pytest.mark.parametrize(
    ("zones", "expected"),
    [
        ((), ()),
        (("package",), ("package",)),
        (("dram", "package"), ("package", "dram")),
        (("dram",), ("dram",)),
        (("core", "package", "uncore", "psys", "platform", "dram"), ("package", "dram")),
        (("platform",), ("platform",)),
        (("platform", "psys"), ("psys",)),
        (("power +12v", "platform", "CPU"), ("platform",)),
        (("package", "VDD_SOC"), ("package",)),
        (("core", "uncore"), ()),
        (("VDD_SOC", "part package"), ()),
        (("other",), ()),
        (("package", "package", "package"), ("package",)),
    ],
)
def test_what_a_node_takes_is_told_once(zones: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """Packages and memory, which lie side by side; else the whole, by one of its names; parts alone
    tell nothing.
    """
    assert telling(zones) == telling(iter(zones)) == expected


@given(st.lists(st.sampled_from(sorted(ZONES)) | st.text(max_size=5)))
def test_what_is_added_up_lies_side_by_side(zones: list[str]) -> None:
    """Whatever there is, and in whatever order."""
    found = telling(zones)
    assert set(found) <= set(zones)
    assert set(found) <= set(APART) or (len(found) == 1 and found[0] in WHOLE)
    assert found == telling(reversed(zones))
    assert found or not {*APART, *WHOLE} & set(zones)


# --- where they are ---


@pytest.mark.parametrize(
    ("package", "die", "place"),
    [
        (None, None, "node"),
        (0, None, "package-0"),
        (1, None, "package-1"),
        (0, 0, "package-0-die-0"),
        (12, 3, "package-12-die-3"),
    ],
)
def test_the_place_names_package_and_die(package: int | None, die: int | None, place: str) -> None:
    """The same zone name is on every socket (field report 34); what belongs to no package is the
    node's.
    """
    assert Meter("m", "package", package=package, die=die).place == place


def test_every_zone_has_a_most() -> None:
    """One that is not known has that of a platform, which is the largest."""
    assert all(Meter("m", zone).most_uw == uw > 0 for zone, uw in MOST_UW.items())
    assert Meter("m", "anything").most_uw == max(MOST_UW.values())
    assert MOST_UW.keys() < ZONES
