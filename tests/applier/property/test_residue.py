"""Laws of leaving: a plan depends on nothing that was before it (R1), restoring gives back what was
there (A7), a crash changes neither (A6).
"""

import contextlib

from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from kpm_applier.discovery.discover import discover
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.session import Applier
from kpm_applier.state.record import State
from kpm_applier.state.store import StateStore, Store
from kpm_planner.model.machine import Machine
from kpm_planner.plan import NodePlan
from tests.applier import rig
from tests.applier.property.asks import cases

Case = tuple[Machine, tuple[NodePlan, ...]]
LATENCIES = st.sampled_from((0.0, 0.004))


@given(cases(3), LATENCIES, st.booleans())
def test_a_then_b_leaves_what_b_alone_leaves(case: Case, latency: float, restarts: bool) -> None:
    """R1, for every managed file and the ownership, whether one process or several did it."""
    machine, (first, second, last) = case
    long_way, short_way = KernelModel(machine, latency), KernelModel(machine, latency)
    with rig.state_folder() as one, rig.state_folder() as two:
        if restarts:
            for plan in (first, second, last):
                rig.apply_once(long_way, one, plan)
        else:
            with rig.applier(long_way, one) as handle:
                for plan in (first, second, last):
                    handle.apply(plan)
        rig.apply_once(short_way, two, last)
        assert rig.shown(long_way) == rig.shown(short_way)
        assert rig.owned(one) == rig.owned(two)


@given(cases(2), LATENCIES, st.booleans())
def test_restore_leaves_what_was_there_before(case: Case, latency: float, restarts: bool) -> None:
    """A7: every managed file, and an empty state; a second restore does nothing."""
    machine, plans = case
    model = KernelModel(machine, latency)
    before = rig.shown(model)
    with rig.state_folder() as folder:
        if restarts:
            for plan in plans:
                rig.apply_once(model, folder, plan)
            report = rig.restore_once(model, folder)
        else:
            with rig.applier(model, folder) as handle:
                for plan in plans:
                    handle.apply(plan)
                report = handle.restore()
        assert report.settled
        assert rig.shown(model) == before
        assert rig.owned(folder) == set()
        model.log.clear()
        rig.restore_once(model, folder)
    assert model.log == []


@given(cases(2), LATENCIES)
def test_a_plan_is_in_force_again_after_a_restore(case: Case, latency: float) -> None:
    """The same process applies, restores, applies: as if it had never restored; also with values
    that no pass reads (A1).
    """
    machine, (plan, other) = case
    model, fresh = KernelModel(machine, latency), KernelModel(machine, latency)
    with rig.state_folder() as one, rig.state_folder() as two:
        with rig.applier(model, one) as handle:
            handle.apply(plan)
            handle.restore()
            handle.apply(plan)
            handle.apply(other)
            handle.apply(plan)
        rig.apply_once(fresh, two, plan)
        assert rig.shown(model) == rig.shown(fresh)
        assert rig.owned(one) == rig.owned(two)


@given(cases(2), LATENCIES, st.data())
def test_a_crash_between_two_writes_changes_nothing(
    case: Case, latency: float, data: st.DataObject
) -> None:
    """A6: after any prefix of a pass's writes, a new process comes to the same end, and restoring
    gives the same originals.
    """
    machine, (first, second) = case
    whole, broken = KernelModel(machine, latency), KernelModel(machine, latency)
    before = rig.shown(KernelModel(machine))
    with rig.state_folder() as one, rig.state_folder() as two:
        for plan in (first, second):
            taken = len(whole.log)
            rig.apply_once(whole, one, plan)
            for _ in range(data.draw(st.integers(0, 2), label="crashes")):
                _crash_applying(
                    broken,
                    two,
                    plan,
                    data.draw(st.integers(0, len(whole.log) - taken), label="after writes"),
                )
        rig.apply_once(broken, two, second)
        assert rig.shown(broken) == rig.shown(whole)
        assert rig.owned(one) == rig.owned(two)
        _crash_restoring(broken, two, data.draw(st.integers(0, 20)))
        rig.restore_once(broken, two)
        assert rig.shown(broken) == before
        assert rig.owned(two) == set()


def _crash_applying(model: KernelModel, folder: str, plan: NodePlan, after: int) -> None:
    with contextlib.suppress(rig.Crash):
        rig.apply_once(rig.Probe(model, crash_at=after), folder, plan)


def _crash_restoring(model: KernelModel, folder: str, after: int) -> None:
    with contextlib.suppress(rig.Crash):
        rig.restore_once(rig.Probe(model, crash_at=after), folder)


@define
class _CrashingStore:
    """A store in front of another: the process ends at the save with this number (from 0), just
    before or just after it.
    """

    inner: Store
    crash_at: int
    before: bool
    saves: int = 0
    path: str = "in front of another"

    def lock(self) -> None:
        self.inner.lock()

    def unlock(self) -> None:
        self.inner.unlock()

    def load(self) -> State:
        return self.inner.load()

    def save(self, state: State) -> None:
        if self.saves == self.crash_at and self.before:
            raise rig.Crash
        self.inner.save(state)
        if self.saves == self.crash_at:
            raise rig.Crash
        self.saves += 1


@given(cases(2), st.integers(0, 3), st.booleans())
def test_a_crash_around_a_save_changes_nothing(case: Case, at: int, before_save: bool) -> None:
    """A6, A7: whatever the state file holds at any moment is enough to come to the right end and to
    give back the originals.
    """
    machine, (first, second) = case
    whole, broken = KernelModel(machine), KernelModel(machine)
    before = rig.shown(KernelModel(machine))
    with rig.state_folder() as one, rig.state_folder() as two:
        for plan in (first, second):
            rig.apply_once(whole, one, plan)
        handle = Applier(
            broken, _CrashingStore(StateStore(two, "/model", live=False), at, before_save)
        )
        try:
            handle.open()
            for plan in (first, second):
                handle.apply(plan)
            handle.restore()
            handle.close()
        except rig.Crash:
            handle.store.unlock()  # as the end of a process does
        rig.apply_once(broken, two, second)
        assert rig.shown(broken) == rig.shown(whole)
        rig.restore_once(broken, two)
        assert rig.shown(broken) == before
        assert rig.owned(two) == set()


@given(cases(2))
def test_a_group_is_in_the_state_file_before_its_first_write(case: Case) -> None:
    """A7: at the moment of every write the file on disk has the group's baseline, and it is what
    the group held before.
    """
    machine, plans = case
    model = KernelModel(machine)
    before, groups = rig.shown(KernelModel(machine)), discover(KernelModel(machine)).groups
    group_of = {item.path: group for group in groups for item in group.files}
    with rig.state_folder() as folder:

        def check(path: str, _text: str) -> None:
            record = StateStore(folder, "/model", live=False).load().groups[group_of[path].key]
            found = {item.path: record.of(item.label)[0] for item in group_of[path].files}
            assert all(text in (before[item], "hardware limit") for item, text in found.items())

        with rig.applier(rig.Probe(model, before_write=check), folder) as handle:
            for plan in plans:
                handle.apply(plan)
            handle.restore()


@given(cases(2), LATENCIES)
def test_what_a_plan_no_longer_claims_goes_back_to_baseline(case: Case, latency: float) -> None:
    """A release restores, verifies and drops the entry: only groups that the last plan claims stay
    owned (R2, A7).
    """
    machine, (first, second) = case
    model = KernelModel(machine, latency)
    before = rig.shown(KernelModel(machine))
    with rig.state_folder() as folder, rig.applier(model, folder) as handle:
        handle.apply(first)
        owned_first = set(handle.state.groups)
        report = handle.apply(second)
        wants = rig.texts(second, machine)
        claimed = {
            group.key
            for group in discover(model).groups
            if any(item.path in wants for item in group.files)
        }
        assert set(handle.state.groups) == rig.owned(folder) == claimed
        assert set(report.released) == owned_first - claimed
        shown = rig.shown(model)
        assert all(
            shown[item.path] == before[item.path]
            for group in discover(model).groups
            if group.key not in claimed
            for item in group.files
        )
