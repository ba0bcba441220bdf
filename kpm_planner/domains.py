"""One frequency domain, several targets: the highest holds (E7)."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from attrs import evolve

from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import FrequencyDomain, Machine
from kpm_planner.model.problems import Code, Problem, warning
from kpm_planner.model.target import Resolved, Target
from kpm_planner.parts import Part

_GOVERNORS = {"powersave": 0, "conservative": 1, "ondemand": 2, "schedutil": 3, "performance": 5}
#: A governor of some vendor: above those that save, below performance.
_OTHER_GOVERNOR = 4
_EPPS = {"power": 0, "balance_power": 1, "balance_performance": 2, "performance": 4}
_OTHER_EPP = 3
_EPP_REGISTER = (
    ("performance", 0),
    ("balance_performance", 128),
    ("balance_power", 192),
    ("power", 10**9),
)

_Value = TypeVar("_Value", int, str)


def combine(domain: FrequencyDomain, targets: Sequence[Target]) -> Target:
    """The frequency part that holds for a whole domain; idle is left empty.

    Highest minimum, highest maximum, governor and EPP by their order; a member at baseline takes
    part with the domain's settings, and where it wins the result is baseline.
    """
    settings = domain.settings
    governors = [target.governor for target in targets]
    return Target(
        min_khz=_highest([(target.min_khz, settings.min_khz) for target in targets], _by_number),
        max_khz=_highest([(target.max_khz, settings.max_khz) for target in targets], _by_number),
        governor=(
            "userspace"
            if set(governors) == {"userspace"}
            else _highest([(name, settings.governor) for name in governors], _by_governor)
        ),
        epp=_highest([(target.epp, settings.epp) for target in targets], _by_epp),
    )


def frequency_part(target: Target) -> Target:
    """A target without its idle states."""
    return (
        evolve(target, idle=(), latency_us=None)
        if target.idle or target.latency_us is not None
        else target
    )


def in_force(
    domain: FrequencyDomain, target: Target
) -> tuple[int | None, int | None, str | None, str | None]:
    """What a target means on its domain, baseline filled in."""
    settings = domain.settings
    return (
        settings.min_khz if target.min_khz is None else target.min_khz,
        settings.max_khz if target.max_khz is None else target.max_khz,
        settings.governor if target.governor is None else target.governor,
        settings.epp if target.epp is None else target.epp,
    )


def _by_number(value: int) -> int:
    return value


def _by_governor(value: str) -> int:
    return -1 if value == "userspace" else _GOVERNORS.get(value, _OTHER_GOVERNOR)


def _by_epp(value: str) -> int:
    # the raw register, where 0 is performance and 255 power: as high as the next word above it
    if value.isdigit():
        return next(_EPPS[word] for word, raw in _EPP_REGISTER if int(value) <= raw)
    return _EPPS.get(value, _OTHER_EPP)


def _highest(
    members: Sequence[tuple[_Value | None, _Value | None]], rank: Callable[[_Value], int]
) -> _Value | None:
    """The highest of (wanted, baseline) pairs; None where only a baseline reaches it."""
    best: tuple[int, bool, _Value | None] = (-2, False, None)
    for wanted, baseline in members:
        value = baseline if wanted is None else wanted
        if value is not None and (rank(value), wanted is not None) > best[:2]:
            best = (rank(value), wanted is not None, wanted)
    return best[2]


def settle_domains(parts: list[Part], machine: Machine) -> tuple[list[Part], list[Problem]]:
    """Give CPUs that share a frequency domain one frequency target; one warning a domain where they
    differ.
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
        if len({in_force(domain, target) for target in wanted}) > 1:
            problems.append(_domain_problem(domain, cpus, combined))
        reason = (
            f"frequency domain {domain.id} (CPUs {format_cpulist(cpus)}), the highest of its CPUs'"
            f" targets holds: {_named_values(combined)}"
        )
        for cpu in cpus:
            before = parts[part_of[cpu]].resolved
            target = evolve(combined, idle=before.target.idle, latency_us=before.target.latency_us)
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
    low, high, governor, epp = in_force(domain, combined)
    values = f"{low}..{high} kHz, governor {governor}" + (f", epp {epp}" if epp else "")
    message = (
        f"CPUs {format_cpulist(cpus)} share frequency domain {domain.id} but not a target; the"
        f" highest holds: {values}"
    )
    return warning(Code.DOMAIN_CONFLICT, "Node", f"cpufreq/policy{domain.id}", message)


def _named_values(target: Target) -> str:
    """The values of a frequency target, each by its name."""
    limits = [
        f"{name} {khz} kHz"
        for name, khz in (("min", target.min_khz), ("max", target.max_khz))
        if khz is not None
    ]
    words = [
        f"{name} {word}"
        for name, word in (("governor", target.governor), ("epp", target.epp))
        if word is not None
    ]
    return ", ".join([*limits, *words]) or "baseline"
