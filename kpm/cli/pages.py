"""Pages of plan, diff and kubectl power plan: their results as kpm.pages tells them."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from kpm.cli.changes import Row, effects, rows, shared_moves
from kpm.pages.changes import ChangePage, NodeBlock, change_page, split
from kpm.pages.faces import changed, faces_of_machine, faces_of_plan, marked
from kpm.process.errors import InputError
from kpm.process.words import counted
from kpm_applier.described import between, cpus_of, describe
from kpm_planner.model.changes import Write
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import Machine
from kpm_planner.model.problems import Problem, Severity
from kpm_planner.plan import ClusterPlan, NodeInput, NodePlan

if TYPE_CHECKING:
    from kpm.cli.cluster_plan import Alike, Summary


def write_page(path: str, text: str) -> None:
    """Write a page. Errors: InputError."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as failure:
        raise InputError(f"--html {path}: cannot write: {failure.strerror}") from None


def page_of_plan(result: ClusterPlan, inputs: Iterable[NodeInput], source: str) -> str:
    """What a plan would do to machines on which nothing is managed yet."""
    machines = {item.node.name: item.machine for item in inputs}
    found = []
    for plan in result.nodes:
        machine = machines[plan.node]
        writes = between(describe(machine), NodePlan(plan.node), plan)
        found.append((plan, machine, machine, writes))
    everywhere = [*result.problems, *(item for plan in result.nodes for item in plan.problems)]
    before = f"{source}; before: the machine without power management"
    return _page("Power plan", before, found, everywhere)


def page_of_diff(
    plan: NodePlan, machines: tuple[Machine, Machine], writes: Sequence[Write],
    problems: Iterable[Problem],
) -> str:  # fmt: skip
    """What applying would change on this machine. machines: as it shows itself, and with the
    baseline of what is ours.
    """
    shown, machine = machines
    source = f"node {plan.node}; before: what its files hold now"
    return _page("Power diff", source, [(plan, machine, shown, writes)], problems)


_Found = tuple[NodePlan, Machine, Machine, Sequence[Write]]


def _page(title: str, source: str, found: Sequence[_Found], problems: Iterable[Problem]) -> str:
    """found: plan, its machine, the machine as it is shown before, writes."""
    blocks: list[NodeBlock] = []
    pods: list[tuple[str, str]] = []
    faster = slower = 0
    for plan, machine, shown, writes in found:
        made = rows(writes, machine)
        after = faces_of_plan(plan, machine)
        blocks.append(
            NodeBlock(
                (plan.node,),
                machine,
                faces_of_machine(shown),
                after=marked(after, (cpu for item in writes for cpu in cpus_of(item, machine))),
                rows=tuple(map(str, made)),
                writes=len(writes),
            )
        )
        pods += _pods(plan, machine, writes)
        moves = shared_moves(made, plan)
        faster, slower = faster + moves[0], slower + moves[1]
    count = sum(len(writes) for *_, writes in found)
    by = split(pods)
    told = set(problems)
    return change_page(
        ChangePage(
            title,
            source,
            f"{count} writes on {counted(len(found), 'node')}, "
            + effects((len(by["faster"]), len(by["slower"])), (faster, slower)),
            blocks=tuple(blocks),
            faster=by["faster"],
            slower=by["slower"],
            others=by["other"],
            errors=_texts(told, Severity.ERROR),
            warnings=_texts(told, Severity.WARNING),
            shared_slower=slower,
        )
    )


def page_of_cluster(found: "Summary", source: str, closing: str) -> str:
    """What objects would change on a running cluster."""
    by = split(
        (
            pod.row.sign.word,
            _pod_line(f"{pod.place} on {pod.node}", pod.cpus, pod.row),
        )
        for pod in found.pods
    )
    came = [problem for problem, _ in found.came]
    return change_page(
        ChangePage(
            "Power plan of a cluster",
            f"{source}; before: what nodes are asked for now",
            closing,
            blocks=tuple(map(_block_of, found.alike)),
            faster=by["faster"],
            slower=by["slower"],
            others=by["other"],
            errors=_texts(came, Severity.ERROR),
            warnings=_texts(came, Severity.WARNING),
            gone=tuple(str(problem) for problem, _ in found.went),
            unknown=tuple(f"{why}: {', '.join(nodes)}" for why, nodes in found.unknown),
            shared_slower=found.shared[1],
        )
    )


def _block_of(block: "Alike") -> NodeBlock:
    sample = block.sample
    before = faces_of_plan(sample.before, sample.machine)
    after = changed(before, faces_of_plan(sample.after, sample.machine))
    notes = (f"offers {name}: {first} → {last}" for name, first, last in block.offers)
    return NodeBlock(
        block.nodes,
        sample.machine,
        before,
        after=after,
        rows=tuple(map(str, block.rows)),
        writes=block.writes,
        notes=tuple(notes),
    )


def _pods(plan: NodePlan, machine: Machine, writes: Sequence[Write]) -> Iterable[tuple[str, str]]:
    """Direction and line of each container whose own CPUs change, as its first CPU has it."""
    from kpm.cluster.planning import pod_changes

    for pod in pod_changes(plan, writes, machine):
        row = rows(pod.writes, machine)[0]
        yield row.sign.word, _pod_line(f"{pod.place} on {plan.node}", pod.cpus, row)


def _pod_line(place: str, cpus: Iterable[int], row: Row) -> str:
    return f"{place}, CPUs {format_cpulist(cpus)}: {'  '.join(row.changes)}"


def _texts(problems: Iterable[Problem], severity: Severity) -> tuple[str, ...]:
    return tuple(str(item) for item in sorted(problems) if item.severity is severity)
