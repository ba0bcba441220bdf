"""What takes longer: ends at awkward moments, memory that runs out, other policies of the kubelet,
a namespace deleted.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster import story
from tests.cluster.cluster import AGENT, NAMESPACE, NODE, Cluster
from tests.cluster.steps import wait_for
from tests.cluster.story import (
    BASELINE,
    FAST,
    OWNED,
    RESOURCE,
    SHARED,
    agent_ready,
    end,
    pod,
    shows,
    start,
)

pytestmark = [pytest.mark.cluster_long, pytest.mark.usefixtures("no_pods_left")]


@pytest.fixture
def with_pod(installed: Cluster) -> Cluster:
    """A pod runs on its tuned CPU."""
    start(installed, pod("steady"))
    shows(installed.tree, FAST)
    return installed


@pytest.mark.parametrize("moment", [0, 0.1, 0.3, 0.6, 1, 2, 3])
def test_an_agent_ends_at_every_moment_of_its_start(with_pod: Cluster, moment: float) -> None:
    """Told to end so many seconds after its process began, it is gone in 10 s and not killed after
    a minute.
    """
    with with_pod.tree.watched() as written:
        process = begun_process(with_pod)
        time.sleep(moment)
        process.send_signal(signal.SIGTERM)
        try:
            wait_for("the agent has ended", process.ended, 10, 0.02)
        finally:
            process.send_signal(signal.SIGKILL)
        agent_ready(with_pod, seconds=120)
        wait_for("the node is settled", with_pod.settled)
    assert written == []
    assert with_pod.tree.limits(OWNED) == FAST


def test_an_agent_whose_pod_is_deleted_at_its_start_goes_soon(with_pod: Cluster) -> None:
    """The same as a user sees it: not a minute until the next agent comes."""
    new = begun_agent(with_pod)
    with_pod.kubectl("delete", "pod", new, "-n", NAMESPACE, "--wait=false")
    wait_for("the agent is gone", lambda: with_pod.pod_gone(new, NAMESPACE), 20, 0.2)
    agent_ready(with_pod, but=new)


def test_an_agent_that_runs_out_of_memory_comes_back(with_pod: Cluster) -> None:
    """Killed between any two of its instructions, it finds what it had done and writes nothing."""
    (agent,) = with_pod.agents()
    pid = story.process_of(with_pod, with_pod.agent_container(agent))
    line = next(
        text for text in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if ":memory:" in text
    )
    group = Path("/sys/fs/cgroup/memory" + line.rpartition(":")[2])
    with with_pod.tree.watched() as written:

        def killed() -> bool:
            squeeze(group)
            scrape(with_pod)
            return oom_killed(with_pod)

        wait_for("the agent was killed", killed, 240)
        agent_ready(with_pod)
        wait_for("the node is settled", with_pod.settled)
    assert written == []
    assert with_pod.tree.limits(OWNED) == FAST


@pytest.mark.parametrize(
    "forget",
    [("device-plugins",), ("cpu_manager_state",), ("cpu_manager_state", "device-plugins")],
    ids="+".join,
)
def test_the_kubelet_comes_back_without_what_it_remembered(
    with_pod: Cluster, forget: tuple[str, ...]
) -> None:
    """Its pods run on; a CPU is tuned while the kubelet says that a pod owns it, and is shared when
    it does not.
    """
    with_pod.node.restart_kubelet(forget=forget)
    wait_for("the kubelet answers again", lambda: healthy(with_pod), 60)
    wait_for("the node is settled", with_pod.settled)
    end(with_pod, "steady")
    shows(with_pod.tree, SHARED)
    assert start(with_pod, pod("next")) == str(OWNED)
    shows(with_pod.tree, FAST)


def test_a_kubelet_that_gives_no_cpus(installed: Cluster) -> None:
    """With cpuManagerPolicy none nobody owns a CPU: the profile cannot be asked for, and whoever
    looks is told why.
    """
    node = installed.node
    node.restart_kubelet(forget=("cpu_manager_state",), policy="none")
    try:
        wait_for("the kubelet answers again", lambda: healthy(installed), 60)
        wait_for(
            "the state says why",
            lambda: "cpu-manager-inactive" in json.dumps(installed.state()),
            90,
        )
        wait_for(
            "the profile cannot be asked for",
            lambda: RESOURCE not in installed.get("node", NODE)["status"]["allocatable"],
            90,
        )
    finally:
        node.restart_kubelet(forget=("cpu_manager_state",), policy="static")
        wait_for("the kubelet answers again", lambda: healthy(installed), 60)
    assert start(installed, pod("later")) == str(OWNED)
    shows(installed.tree, FAST)


def test_the_powerconfig_is_deleted_while_an_agent_starts(with_pod: Cluster) -> None:
    """The machine is as it was before anything was written, and the PowerConfig does not stay."""
    begun_agent(with_pod)
    with_pod.kubectl("delete", "powerconfig", "power-config", "-n", NAMESPACE, "--wait=false")
    wait_for(
        "the PowerConfig is gone",
        lambda: with_pod.get("powerconfig", "power-config", "-n", NAMESPACE) is None,
        60,
    )
    shows(with_pod.tree, BASELINE)
    wait_for(
        "the agents are gone", lambda: not (with_pod.get("pods", *AGENT) or {}).get("items"), 90
    )
    wait_for(
        "the nodes' objects are gone",
        lambda: not (with_pod.get("pns", "-n", NAMESPACE) or {}).get("items"),
        60,
    )
    assert with_pod.tree.limits(OWNED) == BASELINE


def test_the_namespace_is_deleted(with_pod: Cluster) -> None:
    """Without a word to the PowerConfig before: the machine is as it
    was, and the namespace goes.
    """
    with_pod.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    wait_for(
        "the namespace is gone", lambda: with_pod.get("namespace", NAMESPACE) is None, 150, 0.5
    )
    assert with_pod.tree.limits(OWNED) == BASELINE
    assert with_pod.tree.content() == with_pod.before
    with_pod.make("undeploy", "uninstall")


# --- how it is done ---


def begun_agent(cluster: Cluster) -> str:
    """Delete the agent, and come back as soon as the container of the next one runs; its name."""
    old = cluster.agent()
    cluster.kubectl("delete", "pod", old, "-n", NAMESPACE, "--wait=false")

    def new() -> str:
        for item in cluster.agents():
            if item["metadata"]["name"] != old and "running" in (
                cluster.agent_container(item).get("state") or {}
            ):
                return str(item["metadata"]["name"])
        return ""

    return str(wait_for("the next agent begins", new, 90, 0.02))


@dataclass
class Process:
    """The first process of an agent's container. told: when it got its last signal."""

    pid: int
    told: float = 0

    def send_signal(self, number: int) -> None:
        self.told = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def ended(self) -> float:
        """Seconds from the last signal; 0 while it runs."""
        try:
            alive = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            alive = False
        return 0.0 if alive else time.monotonic() - self.told


def begun_process(cluster: Cluster) -> Process:
    """Delete the agent, and come back as soon as the process of the next one is there: long before
    any status says so.
    """
    before = agent_processes()
    cluster.kubectl("delete", "pod", cluster.agent(), "-n", NAMESPACE, "--wait=false")
    found = wait_for("the next agent's process", lambda: agent_processes() - before, 90, 0.005)
    return Process(max(found))


def agent_processes() -> set[int]:
    """Those of all clusters of this machine that run `kpm agent` as
    the first of their container.
    """
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (path / "cmdline").read_bytes().split(b"\0")
            if words[:4] == [b"/opt/kpm/bin/python", b"-m", b"kpm", b"agent"]:
                found.add(int(path.name))
    return found


def squeeze(group: Path) -> None:
    """Take from a memory cgroup what it has not used, its cached files too: what it asks for next
    kills.
    """
    with contextlib.suppress(OSError):  # it is in use, or its process has just been killed
        for _ in range(200):
            used = int((group / "memory.usage_in_bytes").read_text())
            (group / "memory.limit_in_bytes").write_text(str(used - (64 << 10)))


def scrape(cluster: Cluster) -> None:
    """Something for the agent to do."""
    for item in cluster.agents():
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{item['metadata']['name']}:10258/proxy/metrics"
        cluster.kubectl("get", "--raw", path, check=False)


def oom_killed(cluster: Cluster) -> bool:
    (agent,) = cluster.agents()
    found = cluster.agent_container(agent)
    return "OOMKilled" in json.dumps([found.get("lastState"), found.get("state")])


def healthy(cluster: Cluster) -> bool:
    return (
        cluster.kubectl("get", "--raw", f"/api/v1/nodes/{NODE}/proxy/healthz", check=False).strip()
        == "ok"
    )
