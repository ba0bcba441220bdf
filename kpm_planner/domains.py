"""One frequency domain, several targets: the highest holds, setting by setting (E7)."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import evolve

from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import FrequencyDomain, Machine
from kpm_planner.model.problems import Code, Problem, warning
from kpm_planner.model.target import (
    BASELINE,
    OF_DOMAINS,
    Resolved,
    Target,
    of_one_cpu,
    ranges_of,
    words_of,
)
from kpm_planner.model.why import Why
from kpm_planner.parts import Part

_NOTHING_ALONE = of_one_cpu(BASELINE)


def combine(domain: FrequencyDomain, targets: Sequence[Target]) -> Target:
    """The frequency part that holds for a whole domain; idle is left empty.

    Highest minimum, highest maximum, governor and EPP by their order. A CPU that asks for nothing
    takes part with what the domain's files hold, and where that is the highest the result is
    baseline (None). Of two equal values the one that is asked for wins.
    """
    settings = domain.settings
    return Target(
        **{
            item.name: _highest(
                [(getattr(target, item.name), getattr(settings, item.shown)) for target in targets],
                item.rank,
            )
            for item in OF_DOMAINS
        }
    )


def frequency_part(target: Target) -> Target:
    """A target without what a CPU has alone."""
    alone = of_one_cpu(target)
    return target if alone == _NOTHING_ALONE else evolve(target, **_NOTHING_ALONE)


def values_in_force(domain: FrequencyDomain, target: Target) -> dict[str, Any]:
    """What a target means on its domain, setting by setting, baseline filled in."""
    settings = domain.settings
    asked = ((item, getattr(target, item.name)) for item in OF_DOMAINS)
    return {
        item.name: getattr(settings, item.shown) if value is None else value
        for item, value in asked
    }


def _highest(members: Sequence[tuple[Any, Any]], rank: Callable[[Any], int]) -> Any:
    """The highest of (wanted, baseline) pairs; None where only a baseline reaches it."""
    best: tuple[int, bool, Any] = (-2, False, None)  # below the rank of any setting
    for wanted, baseline in members:
        value = baseline if wanted is None else wanted
        if value is not None and (rank(value), wanted is not None) > best[:2]:
            best = (rank(value), wanted is not None, wanted)
    return best[2]


def settle_domains(parts: list[Part], machine: Machine) -> tuple[list[Part], list[Problem]]:
    """Give CPUs that share a frequency domain one frequency target, with a warning for each domain
    in which they would get different ones.

    A domain with a CPU that is held, because it is not known whose it is, is left alone and nobody
    is warned.
    """
    if not machine.shared_domains:
        return parts, []
    part_of = {cpu: index for index, part in enumerate(parts) for cpu in part.cpus}
    moved: dict[tuple[int, Resolved], set[int]] = {}
    problems = []
    for domain, cpus in machine.shared_domains:
        members = Counter(part_of[cpu] for cpu in cpus)
        wanted = [parts[index].resolved.target for index in members]
        if not domain.managed or len({frequency_part(target) for target in wanted}) < 2:
            continue
        if any(parts[index].assignment.held for index in members):
            continue
        combined = combine(domain, wanted)
        if len({tuple(values_in_force(domain, target).values()) for target in wanted}) > 1:
            problems.append(_domain_problem(domain, cpus, combined))
        reason = Why(
            f"frequency domain {domain.id} (CPUs {format_cpulist(cpus)}), the highest of its CPUs'"
            f" targets holds: {_named_values(combined)}"
        )
        for cpu in cpus:
            before = parts[part_of[cpu]].resolved
            target = evolve(combined, **of_one_cpu(before.target))
            after = (
                Resolved(target, (*before.because, reason)) if target != before.target else before
            )
            moved.setdefault((part_of[cpu], after), set()).add(cpu)
    return _moved(parts, moved), problems


def _moved(parts: list[Part], moved: Mapping[tuple[int, Resolved], set[int]]) -> list[Part]:
    gone: dict[int, set[int]] = {}
    for (index, _), cpus in moved.items():
        gone.setdefault(index, set()).update(cpus)
    kept = [
        evolve(part, cpus=part.cpus - gone.get(index, set())) for index, part in enumerate(parts)
    ]
    changed = [
        Part(parts[index].assignment, resolved, frozenset(cpus))
        for (index, resolved), cpus in moved.items()
    ]
    return [part for part in (*kept, *changed) if part.cpus]


def _domain_problem(domain: FrequencyDomain, cpus: frozenset[int], combined: Target) -> Problem:
    values = values_in_force(domain, combined)
    words = [*ranges_of(values), *(f"{item.label} {text}" for item, text in words_of(values))]
    message = (
        f"CPUs {format_cpulist(cpus)} share frequency domain {domain.id} but not a target; the"
        f" highest holds: {', '.join(words)}"
    )
    return warning(Code.DOMAIN_CONFLICT, "Node", f"cpufreq/policy{domain.id}", message)


def _named_values(target: Target) -> str:
    """The values of a target that its domain has as a whole, each by its name."""
    values = ((item, getattr(target, item.name)) for item in OF_DOMAINS)
    words = [f"{item.label} {item.said(value)}" for item, value in values if value is not None]
    return ", ".join(words) or "baseline"
