"""What takes longer: ends at awkward moments, memory that runs out, other policies of the kubelet, a namespace deleted."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import story
from cluster import AGENT, NAMESPACE, NODE, Cluster
from steps import wait_for
from story import BASELINE, FAST, OWNED, RESOURCE, SHARED, agent_ready, end, pod, shows, start

pytestmark = pytest.mark.cluster_long
#: A process that asks for memory until the kernel ends the largest of its group.
_HUNGER = """
import pathlib, sys, time
pathlib.Path(sys.argv[1], "cgroup.procs").write_text("0")
held = []
while True:
    held.append(bytearray(1 << 20))
    time.sleep(0.005)
"""


@pytest.fixture(autouse=True)
def no_pods_left(cluster: Cluster) -> Iterator[None]:
    """A test that fails takes its pods along."""
    yield
    cluster.kubectl("delete", "pods", "--all", "-n", "default", "--wait=true", check=False)


@pytest.fixture
def installed(cluster: Cluster) -> Cluster:
    """The product as README installs it, with the shared pool set."""
    story.install(cluster)
    return cluster


@pytest.fixture
def with_pod(installed: Cluster) -> Cluster:
    """A pod runs on its tuned CPU."""
    start(installed, pod("steady"))
    shows(installed.tree, FAST)
    return installed


@pytest.mark.parametrize("moment", [0, 1, 2, 3])
def test_an_agent_ends_soon_at_every_moment_of_its_start(with_pod: Cluster, moment: int) -> None:
    """Told to end so many seconds after its container runs, it is gone in 15 s and not killed after a minute."""
    new = begun_agent(with_pod)
    time.sleep(moment)
    with with_pod.tree.watched() as written:
        with_pod.kubectl("delete", "pod", new, "-n", NAMESPACE, "--wait=false")
        told = time.monotonic()
        wait_for("the agent is gone", lambda: with_pod.pod_gone(new, NAMESPACE), 80, 0.2)
        took = time.monotonic() - told
        agent_ready(with_pod, but=new)
    assert took < 15
    assert written == []
    assert with_pod.tree.limits(OWNED) == FAST


def test_an_agent_that_runs_out_of_memory_comes_back(with_pod: Cluster) -> None:
    """Killed between any two of its instructions, it finds what it had done and writes nothing."""
    (agent,) = with_pod.agents()
    container = with_pod.agent_container(agent)
    pid = story.process_of(with_pod, container)
    line = next(text for text in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if ":memory:" in text)
    group = "/sys/fs/cgroup/memory" + line.rpartition(":")[2]
    with with_pod.tree.watched() as written:
        with subprocess.Popen([sys.executable, "-c", _HUNGER, group]) as eater:
            try:
                wait_for("the agent was killed", lambda: oom_killed(with_pod), 60)
            finally:
                eater.kill()
        agent_ready(with_pod)
        wait_for("the node is settled", with_pod.settled)
    assert written == []
    assert with_pod.tree.limits(OWNED) == FAST


@pytest.mark.parametrize("forget", [("device-plugins",), ("cpu_manager_state",), ("cpu_manager_state", "device-plugins")], ids="+".join)
def test_the_kubelet_comes_back_without_what_it_remembered(with_pod: Cluster, forget: tuple[str, ...]) -> None:
    """Its pods run on; a CPU is tuned while the kubelet says that a pod owns it, and is shared when it does not."""
    with_pod.node.restart_kubelet(forget=forget)
    wait_for("the kubelet answers again", lambda: healthy(with_pod), 60)
    wait_for("the node is settled", with_pod.settled)
    end(with_pod, "steady")
    shows(with_pod.tree, SHARED)
    assert start(with_pod, pod("next")) == str(OWNED)
    shows(with_pod.tree, FAST)


def test_a_kubelet_that_gives_no_cpus(installed: Cluster) -> None:
    """With cpuManagerPolicy none nobody owns a CPU: the profile cannot be asked for, and whoever looks is told why."""
    node = installed.node
    node.restart_kubelet(forget=("cpu_manager_state",), policy="none")
    try:
        wait_for("the kubelet answers again", lambda: healthy(installed), 60)
        wait_for("the state says why", lambda: "cpu-manager-inactive" in json.dumps(installed.state()), 90)
        wait_for("the profile cannot be asked for", lambda: RESOURCE not in installed.get("node", NODE)["status"]["allocatable"], 90)
    finally:
        node.restart_kubelet(forget=("cpu_manager_state",), policy="static")
        wait_for("the kubelet answers again", lambda: healthy(installed), 60)
    assert start(installed, pod("later")) == str(OWNED)
    shows(installed.tree, FAST)


def test_the_powerconfig_is_deleted_while_an_agent_starts(with_pod: Cluster) -> None:
    """The machine is as it was before anything was written, and the PowerConfig does not stay."""
    begun_agent(with_pod)
    with_pod.kubectl("delete", "powerconfig", "power-config", "-n", NAMESPACE, "--wait=false")
    wait_for("the PowerConfig is gone", lambda: with_pod.get("powerconfig", "power-config", "-n", NAMESPACE) is None, 60)
    shows(with_pod.tree, BASELINE)
    wait_for("the agents are gone", lambda: not (with_pod.get("pods", *AGENT) or {}).get("items"), 90)
    wait_for("the nodes' objects are gone", lambda: not (with_pod.get("pns", "-n", NAMESPACE) or {}).get("items"), 60)
    assert with_pod.tree.limits(OWNED) == BASELINE


def test_the_namespace_is_deleted(with_pod: Cluster) -> None:
    """Without a word to the PowerConfig before: the machine is as it was, and the namespace goes."""
    with_pod.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    wait_for("the namespace is gone", lambda: with_pod.get("namespace", NAMESPACE) is None, 150, 0.5)
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
            if item["metadata"]["name"] != old and "running" in (cluster.agent_container(item).get("state") or {}):
                return item["metadata"]["name"]
        return ""

    return str(wait_for("the next agent begins", new, 90, 0.02))


def oom_killed(cluster: Cluster) -> bool:
    (agent,) = cluster.agents()
    found = cluster.agent_container(agent)
    return "OOMKilled" in json.dumps([found.get("lastState"), found.get("state")])


def healthy(cluster: Cluster) -> bool:
    return cluster.kubectl("get", "--raw", f"/api/v1/nodes/{NODE}/proxy/healthz", check=False).strip() == "ok"
