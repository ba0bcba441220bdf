"""Which objects count, which nodes they select, and which of two wins: identity, selectors,
precedence (I1 to I4).
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from attrs import frozen

from kpm_planner.model.cap_objects import PowerCap
from kpm_planner.model.cluster import (
    SYSTEM_NAMESPACE,
    LabelSelector,
    Meta,
    Node,
    NodeSelector,
    Requirement,
)
from kpm_planner.model.objects import (
    Intent,
    PowerConfig,
    PowerNodeConfig,
    PowerProfile,
    PowerWorkload,
    Uncore,
)
from kpm_planner.model.problems import Code, Problem, error, warning

PowerObject = PowerProfile | PowerWorkload | PowerNodeConfig | Uncore | PowerConfig | PowerCap

_NEWEST = datetime.max.replace(tzinfo=UTC)
#: Longest name part of an extended resource (Kubernetes qualified names).
LONGEST_RESOURCE_NAME = 63


def reference(obj: PowerObject) -> str:
    """How messages name an object."""
    return f"{type(obj).__name__}/{obj.meta.name}"


@frozen
class Accepted:
    """The objects that count, in order of precedence, and what was found wrong on the way.

    profiles: by name. unused: those whose name stands in both groups.
    """

    intent: Intent
    profiles: Mapping[str, PowerProfile]
    problems: tuple[Problem, ...]
    unused: tuple[PowerProfile, ...] = ()


def accept(intent: Intent) -> Accepted:
    """Sort out the objects that count at all, whatever the node.

    Source: I1 to I4; R5 for the order.
    """
    problems: list[Problem] = []
    kept: dict[type, list[PowerObject]] = {
        kind: []
        for kind in (PowerProfile, PowerWorkload, PowerNodeConfig, Uncore, PowerConfig, PowerCap)
    }
    objects: tuple[PowerObject, ...] = (
        *intent.profiles,
        *intent.workloads,
        *intent.node_configs,
        *intent.uncores,
        *intent.configs,
        *intent.caps,
    )
    places = system_namespaces(intent)
    for obj in objects:
        if _in_system_namespace(obj, places, problems):
            kept[type(obj)].append(obj)
    all_profiles = [obj for obj in kept[PowerProfile] if isinstance(obj, PowerProfile)]
    profiles = _unique_profiles(all_profiles, problems)
    for same_kind in kept.values():
        same_kind.sort(key=age_key)
        problems += _name_problems(same_kind)
    accepted = Intent(
        profiles=tuple(profiles.values()),
        workloads=tuple(obj for obj in kept[PowerWorkload] if isinstance(obj, PowerWorkload)),
        node_configs=tuple(
            obj for obj in kept[PowerNodeConfig] if isinstance(obj, PowerNodeConfig)
        ),
        uncores=tuple(obj for obj in kept[Uncore] if isinstance(obj, Uncore)),
        configs=tuple(obj for obj in kept[PowerConfig] if isinstance(obj, PowerConfig)),
        caps=tuple(obj for obj in kept[PowerCap] if isinstance(obj, PowerCap)),
        unreadable=intent.unreadable,
        namespace=intent.namespace,
    )
    problems += _config_problems(accepted.configs)
    problems += _made_by_others(accepted.configs, profiles)
    unused = tuple(obj for obj in all_profiles if obj.meta.name not in profiles)
    return Accepted(accepted, profiles, tuple(sorted(set(problems))), unused)


def system_namespaces(intent: Intent) -> Mapping[str, str]:
    """API group → the namespace in which its objects count.

    Where the system is installed is said by whoever knows; a PowerConfig stands there too.
    """
    if intent.namespace is not None:
        return dict.fromkeys(SYSTEM_NAMESPACE, intent.namespace)
    found = dict(SYSTEM_NAMESPACE)
    for group, usual in SYSTEM_NAMESPACE.items():
        places = {item.meta.namespace or usual for item in intent.configs if item.group == group}
        found[group] = places.pop() if len(places) == 1 else usual
    return found


def _in_system_namespace(
    obj: PowerObject, places: Mapping[str, str], problems: list[Problem]
) -> bool:
    system = places.get(obj.group, "")
    if obj.meta.namespace in (None, "", system):
        return True
    message = f"is in namespace {obj.meta.namespace}; only objects in {system} count"
    problems.append(warning(Code.NAMESPACE_IGNORED, reference(obj), "metadata.namespace", message))
    return False


def _unique_profiles(
    profiles: list[PowerProfile], problems: list[Problem]
) -> dict[str, PowerProfile]:
    found: dict[str, PowerProfile] = {}
    twice: set[str] = set()
    for profile in sorted(profiles, key=lambda item: (item.meta.name, item.group)):
        if profile.meta.name in found:
            twice.add(profile.meta.name)
        found[profile.meta.name] = profile
    for name in sorted(twice):
        problems.append(
            error(
                Code.NAME_IN_BOTH_GROUPS,
                f"PowerProfile/{name}",
                "metadata.name",
                f"{name} exists in both API groups; neither is used",
            )
        )
    return {name: profile for name, profile in found.items() if name not in twice}


def _name_problems(objects: list[PowerObject]) -> list[Problem]:
    problems = []
    for obj in objects:
        written = getattr(obj, "name", None)
        if written is not None and written != obj.meta.name:
            message = f"{written!r} differs from metadata.name {obj.meta.name!r}, which is used"
            problems.append(warning(Code.NAME_MISMATCH, reference(obj), "spec.name", message))
    return problems


def _config_problems(configs: tuple[PowerConfig, ...]) -> list[Problem]:
    return [
        warning(
            Code.CONFIG_SUPERSEDED,
            reference(config),
            "",
            f"{reference(configs[0])} is older and"
            f" holds{decided_without_age(configs[0].meta, config.meta)}",
        )
        for config in configs[1:]
    ]


def _made_by_others(
    configs: tuple[PowerConfig, ...], profiles: Mapping[str, PowerProfile]
) -> list[Problem]:
    """Profiles that a PowerConfig names, since operators before this one made them, and that are
    not there.
    """
    return [
        warning(
            Code.PROFILE_EARLIER_FORM,
            reference(config),
            "spec.powerProfiles",
            f"{name!r} is not made by this system; write a PowerProfile of this name",
        )
        for config in configs
        for name in dict.fromkeys(config.power_profiles)
        if name not in profiles
    ]


def decided_without_age(*metas: Meta) -> str:
    """The mark of a decision between objects that rests on a missing creationTimestamp; else
    nothing.
    """
    return (
        " (decided without creationTimestamp)"
        if len(metas) > 1 and any(meta.created is None for meta in metas)
        else ""
    )


def age_key(obj: PowerObject) -> tuple[datetime, str, str]:
    """Sort key of age, then namespace and name; a missing creationTimestamp counts as newest, a
    missing namespace is the system's.
    """
    return (
        obj.meta.created or _NEWEST,
        obj.meta.namespace or SYSTEM_NAMESPACE.get(obj.group, ""),
        obj.meta.name,
    )


#: What defines pools of a node.
Definition = PowerWorkload | PowerNodeConfig


@frozen
class InForce:
    """The objects that hold on one node, by what they are for.

    definitions: of pools, and turbo: of that switch, both by precedence, the first wins. problems:
    why others are not about the node, or do not hold.
    """

    definitions: tuple[Definition, ...]
    turbo: tuple[PowerNodeConfig, ...]
    uncore: Uncore | None
    cap: PowerCap | None
    problems: tuple[Problem, ...]


def in_force(accepted: Accepted, node: Node) -> InForce:
    """Select for one node, once for all that is decided of it."""
    intent, problems = accepted.intent, list[Problem]()
    for profile in accepted.profiles.values():
        problems += selector_problems(profile.node_selector, reference(profile))
    for config in intent.node_configs:
        problems += selector_problems(config.node_selector, reference(config))
    configs = [item for item in intent.node_configs if covers(item, node)]
    configs.sort(key=lambda item: precedence_key(item, node))
    definitions: list[Definition] = [
        item for item in intent.workloads if selects_map(item.power_node_selector, node.labels)
    ]
    definitions += (
        item for item in configs if item.shared_power_profile is not None or item.reserved_cpus
    )
    definitions.sort(key=lambda item: precedence_key(item, node))
    return InForce(
        tuple(definitions),
        tuple(item for item in configs if item.turbo is not None),
        holder(intent.uncores, node, Code.UNCORE_SUPERSEDED, problems),
        holder(intent.caps, node, Code.CAP_SUPERSEDED, problems),
        tuple(problems),
    )


_Selecting = TypeVar("_Selecting", Uncore, PowerCap)


def holder(
    objects: Iterable[_Selecting], node: Node, superseded: Code, problems: list[Problem]
) -> _Selecting | None:
    """The one object of a kind that holds on a node; the others that match get a problem.

    An Uncore without selector is for the node of its name.
    """
    matching = []
    for obj in objects:
        problems += selector_problems(obj.node_selector, reference(obj))
        if covers(obj, node):
            matching.append(obj)
    matching.sort(key=lambda item: precedence_key(item, node))
    for loser in matching[1:]:
        mark = decided_without_age(matching[0].meta, loser.meta)
        problems.append(
            warning(
                superseded,
                reference(loser),
                "",
                f"{reference(matching[0])} holds on this node already{mark}",
            )
        )
    return matching[0] if matching else None


def covers(obj: PowerProfile | PowerNodeConfig | Uncore | PowerCap, node: Node) -> bool:
    """Whether an object is about a node.

    A selector that is left out: a profile is about all, an Uncore about the node of its name,
    others about none.
    """
    by_selector = selects(obj.node_selector, node.labels)
    if by_selector is not None:
        return by_selector
    return isinstance(obj, PowerProfile) or (isinstance(obj, Uncore) and obj.meta.name == node.name)


def precedence_key(
    obj: PowerWorkload | PowerNodeConfig | Uncore | PowerCap, node: Node
) -> tuple[datetime, str, int, int, str]:
    """Sort key of two objects that claim one thing on a node; the first wins (R5)."""
    created, namespace, name = age_key(obj)
    by_kind = 0 if isinstance(obj, PowerNodeConfig) else 1
    by_name = 0 if isinstance(obj, Uncore) and obj.meta.name == node.name else 1
    return (created, namespace, by_kind, by_name, name)


def selects_map(selector: Mapping[str, str] | None, labels: Mapping[str, str]) -> bool:
    """Whether a plain label map matches; a map that is left out or empty selects nothing here."""
    return bool(selector) and all(
        labels.get(key) == value for key, value in (selector or {}).items()
    )


def selects(selector: NodeSelector | None, labels: Mapping[str, str]) -> bool | None:
    """Whether a node selector matches; None where it is left out, for the kind to decide."""
    if selector is None or selector.label_selector is None:
        return None
    return matches(selector.label_selector, labels)


def matches(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches; an empty one matches everything, an invalid one nothing."""
    by_labels = all(labels.get(key) == value for key, value in selector.match_labels.items())
    return by_labels and all(meets(item, labels) for item in selector.match_expressions)


def meets(item: Requirement, labels: Mapping[str, str]) -> bool:
    """Whether labels meet one requirement of a selector; none meet one that is not valid."""
    match item.operator:
        case "In":
            return labels.get(item.key) in item.values
        case "NotIn":
            return bool(item.values) and labels.get(item.key) not in item.values
        case "Exists":
            return not item.values and item.key in labels
        case "DoesNotExist":
            return not item.values and item.key not in labels
        case _:
            return False


def selector_problems(
    selector: NodeSelector | None, obj: str, field: str = "spec.nodeSelector.labelSelector"
) -> list[Problem]:
    """Faults of a label selector that make it select nothing."""
    if selector is None or selector.label_selector is None:
        return []
    problems = []
    for index, item in enumerate(selector.label_selector.match_expressions):
        place = f"{field}.matchExpressions[{index}]"
        if item.operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            problems.append(
                error(
                    Code.SELECTOR_INVALID,
                    obj,
                    f"{place}.operator",
                    f"expected In, NotIn, Exists or DoesNotExist, got {item.operator!r}",
                )
            )
        elif (item.operator in ("In", "NotIn")) != bool(item.values):
            want = "needs values" if item.operator in ("In", "NotIn") else "takes no values"
            problems.append(
                error(Code.SELECTOR_INVALID, obj, f"{place}.values", f"{item.operator} {want}")
            )
    return problems


def nowhere(obj: PowerNodeConfig | Uncore | PowerCap, nodes: Collection[str]) -> Problem | None:
    """That an object without a selector is about no node of the cluster. nodes: names of all.

    An earlier operator took a selector that is left out for all nodes; who relied on that is told.
    """
    if obj.node_selector is not None or (isinstance(obj, Uncore) and obj.meta.name in nodes):
        return None
    by_name = ", and no node has its name" if isinstance(obj, Uncore) else ""
    message = f"is missing{by_name}; {{labelSelector: {{}}}} means all nodes"
    return error(Code.NO_SELECTOR, reference(obj), "spec.nodeSelector", message)


def config_of(accepted: Accepted, node: Node) -> tuple[PowerConfig | None, tuple[Problem, ...]]:
    """The PowerConfig in force, and a problem where it does not select the node."""
    if not accepted.intent.configs:
        return None, ()
    config = accepted.intent.configs[0]
    if not config.power_node_selector or selects_map(config.power_node_selector, node.labels):
        return config, ()
    wanted = ", ".join(
        f"{key}={value}" for key, value in sorted(config.power_node_selector.items())
    )
    return config, (
        warning(
            Code.NODE_NOT_SELECTED,
            reference(config),
            "spec.powerNodeSelector",
            f"{wanted} does not select node {node.name}",
        ),
    )
