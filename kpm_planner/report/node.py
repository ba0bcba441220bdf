"""What a node's agent reports: the status of its PowerNodeState, fields for programs.

Pure functions of the plan, of what the machine shows, and of how the last pass went. Equal input
gives an equal status, so nothing is sent while nothing changes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from attrs import define

from kpm_planner.model.allocation import ContainerRef
from kpm_planner.model.assignment import Pool
from kpm_planner.model.changes import Pass
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import Cpu, FrequencyDomain, Machine
from kpm_planner.model.problems import Problem, Severity
from kpm_planner.model.target import TOLD
from kpm_planner.parts import CpuGroup
from kpm_planner.plan import NodePlan
from kpm_planner.report.conditions import conditions_of
from kpm_planner.report.earlier import as_before, uncore_status
from kpm_planner.report.room import cut, fitted
from kpm_planner.report.types import (
    ContainerState,
    CpuValues,
    EarlierVersion,
    FabricState,
    NodeInfo,
    PoolSizes,
    PoolState,
    PowerCapState,
    PowerNodeStateStatus,
    ProblemState,
    ProfileState,
    UncoreState,
    Values,
)
from kpm_planner.report.words import profile_words
from kpm_planner.selection import reference
from kpm_planner.versions import Version, since_text

_Entry = TypeVar("_Entry")
#: Pools by the order of their sizes.
_SIZED = (Pool.SHARED, Pool.RESERVED, Pool.EXCLUSIVE, Pool.UNMANAGED, Pool.OFFLINE)
#: Bytes that each list of a status may take, so that the whole stays below 16 KiB whatever a node
#: is like.
_CONTAINERS, _VALUES, _PROFILES, _PROBLEMS, _UNCORE, _CAPS, _FABRICS, _EARLIER = (
    3000,
    2700,
    1200,
    1900,
    600,
    600,
    300,
    300,
)
LINES_OF_CONTAINERS, LINES_OF_PROFILES, LINES_OF_WORKLOADS = 7000, 4500, 3000


def pool_sizes(plan: NodePlan) -> PoolSizes:
    """How many CPUs each pool of a plan has."""
    counts: Counter[Pool] = Counter()
    for group in plan.groups:
        counts[group.pool] += len(group.cpus)
    return PoolSizes(*(counts[pool] for pool in _SIZED))


def node_state(
    plan: NodePlan,
    shown: Machine,
    last: Pass,
    features: Sequence[tuple[str, bool, str]],
    workload_of: Mapping[str, str],
) -> PowerNodeStateStatus:
    """The status of PowerNodeState. shown: the machine with what its files show; features: name,
    supported, reason.

    workload_of: profile → the PowerWorkload object of this node and profile.
    """
    room = _Room()
    entries = room.fit(_uncore(plan, shown), _UNCORE)
    words = [
        (item.profile.meta.name, profile_words(item.profile, shown, plan)) for item in plan.profiles
    ]
    earlier = as_before(plan, words)
    room.omitted += earlier.omitted
    pools = {pool: [group for group in plan.groups if group.pool is pool] for pool in Pool}
    return PowerNodeStateStatus(
        sizes=pool_sizes(plan),
        shared_pool=_pool_states(pools[Pool.SHARED]),
        reserved_pools=_pool_states(pools[Pool.RESERVED]),
        exclusive_pools=room.fit(containers_of(plan, workload_of), _CONTAINERS),
        profiles=room.fit(_profile_states(plan), _PROFILES),
        values=room.fit(_values(plan, shown), _VALUES),
        uncore=uncore_status(plan, entries) if entries else None,
        power_caps=room.fit(_caps(plan, shown), _CAPS),
        fabrics=room.fit(_fabrics(plan), _FABRICS),
        turbo=plan.boost,
        problems=room.fit(_problem_states(plan), _PROBLEMS),
        conditions=conditions_of(plan, shown, last, features),
        earlier_versions=room.fit(tuple(map(_earlier_version, plan.earlier)), _EARLIER),
        node_info=NodeInfo(len(shown.cpus), shown.architecture or ""),
        cpu_pools=earlier.pools,
        power_profiles=earlier.profiles,
        omitted=room.omitted or None,  # evaluated last: everything has been fitted by then
    )


@define
class _Room:
    """Fits lists into a status, and counts what is left out."""

    omitted: int = 0

    def fit(self, entries: Sequence[_Entry], most: int) -> tuple[_Entry, ...]:
        """As many entries as have room, the first ones."""
        kept, more = fitted(entries, most)
        self.omitted += more
        return kept


def _problem_states(plan: NodePlan) -> tuple[ProblemState, ...]:
    return tuple(
        ProblemState(
            str(item.severity), str(item.code), cut(item.object), cut(item.message), item.field
        )
        for item in sorted(plan.problems)
    )


def _profile_states(plan: NodePlan) -> tuple[ProfileState, ...]:
    return tuple(_profile_state(item.profile.meta.name, item.problems) for item in plan.profiles)


def _fabrics(plan: NodePlan) -> tuple[FabricState, ...]:
    asked = (item for item in plan.fabrics if item.pstates is not None)
    return tuple(FabricState(item.fabric.package, item.pstates or "") for item in asked)


def cpus_text(groups: Iterable[CpuGroup]) -> str:
    """The CPUs of groups as a list."""
    return format_cpulist({cpu for group in groups for cpu in group.cpus})


def _earlier_version(item: Version) -> EarlierVersion:
    return EarlierVersion(reference(item.obj), item.obj.meta.generation or None, since_text(item))


def _pool_states(groups: Sequence[CpuGroup]) -> tuple[PoolState, ...]:
    by_profile: dict[str | None, set[int]] = {}
    for group in groups:
        by_profile.setdefault(group.profile, set()).update(group.cpus)
    return tuple(
        sorted(
            (PoolState(format_cpulist(cpus), profile) for profile, cpus in by_profile.items()),
            key=lambda item: (item.power_profile or "", item.cpus),
        )
    )


def _profile_state(name: str, problems: Iterable[Problem]) -> ProfileState:
    errors = tuple(
        cut(f"{item.field}: {item.message}") for item in problems if item.severity is Severity.ERROR
    )
    return ProfileState(name, not errors, errors[:4])


def containers_of(plan: NodePlan, workload_of: Mapping[str, str]) -> tuple[ContainerState, ...]:
    """The containers that own CPUs, each with its CPUs and profile."""
    cpus: dict[tuple[ContainerRef, str], set[int]] = {}
    for group in plan.groups:
        if group.container is not None and group.pool is Pool.EXCLUSIVE:
            cpus.setdefault((group.container, group.profile or ""), set()).update(group.cpus)
    found = [
        ContainerState(
            ref.name,
            ref.id,
            ref.pod,
            namespace=ref.namespace,
            pod_uid=ref.uid,
            exclusive_cpus=tuple(sorted(own)),
            power_profile=profile,
            workload=workload_of.get(profile, ""),
        )
        for (ref, profile), own in cpus.items()
    ]
    return tuple(
        sorted(found, key=lambda item: (item.namespace, item.pod, item.name, item.pod_uid))
    )


def _values(plan: NodePlan, shown: Machine) -> tuple[CpuValues, ...]:
    domains = {domain.id: domain for domain in shown.domains}
    found: dict[tuple[Values, Values], set[int]] = {}
    for group in plan.groups:
        if group.pool is Pool.OFFLINE:
            continue
        asked = Values(
            **{item.name: getattr(group.target, item.name) for item in TOLD},
            **_named(group.target.idle),
        )
        for number in group.cpus:
            cpu = shown.by_id[number]
            found.setdefault(
                (asked, _effective(cpu, domains.get(cpu.domain if cpu.domain is not None else -1))),
                set(),
            ).add(number)
    return tuple(
        sorted(
            (CpuValues(format_cpulist(cpus), *pair) for pair, cpus in found.items()),
            key=lambda item: int(item.cpus.partition("-")[0].partition(",")[0]),
        )
    )


def _named(idle: Iterable[tuple[str, bool]]) -> dict[str, tuple[str, ...]]:
    states = sorted(idle)
    return {
        "idle_on": tuple(name for name, on in states if on),
        "idle_off": tuple(name for name, on in states if not on),
    }


def _effective(cpu: Cpu, domain: FrequencyDomain | None) -> Values:
    idle = [(state.name, state.enabled) for state in cpu.idle]
    return Values(**{item.name: item.value_on(cpu, domain) for item in TOLD}, **_named(idle))


def _uncore(plan: NodePlan, shown: Machine) -> tuple[UncoreState, ...]:
    entries = {entry.name: entry for entry in shown.uncore}
    return tuple(
        UncoreState(
            item.entry.name,
            item.min_khz,
            item.max_khz,
            entries[item.entry.name].min_khz,
            entries[item.entry.name].max_khz,
        )
        for item in plan.uncore
        if item.entry.name in entries
    )


def _caps(plan: NodePlan, shown: Machine) -> tuple[PowerCapState, ...]:
    """Limits that are asked for, with what their files show."""
    showing = {
        (zone.id, limit.name): limit.limit_uw for zone in shown.power_zones for limit in zone.limits
    }
    return tuple(
        PowerCapState(
            target.zone.name,
            limit.name,
            uw // 1000,
            None if (seen := showing.get((target.zone.id, limit.name))) is None else seen // 1000,
        )
        for target in plan.caps
        for limit, uw in zip(target.zone.limits, target.limits, strict=True)
        if uw is not None
    )
