"""A node whose energy is measured, as Prometheus meets it: made meters, real cgroups with real
processes, the real agent, a real API server.

The machine is a made tree of sysfs with as many CPUs as there really are, in two sockets, since the
CPU time is that of the real /proc. A thread moves its counters all the time and knows the truth
about them.
"""

from __future__ import annotations

import bisect
import contextlib
import http.client
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kpm.request.machines import MODELS, MachineSpec, PowerSpec
from kpm_applier.measure.cgroups import layout_of
from kpm_applier.measure.counters import CounterFiles
from kpm_applier.measure.cputime import parse_stat
from kpm_planner.model.agent_settings import METRIC_LEVELS, METRIC_NAMES
from tests.apiserver.nodes import LABEL, NAMESPACE, Process, SimNode
from tests.apiserver.world import REPO, installed
from tests.applier.power import MMIO, RAPL, UW, put_zone
from tests.kpm.tree_samples import CPU, put
from tests.monitoring.prometheus_server import free_port, until

NODE = "worker-one"
CGROUP = "/sys/fs/cgroup"
CPUS = 2 * max(1, (os.cpu_count() or 2) // 2)
MACHINE = MachineSpec(
    packages=2,
    cores=CPUS // 2,
    epp="balance_performance",
    idle_driver="intel_idle",
    idle_states=MODELS["xeon"].idle_states,
    boost=True,
    power=PowerSpec(max_watts=165, short_watts=198),
)
#: The limit of the memory-mapped twins, W: above the cap, so that the cap is honoured.
TWIN_WATTS, CAP_WATTS = 300, 240
RANGE_UJ = 262_143_328_850
_TICK, _LOOK, _WIDTH, _PERIOD = 0.02, 0.2, 20, 40.0
#: Counter → watts with nothing running, and how many more with all of its CPUs busy at their
#: highest frequency; at a lower one, by its square less.
_POWERS = {
    "package-0": (35.0, 60.0),
    "package-1": (30.0, 50.0),
    "dram-0": (5.0, 3.0),
    "dram-1": (4.0, 3.0),
}
#: Busy for a share of the time that goes up and down; ends with the test that started it.
_BUSY = """
import contextlib, math, os, sys, time
low, high, parent = float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
if len(sys.argv) > 4:
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, {int(sys.argv[4])})
while os.getppid() == parent:
    share = low + (high - low) * (0.5 + 0.5 * math.sin(2 * math.pi * time.time() / 25))
    ends = time.monotonic() + 0.05 * share
    while time.monotonic() < ends:
        pass
    time.sleep(0.05 * (1 - share))
"""


class Meters:
    """Counters of RAPL in a tree that follow the load of the real CPUs, and beside them frequencies
    and times in idle states.

    Files are overwritten in place with a text of one width, so that no reader ever sees an empty
    one.
    """

    def __init__(self, sysfs: Path) -> None:
        self.sysfs = sysfs
        self.history: list[tuple[float, dict[str, float]]] = []
        self._open: dict[str, int] = {}
        self._idle = dict.fromkeys(range(CPUS), 0.0)
        self._shares = dict.fromkeys(range(CPUS), 0.5)
        self._looked: tuple[float, dict[int, int], dict[int, int]] = (0.0, {}, {})
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="meters", daemon=True)

    def make(self) -> None:
        """The files of two sockets: package, memory, the memory-mapped twin, and one part that
        cannot be read.
        """
        for package in (0, 1):
            top = f"{RAPL}/intel-rapl:{package}"
            put(self.sysfs, f"{top}/max_energy_range_uj", RANGE_UJ)
            put_zone(self.sysfs, f"{top}/intel-rapl:{package}:0", "dram", ())
            twin = (
                ("long_term", TWIN_WATTS * UW, TWIN_WATTS * UW),
                ("short_term", TWIN_WATTS * UW, 0),
            )
            put_zone(self.sysfs, f"{MMIO}/intel-rapl-mmio:{package}", f"package-{package}", twin)
        put_zone(self.sysfs, f"{RAPL}/intel-rapl:1/intel-rapl:1:1", "core", (), energy=0)
        put(self.sysfs, f"{RAPL}/intel-rapl:1/intel-rapl:1:1/energy_uj", "not now")
        # One counter wraps some half a minute after the start.
        self._began = {
            name: RANGE_UJ - 1200 * UW if name == "package-1" else 5_000 * UW for name in _POWERS
        }
        self._move(time.time())

    def set_twin(self, watts: int) -> None:
        """Somebody, such as thermald, sets the limit of the first memory-mapped twin."""
        put(self.sysfs, f"{MMIO}/intel-rapl-mmio:0/constraint_0_power_limit_uw", watts * UW)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def joules(self, name: str, at: float) -> float:
        """What had passed through a counter at a time, by time.time(); "" for all of them."""
        place = bisect.bisect(self.history, at, key=lambda item: item[0])
        (before, low), (after, high) = (
            self.history[max(place - 1, 0)],
            self.history[min(place, len(self.history) - 1)],
        )
        share = (at - before) / (after - before) if after > before else 0.0
        return sum(low[key] + (high[key] - low[key]) * share for key in low if name in ("", key))

    def _run(self) -> None:
        while not self._stop.wait(_TICK):
            self._move(time.time())

    def _move(self, now: float) -> None:
        self._look(now)
        before, known = self.history[-1] if self.history else (now, dict.fromkeys(_POWERS, 0.0))
        made = {}
        for package in (0, 1):
            own = range(package * CPUS // 2, (package + 1) * CPUS // 2)
            share = sum(self._shares[cpu] * self._speed(cpu) ** 2 for cpu in own) / len(own)
            top = f"{RAPL}/intel-rapl:{package}"
            for zone, folders in (
                ("package", (top, f"{MMIO}/intel-rapl-mmio:{package}")),
                ("dram", (f"{top}/intel-rapl:{package}:0",)),
            ):
                name = f"{zone}-{package}"
                low, more = _POWERS[name]
                made[name] = known[name] + (low + more * share) * (now - before)
                for folder in folders:
                    self._write(
                        f"{folder}/energy_uj", int(self._began[name] + made[name] * UW) % RANGE_UJ
                    )
        for cpu in range(CPUS):
            self._idle[cpu] += (1 - self._shares[cpu]) * (now - before) * 1e6
            for state, share in enumerate((0.01, 0.09, 0.2, 0.7)):
                self._write(
                    f"{CPU}/cpu{cpu}/cpuidle/state{state}/time", int(self._idle[cpu] * share)
                )
            self._write(
                f"{CPU}/cpufreq/policy{cpu}/scaling_cur_freq",
                self._khz(cpu, math.sin(2 * math.pi * now / _PERIOD)),
            )
        self.history.append((now, made))

    def _look(self, now: float) -> None:
        """How busy each CPU was of late."""
        looked, busy, idle = self._looked
        if now - looked < _LOOK:
            return
        more, less = parse_stat(Path("/proc/stat").read_bytes())
        for cpu in self._shares.keys() & busy.keys() & more.keys():
            ran, rested = more[cpu] - busy[cpu], less[cpu] - idle[cpu]
            if ran + rested > 0:
                self._shares[cpu] = min(max(ran / (ran + rested), 0.0), 1.0)
        self._looked = (now, more, less)

    def _speed(self, cpu: int) -> float:
        """The limit of a CPU, of the highest that there is."""
        try:
            most = int((self.sysfs / f"{CPU}/cpufreq/policy{cpu}/scaling_max_freq").read_text())
        except ValueError:  # just being written
            return 1.0
        return most / (MACHINE.max_mhz * 1000)

    def _khz(self, cpu: int, turn: float) -> int:
        return int(self._speed(cpu) * MACHINE.max_mhz * 1000 * (0.85 + 0.1 * turn))

    def _write(self, path: str, number: int) -> None:
        descriptor = self._open.get(path)
        if descriptor is None:
            (self.sysfs / path).parent.mkdir(parents=True, exist_ok=True)
            descriptor = self._open[path] = os.open(
                self.sysfs / path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644
            )
        os.pwrite(descriptor, f"{number:<{_WIDTH}}\n".encode(), 0)


class Cgroups:
    """Cgroups of this machine, made below a folder of their own and taken away again."""

    def __init__(self) -> None:
        files = CounterFiles(CGROUP)
        layout = layout_of(files)
        files.close()
        assert layout is not None, f"{CGROUP} has no CPU time"
        self.version = layout.version
        self.usage = layout.file
        self.top = Path(CGROUP) / layout.base / f"kpm-test-{os.getpid()}"
        self.processes: dict[Path, list[subprocess.Popen[bytes]]] = {}

    def add(self, path: str) -> Path:
        """Make one, with those above it."""
        made = self.top / path
        made.mkdir(parents=True)
        return made

    def run(self, cgroup: Path, low: float, high: float, cpu: int | None = None) -> None:
        """Keep a process busy in it, for a share of the time between two shares; on one CPU where
        it is named.
        """
        enter = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(cgroup / "cgroup.procs")]
        words = [
            sys.executable,
            "-S",
            "-c",
            _BUSY,
            str(low),
            str(high),
            str(os.getpid()),
            *([] if cpu is None else [str(cpu)]),
        ]
        self.processes.setdefault(cgroup, []).append(subprocess.Popen([*enter, *words]))

    def seconds(self, cgroup: Path) -> float:
        """CPU time by the kernel's own count."""
        text = (cgroup / self.usage).read_text()
        return int(text) / 1e9 if self.version == 1 else int(text.split()[1]) / 1e6

    def remove(self, cgroup: Path) -> None:
        """End what runs in it, and take it away."""
        for process in self.processes.pop(cgroup, ()):
            process.kill()
            process.wait()
        until(f"{cgroup} is empty", lambda: not (cgroup / "cgroup.procs").read_text(), 10, 0.01)
        cgroup.rmdir()

    def close(self) -> None:
        for cgroup in list(self.processes):
            with contextlib.suppress(OSError, AssertionError):
                self.remove(cgroup)
        for folder, _, _ in os.walk(self.top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


@dataclass
class PodOnNode:
    """A pod with its containers' cgroups. containers: name → the shares of time between which it is
    busy; cpu: the one that it owns.
    """

    namespace: str
    name: str
    containers: dict[str, tuple[float, float]]
    cpu: int | None = None
    milli: int = 200
    uid: str = ""
    cgroups: dict[str, Path] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """What kubectl applies."""
        if self.cpu is not None:
            amounts = {"cpu": "1", "memory": "64Mi", "power.openshift.io/performance": "1"}
            resources: dict[str, Any] = {"requests": amounts, "limits": amounts}
        else:
            resources = {"requests": {"cpu": f"{self.milli}m", "memory": "64Mi"}}
        containers = [
            {"name": name, "image": "app", "resources": resources} for name in self.containers
        ]
        spec = {"nodeName": NODE, "containers": containers}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": spec,
        }


class MeasuredNode(SimNode):
    """A node whose agent is the installed command, on a tree with meters."""

    meters: Meters

    def start_machine(self) -> None:
        super().start_machine()
        self.meters = Meters(self.folder / "sys")
        self.meters.make()

    def launch(self, words: list[str], config: Path) -> Process:
        places = [
            "--sysfs",
            str(self.folder / "sys"),
            "--state-dir",
            str(self.folder / "state"),
            "--kubelet-socket",
            str(self.kubelet.socket),
        ]
        command = [
            str(Path(sys.executable).with_name("kpm")),
            *words,
            "--kubeconfig",
            str(config),
            *places,
        ]
        environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
        with (self.folder / "agent.log").open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, env=environment
            )


@dataclass
class Rig:
    """All of it. port: the agent's, the same over a restart."""

    folder: Path
    port: int = field(default_factory=free_port)
    pods: dict[str, PodOnNode] = field(default_factory=dict)

    @property
    def meters(self) -> Meters:
        return self.node.meters

    @property
    def labels(self) -> dict[str, str]:
        """Labels of the target, as the PodMonitor's relabelling and the Prometheus operator make
        them.
        """
        return {
            "node": NODE,
            "namespace": NAMESPACE,
            "pod": f"power-node-agent-{NODE}",
            "container": "power-node-agent",
            "endpoint": "metrics",
        }

    def start(self, last: contextlib.ExitStack) -> None:
        """Everything; `last` undoes it, the newest first."""
        self.server = last.enter_context(installed(self.folder))
        self.cgroups = Cgroups()
        last.callback(self.cgroups.close)
        self.node = MeasuredNode(self.server, NODE, self.folder / NODE, MACHINE, frozenset())
        self.node.create()
        last.callback(self.meters.stop)
        last.callback(self.node.close)
        self.meters.start()
        choices = [
            word
            for option, values in (
                ("--energy-level", METRIC_LEVELS),
                ("--energy-name", METRIC_NAMES),
            )
            for value in values
            for word in (option, value)
        ]
        self.node.options = [
            "--resync",
            "2s",
            "--port",
            str(self.port),
            "--energy",
            "--energy-interval",
            "1s",
            "--cgroup",
            CGROUP,
            *choices,
        ]
        self._objects()
        self.add(PodOnNode("shop", "web", {"app": (0.2, 0.6)}, cpu=CPUS - 1))
        self.add(PodOnNode("shop", "cart", {"app": (0.1, 0.3), "proxy": (0.05, 0.05)}))
        self.add(PodOnNode("batch", "nightly", {"job": (0.05, 0.25)}))
        self.start_agent()
        until("the agent tells the energy of every pod", lambda: self.tells(*self.pods), 60)

    def add(self, pod: PodOnNode) -> None:
        """A pod that runs: its object, its containers' cgroups as containerd names them, and its
        kubelet's word for it.
        """
        self.pods[pod.name] = pod
        self.server.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": pod.namespace}},
            pod.document(),
        )
        pod.uid = self.server.get("pod", pod.name, "-n", pod.namespace)["metadata"]["uid"]
        quality = "" if pod.cpu is not None else "burstable-"
        slice_name = f"kubepods-{quality}pod{pod.uid.replace('-', '_')}.slice"
        above = (
            f"kubepods.slice/{slice_name}"
            if pod.cpu is not None
            else f"kubepods.slice/kubepods-burstable.slice/{slice_name}"
        )
        statuses = []
        for index, (name, (low, high)) in enumerate(pod.containers.items()):
            number = f"{index:x}{pod.uid.replace('-', '')}".ljust(64, "0")[:64]
            pod.cgroups[name] = self.cgroups.add(f"{above}/cri-containerd-{number}.scope")
            self.cgroups.run(pod.cgroups[name], low, high, pod.cpu)
            running = {
                "name": name,
                "image": "app",
                "imageID": "app",
                "ready": True,
                "restartCount": 0,
                "state": {"running": {}},
            }
            statuses.append({**running, "containerID": f"containerd://{number}"})
        if pod.cpu is not None:
            self.node.kubelet.cpus[pod.namespace, pod.name, next(iter(pod.containers))] = {pod.cpu}
        status = {
            "phase": "Running",
            "qosClass": "Guaranteed" if pod.cpu is not None else "Burstable",
            "containerStatuses": statuses,
        }
        self.server.status(
            "pod", pod.name, {**status, "startTime": "2026-01-01T00:00:00Z"}, pod.namespace
        )

    def end(self, name: str) -> PodOnNode:
        """A pod ends: its processes, its cgroups, its object."""
        pod = self.pods.pop(name)
        for cgroup in pod.cgroups.values():
            self.cgroups.remove(cgroup)
            with contextlib.suppress(OSError):
                cgroup.parent.rmdir()
        self.node.kubelet.cpus = {
            key: ids for key, ids in self.node.kubelet.cpus.items() if key[1] != name
        }
        self.server.kubectl(
            "delete",
            "pod",
            name,
            "-n",
            pod.namespace,
            "--force",
            "--grace-period=0",
            "--wait=false",
        )
        return pod

    def start_agent(self) -> None:
        """The agent, until it has made a pass; its metrics are not read."""
        self.node.start_agent()
        until("the agent is ready", lambda: self.answer("/readyz") == "ok\n", 60, 0.05)

    def slow(self, profile: str, highest: str) -> None:
        """Somebody lowers a profile."""
        spec: dict[str, Any] = self.server.get("powerprofile", profile, "-n", NAMESPACE)["spec"]
        spec["pstates"] |= {"min": "0%", "max": highest}
        self._profile(profile, spec)

    def _profile(self, name: str, spec: dict[str, Any]) -> None:
        self.server.apply(
            {
                "apiVersion": "power.openshift.io/v1",
                "kind": "PowerProfile",
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": spec,
            }
        )

    def restart_agent(self, number: int, away: float = 0.0) -> None:
        """A signal, some time without an agent, another one with the same state."""
        self.node.end_agent(number)
        time.sleep(away)
        self.start_agent()

    def tells(self, *pods: str) -> bool:
        """Whether the agent tells the energy of pods, as of those that run; it is read as by a
        Prometheus on this machine.
        """
        text = self.answer("/metrics")
        known = [self.pods[name] for name in pods]
        return all(
            re.search(
                rf'^kpm_pod_joules_total{{namespace="{pod.namespace}",pod="{pod.name}",.*state="running"',
                text,
                re.MULTILINE,
            )
            for pod in known
        )

    def answer(self, path: str, source: str = "127.0.0.1") -> str:
        """What the agent answers a reader at an address; "" while it does not."""
        link = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=10, source_address=(source, 0)
        )
        try:
            link.request("GET", path)
            return link.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            return ""
        finally:
            link.close()

    def _objects(self) -> None:
        """What an administrator has applied: profiles for pods and for the shared pool, a cap that
        is honoured, and an object with a fault.
        """
        server = self.server
        server.kubectl("label", "node", NODE, f"{LABEL}=true")
        for name in ("powerconfig", "powerprofile", "shared-profile"):
            server.kubectl("apply", "-f", str(REPO / f"examples/example-{name}.yaml"))
        everywhere: dict[str, Any] = {"nodeSelector": {"labelSelector": {}}}
        documents = (
            ("PowerNode", NODE, {"nodeName": NODE}),
            ("PowerNodeState", f"{NODE}-power-state", {"nodeName": NODE}),
            (
                "PowerWorkload",
                "shared",
                {"allCores": True, "powerProfile": "shared", "powerNodeSelector": {LABEL: "true"}},
            ),
            ("PowerCap", "budget", {**everywhere, "source": {"static": {"watts": CAP_WATTS}}}),
            ("PowerProfile", "too-fast", {"pstates": {"min": 9000, "max": 9500}}),
        )
        for kind, name, spec in documents:
            server.apply(
                {
                    "apiVersion": "power.openshift.io/v1",
                    "kind": kind,
                    "metadata": {"name": name, "namespace": NAMESPACE},
                    "spec": spec,
                }
            )


@contextlib.contextmanager
def rigged(folder: Path) -> Iterator[Rig]:
    """A rig that runs; everything is ended and taken away after it."""
    rig = Rig(folder)
    with contextlib.ExitStack() as last:
        rig.start(last)
        yield rig
