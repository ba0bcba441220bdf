"""The applier as a handle with a lifetime: one root, one state file, one plan in force.

It composes discover, diff, apply and state; a pass over a machine that is right reads the managed
files through kept descriptors, compares bytes, and does nothing else (rules A1 to A7).
"""

import errno
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from attrs import define, evolve, field, frozen

from kpm_applier.apply import Applied, apply
from kpm_applier.attributes import Group, Kind
from kpm_applier.diff import Repair, diff
from kpm_applier.discovery.discover import Discovery, check_tree, discover
from kpm_applier.discovery.observe import merged, observe, observe_files
from kpm_applier.discovery.power import power_marks
from kpm_applier.holdings import Holding, holdings, not_found
from kpm_applier.outcomes import adrift, after_pass, at_rest, doubted, in_doubt, outcomes_of
from kpm_applier.state.baseline import completed, new_group_state, turbo_hides, with_baseline
from kpm_applier.state.record import (
    GroupState,
    State,
    StateError,
    aligned,
    extended,
    incomplete,
    whole,
    without_void,
)
from kpm_applier.state.store import Store
from kpm_applier.sysfs.host import Host, Watch
from kpm_applier.wants import Want, released, wanted
from kpm_planner.model.changes import Observed, Outcome, Reason, Status, Write
from kpm_planner.model.machine import Machine
from kpm_planner.plan import NodePlan

#: Seconds before a group that somebody else keeps changing, or that keeps failing, is written
#: again: doubled each time.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 300.0
_GONE = frozenset({errno.ENODEV, errno.ENOENT, errno.ENXIO})
#: Outcomes of what is not yet as it should be.
OPEN = (Status.FAILED, Status.UNSETTLED, Status.OFFLINE)


@frozen
class Report:
    """What a pass did. outcomes: of every file that did not simply become what was written."""

    writes: tuple[Write, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    drift: tuple[Write, ...] = ()
    released: tuple[str, ...] = ()

    def followed_by(self, later: "Report") -> "Report":
        """Both reports as one."""
        return Report(
            (*self.writes, *later.writes),
            (*self.outcomes, *later.outcomes),
            (*self.drift, *later.drift),
            (*self.released, *later.released),
        )

    @property
    def settled(self) -> bool:
        """Whether everything was written and stood still at the end."""
        return not any(outcome.status in OPEN for outcome in self.outcomes)


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
    _foreign: dict[str, str | None] = field(factory=dict)
    _kept_groups: tuple[Group, ...] = ()
    _quiet: tuple[str, ...] = ()
    _sentinels: Watch | None = None
    _marks: tuple[object, ...] = ()
    _pauses: dict[str, _Pause] = field(factory=dict)
    _returned: frozenset[int] = frozenset()
    _again: _Pause | None = None

    def open(self, *, writing: bool = True, known: Discovery | None = None) -> None:
        """Load the state and discover the machine, unless it is known.

        Errors: StateError, HostError, OSError of the root.
        """
        if writing:
            check_tree(self.host)
            self.store.lock()
        self._writing = writing
        self.state = self.store.load()
        if known is None:
            self.discover()
        else:
            self.discovery, self._marks = known, power_marks(self.host)
            self.state = without_void(self.state, known.groups)
            self._look_again()

    def close(self) -> None:
        """Close descriptors and release the lock."""
        self.host.forget()
        self.store.unlock()

    def discover(self) -> Discovery:
        """Look at the whole machine anew; entries of another driver are void."""
        self.host.forget()
        self._in_force = self._watch = self._sentinels = None
        self._kept_groups = ()
        before = self.discovery
        self.discovery, self._marks = discover(self.host), power_marks(self.host)
        if before is not None:
            self.came_back(self.discovery.machine.online - before.machine.online)
        current = without_void(self.state, self.discovery.groups)
        if current is not self.state and self._writing:
            self._save(current)
        self.state = current
        self._look_again()
        return self.discovery

    def _look_again(self) -> None:
        """Note when to discover again: soon, then less and less often, while something of ours is
        not found.
        """
        found = self._found()
        missing = incomplete(self.state, found.groups, found.machine)
        tried = self._again is not None and self._again.length >= _LONGEST_PAUSE
        if not missing and (tried or not found.troubled):  # what is not ours is given up in the end
            self._again = None
            return
        length = (
            _FIRST_PAUSE if self._again is None else min(self._again.length * 2, _LONGEST_PAUSE)
        )
        self._again = _Pause(self.host.now() + length, length)

    def came_back(self, cpus: Collection[int]) -> None:
        """Take note of CPUs that were away: what differs on them in the next pass, their drivers
        forgot and nobody else wrote.

        `discover` sees by itself which were away when it looked last. Source:
        docs/developer/kernel-facts.md, K18.
        """
        self._returned = self._returned.union(cpus)

    @property
    def machine(self) -> Machine:
        """The machine with the baseline of every owned group as its settings, of the others what
        was last seen: what the planner takes.
        """
        found = self._found()
        return with_baseline(found.machine, found.groups, self.state, found.observed.values)

    @property
    def shown(self) -> Machine:
        """The machine with what its files were last seen to show."""
        found = self._found()
        return with_baseline(found.machine, found.groups, State(), found.observed.values)

    @property
    def holdings(self) -> tuple[Holding, ...]:
        """What of the machine is ours, as it was seen last."""
        found = self._found()
        return holdings(found.groups, self.state, found.observed)

    @property
    def not_found(self) -> tuple[str, ...]:
        """Keys of what is ours and not there now."""
        return not_found(self._found().groups, self.state)

    def preview(self, plan: NodePlan) -> tuple[Write, ...]:
        """The writes that applying the plan would start with."""
        found = self._found()
        return diff(
            wanted(plan, found.machine, found.groups, found.observed, self.state), found.observed
        )

    def changed(self) -> bool:
        """Whether the machine itself has changed since it was discovered (rule A2), or something of
        ours was not found then.
        """
        found = self._found()
        if self._again is not None and self.host.now() >= self._again.until:
            return True
        if power_marks(self.host) != self._marks:
            return True
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
        """Bring the machine to the plan and verify it.

        Errors: StateError, and then nothing has been written.

        A plan that is in force costs one comparison of bytes. A descriptor that has died is opened
        anew once.
        """
        in_force = self._in_force
        if in_force is not None and in_force.plan == plan and self._all_same(in_force.quiet):
            self._returned = frozenset()
            return Report()
        if in_force is None:
            self._look()
        wants, writes = self._compare(plan)
        if (
            in_force is not None
            and _leaves_unread(wants, writes)
            and not self._all_same(in_force.quiet)
        ):
            self._look()
            wants, writes = self._compare(plan)
        unread = self._unread(wants)
        if unread:
            self._take_in(observe_files(self.host, unread))
            wants, writes = self._compare(plan)
        self._in_force = self._watch = None
        report = self._carry_out(wants, writes, obey=True)
        self._returned = frozenset()
        if report.settled and not report.drift:
            self._put_in_force(plan, wants)
        return report

    def bring(
        self, planned: Callable[[Machine], NodePlan], plan: NodePlan | None = None
    ) -> tuple[NodePlan, Report]:
        """Plan for this machine and apply it; where turbo changes, that first, and the rest by the
        limits that it leaves (rule A2).

        plan: what is planned for the machine as it is, where that is known.
        """
        plan = plan if plan is not None else planned(self.machine)
        if self._in_force is not None and self._in_force.plan == plan:
            return plan, self.apply(plan)
        switches, writes = self._switches(plan)
        # turbo would move the limits of a domain that has just come, or could not be read when the
        # machine was, before they are known
        if writes and (self._again is not None or self.changed()):
            self.discover()
            plan = planned(self.machine)
            switches, writes = self._switches(plan)
        if not writes:
            return plan, self.apply(plan)
        if self._keep_limits():
            plan = planned(self.machine)
            switches, writes = self._switches(plan)
        before = self._carry_out(switches, writes, obey=True)
        if not before.writes:
            return plan, self.apply(plan)
        self.discover()
        self._doubt_limits()
        plan = planned(self.machine)
        report = self.apply(plan)
        return plan, evolve(before.followed_by(report), outcomes=report.outcomes)

    def _switches(self, plan: NodePlan) -> tuple[Sequence[Want], tuple[Write, ...]]:
        """What the plan wants of turbo, and the writes that it needs."""
        found = self._found()
        groups = [
            group
            for group in found.groups
            if group.kind is Kind.BOOST
            and (plan.boost is not None or group.key in self.state.groups)
        ]
        wants = wanted(plan, found.machine, groups, found.observed, self.state) if groups else ()
        return wants, diff(wants, found.observed)

    def _keep_limits(self) -> bool:
        """Save what every domain holds, before turbo changes: drivers overwrite its limits then
        (kernel-facts K24). Returns whether the machine changed meanwhile and was discovered anew.
        """
        self._save_limits()
        if not self.changed():
            return False
        self.discover()
        self._save_limits()
        return True

    def _save_limits(self) -> None:
        """Save what every domain holds."""
        found = self._found()
        domains = [
            group
            for group in found.groups
            if group.kind is Kind.CPUFREQ and group.key not in self.state.groups
        ]
        self._take_in(observe(self.host, domains))
        unread = [
            item.path
            for group in domains
            for item in group.files
            if item.path not in self._found().observed.values
        ]
        if unread:  # the last moment in which they show what was there before us
            self._take_in(observe_files(self.host, unread))
        shown = self._found().observed.values
        hides = turbo_hides(self.state)
        fresh = {group.key: new_group_state(group, shown, turbo_hides=hides) for group in domains}
        owned = {
            group.key: completed(group, aligned(group, record), shown, turbo_hides=hides)
            for group in found.groups
            if group.kind is Kind.CPUFREQ
            and (record := self.state.groups.get(group.key)) is not None
            and record.labels == group.labels
            and None in record.baseline
        }
        self._save(evolve(self.state, groups={**self.state.groups, **fresh, **owned}))

    def _doubt_limits(self) -> None:
        """Take note that the limits of every domain may be others now: their driver moved them,
        because of us, and nobody else did.
        """
        owned = self.state.groups
        domains = (
            group
            for group in self._found().groups
            if group.kind is Kind.CPUFREQ and group.key in owned
        )
        moved = {
            group.key: whole(adrift(group, aligned(group, owned[group.key])), owned[group.key])
            for group in domains
        }
        self._save(evolve(self.state, groups={**owned, **moved}))

    def restore(self) -> Report:
        """Put every owned group back to its baseline and drop it from the state.

        Errors: StateError.
        """
        # it may be the last time: what was not there when the machine was read may be there now
        if self._again is not None or self.changed():
            self.discover()
        else:
            self._look()
        self._in_force = self._watch = None
        boost = [want for want in self._releases() if want.group.kind is Kind.BOOST]
        before = Report()
        # it moves the hardware's limits, which are the baseline of others, and the limits of those
        # that have come since
        if boost:
            writes = diff(boost, self._found().observed)
            if writes and self._keep_limits():
                boost = [want for want in self._releases() if want.group.kind is Kind.BOOST]
                writes = diff(boost, self._found().observed)
            before = self._carry_out(boost, writes, obey=False)
            self.discover()
        self._take_in(observe_files(self.host, self._unseen(self._releases())))
        wants = self._releases()
        report = before.followed_by(
            self._carry_out(wants, diff(wants, self._found().observed), obey=False)
        )
        # what failed at first and is back all the same did not fail
        outcomes = [
            outcome
            for outcome in report.outcomes
            if outcome not in before.outcomes or outcome.group in self.state.groups
        ]
        told = {outcome.group for outcome in outcomes if outcome.status in OPEN}
        left = [
            Outcome(key, key, Status.OFFLINE, "baseline")
            for key in self.state.groups
            if key not in told
        ]
        return evolve(report, outcomes=(*outcomes, *left))

    def _compare(self, plan: NodePlan) -> tuple[Sequence[Want], tuple[Write, ...]]:
        """What the plan wants, and the writes it needs by what was last seen."""
        found = self._found()
        wants = wanted(plan, found.machine, found.groups, found.observed, self.state)
        return wants, self._excused(wants, diff(wants, found.observed))

    def _excused(self, wants: Sequence[Want], writes: tuple[Write, ...]) -> tuple[Write, ...]:
        """The same writes, but nobody is blamed for those on CPUs that were away."""
        if not self._returned:
            return writes
        keys = {want.group.key for want in wants if not self._returned.isdisjoint(want.group.cpus)}
        return tuple(
            (
                write._replace(reason=Reason.PLAN)
                if write.reason is Reason.DRIFT and write.group in keys
                else write
            )
            for write in writes
        )

    def _unread(self, wants: Sequence[Want]) -> list[str]:
        """Files to read before anything is decided: those of groups that are new, whose baseline is
        what they hold now, not what they held some time ago, and of those that the plan in force
        holds as they are, so that nobody looked at them; those of which a baseline is still to be
        learned; and what was lost or could not be read, looked at each time until it can be.
        """
        held = None if self._in_force is None else {group.key for group in self._kept_groups}
        records = self.state.groups
        found: list[str] = []
        for want in wants:
            key = want.group.key
            record = records.get(key)
            # a want has another record where ours lacks a file, or what one held
            known = record is not None and record is want.record and None not in record.baseline
            if not known or (held is not None and key not in held):
                found += want.group.paths
            if want.lost:
                found += [path for path, _ in want.lost]
        return list(dict.fromkeys((*found, *self._unseen(wants))))

    def _unseen(self, wants: Iterable[Want]) -> list[str]:
        """Files that are to be given back and could not be read, also those that no pass reads:
        nothing is given up unseen (A7).
        """
        shown = self._found().observed.values
        going = (want for want in wants if want.release)
        return [
            path
            for want in going
            for path, text in zip(want.group.paths, want.values, strict=True)
            if text is not None and path not in shown
        ]

    def _releases(self) -> Sequence[Want]:
        found = self._found()
        return released(found.groups, found.observed, self.state)

    def _put_in_force(self, plan: NodePlan, wants: Sequence[Want]) -> None:
        """Keep all files of the plan open; those whose reading disturbs nobody are compared from
        now on.
        """
        groups = tuple(want.group for want in wants)
        if groups != self._kept_groups:
            self.host.keep(path for group in groups for path in group.paths)
            self._quiet = tuple(
                item.path
                for group in groups
                for item in group.files
                if group.driver not in item.attribute.disturbed_by
            )
            self._kept_groups = groups
        self._in_force = _InForce(plan, self._quiet)

    def _found(self) -> Discovery:
        return self.discovery if self.discovery is not None else self.discover()

    def _all_same(self, quiet: Sequence[str]) -> bool:
        """Whether the files of the plan in force still show what they did; the first time they are
        read for it.
        """
        try:
            if self._watch is not None:
                return self._watch.same()
            contents = dict(zip(quiet, self.host.read_all(quiet), strict=True))
            shown = self._found().observed.values
            raw = {
                path: content
                for path, content in contents.items()
                if not isinstance(content, OSError)
            }
            if len(raw) < len(contents) or any(
                content.decode("ascii", "replace").strip() != shown.get(path)
                for path, content in raw.items()
            ):
                return False
            self._watch = self.host.watch(raw)
        except OSError:
            self.discover()
            return False
        return True

    def _look(self) -> None:
        """Fresh values of all managed files; those whose reading disturbs keep the last one."""
        self._watch = None
        fresh = observe(self.host, self._found().groups, disturbing=False)
        if any(number in _GONE for number in fresh.errors.values()):
            self.discover()
        else:
            self._take_in(fresh)

    def _take_in(self, fresh: Observed) -> None:
        found = self._found()
        self.discovery = evolve(found, observed=merged(found.observed, fresh))

    def _carry_out(self, wants: Sequence[Want], writes: tuple[Write, ...], *, obey: bool) -> Report:
        """Write, verify, record. obey: foreign values are left where policy or back-off says so,
        but for what is released.
        """
        known = self._found()
        drift = tuple(
            write for write in writes if write.reason is Reason.DRIFT and write.old != write.value
        )
        left = self._left_alone(drift, wants) if obey and drift else frozenset()
        writes = _without(writes, left) if left else writes
        intended = self._intend(wants)
        report_only = obey and self.repair is Repair.REPORT
        applied = doubted(
            wants,
            apply(self.host, wants, writes, known.observed, left, repair=not report_only),
        )
        self.discovery = evolve(known, observed=applied.observed)
        if report_only and applied.writes:
            going = {want.group.key for want in wants if want.release}
            found = (
                write
                for write in diff(wants, applied.observed)
                if write.reason is Reason.DRIFT and write.old != write.value
            )
            late = tuple(
                write for write in found if write.path not in left and write.group not in going
            )
            drift, left = (*drift, *late), left.union(write.path for write in late)
        self._count(drift)
        outcomes = outcomes_of(wants, writes, applied, left)
        self._pause(
            {write.group for write in drift}
            | {item.group for item in outcomes if item.status is Status.FAILED}
        )
        return Report(applied.writes, outcomes, drift, self._record(wants, applied, left, intended))

    def _intend(self, wants: Iterable[Want]) -> Mapping[str, GroupState]:
        """Save what is about to be asked, in doubt, with the baseline of every group, before the
        first write (rule A7).
        """
        groups = dict(self.state.groups)
        seen: dict[tuple[object, ...], GroupState] = {}
        for want in wants:
            key = (want.record, want.values)  # by value: from here on equal records are one object
            if key not in seen:
                seen[key] = in_doubt(want)
            groups[want.group.key] = whole(seen[key], self.state.groups.get(want.group.key))
        if groups != self.state.groups:
            self._save(evolve(self.state, groups=groups))
        return groups

    def _record(
        self,
        wants: Iterable[Want],
        applied: Applied,
        left: Collection[str],
        intended: Mapping[str, GroupState],
    ) -> tuple[str, ...]:
        """Save requests and where they settled; drop the groups that are back at baseline."""
        groups = dict(intended)
        dropped = []
        seen: dict[tuple[object, ...], GroupState] = {}
        for want in wants:
            key = want.group.key
            failed = bool(applied.failures) and any(
                path in applied.failures for path in want.group.paths
            )
            failed = failed or (want.release and _unverified(want, applied))
            if want.release and not failed and want.stays:
                groups[key] = extended(None, intended[key], want.stays)
            elif want.release and not failed:
                groups.pop(key, None)
                dropped.append(key)
            elif applied.right and groups[key].labels == want.record.labels:
                groups[key] = at_rest(want, groups[key], seen)
            else:
                groups[key] = whole(after_pass(want, applied, left, seen), intended[key])
            if want.floating and key in groups:
                groups[key] = adrift(want.group, groups[key])
        if groups != self.state.groups:
            try:
                self._save(evolve(self.state, groups=groups))
            # the file still says in doubt, so at worst a write is made once more
            except StateError:
                self.state = evolve(self.state, groups=groups)
        return tuple(dropped)

    def _save(self, state: State) -> None:
        self.store.save(state)
        self.state = state

    def _left_alone(self, drift: Iterable[Write], wants: Iterable[Want]) -> frozenset[str]:
        """Paths of foreign values that are not repaired now: by policy, or because it was tried a
        moment ago.
        """
        now = self.host.now()
        going = {want.group.key for want in wants if want.release}
        quiet = {key for key, pause in self._pauses.items() if now < pause.until}
        return frozenset(
            write.path
            for write in drift
            if write.group not in going and (self.repair is Repair.REPORT or write.group in quiet)
        )

    def _count(self, drift: Iterable[Write]) -> None:
        """Count foreign changes, one that stays only once."""
        seen = {write.path: write.old for write in drift}
        self.drift_count += sum(self._foreign.get(path) != old for path, old in seen.items())
        self._foreign = seen

    def _pause(self, keys: Iterable[str]) -> None:
        now = self.host.now()
        for key in keys:
            pause = self._pauses.setdefault(key, _Pause())
            if now >= pause.until:
                quiet = pause.until and now > pause.until + _LONGEST_PAUSE
                pause.length = _FIRST_PAUSE if quiet else min(pause.length * 2, _LONGEST_PAUSE)
                pause.until = now + pause.length


def _without(writes: Sequence[Write], left: Collection[str]) -> tuple[Write, ...]:
    """The writes less those of foreign values that are left, and less an EPP that only goes along
    with such a governor.
    """
    groups = {write.group for write in writes if write.path in left}
    kept = (write for write in writes if write.path not in left)
    return tuple(
        write
        for write in kept
        if not (write.group in groups and write.reason is Reason.DRIFT and write.old == write.value)
    )


def _unverified(want: Want, applied: Applied) -> bool:
    """Whether nobody knows that a file shows what it should be given back: it could not be read, or
    is in doubt (rule A7).
    """
    shown = applied.observed.values
    return any(
        text is not None and (path not in shown or path in applied.unsettled)
        for path, text in zip(want.group.paths, want.values, strict=True)
    )


def _leaves_unread(wants: Sequence[Want], writes: Sequence[Write]) -> bool:
    """Whether some file would go unread in a pass: groups that are written are read to verify them,
    all others not.
    """
    return len({write.group for write in writes}) < len(wants)
