"""What is kept of an owned group: what its files held, what was asked
of them, where they settled.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache

from attrs import evolve, field, frozen

from kpm_applier.attributes import (
    ALONE,
    Group,
    Kind,
)
from kpm_planner.model.machine import (
    Machine,
)

#: Settled value of a request from before its write until it has been verified. Whoever finds it
#: makes the write again whatever the file shows: a crash may have come before it, and what is shown
#: may be late news (K2).
IN_DOUBT = ""


class StateError(Exception):
    """The state cannot be used; nothing may be written to the tree.

    The text says why and what to do.
    """


@frozen(cache_hash=True)
class GroupState:
    """An owned group. labels name its files; the tuples run in step with them.

    baseline: what each file held before our first write; requested: what we last asked for, None
    for nothing yet; settled: what it showed when it had settled, None where that is not known,
    IN_DOUBT from before the write until then.
    """

    driver: str
    labels: tuple[str, ...]
    baseline: tuple[str | None, ...]
    requested: tuple[str | None, ...]
    settled: tuple[str | None, ...]

    def of(self, label: str) -> tuple[str | None, str | None, str | None]:
        """Baseline, request and settled value of one file; all None where it is not known."""
        if label not in self.labels:
            return None, None, None
        index = self.labels.index(label)
        return self.baseline[index], self.requested[index], self.settled[index]


@frozen
class State:
    """All owned groups by key."""

    groups: Mapping[str, GroupState] = field(factory=dict, hash=False)
    boot_id: str | None = None


def aligned(group: Group, record: GroupState) -> GroupState:
    """A record in step with a group whose files are not those it was made for; what it does not
    know is None.
    """
    columns = zip(*(record.of(label) for label in group.labels), strict=True)
    return GroupState(record.driver, group.labels, *columns)


def whole(record: GroupState, before: GroupState | None) -> GroupState:
    """A record with what the one before it knows of files that were not found this time: what
    cannot be read is not gone (R7).
    """
    if before is None or before.labels == record.labels:
        return record
    missing = tuple(label for label in before.labels if label not in record.labels)
    return extended(record, before, missing) if missing else record


def extended(record: GroupState | None, before: GroupState, labels: tuple[str, ...]) -> GroupState:
    """A record, none for an empty one, with these files of another one."""
    columns = tuple(zip(*(before.of(label) for label in labels), strict=True))
    if record is None:
        return GroupState(before.driver, labels, *columns)
    joined = (
        (*own, *more)
        for own, more in zip(
            (record.baseline, record.requested, record.settled), columns, strict=True
        )
    )
    return GroupState(record.driver, (*record.labels, *labels), *joined)


#: Kinds of key that go with their CPU.
_OF_CPUS = frozenset({Kind.CPUFREQ, Kind.IDLE, *(item.prefix for item in ALONE)})


def incomplete(state: State, groups: Iterable[Group], machine: Machine) -> bool:
    """Whether something that is ours was not found, other than for a CPU that is offline: it is
    worth looking again.
    """
    found = {group.key: group for group in groups}
    for key, record in state.groups.items():
        group = found.get(key)
        if group is None:
            kind, number = kind_and_number(key)
            if not (kind in _OF_CPUS and number not in machine.online):
                return True
        elif group.labels != record.labels and not set(record.labels) <= set(group.labels):
            return True
    return False


def without_void(state: State, groups: Iterable[Group]) -> State:
    """The state less the groups that are known to be another driver's now; a name that could not be
    read is none.
    """
    drivers = {group.key: group.driver for group in groups}
    kept = {
        key: item
        for key, item in state.groups.items()
        if "" in (item.driver, drivers.get(key, "")) or drivers[key] == item.driver
    }
    return state if len(kept) == len(state.groups) else evolve(state, groups=kept)


@lru_cache(maxsize=1 << 16)  # every save meets the same keys
def kind_and_number(key: str) -> tuple[str, int | None]:
    """A group's kind and its number, None where it has none, out of its key."""
    kind, _, number = key.partition(":")
    return kind, int(number) if number.isdigit() else None
