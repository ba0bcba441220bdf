"""The controller in a closed loop with a polling workload: it
settles, stays, and does not swing.
"""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpm.simulate.polling import Moment, bursts, follow, noise, ramp, square
from kpm_planner.model.scaling_policy import CpuScalingPolicy
from kpm_planner.scaling import Scaling, scaling_of

LOW, HIGH = 800_000, 3_500_000
USUAL = scaling_of(CpuScalingPolicy("polling-dpdk"), LOW, HIGH)


def changes(moments: tuple[Moment, ...]) -> int:
    """How often the frequency changed."""
    return sum(one.khz != other.khz for one, other in itertools.pairwise(moments))


def settles_after(scaling: Scaling, before: float, after: float) -> int:
    """Changes that are made after a step of the load, until none is made any more."""
    found = follow(scaling, lambda at: before if at < 3 else after, 6)
    return changes(found[int(3 / (scaling.sample_us / 1e6)) :])


@given(st.floats(0, HIGH * 0.9), st.floats(0, HIGH * 0.8))
def test_it_settles_and_stays(before: float, after: float) -> None:
    """After any step between loads that can be served: at the end it rests, with usage near its
    target or a limit in the way.
    """
    found = follow(USUAL, lambda at: before if at < 2 else after, 5)
    end = found[-100:]
    assert changes(end) == 0
    busy = end[-1].usage
    stuck = (
        min(end[-1].khz - LOW, HIGH - end[-1].khz) < USUAL.band_khz
        or abs(end[-1].khz - end[-1].load / 0.8) <= 2 * USUAL.band_khz
    )
    assert abs(busy - USUAL.target) <= USUAL.usage_band or stuck


@given(st.integers(10, 150), st.integers(LOW, int(HIGH * 0.75)))
def test_no_swing_is_larger_than_the_allowed_difference(scale: int, load: int) -> None:
    """Under a steady load, for every scalePercentage up to 150: above, a step may pass the load by
    as much as it was away.
    """
    found = follow(
        scaling_of(
            CpuScalingPolicy("polling-dpdk", scale_percentage=scale, allowed_usage_difference=0),
            LOW,
            HIGH,
        ),
        lambda _at: float(load),
        10,
    )
    end = [moment.khz for moment in found[-300:]]
    assert max(end) - min(end) <= USUAL.band_khz


@pytest.mark.parametrize(("scale", "most"), [(50, 5), (100, 3)])
def test_a_step_down_or_a_small_step_up_takes_few_changes(scale: int, most: int) -> None:
    """At most five where the load does not fill the core: usage tells how far it is away then."""
    scaling = scaling_of(CpuScalingPolicy("polling-dpdk", scale_percentage=scale), LOW, HIGH)
    for before, after in ((2_400_000, 1_200_000), (1_600_000, 1_300_000), (1_200_000, 1_400_000)):
        assert settles_after(scaling, before, after) <= most


def test_a_full_core_climbs_by_the_same_share_each_time() -> None:
    """Usage says no more than 100%: each change is at most (100 / target - 1) × scale, an eighth
    with the defaults; so a large step takes more than five.
    """
    assert 8 <= settles_after(USUAL, 700_000, 2_600_000) <= 12


@pytest.mark.parametrize(
    "load",
    [
        square(800_000, 2_400_000, 0.5),
        ramp(600_000, 2_600_000, 1.0),
        noise(1_800_000, 0.1),
        bursts(400_000, 3_000_000, 0.25, 0.02),
    ],
    ids=["square wave", "ramp", "noise", "bursts"],
)
def test_whatever_comes_it_stays_inside_its_limits_and_its_cool_down(load: object) -> None:
    """And noise inside the dead band changes next to nothing."""
    found = follow(USUAL, load, 5)  # type: ignore[arg-type]
    assert all(LOW <= moment.khz <= HIGH for moment in found)
    moved = [
        moment.seconds for moment, after in itertools.pairwise(found) if moment.khz != after.khz
    ]
    assert all(
        later - earlier >= USUAL.cooldown_us / 1e6 - 1e-9
        for earlier, later in itertools.pairwise(moved)
    )


def test_noise_writes_next_to_nothing() -> None:
    """Ten per cent around a load: a few changes to get there, then rest for most of the time."""
    assert changes(follow(USUAL, noise(1_800_000, 0.05), 5)[50:]) <= 5
