"""Generated intervals and histories of energy: machines of several packages and dies, consumers
with and without own CPUs, meters of all kinds.

An interval is awkward unless `plausible` is asked for: counters are missing, fall, stand still or
leap; CPUs come and go, claims overlap, meters measure packages that have no CPU, and the clock may
stand still or go back. In a plausible one all times grow, and by no more than fits into the
interval.

A history is what a sampler sees of one counter of fixed width, with what truly passed through it
beside every sample.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve, frozen
from hypothesis import strategies as st

from kpm_planner.energy.attribution import (
    IDLE_POLICIES,
    EnergyAllocation,
    EnergyPolicy,
    EnergyReport,
    Sample,
    attribute,
)
from kpm_planner.energy.meters import Meter
from kpm_planner.energy.shares import Consumer, EnergyCpu, WeightPolicy
from kpm_planner.energy.standing import Line
from tests.strategies.choices import mask, often, pick

SECOND = 1_000_000
#: What no machine here has as a CPU: of a package that was taken offline.
GONE_CPU = 99
#: Ranges that kernels show for counters of 32 bits, µJ.
RANGES = (262_143_328_850, 65_532_610_987)
#: What a broken sensor shows (field report 33).
ABSURD_UJ = 4_294_967_295_000
_ELAPSED = (10 * SECOND, SECOND, 1_000, 1, 61 * SECOND, 3_600 * SECOND)
_KHZ = (None, 0, 400_000, 1_200_000, 2_000_000, 3_500_000, 6_000_000)
_PLACES = ((0, None), (None, None), (1, None), (0, 0), (1, 1), (7, None))
_ZONES = ("package", "dram", "psys", "core")


@frozen
class Interval:
    """All that attribution takes."""

    previous: Sample
    current: Sample
    allocation: EnergyAllocation
    policy: EnergyPolicy

    def report(self) -> EnergyReport:
        """What is made of it."""
        return attribute(self.previous, self.current, self.allocation, self.policy)

    def with_consumer(
        self, name: str, used_us: int | None, consumer: Consumer | None = None
    ) -> Interval:
        """With a consumer more, or another one of that name; used_us: its CPU time, None where it
        has gone.
        """
        return evolve(
            self,
            previous=evolve(self.previous, usage_us={**self.previous.usage_us, name: 1_000}),
            current=evolve(
                self.current,
                usage_us={
                    **without(self.current.usage_us, name),
                    **({} if used_us is None else {name: 1_000 + used_us}),
                },
            ),
            allocation=evolve(
                self.allocation,
                consumers={**self.allocation.consumers, name: consumer or Consumer()},
            ),
        )

    def without_consumer(self, name: str) -> Interval:
        """Without one."""
        return evolve(
            self,
            previous=evolve(self.previous, usage_us=without(self.previous.usage_us, name)),
            current=evolve(self.current, usage_us=without(self.current.usage_us, name)),
            allocation=evolve(self.allocation, consumers=without(self.allocation.consumers, name)),
        )

    def with_cpu(self, cpu: EnergyCpu, busy_us: int, khz: int) -> Interval:
        """With a CPU more, which was idle when it was not busy."""
        return evolve(
            self,
            previous=evolve(
                self.previous,
                busy_us={**self.previous.busy_us, cpu.id: 0},
                idle_us={**self.previous.idle_us, cpu.id: 0},
            ),
            current=evolve(
                self.current,
                busy_us={**self.current.busy_us, cpu.id: busy_us},
                idle_us={**self.current.idle_us, cpu.id: self.elapsed_us - busy_us},
                khz={**self.current.khz, cpu.id: khz},
            ),
            allocation=evolve(self.allocation, cpus=(*self.allocation.cpus, cpu)),
        )

    def with_khz(self, khz: dict[int, int]) -> Interval:
        """With some CPUs at other frequencies."""
        return evolve(self, current=evolve(self.current, khz={**self.current.khz, **khz}))

    @property
    def elapsed_us(self) -> int:
        """How long it lasted by its own clock."""
        return self.current.at_us - self.previous.at_us


def without(known: Any, name: Any) -> dict[Any, Any]:
    """A mapping without a key."""
    return {key: value for key, value in known.items() if key != name}


@st.composite
def energy_cpus(draw: st.DrawFn, threads: tuple[int, ...] = (1, 2, 4)) -> tuple[EnergyCpu, ...]:
    """Packages of some cores, each with as many hyperthreads; the highest frequency known of all or
    of none.
    """
    packages, cores, count, dies, khz, step = pick(
        draw, (1, 2, 3), (1, 2, 3), threads, (False, True), (3_500_000, 0, 2_000_000), (1, 3)
    )
    found = []
    for place in range(packages * cores):
        first = place * count * step
        ids = tuple(first + thread for thread in range(count))
        package, core = divmod(place, cores)
        found += [
            EnergyCpu(
                cpu,
                package,
                core % 2 if dies else None,
                tuple(other for other in ids if other != cpu),
                khz,
            )
            for cpu in ids
        ]
    return tuple(found)


def _consumers(draw: st.DrawFn, online: list[int]) -> dict[str, Consumer]:
    found = {}
    for name in "abcdef"[: draw(st.integers(0, 6))]:
        kind, request = pick(draw, ("none", "some", "same", "gone"), (0, 1, 250, 1_000, 64_000))
        cpus = {
            "none": frozenset(),
            "some": frozenset(
                cpu for cpu, taken in zip(online, mask(draw, len(online)), strict=True) if taken
            ),
            "same": frozenset(online[:2]),
            "gone": frozenset((online[-1], GONE_CPU)),
        }[kind]
        found[name] = Consumer(cpus, request)
    return found


def _counter(draw: st.DrawFn, most: int, *, plausible: bool) -> tuple[int | None, int | None]:
    """A time before and after; None where it was not read."""
    kinds = (
        ("grew", "still", "full")
        if plausible
        else (*often("grew", "still", "full", times=4), "new", "gone", "fell", "leapt")
    )
    kind, before = pick(draw, kinds, (1_000, 0, 10**12))
    amount = draw(st.integers(0, max(most, 0)))
    return {
        "grew": (before, before + amount),
        "still": (before, before),
        "full": (before, before + max(most, 0)),
        "new": (None, amount),
        "gone": (before, None),
        "fell": (before, before // 2),
        "leapt": (before, before + 100 * amount + 10**9),
    }[kind]


def _counters(
    draw: st.DrawFn, names: Any, most: int, *, plausible: bool
) -> tuple[dict[Any, int], dict[Any, int]]:
    pairs = {name: _counter(draw, most, plausible=plausible) for name in names}
    return tuple(
        {name: pair[side] for name, pair in pairs.items() if pair[side] is not None}
        for side in (0, 1)
    )  # type: ignore[return-value]


def _reading(
    draw: st.DrawFn, meter: Meter, elapsed: int, *, plausible: bool
) -> tuple[int | None, int | None]:
    most = meter.most_uw * max(elapsed, 0) // SECOND
    if meter.power:
        before, after = draw(st.integers(0, meter.most_uw)), draw(st.integers(0, meter.most_uw))
    else:
        before = draw(st.integers(0, (meter.range_uj or 10**12) - 1))
        after = before + draw(st.integers(0, most) | st.integers(0, 500 * max(elapsed, 0)))
        after = after % meter.range_uj if meter.range_uj else after
    if plausible:
        return before, after
    (kind,) = pick(
        draw,
        (
            (
                *often("right", times=8),
                "new",
                "gone",
                "never",
                "fell",
                "negative",
                "was-negative",
                "absurd",
                "began",
            )
            if not meter.power
            else ("right", "new", "gone", "negative", "was-negative", "absurd")
        ),
    )
    return {
        "right": (before, after),
        "new": (None, after),
        "gone": (before, None),
        "never": (None, None),
        "fell": (before, before // 2),
        "negative": (before, -1 - after),
        "was-negative": (-1 - before, after),
        "absurd": (before, ABSURD_UJ),
        "began": (before, 0),
    }[kind]


def _meters(draw: st.DrawFn) -> tuple[Meter, ...]:
    found = []
    for number in range(draw(st.integers(1, 4))):
        (package, die), zone, reach, power = pick(
            draw, _PLACES, _ZONES, (*RANGES, None), often(False, True)
        )
        found.append(
            Meter(
                f"m{number}",
                zone,
                "hwmon" if power else "rapl",
                package,
                die,
                None if power else reach,
                power,
            )
        )
    return tuple(found)


def _policy(draw: st.DrawFn, meters: tuple[Meter, ...]) -> EnergyPolicy:
    idle, static, voltage, sibling = pick(
        draw, IDLE_POLICIES, (20, 0, 100), (65, 0, 100), (25, 0, 100)
    )
    lines = {
        meter.id: Line(slope, watts, trust)
        for meter in meters
        for watts, slope, trust in [
            pick(draw, (None, 0.0, 30.0, 5_000.0), (0.0, 3.5, 900.0), (0.0, 0.3, 1.0))
        ]
        if watts is not None
    }
    return EnergyPolicy(idle, WeightPolicy(static, voltage, sibling), lines)


@st.composite
def intervals(draw: st.DrawFn, *, plausible: bool = False) -> Interval:
    """Two samples, a machine and a policy."""
    cpus = draw(energy_cpus())
    online = [cpu.id for cpu in cpus]
    consumers = _consumers(draw, online)
    meters = _meters(draw)
    elapsed, slept = pick(
        draw, _ELAPSED if plausible else (*_ELAPSED, *_ELAPSED, 0, -SECOND), often(0, 8 * SECOND)
    )
    busy_before, busy_after = _counters(draw, online, elapsed, plausible=plausible)
    idle_before, idle_after = _counters(draw, online, elapsed, plausible=plausible)
    usage_before, usage_after = _counters(
        draw, consumers, elapsed if plausible else elapsed * len(online), plausible=plausible
    )
    readings = {meter.id: _reading(draw, meter, elapsed, plausible=plausible) for meter in meters}
    absent = () if plausible else pick(draw, often(None, "m0"), often(None, "m1"))
    khz = {cpu: speed for cpu in online for (speed,) in [pick(draw, _KHZ)] if speed is not None}
    at = 10**9
    return Interval(
        Sample(
            at,
            {name: pair[0] for name, pair in readings.items()},
            busy_before,
            idle_before,
            usage_before,
        ),
        Sample(
            at + elapsed,
            {name: pair[1] for name, pair in readings.items() if name not in absent},
            busy_after,
            idle_after,
            usage_after,
            khz,
            slept,
        ),
        EnergyAllocation(meters, cpus, consumers),
        _policy(draw, meters),
    )


@frozen
class Step:
    """A sample of a history. true_uj: all that has passed through the meter until then; readable:
    whether the sample shows it.
    """

    sample: Sample
    true_uj: int
    readable: bool


@frozen
class History:
    """What a sampler sees of a machine with one meter, two CPUs and two containers."""

    allocation: EnergyAllocation
    policy: EnergyPolicy
    steps: tuple[Step, ...]


@st.composite
def histories(
    draw: st.DrawFn,
    *,
    most_watts: int = 2_000,
    shortest_us: int = 1,
    begins_anew: bool = False,
    gaps: bool = False,
) -> History:
    """A package of at most so many watts, sampled every so often or twice at once; the machine
    sleeps, containers begin anew.

    begins_anew: whether its counter begins at 0 when the machine wakes; else it goes on from where
    it was. gaps: whether it cannot be read for half of the time, though at the end it can, and
    never sleeps; else that is rare.
    """
    reach, left = pick(draw, RANGES, (60 * SECOND, 20_000 * SECOND, 50_000 * SECOND))
    meter = Meter("m0", "package", package=0, range_uj=reach)
    at, slept, true, count = 10**9, 0, 0, reach - left
    cpu_us = {0: 0, 1: 0}
    usage = {"a": 0, "b": 0}
    steps: list[Step] = []
    total = draw(st.integers(3, 12))
    for number in range(total):
        kind, shown, restart = pick(
            draw,
            often("run", "repeat", "run" if gaps else "sleep"),
            ("read", None) if gaps else often("read", None, -1, times=4),
            often(False, True),
        )
        if steps and kind == "repeat" and number < total - 1:
            steps.append(steps[-1])
            continue
        elapsed = draw(st.integers(shortest_us, 30 * SECOND))
        share, part = pick(draw, (100, 50, 0, 99, 7), (0, 50, 100))
        passed = most_watts * elapsed * share // 100
        at, true, count = at + elapsed, true + passed, (count + passed) % reach
        if kind == "sleep":
            slept += draw(st.integers(1, 3_600 * SECOND))
            count = passed * part // 100 if begins_anew else count
        ran = elapsed * part // 100
        cpu_us = {0: cpu_us[0] + ran, 1: cpu_us[1] + elapsed - ran}
        usage = {"a": ran if restart else usage["a"] + ran, "b": usage["b"] + elapsed - ran}
        shown = (
            "read"
            if gaps and number in (0, total - 1)
            else shown
            if steps or shown == "read"
            else None
        )
        idle = {cpu: at - busy for cpu, busy in cpu_us.items()}
        reading: Any = count if shown == "read" else shown
        steps.append(
            Step(
                Sample(
                    at, {meter.id: reading}, dict(cpu_us), idle, dict(usage), {0: 2_000_000}, slept
                ),
                true,
                shown == "read",
            )
        )
    allocation = EnergyAllocation(
        (meter,),
        (EnergyCpu(0, max_khz=3_500_000), EnergyCpu(1, max_khz=3_500_000)),
        {"a": Consumer(), "b": Consumer(frozenset({1}))},
    )
    return History(allocation, _policy(draw, (meter,)), tuple(steps))
