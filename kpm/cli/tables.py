"""Tables and colours of the terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kpm.process.errors import one_line
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.target import RANGES, SETTINGS, Setting, ends_text
from kpm_planner.parts import CpuGroup
from kpm_planner.plan import NodePlan

POOL_STYLES = {
    "exclusive": "bold white on dark_green",
    "reserved": "bold black on gold3",
    "shared": "white on dodger_blue3",
    "unmanaged": "white on grey30",
    "offline": "grey50 on grey11",
}


class _Terminal(Console):
    """A reader that goes away ends a verb as it ends all of them, and is no failure."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console(*, record: bool = False, width: int | None = None) -> Console:
    """The terminal; wide where output is not one, so that nothing is folded in a pipe."""
    out = _Terminal(record=record, width=width, markup=False, highlight=False)
    if not out.is_terminal and width is None:
        out = _Terminal(record=record, width=200, markup=False, highlight=False)
    return out


def cell(text: object, style: str = "") -> Text:
    """A text as it is, neither markup nor anything that a terminal would act on."""
    return Text(one_line(text), style=style)


def plain_table(*columns: str) -> Table:
    """A table without vertical lines."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _has(group: CpuGroup, item: Setting) -> bool:
    return getattr(group.target, item.name) not in (None, "")


def plan_table(plan: NodePlan) -> Table:
    """The groups of a node's plan, one row each; a column in which nothing stands is left out."""
    rows = [_plan_row(group) for group in plan.groups]
    names = [name for row in rows[:1] for name in row]
    shown = [name for name in names if name in _ALWAYS or any(row[name] != "-" for row in rows)]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in shown:
        table.add_column(name, overflow="fold", no_wrap=name in _NUMBERS)
    for group, row in zip(plan.groups, rows, strict=True):
        pool = Text(f" {row['pool']} ", style=POOL_STYLES[group.pool])
        table.add_row(*(pool if name == "pool" else cell(row[name]) for name in shown))
    return table


#: Columns that a plan always has, and those whose numbers are never folded.
_ALWAYS, _NUMBERS = ("CPUs", "pool", "GHz"), ("GHz",)


def _plan_row(group: CpuGroup) -> dict[str, str]:
    """Column → text; "-" for nothing."""
    owner, target = group.container, group.target
    states = " ".join(f"{name}:{'on' if on else 'off'}" for name, on in target.idle) or (
        "" if target.latency_us is None else f"<= {target.latency_us} µs"
    )
    row = {
        "CPUs": format_cpulist(group.cpus),
        "pool": f"{group.pool}{' (held)' if group.held else ''}",
        "profile": group.profile or "-",
        "container": f"{owner.namespace}/{owner.pod}:{owner.name}" if owner else "-",
    }
    for low, high in RANGES:
        ends = (_ghz(getattr(target, low)), _ghz(getattr(target, high)))
        row["GHz"] = ends_text(*ends) or "baseline"
    for item in SETTINGS:
        if item.column:
            row[item.column] = str(getattr(target, item.name)) if _has(group, item) else "-"
    return {**row, "C-states": states or "-"}


def _ghz(khz: int | None) -> str | None:
    """KHz as people say it, to 10 MHz."""
    return None if khz is None else f"{khz / 1_000_000:.2f}".rstrip("0").rstrip(".")
