"""One machine for a long time: plans, restarts, crashes, limits, other writers, hotplug, restores,
in any order (A3, A6, A7, R1).

Whatever has happened: a group's baseline is what its files showed when it became owned; the last
plan comes in force; restoring then gives exactly the baselines, and an empty state.
"""

import contextlib

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kpm_applier.discovery.discover import discover
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.session import Applier
from kpm_applier.state.baseline import baseline_text
from kpm_applier.state.store import StateStore
from kpm_planner.model.machine import Machine
from kpm_planner.plan import NodePlan
from tests.applier import rig
from tests.applier.property.asks import cases, limits
from tests.applier.property.test_world import (
    bring_in_force,
    disturb,
    for_machine,
    foreign_values,
    quiet_files,
)


class Lifetime(RuleBasedStateMachine):
    """The steps; `known` holds what every owned file should be given back."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = rig.state_folder()
        self.path = self.folder.__enter__()
        self.known: dict[str, dict[str, str]] = {}
        #: Limits whose baseline was read under somebody's limit: nobody can know what lay behind it
        #: (K1).
        self.veiled: set[str] = set()
        self.handle: Applier | None = None

    @initialize(case=cases(3, most_cpus=3, whole=True))
    def start(self, case: tuple[Machine, tuple[NodePlan, ...]]) -> None:
        self.machine, self.plans = case
        self.model = KernelModel(self.machine)
        self.files = quiet_files(self.machine)
        self.may_go = sorted(self.machine.online - {0}) if not self.machine.boost else []
        self.last = self.plans[0]
        self.before = rig.shown(self.model)
        self._open(self.model)

    def _open(self, host: KernelModel | rig.Probe) -> Applier:
        if self.handle is not None:
            self.handle.close()
        self.handle = Applier(host, StateStore(self.path, "/model", live=False))
        self.handle.open()
        return self.handle

    def _plan(self, number: int) -> NodePlan:
        """As an agent does: the machine is looked at first."""
        assert self.handle is not None
        if self.handle.changed():
            self.handle.discover()
        self.last = self.plans[number]
        return for_machine(self.last, self.handle.machine)

    @rule(number=st.integers(0, 2))
    def apply(self, number: int) -> None:
        assert self.handle is not None
        plan = self._plan(number)
        self.before = rig.shown(self.model)
        self.handle.apply(plan)

    @rule(number=st.integers(0, 2), after=st.integers(0, 6))
    def crash(self, number: int, after: int) -> None:
        handle = self._open(rig.Probe(self.model, crash_at=after))
        plan = self._plan(number)
        self.before = rig.shown(self.model)
        with contextlib.suppress(rig.Crash):
            handle.apply(plan)
        self._open(self.model)

    @rule()
    def restart(self) -> None:
        self._open(self.model)

    @rule()
    def restore(self) -> None:
        assert self.handle is not None
        if self.handle.changed():
            self.handle.discover()
        self.handle.restore()

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def somebody_writes(self, data: st.DataObject) -> None:
        disturb(self.model, *data.draw(foreign_values(self.machine, self.files)))

    @precondition(lambda self: self.machine.domains)
    @rule(data=st.data())
    def somebody_limits(self, data: st.DataObject) -> None:
        self.model.limit(*data.draw(limits(self.machine.domains)))

    @precondition(lambda self: self.may_go)
    @rule(data=st.data(), online=st.booleans())
    def hotplug(self, data: st.DataObject, online: bool) -> None:
        self.model.plug(data.draw(st.sampled_from(self.may_go)), online=online)

    @rule(seconds=st.sampled_from((1, 10, 1000)))
    def time_passes(self, seconds: int) -> None:
        self.model.clock += seconds

    @invariant()
    def baselines_are_what_was_there(self) -> None:
        """Every baseline that is new in the state file is what the file
        showed when the step began.
        """
        if self.handle is None:
            return
        groups = {group.key: group for group in discover(self.model).groups}
        state = StateStore(self.path, "/model", live=False).load()
        assert {key: record.baseline for key, record in state.groups.items()} == {
            key: record.baseline for key, record in self.handle.state.groups.items()
        }
        self.known = {key: found for key, found in self.known.items() if key in state.groups}
        for key, record in state.groups.items():
            group, known = groups.get(key), self.known.setdefault(key, {})
            for item in group.files if group else ():
                text = baseline_text(group, record, item.label) if group else None
                if text is not None and item.path not in known and item.path in self.before:
                    known[item.path] = text
                    if (
                        group
                        and group.key.startswith("cpufreq")
                        and self.model.policies[int(group.id)].foreign_max is not None
                    ):
                        self.veiled |= {rig.min_path(int(group.id)), rig.max_path(int(group.id))}
                    assert text == self.before[item.path], item.path

    def teardown(self) -> None:
        try:
            if self.handle is not None:
                self._rest()
        finally:
            if self.handle is not None:
                self.handle.close()
            self.folder.__exit__(None, None, None)

    def _rest(self) -> None:
        """Everybody else leaves; the last plan comes in force, and goes."""
        assert self.handle is not None
        for domain in self.machine.domains:
            self.model.limit(domain.id, None)
        for cpu in self.machine.cpus:
            self.model.plug(cpu.id, online=cpu.online)
        self.before = rig.shown(self.model)
        bring_in_force(self.handle, self.last, self.model)
        self.baselines_are_what_was_there()
        fresh = KernelModel(self.machine)
        with rig.state_folder() as other:
            rig.apply_once(fresh, other, self.last)
        wants, shown, expected = (
            rig.texts(self.last, self.machine).keys() - self.veiled,
            rig.shown(self.model),
            rig.shown(fresh),
        )
        assert {path: shown[path] for path in wants} == {path: expected[path] for path in wants}
        self.handle.restore()
        after = rig.shown(self.model)
        for known in self.known.values():
            assert {path: after[path] for path in known} == known
        assert rig.owned(self.path) == set()


TestLifetime = Lifetime.TestCase
TestLifetime.settings = settings(stateful_step_count=15)
