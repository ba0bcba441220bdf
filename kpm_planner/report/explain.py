"""Why a CPU, a profile or a pod has what it has: sentences read off a
plan, nothing computed twice.
"""

from collections.abc import Iterable, Iterator, Sequence

from kpm_planner.caps.zones import CapTarget
from kpm_planner.fabric import FabricTarget
from kpm_planner.model.allocation import ContainerRef
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.problems import Code, Problem
from kpm_planner.model.quantities import format_watts
from kpm_planner.model.target import Scope, Target, asked_of, frequency_range, ranges_of, words_of
from kpm_planner.parts import CpuGroup
from kpm_planner.plan import NodePlan

#: What limits CPUs from outside of any object; the message names them.
_LIMITS = (Code.FREQUENCY_LIMITED, Code.IDLE_LIMITED)


def explain_cpu(
    plan: NodePlan, cpu: int, siblings: frozenset[int] = frozenset()
) -> tuple[str, ...]:
    """Lines that say why a CPU has its pool and its target; empty
    where the plan has no such CPU.

    siblings: the threads of its core, itself included: what is said of them is said of it.
    """
    group = next((group for group in plan.groups if cpu in group.cpus), None)
    if group is None:
        return ()
    related = [
        problem
        for problem in plan.problems
        if _concerns(problem.object, group)
        or (problem.code in _LIMITS and group.profile)
        or _of_core(problem, siblings)
    ]
    return (
        f"CPU {cpu} on node {plan.node}: {describe_target(group)}",
        *_indent(group.because),
        *_indent(map(str, related)),
    )


def explain_profile(plan: NodePlan, name: str) -> tuple[str, ...]:
    """Lines that say where a profile is in force on the node and what stands in its way."""
    obj = f"PowerProfile/{name}"
    users = [group for group in plan.groups if group.profile == name]
    lines = [f"CPUs {format_cpulist(group.cpus)}: {describe_target(group)}" for group in users]
    lines += [
        f"advertised as {resource}: {amount}"
        for resource, amount in plan.extended_resources.items()
        if resource.endswith(f"/{name}")
    ]
    mentions = (f"/{name}:", f"profile {name} ", f"profile {name!r} ")
    lines += [
        str(problem)
        for problem in plan.problems
        if problem.object == obj or any(words in problem.message for words in mentions)
    ]
    return (
        f"profile {name} on node {plan.node}: {'in use' if users else 'no CPU uses it'}",
        *_indent(lines),
    )


def cpus_of_pod(plan: NodePlan, namespace: str, name: str) -> tuple[int, ...]:
    """The CPUs that the containers of a pod own on the node."""
    return tuple(cpu for group, _ in _owned(plan, namespace, name) for cpu in group.cpus)


def _owned(plan: NodePlan, namespace: str, name: str) -> Iterator[tuple[CpuGroup, ContainerRef]]:
    """The groups of a pod, each with the container that owns it."""
    for group in plan.groups:
        owner = group.container
        if owner is not None and (owner.namespace, owner.pod) == (namespace, name):
            yield group, owner


def explain_pod(
    plan: NodePlan, namespace: str, name: str, cores: Sequence[frozenset[int]] = ()
) -> tuple[str, ...]:
    """Lines that say which CPUs a pod owns on the node, and why they run as they do.

    cores: the threads of each core of the machine.
    """
    lines: list[str] = []
    for group, owner in _owned(plan, namespace, name):
        who = f"container {owner.name}, CPUs {format_cpulist(group.cpus)}"
        lines += [f"{who}: {describe_target(group)}", *_indent(group.because)]
    head = "owns CPUs" if lines else "owns no CPUs"
    owned = cpus_of_pod(plan, namespace, name)
    mine = [core for core in cores if not core.isdisjoint(owned)]
    lines += [
        str(problem)
        for problem in plan.problems
        if problem.object == f"Pod/{namespace}/{name}"
        or any(_of_core(problem, core) for core in mine)
    ]
    return (f"pod {namespace}/{name} on node {plan.node}: {head}", *_indent(lines))


def explain_cap(plan: NodePlan, name: str) -> tuple[str, ...]:
    """Lines that say why the power of a package is limited as it is; empty where the plan has no
    such zone.
    """
    target = next((item for item in plan.caps if item.zone.name == name), None)
    if target is None:
        return ()
    until = (
        f", which time does not change before {plan.valid_until:%Y-%m-%dT%H:%M:%SZ}"
        if plan.valid_until is not None
        else ""
    )
    related = [str(problem) for problem in plan.problems if problem.object.startswith("PowerCap/")]
    return (
        f"power of {name} on node {plan.node}: {describe_cap(target)}{until}",
        *_indent(target.because),
        *_indent(related),
    )


def explain_uncore(plan: NodePlan, name: str) -> tuple[str, ...]:
    """Lines that say why an uncore entry, or fabric-N of AMD's package N, is limited as it is;
    empty where the plan has none of this name.
    """
    related = _indent(
        str(problem) for problem in plan.problems if problem.object.startswith("Uncore/")
    )
    for target in plan.uncore:
        if target.entry.name == name:
            values = frequency_range(target.min_khz, target.max_khz) or "baseline"
            return (
                f"uncore {name} on node {plan.node}: {values}",
                *_indent(target.because),
                *related,
            )
    for item in plan.fabrics:
        if f"fabric-{item.fabric.package}" == name:
            return (
                f"{name} on node {plan.node}: {describe_fabric(item)}",
                *_indent(item.because),
                *related,
            )
    return ()


def describe_node(plan: NodePlan) -> tuple[str, ...]:
    """What is asked of the node beside its CPUs, in lines: power, data fabric, turbo."""
    lines = [f"power {target.zone.name}: {describe_cap(target)}" for target in plan.caps]
    lines += [
        f"data fabric of package {target.fabric.package}: {describe_fabric(target)}"
        for target in plan.fabrics
    ]
    return (*lines, *(() if plan.boost is None else (f"turbo: {'on' if plan.boost else 'off'}",)))


def describe_cap(target: CapTarget) -> str:
    """The limits of a zone in one line."""
    pairs = zip(target.zone.limits, target.limits, strict=True)
    return (
        ", ".join(f"{limit.name} {watts(uw)}" for limit, uw in pairs if uw is not None)
        or "baseline"
    )


def describe_fabric(target: FabricTarget) -> str:
    """What is asked of a data fabric in one line."""
    return (
        "baseline"
        if target.pstates is None
        else (
            f"P-state {target.pstates}"
            if " " not in target.pstates
            else f"slowest and fastest P-state {target.pstates}"
        )
    )


def watts(uw: int | None) -> str:
    """A power in watts."""
    return "unknown" if uw is None else format_watts(uw)


def describe_target(group: CpuGroup) -> str:
    """One line of pool, profile and values."""
    if group.held:
        return f"{group.pool}, left as it is"
    profile = f", profile {group.profile}" if group.profile else ""
    return f"{group.pool}{profile}: {describe_values(group.target)}"


def describe_values(target: Target) -> str:
    """A target in one line; "baseline" where nothing is asked."""
    asked = asked_of(target)
    words = [(item.scope, text) for item, text in words_of(asked)]
    parts = [
        *ranges_of(asked),
        *(text for scope, text in words if scope is Scope.DOMAIN),
        *(f"{name} {'on' if on else 'off'}" for name, on in target.idle),
        *(text for scope, text in words if scope is Scope.CPU),
    ]
    return ", ".join(parts) or "baseline"


def _concerns(obj: str, group: CpuGroup) -> bool:
    pod = group.container and f"Pod/{group.container.namespace}/{group.container.pod}"
    return obj in (f"PowerProfile/{group.profile}", pod)


def _of_core(problem: Problem, core: frozenset[int]) -> bool:
    """Whether a problem is about the threads of a core; it names the first of them."""
    return (
        problem.code is Code.SIBLING_CONFLICT and bool(core) and problem.field == f"cpu{min(core)}"
    )


def _indent(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]
