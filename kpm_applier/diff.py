"""Plan against what is there, as a tuple of writes in order (pure; rules A2 and A3)."""

from collections.abc import Sequence
from enum import StrEnum

from kpm_applier import attributes as table
from kpm_applier.order import Pattern, in_order, pattern_in_order, turns_on
from kpm_applier.state.record import IN_DOUBT, GroupState
from kpm_applier.wants import Want
from kpm_planner.model.changes import Observed, Reason, Write

#: Makes a Write of its fields in order, in a third of the time that its constructor takes: a change
#: may make thousands.
_tuple = tuple.__new__


class Repair(StrEnum):
    """What is done about values that somebody else wrote."""

    WRITE = "write"
    REPORT = "report"


def diff(wants: Sequence[Want], observed: Observed) -> tuple[Write, ...]:
    """The writes that bring every wanted file to its value, in order.

    A file is written when its request changes, or when it shows neither what we want nor where that
    settled (drift). One that has never been written and shows what we want is left alone; one whose
    last write a crash may have cut off is written again. A new governor takes the EPP with it.
    """
    show = observed.values.get
    writes: list[Write] = []
    switches: list[Write] = []
    last: dict[int, tuple[GroupState, object, list[str | None], Pattern]] = {}
    for want in in_order(wants):
        group, record, values = want.group, want.record, want.values
        paths = group.paths
        shown = list(map(show, paths))
        before = last.get(len(paths))
        if (
            before is not None
            and not want.floating
            and before[0] is record
            and before[1] is values
            and before[2] == shown
        ):
            pattern = before[3]  # neighbours mostly need the same
        else:
            pattern = _pattern(want, shown)
            last[len(paths)] = (record, values, shown, pattern)
        if pattern:
            key, because = group.key, want.because
            made = [
                _tuple(Write, (paths[index], value, old, key, reason, because))
                for index, value, old, reason in pattern
            ]
            if group.kind is table.Kind.CAP and turns_on(made[0]):
                switches.append(made.pop(0))
            writes += made
    return (*writes, *switches)


def _pattern(want: Want, shown: Sequence[str | None]) -> Pattern:
    record = want.record
    plain = Reason.RESTORE if want.release else Reason.PLAN
    found: list[tuple[int, str, str | None, Reason]] = []
    governor: Reason | None = None
    for index, (item, target, shows) in enumerate(
        zip(want.group.files, want.values, shown, strict=True)
    ):
        if target is None or (
            want.floating and item.attribute.limit and _inside(shows, want.values)
        ):
            continue
        reason = _reason(target, shows, record.requested[index], record.settled[index], plain)
        if reason is None and want.release and shows not in (None, target):
            # it showed that before us: where it settled may be what a driver forgot just then
            # (K18), or a limit that holds no longer
            reason = plain
        if reason is None and item.attribute is table.EPP:
            reason = governor
        if reason is not None:
            governor = reason if item.attribute is table.GOVERNOR else governor
            found.append((index, target, shows, reason))
    return pattern_in_order(found, want)


def _inside(shows: str | None, values: tuple[str | None, ...]) -> bool:
    """Whether a limit lies in the range of the last two values."""
    low, high = values[-2:]
    return (
        shows is not None
        and low is not None
        and high is not None
        and shows.isdecimal()
        and int(low) <= int(shows) <= int(high)
    )


def _reason(
    target: str, shows: str | None, requested: str | None, settled: str | None, plain: Reason
) -> Reason | None:
    if requested is None:  # never written: nothing to do where it shows what we want
        return None if shows == target else plain
    if requested != target or settled == IN_DOUBT:
        return plain
    if shows is None or shows in (target, settled):
        return None
    return plain if settled is None else Reason.DRIFT
