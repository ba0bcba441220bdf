"""How far attribution is from the truth of the simulator's power model, beside the plain ratio of
CPU time that others use.

    python tests/energy/accuracy.py        the table of docs/user/energy.md

Every machine has other physics (leakage, voltage curve, worth of a hyperthread, standing power),
which attribution is not told. Containers own CPUs at frequencies of their profiles, or share the
rest and are spread over it unevenly; some do nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from attrs import define, evolve, field, frozen

from kpm.energy.sampler import energy_cpus
from kpm.request.machines import MODELS, build_machine
from kpm_applier.kernel_model.energy import PowerModel
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.measure.meters import MeterReader, discover_meters
from kpm_planner.energy.attribution import (
    EnergyAllocation,
    EnergyPolicy,
    EnergyReport,
    Sample,
    attribute,
)
from kpm_planner.energy.shares import Consumer
from kpm_planner.energy.standing import Standing, learn

_TICK = 10_000
WARM_UP, SECONDS = 20, 10.0


@define
class Box:
    """A machine with its containers, and the two accountants that look at it."""

    chance: random.Random
    model: KernelModel = field(init=False)
    owned: dict[str, frozenset[int]] = field(factory=dict)
    spread: dict[str, dict[int, float]] = field(factory=dict)
    used: dict[str, float] = field(factory=dict)
    truth: dict[str, float] = field(factory=dict)
    standing: dict[str, Standing] = field(factory=dict)
    at_us: int = 0

    def __attrs_post_init__(self) -> None:
        draw = self.chance
        machine = build_machine(
            evolve(
                MODELS[draw.choice(["xeon", "epyc"])],
                packages=draw.choice([1, 2]),
                cores=draw.choice([4, 8, 16]),
                threads=draw.choice([1, 2]),
            )
        )
        self.model = KernelModel(machine)
        self.model.energy.on = True
        self.model.energy.model = PowerModel(
            standing=draw.uniform(10, 60),
            dynamic=draw.uniform(2, 6),
            leak=draw.uniform(0.3, 1.8),
            sibling=draw.uniform(0.12, 0.38),
            voltage=draw.uniform(0.55, 0.8),
            curve=draw.uniform(0.7, 1.6),
        )
        self._place()
        self.reader = MeterReader(self.model, discover_meters(self.model).meters)

    reader: MeterReader = field(init=False)

    def _place(self) -> None:
        """Exclusive containers on whole cores at their own frequencies, shared ones on the rest."""
        draw, machine = self.chance, self.model.machine
        cores = sorted({tuple(sorted(cpu.siblings)) or (cpu.id,) for cpu in machine.cpus})
        draw.shuffle(cores)
        taken = draw.randint(0, len(cores) // 2)
        number = 0
        while taken > 0:
            count = min(draw.randint(1, 4), taken)
            cpus = frozenset(cpu for core in cores[:count] for cpu in core)
            del cores[:count]
            taken -= count
            self.owned[f"own-{number}"] = cpus
            number += 1
            self._speed(cpus, draw.uniform(0.25, 1.0))
            if draw.random() < 0.3:
                self._stay_shallow(cpus)
        rest = [cpu for core in cores for cpu in core]
        self._speed(frozenset(rest), draw.uniform(0.25, 1.0))
        for index in range(draw.randint(2, 12)):
            weights = {cpu: draw.uniform(0.2, 1.0) for cpu in rest}
            total = sum(weights.values())
            self.spread[f"shared-{index}"] = {
                cpu: weight / total for cpu, weight in weights.items()
            }

    def _speed(self, cpus: frozenset[int], place: float) -> None:
        for domain in self.model.machine.domains:
            if cpus.intersection(domain.cpus):
                low, high = domain.hardware_min_khz or 0, domain.hardware_max_khz or 0
                khz = round(low + (high - low) * place)
                policy = self.model.policies[domain.id]
                policy.min_request = policy.max_request = khz
                policy.update()

    def _stay_shallow(self, cpus: frozenset[int]) -> None:
        """As a profile with maxLatencyUs: 10 does it."""
        for cpu in cpus:
            for state in self.model.machine.by_id[cpu].idle:
                if state.latency_us > 10:
                    self.model.write(
                        f"devices/system/cpu/cpu{cpu}/cpuidle/state{state.index}/disable", b"1"
                    )

    def mix(self) -> None:
        """Another load."""
        draw, loads = self.chance, self.model.energy.loads
        loads.clear()
        loads.update({cpu.id: 0.002 for cpu in self.model.machine.cpus})
        self.parts: dict[int, dict[str, float]] = {}
        for name, cpus in self.owned.items():
            share = 0.0 if draw.random() < 0.2 else draw.uniform(0.05, 0.98)
            for cpu in cpus:
                self.parts.setdefault(cpu, {})[name] = share
        cpus_shared = len(next(iter(self.spread.values())))
        pressure = draw.uniform(0.05, 0.7) * cpus_shared / len(self.spread)
        for name, spread in self.spread.items():
            amount = 0.0 if draw.random() < 0.2 else draw.uniform(0.1, 1.9) * pressure
            for cpu, share in spread.items():
                self.parts.setdefault(cpu, {})[name] = amount * share
        for cpu, users in self.parts.items():
            whole = sum(users.values())
            if whole > 0.98:
                self.parts[cpu] = {name: share * 0.98 / whole for name, share in users.items()}
            loads[cpu] = 0.002 + sum(self.parts[cpu].values())

    parts: dict[int, dict[str, float]] = field(factory=dict)

    def sample(self) -> Sample:
        """What an agent reads: energies, ticks of CPU time, CPU time of containers, frequencies."""
        energy = self.model.energy
        busy = {cpu: int(us) // _TICK * _TICK for cpu, us in energy.busy_us.items()}
        idle = {cpu: int(us) // _TICK * _TICK for cpu, us in energy.idle_us.items()}
        return Sample(
            self.at_us,
            self.reader.read(),
            busy,
            idle,
            {name: int(us) for name, us in self.used.items()},
            self.model.frequencies(),
        )

    def run(self) -> tuple[Sample, Sample]:
        """One interval at the present load; the truth of it is kept."""
        energy = self.model.energy
        for name in (*self.owned, *self.spread):
            self.used.setdefault(name, 0.0)
        before, was = self.sample(), dict(energy.busy_uj)
        self.model.wait(SECONDS)
        self.at_us += int(SECONDS * 1e6)
        self.truth = dict.fromkeys(self.used, 0.0)
        for cpu, users in self.parts.items():
            took, load = energy.busy_uj[cpu] - was.get(cpu, 0.0), energy.loads[cpu]
            for name, share in users.items():
                self.used[name] += share * SECONDS * 1e6
                self.truth[name] += took * share / load if load else 0.0
        return before, self.sample()

    def attributed(self, before: Sample, after: Sample) -> EnergyReport:
        """Ours, which learns as an agent does."""
        consumers = {name: Consumer(self.owned.get(name, frozenset())) for name in self.used}
        allocation = EnergyAllocation(
            self.reader.meters, energy_cpus(self.model.machine), consumers
        )
        known = {
            name: line for name, item in self.standing.items() if (line := item.line()) is not None
        }
        report = attribute(before, after, allocation, EnergyPolicy(lines=known))
        for part in report.meters:
            self.standing[part.meter.id] = learn(
                self.standing.get(part.meter.id, Standing()),
                part.uj,
                part.load,
                part.busy_cpus,
                report.elapsed_us,
            )
        return report


def by_ratio(report: EnergyReport) -> dict[str, float]:
    """The other way: active energy is the busy share of all energy, and
    divides by CPU time alone.
    """
    energy = sum(part.uj for part in report.meters if part.meter.zone == "package")
    busy, idle = sum(report.busy_us.values()), sum(report.idle_us.values())
    return _by_time(energy * busy / (busy + idle), report)


def by_time_of_our_busy(report: EnergyReport) -> dict[str, float]:
    """Half-way: what ours calls busy, divided by CPU time alone; it shows what frequencies,
    hyperthreads and packages are worth.
    """
    return _by_time(
        sum(part.busy_uj for part in report.meters if part.meter.zone == "package"), report
    )


def _by_time(uj: float, report: EnergyReport) -> dict[str, float]:
    whole = sum(report.usage_us.values())
    return {name: uj * us / whole if whole else 0.0 for name, us in report.usage_us.items()}


@frozen
class Errors:
    """Of one mix: relative errors of the containers that ran, by each way, and what containers that
    did nothing were given, µJ.
    """

    ours: tuple[float, ...]
    ratio: tuple[float, ...]
    between: tuple[float, ...]
    idle_uj: tuple[int, ...]


def mixes(count: int, seed: int = 1) -> Iterator[Errors]:
    """Random mixes, twenty-five on a machine, after it has run for a while."""
    chance = random.Random(seed)
    while count > 0:
        box = Box(chance)
        for _ in range(WARM_UP):
            box.mix()
            box.attributed(*box.run())
        for _ in range(min(25, count)):
            box.mix()
            report = box.attributed(*box.run())
            ours = {
                name: sum(
                    part.busy.get(name, 0) for part in report.meters if part.meter.zone == "package"
                )
                for name in box.used
            }
            ran = [name for name, uj in box.truth.items() if uj > 1_000_000]
            own, ratio, between = (
                tuple(abs(way[name] - box.truth[name]) / box.truth[name] for name in ran)
                for way in (ours, by_ratio(report), by_time_of_our_busy(report))
            )
            idle = tuple(ours[name] for name, us in report.usage_us.items() if not us)
            yield Errors(own, ratio, between, idle)
        count -= 25


@frozen
class Summary:
    """Over all mixes. mean, high (at the 95th hundredth), worst: relative errors of ours, the
    ratio, and what lies between.
    """

    mixes: int
    containers: int
    mean: tuple[float, ...]
    high: tuple[float, ...]
    worst: tuple[float, ...]
    idle: int
    idle_uj: int


def summarise(found: list[Errors]) -> Summary:
    """The figures of the table."""
    ways = [
        sorted(error for errors in of_way for error in errors)
        for of_way in zip(*((item.ours, item.ratio, item.between) for item in found), strict=True)
    ]
    at = int(len(ways[0]) * 0.95)
    idle = [uj for item in found for uj in item.idle_uj]
    return Summary(
        len(found),
        len(ways[0]),
        tuple(sum(way) / len(way) for way in ways),
        tuple(way[at] for way in ways),
        tuple(way[-1] for way in ways),
        len(idle),
        sum(idle),
    )


def table(summary: Summary) -> str:
    """As it stands in docs/user/energy.md."""
    lines = [
        (
            "| error per container | attributed here | plain ratio of CPU time | our busy energy by"
            " CPU time | here ÷ ratio |"
        ),
        "|---|---:|---:|---:|---:|",
    ]
    for name, (ours, ratio, between) in (
        ("mean", summary.mean),
        ("95 of 100 below", summary.high),
        ("worst", summary.worst),
    ):
        lines.append(f"| {name} | {ours:.1%} | {ratio:.1%} | {between:.1%} | {ours / ratio:.2f} |")
    lines.append("")
    lines.append(
        f"{summary.mixes} mixes, {summary.containers} containers that ran; {summary.idle} that did"
        f" nothing were given {summary.idle_uj} µJ together."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(summarise(list(mixes(1000)))))
