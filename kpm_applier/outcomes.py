"""How a group's record in the state follows its writes, and what is told of files that did not
become as asked (pure; rules A3, A7).
"""

import errno
from collections.abc import Collection, Iterable, Sequence

from attrs import evolve

from kpm_applier.apply import Applied
from kpm_applier.attributes import EPP, GOVERNOR, Group, Kind
from kpm_applier.state.record import IN_DOUBT, GroupState
from kpm_applier.wants import Want
from kpm_planner.model.changes import Outcome, Status, Write


def in_doubt(want: Want) -> GroupState:
    """A group's record while its new requests are being written."""
    record, values = want.record, _asked(want)
    if record.requested == values:
        return record
    settled = tuple(
        before if asked == value else IN_DOUBT
        for asked, before, value in zip(record.requested, record.settled, values, strict=True)
    )
    return GroupState(
        want.group.driver or record.driver, record.labels, record.baseline, values, settled
    )


def _asked(want: Want) -> tuple[str | None, ...]:
    """What is asked of each file from now on; of one that nothing can be asked of now, what was
    asked before.
    """
    return tuple(
        before if value is None else value
        for before, value in zip(want.record.requested, want.values, strict=True)
    )


def at_rest(
    want: Want, intended: GroupState, seen: dict[tuple[object, ...], GroupState]
) -> GroupState:
    """A group's record when every written file shows what was asked;
    equal records are one value.
    """
    if IN_DOUBT not in intended.settled:
        return intended
    key = (id(intended), want.values)
    if key not in seen:
        steps = zip(intended.settled, want.values, strict=True)
        seen[key] = evolve(
            intended,
            settled=tuple(value if before == IN_DOUBT else before for before, value in steps),
        )
    return seen[key]


def doubted(wants: Iterable[Want], applied: Applied) -> Applied:
    """What came of a pass, with words that do not show what was written as unsettled: no kernel
    rounds them, so somebody or the driver of a CPU that came back (K18) changed them meanwhile.
    Doubted once: one that was in doubt before is where the kernel wants it.
    """
    if applied.right or not applied.writes:
        return applied
    shown, written = applied.observed.values, {write.path for write in applied.writes}
    found = {
        item.path
        for want in wants
        for item, text, before in zip(
            want.group.files, want.values, want.record.settled, strict=True
        )
        if item.attribute in (EPP, GOVERNOR)
        and item.path in written
        and before != IN_DOUBT
        and item.path not in applied.failures
        and shown.get(item.path, text) != text
    }
    return evolve(applied, unsettled=applied.unsettled | found) if found else applied


def after_pass(
    want: Want, applied: Applied, left: Collection[str], seen: dict[tuple[object, ...], GroupState]
) -> GroupState:
    """A group's record after a pass; equal records are one value.

    A write that failed leaves its file's request as it was; a foreign value that was left is not
    where ours settled, and what is not settled is in doubt.
    """
    record, values, failures = want.record, applied.observed.values, applied.failures
    paths = want.group.paths
    requested = _asked(want)
    settled = tuple(
        # what is not asked for now is where it was
        values.get(path) if text is not None or before is None else at_rest
        for path, text, before, at_rest in zip(
            paths, want.values, record.requested, record.settled, strict=True
        )
    )
    if applied.unsettled:
        settled = tuple(
            IN_DOUBT if path in applied.unsettled else now
            for path, now in zip(paths, settled, strict=True)
        )
    if failures or left:
        requested = tuple(
            before if path in failures else now
            for path, before, now in zip(paths, record.requested, requested, strict=True)
        )
        settled = tuple(
            before if path in failures or path in left else now
            for path, before, now in zip(paths, record.settled, settled, strict=True)
        )
    key = (id(record), requested, settled)
    if key not in seen:
        seen[key] = GroupState(
            want.group.driver or record.driver, record.labels, record.baseline, requested, settled
        )
    return seen[key]


def adrift(group: Group, record: GroupState) -> GroupState:
    """The record of a group whose limits the scaler sets, or a driver by itself: nobody knows where
    they are, so the next plan writes them.
    """
    steps = zip(group.files, record.settled, strict=True)
    return evolve(
        record,
        settled=tuple(IN_DOUBT if item.attribute.limit else before for item, before in steps),
    )


def outcomes_of(
    wants: Iterable[Want], writes: Sequence[Write], applied: Applied, left: Collection[str]
) -> tuple[Outcome, ...]:
    """Outcomes of the files that were touched and do not show what was asked of them, and of those
    that could not be.
    """
    lost = tuple(
        _lost(want.group, path, text, applied) for want in wants for path, text in want.lost
    )
    if applied.right and not left:
        return lost
    shown = applied.observed.values
    touched = {write.path: write for write in (*writes, *applied.writes)}
    odd = {
        path
        for path, write in touched.items()
        if shown.get(path) != write.value or path in applied.failures
    }.union(left)
    found = (
        _outcome(want.group, item.path, target or "", applied, item.path in left)
        for want in wants
        for item, target in zip(want.group.files, want.values, strict=True)
        if item.path in odd
    )
    return (*found, *lost) if odd else lost


def _lost(group: Group, path: str, wanted_text: str, applied: Applied) -> Outcome:
    """A file that was not written because what it held could not be read, and so could not be given
    back.
    """
    return Outcome(
        path,
        group.key,
        Status.FAILED,
        wanted=wanted_text,
        shows=None,
        errno=applied.observed.errors.get(path, errno.EIO),
    )


def _outcome(group: Group, path: str, target: str, applied: Applied, foreign: bool) -> Outcome:
    shows = applied.observed.values.get(path)
    number = applied.failures.get(path) or (
        applied.observed.errors.get(path, errno.EIO) if shows is None else None
    )
    if foreign:
        status = Status.DRIFTED
    elif number is not None:
        status = (
            Status.OFFLINE
            if group.kind is Kind.CPUFREQ and number == errno.EBUSY and shows is None
            else Status.FAILED
        )
    else:
        status = Status.UNSETTLED if path in applied.unsettled else Status.LIMITED
    return Outcome(path, group.key, status, wanted=target, shows=shows, errno=number)
