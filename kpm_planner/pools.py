"""Which pool every CPU is in, and so which profile it gets: shared and reserved definitions,
owners, and what is left.
"""

from collections.abc import Sequence

from attrs import evolve

from kpm_planner.exclusive import Wishes, exclusive_assignment
from kpm_planner.model.agent_settings import AgentSettings
from kpm_planner.model.allocation import Allocation
from kpm_planner.model.assignment import Assignment, Pool, Pools, Profiles
from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import PowerNodeConfig, PowerWorkload
from kpm_planner.model.problems import Code, Problem, error, warning
from kpm_planner.model.why import Why
from kpm_planner.ownership import Ownership
from kpm_planner.reserved import (
    profile_of_definition,
    reserved_assignments,
    reserved_problems,
    reserved_twice,
)
from kpm_planner.selection import (
    Definition,
    decided_without_age,
    reference,
    selector_problems,
)


def assign_pools(
    definitions: Sequence[Definition],
    profiles: Profiles,
    allocation: Allocation,
    ownership: Ownership,
    machine: Machine,
    settings: AgentSettings = AgentSettings(),
) -> Pools:
    """Put every present CPU in exactly one pool (rule R2).

    definitions: by precedence. profiles: those of this node, by name.
    """
    problems: list[Problem] = []
    shared = _shared_assignment(definitions, profiles, problems)
    reserved = reserved_assignments(definitions, profiles, machine, problems)
    wishes = {pod.meta.uid: pod.wishes for pod in allocation.pods if pod.wishes}
    wished = Wishes(wishes, machine, settings)
    exclusive = [
        exclusive_assignment(owner, profiles, shared, wished, problems)
        for owner in ownership.owners
    ]
    problems += reserved_problems(
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
                offline,
                Pool.OFFLINE,
                held=True,
                because=(Why("offline: left alone until it is back"),),
            )
        )
    return Pools(tuple(assignments), tuple(problems))


def unmanaged(machine: Machine, because: str) -> Pools:
    """All CPUs of a node on which nothing is managed."""
    offline = frozenset(machine.by_id) - machine.online
    parts = [Assignment(machine.online, Pool.UNMANAGED, because=(Why(because),))]
    parts += (
        [Assignment(offline, Pool.OFFLINE, held=True, because=(Why("offline"),))] if offline else []
    )
    return Pools(tuple(part for part in parts if part.cpus), ())


def _with_cpus(part: Assignment, cpus: frozenset[int]) -> Assignment:
    return part if part.cpus == cpus else evolve(part, cpus=cpus)


def definition_faults(item: Definition) -> tuple[Problem, ...]:
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
                    f"expected CPU ids from 0, got {min(entry.cores)}",
                )
            )
    return (*problems, *reserved_twice(item.reserved_cpus, obj))


def _defines_shared(item: Definition) -> bool:
    return (
        item.all_cores if isinstance(item, PowerWorkload) else item.shared_power_profile is not None
    )


def _superseded(winner: Definition, loser: Definition) -> list[Problem]:
    """What is told of two definitions of the shared pool: to the loser, and to both where they are
    of the kind that somebody makes for one node.
    """
    mark = decided_without_age(winner.meta, loser.meta)
    message = f"{reference(winner)} defines the shared pool of this node already{mark}"
    told = [warning(Code.SHARED_SUPERSEDED, reference(loser), "", message)]
    if isinstance(winner, PowerNodeConfig) and isinstance(loser, PowerNodeConfig):
        holds = f"{reference(loser)} wants the shared pool of this node too; this one holds{mark}"
        told.append(warning(Code.SHARED_SUPERSEDED, reference(winner), "", holds))
    return told


def _shared_assignment(
    definitions: Sequence[Definition], profiles: Profiles, problems: list[Problem]
) -> Assignment | None:
    claims = [item for item in definitions if _defines_shared(item)]
    if not claims:
        return None
    winner = claims[0]
    for loser in claims[1:]:
        problems += _superseded(winner, loser)
    name = (
        winner.power_profile if isinstance(winner, PowerWorkload) else winner.shared_power_profile
    )
    field = "spec.powerProfile" if isinstance(winner, PowerWorkload) else "spec.sharedPowerProfile"
    profile = profile_of_definition(name, profiles, reference(winner), field, problems)
    if profile is not None and not profile.profile.shared:
        message = f"profile {name} is not marked shared"
        problems.append(warning(Code.PROFILE_NOT_SHARED, reference(winner), field, message))
    lacks = "" if profile else ", at baseline for want of its profile"
    because = Why(f"shared: {reference(winner)}{lacks}", object=reference(winner), field=field)
    return Assignment(
        frozenset(),
        Pool.SHARED,
        profile,
        name if profile else None,
        because=(because,),
        maker=reference(winner),
    )


def _unsure(allocation: Allocation, ownership: Ownership) -> frozenset[int]:
    """CPUs that the kubelet can hand out and of which it has not said whose they are (rule R7)."""
    return allocation.allocatable or frozenset() if ownership.unknown else frozenset()


def _held(base: Assignment, cpus: frozenset[int]) -> Assignment:
    unsure = Why("held: it could be a container's, and the kubelet has not said whose")
    because = (*base.because, unsure)
    return Assignment(cpus, base.pool, held=True, because=because, maker=base.maker)


def _rest(
    free: frozenset[int], shared: Assignment | None, allocation: Allocation, ownership: Ownership
) -> list[Assignment]:
    """CPUs that nobody owns or reserves; those that somebody may own unseen are held (rule R7)."""
    held: frozenset[int] = free & _unsure(allocation, ownership)
    if ownership.unknown and allocation.allocatable is None:
        held = free
    base = shared or Assignment(frozenset(), Pool.UNMANAGED, because=(Why("no object covers it"),))
    parts = [_with_cpus(base, free - held)] if free - held else []
    return [*parts, _held(base, held)] if held else parts
