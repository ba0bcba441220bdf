"""The user guide once more, with agents on real drivers: a real API server outside, an x86 and an
arm64 kernel inside.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.nodes import LABEL, NAMESPACE, pod, running
from tests.apiserver.server import ApiServer, wait_for
from tests.apiserver.world import World, installed
from tests.kernel.lab import LabMachine, prepare
from tests.kernel.lab_node import LabNode

pytestmark = pytest.mark.kernel
REPO = Path(__file__).parents[2]
MACHINES = {
    "lab-epyc": LabMachine(driver="amd-pstate-epp", network=True, governors_loaded=False),
    "lab-arm": LabMachine(
        driver="cppc_cpufreq", domain_size=2, network=True, governors_loaded=False
    ),
}
#: What the performance example turns off: C2 and C3 take 50 and 170 µs, LPI-1 takes 100.
SLOWER_THAN_10_US = {"lab-epyc": {"state2", "state3"}, "lab-arm": {"state1"}}
LONG = 180.0  # an emulated machine takes its time
AGENT = f"system:serviceaccount:{NAMESPACE}:power-manager-node-agent"
CpuFreq = tuple[int, int, str, str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server as `make install deploy` leaves it."""
    prepare()
    with installed(tmp_path_factory.mktemp("apiserver")) as found:
        yield found


@pytest.fixture
def world(server: ApiServer, tmp_path: Path) -> Iterator[World]:
    """Two lab machines as nodes; agents look without being told only every ten minutes."""
    found = World(server, tmp_path)
    nodes = [
        LabNode(server, name, tmp_path / name, machine=machine, options=["--resync", "10m"])
        for name, machine in MACHINES.items()
    ]
    with ThreadPoolExecutor() as pool:
        list(pool.map(found.add, nodes))
    yield found
    found.close()


def until(what: str, check: Any) -> None:
    """Wait for something on an emulated machine."""
    wait_for(what, check, LONG, 0.5)


def condition(server: ApiServer, node: str, kind: str) -> tuple[str, str]:
    status = (server.get("pns", f"{node}-power-state", "-n", NAMESPACE) or {}).get("status") or {}
    conditions: list[dict[str, str]] = status.get("conditions") or []
    found = next((item for item in conditions if item["type"] == kind), {})
    return found.get("status", ""), found.get("reason", "")


def example(server: ApiServer, name: str) -> None:
    server.kubectl("apply", "-f", str(REPO / f"examples/example-{name}.yaml"))


def percent(node: LabNode, cpu: int, low: float, high: float, governor: str, epp: str) -> CpuFreq:
    """Shares of the hardware's range as a profile's limits, rounded as the drivers of the lab show
    them.
    """
    least, most, _, shown = baseline(node, cpu)
    return (
        round(least + (most - least) * low),
        round(least + (most - least) * high),
        governor,
        epp if shown else "",
    )


def baseline(node: LabNode, cpu: int) -> CpuFreq:
    """What a CPU had before anything was done."""
    return node.cpufreq_of(node.before, cpu)


def about(shown: set[CpuFreq], wanted: CpuFreq) -> bool:
    """One value for all, as wanted; drivers round frequencies to their own steps."""
    if len(shown) != 1:
        return False
    (found,) = shown
    return found[2:] == wanted[2:] and all(
        abs(one - other) < 20_000 for one, other in zip(found[:2], wanted[:2], strict=True)
    )


def shared(node: LabNode) -> CpuFreq:
    """What the shared example asks of CPUs 2 and 3."""
    return percent(node, 2, 0, 0.3, "powersave", "power")


def fast(node: LabNode, low: int, high: int) -> CpuFreq:
    """What the performance example asks of them, edited to these per cents."""
    return percent(node, 2, low / 100, high / 100, "performance", "performance")


def edit(server: ApiServer, low: int, high: int) -> None:
    """A person edits the profile of the pods."""
    limits = {"spec": {"pstates": {"min": f"{low}%", "max": f"{high}%"}}}
    server.kubectl(
        "patch",
        "powerprofile",
        "performance",
        "-n",
        NAMESPACE,
        "--type=merge",
        "-p",
        json.dumps(limits),
    )


def test_the_user_guide_on_real_drivers(server: ApiServer, world: World) -> None:
    """Labels, shared pool, a Guaranteed pod, an edit, a CPU that goes and comes, clocks that jump,
    a killed agent, the end.
    """
    nodes: dict[str, LabNode] = dict(world.nodes)  # type: ignore[arg-type]
    world.start()
    for name in nodes:
        server.kubectl("label", "node", name, f"{LABEL}=true")
    example(server, "powerconfig")
    for name, node in nodes.items():
        until(
            f"{name} is ready",
            lambda name=name: condition(server, name, "Ready") == ("True", "Settled"),
        )
        assert node.shown() == node.before

    for file in ("shared-profile", "shared-workload", "powerprofile"):
        example(server, file)
    for name, node in nodes.items():
        until(
            f"{name} has its shared pool",
            lambda node=node: about(node.cpufreqs("2-3"), shared(node)),
        )
        assert node.cpufreqs("0-1") == {baseline(node, 0)}

    run_pods(server, nodes)
    edit(server, 50, 95)
    for name, node in nodes.items():
        until(
            f"the pod's CPUs on {name} follow",
            lambda node=node: about(node.cpufreqs("2-3"), fast(node, 50, 95)),
        )
        unplug(name, node)
    move_clocks(server, nodes)
    for name, node in nodes.items():
        kill(name, node)

    # The end: every node is put back before the PowerConfig goes.
    server.kubectl(
        "delete", "powerconfig", "power-config", "-n", NAMESPACE, f"--timeout={LONG:.0f}s"
    )
    assert {name: node.shown() for name, node in nodes.items()} == {
        name: node.before for name, node in nodes.items()
    }
    assert not server.get("pns", "-n", NAMESPACE)["items"]


def run_pods(server: ApiServer, nodes: dict[str, LabNode]) -> None:
    """On each node one Guaranteed pod, on a whole domain: the arm64 machine can only set both of
    its CPUs.
    """
    for name, node in nodes.items():
        server.apply(pod(f"web-{name}", name, 2, "performance"))
        node.kubelet.cpus["default", f"web-{name}", "app"] = {2, 3}
    for name, node in nodes.items():
        until(
            f"the pod's CPUs on {name} are fast",
            lambda node=node: about(node.cpufreqs("2-3"), fast(node, 75, 95)),
        )
        assert (states_off(node, 2), states_off(node, 0)) == (SLOWER_THAN_10_US[name], set())
        # CAP_SYS_ADMIN is number 21
        assert node.order("capabilities") == {"agent": "0" * 16, "helper": f"{1 << 21:016x}"}
        server.status("pod", f"web-{name}", running(name), "default")
        until(f"{name} lists the container", lambda name=name: pools(server, name) == [[2, 3]])


def states_off(node: LabNode, cpu: int) -> set[str]:
    """Idle states of a CPU that are turned off."""
    return {
        path.split("/")[2]
        for path, text in node.shown().items()
        if path.startswith(f"cpu{cpu}/cpuidle/") and text == "1"
    }


def pools(server: ApiServer, node: str) -> list[list[int]]:
    """CPUs of each container that a node's state lists."""
    status = server.get("pns", f"{node}-power-state", "-n", NAMESPACE).get("status") or {}
    return [item["exclusiveCpus"] for item in status.get("exclusivePools") or ()]


def unplug(name: str, node: LabNode) -> None:
    """A CPU goes and comes back: the kernel's uevent wakes the agent, which looks by itself only
    every ten minutes.
    """

    def seen() -> list[int]:
        told = (line for line in node.log.splitlines() if "machine discovered again" in line)
        return [json.loads(line)["online"] for line in told]

    blamed = node.log.count("foreign value")
    node.write("cpu3/online", "0")
    until(f"{name} has seen it go", lambda: seen()[-1:] == [3])
    node.write("cpu3/online", "1")
    until(f"{name} has seen it come", lambda: seen()[-1:] == [4])
    until(
        f"{name} has brought it back to the plan",
        lambda: about(node.cpufreqs("2-3"), fast(node, 50, 95)),
    )
    assert node.log.count("foreign value") == blamed, (
        "what the driver forgot nobody else wrote (K18)"
    )


def move_clocks(server: ApiServer, nodes: dict[str, LabNode]) -> None:
    """Two hours forth, then back by more: nobody asks more often, and edits arrive.

    The end is within the server certificate's life.
    """
    for seconds, high in ((7200, 90), (-9000, 95)):
        until("what came before is reported", lambda: _quiet(server))
        for node in nodes.values():
            node.order("move_clock", seconds)
        before = len(server.requests(AGENT))
        time.sleep(5)
        assert len(server.requests(AGENT)) - before <= 2
        edit(server, 50, high)
        for name, node in nodes.items():
            until(
                f"an edit arrives on {name}",
                lambda node=node, high=high: about(node.cpufreqs("2-3"), fast(node, 50, high)),
            )


def _quiet(server: ApiServer) -> bool:
    """Whether no agent asks anything for some seconds."""
    before = len(server.requests(AGENT))
    time.sleep(4)
    return len(server.requests(AGENT)) == before


def kill(name: str, node: LabNode) -> None:
    """The agent is killed and another runs: no file is written."""
    written, shown, lists = (
        node.log.count('"written"'),
        node.shown(),
        node.log.count("all kinds are listed"),
    )
    assert node.agent is not None
    node.agent.kill()
    until(f"another agent of {name} runs", lambda: node.log.count("all kinds are listed") > lists)
    time.sleep(3)
    assert (node.log.count('"written"'), node.shown()) == (written, shown)
