"""Where each kind is found, and the names that both shells give to what they make."""

import hashlib

from kpm.kube.api import Api, ApiError, Resource

PODS, NODES, NAMESPACES = (
    Resource("", "v1", "pods"),
    Resource("", "v1", "nodes"),
    Resource("", "v1", "namespaces"),
)
#: Kinds that users write, by plural.
USER_KINDS = {
    "powerprofiles": "PowerProfile",
    "powerworkloads": "PowerWorkload",
    "powernodeconfigs": "PowerNodeConfig",
    "uncores": "Uncore",
    "powerconfigs": "PowerConfig",
    "powercaps": "PowerCap",
}
LEASES, DAEMON_SETS = "leases", "daemonsets"
AGENT_NAME = "power-node-agent"
#: Label and value of the pods of this system.
PART_OF = ("app.kubernetes.io/part-of", "kubernetes-power-manager")
FINALIZER = "power.kpm.dev/restore"
_LONGEST_NAME = 63
_HASH = 8


def power(group: str, plural: str, namespace: str | None) -> Resource:
    """A kind of the system's own; None for all namespaces."""
    return Resource(group, "v1", plural, namespace)


def namespace_ends(api: Api, namespace: str) -> bool:
    """Whether a namespace is being deleted or gone. Errors: ApiError."""
    try:
        return bool((api.get(NAMESPACES, namespace).get("metadata") or {}).get("deletionTimestamp"))
    except ApiError as failure:
        if failure.missing:
            return True
        raise


def fitted(name: str, longest: int = _LONGEST_NAME) -> str:
    """A generated name that fits: one that is too long is cut and ends in a hash of the whole."""
    if len(name) <= longest:
        return name
    mark = hashlib.sha256(name.encode()).hexdigest()[:_HASH]
    return f"{name[: longest - _HASH - 1].rstrip('-.')}-{mark}"


def state_name(node: str) -> str:
    """Name of a node's PowerNodeState."""
    return fitted(f"{node}-power-state", 253)


def workload_name(profile: str, node: str) -> str:
    """Name of the PowerWorkload of a profile on a node."""
    return fitted(f"{profile}-{node}-workload")


def distinct_workload_name(profile: str, node: str) -> str:
    """The same where another profile and node give that name already: a-b on c, and a on b-c."""
    mark = hashlib.sha256(f"{profile}/{node}".encode()).hexdigest()[:_HASH]
    return fitted(f"{profile}-{node}-{mark}-workload")
