"""The controller of polling workloads: monotone in usage, inside its limits, still in the dead band
and in the cool-down.
"""

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kpm_planner.model.scaling_policy import CpuScalingPolicy
from kpm_planner.scaling import Cycles, Scaling, Speed, next_target, scaling_of, usage

KHZ = st.integers(400_000, 5_000_000)
USAGE = st.floats(0, 100)
LATER = 10_000_000


@st.composite
def scalings(draw: st.DrawFn) -> Scaling:
    """Any valid policy between any limits."""
    low, high = sorted((draw(KHZ), draw(KHZ)))
    sample = draw(st.integers(10, 1000))
    policy = CpuScalingPolicy(
        "polling-dpdk",
        f"{sample}ms",
        f"{draw(st.integers(sample, 3000))}ms",
        draw(st.integers(1, 100)),
        draw(st.integers(0, 50)),
        draw(st.integers(0, 500)),
        draw(st.integers(10, 200)),
        draw(st.integers(0, 100)),
    )
    return scaling_of(policy, low, high)


def at_rest(scaling: Scaling, khz: int) -> Speed:
    """A speed inside the limits that was set long ago."""
    return Speed(scaling.clamped(khz), 0)


def asked(scaling: Scaling, speed: Speed, busy: float | None) -> int | None:
    """What stands after a step: the new target, or the one before."""
    target = next_target(scaling, speed, busy, LATER)
    return speed.khz if target is None else target


@given(scalings(), KHZ, USAGE, USAGE)
def test_more_usage_never_asks_for_less(
    scaling: Scaling, khz: int, one: float, other: float
) -> None:
    """Held targets included."""
    low, high = (asked(scaling, at_rest(scaling, khz), busy) for busy in sorted((one, other)))
    assert low is not None
    assert high is not None
    assert low <= high


@given(scalings(), st.none() | KHZ, st.none() | USAGE, st.integers(0, 4_000_000))
def test_a_target_is_inside_the_limits(
    scaling: Scaling, khz: int | None, busy: float | None, now: int
) -> None:
    """Whatever stood before: also where the limits were changed under it, which is put right at
    once.
    """
    speed = Speed(khz, 0)
    target = next_target(scaling, speed, busy, now)
    if target is not None:
        assert scaling.min_khz <= target <= scaling.max_khz
    else:
        assert khz is not None
        assert scaling.min_khz <= khz <= scaling.max_khz


@given(scalings(), KHZ, st.data())
def test_the_dead_band_holds(scaling: Scaling, khz: int, data: st.DataObject) -> None:
    """Usage within the allowed difference of its target changes nothing."""
    busy = data.draw(
        st.floats(scaling.target - scaling.usage_band, scaling.target + scaling.usage_band)
    )
    assert next_target(scaling, at_rest(scaling, khz), busy, LATER) is None


@given(scalings(), KHZ, st.none() | USAGE, st.data())
def test_after_a_change_nothing_changes_for_the_cool_down(
    scaling: Scaling, khz: int, busy: float | None, data: st.DataObject
) -> None:
    """The fall-back is no exception."""
    speed = Speed(scaling.clamped(khz), 5_000)
    now = data.draw(st.integers(5_000, 5_000 + scaling.cooldown_us - 1))
    assert next_target(scaling, speed, busy, now) is None


@given(scalings(), KHZ, st.none() | USAGE)
def test_no_step_but_one_to_a_limit_is_smaller_than_the_allowed_difference(
    scaling: Scaling, khz: int, busy: float | None
) -> None:
    """So that noise writes nothing."""
    speed = at_rest(scaling, khz)
    target = next_target(scaling, speed, busy, LATER)
    assert speed.khz is not None
    assert (
        target is None
        or (target != speed.khz and target in (scaling.min_khz, scaling.max_khz))
        or abs(target - speed.khz) >= max(scaling.band_khz, 1)
    )


@given(scalings(), KHZ, st.integers(30, 200), st.sampled_from([0.0, 100.0]))
def test_no_load_ends_at_the_minimum_and_a_full_one_at_the_maximum(
    scaling: Scaling, khz: int, scale: int, busy: float
) -> None:
    """Not somewhere near it, which a driver with few frequencies rounds up to the next."""
    scaling = evolve(scaling, target=50, usage_band=10, scale=scale, band_khz=25_000)
    speed, now = at_rest(scaling, khz), LATER
    for _ in range(60):
        target = next_target(scaling, speed, busy, now)
        now += scaling.cooldown_us
        speed = speed if target is None else speed.taken(target, now)
    assert speed.khz == (scaling.max_khz if busy else scaling.min_khz)


@given(scalings(), KHZ)
def test_without_telemetry_it_goes_to_the_fall_back(scaling: Scaling, khz: int) -> None:
    """At once at the start, and after the cool-down later (field report 30)."""
    assert next_target(scaling, Speed(), None, 0) == scaling.fallback_khz
    assert (
        abs((asked(scaling, at_rest(scaling, khz), None) or 0) - scaling.fallback_khz)
        <= scaling.band_khz
    )


@pytest.mark.parametrize(
    ("before", "now", "share"),
    [
        (None, Cycles(100, 50), None),
        (Cycles(100, 50), Cycles(200, 100), 50.0),
        (Cycles(100, 50), Cycles(100, 50), 0.0),
        (Cycles(100, 50), Cycles(200, 50), 0.0),
        (Cycles(100, 50), Cycles(200, 150), 100.0),
        (Cycles(100, 50), Cycles(200, 151), None),
        (Cycles(100, 50), Cycles(90, 50), None),
        (Cycles(100, 50), Cycles(200, 40), None),
        (Cycles(10**15, 10**14), Cycles(5, 1), None),
    ],
    ids=[
        "first",
        "half",
        "no time",
        "idle",
        "full",
        "more than full",
        "total back",
        "busy back",
        "restarted",
    ],
)
def test_usage_out_of_two_looks(before: Cycles | None, now: Cycles, share: float | None) -> None:
    """Per cent of the window; nothing where the counters say nothing."""
    assert usage(before, now) == share


def test_the_formula() -> None:
    """current × (1 + (usage / target − 1) × scale / 100), as the policy's documentation has it."""
    scaling = scaling_of(CpuScalingPolicy("polling-dpdk"), 1_000_000, 3_000_000)
    assert next_target(scaling, Speed(2_000_000), 40.0, LATER) == 1_500_000
    assert next_target(scaling, Speed(2_000_000), 100.0, LATER) == 2_250_000
    assert next_target(scaling, Speed(2_900_000), 100.0, LATER) == 3_000_000
    assert next_target(scaling, Speed(1_100_000), 0.0, LATER) == 1_000_000


@pytest.mark.parametrize(
    "missing",
    [
        "sample_period",
        "cooldown_period",
        "target_usage",
        "allowed_usage_difference",
        "allowed_frequency_difference",
        "scale_percentage",
    ],
)
def test_every_field_may_be_left_out(missing: str) -> None:
    """And has the default of the documentation (field report 30)."""
    given = {
        "sample_period": "10ms",
        "cooldown_period": "30ms",
        "target_usage": 80,
        "allowed_usage_difference": 5,
        "allowed_frequency_difference": 25,
        "scale_percentage": 50,
        "fallback_freq_percent": 0,
    }
    whole = scaling_of(CpuScalingPolicy("polling-dpdk", **given), 1, 2)  # type: ignore[arg-type]
    assert scaling_of(CpuScalingPolicy("polling-dpdk", **{**given, missing: None}), 1, 2) == whole  # type: ignore[arg-type]
