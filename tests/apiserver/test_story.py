"""The user guide, as one test: what a person types, and what then is so on three different
machines.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from kpm.request.machines import MODELS, MachineSpec
from tests.apiserver.kubelet import Kubelet
from tests.apiserver.nodes import LABEL, NAMESPACE, SimNode, pod, running
from tests.apiserver.server import ApiServer, wait_for
from tests.apiserver.world import World
from tests.managed import text_of
from tests.scaler.dpdk_server import DpdkServer

pytestmark = pytest.mark.apiserver
EXAMPLES = Path(__file__).parents[2] / "examples"
ALL_CPUS = {"worker-xeon": 32, "worker-epyc": 32, "worker-arm": 16}
#: What the shared example asks: 0% to 30% of each CPU's own range, EPP power where there is one.
SHARED = {
    "worker-xeon": {(800000, 1670000, "powersave", "power")},
    "worker-epyc": {(400000, 1477000, "powersave", "power")},
    "worker-arm": {(400000, 1030000, "powersave", ""), (400000, 730000, "powersave", "")},
}
#: What the performance example asks: 75% to 95%.
FAST = {
    "worker-xeon": {(2975000, 3555000, "performance", "performance")},
    "worker-epyc": {(3092500, 3810500, "performance", "performance")},
    "worker-arm": {(1975000, 2395000, "performance", "")},
}


def example(server: ApiServer, name: str) -> None:
    text = (EXAMPLES / f"example-{name}.yaml").read_text()
    given = text.replace("namespace: power-manager", f"namespace: {NAMESPACE}")
    server.kubectl("apply", "-f", "-", given=given)


def until(
    what: str, server: ApiServer, check: Callable[..., object], seconds: float = 45.0
) -> None:
    """Wait for something, and tell what the agents said where it does not come."""
    wait_for(what, check, seconds)


def state(server: ApiServer, node: str) -> dict[str, Any]:
    found = server.get("pns", f"{node}-power-state", "-n", NAMESPACE)
    return (found or {}).get("status") or {}


def condition(server: ApiServer, node: str, kind: str) -> tuple[str, str]:
    conditions: list[dict[str, str]] = state(server, node).get("conditions") or []
    found = next((item for item in conditions if item["type"] == kind), {})
    return found.get("status", ""), found.get("reason", "")


def problem_codes(server: ApiServer, name: str) -> set[str]:
    """The codes that a node's state tells."""
    return {
        item["code"]
        for item in server.get("powernodestate", f"{name}-power-state", "-n", NAMESPACE)[
            "status"
        ].get("problems", [])
    }


def test_the_user_guide(server: ApiServer, world: World) -> None:
    """From labels to the last restore (field reports 1, 44)."""
    nodes = {name: world.node(name, MODELS[name.removeprefix("worker-")]) for name in ALL_CPUS}
    world.start()

    # The nodes are labelled and the PowerConfig applied: an agent and two objects for each node.
    for name in nodes:
        server.kubectl("label", "node", name, f"{LABEL}=true")
    example(server, "powerconfig")
    for name in nodes:
        until(
            f"{name} is ready",
            server,
            lambda name=name: condition(server, name, "Ready") == ("True", "Settled"),
            40,
        )
        assert (
            server.get("powernode", name, "-n", NAMESPACE)["status"]["unaffectedCores"]
            == f"0-{ALL_CPUS[name] - 1}"
        )
    assert server.get("powerconfig", "power-config", "-n", NAMESPACE)["status"] == {
        "nodes": sorted(nodes),
        "nodeCount": len(nodes),
        "errors": [],
    }
    assert {name: node.shown() for name, node in nodes.items()} == {
        name: node.before for name, node in nodes.items()
    }

    # Shared profile and workload: all CPUs but the reserved ones become slow, each by its own
    # range.
    example(server, "shared-profile")
    example(server, "shared-workload")
    for name, node in nodes.items():
        until(
            f"{name} has its shared pool",
            server,
            lambda name=name, node=node: node.cpufreqs(f"2-{ALL_CPUS[name] - 1}") == SHARED[name],
        )
        until(
            f"{name} says so",
            server,
            lambda name=name: (
                state(server, name).get("sizes", {}).get("shared") == ALL_CPUS[name] - 2
            ),
        )
        assert (
            {node.cpufreq(cpu) for cpu in (0, 1)} == baseline(node)
            if name != "worker-arm"
            else True
        )
    assert server.get("powerprofile", "shared", "-n", NAMESPACE)["status"] == {"errors": []}

    # A profile becomes an extended resource of every node, and a workload object of every node.
    example(server, "powerprofile")
    for name in nodes:
        until(
            f"{name} offers the profile",
            server,
            lambda name=name: (
                resources(server, name).get("power.openshift.io/performance") == str(ALL_CPUS[name])
            ),
        )
        until(
            f"{name} has the workload",
            server,
            lambda name=name: server.get(
                "powerworkload", f"performance-{name}-workload", "-n", NAMESPACE
            ),
        )

    # A Guaranteed pod: the kubelet admits it, and its CPUs are fast before the container runs.
    for name, node in nodes.items():
        server.apply(
            pod("web", name, 2, "performance", namespace="default")
            | {"metadata": {"name": f"web-{name}", "namespace": "default"}}
        )
        node.kubelet.cpus["default", f"web-{name}", "app"] = {4, 5}
    for name, node in nodes.items():
        until(
            f"the pod's CPUs on {name} are fast",
            server,
            lambda name=name, node=node: node.cpufreqs("4-5") == FAST[name],
        )
        server.status("pod", f"web-{name}", running(f"web-{name}"), "default")
        until(
            f"{name} lists the container",
            server,
            lambda name=name: (
                containers(server, name) == [("default", f"web-{name}", [4, 5], "performance")]
            ),
        )
        until(
            f"the workload of {name} does",
            server,
            lambda name=name: workload(server, name).get("cpuIds") == [4, 5],
        )
        assert node.cpufreqs("6-7") <= SHARED[name]
    assert_columns(server, nodes)

    # The profile is edited: the CPUs follow, and nothing else moves.
    server.kubectl(
        "patch",
        "powerprofile",
        "performance",
        "-n",
        NAMESPACE,
        "--type=merge",
        "-p",
        '{"spec":{"pstates":{"min":"100%","max":"100%"}}}',
    )
    for name, node in nodes.items():
        until(
            f"the pod's CPUs on {name} follow",
            server,
            lambda node=node: {low == high for low, high, _, _ in node.cpufreqs("4-5")} == {True},
        )
        assert node.cpufreqs("6-7") <= SHARED[name]

    # A mistake is said, and which version stays in force meanwhile; no pod notices (R8). It is
    # forgotten when corrected.
    fast = {name: node.cpufreqs("4-5") for name, node in nodes.items()}
    server.kubectl(
        "patch",
        "powerprofile",
        "performance",
        "-n",
        NAMESPACE,
        "--type=merge",
        "-p",
        '{"spec":{"pstates":{"governor":"warp","epp":null}}}',
    )
    until(
        "the profile says what is wrong",
        server,
        lambda: errors(server, "performance") and "warp" in errors(server, "performance")[0],
    )
    assert all(
        name in errors(server, "performance")[0] or name in " ".join(errors(server, "performance"))
        for name in nodes
    )
    for name, node in nodes.items():
        until(
            f"{name} says that the last valid version holds",
            server,
            lambda name=name: "last-valid" in problem_codes(server, name),
        )
        assert node.cpufreqs("4-5") == fast[name]
        assert resources(server, name)["power.openshift.io/performance"] == str(ALL_CPUS[name])
    server.kubectl(
        "patch",
        "powerprofile",
        "performance",
        "-n",
        NAMESPACE,
        "--type=merge",
        "-p",
        '{"spec":{"pstates":{"governor":"performance","min":"75%","max":"95%"}}}',
    )
    until(
        "nothing is wrong any more",
        server,
        lambda: (
            server.get("powerprofile", "performance", "-n", NAMESPACE)["status"] == {"errors": []}
        ),
    )

    # The pod is deleted: its CPUs stay fast until the container has stopped, then they go back.
    name, node = "worker-xeon", nodes["worker-xeon"]
    until(
        "the CPUs are fast again",
        server,
        lambda: {item[2] for item in node.cpufreqs("4-5")} == {"performance"},
    )
    server.kubectl("delete", "pod", f"web-{name}", "-n", "default", "--wait=false")
    assert "deletionTimestamp" in server.get("pod", f"web-{name}", "-n", "default")["metadata"]
    assert {item[2] for item in node.cpufreqs("4-5")} == {"performance"}
    del node.kubelet.cpus["default", f"web-{name}", "app"]
    server.kubectl("delete", "pod", f"web-{name}", "-n", "default", "--force", "--grace-period=0")
    until("they go back to the shared pool", server, lambda: node.cpufreqs("4-5") == SHARED[name])
    until("nobody lists the container", server, lambda: containers(server, name) == [])

    # The label is removed: the agent restores, reports and is gone, with all that was made for the
    # node.
    server.kubectl("label", "node", name, f"{LABEL}-")
    until("everything is as it was", server, lambda: node.shown() == node.before)
    until(
        "the node's objects are gone",
        server,
        lambda: (
            server.get("pns", f"{name}-power-state", "-n", NAMESPACE) is None
            and server.get("pn", name, "-n", NAMESPACE) is None
        ),
    )
    until(
        "its workloads are gone",
        server,
        lambda: server.get("pw", f"performance-{name}-workload", "-n", NAMESPACE) is None,
    )
    assert "power.openshift.io/performance" not in resources(server, name)
    assert node.cpufreqs("4-5") == baseline(node, "4-5")

    # The PowerConfig is deleted: it goes when every node has been put back.
    server.kubectl("delete", "powerconfig", "power-config", "-n", NAMESPACE, "--timeout=40s")
    assert {name: item.shown() for name, item in nodes.items()} == {
        name: item.before for name, item in nodes.items()
    }
    until("no agent is left", server, lambda: all(item.agent is None for item in nodes.values()))
    assert not server.get("pns", "-n", NAMESPACE)["items"]
    assert server.get("daemonset", "power-node-agent", "-n", NAMESPACE) is None


def test_cpus_that_a_driver_hands_out(server: ApiServer, world: World, tmp_path: Path) -> None:
    """Through a resource claim, told on a second PodResources socket: tuned like any other, and
    nothing else is asked of the pod.
    """
    claims = Kubelet(tmp_path / "claims.sock", ())
    claims.start()
    node = world.node("one", MachineSpec(cores=8, epp="balance_performance"))
    node.options += ["--claim-socket", str(claims.socket)]
    server.kubectl("label", "node", "one", f"{LABEL}=true")
    world.start()
    for name in ("powerconfig", "powerprofile"):
        example(server, name)
    job = pod("claimed", "one", 2, "performance")
    amounts = {"memory": "1Gi", "power.openshift.io/performance": "2"}
    job["spec"]["containers"][0]["resources"] = {
        "requests": amounts,
        "limits": amounts,
        "claims": [{"name": "cpus"}],
    }
    job["spec"]["resourceClaims"] = [{"name": "cpus", "resourceClaimTemplateName": "two-cpus"}]
    server.apply(job)
    claims.cpus["default", "claimed", "app"] = {4, 5}
    until("the claimed CPUs are fast", server, lambda: node.cpufreqs("4-5") == FAST["worker-xeon"])
    until(
        "the node lists the container",
        server,
        lambda: containers(server, "one") == [("default", "claimed", [4, 5], "performance")],
    )
    assert node.cpufreqs("2-3") == baseline(node, "2-3")
    claims.stop()


def test_a_polling_pod_sets_its_own_speed(server: ApiServer, world: World, tmp_path: Path) -> None:
    """Through its telemetry socket, from the PowerProfile's policy to the file: the agent runs the
    scaler, and ends it with the policy.
    """
    node = world.node("one", MachineSpec(cores=8, driver="acpi-cpufreq"))
    node.options += ["--telemetry-dir", str(tmp_path / "pods")]
    speeds = [
        node.folder / f"sys/devices/system/cpu/cpufreq/policy{cpu}/scaling_setspeed"
        for cpu in (4, 5)
    ]
    for speed in speeds:
        speed.write_text("<unsupported>\n")

    def shown() -> list[int]:
        return [int(text) if text.isdigit() else 0 for text in map(text_of, speeds)]

    server.kubectl("label", "node", "one", f"{LABEL}=true")
    world.start()
    for name in ("powerconfig", "powerprofile-dpdk"):
        example(server, name)
    server.apply(pod("poller", "one", 2, "dpdk"))
    uid = server.get("pod", "poller", "-n", "default")["metadata"]["uid"]
    dpdk = DpdkServer(tmp_path / "pods", uid, {0: [4], 1: [5]}).start()
    dpdk.load(1)
    node.kubelet.cpus["default", "poller", "app"] = {4, 5}
    until(
        "governor userspace",
        server,
        lambda: {item[2] for item in node.cpufreqs("4-5")} == {"userspace"},
    )
    low, high, _, _ = node.cpufreq(4)
    until("an idle poller is slow", server, lambda: 0 < max(shown()) < low + 25_000)
    dpdk.load(100)
    until("a busy one is fast", server, lambda: min(shown()) > high - 25_000)
    server.kubectl(
        "patch",
        "powerprofile",
        "dpdk",
        "-n",
        NAMESPACE,
        "--type=merge",
        "-p",
        '{"spec":{"cpuScalingPolicy":null,"pstates":{"governor":"performance"}}}',
    )
    until(
        "the policy is gone",
        server,
        lambda: {item[2] for item in node.cpufreqs("4-5")} == {"performance"},
    )
    time.sleep(1)
    after = [path.stat().st_mtime_ns for path in speeds]
    time.sleep(1)
    assert [path.stat().st_mtime_ns for path in speeds] == after, "nobody scales any more"
    dpdk.stop()


def baseline(node: SimNode, cpus: str = "0-1") -> set[tuple[int, int, str, str]]:
    """What CPUs had before anything was done, as far as every domain of theirs has the same."""
    low, high = (
        int(value)
        for value in (
            node.before[f"cpufreq/policy{cpus[0]}/{name}"]
            for name in ("scaling_min_freq", "scaling_max_freq")
        )
    )
    return {
        (
            low,
            high,
            node.before[f"cpufreq/policy{cpus[0]}/scaling_governor"],
            node.before.get(f"cpufreq/policy{cpus[0]}/energy_performance_preference", ""),
        )
    }


def resources(server: ApiServer, name: str) -> dict[str, str]:
    return dict(server.get("node", name)["status"].get("allocatable") or {})


def errors(server: ApiServer, name: str) -> list[str]:
    return list(server.get("powerprofile", name, "-n", NAMESPACE)["status"].get("errors") or [])


def containers(server: ApiServer, name: str) -> list[tuple[str, str, list[int], str]]:
    return [
        (item["namespace"], item["pod"], item["exclusiveCpus"], item["powerProfile"])
        for item in state(server, name).get("exclusivePools") or ()
    ]


def assert_columns(server: ApiServer, nodes: Mapping[str, SimNode]) -> None:
    """What kubectl get prints: counts and ranges of CPUs, no list as it is stored."""

    def printed(kind: str) -> dict[str, dict[str, str]]:
        """Name → column → cell. Cells stand below their heads."""
        head, *lines = server.kubectl("get", kind, "-n", NAMESPACE).stdout.splitlines()
        names = re.findall(r"\S+", head)
        starts = [*(found.start() for found in re.finditer(r"\S+", head)), None]
        rows = [
            {
                name: line[begin:end].strip()
                for name, begin, end in zip(names, starts, starts[1:], strict=False)
            }
            for line in lines
        ]
        return {row["NAME"]: row for row in rows}

    wide = {"NODES": "1", "CPUS": "2", "CPU-LIST": "4-5"}
    for name in nodes:
        wait_for(
            f"the workload of {name} is printed",
            lambda name=name: (
                wide.items() <= printed("powerworkload")[f"performance-{name}-workload"].items()
            ),
        )
        lines = {"SHARED": str(ALL_CPUS[name] - 4), "EXCLUSIVE": "2"}
        wait_for(
            f"the pools of {name} are printed",
            lambda name=name, lines=lines: lines.items() <= printed("powernode")[name].items(),
        )
    (config,) = printed("powerconfig").values()
    assert config["NODES"] == str(len(nodes))
    for kind in ("powerconfig", "powerprofile", "powerworkload", "powernode", "powernodestate"):
        assert "[" not in str(printed(kind))


def workload(server: ApiServer, name: str) -> dict[str, Any]:
    return (
        (server.get("powerworkload", f"performance-{name}-workload", "-n", NAMESPACE) or {}).get(
            "status"
        )
        or {}
    ).get("workloadNodes") or {}
