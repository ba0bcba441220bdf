"""CPUs with one pool, one profile and one target: cut by kind of core, and grouped for a plan."""

from attrs import frozen

from kpm_planner.model.allocation import ContainerRef
from kpm_planner.model.assignment import Assignment, Pool, Pools
from kpm_planner.model.machine import Machine
from kpm_planner.model.target import BASELINE, Resolved, Target
from kpm_planner.model.why import Why

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
    because: tuple[Why, ...]
    held: bool = False
    maker: str = ""


@frozen
class Part:
    """An assignment cut down to CPUs with one target."""

    assignment: Assignment
    resolved: Resolved
    cpus: frozenset[int]


def cut(pools: Pools, machine: Machine) -> list[Part]:
    """Cut the assignments by kind of core, so that each part has one target."""
    parts = []
    for item in pools.assignments:
        if item.profile is None or item.held or item.pool is Pool.OFFLINE:
            parts.append(Part(item, _BASELINE, item.cpus))
            continue
        for (_, cpus), resolved in zip(machine.kinds, item.profile.by_kind, strict=True):
            if cpus & item.cpus:
                parts.append(Part(item, resolved, cpus & item.cpus))
    return parts


def grouped(parts: list[Part]) -> tuple[CpuGroup, ...]:
    """The parts as groups, those that differ in nothing but their CPUs as one."""
    found: dict[tuple[object, ...], tuple[Part, set[int]]] = {}
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
