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
from kpm_applier.discover import Discovery, discover, merged, observe
from kpm_applier.host import Host, Watch
from kpm_applier.state import GroupState, State, StateStore, with_baseline, without_void
from kpm_applier.targets import Want, released, wanted
from kpm_planner.changes import Outcome, Reason, Status, Write
from kpm_planner.machine import Machine
from kpm_planner.plan import NodePlan

#: Seconds before a group that somebody else keeps changing, or that keeps failing, is written again: doubled each time.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 300.0
_GONE = frozenset({errno.ENODEV, errno.ENOENT, errno.ENXIO})


@frozen
class Report:
    """What a pass did. outcomes: of every file that was written, failed, is limited or was found changed."""

    writes: tuple[Write, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    drift: tuple[Write, ...] = ()
    released: tuple[str, ...] = ()

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
    """A plan that has been applied, and its files as they then stood."""

    plan: NodePlan
    watch: Watch


@define
class Applier:
    """One writer of one root. Call `open` first; only `apply` and `restore` write."""

    host: Host
    store: StateStore
    repair: Repair = Repair.WRITE
    state: State = State()
    discovery: Discovery | None = None
    drift_count: int = 0
    _in_force: _InForce | None = None
    _fresh: bool = False
    _sentinels: Watch | None = None
    _pauses: dict[str, _Pause] = field(factory=dict)

    def open(self, *, writing: bool = True) -> None:
        """Load the state and discover the machine. Errors: StateError, HostError, OSError of the root."""
        if writing:
            self.store.lock()
        self.state = self.store.load()
        self.discover()

    def close(self) -> None:
        """Close descriptors and release the lock."""
        self.host.forget()
        self.store.unlock()

    def discover(self) -> Discovery:
        """Look at the whole machine anew; entries of another driver are void."""
        self.host.forget()
        self._in_force = self._sentinels = None
        self.discovery = discover(self.host)
        self._fresh = True
        self.state = without_void(self.state, self.discovery.groups)
        return self.discovery

    @property
    def machine(self) -> Machine:
        """The machine with the baseline of every owned group as its settings: what the planner takes."""
        found = self._found()
        return with_baseline(found.machine, found.groups, self.state)

    def preview(self, plan: NodePlan) -> tuple[Write, ...]:
        """The writes that applying the plan would start with."""
        found = self._found()
        return diff(wanted(plan, found.machine, found.groups, found.observed, self.state), found.observed)

    def changed(self) -> bool:
        """Whether the machine itself has changed since it was discovered (rule A2)."""
        found = self._found()
        try:
            if self._sentinels is None:
                self._sentinels = self.host.watch({path: self.host.read(path) for path in found.sentinels})
                return False
            return not self._sentinels.same()
        except OSError:
            return True

    def apply(self, plan: NodePlan) -> Report:
        """Bring the machine to the plan and verify it. Errors: StateError, and then nothing has been written.

        A plan that is in force costs one comparison of bytes. A descriptor that has died is opened anew once.
        """
        if self._in_force is not None and self._in_force.plan == plan and self._all_same(self._in_force.watch):
            return Report()
        found = self._look()
        wants = wanted(plan, found.machine, found.groups, found.observed, self.state)
        report = self._carry_out(wants, found)
        if report.settled and not report.drift:
            self._watch(plan, wants)
        return report

    def restore(self) -> Report:
        """Put every owned group back to its baseline and drop it from the state. Errors: StateError."""
        found = self._look()
        wants = released(found.groups, found.observed, self.state)
        report = self._carry_out(wants, found)
        left = [
            Outcome(key, key, Status.OFFLINE, "baseline")
            for key in self.state.groups
            if key not in {want.group.key for want in wants}
        ]  # fmt: skip
        return evolve(report, outcomes=(*report.outcomes, *left))

    def _found(self) -> Discovery:
        return self.discovery if self.discovery is not None else self.discover()

    def _all_same(self, watch: Watch) -> bool:
        try:
            return watch.same()
        except OSError:
            self.discover()
            return False

    def _look(self) -> Discovery:
        """The machine with fresh values of its managed files; those whose reading disturbs keep the last one."""
        found = self._found()
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

    def _carry_out(self, wants: Sequence[Want], found: Discovery) -> Report:
        writes = diff(wants, found.observed)
        drift = tuple(write for write in writes if write.reason is Reason.DRIFT)
        self.drift_count += len(drift)
        left = self._left_alone(drift)
        writes = tuple(write for write in writes if write.group not in left)
        self._own(wants)
        applied = apply(self.host, wants, writes, found.observed)
        self.discovery = evolve(found, observed=applied.observed)
        outcomes = _outcomes(wants, writes, applied, left, drift)
        self._pause({write.group for write in drift} | {item.group for item in outcomes if item.status is Status.FAILED})
        dropped = self._record(wants, applied, left)
        return Report(applied.writes, outcomes, drift, dropped)

    def _own(self, wants: Iterable[Want]) -> None:
        """Save the baseline of every group before its first write (rule A7)."""
        groups = dict(self.state.groups)
        for want in wants:
            if not want.release:
                groups.setdefault(want.group.key, want.record)
        self._save(groups)

    def _record(self, wants: Iterable[Want], applied: Applied, left: Collection[str]) -> tuple[str, ...]:
        """Save requests and settled values; drop the groups that are back at baseline."""
        groups = dict(self.state.groups)
        dropped = []
        for want in wants:
            key = want.group.key
            failed = any(item.path in applied.failures for item in want.group.files)
            if want.release and not failed and key not in left:
                groups.pop(key, None)
                dropped.append(key)
            elif key not in left:
                groups[key] = _recorded(want, applied)
        self._save(groups)
        return tuple(dropped)

    def _save(self, groups: Mapping[str, GroupState]) -> None:
        if groups != self.state.groups:
            state = evolve(self.state, groups=groups)
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

    def _watch(self, plan: NodePlan, wants: Iterable[Want]) -> None:
        quiet = [item for want in wants for item in want.group.files if want.group.driver not in item.attribute.disturbed_by]
        try:
            self._in_force = _InForce(plan, self.host.watch({item.path: self.host.read(item.path) for item in quiet}))
        except OSError:
            self._in_force = None


def _recorded(want: Want, applied: Applied) -> GroupState:
    """A group's record after a pass: a write that failed leaves its file's request as it was."""
    record = want.record
    requested, settled = [], []
    for item, target in zip(want.group.files, want.values, strict=True):
        _, asked_before, settled_before = record.of(item.label)
        failed = item.path in applied.failures
        requested.append(asked_before if failed else target)
        settled.append(settled_before if failed else applied.observed.values.get(item.path))
    labels = tuple(item.label for item in want.group.files)
    baseline = tuple(record.of(label)[0] for label in labels)
    return GroupState(want.group.driver, labels, baseline, tuple(requested), tuple(settled))


def _outcomes(wants: Iterable[Want], writes: Sequence[Write], applied: Applied, left: set[str], drift: Sequence[Write]) -> tuple[Outcome, ...]:
    touched = {write.path for write in (*writes, *applied.writes)} | applied.failures.keys()
    foreign = {write.path for write in drift if write.group in left}
    found = []
    for want in wants:
        for item, target in zip(want.group.files, want.values, strict=True):
            if item.path in touched or item.path in foreign:
                found.append(_outcome(want.group, item.path, target or "", applied, item.path in foreign))
    return tuple(found)


def _outcome(group: Group, path: str, target: str, applied: Applied, foreign: bool) -> Outcome:
    shows, number = applied.observed.values.get(path), applied.failures.get(path)
    if foreign:
        status = Status.DRIFTED
    elif number is not None:
        status = Status.OFFLINE if group.kind is Kind.CPUFREQ and number == errno.EBUSY and shows is None else Status.FAILED
    elif path in applied.unsettled:
        status = Status.UNSETTLED
    else:
        status = Status.APPLIED if shows == target else Status.LIMITED
    return Outcome(path, group.key, status, target, shows, number)
