"""All that a plan of a running cluster needs, asked of its API server: objects, nodes with the
machines and allocations that their agents publish, and the pods that have to do with CPUs.

Read only. Pages are taken apart item by item, and of pods only those are kept that ask for a
profile, own CPUs or hand them out, so that a thousand nodes fit in little memory. What cannot be
read costs itself: it is named, and the rest is planned.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attrs import evolve, field, frozen

from kpm.cluster.listing import every
from kpm.formats.pods import structure_node, structure_pod
from kpm.formats.published import unpacked_allocation, unpacked_machine
from kpm.formats.wire import KINDS, WireError, by_kind, intent_of, read_object
from kpm.kube.api import Api, Object
from kpm.kube.kinds import NODES, PODS, USER_KINDS, power
from kpm.process.errors import InputError
from kpm.process.memory import OFFLINE
from kpm_planner.entitlement import requested_profiles
from kpm_planner.model.allocation import Allocation
from kpm_planner.model.cluster import GENERATED, Meta, Node, Pod
from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import Intent
from kpm_planner.plan import NodeInput
from kpm_planner.rivals import policy_of
from kpm_planner.versions import Versions

_LONGEST_NAME = 253


@frozen
class Gathered:
    """A cluster. inputs: of nodes whose machine is known, by name. unknown: node → why it cannot be
    planned for. notes: objects that cannot be read.
    """

    intent: Intent
    inputs: tuple[NodeInput, ...]
    unknown: Mapping[str, str] = field(factory=dict, hash=False)
    notes: tuple[str, ...] = ()


@frozen
class _Published:
    """What one agent published."""

    machine: Machine
    allocation: Allocation


def gather(api: Api, group: str, namespace: str, only: str | None = None) -> Gathered:
    """Ask the API server. only: one node's name. Errors: ApiError."""
    intent, notes = _intent(api, group, namespace)
    published, unknown = _published(api, group, namespace, only)
    nodes = {node.name: node for node in _nodes(api) if node.name in {*published, *unknown}}
    unknown |= dict.fromkeys(published.keys() - nodes.keys(), "there is no such Node")
    pods = _pods(api, {name: published[name].allocation for name in published})
    inputs = tuple(
        NodeInput(
            nodes[name],
            published[name].machine,
            _with_pods(published[name].allocation, pods.get(name, ())),
            versions=Versions(note=OFFLINE),
        )
        for name in sorted(published.keys() & nodes.keys())
    )
    return Gathered(intent, inputs, unknown, notes)


def _nodes(api: Api) -> Iterator[Node]:
    """The nodes that can be read; of another one it is said that it is not there."""
    for item in every(api, NODES):
        try:
            yield structure_node(item)
        except WireError:
            continue


def _intent(api: Api, group: str, namespace: str) -> tuple[Intent, tuple[str, ...]]:
    """What users ask for, and what of it cannot be read."""
    found: dict[type, list[Any]] = {kind: [] for kind in KINDS.values()}
    notes = []
    for plural, kind in USER_KINDS.items():
        for item in every(api, power(group, plural, namespace)):
            if (item.get("metadata") or {}).get("labels", {}).get(GENERATED):
                continue
            value, fault = read_object(item, kind, group)
            if fault is not None:
                notes.append(str(fault))
            else:
                found[type(value)].append(value)
    return intent_of(found, namespace=namespace), tuple(notes)


def _published(
    api: Api, group: str, namespace: str, only: str | None
) -> tuple[dict[str, _Published], dict[str, str]]:
    """What agents publish of their machines, by node, and which nodes publish none."""
    found: dict[str, _Published] = {}
    unknown: dict[str, str] = {}
    machines: dict[str, Machine] = {}  # those of one model are often alike
    for item in every(api, power(group, "powernodestates", namespace)):
        name = str((item.get("spec") or {}).get("nodeName") or "")
        if not name or len(name) > _LONGEST_NAME or only not in (None, name):
            continue
        status = item.get("status")
        try:
            found[name] = _of_status(status if isinstance(status, Mapping) else {}, name, machines)
        except InputError as failure:
            unknown[name] = str(failure)
    return found, unknown


def _of_status(status: Mapping[str, object], name: str, machines: dict[str, Machine]) -> _Published:
    """Errors: InputError."""
    place = f"Node/{name}: status"
    machine, said = status.get("machine"), status.get("allocation")
    if not isinstance(machine, str) or not machine:
        raise InputError(f"{place}.machine: is not published; its agent is older, or has not begun")
    if machine not in machines:
        machines[machine] = unpacked_machine(machine, f"{place}.machine")
    if not isinstance(said, str) or not said:
        return _Published(machines[machine], Allocation(answered=False))
    return _Published(machines[machine], unpacked_allocation(said, (), f"{place}.allocation"))


def _pods(api: Api, allocations: Mapping[str, Allocation]) -> dict[str, list[Pod]]:
    """The pods of these nodes that have to do with CPUs, by node."""
    owners = {
        (name, item.namespace, item.pod)
        for name, allocation in allocations.items()
        for item in (*allocation.said_last, *allocation.claimed)
    }
    found: dict[str, list[Pod]] = {}
    for pod in _readable(every(api, PODS)):
        node = pod.node or ""
        if node in allocations and (
            (node, pod.meta.namespace or "default", pod.meta.name) in owners
            or any(map(requested_profiles, pod.containers))
            or policy_of(pod)
        ):
            found.setdefault(node, []).append(pod)
    return found


def _readable(items: Iterator[Object]) -> Iterator[Pod]:
    for item in items:
        try:
            yield structure_pod(item)
        except WireError:
            continue


def _with_pods(allocation: Allocation, pods: Iterable[Pod]) -> Allocation:
    """An allocation with its pods; containers that have CPUs already were judged by their agent."""
    pods = tuple(pods)
    uids = {(pod.meta.namespace or "default", pod.meta.name): pod.meta.uid for pod in pods}
    accepted = {
        (uids[item.namespace, item.pod], item.container)
        for item in allocation.said_last
        if (item.namespace, item.pod) in uids
    }
    return evolve(allocation, pods=pods, accepted=frozenset(accepted))


def overlaid(intent: Intent, given: Intent, without: Iterable[tuple[str, str]] = ()) -> Intent:
    """The objects of a cluster as they would be once others are applied and some deleted.

    given: those to apply; without: (kind, name) of those to delete. One that is applied keeps the
    age and uid of the one that it replaces.
    """
    gone = set(without)
    old, new = by_kind(intent), by_kind(given)
    merged = {kind: _merged(old[kind], new[kind]) for kind in old}
    kept = {
        kind: [item for item in items if (kind.__name__, item.meta.name) not in gone]
        for kind, items in merged.items()
    }
    return intent_of(kept, unreadable=intent.unreadable, namespace=intent.namespace)


def _merged(old: Iterable[Any], new: Iterable[Any]) -> Iterable[Any]:
    """Objects of one kind, the new ones in the place of the old ones of their names."""
    found = {item.meta.name: item for item in old}
    found |= {
        item.meta.name: evolve(item, meta=_in_place(item.meta, found.get(item.meta.name)))
        for item in new
    }
    return found.values()


def _in_place(meta: Meta, old: Any) -> Meta:
    """The metadata of an object that is applied where an older one may be."""
    if old is None:
        return meta
    return evolve(meta, created=old.meta.created, uid=old.meta.uid)
