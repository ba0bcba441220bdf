"""Objects that are not about a node, each with the reason: what its selector wants and what the
node has.

Those that are about it and lose to another, or are wrong, are problems of the plan. Here are the
others, of which a plan would say nothing at all; what the system makes for other nodes goes without
saying.
"""

from collections.abc import Iterable, Mapping

from kpm_planner.model.cap_objects import PowerCap
from kpm_planner.model.cluster import GENERATED, LabelSelector, Node, NodeSelector, Requirement
from kpm_planner.model.objects import Intent, PowerNodeConfig, PowerProfile, Uncore
from kpm_planner.model.why import Why
from kpm_planner.selection import (
    Accepted,
    accept,
    covers,
    meets,
    reference,
    selector_problems,
    selects_map,
)

_Selecting = PowerProfile | PowerNodeConfig | Uncore | PowerCap
_FOR_NONE = "has no selector, and so is for no node"


def left_out_of_nodes(intent: Intent, nodes: Iterable[Node]) -> dict[str, tuple[Why, ...]]:
    """Node → a reason for each object that is not about it."""
    accepted = accept(intent)
    return {node.name: left_out(accepted, node) for node in nodes}


def left_out(accepted: Accepted, node: Node) -> tuple[Why, ...]:
    """A reason for each object that is not about the node; its `object` names which, its `field`
    the selector.
    """
    intent = accepted.intent
    selecting: list[_Selecting] = [
        *accepted.profiles.values(),
        *intent.node_configs,
        *intent.uncores,
        *intent.caps,
    ]
    found = [
        (item, "spec.nodeSelector", _unmet(item.node_selector, node.labels) or _unselected(item))
        for item in selecting
        if not covers(item, node) and not selector_problems(item.node_selector, "")
    ]
    workloads = [
        (item, "spec.powerNodeSelector", _unmet_map(item.power_node_selector or {}, node.labels))
        for item in intent.workloads
        if not selects_map(item.power_node_selector, node.labels)
        and item.meta.labels.get(GENERATED) != "true"
    ]
    return tuple(
        Why(text or _FOR_NONE, object=reference(item), field=field)
        for item, field, text in (*found, *workloads)
    )


def _unselected(item: object) -> str:
    """Why an object without a selector is about no node, or about another one."""
    if isinstance(item, Uncore):
        return f"has no selector, so it is for the node named {item.meta.name}"
    return _FOR_NONE


def _unmet(selector: NodeSelector | None, labels: Mapping[str, str]) -> str:
    """The first thing that a selector wants and a node has not; "" where there is no selector."""
    wanted = None if selector is None else selector.label_selector
    if wanted is None:
        return ""
    return _unmet_map(wanted.match_labels, labels) or _unmet_expression(wanted, labels)


def _unmet_map(wanted: Mapping[str, str], labels: Mapping[str, str]) -> str:
    lacking = ((key, value) for key, value in wanted.items() if labels.get(key) != value)
    return next((f"wants {key}={value}; {_has(key, labels)}" for key, value in lacking), "")


def _unmet_expression(selector: LabelSelector, labels: Mapping[str, str]) -> str:
    failing: Iterable[Requirement] = (
        item for item in selector.match_expressions if not meets(item, labels)
    )
    return next(
        (
            f"wants {item.key} {item.operator} {', '.join(item.values)}".rstrip()
            + f"; {_has(item.key, labels)}"
            for item in failing
        ),
        "",
    )


def _has(key: str, labels: Mapping[str, str]) -> str:
    return f"the node has {key}={labels[key]}" if key in labels else f"the node has no label {key}"
