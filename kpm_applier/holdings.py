"""What of a machine is ours now: of each file what was asked, what it shows, what it held before
(pure).

A value is foreign where it shows neither what was asked nor where that settled (rule A3), limited
where it settled at another value than was asked.
"""

from collections.abc import Iterable, Sequence

from attrs import frozen

from kpm_applier.attributes import Group
from kpm_applier.state.baseline import HARDWARE_LIMIT
from kpm_applier.state.record import IN_DOUBT, State
from kpm_planner.model.changes import Observed


@frozen
class Holding:
    """One file of ours. group: its key; path: below the root.

    before: what it held, None where that is not known; settled: where it came to rest, None where
    that is not known; shows: None where it cannot be read.
    """

    group: str
    path: str
    before: str | None
    asked: str
    settled: str | None
    shows: str | None

    @property
    def foreign(self) -> bool:
        """Whether somebody else changed it."""
        known = self.settled not in (None, IN_DOUBT)
        return known and self.shows is not None and self.shows not in (self.asked, self.settled)

    @property
    def limited(self) -> bool:
        """Whether the kernel rounds it, or another party limits it."""
        return not self.foreign and self.shows not in (None, self.asked)


def holdings(groups: Sequence[Group], state: State, observed: Observed) -> tuple[Holding, ...]:
    """Of every file that was written and is there, in the order of the groups."""
    return tuple(item for group in groups for item in _of_group(group, state, observed))


def not_found(groups: Sequence[Group], state: State) -> tuple[str, ...]:
    """Keys of owned groups that the machine does not have now, such as those of offline CPUs."""
    return tuple(sorted(state.groups.keys() - {group.key for group in groups}))


def _of_group(group: Group, state: State, observed: Observed) -> Iterable[Holding]:
    record = state.groups.get(group.key)
    if record is None:
        return
    for item in group.files:
        before, asked, settled = record.of(item.label)
        if asked is not None:
            shows = observed.values.get(item.path)
            if before == HARDWARE_LIMIT and group.hardware is not None:
                before = group.hardware[item.attribute.limit == "max"]
            yield Holding(group.key, item.path, before, asked, settled=settled, shows=shows)
