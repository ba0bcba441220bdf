"""How a budget is divided: over the sockets of a node, and over the zones of each."""

from collections.abc import Mapping, Sequence

from kpm_planner.caps.schedule import Signals
from kpm_planner.model.cap_objects import PowerCap
from kpm_planner.model.machine import Machine, PowerZone
from kpm_planner.model.quantities import UW, format_watts


def ceilings(machine: Machine) -> dict[int, int | None]:
    """Package → the highest limit that its firmware names, None where it names none."""
    found: dict[int, int | None] = {}
    for zone in machine.power_zones:
        top, before = _top(zone), found.get(zone.package, 0)
        found[zone.package] = None if top is None or before is None else before + top
    return dict(sorted(found.items()))


def _top(zone: PowerZone) -> int | None:
    """The highest limit of a zone: never a limit of now, and the lowest of those that its limits
    name, since they are set alike.
    """
    return min((limit.max_uw for limit in zone.limits if limit.max_uw), default=None)


def zone_parts(zones: Sequence[PowerZone], shares: Mapping[int, int]) -> dict[str, int]:
    """Zone → µW: the dies of a package share its part equally, none above its own maximum."""
    found: dict[str, int] = {}
    for package, share in shares.items():
        own = [zone for zone in zones if zone.package == package]
        parts = divided(
            share, [1] * len(own), 0, [min(_top(zone) or MOST_UW, MOST_UW) for zone in own]
        )
        found |= {zone.id: part // UNIT_UW * UNIT_UW for zone, part in zip(own, parts, strict=True)}
    return found


def shares_of(
    cap: PowerCap,
    budget: int,
    least: int,
    ceilings: Mapping[int, int | None],
    signals: Signals,
    because: list[str],
) -> dict[int, int]:
    """The budget over the packages, each rounded down to 1/8 W."""
    packages = list(ceilings)
    tops = [min(top or MOST_UW, MOST_UW) for top in ceilings.values()]
    if cap.per == "package":
        shares = [min(budget // len(packages), top) for top in tops]
    else:
        measured = [signals.power_uw.get(package) for package in packages]
        by_demand = cap.divide == "demand" and all(power is not None for power in measured)
        weights = (
            [max(power or 0, UW) for power in measured]
            if by_demand
            else _weights(cap, packages, signals, because)
        )
        if by_demand:
            because.append(f"divided by demand, measured {', '.join(map(format_watts, weights))}")
        shares = divided(budget, weights, least, tops)
    for package, share, top in zip(packages, shares, tops, strict=True):
        if share == top and ceilings[package] is not None:
            because.append(f"package {package}: at most max_power_uw {format_watts(top)}")
    return {
        package: share // UNIT_UW * UNIT_UW for package, share in zip(packages, shares, strict=True)
    }


def _weights(
    cap: PowerCap, packages: Sequence[int], signals: Signals, because: list[str]
) -> list[int]:
    """What to divide by without measurements: for demand what is in force, so that a new agent
    changes nothing.
    """
    in_force = [signals.parts_uw.get(package) or 0 for package in packages]
    known = cap.divide == "demand" and all(in_force)
    if cap.divide == "demand":
        because.append(f"divided {'as it was' if known else 'equally'}: no measurement yet")
    return in_force if known else [1] * len(packages)


def divided(budget: int, weights: Sequence[int], least: int, tops: Sequence[int]) -> list[int]:
    """A budget in proportion to weights, no part below least or above its top, which is the
    stronger; what one cannot take the others get.

    The parts sum to at most the budget where that is at least `least` for each.
    """
    lows = [min(least, top) for top in tops]
    parts: dict[int, int] = {}
    while len(parts) < len(weights):
        free = [index for index in range(len(weights)) if index not in parts]
        rest, total = budget - sum(parts.values()), sum(weights[index] for index in free)
        asked = {index: max(rest, 0) * weights[index] // total for index in free}
        over = sum(max(part - tops[index], 0) for index, part in asked.items())
        under = sum(max(lows[index] - part, 0) for index, part in asked.items())
        if not over and not under:
            parts |= asked
        elif over >= under:
            parts |= {index: tops[index] for index, part in asked.items() if part > tops[index]}
        else:
            parts |= {index: lows[index] for index, part in asked.items() if part < lows[index]}
    return [parts[index] for index in range(len(weights))]


#: Least power of a package where minWatts is left out: less and its firmware may not keep it, nor
#: the node answer.
LEAST_UW = 10 * UW


#: Largest limit that a register of 15 bits in units of 1/8 W holds; more would be cut off silently
#: (kernel, intel_rapl).
MOST_UW = 32_767 * UW // 8


#: More than any node takes, for a cap without a maximum.
MANY_UW = 1_000_000 * UW


#: Caps are rounded down to the usual unit of the registers, so that what is read back is what was
#: written.
UNIT_UW = UW // 8
