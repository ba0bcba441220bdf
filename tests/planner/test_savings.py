"""What a change saved, against values from tables: Welch's interval, whether it is certain, and
what energy costs at a time.
"""

from __future__ import annotations

from statistics import NormalDist, mean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpm_planner.energy.savings import (
    Mean,
    Rate,
    Saving,
    compare,
    cost,
    mean_of,
    rate_at,
    t_quantile,
)

#: t below which 97.5 % lie, by degrees of freedom; from printed tables.
T_975 = {1: 12.706, 2: 4.303, 5: 2.571, 10: 2.228, 30: 2.042, 100: 1.984}
#: Two sets of 15 of a published example of Welch's test: t = -2.46, 25.0 degrees of freedom, p =
#: 0.021.
FIRST = (27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1, 21.9, 22.6, 23.1, 19.6, 19.0, 21.7, 21.4)
SECOND = (27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0, 24.8, 20.2, 21.9, 22.1, 22.9, 20.5, 24.4)

#: Joules as a meter shows them.
JOULES = st.integers(0, 10**12).map(lambda uj: uj / 1_000_000)
RUNS = st.lists(JOULES, min_size=2, max_size=12)


# --- means ---


@given(RUNS)
def test_a_mean_has_the_standard_error_of_its_values(values: list[float]) -> None:
    """The deviation of a sample over the root of its size."""
    found = mean_of(values)
    assert found.count == len(values)
    assert found.mean == pytest.approx(mean(values), rel=1e-9, abs=1e-9)
    assert found.error == pytest.approx(stdev(values) / len(values) ** 0.5, rel=1e-6, abs=1e-6)


def test_one_measurement_has_no_error() -> None:
    """None that is known."""
    assert mean_of([7.0]) == Mean(1, 7.0, 0.0)


def test_no_measurements_are_an_error() -> None:
    """Of either set."""
    for call in (lambda: mean_of([]), lambda: compare([], [1.0]), lambda: compare([1.0], [])):
        with pytest.raises(ValueError, match="no measurements"):
            call()


# --- Student's distribution ---


@pytest.mark.parametrize(("freedom", "expected"), T_975.items())
def test_quantiles_are_those_of_the_tables(freedom: int, expected: float) -> None:
    """To the last digit of the table."""
    assert round(t_quantile(0.975, freedom), 3) == expected


@pytest.mark.parametrize(
    ("probability", "freedom", "expected"),
    [
        (0.95, 1, 6.314),
        (0.95, 10, 1.812),
        (0.9, 5, 1.476),
        (0.995, 2, 9.925),
        (0.995, 10, 3.169),
        (0.9995, 1, 636.619),
        (0.975, 25, 2.060),
        (0.75, 1, 1.000),
    ],
)
def test_quantiles_of_other_confidences_are_those_of_the_tables(
    probability: float, freedom: float, expected: float
) -> None:
    """For 50, 80, 90, 99 and 99.9 per cent."""
    assert round(t_quantile(probability, freedom), 3) == expected


@pytest.mark.parametrize("probability", [0.75, 0.95, 0.975, 0.995])
@pytest.mark.parametrize("freedom", [1e4, 1e6])
def test_with_many_measurements_quantiles_are_those_of_the_normal_distribution(
    probability: float, freedom: float
) -> None:
    """Student's distribution becomes it."""
    assert t_quantile(probability, freedom) == pytest.approx(
        NormalDist().inv_cdf(probability), rel=0.001
    )


@given(st.floats(0.5, 0.999), st.floats(0.5, 0.999), st.floats(1, 500), st.floats(1, 500))
def test_quantiles_rise_with_the_share_and_fall_with_freedom(
    share: float, other: float, freedom: float, more: float
) -> None:
    """Also for degrees of freedom that are no whole numbers, as Welch's are."""
    low, high = sorted((share, other))
    few, many = sorted((freedom, more))
    assert t_quantile(low, few) <= t_quantile(high, few) + 1e-6
    assert t_quantile(high, few) >= t_quantile(high, many) - 1e-6
    assert t_quantile(0.5, few) == pytest.approx(0, abs=1e-6)


# --- the interval ---


def ends(found: Saving) -> tuple[float, float]:
    """Of its interval, which it must have."""
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


@pytest.mark.parametrize(("freedom", "t"), T_975.items())
def test_the_interval_reaches_t_standard_errors_from_what_was_saved(freedom: int, t: float) -> None:
    """Where one set does not vary, the other's degrees of freedom are all there are."""
    before = [float(100 + number % 5) for number in range(freedom + 1)]
    found = compare(before, [50.0, 50.0])
    reach = t * stdev(before) / len(before) ** 0.5
    assert found.saved == pytest.approx(mean(before) - 50)
    assert found.low == pytest.approx(found.saved - reach, rel=1e-3)
    assert found.high == pytest.approx(found.saved + reach, rel=1e-3)


@pytest.mark.parametrize(
    ("count", "t"), [(2, T_975[2]), (6, T_975[10]), (16, T_975[30]), (51, T_975[100])]
)
def test_two_equal_sets_have_the_freedom_of_both(count: int, t: float) -> None:
    """2n - 2 degrees of freedom where sizes and variances are alike."""
    values = [float(number % 2) for number in range(count)]
    found = compare([value + 10 for value in values], values)
    reach = t * stdev(values) * (2 / count) ** 0.5
    assert found.low == pytest.approx(10 - reach, abs=1e-3)
    assert found.high == pytest.approx(10 + reach, abs=1e-3)


def test_a_published_example() -> None:
    """Certain at 95 %, and not at 99 %."""
    found = compare(FIRST, SECOND)
    assert found.low is not None
    assert found.high is not None
    reach = 2.0595 * abs(found.saved) / 2.4552
    assert found.saved == pytest.approx(-2.1667, abs=0.001)
    assert found.high - found.saved == pytest.approx(reach, rel=0.002)
    assert found.certain
    assert compare(FIRST, SECOND, 97).certain
    assert not compare(FIRST, SECOND, 98).certain
    assert not compare(FIRST, SECOND, 99).certain


@given(RUNS, RUNS, st.integers(1, 99))
def test_the_interval_contains_what_was_saved_and_is_symmetric(
    before: list[float], after: list[float], confidence: int
) -> None:
    """Whatever was measured."""
    found = compare(before, after, confidence)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.saved <= found.high
    assert found.saved - found.low == pytest.approx(found.high - found.saved, rel=1e-9, abs=1e-6)
    assert found.confidence == confidence


@given(RUNS, RUNS, st.integers(1, 98))
def test_more_confidence_needs_a_wider_interval(
    before: list[float], after: list[float], confidence: int
) -> None:
    """So what is certain at more is certain at less."""
    less, more = compare(before, after, confidence), compare(before, after, confidence + 1)
    (low, high), (lower, higher) = ends(less), ends(more)
    assert higher - lower >= high - low - 1e-6
    assert less.certain or not more.certain


@given(RUNS, RUNS)
def test_the_other_way_round_as_much_is_lost(before: list[float], after: list[float]) -> None:
    """With the same interval, its sign turned, and as certain."""
    there, back = compare(before, after), compare(after, before)
    assert back.saved == -there.saved
    low, high = ends(there)
    assert ends(back) == pytest.approx((-high, -low), rel=1e-9, abs=1e-6)
    assert back.certain == there.certain


@given(RUNS, RUNS, st.sampled_from((0.001, 0.25, 1_000.0)))
def test_units_do_not_matter(before: list[float], after: list[float], factor: float) -> None:
    """In kilojoules the share is the same, and the interval in proportion."""
    found, other = (
        compare(before, after),
        compare([value * factor for value in before], [value * factor for value in after]),
    )
    low, _ = ends(found)
    assert other.low == pytest.approx(low * factor, rel=1e-6, abs=1e-6 * max(1, factor))
    assert other.share == (
        found.share if found.share is None else pytest.approx(found.share, rel=1e-6, abs=1e-9)
    )


@pytest.mark.parametrize(
    ("before", "after"), [([10.0], [5.0]), ([10.0, 11.0], [5.0]), ([10.0], [5.0, 6.0, 7.0])]
)
def test_what_was_measured_once_has_no_interval(before: list[float], after: list[float]) -> None:
    """And nothing is certain of it, however much it seems."""
    found = compare(before, after)
    assert (found.low, found.high, found.certain) == (None, None, False)
    assert found.saved > 0


@pytest.mark.parametrize(
    ("before", "after", "certain"),
    [
        ([100.0, 101.0, 99.0], [50.0, 51.0, 49.0], True),
        ([50.0, 51.0, 49.0], [100.0, 101.0, 99.0], True),
        ([100.0, 120.0, 80.0], [95.0, 115.0, 75.0], False),
        ([100.0, 101.0, 99.0], [100.0, 101.0, 99.0], False),
        ([7.0, 7.0], [7.0, 7.0], False),
    ],
)
def test_it_is_certain_where_the_interval_leaves_out_that_nothing_changed(
    before: list[float], after: list[float], certain: bool
) -> None:
    """That it became worse is as certain as that it became better."""
    assert compare(before, after).certain is certain


@pytest.mark.parametrize(
    ("before", "after", "share"),
    [
        ([200.0], [150.0], 0.25),
        ([200.0], [250.0], -0.25),
        ([200.0], [0.0], 1.0),
        ([0.0], [5.0], None),
    ],
)
def test_the_share_is_of_the_first(
    before: list[float], after: list[float], share: float | None
) -> None:
    """None where there was nothing to save."""
    assert compare(before, after).share == share


@pytest.mark.parametrize("scale", [1e-60, 1e-9, 1e60])
def test_measurements_of_any_size_can_be_compared(scale: float) -> None:
    """None that a meter shows is too small or too large for the arithmetic."""
    found = compare([3 * scale, 5 * scale], [1 * scale, 2 * scale])
    assert found.low is not None
    assert found.low / scale == pytest.approx(compare([3.0, 5.0], [1.0, 2.0]).low)


# --- rates ---


RATES = (Rate(100.0, 0.30), Rate(0.0, 0.20), Rate(200.0, 0.10))


@pytest.mark.parametrize(
    ("second", "per_kwh"),
    [(-5, 0.20), (0, 0.20), (99.9, 0.20), (100, 0.30), (150, 0.30), (200, 0.10), (1e9, 0.10)],
)
def test_a_rate_holds_from_its_second_until_the_next(second: float, per_kwh: float) -> None:
    """In whatever order they are given; before the first one, the first holds."""
    assert rate_at(RATES, second) == per_kwh
    assert rate_at(tuple(reversed(RATES)), second) == per_kwh


def test_without_rates_nothing_has_a_price() -> None:
    """An error, and not a price of 0."""
    with pytest.raises(ValueError, match="no rates"):
        rate_at((), 0)


@given(
    st.lists(
        st.builds(Rate, st.floats(-1e6, 1e6), st.floats(0, 10)),
        min_size=1,
        max_size=8,
        unique_by=lambda rate: rate.since,
    ),
    st.floats(-2e6, 2e6),
)
def test_the_rate_in_force_is_the_last_that_began(rates: list[Rate], second: float) -> None:
    """As reading them in order finds it."""
    ordered = sorted(rates, key=lambda rate: rate.since)
    expected = ordered[0].per_kwh
    for rate in ordered:
        if rate.since <= second:
            expected = rate.per_kwh
    assert rate_at(rates, second) == expected


@pytest.mark.parametrize(
    ("joules", "per_kwh", "expected"),
    [
        (3_600_000, 0.25, 0.25),
        (0, 0.25, 0),
        (1_800_000, 400, 200),
        (7_200_000, 0, 0),
        (-3_600_000, 0.5, -0.5),
    ],
)
def test_a_kilowatt_hour_is_3600000_joules(joules: float, per_kwh: float, expected: float) -> None:
    """In money as in grams; what was lost and not saved costs less than nothing."""
    assert cost(joules, per_kwh) == pytest.approx(expected)
