"""A plan as texts: which groups it claims, which it lets go, and what each of their files should
hold (pure).
"""

import errno
from collections.abc import Mapping, Sequence
from typing import NamedTuple, assert_never

from kpm_applier import attributes as table
from kpm_applier.attributes import Attribute, Group, Kind, ManagedFile
from kpm_applier.discovery.discover import MAY_PASS
from kpm_applier.discovery.power import zone_text
from kpm_applier.state.baseline import (
    HARDWARE_LIMIT,
    baseline_text,
    completed,
    new_group_state,
    supposed,
    turbo_hides,
)
from kpm_applier.state.record import GroupState, State, aligned
from kpm_planner.caps.zones import CapTarget
from kpm_planner.fabric import FabricTarget
from kpm_planner.model.assignment import Pool
from kpm_planner.model.changes import Observed
from kpm_planner.model.machine import EPP_FOLLOWS, Machine, by_state
from kpm_planner.model.target import Target
from kpm_planner.model.why import Why
from kpm_planner.parts import CpuGroup
from kpm_planner.plan import NodePlan
from kpm_planner.uncore import UncoreTarget

_Seen = dict[tuple[int, int], tuple[str | None, ...]]
#: A text for each file of a group, None for baseline, or nothing at all; and why.
_Asked = tuple[tuple[str | None, ...] | None, tuple[Why, ...]]


class Want(NamedTuple):
    """What the files of one group should hold; a tuple, since a pass may make hundreds.

    values: in step with group.files, None where nothing is asked for or could be given back.
    record: the group's state, new at first touch, in step with group.files too. lost: (path, text)
    of files that were asked for and are left out, because what they held could not be read.
    release: the group goes back to baseline and out of the state file, but for the labels in
    `stays`, which cannot be given back now. floating: the limits are the range in which the scaler
    sets both, as it likes.
    """

    group: Group
    values: tuple[str | None, ...]
    record: GroupState
    release: bool
    because: tuple[Why, ...] = ()
    lost: tuple[tuple[str, str], ...] = ()
    floating: bool = False
    stays: tuple[str, ...] = ()


def wanted(
    plan: NodePlan, machine: Machine, groups: Sequence[Group], observed: Observed, state: State
) -> tuple[Want, ...]:
    """What a plan asks of every group it claims or we own; held and offline ones are left out."""
    asks = _Asks(plan, machine)
    #: Drivers overwrite the limits of every domain when turbo changes, also of those that are to be
    #: left as they are (K24).
    anything_held = any(item.held and item.pool is not Pool.OFFLINE for item in plan.groups)
    floating = {item.domain for item in plan.scaling if item.by_limits}
    #: Held turbo stays ours, and so do the limits that it moves.
    keeps = plan.boost is not None or (
        anything_held and any(key.partition(":")[0] == Kind.BOOST for key in state.groups)
    )
    clipped, hides = _turbo_not_found(groups, state), turbo_hides(state)
    wants = []
    for group in groups:
        asked, because = asks.of(group, anything_held=anything_held)
        if asked is None or not (any(asked) or keeps or group.key in state.groups):
            continue
        want = _want(
            group,
            asked,
            because,
            observed,
            state,
            kept=keeps and group.kind is Kind.CPUFREQ,
            clipped=clipped,
            hides=hides,
        )
        if want is not None:
            wants.append(
                want._replace(floating=True)
                if group.kind is Kind.CPUFREQ and group.id in floating
                else want
            )
    return tuple(wants)


class _Asks:
    """What a plan asks of groups. CPUs of one group of the plan share their texts."""

    def __init__(self, plan: NodePlan, machine: Machine) -> None:
        self.machine, self.boost = machine, plan.boost
        self.cpus = {cpu: group for group in plan.groups for cpu in group.cpus}
        self.uncore = {target.entry.name: target for target in plan.uncore}
        self.caps = {target.zone.id: target for target in plan.caps}
        self.fabrics = {target.fabric.package: target for target in plan.fabrics}
        self.seen: _Seen = {}
        self.seen_idle: _Seen = {}
        self.seen_alone: _Seen = {}

    def of(self, group: Group, *, anything_held: bool) -> _Asked:
        """The text for each file of a group, or nothing at all; and why."""
        match group.kind:
            case Kind.CPUFREQ:
                return _ask_cpufreq(group, self.cpus, self.seen)
            case Kind.IDLE:
                return _ask_idle(group, self.cpus, self.machine, self.seen_idle)
            case Kind.CPU:
                return _ask_alone(group, self.cpus, self.seen_alone)
            case Kind.UNCORE:
                return _ask_uncore(self.uncore.get(str(group.id)))
            case Kind.CAP:
                return _ask_cap(group, self.caps.get(str(group.id)))
            case Kind.FABRIC:
                return _ask_fabric(self.fabrics.get(int(group.id)))
            case Kind.BOOST:
                return _ask_boost(group, self.boost, held=anything_held)
            case _:
                assert_never(group.kind)


def released(groups: Sequence[Group], observed: Observed, state: State) -> tuple[Want, ...]:
    """What restoring asks of every owned group that can be reached now."""
    clipped, hides = _turbo_not_found(groups, state), turbo_hides(state)
    reached = (group for group in groups if group.kind is not Kind.CPUFREQ or group.cpus)
    wants = (
        _want(
            group,
            (None,) * len(group.files),
            (Why("restore"),),
            observed,
            state,
            clipped=clipped,
            hides=hides,
        )
        for group in reached
    )
    return tuple(want for want in wants if want is not None)


def _turbo_not_found(groups: Sequence[Group], state: State) -> bool:
    """Whether turbo is ours and cannot be given back now: the hardware's limits are those that we
    left it.
    """
    owned = {key for key in state.groups if key.partition(":")[0] == Kind.BOOST}
    return bool(owned) and not owned <= {group.key for group in groups}


def _want(
    group: Group,
    asked: tuple[str | None, ...],
    because: tuple[Why, ...],
    observed: Observed,
    state: State,
    *,
    kept: bool = False,
    clipped: bool = False,
    hides: bool = False,
) -> Want | None:
    """kept: the group stays ours, at baseline, though nothing is asked: turbo, which is ours, moves
    its limits.

    clipped: what is the hardware's limit now is not what it was before us. hides: turbo is off
    because of us.
    """
    owned = record = state.groups.get(group.key)
    claimed = kept or asked.count(None) < len(asked)
    if record is None:
        if not claimed:
            return None
        record = new_group_state(group, observed.values, turbo_hides=hides)
    elif record.labels != group.labels:
        record = aligned(group, record)
    lost: tuple[tuple[str, str], ...] = ()
    if None in record.baseline:
        record = completed(group, record, observed.values, turbo_hides=hides)
        if hides and all(path in observed.values for path in group.paths):
            record = supposed(group, record, asked, observed.values)
        asked, lost = _without_unknown(group, asked, record, observed)
    if None not in asked:
        return Want(group, asked, record, False, because)
    values = tuple(
        text if text is not None else _given_back(group, record, item, observed)
        for item, text in zip(group.files, asked, strict=True)
    )
    stays: tuple[str, ...] = ()
    if not claimed and owned is not None:
        values = _whole_ranges(owned, group, values)
        stays = _staying(owned, group, values, clipped=clipped)
    return Want(group, values, record, release=not claimed, because=because, lost=lost, stays=stays)


def _given_back(
    group: Group, record: GroupState, item: ManagedFile, observed: Observed
) -> str | None:
    """What a file is to hold of which nothing is asked: its baseline, but nothing where it was
    never written and nobody can see it.
    """
    if item.path not in observed.values and record.of(item.label)[1] is None:
        return None
    return baseline_text(group, record, item.label)


def _without_unknown(
    group: Group, asked: tuple[str | None, ...], record: GroupState, observed: Observed
) -> tuple[tuple[str | None, ...], tuple[tuple[str, str], ...]]:
    """What is asked of files whose baseline is known, and (path, text) of those that could not be
    read.

    An empty file has no value: it is not managed, and nobody is told of it each time.
    """
    rows = list(zip(group.files, asked, record.baseline, strict=True))
    unknown = [(item.path, text) for item, text, base in rows if text is not None and base is None]
    capped = group.kind is Kind.CAP and bool(unknown)  # an unknown limit must not be put in force
    bound = _bound_to_unread(group, asked, record, observed)
    known = tuple(
        (
            None
            if base is None
            or (capped and item.attribute is table.CAP_ENABLED)
            or item.label in bound
            else text
        )
        for item, text, base in rows
    )
    return known, tuple(
        (path, text) for path, text in unknown if observed.errors.get(path) != errno.ENODATA
    )


def _whole_ranges(
    owned: GroupState, group: Group, values: tuple[str | None, ...]
) -> tuple[str | None, ...]:
    """What is given back, without one end of a range whose other end cannot be given back now: it
    would be cut to that.
    """
    ends = {item.label: text for item, text in zip(group.files, values, strict=True)
            if item.attribute.limit}  # fmt: skip
    asked = {label for label in ends if owned.of(label)[1] is not None}
    if all(ends[label] is not None for label in asked):
        return values
    return tuple(
        None if item.label in asked else text
        for item, text in zip(group.files, values, strict=True)
    )


def _bound_to_unread(
    group: Group, asked: tuple[str | None, ...], record: GroupState, observed: Observed
) -> frozenset[str]:
    """Labels of files that would move one whose value before us cannot be read just now, and that
    have not been written yet: the other end of its range; governor performance, which some drivers
    give their EPP too. What will never be read costs itself alone (R6).
    """
    rows = list(zip(group.files, asked, record.baseline, record.requested, strict=True))
    unread = {
        item.attribute
        for item, _, base, _ in rows
        if base is None and observed.errors.get(item.path) in MAY_PASS
    }
    if not unread:
        return frozenset()
    ends = any(attribute.limit for attribute in unread)
    forces = table.EPP in unread and group.driver in EPP_FOLLOWS
    return frozenset(
        item.label
        for item, text, _, requested in rows
        if requested is None
        and (
            (ends and item.attribute.limit)
            or (forces and item.attribute is table.GOVERNOR and text == "performance")
        )
    )


def _staying(
    owned: GroupState, group: Group, values: tuple[str | None, ...], *, clipped: bool
) -> tuple[str, ...]:
    """Files that were written and cannot be given back now: they were not found, or the limit that
    they had is not known. Both ends of a range stay together, since turbo moves both.
    """
    texts = dict(zip(group.labels, values, strict=True))
    written = {
        label: base
        for label, base, asked in zip(owned.labels, owned.baseline, owned.requested, strict=True)
        if asked is not None
    }
    stays = {label for label in written if texts.get(label) is None}
    if clipped and HARDWARE_LIMIT in written.values():
        stays |= written.keys() & {item.label for item in group.files if item.attribute.limit}
    return tuple(label for label in written if label in stays)


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _ask_cpufreq(group: Group, cpu_groups: Mapping[int, CpuGroup], seen: _Seen) -> _Asked:
    """seen: values by the identity of the plan's group, which many CPUs share."""
    found = None
    for cpu in group.cpus:
        member = cpu_groups.get(cpu)
        if member is not None and member.held:
            return None, ()
        found = found or member
    if found is None:
        return None, ()
    key = (id(found), len(group.files))
    if key not in seen:
        target = found.target
        seen[key] = tuple(_spelled(item.attribute, target) for item in group.files)
    return seen[key], found.because


def _ask_idle(
    group: Group, cpu_groups: Mapping[int, CpuGroup], machine: Machine, seen: _Seen
) -> _Asked:
    """seen: values by the identities of plan group and idle states, which many CPUs share."""
    number = int(group.id)
    found = cpu_groups.get(number)
    if found is None or found.held or found.pool is Pool.OFFLINE:
        return None, ()
    if not found.target.idle:
        return (None,) * len(group.files), found.because
    states = machine.by_id[number].idle
    key = (id(found), id(states))
    if key not in seen:
        seen[key] = tuple(map(_disable, by_state(found.target.idle, states)))
    return seen[key], found.because


def _ask_alone(group: Group, cpu_groups: Mapping[int, CpuGroup], seen: _Seen) -> _Asked:
    """What a CPU has alone. seen: values by the identities of plan group and attribute."""
    found = cpu_groups.get(int(group.id))
    if found is None or found.held or found.pool is Pool.OFFLINE:
        return None, ()
    attribute = group.files[0].attribute  # a group of its own each
    key = (id(found), id(attribute))
    if key not in seen:
        seen[key] = (_spelled(attribute, found.target),)
    return seen[key], found.because


def _spelled(attribute: Attribute, target: Target) -> str | None:
    """What a target asks of a file, as the file takes it."""
    value = getattr(target, attribute.asks)
    return None if value is None else attribute.spelled(value)


def _disable(on: bool | None) -> str | None:
    return None if on is None else "0" if on else "1"


def _ask_uncore(target: UncoreTarget | None) -> _Asked:
    if target is None:
        return None, ()
    return (_text(target.min_khz), _text(target.max_khz)), target.because


def _ask_fabric(target: FabricTarget | None) -> _Asked:
    return (None, ()) if target is None else ((target.pstates,), target.because)


def _ask_boost(group: Group, boost: bool | None, *, held: bool) -> _Asked:
    """held: somebody's limits must not be moved."""
    if held:
        return None, ()
    on = boost is (group.files[0].attribute is table.BOOST)
    text = None if boost is None else "1" if on else "0"
    return (text,) * len(group.files), (Why("turbo of the node"),)


def _ask_cap(group: Group, target: CapTarget | None) -> _Asked:
    """The limits by name, and the switch with them: a limit works only where that is on."""
    if target is None:
        return None, ()
    limits = {
        limit.name: None if uw is None else zone_text(target.zone, uw)
        for limit, uw in zip(target.zone.limits, target.limits, strict=True)
    }
    capped = any(text is not None for text in limits.values())
    return (
        tuple(limits.get(item.label, "1" if capped else None) for item in group.files),
        target.because,
    )
