"""A simulation as one self-contained page: a timeline with an SVG map of every node's CPUs, for
screen, phone and paper.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from kpm.simulate.describe import describe_report
from kpm.simulate.energy import energy_line
from kpm.simulate.scenario import Scenario
from kpm.simulate.terminal import machine_range
from kpm.simulate.world import NodeStep, StepView
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import Cpu, Machine
from kpm_planner.model.target import ranges_of, words_of
from kpm_planner.parts import CpuGroup
from kpm_planner.report.explain import describe_target

_COLOURS = {
    "exclusive": "#2e7d32",
    "reserved": "#f9a825",
    "shared": "#1565c0",
    "unmanaged": "#9e9e9e",
    "offline": "#e0e0e0",
}
_TEXTS = {"reserved": "#000", "offline": "#757575"}
_PER_ROW, _CELL, _GAP = 8, 42, 4
_MOST_NODES, _MOST_GROUPS = 12, 40

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 62rem; }
body { color: #1b1b1b; background: #fff; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; border-top: 1px solid #ccc; padding-top: .8rem; }
h3 { font-size: 1rem; margin: .8rem 0 .2rem; }
ul { margin: .2rem 0; padding-left: 1.2rem; }
.events { list-style: "▸ "; }
.small, .changes { font-size: .85rem; color: #444; overflow-wrap: anywhere; }
.maps { display: flex; flex-wrap: wrap; gap: .8rem; margin: .4rem 0; }
.maps figure { margin: 0; flex: 0 1 23rem; min-width: 16rem; }
.maps svg { width: 100%; height: auto; display: block; }
figcaption { font-size: .8rem; color: #555; }
.chip { display: inline-block; padding: 0 .5em; border-radius: .3em; margin: 0 .3em .2em 0; }
.chip { font-size: .85rem; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.problem { color: #8a5a00; } .difference { color: #b00020; font-weight: bold; }
svg * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
@media print { body { max-width: none; font-size: 11pt; padding: 0; } }
@media print { section { break-inside: avoid; } }
"""


def page_of(scenario: Scenario, views: Sequence[StepView]) -> str:
    """The whole page."""
    title = escape(scenario.spec.title or "Simulation")
    body = [
        f"<h1>{title}</h1>",
        f"<p>{escape(scenario.spec.description)}</p>" if scenario.spec.description else "",
        _legend(),
    ]
    body += [_step(view) for view in views]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title><meta'
        ' name="viewport" content="width=device-width,'
        f' initial-scale=1"><style>{_STYLE}</style></head>\n<body>\n'
        + "\n".join(part for part in body if part)
        + "\n</body></html>\n"
    )


def _chip(pool: str, text: str) -> str:
    style = f"background:{_COLOURS[pool]};color:{_TEXTS.get(pool, '#fff')}"
    return f'<span class="chip" style="{style}">{escape(text)}</span>'


def _legend() -> str:
    chips = "".join(_chip(pool, pool) for pool in _COLOURS)
    text = (
        "The bar in a cell runs from the CPU's minimum to its maximum, in the machine's range. Dots"
        " are idle states, shallow first: hollow is off."
    )
    return (
        f'<p>{chips}<br><span class="small">{text} Cells that touch are hyperthreads of one'
        " core.</span></p>"
    )


def _step(view: StepView) -> str:
    changed = [node for node in view.nodes if node.changed]
    title = f"{view.number}. {escape(view.name or 'step')}"
    parts = [f"<section><h2>{title} <span class=small>t = {view.at} s</span></h2>"]
    parts.append(_list(view.events, "events"))
    parts += [_node(node) for node in changed[:_MOST_NODES]]
    if len(changed) > _MOST_NODES:
        writes = sum(len(node.report.writes) for node in changed if node.report)
        parts.append(
            f'<p class="small">… and {len(changed) - _MOST_NODES} more nodes; {writes} files'
            f" written on {len(changed)} nodes</p>"
        )
    if not changed:
        parts.append('<p class="small">nothing to do</p>')
    parts.append(
        _list(
            (
                f"{node.name}: {energy_line(node.energy)}"
                for node in view.nodes[:_MOST_NODES]
                if node.energy is not None
            ),
            "changes",
        )
    )
    parts.append(_list((str(problem) for problem in view.problems), "problem"))
    parts.append(_list(view.differences, "difference"))
    return "\n".join([*(part for part in parts if part), "</section>"])


def _list(lines: Iterable[str], kind: str) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="{kind}">{items}</ul>' if items else ""


def _node(node: NodeStep) -> str:
    groups = {cpu: group for group in node.plan.groups for cpu in group.cpus}
    model = (
        f" <span class=small>{escape(node.machine.cpu_model)}</span>"
        if node.machine.cpu_model
        else ""
    )
    parts = [
        f"<h3>{escape(node.name)}{model}{'' if node.alive else ' (agent dead)'}</h3>",
        '<div class="maps">',
    ]
    for label, cores in _dies(node.machine):
        parts.append(
            f"<figure>{_svg(node, groups, cores)}<figcaption>{escape(label)}</figcaption></figure>"
        )
    parts.append("</div>")
    for group in node.plan.groups[:_MOST_GROUPS]:
        owner = f"{group.container.namespace}/{group.container.pod}: " if group.container else ""
        chip = _chip(str(group.pool), format_cpulist(group.cpus))
        said = escape(owner + describe_target(group))
        parts.append(f'<div class="small">{chip}{said}</div>')
    if node.report is not None:
        written = (
            f"{len(node.report.writes)} files written,"
            f" {'settled' if node.report.settled else 'NOT settled'}"
        )
        parts.append(_list([*describe_report(node.report, node.machine), written], "changes"))
    parts.append(_list((str(problem) for problem in node.plan.problems), "problem"))
    return "\n".join(part for part in parts if part)


def _dies(machine: Machine) -> list[tuple[str, list[tuple[int, ...]]]]:
    """Cores (their CPUs) by package and die."""
    found: dict[tuple[int | None, int | None], dict[tuple[int, ...], None]] = {}
    for cpu in machine.cpus:
        found.setdefault((cpu.package, cpu.die), {})[_core(cpu)] = None
    return [(_label(package, die), list(cores)) for (package, die), cores in found.items()]


def _core(cpu: Cpu) -> tuple[int, ...]:
    return cpu.siblings or (cpu.id,)


def _label(package: int | None, die: int | None) -> str:
    if package is None:
        return "place unknown"
    return f"package {package}" + (f", die {die}" if die is not None else "")


def _svg(node: NodeStep, groups: dict[int, CpuGroup], cores: list[tuple[int, ...]]) -> str:
    tall = max(len(core) for core in cores)
    row_height = tall * _CELL + _GAP * 2
    rows = -(-len(cores) // _PER_ROW)
    width, height = _PER_ROW * (_CELL + _GAP), rows * row_height
    cells = []
    for index, core in enumerate(cores):
        for thread, cpu in enumerate(core):
            x, y = (
                index % _PER_ROW * (_CELL + _GAP),
                index // _PER_ROW * row_height + thread * _CELL,
            )
            cells.append(_cell(node, groups.get(cpu), cpu, x, y))
    label = f"CPUs {format_cpulist(cpu for core in cores for cpu in core)} of {node.name}"
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label, quote=True)}"'
        f' font-family="system-ui, sans-serif">{"".join(cells)}</svg>'
    )


def _cell(node: NodeStep, group: CpuGroup | None, cpu: int, x: int, y: int) -> str:
    pool = str(group.pool) if group else "offline"
    text = _TEXTS.get(pool, "#fff")
    shown = node.shown.get(cpu)
    hint = f"CPU {cpu}: {describe_target(group)}" if group else f"CPU {cpu}"
    if shown:
        words = [value for _, value in words_of(shown)]
        hint += f"; shows {' '.join([*ranges_of(shown), *words])}"
    return (
        f'<g><title>{escape(hint)}</title><rect x="{x}" y="{y}" width="{_CELL}"'
        f' height="{_CELL - 1}" rx="3" fill="{_COLOURS[pool]}"/>'
        f'<text x="{x + 5}" y="{y + 18}" font-size="15" font-weight="600"'
        f' fill="{text}">{cpu}</text>'
        f"{_bar(node, shown, x, y, text)}{_dots(node, group, cpu, x=x, y=y, colour=text)}</g>"
    )


def _bar(node: NodeStep, shown: Mapping[str, Any] | None, x: int, y: int, colour: str) -> str:
    low, high = machine_range(node.machine)
    if shown is None or high <= low:
        return ""
    tall = _CELL - 9
    ends = shown["max_khz"], shown["min_khz"]
    top, bottom = (round((high - khz) / (high - low) * tall) for khz in ends)
    left, start = x + _CELL - 9, y + 4
    return (
        f'<rect x="{left}" y="{start}" width="5" height="{tall}" fill="{colour}"'
        f' opacity=".25"/><rect x="{left}" y="{start + top}" width="5"'
        f' height="{max(bottom - top, 2)}" fill="{colour}"/>'
    )


def _dots(node: NodeStep, group: CpuGroup | None, cpu: int, x: int, y: int, colour: str) -> str:
    states = node.machine.by_id[cpu].idle
    off = {name for name, on in group.target.idle if not on} if group else set()
    dots = []
    for index, state in enumerate(states[:5]):
        fill = "none" if state.name in off else colour
        dots.append(
            f'<circle cx="{x + 7 + index * 6}" cy="{y + _CELL - 10}" r="2" fill="{fill}"'
            f' stroke="{colour}" stroke-width="1"/>'
        )
    return "".join(dots)
