"""What the operator reports: the status of PowerConfig, PowerWorkload and of every object that
users make.

Pure functions of the objects and of the states that the agents reported.
"""

from collections.abc import Iterable, Mapping

from attrs import field, frozen

from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.problems import Code, Problem, Severity
from kpm_planner.report.room import cut
from kpm_planner.report.types import ContainerState, PowerNodeStateStatus

#: Node names in one line of errors; the others are counted.
MOST_NODES = 10
MOST_ERRORS = 32
#: Nodes that were let go and are remembered.
MOST_LEFT = 200
#: Warnings that the objects themselves must say: somebody else holds what they ask for.
_SAID = frozenset(
    {
        Code.CONFIG_SUPERSEDED,
        Code.SHARED_SUPERSEDED,
        Code.UNCORE_SUPERSEDED,
        Code.CAP_SUPERSEDED,
        Code.TURBO_SUPERSEDED,
    }
)


def _text(description: str) -> dict[str, object]:
    return {"description": description}


@frozen
class ErrorsStatus:
    """What is wrong with an object."""

    errors: tuple[str, ...] = field(
        default=(),
        metadata=_text("What is wrong with the object, and on which nodes; empty when nothing is."),
    )


@frozen
class NodeLeft:
    """A node that was let go without its agent having said that it put everything back."""

    node: str = field(default="", metadata=_text("Its name."))
    reason: str = field(default="", metadata=_text("Why it was not waited for any more."))


@frozen
class PowerConfigStatus:
    """Nodes that are managed, and what is wrong."""

    nodes: tuple[str, ...] = field(default=(), metadata=_text("Nodes that have an agent."))
    node_count: int | None = field(default=None, metadata=_text("How many these are."))
    errors: tuple[str, ...] = field(
        default=(), metadata=_text("What is wrong with the object; empty when nothing is.")
    )
    not_restored: tuple[NodeLeft, ...] = field(
        default=(),
        metadata=_text(
            "Nodes that were let go although their agent had not put everything back; a node that"
            " has an agent again is taken out."
        ),
    )


@frozen
class PublishedWatts:
    """What the server of an external source last said, and when."""

    watts: str = field(default="", metadata=_text("W, as the server wrote it."))
    at: str = field(
        default="",
        metadata=_text(
            "When it was asked (RFC 3339); written when the number changes, and before it is too"
            " old."
        ),
    )


@frozen
class PowerCapStatus:
    """What is wrong with a cap, and what its source says."""

    external: PublishedWatts | None = field(
        default=None, metadata=_text("The answer of the server that source.external.url names.")
    )
    errors: tuple[str, ...] = field(
        default=(),
        metadata=_text("What is wrong with the object, and on which nodes; empty when nothing is."),
    )


@frozen
class WorkloadNode:
    """The one node that a workload is for."""

    name: str = field(default="", metadata=_text("Node."))
    cpu_ids: tuple[int, ...] = field(
        default=(), metadata=_text("CPUs that run under the workload's profile.")
    )
    containers: tuple[ContainerState, ...] = field(
        default=(), metadata=_text("Containers that own them.")
    )


@frozen
class PowerWorkloadStatus:
    """Where a workload is in force, and what is wrong."""

    workload_nodes: WorkloadNode | None = field(
        default=None, metadata=_text("The one node that the workload is for.")
    )
    node_count: int | None = field(
        default=None, metadata=_text("How many nodes the workload is for.")
    )
    cpu_count: int | None = field(
        default=None, metadata=_text("How many CPUs these have under it.")
    )
    cpus: str = field(
        default="",
        metadata=_text("These CPUs as a list such as 0-3,8; left out where nodes are many."),
    )
    errors: tuple[str, ...] = field(
        default=(),
        metadata=_text("What is wrong with the object, and on which nodes; empty when nothing is."),
    )


def errors_by_object(
    problems: Iterable[Problem], states: Mapping[str, PowerNodeStateStatus]
) -> dict[str, tuple[str, ...]]:
    """Object reference → its lines. problems: those that no node is needed to see; states: by node
    name.

    The same fault on many nodes is one line with at most ten of their names and a count of the
    others.
    """
    found: dict[str, dict[str, set[str]]] = {}
    for problem in problems:
        if problem.severity is Severity.ERROR or problem.code in _SAID:
            found.setdefault(problem.object, {}).setdefault(
                _line(problem.field, problem.message), set()
            )
    for node, state in states.items():
        for item in state.problems:
            if item.severity == Severity.ERROR or item.code in _SAID:
                lines = found.setdefault(item.object, {})
                line = _line(item.field, item.message)
                # what no node is needed to see is said without nodes
                if line not in lines or lines[line]:
                    lines.setdefault(line, set()).add(node)
    return {
        obj: tuple(_with_nodes(line, nodes) for line, nodes in sorted(lines.items()))[:MOST_ERRORS]
        for obj, lines in found.items()
    }


def _line(place: str, message: str) -> str:
    """A fault as a line, cut as the nodes cut it."""
    return f"{place}: {cut(message)}" if place else cut(message)


def _with_nodes(line: str, nodes: set[str]) -> str:
    if not nodes:
        return line
    names = sorted(nodes)
    more = f" and {len(names) - MOST_NODES} more" if len(names) > MOST_NODES else ""
    return f"{line} (on {', '.join(names[:MOST_NODES])}{more})"


def exclusive_workload(
    node: str, profile: str, state: PowerNodeStateStatus | None
) -> PowerWorkloadStatus:
    """What the workload object of a profile and a node reports."""
    containers = tuple(
        item for item in (state.exclusive_pools if state else ()) if item.power_profile == profile
    )
    cpus = tuple(sorted({cpu for item in containers for cpu in item.exclusive_cpus}))
    return PowerWorkloadStatus(
        WorkloadNode(node, cpus, containers), 1, len(cpus), format_cpulist(cpus)
    )


def shared_workload(
    nodes: Iterable[str], cpus: Mapping[str, tuple[int, ...]] | None, errors: tuple[str, ...] = ()
) -> PowerWorkloadStatus:
    """What a user's workload reports of the nodes that it selects: how many, and how many shared
    CPUs they have; which these are where it is one node.

    cpus: the shared pools by node, None for a workload that has none.
    """
    names = sorted(nodes)
    if cpus is None:
        return PowerWorkloadStatus(None, len(names), errors=errors)
    count = sum(len(cpus.get(name, ())) for name in names)
    if len(names) != 1:
        return PowerWorkloadStatus(None, len(names), count, errors=errors)
    own = cpus.get(names[0], ())
    return PowerWorkloadStatus(WorkloadNode(names[0], own), 1, count, format_cpulist(own), errors)
