"""Inside a lab machine: the scaler on a real userspace governor, with a telemetry server on a real
socket.

    python scaling.py

Prints one line of JSON: what scaling_setspeed and scaling_cur_freq showed at each load, and after
each fault.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from kpm.agent.scaling import ScalerProcess
from kpm.process.logs import Log
from kpm_planner.scaling import PodCpus, ScaledDomain, Scaling
from tests.kernel.inside import real_sysfs as real
from tests.kernel.inside.real_sysfs import CPUS
from tests.scaler.dpdk_server import DpdkServer

UID = "0a1b2c3d-0000-4000-8000-000000000001"
PODS = Path("/tmp/pods")
PATIENCE = 60.0


def until(check: Callable[[], bool]) -> bool:
    """Whether it comes in time; an emulated machine takes its time."""
    ends = time.monotonic() + PATIENCE
    while not check():
        if time.monotonic() > ends:
            return False
        time.sleep(0.05)
    return True


def show() -> dict[str, list[str]]:
    """Governor and speed of CPUs 2 and 3."""
    return {
        name: [real.text(f"{CPUS}/cpu{cpu}/cpufreq/scaling_{name}") for cpu in (2, 3)]
        for name in ("governor", "setspeed", "cur_freq")
    }


def main() -> None:
    """Up, down, a CPU that goes and comes, the end."""
    server = DpdkServer(PODS, UID, {0: [2], 1: [3]}).start()
    low, high = (
        int(real.text(f"{CPUS}/cpu2/cpufreq/cpuinfo_{name}_freq")) for name in ("min", "max")
    )
    for cpu in (2, 3):
        real.write(f"{CPUS}/cpu{cpu}/cpufreq/scaling_governor", b"userspace\n")
    slow = Scaling(low, high, 100_000, 100_000, fallback=100)
    wanted = tuple(ScaledDomain(cpu, (PodCpus(UID, (cpu,)),), "dpdk", slow) for cpu in (2, 3))
    process = ScalerProcess(
        [sys.executable, "-m", "kpm", "scaler", "--telemetry-dir", str(PODS)], Log()
    )
    report: dict[str, object] = {"low": low, "high": high}

    def speeds() -> list[int]:
        return [int(text) if text.isdigit() else 0 for text in show()["setspeed"]]

    server.load(0)
    process.scale(wanted)
    report["comes down"] = until(lambda: max(speeds()) == low)
    report["idle"] = show()
    server.load(100)
    report["goes up"] = until(lambda: min(speeds()) == high)
    report["busy"] = show()
    real.write(f"{CPUS}/cpu3/online", b"0\n")
    server.load(0)
    report["the other goes on"] = until(lambda: speeds()[0] == low)
    real.write(f"{CPUS}/cpu3/online", b"1\n")
    real.write(f"{CPUS}/cpu3/cpufreq/scaling_governor", b"userspace\n")
    server.load(100)
    report["it comes back"] = until(lambda: min(speeds()) == high)
    server.load(0)
    report["and follows"] = until(lambda: max(speeds()) == low)
    process.stop()
    report["at the end"] = show()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
