"""How a node is left: who is still waited for, why, and for how long at most (pure; the clock is
the caller's).

A node is done with when its agent has said so, when it is gone, or when it was waited for in vain.
Waiting in vain has limits, since an agent can die on a node that is well: nothing that a user
deleted may hang for ever. What stays set there is said by an Event and by the PowerConfig.
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from attrs import field, frozen

from kpm.operator.observed import Held, SeenCluster, node_of
from kpm_planner.model.cluster import GENERATED
from kpm_planner.report.rollup import MOST_LEFT, NodeLeft
from kpm_planner.report.types import PowerNodeStateStatus

REMEDY = "what was set there stays until an agent, or kpm restore, runs there again"

#: Seconds after which a node is not waited for any more, however often the reason has changed
#: meanwhile.
LONGEST = 1800.0


class Wait(Enum):
    """Why a node that is to be left is still waited for: what is said of it, and seconds after
    which it is not waited for any more.
    """

    UNREADY = ("the node is not ready", 600.0)
    NO_AGENT = ("no agent runs there", 120.0)
    AGENT = ("its agent puts back what it has set", 600.0)

    @property
    def words(self) -> str:
        """What is said."""
        return self.value[0]

    @property
    def seconds(self) -> float:
        """The most that is waited."""
        return self.value[1]


@frozen
class Lost:
    """Nodes that are not waited for any more: node → why.

    They are told of as long as they are left so.
    """

    nodes: Mapping[str, str] = field(factory=dict, hash=False)

    def told(self) -> tuple[NodeLeft, ...]:
        """What the PowerConfig remembers of them for the operator that comes next."""
        return tuple(NodeLeft(node, why) for node, why in sorted(self.nodes.items()))[:MOST_LEFT]


def remembered(configs: Iterable[Held[Any]]) -> dict[str, str]:
    """The nodes that an operator before this one let go: node → why,
    as the PowerConfigs tell it.
    """
    entries = (
        entry
        for item in configs
        for entry in _list(item.status.get("notRestored"))
        if isinstance(entry, Mapping)
    )
    return {str(entry.get("node") or ""): str(entry.get("reason") or "") for entry in entries}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def waits(seen: SeenCluster, selected: Iterable[str]) -> dict[str, Wait]:
    """The nodes that are to be left, are still there, and whose agent has not said that it has
    left.
    """
    managed = set(selected)
    found = {}
    for item in seen.states:
        node = node_of(item)
        if node not in managed and node in seen.nodes and ours(item) and last_word(item) is None:
            runs = seen.agents is None or node in seen.agents
            found[node] = (
                Wait.UNREADY
                if not seen.nodes[node].ready
                else Wait.AGENT
                if runs
                else Wait.NO_AGENT
            )
    return found


def one_more_round(waiting: Mapping[str, Wait], lost: Lost) -> bool:
    """Whether the DaemonSet stays although nothing wants it: an agent that has died is started anew
    by it, and puts things back.
    """
    return any(why is Wait.NO_AGENT and node not in lost.nodes for node, why in waiting.items())


def ours(item: Held[Any]) -> bool:
    """Whether the operator made an object, and nobody has deleted it."""
    return item.labels.get(GENERATED) == "true" and not item.deleting


def last_word(item: Held[PowerNodeStateStatus]) -> str | None:
    """What an agent that has left said: nothing where all is as it was, what it could not put back,
    None while it has not left.

    A node whose agent never wrote anything has nothing to restore.
    """
    if item.value is None or not item.value.conditions:
        return ""
    released = next(
        (condition for condition in item.value.conditions if condition.type == "Released"), None
    )
    if released is None:
        return None
    return "" if released.status == "True" else released.message


def waiting_lines(waiting: Mapping[str, Wait], lost: Lost) -> tuple[str, ...]:
    """What a PowerConfig says of the nodes that are being left, the worst first."""
    left = [f"node {node}: {why}; {REMEDY}" for node, why in sorted(lost.nodes.items())]
    return (
        *left,
        *(
            f"waiting for node {node}: {why.words}"
            for node, why in sorted(waiting.items())
            if node not in lost.nodes
        ),
    )
