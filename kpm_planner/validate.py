"""All faults of all objects that can be seen without a machine."""

from collections.abc import Collection, Mapping

from kpm_planner.caps.rules import validate_cap
from kpm_planner.model.cap_objects import PowerCap
from kpm_planner.model.cluster import is_label_key, is_label_value
from kpm_planner.model.objects import (
    Intent,
    PowerConfig,
    PowerNodeConfig,
    PowerProfile,
    PowerWorkload,
    ReservedCpus,
    Uncore,
)
from kpm_planner.model.problems import Code, Problem, error, warning
from kpm_planner.pools import definition_faults
from kpm_planner.profile_rules import validate_profile
from kpm_planner.selection import accept, reference
from kpm_planner.uncore import validate_uncore

_QUOTES = frozenset("“”„‟«»‘’‚‛")


def validate_intent(intent: Intent) -> tuple[Problem, ...]:
    """The problems of every object, sorted; objects in other namespaces are checked too."""
    problems = list(accept(intent).problems)
    for profile in intent.profiles:
        problems += validate_profile(profile)
    for uncore in intent.uncores:
        problems += validate_uncore(uncore)
    for cap in intent.caps:
        problems += validate_cap(cap)
    definitions: tuple[PowerWorkload | PowerNodeConfig, ...] = (
        *intent.workloads,
        *intent.node_configs,
    )
    for item in definitions:
        problems += _definition_faults(item, intent)
    problems += _label_faults(intent)
    return tuple(sorted(set(problems)))


def _label_faults(intent: Intent) -> list[Problem]:
    """Labels that no node can ever have, such as those with typographic quotes."""
    selecting: tuple[PowerProfile | PowerNodeConfig | Uncore | PowerCap, ...] = (
        *intent.profiles,
        *intent.node_configs,
        *intent.uncores,
        *intent.caps,
    )
    plain: tuple[PowerWorkload | PowerConfig, ...] = (*intent.workloads, *intent.configs)
    problems: list[Problem] = []
    for item in selecting:
        selector = item.node_selector and item.node_selector.label_selector
        if selector:
            field = "spec.nodeSelector.labelSelector"
            problems += _odd_labels(selector.match_labels, reference(item), f"{field}.matchLabels")
            for index, entry in enumerate(selector.match_expressions):
                place = f"{field}.matchExpressions[{index}]"
                for value in entry.values or ("",):
                    problems += _odd_labels({entry.key: value}, reference(item), place)
    for obj in plain:
        labels = obj.power_node_selector or {}
        problems += _odd_labels(labels, reference(obj), "spec.powerNodeSelector")
    return problems


def _odd_labels(labels: Mapping[str, str], obj: str, field: str) -> list[Problem]:
    """A problem for each key and value that is none of a label."""
    odd = [key for key in labels if not is_label_key(key)]
    odd += [value for value in labels.values() if not is_label_value(value)]
    return [
        error(
            Code.SELECTOR_INVALID,
            obj,
            field,
            f"expected letters, digits, - _ . as in labels, got {text!r}"
            + ("; its quotes are typographic, YAML's are \" and '" if _QUOTES & set(text) else ""),
        )
        for text in odd
    ]


def _definition_faults(item: PowerWorkload | PowerNodeConfig, intent: Intent) -> list[Problem]:
    obj = reference(item)
    problems = list(definition_faults(item))
    known = {profile.meta.name: profile for profile in intent.profiles}
    name, field = (
        (item.power_profile, "spec.powerProfile")
        if isinstance(item, PowerWorkload)
        else (item.shared_power_profile, "spec.sharedPowerProfile")
    )
    if name is None and isinstance(item, PowerWorkload) and item.all_cores:
        problems.append(
            error(
                Code.PROFILE_MISSING, obj, field, "is missing; allCores needs the name of a profile"
            )
        )
    if name is not None and name not in known:
        problems.append(
            warning(
                Code.PROFILE_MISSING, obj, field, f"profile {name!r} is not among the objects given"
            )
        )
    for index, entry in enumerate(item.reserved_cpus):
        problems += _reserved_faults(entry, f"spec.reservedCPUs[{index}]", obj, known.keys())
    return problems


def _reserved_faults(
    entry: ReservedCpus, field: str, obj: str, known: Collection[str]
) -> list[Problem]:
    if entry.power_profile is not None and entry.power_profile not in known:
        return [
            warning(
                Code.PROFILE_MISSING,
                obj,
                f"{field}.powerProfile",
                f"profile {entry.power_profile!r} is not among the objects given",
            )
        ]
    return []
