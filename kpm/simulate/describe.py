"""What changed in a step, in few words: writes folded by file and value over CPUs."""

import re
from collections.abc import Iterable

from kpm_applier.session import Report
from kpm_planner.changes import Outcome, Write
from kpm_planner.cpuset import format_cpulist

_CPU = re.compile(r"(?:policy|cpu)([0-9]+)/")
_SHORT = {
    "scaling_min_freq": "min",
    "scaling_max_freq": "max",
    "scaling_governor": "governor",
    "energy_performance_preference": "epp",
    "min_freq_khz": "uncore min",
    "max_freq_khz": "uncore max",
}


def describe_report(report: Report) -> list[str]:
    """Lines that say what a pass wrote, what was found changed, and what did not become as asked."""
    lines = [f"{name} {old} → {new} on {where}" for (name, old, new), where in _folded(report.writes)]
    drift = [f"found {name} {old}, wanted {new}, on {where}" for (name, old, new), where in _folded(report.drift)]
    return [*drift, *lines, *_odd_lines(report.outcomes)]


def _folded(writes: Iterable[Write]) -> list[tuple[tuple[str, str, str], str]]:
    found: dict[tuple[str, str, str], list[str]] = {}
    for write in writes:
        found.setdefault((file_name(write.path), write.old or "?", write.value), []).append(write.path)
    return [(key, _place(paths)) for key, paths in found.items()]


def _odd_lines(outcomes: Iterable[Outcome]) -> list[str]:
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for outcome in outcomes:
        found.setdefault((file_name(outcome.path), outcome.status, outcome.wanted, outcome.shows or "nothing"), []).append(outcome.path)
    return [f"{name} {wanted} is {status} at {shows} on {_place(paths)}" for (name, status, wanted, shows), paths in found.items()]


def file_name(path: str) -> str:
    """A short name of a managed file."""
    folder, _, name = path.rpartition("/")
    return f"{folder.rpartition('/')[2]} off" if name == "disable" else _SHORT.get(name, name)


def _place(paths: Iterable[str]) -> str:
    paths = list(paths)
    cpus = [int(found[1]) for path in paths if (found := _CPU.search(path))]
    if len(cpus) == len(paths):
        return f"CPU {format_cpulist(cpus)}" if len(cpus) == 1 else f"CPUs {format_cpulist(cpus)}"
    return ", ".join(path.split("/")[-2] for path in paths[:4])
