"""What the operator sees, as values: every object with what of its metadata and status matters
here.
"""

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from attrs import field, frozen

from kpm.formats.pods import structure_node
from kpm.formats.published import reported
from kpm.formats.wire import read_object
from kpm.kube.api import Object
from kpm.operator.mounts import AGENT
from kpm_planner.model.cluster import Node
from kpm_planner.model.problems import Problem
from kpm_planner.report.rollup import PublishedWatts
from kpm_planner.report.types import PowerNodeStateStatus

_Value = TypeVar("_Value")


@frozen
class Held(Generic[_Value]):
    """An object of the API server. value: its spec as a value of ours, None where it cannot be
    read.
    """

    name: str
    uid: str
    value: _Value | None
    status: Mapping[str, Any] = field(factory=dict, hash=False)
    labels: Mapping[str, str] = field(factory=dict, hash=False)
    annotations: Mapping[str, str] = field(factory=dict, hash=False)
    finalizers: tuple[str, ...] = ()
    deleting: bool = False
    fault: Problem | None = None
    spec: Mapping[str, Any] = field(factory=dict, hash=False)
    created: str = ""


@frozen
class NodeSeen:
    """A node. ready: what its kubelet says."""

    node: Node
    ready: bool


#: A status that was written, and what the API server has of it.
Kept = tuple[Mapping[str, Any], Mapping[str, Any]]


@frozen
class SeenCluster:
    """All of it at one moment. nodes: by name. agents: nodes on which an agent runs, None where
    that is not known.

    published: answers of servers, by PowerCap; hosts: the servers that may be asked. unguarded:
    admission policies that are missing. kept: plural and name → a status that was written, and what
    the API server kept of it, where that is less: its definitions may be older than the operator.
    """

    namespace: str
    group: str
    configs: tuple[Held[Any], ...] = ()
    profiles: tuple[Held[Any], ...] = ()
    workloads: tuple[Held[Any], ...] = ()
    node_configs: tuple[Held[Any], ...] = ()
    uncores: tuple[Held[Any], ...] = ()
    caps: tuple[Held[Any], ...] = ()
    power_nodes: tuple[Held[Any], ...] = ()
    states: tuple[Held[PowerNodeStateStatus], ...] = ()
    nodes: Mapping[str, NodeSeen] = field(factory=dict, hash=False)
    daemon_set: Held[Any] | None = None
    agents: frozenset[str] | None = None
    published: Mapping[str, PublishedWatts] = field(factory=dict, hash=False)
    hosts: tuple[str, ...] = ()
    unguarded: tuple[str, ...] = ()
    kept: Mapping[tuple[str, str], Kept] = field(factory=dict, hash=False)

    def by_plural(self) -> tuple[tuple[str, tuple[Held[Any], ...]], ...]:
        """The objects that users make, by the plural of their kind."""
        return (
            ("powerconfigs", self.configs),
            ("powerprofiles", self.profiles),
            ("powerworkloads", self.workloads),
            ("powernodeconfigs", self.node_configs),
            ("uncores", self.uncores),
            ("powercaps", self.caps),
        )


def node_of(item: Held[Any]) -> str:
    """The node that an object of one node is about."""
    return str(item.spec.get("nodeName") or "")


def _held(document: Object, value: Any, fault: Problem | None = None) -> Held[Any]:
    meta = document.get("metadata") or {}
    return Held(
        str(meta.get("name") or ""),
        str(meta.get("uid") or ""),
        value,
        status=dict(document.get("status") or {}),
        labels=dict(meta.get("labels") or {}),
        annotations=dict(meta.get("annotations") or {}),
        finalizers=tuple(meta.get("finalizers") or ()),
        deleting=bool(meta.get("deletionTimestamp")),
        fault=fault,
        spec=dict(document.get("spec") or {}),
        created=str(meta.get("creationTimestamp") or ""),
    )


def held_object(document: Object, kind: str, group: str) -> Held[Any]:
    """An object that users make, or a workload of ours."""
    return _held(document, *read_object(document, kind, group))


def held_state(document: Object) -> Held[PowerNodeStateStatus]:
    """A PowerNodeState without machine and allocation, which the operator has no use for; one whose
    status cannot be read says nothing.
    """
    status = {**(document.get("status") or {}), "machine": "", "allocation": ""}
    return _held({**document, "status": status}, reported({"status": status}))


def held_plain(document: Object) -> Held[Any]:
    """An object of which only metadata and status matter."""
    return _held(document, None)


def node_seen(document: Object) -> NodeSeen:
    """A node."""
    conditions = (document.get("status") or {}).get("conditions") or ()
    ready: Object = next((item for item in conditions if item.get("type") == "Ready"), {})
    return NodeSeen(structure_node(document), ready.get("status") == "True")


def agent_runs_on(document: Object) -> str:
    """The node on which the agent of a pod runs; nothing while its container does not."""
    status = document.get("status") or {}
    statuses = [item for item in status.get("containerStatuses") or () if isinstance(item, dict)]
    runs = any(
        item.get("name") == AGENT and "running" in (item.get("state") or {}) for item in statuses
    )
    return str((document.get("spec") or {}).get("nodeName") or "") if runs else ""
