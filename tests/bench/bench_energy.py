"""What measuring energy costs (make bench-energy): one sample of 110 pods of 2 containers, 2,000
processes, 10,000 series, and memory.

A two-socket machine of 64 CPUs: a tree of sysfs and /proc/stat in memory, real cgroups where they
can be made, real processes. CPU time of the thread that samples; the floor is a bare read of the
same files through kept descriptors, by turns with what is measured. Prints a table and writes
bench-results/energy.json.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # holds the package tests

from prometheus_client import CollectorRegistry, Counter, generate_latest

from kpm.energy.collector import EnergyMeter, EnergySettings
from kpm.energy.names import Identity, Known
from kpm.energy.sampler import Roots, Sampler
from kpm.process.logs import make_log
from kpm_applier.discovery.discover import discover
from kpm_applier.measure.cgroups import layout_of
from kpm_applier.measure.counters import CounterFiles
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.energy.shares import Consumer
from tests.bench.report import report

PODS, EACH, CPUS, PROCESSES, SERIES = 110, 2, 64, 2_000, 10_000
SAMPLES = int(os.environ.get("KPM_BENCH_SAMPLES", "300"))
CHURN = int(os.environ.get("KPM_BENCH_CHURN", "100000"))
LIMITS = {
    # a third above what it is: beside the reads, a sample divides, books and writes its totals
    "sample_ratio": 8.0,
    # a third above what it is: the kernel makes the text of each process as it is read
    "processes_ratio": 2.5,
    # a third above what it is: beside the numbers, the lines of help and the order of series
    "exposition_ratio": 2.2,
    "growth_mb": 1.0,
}
RAPL = "devices/virtual/powercap/intel-rapl"


def put(root: Path, path: str, text: object) -> None:
    """A file of a tree."""
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f"{text}\n")


def tree(root: Path) -> None:
    """Two sockets with RAPL, 64 CPUs with frequencies and idle states."""
    cpus = f"0-{CPUS - 1}"
    for name in ("online", "present", "possible"):
        put(root, f"devices/system/cpu/{name}", cpus)
    for cpu in range(CPUS):
        base, policy = f"devices/system/cpu/cpu{cpu}", f"devices/system/cpu/cpufreq/policy{cpu}"
        put(root, f"{base}/topology/physical_package_id", cpu * 2 // CPUS)
        put(root, f"{base}/topology/core_id", cpu // 2)
        put(root, f"{base}/topology/thread_siblings_list", f"{cpu // 2 * 2}-{cpu // 2 * 2 + 1}")
        (root / base / "cpufreq").symlink_to(f"../cpufreq/policy{cpu}")
        texts = {
            "related_cpus": cpu,
            "affected_cpus": cpu,
            "scaling_driver": "intel_pstate",
            "cpuinfo_min_freq": 800000,
            "cpuinfo_max_freq": 3700000,
        }
        texts |= {
            "scaling_min_freq": 800000,
            "scaling_max_freq": 3700000,
            "scaling_governor": "powersave",
            "scaling_available_governors": "performance powersave",
        }
        for name, text in {**texts, "scaling_cur_freq": 2400000}.items():
            put(root, f"{policy}/{name}", text)
        for index, (state, latency) in enumerate((("POLL", 0), ("C1", 2), ("C6", 133))):
            for name, text in {
                "name": state,
                "latency": latency,
                "disable": 0,
                "time": 1000,
            }.items():
                put(root, f"{base}/cpuidle/state{index}/{name}", text)
    for socket in range(2):
        for folder, name in (
            (f"{RAPL}/intel-rapl:{socket}", f"package-{socket}"),
            (f"{RAPL}/intel-rapl:{socket}/intel-rapl:{socket}:0", "dram"),
        ):
            for file, text in {
                "name": name,
                "energy_uj": 0,
                "max_energy_range_uj": 262_143_328_850,
            }.items():
                put(root, f"{folder}/{file}", text)


def identifier(pod: int, number: int) -> str:
    """Of a container."""
    return f"{pod * EACH + number:064x}"


def uid(pod: int) -> str:
    """Of a pod."""
    return f"0a1b2c3d-0000-4000-8000-{pod:012x}"


@contextmanager
def cgroups(folder: Path) -> Iterator[tuple[str, bool]]:
    """Root of a cgroup file system with the containers in it, and whether it is a real one."""
    layout = layout_of(CounterFiles("/sys/fs/cgroup"))
    base = Path("/sys/fs/cgroup", layout.base) if layout else folder
    real = layout is not None and os.access(base, os.W_OK)
    top = (base if real else folder / "cgroup") / "kubepods"
    paths = [
        top / "burstable" / f"pod{uid(pod)}" / identifier(pod, number)
        for pod in range(PODS)
        for number in range(EACH)
    ]
    try:
        for path in paths:
            path.mkdir(parents=True)
            if not real:
                put(path, "cpu.stat", "usage_usec 0")
        if not real:
            put(folder / "cgroup", "cgroup.controllers", "cpu")
        yield "/sys/fs/cgroup" if real else str(folder / "cgroup"), real
    finally:
        for place in (
            sorted(
                {
                    place
                    for path in paths
                    for place in (path, *path.parents)
                    if top in (place, *place.parents)
                },
                reverse=True,
            )
            if real
            else []
        ):
            if place.is_dir():
                place.rmdir()


class World:
    """The machine as it runs: counters go on, CPUs are busy."""

    def __init__(self, folder: Path) -> None:
        self.sys, self.proc = folder / "sys", folder / "proc"
        tree(self.sys)
        self.proc.mkdir()
        self.energies = [
            os.open(path, os.O_WRONLY) for path in sorted(self.sys.glob(f"{RAPL}/**/energy_uj"))
        ]
        self.ticks = 0
        self.uj = 0
        self.run()
        self.stat = os.open(self.proc / "stat", os.O_WRONLY)

    def run(self) -> None:
        """A while passes."""
        self.ticks += 50
        self.uj += 60_000
        for descriptor in self.energies:
            os.pwrite(descriptor, b"%d\n" % self.uj, 0)
        line = f"{self.ticks} 0 {self.ticks // 5} {self.ticks * 2} 0 0 0 0 0 0"
        text = (
            "".join(f"{name} {line}\n" for name in ("cpu", *(f"cpu{cpu}" for cpu in range(CPUS))))
            + "intr 1\nctxt 1\n"
        )
        if hasattr(self, "stat"):
            os.pwrite(self.stat, text.encode(), 0)
        else:
            (self.proc / "stat").write_text(text)


def known(pods: int = PODS) -> dict[str, Known]:
    """The containers as the cluster names them; the first ten pods own two CPUs each."""
    found = {}
    for pod in range(pods):
        for number in range(EACH):
            name = identifier(pod, number)
            own = (
                frozenset({pod * 4 + number * 2, pod * 4 + number * 2 + 1})
                if pod < 10
                else frozenset()
            )
            identity = Identity(
                name,
                "containerd",
                f"ns-{pod % 7}",
                f"pod-{pod}",
                uid(pod),
                f"c-{number}",
                "exclusive" if own else "shared",
                "performance" if own else "shared",
            )
            found[name] = Known(identity, Consumer(own, 500))
    return found


def meter(
    world: World,
    cgroup: str,
    state: str,
    proc: str,
    levels: tuple[str, ...] = ("node", "pod", "container"),
) -> EnergyMeter:
    """As the agent has it."""
    sampler = Sampler(Roots(str(world.sys), proc, cgroup))
    made = EnergyMeter(
        "n",
        EnergySettings(levels=levels, state=state, proc=proc, most_series=1_000_000),
        sampler,
        make_log("bench", "error"),
    )
    made.follow(discover(SysfsHost(str(world.sys))).machine, known(), {})
    return made


def medians_ms(
    *works: Callable[[], object], before: Callable[[], object] = lambda: None, times: int = SAMPLES
) -> list[float]:
    """Median CPU time of this thread over many runs of each, which take turns."""
    found: list[list[int]] = [[] for _ in works]
    for _ in range(times):
        before()
        for work, took in zip(works, found, strict=True):
            started = time.thread_time_ns()
            work()
            took.append(time.thread_time_ns() - started)
    return [sorted(took)[times // 2] / 1e6 for took in found]


def reads() -> int:
    """Read and write calls of this process so far."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["syscr"]) + int(fields["syscw"])


@contextmanager
def bare_reads(paths: list[str]) -> Iterator[Callable[[], None]]:
    """Reads files through kept descriptors; one that has gone is skipped."""
    descriptors = [os.open(path, os.O_RDONLY) for path in paths if os.path.exists(path)]

    def read() -> None:
        for descriptor in descriptors:
            with suppress(ProcessLookupError):
                os.pread(descriptor, 4096, 0)

    try:
        yield read
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def samples(folder: Path) -> dict[str, float]:
    """A sample of 110 pods, and with 2,000 processes."""
    world = World(folder)
    with cgroups(folder) as (cgroup, real):
        made = meter(world, cgroup, str(folder / "energy.json"), str(world.proc))
        for _ in range(5):
            world.run()
            made.sample()
        before = reads()
        world.run()
        made.sample()
        calls = reads() - before
        groups = made.sampler._cgroups
        assert groups is not None
        assert len(groups.paths) == PODS * EACH
        files = (
            [f"{cgroup}/{groups._file(path)}" for path in groups.paths]
            + [str(world.proc / "stat")]
            + [f"{world.sys}/{item.id}" for item in made.sampler.meters]
        )
        files += [
            f"{world.sys}/devices/system/cpu/cpufreq/policy{cpu}/scaling_cur_freq"
            for cpu in range(CPUS)
        ]
        with bare_reads(files) as read:
            sample, floor = medians_ms(made.sample, read, before=world.run)
        with processes():
            full = meter(world, cgroup, "", "/proc", ("node", "pod", "container", "process"))
            for _ in range(3):
                full.sample()
            count = len(full._processes.accounts) if full._processes else 0
            stats = [f"/proc/{name}/stat" for name in os.listdir("/proc") if name.isdigit()]
            with bare_reads([*files, *stats]) as read:
                with_processes, process_floor = medians_ms(
                    full.sample, read, before=world.run, times=40
                )
        return {
            "real_cgroups": float(real),
            "sample_ms": sample,
            "sample_floor_ms": floor,
            "sample_ratio": sample / floor,
            "sample_calls": float(calls),
            "floor_calls": float(len(files)),
            "processes": float(count),
            "sample_with_processes_ms": with_processes,
            "processes_floor_ms": process_floor,
            "processes_ratio": with_processes / process_floor,
        }


@contextmanager
def processes() -> Iterator[None]:
    """Two thousand sleeping processes."""
    shell = subprocess.Popen(
        ["sh", "-c", f"i=0; while [ $i -lt {PROCESSES} ]; do sleep 600 & i=$((i+1)); done; wait"],
        start_new_session=True,
    )
    try:
        while len([name for name in os.listdir("/proc") if name.isdigit()]) < PROCESSES:
            time.sleep(0.1)
        time.sleep(1.0)
        yield
    finally:
        os.killpg(shell.pid, 9)
        shell.wait()


def exposition(folder: Path) -> dict[str, float]:
    """Ten thousand series of a node, beside the same by the client library, and bare formatting."""
    world = World(folder)
    (folder / "none").mkdir()
    made = meter(world, "", "", str(world.proc))
    pods = SERIES // 2 // EACH // 8
    identities = {name: item.identity for name, item in known(pods).items()}
    made.sample()
    for name, identity in identities.items():
        made.ledger._meet(
            {
                **{item: account.identity for item, account in made.ledger.containers.items()},
                name: identity,
            },
            0.0,
        )
    for account in (*made.ledger.containers.values(), *made.ledger.pods.values()):
        for zone in ("package", "dram"):
            account.add(zone, random.randint(1, 10**12), random.randint(1, 10**12), 10_000_000)
    text = made.metrics("127.0.0.1")
    count = sum(1 for line in text.splitlines() if not line.startswith(b"#"))
    prefixes = [
        line.decode().rpartition(" ")[0] for line in text.splitlines() if not line.startswith(b"#")
    ]
    took, bare = (
        ms * SERIES / count
        for ms in medians_ms(
            lambda: made.metrics("127.0.0.1"),
            lambda: "".join(
                [f"{prefix} {number / 1_000_000!r}\n" for number, prefix in enumerate(prefixes)]
            ).encode(),
            times=50,
        )
    )
    registry = CollectorRegistry()
    counter = Counter(
        "joules",
        "The same by the client library.",
        ["namespace", "pod", "container", "zone", "mode"],
        registry=registry,
    )
    for number in range(SERIES):
        counter.labels(f"ns-{number % 7}", f"pod-{number}", "c", "package", "busy").inc(number)
    # it tells a _created series beside each
    library = medians_ms(lambda: generate_latest(registry), times=10)[0] / 2
    return {
        "series": float(count),
        "exposition_ms": took,
        "exposition_floor_ms": bare,
        "exposition_ratio": took / bare,
        "client_library_ms": library,
    }


def growth(folder: Path) -> dict[str, float]:
    """Memory over many samples while pods come and go: twenty at a time, each for a hundred
    samples.
    """
    world = World(folder)
    root = folder / "cgroup"
    put(root, "cgroup.controllers", "cpu")
    made = meter(world, str(root), str(folder / "energy.json"), str(world.proc))
    made.follow(made._view.machine, {}, {})
    alive: list[Path] = []
    began = time.monotonic()
    early = 0.0
    for number in range(CHURN):
        if number % 5 == 0:
            path = root / "kubepods" / f"pod{uid(number)}" / f"{number:064x}"
            put(path, "cpu.stat", "usage_usec 1000")
            alive.append(path)
            if len(alive) > 20:
                shutil.rmtree(alive.pop(0).parent)
        world.run()
        made.sample()
        if number % 10 == 0:
            made.metrics(f"10.0.0.{number % 3}")
        if number == CHURN // 10:
            early = resident_mb()
    return {
        "churn_samples": float(CHURN),
        "early_mb": early,
        "late_mb": resident_mb(),
        "growth_mb": resident_mb() - early,
        "churn_seconds": time.monotonic() - began,
    }


def resident_mb() -> float:
    """Anonymous memory of this process."""
    line = next(
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("RssAnon")
    )
    return int(line.split()[1]) / 1024


def main() -> None:
    """All figures; each part in a process of its own, so that none sees another's memory."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    results: dict[str, float] = {}
    for part in (samples, exposition, growth):
        with tempfile.TemporaryDirectory(
            dir="/dev/shm" if os.path.isdir("/dev/shm") else None
        ) as folder:
            results.update(_apart(part, Path(folder)))
    report("energy", results, LIMITS)


def _apart(part: Callable[[Path], dict[str, float]], folder: Path) -> dict[str, float]:
    out = folder / "results"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            made = part(folder)
            out.write_text(json.dumps(made))
            status = 0
        finally:
            os._exit(status)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{part.__name__} failed")
    return dict(json.loads(out.read_text()))


if __name__ == "__main__":
    main()
