"""The agents' DaemonSet, out of a PowerConfig: least privilege, nothing mounted at or below /sys (design §6)."""

import hashlib
import json
import re
from typing import Any

from attrs import frozen

from kpm.crds import CLAIM_SOCKET
from kpm.kube.kinds import AGENT_NAME, GENERATED, PART_OF
from kpm_planner.agent_settings import AgentSettings, MetricSettings, Toleration
from kpm_planner.intent import PowerConfig

HASH = "power.kpm.dev/spec-hash"
ACCOUNT = "power-manager-node-agent"
_PORT = 10258
_STATE = "/var/lib/kpm"
#: Where pods put their telemetry sockets: examples/example-dpdk-testapp.yaml.
_TELEMETRY = "/var/lib/power-node-agent/pods"
_CPU = "/sys/devices/system/cpu"
#: What PowerConfig.spec.agent.powerCaps mounts.
_CAPS = {"rapl": ("powercap", "/sys/devices/virtual/powercap"), "amd": ("platform", "/sys/devices/platform")}
_MAILBOX = "/dev/hsmp"
_HOST_PATHS = {_STATE: "DirectoryOrCreate", _TELEMETRY: "DirectoryOrCreate", _MAILBOX: "CharDevice"}


@frozen
class Image:
    """What the agents run where the PowerConfig names nothing else. hsmp: with the mailbox of AMD machines, which only a privileged pod may open."""

    name: str
    privileged: bool = False
    hsmp: bool = False


def daemon_set(config: PowerConfig, namespace: str, image: Image) -> dict[str, Any]:
    """The DaemonSet; its annotation holds a hash of the rest, so that a change is seen without comparing defaults."""
    settings = config.agent
    labels = {"app.kubernetes.io/name": AGENT_NAME, PART_OF[0]: PART_OF[1]}
    body: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": AGENT_NAME, "namespace": namespace, "labels": {**labels, GENERATED: "true"}},
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/name": AGENT_NAME}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}},
            "template": {"metadata": {"labels": labels}, "spec": _pod(config, settings, image)},
        },
    }
    mark = hashlib.sha256(json.dumps(body["spec"], sort_keys=True).encode()).hexdigest()[:16]
    body["metadata"]["annotations"] = {HASH: mark}
    return body


def _pod(config: PowerConfig, settings: AgentSettings, image: Image) -> dict[str, Any]:
    port = settings.metrics_port or _PORT
    return {
        "serviceAccountName": ACCOUNT,
        "priorityClassName": "system-node-critical",
        "nodeSelector": {**(config.power_node_selector or {}), "kubernetes.io/os": "linux"},
        "tolerations": [_toleration(item) for item in settings.tolerations],
        "hostUsers": True,
        "terminationGracePeriodSeconds": 60,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}, **({} if image.privileged else {"seLinuxOptions": {"type": "container_device_plugin_t"}})},
        "containers": [
            {
                "name": "agent",
                "image": settings.image or image.name,
                "imagePullPolicy": settings.image_pull_policy or "IfNotPresent",
                "args": _arguments(settings, port),
                "env": [
                    {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                    {"name": "KPM_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
                    {"name": "KPM_GROUP", "value": config.group},
                ],
                "ports": [{"name": "metrics", "containerPort": port}],
                "livenessProbe": _probe("/healthz", port, 20),
                "readinessProbe": _probe("/readyz", port, 5),
                "resources": {"requests": {"cpu": "10m", "memory": "80Mi"}, "limits": {"memory": "160Mi"}},
                "securityContext": _security(image),
                "volumeMounts": [{"name": name, "mountPath": target, "readOnly": read_only} for name, _, target, read_only in _mounts(settings, image)],
            }
        ],
        "volumes": [
            {"name": name, "hostPath": {"path": source, "type": _HOST_PATHS.get(source, "Directory")}} for name, source, _, _ in _mounts(settings, image)
        ],
    }  # fmt: skip


def _arguments(settings: AgentSettings, port: int) -> list[str]:
    words = ["agent", "--sysfs", "/host/sys", "--state-dir", _STATE, "--port", str(port)]
    words += ["--resync", settings.resync_period] if settings.resync_period else []
    words += ["--repair", settings.repair] if settings.repair else []
    words += ["--log-level", settings.log_level] if settings.log_level else []
    words += ["--claim-socket", claim_socket(settings)] if claim_socket(settings) else []
    words += _energy_arguments(settings.metrics) if settings.metrics else []
    return [*words, "--measure-only"] if settings.measure_only else words


def _energy_arguments(metrics: MetricSettings) -> list[str]:
    words = ["--energy", "--proc", "/host/proc", "--cgroup", "/host/sys/fs/cgroup"]
    words += [word for level in metrics.levels for word in ("--energy-level", level)]
    words += [word for name in metrics.names for word in ("--energy-name", name)]
    words += ["--energy-idle", metrics.idle] if metrics.idle else []
    words += ["--energy-interval", metrics.interval] if metrics.interval else []
    words += ["--energy-series", str(metrics.max_series)] if metrics.max_series else []
    return [*words, "--energy-estimate"] if metrics.estimate else words


def claim_socket(settings: AgentSettings) -> str:
    """The second PodResources socket, where it lies in a folder of one driver; any other path would open more of the host."""
    path = settings.claim_socket or ""
    return path if re.fullmatch(CLAIM_SOCKET, path) and "/.." not in path else ""


def _mounts(settings: AgentSettings, image: Image) -> list[tuple[str, str, str, bool]]:
    """Name, folder of the host, place in the container, whether it is read-only."""
    found = [("sys", "/sys", "/host/sys", True), ("proc", "/proc", "/host/proc", True)] if settings.metrics else []
    found += [
        ("cpu", _CPU, f"/host{_CPU}", False),
        ("state", _STATE, _STATE, False),
        ("telemetry", _TELEMETRY, _TELEMETRY, True),
        ("pod-resources", "/var/lib/kubelet/pod-resources", "/var/lib/kubelet/pod-resources", True),
    ]
    found += [(_CAPS[word][0], _CAPS[word][1], f"/host{_CAPS[word][1]}", False) for word in sorted(set(settings.power_caps) & _CAPS.keys())]
    found += [("hsmp", _MAILBOX, _MAILBOX, False)] if image.hsmp else []
    folder = claim_socket(settings).rpartition("/")[0]
    if folder and folder != "/var/lib/kubelet/pod-resources":
        found.append(("claim-resources", folder, folder, True))
    return found


def _security(image: Image) -> dict[str, Any]:
    if image.privileged:
        return {"privileged": True, "runAsUser": 0, "readOnlyRootFilesystem": True}
    return {"runAsUser": 0, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def _probe(path: str, port: int, period: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": port}, "periodSeconds": period, "timeoutSeconds": 5, "failureThreshold": 3}


def _toleration(item: Toleration) -> dict[str, Any]:
    words = {"key": item.key, "operator": item.operator, "value": item.value, "effect": item.effect, "tolerationSeconds": item.toleration_seconds}
    return {key: value for key, value in words.items() if value is not None}
