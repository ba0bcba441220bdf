"""Reading plans: by CPU, by code, and what a target means once baseline is filled in."""

from collections.abc import Iterable

from attrs import frozen

from kpm_planner.model.assignment import Pool
from kpm_planner.model.machine import FrequencyDomain, Machine
from kpm_planner.model.problems import Code, Problem
from kpm_planner.model.target import BASELINE, Target
from kpm_planner.parts import CpuGroup
from kpm_planner.plan import NodePlan


@frozen
class Effective:
    """The frequency part of a target as it ends up in the files. Units: kHz."""

    min_khz: int | None
    max_khz: int | None
    governor: str | None
    epp: str | None


def group_of(plan: NodePlan) -> dict[int, CpuGroup]:
    """CPU → the group it is in; a CPU that stands in two groups is a fault of the plan."""
    found: dict[int, CpuGroup] = {}
    for group in plan.groups:
        for cpu in group.cpus:
            assert cpu not in found, f"CPU {cpu} is in two groups"
            found[cpu] = group
    return found


def domain_of(machine: Machine, cpu: int) -> FrequencyDomain | None:
    """The frequency domain of a CPU."""
    return next((domain for domain in machine.domains if cpu in domain.cpus), None)


def mates(machine: Machine, cpus: Iterable[int]) -> frozenset[int]:
    """CPUs with all that share a frequency domain with one of them."""
    found = set(cpus)
    for domain in machine.domains:
        if found.intersection(domain.cpus):
            found.update(domain.cpus)
    return frozenset(found)


def effective(target: Target, domain: FrequencyDomain) -> Effective:
    """A target with baseline filled in."""
    settings = domain.settings
    return Effective(
        settings.min_khz if target.min_khz is None else target.min_khz,
        settings.max_khz if target.max_khz is None else target.max_khz,
        settings.governor if target.governor is None else target.governor,
        settings.epp if target.epp is None else target.epp,
    )


def baseline_cpus(plan: NodePlan) -> frozenset[int]:
    """CPUs of which nothing is asked."""
    return frozenset(cpu for group in plan.groups if group.target == BASELINE for cpu in group.cpus)


def held_cpus(plan: NodePlan) -> frozenset[int]:
    """Online CPUs that are not to be written until more is known."""
    return frozenset(
        cpu
        for group in plan.groups
        if group.held and group.pool is not Pool.OFFLINE
        for cpu in group.cpus
    )


def limits_of(plan: NodePlan) -> dict[str, dict[str, int]]:
    """Zone → name of each limit that is asked for → µW."""
    return {
        target.zone.name: {
            limit.name: uw
            for limit, uw in zip(target.zone.limits, target.limits, strict=True)
            if uw is not None
        }
        for target in plan.caps
    }


def codes(problems: Iterable[Problem]) -> set[Code]:
    """The codes of problems."""
    return {problem.code for problem in problems}


def with_code(problems: Iterable[Problem], code: Code) -> list[Problem]:
    """The problems of one code."""
    return [problem for problem in problems if problem.code is code]
