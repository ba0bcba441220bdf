"""What the story says in its own words: the examples as a user edits them, and what is then so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.cluster import images, story
from tests.cluster.cluster import AGENT, LABEL, NAMESPACE, NODE
from tests.cluster.steps import REPO, wait_for
from tests.cluster.story import RESOURCE, edited, example
from tests.cluster_vm.vm_cluster import PATIENCE, VmCluster
from tests.cluster_vm.vm_cpus import Cpus
from tests.kernel.lab_firmware import X86_C_STATES_US

Object = dict[str, Any]
#: CPU 0 is the kubelet's; 1 and 2 are the first that containers can own, 3 stays shared.
RESERVED, FIRST, SECOND, SHARED = 0, 1, 2, 3
NAMED = "power.openshift.io/named"
#: Idle states that the example's limit of latency excludes, and the one that `named` turns off.
_LATENCY_US = example("powerprofile")["spec"]["cstates"]["maxLatencyUs"]
DEEP = {f"C{number}" for number, us in enumerate(X86_C_STATES_US, start=1) if us > _LATENCY_US}
NAMED_OFF = {"C2"}
_IDLE = [
    "/bin/sh",
    "-c",
    "grep Cpus_allowed_list /proc/self/status; trap 'exit 0' TERM; while :; do sleep 1; done",
]


def named_profile() -> Object:
    """One that turns a single idle state off, by its name."""
    return {
        "apiVersion": "power.openshift.io/v1",
        "kind": "PowerProfile",
        "metadata": {"name": "named", "namespace": NAMESPACE},
        "spec": {
            "pstates": {"min": "0%", "max": "60%", "governor": "performance"},
            "cstates": {"names": {"C2": False}},
        },
    }


def container(name: str, resource: str, cpus: int = 1) -> Object:
    asked = {"cpu": str(cpus), "memory": "20Mi", resource: str(cpus)}
    return {
        "name": name,
        "image": images.BUSYBOX,
        "command": _IDLE,
        "resources": {"requests": asked, "limits": asked},
    }


def pod(name: str, *containers: Object) -> Object:
    """The example, of the size of this node and with its image."""
    found = example("pod")
    found["metadata"]["name"] = name
    found["spec"] |= {
        "terminationGracePeriodSeconds": 2,
        "containers": list(containers or [container("main", RESOURCE)]),
    }
    return found


def start(cluster: VmCluster, item: Object) -> None:
    """Apply a pod and wait until it runs."""
    cluster.apply(item)
    wait_for(
        f"pod {item['metadata']['name']} runs",
        lambda: story.running(cluster, item["metadata"]["name"]),
        PATIENCE,
        0.5,
    )


def install(cluster: VmCluster) -> None:
    """README's commands, until the agent is Ready; nothing where it has been done already."""
    if cluster.get("namespace", NAMESPACE) is None:
        cluster.make("install", "deploy")
    cluster.booted()
    cluster.kubectl("label", "--overwrite", "node", NODE, f"{LABEL}=true")
    cluster.kubectl("apply", "-f", f"{REPO}/examples/example-powerconfig.yaml")
    wait_for("the operator is ready", lambda: story.operator_ready(cluster), PATIENCE, 0.5)
    cluster.tell("operator ready")
    agent_ready(cluster)
    cluster.tell("agent Ready")


def share(cluster: VmCluster) -> None:
    """The shared pool and the profiles that pods may ask for."""
    cluster.apply(
        example("shared-profile"), example("powerprofile"), named_profile(), story.shared_workload()
    )


def agent_ready(cluster: VmCluster, but: str = "") -> str:
    """Wait for an agent that is Ready and another than the one named; its name."""
    return str(
        wait_for(
            "an agent is Ready", lambda: (name := cluster.agent()) != but and name, PATIENCE, 0.5
        )
    )


def configure(cluster: VmCluster, **agent: Any) -> None:
    """Another PowerConfig.spec.agent; until the agent that has it is Ready and has settled."""
    first = cluster.agent()
    cluster.apply(edited(example("powerconfig"), agent=agent))
    agent_ready(cluster, but=first)
    wait_for("one agent is left", lambda: len(cluster.agents()) == 1, PATIENCE, 0.5)
    wait_for("the node is settled", cluster.settled, PATIENCE, 0.5)


def allow(cluster: VmCluster, idle_states: str) -> None:
    """Another operator, which lets agents set idle states in this way at most; until its agent is
    Ready.
    """
    first = cluster.agent()
    words = ["deployment/controller-manager", "-n", NAMESPACE, f"AGENT_IDLE_STATES={idle_states}"]
    cluster.kubectl("set", "env", *words)
    agent_ready(cluster, but=first)
    wait_for("one agent is left", lambda: len(cluster.agents()) == 1, PATIENCE, 0.5)


def shows(cluster: VmCluster, check: Callable[[Cpus], bool], seconds: float = 90) -> Cpus:
    """Wait until the kernel shows what is wanted; AssertionError with what it shows."""
    try:
        wait_for("", lambda: check(cluster.cpus()), seconds, 0.5)
    except AssertionError:
        lines = "\n".join(cluster.cpus().line(cpu) for cpu in range(4))
        raise AssertionError(f"after {seconds:g} s:\n{lines}") from None
    return cluster.cpus()


def told(cluster: VmCluster, what: str) -> None:
    """What the kernel shows, for who reads the run."""
    shown = cluster.cpus()
    for cpu in range(4):
        cluster.tell(what, shown.line(cpu))


def agents_gone(cluster: VmCluster) -> bool:
    return not (cluster.get("pods", *AGENT) or {}).get("items")
