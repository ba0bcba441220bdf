"""Tables and colours of the terminal."""

import sys

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kpm.process.errors import one_line
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.target import RANGES, SETTINGS, Setting, range_text
from kpm_planner.parts import CpuGroup
from kpm_planner.plan import NodePlan

POOL_STYLES = {
    "exclusive": "bold white on dark_green",
    "reserved": "bold black on gold3",
    "shared": "white on dodger_blue3",
    "unmanaged": "white on grey30",
    "offline": "grey50 on grey11",
}


def console(*, record: bool = False, width: int | None = None) -> Console:
    """The terminal; wide where output is not one, so that nothing is folded in a pipe."""
    out = Console(record=record, width=width, markup=False, highlight=False)
    if not out.is_terminal and width is None:
        out = Console(record=record, width=200, markup=False, highlight=False)
    return out


def is_plain() -> bool:
    """Whether the terminal knows ASCII only."""
    return not (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")


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
    """The groups of a node's plan, one row each."""
    columns = [
        item
        for item in SETTINGS
        if item.column and (item.always or any(_has(group, item) for group in plan.groups))
    ]
    table = plain_table(
        "CPUs",
        "pool",
        "profile",
        "container",
        *(unit for *_, unit in RANGES),
        *(item.column for item in columns),
        "C-states",
    )
    for group in plan.groups:
        owner, target = group.container, group.target
        states = " ".join(f"{name}:{'on' if on else 'off'}" for name, on in target.idle) or (
            "" if target.latency_us is None else f"<= {target.latency_us} µs"
        )
        pool = Text(
            f" {group.pool}{' (held)' if group.held else ''} ", style=POOL_STYLES[group.pool]
        )
        who = f"{owner.namespace}/{owner.pod}:{owner.name}" if owner else "-"
        texts = (
            group.profile or "-",
            who,
            *(
                range_text(getattr(target, low), getattr(target, high)) or "baseline"
                for low, high, _ in RANGES
            ),
            *(str(getattr(target, item.name)) if _has(group, item) else "-" for item in columns),
            states or "-",
        )
        table.add_row(format_cpulist(group.cpus), pool, *map(cell, texts))
    return table
