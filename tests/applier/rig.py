"""What the applier's tests share: small machines, plans by hand, and hosts that watch, count, or
break off.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import define, evolve, field

from kpm_applier.attributes import CPU_ROOT, UNCORE_ROOT
from kpm_applier.diff import Repair
from kpm_applier.discovery.discover import discover
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.session import Applier, Report
from kpm_applier.state.store import StateStore
from kpm_applier.sysfs.host import (
    Host,
    Watch,
    differing_one_by_one,
    read_one_by_one,
    write_one_by_one,
)
from kpm_planner.caps.zones import CapTarget
from kpm_planner.fabric import FabricTarget
from kpm_planner.model.assignment import Pool
from kpm_planner.model.machine import (
    Cpu,
    CpufreqSettings,
    FrequencyDomain,
    IdleState,
    Machine,
    UncoreEntry,
)
from kpm_planner.model.target import BASELINE, Target
from kpm_planner.model.why import Why
from kpm_planner.parts import CpuGroup
from kpm_planner.plan import NodePlan
from kpm_planner.uncore import UncoreTarget

GHZ = 1_000_000
EPP_WORDS = ("performance", "balance_performance", "balance_power", "power")
#: driver → its governors, and whether it has an EPP (kernel facts K8, K12).
DRIVERS: dict[str, tuple[tuple[str, ...], bool]] = {
    "intel_pstate": (("performance", "powersave"), True),
    "intel_cpufreq": (
        ("conservative", "ondemand", "userspace", "powersave", "performance", "schedutil"),
        True,
    ),
    "acpi-cpufreq": (
        ("conservative", "ondemand", "userspace", "powersave", "performance", "schedutil"),
        False,
    ),
    "amd-pstate": (("performance", "schedutil"), False),
    "amd-pstate-epp": (("performance", "powersave"), True),
    "cppc_cpufreq": (("ondemand", "powersave", "performance", "schedutil"), False),
}
#: The table that kernel fact K3 was measured with, ascending.
K3_TABLE = (800_000, 1_800_000, 2_600_000, 3_700_000, 3_701_000)
IDLE = (
    IdleState(0, "POLL", 0, True, True),
    IdleState(1, "C1", 2, True, True),
    IdleState(2, "C6", 133, True, True),
)


class Crash(BaseException):
    """The end of the process: not an Exception, so that nothing on the way can think it has handled
    it.
    """


def cpufreq(number: int, name: str) -> str:
    return f"{CPU_ROOT}/cpufreq/policy{number}/{name}"


def min_path(number: int = 0) -> str:
    return cpufreq(number, "scaling_min_freq")


def max_path(number: int = 0) -> str:
    return cpufreq(number, "scaling_max_freq")


def governor_path(number: int = 0) -> str:
    return cpufreq(number, "scaling_governor")


def epp_path(number: int = 0) -> str:
    return cpufreq(number, "energy_performance_preference")


def idle_path(cpu: int, state: int) -> str:
    return f"{CPU_ROOT}/cpu{cpu}/cpuidle/state{state}/disable"


def uncore_path(entry: str, end: str) -> str:
    return f"{UNCORE_ROOT}/{entry}/{end}_freq_khz"


# --- machines ---


def domain(
    number: int = 0,
    cpus: Iterable[int] | None = None,
    driver: str = "intel_pstate",
    *,
    low: int = 800_000,
    high: int = 4 * GHZ,
    settings: tuple[int | None, int | None, str | None, str | None] = (None, None, None, None),
    table: tuple[int, ...] = (),
    has_epp: bool | None = None,
) -> FrequencyDomain:
    """A frequency domain. settings: minimum, maximum, governor, EPP; None is the driver's start
    value.
    """
    governors, epp_exists = DRIVERS[driver]
    epp_exists = epp_exists if has_epp is None else has_epp
    if table:
        low, high = table[0], table[-1]
    governor = settings[2] or (
        "powersave" if "powersave" in governors and epp_exists else "schedutil"
    )
    epp = (settings[3] or "balance_performance") if epp_exists else None
    return FrequencyDomain(
        id=number,
        cpus=tuple(cpus) if cpus is not None else (number,),
        driver=driver,
        hardware_min_khz=low,
        hardware_max_khz=high,
        limit_max_khz=high,
        available_khz=table,
        governors=governors,
        epps=_listed_epps(driver, governor) if epp_exists else (),
        settings=CpufreqSettings(settings[0] or low, settings[1] or high, governor, epp),
    )


def _listed_epps(driver: str, governor: str) -> tuple[str, ...]:
    return (
        ("performance",)
        if (driver, governor) == ("amd-pstate-epp", "performance")
        else ("default", *EPP_WORDS)
    )


def machine(
    domains: Iterable[FrequencyDomain] = (),
    *,
    cpus: int | None = None,
    idle: tuple[IdleState, ...] = IDLE,
    uncore: tuple[UncoreEntry, ...] = (),
    boost: bool | None = None,
    status: str | None = None,
    offline: Iterable[int] = (),
) -> Machine:
    """A machine of one-thread cores; each domain's CPUs in order, and cpus beyond them without
    cpufreq.
    """
    domains, gone = tuple(domains), frozenset(offline)
    domain_of = {cpu: item.id for item in domains for cpu in item.cpus}
    count = cpus if cpus is not None else max(domain_of, default=0) + 1
    return Machine(
        cpus=tuple(
            _cpu(number, domain_of.get(number), idle, online=number not in gone)
            for number in range(count)
        ),
        domains=domains,
        idle_driver="intel_idle" if idle else None,
        uncore=uncore,
        boost=boost,
        driver_status=status,
    )


def _cpu(number: int, domain_id: int | None, idle: tuple[IdleState, ...], *, online: bool) -> Cpu:
    if not online:
        return Cpu(number, online=False, domain=domain_id, idle=idle)
    return Cpu(number, True, 0, 0, None, number, (number,), domain_id, idle)


def intel(cpus: int = 2, **changes: Any) -> Machine:
    """intel_pstate with EPP, one CPU a domain."""
    return machine((domain(number) for number in range(cpus)), status="active", **changes)


def amd(cpus: int = 2, **changes: Any) -> Machine:
    """amd-pstate-epp, one CPU a domain."""
    return machine(
        (domain(number, driver="amd-pstate-epp", low=400_000) for number in range(cpus)),
        status="active",
        **changes,
    )


def tabled(cpus: int = 1) -> Machine:
    """acpi-cpufreq with the table of K3."""
    return machine(domain(number, driver="acpi-cpufreq", table=K3_TABLE) for number in range(cpus))


def arm(domains: int = 2, size: int = 2) -> Machine:
    """cppc_cpufreq with shared domains, no EPP."""
    return machine(
        domain(first, range(first, first + size), "cppc_cpufreq", high=2_500_000)
        for first in range(0, domains * size, size)
    )


def package_entry(
    package: int = 0, die: int = 0, low: int = 800_000, high: int = 2_400_000
) -> UncoreEntry:
    """An uncore entry of the older layout, unlimited."""
    return UncoreEntry(
        f"package_{package:02d}_die_{die:02d}",
        package,
        die,
        None,
        None,
        800_000,
        2_400_000,
        low,
        high,
    )


# --- plans ---


def plan(
    found: Machine,
    targets: Mapping[int, Target],
    *,
    uncore: Iterable[UncoreTarget] = (),
    caps: Iterable[CapTarget] = (),
    fabrics: Iterable[FabricTarget] = (),
    boost: bool | None = None,
    held: Iterable[int] = (),
) -> NodePlan:
    """A plan by hand: CPU → target; the other online CPUs are unmanaged, and what is not named else
    is at baseline.
    """
    kept = frozenset(held)
    groups = []
    for cpu in found.cpus:
        if not cpu.online:
            groups.append(
                CpuGroup((cpu.id,), Pool.OFFLINE, None, None, BASELINE, (Why("offline"),))
            )
        elif cpu.id in targets:
            groups.append(
                CpuGroup(
                    (cpu.id,),
                    Pool.SHARED,
                    "p",
                    None,
                    targets[cpu.id],
                    (Why(f"test asked for CPU {cpu.id}"),),
                    cpu.id in kept,
                )
            )
        else:
            groups.append(
                CpuGroup(
                    (cpu.id,),
                    Pool.UNMANAGED,
                    None,
                    None,
                    BASELINE,
                    (Why("nobody asked"),),
                    cpu.id in kept,
                )
            )
    asked = {item.entry.name: item for item in uncore}
    entries = tuple(asked.get(entry.name, UncoreTarget(entry)) for entry in found.uncore)
    capped, fixed = {item.zone: item for item in caps}, {item.fabric: item for item in fabrics}
    zones = tuple(
        capped.get(zone, CapTarget(zone, (None,) * len(zone.limits))) for zone in found.power_zones
    )
    pstates = tuple(fixed.get(fabric, FabricTarget(fabric)) for fabric in found.fabrics)
    return NodePlan("node", tuple(groups), entries, boost=boost, caps=zones, fabrics=pstates)


def everywhere(found: Machine, target: Target, **more: object) -> NodePlan:
    """One target for every online CPU."""
    return plan(found, dict.fromkeys(found.online, target), **more)  # type: ignore[arg-type]


# --- hosts ---


@define
class Probe:
    """A host around a host: counts reads by path, logs writes, and does what a test hangs on them.

    crash_at: the write with this number (from 0) does not happen, the process ends there.
    before_write: called with path and text. after_write: called when the kernel has taken one.
    deny: (verb, path) → errno or None, asked first; verb: read, list or write.
    """

    inner: Host
    crash_at: int | None = None
    before_write: Callable[[str, str], None] = lambda _path, _text: None
    after_write: Callable[[str, str], None] = lambda _path, _text: None
    deny: Callable[[str, str], int | None] = lambda _verb, _path: None
    reads: Counter[str] = field(factory=Counter)
    writes: list[tuple[str, str]] = field(factory=list)
    listed: list[str] = field(factory=list)

    @property
    def live(self) -> bool:
        return self.inner.live

    def read(self, path: str) -> bytes:
        self.reads[path] += 1
        self._ask("read", path)
        return self.inner.read(path)

    def read_all(self, paths: Sequence[str]) -> Sequence[bytes | OSError]:
        return read_one_by_one(self, paths)

    def differing(
        self, paths: Sequence[str], expected: Sequence[bytes]
    ) -> dict[str, bytes | OSError]:
        return differing_one_by_one(self, paths, expected)

    def write(self, path: str, data: bytes) -> None:
        if self.crash_at is not None and len(self.writes) >= self.crash_at:
            raise Crash
        text = data.decode().strip()
        self.before_write(path, text)
        self._ask("write", path)
        self.inner.write(path, data)
        self.writes.append((path, text))
        self.after_write(path, text)

    def write_all(self, writes: Sequence[tuple[str, bytes]]) -> dict[str, OSError]:
        return write_one_by_one(self, writes)

    def list(self, path: str) -> tuple[str, ...]:
        self.listed.append(path)
        self._ask("list", path)
        return self.inner.list(path)

    def wait(self, seconds: float) -> None:
        self.inner.wait(seconds)

    def now(self) -> float:
        return self.inner.now()

    def watch(self, files: Mapping[str, bytes]) -> Watch:
        return _ProbeWatch(self, dict(files), self.inner.watch(files))

    def keep(self, paths: Iterable[str]) -> None:
        self.inner.keep(paths)

    def forget(self) -> None:
        self.inner.forget()

    def _ask(self, verb: str, path: str) -> None:
        number = self.deny(verb, path)
        if number is not None:
            raise OSError(number, verb, path)


@define
class _ProbeWatch:
    probe: Probe
    files: Mapping[str, bytes]
    inner: Watch

    def same(self) -> bool:
        self.probe.reads.update(self.files.keys())
        for path in self.files:
            self.probe._ask("read", path)
        return self.inner.same()


def tree(root: Path, found: Machine) -> Path:
    """The files that the machine's kernel would show, in a folder."""
    probe = Probe(KernelModel(found))
    discover(probe)
    for path in probe.reads:
        try:
            content = probe.inner.read(path)
        except OSError:
            continue
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


# --- appliers ---


@contextmanager
def state_folder() -> Iterator[str]:
    """A folder for one example's state file, in memory where that is possible."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="kpm-", dir=memory if memory.is_dir() else None
    ) as folder:
        yield folder


def write_files(folder: str, files: Mapping[str, bytes]) -> None:
    """Files below a folder, by their paths there."""
    for path, content in files.items():
        (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
        (Path(folder) / path).write_bytes(content)


@contextmanager
def applier(host: Host, folder: str, repair: Repair = Repair.WRITE) -> Iterator[Applier]:
    """An open applier, as a process would have it; it ends as a process does, whatever happened."""
    handle = Applier(host, StateStore(folder, "/model", live=False), repair)
    try:
        handle.open()
        yield handle
    finally:
        handle.close()


def apply_once(host: Host, folder: str, wanted: NodePlan) -> Report:
    """What a process does that applies one plan and ends."""
    with applier(host, folder) as handle:
        return handle.apply(wanted)


def restore_once(host: Host, folder: str) -> Report:
    """What a process does that gives everything back and ends."""
    with applier(host, folder) as handle:
        return handle.restore()


def owned(folder: str) -> set[str]:
    """Keys of the groups in the state file."""
    return set(StateStore(folder, "/model", live=False).load().groups)


def shown(model: KernelModel) -> dict[str, str]:
    """What every managed file of the machine shows once everything has settled."""
    model.clock += 10
    return dict(discover(model).observed.values)


def foreign_write(model: KernelModel, path: str, text: str) -> None:
    """Somebody else writes; not in the model's log, which is then ours alone."""
    before = len(model.log)
    model.write(path, f"{text}\n".encode())
    del model.log[before:]


def texts(wanted: NodePlan, found: Machine) -> dict[str, str]:
    """What each planned value is as a text, by path; values at baseline are left out, and domains
    of which a CPU is held.
    """
    values: dict[str, str] = {}
    held = {found.by_id[cpu].domain for group in wanted.groups if group.held for cpu in group.cpus}
    for group in wanted.groups:
        target = group.target
        for cpu in group.cpus:
            number = found.by_id[cpu].domain
            if group.pool is Pool.OFFLINE or group.held:
                continue
            if number is not None and number not in held:
                low, high = (
                    None if khz is None else str(khz) for khz in (target.min_khz, target.max_khz)
                )
                paths = {
                    min_path(number): low,
                    max_path(number): high,
                    governor_path(number): target.governor,
                    epp_path(number): target.epp,
                }
                values |= {path: text for path, text in paths.items() if text is not None}
            values |= {
                idle_path(cpu, state.index): "0" if on else "1"
                for state in found.by_id[cpu].idle
                for name, on in target.idle
                if name == state.name
            }
    for item in wanted.uncore:
        if item.min_khz is not None and item.max_khz is not None:
            values |= {
                uncore_path(item.entry.name, "min"): str(item.min_khz),
                uncore_path(item.entry.name, "max"): str(item.max_khz),
            }
    values |= {
        f"hsmp/socket{item.fabric.package}/df_pstate": item.pstates
        for item in wanted.fabrics
        if item.pstates is not None
    }
    for cap in wanted.caps:
        values |= _cap_texts(cap)
    return values


def _cap_texts(cap: CapTarget) -> dict[str, str]:
    """The limits that are asked for, mW through the mailbox, and the switch with them."""
    per = 1000 if cap.zone.control == "hsmp" else 1
    limits = {
        f"{cap.zone.id}/{limit.file}": str(uw // per)
        for limit, uw in zip(cap.zone.limits, cap.limits, strict=True)
        if uw is not None
    }
    return limits | (
        {f"{cap.zone.id}/enabled": "1"} if limits and cap.zone.enabled is not None else {}
    )


def without_epp(found: FrequencyDomain) -> FrequencyDomain:
    """The domain as a driver without the EPP file shows it."""
    return evolve(found, epps=(), settings=evolve(found.settings, epp=None))
