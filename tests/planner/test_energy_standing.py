"""Standing power: learned from a line over loads, silent where the loads tell nothing, and never
more than was ever seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle, islice, product
from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpm_planner.energy.standing import Line, Package, Prior, Standing, class_watts, learn, prior_of

SECOND = 1_000_000
#: Loads of a node over a day, in CPUs, again and again.
LOADS = (0.5, 3.0, 7.5, 1.0, 6.0, 4.5, 2.0)
KEEP = 0.9965


def learned(
    points: Iterable[tuple[float, float]],
    known: Standing | None = None,
    elapsed_us: int = 10 * SECOND,
) -> Standing:
    """What is known after intervals of (load, W)."""
    found = known or Standing()
    for load, watts in points:
        found = learn(found, round(watts * elapsed_us), load, load, elapsed_us)
    return found


def standing_uw(known: Standing, prior: Prior | None = None) -> int | None:
    """What is reckoned with; None where nothing was learned or assumed."""
    found = known.line(prior)
    return None if found is None else round(found.standing_w * SECOND)


def line(
    standing: float, slope: float, count: int, loads: tuple[float, ...] = LOADS
) -> list[tuple[float, float]]:
    """Intervals on a straight line."""
    return list(
        islice(((load, standing + slope * load) for _, load in product(range(count), loads)), count)
    )


# --- from a line ---


@given(
    st.integers(0, 500),
    st.integers(0, 60),
    st.lists(st.floats(0, 64), min_size=4, max_size=12).filter(
        lambda loads: max(loads) - min(loads) > 0.3 * max(loads) + 0.5
    ),
)
def test_an_exact_line_gives_its_intercept(standing: int, slope: int, loads: list[float]) -> None:
    """Whatever the slope and the loads, as long as these differ enough; to the mW."""
    uw = standing_uw(learned(line(standing, slope, 5 * len(loads), tuple(loads))))
    assert uw == pytest.approx(standing * SECOND, abs=1_000)


@pytest.mark.parametrize(("standing", "slope"), [(0, 5), (12.5, 3.25), (80, 10), (80, 0)])
@pytest.mark.parametrize("elapsed", [SECOND, 10 * SECOND, 60 * SECOND])
def test_the_intercept_does_not_depend_on_how_long_an_interval_is(
    standing: float, slope: float, elapsed: int
) -> None:
    """Power over load is what counts."""
    assert standing_uw(learned(line(standing, slope, 40), elapsed_us=elapsed)) == pytest.approx(
        standing * SECOND, abs=1_000
    )


@pytest.mark.parametrize("seed", range(5))
def test_noise_averages_out(seed: int) -> None:
    """Of 5 % of the power, in three hundred intervals: within 10 %, though never above the least
    seen.
    """
    random = Random(seed)
    points = [(load, watts * random.gauss(1, 0.05)) for load, watts in line(40, 8, 300)]
    assert standing_uw(learned(points)) == pytest.approx(40 * SECOND, rel=0.1)


def test_standing_power_does_not_shrink_under_load() -> None:
    """A node that is never idle has standing power all the same (field report 58)."""
    assert standing_uw(learned(line(60, 5, 100, (20.0, 28.0, 24.0, 31.0)))) == pytest.approx(
        60 * SECOND, rel=0.001
    )


# --- where nothing can be said ---


def test_nothing_is_known_at_first() -> None:
    """Not even with a few intervals."""
    assert standing_uw(Standing()) is None
    assert all(standing_uw(learned(line(40, 8, count))) is None for count in range(12))
    assert standing_uw(learned(line(40, 8, 14))) is not None


@pytest.mark.parametrize("loads", [(0.0,), (4.0,), (4.0, 4.01), (0.0, 0.02), (100.0, 101.0, 100.5)])
def test_loads_that_are_too_much_alike_tell_nothing(loads: tuple[float, ...]) -> None:
    """However many intervals there are."""
    assert standing_uw(learned(line(40, 8, 500, loads))) is None


def test_loads_that_become_alike_teach_nothing_and_take_nothing() -> None:
    """What was learned of a node before it became steady is kept; standing power follows from what
    it shows now.
    """
    known = learned(line(40, 8, 100))
    assert standing_uw(learned(line(40, 8, 5_000, (4.0,)), known)) == pytest.approx(
        40 * SECOND, rel=0.01
    )
    assert standing_uw(learned(line(50, 8, 5_000, (4.0,)), known)) == pytest.approx(
        50 * SECOND, rel=0.01
    )


# --- what is assumed ---


@given(st.floats(0.5, 60), st.lists(st.tuples(st.floats(0, 64), st.floats(0, 600)), max_size=5))
def test_who_does_the_same_has_the_same_while_a_slope_is_assumed(
    slope: float, others: list[tuple[float, float]]
) -> None:
    """Busy energy is the slope times the load, whatever else the meter shows, as far as there is
    that much.
    """
    found = learned([(load, watts) for load, watts in others[:2]]).line(Prior(slope))
    assert found is not None
    assert found.basis == "prior"
    for load, watts in others:
        busy = round(watts * SECOND) - found.idle_uj(round(watts * SECOND), load, SECOND)
        assert busy == pytest.approx(min(slope * load, watts) * SECOND, abs=2)


@given(st.floats(2, 60), st.floats(0.25, 4), st.integers(5, 60), st.integers(0, 2**32))
def test_what_is_learned_takes_over_as_it_becomes_sure(
    slope: float, wrong: float, standing: int, seed: int
) -> None:
    """A prior that is four times too large or small is forgotten once loads have differed: those of
    sixty intervals, of a machine whose meter errs by 1 % of all that it takes.
    """
    random = Random(seed)
    points = [
        (load, (standing + slope * load) * random.gauss(1, 0.01))
        for load, _ in line(0, 1, 60, (0.5, 3.0, 7.5))
    ]
    found = learned(points).line(Prior(slope * wrong))
    assert found is not None
    assert found.basis == "learned"
    assert found.slope_w == pytest.approx(slope, rel=0.05, abs=0.02 * standing)


@given(st.floats(0.02, 0.3), st.integers(0, 2**32), st.sampled_from([1, 4, 16]))
def test_frequencies_that_are_read_with_a_jitter_teach_nothing(
    jitter: float, seed: int, cpus: int
) -> None:
    """The load differs, CPU time does not: what runs is given what is assumed, and not nearly
    nothing.
    """
    random, known = Random(seed), Standing()
    for _ in range(120):
        load = cpus * max(random.gauss(0.85, jitter), 0.1)
        known = learn(
            known,
            round((10 + 12 * cpus * random.gauss(1, 0.002)) * SECOND),
            load,
            cpus * random.gauss(1, 0.001),
            SECOND,
        )
    found = known.line(Prior(12.0))
    assert found is not None
    assert found.slope_w == pytest.approx(12.0)
    assert found.basis == "prior"


def test_a_slope_that_no_processor_has_is_not_believed() -> None:
    """Something else took power whenever CPUs ran: an accelerator, a charger."""
    found = learned(line(40, 90, 100)).line(Prior(8.0))
    assert found is not None
    assert (found.slope_w, found.basis) == (8.0, "prior")


def test_what_is_told_says_how_sure_it_is() -> None:
    """The error of a line that was learned is smaller than that of one which is assumed."""
    assumed, known = (learned(line(40, 8, count)).line(Prior(8.0)) for count in (1, 60))
    assert assumed is not None
    assert known is not None
    assert 0 < known.error_w < assumed.error_w
    assert Standing().line(Prior(8.0)) == Line(8.0, 0.0, 0.0, inf)


@pytest.mark.parametrize(
    ("package", "slope", "error"),
    [
        (Package(65.0, 4.0, 4, 3_600_000), 13.0, 0.3),
        (Package(250.0, 40.0, 32, 3_600_000, 5.0, 0.4), 5.0, 0.3),
        (Package(0.0, 40.0, 32, 3_600_000, 5.2, 0.4), 5.2, 0.4),
        (Package(4_000.0, 40.0, 32, 3_600_000, 5.2, 0.4), 5.2, 0.4),
        (Package(0.0, 4.0, 4, 3_600_000), 12.9, 0.5),
        (Package(0.0, 4.0, 4, 0), 12.9, 0.5),
        (Package(0.0, 8.0, 8, 1_800_000), 2.35, 0.5),
        (Package(0.0, 0.0, 0, 0), 24.0, 0.5),
    ],
)
def test_a_prior_is_out_of_the_best_that_is_known(
    package: Package, slope: float, error: float
) -> None:
    """The design power where it makes sense (a virtual machine's zone may name 0 or kilowatts), the
    kind of processor, the class.
    """
    assert prior_of(package).slope_w == pytest.approx(slope, rel=0.01)
    assert prior_of(package).error == error


@pytest.mark.parametrize(("cores", "watts"), [(4, 65), (8, 95), (16, 140), (32, 205), (64, 290)])
def test_a_class_is_near_what_makers_name(cores: int, watts: float) -> None:
    """Design powers of present processors by cores."""
    assert class_watts(cores, 3_600_000) == pytest.approx(watts, rel=0.1)


# --- bounds ---


@given(st.lists(st.tuples(st.floats(0, 64), st.floats(0, 1_000)), min_size=1, max_size=60))
def test_it_is_never_negative_and_never_above_the_lowest_power_seen(
    points: list[tuple[float, float]],
) -> None:
    """Roughly: the lowest power is forgotten as slowly as everything else, and never above that of
    now.
    """
    watts = [power for _, power in points]
    slack = (max(watts) - min(watts)) * (1 - KEEP ** len(watts)) + 0.001
    uw = standing_uw(learned(points))
    assert uw is None or 0 <= uw <= (min(watts) + slack) * SECOND
    assert uw is None or uw <= (watts[-1] + 0.001) * SECOND


def test_a_line_that_would_meet_no_load_below_nothing_gives_nothing() -> None:
    """Power grows faster than load where frequency rises with it."""
    assert standing_uw(learned([(load, 2 * load * load) for load, _ in line(0, 1, 100)])) == 0


def test_a_line_that_falls_gives_no_more_than_the_lowest_power() -> None:
    """Less power at more load: the load does not tell it."""
    found = standing_uw(learned([(load, 100 - 5 * load) for load, _ in line(0, 1, 100)]))
    assert found is not None
    assert found <= 66 * SECOND


def test_intervals_without_energy_give_none() -> None:
    """A meter that shows 0 all the time."""
    assert standing_uw(learned(line(0, 0, 100))) == 0


@pytest.mark.parametrize(("spread", "part"), [(0.2, 1.0), (0.4, 1.0), (0.4, 0.3)])
def test_where_frequencies_are_read_badly_power_is_told_by_cpu_time(
    spread: float, part: float
) -> None:
    """The weighted load jumps about CPU time and power does not follow it: the line is the one over
    CPU time, and not a flatter one; on a node that is nearly idle too.
    """
    found = Standing()
    for number, load in zip(range(400), cycle(LOADS), strict=False):
        busy = load * part
        read = busy * (1 + (spread if number // len(LOADS) % 2 else -spread))
        found = learn(found, round((40 + 8 * busy) * 10 * SECOND), read, busy, 10 * SECOND)
    assert standing_uw(found) == pytest.approx(40 * SECOND, rel=0.03)


def test_a_load_that_hardly_follows_cpu_time_tells_nothing() -> None:
    """Nearly all of what it differs by is how frequencies were read: no line is better than one
    that stands on the rest.
    """
    found = Standing()
    for number, busy in zip(range(400), cycle(LOADS), strict=False):
        read = 4 + 0.05 * busy + (3 if number // len(LOADS) % 2 else -3)
        found = learn(found, round((40 + 8 * busy) * 10 * SECOND), read, busy, 10 * SECOND)
    assert found.found() is None


# --- forgetting ---


@pytest.mark.parametrize(("before", "after"), [(80, 40), (40, 80), (0, 30), (30, 0)])
def test_a_change_is_followed(before: float, after: float) -> None:
    """After some days of other firmware settings the old ones are forgotten; at first they still
    count.
    """
    known = learned(line(before, 5, 1_000))
    assert standing_uw(known) == pytest.approx(before * SECOND, abs=10_000)
    soon, late = (
        standing_uw(learned(line(after, 5, 100), known)),
        standing_uw(learned(line(after, 5, 2_500), known)),
    )
    assert soon is not None
    assert min(before, after) * SECOND - 10_000 <= soon <= max(before, after) * SECOND + 10_000
    assert late == pytest.approx(after * SECOND, rel=0.01, abs=100_000)


def test_it_stays_where_nothing_changes() -> None:
    """Sums do not grow without end: ten thousand intervals are as good as three hundred."""
    many = learned(line(40, 8, 10_000))
    assert standing_uw(many) == pytest.approx(40 * SECOND, abs=1_000)
    assert many.count < 1 / (1 - KEEP) + 1
