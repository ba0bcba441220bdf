"""A polling workload under the scaler's controller, period by period: what the documentation plots
and the tests ask of it.
"""

import math
import random
from collections.abc import Callable

from attrs import frozen

from kpm_planner.scaling import Scaling, Speed, next_target

#: Work that arrives at a moment, as the frequency in kHz that would just keep up with it, when
#: every cycle is busy.
Load = Callable[[float], float]


@frozen
class Moment:
    """One period. seconds: since the start; load, khz: in kHz; usage: per cent of the window."""

    seconds: float
    load: float
    khz: int
    usage: float


def follow(scaling: Scaling, load: Load, seconds: float) -> tuple[Moment, ...]:
    """Run the controller against a load.

    A polling core is busy for load ÷ frequency of its time, at most all of it; what it cannot do
    waits.
    """
    found = []
    speed = Speed().taken(scaling.fallback_khz, -scaling.cooldown_us)
    period, left = scaling.sample_us / 1e6, 0.0
    for number in range(int(seconds / period)):
        at = number * period
        assert speed.khz is not None
        work, room = left + load(at) * period, speed.khz * period
        usage = 100 * min(1.0, work / room)
        # a queue holds a period's work, then packets are lost
        left = min(max(0.0, work - room), room)
        found.append(Moment(at, load(at), speed.khz, usage))
        now = (number + 1) * scaling.sample_us
        target = next_target(scaling, speed, usage, now)
        if target is not None:
            speed = speed.taken(target, now)
    return tuple(found)


def square(low: float, high: float, half: float) -> Load:
    """Between two loads, so many seconds each."""
    return lambda at: high if int(at / half + 1e-9) % 2 else low


def ramp(low: float, high: float, seconds: float) -> Load:
    """Up and down in a straight line."""
    return lambda at: low + (high - low) * (1 - abs(1 - (at / seconds) % 2))


def noise(middle: float, share: float, seed: int = 1) -> Load:
    """Around a middle, each millisecond another."""

    def load(at: float) -> float:
        drawn = random.Random(seed * 10**9 + int(at * 1000))  # noqa: S311  # a model, no secret
        return middle * (1 + share * (2 * drawn.random() - 1))

    return load


def bursts(low: float, high: float, every: float, length: float) -> Load:
    """Packets in bursts."""
    return lambda at: high if math.fmod(at, every) < length else low
