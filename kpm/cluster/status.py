"""How a cluster is: the operator by its lease, nodes by what their agents report, like with like.

Nothing here is told by a machine: what is asked is asked of the API server alone.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import field, frozen

from kpm.cluster.listing import every
from kpm.kube.api import Api, ApiError, Object, Resource
from kpm.kube.kinds import LEASES, power

#: Of `kpm status -o json`.
VERSION = 1
_OPERATOR = "power-manager-operator"
#: Seconds after which a lease that nobody renews means that no operator works; clocks may differ.
_STALE = 60.0


@frozen
class NodeGroup:
    """Nodes of which the same is said."""

    nodes: tuple[str, ...]
    ready: str
    reason: str
    message: str


@frozen
class ClusterStatus:
    """What is known. config: the PowerConfig in force; errors: what is wrong with it."""

    operator: str | None
    config: str | None
    errors: tuple[str, ...] = ()
    groups: tuple[NodeGroup, ...] = field(default=())

    @property
    def well(self) -> bool:
        """Whether an operator works, and everything that is asked for is so."""
        ready = all(group.ready == "True" for group in self.groups)
        return self.operator is not None and not self.errors and ready


def status_of(api: Api, group: str, namespace: str, now: datetime) -> ClusterStatus:
    """Ask the API server. Errors: ApiError."""
    leases = Resource("coordination.k8s.io", "v1", LEASES, namespace)
    operator = _working(api, leases, now)
    configs = sorted(every(api, power(group, "powerconfigs", namespace)), key=_age)
    config = next((item for item in configs if not _meta(item).get("deletionTimestamp")), None)
    if config is None:
        going = tuple(f"{_meta(item)['name']} is being deleted" for item in configs)
        return ClusterStatus(operator, None, going)
    said = config.get("status") or {}
    reports = {
        str((item.get("spec") or {}).get("nodeName")): item
        for item in every(api, power(group, "powernodestates", namespace))
    }
    rows = ((str(name), _ready(reports.get(str(name), {}))) for name in said.get("nodes") or ())
    errors = tuple(map(str, said.get("errors") or ()))
    if "errors" not in said:
        errors = ("no operator has looked at it yet",)
    return ClusterStatus(operator, str(_meta(config)["name"]), errors, _grouped(rows))


def document(status: ClusterStatus) -> dict[str, Any]:
    """The same as JSON has it."""
    return {
        "version": VERSION,
        "operator": status.operator,
        "powerConfig": status.config,
        "errors": list(status.errors),
        "nodes": [
            {
                "nodes": list(group.nodes),
                "ready": group.ready,
                "reason": group.reason,
                "message": group.message,
            }
            for group in status.groups
        ],
    }


def _working(api: Api, leases: Resource, now: datetime) -> str | None:
    """Who leads, where somebody does."""
    try:
        spec = api.get(leases, _OPERATOR).get("spec") or {}
    except ApiError as failure:
        if failure.missing:
            return None
        raise
    try:
        renewed = datetime.fromisoformat(str(spec.get("renewTime")).replace("Z", "+00:00"))
    except ValueError:
        return None
    holder = str(spec.get("holderIdentity") or "")
    fresh = abs((now - renewed.astimezone(UTC)).total_seconds()) <= _STALE
    return holder if holder and fresh else None


def _ready(state: Object) -> tuple[str, str, str]:
    """Condition Ready of a node."""
    found = (state.get("status") or {}).get("conditions") or ()
    ready = next((item for item in found if item.get("type") == "Ready"), None)
    if ready is None:
        return "Unknown", "NotReported", "no agent has reported yet"
    texts = (str(ready.get(name) or "") for name in ("status", "reason", "message"))
    status, reason, message = texts
    return status, reason, message


def _grouped(rows: Iterable[tuple[str, tuple[str, str, str]]]) -> tuple[NodeGroup, ...]:
    """Nodes of which the same is said; those that are not ready first, large groups first."""
    said: dict[tuple[str, str, str], list[str]] = {}
    for name, words in rows:
        said.setdefault(words, []).append(name)
    found = [NodeGroup(tuple(sorted(names)), *words) for words, names in said.items()]
    return tuple(
        sorted(found, key=lambda item: (item.ready == "True", -len(item.nodes), item.nodes))
    )


def _meta(item: Object) -> Mapping[str, Any]:
    return item.get("metadata") or {}


def _age(item: Object) -> tuple[str, str]:
    return str(_meta(item).get("creationTimestamp") or ""), str(_meta(item).get("name") or "")
