"""What of a profile a machine cannot do: faults that only the machine shows."""

from collections.abc import Iterable

from kpm_planner.bias import bias_hindrances
from kpm_planner.cstates import idle_faults
from kpm_planner.model.agent_settings import IdleStates
from kpm_planner.model.machine import (
    SCALING_POWERSAVE,
    FrequencyDomain,
    Machine,
)
from kpm_planner.model.objects import PowerProfile, PStates
from kpm_planner.model.problems import Code, Problem, error, warning
from kpm_planner.model.quantities import (
    format_khz,
    frequency_khz,
)
from kpm_planner.profile_rules import MAX_FIELD, MIN_FIELD
from kpm_planner.ranges import clamped, ends_khz, range_text, span_text
from kpm_planner.selection import reference


def machine_faults(profile: PowerProfile, machine: Machine, how: IdleStates) -> Iterable[Problem]:
    """What of a profile this machine cannot do, with what happens instead."""
    obj = reference(profile)
    asks_frequency = profile.pstates.asks_frequency
    managed = machine.managed_kinds
    if asks_frequency and len(managed) < len(machine.kinds):
        yield warning(
            Code.FREQUENCY_UNSUPPORTED,
            obj,
            "spec.pstates",
            f"{_why_unmanaged(machine)}; those CPUs keep their frequencies",
        )
    if asks_frequency:
        yield from _untested(machine, obj)
    unknown = tuple(_unknown_bases(profile.pstates, managed, obj))
    yield from unknown
    if not unknown:
        yield from _range_faults(profile.pstates, machine, obj)
    yield from _governor_faults(profile, managed, obj)
    yield from bias_hindrances(profile, machine)
    yield from idle_faults(profile, machine, how, obj)


def _why_unmanaged(machine: Machine) -> str:
    """Why CPUs of the machine have no frequency that could be set."""
    domains = [
        kind.frequency
        for kind, _ in machine.kinds
        if kind.frequency is not None and not kind.frequency.managed
    ]
    return (
        "no file says between which frequencies the hardware runs"
        if any(domain.driver for domain in domains)
        else "CPUs without a scaling driver"
    )


def _untested(machine: Machine, obj: str) -> Iterable[Problem]:
    """The drivers of which only the general rules are known."""
    if machine.untested_drivers:
        drivers = ", ".join(machine.untested_drivers)
        message = f"scaling driver {drivers} was not tried; the general rules set it"
        yield warning(Code.DRIVER_UNTESTED, obj, "spec.pstates", message)


def _unknown_bases(
    pstates: PStates, domains: tuple[FrequencyDomain, ...], obj: str
) -> Iterable[Problem]:
    """The ends that are the base frequency, where a core does not say what that is."""
    lacking = [domain for domain in domains if domain.base_khz is None]
    for field, value in ((MIN_FIELD, pstates.min), (MAX_FIELD, pstates.max)):
        if value == "base" and lacking:
            yield error(
                Code.FREQUENCY_BASE_UNKNOWN,
                obj,
                field,
                f"no file says what the base frequency of cores of {range_text(lacking[0])} is",
            )


def _range_faults(pstates: PStates, machine: Machine, obj: str) -> Iterable[Problem]:
    """Ends that no core has, and a minimum above the maximum."""
    domains = machine.managed_kinds
    if not domains:
        return
    lowest, highest = machine.span_khz
    outside = False
    for field, value in ((MIN_FIELD, pstates.min), (MAX_FIELD, pstates.max)):
        khz = frequency_khz(value, None) if value is not None else None
        if khz is not None and khz > highest and not machine.limits_known:
            message = (
                f"{value!r} ({format_khz(khz)}) is above {format_khz(highest)}, the highest that"
                " any file names; turbo was off, and none says how far it goes; clamped"
            )
            yield warning(Code.FREQUENCY_LIMIT_UNKNOWN, obj, field, message)
        elif khz is not None and not lowest <= khz <= highest:
            outside = True
            message = (
                f"{value!r} ({format_khz(khz)}) is outside every core's range,"
                f" {span_text(lowest, highest)}"
            )
            yield error(Code.FREQUENCY_RANGE, obj, field, message)
    upside_down = next((domain for domain in domains if _upside_down(pstates, domain)), None)
    if upside_down is not None and not outside:
        low, high = ends_khz(pstates, upside_down)
        message = (
            f"{pstates.min!r} ({format_khz(low)}) is above spec.pstates.max {pstates.max!r}"
            f" ({format_khz(high)}) on cores of {range_text(upside_down)}"
        )
        yield error(Code.FREQUENCY_ORDER, obj, MIN_FIELD, message)


def _upside_down(pstates: PStates, domain: FrequencyDomain) -> bool:
    """Whether the minimum lies above the maximum on these cores, and not only because it is clamped
    to them.
    """
    if pstates.min is None or pstates.max is None:
        return False  # the end that is left out is the hardware's
    low, high = ends_khz(pstates, domain)
    return low > high and clamped(low, domain) > clamped(high, domain)


def _governor_faults(
    profile: PowerProfile, domains: tuple[FrequencyDomain, ...], obj: str
) -> Iterable[Problem]:
    governor, field = profile.pstates.governor, "spec.pstates.governor"
    if governor is None or not domains:
        return
    unlisted = [domain for domain in domains if governor not in domain.governors]
    if unlisted and profile.cpu_scaling_policy is not None:
        message = (
            f"{governor!r} is not listed under {unlisted[0].driver}; the speed is set by minimum"
            " and maximum instead"
        )
        yield warning(Code.GOVERNOR_UNAVAILABLE, obj, field, message)
        return
    lacking = [domain for domain in unlisted if not domain.may_have(governor)]
    if lacking:
        has = ", ".join(lacking[0].governors) or "none"
        if len(lacking) == len(domains):
            yield error(
                Code.GOVERNOR_UNAVAILABLE,
                obj,
                field,
                f"{governor!r} does not exist under {lacking[0].driver}, which has {has}",
            )
            return
        yield warning(
            Code.GOVERNOR_UNAVAILABLE,
            obj,
            field,
            f"{governor!r} does not exist on all cores; those that have only {has} keep theirs",
        )
    static = sorted({str(domain.driver) for domain in domains if _pins(governor, domain)})
    if static:
        message = f"powersave pins the lowest frequency under {', '.join(static)}"
        yield warning(Code.GOVERNOR_STATIC, obj, field, message)


def _pins(governor: str, domain: FrequencyDomain) -> bool:
    """Whether a governor that scales elsewhere keeps this domain at its lowest frequency."""
    scales = domain.driver in SCALING_POWERSAVE
    return governor == "powersave" and not scales and domain.may_have(governor)
