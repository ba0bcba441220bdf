"""One look at everything that energy is divided by: meters, CPU time, frequencies, containers."""

import time
from collections.abc import Mapping

from attrs import define, evolve, field, frozen

from kpm.energy.containers import ContainerPath, container_of, is_container
from kpm_applier.measure.cgroups import Cgroups, layout_of
from kpm_applier.measure.counters import CounterFiles
from kpm_applier.measure.cputime import Frequencies, parse_stat
from kpm_applier.measure.meters import FoundMeters, MeterReader, discover_meters
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.energy.attribution import Sample
from kpm_planner.energy.estimate import Coefficients, estimate_uw
from kpm_planner.energy.meters import Meter
from kpm_planner.energy.shares import EnergyCpu, WeightPolicy
from kpm_planner.model.machine import Machine

#: Seconds after which meters and cgroups are looked for again, whatever seems to have changed.
_LOOK_ANEW = 60.0
_MOST_PACKAGES = 256


@frozen
class Roots:
    """Where the host's file systems are. cgroup, proc: empty where they are not to be read."""

    sysfs: str = "/sys"
    proc: str = "/proc"
    cgroup: str = "/sys/fs/cgroup"


def energy_cpus(machine: Machine) -> tuple[EnergyCpu, ...]:
    """The online CPUs of a machine, as energy is divided over them."""
    found = []
    for cpu in machine.cpus:
        if cpu.online:
            domain = None if cpu.domain is None else machine.domain_by_id.get(cpu.domain)
            highest = 0 if domain is None else domain.hardware_max_khz or 0
            others = tuple(
                other for other in cpu.siblings if other != cpu.id and other in machine.online
            )
            found.append(EnergyCpu(cpu.id, cpu.package or 0, cpu.die, others, highest))
    return tuple(found)


@define(eq=False)
class Sampler:
    """The sources of one machine, kept open. coefficients: of an estimate, where one is wanted and
    there is no meter.
    """

    roots: Roots
    coefficients: Coefficients | None = None
    weights: WeightPolicy = WeightPolicy()
    found: FoundMeters = FoundMeters()
    containers: Mapping[str, ContainerPath] = field(factory=dict)
    faults: dict[str, str] = field(factory=dict)
    _sys: SysfsHost | None = None
    _reader: MeterReader | None = None
    _frequencies: Frequencies | None = None
    _proc: CounterFiles | None = None
    _cgroups: Cgroups | None = None
    _before: Sample | None = None
    _looked: float | None = None
    _estimated: dict[int, int] = field(factory=dict)
    _silent: frozenset[str] = frozenset()
    _used: Mapping[str, int] = field(factory=dict)
    _gone: dict[str, int] = field(factory=dict)

    def take(self, machine: Machine, cpus: tuple[EnergyCpu, ...]) -> Sample:
        """Read everything.

        A source that is not there costs itself only, and says why in `faults`.
        """
        now = time.monotonic()
        anew = self._looked is None or now - self._looked >= _LOOK_ANEW
        if anew:
            self._looked = now
            self._open()
        readings = {} if self._reader is None else self._reader.read()
        self._silent = frozenset(
            meter.id
            for meter in self.found.meters
            if meter.source == "battery" and readings.get(meter.id) is None
        )
        at_us, slept_us = _clocks()
        busy, idle = self._cpu_time()
        usage = self._usage(anew=anew)
        before = self._before
        ran = [cpu for cpu, us in busy.items() if before is None or us > before.busy_us.get(cpu, 0)]
        khz = {} if self._frequencies is None else self._frequencies.sample(machine, ran)
        sample = Sample(
            at_us, readings, busy, idle_us=idle, usage_us=usage, khz=khz, slept_us=slept_us
        )
        if self.estimating:
            sample = self._estimate(sample, cpus)
        self._before = sample
        return sample

    @property
    def host(self) -> SysfsHost | None:
        """The tree of sysfs, once it is open."""
        return self._sys

    @property
    def estimating(self) -> bool:
        """Whether there is no meter, and an estimate is wanted."""
        return self.coefficients is not None and all(
            meter.id in self._silent for meter in self.found.meters
        )

    @property
    def meters(self) -> tuple[Meter, ...]:
        """The meters of the last sample; batteries that nothing is taken
        from are none meanwhile.
        """
        if not self.estimating:
            return tuple(meter for meter in self.found.meters if meter.id not in self._silent)
        return tuple(
            Meter(_estimated_id(package), "package", "estimated", package)
            for package in sorted(self._estimated)
        )

    @property
    def resting(self) -> bool:
        """Whether there are batteries from which nothing is taken now,
        so that they are no meters.
        """
        return bool(self._silent)

    @property
    def absent(self) -> tuple[tuple[str, str], ...]:
        """Source → why there is none of it now; batteries that nothing is taken from have a reason
        too.
        """
        resting = (("battery", "charged, or none is emptied"),) if self.resting else ()
        return (*self.found.absent, *resting)

    def resume(self, sample: Sample) -> None:
        """Go on from a sample that was kept: what is estimated of the time since then has its
        counters to go on from.
        """
        known = {_estimated_id(package): package for package in range(_MOST_PACKAGES)}
        self._estimated = {
            known[name]: uj
            for name, uj in sample.readings.items()
            if name in known and uj is not None
        }
        self._before = sample

    def close(self) -> None:
        """Close everything."""
        if self._sys is not None:
            self._sys.forget()
        for files in (self._proc, None if self._cgroups is None else self._cgroups.files):
            if files is not None:
                files.close()

    def _open(self) -> None:
        """Find the sources; those that are open already are kept."""
        self.faults = {}
        if self._sys is None:
            self._sys = self._host()
        if self._sys is not None:
            self._look_for_meters(self._sys)
            self._frequencies = self._frequencies or Frequencies(self._sys)
        self._proc = self._proc or self._tree("cpu-time", self.roots.proc)
        if self._cgroups is None:
            files = self._tree("cgroups", self.roots.cgroup)
            layout = None if files is None else layout_of(files)
            if files is not None and layout is None:
                self.faults["cgroups"] = f"{self.roots.cgroup}: no cgroup file system with CPU time"
            self._cgroups = (
                None if files is None or layout is None else Cgroups(files, layout, is_container)
            )

    def _host(self) -> SysfsHost | None:
        try:
            return SysfsHost(self.roots.sysfs)
        except OSError as failure:
            self.faults["meters"] = f"{self.roots.sysfs}: {failure.strerror}"
            return None

    def _look_for_meters(self, host: SysfsHost) -> None:
        found = discover_meters(host)
        if found.meters != self.found.meters or self._reader is None:
            host.forget()
            self._reader = MeterReader(host, found.meters)
        self.found = found

    def _tree(self, name: str, root: str) -> CounterFiles | None:
        if not root:
            return None
        try:
            return CounterFiles(root)
        except OSError as failure:
            self.faults[name] = f"{root}: {failure.strerror}"
            return None

    def _cpu_time(self) -> tuple[dict[int, int], dict[int, int]]:
        if self._proc is None:
            return {}, {}
        try:
            times = parse_stat(self._proc.read_whole("stat"))
        except OSError as failure:
            self.faults["cpu-time"] = f"{self.roots.proc}/stat: {failure.strerror}"
            return {}, {}
        self.faults.pop("cpu-time", None)
        return times

    def _usage(self, *, anew: bool) -> dict[str, int]:
        """Container id → CPU time."""
        groups = self._cgroups
        if groups is None:
            return {}
        if groups.look(anew=anew):
            found = {
                path: container
                for path in groups.paths
                if (container := container_of(path)) is not None
            }
            # its time is in the outer one's
            found = {
                path: container
                for path, container in found.items()
                if container.inside != container.id
            }
            # who knows its pod has the last word
            self.containers = dict(sorted(found.items(), key=lambda item: bool(item[1].pod_uid)))
        return self._by_container(groups.usage_us())

    def _by_container(self, used: Mapping[str, int]) -> dict[str, int]:
        """Container id → CPU time of all its cgroups: Kata has one beside the pod's."""
        known = self.containers
        present = {found.id for path, found in known.items() if path in used}
        for path in self._used.keys() - known.keys():
            found = container_of(path)
            # what one of several had used when it went is not lost
            if found is not None and found.id in present:
                self._gone[found.id] = self._gone.get(found.id, 0) + self._used[path]
        self._gone = {name: us for name, us in self._gone.items() if name in present}
        self._used = {
            path: used.get(path, self._used.get(path, 0))
            for path in known
            if path in used or path in self._used
        }
        total = dict(self._gone)
        for path, us in self._used.items():
            total[known[path].id] = total.get(known[path].id, 0) + us
        return total

    @property
    def dropped_cgroups(self) -> int:
        """Containers beyond the most that are looked at."""
        return 0 if self._cgroups is None else self._cgroups.dropped

    def _estimate(self, sample: Sample, cpus: tuple[EnergyCpu, ...]) -> Sample:
        """The sample with counters that go on by what was estimated since the one before."""
        before, coefficients = self._before, self.coefficients
        assert coefficients is not None
        elapsed = 0 if before is None else sample.at_us - before.at_us
        busy = (
            {}
            if before is None
            else {
                cpu: max(0, us - before.busy_us.get(cpu, us)) for cpu, us in sample.busy_us.items()
            }
        )
        power = estimate_uw(
            coefficients, cpus, busy, khz=sample.khz, elapsed_us=elapsed, policy=self.weights
        )
        self._estimated = {
            package: self._estimated.get(package, 0) + uw * max(elapsed, 0) // 1_000_000
            for package, uw in power.items()
        }
        return evolve(
            sample, readings={_estimated_id(package): uj for package, uj in self._estimated.items()}
        )


def _estimated_id(package: int) -> str:
    return f"estimated/package-{package}"


def _clocks() -> tuple[int, int]:
    """Monotonic µs, and how long the machine has slept since boot, to the hundredth of a second."""
    monotonic, boot = (
        time.clock_gettime_ns(time.CLOCK_MONOTONIC),
        time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    )
    return monotonic // 1000, (boot - monotonic) // 10_000_000 * 10_000
