"""A made node that knows the truth: its files, its physics, and what each pod on it really took.

Theory: a package takes `standing` watts with nothing running, and each CPU that is busy adds watts
which only its frequency decides. So a pod's true power is its CPUs times that, whoever runs beside
it, and a meter shows only the sum. Files are written in place, as the kernel's change: a reader, of
this process or another one, keeps its descriptors. The clock is the test's, or the wall's.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping
from pathlib import Path

from attrs import define, evolve, field, frozen

from tests.applier.power import RAPL, UW, Constraints, put_zone
from tests.kpm.tree_samples import CPU, Tree, build_tree, put

SECOND = 1_000_000
BOOT = "11111111-0000-4000-8000-000000000001"
#: Memory, in parts of its package: what it takes standing, and with a busy CPU.
DRAM_STANDING, DRAM_CORE = 0.15, 0.04

# Pods by the share of the machine's CPUs that they take. Those of SAME never change.
SAME = {
    "kube-system/coredns-1": 0.0025,
    "kube-system/coredns-2": 0.0025,
    "kube-system/kube-proxy": 0.00125,
    "shop/web": 0.025,
}
IDLE, NEIGHBOUR, BATCH = "shop/idle", "default/bubblesort", "default/batch"
#: What runs in no container: kubelet, kernel threads, interrupts.
SYSTEM = 0.0125
Load = Mapping[str, float]
QUIET: Load = {}
BUSY: Load = {NEIGHBOUR: 0.25}
FULL: Load = {NEIGHBOUR: 0.25, BATCH: 0.75 - SYSTEM - sum(SAME.values())}
PODS = (*SAME, IDLE, NEIGHBOUR, BATCH)


@frozen
class Kind:
    """Hardware. standing: W of a package; core: W of a busy CPU at its highest frequency.

    cpus: of a package; name, vendor, number: of cpuinfo, number being its model, "" where it tells
    none. tdp: W of the long-term limit; told: whether max_power_uw tells it too, as the kernel
    does not everywhere (it then shows 0). high, khz: the highest frequency, and that of all CPUs.
    """

    name: str
    vendor: str
    number: str
    packages: int
    cpus: int
    standing: float
    core: float
    tdp: int
    high: int
    khz: int
    told: bool = True

    @property
    def busy_watts(self) -> float:
        """What a busy CPU adds to its package as fast as it runs here."""
        f = self.khz / self.high
        volts = 0.7 + 0.3 * f
        return self.core * (0.15 + 0.85 * f * volts * volts)

    @property
    def total(self) -> int:
        """All CPUs."""
        return self.packages * self.cpus

    def truth(self, cpus: float) -> float:
        """Watts of package and memory that so many busy CPUs are worth."""
        return cpus * self.busy_watts * (1 + DRAM_CORE)


_INTEL = "GenuineIntel"
KINDS = {
    "desktop": Kind(
        "Intel(R) Core(TM) i5-6500 CPU @ 3.20GHz", _INTEL, "94",
        packages=1, cpus=4, standing=10, core=13, tdp=65, high=3_600_000, khz=3_400_000,
    ),
    "server": Kind(
        "Intel(R) Xeon(R) Platinum 8358 CPU @ 2.60GHz", _INTEL, "106",
        packages=2, cpus=32, standing=55, core=5.8, tdp=250, high=3_400_000, khz=3_300_000,
    ),
    "atom": Kind(
        "Intel(R) Core(TM) i3-N305", _INTEL, "190",
        packages=1, cpus=8, standing=2.5, core=1.5, tdp=15, high=3_800_000, khz=3_600_000,
        told=False,
    ),
    "unknown": Kind(
        "", "", "",
        packages=1, cpus=8, standing=18, core=9.3, tdp=95, high=4_000_000, khz=3_800_000,
    ),
    # Stays well below its TDP, and stands higher than most: what is assumed of it is off.
    "frugal": Kind(
        "Intel(R) Core(TM) i7-3770S CPU @ 3.10GHz", _INTEL, "58",
        packages=1, cpus=4, standing=15, core=11, tdp=65, high=3_900_000, khz=3_700_000,
    ),
}  # fmt: skip


@define
class Node:
    """A node below `root`. jitter: of frequency readings; ripple: of package power; both relative.

    truth: pod → W over the last time that passed; us: its clock.
    """

    root: Path
    kind: Kind = KINDS["desktop"]
    jitter: float = 0.0
    ripple: float = 0.0
    truth: dict[str, float] = field(factory=dict)
    us: int = 50 * SECOND
    _chance: random.Random = field(factory=lambda: random.Random(7))
    _files: dict[str, int] = field(factory=dict)
    _ran: dict[str, float] = field(factory=lambda: dict.fromkeys((*PODS, ""), 5.0))
    _busy: list[float] = field(factory=list)
    _uj: dict[str, float] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        kind = self.kind
        tree = Tree(kind.total, threads=1, packages=kind.packages, high=kind.high)
        build_tree(self.sysfs, evolve(tree, states=(), uncore=False, no_turbo=None))
        for package in range(kind.packages):
            put_zone(self.sysfs, _zone(package), f"package-{package}", _limits(kind))
            put_zone(self.sysfs, _memory(package), "dram", ())
            self._uj |= {_zone(package): 5e9, _memory(package): 1e9}
        self.boot(BOOT)
        put(self.root, "proc/cpuinfo", "\n".join(map(self._cpuinfo, range(kind.total))))
        put(self.cgroup, "cgroup.controllers", "cpu cpuset memory")
        for number, name in enumerate(PODS):
            put(self.proc, f"{100 + number}/cgroup", f"0::/{_cgroup(name)}")
        put(self.proc, "99/cgroup", "0::/system.slice/kubelet.service")
        self.pods.write_text(json.dumps({"kind": "List", "items": [_pod(name) for name in PODS]}))
        self._busy = [500.0] * kind.total
        self._write()

    @property
    def sysfs(self) -> Path:
        return self.root / "sys"

    @property
    def proc(self) -> Path:
        return self.root / "proc"

    @property
    def cgroup(self) -> Path:
        return self.root / "cgroup"

    @property
    def pods(self) -> Path:
        """The file for --pods."""
        return self.root / "pods.json"

    @property
    def roots(self) -> tuple[str, str, str]:
        """Of /sys, /proc and the cgroups."""
        return str(self.sysfs), str(self.proc), str(self.cgroup)

    def boot(self, name: str) -> None:
        """The machine has started anew, by what can be told of it; its counters go on."""
        put(self.proc, "sys/kernel/random/boot_id", name)

    def run(self, seconds: float, load: Load) -> None:
        """Time passes."""
        total = self.kind.total
        for name, share in {**SAME, **load, "": SYSTEM}.items():
            self._ran[name] += share * total * seconds
        shares = {**dict.fromkeys(PODS, 0.0), **SAME, **load}
        self.truth = {name: self.kind.truth(share * total) for name, share in shares.items()}
        self.us += round(seconds * SECOND)
        busy = self._place((sum(shares.values()) + SYSTEM) * total * seconds, seconds)
        for package, used in enumerate(busy):
            self._burn(package, used, seconds)
        self._write()

    def close(self) -> None:
        """Close its files."""
        for descriptor in self._files.values():
            os.close(descriptor)

    def _place(self, left: float, seconds: float) -> list[float]:
        """Work fills one CPU after the other, package by turns; CPU seconds by package."""
        per_package, found = self.kind.cpus, [0.0] * self.kind.packages
        for cpu in sorted(range(self.kind.total), key=lambda cpu: cpu % per_package):
            part = min(left, seconds)
            self._busy[cpu] += part
            found[cpu // per_package] += part
            left -= part
        return found

    def _burn(self, package: int, busy: float, seconds: float) -> None:
        kind, ripple = self.kind, self._chance.gauss(1, self.ripple)
        joules = kind.standing * seconds + kind.busy_watts * busy
        memory = DRAM_STANDING * kind.standing * seconds + DRAM_CORE * kind.busy_watts * busy
        self._uj[_zone(package)] += joules * ripple * SECOND
        self._uj[_memory(package)] += memory * SECOND

    def _write(self) -> None:
        up = 5000 + self.us / SECOND
        ticks = [(int(busy * 100), int((up - busy) * 100)) for busy in self._busy]
        rows = [f"cpu{cpu} {busy} 0 0 {idle} 0 0 0" for cpu, (busy, idle) in enumerate(ticks)]
        self._show("proc/stat", "\n".join(["cpu  0 0 0 0 0 0 0", *rows, "intr 1"]))
        for number, name in enumerate(("", *PODS), 99):
            ran = self._ran[name]
            self._show(f"proc/{number}/stat", _process(number, ran))
            if name:
                us = round(ran * SECOND)
                self._show(f"cgroup/{_cgroup(name)}/cpu.stat", f"usage_usec {us}\nuser_usec {us}")
        for zone, uj in self._uj.items():
            self._show(f"sys/{zone}/energy_uj", f"{round(uj)}")
        for cpu in range(self.kind.total):
            khz = self._chance.gauss(1, self.jitter) * self.kind.khz
            shown = round(min(max(khz, 800_000), self.kind.high))
            self._show(f"sys/{CPU}/cpufreq/policy{cpu}/scaling_cur_freq", f"{shown:<8}")

    def _show(self, path: str, text: str) -> None:
        """Put a text that never gets shorter in place of a file's content."""
        descriptor = self._files.get(path)
        if descriptor is None:
            file = self.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = self._files[path] = os.open(file, os.O_WRONLY | os.O_CREAT, 0o644)
        os.pwrite(descriptor, f"{text}\n".encode(), 0)

    def _cpuinfo(self, cpu: int) -> str:
        kind = self.kind
        lines: dict[str, object] = {"processor": cpu, "physical id": cpu // kind.cpus}
        if kind.name:
            lines |= {"vendor_id": kind.vendor, "cpu family": 6, "model": kind.number}
            lines["model name"] = kind.name
        return "\n".join(f"{name}\t: {value}" for name, value in lines.items()) + "\n"


def uid_of(name: str) -> str:
    """A pod's UID."""
    return f"0a1b2c3d-0000-4000-8000-{PODS.index(name):012x}"


def _id(name: str) -> str:
    return f"{PODS.index(name):04x}" + "c0ffee" * 10


def _cgroup(name: str) -> str:
    pod = uid_of(name).replace("-", "_")
    return f"kubepods.slice/kubepods-pod{pod}.slice/cri-containerd-{_id(name)}.scope"


def _pod(name: str) -> dict[str, object]:
    namespace, _, own = name.partition("/")
    container = {"name": "app", "resources": {"requests": {"cpu": "100m"}}}
    status = {"name": "app", "containerID": f"containerd://{_id(name)}", "state": {"running": {}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": own, "namespace": namespace, "uid": uid_of(name)},
        "spec": {"nodeName": "made", "containers": [container]},
        "status": {"phase": "Running", "containerStatuses": [status]},
    }


def _process(pid: int, ran: float) -> str:
    return f"{pid} (app) S 1 1 1 0 -1 4 1 0 0 0 {int(ran * 100)} 0 0 0 20 0 1 0 {pid} 1 1"


def _zone(package: int) -> str:
    return f"{RAPL}/intel-rapl:{package}"


def _memory(package: int) -> str:
    return f"{_zone(package)}/intel-rapl:{package}:0"


def _limits(kind: Kind) -> Constraints:
    """The package's: what it may take for long, told as its maximum or not, and for short."""
    long = kind.tdp * UW
    return (("long_term", long, long if kind.told else 0), ("short_term", long * 5 // 4, 0))
