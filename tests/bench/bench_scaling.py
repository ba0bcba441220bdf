"""What the scaler's loop costs and how late it is (make bench-scaling): 64 CPUs of 4 pods at 10 ms.

Real telemetry sockets, served by another process; files of a tree in memory. Lateness is measured
against a bare sleep loop of the same run, CPU time against a bare loop that asks the same sockets
and writes half of the files. Prints a table and writes bench-results/scaling.json.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import socket
import sys
import tempfile
import threading
import time
from functools import partial
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # holds the package tests

from kpm.process.logs import Log
from kpm.scaler.loop import Scaler, monotonic_us
from kpm.scaler.peers import Peers
from kpm.scaler.server import serve
from kpm.scaler.words import line_of
from kpm_applier.speed import SpeedWriter
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.scaling import PodCpus, ScaledDomain, Scaling
from tests.bench.report import report
from tests.scaler.dpdk_server import NAME, DpdkServer

PODS, CPUS, PERIOD_US, SECONDS, STEPS = (
    4,
    16,
    10_000,
    int(os.environ.get("KPM_BENCH_SECONDS", "30")),
    40,
)
LIMITS = {
    "lateness_p99_ratio": 1.5,
    # a quarter above what it is: beside the bare loop, ours checks each answer, knows whose each
    # CPU is and decides its speed
    "tick_cpu_ratio": 6.0,
}


def uid(pod: int) -> str:
    """Of a pod."""
    return f"0a1b2c3d-0000-4000-8000-{pod:012}"


def serve_pods(root: Path, share: Synchronized[int]) -> None:
    """Four DPDK processes whose lcores are busy for a share of their time; noise keeps the loop
    writing.
    """
    started = time.monotonic_ns()
    busy = [[0] * CPUS for _ in range(PODS)]
    last = [[started] * CPUS for _ in range(PODS)]

    def counters(pod: int, lcore: int) -> tuple[int, int]:
        now = time.monotonic_ns()
        passed = now - last[pod][lcore]
        busy[pod][lcore] += passed * min(100, max(0, share.value + random.randint(-10, 10))) // 100
        last[pod][lcore] = now
        return now - started, busy[pod][lcore]

    for pod in range(PODS):
        server = DpdkServer(
            root, uid(pod), {lcore: [pod * CPUS + lcore] for lcore in range(CPUS)}
        ).start()
        server.counters = partial(counters, pod)
    threading.Event().wait()


def bare_sleep(seconds: float) -> list[float]:
    """Lateness in µs of a loop that does nothing but sleep to the next multiple of the period."""
    found, due = [], monotonic_us() + PERIOD_US
    ends = due + int(seconds * 1e6)
    while due < ends:
        wait = due - monotonic_us()
        if wait > 0:
            time.sleep(wait / 1e6)
        found.append(float(monotonic_us() - due))
        due += PERIOD_US
    return found


def bare_asking(folder: Path, seconds: float) -> float:
    """CPU µs a period of a loop that each period asks all processes for their counters, makes
    values of the answers and writes the files of half of the CPUs, as noisy loads make us write.
    """
    links = []
    for pod in range(PODS):
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        link.connect(str(folder / "pods" / uid(pod) / "dpdk" / "rte" / NAME))
        link.recv(1 << 15)
        links.append(link)
    files = [
        os.open(folder / f"sys/devices/system/cpu/cpufreq/policy{cpu}/scaling_setspeed", os.O_RDWR)
        for cpu in range(0, PODS * CPUS, 2)
    ]
    used, periods, due = time.process_time(), 0, monotonic_us() + PERIOD_US
    ends = due + int(seconds * 1e6)
    while due < ends:
        time.sleep(max(0, due - monotonic_us()) / 1e6)
        for link in links:
            link.send(b"/eal/lcore/usage")
        for link in links:
            assert json.loads(link.recv(1 << 15))
        for file in files:
            os.pwrite(file, b"1000000\n", 0)
        due, periods = due + PERIOD_US, periods + 1
    found = 1e6 * (time.process_time() - used) / periods
    for link in links:
        link.close()
    for file in files:
        os.close(file)
    return found


class Noting(Scaler):
    """A scaler that notes how late each of its ticks is, and how long it takes."""

    late: list[float]
    took: list[float]

    def tick(self) -> None:
        now, due = monotonic_us(), self.next_us()
        if due is None or due > now:
            return
        self.late.append(float(now - due))
        super().tick()
        self.took.append(float(monotonic_us() - now))


class Writer(SpeedWriter):
    """Notes when speeds are set."""

    written: list[tuple[int, int]]

    def set(self, domain: int, khz: int, *, by_limits: bool) -> None:
        super().set(domain, khz, by_limits=by_limits)
        self.written.append((monotonic_us(), khz))


def percentile(values: list[float], share: float) -> float:
    """The value below which a share of all lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def tree(folder: Path) -> None:
    """The speeds of 64 domains."""
    for cpu in range(PODS * CPUS):
        place = folder / f"devices/system/cpu/cpufreq/policy{cpu}"
        place.mkdir(parents=True)
        (place / "scaling_setspeed").write_text("1000000\n")


def domains() -> tuple[ScaledDomain, ...]:
    """One a CPU, each with one of four policies."""
    return tuple(
        ScaledDomain(
            cpu,
            (PodCpus(uid(cpu // CPUS), (cpu,)),),
            f"p{cpu // CPUS}",
            Scaling(1_000_000, 3_000_000, PERIOD_US, PERIOD_US),
        )
        for cpu in range(PODS * CPUS)
    )


def measure(folder: Path) -> dict[str, float]:
    """All figures."""
    tree(folder / "sys")
    (folder / "pods").mkdir()
    share: Any = multiprocessing.Value("i", 80)
    pods = multiprocessing.Process(target=serve_pods, args=(folder / "pods", share), daemon=True)
    pods.start()
    time.sleep(1)
    floor = bare_sleep(SECONDS / 3)
    asking = bare_asking(folder, SECONDS / 3)
    log = Log(level="error")
    writer = Writer(SysfsHost(str(folder / "sys")))
    writer.written = []
    scaler = Noting(Peers(str(folder / "pods"), log, monotonic_us), writer, log)
    scaler.late, scaler.took = [], []
    source, sink = os.pipe()
    os.write(sink, line_of(domains()))
    steps: list[int] = []

    def drive() -> None:
        time.sleep(2)
        scaler.late.clear()
        scaler.took.clear()
        used, began = time.process_time(), time.monotonic()
        time.sleep(SECONDS)
        figures["cpu_percent"] = 100 * (time.process_time() - used) / (time.monotonic() - began)
        late, took = list(scaler.late), list(scaler.took)
        figures["tick_cpu_us"] = 1e6 * (time.process_time() - used) / len(took)
        figures.update(
            {
                f"lateness_{name}_us": percentile(late, share)
                for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
            }
        )
        figures.update(
            {
                f"tick_{name}_us": percentile(took, share)
                for name, share in (("p50", 0.5), ("p99", 0.99))
            }
        )
        figures["writes_a_second"] = (
            len([at for at, _ in writer.written if at >= began * 1e6]) / SECONDS
        )
        for number in range(2 * STEPS):
            time.sleep(0.3 + random.random() * PERIOD_US / 1e6)
            ticks = len(scaler.took)
            # the second half of the steps comes right after a tick
            while number >= STEPS and len(scaler.took) == ticks:
                time.sleep(0.0001)
            share.value = (100, 0)[number % 2]
            steps.append(monotonic_us())
        time.sleep(0.3)
        os.close(sink)

    figures: dict[str, float] = {}
    threading.Thread(target=drive, daemon=True).start()
    serve(scaler, source, lambda: None, log)
    asking = (asking + bare_asking(folder, SECONDS / 3)) / 2
    pods.terminate()
    waits = [_periods(at, writer.written) for at in steps]
    found = {
        f"floor_lateness_{name}_us": percentile(floor, share)
        for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    }
    found["floor_tick_cpu_us"] = asking
    found |= figures
    found["tick_cpu_ratio"] = found["tick_cpu_us"] / asking
    found |= {
        f"lateness_{name}_ratio": found[f"lateness_{name}_us"] / found[f"floor_lateness_{name}_us"]
        for name in ("p50", "p99", "max")
    }
    for name, part in (("any_moment", waits[:STEPS]), ("after_a_tick", waits[STEPS:])):
        found |= {
            f"step_{name}_{label}_periods": percentile(part, share)
            for label, share in (("p50", 0.5), ("max", 1.0))
        }
    found["step_lateness_periods"] = (found["lateness_max_us"] + found["tick_p99_us"]) / PERIOD_US
    return found


def _periods(at: int, written: list[tuple[int, int]]) -> float:
    """Periods from a step of the load to the first write after it."""
    return (next(when for when, _ in written if when > at) - at) / PERIOD_US


def main() -> None:
    """Measure, print with what is asked, write."""
    with tempfile.TemporaryDirectory(
        dir="/dev/shm" if os.path.isdir("/dev/shm") else None
    ) as folder:
        results = measure(Path(folder))
    limits = {**LIMITS, "step_after_a_tick_max_periods": 1 + results["step_lateness_periods"]}
    report("scaling", results, limits)


if __name__ == "__main__":
    main()
