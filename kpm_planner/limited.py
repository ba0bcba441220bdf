"""What somebody else has set and keeps CPUs from what is asked of them: it is told, never changed.

intel_pstate/max_perf_pct and min_perf_pct hold for all CPUs, in per cent of each one's highest
frequency (kernel documentation, intel_pstate); pm_qos_resume_latency_us bounds all idle states of a
CPU, and CRI-O and TuneD write it.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import FrequencyDomain, IdleState, Machine, by_state
from kpm_planner.model.problems import Code, Problem, warning
from kpm_planner.model.target import Target

_DRIVERS = frozenset({"intel_pstate", "intel_cpufreq"})
#: Frequencies come in steps of the bus, so a floor that is off by less is the hardware's own.
_STEP_KHZ = 100_000
_NO_LIMIT = "0"
_NO_LATENCY = "n/a"


class Planned(Protocol):
    """CPUs with one target, as a plan groups them."""

    @property
    def cpus(self) -> tuple[int, ...]:
        """Their ids."""
        ...

    @property
    def profile(self) -> str | None:
        """The profile that they have."""
        ...

    @property
    def target(self) -> Target:
        """What is asked of them."""
        ...

    @property
    def held(self) -> bool:
        """Whether nothing is written to them."""
        ...


def limit_problems(groups: Sequence[Planned], machine: Machine) -> Iterable[Problem]:
    """One warning for each end of the range as a whole, and one for each latency limit, that CPUs
    of these groups meet.
    """
    yield from _frequencies(groups, machine)
    yield from _latencies(groups, machine)


def _frequencies(groups: Sequence[Planned], machine: Machine) -> Iterable[Problem]:
    if machine.max_percent in (None, 100) and machine.min_percent in (None, 0):
        return
    below: set[int] = set()
    above: set[int] = set()
    for group in groups:
        for cpu in group.cpus if group.profile is not None and not group.held else ():
            domain = _domain(machine, cpu)
            if domain is None or domain.driver not in _DRIVERS or not domain.limit_named:
                continue
            top, low, high = domain.limit_max_khz or 0, group.target.min_khz, group.target.max_khz
            ceiling = top * (100 if machine.max_percent is None else machine.max_percent) // 100
            if (
                high is not None
                and min(high, domain.hardware_max_khz or high) > ceiling + _STEP_KHZ
            ):
                below.add(cpu)
            floor = min(top * (machine.min_percent or 0) // 100, domain.hardware_max_khz or top)
            if low is not None and floor > max(low, domain.hardware_min_khz or 0) + _STEP_KHZ:
                above.add(cpu)
    what = "whatever a profile asks; somebody else has set it, such as TuneD or TLP"
    if below:
        message = (
            f"max_perf_pct is {machine.max_percent}: CPUs {format_cpulist(below)} run at most at"
            f" {machine.max_percent} % of their highest frequency, {what}"
        )
        yield warning(Code.FREQUENCY_LIMITED, "Node", "intel_pstate/max_perf_pct", message)
    if above:
        message = (
            f"min_perf_pct is {machine.min_percent}: CPUs {format_cpulist(above)} run at least at"
            f" {machine.min_percent} % of their highest frequency, {what}"
        )
        yield warning(Code.FREQUENCY_LIMITED, "Node", "intel_pstate/min_perf_pct", message)


def _domain(machine: Machine, cpu: int) -> FrequencyDomain | None:
    number = machine.by_id[cpu].domain
    return None if number is None else machine.domain_by_id.get(number)


def _latencies(groups: Sequence[Planned], machine: Machine) -> Iterable[Problem]:
    if all(cpu.resume_latency in (None, _NO_LIMIT) for cpu in machine.cpus):
        return
    limited: dict[str, set[int]] = {}
    for group in groups:
        if group.profile is None or group.held or group.target.latency_us is not None:
            continue
        for cpu in group.cpus:
            found = machine.by_id[cpu]
            most = _most(found.resume_latency)
            if most is not None and any(
                state.latency_us > most and on for state, on in _wanted_on(group.target, found.idle)
            ):
                limited.setdefault(str(found.resume_latency), set()).add(cpu)
    for text, cpus in sorted(limited.items()):
        how = (
            "no idle state that takes time to leave"
            if text == _NO_LATENCY
            else f"no idle state of more than {text} µs"
        )
        message = (
            f"is {text} on CPUs {format_cpulist(cpus)}: {how} is entered there, whatever a profile"
            " asks; somebody else has set it, such as CRI-O or TuneD"
        )
        yield warning(Code.IDLE_LIMITED, "Node", "power/pm_qos_resume_latency_us", message)


def _wanted_on(target: Target, states: Sequence[IdleState]) -> Iterable[tuple[IdleState, bool]]:
    """Each state with whether it is to be on."""
    return [
        (state, state.enabled if asked is None else asked)
        for state, asked in zip(states, by_state(target.idle, states), strict=True)
    ]


def _most(text: str | None) -> int | None:
    """The longest latency that a limit allows, µs; None where there is no limit."""
    if text == _NO_LATENCY:
        return 0
    return int(text) if text is not None and text != _NO_LIMIT and text.isdigit() else None
