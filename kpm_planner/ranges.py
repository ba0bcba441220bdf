"""The range of frequencies that a domain has, and what a profile's two ends come to in it."""

from kpm_planner.model.machine import (
    FrequencyDomain,
)
from kpm_planner.model.objects import PStates
from kpm_planner.model.quantities import format_ghz, format_khz, frequency_khz


def clamped(khz: int, domain: FrequencyDomain) -> int:
    """A frequency within the domain's range, kHz."""
    low, high = hardware_range(domain)
    return min(max(khz, low), high)


def hardware_range(domain: FrequencyDomain) -> tuple[int, int]:
    """(minimum, maximum) of the hardware, kHz; 0 where not known."""
    return domain.hardware_min_khz or 0, domain.hardware_max_khz or 0


def range_text(domain: FrequencyDomain) -> str:
    """The range in words."""
    return span_text(*hardware_range(domain))


def span_text(low: int, high: int) -> str:
    """From one frequency to another in words."""
    return f"{format_ghz(low)} to {format_khz(high)}"


def ends_khz(pstates: PStates, domain: FrequencyDomain) -> tuple[int, int]:
    """Both ends before any clamp; one that is left out is the hardware's and never in the way of
    the other.
    """
    lowest, highest = hardware_range(domain)
    low = lowest if pstates.min is None else _khz(pstates.min, domain)
    high = max(low, highest) if pstates.max is None else _khz(pstates.max, domain)
    return (min(low, high) if pstates.min is None else low), high


def _khz(value: int | str, domain: FrequencyDomain) -> int:
    """A frequency that is known to be one here, kHz."""
    return frequency_khz(value, hardware_range(domain), domain.base_khz) or 0
