"""What changed in a step, in few words: writes folded by file and value over CPUs."""

import re
from collections.abc import Iterable

from kpm_applier.session import Report
from kpm_planner.model.changes import Outcome, Write
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import Machine
from kpm_planner.model.quantities import format_ghz
from kpm_planner.parts import CpuGroup
from kpm_planner.report.explain import describe_target

_CPU = re.compile(r"(?:policy|cpu)([0-9]+)/")
_IDLE = re.compile(r"/cpu([0-9]+)/cpuidle/state([0-9]+)/disable")
#: Files that hold a frequency, kHz.
_FREQUENCIES = ("scaling_min_freq", "scaling_max_freq", "min_freq_khz", "max_freq_khz")
_SWITCH = {"0": "on", "1": "off"}
_SHORT = {
    "scaling_min_freq": "min",
    "scaling_max_freq": "max",
    "scaling_governor": "governor",
    "energy_performance_preference": "epp",
    "min_freq_khz": "uncore min",
    "max_freq_khz": "uncore max",
    "df_pstate": "fabric P-state",
    "power1_cap": "power cap µW",
    "power_limit_mw": "power cap mW",
}


def describe_group(group: CpuGroup) -> str:
    """One line of a group: whose it is, pool, profile and values."""
    who = group.container
    owner = f"{who.namespace}/{who.pod}: " if who else ""
    return f"{owner}{describe_target(group)}"


def describe_report(report: Report, machine: Machine) -> list[str]:
    """Lines that say what a pass wrote, what was found changed, and
    what did not become as asked.
    """
    lines = [
        f"{name} {old} → {new} on {where}" if old != new else f"{name} {new} again on {where}"
        for (name, old, new), where in _folded(report.writes, machine)
    ]
    drift = [
        f"found {name} {old}, wanted {new}, on {where}"
        for (name, old, new), where in _folded(report.drift, machine)
    ]
    return [*drift, *lines, *_odd_lines(report.outcomes, machine)]


def _folded(writes: Iterable[Write], machine: Machine) -> list[tuple[tuple[str, str, str], str]]:
    found: dict[tuple[str, str, str], list[str]] = {}
    for write in writes:
        name, old, new = file_name(write.path, machine), write.old or "?", write.value
        if write.path.endswith(_FREQUENCIES) and old.isdigit() and new.isdigit():
            old, new = format_ghz(int(old)), f"{format_ghz(int(new))} GHz"
        if write.path.endswith("/disable"):
            old, new = _SWITCH.get(old, old), _SWITCH.get(new, new)
        found.setdefault((name, old, new), []).append(write.path)
    return [(key, _place(paths)) for key, paths in found.items()]


def _odd_lines(outcomes: Iterable[Outcome], machine: Machine) -> list[str]:
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for outcome in outcomes:
        found.setdefault(
            (
                file_name(outcome.path, machine),
                outcome.status,
                outcome.wanted,
                outcome.shows or "nothing",
            ),
            [],
        ).append(outcome.path)
    return [
        f"{name} {wanted} is {status} at {shows} on {_place(paths)}"
        for (name, status, wanted, shows), paths in found.items()
    ]


def file_name(path: str, machine: Machine) -> str:
    """A short name of a managed file; that of an idle state's switch is the state's."""
    found = _IDLE.search(path)
    if found is None:
        return _SHORT.get(path.rpartition("/")[2], path.rpartition("/")[2])
    states = {state.index: state.name for state in machine.by_id[int(found[1])].idle}
    return states.get(int(found[2]), f"state{found[2]}")


def _place(paths: Iterable[str]) -> str:
    paths = list(paths)
    cpus = [int(found[1]) for path in paths if (found := _CPU.search(path))]
    if len(cpus) == len(paths):
        return f"CPU {format_cpulist(cpus)}" if len(cpus) == 1 else f"CPUs {format_cpulist(cpus)}"
    return ", ".join(path.split("/")[-2] for path in paths[:4])
