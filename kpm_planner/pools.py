"""Which pool every CPU is in: shared and reserved definitions, owners, and what is left (design §4,
pools).
"""

from collections.abc import Mapping
from enum import StrEnum

from attrs import evolve, field, frozen

from kpm_planner.crio import ACCEPT, conflict, wished_profile
from kpm_planner.model.agent_settings import AgentSettings, IdleStates
from kpm_planner.model.allocation import Allocation, ContainerRef
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import Node, PowerNodeConfig, PowerWorkload, ReservedCpus
from kpm_planner.model.problems import Code, Problem, error, warning
from kpm_planner.ownership import Owner, Ownership
from kpm_planner.profiles import ResolvedProfile
from kpm_planner.selection import (
    Accepted,
    decided_without_age,
    precedence_key,
    reference,
    selector_problems,
    selects,
    selects_map,
)


class Pool(StrEnum):
    """Why a CPU has its target."""

    EXCLUSIVE = "exclusive"
    RESERVED = "reserved"
    SHARED = "shared"
    UNMANAGED = "unmanaged"
    OFFLINE = "offline"


@frozen
class Assignment:
    """CPUs of one pool with one reason. profile: None for baseline; held: not to be written until
    more is known.

    maker: Kind/name of the object that made the pool, "" where none did.
    """

    cpus: frozenset[int]
    pool: Pool
    profile: ResolvedProfile | None = None
    profile_name: str | None = None
    container: ContainerRef | None = None
    held: bool = False
    because: tuple[str, ...] = ()
    maker: str = ""


Profiles = Mapping[str, ResolvedProfile]
_Definition = PowerWorkload | PowerNodeConfig


@frozen
class Pools:
    """The assignments, disjoint and together all present CPUs, and the problems met."""

    assignments: tuple[Assignment, ...]
    problems: tuple[Problem, ...]


def assign_pools(
    node: Node,
    accepted: Accepted,
    profiles: Profiles,
    allocation: Allocation,
    ownership: Ownership,
    machine: Machine,
    settings: AgentSettings = AgentSettings(),
) -> Pools:
    """Put every present CPU in exactly one pool (rule R2). profiles:
    those of this node, by name.
    """
    problems: list[Problem] = []
    definitions = _matching(node, accepted, problems)
    shared = _shared_assignment(definitions, profiles, problems)
    reserved = _reserved_assignments(definitions, profiles, machine, problems)
    wishes = {pod.meta.uid: pod.wishes for pod in allocation.pods if pod.wishes}
    wished = _Wishes(wishes, machine, settings)
    exclusive = [
        _exclusive_assignment(owner, profiles, shared, wished, problems)
        for owner in ownership.owners
    ]
    problems += _reserved_problems(
        reserved,
        exclusive,
        allocation if definitions else evolve(allocation, allocatable=None),
        machine,
    )
    free = set(machine.online)
    assignments = []
    for part in (*exclusive, *reserved):
        cpus = part.cpus & free
        free -= cpus
        unsure = (
            cpus & _unsure(allocation, ownership) if part.pool is Pool.RESERVED else frozenset()
        )
        if cpus - unsure:
            assignments.append(_with_cpus(part, cpus - unsure))
        if unsure:
            assignments.append(_held(part, unsure))
    assignments += _rest(frozenset(free), shared, allocation, ownership)
    offline = frozenset(machine.by_id) - machine.online
    if offline:
        assignments.append(
            Assignment(
                offline, Pool.OFFLINE, held=True, because=("offline: left alone until it is back",)
            )
        )
    return Pools(tuple(assignments), tuple(problems))


def unmanaged(machine: Machine, because: str) -> Pools:
    """All CPUs of a node on which nothing is managed."""
    offline = frozenset(machine.by_id) - machine.online
    parts = [Assignment(machine.online, Pool.UNMANAGED, because=(because,))]
    parts += [Assignment(offline, Pool.OFFLINE, held=True, because=("offline",))] if offline else []
    return Pools(tuple(part for part in parts if part.cpus), ())


def _with_cpus(part: Assignment, cpus: frozenset[int]) -> Assignment:
    return evolve(part, cpus=cpus)


def _matching(node: Node, accepted: Accepted, problems: list[Problem]) -> list[_Definition]:
    """Objects that define pools on the node, in order of precedence."""
    found: list[_Definition] = [
        item
        for item in accepted.intent.workloads
        if selects_map(item.power_node_selector, node.labels)
    ]
    for config in accepted.intent.node_configs:
        problems += selector_problems(config.node_selector, reference(config))
        if selects(config.node_selector, node.labels) and (
            config.shared_power_profile is not None or config.reserved_cpus
        ):
            found.append(config)
    return sorted(found, key=lambda item: precedence_key(item, node))


def definition_faults(item: _Definition) -> tuple[Problem, ...]:
    """Faults of a definition's own content: no other object and no
    machine is needed to see them.
    """
    obj = reference(item)
    problems = (
        selector_problems(item.node_selector, obj) if isinstance(item, PowerNodeConfig) else []
    )
    for index, entry in enumerate(item.reserved_cpus):
        if any(cpu < 0 for cpu in entry.cores):
            problems.append(
                error(
                    Code.RESERVED_UNKNOWN_CPU,
                    obj,
                    f"spec.reservedCPUs[{index}].cores",
                    f"{min(entry.cores)} is no CPU",
                )
            )
    return (*problems, *_reserved_twice(item.reserved_cpus, obj))


def _reserved_twice(entries: tuple[ReservedCpus, ...], obj: str) -> list[Problem]:
    profiles: dict[int, set[str]] = {}
    for entry in entries:
        for cpu in entry.cores:
            profiles.setdefault(cpu, set()).update(
                {entry.power_profile} if entry.power_profile else ()
            )
    return [
        error(
            Code.RESERVED_CONFLICT,
            obj,
            "spec.reservedCPUs",
            f"CPU {cpu} is reserved under {' and '.join(sorted(names))}; one is allowed",
        )
        for cpu, names in sorted(profiles.items())
        if len(names) > 1
    ]


def _defines_shared(item: _Definition) -> bool:
    return (
        item.all_cores if isinstance(item, PowerWorkload) else item.shared_power_profile is not None
    )


def _shared_assignment(
    definitions: list[_Definition], profiles: Profiles, problems: list[Problem]
) -> Assignment | None:
    claims = [item for item in definitions if _defines_shared(item)]
    if not claims:
        return None
    winner = claims[0]
    for loser in claims[1:]:
        mark = decided_without_age(winner.meta, loser.meta)
        problems.append(
            warning(
                Code.SHARED_SUPERSEDED,
                reference(loser),
                "",
                f"{reference(winner)} defines the shared pool of this node already{mark}",
            )
        )
        if isinstance(winner, PowerNodeConfig) and isinstance(loser, PowerNodeConfig):
            problems.append(
                warning(
                    Code.SHARED_SUPERSEDED,
                    reference(winner),
                    "",
                    f"{reference(loser)} wants the shared pool of this node too; this one"
                    f" holds{mark}",
                )
            )
    name = (
        winner.power_profile if isinstance(winner, PowerWorkload) else winner.shared_power_profile
    )
    field = "spec.powerProfile" if isinstance(winner, PowerWorkload) else "spec.sharedPowerProfile"
    profile = _profile(name, profiles, reference(winner), field, problems)
    if profile is not None and not profile.profile.shared:
        problems.append(
            warning(
                Code.PROFILE_NOT_SHARED,
                reference(winner),
                field,
                f"profile {name} is not marked shared",
            )
        )
    because = (
        f"shared: {reference(winner)}"
        if profile
        else f"shared: {reference(winner)}, at baseline for want of its profile"
    )
    return Assignment(
        frozenset(),
        Pool.SHARED,
        profile,
        name if profile else None,
        because=(because,),
        maker=reference(winner),
    )


def _profile(
    name: str | None, profiles: Profiles, obj: str, field: str, problems: list[Problem]
) -> ResolvedProfile | None:
    """The valid profile of this name; else a problem and None, which is baseline (rule R8)."""
    found = profiles.get(name or "")
    if found is not None and found.valid:
        return found
    if found is not None:
        problems.append(
            error(
                Code.PROFILE_INVALID,
                obj,
                field,
                f"profile {name} has errors on this node; its CPUs stay at baseline",
            )
        )
    else:
        known = ", ".join(sorted(profiles)) or "none"
        problems.append(
            error(
                Code.PROFILE_MISSING,
                obj,
                field,
                f"profile {name!r} is not in force on this node, which has {known}; its CPUs stay"
                " at baseline",
            )
        )
    return None


def _reserved_assignments(
    definitions: list[_Definition], profiles: Profiles, machine: Machine, problems: list[Problem]
) -> list[Assignment]:
    by_cpu: dict[int, dict[str | None, str]] = {}
    for item in definitions:
        for index, entry in enumerate(item.reserved_cpus):
            _note_unknown(entry, f"spec.reservedCPUs[{index}].cores", item, machine, problems)
            for cpu in entry.cores:
                by_cpu.setdefault(cpu, {}).setdefault(
                    entry.power_profile, f"{reference(item)} spec.reservedCPUs[{index}]"
                )
    groups: dict[tuple[tuple[str | None, str], ...], set[int]] = {}
    for cpu, wants in by_cpu.items():
        named = tuple(sorted((name, where) for name, where in wants.items() if name is not None))
        groups.setdefault(named or tuple(wants.items()), set()).add(cpu)
    return [
        _reserved_assignment(wants, frozenset(cpus), profiles, problems)
        for wants, cpus in sorted(groups.items(), key=lambda item: min(item[1]))
    ]


def _note_unknown(
    entry: ReservedCpus, field: str, item: _Definition, machine: Machine, problems: list[Problem]
) -> None:
    unknown = frozenset(entry.cores) - machine.by_id.keys()
    if unknown:
        message = (
            f"CPUs {_written(unknown)} do not exist on this node, which has"
            f" {format_cpulist(machine.by_id)}"
        )
        problems.append(warning(Code.RESERVED_UNKNOWN_CPU, reference(item), field, message))


def _written(numbers: frozenset[int]) -> str:
    """Numbers as a CPU list, those first that can be no CPU."""
    negative = [str(number) for number in sorted(numbers) if number < 0]
    return ",".join(
        [
            *negative,
            *(
                [format_cpulist(number for number in numbers if number >= 0)]
                if max(numbers) >= 0
                else []
            ),
        ]
    )


def _reserved_assignment(
    wants: tuple[tuple[str | None, str], ...],
    cpus: frozenset[int],
    profiles: Profiles,
    problems: list[Problem],
) -> Assignment:
    name, where = wants[0]
    maker = where.partition(" ")[0]
    if len(wants) > 1:
        names = " and ".join(f"{name} ({place})" for name, place in wants)
        for _, place in wants:
            obj, _, field = place.partition(" ")
            problems.append(
                error(
                    Code.RESERVED_CONFLICT,
                    obj,
                    field,
                    f"CPUs {format_cpulist(cpus)} are reserved under {names}; they stay at"
                    " baseline",
                )
            )
        return Assignment(
            cpus,
            Pool.RESERVED,
            because=(f"reserved: {where}, at baseline because two profiles are named",),
            maker=maker,
        )
    if name is None:
        return Assignment(
            cpus,
            Pool.RESERVED,
            because=(f"reserved: {where} names no profile, so baseline",),
            maker=maker,
        )
    obj, _, field = where.partition(" ")
    profile = _profile(name, profiles, obj, f"{field}.powerProfile", problems)
    return Assignment(
        cpus,
        Pool.RESERVED,
        profile,
        name if profile else None,
        because=(f"reserved: {where}",),
        maker=maker,
    )


@frozen
class _Wishes:
    """CRI-O's annotations by pod uid, and what is made of them."""

    of: Mapping[str, tuple[tuple[str, str], ...]] = field(hash=False)
    machine: Machine
    settings: AgentSettings

    def profile(self, owner: Owner, problems: list[Problem]) -> ResolvedProfile | None:
        """The profile that an owner's annotations ask for; None where there are none, or they are
        only named.
        """
        wishes = self.of.get(owner.ref.uid)
        if not wishes or owner.refused:
            return None
        pod = f"Pod/{owner.ref.namespace}/{owner.ref.pod}"
        if self.settings.crio_annotations != ACCEPT or owner.profile is not None:
            problems.append(conflict(pod, wishes))
            return None
        found = wished_profile(pod, wishes, self.machine, IdleStates.of(self.settings.idle_states))
        problems += found.problems
        return found if found.valid else None


def _exclusive_assignment(
    owner: Owner,
    profiles: Profiles,
    shared: Assignment | None,
    wishes: _Wishes,
    problems: list[Problem],
) -> Assignment:
    ref = owner.ref
    who = f"exclusive: pod {ref.namespace}/{ref.pod} container {ref.name} owns it"
    if owner.refused:
        return Assignment(
            owner.cpus,
            Pool.EXCLUSIVE,
            container=ref,
            because=(f"{who}, at baseline because its request cannot be honoured",),
        )
    wished = wishes.profile(owner, problems)
    if wished is not None:
        return Assignment(
            owner.cpus,
            Pool.EXCLUSIVE,
            wished,
            None,
            ref,
            because=(f"{who} and has CRI-O's annotations",),
        )
    if owner.profile is None:
        profile, name = (shared.profile, shared.profile_name) if shared else (None, None)
        return Assignment(
            owner.cpus,
            Pool.EXCLUSIVE,
            profile,
            name,
            ref,
            because=(f"{who} and asks for no profile, so the shared target",),
        )
    group, name = owner.profile
    found = profiles.get(name)
    fault = _pod_profile_fault(found, group)
    if found is None or fault:
        message = f"{group}/{name}: {fault}; CPUs {format_cpulist(owner.cpus)} stay at baseline"
        problems.append(
            error(
                Code.POD_PROFILE,
                f"Pod/{ref.namespace}/{ref.pod}",
                f"spec.containers[{ref.name}].resources",
                message,
            )
        )
        return Assignment(
            owner.cpus,
            Pool.EXCLUSIVE,
            container=ref,
            because=(f"{who}, at baseline because profile {name} cannot be used",),
        )
    return Assignment(
        owner.cpus,
        Pool.EXCLUSIVE,
        found,
        name,
        ref,
        because=(f"{who} and asks for {group}/{name}",),
    )


def _pod_profile_fault(found: ResolvedProfile | None, group: str) -> str:
    if found is None or found.profile.group != group:
        return "no such profile is in force on this node"
    if not found.valid:
        return "the profile has errors on this node"
    return "the profile is shared and cannot be asked for" if found.profile.shared else ""


def _reserved_problems(
    reserved: list[Assignment],
    exclusive: list[Assignment],
    allocation: Allocation,
    machine: Machine,
) -> list[Problem]:
    problems = []
    mine = frozenset().union(*(part.cpus for part in reserved)) if reserved else frozenset()
    for part in exclusive:
        both = part.cpus & mine
        if both and part.container is not None:
            pod = f"Pod/{part.container.namespace}/{part.container.pod}"
            problems.append(
                warning(
                    Code.RESERVED_OWNED,
                    pod,
                    "",
                    f"owns reserved CPUs {format_cpulist(both)} and has them",
                )
            )
    if allocation.answered and allocation.allocatable:
        kubelet = machine.online - allocation.allocatable
        if kubelet != mine & machine.online:
            message = (
                f"reservedCPUs are {format_cpulist(mine) or 'none'}, the kubelet reserves"
                f" {format_cpulist(kubelet) or 'none'}"
            )
            problems.append(warning(Code.RESERVED_DIFFERS, "Node", "spec.reservedCPUs", message))
    return problems


def _unsure(allocation: Allocation, ownership: Ownership) -> frozenset[int]:
    """CPUs that the kubelet can hand out and of which it has not said whose they are (rule R7)."""
    return allocation.allocatable or frozenset() if ownership.unknown else frozenset()


def _held(base: Assignment, cpus: frozenset[int]) -> Assignment:
    because = (*base.because, "held: it could be a container's, and the kubelet has not said whose")
    return Assignment(cpus, base.pool, held=True, because=because, maker=base.maker)


def _rest(
    free: frozenset[int], shared: Assignment | None, allocation: Allocation, ownership: Ownership
) -> list[Assignment]:
    """CPUs that nobody owns or reserves; those that somebody may own unseen are held (rule R7)."""
    held: frozenset[int] = free & _unsure(allocation, ownership)
    if ownership.unknown and allocation.allocatable is None:
        held = free
    base = shared or Assignment(frozenset(), Pool.UNMANAGED, because=("no object covers it",))
    parts = [_with_cpus(base, free - held)] if free - held else []
    return [*parts, _held(base, held)] if held else parts
