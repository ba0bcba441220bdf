"""What the kernel model's CPUs use: a power model of cores, counters of RAPL that it feeds, and the
truth of who used what.

Per core: leakage by voltage while it runs, dynamic power by f x V^2, a second hyperthread at its
marginal share, and in idle what the deepest allowed state leaves. It knows nothing of how energy is
attributed; tests/energy/test_accuracy.py compares the two. Units: W, s, kHz inside; files show µJ.
"""

import errno
from collections.abc import Iterable, Mapping

from attrs import define, field, frozen

from kpm_applier.kernel_model.paths import add_folder
from kpm_applier.kernel_model.texts import fail
from kpm_planner.model.machine import Cpu, IdleState, Machine

_UJ = 1_000_000
#: As of a server's package: 32 bits of 61 µJ.
RANGE_UJ = 262_143_328_850
_ROOT = "devices/virtual/powercap/intel-rapl"


@frozen
class PowerModel:
    """A kind of processor.

    Units: W. standing: of a package; dynamic, leak: of a core at its highest frequency and voltage.

    sibling: what a second hyperthread adds to a busy core. voltage: at the lowest frequency, of
    that at the highest; curve: how it rises between. dram_standing, dram_busy: of the memory of a
    package, alone and for each busy core.
    """

    standing: float = 30.0
    dynamic: float = 4.0
    leak: float = 1.0
    sibling: float = 0.25
    voltage: float = 0.65
    curve: float = 1.0
    dram_standing: float = 4.0
    dram_busy: float = 0.3

    def volts(self, khz: float, low: float, high: float) -> float:
        """Voltage at a frequency, of that at the highest."""
        place = 1.0 if high <= low else min(max((khz - low) / (high - low), 0.0), 1.0)
        return self.voltage + (1 - self.voltage) * float(place**self.curve)

    def running(self, khz: float, low: float, high: float) -> float:
        """A core on which one thread runs."""
        volts = self.volts(khz, low, high)
        return self.dynamic * khz / high * volts * volts + self.leak * volts

    def idling(self, running: float, states: Iterable[IdleState]) -> float:
        """A core on which none runs: in its deepest allowed state, or spinning where none is
        allowed.
        """
        deepest = max((state.latency_us for state in states), default=0)
        if deepest <= 0:
            return running * 0.6
        return self.leak * (0.4 if deepest <= 10 else 0.1)


@define
class EnergyFiles:
    """Energy of one machine. on: whether it has counters. loads: CPU → busy share, nothing runs on
    the others.

    busy_uj: CPU → what running on it took, the truth. busy_us, idle_us: by CPU, what /proc/stat
    would show.
    """

    machine: Machine
    model: PowerModel = PowerModel()
    on: bool = False
    loads: dict[int, float] = field(factory=dict)
    busy_uj: dict[int, float] = field(factory=dict)
    busy_us: dict[int, float] = field(factory=dict)
    idle_us: dict[int, float] = field(factory=dict)
    _counters: dict[str, float] = field(factory=dict)
    _names: dict[str, str] = field(factory=dict)
    _folders: dict[str, set[str]] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        for package in sorted({cpu.package or 0 for cpu in self.machine.cpus}):
            folder = self._zone(package)
            own = next(
                (zone.name for zone in self.machine.power_zones if zone.id == folder),
                f"package-{package}",
            )
            for path, name in ((folder, own), (f"{folder}/{folder.rpartition('/')[2]}:0", "dram")):
                self._counters[path], self._names[path] = 0.0, name
                add_folder(self._folders, path)

    def _zone(self, package: int) -> str:
        """The folder of a package: that of its power limits where it has some."""
        known = next(
            (
                zone.id
                for zone in self.machine.power_zones
                if zone.package == package and zone.control == "intel-rapl"
            ),
            None,
        )
        return known or f"{_ROOT}/intel-rapl:{package}"

    def names(self, path: str) -> tuple[str, ...]:
        """Names in a folder; none where there is no such folder."""
        if not self.on:
            return ()
        files = ("energy_uj", "max_energy_range_uj", "name") if path in self._counters else ()
        return tuple(sorted((*self._folders.get(path, ()), *files)))

    def knows(self, path: str) -> bool:
        """Whether a path is a file of a counter."""
        folder, _, name = path.rpartition("/")
        return (
            self.on
            and folder in self._counters
            and name in ("energy_uj", "max_energy_range_uj", "name")
        )

    def read(self, path: str) -> str:
        """A file. Errors: OSError."""
        folder, _, name = path.rpartition("/")
        if folder not in self._counters:
            raise fail(errno.ENOENT, path)
        if name == "name":
            return self._names[folder]
        return str(
            RANGE_UJ if name == "max_energy_range_uj" else int(self._counters[folder]) % RANGE_UJ
        )

    def pass_time(
        self,
        seconds: float,
        khz: Mapping[int, float],
        states: Mapping[int, Iterable[IdleState]],
        offline: Iterable[int] = (),
    ) -> None:
        """Let time pass at these loads. khz: CPU → its frequency; states: CPU → idle states that
        are allowed.
        """
        gone = set(offline)
        packages: dict[int, tuple[float, float]] = {}
        for core in _cores(self.machine, gone):
            package = core[0].package or 0
            taken, busy = self._core(core, seconds, khz, states)
            power, running = packages.get(package, (self.model.standing, 0.0))
            packages[package] = (power + taken, running + busy)
        for package, (power, running) in packages.items():
            folder = self._zone(package)
            self._counters[folder] += power * seconds * _UJ
            part = f"{folder}/{folder.rpartition('/')[2]}:0"
            self._counters[part] += (
                (self.model.dram_standing + self.model.dram_busy * running) * seconds * _UJ
            )

    def _core(
        self,
        threads: tuple[Cpu, ...],
        seconds: float,
        khz: Mapping[int, float],
        states: Mapping[int, Iterable[IdleState]],
    ) -> tuple[float, float]:
        """Mean power of one core, and how many of it ran; what each of its threads took is booked.

        Threads run independently of each other.
        """
        shares = {cpu.id: min(max(self.loads.get(cpu.id, 0.0), 0.0), 1.0) for cpu in threads}
        low, high = self._range(threads[0])
        power, nobody = 0.0, 1.0
        for cpu in threads:
            others = [shares[other.id] for other in threads if other is not cpu]
            speed = khz.get(cpu.id, high)
            share = 1.0
            # k of n others run as well, each for its own: a thread bears sibling + (1 - sibling) /
            # (1 + k) of a core
            if any(others):
                mean, count = sum(others) / len(others), len(others) + 1
                share = self.model.sibling + (1 - self.model.sibling) * (
                    1 - (1 - mean) ** count
                ) / (count * mean)
            taken = self.model.running(speed, low, high) * shares[cpu.id] * share
            power += taken
            nobody *= 1 - shares[cpu.id]
            self.busy_uj[cpu.id] = self.busy_uj.get(cpu.id, 0.0) + taken * seconds * _UJ
            self.busy_us[cpu.id] = self.busy_us.get(cpu.id, 0.0) + shares[cpu.id] * seconds * 1e6
            self.idle_us[cpu.id] = (
                self.idle_us.get(cpu.id, 0.0) + (1 - shares[cpu.id]) * seconds * 1e6
            )
        first = threads[0].id
        idle = self.model.idling(
            self.model.running(khz.get(first, high), low, high), states.get(first, ())
        )
        return power + idle * nobody, 1 - nobody

    def _range(self, cpu: Cpu) -> tuple[float, float]:
        domain = None if cpu.domain is None else self.machine.domain_by_id.get(cpu.domain)
        low, high = (
            (None, None) if domain is None else (domain.hardware_min_khz, domain.hardware_max_khz)
        )
        return float(low or 1_000_000), float(high or 3_000_000)


def _cores(machine: Machine, offline: set[int]) -> list[tuple[Cpu, ...]]:
    """The online threads of each core."""
    found: dict[tuple[int, ...], list[Cpu]] = {}
    for cpu in machine.cpus:
        if cpu.id not in offline:
            found.setdefault(tuple(sorted(cpu.siblings)) or (cpu.id,), []).append(cpu)
    return [tuple(threads) for threads in found.values()]
