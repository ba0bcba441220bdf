"""Who used the energy that the meters measured.

Every interval and every meter adds up to the µJ: busy energy of consumers and of the system, idle
energy of owners, and idle energy that is nobody's are together what was measured. Pure; rules and
sources in docs/user/energy.md.
"""

from collections.abc import Collection, Iterable, Mapping

from attrs import evolve, field, frozen

from kpm_planner.energy.meters import Meter, Passed, energy_between
from kpm_planner.energy.shares import (
    UNIT,
    Consumer,
    EnergyCpu,
    Shares,
    Usage,
    WeightPolicy,
    classify,
    cpu_weights,
    shares_of,
)
from kpm_planner.energy.standing import Line
from kpm_planner.model.problems import Code

IDLE_POLICIES = ("owner", "requests", "node")


@frozen
class Sample:
    """All that is read at one moment.

    Units: µs, kHz; readings: meter id → µJ or µW, None where it could not be read.

    at_us: monotonic, without sleep; slept_us: how long the machine has slept since boot. busy_us,
    idle_us: by CPU, since boot. khz: mean effective frequency of each CPU since the sample before.
    usage_us: CPU time of each consumer since it began. carried: of readings that are older than the
    sample, meter id → at_us and slept_us of then (see carry).
    """

    at_us: int
    readings: Mapping[str, int | None] = field(factory=dict, hash=False)
    busy_us: Mapping[int, int] = field(factory=dict, hash=False)
    idle_us: Mapping[int, int] = field(factory=dict, hash=False)
    usage_us: Mapping[str, int] = field(factory=dict, hash=False)
    khz: Mapping[int, int] = field(factory=dict, hash=False)
    slept_us: int = 0
    carried: Mapping[str, tuple[int, int]] = field(factory=dict, hash=False)


@frozen
class EnergyAllocation:
    """Meters and online CPUs of a machine, and what is known of consumers: which CPUs they own, how
    much they ask for.
    """

    meters: tuple[Meter, ...]
    cpus: tuple[EnergyCpu, ...]
    consumers: Mapping[str, Consumer] = field(factory=dict, hash=False)


@frozen
class EnergyPolicy:
    """idle: who bears idle energy: owner (of exclusive CPUs, the rest nobody), requests (owners,
    then by CPU request), node (nobody).

    lines: meter id → its power over load; without one idle energy is the idle share of CPU time.
    """

    idle: str = "owner"
    weights: WeightPolicy = WeightPolicy()
    lines: Mapping[str, Line] = field(factory=dict, hash=False)


@frozen
class MeterEnergy:
    """The energy of one meter in an interval, µJ: uj = Σ busy + system + Σ idle + unattributed.

    busy, idle: by consumer, those with none left out. load: weighted busy CPUs of the interval, on
    average; busy_cpus: the same by CPU time alone. elapsed_us: since the meter was last read, which
    may be longer ago than the interval's beginning.
    """

    meter: Meter
    uj: int = 0
    busy: Mapping[str, int] = field(factory=dict, hash=False)
    system_uj: int = 0
    idle: Mapping[str, int] = field(factory=dict, hash=False)
    unattributed_uj: int = 0
    load: float = 0.0
    busy_cpus: float = 0.0
    elapsed_us: int = 1
    fault: Code | None = None

    @property
    def busy_uj(self) -> int:
        """Energy of what ran."""
        return sum(self.busy.values()) + self.system_uj


@frozen
class EnergyReport:
    """An interval. elapsed_us: 0 where nothing can be said. usage_us:
    CPU time by consumer in it.
    """

    elapsed_us: int
    meters: tuple[MeterEnergy, ...] = ()
    usage_us: Mapping[str, int] = field(factory=dict, hash=False)
    busy_us: Mapping[int, int] = field(factory=dict, hash=False)
    idle_us: Mapping[int, int] = field(factory=dict, hash=False)


def attribute(
    previous: Sample, current: Sample, allocation: EnergyAllocation, policy: EnergyPolicy
) -> EnergyReport:
    """Divide the energy between two samples.

    Args:     previous, current: of one boot. policy: whose idle energy is, and how CPU time weighs.
    Rules:    a meter that cannot be read costs itself only, and its energy counts when it is read
    again (see carry);
              a consumer that used no CPU gets no busy energy; a clock that stands still or goes
              back gives an empty report.
    Laws:     tests/planner/property/test_energy.py.
    """
    elapsed = current.at_us - previous.at_us
    if elapsed <= 0:
        return EnergyReport(0)
    ran = _usage(previous, current, allocation, policy.weights, elapsed)
    classes = classify(allocation.consumers, frozenset(cpu.id for cpu in allocation.cpus))
    scopes: dict[tuple[int | None, int | None], Shares] = {}
    found: dict[str, MeterEnergy] = {}
    for meter in sorted(allocation.meters, key=lambda item: _RANK.get(item.zone, 0)):
        place = (meter.package, meter.die)
        if place not in scopes:
            scopes[place] = shares_of(
                ran, _scope(allocation.cpus, meter), classes, allocation.consumers
            )
        passed, took = _passed(meter, previous, current)
        shares = scopes[place]
        load = shares.weight / (UNIT * elapsed)
        inner = _busy_inside(meter, took, found.values())
        part = _divide(
            meter,
            passed,
            shares,
            used=ran.consumers,
            policy=policy,
            load=load,
            elapsed_us=took,
            inner_uj=inner,
        )
        found[meter.id] = evolve(
            part, load=load, busy_cpus=shares.busy_us / elapsed, elapsed_us=took
        )
    return EnergyReport(
        elapsed,
        tuple(found[meter.id] for meter in allocation.meters),
        ran.consumers,
        ran.busy_us,
        ran.idle_us,
    )


def _passed(meter: Meter, previous: Sample, current: Sample) -> tuple[Passed, int]:
    """What a meter has counted since it was last read, and over how long, µs."""
    since_us, slept_us = previous.carried.get(meter.id, (previous.at_us, previous.slept_us))
    took, slept = current.at_us - since_us, current.slept_us != slept_us
    before, after = previous.readings.get(meter.id), current.readings.get(meter.id)
    return energy_between(meter, before, after, took, suspended=slept), took


#: Zones in which others are, from the inside out, and those that are in each (kernel, powercap:
#: psys is the platform).
_RANK = {"package": 1, "psys": 2, "platform": 3}
_INSIDE = {
    "package": ("core", "uncore"),
    "psys": ("package", "dram"),
    "platform": ("package", "dram"),
}


def _busy_inside(meter: Meter, took_us: int, found: Iterable[MeterEnergy]) -> int:
    """Busy energy of what is inside of a meter, µJ: it cannot be less in the whole than in its
    parts.

    Each meter has a line of its own, and of two that were learned apart the whole's may say
    otherwise. What was read over another time than the whole says nothing of it.
    """
    return sum(
        part.busy_uj
        for part in found
        if part.meter.zone in _INSIDE.get(meter.zone, ())
        and part.elapsed_us == took_us
        and (meter.package is None or part.meter.package == meter.package)
        and (meter.die is None or part.meter.die == meter.die)
    )


def carry(previous: Sample, current: Sample, meters: Iterable[Meter]) -> Sample:
    """The sample to go on from: a meter that could not be read keeps its last reading and its time,
    so that its energy is not lost.

    meters: those of now; one that is none meanwhile, as a battery that is charged, begins anew.
    """
    present = {meter.id for meter in meters}
    readings = dict(current.readings)
    carried = {}
    for name, value in previous.readings.items():
        fresh = readings.get(name)
        if name in present and value is not None and value >= 0 and (fresh is None or fresh < 0):
            readings[name] = value
            carried[name] = previous.carried.get(name, (previous.at_us, previous.slept_us))
    return evolve(current, readings=readings, carried=carried)


def _usage(
    previous: Sample,
    current: Sample,
    allocation: EnergyAllocation,
    weights: WeightPolicy,
    elapsed: int,
) -> Usage:
    online = [cpu.id for cpu in allocation.cpus]
    busy = {
        cpu: _grown(previous.busy_us.get(cpu), current.busy_us.get(cpu), elapsed) for cpu in online
    }
    idle = {
        cpu: _grown(previous.idle_us.get(cpu), current.idle_us.get(cpu), elapsed) for cpu in online
    }
    most = elapsed * max(len(online), 1)
    used = {
        name: _used(previous.usage_us.get(name), current.usage_us.get(name), most)
        for name in allocation.consumers
    }
    used = _without_inner(used, current.usage_us, allocation.consumers)
    return Usage(
        allocation.cpus,
        used,
        busy,
        idle,
        cpu_weights(allocation.cpus, busy, current.khz, elapsed, weights),
    )


def _grown(before: int | None, after: int | None, most: int) -> int:
    """How much a CPU's time grew; a counter that fell, as after hotplug, says nothing, and none
    grows by more than time does.
    """
    return 0 if before is None or after is None else min(max(after - before, 0), most)


def _used(before: int | None, after: int | None, most: int) -> int:
    """CPU time of a consumer: all of it where it is new; one that fell is a new one of the same
    name; more than fits is older than it seems.
    """
    if after is None:
        return 0
    used = after if before is None or after < before else after - before
    return used if used <= most else 0 if before is None else most


def _without_inner(
    used: dict[str, int], read: Collection[str], consumers: Mapping[str, Consumer]
) -> dict[str, int]:
    """The time of each without that of those inside of it, which is theirs; of one that has ended
    meanwhile it stays with the outer one.

    From the outside in none gets more than the one around it has: one that was found late brings
    time that was told before. read: those that said something now; who is inside of one that did
    not is inside of the next one.
    """
    around = {name: outer for name in used if (outer := _around(name, read, consumers))}
    if not around:
        return used
    inner: dict[str, list[str]] = {}
    for name, outer in around.items():
        inner.setdefault(outer, []).append(name)
    left = dict(used)
    waiting = [name for name in inner if name not in around]
    while waiting:
        outer = waiting.pop()
        members = inner.get(outer, [])
        asked = sum(left[name] for name in members)
        if asked > left[outer]:
            left |= {name: left[name] * left[outer] // asked for name in members}
        left[outer] -= sum(left[name] for name in members)
        waiting += [name for name in members if name in inner]
    return left


def _around(name: str, read: Collection[str], consumers: Mapping[str, Consumer]) -> str:
    """The nearest one around a consumer that was read, "" for none."""
    seen = {name}
    outer = consumers[name].inside
    while outer in consumers and outer not in seen and outer not in read:
        seen.add(outer)
        outer = consumers[outer].inside
    return outer if outer in consumers and outer in read and outer not in seen else ""


def _scope(cpus: tuple[EnergyCpu, ...], meter: Meter) -> frozenset[int]:
    return frozenset(
        cpu.id
        for cpu in cpus
        if meter.package in (None, cpu.package) and meter.die in (None, cpu.die)
    )


def _divide(
    meter: Meter,
    passed: Passed,
    shares: Shares,
    used: Mapping[str, int],
    policy: EnergyPolicy,
    load: float,
    elapsed_us: int,
    inner_uj: int,
) -> MeterEnergy:
    """One meter's energy: first into busy and idle, then over those who ran and those who own.
    inner_uj: busy energy of what is inside of it.
    """
    idle_most = max(0, passed.uj - inner_uj)
    from_idle = min(
        _idle_part(passed.uj, shares, policy.lines.get(meter.id), load, elapsed_us), idle_most
    )
    from_busy = passed.uj - from_idle
    busy = _busy_of(from_busy, shares, used)
    idle = _idle_of(from_idle, shares, policy)
    return MeterEnergy(
        meter,
        passed.uj,
        busy,
        system_uj=from_busy - sum(busy.values()),
        idle=idle,
        unattributed_uj=from_idle - sum(idle.values()),
        fault=passed.fault,
    )


def _idle_part(uj: int, shares: Shares, line: Line | None, load: float, elapsed_us: int) -> int:
    """What would have been used with nothing running."""
    if not shares.weight:
        return uj
    if line is not None:
        return line.idle_uj(uj, load, elapsed_us)
    time = shares.busy_us + shares.idle_us
    return uj * shares.idle_us // time if time else 0


def _busy_of(uj: int, shares: Shares, used: Mapping[str, int]) -> dict[str, int]:
    """By consumer; what rounding leaves over is the system's."""
    found = {}
    for item in shares.classes:
        part, whole = uj * item.weight, shares.weight * item.usage_us
        if part:
            for name in item.members:
                share = part * used[name] // whole
                if share:
                    found[name] = share
    return found


def _idle_of(uj: int, shares: Shares, policy: EnergyPolicy) -> dict[str, int]:
    """To owners for their own CPUs, and by request for the others, as the policy says."""
    if not uj or not shares.cpus or policy.idle == "node":
        return {}
    found = {}
    for item in shares.classes:
        asked = sum(shares.requests[name] for name in item.members)
        for name in item.members if item.cpus else ():
            part, whole = (shares.requests[name], asked) if asked else (1, len(item.members))
            found[name] = uj * item.cpus * part // (shares.cpus * whole)
    if policy.idle == "requests":
        part, whole = uj * shares.shared_cpus, shares.cpus * shares.requested
        found.update(
            {
                name: part * shares.requests[name] // whole
                for item in shares.classes
                if not item.owns
                for name in item.members
                if whole
            }
        )
    return {name: share for name, share in found.items() if share}
