"""The agents' DaemonSet, out of a PowerConfig: two containers, so that privilege is not where the
network is.

The agent plans, reports and has no capability; the helper, a native sidecar that starts before it
and ends after it, writes what the agent asks for (kpm/helper). What each sees of the host is a
table of its own (mounts.py).
"""

import hashlib
import json
from typing import Any

from attrs import frozen

from kpm.kube.kinds import AGENT_NAME, PART_OF
from kpm.operator.mounts import (
    AGENT,
    CDI,
    CGROUP,
    HELPER,
    METRICS_FILES,
    NRI,
    STATE,
    Mount,
    asks_runtime,
    claim_socket,
    guarded,
    mounts,
    sees_cgroups,
    volumes,
)
from kpm.request.options import CONTAINERS_SOCKET, HELPER_SOCKET
from kpm_applier.sysfs.mailbox import DEVICE
from kpm_planner.model.agent_settings import (
    AgentSettings,
    IdleStates,
    MetricsAccess,
    MetricSettings,
    Toleration,
)
from kpm_planner.model.cluster import GENERATED
from kpm_planner.model.objects import PowerConfig
from kpm_planner.model.problems import Code, Problem, error

HASH = "power.kpm.dev/spec-hash"
ACCOUNT = "power-manager-node-agent"
#: Of /metrics, and of probes alone: whoever floods the one does not end the pod.
_PORT, _HEALTH_PORTS = 10258, (8081, 8082)
#: Seconds for a start on the slowest of machines, before liveness begins to count.
_STARTS_WITHIN = 180
#: Measured (docs/developer/bench.md), with room for large nodes.
_AGENT_MEMORY, _HELPER_MEMORY = ("56Mi", "160Mi"), ("12Mi", "32Mi")


@frozen
class Image:
    """What the agents run where the PowerConfig names nothing else, and the most that it may ask
    for.

    privileged: the helper's container is, where AppArmor or SELinux refuse less. hsmp: the helper
    has the mailbox of AMD machines, which only a privileged container may open. idle_states: how
    idle states may be set at most. allowed: images that a PowerConfig may name, or beginnings of
    images that end in *: whoever chooses the image chooses what runs as root.
    """

    name: str
    privileged: bool = False
    hsmp: bool = False
    idle_states: IdleStates = IdleStates.BY_NAME
    allowed: tuple[str, ...] = ()

    def run(self, settings: AgentSettings) -> str:
        """The image that agents run: what the PowerConfig names where that is allowed, else the
        operator's.
        """
        asked = settings.image
        return asked if asked and self._allows(asked) else self.name

    def _allows(self, image: str) -> bool:
        return image == self.name or any(
            image.startswith(word[:-1]) if word.endswith("*") else image == word
            for word in self.allowed
        )

    @property
    def privileged_helper(self) -> bool:
        """Whether the helper's container is privileged, for either reason; its process gives up all
        of it that it does not need.
        """
        return self.privileged or self.hsmp


def daemon_set(
    config: PowerConfig, namespace: str, image: Image, *, states_named: bool = False
) -> dict[str, Any]:
    """The DaemonSet; its annotation holds a hash of the rest, so that a change is seen without
    comparing defaults.

    states_named: somewhere idle states are still set by name, so the helper keeps what it needs to
    put them back.
    """
    settings = config.agent
    labels = {"app.kubernetes.io/name": AGENT_NAME, PART_OF[0]: PART_OF[1]}
    body: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": AGENT_NAME,
            "namespace": namespace,
            "labels": {**labels, GENERATED: "true"},
        },
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/name": AGENT_NAME}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}},
            "template": {
                "metadata": {"labels": labels},
                "spec": _pod(config, settings, image, states_named=states_named),
            },
        },
    }
    mark = hashlib.sha256(json.dumps(body["spec"], sort_keys=True).encode()).hexdigest()[:16]
    body["metadata"]["annotations"] = {HASH: mark}
    return body


def _pod(
    config: PowerConfig, settings: AgentSettings, image: Image, *, states_named: bool
) -> dict[str, Any]:
    found = mounts(settings)
    return {
        "serviceAccountName": ACCOUNT,
        "automountServiceAccountToken": False,
        "priorityClassName": "system-node-critical",
        "nodeSelector": {**(config.power_node_selector or {}), "kubernetes.io/os": "linux"},
        "tolerations": [_toleration(item) for item in settings.tolerations],
        "hostUsers": True,
        "terminationGracePeriodSeconds": 60,
        "securityContext": {
            "seccompProfile": {"type": "RuntimeDefault"},
            "seLinuxOptions": {"type": _selinux_type(image)},
        },
        "initContainers": [_helper(settings, image, found, states_named=states_named)],
        "containers": [_agent(config, settings, image, found)],
        "volumes": volumes(found),
    }


def _selinux_type(image: Image) -> str:
    """Of both containers, which share a socket."""
    return "spc_t" if image.privileged_helper else "container_device_plugin_t"


def _agent(
    config: PowerConfig, settings: AgentSettings, image: Image, found: tuple[Mount, ...]
) -> dict[str, Any]:
    port = settings.metrics_port or _PORT
    health = next(number for number in _HEALTH_PORTS if number != port)
    return {
        **_container(AGENT, settings, image, found, _AGENT_MEMORY),
        "args": _arguments(settings, image, port, health),
        "env": [
            {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
            {
                "name": "KPM_NAMESPACE",
                "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}},
            },
            {"name": "KPM_GROUP", "value": config.group},
        ],
        "ports": [{"name": "metrics", "containerPort": port}],
        "startupProbe": {**_probe("/healthz", health, 1), "failureThreshold": _STARTS_WITHIN},
        "livenessProbe": _probe("/healthz", health, 20),
        "readinessProbe": _probe("/readyz", health, 5),
        "securityContext": _security(privileged=False),
    }


def _helper(
    settings: AgentSettings, image: Image, found: tuple[Mount, ...], *, states_named: bool
) -> dict[str, Any]:
    names_states = states_named or idle_states(settings, image) is IdleStates.BY_NAME
    words = ["helper", "--sysfs", "/host/sys", "--socket", HELPER_SOCKET]
    words += ["--nri", f"{NRI}/nri.sock"] if asks_runtime(settings) else []
    words += ["--hsmp", DEVICE] if image.hsmp else []
    return {
        **_container(HELPER, settings, image, found, _HELPER_MEMORY),
        "restartPolicy": "Always",  # what makes it a native sidecar
        "args": words,
        "securityContext": _security(
            privileged=image.privileged_helper, add=["SYS_ADMIN"] if names_states else []
        ),
    }


def _container(
    name: str,
    settings: AgentSettings,
    image: Image,
    found: tuple[Mount, ...],
    memory: tuple[str, str],
) -> dict[str, Any]:
    return {
        "name": name,
        "image": image.run(settings),
        "imagePullPolicy": settings.image_pull_policy or "IfNotPresent",
        "resources": {
            "requests": {"cpu": "5m", "memory": memory[0]},
            "limits": {"memory": memory[1]},
        },
        "volumeMounts": [mount.view() for mount in found if mount.container == name],
    }


def image_problems(config: PowerConfig, image: Image) -> tuple[Problem, ...]:
    """That a PowerConfig names an image which the operator's settings do not allow."""
    asked = config.agent.image
    if not asked or image.run(config.agent) == asked:
        return ()
    message = (
        f"{asked} is not allowed by the operator's --agent-image-allowed; agents run {image.name}"
    )
    return (error(Code.AGENT_IMAGE, f"PowerConfig/{config.meta.name}", "agent.image", message),)


def idle_states(settings: AgentSettings, image: Image) -> IdleStates:
    """How the agents set idle states: as the PowerConfig asks, within what the operator allows."""
    return IdleStates.of(settings.idle_states).within(image.idle_states)


def _arguments(settings: AgentSettings, image: Image, port: int, health: int) -> list[str]:
    words = [
        "agent",
        "--sysfs",
        "/host/sys",
        "--helper",
        HELPER_SOCKET,
        "--state-dir",
        STATE,
        "--port",
        str(port),
        "--health-port",
        str(health),
    ]
    words += (
        ["--idle-states", image.idle_states] if image.idle_states is not IdleStates.BY_NAME else []
    )
    words += ["--hsmp", DEVICE] if image.hsmp else []
    words += ["--containers", CONTAINERS_SOCKET, "--cdi", CDI] if asks_runtime(settings) else []
    words += _access_arguments(settings) if guarded(settings) else []
    words += ["--resync", settings.resync_period] if settings.resync_period else []
    words += ["--repair", settings.repair] if settings.repair else []
    words += ["--log-level", settings.log_level] if settings.log_level else []
    words += ["--claim-socket", claim_socket(settings)] if claim_socket(settings) else []
    words += ["--cgroup", f"/host{CGROUP}"] if sees_cgroups(settings) else []
    words += _energy_arguments(settings.metrics) if settings.metrics else []
    return [*words, "--measure-only"] if settings.measure_only else words


def _access_arguments(settings: AgentSettings) -> list[str]:
    access = MetricsAccess.of(settings.metrics_access)
    words = [
        "--metrics-access",
        access.value,
        "--metrics-cert",
        f"{METRICS_FILES}/tls.crt",
        "--metrics-key",
        f"{METRICS_FILES}/tls.key",
    ]
    return (
        [*words, "--metrics-client-ca", f"{METRICS_FILES}/ca.crt"]
        if access is MetricsAccess.CERTIFICATE
        else words
    )


def _energy_arguments(metrics: MetricSettings) -> list[str]:
    words = ["--energy", *(["--proc", "/host/proc"] if "process" in metrics.levels else [])]
    words += [word for level in metrics.levels for word in ("--energy-level", level)]
    words += [word for name in metrics.names for word in ("--energy-name", name)]
    words += ["--energy-idle", metrics.idle] if metrics.idle else []
    words += ["--energy-interval", metrics.interval] if metrics.interval else []
    words += ["--energy-series", str(metrics.max_series)] if metrics.max_series else []
    return [*words, "--energy-estimate"] if metrics.estimate else words


def _security(*, privileged: bool, add: list[str] | None = None) -> dict[str, Any]:
    if privileged:
        return {"privileged": True, "runAsUser": 0, "readOnlyRootFilesystem": True}
    capabilities = {"drop": ["ALL"], **({"add": add} if add else {})}
    return {
        "privileged": False,
        "runAsUser": 0,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": capabilities,
    }


def _probe(path: str, port: int, period: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": 3,
    }


def _toleration(item: Toleration) -> dict[str, Any]:
    words = {
        "key": item.key,
        "operator": item.operator,
        "value": item.value,
        "effect": item.effect,
        "tolerationSeconds": item.toleration_seconds,
    }
    return {key: value for key, value in words.items() if value is not None}
