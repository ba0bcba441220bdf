"""Power caps: from a PowerCap and the packages of a node to a limit for each zone (design §1;
kernel documentation, powercap).

`cap_at` is the whole decision: what the source asks, its bounds, the ramp, the division over
packages.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from attrs import frozen

from kpm_planner.caps.rules import validate_cap
from kpm_planner.caps.schedule import EPOCH, UW, Asked, CapState, Signals, asked_at, period_of, tick
from kpm_planner.model.machine import Machine, PowerLimit, PowerZone
from kpm_planner.model.objects import Node, PowerCap
from kpm_planner.model.problems import Code, Problem, has_errors, warning
from kpm_planner.model.quantities import format_watts
from kpm_planner.selection import Accepted, holder, reference

#: Least power of a package where minWatts is left out: less and its firmware may not keep it, nor
#: the node answer.
LEAST_UW = 10 * UW
#: Largest limit that a register of 15 bits in units of 1/8 W holds; more would be cut off silently
#: (kernel, intel_rapl).
MOST_UW = 32_767 * UW // 8
_MANY = 1_000_000
#: Caps are rounded down to the usual unit of the registers, so that what is read back is what was
#: written.
UNIT_UW = UW // 8
#: From here on the arithmetic of dates would leave the calendar.
_LAST = datetime(9000, 1, 1, tzinfo=UTC)
_LONG, _SHORT, _ONLY = "long_term", "short_term", "power_cap"


@frozen
class CapTarget:
    """Wanted limits of one zone, µW, in step with zone.limits; None is baseline."""

    zone: PowerZone
    limits: tuple[int | None, ...]
    because: tuple[str, ...] = ()


@frozen
class Decision:
    """What a cap comes to on a node at an instant.

    shares: package → µW, empty for no cap. state: for the next instant. until: when time alone
    makes it another one.
    """

    shares: Mapping[int, int]
    state: CapState | None
    because: tuple[str, ...]
    until: datetime | None = None
    problems: tuple[Problem, ...] = ()


@frozen
class CapPlan:
    """The caps of a node. demand: whether the division follows measured power."""

    targets: tuple[CapTarget, ...] = ()
    state: CapState | None = None
    until: datetime | None = None
    problems: tuple[Problem, ...] = ()
    demand: bool = False


def holding_cap(node: Node, accepted: Accepted) -> PowerCap | None:
    """The cap that holds on a node, where it is valid: whose source is to be asked."""
    found = holder(accepted.intent.caps, node, Code.CAP_SUPERSEDED, [])
    return None if found is None or has_errors(validate_cap(found)) else found


def plan_caps(
    node: Node, accepted: Accepted, machine: Machine, instant: datetime | None, signals: Signals
) -> CapPlan:
    """Targets for every zone of the machine. instant: left out, 1970 begins.

    An invalid object sets no cap.
    """
    problems: list[Problem] = []
    winner = holder(accepted.intent.caps, node, Code.CAP_SUPERSEDED, problems)
    if winner is None:
        return CapPlan(baseline_caps(machine, "no PowerCap covers it"), problems=tuple(problems))
    faults = validate_cap(winner)
    problems += faults
    if has_errors(faults):
        return CapPlan(
            baseline_caps(machine, f"{reference(winner)} has errors, so baseline"),
            problems=tuple(problems),
        )
    if not machine.power_zones:
        problems.append(
            warning(
                Code.CAP_UNSUPPORTED,
                reference(winner),
                "",
                f"node {node.name} has nothing that caps power{_why(machine)}",
            )
        )
        return CapPlan(problems=tuple(problems))
    decision = cap_at(winner, _ceilings(machine), min(max(instant or EPOCH, EPOCH), _LAST), signals)
    problems += decision.problems
    parts = _zone_parts(machine.power_zones, decision.shares)
    targets = tuple(
        _target(winner, zone, parts.get(zone.id), decision, problems)
        for zone in machine.power_zones
    )
    return CapPlan(
        targets, decision.state, decision.until, tuple(problems), winner.divide == "demand"
    )


def baseline_caps(machine: Machine, reason: str) -> tuple[CapTarget, ...]:
    """Every zone at baseline."""
    return tuple(
        CapTarget(zone, (None,) * len(zone.limits), (reason,)) for zone in machine.power_zones
    )


def _why(machine: Machine) -> str:
    return f": {machine.fabric_fault}" if machine.fabric_fault else ""


def _ceilings(machine: Machine) -> dict[int, int | None]:
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


def _zone_parts(zones: Sequence[PowerZone], shares: Mapping[int, int]) -> dict[str, int]:
    """Zone → µW: the dies of a package share its part equally, none above its own maximum."""
    found: dict[str, int] = {}
    for package, share in shares.items():
        own = [zone for zone in zones if zone.package == package]
        parts = divided(
            share, [1] * len(own), 0, [min(_top(zone) or MOST_UW, MOST_UW) for zone in own]
        )
        found |= {zone.id: part // UNIT_UW * UNIT_UW for zone, part in zip(own, parts, strict=True)}
    return found


def cap_at(
    cap: PowerCap, ceilings: Mapping[int, int | None], instant: datetime, signals: Signals
) -> Decision:
    """What a valid cap comes to on the packages of a node. ceilings: package → highest limit, µW,
    None where not known.
    """
    count = len(ceilings)
    units = 1 if cap.per != "package" else count
    known = [top for top in ceilings.values() if top is not None]
    hundred = (
        cap.max_watts * UW
        if cap.max_watts is not None
        else sum(known) // units
        if len(known) == count
        else None
    )
    asked = asked_at(cap, instant, signals, hundred)
    if asked.uw is None:
        return Decision({}, None, (asked.because,), asked.until, asked.problems)
    least = (
        cap.min_watts * UW
        if cap.min_watts is not None
        else min(LEAST_UW * (count if units == 1 else 1), (cap.max_watts or _MANY) * UW)
    )
    bounded, because = _bounded(cap, asked, least)
    state = _ramped(cap, bounded * units, least * units, units, instant, signals.previous)
    climbing = state.uw < bounded * units
    if climbing:
        because.append(
            f"ramp: {format_watts(state.uw // units)}, up by at most {cap.max_step_watts} W each"
            f" {period_of(cap)}"
        )
    until = [
        at
        for at in (
            asked.until,
            _next_tick(cap, instant) if climbing or cap.divide == "demand" else None,
        )
        if at is not None
    ]
    shares = _shares(cap, state.uw, least * units // count, ceilings, signals, because)
    return Decision(shares, state, tuple(because), min(until, default=None), asked.problems)


def _next_tick(cap: PowerCap, instant: datetime) -> datetime:
    return tick(instant, period_of(cap)) + period_of(cap)


def _bounded(cap: PowerCap, asked: Asked, least: int) -> tuple[int, list[str]]:
    """What is asked inside minWatts and maxWatts; minWatts is the stronger."""
    because = [asked.because]
    uw = asked.uw or 0
    if cap.max_watts is not None and uw > cap.max_watts * UW:
        uw = cap.max_watts * UW
        because.append(f"at most maxWatts {cap.max_watts} W")
    if uw < least:
        because.append(
            f"at least {'minWatts ' if cap.min_watts is not None else ''}{format_watts(least)}"
        )
    return max(uw, least), because


def _ramped(
    cap: PowerCap, wanted: int, least: int, units: int, instant: datetime, previous: CapState | None
) -> CapState:
    """Down at once, up by at most one step a period, never below the least; µW of the node."""
    if previous is None or previous.name not in ("", cap.meta.name) or cap.max_step_watts is None:
        return CapState(cap.meta.name, wanted)
    if wanted <= previous.uw:
        return CapState(cap.meta.name, wanted, previous.rose)
    began = tick(instant, period_of(cap))
    if began == previous.rose:
        return CapState(cap.meta.name, max(previous.uw, least), previous.rose)
    step = cap.max_step_watts * UW * units
    return CapState(cap.meta.name, min(wanted, max(previous.uw + step, least)), began)


def _shares(
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


def _target(
    cap: PowerCap, zone: PowerZone, uw: int | None, decision: Decision, problems: list[Problem]
) -> CapTarget:
    """The limits of one zone for its part of the power; None for no cap."""
    if uw is None:
        return CapTarget(zone, (None,) * len(zone.limits), decision.because)
    wanted = _limits(cap.constraint or _LONG, zone.limits, uw)
    reason = f"{zone.name}: {format_watts(uw)}"
    if all(limit is None for limit in wanted):
        has = ", ".join(limit.name for limit in zone.limits) or "none"
        problems.append(
            warning(
                Code.CAP_CONSTRAINT,
                reference(cap),
                "spec.constraint",
                f"{zone.name} has no limit {cap.constraint or _LONG}; it has {has}",
            )
        )
    elif zone.mirror_uw is not None and zone.mirror_uw < uw:
        message = (
            f"{zone.name}: the memory-mapped twin limits to {format_watts(zone.mirror_uw)}, below"
            f" the {format_watts(uw)} that are asked"
        )
        problems.append(warning(Code.CAP_MIRROR, reference(cap), "", message))
    return CapTarget(zone, wanted, (*decision.because, reason))


def _limits(constraint: str, limits: tuple[PowerLimit, ...], uw: int) -> tuple[int | None, ...]:
    """Which limits are set, by name (user-asks 36): those that are asked for, and another one where
    short would fall below long.
    """
    before = {limit.name: limit.limit_uw for limit in limits}
    if before.keys() == {_ONLY}:
        return (uw,)
    long, short = before.get(_LONG), before.get(_SHORT)
    wanted: dict[str, int | None] = {_LONG: uw, _SHORT: uw if constraint != _LONG else None}
    if constraint == _LONG and short is not None:
        wanted[_SHORT] = uw if short < uw else None
    if constraint == _SHORT:
        wanted[_LONG] = uw if long is not None and long > uw and _SHORT in before else None
    return tuple(wanted.get(limit.name) for limit in limits)
