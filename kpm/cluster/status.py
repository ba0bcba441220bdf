"""How a cluster is: the operator by its lease, nodes by what their agents report, like with like.

Nothing here is told by a machine: what is asked is asked of the API server alone. What agents wrote
is read field by field: one that reports nonsense costs its own line.
"""

from collections.abc import Iterable, Iterator, Mapping
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
POOLS = ("reserved", "exclusive", "shared", "unmanaged", "offline")


@frozen
class NodeGroup:
    """Nodes of which the same is said. sizes: pool → (fewest, most, all together) of its CPUs."""

    nodes: tuple[str, ...]
    ready: str
    reason: str
    message: str
    drift: str = ""
    sizes: Mapping[str, tuple[int, int, int]] = field(factory=dict, hash=False)


@frozen
class ProblemGroup:
    """One problem, and the nodes that report it."""

    severity: str
    code: str
    object: str
    field: str
    message: str
    nodes: tuple[str, ...]


@frozen
class ClusterStatus:
    """What is known of one namespace. config: the PowerConfig in force; errors: what is wrong with
    it.
    """

    operator: str | None
    config: str | None
    errors: tuple[str, ...] = ()
    groups: tuple[NodeGroup, ...] = ()
    problems: tuple[ProblemGroup, ...] = ()
    namespace: str = ""

    @property
    def well(self) -> bool:
        """Whether an operator works, and everything that is asked for is so."""
        ready = all(group.ready == "True" for group in self.groups)
        return self.operator is not None and not self.errors and ready


@frozen
class _Said:
    """What one node says."""

    ready: tuple[str, str, str] = ("Unknown", "NotReported", "no agent has reported yet")
    drift: str = ""
    sizes: tuple[int, ...] = ()
    problems: tuple[tuple[str, str, str, str, str], ...] = ()


def status_of(api: Api, group: str, namespace: str, now: datetime) -> ClusterStatus:
    """Ask the API server. Errors: ApiError."""
    leases = Resource("coordination.k8s.io", "v1", LEASES, namespace)
    operator = _working(api, leases, now)
    configs = sorted(every(api, power(group, "powerconfigs", namespace)), key=_age)
    config = next((item for item in configs if not _meta(item).get("deletionTimestamp")), None)
    if config is None:
        going = tuple(f"{_meta(item)['name']} is being deleted" for item in configs)
        return ClusterStatus(operator, None, going, namespace=namespace)
    said = config.get("status") or {}
    names = tuple(map(str, _list(said, "nodes")))
    reports = {
        str(_mapping(item, "spec").get("nodeName")): _said(_mapping(item, "status"))
        for item in every(api, power(group, "powernodestates", namespace))
    }
    nodes = {name: reports.get(name, _Said()) for name in names}
    errors = tuple(map(str, _list(said, "errors")))
    if "errors" not in said:
        errors = ("no operator has looked at it yet",)
    return ClusterStatus(
        operator,
        str(_meta(config)["name"]),
        errors,
        _grouped(nodes),
        _problems(nodes),
        namespace=namespace,
    )


def namespaces_of(api: Api, groups: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(API group, namespace) of every PowerConfig of the cluster. Errors: ApiError."""
    for group in groups:
        try:
            items = list(every(api, power(group, "powerconfigs", None)))
        except ApiError as failure:
            if not failure.missing:
                raise
            continue
        yield from ((group, name) for name in sorted({str(_meta(i)["namespace"]) for i in items}))


def document(status: ClusterStatus) -> dict[str, Any]:
    """The same as JSON has it."""
    return {
        "version": VERSION,
        "namespace": status.namespace,
        "well": status.well,
        "operator": status.operator,
        "powerConfig": status.config,
        "errors": list(status.errors),
        "nodes": [
            {
                "nodes": list(group.nodes),
                "ready": group.ready,
                "reason": group.reason,
                "message": group.message,
                "drift": group.drift,
                "cpus": {
                    pool: {"least": least, "most": most, "all": whole}
                    for pool, (least, most, whole) in group.sizes.items()
                },
            }
            for group in status.groups
        ],
        "problems": [
            {
                "severity": item.severity,
                "code": item.code,
                "object": item.object,
                "field": item.field,
                "message": item.message,
                "nodes": list(item.nodes),
            }
            for item in status.problems
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


def _said(status: Mapping[str, Any]) -> _Said:
    """What one node's status says, of what this verb tells."""
    conditions = {str(item.get("type")): item for item in _list(status, "conditions") if _is(item)}
    ready, drifted = conditions.get("Ready"), conditions.get("Drifted", {})
    if ready is None:
        return _Said()
    sizes = _mapping(status, "sizes")
    numbers = tuple(found if type(found := sizes.get(pool)) is int else 0 for pool in POOLS)
    texts = [str(ready.get(name) or "") for name in ("status", "reason", "message")]
    return _Said(
        (texts[0], texts[1], texts[2]),
        str(drifted.get("message") or "") if drifted.get("status") == "True" else "",
        numbers,
        tuple(_problem(item) for item in _list(status, "problems") if _is(item)),
    )


def _problem(item: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    severity, code, obj, place, message = (
        str(item.get(name) or "") for name in ("severity", "code", "object", "field", "message")
    )
    return severity, code, obj, place, message


def _grouped(nodes: Mapping[str, _Said]) -> tuple[NodeGroup, ...]:
    """Nodes of which the same is said; those that are not ready first, large groups first."""
    alike: dict[tuple[tuple[str, str, str], str], list[str]] = {}
    for name, said in nodes.items():
        alike.setdefault((said.ready, said.drift), []).append(name)
    found = [
        NodeGroup(tuple(sorted(names)), *ready, drift, _ranges([nodes[name] for name in names]))
        for (ready, drift), names in alike.items()
    ]
    return tuple(
        sorted(
            found,
            key=lambda item: (item.ready == "True", not item.drift, -len(item.nodes), item.nodes),
        )
    )


def _ranges(said: Iterable[_Said]) -> Mapping[str, tuple[int, int, int]]:
    """Pool → (fewest, most, sum) over nodes; pools that no node has are left out."""
    columns = dict(zip(POOLS, zip(*(item.sizes for item in said if item.sizes), strict=True),
                       strict=False))  # fmt: skip
    return {
        pool: (min(column), max(column), sum(column))
        for pool, column in columns.items()
        if any(column)
    }


def _problems(nodes: Mapping[str, _Said]) -> tuple[ProblemGroup, ...]:
    """Each problem once, errors first, those of many nodes first."""
    found: dict[tuple[str, str, str, str, str], list[str]] = {}
    for name, said in nodes.items():
        for problem in said.problems:
            found.setdefault(problem, []).append(name)
    groups = [ProblemGroup(*key, tuple(sorted(names))) for key, names in found.items()]
    return tuple(
        sorted(groups, key=lambda item: (item.severity != "error", -len(item.nodes), item.code))
    )


def _is(item: object) -> bool:
    return isinstance(item, Mapping)


def _mapping(item: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = item.get(key)
    return found if isinstance(found, Mapping) else {}


def _list(item: Mapping[str, Any], key: str) -> list[Any]:
    found = item.get(key)
    return found if isinstance(found, list) else []


def _meta(item: Object) -> Mapping[str, Any]:
    return item.get("metadata") or {}


def _age(item: Object) -> tuple[str, str]:
    return str(_meta(item).get("creationTimestamp") or ""), str(_meta(item).get("name") or "")
