"""What the kernel says of the first process of a container: its confinement, not what the manifest
asks for.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.cluster.cluster import Cluster
from tests.cluster_vm.vm_cluster import VmCluster

#: Bit of CAP_SYS_ADMIN (capability.h).
SYS_ADMIN = 1 << 21
PROFILE = "cri-containerd.apparmor.d (enforce)"


@dataclass(frozen=True)
class Confinement:
    """Out of /proc/PID/status and /proc/PID/attr/current."""

    apparmor: str
    capabilities: int
    no_new_privileges: bool
    seccomp: int


def confinement(cluster: VmCluster, container: str) -> Confinement:
    """Of a container of the agent that is there."""
    (agent,) = cluster.agents()
    pid = cluster.process_of(Cluster.agent_container(cluster, agent, container))
    said = cluster.on_node(f"cd /proc/{pid}; cat attr/current; echo; cat status").split("\n")
    fields = {name: value.strip() for name, _, value in (line.partition(":") for line in said)}
    return Confinement(
        said[0].strip("\0 "),
        int(fields["CapEff"], 16),
        fields["NoNewPrivs"] == "1",
        int(fields["Seccomp"]),
    )
