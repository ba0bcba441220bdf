"""Profiles in words: limits, governor and idle states as a person reads them."""

from collections.abc import Iterable

from kpm_planner.model.machine import SCALING_POWERSAVE, Machine
from kpm_planner.model.objects import PowerProfile
from kpm_planner.model.quantities import frequency_khz
from kpm_planner.plan import NodePlan


def _frequency_text(value: int | str | None, otherwise: int | None) -> str:
    if isinstance(value, str):
        return value
    khz = otherwise if value is None else frequency_khz(value, None)
    return "" if khz is None else str(khz)


def limits_text(
    profile: PowerProfile | None, cpus: Iterable[int], shown: Machine
) -> tuple[str, str]:
    """Maximum and minimum as texts: the profile's own, else the hardware's, or at baseline what the
    first CPU shows.
    """
    domain = next(
        (domain for cpu in sorted(cpus) for domain in shown.domains if cpu in domain.cpus), None
    )
    if domain is None:
        return "", ""
    if profile is None:
        return _frequency_text(None, domain.settings.max_khz), _frequency_text(
            None, domain.settings.min_khz
        )
    return _frequency_text(profile.pstates.max, domain.hardware_max_khz), _frequency_text(
        profile.pstates.min, domain.hardware_min_khz
    )


def profile_words(profile: PowerProfile, shown: Machine, plan: NodePlan) -> str:
    """The same line with a word before each value, and how many CPUs the node offers under it."""
    high, low = limits_text(profile, shown.by_id, shown)
    offered = plan.extended_resources.get(f"{profile.group}/{profile.meta.name}")
    asked = "100%" if profile.cpu_capacity is None else str(profile.cpu_capacity)
    capacity = "" if offered is None else f"{asked} ({offered} CPUs)"
    parts = {
        "Min": low,
        "Max": high,
        "Governor": governor_text(profile, shown),
        "EPP": profile.pstates.epp,
        "C-states": idle_text(profile, shown),
        "Capacity": capacity,
    }
    return ", ".join(f"{word}: {value}" for word, value in parts.items() if value)


def governor_text(profile: PowerProfile, shown: Machine) -> str:
    """The governor in force: one that is left out is powersave where the driver scales under it
    (E5).
    """
    scales = any(domain.driver in SCALING_POWERSAVE for domain in shown.domains)
    return profile.pstates.governor or ("powersave" if scales else "")


def idle_text(profile: PowerProfile, shown: Machine) -> str:
    """The states that a profile names, or its longest latency; where it says nothing, those that
    are on by default.
    """
    limit, states = profile.cstates.max_latency_us, profile.cstates.names
    if limit is not None:
        return f"maxLatency: {limit}"
    if not states:
        states = {
            state.name: state.default_enabled is not False
            for cpu in shown.cpus
            for state in cpu.idle
        }
    parts = [
        (word, ",".join(sorted(name for name, enabled in states.items() if enabled is wanted)))
        for word, wanted in (("enabled", True), ("disabled", False))
    ]
    return "; ".join(f"{word}: {names}" for word, names in parts if names)
