"""The lines of a PowerNode: profiles, workloads and pools in the words of earlier systems."""

from collections.abc import Iterable, Mapping, Sequence

from kpm_planner.model.assignment import Pool
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import PowerProfile
from kpm_planner.parts import CpuGroup
from kpm_planner.plan import NodePlan
from kpm_planner.report.node import (
    LINES_OF_CONTAINERS,
    LINES_OF_PROFILES,
    LINES_OF_WORKLOADS,
    containers_of,
    cpus_text,
    pool_sizes,
)
from kpm_planner.report.room import fitted
from kpm_planner.report.types import (
    PowerNodeStatus,
)
from kpm_planner.report.words import governor_text, idle_text, limits_text

_SEPARATOR = " || "


def power_node(
    plan: NodePlan, shown: Machine, custom_devices: Sequence[str], workload_of: Mapping[str, str]
) -> PowerNodeStatus:
    """The status of PowerNode. shown: the machine with what its files show."""
    profiles = {item.profile.meta.name: item.profile for item in plan.profiles}
    shared = [group for group in plan.groups if group.pool is Pool.SHARED]
    reserved = [group for group in plan.groups if group.pool is Pool.RESERVED]
    lines, more_lines = fitted(
        sorted(_profile_line(item.profile, shown) for item in plan.profiles if item.valid),
        LINES_OF_PROFILES,
    )
    workloads, more_workloads = fitted(sorted(_workload_lines(plan)), LINES_OF_WORKLOADS)
    containers, more_containers = fitted(containers_of(plan, workload_of), LINES_OF_CONTAINERS)
    return PowerNodeStatus(
        sizes=pool_sizes(plan) if plan.groups else None,
        power_profiles=lines,
        power_workloads=workloads,
        shared_pool="; ".join(
            sorted(
                {_pool_line(shared, group.profile, profiles, shown, named=True) for group in shared}
            )
        ),
        reserved_pools=tuple(
            sorted(
                {
                    _pool_line(reserved, group.profile, profiles, shown, named=False)
                    for group in reserved
                }
            )
        ),
        unaffected_cores=cpus_text(
            group
            for group in plan.groups
            if group.pool is Pool.UNMANAGED
            or (group.pool is Pool.RESERVED and group.profile is None)
        ),
        power_containers=containers,
        custom_devices=tuple(sorted(custom_devices)),
        omitted=(more_lines + more_workloads + more_containers) or None,
    )


def _profile_line(profile: PowerProfile, shown: Machine) -> str:
    high, low = limits_text(profile, shown.by_id, shown)
    return f"{profile.meta.name}: " + _SEPARATOR.join(
        (
            high,
            low,
            profile.pstates.epp or "",
            governor_text(profile, shown),
            idle_text(profile, shown),
        )
    )


def _workload_lines(plan: NodePlan) -> Iterable[str]:
    for item in plan.profiles:
        if item.valid and not item.profile.shared:
            name = item.profile.meta.name
            own = (
                group
                for group in plan.groups
                if group.pool is Pool.EXCLUSIVE and group.profile == name
            )
            yield f"{name}: {name}{_SEPARATOR}{cpus_text(own)}"


def _pool_line(
    groups: Sequence[CpuGroup],
    profile: str | None,
    profiles: Mapping[str, PowerProfile],
    shown: Machine,
    *,
    named: bool,
) -> str:
    members = [group for group in groups if group.profile == profile]
    cpus = {cpu for group in members for cpu in group.cpus}
    words = (*limits_text(profiles.get(profile or ""), cpus, shown), format_cpulist(cpus))
    return _SEPARATOR.join((profile or "", *words) if named else words)
