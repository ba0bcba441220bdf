"""Power caps: from a PowerCap and the packages of a node to a limit for each zone
(kernel documentation, powercap).

`cap_at` is the whole decision: what the source asks, its bounds, the ramp, the division over
packages.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from attrs import frozen

from kpm_planner.caps.division import LEAST_UW, MANY_UW, ceilings, shares_of, zone_parts
from kpm_planner.caps.rules import validate_cap
from kpm_planner.caps.schedule import EPOCH, Asked, CapState, Signals, asked_at, tick
from kpm_planner.model.cap_objects import PowerCap
from kpm_planner.model.cluster import Node
from kpm_planner.model.machine import Machine, PowerLimit, PowerZone
from kpm_planner.model.problems import Code, Problem, has_errors, warning
from kpm_planner.model.quantities import format_watts
from kpm_planner.model.why import Why
from kpm_planner.selection import Accepted, holder, reference

#: From here on the arithmetic of dates would leave the calendar.
_LAST = datetime(9000, 1, 1, tzinfo=UTC)
_LONG, _SHORT, _ONLY = "long_term", "short_term", "power_cap"


@frozen
class CapTarget:
    """Wanted limits of one zone, µW, in step with zone.limits; None is baseline."""

    zone: PowerZone
    limits: tuple[int | None, ...]
    because: tuple[Why, ...] = ()


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
    winner: PowerCap | None, machine: Machine, instant: datetime | None, signals: Signals, node: str
) -> CapPlan:
    """Targets for every zone of the machine. winner: the cap that holds on the node. instant: left
    out, 1970 begins.

    An invalid object sets no cap.
    """
    if winner is None:
        return CapPlan(baseline_caps(machine, "no PowerCap covers it"))
    faults = validate_cap(winner)
    problems = list(faults)
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
                f"node {node} has nothing that caps power{_why(machine)}",
            )
        )
        return CapPlan(problems=tuple(problems))
    decision = cap_at(winner, ceilings(machine), min(max(instant or EPOCH, EPOCH), _LAST), signals)
    problems += decision.problems
    parts = zone_parts(machine.power_zones, decision.shares)
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
        CapTarget(zone, (None,) * len(zone.limits), (Why(reason),)) for zone in machine.power_zones
    )


def _why(machine: Machine) -> str:
    return f": {machine.fabric_fault}" if machine.fabric_fault else ""


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
        cap.max_uw
        if cap.max_uw is not None
        else sum(known) // units
        if len(known) == count
        else None
    )
    asked = asked_at(cap, instant, signals, hundred)
    if asked.uw is None:
        return Decision({}, None, (asked.because,), asked.until, asked.problems)
    least = (
        cap.min_uw
        if cap.min_uw is not None
        else min(LEAST_UW * (count if units == 1 else 1), cap.max_uw or MANY_UW)
    )
    bounded, because = _bounded(cap, asked, least)
    state = _ramped(
        cap, bounded * units, least * units, units=units, instant=instant, previous=signals.previous
    )
    climbing = state.uw < bounded * units
    if climbing:
        because.append(
            f"ramp: {format_watts(state.uw // units)}, up by at most {cap.max_step_watts} W each"
            f" {cap.interval}"
        )
    until = [
        at
        for at in (
            asked.until,
            _next_tick(cap, instant) if climbing or cap.divide == "demand" else None,
        )
        if at is not None
    ]
    shares = shares_of(
        cap, state.uw, least * units // count, ceilings=ceilings, signals=signals, because=because
    )
    return Decision(shares, state, tuple(because), min(until, default=None), asked.problems)


def _next_tick(cap: PowerCap, instant: datetime) -> datetime:
    return tick(instant, cap.interval) + cap.interval


def _bounded(cap: PowerCap, asked: Asked, least: int) -> tuple[int, list[str]]:
    """What is asked inside minWatts and maxWatts; minWatts is the stronger."""
    because = [asked.because]
    uw = asked.uw or 0
    if cap.max_uw is not None and uw > cap.max_uw:
        uw = cap.max_uw
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
    if previous is None or previous.name not in ("", cap.meta.name) or cap.step_uw is None:
        return CapState(cap.meta.name, wanted)
    if wanted <= previous.uw:
        return CapState(cap.meta.name, wanted, previous.rose)
    began = tick(instant, cap.interval)
    if began == previous.rose:
        return CapState(cap.meta.name, max(previous.uw, least), previous.rose)
    risen = previous.uw + cap.step_uw * units
    return CapState(cap.meta.name, min(wanted, max(risen, least)), began)


def _target(
    cap: PowerCap, zone: PowerZone, uw: int | None, decision: Decision, problems: list[Problem]
) -> CapTarget:
    """The limits of one zone for its part of the power; None for no cap."""
    because = tuple(Why(text, object=reference(cap), field="spec") for text in decision.because)
    if uw is None:
        return CapTarget(zone, (None,) * len(zone.limits), because)
    wanted = _limits(cap.constraint or _LONG, zone.limits, uw)
    reason = Why(f"{zone.name}: {format_watts(uw)}", object=reference(cap), field="spec")
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
    return CapTarget(zone, wanted, (*because, reason))


def _limits(constraint: str, limits: tuple[PowerLimit, ...], uw: int) -> tuple[int | None, ...]:
    """Which limits are set, by name (field report 36): those that are asked for, and another one
    where short would fall below long.
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
