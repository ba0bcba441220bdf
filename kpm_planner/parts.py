"""CPUs with one pool, one profile and one target: cut by kind of core, and grouped for a plan."""

from itertools import chain

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
            common = cpus & item.cpus
            if common:
                parts.append(Part(item, resolved, common))
    return parts


def grouped(parts: list[Part]) -> tuple[CpuGroup, ...]:
    """The parts as groups, those that differ in nothing but their CPUs as one."""
    found: dict[tuple[object, ...], list[Part]] = {}
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
        found.setdefault(key, []).append(part)
    return tuple(sorted(map(_group, found.values()), key=lambda group: group.cpus))


def _group(alike: list[Part]) -> CpuGroup:
    """Parts that differ in nothing but their CPUs."""
    item, resolved = alike[0].assignment, alike[0].resolved
    return CpuGroup(
        cpus=tuple(sorted(chain.from_iterable(part.cpus for part in alike))),
        pool=item.pool,
        profile=item.profile_name,
        container=item.container,
        target=resolved.target,
        because=item.because + resolved.because,
        held=item.held,
        maker=item.maker,
    )
