"""What the tests say in their own words: the examples of the repository as a user edits them, and
what is then so.
"""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import images
from tests.cluster.cluster import LABEL, NAMESPACE, NODE, Cluster
from tests.cluster.steps import REPO, wait_for
from tests.cluster.tree import Tree

RESOURCE = "power.openshift.io/performance"
#: Lowest and highest frequency, governor, EPP: as the machine had them, as the shared and the
#: performance example ask.
BASELINE = (400000, 3700000, "powersave", "balance_performance")
SHARED = (400000, 1390000, "powersave", "power")
FAST = (2875000, 3535000, "performance", "performance")
#: CPU 0 is the kubelet's, 1 is the first that a container can own.
RESERVED, OWNED = 0, 1
#: Says which CPUs it may use, and ends when it is told to.
IDLE = [
    "/bin/sh",
    "-c",
    "grep Cpus_allowed_list /proc/self/status; trap 'exit 0' TERM; while :; do sleep 0.2; done",
]

Object = dict[str, Any]


def example(name: str) -> Object:
    """An example as it is in the repository."""
    text = (REPO / "examples" / f"example-{name}.yaml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def shared_workload() -> Object:
    """The example, with the kubelet's reserved CPUs of this node, as its comment asks."""
    found = example("shared-workload")
    found["spec"]["reservedCPUs"] = [{"cores": [RESERVED]}]
    return found


def pod(name: str, cpu: str = "1", profile: str | None = "1", limit: str | None = None) -> Object:
    """The example, of the size of this node and with its image."""
    found = example("pod")
    found["metadata"]["name"] = name
    found["spec"]["terminationGracePeriodSeconds"] = 2
    (container,) = found["spec"]["containers"]
    container |= {
        "name": "main",
        "image": images.BUSYBOX,
        "command": IDLE,
        "resources": resources(cpu, profile, limit),
    }
    return found


def resources(cpu: str, profile: str | None = None, limit: str | None = None) -> Object:
    extended = {RESOURCE: profile} if profile else {}
    asked = {"cpu": cpu, "memory": "20Mi", **extended}
    return {"requests": asked, "limits": {**asked, "cpu": limit or cpu}}


def running(cluster: Cluster, name: str) -> bool:
    found = cluster.get("pod", name)
    return found is not None and cluster.condition(found, "Ready") == "True"


def start(cluster: Cluster, item: Object) -> str:
    """Apply a pod and wait until it runs; the CPUs that it may use."""
    name = item["metadata"]["name"]
    cluster.apply(item)
    wait_for(f"pod {name} runs", lambda: running(cluster, name), 60)
    return cpus(cluster, name)


def cpus(cluster: Cluster, name: str, container: str = "main") -> str:
    """The CPUs that a container may use, as it said when it began."""
    said = wait_for(
        "the pod's log",
        lambda: re.search(
            r"Cpus_allowed_list:\s*(\S+)",
            cluster.kubectl("logs", name, "-c", container, check=False),
        ),
    )
    return str(said[1])


def end(cluster: Cluster, *names: str) -> None:
    cluster.kubectl("delete", "pod", "--ignore-not-found", "--wait=true", *names)


def shows(
    tree: Tree, wanted: tuple[int, int, str, str], cpu: int = OWNED, seconds: float = 20
) -> None:
    """Wait until a CPU has what is wanted."""
    try:
        wait_for("", lambda: tree.limits(cpu) == wanted, seconds, 0.02)
    except AssertionError:
        raise AssertionError(
            f"cpu {cpu} has {tree.limits(cpu)} after {seconds:g} s, wanted {wanted}"
        ) from None


def stays(check: Callable[[], bool], seconds: float) -> bool:
    """Whether something is so all the time."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if not check():
            return False
        time.sleep(0.05)
    return True


def agent_ready(cluster: Cluster, but: str = "", seconds: float = 90) -> str:
    """Wait for an agent that is Ready and another than the one named; its name."""
    return str(
        wait_for("an agent is Ready", lambda: (name := cluster.agent()) != but and name, seconds)
    )


def install(cluster: Cluster) -> None:
    """README's commands, until the shared pool is set; nothing where it has been done already."""
    if cluster.get("namespace", NAMESPACE) is None:
        cluster.make("install", "deploy")
    wait_for("the operator is ready", lambda: operator_ready(cluster), 90)
    cluster.kubectl("label", "--overwrite", "node", NODE, f"{LABEL}=true")
    files = [
        word
        for name in ("powerconfig", "shared-profile", "powerprofile")
        for word in ("-f", f"{REPO}/examples/example-{name}.yaml")
    ]
    cluster.kubectl("apply", *files)
    agent_ready(cluster)
    cluster.apply(shared_workload())
    shows(cluster.tree, SHARED)
    wait_for(
        "the profile can be asked for",
        lambda: RESOURCE in cluster.get("node", NODE)["status"]["allocatable"],
    )


def operator_ready(cluster: Cluster) -> bool:
    found = cluster.get("deployment", "controller-manager", "-n", NAMESPACE)
    return ((found or {}).get("status") or {}).get("readyReplicas") == 1


def edited(item: Object, **spec: Any) -> Object:
    """An object with other fields in its spec."""
    found = copy.deepcopy(item)
    found["spec"] |= spec
    return found


def process_of(cluster: Cluster, container: Object) -> int:
    """The first process of a container, as this machine counts it."""
    mark = container["containerID"].rpartition("/")[2]
    (found,) = [
        path
        for path in Path("/sys/fs/cgroup/pids", cluster.folder.name).rglob(mark)
        if path.is_dir()
    ]
    return int((found / "cgroup.procs").read_text().split()[0])
