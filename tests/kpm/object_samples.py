"""Valid objects of every kind, with every field, and what each field may hold."""

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

GROUP = "power.openshift.io/v1"
INTEL_GROUP = "power.intel.com/v1"
Path = tuple[str | int, ...]

_SELECTOR = {
    "labelSelector": {
        "matchLabels": {"role": "worker", "kubernetes.io/hostname": "n"},
        "matchExpressions": [
            {"key": "zone", "operator": "In", "values": ["a", "b"]},
            {"key": "gpu", "operator": "DoesNotExist"},
        ],
    }
}
_RESERVED = [{"cores": [0, 1], "powerProfile": "slow"}, {"cores": [2]}]


def _meta(name: str, namespace: str | None = "power-manager") -> dict[str, Any]:
    found = {
        "name": name,
        "labels": {"kubernetes.io/hostname": "n", "role": "worker", "zone": "a"},
        "uid": f"uid-{name}",
        "creationTimestamp": "2026-01-31T08:00:00Z",
    }
    return found if namespace is None else {**found, "namespace": namespace}


def _cap(name: str, source: dict[str, Any]) -> dict[str, Any]:
    bounds = {
        "minWatts": 100,
        "maxWatts": 400,
        "maxStepWatts": 25,
        "divide": "demand",
        "per": "node",
        "constraint": "all",
        "period": "30s",
    }
    return {
        "apiVersion": GROUP,
        "kind": "PowerCap",
        "metadata": _meta(name),
        "spec": {"nodeSelector": _SELECTOR, "source": source, **bounds},
    }


#: One object of each kind with all its fields.
OBJECTS: dict[str, dict[str, Any]] = {
    "PowerProfile": {
        "apiVersion": GROUP,
        "kind": "PowerProfile",
        "metadata": _meta("fast"),
        "spec": {
            "name": "fast",
            "shared": False,
            "nodeSelector": _SELECTOR,
            "pstates": {
                "min": 1200,
                "max": "80%",
                "governor": "userspace",
                "epp": "performance",
                "epb": "balance-power",
            },
            "cstates": {"names": {"C1": True, "C6": False}},
            "cpuCapacity": "50%",
            "cpuScalingPolicy": {
                "workloadType": "polling-dpdk",
                "samplePeriod": "10ms",
                "cooldownPeriod": "30ms",
                "targetUsage": 80,
                "allowedUsageDifference": 5,
                "allowedFrequencyDifference": 25,
                "scalePercentage": 50,
                "fallbackFreqPercent": 50,
            },
        },
    },
    "PowerProfile by latency": {
        "apiVersion": INTEL_GROUP,
        "kind": "PowerProfile",
        "metadata": _meta("slow", "intel-power"),
        "spec": {
            "shared": True,
            "pstates": {"min": 800, "max": 1500000},
            "cstates": {"maxLatencyUs": 10},
            "cpuCapacity": 4,
        },
    },
    "PowerWorkload": {
        "apiVersion": GROUP,
        "kind": "PowerWorkload",
        "metadata": _meta("shared-n-workload"),
        "spec": {
            "name": "shared-n-workload",
            "allCores": True,
            "reservedCPUs": _RESERVED,
            "powerNodeSelector": {"kubernetes.io/hostname": "n"},
            "powerProfile": "slow",
        },
    },
    "PowerNodeConfig": {
        "apiVersion": GROUP,
        "kind": "PowerNodeConfig",
        "metadata": _meta("workers"),
        "spec": {
            "nodeSelector": _SELECTOR,
            "sharedPowerProfile": "slow",
            "reservedCPUs": _RESERVED,
            "turbo": False,
        },
    },
    "Uncore": {
        "apiVersion": GROUP,
        "kind": "Uncore",
        "metadata": _meta("n"),
        "spec": {
            "sysMin": 1200000,
            "sysMax": 2000000,
            "nodeSelector": _SELECTOR,
            "dieSelector": [
                {"package": 0, "die": 0, "min": 1000000, "max": 1500000},
                {"package": 0, "min": 1000000, "max": 1600000},
            ],
            "amd": {"dfPstateMin": 2, "dfPstateMax": 0, "package": 0},
        },
    },
    "PowerCap": _cap(
        "by-schedule",
        {
            "schedule": [
                {"time": "08:00", "days": ["Mon"], "watts": 300},
                {"time": "20:00", "percent": 50},
            ],
            "timeZone": "Europe/Paris",
        },
    ),
    "PowerCap static": _cap("static", {"static": {"watts": 250}}),
    "PowerCap solar": _cap(
        "by-sun",
        {"solar": {"peakWatts": 400, "sunrise": "06:30", "sunset": "21:15", "exponent": 2}},
    ),
    "PowerCap market": _cap(
        "by-market", {"market": {"peakWatts": 400, "volumes": [10, 30, 20, 5]}}
    ),
    "PowerCap of a ConfigMap": _cap(
        "by-config-map",
        {
            "external": {
                "configMap": {"name": "grid", "key": "watts"},
                "maxAge": "5m",
                "fallbackWatts": 200,
            }
        },
    ),
    "PowerCap of an address": _cap(
        "by-address",
        {
            "external": {
                "url": "https://grid.example.com/watts",
                "maxAge": "5m",
                "fallbackWatts": 200,
            }
        },
    ),
    "PowerConfig": {
        "apiVersion": GROUP,
        "kind": "PowerConfig",
        "metadata": _meta("power-config"),
        "spec": {
            "powerNodeSelector": {"kubernetes.io/hostname": "n"},
            "customDevices": ["example.com/device"],
            "duplicatePowerConfig": "reject",
            "agent": {
                "image": "quay.io/me/kpm:1",
                "imagePullPolicy": "Always",
                "resyncPeriod": "30s",
                "repair": "report",
                "logLevel": "debug",
                "claimSocket": "/var/lib/kubelet/plugins/cpu/pod-resources.sock",
                "measureOnly": True,
                "metricsPort": 9100,
                "metricsAccess": "token",
                "powerCaps": ["rapl"],
                "idleStates": "byLatency",
                "source": "nri",
                "crioAnnotations": "accept",
                "metrics": {
                    "levels": ["node", "pod"],
                    "names": ["kpm"],
                    "idle": "requests",
                    "interval": "5s",
                    "estimate": True,
                    "maxSeries": 500,
                },
                "tolerations": [
                    {
                        "key": "a",
                        "operator": "Equal",
                        "value": "b",
                        "effect": "NoExecute",
                        "tolerationSeconds": 60,
                    }
                ],
            },
        },
    },
    "Node": {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": _meta("n", None),
        "spec": {"podCIDR": "10.0.0.0/24"},
        "status": {"capacity": {"cpu": "4"}},
        "surprise": 1,
    },
    "Pod": {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**_meta("web", "default"), "annotations": {"a": "b"}},
        "spec": {
            "nodeName": "n",
            "restartPolicy": "OnFailure",
            "surprise": {"deep": [1]},
            "containers": [
                {
                    "name": "app",
                    "image": "x",
                    "surprise": 1,
                    "resources": {
                        "requests": {"cpu": 2, "memory": "1Gi", "power.openshift.io/fast": "2"},
                        "limits": {"cpu": "2", "memory": "1Gi", "power.openshift.io/fast": 2},
                        "claims": [],
                    },
                },
                {"name": "log", "resources": {"limits": {"cpu": "500m", "memory": 1048576}}},
            ],
            "initContainers": [
                {"name": "first", "resources": {"limits": {"cpu": "1", "memory": "1Mi"}}},
                {
                    "name": "side",
                    "restartPolicy": "Always",
                    "resources": {"limits": {"cpu": "1", "memory": "1Mi"}},
                },
            ],
        },
        "status": {
            "phase": "Running",
            "startTime": "2026-01-31T08:00:01Z",
            "containerStatuses": [
                {
                    "name": "app",
                    "containerID": "containerd://1",
                    "state": {"running": {"startedAt": "2026-01-31T08:00:02Z"}},
                },
                {
                    "name": "log",
                    "containerID": "containerd://2",
                    "state": {"terminated": {"exitCode": 1}},
                },
            ],
            "initContainerStatuses": [
                {
                    "name": "first",
                    "containerID": "containerd://3",
                    "state": {"terminated": {"exitCode": 0}},
                }
            ],
        },
    },
}
OURS = tuple(name for name in OBJECTS if name not in ("Node", "Pod"))

#: Fields that may be a number or a text.
NUMBER_OR_TEXT = frozenset({"min", "max", "epb", "cpuCapacity"})
#: Below these keys of a sample everything is free or ignored by the contract: metadata extras,
#: status of our kinds, fields of Pod and Node that nobody reads.
_UNREAD_OURS = frozenset({"status"})
_UNREAD_POD = frozenset({"surprise", "image", "annotations", "startedAt", "running"})


def sample(name: str) -> dict[str, Any]:
    """A fresh copy of one of OBJECTS."""
    return copy.deepcopy(OBJECTS[name])


def paths_of(value: Any, path: Path = ()) -> Iterator[Path]:
    """The paths of all values below a document."""
    items = (
        value.items()
        if isinstance(value, Mapping)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, item in items:
        yield (*path, key)
        yield from paths_of(item, (*path, key))


def read_paths(name: str) -> list[Path]:
    """The paths of a sample whose values have a type that must be right."""
    unread = {"Pod": _UNREAD_POD, "Node": frozenset({"spec", "status", "surprise"})}.get(
        name, _UNREAD_OURS
    )
    return [path for path in paths_of(OBJECTS[name]) if not unread.intersection(path)]


def get_at(document: Any, path: Path) -> Any:
    """The value at a path."""
    for key in path:
        document = document[key]
    return document


def set_at(document: Any, path: Path, value: Any) -> Any:
    """A copy of a document with another value at a path."""
    found = copy.deepcopy(document)
    get_at(found, path[:-1])[path[-1]] = value
    return found


def dotted(path: Path) -> str:
    """A path as messages write it: spec.reservedCPUs[0].cores."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(
        "."
    )


def as_yaml(*documents: Any) -> str:
    """Documents as a YAML stream."""
    return yaml.safe_dump_all(documents, sort_keys=False)


def as_json(document: Any) -> str:
    """One document as JSON."""
    return json.dumps(document)


def profile(name: str, /, **spec: Any) -> dict[str, Any]:
    """A PowerProfile."""
    return {
        "apiVersion": GROUP,
        "kind": "PowerProfile",
        "metadata": {"name": name, "namespace": "power-manager"},
        "spec": spec,
    }


def workload(name: str, profile_name: str, /, *, node: str = "n", **spec: Any) -> dict[str, Any]:
    """A PowerWorkload that puts all cores of a node under a profile."""
    content = {
        "allCores": True,
        "powerNodeSelector": {"kubernetes.io/hostname": node},
        "powerProfile": profile_name,
        **spec,
    }
    return {
        "apiVersion": GROUP,
        "kind": "PowerWorkload",
        "metadata": {"name": name, "namespace": "power-manager"},
        "spec": content,
    }


def node(name: str = "n", **labels: str) -> dict[str, Any]:
    """A Node with its host name label."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}},
    }


def pod(
    name: str,
    cpus: object = 2,
    asks: str | None = "fast",
    *,
    namespace: str = "default",
    on: str | None = "n",
    **spec: Any,
) -> dict[str, Any]:
    """A Guaranteed Pod with one container that asks for CPUs and as many of a profile."""
    limits = {
        "cpu": cpus,
        "memory": "1Gi",
        **({f"power.openshift.io/{asks}": cpus} if asks else {}),
    }
    content = {
        "containers": [{"name": "app", "resources": {"limits": limits}}],
        **({"nodeName": on} if on else {}),
        **spec,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": content,
        "status": {"phase": "Running"},
    }


#: A small policy that touches everything: shared and exclusive CPUs, idle states, uncore.
POLICY = [
    profile(
        "slow",
        shared=True,
        pstates={"min": 1000, "max": 1500, "epp": "power", "governor": "powersave"},
        cstates={"names": {"C6": False}},
    ),
    profile(
        "fast",
        pstates={"min": "50%", "max": "100%", "epp": "performance", "governor": "performance"},
        cstates={"maxLatencyUs": 2},
    ),
    workload("shared-n-workload", "slow", reservedCPUs=[{"cores": [0]}]),
    {
        "apiVersion": GROUP,
        "kind": "Uncore",
        "metadata": {"name": "n", "namespace": "power-manager"},
        "spec": {"sysMin": 1000000, "sysMax": 2000000},
    },
    node("n"),
]
