"""Reserved CPUs: which definitions name them, and the profile that each of them gets."""

from collections.abc import Sequence

from kpm_planner.model.allocation import Allocation
from kpm_planner.model.assignment import Assignment, Pool, Profiles
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import ReservedCpus
from kpm_planner.model.problems import Code, Problem, error, warning
from kpm_planner.model.target import ResolvedProfile
from kpm_planner.model.why import Why
from kpm_planner.selection import Definition, reference

#: Who reserves a CPU: Kind/name, and where in it.
_Place = tuple[str, str]


def reserved_twice(entries: tuple[ReservedCpus, ...], obj: str) -> list[Problem]:
    """CPUs that one definition reserves under more than one profile."""
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


def reserved_assignments(
    definitions: Sequence[Definition], profiles: Profiles, machine: Machine, problems: list[Problem]
) -> list[Assignment]:
    """The reserved CPUs of all definitions, each under the one profile that names it."""
    by_cpu: dict[int, dict[str | None, _Place]] = {}
    for item in definitions:
        for index, entry in enumerate(item.reserved_cpus):
            _note_unknown(entry, f"spec.reservedCPUs[{index}].cores", item, machine, problems)
            for cpu in entry.cores:
                by_cpu.setdefault(cpu, {}).setdefault(
                    entry.power_profile, (reference(item), f"spec.reservedCPUs[{index}]")
                )
    groups: dict[tuple[tuple[str | None, _Place], ...], set[int]] = {}
    for cpu, wants in by_cpu.items():
        named = tuple(sorted((name, where) for name, where in wants.items() if name is not None))
        groups.setdefault(named or tuple(wants.items()), set()).add(cpu)
    return [
        _reserved_assignment(wants, frozenset(cpus), profiles, problems)
        for wants, cpus in sorted(groups.items(), key=lambda item: min(item[1]))
    ]


def _note_unknown(
    entry: ReservedCpus, field: str, item: Definition, machine: Machine, problems: list[Problem]
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
    wants: tuple[tuple[str | None, _Place], ...],
    cpus: frozenset[int],
    profiles: Profiles,
    problems: list[Problem],
) -> Assignment:
    name, (maker, field) = wants[0]
    because = Why(f"reserved: {maker} {field}", object=maker, field=field)
    if len(wants) > 1:
        names = " and ".join(f"{name} ({obj} {field})" for name, (obj, field) in wants)
        for _, (obj, field) in wants:
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
            because=(because + ", at baseline because two profiles are named",),
            maker=maker,
        )
    if name is None:
        return Assignment(
            cpus,
            Pool.RESERVED,
            because=(because + " names no profile, so baseline",),
            maker=maker,
        )
    profile = profile_of_definition(name, profiles, maker, f"{field}.powerProfile", problems)
    return Assignment(
        cpus,
        Pool.RESERVED,
        profile,
        name if profile else None,
        because=(because,),
        maker=maker,
    )


def reserved_problems(
    reserved: list[Assignment],
    exclusive: list[Assignment],
    allocation: Allocation,
    machine: Machine,
) -> list[Problem]:
    """Reserved CPUs that somebody owns, or that the kubelet hands out."""
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


def profile_of_definition(
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
