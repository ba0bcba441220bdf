"""Carry out writes and read back until everything has settled (rules A3, A4).

Never raises half-way.

The kernel may update a policy some time after a write returns (kernel-facts K2), and one end of a
range may spring when the other moves (K1): so the files of every touched group are read until they
stand still, and what is still wanted is written in a further round. A request that the kernel holds
already does not make it look again (K36): a minimum below what was written, though the maximum has
room for it, has the governor of its domain written once more, as it is.
"""

import errno
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import takewhile

from attrs import field, frozen

from kpm_applier.attributes import EPP, GOVERNOR, MAX_FREQ, MIN_FREQ
from kpm_applier.diff import diff
from kpm_applier.discovery.observe import merged, observe_expected, observe_files
from kpm_applier.order import turns_on
from kpm_applier.sysfs.host import Host
from kpm_applier.sysfs.reader import as_number
from kpm_applier.wants import Want
from kpm_planner.model.changes import Observed, Reason, Write

#: Seconds between looks at files that do not show what was written; after the last one they count
#: as settled.
_LOOKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.3)
#: A value that has moved since the write and stood still for so many looks is where the kernel
#: wants it.
_STILL_LOOKS = 4
_ROUNDS = 4
#: Failures that a further round may cure, once another file of the group has been written.
_PASSING = frozenset({errno.EBUSY, errno.EINVAL})


@frozen
class Applied:
    """What came of a set of writes.

    writes: those that the kernel took, in order. observed: what the touched groups' files show at
    the end. failures: path → errno of writes that failed. unsettled: paths whose values had not
    stood still when the wait ended. right: whether every file of the touched groups shows just what
    was wanted.
    """

    writes: tuple[Write, ...] = ()
    observed: Observed = Observed()
    failures: Mapping[str, int] = field(factory=dict, hash=False)
    unsettled: frozenset[str] = frozenset()
    right: bool = False


def apply(
    host: Host,
    wants: Sequence[Want],
    writes: Sequence[Write],
    observed: Observed,
    left: Collection[str] = frozenset(),
    *,
    repair: bool = True,
) -> Applied:
    """Make the writes of a diff and whatever further ones the wants need after them; at most four
    rounds.

    left: paths whose foreign values are not to be touched; repair: False for none that is met
    later, but in a group that is released: it is given back whatever somebody else wants.
    """
    by_group = {want.group.key: want for want in wants}
    taken: dict[str, Write] = {}
    failures: dict[str, int] = {}
    given_up: set[str] = set()
    askew: set[str] = set()  # groups that do not show what is wanted, as they were looked at last
    nudged = False
    unsettled: frozenset[str] = frozenset()
    for _ in range(_ROUNDS):
        if not writes:
            break
        made = _write_all(host, writes, failures)
        touched = [by_group[key] for key in dict.fromkeys([write.group for write in writes])]
        looked, moving, right = _settle(host, touched, observed, left)
        observed = merged(observed, looked)
        # the usual case, without the book-keeping of further rounds
        if right and not failures and not taken:
            return Applied(tuple(made), observed, right=True)
        for write in made:
            taken.setdefault(write.path, write)
        keys = {want.group.key for want in touched}
        askew = askew - keys if right else askew | keys
        if not askew and not failures:
            return Applied(tuple(taken.values()), observed, right=True)
        given_up |= _hopeless(writes, made, failures)
        unsettled = (unsettled - looked.values.keys()) | moving
        wanted = [
            write
            for write in diff(touched, observed)
            if write.path not in left
            and (repair or write.reason is not Reason.DRIFT or by_group[write.group].release)
        ]
        writes = _further(wanted, taken, given_up)
        if not writes and not nudged:
            nudged, writes = True, _nudges(by_group, taken.values(), observed)
    return Applied(tuple(taken.values()), observed, failures, unsettled)


def _further(
    writes: Sequence[Write], taken: Collection[str], given_up: Collection[str]
) -> list[Write]:
    """What is still to be written; the EPP once more where its governor has only now come."""
    wanted = [write for write in writes if write.path not in taken and write.path not in given_up]
    late = {write.group for write in wanted if write.path.endswith(GOVERNOR.file)}
    return (
        [
            write
            for write in writes
            if write in wanted or (write.group in late and write.path.endswith(EPP.file))
        ]
        if late
        else wanted
    )


def _nudges(
    by_group: Mapping[str, Want], taken: Iterable[Write], observed: Observed
) -> Sequence[Write]:
    """The governor, as it is, of every domain whose minimum was written and shows less, though the
    maximum has room for it: requests and limits of others cannot explain that (K1), only that the
    kernel has not looked (K36).
    """
    shown = observed.values
    found = []
    for write in taken:
        if not write.path.endswith(MIN_FREQ.file):
            continue
        paths = {item.attribute: item.path for item in by_group[write.group].group.files}
        governor = shown.get(paths[GOVERNOR])
        low, high = (as_number(shown.get(paths[row])) for row in (MIN_FREQ, MAX_FREQ))
        if governor is None or low is None or high is None:
            continue
        if low < int(write.value) <= high:
            found.append(write._replace(path=paths[GOVERNOR], value=governor, old=governor))
    return found


def _write_all(host: Host, writes: Sequence[Write], failures: dict[str, int]) -> Sequence[Write]:
    """Write one by one; a failure costs that file only. Returns the writes that the kernel took.

    What turns a cap on stands last, and is not written where a limit of its zone was refused: an
    unknown one would come in force.
    """
    encoded = {value: f"{value}\n".encode() for value in {write.value for write in writes}}
    begins = len(writes) - sum(1 for _ in takewhile(turns_on, reversed(writes)))
    first, switches = writes[:begins], writes[begins:]
    failed = host.write_all([(write.path, encoded[write.value]) for write in first])
    if switches:
        refused = {write.group: failed[write.path] for write in first if write.path in failed}
        failed |= {write.path: refused[write.group] for write in switches if write.group in refused}
        failed |= host.write_all(
            [(write.path, encoded[write.value]) for write in switches if write.group not in refused]
        )
    if not failed and not failures:
        return writes
    for write in writes:
        failures.pop(write.path, None)
    failures.update((path, failure.errno or errno.EIO) for path, failure in failed.items())
    return [write for write in writes if write.path not in failed]


def _hopeless(
    writes: Iterable[Write], made: Collection[Write], failures: Mapping[str, int]
) -> set[str]:
    """Paths of failed writes that a further round would not cure: nothing else in their group has
    moved.
    """
    if not failures:
        return set()
    moved = {write.group for write in made}
    failed = (write for write in writes if write.path in failures)
    return {
        write.path
        for write in failed
        if failures[write.path] not in _PASSING or write.group not in moved
    }


def _settle(
    host: Host, wants: Sequence[Want], before: Observed, left: Collection[str]
) -> tuple[Observed, frozenset[str], bool]:
    """Read the groups of these wants until their files show what is wanted or stand still.

    Returns what they show, the paths that were still moving at the end, and whether all show what
    is wanted.
    """
    paths = [path for want in wants for path in want.group.paths]
    texts = [target for want in wants for target in want.values]
    observed, right = observe_expected(host, paths, texts)
    if right:
        return observed, frozenset(), True
    targets = {
        path: target
        for path, target in zip(paths, texts, strict=True)
        if target is not None and path not in left
    }
    shown = observed.values
    still = {path: 0 for path, target in targets.items() if path in shown and shown[path] != target}
    if not still:
        return observed, frozenset(), False
    for pause in _LOOKS:
        host.wait(pause)
        looked = observe_files(host, list(still))
        for path in list(still):
            now = looked.values.get(path)
            still[path] = still[path] + 1 if now == observed.values.get(path) else 0
            moved = now != before.values.get(path)
            if now is None or now == targets[path] or (moved and still[path] >= _STILL_LOOKS):
                del still[path]
        observed = merged(observed, looked)
        if not still:
            break
    moving = frozenset(path for path, looks in still.items() if not looks)
    # the other end of a range may have sprung meanwhile
    return observe_files(host, paths), moving, False
