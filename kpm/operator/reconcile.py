"""What has to be done, as values, out of what is seen (pure).

Level-based: nothing is remembered but how long a node has not answered.

Order of a node's end: it is not selected any more, its agent restores and reports Released (or the
node is gone, or was waited for in vain, endings.py), then what was made for it is deleted, and last
the PowerConfig's finalizer.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attrs import frozen

from kpm.formats.wire import document_of
from kpm.kube.kinds import AGENT_NAME, FINALIZER, distinct_workload_name, state_name, workload_name
from kpm.operator.admission import admission_problem
from kpm.operator.daemonset import HASH, Image, daemon_set, image_problems
from kpm.operator.departures import departure
from kpm.operator.endings import REMEDY, Lost, last_word, one_more_round, ours, waiting_lines, waits
from kpm.operator.external import host_problem
from kpm.operator.observed import Held, SeenCluster, node_of
from kpm_planner.model.cap_objects import PowerCap
from kpm_planner.model.cluster import GENERATED
from kpm_planner.model.cpuset import parse_cpulist
from kpm_planner.model.objects import Intent, PowerConfig
from kpm_planner.model.problems import Problem
from kpm_planner.report.rollup import (
    MOST_ERRORS,
    ErrorsStatus,
    PowerCapStatus,
    PowerConfigStatus,
    PublishedWatts,
    errors_by_object,
    exclusive_workload,
    shared_workload,
)
from kpm_planner.report.types import PowerNodeStateStatus
from kpm_planner.selection import nowhere, selects_map
from kpm_planner.validate import validate_intent


@frozen
class Apply:
    """Create an object, or change what the operator owns of it."""

    plural: str
    name: str
    body: Mapping[str, Any]
    subresource: str | None = None


@frozen
class Mend:
    """Put the agents' DaemonSet back to what it is meant to be, as a whole. place: where somebody
    changed it.
    """

    name: str
    uid: str
    spec: Mapping[str, Any]
    place: str


@frozen
class Delete:
    """Delete an object, where it is still this one."""

    plural: str
    name: str
    uid: str


@frozen
class Finalize:
    """Set the finalizers of a PowerConfig."""

    name: str
    finalizers: tuple[str, ...]


@frozen
class Tell:
    """An Event about an object."""

    kind: str
    name: str
    uid: str
    reason: str
    message: str


Action = Apply | Mend | Delete | Finalize | Tell


def reconcile(seen: SeenCluster, image: Image, lost: Lost = Lost()) -> tuple[Action, ...]:
    """All that is to be done now, in order."""
    configs = sorted(seen.configs, key=_age)
    config = _holder(seen)
    nodes = _selected(config, seen)
    waiting, states = waits(seen, nodes), _states(seen)
    workloads = _wanted_workloads(seen, nodes, states)
    actions: list[Action] = []
    if config is not None and config.value is not None:
        if FINALIZER not in config.finalizers:
            actions.append(Finalize(config.name, (*config.finalizers, FINALIZER)))
        actions += _duplicates(config, configs)
        actions += _agents(config.value, seen, image, states_named=_states_named(states))
    elif (
        config is None
        and seen.daemon_set is not None
        and not seen.daemon_set.deleting
        and not one_more_round(waiting, lost)
    ):
        actions.append(Delete("daemonsets", AGENT_NAME, seen.daemon_set.uid))
    actions += _node_objects(seen, nodes)
    actions += _workloads(seen, workloads)
    actions += _endings(seen, nodes, lost)
    if config is not None or not waiting.keys() - lost.nodes.keys():
        actions += _let_go(configs)
    going = _going(actions)
    left = waiting_lines(waiting, lost)
    statuses = (
        action
        for action in _statuses(
            seen,
            config,
            nodes,
            states=states,
            workloads=workloads,
            image=image,
            lost=lost,
            left=left,
        )
        if (action.plural, action.name) not in going
    )
    return (*actions, *statuses)


def _let_go(configs: Iterable[Held[Any]]) -> Iterator[Finalize]:
    """End the PowerConfigs that are being deleted."""
    for item in configs:
        if item.deleting and FINALIZER in item.finalizers:
            rest = tuple(name for name in item.finalizers if name != FINALIZER)
            yield Finalize(item.name, rest)


def _going(actions: Iterable[Action]) -> set[tuple[str, str]]:
    """Plural and name of the objects that end with these actions."""
    deleted = {(action.plural, action.name) for action in actions if isinstance(action, Delete)}
    return deleted | {
        ("powerconfigs", action.name)
        for action in actions
        if isinstance(action, Finalize) and FINALIZER not in action.finalizers
    }


def _agents(
    config: PowerConfig, seen: SeenCluster, image: Image, *, states_named: bool
) -> Iterator[Action]:
    """What makes the DaemonSet the one that a PowerConfig asks for."""
    wanted = daemon_set(config, seen.namespace, image, states_named=states_named)
    now = seen.daemon_set
    if now is None and seen.unguarded:
        return
    if now is None or now.annotations.get(HASH) != wanted["metadata"]["annotations"][HASH]:
        yield Apply("daemonsets", AGENT_NAME, wanted)
    elif place := departure(wanted["spec"], now.spec):
        yield Mend(AGENT_NAME, now.uid, wanted["spec"], place)


def managed(seen: SeenCluster) -> frozenset[str]:
    """Nodes that are to be managed."""
    return frozenset(_selected(_holder(seen), seen))


def _holder(seen: SeenCluster) -> Held[Any] | None:
    """The PowerConfig that is in force: the oldest that nobody has deleted."""
    return min((item for item in seen.configs if not item.deleting), key=_age, default=None)


def _states_named(states: Mapping[str, PowerNodeStateStatus]) -> bool:
    """Whether a node has idle states set by name: who may not set them any more may still put them
    back.
    """
    return any(
        value.requested.idle_on or value.requested.idle_off
        for state in states.values()
        for value in state.values
    )


def _age(item: Held[Any]) -> tuple[bool, str, str]:
    return (not item.created, item.created, item.name)


def _selected(config: Held[Any] | None, seen: SeenCluster) -> tuple[str, ...]:
    """Names of the nodes that are managed; where the PowerConfig cannot be read, those that are
    managed already (R7).
    """
    if config is None:
        return ()
    if config.value is None:
        return tuple(sorted({node_of(item) for item in seen.states} & seen.nodes.keys()))
    selector = config.value.power_node_selector
    return tuple(
        sorted(
            name
            for name, item in seen.nodes.items()
            if not selector or selects_map(selector, item.node.labels)
        )
    )


def _duplicates(holder: Held[Any], configs: Iterable[Held[Any]]) -> Iterator[Action]:
    """Later PowerConfigs: deleted with an Event, or only marked by their status."""
    if holder.value is not None and holder.value.duplicate_power_config == "reject":
        return
    for item in configs:
        if item is not holder and not item.deleting:
            message = (
                f"PowerConfig {holder.name} is older and holds; this one is deleted"
                " (spec.duplicatePowerConfig: reject would only mark it)"
            )
            yield Tell("PowerConfig", item.name, item.uid, "Duplicate", message)
            yield Delete("powerconfigs", item.name, item.uid)


def _node_objects(seen: SeenCluster, nodes: Iterable[str]) -> Iterator[Action]:
    """The two objects of each node. One of its name that this system did not make is a leftover of
    an earlier one: it holds nothing but a state that is no more, and is replaced.
    """
    there: dict[str, dict[str, Held[Any]]] = {
        "powernodes": {item.name: item for item in seen.power_nodes},
        "powernodestates": {item.name: item for item in seen.states},
    }
    for node in nodes:
        for plural, kind, name in (
            ("powernodes", "PowerNode", node),
            ("powernodestates", "PowerNodeState", state_name(node)),
        ):
            item = there[plural].get(name)
            if item is None:
                yield Apply(plural, name, _object(seen, kind, name, {"nodeName": node}))
            elif not item.deleting and _misfit(item):
                yield Delete(plural, name, item.uid)


def _misfit(item: Held[Any]) -> bool:
    """Whether an object of a node that nobody deletes is another system's, or of a form that no
    agent can write to.

    The list of uncore entries was `uncore` itself once; the API takes no change of an object that
    still has it so.
    """
    return not ours(item) or isinstance(item.status.get("uncore"), list)


def _object(seen: SeenCluster, kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    meta = {"name": name, "namespace": seen.namespace, "labels": {GENERATED: "true"}}
    return {"apiVersion": f"{seen.group}/v1", "kind": kind, "metadata": meta, "spec": dict(spec)}


def _states(seen: SeenCluster) -> dict[str, PowerNodeStateStatus]:
    return {
        node_of(item): item.value
        for item in seen.states
        if item.value is not None and node_of(item)
    }


def _wanted_workloads(
    seen: SeenCluster, nodes: Iterable[str], states: Mapping[str, PowerNodeStateStatus]
) -> dict[str, tuple[str, str]]:
    """Name → profile and node of every workload that is to exist: of each profile that an agent
    found valid on its node.
    """
    profiles = {
        item.name
        for item in seen.profiles
        if item.value is not None and not item.value.shared and not item.deleting
    }
    found: dict[str, tuple[str, str]] = {}
    for node in nodes:
        for profile in states[node].profiles if node in states else ():
            if profile.valid and profile.name in profiles:
                name = workload_name(profile.name, node)
                found[distinct_workload_name(profile.name, node) if name in found else name] = (
                    profile.name,
                    node,
                )
    return found


def _workloads(seen: SeenCluster, wanted: Mapping[str, tuple[str, str]]) -> Iterator[Action]:
    there = {item.name: item for item in seen.workloads if item.labels.get(GENERATED) == "true"}
    taken = {item.name for item in seen.workloads} - there.keys()
    for name, (profile, _) in sorted(wanted.items()):
        if name not in there and name not in taken:
            yield Apply(
                "powerworkloads",
                name,
                _object(seen, "PowerWorkload", name, {"name": name, "powerProfile": profile}),
            )
    for name, item in sorted(there.items()):
        if name not in wanted and not item.deleting:
            yield Delete("powerworkloads", name, item.uid)


def _endings(seen: SeenCluster, nodes: Iterable[str], lost: Lost) -> Iterator[Action]:
    """What is to be deleted of nodes that are left, and what must be said of them."""
    selected = set(nodes)
    done = set()
    for item in seen.states:
        node = node_of(item)
        if node in selected or not ours(item):
            continue
        word = last_word(item)
        if word is None and node in seen.nodes:
            if node not in lost.nodes:
                continue
            word = lost.nodes[node]
        if word:
            yield Tell(
                "PowerNodeState",
                item.name,
                item.uid,
                "NotRestored",
                f"node {node}: {word}; {REMEDY}",
            )
        done.add(node)
        yield Delete("powernodestates", item.name, item.uid)
    kept = selected | {node_of(item) for item in seen.states} - done
    yield from (
        Delete("powernodes", item.name, item.uid)
        for item in seen.power_nodes
        if ours(item) and node_of(item) not in kept
    )


def _faults(seen: SeenCluster, image: Image) -> Iterator[Problem]:
    """What is wrong with objects that no node is needed to see."""
    users = [item for item in seen.workloads if item.labels.get(GENERATED) != "true"]
    groups = (seen.profiles, users, seen.node_configs, seen.uncores, seen.configs, seen.caps)
    values = (tuple(item.value for item in group if item.value is not None) for group in groups)
    yield from validate_intent(Intent(*values, namespace=seen.namespace))
    for group in groups:
        yield from (item.fault for item in group if item.fault is not None)
    for config in seen.configs:
        if config.value is not None:
            yield from image_problems(config.value, image)
        if seen.unguarded:
            yield admission_problem(config.name, seen.unguarded)
    asked = (host_problem(item.value, seen.hosts) for item in seen.caps if item.value is not None)
    selecting = (
        nowhere(item.value, seen.nodes.keys())
        for item in (*seen.node_configs, *seen.uncores, *seen.caps)
        if item.value is not None
    )
    yield from (problem for problem in (*asked, *selecting) if problem is not None)


def _statuses(
    seen: SeenCluster,
    config: Held[Any] | None,
    nodes: tuple[str, ...],
    states: Mapping[str, PowerNodeStateStatus],
    workloads: Mapping[str, tuple[str, str]],
    image: Image,
    lost: Lost,
    left: tuple[str, ...],
) -> Iterator[Apply]:
    """The statuses that differ from what the objects hold. left: what is to be said of nodes that
    are left.
    """
    errors = errors_by_object(
        _faults(seen, image), {node: states[node] for node in nodes if node in states}
    )
    for kind, plural, items in (
        ("PowerProfile", "powerprofiles", seen.profiles),
        ("PowerNodeConfig", "powernodeconfigs", seen.node_configs),
        ("Uncore", "uncores", seen.uncores),
    ):
        for item in items:
            yield from _status(
                seen, kind, plural, item, ErrorsStatus(errors.get(f"{kind}/{item.name}", ()))
            )
    for item in seen.caps:
        lines = errors.get(f"PowerCap/{item.name}", ())
        yield from _status(
            seen, "PowerCap", "powercaps", item, PowerCapStatus(_published(seen, item), lines)
        )
    for item in seen.configs:
        holds = item is config or (config is None and FINALIZER in item.finalizers)
        lines = (*errors.get(f"PowerConfig/{item.name}", ()), *(left if holds else ()))[
            :MOST_ERRORS
        ]
        status = PowerConfigStatus(
            nodes if item is config else (),
            len(nodes) if item is config else None,
            lines,
            lost.told() if holds else (),
        )
        yield from _status(seen, "PowerConfig", "powerconfigs", item, status, also_ending=holds)
    yield from _workload_statuses(seen, nodes, states, workloads, errors)


def _published(seen: SeenCluster, item: Held[Any]) -> PublishedWatts | None:
    """What a cap's server said; what stands there already where it has not been asked yet, as by an
    operator that has just begun.
    """
    cap: PowerCap | None = item.value
    external = cap.source.external if cap is not None else None
    if (
        cap is None
        or external is None
        or not external.url
        or host_problem(cap, seen.hosts) is not None
    ):
        return None
    before = item.status.get("external")
    kept = (
        PublishedWatts(str(before.get("watts") or ""), str(before.get("at") or ""))
        if isinstance(before, Mapping)
        else None
    )
    return seen.published.get(item.name, kept)


def _workload_statuses(
    seen: SeenCluster,
    nodes: tuple[str, ...],
    states: Mapping[str, PowerNodeStateStatus],
    wanted: Mapping[str, tuple[str, str]],
    errors: Mapping[str, tuple[str, ...]],
) -> Iterator[Apply]:
    shared = {
        node: tuple(sorted({cpu for pool in state.shared_pool for cpu in _cpus(pool.cpus)}))
        for node, state in states.items()
    }
    for item in seen.workloads:
        if item.labels.get(GENERATED) == "true":
            if item.name in wanted:
                profile, node = wanted[item.name]
                yield from _status(
                    seen,
                    "PowerWorkload",
                    "powerworkloads",
                    item,
                    exclusive_workload(node, profile, states.get(node)),
                )
            continue
        selector = item.value.power_node_selector if item.value is not None else None
        matching = [node for node in nodes if selects_map(selector, seen.nodes[node].node.labels)]
        whole = item.value is not None and item.value.all_cores
        lines = errors.get(f"PowerWorkload/{item.name}", ())
        yield from _status(
            seen,
            "PowerWorkload",
            "powerworkloads",
            item,
            shared_workload(matching, shared if whole else None, lines),
        )


def _cpus(text: str) -> frozenset[int]:
    """A list of CPUs as an agent wrote it; none where it is none."""
    try:
        return parse_cpulist(text)
    except ValueError:
        return frozenset()


def _status(
    seen: SeenCluster,
    kind: str,
    plural: str,
    item: Held[Any],
    status: object,
    *,
    also_ending: bool = False,
) -> Iterator[Apply]:
    body = document_of(status)
    if seen.kept.get((plural, item.name)) == (body, item.status):
        return
    if body != item.status and (also_ending or not item.deleting):
        meta = {"name": item.name, "namespace": seen.namespace}
        yield Apply(
            plural,
            item.name,
            {"apiVersion": f"{seen.group}/v1", "kind": kind, "metadata": meta, "status": body},
            "status",
        )
