"""One frequency domain, several targets: the highest holds (design §4, domain conflicts)."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from attrs import evolve

from kpm_planner.model.machine import FrequencyDomain
from kpm_planner.profiles import Target

_GOVERNORS = {"powersave": 0, "conservative": 1, "ondemand": 2, "schedutil": 3, "performance": 5}
#: A governor of some vendor: above those that save, below performance.
_OTHER_GOVERNOR = 4
_EPPS = {"power": 0, "balance_power": 1, "balance_performance": 2, "performance": 4}
_OTHER_EPP = 3
_EPP_REGISTER = (
    ("performance", 0),
    ("balance_performance", 128),
    ("balance_power", 192),
    ("power", 10**9),
)

_Value = TypeVar("_Value", int, str)


def combine(domain: FrequencyDomain, targets: Sequence[Target]) -> Target:
    """The frequency part that holds for a whole domain; idle is left empty.

    Highest minimum, highest maximum, governor and EPP by their order; a member at baseline takes
    part with the domain's settings, and where it wins the result is baseline.
    """
    settings = domain.settings
    governors = [target.governor for target in targets]
    return Target(
        min_khz=_highest([(target.min_khz, settings.min_khz) for target in targets], _by_number),
        max_khz=_highest([(target.max_khz, settings.max_khz) for target in targets], _by_number),
        governor=(
            "userspace"
            if set(governors) == {"userspace"}
            else _highest([(name, settings.governor) for name in governors], _by_governor)
        ),
        epp=_highest([(target.epp, settings.epp) for target in targets], _by_epp),
    )


def frequency_part(target: Target) -> Target:
    """A target without its idle states."""
    return (
        evolve(target, idle=(), latency_us=None)
        if target.idle or target.latency_us is not None
        else target
    )


def in_force(
    domain: FrequencyDomain, target: Target
) -> tuple[int | None, int | None, str | None, str | None]:
    """What a target means on its domain, baseline filled in."""
    settings = domain.settings
    return (
        settings.min_khz if target.min_khz is None else target.min_khz,
        settings.max_khz if target.max_khz is None else target.max_khz,
        settings.governor if target.governor is None else target.governor,
        settings.epp if target.epp is None else target.epp,
    )


def _by_number(value: int) -> int:
    return value


def _by_governor(value: str) -> int:
    return -1 if value == "userspace" else _GOVERNORS.get(value, _OTHER_GOVERNOR)


def _by_epp(value: str) -> int:
    # the raw register, where 0 is performance and 255 power: as high as the next word above it
    if value.isdigit():
        return next(_EPPS[word] for word, raw in _EPP_REGISTER if int(value) <= raw)
    return _EPPS.get(value, _OTHER_EPP)


def _highest(
    members: Sequence[tuple[_Value | None, _Value | None]], rank: Callable[[_Value], int]
) -> _Value | None:
    """The highest of (wanted, baseline) pairs; None where only a baseline reaches it."""
    best: tuple[int, bool, _Value | None] = (-2, False, None)
    for wanted, baseline in members:
        value = baseline if wanted is None else wanted
        if value is not None and (rank(value), wanted is not None) > best[:2]:
            best = (rank(value), wanted is not None, wanted)
    return best[2]
