"""The measuring of a node: a look every few seconds, divided and booked; what a scrape gets; the
totals kept over a restart.

One thread measures; scrapes read under a lock. Monotonic clock throughout.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping

from attrs import define, field, frozen

from kpm.energy.coefficients import cpuinfo_of, processor_of
from kpm.energy.cpus import CpuTotals
from kpm.energy.exposition import Exposed, Family, expose, labels, render
from kpm.energy.kept import Kept, dump, load
from kpm.energy.ledger import Ledger
from kpm.energy.names import Identity, Known, identify
from kpm.energy.priors import machine_key, priors_of
from kpm.energy.processes import MOST_PROCESSES, Processes
from kpm.energy.sampler import Sampler, energy_cpus
from kpm.energy.scrapers import Scrapers
from kpm.process.errors import one_line
from kpm.process.logs import Log
from kpm.process.threads import Threads
from kpm_applier.measure.counters import CounterFiles
from kpm_applier.state.files import boot_id, write_whole
from kpm_planner.energy.attribution import (
    EnergyAllocation,
    EnergyPolicy,
    EnergyReport,
    Sample,
    attribute,
    carry,
)
from kpm_planner.energy.meters import Meter
from kpm_planner.energy.shares import EnergyCpu
from kpm_planner.energy.standing import Line, Prior, Standing, learn
from kpm_planner.model.machine import Machine
from kpm_planner.model.problems import Code
from kpm_planner.report.energy import energy_condition
from kpm_planner.report.types import Condition

#: Seconds for which the totals of containers and pods that are gone are told at most.
KEEP_S = 600.0
#: Intervals that one look may take at most before the thread is taken to stand still.
_LONGEST_TURNS = 12


@frozen
class EnergySettings:
    """What is measured and told. interval: seconds; state: file of the totals, "" for none."""

    levels: tuple[str, ...] = ("node", "pod", "container")
    names: tuple[str, ...] = ("kpm", "kepler")
    idle: str = "owner"
    interval: float = 10.0
    most_series: int = 20_000
    state: str = ""
    proc: str = "/proc"


@frozen
class View:
    """What is known of the node beside the meters: its machine, its containers by id and pods by
    UID, and CPU → pool.
    """

    machine: Machine = Machine()
    cpus: tuple[EnergyCpu, ...] = ()
    containers: Mapping[str, Known] = field(factory=dict)
    pods: Mapping[str, Identity] = field(factory=dict)
    pools: Mapping[int, str] = field(factory=dict)


@define(eq=False)
class EnergyMeter:
    """Measures one node. node: its name."""

    node: str
    settings: EnergySettings
    sampler: Sampler
    log: Log
    build: str = ""
    ledger: Ledger = field(factory=Ledger)
    scrapers: Scrapers = field(factory=Scrapers)
    last: EnergyReport = EnergyReport(0)
    _view: View = View()
    _before: Sample | None = None
    _standing: dict[str, Standing] = field(factory=dict)
    _assumed: dict[str, Prior] = field(factory=dict)
    _assumed_of: tuple[object, ...] = ()
    _cpuinfo: str = ""
    _machine: str = ""
    _processes: Processes | None = None
    _cpus: CpuTotals = field(factory=CpuTotals)
    _lock: threading.Lock = field(factory=threading.Lock)
    _stop: threading.Event = field(factory=threading.Event)
    _thread: threading.Thread | None = None
    _boot: str = ""
    _problems: frozenset[tuple[str, str]] = frozenset()
    _samples: int = 0
    _seconds: float = 0.0
    _restored: bool = False
    _kept: Kept | None = None
    _unkept: str = ""
    _told: tuple[str, ...] = ()

    def start(self, threads: Threads) -> None:
        """Measure from a thread of its own until `stop`."""
        self._thread = threads.start(
            "energy",
            lambda: self._run(threads),
            self._stop.is_set,
            _LONGEST_TURNS * max(self.settings.interval, 10.0),
        )

    def stop(self) -> None:
        """End soon, with the totals kept."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def follow(
        self,
        machine: Machine,
        containers: Mapping[str, Known],
        pods: Mapping[str, Identity],
        pools: Mapping[int, str] | None = None,
    ) -> None:
        """What is known of the node from now on."""
        cpus = self._view.cpus if self._view.machine is machine else energy_cpus(machine)
        self._view = View(machine, cpus, containers, pods, pools or {})

    def sample(self) -> EnergyReport:
        """One look: read, divide, book, keep."""
        started = time.monotonic()
        if not self._restored:
            self._restore()
        view = self._view
        current = self.sampler.take(view.machine, view.cpus)
        meters = self.sampler.meters
        if not self._samples:
            sources, absent = (
                sorted({meter.source for meter in meters}),
                [f"{source}: {why}" for source, why in self.sampler.absent],
            )
            self.log.info(
                "measuring energy", interval=self.settings.interval, sources=sources, absent=absent
            )
        known = self._known(view)
        report = EnergyReport(0)
        with self._lock:
            self._go_on(started)
            used = None if self._processes is None else self._processes.sample()
            before = self._before
            if before is not None and not self._samples and before.at_us > current.at_us:
                before = None  # kept by somebody whose clock ran otherwise
            if before is not None:
                allocation = EnergyAllocation(
                    meters, view.cpus, {name: item.consumer for name, item in known.items()}
                )
                policy = EnergyPolicy(self.settings.idle, self.sampler.weights, self.lines(meters))
                report = attribute(before, current, allocation, policy)
            if report.elapsed_us or before is None:
                self._book(report, current, {name: item.identity for name, item in known.items()})
                if used is not None and self._processes is not None:
                    self._processes.book(report, used)
                if self.sampler.host is not None and "kpm" in self.settings.names:
                    self._cpus.look(self.sampler.host, view.machine, view.pools, started)
                self._before = current if before is None else carry(before, current, meters)
            self._samples += 1
        self._keep()
        self._say_problems(meters, report)
        self._seconds = time.monotonic() - started
        return report

    def lines(self, meters: tuple[Meter, ...]) -> dict[str, Line]:
        """Meter id → its power over load, as it is assumed or learned by now."""
        view = self._view
        basis = (view.machine, view.cpus, meters)
        if basis != self._assumed_of:
            self._assumed, self._assumed_of = (
                priors_of(view.machine, view.cpus, meters, self._cpuinfo, self.sampler.weights),
                basis,
            )
        found = {
            meter.id: self._standing.get(meter.id, Standing()).line(self._assumed.get(meter.id))
            for meter in meters
        }
        return {name: line for name, line in found.items() if line is not None}

    def metrics(self, reader: str) -> bytes:
        """What a scrape from an address gets."""
        with self._lock:
            now = time.monotonic()
            self.scrapers.came(reader, now)
            families, left_out = expose(self._exposed())
            self._told = left_out
            families += self._of_cpus()
            count = sum(len(family.lines) for family in families)
            text = render([*families, *self._own(count, left_out)])
            readers = set(self.scrapers.active(now))
            for accounts in (self.ledger.containers, self.ledger.pods):
                for account in accounts.values():
                    if account.ended is not None:
                        account.told = account.told & readers | {reader}
            self.ledger.forget_told(readers, now, keep_s=KEEP_S)
        return text

    @property
    def problems(self) -> frozenset[tuple[str, str]]:
        """Code and text of what keeps energy from being measured."""
        return self._problems

    def condition(self) -> Condition:
        """What the node's state says of it."""
        return energy_condition(self.sampler.meters, self.sampler.absent, self._problems)

    def _run(self, threads: Threads) -> None:
        while not self._stop.wait(
            0
            if self._before is None and self._view.cpus
            else self.settings.interval
            if self._view.cpus
            else 0.5
        ):
            threads.turn("energy")
            if not self._view.cpus:
                continue
            try:
                self.sample()
            except Exception:  # a sample that fails in a way nobody thought of costs only itself
                self.log.exception("energy not measured")
                self._stop.wait(self.settings.interval)
        self._keep()
        self.sampler.close()

    def _known(self, view: View) -> dict[str, Known]:
        """The containers that are there, and who they are."""
        return {
            found.id: identify(found, view.containers, view.pods)
            for found in self.sampler.containers.values()
        }

    def _book(
        self, report: EnergyReport, current: Sample, identities: Mapping[str, Identity]
    ) -> None:
        now = time.monotonic()
        self.last = report
        self.ledger.add(report, identities, current.readings, now)
        self.ledger.forget_told((), now, keep_s=KEEP_S)
        for part in report.meters:
            if part.fault is None and part.uj and part.elapsed_us == report.elapsed_us:
                self._standing[part.meter.id] = learn(
                    self._standing.get(part.meter.id, Standing()),
                    part.uj,
                    part.load,
                    part.busy_cpus,
                    part.elapsed_us,
                )

    def _exposed(self) -> Exposed:
        busy, idle = sum(self.last.busy_us.values()), sum(self.last.idle_us.values())
        processes = {} if self._processes is None else self._processes.accounts
        return Exposed(
            self.node,
            self.settings.levels,
            self.settings.names,
            most=self.settings.most_series,
            ledger=self.ledger,
            meters=self.sampler.meters,
            processes=processes,
            usage_ratio=busy / (busy + idle) if busy + idle else None,
            cpu_info=self._cpu_info(),
            build=self.build,
            lines=self.lines(self.sampler.meters),
        )

    def _cpu_info(self) -> tuple[str, ...]:
        """Labels of each online CPU, as cpuinfo names the processor."""
        machine, words = self._view.machine, processor_of(self._cpuinfo)
        vendor, model = (
            words.get("vendor_id", words.get("CPU implementer", "")),
            words.get("model name", "") or machine.cpu_model or "",
        )
        return tuple(
            labels(
                processor=str(cpu.id),
                vendor_id=vendor,
                model_name=model,
                physical_id=str(cpu.package or 0),
                core_id="" if cpu.core is None else str(cpu.core),
            )
            for cpu in machine.cpus
            if cpu.online
        )

    def _of_cpus(self) -> list[Family]:
        if (
            "kpm" not in self.settings.names
            or "node" not in self.settings.levels
            or self._before is None
        ):
            return []
        view = self._view
        return [
            family
            for family in self._cpus.families(view.machine, view.pools, self._before.khz, self.last)
            if family.lines
        ]

    def _own(self, series: int, left_out: Iterable[str]) -> list[Family]:
        """What the measuring tells of itself."""
        absent = self.sampler.absent
        present = sorted({meter.source for meter in self.sampler.meters})
        return [
            Family(
                "kpm_energy_source_present",
                "gauge",
                "Whether a source of energy readings is there, and why not.",
                [
                    f"kpm_energy_source_present{{{labels(source=source, reason='')}}} 1\n"
                    for source in present
                ]
                + [
                    f"kpm_energy_source_present{{{labels(source=source, reason=why)}}} 0\n"
                    for source, why in absent
                    if source not in present
                ],
            ),
            Family(
                "kpm_energy_problems",
                "gauge",
                "Problems that keep energy from being measured, by code.",
                [
                    f"kpm_energy_problems{{{labels(code=code)}}} {count}\n"
                    for code, count in sorted(Counter(code for code, _ in self._problems).items())
                ],
            ),
            Family(
                "kpm_energy_samples_total",
                "counter",
                "Looks at the meters.",
                [f"kpm_energy_samples_total {self._samples}\n"],
            ),
            Family(
                "kpm_energy_sample_seconds",
                "gauge",
                "How long the last look took.",
                [f"kpm_energy_sample_seconds {self._seconds!r}\n"],
            ),
            Family(
                "kpm_energy_series",
                "gauge",
                "Energy series that are told.",
                [f"kpm_energy_series {series}\n"],
            ),
            Family(
                "kpm_energy_level_left_out",
                "gauge",
                "Levels that are left out because there would be more than maxSeries.",
                [f"kpm_energy_level_left_out{{{labels(level=level)}}} 1\n" for level in left_out],
            ),
        ]

    def _say_problems(self, meters: Iterable[Meter], report: EnergyReport) -> None:
        """One log line for each problem that is new."""
        found = {
            (part.fault.value, f"{part.meter.id}: {part.meter.zone} of {part.meter.place}")
            for part in report.meters
            if part.fault is not None
        }
        if not tuple(meters) and not self.sampler.resting:
            found.add(
                (
                    Code.ENERGY_NO_METER.value,
                    "; ".join(f"{source}: {why}" for source, why in self.sampler.absent),
                )
            )
        if self.sampler.dropped_cgroups:
            found.add(
                (
                    Code.ENERGY_CGROUPS.value,
                    f"{self.sampler.dropped_cgroups} containers are not measured one by one",
                )
            )
        if self._processes is not None and self._processes.dropped:
            found.add(
                (
                    Code.ENERGY_CGROUPS.value,
                    (
                        f"{self._processes.dropped} processes beyond {MOST_PROCESSES} are not told"
                        " one by one"
                    ),
                )
            )
        found |= {
            (Code.ENERGY_UNREADABLE.value, f"{source}: {why}")
            for source, why in self.sampler.faults.items()
        }
        found |= {(Code.ENERGY_SERIES.value, f"level {level} is left out") for level in self._told}
        found |= {(Code.ENERGY_STATE.value, self._unkept)} if self._unkept else set()
        for code, text in sorted(found - self._problems):
            self.log.warning("energy", code=code, reason=one_line(text))
        self._problems = frozenset(found)

    def _restore(self) -> None:
        """Find the totals of this boot; whatever is wrong with them, begin at 0."""
        self._restored = True
        self._boot = boot_id(self.settings.proc or "/proc")
        self._cpuinfo = cpuinfo_of(self.settings.proc)
        self._machine = machine_key(self._view.machine, self._cpuinfo)
        if "process" in self.settings.levels:
            with contextlib.suppress(OSError):
                self._processes = Processes(CounterFiles(self.settings.proc))
        if self.settings.state:
            try:
                kept = load(self.settings.state, self._boot, time.monotonic(), self._machine)
            except (OSError, ValueError) as failure:
                self.log.warning(
                    "energy",
                    code=Code.ENERGY_STATE.value,
                    reason=f"{self.settings.state}: {one_line(failure)}",
                )
            else:
                self._kept = kept
                if kept.sample is not None:
                    self.sampler.resume(kept.sample)

    def _go_on(self, now: float) -> None:
        """Take over what was kept, not before its containers are met: until then nobody is to be
        told that they have ended.
        """
        kept, self._kept = self._kept, None
        if kept is not None:
            self.ledger, self._before, self._standing = (
                kept.ledger,
                kept.sample,
                dict(kept.standing),
            )
            for reader in kept.readers:
                self.scrapers.came(reader, now)

    def _keep(self) -> None:
        """Write the totals."""
        if not self.settings.state or self._before is None:
            return
        with self._lock:
            content = dump(
                Kept(
                    self.ledger,
                    self._before,
                    self._standing,
                    self.scrapers.active(time.monotonic()),
                    self._machine,
                ),
                self._boot,
            )
        try:
            write_whole(self.settings.state, content)
        except OSError as failure:
            self._unkept = f"{self.settings.state}: {failure.strerror or one_line(failure)}"
        else:
            self._unkept = ""
