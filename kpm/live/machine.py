"""CPUs of a machine by its own files: effective frequency, idle states, busy time, energy.

Everything here is read because a person asks (rule A1): some kernels ask the CPU itself for its
frequency. Nothing is kept, and nothing is written.
"""

import time
from collections.abc import Callable

from attrs import define

from kpm.live.picture import CpuNow, Picture
from kpm_applier.attributes import CPU_ROOT
from kpm_applier.discovery.discover import Discovery, discover
from kpm_applier.discovery.observe import observe
from kpm_applier.measure.cputime import idle_residency, parse_stat
from kpm_applier.measure.meters import discover_meters, read_meters
from kpm_applier.state.baseline import with_baseline
from kpm_applier.state.record import State
from kpm_applier.sysfs.host import Host
from kpm_applier.sysfs.reader import as_number
from kpm_planner.energy.meters import Meter
from kpm_planner.model.machine import Machine

#: What the effective frequency is read from, the truer first (kernel documentation, cpufreq).
_FREQUENCIES = ("cpuinfo_avg_freq", "scaling_cur_freq", "cpuinfo_cur_freq")


@define
class _Counters:
    """What was read at one moment. Units: µs, µJ."""

    at: float
    idle: dict[int, dict[str, int]]
    busy: dict[int, tuple[int, int]]
    energy: list[int | None]


@define(eq=False)
class MachineLooks:
    """Looks at one machine, each told against the one before. proc: where /proc is; pods: tells
    namespace/pod and watts since it was asked before.
    """

    host: Host
    proc: str = "/proc"
    pods: Callable[[], tuple[tuple[str, float], ...]] = tuple
    _found: Discovery | None = None
    _meters: tuple[Meter, ...] = ()
    _before: _Counters | None = None

    def look(self) -> Picture:
        """The machine now. Errors: HostError, OSError."""
        if self._found is None:
            self._found = discover(self.host)
            meters = discover_meters(self.host)
            self._meters = tuple(item for item in meters.meters if item.zone in ("package", "psys"))
        found = self._found
        shown = observe(self.host, found.groups).values
        machine = with_baseline(found.machine, found.groups, State(), shown)
        before, now = self._before, self._count(machine)
        self._before = now
        cpus = tuple(self._cpu(machine, cpu, before, now) for cpu in sorted(machine.online))
        notes = () if self._meters else ("watts are not known: no meter of a package can be read",)
        return Picture(
            f"{machine.cpu_model or 'this machine'}, {len(machine.online)} CPUs",
            cpus,
            self._power(before, now),
            pods=self.pods(),
            notes=notes,
        )

    def _count(self, machine: Machine) -> _Counters:
        idle = {cpu: idle_residency(self.host, machine, [cpu]) for cpu in machine.online}
        try:
            with open(f"{self.proc}/stat", "rb") as file:
                busy, rest = parse_stat(file.read(4 << 20))
        except OSError:
            busy, rest = {}, {}
        times = {cpu: (busy[cpu], rest.get(cpu, 0)) for cpu in busy}
        return _Counters(time.monotonic(), idle, times, read_meters(self.host, self._meters))

    def _cpu(self, machine: Machine, cpu: int, before: _Counters | None, now: _Counters) -> CpuNow:
        number = machine.by_id[cpu].domain
        domain = None if number is None else machine.domain_by_id.get(number)
        settings = None if domain is None else domain.settings
        idle: tuple[tuple[str, float], ...] = ()
        busy = None
        if before is not None:
            elapsed = max((now.at - before.at) * 1e6, 1.0)
            earlier = before.idle.get(cpu, {})
            idle = tuple(
                (name, min(max(us - earlier.get(name, us), 0) / elapsed, 1.0))
                for name, us in now.idle.get(cpu, {}).items()
            )
            busy = _share(before.busy.get(cpu), now.busy.get(cpu))
        return CpuNow(
            cpu,
            low_khz=None if settings is None else settings.min_khz,
            high_khz=None if settings is None else settings.max_khz,
            khz=self._khz(cpu, number),
            busy=busy,
            idle=idle,
        )

    def _khz(self, cpu: int, domain: int | None) -> int | None:
        """The effective frequency, of the CPU where it has one of its own."""
        for folder in (f"{CPU_ROOT}/cpu{cpu}/cpufreq", f"{CPU_ROOT}/cpufreq/policy{domain}"):
            for name in _FREQUENCIES:
                try:
                    text = self.host.read(f"{folder}/{name}").decode("ascii", "replace").strip()
                except OSError:
                    continue
                khz = as_number(text)
                if khz:
                    return khz
        return None

    def _power(self, before: _Counters | None, now: _Counters) -> tuple[tuple[str, float], ...]:
        """Watts by package since the last look."""
        if before is None:
            return ()
        found = []
        seconds = max(now.at - before.at, 1e-6)
        for meter, first, last in zip(self._meters, before.energy, now.energy, strict=True):
            if first is None or last is None:
                continue
            uj = last - first
            if uj < 0 and meter.range_uj:
                uj += meter.range_uj
            place = meter.zone if meter.package is None else f"{meter.zone}-{meter.package}"
            watts = last / 1e6 if meter.power else uj / 1e6 / seconds
            if watts >= 0:
                found.append((place, watts))
        return tuple(found)


def _share(first: tuple[int, int] | None, last: tuple[int, int] | None) -> float | None:
    """Busy share between two looks at (busy, idle) time."""
    if first is None or last is None:
        return None
    busy, idle = last[0] - first[0], last[1] - first[1]
    return busy / (busy + idle) if busy >= 0 and idle >= 0 and busy + idle > 0 else None
