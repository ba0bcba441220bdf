"""kubectl power plan: what objects would change on the nodes of a running cluster.

Nodes that change alike are one block, pods that become faster or slower a list of their own.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click
from attrs import frozen

from kpm.cli.changes import FASTER, SLOWER, Row, effects, rows, shared_moves
from kpm.cli.options import (
    files_option,
    html_option,
    output_option,
    print_lines,
)
from kpm.cli.where import Where, connected, where_options
from kpm.formats.views import problem_view
from kpm.formats.wire import KINDS
from kpm.process.errors import InputError, one_line
from kpm.process.words import counted, some_of
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.problems import Problem, has_errors

if TYPE_CHECKING:
    from kpm.cluster.planning import ClusterChange, NodeChange

VERSION = 1
SAME, DIFFERS, UNJUDGED = 0, 1, 2
_MOST_NAMES, _MOST_PODS, _MOST_ROWS = 6, 20, 24


@frozen
class Alike:
    """Nodes that change alike."""

    nodes: tuple[str, ...]
    rows: tuple[Row, ...]
    writes: int
    offers: tuple[tuple[str, int, int], ...]
    sample: "NodeChange"


@frozen
class PodRow:
    """A container whose CPUs change, as a line says it."""

    node: str
    place: str
    cpus: tuple[int, ...]
    row: Row


@frozen
class Summary:
    """What is told. problems: came → the nodes that have it; went likewise. unknown: nodes that
    could not be planned for, with the reason.
    """

    nodes: int
    alike: tuple[Alike, ...]
    pods: tuple[PodRow, ...]
    came: tuple[tuple[Problem, tuple[str, ...]], ...]
    went: tuple[tuple[Problem, tuple[str, ...]], ...]
    unknown: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def shared(self) -> tuple[int, int]:
        """CPUs that pods share, on all nodes: how many become faster, how many slower."""
        moves = [
            (len(block.nodes), shared_moves(block.rows, block.sample.after)) for block in self.alike
        ]
        return (
            sum(nodes * faster for nodes, (faster, _) in moves),
            sum(nodes * slower for nodes, (_, slower) in moves),
        )

    @property
    def status(self) -> int:
        """The exit status of diff."""
        if has_errors(tuple(problem for problem, _ in self.came)):
            return UNJUDGED
        return DIFFERS if self.alike or self.came or self.went else SAME


@click.command()
@files_option
@click.option(
    "--without",
    multiple=True,
    metavar="KIND/NAME",
    help="Plan as if this object were deleted; may be given many times.",
)
@click.option("--node", metavar="NAME", help="For this node alone.")
@html_option
@output_option("table", "json")
@where_options
def plan(
    filenames: tuple[str, ...],
    without: tuple[str, ...],
    node: str | None,
    html: str | None,
    output: str,
    where: Where,
) -> None:
    """Show what applying objects would change on the nodes of the cluster, before kubectl apply:
    files, CPUs, pods that become faster or slower, problems. Nothing is written anywhere. Exit 0
    nothing changes, 1 something does, 2 it could not be judged: an object has errors.

    \b
    kubectl power plan -f profile.yaml
    kubectl power plan -f policy/ --node node-1
    kubectl power plan -f policy/ --html change.html
    kubectl power plan --without PowerProfile/fast
    """
    if not filenames and not without:
        raise InputError("-f: is missing; give a file, a folder or - with objects, or --without")
    found = summary(where, filenames, without=without, node=node)
    if html is not None:
        from kpm.cli.pages import page_of_cluster, write_page

        what = [*filenames, *(f"without {item}" for item in without)]
        source = f"{', '.join(what)} against namespace {where.namespace}"
        write_page(html, page_of_cluster(found, source, closing_line(found)))
    if output == "json":
        click.echo(json.dumps(document(found), indent=1))
    else:
        for line in lines(found):
            click.echo(line)
    sys.exit(found.status)


def summary(
    where: Where, filenames: Sequence[str], *, without: Iterable[str], node: str | None
) -> Summary:
    """Read files and cluster, compare, and put together what is alike. Errors: InputError."""
    from datetime import UTC, datetime

    from kpm.cluster.gathering import gather, overlaid
    from kpm.cluster.planning import changes
    from kpm.kube.api import ApiError
    from kpm.request.objects import GivenObjects, read_cluster

    gone = [_reference(text) for text in without]
    given = read_cluster(filenames) if filenames else GivenObjects()
    print_lines(f"warning: {text}" for text in given.warnings)
    if given.nodes or given.pods:
        print_lines(["warning: Nodes and Pods of the files are left out; the cluster's count"])
    place = where.namespace
    try:
        seen = gather(connected(where), where.group, place, node)
    except ApiError as failure:
        raise InputError(f"namespace {place}: {failure}") from None
    if node is not None and not seen.inputs and not seen.unknown:
        raise InputError(f"--node: expected a node with a PowerNodeState, got {node!r}")
    print_lines(f"warning: {text}" for text in seen.notes)
    proposed = overlaid(seen.intent, given.intent, gone)
    return summarised(changes(seen, proposed, datetime.now(UTC)), seen.unknown.items())


def _reference(text: str) -> tuple[str, str]:
    kind, _, name = text.partition("/")
    if kind not in KINDS or not name:
        raise InputError(
            f"--without: expected KIND/NAME with one of {', '.join(KINDS)}, got {text!r}"
        )
    return kind, name


def summarised(found: "ClusterChange", unknown: Iterable[tuple[str, str]] = ()) -> Summary:
    """Nodes that change alike together, many first; the pods; problems with their nodes."""
    alike: dict[tuple[object, ...], list[str]] = {}
    shown: dict[tuple[object, ...], tuple[tuple[Row, ...], NodeChange]] = {}
    pods: list[PodRow] = []
    for item in found.nodes:
        if item.writes or item.offers:
            made = rows(item.writes, item.machine)
            key = (made, item.offers)
            alike.setdefault(key, []).append(item.node)
            shown.setdefault(key, (made, item))
        pods += _pod_rows(item)
    blocks = [
        Alike(
            tuple(sorted(nodes)),
            shown[key][0],
            len(shown[key][1].writes),
            shown[key][1].offers,
            sample=shown[key][1],
        )
        for key, nodes in alike.items()
    ]
    reasons: dict[str, list[str]] = {}
    for node, why in unknown:
        reasons.setdefault(why.replace(f"Node/{node}: ", ""), []).append(node)
    return Summary(
        len(found.nodes),
        tuple(sorted(blocks, key=lambda block: (-len(block.nodes), block.nodes))),
        pods=tuple(sorted(pods, key=lambda pod: (pod.place, pod.node))),
        came=_by_problem(found.came, [(item.node, item.came) for item in found.nodes]),
        went=_by_problem(found.went, [(item.node, item.went) for item in found.nodes]),
        unknown=tuple((why, tuple(sorted(nodes))) for why, nodes in sorted(reasons.items())),
    )


def _pod_rows(item: "NodeChange") -> Iterator[PodRow]:
    """A container's change in one line, as its first CPU has it."""
    for pod in item.pods:
        made = rows(pod.writes, item.machine)
        yield PodRow(item.node, pod.place, pod.cpus, made[0])


def _by_problem(
    everywhere: Iterable[Problem], nodes: Iterable[tuple[str, Iterable[Problem]]]
) -> tuple[tuple[Problem, tuple[str, ...]], ...]:
    """Each problem with the nodes that have it; none for one of the object itself."""
    found: dict[Problem, list[str]] = {problem: [] for problem in everywhere}
    for node, problems in nodes:
        for problem in problems:
            found.setdefault(problem, []).append(node)
    return tuple((problem, tuple(names)) for problem, names in sorted(found.items()))


def lines(found: Summary) -> Iterator[str]:
    """For people."""
    for block in found.alike:
        count = len(block.nodes)
        each = " each" if count > 1 else ""
        writes = f"{counted(block.writes, 'write')}{each}"
        yield f"{counted(count, 'node')}, {writes}: {some_of(block.nodes, _MOST_NAMES)}"
        for row in block.rows[:_MOST_ROWS]:
            yield f"  {one_line(row, 2000)}"
        if len(block.rows) > _MOST_ROWS:
            yield f"  and {len(block.rows) - _MOST_ROWS} more lines"
        for name, before, after in block.offers:
            yield f"  offers {one_line(name)}: {before} → {after}"
    yield from _pod_lines(found)
    for title, problems in (("new problems", found.came), ("problems that go", found.went)):
        if problems:
            yield title
        for problem, nodes in problems:
            where = f" ({counted(len(nodes), 'node')})" if nodes else ""
            yield f"  {one_line(problem, 2000)}{where}"
    for why, nodes in found.unknown:
        names = some_of(nodes, _MOST_NAMES)
        yield f"not known for {counted(len(nodes), 'node')}: {one_line(why)}: {names}"
    yield closing_line(found)


def _pod_lines(found: Summary) -> Iterator[str]:
    if found.pods:
        yield "pods"
    for pod in found.pods[:_MOST_PODS]:
        said = "  ".join(pod.row.changes)
        place = f"{pod.place} (CPUs {format_cpulist(pod.cpus)} of {pod.node})"
        yield one_line(f"  {pod.row.sign.mark} {place}  {said}", 2000)
    if len(found.pods) > _MOST_PODS:
        yield f"  and {len(found.pods) - _MOST_PODS} more"


def closing_line(found: Summary) -> str:
    """How much of what."""
    changed = sum(len(block.nodes) for block in found.alike)
    writes = sum(len(block.nodes) * block.writes for block in found.alike)
    faster, slower = (sum(pod.row.sign is sign for pod in found.pods) for sign in (FASTER, SLOWER))
    errors = sum(has_errors((problem,)) for problem, _ in found.came)
    return (
        f"{counted(writes, 'write')} on {changed} of {counted(found.nodes, 'node')},"
        f" {effects((faster, slower), found.shared)}, {counted(errors, 'new error')}"
    )


def document(found: Summary) -> dict[str, Any]:
    """As JSON has it."""
    return {
        "version": VERSION,
        "nodes": found.nodes,
        "changes": [
            {
                "nodes": list(block.nodes),
                "writes": block.writes,
                "rows": [
                    {
                        "what": row.place,
                        "changes": list(row.changes),
                        "direction": row.sign.word,
                        "sources": list(row.sources),
                    }
                    for row in block.rows
                ],
                "offers": [
                    {"resource": name, "before": before, "after": after}
                    for name, before, after in block.offers
                ],
            }
            for block in found.alike
        ],
        "pods": [
            {
                "pod": pod.place,
                "node": pod.node,
                "cpus": format_cpulist(pod.cpus),
                "direction": pod.row.sign.word,
                "changes": list(pod.row.changes),
            }
            for pod in found.pods
        ],
        "sharedCpus": dict(zip(("faster", "slower"), found.shared, strict=True)),
        "newProblems": [{**problem_view(p), "nodes": list(nodes)} for p, nodes in found.came],
        "goneProblems": [{**problem_view(p), "nodes": list(nodes)} for p, nodes in found.went],
        "unknown": [{"reason": why, "nodes": list(nodes)} for why, nodes in found.unknown],
    }
