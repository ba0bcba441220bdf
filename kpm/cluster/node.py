"""How one node is: who holds which CPUs since when, what was asked and what is.

The same value from three sources: what an agent reported to the API server, a recorded folder, and
objects given for a machine; so each is shown alike.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from kpm.formats.published import reported
from kpm.formats.wire import WireError, document_of, parse_time
from kpm.kube.api import Api, ApiError, Object
from kpm.kube.kinds import PODS, power, state_name
from kpm.process.errors import InputError
from kpm_planner.model.changes import Pass
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.report.node import node_state
from kpm_planner.report.types import Condition, PowerNodeStateStatus

if TYPE_CHECKING:
    from kpm.request.inputs import Recipe

#: Of `kpm status NODE -o json`.
VERSION = 1


@frozen
class PoolRow:
    """CPUs of one pool under one profile. holder: namespace/pod/container, "" where no container
    owns them; since: when that pod started, where that is known.
    """

    pool: str
    cpus: str
    profile: str
    holder: str = ""
    since: datetime | None = None


@frozen
class NodeStatus:
    """A node, and since when its pods run: (namespace, name) → instant. notes: what is not known,
    and why. recorded: its effective values are those from before the plan.
    """

    name: str
    status: PowerNodeStateStatus
    since: Mapping[tuple[str, str], datetime] = field(factory=dict, hash=False)
    notes: tuple[str, ...] = ()
    recorded: bool = False

    def condition(self, kind: str) -> Condition | None:
        """One condition, where the node has it."""
        return next((item for item in self.status.conditions if item.type == kind), None)

    @property
    def well(self) -> bool:
        """Whether everything that is asked for is so; of what no agent reported, whether no object
        has errors.
        """
        ready = self.condition("Ready")
        errors = any(item.severity == "error" for item in self.status.problems)
        return not errors if ready is None else ready.status == "True"

    @property
    def pools(self) -> tuple[PoolRow, ...]:
        """Reserved, exclusive, shared."""
        status = self.status
        reserved, shared = (
            [PoolRow(pool, item.cpus, item.power_profile or "") for item in items]
            for pool, items in (("reserved", status.reserved_pools), ("shared", status.shared_pool))
        )
        exclusive = [
            PoolRow(
                "exclusive",
                format_cpulist(item.exclusive_cpus),
                item.power_profile,
                f"{item.namespace}/{item.pod}/{item.name}",
                self.since.get((item.namespace, item.pod)),
            )
            for item in status.exclusive_pools
        ]
        return (*reserved, *exclusive, *shared)


def node_of(api: Api, group: str, namespace: str, name: str) -> NodeStatus:
    """What a node's agent reported. Errors: ApiError, InputError where it cannot be read."""
    found = api.get(power(group, "powernodestates", namespace), state_name(name))
    status = reported(found)
    if status is None:
        raise InputError(f"PowerNodeState/{state_name(name)}: status: cannot be read")
    try:
        since = _started(api, name)
    except ApiError as failure:
        return NodeStatus(name, status, notes=(f"since when pods run is not known: {failure}",))
    return NodeStatus(name, status, since)


def planned(recipe: "Recipe") -> tuple[NodeStatus, ...]:
    """The nodes of a recording: as its plan has them, on machines as they were then."""
    machines = {item.node.name: item.machine for item in recipe.targets.inputs}
    since = {
        (pod.meta.namespace or "default", pod.meta.name): pod.started
        for pod in recipe.pods
        if pod.started is not None
    }
    return tuple(
        NodeStatus(
            plan.node,
            evolve(node_state(plan, machines[plan.node], Pass(), (), {}), conditions=()),
            since,
            recorded=True,
        )
        for plan in recipe.plan().nodes
    )


def document(found: NodeStatus) -> dict[str, Any]:
    """The same as JSON has it."""
    return {
        "version": VERSION,
        "node": found.name,
        "well": found.well,
        "pools": [
            {
                "pool": row.pool,
                "cpus": row.cpus,
                "profile": row.profile,
                "holder": row.holder,
                "since": None if row.since is None else row.since.isoformat(),
            }
            for row in found.pools
        ],
        "values": document_of(found.status.values),
        "problems": document_of(found.status.problems),
        "conditions": document_of(found.status.conditions),
        "notes": list(found.notes),
    }


def _started(api: Api, node: str) -> dict[tuple[str, str], datetime]:
    """When the pods of a node started."""
    found: dict[tuple[str, str], datetime] = {}
    query = {"fieldSelector": f"spec.nodeName={node}", "limit": "500"}
    for item in api.list(PODS, query).get("items") or ():
        at = _instant(item)
        if at is not None:
            meta = item.get("metadata") or {}
            found[str(meta.get("namespace")), str(meta.get("name"))] = at
    return found


def _instant(pod: Object) -> datetime | None:
    try:
        return parse_time(str((pod.get("status") or {}).get("startTime") or ""), "status.startTime")
    except WireError:
        return None
