"""A simulation as one self-contained page.

It begins with the answer: what power management saved under the simulated load, in watts, money and
CO2e a year, with what that rests on; or that no load was given. Then, step by step with the clock,
what happened and the map of every node that changed.
"""

from collections.abc import Iterable, Sequence
from html import escape

from attrs import frozen

from kpm.pages.faces import face_of, marked
from kpm.pages.frame import bullets, chip, details, page, paragraph, problems, strong, table
from kpm.pages.maps import Face, legend, maps
from kpm.simulate.describe import describe_group, describe_report
from kpm.simulate.energy import energy_line
from kpm.simulate.scenario import Scenario
from kpm.simulate.world import NodeStep, StepView
from kpm_applier.described import cpus_of
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.problems import Problem, Severity
from kpm_planner.model.target import words_of

_MOST_NODES, _MOST_GROUPS = 12, 40
_HOURS = 8766.0  # of a mean year


@frozen
class Rates:
    """What a kilowatt-hour costs, and what it weighs. Units: per kWh; grams."""

    price: float = 0.30
    currency: str = "EUR"
    grams: float = 380.0


def page_of(scenario: Scenario, views: Sequence[StepView], rates: Rates = Rates()) -> str:
    """The whole page."""
    first = next((node.machine for view in views for node in view.nodes), None)
    return page(
        scenario.spec.title or "Simulation",
        [
            paragraph(scenario.spec.description),
            _answer(views, rates),
            _timeline(views),
            legend(None if first is None else first.span_khz),
            *(_step(view) for view in views),
        ],
    )


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds since the beginning."""
    whole = int(seconds)
    return f"{whole // 3600:02}:{whole % 3600 // 60:02}:{whole % 60:02}"


# --- the answer ---


@frozen
class _Interval:
    """The energy of all nodes before a step. Units: s, W."""

    step: int
    at: int
    seconds: float
    watts: float
    unmanaged: float


def _intervals(views: Iterable[StepView]) -> list[_Interval]:
    found = []
    for view in views:
        energies = [node.energy for node in view.nodes if node.energy is not None]
        if energies:
            found.append(
                _Interval(
                    view.number,
                    view.at,
                    max(item.seconds for item in energies),
                    watts=sum(item.watts for item in energies),
                    unmanaged=sum(item.unmanaged for item in energies),
                )
            )
    return found


def _answer(views: Sequence[StepView], rates: Rates) -> str:
    failed = sum(len(view.differences) for view in views)
    written = sum(
        len(node.report.writes) for view in views for node in view.nodes if node.report is not None
    )
    held = "Every expectation of the scenario holds."
    if failed:
        held = f"{failed} expectations do not hold."
    found = _intervals(views)
    seconds = sum(item.seconds for item in found)
    if not seconds:
        inside = [
            strong(f"{written} files written in {len(views)} steps."),
            paragraph("The scenario has no load, so nothing is said of watts."),
        ]
    else:
        before, after = (
            sum(getattr(item, name) * item.seconds for item in found) / seconds
            for name in ("unmanaged", "watts")
        )
        inside = [strong(_saved(before, after, rates)), paragraph(_basis(seconds, rates), "small")]
        inside.append(_chart(found))
    inside += [paragraph(held), paragraph(_wrong(views))]
    return f'<section class="answer" aria-label="summary">{"".join(inside)}</section>'


def _wrong(views: Sequence[StepView]) -> str:
    """What is wrong with the objects after the last step, and what to do."""
    last = views[-1:]
    found = {*(item for view in last for item in view.problems)}
    found |= {item for view in last for node in view.nodes for item in node.plan.problems}
    errors = sum(item.severity is Severity.ERROR for item in found)
    counts = f"{errors} errors and {len(found) - errors} warnings"
    if not found:
        return "No problem is left at the end."
    advice = "each is named in the last step" + ("; correct the errors first" if errors else "")
    return f"At the end there are {counts}: {advice}."


def _saved(before: float, after: float, rates: Rates) -> str:
    watts = round(before, 1) - round(after, 1)  # so that the three figures agree
    kwh = watts * _HOURS / 1000
    word = "less" if watts >= 0 else "more"
    share = f", {abs(watts) / before:.0%}" if before > 0 else ""
    return (
        f"{abs(watts):.1f} W {word} than without power management ({before:.1f} W to {after:.1f}"
        f" W{share}): {_short(abs(kwh))} kWh, {_short(abs(kwh) * rates.price)} {rates.currency} and"
        f" {_short(abs(kwh) * rates.grams / 1000)} kg CO2e a year."
    )


def _short(value: float) -> str:
    """To two digits at least."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _basis(seconds: float, rates: Rates) -> str:
    return (
        f"Of the packages of all nodes, over {_clock(seconds)} of the simulated load, by the power"
        f" model of the simulated machines, not of a measured one; a year in which it goes on so,"
        f" at {rates.price:g} {rates.currency} and {rates.grams:g} g CO2e for a kWh. Work that"
        " takes longer at a lower frequency is not modelled. In the steps, true is what the"
        " simulated machine spent on a pod's busy CPUs, which a real one does not tell; idle of"
        " nobody is of CPUs that no pod owns."
    )


def _chart(found: Sequence[_Interval]) -> str:
    """Bars of watts before each step: without power management, and with it."""
    shown = list(found)[:12]
    top = max(max(item.watts, item.unmanaged) for item in shown) or 1.0
    row, left, wide = 40, 96, 400
    bars = []
    for index, item in enumerate(shown):
        y = index * row
        bars.append(
            f'<text x="0" y="{y + 20}" font-size="13">{item.step}. {_clock(item.at)}</text>'
            + _bar_of(item.unmanaged, "without", (left, y + 2), wide / top, "#6b6b6b")
            + _bar_of(item.watts, "with", (left, y + 19), wide / top, "#1565c0")
        )
    label = "Watts of all packages until each moment, without and with power management"
    return (
        f'<div class="chart"><svg viewBox="0 0 {left + wide + 130} {len(shown) * row}" role="img"'
        f' aria-label="{label}" font-family="system-ui, sans-serif">{"".join(bars)}</svg></div>'
        f"{paragraph('Mean watts of all packages until the moment of each step.', 'small')}"
    )


def _bar_of(watts: float, name: str, place: tuple[int, int], scale: float, colour: str) -> str:
    x, y = place
    width = max(watts * scale, 1.0)
    return (
        f'<rect x="{x}" y="{y}" width="{width:.1f}" height="15" fill="{colour}"/>'
        f'<text x="{x + width + 6:.1f}" y="{y + 12}" font-size="12">{watts:.0f} W {name}</text>'
    )


# --- the steps ---


def _timeline(views: Sequence[StepView]) -> str:
    rows = [
        (
            _clock(view.at),
            f"{view.number}. {view.name or 'step'}",
            sum(node.changed for node in view.nodes),
            sum(len(node.report.writes) for node in view.nodes if node.report is not None),
            "no" if view.differences else "yes",
        )
        for view in views
    ]
    head = ("clock", "step", "nodes planned anew", "files written", "as expected")
    return "<h2>Timeline</h2>" + table(head, rows, "timeline")


def _step(view: StepView) -> str:
    touched = [node for node in view.nodes if node.changed]
    title = f"{view.number}. {escape(view.name or 'step')}"
    parts = [f'<section><h2>{title} <span class="small">{_clock(view.at)}</span></h2>']
    parts.append(bullets(view.events, "events"))
    parts += [_node(node) for node in touched[:_MOST_NODES]]
    if len(touched) > _MOST_NODES:
        writes = sum(len(node.report.writes) for node in touched if node.report)
        more = len(touched) - _MOST_NODES
        parts.append(
            paragraph(
                f"and {more} more nodes; {writes} files written on {len(touched)} nodes", "small"
            )
        )
    parts += [] if touched else [paragraph("nothing to do", "small")]
    energies = (
        f"until {_clock(view.at)}, {node.name}: {energy_line(node.energy)}"
        for node in view.nodes[:_MOST_NODES]
        if node.energy is not None
    )
    parts.append(bullets(energies))
    parts.append(_problems(view.problems))
    parts.append(bullets((f"not as expected: {line}" for line in view.differences), "error"))
    return "\n".join([*(part for part in parts if part), "</section>"])


def _problems(found: Iterable[Problem]) -> str:
    listed = list(found)
    return problems(
        (item for item in listed if item.severity is Severity.ERROR),
        (item for item in listed if item.severity is not Severity.ERROR),
    )


def _node(node: NodeStep) -> str:
    named = node.machine.cpu_model
    model = f' <span class="small">{escape(named)}</span>' if named else ""
    dead = "" if node.alive else " (agent dead)"
    faces = _faces(node)
    parts = [f"<h3>{escape(node.name)}{model}{dead}</h3>", maps(node.machine, faces, node.name)]
    for group in node.plan.groups[:_MOST_GROUPS]:
        label = chip(str(group.pool), format_cpulist(group.cpus))
        parts.append(f'<div class="small">{label}{escape(describe_group(group))}</div>')
    if node.report is not None:
        settled = "settled" if node.report.settled else "NOT settled"
        written = f"{len(node.report.writes)} files written, {settled}"
        parts.append(bullets([*describe_report(node.report, node.machine), written]))
    parts.append(_problems(node.plan.problems))
    rows = [(cpu, face.pool, face.words or "-") for cpu, face in sorted(faces.items())]
    every = table(("CPU", "pool", "shows"), rows, f"CPUs of {node.name}")
    parts.append(details("Every CPU", every))
    return "\n".join(part for part in parts if part)


def _faces(node: NodeStep) -> dict[int, Face]:
    """The CPUs as their files show them, those that this step wrote to marked."""
    faces = {}
    for group in node.plan.groups:
        off = frozenset(name for name, on in group.target.idle if not on)
        for cpu in group.cpus:
            shown = node.shown.get(cpu) or {}
            faces[cpu] = face_of(
                str(group.pool),
                shown.get("min_khz"),
                shown.get("max_khz"),
                others=[value for _, value in words_of(shown)],
                off=off,
            )
    return marked(faces, _touched(node))


def _touched(node: NodeStep) -> set[int]:
    """The CPUs of which a step wrote files."""
    writes = () if node.report is None else node.report.writes
    return {cpu for write in writes for cpu in cpus_of(write, node.machine)}
