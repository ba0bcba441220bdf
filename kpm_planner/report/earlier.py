"""A node's state once more in the form that the earlier operator publishes, for programs that read
it.

Its PowerNodeState has `cpuPools`, `powerProfiles` and `uncore` with a sentence for each; ours has
them beside its own fields, so that objects of either can be read by programs of both.
"""

from collections.abc import Iterable

from attrs import frozen

from kpm_planner.model.assignment import Pool
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.problems import Problem, Severity
from kpm_planner.parts import CpuGroup
from kpm_planner.plan import NodePlan
from kpm_planner.report.room import cut, fitted
from kpm_planner.report.types import (
    CpuPools,
    ExclusiveCpus,
    PowerContainer,
    ProfileConfig,
    ProfileCpus,
    ReservedCpuPool,
    SharedCpus,
    UncoreState,
    UncoreStatus,
)

#: Bytes that each list may take (kpm_planner/report/room.py).
_EXCLUSIVE, _RESERVED, _PROFILES = 2000, 500, 1200
_MOST_ERRORS = 2


@frozen
class Earlier:
    """What the form adds. pools: None where no pool has CPUs; omitted: entries for which there is
    no room.
    """

    pools: CpuPools | None
    profiles: tuple[ProfileConfig, ...]
    omitted: int


def as_before(plan: NodePlan, configs: Iterable[tuple[str, str]]) -> Earlier:
    """Pools and profiles. configs: name and words of each profile."""
    exclusive, more_exclusive = fitted(_exclusive(plan), _EXCLUSIVE)
    reserved, more_reserved = fitted(_reserved(plan), _RESERVED)
    lines = [
        ProfileConfig(name, words, _errors(plan.problems, f"PowerProfile/{name}"))
        for name, words in sorted(configs)
    ]
    profiles, more_profiles = fitted(lines, _PROFILES)
    omitted = more_exclusive + more_reserved + more_profiles
    pools = CpuPools(_shared(plan), reserved, exclusive)
    return Earlier(None if pools == CpuPools() else pools, profiles, omitted)


def uncore_status(plan: NodePlan, entries: tuple[UncoreState, ...]) -> UncoreStatus:
    """The Uncore object of this node in a sentence, and the entries."""
    asked = sorted({line for target in plan.uncore if target.maker for line in target.because})
    maker = min((target.maker for target in plan.uncore if target.maker), default="")
    errors = _errors(plan.problems, maker)
    return UncoreStatus(_name(maker), cut("; ".join(asked)), errors, entries)


def _shared(plan: NodePlan) -> SharedCpus | None:
    groups = [group for group in plan.groups if group.pool is Pool.SHARED]
    if not groups:
        return None
    maker = groups[0].maker
    profile = next((group.profile for group in groups if group.profile), "")
    return SharedCpus(profile, _name(maker), _list(groups), _errors(plan.problems, maker))


def _reserved(plan: NodePlan) -> tuple[ReservedCpuPool, ...]:
    makers: dict[str, dict[str, list[CpuGroup]]] = {}
    for group in plan.groups:
        if group.pool is Pool.RESERVED:
            pool = makers.setdefault(_name(group.maker), {})
            pool.setdefault(group.profile or "", []).append(group)
    return tuple(
        ReservedCpuPool(
            maker,
            tuple(ProfileCpus(profile, _list(groups)) for profile, groups in sorted(parts.items())),
        )
        for maker, parts in sorted(makers.items())
    )


def _exclusive(plan: NodePlan) -> tuple[ExclusiveCpus, ...]:
    found: dict[tuple[str, str, str], dict[tuple[str, str], list[CpuGroup]]] = {}
    for group in plan.groups:
        ref = group.container
        if ref is not None and group.pool is Pool.EXCLUSIVE:
            pod = found.setdefault((ref.namespace, ref.pod, ref.uid), {})
            pod.setdefault((ref.name, ref.id), []).append(group)
    return tuple(
        ExclusiveCpus(
            uid,
            pod,
            tuple(
                PowerContainer(
                    name,
                    number,
                    next((group.profile for group in groups if group.profile), ""),
                    tuple(sorted(cpu for group in groups for cpu in group.cpus)),
                    _errors(plan.problems, f"Pod/{namespace}/{pod}", f"[{name}]"),
                )
                for (name, number), groups in sorted(containers.items())
            ),
        )
        for (namespace, pod, uid), containers in sorted(found.items())
    )


def _name(maker: str) -> str:
    return maker.partition("/")[2]


def _list(groups: Iterable[CpuGroup]) -> str:
    return format_cpulist({cpu for group in groups for cpu in group.cpus})


def _errors(problems: Iterable[Problem], obj: str, place: str = "") -> tuple[str, ...]:
    """The first errors of an object; place: what the field must hold."""
    found = sorted(
        cut(item.message)
        for item in problems
        if item.severity is Severity.ERROR and item.object == obj and place in item.field
    )
    return tuple(found[:_MOST_ERRORS])
