"""A page about a change: what people attach to a request for it.

It begins with the answer: how many CPUs change on which nodes, which pods become faster or slower,
how many files are written, what is wrong. Then, for each kind of node, the map before and after,
with every line of what changes, and each CPU on demand. A plan has no load, so no watts are told.
"""

from collections.abc import Iterable, Mapping, Sequence

from attrs import frozen

from kpm.pages.frame import bullets, details, page, paragraph, problems, strong, table
from kpm.pages.maps import Face, legend, maps
from kpm.process.words import counted, some_of
from kpm_planner.model.machine import Machine


@frozen
class NodeBlock:
    """Nodes that change alike. rows: lines of what changes; notes: what else differs."""

    nodes: tuple[str, ...]
    machine: Machine
    before: Mapping[int, Face]
    after: Mapping[int, Face]
    rows: tuple[str, ...]
    writes: int
    notes: tuple[str, ...] = ()


@frozen
class ChangePage:
    """What a page tells. source: what was compared; pods: a line each, faster and slower apart;
    shared_slower: how many CPUs that pods share become slower.
    """

    title: str
    source: str
    summary: str
    blocks: tuple[NodeBlock, ...] = ()
    faster: tuple[str, ...] = ()
    slower: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    shared_slower: int = 0


_MOST_NODES, _MOST_LINES = 24, 200


def change_page(told: ChangePage) -> str:
    """The page."""
    return page(
        told.title,
        [
            paragraph(told.source, "small"),
            _answer(told),
            _problems(told),
            _pods(told),
            _section("What is not known", bullets(told.unknown)),
            *(
                _block(block, number, first=number == 1)
                for number, block in enumerate(told.blocks, 1)
            ),
        ],
    )


def _answer(told: ChangePage) -> str:
    counts = f"{counted(len(told.errors), 'error')}, {counted(len(told.warnings), 'warning')}"
    new = f"New: {counts}." if told.errors or told.warnings else "No new problem."
    return (
        f'<section class="answer" aria-label="summary">{strong(told.summary)}'
        f"{paragraph(new)}{paragraph(f'What to do: {_advice(told)}')}</section>"
    )


def _advice(told: ChangePage) -> str:
    if told.errors:
        return "correct the errors below before anything is applied, and compare again."
    if not told.blocks:
        return "nothing; the objects change nothing here."
    if told.slower:
        return "ask the owners of the pods that become slower; then apply the objects."
    if told.shared_slower:
        return "pods that share CPUs become slower; see that they may, then apply the objects."
    return "apply the objects; nobody becomes slower."


def _problems(told: ChangePage) -> str:
    new = problems(told.errors, told.warnings)
    return _section("New problems", new) + _section("Problems that go", bullets(told.gone))


def _pods(told: ChangePage) -> str:
    parts = (
        (f"<h3>{title}</h3>{bullets(lines[:_MOST_LINES])}{_more(lines, _MOST_LINES)}")
        for title, lines in (
            ("▲ faster", told.faster),
            ("▼ slower", told.slower),
            ("● otherwise", told.others),
        )
        if lines
    )
    return _section("Pods", "".join(parts))


def _section(title: str, inside: str) -> str:
    return f"<section><h2>{title}</h2>{inside}</section>" if inside else ""


def _block(block: NodeBlock, number: int, *, first: bool) -> str:
    """One kind of node."""
    count = sum(face.changed for face in block.after.values())
    each = " each" if len(block.nodes) > 1 else ""
    words = (
        f"{counted(count, 'CPU')} of {len(block.after)} change, {counted(block.writes, 'file')}"
        f" to be written{each}"
    )
    model = block.machine.cpu_model or "A machine that does not tell its model"
    count_nodes = len(block.nodes)
    title = f"{count_nodes} nodes alike" if count_nodes > 1 else "One node"
    return _section(
        f"{number}. {title}",
        "".join(
            [
                paragraph(some_of(block.nodes, _MOST_NODES)),
                paragraph(f"{model}: {words}.", "small"),
                bullets([*block.rows[:_MOST_LINES], *block.notes], "signs"),
                _more(block.rows, _MOST_LINES),
                legend(block.machine.span_khz) if first else "",
                "<h3>Before</h3>",
                maps(block.machine, block.before, f"before, {block.nodes[0]}"),
                "<h3>After</h3>",
                maps(block.machine, block.after, f"after, {block.nodes[0]}"),
                details("Every CPU", _cpus(block, f"CPUs of {block.nodes[0]}")),
            ]
        ),
    )


def _cpus(block: NodeBlock, label: str) -> str:
    nothing = Face("offline")
    rows = [
        (
            cpu,
            face.pool,
            block.before.get(cpu, nothing).words or "not known",
            (face.words or "not known") if face.changed else "the same",
        )
        for cpu, face in sorted(block.after.items())
    ]
    return table(("CPU", "pool", "before", "after"), rows, label)


def _more(lines: Sequence[str], most: int) -> str:
    return paragraph(f"and {len(lines) - most} more", "small") if len(lines) > most else ""


def split(pods: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Lines of pods by the direction beside them: faster, slower, other."""
    found: dict[str, list[str]] = {"faster": [], "slower": [], "other": []}
    for direction, line in pods:
        found[direction].append(line)
    return {name: tuple(lines) for name, lines in found.items()}
