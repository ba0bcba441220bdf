"""Estimated power: standing at no load, more with load and with frequency, and each package by
itself.
"""

from __future__ import annotations

from random import Random

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kpm_planner.energy.estimate import Coefficients, estimate_uw
from kpm_planner.energy.shares import UNIT, EnergyCpu, WeightPolicy
from tests.strategies.energy import SECOND, energy_cpus

KIND = Coefficients("generic", standing=20.0, core=5.0, error=30)
POLICY = WeightPolicy()
WATT = 1_000_000
FULL_KHZ = 3_500_000
#: A weight is a whole number of these: what an estimate may be off by for each CPU.
STEP_UW = KIND.core * WATT / UNIT

SHARES = st.lists(st.floats(0, 1), min_size=48, max_size=48)
SPEEDS = st.lists(st.integers(400_000, FULL_KHZ), min_size=48, max_size=48)


def times(cpus: tuple[EnergyCpu, ...], shares: list[float]) -> dict[int, int]:
    """Busy time of each CPU in a second."""
    return {cpu.id: round(share * SECOND) for cpu, share in zip(cpus, shares, strict=False)}


def speeds(cpus: tuple[EnergyCpu, ...], khz: list[int]) -> dict[int, int]:
    """A frequency for each core: its hyperthreads run at one."""
    of = dict(zip((cpu.id for cpu in cpus), khz, strict=False))
    return {cpu.id: of[min((cpu.id, *cpu.siblings))] for cpu in cpus}


def estimate(
    cpus: tuple[EnergyCpu, ...],
    busy_us: dict[int, int],
    khz: dict[int, int] | None = None,
    elapsed_us: int = SECOND,
) -> dict[int, int]:
    """The power of each package."""
    return estimate_uw(KIND, cpus, busy_us, khz or {}, elapsed_us, POLICY)


# --- known values ---


@pytest.mark.parametrize(
    ("busy", "watts"),
    [
        ({}, 20),
        ({0: 0, 1: 0}, 20),
        ({0: SECOND}, 25),
        ({0: SECOND // 2}, 22.5),
        ({0: SECOND, 1: SECOND}, 30),
        ({0: SECOND, 7: SECOND}, 25),
    ],
)
def test_a_busy_core_adds_its_power_to_the_standing_power(
    busy: dict[int, int], watts: float
) -> None:
    """By the share of the time that it was busy; a CPU that is not online adds nothing."""
    assert estimate((EnergyCpu(0), EnergyCpu(1)), busy) == {0: watts * WATT}


def test_a_second_hyperthread_adds_a_quarter_of_a_core() -> None:
    """It shares what the first one already uses."""
    cpus = (EnergyCpu(0, siblings=(1,)), EnergyCpu(1, siblings=(0,)))
    assert estimate(cpus, {0: SECOND}) == {0: 25 * WATT}
    assert estimate(cpus, {0: SECOND, 1: SECOND})[0] == pytest.approx(26.25 * WATT, abs=2 * STEP_UW)


@pytest.mark.parametrize("khz", [None, {0: 0}, {0: -1}, {0: FULL_KHZ}])
def test_a_frequency_that_is_not_known_counts_as_the_highest(khz: dict[int, int] | None) -> None:
    """A virtual machine shows none."""
    assert estimate((EnergyCpu(0, max_khz=FULL_KHZ),), {0: SECOND}, khz) == {0: 25 * WATT}


def test_half_the_frequency_costs_less_than_half_of_what_depends_on_it() -> None:
    """A fifth is static; the rest falls with frequency and with the square of the voltage: 0.2 +
    0.8 x 0.5 x 0.825^2.
    """
    assert estimate((EnergyCpu(0, max_khz=FULL_KHZ),), {0: SECOND}, {0: FULL_KHZ // 2})[
        0
    ] == pytest.approx((20 + 5 * 0.47225) * WATT, abs=STEP_UW)


@pytest.mark.parametrize("elapsed", [0, -1, -SECOND])
def test_in_no_time_only_standing_power_can_be_told(elapsed: int) -> None:
    """And no error."""
    assert estimate((EnergyCpu(0),), {0: SECOND}, elapsed_us=elapsed) == {0: 20 * WATT}


def test_a_machine_without_cpus_has_no_package() -> None:
    """Nothing to estimate."""
    assert estimate((), {}) == {}


# --- laws ---


@given(energy_cpus())
def test_with_nothing_running_every_package_has_its_standing_power(
    cpus: tuple[EnergyCpu, ...],
) -> None:
    """Whatever its CPUs are."""
    assert estimate(cpus, {}) == dict.fromkeys({cpu.package for cpu in cpus}, 20 * WATT)


@given(energy_cpus((1, 2)), SHARES, SPEEDS, st.integers(0, 47), st.floats(0, 1))
def test_it_grows_with_load(
    cpus: tuple[EnergyCpu, ...], shares: list[float], khz: list[int], number: int, more: float
) -> None:
    """A CPU that is busy for longer never lowers it, though its hyperthread's time costs less then;
    but for the rounding of weights.
    """
    busy, speed = times(cpus, shares), speeds(cpus, khz)
    cpu = cpus[number % len(cpus)]
    before, after = (
        estimate(cpus, busy, speed),
        estimate(cpus, {**busy, cpu.id: max(busy[cpu.id], round(more * SECOND))}, speed),
    )
    assert after[cpu.package] >= before[cpu.package] - (2 * STEP_UW + 1 if cpu.siblings else 0)


@pytest.mark.parametrize("threads", [1, 2, 4, 8])
def test_every_hyperthread_that_becomes_busy_adds_power(threads: int) -> None:
    """Also the last one of a core that has four or eight."""
    numbers = range(threads)
    cpus = tuple(
        EnergyCpu(number, siblings=tuple(other for other in numbers if other != number))
        for number in numbers
    )
    found = [estimate(cpus, dict.fromkeys(range(busy), SECOND))[0] for busy in range(threads + 1)]
    assert found == sorted(set(found))


@given(energy_cpus(), SHARES, SPEEDS, st.integers(0, 47), st.integers(400_000, 2 * FULL_KHZ))
def test_it_grows_with_frequency(
    cpus: tuple[EnergyCpu, ...], shares: list[float], khz: list[int], number: int, faster: int
) -> None:
    """A CPU that is faster for as long never lowers it."""
    busy, speed = times(cpus, shares), speeds(cpus, khz)
    cpu = cpus[number % len(cpus)]
    before, after = (
        estimate(cpus, busy, speed),
        estimate(cpus, busy, {**speed, cpu.id: max(speed[cpu.id], faster)}),
    )
    assert after[cpu.package] >= before[cpu.package]


@given(energy_cpus(), SHARES, SPEEDS, st.integers(0, 47))
def test_each_package_is_estimated_by_itself(
    cpus: tuple[EnergyCpu, ...], shares: list[float], khz: list[int], number: int
) -> None:
    """What runs on one changes no other, and no package is below its standing power."""
    busy, speed = times(cpus, shares), speeds(cpus, khz)
    package = cpus[number % len(cpus)].package
    all_of, one = (
        estimate(cpus, busy, speed),
        estimate(cpus, {cpu.id: busy[cpu.id] for cpu in cpus if cpu.package == package}, speed),
    )
    assert one == {**dict.fromkeys(all_of, 20 * WATT), package: all_of[package]}
    assert min(all_of.values()) >= 20 * WATT


@given(energy_cpus(), SHARES, SPEEDS, st.randoms(use_true_random=False))
def test_order_changes_nothing(
    cpus: tuple[EnergyCpu, ...], shares: list[float], khz: list[int], random: Random
) -> None:
    """Nor does how long the interval was, with the same load; to the µW."""
    busy, speed = times(cpus, shares), speeds(cpus, khz)
    known = estimate(cpus, busy, speed)
    assert estimate(tuple(random.sample(cpus, len(cpus))), busy, speed) == pytest.approx(
        known, abs=1
    )
    assert estimate(
        cpus, {cpu: 10 * time for cpu, time in busy.items()}, speed, 10 * SECOND
    ) == pytest.approx(known, abs=1)


@given(energy_cpus(), SHARES)
def test_coefficients_scale_it(cpus: tuple[EnergyCpu, ...], shares: list[float]) -> None:
    """Twice the standing and core power is twice the power."""
    busy = times(cpus, shares)
    twice = estimate_uw(evolve(KIND, standing=40.0, core=10.0), cpus, busy, {}, SECOND, POLICY)
    assert twice == pytest.approx(
        {package: 2 * uw for package, uw in estimate(cpus, busy).items()}, abs=2
    )
