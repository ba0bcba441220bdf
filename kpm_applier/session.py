"""The applier as a handle with a lifetime: one root, one state file, one plan in force.

It composes discover, diff, apply and state; a pass over a machine that is right reads the managed files through kept
descriptors, compares bytes, and does nothing else (rules A1 to A7).
"""

import errno
from collections.abc import Collection, Iterable, Mapping, Sequence

from attrs import define, evolve, field, frozen

from kpm_applier.apply import Applied, apply
from kpm_applier.attributes import Group, Kind
from kpm_applier.diff import Repair, diff
from kpm_applier.discover import Discovery, check_tree, discover, merged, observe
from kpm_applier.host import Host, Watch
from kpm_applier.state import GroupState, State, Store, with_baseline, without_void
from kpm_applier.targets import Want, released, wanted
from kpm_planner.changes import Outcome, Reason, Status, Write
from kpm_planner.machine import Machine
from kpm_planner.plan import NodePlan

#: Seconds before a group that somebody else keeps changing, or that keeps failing, is written again: doubled each time.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 300.0
_GONE = frozenset({errno.ENODEV, errno.ENOENT, errno.ENXIO})


@frozen
class Report:
    """What a pass did. outcomes: of every file that did not simply become what was written."""

    writes: tuple[Write, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    drift: tuple[Write, ...] = ()
    released: tuple[str, ...] = ()

    def followed_by(self, later: "Report") -> "Report":
        """Both reports as one."""
        return Report((*self.writes, *later.writes), (*self.outcomes, *later.outcomes), (*self.drift, *later.drift), (*self.released, *later.released))

    @property
    def settled(self) -> bool:
        """Whether everything was written and stood still at the end."""
        return not any(outcome.status in (Status.FAILED, Status.UNSETTLED, Status.OFFLINE) for outcome in self.outcomes)


@define
class _Pause:
    """How long a group is left alone after trouble."""

    until: float = 0.0
    length: float = _FIRST_PAUSE


@frozen
class _InForce:
    """A plan that has been applied, and those of its files whose reading disturbs nobody."""

    plan: NodePlan
    quiet: tuple[str, ...]


@define
class Applier:
    """One writer of one root. Call `open` first; only `apply` and `restore` write."""

    host: Host
    store: Store
    repair: Repair = Repair.WRITE
    state: State = State()
    discovery: Discovery | None = None
    drift_count: int = 0
    _in_force: _InForce | None = None
    _watch: Watch | None = None
    _writing: bool = False
    _fresh: bool = False
    _kept_groups: tuple[Group, ...] = ()
    _quiet: tuple[str, ...] = ()
    _sentinels: Watch | None = None
    _pauses: dict[str, _Pause] = field(factory=dict)

    def open(self, *, writing: bool = True, known: Discovery | None = None) -> None:
        """Load the state and discover the machine, unless it is known. Errors: StateError, HostError, OSError of the root."""
        if writing:
            check_tree(self.host)
            self.store.lock()
        self._writing = writing
        self.state = self.store.load()
        if known is None:
            self.discover()
        else:
            self.discovery, self._fresh = known, True
            self.state = without_void(self.state, known.groups)

    def close(self) -> None:
        """Close descriptors and release the lock; what was written is said to be so."""
        try:
            self._confirm()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        self.host.forget()
        self.store.unlock()

    def discover(self) -> Discovery:
        """Look at the whole machine anew; entries of another driver are void."""
        self.host.forget()
        self._in_force = self._watch = self._sentinels = None
        self._kept_groups = ()
        self.discovery = discover(self.host)
        self._fresh = True
        current = without_void(self.state, self.discovery.groups)
        if current is not self.state and self._writing:
            self._save(current)
        self.state = current
        return self.discovery

    @property
    def machine(self) -> Machine:
        """The machine with the baseline of every owned group as its settings: what the planner takes."""
        found = self._found()
        return with_baseline(found.machine, found.groups, self.state)

    def preview(self, plan: NodePlan) -> Sequence[Write]:
        """The writes that applying the plan would start with."""
        found = self._found()
        return diff(wanted(plan, found.machine, found.groups, found.observed, self.state), found.observed)

    def changed(self) -> bool:
        """Whether the machine itself has changed since it was discovered (rule A2)."""
        found = self._found()
        try:
            if self._sentinels is None:
                if self.host.differing(tuple(found.sentinels), tuple(found.sentinels.values())):
                    return True
                self._sentinels = self.host.watch(found.sentinels)
                return False
            return not self._sentinels.same()
        except OSError:
            return True

    def apply(self, plan: NodePlan) -> Report:
        """Bring the machine to the plan and verify it. Errors: StateError, and then nothing has been written.

        A plan that is in force costs one comparison of bytes. A descriptor that has died is opened anew once.
        """
        in_force, found = self._in_force, self._found()
        if in_force is not None and in_force.plan == plan:
            if self._all_same(in_force.quiet):
                self._confirm()
                return Report()
            found = self._look()
        wants = wanted(plan, found.machine, found.groups, found.observed, self.state)
        writes = diff(wants, found.observed)
        if self._must_look(wants, writes) and not (in_force is not None and self._all_same(in_force.quiet) and self._all_owned(wants)):
            found = self._look()
            wants = wanted(plan, found.machine, found.groups, found.observed, self.state)
            writes = diff(wants, found.observed)
        self._in_force = self._watch = None
        report = self._carry_out(wants, writes, found)
        if report.settled and not report.drift:
            groups = tuple(want.group for want in wants)
            if groups != self._kept_groups:
                self.host.keep(item.path for group in groups for item in group.files)
                self._quiet = tuple(item.path for group in groups for item in group.files if group.driver not in item.attribute.disturbed_by)
                self._kept_groups = groups
            self._in_force = _InForce(plan, self._quiet)
        return report

    def restore(self) -> Report:
        """Put every owned group back to its baseline and drop it from the state. Errors: StateError."""
        found = self._look()
        self._in_force = self._watch = None
        wants = released(found.groups, found.observed, self.state)
        boost = [want for want in wants if want.group.kind is Kind.BOOST]
        before = Report()
        if boost:  # it moves the hardware's limits, which are the baseline of others
            before = self._carry_out(boost, diff(boost, found.observed), found)
            found = self.discover()
            self._fresh = False
            wants = released(found.groups, found.observed, self.state)
        report = before.followed_by(self._carry_out(wants, diff(wants, found.observed), found))
        left = [
            Outcome(key, key, Status.OFFLINE, "baseline")
            for key in self.state.groups
            if key not in {want.group.key for want in wants}
        ]  # fmt: skip
        return evolve(report, outcomes=(*report.outcomes, *left))

    def _found(self) -> Discovery:
        return self.discovery if self.discovery is not None else self.discover()

    def _all_same(self, quiet: Sequence[str]) -> bool:
        """Whether the files of the plan in force still show what they did; the first time they are read for it."""
        try:
            if self._watch is not None:
                return self._watch.same()
            contents = dict(zip(quiet, self.host.read_all(quiet), strict=True))
            shown = self._found().observed.values
            raw = {path: content for path, content in contents.items() if not isinstance(content, OSError)}
            if len(raw) < len(contents) or any(content.decode("ascii", "replace").strip() != shown.get(path) for path, content in raw.items()):
                return False
            self._watch = self.host.watch(raw)
        except OSError:
            self.discover()
            return False
        return True

    def _look(self) -> Discovery:
        """The machine with fresh values of its managed files; those whose reading disturbs keep the last one."""
        found = self._found()
        self._watch = None
        if self._fresh:
            self._fresh = False
            return found
        fresh = observe(self.host, found.groups, disturbing=False)
        if any(number in _GONE for number in fresh.errors.values()):
            found = self.discover()
            self._fresh = False
            return found
        self.discovery = evolve(found, observed=merged(found.observed, fresh))
        return self.discovery

    def _must_look(self, wants: Sequence[Want], writes: Sequence[Write]) -> bool:
        """Whether some file would go unread in this pass: groups that are written are read to verify them, all others not."""
        return len({write.group for write in writes}) < len(wants) or not self._all_owned(wants)

    def _all_owned(self, wants: Sequence[Want]) -> bool:
        """Whether no group is new: the baseline of a new one is what it holds now, not what it held some time ago."""
        return all(want.group.key in self.state.groups for want in wants)

    def _carry_out(self, wants: Sequence[Want], writes: Sequence[Write], found: Discovery) -> Report:
        drift = tuple(write for write in writes if write.reason is Reason.DRIFT)
        self.drift_count += len(drift)
        left = self._left_alone(drift)
        writes = [write for write in writes if write.group not in left] if left else writes
        intended = self._intend(wants, left)
        applied = apply(self.host, wants, writes, found.observed)
        self.discovery = evolve(found, observed=applied.observed)
        outcomes = _outcomes(wants, writes, applied, left, drift)
        self._pause({write.group for write in drift} | {item.group for item in outcomes if item.status is Status.FAILED})
        dropped = self._record(wants, applied, left, intended)
        return Report(applied.writes, outcomes, drift, dropped)

    def _intend(self, wants: Iterable[Want], left: Collection[str]) -> Mapping[str, GroupState]:
        """Save what is about to be asked, with the baseline of every group, before the first write (rule A7).

        The state is marked pending: after a crash, what does not show its request was not written, and is no drift.
        """
        groups = dict(self.state.groups)
        seen: dict[tuple[int, int], GroupState] = {}
        for want in wants:
            if want.group.key not in left:
                key = (id(want.record), id(want.values))
                if key not in seen:
                    record = want.record
                    seen[key] = GroupState(want.group.driver, record.labels, record.baseline, want.values, want.values)
                groups[want.group.key] = seen[key]
        if groups != self.state.groups:
            self._save(evolve(self.state, groups=groups, pending=True))
        return groups

    def _record(self, wants: Iterable[Want], applied: Applied, left: Collection[str], intended: Mapping[str, GroupState]) -> tuple[str, ...]:
        """Save requests and settled values where they are not as intended; drop the groups that are back at baseline."""
        groups = dict(intended)
        dropped = []
        seen: dict[tuple[object, ...], GroupState] = {}
        for want in wants:
            key = want.group.key
            failed = bool(applied.failures) and any(item.path in applied.failures for item in want.group.files)
            if want.release and not failed and key not in left:
                groups.pop(key, None)
                dropped.append(key)
            elif key not in left and not applied.right:
                groups[key] = _recorded(want, applied, seen)
        if groups != intended:
            self._save(evolve(self.state, groups=groups, pending=False))
        return tuple(dropped)

    def _confirm(self) -> None:
        """Say in the state that nothing is pending any more."""
        if self.state.pending:
            self._save(evolve(self.state, pending=False))

    def _save(self, state: State) -> None:
        self.store.save(state)
        self.state = state

    def _left_alone(self, drift: Iterable[Write]) -> set[str]:
        """Groups with foreign values that are not repaired now: by policy, or because it was tried a moment ago."""
        keys = {write.group for write in drift}
        if self.repair is Repair.REPORT:
            return keys
        now = self.host.now()
        return {key for key in keys if key in self._pauses and now < self._pauses[key].until}

    def _pause(self, keys: Iterable[str]) -> None:
        now = self.host.now()
        for key in keys:
            pause = self._pauses.setdefault(key, _Pause())
            if now >= pause.until:
                quiet = pause.until and now > pause.until + _LONGEST_PAUSE
                pause.length = _FIRST_PAUSE if quiet else min(pause.length * 2, _LONGEST_PAUSE)
                pause.until = now + pause.length


def _recorded(want: Want, applied: Applied, seen: dict[tuple[object, ...], GroupState]) -> GroupState:
    """A group's record after a pass; equal records are one value. A write that failed leaves its file's request as it was."""
    record, values, failures = want.record, applied.observed.values, applied.failures
    requested, settled = want.values, tuple([values.get(item.path) for item in want.group.files])
    if failures:
        failed = [item.path in failures for item in want.group.files]
        requested = tuple(before if bad else now for bad, before, now in zip(failed, record.requested, requested, strict=True))
        settled = tuple(before if bad else now for bad, before, now in zip(failed, record.settled, settled, strict=True))
    key = (id(record), requested, settled)
    if key not in seen:
        seen[key] = GroupState(want.group.driver, record.labels, record.baseline, requested, settled)
    return seen[key]


def _outcomes(wants: Iterable[Want], writes: Sequence[Write], applied: Applied, left: Collection[str], drift: Sequence[Write]) -> tuple[Outcome, ...]:
    """Outcomes of the files that were touched and do not show what was asked of them."""
    if applied.right and not left:
        return ()
    shown, foreign = applied.observed.values, {write.path for write in drift if write.group in left}
    touched = {write.path: write for write in (*writes, *applied.writes)}
    odd = {path for path, write in touched.items() if shown.get(path) != write.value or path in applied.failures} | foreign
    if not odd:
        return ()
    return tuple(
        _outcome(want.group, item.path, target or "", applied, item.path in foreign)
        for want in wants
        for item, target in zip(want.group.files, want.values, strict=True)
        if item.path in odd
    )


def _outcome(group: Group, path: str, target: str, applied: Applied, foreign: bool) -> Outcome:
    shows, number = applied.observed.values.get(path), applied.failures.get(path)
    if foreign:
        status = Status.DRIFTED
    elif number is not None:
        status = Status.OFFLINE if group.kind is Kind.CPUFREQ and number == errno.EBUSY and shows is None else Status.FAILED
    else:
        status = Status.UNSETTLED if path in applied.unsettled else Status.LIMITED
    return Outcome(path, group.key, status, target, shows, number)
