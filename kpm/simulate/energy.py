"""Energy of simulated nodes: what the pods' loads take by the kernel model's counters, divided by
the code that agents run.
"""

from collections.abc import Iterable, Mapping

from attrs import define, evolve, field, frozen

from kpm.energy.sampler import energy_cpus
from kpm_applier.kernel_model.energy import EnergyFiles
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.measure.meters import discover_meters, read_meters
from kpm_planner.energy.attribution import (
    EnergyAllocation,
    EnergyPolicy,
    EnergyReport,
    Sample,
    attribute,
)
from kpm_planner.energy.meters import Meter, energy_between
from kpm_planner.energy.shares import Consumer, EnergyCpu
from kpm_planner.energy.standing import Line
from kpm_planner.model.allocation import ContainerCpus
from kpm_planner.model.cluster import Pod

_UW = 1_000_000


@frozen
class PodPower:
    """What a pod took on average. Units: W. truth: of the power model, to compare busy with."""

    name: str
    busy: float
    idle: float
    truth: float


@frozen
class EnergyView:
    """The packages of a node over an interval. Units: s, W. nobody: idle power that is nobody's.

    unmanaged: what the same loads, in per cent of CPUs, take with the settings that the machine
    came with.
    """

    seconds: float
    watts: float
    pods: tuple[PodPower, ...]
    system: float
    nobody: float
    unmanaged: float = 0.0

    @property
    def saved(self) -> float:
        """W less than without power management."""
        return self.unmanaged - self.watts


@frozen
class Work:
    """What a container's load comes to. cpus: those that it owns;
    spread: CPU → share of its time.
    """

    pod: str
    consumer: Consumer
    spread: Mapping[int, float] = field(hash=False)


def works(
    pods: Iterable[tuple[str, Pod]],
    reported: Iterable[ContainerCpus],
    loads: Mapping[str, float],
    online: frozenset[int],
) -> list[Work]:
    """The containers that have a load: of the CPUs that they own, or of their request on those that
    nobody owns.
    """
    owned = {
        (item.namespace, item.pod, item.container): item.cpus & online
        for item in reported
        if item.cpus
    }
    shared = sorted(online.difference(*owned.values()) or online)
    found = []
    for name, pod in pods:
        for container in pod.containers:
            request = round((container.cpu[0] or 0) * 1000)
            cpus = owned.get(
                (pod.meta.namespace or "default", pod.meta.name, container.name), frozenset()
            )
            share = loads.get(name, 0.0)
            spread = (
                dict.fromkeys(cpus, share)
                if cpus
                else dict.fromkeys(shared, share * request / 1000 / len(shared))
            )
            found.append(Work(name, Consumer(cpus, request), spread))
    return found


@define
class SimMeter:
    """The meters of one simulated node. plain: the same machine, never tuned."""

    model: KernelModel
    used: dict[str, float] = field(factory=dict)
    at_us: int = 0
    meters: tuple[Meter, ...] = ()
    plain: KernelModel | None = None

    def pass_time(self, seconds: float, found: list[Work]) -> EnergyView | None:
        """Let time pass under these loads; nothing is said of a node without any."""
        energy = self.model.energy
        energy.loads.clear()
        for work in found:
            for cpu, share in work.spread.items():
                energy.loads[cpu] = min(1.0, energy.loads.get(cpu, 0.0) + share)
        if not any(energy.loads.values()):
            self.model.wait(seconds)
            return None
        energy.on = True
        self.meters = self.meters or tuple(
            meter for meter in discover_meters(self.model).meters if meter.zone == "package"
        )
        known = {str(index): work for index, work in enumerate(found)}
        before, was = self._sample(dict.fromkeys(known, 0)), dict(energy.busy_uj)
        self.model.wait(seconds)
        self.at_us += round(seconds * _UW)
        after = self._sample(
            {name: round(sum(work.spread.values()) * seconds * _UW) for name, work in known.items()}
        )
        allocation = EnergyAllocation(
            self.meters, self._cpus(), {name: work.consumer for name, work in known.items()}
        )
        report = attribute(before, after, allocation, EnergyPolicy(lines=self._lines()))
        view = _view(report, known, {name: self._truth(work, was) for name, work in known.items()})
        return evolve(view, unmanaged=self._unmanaged(seconds))

    def _unmanaged(self, seconds: float) -> float:
        """Power of the machine as it came, under these loads."""
        plain = self.plain = self.plain or KernelModel(self.model.machine)
        plain.energy.on, plain.energy.model, plain.offline = (
            True,
            self.model.energy.model,
            set(self.model.offline),
        )
        plain.energy.loads = dict(self.model.energy.loads)
        before = read_meters(plain, self.meters)
        plain.wait(seconds)
        passed = [
            energy_between(meter, was, now, round(seconds * _UW)).uj
            for meter, was, now in zip(
                self.meters, before, read_meters(plain, self.meters), strict=True
            )
        ]
        return sum(passed) / seconds / _UW

    def _truth(self, work: Work, was: Mapping[int, float]) -> float:
        """What a load really took, µJ."""
        energy = self.model.energy
        return sum(
            (energy.busy_uj[cpu] - was.get(cpu, 0.0)) * share / energy.loads[cpu]
            for cpu, share in work.spread.items()
            if share
        )

    def _cpus(self) -> tuple[EnergyCpu, ...]:
        machine = self.model.machine
        return energy_cpus(
            evolve(
                machine,
                cpus=tuple(
                    evolve(cpu, online=cpu.id not in self.model.offline) for cpu in machine.cpus
                ),
            )
        )

    def _sample(self, used: Mapping[str, int]) -> Sample:
        energy = self.model.energy
        readings = dict(
            zip(
                (meter.id for meter in self.meters),
                read_meters(self.model, self.meters),
                strict=True,
            )
        )
        none = {cpu.id: 0.0 for cpu in self.model.machine.cpus}
        busy, idle = (
            {cpu: int(us) for cpu, us in (times or none).items()}
            for times in (energy.busy_us, energy.idle_us)
        )
        return Sample(
            self.at_us, readings, busy, idle_us=idle, usage_us=used, khz=self.model.frequencies()
        )

    def _lines(self) -> dict[str, Line]:
        """What the packages take with nothing running, as an agent knows
        it that has run for long.
        """
        machine = self.model.machine
        alone = EnergyFiles(machine, self.model.energy.model)
        speeds = {cpu: float(khz) for cpu, khz in self.model.frequencies().items()}
        alone.pass_time(1.0, speeds, self.model.allowed_states(), self.model.offline)
        return {meter.id: Line(0.0, int(alone.read(meter.id)) / _UW) for meter in self.meters}


def _view(
    report: EnergyReport, known: Mapping[str, Work], truth: Mapping[str, float]
) -> EnergyView:
    """A report in watts."""

    def watts(uj: float) -> float:
        return uj / report.elapsed_us

    pods: dict[str, PodPower] = {}
    for name, work in known.items():
        had = pods.get(work.pod, PodPower(work.pod, 0.0, 0.0, 0.0))
        busy, idle = (
            watts(sum(amounts.get(name, 0) for amounts in parts))
            for parts in zip(*((part.busy, part.idle) for part in report.meters), strict=True)
        )
        pods[work.pod] = PodPower(
            work.pod, had.busy + busy, had.idle + idle, had.truth + watts(truth[name])
        )
    total, system, nobody = (
        sum(amounts)
        for amounts in zip(
            *((part.uj, part.system_uj, part.unattributed_uj) for part in report.meters),
            strict=True,
        )
    )
    return EnergyView(
        report.elapsed_us / _UW, watts(total), tuple(pods.values()), watts(system), watts(nobody)
    )


def energy_line(view: EnergyView) -> str:
    """What is shown of an interval."""
    pods = "".join(
        f"; {item.name} {item.busy:.1f} W"
        + (f" + {item.idle:.1f} W idle" if item.idle else "")
        + f" (true {item.truth:.1f})"
        for item in view.pods
    )
    return (
        f"power over {view.seconds:g} s: {view.watts:.1f} W{pods}; system {view.system:.1f} W; idle"
        f" of nobody {view.nobody:.1f} W; {_saved(view.saved)}"
    )


def _saved(watts: float) -> str:
    return f"{abs(watts):.1f} W {'less' if watts >= 0 else 'more'} than without power management"
