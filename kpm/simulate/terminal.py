"""A simulation on a terminal: a timeline with, per node, a coloured map of its CPUs and what
changed.
"""

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from kpm.cli.tables import POOL_STYLES
from kpm.simulate.describe import describe_group, describe_report
from kpm.simulate.energy import energy_line
from kpm.simulate.scenario import Scenario
from kpm.simulate.world import NodeStep, StepView
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import Machine
from kpm_planner.model.quantities import format_ghz
from kpm_planner.model.target import frequency_range
from kpm_planner.parts import CpuGroup
from kpm_planner.report.explain import describe_node

_BARS = "▁▂▃▄▅▆▇█"
_MOST_NODES, _MOST_GROUPS, _MOST_LINES = 6, 16, 10
_CELL, _LABEL = 7, 11


def print_head(out: Console, scenario: Scenario) -> None:
    """Title, description and legend."""
    if scenario.spec.title:
        out.print(Text(scenario.spec.title, style="bold"))
    if scenario.spec.description:
        out.print(Text(scenario.spec.description.strip(), style="dim"))
    legend = Text("pools ")
    for pool, style in POOL_STYLES.items():
        legend.append(f" {pool} ", style=style)
        legend.append(" ")
    legend.append(
        "  bars: min and max of each CPU, in the range beside its node;  ● all idle states as they"
        " were, ◐ some set, ○ all off"
    )
    out.print(legend)


def print_step(out: Console, view: StepView) -> None:
    """One step."""
    out.print()
    out.rule(
        Text(f" {view.number}. {view.name or 'step'}  (t = {view.at} s) ", style="bold"),
        align="left",
        characters="─",
    )
    for event in view.events:
        out.print(Text(f"  ▸ {event}"))
    changed = [node for node in view.nodes if node.changed]
    for node in changed[:_MOST_NODES]:
        _print_node(out, node)
    if len(changed) > _MOST_NODES:
        writes = sum(len(node.report.writes) for node in changed if node.report)
        out.print(
            Text(
                f"  … and {len(changed) - _MOST_NODES} more nodes like these; {writes} files"
                f" written on {len(changed)} nodes",
                style="dim",
            )
        )
    if not changed:
        out.print(Text("  nothing to do", style="dim"))
    for node in [node for node in view.nodes if node.energy is not None][:_MOST_NODES]:
        assert node.energy is not None
        out.print(Text.assemble("  ", (node.name, "bold cyan"), f"  {energy_line(node.energy)}"))
    for problem in view.problems:
        out.print(Text(f"  ! {problem}", style="yellow"))
    for line in view.differences:
        out.print(Text(f"  ✗ {line}", style="bold red"))


def _head_of(node: NodeStep) -> Text:
    """Name, model and range of a node."""
    low, high = machine_range(node.machine)
    ends = (_BARS[0], format_ghz(low), _BARS[-1], format_ghz(high))
    told = [
        node.machine.cpu_model or "",
        "{} {} to {} {} GHz".format(*ends) if high > low else "",
        "" if node.alive else "(agent dead)",
    ]
    return Text.assemble("  ", (node.name, "bold cyan"), *(f"  {text}" for text in told if text))


def _print_node(out: Console, node: NodeStep) -> None:
    out.print(_head_of(node))
    for line in _map_lines(node, _cells_of(out.width)):
        out.print(Text("    ") + line)
    for group in node.plan.groups[:_MOST_GROUPS]:
        out.print(
            Text.assemble(
                "    ",
                (f" {format_cpulist(group.cpus)} ", POOL_STYLES[group.pool]),
                f" {describe_group(group)}",
            )
        )
    _print_some(
        out,
        [
            f"uncore {item.entry.name}: {frequency_range(item.min_khz, item.max_khz)}"
            for item in node.plan.uncore
            if item.min_khz is not None
        ],
        "    ",
    )
    _print_some(
        out, [line for line in describe_node(node.plan) if not line.endswith("baseline")], "    "
    )
    if node.report is not None:
        lines = describe_report(node.report, node.machine)
        _print_some(out, lines, "      ")
        out.print(
            Text(
                f"      {len(node.report.writes)} files written,"
                f" {'settled' if node.report.settled else 'NOT settled'}",
                style="dim",
            )
        )
    for problem in node.plan.problems:
        out.print(Text(f"    ! {problem}", style="yellow"))


def _print_some(out: Console, lines: list[str], indent: str) -> None:
    for line in lines[:_MOST_LINES]:
        out.print(Text(f"{indent}{line}", style="dim"))
    if len(lines) > _MOST_LINES:
        out.print(Text(f"{indent}… {len(lines) - _MOST_LINES} more", style="dim"))


def _cells_of(width: int) -> int:
    """How many CPUs a row shows: a multiple of eight, where that many fit."""
    fit = max(width - 6 - _LABEL, 40) // _CELL
    return fit // 8 * 8 or fit


def _map_lines(node: NodeStep, per_line: int) -> Iterable[Text]:
    """The CPUs of each package as cells: number on the colour of its pool, bars of its limits, a
    mark of its idle states. Rows begin with their package, where there are several.
    """
    groups = {cpu: group for group in node.plan.groups for cpu in group.cpus}
    low, high = machine_range(node.machine)
    packages: dict[int | None, list[int]] = {}
    for cpu in node.machine.cpus:
        packages.setdefault(cpu.package, []).append(cpu.id)
    for package, cpus in packages.items():
        for start in range(0, len(cpus), per_line):
            name = f"package {package}" if start == 0 and package is not None else ""
            line = Text.assemble((name.ljust(_LABEL) if len(packages) > 1 else "", "dim"))
            for number in cpus[start : start + per_line]:
                group = groups.get(number)
                line.append(f"{number:>3}", style=POOL_STYLES[group.pool] if group else "dim")
                line.append(_mark(node, group, number, low, high))
            yield line


def _mark(node: NodeStep, group: CpuGroup | None, cpu: int, low: int, high: int) -> str:
    shown = node.shown.get(cpu)
    if shown is None or group is None or high <= low:
        return "    "
    idle = idle_mark(group, len(node.machine.by_id[cpu].idle))
    ends = "".join(bar(shown[name], low, high) for name in ("min_khz", "max_khz"))
    return f"{ends}{idle} "


def bar(khz: int, low: int, high: int) -> str:
    """A block whose height says where a frequency lies in a range."""
    return _BARS[min(max((khz - low) * (len(_BARS) - 1) // (high - low), 0), len(_BARS) - 1)]


def idle_mark(group: CpuGroup, states: int) -> str:
    """Whether a group's idle states are as they were, some set, or all off."""
    off = sum(not on for _, on in group.target.idle)
    return "●" if not off else "○" if off == states else "◐"


def machine_range(machine: Machine) -> tuple[int, int]:
    """Lowest and highest frequency of all cores, kHz; zeros where none is known."""
    lows = [
        domain.hardware_min_khz for domain in machine.domains if domain.hardware_min_khz is not None
    ]
    highs = [
        domain.hardware_max_khz for domain in machine.domains if domain.hardware_max_khz is not None
    ]
    return (min(lows), max(highs)) if lows and highs else (0, 0)
