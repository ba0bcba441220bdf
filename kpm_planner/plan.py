"""plan_node and plan_cluster: intent, allocation and machine in, one plan a node out.

The only module that composes the others. A plan depends on its arguments alone (R1) and covers
every present CPU (R2).
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import chain

from attrs import evolve, field, frozen

from kpm_planner.capacity import plan_capacity
from kpm_planner.caps.schedule import CapState, Signals
from kpm_planner.caps.zones import CapTarget, baseline_caps, plan_caps
from kpm_planner.domains import settle_domains
from kpm_planner.fabric import FabricTarget
from kpm_planner.limited import limit_problems
from kpm_planner.model.agent_settings import IdleStates
from kpm_planner.model.allocation import Allocation
from kpm_planner.model.cluster import Meta, Node
from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import Intent, PowerConfig
from kpm_planner.model.problems import Problem
from kpm_planner.model.target import ResolvedProfile
from kpm_planner.ownership import resolve_ownership
from kpm_planner.parts import CpuGroup, cut, grouped
from kpm_planner.pools import assign_pools, unmanaged
from kpm_planner.rivals import rival_problems
from kpm_planner.scaling import ScaledDomain, scaled_cpus, scaled_domains
from kpm_planner.selection import Accepted, accept, config_of, in_force
from kpm_planner.siblings import sibling_problems
from kpm_planner.turbo import plan_turbo
from kpm_planner.uncore import UncoreTarget, baseline_uncore, plan_uncore
from kpm_planner.versions import Current, Version, Versions, current_versions


@frozen
class NodePlan:
    """The plan of one node.

    profiles: those that are offered on the node, valid or not, by name, without the targets that
    they gave. scaling: frequency domains whose speed, within their limits, follows telemetry.
    boost: whether turbo is to be on; None is baseline. cap_state: for the signals of the next plan.
    by_demand: whether the division of a power budget follows measured power. valid_until: when time
    alone makes it another plan; None for never. versions: to be kept, for the next plan. earlier:
    those in force in the place of what is written now, which has errors on the node.
    """

    node: str
    groups: tuple[CpuGroup, ...] = ()
    uncore: tuple[UncoreTarget, ...] = ()
    extended_resources: Mapping[str, int] = field(factory=dict, hash=False)
    problems: tuple[Problem, ...] = ()
    boost: bool | None = None
    valid_until: datetime | None = None
    profiles: tuple[ResolvedProfile, ...] = ()
    scaling: tuple[ScaledDomain, ...] = ()
    fabrics: tuple[FabricTarget, ...] = ()
    caps: tuple[CapTarget, ...] = ()
    cap_state: CapState | None = None
    by_demand: bool = False
    versions: tuple[Version, ...] = ()
    earlier: tuple[Version, ...] = ()


@frozen
class ClusterPlan:
    """The plans of many nodes, by name, and the problems of objects whatever the node."""

    nodes: tuple[NodePlan, ...] = ()
    problems: tuple[Problem, ...] = ()


@frozen
class NodeInput:
    """All that the plan of a node needs beside the cluster's intent. versions: those of the plan
    before.
    """

    node: Node
    machine: Machine
    allocation: Allocation = Allocation()
    signals: Signals = Signals()
    versions: Versions = Versions()


def plan_node(
    intent: Intent | Accepted, item: NodeInput, instant: datetime | None = None
) -> NodePlan:
    """The plan of one node.

    item.machine holds the baseline of owned groups as its settings. instant: aware; only caps
    depend on it, and left out, 1970 begins. Never raises for what the objects say: that is in
    `problems`.
    """
    accepted = intent if isinstance(intent, Accepted) else accept(intent)
    node, machine = item.node, item.machine
    config, problems = config_of(accepted, node)
    if problems:
        return _unmanaged(node, machine, problems)
    how = IdleStates.of(config.agent.idle_states if config else None)
    current = current_versions(
        accepted, node, machine, how=how, versions=item.versions, instant=instant
    )
    return _planned(item, config or PowerConfig(Meta("")), current, instant)


def _planned(
    item: NodeInput, config: PowerConfig, current: Current, instant: datetime | None
) -> NodePlan:
    """The decisions, one after the other: none of them selects objects, and none is asked twice."""
    node, machine, allocation = item.node, item.machine, item.allocation
    profiles, holds = current.resolved, in_force(current.accepted, node)
    ownership = resolve_ownership(allocation, config.custom_devices)
    pools = assign_pools(
        holds.definitions, profiles, allocation, ownership, machine, settings=config.agent
    )
    parts, domain_problems = settle_domains(cut(pools, machine), machine)
    resources, capacity_problems = plan_capacity(profiles.values(), allocation, machine, config)
    uncore = plan_uncore(holds.uncore, machine, node.name)
    turbo = plan_turbo(holds.turbo, machine, node.name)
    caps = plan_caps(holds.cap, machine, instant, item.signals, node.name)
    groups = grouped(parts)
    return NodePlan(
        node.name,
        groups,
        uncore.entries,
        extended_resources=resources,
        problems=_named(
            node,
            limit_problems(groups, machine),
            *(resolved.problems for resolved in profiles.values()),
            rival_problems(allocation),
            domain_problems,
            sibling_problems(parts, machine),
            capacity_problems,
            *(item.problems for item in (current, holds, ownership, pools, uncore, turbo, caps)),
        ),
        boost=turbo.wanted,
        valid_until=caps.until,
        profiles=tuple(_reported(profiles[name]) for name in sorted(profiles)),
        scaling=scaled_domains(scaled_cpus(parts, machine)),
        fabrics=uncore.fabrics,
        caps=caps.targets,
        cap_state=caps.state,
        by_demand=caps.demand,
        versions=current.versions,
        earlier=current.earlier,
    )


def _reported(resolved: ResolvedProfile) -> ResolvedProfile:
    """A profile as the plan tells of it; its targets are those of the groups."""
    return ResolvedProfile(resolved.profile, (), resolved.problems)


def _unmanaged(node: Node, machine: Machine, problems: tuple[Problem, ...]) -> NodePlan:
    """The plan of a node that is none of ours: everything at baseline."""
    reason = "the PowerConfig does not select this node"
    uncore = baseline_uncore(machine, reason)
    groups = grouped(cut(unmanaged(machine, reason), machine))
    return NodePlan(
        node.name,
        groups,
        uncore.entries,
        {},
        problems,
        fabrics=uncore.fabrics,
        caps=baseline_caps(machine, reason),
    )


def plan_cluster(
    intent: Intent, items: Iterable[NodeInput], instant: datetime | None = None
) -> ClusterPlan:
    """The plans of many nodes; what does not depend on the node is done once."""
    accepted = accept(intent)
    plans = [plan_node(accepted, item, instant) for item in items]
    return ClusterPlan(tuple(sorted(plans, key=lambda plan: plan.node)), accepted.problems)


def _named(node: Node, *found: Iterable[Problem]) -> tuple[Problem, ...]:
    """All problems once, in order; what is said of the node bears its name."""
    named = (
        evolve(item, object=f"Node/{node.name}") if item.object == "Node" else item
        for item in chain.from_iterable(found)
    )
    return tuple(sorted(set(named)))
