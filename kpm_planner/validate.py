"""All faults of all objects that can be seen without a machine."""

from collections.abc import Collection

from kpm_planner.caps.rules import validate_cap
from kpm_planner.model.objects import Intent, PowerNodeConfig, PowerWorkload, ReservedCpus
from kpm_planner.model.problems import Code, Problem, error, warning
from kpm_planner.pools import definition_faults
from kpm_planner.profile_rules import validate_profile
from kpm_planner.selection import accept, reference
from kpm_planner.uncore import validate_uncore


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
    return tuple(sorted(set(problems)))


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
