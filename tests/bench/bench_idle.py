"""Which idle states CPUs use under each way to limit their latency (make bench-idle).

A lab machine with idle states of 0, 2, 50 and 170 µs, two CPUs that sleep for mixed times and one
that has nothing to do; tests/kernel/inside/residency.py measures. The emulated states save no
power: how the kernel chooses among them is real. Prints a table per idle governor of the kernel
and writes bench-results/idle.json.

    KPM_BENCH_SECONDS=30      for each case; there are 22 of them for each governor
    KPM_LAB_CACHE=FOLDER      a kernel of another distribution, for governors that Debian's does
                              not have (teo): kernel-amd64/vmlinuz-VERSION, kernel-amd64/modules
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # holds the package tests

from tests.bench.report import keep
from tests.kernel.lab import LabMachine
from tests.kernel.lab_python import report_of

SECONDS = float(os.environ.get("KPM_BENCH_SECONDS", "30"))
BUSY, IDLE = ("1", "2"), ("3",)
LONGEST = 7200.0  # seconds that a machine may run


def added(measured: dict[str, Any], cpus: Iterable[str], name: str) -> list[int]:
    """A counter of each state, summed over CPUs."""
    return [sum(of_state) for of_state in zip(*(measured[cpu][name] for cpu in cpus), strict=True)]


def shares(measured: dict[str, Any], cpus: Iterable[str]) -> str:
    """Percent of the idle time in each state, a dash for one that was never entered."""
    times, entries = added(measured, cpus, "time"), added(measured, cpus, "usage")
    whole = sum(times) or 1
    cells = (
        f"{100 * time / whole:6.1f}" if entered else f"{'-':>6}"
        for time, entered in zip(times, entries, strict=True)
    )  # fmt: skip
    return "".join(cells)


def show(report: dict[str, Any]) -> None:
    """Print the tables."""
    heads = "".join(f"{name:>6}" for name, _ in report["states"])
    states = ", ".join(f"{name} {latency} µs" for name, latency in report["states"])
    print(f"Linux {report['kernel']}, {report['driver']}: {states}; {report['seconds']:g} s each")
    for governor, found in report["governors"].items():
        print(f"\n{governor:28}{heads}   |{heads}   % of idle time: busy CPUs | idle CPU")
        for case, measured in found["measured"].items():
            print(f"{case:28}{shares(measured, BUSY)}   |{shares(measured, IDLE)}")
    print("\na sleeping CPU slept on after a write, median:")
    for kind, waits in report["slept on ms"].items():
        print(f"{kind:28}{median(waits):6.0f} ms")
    if "teo" not in report["offered"]:
        print("\nthis kernel has no teo (see KPM_LAB_CACHE)")


def main() -> None:
    """Measure, print, write."""
    seconds = ("--seconds", SECONDS)
    report = report_of(LabMachine(), "residency.py", *seconds, timeout=LONGEST)
    show(report)
    keep("idle", report)


if __name__ == "__main__":
    main()
