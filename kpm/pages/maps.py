"""Maps of a machine's CPUs as SVG: a row of cores after the other, package by package.

A cell says its CPU's number and, by a bar, its range of frequency in the machine's; dots are idle
states, shallow first, hollow ones off. Where some CPUs change they have a thick frame and a corner,
and the others are pale.
"""

from collections.abc import Iterable, Mapping
from html import escape

from attrs import frozen

from kpm.pages.frame import COLOURS, TEXTS, chip
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import Cpu, Machine
from kpm_planner.model.quantities import format_ghz

_PER_ROW, _CELL, _GAP = 8, 42, 4


@frozen
class Face:
    """What a cell shows of a CPU. Units: kHz. words: of its values; off: idle states."""

    pool: str = "unmanaged"
    low_khz: int | None = None
    high_khz: int | None = None
    off: frozenset[str] = frozenset()
    words: str = ""
    changed: bool = False


def legend(machine_range: tuple[int, int] | None = None) -> str:
    """What the signs of a map mean."""
    chips = "".join(chip(pool, pool) for pool in COLOURS)
    ends = ""
    if machine_range is not None and machine_range[1]:
        ends = f" ({format_ghz(machine_range[0])} to {format_ghz(machine_range[1])} GHz)"
    text = (
        f"The bar in a cell runs from the CPU's minimum to its maximum, in the machine's range"
        f"{ends}. Dots are idle states, shallow first: hollow is off. A thick frame with a corner:"
        " the CPU changes; the others are pale. Cells that touch are hyperthreads of one core."
    )
    return f'<p>{chips}<br><span class="small">{escape(text)}</span></p>'


def maps(machine: Machine, faces: Mapping[int, Face], title: str) -> str:
    """A map for each package and die, labelled. title: what they are of, for those who hear."""
    figures = (
        f"<figure><figcaption>{escape(label)}</figcaption>"
        f"{_svg(machine, faces, cores, f'{title}, {label}')}</figure>"
        for label, cores in _dies(machine)
    )
    return f'<div class="maps">{"".join(figures)}</div>'


def _dies(machine: Machine) -> list[tuple[str, list[tuple[int, ...]]]]:
    """Cores (their CPUs) by package and die."""
    found: dict[tuple[int | None, int | None], dict[tuple[int, ...], None]] = {}
    for cpu in machine.cpus:
        found.setdefault((cpu.package, cpu.die), {})[_core(cpu)] = None
    several = len({die for _, die in found}) > 1
    return [
        (_label(package, die if several else None), list(cores))
        for (package, die), cores in found.items()
    ]


def _core(cpu: Cpu) -> tuple[int, ...]:
    return cpu.siblings or (cpu.id,)


def _label(package: int | None, die: int | None) -> str:
    if package is None:
        return "place unknown"
    return f"package {package}" + (f", die {die}" if die is not None else "")


def _svg(
    machine: Machine, faces: Mapping[int, Face], cores: list[tuple[int, ...]], title: str
) -> str:
    tall = max(len(core) for core in cores)
    row_height = tall * _CELL + _GAP * 2
    rows = -(-len(cores) // _PER_ROW)
    width, height = _PER_ROW * (_CELL + _GAP), rows * row_height
    some = any(face.changed for face in faces.values())
    cells = []
    for index, core in enumerate(cores):
        for thread, cpu in enumerate(core):
            place = (
                index % _PER_ROW * (_CELL + _GAP),
                index // _PER_ROW * row_height + thread * _CELL,
            )
            cells.append(_cell(machine, cpu, faces.get(cpu), place, some=some))
    label = f"{title}: CPUs {format_cpulist(_all(cores))}"
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label, quote=True)}"'
        f' font-family="system-ui, sans-serif">{"".join(cells)}</svg>'
    )


def _all(cores: Iterable[Iterable[int]]) -> set[int]:
    return {cpu for core in cores for cpu in core}


def _cell(
    machine: Machine, cpu: int, face: Face | None, place: tuple[int, int], *, some: bool
) -> str:
    """One CPU. some: whether any CPU changes, so that those that do not are pale."""
    shown = face or Face("offline")
    x, y = place
    text = TEXTS.get(shown.pool, "#fff")
    hint = f"CPU {cpu}: {shown.pool}{f', {shown.words}' if shown.words else ''}"
    pale = some and not shown.changed
    fill = f'fill="{COLOURS[shown.pool]}"' + (' fill-opacity=".35"' if pale else "")
    colour = "#1b1b1b" if pale else text
    mark = (
        f'<rect x="{x + 1.5}" y="{y + 1.5}" width="{_CELL - 3}" height="{_CELL - 4}" rx="2"'
        ' fill="none" stroke="#000" stroke-width="3"/>'
        f'<path d="M{x + _CELL - 14} {y + 1}h13v13z" fill="#000"/>'
        if shown.changed
        else ""
    )
    return (
        f'<g><title>{escape(hint)}</title><rect x="{x}" y="{y}" width="{_CELL}"'
        f' height="{_CELL - 1}" rx="3" {fill}/>'
        f'<text x="{x + 5}" y="{y + 18}" font-size="15" font-weight="600"'
        f' fill="{colour}">{cpu}</text>'
        f"{_bar(machine, shown, place, colour)}{_dots(machine, cpu, shown, place, colour)}"
        f"{mark}</g>"
    )


def _bar(machine: Machine, face: Face, place: tuple[int, int], colour: str) -> str:
    low, high = machine.span_khz
    if face.low_khz is None or face.high_khz is None or high <= low:
        return ""
    tall = _CELL - 13
    ends = (min(max(khz, low), high) for khz in (face.high_khz, face.low_khz))
    top, bottom = (round((high - khz) / (high - low) * tall) for khz in ends)
    left, start = place[0] + _CELL - 10, place[1] + 8
    return (
        f'<rect x="{left}" y="{start}" width="5" height="{tall}" fill="{colour}"'
        f' opacity=".25"/><rect x="{left}" y="{start + top}" width="5"'
        f' height="{max(bottom - top, 2)}" fill="{colour}"/>'
    )


def _dots(machine: Machine, cpu: int, face: Face, place: tuple[int, int], colour: str) -> str:
    found = machine.by_id.get(cpu)
    dots = []
    for index, state in enumerate((found.idle if found is not None else ())[:4]):
        fill = "none" if state.name in face.off else colour
        dots.append(
            f'<circle cx="{place[0] + 7 + index * 6}" cy="{place[1] + _CELL - 9}" r="2"'
            f' fill="{fill}" stroke="{colour}" stroke-width="1"/>'
        )
    return "".join(dots)
