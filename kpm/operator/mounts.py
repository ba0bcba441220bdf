"""What each container of the agents' pod sees of the host, and why: one table, which
docs/user/security.md shows.

The agent talks to the network and sees everything read-only but its own state; the helper writes,
and has no network. Every folder is there on every node, so that none keeps a pod from starting;
nothing is mounted at or below /sys, where runtimes' AppArmor profiles refuse writes. `readOnly`
does not reach what is mounted below a folder: where something may be, it is covered with nothing,
and newer runtimes make the whole tree read-only.
"""

import re
from collections.abc import Iterable
from typing import Any

from attrs import frozen

from kpm.formats.crds import CLAIM_SOCKET
from kpm.request.options import HELPER_SOCKET
from kpm_planner.model.agent_settings import AgentSettings, CpuSource, MetricsAccess

STATE = "/var/lib/kpm"
#: Where pods put their telemetry sockets: examples/example-dpdk-testapp.yaml.
TELEMETRY = "/var/lib/power-node-agent/pods"
CPU = "/sys/devices/system/cpu"
KUBELET = "/var/lib/kubelet/pod-resources"
#: A folder, so that a runtime that starts anew finds its plugin again; containerd 1.7 makes it,
#: where NRI is on.
NRI = "/var/run/nri"
#: Where drivers of claims say what they gave; the CDI specification's folder for what is made at
#: run time.
CDI = "/var/run/cdi"
CGROUP = "/sys/fs/cgroup"
#: The Secret with the certificate of the agents' metrics, and where the agents see it.
METRICS_SECRET, METRICS_FILES = "power-node-agent-metrics", "/etc/kpm/metrics"
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
RUN = HELPER_SOCKET.rpartition("/")[0]
#: What PowerConfig.spec.agent.powerCaps is about. A folder above is mounted, since the one itself
#: is not on every node; the helper's Landlock rules hold it to the powercap zones and to the chip's
#: own device.
_CAPS = {"rapl": ("virtual", "/sys/devices/virtual"), "amd": ("platform", "/sys/devices/platform")}
AGENT, HELPER = "agent", "helper"


@frozen
class Mount:
    """A folder in a container. source: of the host, "" for an empty one of the pod's own."""

    container: str
    name: str
    source: str
    target: str
    read_only: bool
    why: str

    def view(self) -> dict[str, Any]:
        """As a container has it."""
        shown = {"name": self.name, "mountPath": self.target, "readOnly": self.read_only}
        return (
            {**shown, "recursiveReadOnly": "IfPossible"}
            if self.read_only and self.source
            else shown
        )


def mounts(settings: AgentSettings) -> tuple[Mount, ...]:
    """All mounts of both containers under these settings."""
    caps = [_CAPS[word] for word in sorted(set(settings.power_caps) & _CAPS.keys())]
    return (
        *_of_helper(settings, caps),
        *_OF_AGENT,
        *([_METRICS_TLS] if guarded(settings) else []),
        *_seen(settings, caps),
        *_elsewhere(settings),
        *_of_claims(settings),
    )


def _of_helper(settings: AgentSettings, caps: Iterable[tuple[str, str]]) -> list[Mount]:
    """What the helper writes, and whom it hears."""
    runtime = "the container runtime's plugin socket, which is as good as root on the host"
    files = [("cpu", CPU, "frequencies, idle states, uncore, turbo")]
    files += [(name, source, "limits of power") for name, source in caps]
    run = "the socket on which it listens to the agent"
    return [
        Mount(HELPER, "run", "", target=RUN, read_only=False, why=run),
        *(
            [Mount(HELPER, "nri", NRI, target=NRI, read_only=True, why=runtime)]
            if asks_runtime(settings)
            else []
        ),
        *(
            Mount(HELPER, name, source, target=f"/host{source}", read_only=False, why=why)
            for name, source, why in files
        ),
    ]


#: What the agent has under all settings: name, source, target, whether read only, why.
_OF_AGENT = tuple(
    Mount(AGENT, name, source, target=target, read_only=read_only, why=why)
    for name, source, target, read_only, why in (
        ("run", "", RUN, True, "the helper's socket"),
        ("token", "token", ACCOUNT, True, "who it is to the API server; the helper has none"),
        ("state", STATE, STATE, False, "what was there before the first write"),
        ("telemetry", TELEMETRY, TELEMETRY, True, "sockets of DPDK pods"),
        (
            "pod-resources",
            KUBELET,
            KUBELET,
            True,
            "the kubelet's socket: which container has which CPUs",
        ),
    )
)
_METRICS_TLS = Mount(
    AGENT,
    "metrics-tls",
    "secret",
    target=METRICS_FILES,
    read_only=True,
    why="certificate and key of its metrics",
)


def _of_claims(settings: AgentSettings) -> list[Mount]:
    """The folder of a driver's socket, where it is not the kubelet's."""
    folder = claim_socket(settings).rpartition("/")[0]
    if not folder or folder == KUBELET:
        return []
    why = "the socket of a driver that hands out CPUs through claims"
    return [Mount(AGENT, "claim-resources", folder, target=folder, read_only=True, why=why)]


def guarded(settings: AgentSettings) -> bool:
    """Whether the metrics are answered by TLS alone."""
    return MetricsAccess.of(settings.metrics_access) is not MetricsAccess.OPEN


def sees_cgroups(settings: AgentSettings) -> bool:
    """Whether cgroups are read: for CPU time, and for what containers are bound to where others
    than the kubelet bind them.

    Not by default: in version 1 each controller is a mount of its own, which an older runtime
    leaves writable.
    """
    return settings.metrics is not None or CpuSource.of(settings.source) is CpuSource.NRI


def _elsewhere(settings: AgentSettings) -> list[Mount]:
    """Where CPUs of containers are told that the kubelet names none for."""
    claims = Mount(
        AGENT, "cdi", CDI, target=CDI, read_only=True, why="the CPUs that drivers of claims gave"
    )
    cgroups = Mount(
        AGENT,
        "cgroup",
        CGROUP,
        target=f"/host{CGROUP}",
        read_only=True,
        why="CPU time of containers, and what they are bound to",
    )
    return [
        *([claims] if asks_runtime(settings) else []),
        *([cgroups] if sees_cgroups(settings) else []),
    ]


def asks_runtime(settings: AgentSettings) -> bool:
    """Whether the runtime is asked too."""
    return CpuSource.of(settings.source) is not CpuSource.PODRESOURCES


def _seen(settings: AgentSettings, caps: Iterable[tuple[str, str]]) -> list[Mount]:
    """What the agent reads of the machine."""
    cpu = _read("cpu", CPU, "the CPUs and what their files hold")
    if settings.metrics is None:
        return [cpu, *(_read(name, source, "limits of power as they are") for name, source in caps)]
    found = [
        _read("devices", "/sys/devices", "limits of power, meters"),
        cpu,
        _read("class", "/sys/class", "meters by their class: hwmon, powercap, batteries"),
    ]
    if "process" in settings.metrics.levels:
        covers = "covers the kernel's settings, and binfmt_misc below them"
        found += [
            _read("proc", "/proc", "CPU time of processes, for metrics of level process"),
            Mount(AGENT, "nothing", "", target="/host/proc/sys", read_only=True, why=covers),
        ]
    return found


def _read(name: str, source: str, why: str) -> Mount:
    """A folder of the host that the agent reads below /host."""
    return Mount(AGENT, name, source, target=f"/host{source}", read_only=True, why=why)


def volumes(found: Iterable[Mount]) -> list[dict[str, Any]]:
    """The pod's volumes for these mounts, each once."""
    views: dict[str, dict[str, Any]] = {}
    for mount in found:
        views.setdefault(mount.name, {"name": mount.name, **_source(mount)})
    return list(views.values())


def _source(mount: Mount) -> dict[str, Any]:
    if mount.name == "token":
        return {"projected": {"sources": _TOKEN}}
    if mount.name == "metrics-tls":  # one that is not there yet keeps no agent from starting
        return {"secret": {"secretName": METRICS_SECRET, "optional": True}}
    if not mount.source:
        return {"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
    made = "Directory" if mount.source.startswith(("/sys/", "/proc")) else "DirectoryOrCreate"
    return {"hostPath": {"path": mount.source, "type": made}}


#: What a pod's account is given otherwise, in the agent's container alone.
_TOKEN: list[dict[str, Any]] = [
    {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
]


def claim_socket(settings: AgentSettings) -> str:
    """The second PodResources socket, where it lies in a folder of one driver; any other path would
    open more of the host.
    """
    path = settings.claim_socket or ""
    return path if re.fullmatch(CLAIM_SOCKET, path) and "/.." not in path else ""
