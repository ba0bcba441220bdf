"""What a node's agent reports: the status of PowerNode (lines for people) and of PowerNodeState
(fields for programs).

Pure functions of the plan, of what the machine shows, and of how the last pass went. Equal input
gives an equal status, so nothing is sent while nothing changes.
"""

import errno
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from attrs import evolve

from kpm_planner.caps.zones import CapTarget
from kpm_planner.model.allocation import ContainerRef
from kpm_planner.model.changes import Outcome, Pass, Status
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import SCALING_POWERSAVE, Cpu, FrequencyDomain, Machine, PowerZone
from kpm_planner.model.objects import PowerProfile
from kpm_planner.model.problems import Problem, Severity
from kpm_planner.plan import CpuGroup, NodePlan
from kpm_planner.pools import Pool
from kpm_planner.profiles import frequency_khz
from kpm_planner.report.earlier import as_before, uncore_status
from kpm_planner.report.refusals import refused
from kpm_planner.report.room import cut, fitted
from kpm_planner.report.types import (
    Condition,
    ContainerState,
    CpuValues,
    EarlierVersion,
    FabricState,
    NodeInfo,
    PoolSizes,
    PoolState,
    PowerCapState,
    PowerNodeStateStatus,
    PowerNodeStatus,
    ProblemState,
    ProfileState,
    UncoreState,
    Values,
)
from kpm_planner.selection import reference
from kpm_planner.versions import Version, since_text

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
_LINES_OF_CONTAINERS, _LINES_OF_PROFILES, _LINES_OF_WORKLOADS = 7000, 4500, 3000
_SEPARATOR = " || "
#: errno of a write to a power limit → reason and what it means (kernel, powercap and amd/hsmp).
_REFUSALS = {
    errno.ENODATA: ("Locked", "the limit is locked by firmware"),
    errno.ETIMEDOUT: ("NoAnswer", "the firmware does not answer"),
}
_KEPT = ("Locked", "the value does not become what is asked, so firmware has locked it")
_NOT_WRITTEN = ("NotWritten", "the limit could not be written")
#: A limit that is off by less than one part in so many is rounded, not refused.
_ROUNDING = 100


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
    problems = [
        ProblemState(
            str(item.severity), str(item.code), cut(item.object), cut(item.message), item.field
        )
        for item in sorted(plan.problems)
    ]
    containers, more_containers = fitted(_containers(plan, workload_of), _CONTAINERS)
    values, more_values = fitted(_values(plan, shown), _VALUES)
    profiles, more_profiles = fitted(
        [_profile_state(item.profile.meta.name, item.problems) for item in plan.profiles], _PROFILES
    )
    entries, more_uncore = fitted(_uncore(plan, shown), _UNCORE)
    earlier = as_before(
        plan,
        [
            (item.profile.meta.name, _profile_words(item.profile, shown, plan))
            for item in plan.profiles
        ],
    )
    caps, more_caps = fitted(_caps(plan, shown), _CAPS)
    fabrics, more_fabrics = fitted(
        tuple(
            FabricState(item.fabric.package, item.pstates)
            for item in plan.fabrics
            if item.pstates is not None
        ),
        _FABRICS,
    )
    earlier_versions, more_earlier = fitted(tuple(map(_earlier_version, plan.earlier)), _EARLIER)
    told, more_problems = fitted(problems, _PROBLEMS)
    pools = {pool: [group for group in plan.groups if group.pool is pool] for pool in Pool}
    return PowerNodeStateStatus(
        sizes=PoolSizes(
            *(
                sum(len(group.cpus) for group in pools[pool])
                for pool in (
                    Pool.SHARED,
                    Pool.RESERVED,
                    Pool.EXCLUSIVE,
                    Pool.UNMANAGED,
                    Pool.OFFLINE,
                )
            )
        ),
        shared_pool=_pool_states(pools[Pool.SHARED]),
        reserved_pools=_pool_states(pools[Pool.RESERVED]),
        exclusive_pools=containers,
        profiles=profiles,
        values=values,
        uncore=uncore_status(plan, entries) if entries else None,
        power_caps=caps,
        fabrics=fabrics,
        turbo=plan.boost,
        problems=told,
        conditions=_conditions(plan, shown, last, features),
        earlier_versions=earlier_versions,
        node_info=NodeInfo(len(shown.cpus), shown.architecture or ""),
        cpu_pools=earlier.pools,
        power_profiles=earlier.profiles,
        omitted=(
            more_earlier
            + earlier.omitted
            + more_containers
            + more_values
            + more_profiles
            + more_uncore
            + more_caps
            + more_fabrics
            + more_problems
        )
        or None,
    )


def power_node(
    plan: NodePlan, shown: Machine, custom_devices: Sequence[str], workload_of: Mapping[str, str]
) -> PowerNodeStatus:
    """The status of PowerNode. shown: the machine with what its files show."""
    profiles = {item.profile.meta.name: item.profile for item in plan.profiles}
    shared = [group for group in plan.groups if group.pool is Pool.SHARED]
    reserved = [group for group in plan.groups if group.pool is Pool.RESERVED]
    lines, more_lines = fitted(
        sorted(_profile_line(item.profile, shown) for item in plan.profiles if item.valid),
        _LINES_OF_PROFILES,
    )
    workloads, more_workloads = fitted(sorted(_workload_lines(plan)), _LINES_OF_WORKLOADS)
    containers, more_containers = fitted(_containers(plan, workload_of), _LINES_OF_CONTAINERS)
    return PowerNodeStatus(
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
        unaffected_cores=_cpus(
            group
            for group in plan.groups
            if group.pool is Pool.UNMANAGED
            or (group.pool is Pool.RESERVED and group.profile is None)
        ),
        power_containers=containers,
        custom_devices=tuple(sorted(custom_devices)),
        omitted=(more_lines + more_workloads + more_containers) or None,
    )


def stamped(
    conditions: Iterable[Condition], before: Iterable[Condition], instant: datetime
) -> tuple[Condition, ...]:
    """The conditions with the time at which each last changed its status."""
    known = {item.type: item for item in before}
    text = instant.strftime("%Y-%m-%dT%H:%M:%SZ")
    return tuple(
        evolve(item, last_transition_time=_since(item, known.get(item.type)) or text)
        for item in conditions
    )


def _since(item: Condition, before: Condition | None) -> str | None:
    return (
        before.last_transition_time if before is not None and before.status == item.status else None
    )


def _cpus(groups: Iterable[CpuGroup]) -> str:
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


def _containers(plan: NodePlan, workload_of: Mapping[str, str]) -> tuple[ContainerState, ...]:
    cpus: dict[tuple[ContainerRef, str], set[int]] = {}
    for group in plan.groups:
        if group.container is not None and group.pool is Pool.EXCLUSIVE:
            cpus.setdefault((group.container, group.profile or ""), set()).update(group.cpus)
    found = [
        ContainerState(
            ref.name,
            ref.id,
            ref.pod,
            ref.namespace,
            ref.uid,
            tuple(sorted(own)),
            profile,
            workload_of.get(profile, ""),
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
        target = group.target
        asked = Values(
            target.min_khz,
            target.max_khz,
            target.governor,
            target.epp,
            _named(target.idle, on=True),
            _named(target.idle, on=False),
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


def _named(idle: Iterable[tuple[str, bool]], *, on: bool) -> tuple[str, ...]:
    return tuple(sorted(name for name, wanted in idle if wanted is on))


def _effective(cpu: Cpu, domain: FrequencyDomain | None) -> Values:
    idle = [(state.name, state.enabled) for state in cpu.idle]
    states = _named(idle, on=True), _named(idle, on=False)
    if domain is None:
        return Values(None, None, None, None, *states)
    settings = domain.settings
    return Values(settings.min_khz, settings.max_khz, settings.governor, settings.epp, *states)


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


def _honoured(plan: NodePlan, shown: Machine, last: Pass) -> tuple[Condition, ...]:
    """Whether the power limits that are asked for are in force, by what their files show; nothing
    where none is (user-asks 35).
    """
    capped = [target for target in plan.caps if any(uw is not None for uw in target.limits)]
    if not capped or last.measure_only or last.refused:
        return ()
    failed = {item.path: item for item in last.outcomes if item.status is Status.FAILED}
    zones = {zone.id: zone for zone in shown.power_zones}
    for target in capped:
        reason, message = _hindrance(target, zones.get(target.zone.id), failed)
        if reason:
            return (Condition("CapHonoured", "False", reason, cut(message)),)
    return (Condition("CapHonoured", "True", "InForce"),)


def _hindrance(
    target: CapTarget, zone: PowerZone | None, failed: Mapping[str, Outcome]
) -> tuple[str, str]:
    """Why the limits of a zone are not in force: one word and a sentence; empty where they are."""
    showing = {limit.name: limit.limit_uw for limit in zone.limits} if zone is not None else {}
    for limit, uw in zip(target.zone.limits, target.limits, strict=True):
        path, shows = f"{target.zone.id}/{limit.file}", showing.get(limit.name)
        if uw is not None and (shows is None or abs(shows - uw) * _ROUNDING >= uw):
            outcome = failed.get(path)
            reason, meaning = (
                _KEPT if outcome is None else _REFUSALS.get(outcome.errno or 0, _NOT_WRITTEN)
            )
            return reason, f"{path}: {meaning}; wanted {uw} µW, shows {shows}"
    if zone is not None and zone.enabled is False:
        return "NoSwitch", f"{target.zone.id}/enabled: the zone is not switched on"
    lower, most = target.zone.mirror_uw, max(uw or 0 for uw in target.limits)
    if lower is not None and lower < most:
        return (
            "LowerTwin",
            (
                f"{target.zone.name}: the memory-mapped twin limits to {lower} µW, and the lower"
                " one holds"
            ),
        )
    return "", ""


def _conditions(
    plan: NodePlan, shown: Machine, last: Pass, features: Sequence[tuple[str, bool, str]]
) -> tuple[Condition, ...]:
    known = (
        Condition("PodResources", "True", "Answered")
        if last.answered
        else Condition(
            "PodResources",
            "False",
            "NotAnswered",
            "the kubelet's PodResources socket does not answer; CPUs that pods may own are left as"
            " they are",
        )
    )
    errors = sum(problem.severity is Severity.ERROR for problem in plan.problems)
    intent = (
        Condition("IntentValid", "False", "HasErrors", f"{errors} errors, see problems")
        if errors
        else Condition("IntentValid", "True", "Valid")
    )
    supported = [
        Condition(
            f"{name[0].upper()}{name[1:]}Supported",
            "True" if yes else "False",
            "Found" if yes else "Missing",
            cut(reason),
        )
        for name, yes, reason in features
    ]
    return tuple(
        sorted(
            (
                _ready(last),
                known,
                _drifted(last),
                intent,
                *_honoured(plan, shown, last),
                *supported,
            ),
            key=lambda item: item.type,
        )
    )


def _ready(last: Pass) -> Condition:
    if last.refused:
        return Condition("Ready", "False", "Refused", cut(last.refused))
    if last.measure_only:
        return Condition(
            "Ready", "True", "MeasureOnly", "nothing is written: agent.measureOnly is set"
        )
    bad = [
        item
        for item in last.outcomes
        if item.status in (Status.FAILED, Status.UNSETTLED, Status.OFFLINE)
    ]
    if bad or not last.settled:
        failed = [item for item in bad if item.status is Status.FAILED]
        first = (
            f": {refused(failed[0])}"
            if failed
            else f": {bad[0].path} wanted {bad[0].wanted}, shows {bad[0].shows}"
            if bad
            else ""
        )
        return Condition(
            "Ready",
            "False",
            "NotSettled",
            cut(f"{len(bad)} files do not show what was written{first}"),
        )
    if last.forbidden:
        return Condition("Ready", "False", "Forbidden", cut("; ".join(last.forbidden)))
    limited = sum(item.status is Status.LIMITED for item in last.outcomes)
    return Condition(
        "Ready",
        "True",
        "Settled",
        f"{limited} files are rounded by the kernel or limited by another party" if limited else "",
    )


def _drifted(last: Pass) -> Condition:
    if not last.drift:
        return Condition("Drifted", "False", "NoDrift")
    first = last.drift[0]
    by = f", perhaps by {' or '.join(last.owners)}" if last.owners else ""
    return Condition(
        "Drifted",
        "True",
        "ForeignValue",
        cut(
            f"{len(last.drift)} files were changed by somebody else{by}: {first.path} {first.value}"
            f" -> {first.old}"
        ),
    )


def _frequency_text(value: int | str | None, otherwise: int | None) -> str:
    if isinstance(value, str):
        return value
    khz = otherwise if value is None else frequency_khz(value, None)
    return "" if khz is None else str(khz)


def _limits(profile: PowerProfile | None, cpus: Iterable[int], shown: Machine) -> tuple[str, str]:
    """Maximum and minimum as texts: the profile's own, else the hardware's, or at baseline what the
    first CPU shows.
    """
    domain = next(
        (domain for cpu in sorted(cpus) for domain in shown.domains if cpu in domain.cpus), None
    )
    if domain is None:
        return "", ""
    if profile is None:
        return _frequency_text(None, domain.settings.max_khz), _frequency_text(
            None, domain.settings.min_khz
        )
    return _frequency_text(profile.pstates.max, domain.hardware_max_khz), _frequency_text(
        profile.pstates.min, domain.hardware_min_khz
    )


def _profile_line(profile: PowerProfile, shown: Machine) -> str:
    high, low = _limits(profile, shown.by_id, shown)
    return f"{profile.meta.name}: " + _SEPARATOR.join(
        (
            high,
            low,
            profile.pstates.epp or "",
            _governor(profile, shown),
            _idle_text(profile, shown),
        )
    )


def _profile_words(profile: PowerProfile, shown: Machine, plan: NodePlan) -> str:
    """The same line with a word before each value, and how many CPUs the node offers under it."""
    high, low = _limits(profile, shown.by_id, shown)
    offered = plan.extended_resources.get(f"{profile.group}/{profile.meta.name}")
    asked = "100%" if profile.cpu_capacity is None else str(profile.cpu_capacity)
    capacity = "" if offered is None else f"{asked} ({offered} CPUs)"
    parts = {
        "Min": low,
        "Max": high,
        "Governor": _governor(profile, shown),
        "EPP": profile.pstates.epp,
        "C-states": _idle_text(profile, shown),
        "Capacity": capacity,
    }
    return ", ".join(f"{word}: {value}" for word, value in parts.items() if value)


def _governor(profile: PowerProfile, shown: Machine) -> str:
    """The governor in force: one that is left out is powersave where the driver scales under it
    (E5).
    """
    scales = any(domain.driver in SCALING_POWERSAVE for domain in shown.domains)
    return profile.pstates.governor or ("powersave" if scales else "")


def _idle_text(profile: PowerProfile, shown: Machine) -> str:
    """The states that a profile names, or its longest latency; where it says nothing, those that
    are on by default.
    """
    limit, states = profile.cstates.max_latency_us, profile.cstates.names
    if limit is not None:
        return f"maxLatency: {limit}"
    if not states:
        states = {
            state.name: state.default_enabled is not False
            for cpu in shown.cpus
            for state in cpu.idle
        }
    parts = [
        (word, ",".join(sorted(name for name, enabled in states.items() if enabled is wanted)))
        for word, wanted in (("enabled", True), ("disabled", False))
    ]
    return "; ".join(f"{word}: {names}" for word, names in parts if names)


def _workload_lines(plan: NodePlan) -> Iterable[str]:
    for item in plan.profiles:
        if item.valid and not item.profile.shared:
            name = item.profile.meta.name
            own = (
                group
                for group in plan.groups
                if group.pool is Pool.EXCLUSIVE and group.profile == name
            )
            yield f"{name}: {name}{_SEPARATOR}{_cpus(own)}"


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
    words = (*_limits(profiles.get(profile or ""), cpus, shown), format_cpulist(cpus))
    return _SEPARATOR.join((profile or "", *words) if named else words)
