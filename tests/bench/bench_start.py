"""What the start of an agent costs, as a pod starts: to the last write of its first plan, against
an interpreter that only imports the client.

A real API server, reached by a service account as in a pod; a gRPC kubelet; the helper beside it,
running already, as a native sidecar does. Rounds take turns, so that a noisy machine is noisy for
both. Prints a table and writes bench-results/start.json.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # holds the package tests

from tests.apiserver.nodes import LABEL, NAMESPACE, SimNode
from tests.apiserver.server import ApiServer, wait_for
from tests.apiserver.world import install
from tests.bench.bench_agent import MACHINE, cpu_seconds, memory
from tests.bench.report import REPO, report

ROUNDS = int(os.environ.get("KPM_BENCH_ROUNDS", "9"))
LIMITS = {
    "cpu_ratio": 1.3,
    "wall_ratio": 1.6,
    "agent_resident_mib": 72.0,
    "helper_proportional_mib": 12.0,
}
TUNED, ELSE = "1670000", "3700000"
CLIENT = "import kubernetes.client, kubernetes.config"


def floor() -> tuple[float, float]:
    """CPU and wall seconds of an interpreter that imports the client."""
    before, started = os.times(), time.perf_counter()
    subprocess.run([sys.executable, "-c", CLIENT], check=True)
    after = os.times()
    return (
        after.children_user + after.children_system - before.children_user - before.children_system,
        time.perf_counter() - started,
    )


def start(node: SimNode) -> tuple[tuple[float, float], dict[str, float]]:
    """CPU and wall seconds of an agent until the last CPU of its plan has its limit; then it is
    killed.
    """
    watched = node.folder / "sys/devices/system/cpu/cpufreq/policy63/scaling_max_freq"
    for path in watched.parent.parent.glob("policy*/scaling_max_freq"):
        path.write_text(f"{ELSE}\n")
    node.start_agent_in_pod()
    child = node.agent
    assert child is not None
    began = time.perf_counter()
    while watched.read_text().strip() != TUNED:
        assert time.perf_counter() - began < 30, (node.folder / "agent.log").read_text()[-2000:]
        time.sleep(0.001)
    found = cpu_seconds(child.pid), time.perf_counter() - began
    time.sleep(1.0)
    used = memory(child.pid)
    node.end_agent(signal.SIGKILL)
    return found, used


def measure(folder: Path) -> dict[str, float]:
    """All figures; the medians of the rounds, and their ratios."""
    server = ApiServer(folder)
    node = SimNode(server, "bench", folder / "bench", MACHINE)
    try:
        server.start()
        install(server)
        node.create()
        server.kubectl("label", "node", "bench", f"{LABEL}=true")
        for name in ("powerconfig", "shared-profile", "shared-workload", "powerprofile"):
            server.kubectl("apply", "-f", str(REPO / f"examples/example-{name}.yaml"))
        for kind, name in (("PowerNode", "bench"), ("PowerNodeState", "bench-power-state")):
            server.apply(
                {
                    "apiVersion": "power.openshift.io/v1",
                    "kind": kind,
                    "metadata": {"name": name, "namespace": NAMESPACE},
                    "spec": {"nodeName": "bench"},
                }
            )
        node.start_agent_in_pod()  # starts the helper
        wait_for(
            "the plan is in force",
            lambda: node.cpufreqs("2-63") == {(800000, 1670000, "powersave", "power")},
            40,
        )
        node.end_agent(signal.SIGKILL)
        floors, starts = [], []
        for _ in range(ROUNDS):
            floors.append(floor())
            took, used = start(node)
            starts.append(took)
        (floor_cpu, floor_wall), (cpu, wall) = (
            tuple(map(statistics.median, zip(*pairs, strict=True))) for pairs in (floors, starts)
        )
        assert node.helper is not None
        return {
            "floor_cpu_s": floor_cpu,
            "agent_cpu_s": cpu,
            "cpu_ratio": cpu / floor_cpu,
            "floor_wall_s": floor_wall,
            "agent_wall_s": wall,
            "wall_ratio": wall / floor_wall,
            "agent_resident_mib": used["Rss"],
            "agent_proportional_mib": used["Pss"],
            "helper_proportional_mib": memory(node.helper.pid)["Pss"],
        }
    finally:
        node.close()
        server.close()


def main() -> None:
    """Measure, print with what is asked, write."""
    with tempfile.TemporaryDirectory(
        dir="/dev/shm" if os.path.isdir("/dev/shm") else None
    ) as folder:
        report("start", measure(Path(folder)), LIMITS)


if __name__ == "__main__":
    main()
