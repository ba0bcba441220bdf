"""Plan against what is there, as a tuple of writes in order (pure; rules A2 and A3)."""

from collections.abc import Sequence
from enum import StrEnum

from kpm_applier import attributes as table
from kpm_applier.state.store import IN_DOUBT, GroupState
from kpm_applier.wants import Want
from kpm_planner.model.changes import Observed, Reason, Write


class Repair(StrEnum):
    """What is done about values that somebody else wrote."""

    WRITE = "write"
    REPORT = "report"


_SWITCH = f"/{table.CAP_ENABLED.file}"
#: Writes of a group without its paths: index of the file, value, what it shows, reason. Many groups
#: share one.
_Pattern = tuple[tuple[int, str, str | None, Reason], ...]


def diff(wants: Sequence[Want], observed: Observed) -> tuple[Write, ...]:
    """The writes that bring every wanted file to its value, boost first, then group by group, and
    last what turns caps on.

    A file is written when its request changes, or when it shows neither what we want nor where that
    settled (drift). One that has never been written and shows what we want is left alone; one whose
    last write a crash may have cut off is written again. A new governor takes the EPP with it.
    """
    show = observed.values.get
    writes: list[Write] = []
    switches: list[Write] = []
    last: dict[int, tuple[GroupState, object, list[str | None], _Pattern]] = {}
    for want in _boost_first(wants):
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
                Write(paths[index], value, old, key, reason, because)
                for index, value, old, reason in pattern
            ]
            if group.kind is table.Kind.CAP and turns_on(made[0]):
                switches.append(made.pop(0))
            writes += made
    return (*writes, *switches)


def turns_on(write: Write) -> bool:
    """Whether a write puts limits of power in force, which comes after all of them."""
    return write.value != "0" and write.path.endswith(_SWITCH)


def _boost_first(wants: Sequence[Want]) -> Sequence[Want]:
    if any(want.group.kind is table.Kind.BOOST for want in wants):
        return sorted(wants, key=lambda want: want.group.kind is not table.Kind.BOOST)
    return wants


def _pattern(want: Want, shown: Sequence[str | None]) -> _Pattern:
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
        if (
            reason is None
            and want.release
            and not item.attribute.limit
            and shows not in (None, target)
        ):
            # words are not rounded: what it settled at may be what a driver forgot just then (K18)
            reason = plain
        if reason is None and item.attribute is table.EPP:
            reason = governor
        if reason is not None:
            governor = reason if item.attribute is table.GOVERNOR else governor
            found.append((index, target, shows, reason))
    return _limits_ordered(found, want)


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


def _limits_ordered(found: list[tuple[int, str, str | None, Reason]], want: Want) -> _Pattern:
    """A raised maximum before a raised minimum, a lowered minimum before a lowered maximum: never a
    minimum above a maximum.
    """
    last = len(want.group.files) - 1
    both = len(found) > 1 and found[-1][0] == last and found[-2][0] == last - 1
    if (
        both
        and want.group.files[last].attribute.limit == "max"
        and _raises(found[-1][1], found[-2][2], found[-1][2], want.record)
    ):
        found[-2:] = [found[-1], found[-2]]
    return tuple(found)


def _raises(target: str, shown_min: str | None, shown_max: str | None, record: GroupState) -> bool:
    """Whether the maximum may and should be written first: it goes up, and no registered minimum
    lies above it.

    A minimum above what is shown can only be registered where both ends show the same; then ours is
    the one known.
    """
    if (
        shown_min is None
        or shown_max is None
        or not (shown_min.isdecimal() and shown_max.isdecimal() and target.isdecimal())
    ):
        return True
    registered = record.requested[-2] if shown_min == shown_max else None
    hidden = registered is not None and registered.isdigit() and int(registered) > int(target)
    return int(target) >= int(shown_max) and not hidden
