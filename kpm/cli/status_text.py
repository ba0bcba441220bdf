"""Statuses for people, in 80 columns: of a cluster by what is equal, of a node, of a machine.

Problems and drift stand below what they are about. What is said in colour is said in words too.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import compress
from typing import TYPE_CHECKING

from kpm.process.errors import one_line
from kpm.process.words import counted, some_of
from kpm_planner.model.quantities import format_ghz
from kpm_planner.model.target import TOLD
from kpm_planner.report.types import CpuValues, Values

if TYPE_CHECKING:
    from kpm.cluster.node import NodeStatus
    from kpm.cluster.status import ClusterStatus, NodeGroup, ProblemGroup

_MOST_NAMES, _MOST_PROBLEMS = 8, 12
_WIDTH = 78
_READY = {"True": "Ready", "False": "not Ready"}
_AGES = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def cluster_lines(found: "ClusterStatus") -> list[str]:
    """A cluster, a line for each thing."""
    operator = (
        one_line(found.operator) if found.operator else "none works (its lease is not renewed)"
    )
    count = sum(len(group.nodes) for group in found.groups)
    config = "none, so nothing is managed"
    if found.config is not None:
        config = f"{one_line(found.config)}, {counted(count, 'node')}"
    said = [f"operator     {operator}", f"PowerConfig  {config}"]
    said += [f"  error: {one_line(text)}" for text in found.errors]
    for group in found.groups:
        said += _group_lines(group)
    if found.problems:
        said.append("problems")
    for problem in found.problems[:_MOST_PROBLEMS]:
        said += _problem_lines(problem)
    left = len(found.problems) - _MOST_PROBLEMS
    return _within([*said, *([f"  and {left} more"] if left > 0 else [])])


def _group_lines(group: "NodeGroup") -> Iterator[str]:
    word = _READY.get(group.ready, "unknown")
    more = f": {one_line(group.message)}" if group.message and group.ready != "True" else ""
    yield f"{len(group.nodes):>5}  {word} ({one_line(group.reason)}){more}"
    if group.sizes:
        yield f"       CPUs: {', '.join(_size(pool, *size) for pool, size in group.sizes.items())}"
    if group.drift:
        yield f"       drift: {one_line(group.drift)}"
    if group.ready != "True" or group.drift:
        yield f"       {some_of(group.nodes, _MOST_NAMES)}"


def _size(pool: str, least: int, most: int, whole: int) -> str:
    """How many CPUs of a pool each node has, and all have."""
    return f"{pool} {least}" if least == most else f"{pool} {least} to {most} ({whole} in all)"


def _problem_lines(problem: "ProblemGroup") -> Iterator[str]:
    place = f"{problem.object} {problem.field}".strip()
    text = one_line(f"{place}: {problem.message}")
    yield f"  {problem.severity}: {text} [{one_line(problem.code)}]"
    yield f"       {some_of(problem.nodes, _MOST_NAMES)}"


def node_lines(found: "NodeStatus", now: datetime) -> list[str]:
    """A node: conditions, pools, values, problems."""
    said = [_headline(found)]
    drifted = found.condition("Drifted")
    if drifted is not None and drifted.status == "True":
        said.append(f"drift: {one_line(drifted.message)}")
    pools = [
        (
            row.cpus,
            row.pool,
            row.profile or "baseline",
            row.holder or "-",
            "-" if row.since is None else age((now - row.since).total_seconds()),
        )
        for row in found.pools
    ]
    said += ["", *table(("CPUS", "POOL", "PROFILE", "HOLDER", "SINCE"), pools)]
    shown = "BEFORE" if found.recorded else "IS"
    said += ["", *table(("CPUS", "ASKED", shown), [value_row(row) for row in found.status.values])]
    problems = found.status.problems
    said += ["", "problems"] if problems else []
    for item in problems:
        place = f"{item.object} {item.field}".strip()
        text = one_line(f"{place}: {item.message}")
        said.append(f"  {item.severity}: {text} [{one_line(item.code)}]")
    if found.status.omitted:
        said.append(f"  {found.status.omitted} entries are left out for lack of room")
    return _within([*said, *(f"note: {one_line(text)}" for text in found.notes)])


def _headline(found: "NodeStatus") -> str:
    ready = found.condition("Ready")
    if ready is None:
        return one_line(found.name)
    word = _READY.get(ready.status, "unknown")
    more = f": {one_line(ready.message)}" if ready.message else ""
    since = f" since {ready.last_transition_time}" if ready.last_transition_time else ""
    return f"{one_line(found.name)}  {word} ({one_line(ready.reason)}){since}{more}"


def value_row(row: CpuValues) -> tuple[str, str, str]:
    """CPUs, what was asked, what is."""
    asked, shows = words_of_values(row.requested) or "baseline", words_of_values(row.effective)
    return row.cpus, asked, "as asked" if _honoured(row) else shows or "not known"


def _honoured(row: CpuValues) -> bool:
    """Whether everything that is asked for is shown so."""
    asked, shows = row.requested, row.effective
    told = [(getattr(asked, item.name), getattr(shows, item.name)) for item in TOLD]
    plain = all(want is None or want == has for want, has in told)
    states = set(asked.idle_on) <= set(shows.idle_on) and set(asked.idle_off) <= set(shows.idle_off)
    something = any(want is not None for want, _ in told) or asked.idle_on or asked.idle_off
    return bool(something) and plain and states


def words_of_values(values: Values) -> str:
    """Settings as people say them: 0.8-3.7 GHz, powersave, EPP power, off: C6."""
    found = {item.name: getattr(values, item.name) for item in TOLD}
    low, high = found.pop("min_khz", None), found.pop("max_khz", None)
    parts = []
    if low is not None or high is not None:
        ends = ["baseline" if end is None else format_ghz(end) for end in (low, high)]
        parts.append(f"{ends[0]}-{ends[1]} GHz" if ends[0] != ends[1] else f"{ends[0]} GHz")
    for item in TOLD:
        value = found.get(item.name)
        if value is not None and value != "":
            # the words of governors are known, those of EPP could be anybody's
            label = "" if item.name == "governor" else f"{item.column or item.label} "
            parts.append(f"{label}{value}")
    off = values.idle_off
    return one_line(", ".join([*parts, *([f"off: {' '.join(off)}"] if off else [])]))


def age(seconds: float) -> str:
    """A time as kubectl tells it: 45s, 12m, 3h, 8d."""
    whole = max(0, int(seconds))
    size, unit = next(((size, unit) for size, unit in _AGES if whole >= 2 * size), _AGES[-1])
    return f"{whole // size}{unit}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns as wide as what stands in them, those in which nothing stands left out; what is wider
    than the line is folded at blanks, commas and slashes.
    """
    texts = [[one_line(text) for text in row] for row in rows]
    used = [any(row[index] != "-" for row in texts) for index in range(len(head))]
    head = list(compress(head, used))
    texts = [list(compress(row, used)) for row in texts]
    if not texts:
        return []
    widths = [max(map(len, column)) for column in zip(head, *texts, strict=True)]
    spare = _WIDTH - 2 * (len(head) - 1)
    for index in sorted(range(len(head)), key=lambda item: -widths[item]):
        over = sum(widths) - spare
        widths[index] = max(widths[index] - max(over, 0), len(head[index]), 16 if over > 0 else 0)
    lines = [_line(head, widths)]
    for row in texts:
        parts = [_folded(text, width) for text, width in zip(row, widths, strict=True)]
        height = max(map(len, parts))
        for number in range(height):
            lines.append(_line([p[number] if number < len(p) else "" for p in parts], widths))
    return lines


def _within(lines: Iterable[str]) -> list[str]:
    """Lines of at most 80 letters; what is folded goes on a little further in."""
    found = []
    for line in lines:
        inner = " " * (len(line) - len(line.lstrip()) + 4)
        first, *rest = _folded(line, 80)
        found.append(first)
        for part in _folded(" ".join(rest), 80 - len(inner)) if rest else ():
            found.append(f"{inner}{part}")
    return found


def _line(texts: Sequence[str], widths: Sequence[int]) -> str:
    pairs = zip(texts, widths, strict=True)
    return "  ".join(text.ljust(width) for text, width in pairs).rstrip()


def _folded(text: str, width: int) -> list[str]:
    """Lines of at most so many letters, ended after blanks, commas or slashes where there are."""
    lines = []
    while len(text) > width:
        cut = max(text.rfind(mark, 0, width) for mark in " ,/") + 1
        lines.append(text[: cut or width].rstrip())
        text = text[cut or width :]
    return [*lines, text]
