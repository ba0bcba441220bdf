"""Which nodes a command is about, with their machines and allocations: files and options into the
planner's inputs.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from attrs import evolve, field, frozen

from kpm.formats.cdi import claimed_cpus
from kpm.process.errors import InputError, one_line
from kpm.request.cpu_manager import assign_cpus
from kpm.request.objects import GivenObjects, read_pod_resources
from kpm.request.readings import instant_of, readings_of, signals_of
from kpm_planner.caps.schedule import CapState, Reading
from kpm_planner.model.allocation import Allocation
from kpm_planner.model.cluster import Node, Pod, is_label_key, is_label_value
from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import PowerNodeConfig, PowerWorkload
from kpm_planner.plan import NodeInput
from kpm_planner.selection import accept, selects, selects_map
from kpm_planner.versions import Versions

HOSTNAME_LABEL = "kubernetes.io/hostname"


@frozen
class AllocationOptions:
    """Where exclusive CPUs come from: files of the kubelet's answers, or the model of its CPU
    manager.

    cdi: the folder of CDI files that name the CPUs of claims, "" for none.
    """

    pod_resources: tuple[str, ...] = ()
    assign: bool = False
    cdi: str = ""


@frozen
class TimeOptions:
    """For when a plan is made, and what external sources are taken to answer."""

    instant: datetime
    readings: Mapping[str, Reading] = field(factory=dict, hash=False)


def time_options(at: str | None, readings: Sequence[str]) -> TimeOptions:
    """The options --at and --cap-reading. Errors: InputError."""
    instant = instant_of(at, "--at")
    return TimeOptions(instant, readings_of(readings, instant))


@frozen
class Targets:
    """What to plan for, at which instant, and what was left out."""

    inputs: tuple[NodeInput, ...] = ()
    warnings: tuple[str, ...] = field(factory=tuple)
    instant: datetime | None = None


@frozen
class Before:
    """What is known of a node from before: the cap that is in force, last valid versions,
    containers whose CPU count was right.
    """

    cap: CapState | None = None
    versions: Versions = Versions()
    accepted: frozenset[tuple[str, str]] = frozenset()


def node_named(cluster: GivenObjects, name: str | None) -> Node:
    """The node of one machine: by name, else the only Node given, else this machine's name.

    A node that no object describes has its host name label, as the kubelet would set it. Errors:
    InputError.
    """
    if name is None and len(cluster.nodes) > 1:
        raise InputError(
            f"--node: is missing; the objects describe {len(cluster.nodes)} nodes:"
            f" {', '.join(sorted(cluster.nodes))}"
        )
    if name is None:
        name = next(iter(cluster.nodes), None) or os.uname().nodename
    return cluster.nodes.get(name) or Node(name, {HOSTNAME_LABEL: name})


def labelled(cluster: GivenObjects, names: Iterable[str], texts: Sequence[str]) -> GivenObjects:
    """The objects, with more labels on some nodes.

    texts: KEY=VALUE as on a command line. Errors: InputError.
    """
    if not texts:
        return cluster
    labels: dict[str, str] = {}
    for text in texts:
        key, mark, value = text.partition("=")
        if not (mark and is_label_key(key) and is_label_value(value)):
            raise InputError(f"--label: expected KEY=VALUE of a label, got {one_line(text, 80)!r}")
        labels[key] = value
    nodes = dict(cluster.nodes)
    for name in names:
        node = nodes.get(name) or Node(name, {HOSTNAME_LABEL: name})
        nodes[name] = Node(name, {**node.labels, **labels})
    return evolve(cluster, nodes=nodes)


def targets_of(
    cluster: GivenObjects,
    machines: Mapping[str, Machine],
    options: AllocationOptions,
    when: TimeOptions,
    before: Before = Before(),
) -> Targets:
    """The planner's inputs for these nodes. Errors: InputError."""
    return targets_with(
        cluster,
        machines,
        options,
        reported=read_reported(options, machines),
        when=when,
        before=before,
    )


def targets_with(
    cluster: GivenObjects,
    machines: Mapping[str, Machine],
    options: AllocationOptions,
    reported: Mapping[str, Allocation],
    when: TimeOptions,
    before: Before = Before(),
) -> Targets:
    """The planner's inputs for these nodes, with what the kubelet reported."""
    inputs, warnings = [], []
    signals = signals_of(cluster.intent.caps, when.readings, previous=before.cap)
    for name, machine in machines.items():
        node = cluster.nodes.get(name) or Node(name, {HOSTNAME_LABEL: name})
        pods = tuple(
            pod
            for pod in cluster.pods
            if pod.node == name or (pod.node is None and len(machines) == 1)
        )
        if options.assign:
            allocation, refused = assign_cpus(machine, _running(pods), reserved_cpus(cluster, node))
            warnings += [
                f"pod {item.namespace}/{item.pod} container {item.container} wants {item.wanted}"
                f" CPUs, {item.free} are free on {name}"
                for item in refused
            ]
        elif name in reported:
            allocation = evolve(reported[name], pods=pods, accepted=before.accepted)
        else:
            allocation = Allocation(pods=pods, answered=not any(pod.live for pod in pods))
        inputs.append(NodeInput(node, machine, allocation, signals, before.versions))
    known = {item.node.name for item in inputs}
    lost = sorted(
        f"{pod.meta.namespace or 'default'}/{pod.meta.name}"
        for pod in cluster.pods
        if pod.node not in known and not (pod.node is None and len(machines) == 1)
    )
    if lost:
        warnings.append(f"pods on no node that is planned for (spec.nodeName): {', '.join(lost)}")
    return Targets(tuple(inputs), tuple(warnings), when.instant)


def _running(pods: Sequence[Pod]) -> tuple[Pod, ...]:
    """Pods that the model starts: one without a phase counts as running."""
    return tuple(pod if pod.phase else evolve(pod, phase="Running") for pod in pods)


def read_reported(
    options: AllocationOptions, machines: Mapping[str, object]
) -> dict[str, Allocation]:
    """What the kubelet reported, by node. Errors: InputError."""
    if options.assign and options.pod_resources:
        raise InputError(
            "--assign-cpus: cannot be used together with --pod-resources; one of them says who owns"
            " which CPU"
        )
    found = {}
    for text in options.pod_resources:
        name, path = split_node(text, machines, "--pod-resources")
        if name in found:
            raise InputError(f"--pod-resources: node {name!r} is given twice; each is allowed once")
        entries, allocatable = read_pod_resources(path)
        claimed = claimed_cpus(options.cdi, entries) if options.cdi else ()
        found[name] = Allocation(reported=entries, allocatable=allocatable, claimed=claimed)
    return found


def split_node(text: str, names: Mapping[str, object], option: str) -> tuple[str, str]:
    """NODE=FILE taken apart; a plain FILE is for the only node. Errors: InputError."""
    name, mark, path = text.partition("=")
    if mark and name in names:
        return name, path
    if len(names) == 1:
        return next(iter(names)), text
    raise InputError(
        f"{option}: expected NODE=FILE, with a node of {', '.join(sorted(names)) or 'none'}, got"
        f" {text!r}"
    )


def reserved_cpus(cluster: GivenObjects, node: Node) -> frozenset[int]:
    """CPUs that the objects reserve on a node, for the model of the CPU manager."""
    accepted = accept(cluster.intent).intent
    definitions: list[PowerWorkload | PowerNodeConfig] = [
        item for item in accepted.workloads if selects_map(item.power_node_selector, node.labels)
    ]
    definitions += [
        item for item in accepted.node_configs if selects(item.node_selector, node.labels)
    ]
    return frozenset(
        cpu for item in definitions for entry in item.reserved_cpus for cpu in entry.cores
    )
