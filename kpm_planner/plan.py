"""plan_node and plan_cluster: intent, allocation and machine in, one plan a node out.

The only module that composes the others. A plan depends on its arguments alone (R1) and covers
every present CPU (R2).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime

from attrs import evolve, field, frozen

from kpm_planner.capacity import plan_capacity
from kpm_planner.caps.schedule import CapState, Signals
from kpm_planner.caps.zones import CapTarget, baseline_caps, plan_caps
from kpm_planner.domains import combine, frequency_part, in_force
from kpm_planner.fabric import FabricTarget
from kpm_planner.limited import limit_problems
from kpm_planner.model.agent_settings import AgentSettings, IdleStates
from kpm_planner.model.allocation import Allocation, ContainerRef
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import FrequencyDomain, Machine
from kpm_planner.model.objects import Intent, Node
from kpm_planner.model.problems import Code, Problem, warning
from kpm_planner.ownership import resolve_ownership
from kpm_planner.pools import Assignment, Pool, Pools, assign_pools, unmanaged
from kpm_planner.profiles import BASELINE, Resolved, ResolvedProfile, Target
from kpm_planner.rivals import rival_problems
from kpm_planner.scaling import ScaledCpu, ScaledDomain, scaled_domains
from kpm_planner.selection import Accepted, accept, config_of, reference, selector_problems
from kpm_planner.turbo import plan_turbo
from kpm_planner.uncore import UncoreTarget, baseline_uncore, plan_uncore
from kpm_planner.versions import Version, Versions, hold

_BASELINE = Resolved(BASELINE)


@frozen
class CpuGroup:
    """CPUs that share pool, target and reasons. held: nothing of them is written until more is
    known.

    maker: Kind/name of the object that made the pool, "" where none did.
    """

    cpus: tuple[int, ...]
    pool: Pool
    profile: str | None
    container: ContainerRef | None
    target: Target
    because: tuple[str, ...]
    held: bool = False
    maker: str = ""


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


@frozen
class _Part:
    """An assignment cut down to CPUs with one target."""

    assignment: Assignment
    resolved: Resolved
    cpus: frozenset[int]


def plan_node(
    intent: Intent | Accepted, item: NodeInput, instant: datetime | None = None
) -> NodePlan:
    """The plan of one node.

    item.machine holds the baseline of owned groups as its settings. instant: aware; only caps
    depend on it, and left out, 1970 begins. Never raises for what the objects say: that is in
    `problems`.
    """
    accepted = intent if isinstance(intent, Accepted) else accept(intent)
    node, machine, allocation = item.node, item.machine, item.allocation
    config, problems = config_of(accepted, node)
    if problems:
        return _unmanaged(node, machine, problems)
    held = hold(
        accepted,
        node,
        machine,
        IdleStates.of(config.agent.idle_states if config else None),
        item.versions,
        instant,
    )
    accepted, profiles = held.accepted, held.resolved
    ownership = resolve_ownership(allocation, config.custom_devices if config else ())
    pools = assign_pools(
        node,
        accepted,
        profiles,
        allocation,
        ownership,
        machine,
        config.agent if config else AgentSettings(),
    )
    parts, domain_problems = _settle_domains(_cut(pools, machine), machine)
    resources, capacity_problems = plan_capacity(profiles.values(), allocation, machine, config)
    uncore, turbo = plan_uncore(node, accepted, machine), plan_turbo(node, accepted, machine)
    caps = plan_caps(node, accepted, machine, instant, item.signals)
    groups = _groups(parts)
    found = [
        *held.problems,
        *limit_problems(groups, machine),
        *(problem for resolved in profiles.values() for problem in resolved.problems),
        *(
            problem
            for name, profile in accepted.profiles.items()
            if name not in profiles
            for problem in selector_problems(profile.node_selector, reference(profile))
        ),
        *ownership.problems,
        *rival_problems(allocation),
        *pools.problems,
        *domain_problems,
        *_sibling_problems(parts, machine),
        *capacity_problems,
        *uncore.problems,
        *turbo.problems,
        *caps.problems,
    ]
    return NodePlan(
        node.name,
        groups,
        uncore.entries,
        resources,
        _named(found, node),
        turbo.wanted,
        caps.until,
        profiles=tuple(evolve(profiles[name], by_kind=()) for name in sorted(profiles)),
        scaling=scaled_domains(_scaled(parts, machine)),
        fabrics=uncore.fabrics,
        caps=caps.targets,
        cap_state=caps.state,
        by_demand=caps.demand,
        versions=held.versions,
        earlier=held.earlier,
    )


def _unmanaged(node: Node, machine: Machine, problems: tuple[Problem, ...]) -> NodePlan:
    """The plan of a node that is none of ours: everything at baseline."""
    reason = "the PowerConfig does not select this node"
    uncore = baseline_uncore(machine, reason)
    groups = _groups(_cut(unmanaged(machine, reason), machine))
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


def _named(problems: Iterable[Problem], node: Node) -> tuple[Problem, ...]:
    named = (
        evolve(item, object=f"Node/{node.name}") if item.object == "Node" else item
        for item in problems
    )
    return tuple(sorted(set(named)))


def _cut(pools: Pools, machine: Machine) -> list[_Part]:
    """Cut the assignments by kind of core, so that each part has one target."""
    parts = []
    for item in pools.assignments:
        if item.profile is None or item.held or item.pool is Pool.OFFLINE:
            parts.append(_Part(item, _BASELINE, item.cpus))
            continue
        for (_, cpus), resolved in zip(machine.kinds, item.profile.by_kind, strict=True):
            if cpus & item.cpus:
                parts.append(_Part(item, resolved, cpus & item.cpus))
    return parts


def _settle_domains(parts: list[_Part], machine: Machine) -> tuple[list[_Part], list[Problem]]:
    """Give CPUs that share a frequency domain one frequency target; one warning a domain where they
    differ.
    """
    if not machine.shared_domains:
        return parts, []
    part_of = {cpu: index for index, part in enumerate(parts) for cpu in part.cpus}
    moved: dict[tuple[int, Resolved], set[int]] = {}
    problems = []
    for domain, cpus in machine.shared_domains:
        members = Counter(part_of[cpu] for cpu in cpus)
        wanted = [parts[index].resolved.target for index in members]
        if not domain.managed or len({frequency_part(target) for target in wanted}) < 2:
            continue
        if any(parts[index].assignment.held for index in members):
            continue
        combined = combine(domain, wanted)
        if len({in_force(domain, target) for target in wanted}) > 1:
            problems.append(_domain_problem(domain, cpus, combined))
        reason = (
            f"frequency domain {domain.id} (CPUs {format_cpulist(cpus)}), the highest of its CPUs'"
            f" targets holds: {_named_values(combined)}"
        )
        for cpu in cpus:
            before = parts[part_of[cpu]].resolved
            target = evolve(combined, idle=before.target.idle, latency_us=before.target.latency_us)
            after = (
                Resolved(target, (*before.because, reason)) if target != before.target else before
            )
            moved.setdefault((part_of[cpu], after), set()).add(cpu)
    return _moved(parts, moved), problems


def _moved(parts: list[_Part], moved: Mapping[tuple[int, Resolved], set[int]]) -> list[_Part]:
    gone: dict[int, set[int]] = {}
    for (index, _), cpus in moved.items():
        gone.setdefault(index, set()).update(cpus)
    kept = [
        evolve(part, cpus=part.cpus - gone.get(index, set())) for index, part in enumerate(parts)
    ]
    changed = [
        _Part(parts[index].assignment, resolved, frozenset(cpus))
        for (index, resolved), cpus in moved.items()
    ]
    return [part for part in (*kept, *changed) if part.cpus]


def _domain_problem(domain: FrequencyDomain, cpus: frozenset[int], combined: Target) -> Problem:
    low, high, governor, epp = in_force(domain, combined)
    values = f"{low}..{high} kHz, governor {governor}" + (f", epp {epp}" if epp else "")
    message = (
        f"CPUs {format_cpulist(cpus)} share frequency domain {domain.id} but not a target; the"
        f" highest holds: {values}"
    )
    return warning(Code.DOMAIN_CONFLICT, "Node", f"cpufreq/policy{domain.id}", message)


def _named_values(target: Target) -> str:
    """The values of a frequency target, each by its name."""
    limits = [
        f"{name} {khz} kHz"
        for name, khz in (("min", target.min_khz), ("max", target.max_khz))
        if khz is not None
    ]
    words = [
        f"{name} {word}"
        for name, word in (("governor", target.governor), ("epp", target.epp))
        if word is not None
    ]
    return ", ".join([*limits, *words]) or "baseline"


def _sibling_problems(parts: list[_Part], machine: Machine) -> list[Problem]:
    """One warning a core whose online hyperthreads have different frequency targets."""
    if not machine.shared_cores or len(parts) < 2:
        return []
    part_of = {cpu: part for part in parts for cpu in part.cpus}
    mixed = [
        core
        for core in machine.shared_cores
        if any(part_of[cpu] is not part_of[core[0]] for cpu in core[1:])
    ]
    return [
        warning(
            Code.SIBLING_CONFLICT,
            "Node",
            f"cpu{core[0]}",
            f"CPUs {format_cpulist(core)} are one core with different targets; the hardware runs"
            " the higher",
        )
        for core in mixed
        if len({frequency_part(part_of[cpu].resolved.target) for cpu in core}) > 1
        and len({_in_force(cpu, part_of[cpu], machine) for cpu in core}) > 1
    ]


def _in_force(cpu: int, part: _Part, machine: Machine) -> tuple[object, ...]:
    number = machine.by_id[cpu].domain
    domain = None if number is None else machine.domain_by_id.get(number)
    return () if domain is None or not domain.managed else in_force(domain, part.resolved.target)


def _scaled(parts: list[_Part], machine: Machine) -> list[ScaledCpu]:
    """CPUs under a scaling policy, on domains that are under one as a whole."""
    found = [item for part in parts for item in _scaled_part(part, machine)]
    scaled = {item.cpu for item in found}
    mixed = {
        machine.by_id[cpu].domain
        for domain, cpus in machine.shared_domains
        if cpus - scaled
        for cpu in cpus
    }
    return [item for item in found if item.domain not in mixed]


def _scaled_part(part: _Part, machine: Machine) -> Iterable[ScaledCpu]:
    item, target = part.assignment, part.resolved.target
    if (
        item.profile is None
        or item.held
        or item.profile.profile.cpu_scaling_policy is None
        or target.min_khz is None
        or target.max_khz is None
    ):
        return
    uid = item.container.uid if item.container is not None else ""
    for cpu in sorted(part.cpus):
        number = machine.by_id[cpu].domain
        domain = None if number is None else machine.domain_by_id.get(number)
        if domain is not None and domain.managed:
            yield ScaledCpu(
                cpu,
                domain.id,
                uid,
                item.profile.profile,
                target.min_khz,
                target.max_khz,
                "userspace" not in domain.governors,
            )


def _groups(parts: list[_Part]) -> tuple[CpuGroup, ...]:
    found: dict[tuple[object, ...], tuple[_Part, set[int]]] = {}
    for part in parts:
        item = part.assignment
        key = (
            item.pool,
            item.profile_name,
            item.container,
            item.held,
            item.because,
            item.maker,
            part.resolved,
        )
        found.setdefault(key, (part, set()))[1].update(part.cpus)
    groups = [
        CpuGroup(
            cpus=tuple(sorted(cpus)),
            pool=part.assignment.pool,
            profile=part.assignment.profile_name,
            container=part.assignment.container,
            target=part.resolved.target,
            because=(*part.assignment.because, *part.resolved.because),
            held=part.assignment.held,
            maker=part.assignment.maker,
        )
        for part, cpus in found.values()
    ]
    return tuple(sorted(groups, key=lambda group: group.cpus))
