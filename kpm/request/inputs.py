"""All inputs of a plan in one value, from the options of the command
line, and the plan they give.
"""

import os
from collections.abc import Mapping, Sequence

from attrs import frozen

from kpm.process.errors import InputError
from kpm.process.memory import OFFLINE, known_offline, memory_beside
from kpm.request.hostinfo import with_cpu_model
from kpm.request.machines import read_machine
from kpm.request.nodes import (
    AllocationOptions,
    Before,
    Targets,
    labelled,
    node_named,
    targets_of,
    time_options,
)
from kpm.request.objects import GivenObjects
from kpm.request.options import PlanOptions, TreeOptions
from kpm.request.tree import open_applier, told
from kpm_applier.state.record import StateError
from kpm_planner.left_out import left_out_of_nodes
from kpm_planner.model.cluster import Pod
from kpm_planner.model.machine import Machine
from kpm_planner.model.why import Why
from kpm_planner.plan import ClusterPlan, plan_cluster
from kpm_planner.versions import Versions


@frozen
class Recipe:
    """What a plan is made of."""

    cluster: GivenObjects
    targets: Targets

    def plan(self) -> ClusterPlan:
        """The plan."""
        return plan_cluster(self.cluster.intent, self.targets.inputs, self.targets.instant)

    def left_out(self) -> Mapping[str, tuple[Why, ...]]:
        """Node → why objects are not about it."""
        nodes = (item.node for item in self.targets.inputs)
        return left_out_of_nodes(self.cluster.intent, nodes)

    @property
    def pods(self) -> tuple[Pod, ...]:
        """All pods that are known: given as objects, or by what a kubelet reported."""
        reported = (pod for item in self.targets.inputs for pod in item.allocation.pods)
        return (*self.cluster.pods, *reported)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was left out on the way."""
        return self.targets.warnings


def make_recipe(
    cluster: GivenObjects, asked: PlanOptions, tree: TreeOptions, machines: Sequence[str]
) -> Recipe:
    """Inputs out of options. machines: files in place of the tree. Errors: InputError."""
    before = Before(versions=Versions(note=OFFLINE))
    if machines:
        found = _machines(cluster, asked.node, machines)
    else:
        machine, before = _tree_machine(tree)
        found = {node_named(cluster, asked.node).name: machine}
    cluster = labelled(cluster, found, asked.labels)
    allocation = AllocationOptions(asked.pod_resources, asked.assign_cpus, asked.cdi)
    return Recipe(
        cluster,
        targets_of(cluster, found, allocation, time_options(asked.at, asked.cap_reading), before),
    )


def _machines(
    cluster: GivenObjects, node: str | None, machines: Sequence[str]
) -> Mapping[str, Machine]:
    """Machines by node name, from files."""
    if len(machines) == 1 and not _names_node(machines[0]):
        return {node_named(cluster, node).name: read_machine(machines[0])}
    found = {}
    for text in machines:
        name, mark, path = text.partition("=")
        if not mark or not name:
            raise InputError(
                f"--machine: expected NODE=FILE, where more than one is given, got {text!r}"
            )
        if name in found:
            raise InputError(f"--machine: node {name!r} is given twice; each is allowed once")
        if node is None or node == name:
            found[name] = read_machine(path)
    if not found:
        raise InputError(f"--node: expected a node of --machine, got {node!r}")
    return found


def _names_node(text: str) -> bool:
    return "=" in text and not os.path.exists(text)


def _tree_machine(tree: TreeOptions) -> tuple[Machine, Before]:
    """The machine of a tree with its baseline, and what is remembered of it."""
    try:
        with open_applier(tree, writing=False) as applier:
            memory = memory_beside(applier.store.path)
            machine = with_cpu_model(applier.machine, applier.host)
            return machine, Before(versions=known_offline(memory), accepted=memory.now.accepted)
    except StateError as failure:
        raise InputError(told(failure)) from None
