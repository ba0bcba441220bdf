"""All faults of all objects that can be seen without a machine."""

from collections.abc import Collection

from kpm_planner.cap_rules import validate_cap
from kpm_planner.intent import Intent, PowerNodeConfig, PowerWorkload, ReservedCpus
from kpm_planner.problems import Code, Problem, error, warning
from kpm_planner.profiles import validate_profile
from kpm_planner.selection import accept, reference, selector_problems
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
    definitions: tuple[PowerWorkload | PowerNodeConfig, ...] = (*intent.workloads, *intent.node_configs)
    for item in definitions:
        problems += _definition_faults(item, intent)
    return tuple(sorted(set(problems)))


def _definition_faults(item: PowerWorkload | PowerNodeConfig, intent: Intent) -> list[Problem]:
    obj = reference(item)
    problems = selector_problems(item.node_selector, obj) if isinstance(item, PowerNodeConfig) else []
    known = {profile.meta.name: profile for profile in intent.profiles}
    name, field = (item.power_profile, "spec.powerProfile") if isinstance(item, PowerWorkload) else (item.shared_power_profile, "spec.sharedPowerProfile")
    if name is None and isinstance(item, PowerWorkload) and item.all_cores:
        problems.append(error(Code.PROFILE_MISSING, obj, field, "is missing; allCores needs the name of a profile"))
    if name is not None and name not in known:
        problems.append(warning(Code.PROFILE_MISSING, obj, field, f"profile {name!r} is not among the objects given"))
    for index, entry in enumerate(item.reserved_cpus):
        problems += _reserved_faults(entry, f"spec.reservedCPUs[{index}]", obj, known.keys())
    return [*problems, *_reserved_twice(item.reserved_cpus, obj)]


def _reserved_faults(entry: ReservedCpus, field: str, obj: str, known: Collection[str]) -> list[Problem]:
    problems = []
    if any(cpu < 0 for cpu in entry.cores):
        problems.append(error(Code.RESERVED_UNKNOWN_CPU, obj, f"{field}.cores", f"{min(entry.cores)} is no CPU"))
    if entry.power_profile is not None and entry.power_profile not in known:
        problems.append(warning(Code.PROFILE_MISSING, obj, f"{field}.powerProfile", f"profile {entry.power_profile!r} is not among the objects given"))
    return problems


def _reserved_twice(entries: tuple[ReservedCpus, ...], obj: str) -> list[Problem]:
    profiles: dict[int, set[str]] = {}
    for entry in entries:
        for cpu in entry.cores:
            profiles.setdefault(cpu, set()).update({entry.power_profile} if entry.power_profile else ())
    return [
        error(Code.RESERVED_CONFLICT, obj, "spec.reservedCPUs", f"CPU {cpu} is reserved under {' and '.join(sorted(names))}; one is allowed")
        for cpu, names in sorted(profiles.items())
        if len(names) > 1
    ]
