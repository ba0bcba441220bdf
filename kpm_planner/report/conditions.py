"""The conditions of a node's state: whether everything is as planned, and why not."""

import errno
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from attrs import evolve

from kpm_planner.caps.zones import CapTarget
from kpm_planner.model.changes import Outcome, Pass, Status
from kpm_planner.model.machine import Machine, PowerZone
from kpm_planner.model.problems import Severity
from kpm_planner.plan import NodePlan
from kpm_planner.report.refusals import refused
from kpm_planner.report.room import cut
from kpm_planner.report.types import (
    Condition,
)

#: errno of a write to a power limit → reason and what it means (kernel, powercap and amd/hsmp).
_REFUSALS = {
    errno.ENODATA: ("Locked", "the limit is locked by firmware"),
    errno.ETIMEDOUT: ("NoAnswer", "the firmware does not answer"),
}


_KEPT = ("Locked", "the value does not become what is asked, so firmware has locked it")


_NOT_WRITTEN = ("NotWritten", "the limit could not be written")


#: A limit that is off by less than one part in so many is rounded, not refused.
_ROUNDING = 100


def stamped(
    conditions: Iterable[Condition], before: Iterable[Condition], instant: datetime
) -> tuple[Condition, ...]:
    """The conditions with the time at which each last changed its status."""
    known = {item.type: item for item in before}
    text = instant.strftime("%Y-%m-%dT%H:%M:%SZ")
    return tuple(
        evolve(item, last_transition_time=_since(item, known.get(item.type)) or text)
        for item in conditions
    )


def _since(item: Condition, before: Condition | None) -> str | None:
    return (
        before.last_transition_time if before is not None and before.status == item.status else None
    )


def _honoured(plan: NodePlan, shown: Machine, last: Pass) -> tuple[Condition, ...]:
    """Whether the power limits that are asked for are in force, by what their files show; nothing
    where none is (field report 35).
    """
    capped = [target for target in plan.caps if any(uw is not None for uw in target.limits)]
    if not capped or last.measure_only or last.refused:
        return ()
    failed = {item.path: item for item in last.outcomes if item.status is Status.FAILED}
    zones = {zone.id: zone for zone in shown.power_zones}
    for target in capped:
        reason, message = _hindrance(target, zones.get(target.zone.id), failed)
        if reason:
            return (Condition("CapHonoured", "False", reason, cut(message)),)
    return (Condition("CapHonoured", "True", "InForce"),)


def _hindrance(
    target: CapTarget, zone: PowerZone | None, failed: Mapping[str, Outcome]
) -> tuple[str, str]:
    """Why the limits of a zone are not in force: one word and a sentence; empty where they are."""
    showing = {limit.name: limit.limit_uw for limit in zone.limits} if zone is not None else {}
    for limit, uw in zip(target.zone.limits, target.limits, strict=True):
        path, shows = f"{target.zone.id}/{limit.file}", showing.get(limit.name)
        if uw is not None and (shows is None or abs(shows - uw) * _ROUNDING >= uw):
            outcome = failed.get(path)
            reason, meaning = (
                _KEPT if outcome is None else _REFUSALS.get(outcome.errno or 0, _NOT_WRITTEN)
            )
            return reason, f"{path}: {meaning}; wanted {uw} µW, shows {shows}"
    if zone is not None and zone.enabled is False:
        return "NoSwitch", f"{target.zone.id}/enabled: the zone is not switched on"
    lower, most = target.zone.mirror_uw, max(uw or 0 for uw in target.limits)
    if lower is not None and lower < most:
        return (
            "LowerTwin",
            (
                f"{target.zone.name}: the memory-mapped twin limits to {lower} µW, and the lower"
                " one holds"
            ),
        )
    return "", ""


def conditions_of(
    plan: NodePlan, shown: Machine, last: Pass, features: Sequence[tuple[str, bool, str]]
) -> tuple[Condition, ...]:
    """All conditions of a node, `Ready` among them: the first thing that is not as planned is its
    reason.
    """
    known = (
        Condition("PodResources", "True", "Answered")
        if last.answered
        else Condition(
            "PodResources",
            "False",
            "NotAnswered",
            "the kubelet's PodResources socket does not answer; CPUs that pods may own are left as"
            " they are",
        )
    )
    errors = sum(problem.severity is Severity.ERROR for problem in plan.problems)
    intent = (
        Condition("IntentValid", "False", "HasErrors", f"{errors} errors, see problems")
        if errors
        else Condition("IntentValid", "True", "Valid")
    )
    supported = [
        Condition(
            f"{name[0].upper()}{name[1:]}Supported",
            "True" if yes else "False",
            "Found" if yes else "Missing",
            cut(reason),
        )
        for name, yes, reason in features
    ]
    return tuple(
        sorted(
            (
                _ready(last),
                known,
                _drifted(last),
                intent,
                *_honoured(plan, shown, last),
                *supported,
            ),
            key=lambda item: item.type,
        )
    )


def _ready(last: Pass) -> Condition:
    if last.refused:
        return Condition("Ready", "False", "Refused", cut(last.refused))
    if last.measure_only:
        return Condition(
            "Ready", "True", "MeasureOnly", "nothing is written: agent.measureOnly is set"
        )
    bad = [
        item
        for item in last.outcomes
        if item.status in (Status.FAILED, Status.UNSETTLED, Status.OFFLINE)
    ]
    if bad or not last.settled:
        failed = [item for item in bad if item.status is Status.FAILED]
        first = (
            f": {refused(failed[0])}"
            if failed
            else f": {bad[0].path} wanted {bad[0].wanted}, shows {bad[0].shows}"
            if bad
            else ""
        )
        return Condition(
            "Ready",
            "False",
            "NotSettled",
            cut(f"{len(bad)} files do not show what was written{first}"),
        )
    if last.forbidden:
        return Condition("Ready", "False", "Forbidden", cut("; ".join(last.forbidden)))
    limited = sum(item.status is Status.LIMITED for item in last.outcomes)
    return Condition(
        "Ready",
        "True",
        "Settled",
        f"{limited} files are rounded by the kernel or limited by another party" if limited else "",
    )


def _drifted(last: Pass) -> Condition:
    if not last.drift:
        return Condition("Drifted", "False", "NoDrift")
    first = last.drift[0]
    by = f", perhaps by {' or '.join(last.owners)}" if last.owners else ""
    return Condition(
        "Drifted",
        "True",
        "ForeignValue",
        cut(
            f"{len(last.drift)} files were changed by somebody else{by}: {first.path} {first.value}"
            f" -> {first.old}"
        ),
    )
