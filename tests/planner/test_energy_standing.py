"""Standing power: learned from a line over loads, silent where the loads tell nothing, and never more than was ever seen."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice, product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpm_planner.energy_standing import Standing, learn

SECOND = 1_000_000
#: Loads of a node over a day, in CPUs, again and again.
LOADS = (0.5, 3.0, 7.5, 1.0, 6.0, 4.5, 2.0)
KEEP = 0.9965


def learned(points: Iterable[tuple[float, float]], known: Standing | None = None, elapsed_us: int = 10 * SECOND) -> Standing:
    """What is known after intervals of (load, W)."""
    found = known or Standing()
    for load, watts in points:
        found = learn(found, round(watts * elapsed_us), load, elapsed_us)
    return found


def line(standing: float, slope: float, count: int, loads: tuple[float, ...] = LOADS) -> list[tuple[float, float]]:
    """Intervals on a straight line."""
    return list(islice(((load, standing + slope * load) for _, load in product(range(count), loads)), count))


# --- from a line ---


@given(
    st.integers(0, 500), st.integers(0, 60), st.lists(st.floats(0, 64), min_size=4, max_size=12).filter(lambda loads: max(loads) - min(loads) > 0.3 * max(loads) + 0.5)
)
def test_an_exact_line_gives_its_intercept(standing: int, slope: int, loads: list[float]) -> None:
    """Whatever the slope and the loads, as long as these differ enough; to the mW."""
    uw = learned(line(standing, slope, 5 * len(loads), tuple(loads))).uw()
    assert uw == pytest.approx(standing * SECOND, abs=1_000)


@pytest.mark.parametrize(("standing", "slope"), [(0, 5), (12.5, 3.25), (80, 10), (80, 0)])
@pytest.mark.parametrize("elapsed", [SECOND, 10 * SECOND, 60 * SECOND])
def test_the_intercept_does_not_depend_on_how_long_an_interval_is(standing: float, slope: float, elapsed: int) -> None:
    """Power over load is what counts."""
    assert learned(line(standing, slope, 40), elapsed_us=elapsed).uw() == pytest.approx(standing * SECOND, abs=1_000)


@pytest.mark.parametrize("seed", range(5))
def test_noise_averages_out(seed: int) -> None:
    """Of 5 % of the power, in three hundred intervals: within 10 %, though never above the least seen."""
    random = Random(seed)
    points = [(load, watts * random.gauss(1, 0.05)) for load, watts in line(40, 8, 300)]
    assert learned(points).uw() == pytest.approx(40 * SECOND, rel=0.1)


def test_standing_power_does_not_shrink_under_load() -> None:
    """A node that is never idle has standing power all the same (user-asks 58)."""
    assert learned(line(60, 5, 100, (20.0, 28.0, 24.0, 31.0))).uw() == pytest.approx(60 * SECOND, rel=0.001)


# --- where nothing can be said ---


def test_nothing_is_known_at_first() -> None:
    """Not even with a few intervals."""
    assert Standing().uw() is None
    assert all(learned(line(40, 8, count)).uw() is None for count in range(12))
    assert learned(line(40, 8, 14)).uw() is not None


@pytest.mark.parametrize("loads", [(0.0,), (4.0,), (4.0, 4.01), (0.0, 0.02), (100.0, 101.0, 100.5)])
def test_loads_that_are_too_much_alike_tell_nothing(loads: tuple[float, ...]) -> None:
    """However many intervals there are."""
    assert learned(line(40, 8, 500, loads)).uw() is None


def test_loads_that_become_alike_tell_nothing_any_more() -> None:
    """What was known of a steady load's day before is forgotten, and not guessed at."""
    assert learned(line(40, 8, 5_000, (4.0,)), learned(line(40, 8, 100))).uw() is None


# --- bounds ---


@given(st.lists(st.tuples(st.floats(0, 64), st.floats(0, 1_000)), min_size=1, max_size=60))
def test_it_is_never_negative_and_never_above_the_lowest_power_seen(points: list[tuple[float, float]]) -> None:
    """Roughly: the lowest power is forgotten as slowly as everything else, and never above that of now."""
    watts = [power for _, power in points]
    slack = (max(watts) - min(watts)) * (1 - KEEP ** len(watts)) + 0.001
    uw = learned(points).uw()
    assert uw is None or 0 <= uw <= (min(watts) + slack) * SECOND
    assert uw is None or uw <= (watts[-1] + 0.001) * SECOND


def test_a_line_that_would_meet_no_load_below_nothing_gives_nothing() -> None:
    """Power grows faster than load where frequency rises with it."""
    assert learned([(load, 2 * load * load) for load, _ in line(0, 1, 100)]).uw() == 0


def test_a_line_that_falls_gives_no_more_than_the_lowest_power() -> None:
    """Less power at more load: the load does not tell it."""
    assert learned([(load, 100 - 5 * load) for load, _ in line(0, 1, 100)]).uw() <= 66 * SECOND


def test_intervals_without_energy_give_none() -> None:
    """A meter that shows 0 all the time."""
    assert learned(line(0, 0, 100)).uw() == 0


# --- forgetting ---


@pytest.mark.parametrize(("before", "after"), [(80, 40), (40, 80), (0, 30), (30, 0)])
def test_a_change_is_followed(before: float, after: float) -> None:
    """After some days of other firmware settings the old ones are forgotten; at first they still count."""
    known = learned(line(before, 5, 1_000))
    assert known.uw() == pytest.approx(before * SECOND, abs=10_000)
    soon, late = learned(line(after, 5, 100), known).uw(), learned(line(after, 5, 2_500), known).uw()
    assert soon is not None
    assert min(before, after) * SECOND - 10_000 <= soon <= max(before, after) * SECOND + 10_000
    assert late == pytest.approx(after * SECOND, rel=0.01, abs=100_000)


def test_it_stays_where_nothing_changes() -> None:
    """Sums do not grow without end: ten thousand intervals are as good as three hundred."""
    many = learned(line(40, 8, 10_000))
    assert many.uw() == pytest.approx(40 * SECOND, abs=1_000)
    assert many.count < 1 / (1 - KEEP) + 1
