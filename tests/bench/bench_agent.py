"""What an agent costs on its node, against an interpreter that has only imported the client (make
bench-agent).

A real API server, reached as from a pod; a real gRPC kubelet; an agent as a process on a tree of
files: 64 CPUs, 110 pods.
An admission is compared with a bare process that asks such a kubelet as often as the agent does and
writes two files, by turns. Prints a table and writes bench-results/agent.json.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # holds the package tests

from kpm.agent.podresources import list_cpus
from kpm.request.machines import MODELS, MachineSpec
from tests.apiserver.kubelet import Kubelet
from tests.apiserver.nodes import LABEL, NAMESPACE, SimNode, pod
from tests.apiserver.server import ApiServer, wait_for
from tests.bench.report import REPO, report

MACHINE = MachineSpec(
    packages=2,
    cores=16,
    threads=2,
    epp="balance_performance",
    idle_driver="intel_idle",
    idle_states=MODELS["xeon"].idle_states,
)
AGENT = f"system:serviceaccount:{NAMESPACE}:power-manager-node-agent"
PODS, ADMISSIONS, IDLE_SECONDS = (
    110,
    *(
        int(os.environ.get(f"KPM_BENCH_{name}", usual))
        for name, usual in (("ADMISSIONS", "500"), ("IDLE_SECONDS", "60"))
    ),
)
DESCRIPTORS = 8000
FAST = "3555000"
#: How often the bare process asks.
ASKED_SECONDS = 0.02
LIMITS = {
    "resident_mib": 60.0,
    # an hour without a change costs less than a start of the client every four minutes
    "idle_starts_an_hour": 15.0,
    "requests_an_hour": 30.0,
    # both wait for the next question, some 20 ms; ours then plans, writes and reads back, which
    # may take as long again
    "admission_p99_ratio": 2.2,
}
_TICKS = os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> dict[str, float]:
    """MiB by the kernel's count."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) / 1024
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time of a process."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICKS


def floor() -> tuple[float, float]:
    """Resident MiB, and CPU seconds of its start, of an interpreter with the client imported."""
    program = "import kubernetes.client, sys; print(flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdin is not None
    child.stdout.readline()
    found = memory(child.pid)["Rss"], cpu_seconds(child.pid)
    child.stdin.close()
    child.wait()
    child.stdout.close()
    return found


def kernel_bytes_of_descriptor() -> float:
    """Bytes of kernel memory that one open file of sysfs holds after it was read: descriptor,
    position and its page of text.
    """
    files = []
    for path in sorted(Path("/sys/devices/system/cpu").rglob("*")):
        try:
            with path.open("rb") as file:
                file.read()
        except OSError:
            continue
        files.append(path)
    before = _unreclaimable()
    opened: list[int] = []
    while len(opened) < DESCRIPTORS:
        for path in files:
            opened.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            os.read(opened[-1], 4096)
    after = _unreclaimable()
    for descriptor in opened:
        os.close(descriptor)
    return (after - before) / len(opened)


def _unreclaimable() -> int:
    """Bytes of the kernel's own memory."""
    line = next(
        line
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("SUnreclaim")
    )
    return int(line.split()[1]) * 1024


def bare(socket: str, files: list[Path]) -> None:
    """Ask a kubelet every 20 ms, as the agent does while a container is awaited, and write two
    files once it names CPUs.
    """
    written = False
    while True:
        named = bool(list_cpus(socket))
        if named and not written:
            for file in files:
                file.write_text(FAST)
        written = named
        time.sleep(ASKED_SECONDS)


def admissions(server: ApiServer, node: SimNode) -> tuple[list[float], list[float]]:
    """Milliseconds from the moment at which the kubelet would report a container's CPUs to the last
    write of them: by the agent, and by the bare process.
    """
    floors, files = [], [node.folder / f"bare{number}" for number in range(2)]
    kubelet = Kubelet(node.folder / "bare.sock", ())
    kubelet.start()
    arguments = (str(kubelet.socket), files)
    process = multiprocessing.get_context("spawn").Process(target=bare, args=arguments)
    process.daemon = True
    process.start()
    time.sleep(2)
    watched = [
        node.folder / f"sys/devices/system/cpu/cpufreq/policy{cpu}/scaling_max_freq"
        for cpu in (62, 63)
    ]
    times = []
    for number in range(ADMISSIONS):
        name = f"job-{number}"
        server.apply(pod(name, node.name, 2, "performance"))
        time.sleep(0.05)  # the pod is seen, the kubelet has not admitted it yet
        started = time.perf_counter()
        node.kubelet.cpus["default", name, "app"] = {62, 63}
        while any(path.read_text().strip() != FAST for path in watched):
            assert time.perf_counter() - started < 10, "not in ten seconds"
            time.sleep(0.0005)
        times.append((time.perf_counter() - started) * 1e3)
        del node.kubelet.cpus["default", name, "app"]
        server.kubectl("delete", "pod", name, "--force", "--grace-period=0")
        wait_for(
            "the CPUs are back",
            lambda: all(path.read_text().strip() != FAST for path in watched),
            10,
        )
        for path in files:
            path.write_text("")
        time.sleep(random.random() * ASKED_SECONDS)  # at any moment of its period
        started = time.perf_counter()
        kubelet.cpus["default", name, "app"] = {62, 63}
        while any(path.read_text() != FAST for path in files):
            assert time.perf_counter() - started < 10, "the floor is not in ten seconds"
            time.sleep(0.0005)
        floors.append((time.perf_counter() - started) * 1e3)
        kubelet.cpus.clear()
        time.sleep(2 * ASKED_SECONDS)
    process.kill()
    process.join()
    kubelet.stop()
    return sorted(times), sorted(floors)


def measure(folder: Path) -> dict[str, float]:
    """All figures."""
    server = ApiServer(folder)
    node = SimNode(server, "bench", folder / "bench", MACHINE)
    try:
        server.start()
        server.kubectl("apply", "--server-side", "-k", str(REPO / "crds"))
        server.kubectl("apply", "-k", str(REPO / "deploy/overlays/default"))
        node.create()
        node.options = ["--resync", "60s"]
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
        quiet = [pod(f"pod-{number}", "bench", 1, None) for number in range(PODS)]
        for item in quiet:
            item["spec"]["containers"][0]["resources"] = {
                "requests": {"cpu": "100m", "memory": "64Mi"}
            }
        server.apply(*quiet)
        node.start_agent_in_pod()
        assert node.agent is not None
        pid = node.agent.pid
        wait_for(
            "the plan is in force",
            lambda: node.cpufreqs("2-63") == {(800000, 1670000, "powersave", "power")},
            40,
        )
        time.sleep(5)
        requests, used = len(server.requests(AGENT)), cpu_seconds(pid)
        time.sleep(IDLE_SECONDS)
        idle, asked = (
            (cpu_seconds(pid) - used) / IDLE_SECONDS,
            len(server.requests(AGENT)) - requests,
        )
        found = memory(pid)
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        times, floors = admissions(server, node)
        resident, start_s = floor()
        return {
            "floor_resident_mib": resident,
            "resident_mib": found["Rss"],
            "proportional_mib": found["Pss"],
            "anonymous_mib": found["Anonymous"],
            "resident_after_admissions_mib": memory(pid)["Rss"],
            "descriptors": descriptors,
            "descriptors_kernel_mib": descriptors * kernel_bytes_of_descriptor() / 2**20,
            "idle_cpu_percent": idle * 100,
            "floor_start_cpu_s": start_s,
            "idle_starts_an_hour": idle * 3600 / start_s,
            "requests_an_hour": asked * 3600 / IDLE_SECONDS,
            "admissions": len(times),
            "admission_p50_ms": statistics.median(times),
            "admission_p99_ms": times[int(len(times) * 0.99)],
            "admission_max_ms": times[-1],
            "admission_floor_p50_ms": statistics.median(floors),
            "admission_floor_p99_ms": floors[int(len(floors) * 0.99)],
            "admission_p99_ratio": times[int(len(times) * 0.99)] / floors[int(len(floors) * 0.99)],
        }
    finally:
        node.close()
        server.close()


def main() -> None:
    """Measure, print with what is asked, write."""
    with tempfile.TemporaryDirectory(
        dir="/dev/shm" if os.path.isdir("/dev/shm") else None
    ) as folder:
        results = measure(Path(folder))
    report("agent", results, LIMITS)


if __name__ == "__main__":
    main()
