"""What changing objects would change on the nodes of a running cluster, before it is done: files,
CPUs, pods, problems, what is advertised.

Both plans are made here, of what agents publish, and compared file by file (kpm_applier.described):
the one of the objects as they are, the other of them as they would be. The second one knows the
first as the last valid version of each object, as agents will (R8), so that a mistake is shown as
what it costs and not as what it says. Beyond it: values that kernels round, and what changes before
it is applied.
"""

from collections.abc import Iterable
from datetime import datetime

from attrs import evolve, field, frozen

from kpm.cluster.gathering import Gathered
from kpm_applier.described import Described, between, cpus_of, describe
from kpm_planner.model.changes import Write
from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import Intent
from kpm_planner.model.problems import Problem
from kpm_planner.plan import NodeInput, NodePlan, plan_node
from kpm_planner.report.node import containers_of
from kpm_planner.selection import Accepted, accept
from kpm_planner.versions import Versions


@frozen
class PodChange:
    """A container whose CPUs change. place: namespace/pod/container; writes: those of its CPUs."""

    place: str
    cpus: tuple[int, ...]
    writes: tuple[Write, ...]


@frozen
class NodeChange:
    """One node. offers: extended resource → (amount before, after), where they differ.

    came, went: problems that only the one or the other plan has.
    """

    node: str
    machine: Machine
    before: NodePlan
    after: NodePlan
    writes: tuple[Write, ...] = ()
    pods: tuple[PodChange, ...] = ()
    came: tuple[Problem, ...] = ()
    went: tuple[Problem, ...] = ()
    offers: tuple[tuple[str, int, int], ...] = ()

    @property
    def same(self) -> bool:
        """Whether nothing changes."""
        return not (self.writes or self.came or self.went or self.offers)


@frozen
class ClusterChange:
    """All nodes, and problems of objects whatever the node."""

    nodes: tuple[NodeChange, ...]
    came: tuple[Problem, ...] = ()
    went: tuple[Problem, ...] = field(default=())


def changes(seen: Gathered, proposed: Intent, instant: datetime) -> ClusterChange:
    """Compare a cluster as it is with what it would be under other objects."""
    before, after = accept(seen.intent), accept(proposed)
    described: dict[int, Described] = {}  # by identity: `seen` keeps the machines alive
    nodes = tuple(_node(item, before, after, described, instant) for item in seen.inputs)
    return ClusterChange(
        nodes,
        came=_only(after.problems, before.problems),
        went=_only(before.problems, after.problems),
    )


def _node(
    item: NodeInput,
    before: Accepted,
    after: Accepted,
    described: dict[int, Described],
    instant: datetime,
) -> NodeChange:
    now = plan_node(before, item, instant)
    known = evolve(item, versions=Versions(now.versions))
    then = plan_node(after, known, instant)
    machine = item.machine
    if id(machine) not in described:
        described[id(machine)] = describe(machine)
    writes = () if _alike(now, then) else between(described[id(machine)], now, then)
    names = sorted(now.extended_resources.keys() | then.extended_resources.keys())
    amounts = (
        (name, now.extended_resources.get(name, 0), then.extended_resources.get(name, 0))
        for name in names
    )
    return NodeChange(
        item.node.name,
        machine,
        now,
        then,
        writes=writes,
        pods=pod_changes(then, writes, machine) if writes else (),
        came=_only(then.problems, now.problems),
        went=_only(now.problems, then.problems),
        offers=tuple(row for row in amounts if row[1] != row[2]),
    )


def _alike(one: NodePlan, other: NodePlan) -> bool:
    """Whether two plans ask for the same, for whatever reasons."""
    targets = [
        {cpu: (group.target, group.held) for group in plan.groups for cpu in group.cpus}
        for plan in (one, other)
    ]
    rest = [
        (
            plan.boost,
            [(target.entry.name, target.min_khz, target.max_khz) for target in plan.uncore],
            [(target.zone.id, target.limits) for target in plan.caps],
            [(target.fabric.package, target.pstates) for target in plan.fabrics],
            plan.scaling,
        )
        for plan in (one, other)
    ]
    return targets[0] == targets[1] and rest[0] == rest[1]


def pod_changes(plan: NodePlan, writes: Iterable[Write], machine: Machine) -> tuple[PodChange, ...]:
    """The containers whose own CPUs change."""
    by_cpu: dict[int, list[Write]] = {}
    for write in writes:
        for cpu in cpus_of(write, machine):
            by_cpu.setdefault(cpu, []).append(write)
    found = []
    for item in containers_of(plan, {}):
        own = [write for cpu in item.exclusive_cpus for write in by_cpu.get(cpu, ())]
        if own:
            place = f"{item.namespace}/{item.pod}/{item.name}"
            found.append(PodChange(place, item.exclusive_cpus, tuple(dict.fromkeys(own))))
    return tuple(found)


def _only(these: Iterable[Problem], those: Iterable[Problem]) -> tuple[Problem, ...]:
    """The problems that only the first has, in order."""
    known = set(those)
    return tuple(sorted(problem for problem in set(these) if problem not in known))
