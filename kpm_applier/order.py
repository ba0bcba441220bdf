"""The order of writes: by the attribute table, over the groups and inside each of them (pure).

Two things the table cannot say. Of two ends of a range that one goes first which keeps the minimum
below the maximum at every step; and what puts limits of power in force comes after all of them.
"""

from collections.abc import Sequence

from kpm_applier import attributes as table
from kpm_applier.state.record import GroupState
from kpm_applier.wants import Want
from kpm_planner.model.changes import Reason, Write

#: Writes of a group without its paths: index of the file, value, what it shows, reason. Many groups
#: share one.
Pattern = tuple[tuple[int, str, str | None, Reason], ...]

_SWITCH = f"/{table.CAP_ENABLED.file}"


def in_order(wants: Sequence[Want]) -> Sequence[Want]:
    """The groups by the order of their first attribute: turbo, which moves the limits of the
    others, before all of them.
    """
    return sorted(wants, key=lambda want: want.group.files[0].attribute.order)


def pattern_in_order(found: list[tuple[int, str, str | None, Reason]], want: Want) -> Pattern:
    """The writes of one group: by attribute; a raised maximum before a raised minimum, a lowered
    minimum before a lowered maximum.
    """
    files = want.group.files
    found.sort(key=lambda write: files[write[0]].attribute.order)
    last = len(files) - 1
    both = len(found) > 1 and found[-1][0] == last and found[-2][0] == last - 1
    if (
        both
        and files[last].attribute.limit == "max"
        and _raises(found[-1][1], found[-2][2], found[-1][2], want.record)
    ):
        found[-2:] = [found[-1], found[-2]]
    return tuple(found)


def turns_on(write: Write) -> bool:
    """Whether a write puts limits of power in force, which comes after all of them."""
    return write.value != "0" and write.path.endswith(_SWITCH)


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
