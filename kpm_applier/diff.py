"""Plan against what is there, as a tuple of writes in order (pure; rules A2 and A3)."""

from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum

from kpm_applier import attributes as table
from kpm_applier.targets import Want
from kpm_planner.changes import Observed, Reason, Write


class Repair(StrEnum):
    """What is done about values that somebody else wrote."""

    WRITE = "write"
    REPORT = "report"


def diff(wants: Iterable[Want], observed: Observed) -> tuple[Write, ...]:
    """The writes that bring every wanted file to its value, boost first, then group by group.

    A file is written when its request changes, or when it shows neither what we want nor where that settled (drift).
    One that has never been written and shows what we want is left alone. A new governor takes the EPP with it.
    """
    ordered = sorted(wants, key=_by_boost) if any(want.group.kind is table.Kind.BOOST for want in wants) else wants
    writes: list[Write] = []
    for want in ordered:
        if want.record.requested == want.values and _shows_settled(want, observed):
            continue
        writes += _group_writes(want, observed)
    return tuple(writes)


def _by_boost(want: Want) -> bool:
    return want.group.kind is not table.Kind.BOOST


def _shows_settled(want: Want, observed: Observed) -> bool:
    values = observed.values
    for item, target, settled in zip(want.group.files, want.values, want.record.settled, strict=True):
        shows = values.get(item.path)
        if shows is not None and shows not in (target, settled):
            return False
    return True


def _group_writes(want: Want, observed: Observed) -> Sequence[Write]:
    group, record = want.group, want.record
    plain = Reason.RESTORE if want.release else Reason.PLAN
    writes: list[Write] = []
    governor_changes = False
    shown = observed.values
    for item, target, requested, settled in zip(group.files, want.values, record.requested, record.settled, strict=True):
        if target is None:
            continue
        shows = shown.get(item.path)
        if requested is None:  # never written: nothing to do where it shows what we want
            reason = None if shows == target else plain
        elif requested != target:
            reason = plain
        else:
            reason = None if shows is None or shows in (target, settled) else Reason.DRIFT
        if reason is None and governor_changes and item.attribute is table.EPP:
            reason = plain
        if reason is not None:
            governor_changes = governor_changes or item.attribute is table.GOVERNOR
            writes.append(Write(item.path, target, shows, group.key, reason, want.because))
    if len(writes) > 1 and group.files[-1].attribute.limit == "max" and writes[-2].path == group.files[-2].path and _raises(writes[-1]):
        writes[-2:] = [writes[-1], writes[-2]]  # never a minimum above a maximum
    return writes


def _raises(write: Write) -> bool:
    return write.old is None or not write.old.isdigit() or int(write.value) >= int(write.old)


def drifted_groups(writes: Iterable[Write]) -> Collection[str]:
    """Keys of the groups in which somebody else wrote a value that is to be repaired."""
    return {write.group for write in writes if write.reason is Reason.DRIFT}
