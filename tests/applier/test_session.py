"""The applier as a handle with a lifetime (A1 to A7): examples that say what a running agent may
count on.
"""

import errno
import itertools
from collections import Counter
from pathlib import Path

import pytest
from attrs import evolve

from kpm_applier.attributes import CPU_ROOT
from kpm_applier.diff import Repair
from kpm_applier.discovery.discover import discover
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.session import Applier, Report
from kpm_applier.state.store import StateStore
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.model.changes import Outcome, Reason, Status
from kpm_planner.model.machine import Machine
from kpm_planner.model.target import Target
from kpm_planner.plan import NodePlan
from kpm_planner.uncore import UncoreTarget
from tests.applier import rig
from tests.applier.rig import GHZ, Probe

FULL = Target(GHZ, 2 * GHZ, "powersave", "power", (("C6", False),))
OTHER = Target(GHZ, 3 * GHZ, "powersave", "performance")


def plan_of(machine: Machine, target: Target = FULL) -> NodePlan:
    return rig.everywhere(machine, target)


# --- A1: what a pass reads ---


def test_an_idle_pass_reads_each_managed_file_once_and_writes_nothing(tmp_path: Path) -> None:
    """And lists no folder, and does not touch the state file."""
    host = Probe(KernelModel(rig.amd(2)))
    plan = plan_of(rig.amd(2))
    with rig.applier(host, str(tmp_path)) as handle:
        handle.apply(plan)
        state = Path(handle.store.path)
        handle.apply(plan)
        before = state.stat().st_mtime_ns
        host.reads.clear()
        host.listed.clear()
        taken = len(host.writes)
        assert handle.apply(plan) == Report()
        assert host.reads == Counter(
            {item.path for group in discover(host.inner).groups for item in group.files}
        )
        assert (host.listed, len(host.writes), state.stat().st_mtime_ns) == ([], taken, before)


@pytest.mark.parametrize("driver", ["intel_pstate", "intel_cpufreq"])
def test_the_epp_of_intel_is_not_read_in_idle_or_drift_passes(tmp_path: Path, driver: str) -> None:
    """A1: reading it interrupts the CPU; it is read at discovery and after own writes to its group,
    and then never again.
    """
    machine = rig.machine([rig.domain(number, driver=driver) for number in range(2)])
    host = Probe(KernelModel(machine))
    plan = plan_of(machine, Target(GHZ, 2 * GHZ, "powersave", "power"))
    with rig.applier(host, str(tmp_path)) as handle:
        handle.apply(plan)
        assert host.reads[rig.epp_path(0)] > 0
        host.reads.clear()
        for _ in range(3):
            handle.apply(plan)
            handle.changed()
        assert host.reads[rig.epp_path(0)] == host.reads[rig.epp_path(1)] == 0
        rig.foreign_write(host.inner, rig.idle_path(1, 2), "1")  # type: ignore[arg-type]
        rig.foreign_write(host.inner, rig.max_path(1), "3000000")  # type: ignore[arg-type]
        handle.apply(plan)
        assert host.reads[rig.max_path(0)] > 0
        assert host.reads[rig.epp_path(0)] == 0, (
            "CPU 0 was right and must not be disturbed by the repair of CPU 1"
        )


def test_the_epp_of_amd_is_read_like_any_file(tmp_path: Path) -> None:
    """There it costs nothing, so a foreign EPP is found."""
    model = KernelModel(rig.amd(1))
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(plan_of(rig.amd(1)))
        rig.foreign_write(model, rig.epp_path(), "performance")
        assert [write.path for write in handle.apply(plan_of(rig.amd(1))).drift] == [rig.epp_path()]


def test_a_new_process_with_a_right_machine_writes_nothing(tmp_path: Path) -> None:
    """S4: a restart writes nothing, neither to /sys nor to the state file."""
    model = KernelModel(rig.intel(2, uncore=(rig.package_entry(),)))
    plan = plan_of(model.machine)
    rig.apply_once(model, str(tmp_path), plan)
    rig.apply_once(model, str(tmp_path), plan)
    (state,) = tmp_path.glob("*.json")
    before, taken = state.stat().st_mtime_ns, len(model.log)
    rig.apply_once(model, str(tmp_path), plan)
    assert (state.stat().st_mtime_ns, len(model.log)) == (before, taken)


def test_the_epp_of_intel_is_verified_after_own_writes(tmp_path: Path) -> None:
    """A1: read after own writes, so a refused EPP is seen."""
    model = KernelModel(rig.intel(1))
    with rig.applier(model, str(tmp_path)) as handle:
        report = handle.apply(plan_of(model.machine, Target(GHZ, 2 * GHZ, "performance", "power")))
    assert [(outcome.path, outcome.errno) for outcome in report.outcomes] == [
        (rig.epp_path(), errno.EBUSY)
    ]


# --- R1 inside one process ---


def test_a_plan_with_a_failure_between_does_not_hide_a_difference(tmp_path: Path) -> None:
    """A in force; B sets another EPP, which no pass reads, and fails somewhere; back to A: the EPP
    is A's again.
    """
    model = KernelModel(rig.intel(1))
    first, second = (
        plan_of(model.machine, Target(epp="power")),
        plan_of(model.machine, Target(epp="performance", idle=(("C6", False),))),
    )
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(first)
        handle.apply(first)
        model.faults = {rig.idle_path(0, 2): errno.EIO}
        assert not handle.apply(second).settled
        model.faults = {}
        handle.apply(first)
        assert model.read(rig.epp_path()) == b"power\n"
        handle.apply(second)
        assert (model.read(rig.epp_path()), model.read(rig.idle_path(0, 2))) == (
            b"performance\n",
            b"1\n",
        )


def test_a_restore_that_changes_only_what_no_pass_reads_is_not_forgotten(tmp_path: Path) -> None:
    """The same after restoring: apply brings the EPP back, and owns the group again."""
    model = KernelModel(rig.intel(1))
    plan = plan_of(model.machine, Target(epp="power"))
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(plan)
        handle.apply(plan)
        handle.restore()
        assert model.read(rig.epp_path()) == b"balance_performance\n"
        handle.apply(plan)
        assert model.read(rig.epp_path()) == b"power\n"
        assert set(handle.state.groups) == rig.owned(str(tmp_path)) == {"cpufreq:0"}


# --- A7: baselines are what was there just before the first write ---


def test_a_baseline_is_read_just_before_the_first_write(tmp_path: Path) -> None:
    """Not when the process started: an administrator may have changed the CPU while the agent was
    waiting for the API server.
    """
    model = KernelModel(rig.amd(2))
    with rig.applier(model, str(tmp_path)) as handle:
        for path, text in (
            (rig.max_path(0), "3000000"),
            (rig.epp_path(0), "power"),
            (rig.idle_path(0, 1), "1"),
        ):
            rig.foreign_write(model, path, text)
        before = rig.shown(model)
        handle.apply(plan_of(model.machine))
        handle.restore()
        assert rig.shown(model) == before


def test_the_baseline_of_a_group_claimed_later_is_read_then(tmp_path: Path) -> None:
    """CPU 1 is changed by somebody while only CPU 0 is ours; then we take it, too."""
    model = KernelModel(rig.amd(2))
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(rig.plan(model.machine, {0: FULL}))
        handle.apply(rig.plan(model.machine, {0: FULL}))
        for path, text in (
            (rig.max_path(1), "3000000"),
            (rig.epp_path(1), "power"),
            (rig.idle_path(1, 1), "1"),
        ):
            rig.foreign_write(model, path, text)
        before = rig.shown(model)
        handle.apply(plan_of(model.machine))
        handle.apply(rig.plan(model.machine, {0: FULL}))
        assert rig.shown(model) == before


def test_the_baseline_of_an_epp_that_is_never_read_is_read_before_it_is_written(
    tmp_path: Path,
) -> None:
    """The one read that A7 needs is no periodic one: what somebody set
    since discovery comes back.
    """
    model = KernelModel(rig.intel(1))
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(rig.plan(model.machine, {}))
        rig.foreign_write(model, rig.epp_path(), "balance_power")
        handle.apply(plan_of(model.machine))
        handle.restore()
    assert model.read(rig.epp_path()) == b"balance_power\n"


def test_an_unknown_baseline_is_completed_before_the_first_write(tmp_path: Path) -> None:
    """CPU 1 is gone when its group is first asked for; when it comes back it is written, and given
    back in the end (A7, K17).
    """
    model = KernelModel(rig.intel(2))
    before = rig.shown(model)
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(rig.plan(model.machine, {0: FULL}))
        model.plug(1, online=False)
        handle.apply(plan_of(model.machine))
        model.plug(1, online=True)
        handle.discover()
        handle.apply(plan_of(model.machine))
        assert rig.shown(model)[rig.max_path(1)] == "2000000"
        handle.restore()
    assert rig.shown(model) == before


@pytest.mark.parametrize(
    "path",
    [
        rig.min_path(),
        rig.max_path(),
        rig.epp_path(),
        rig.idle_path(0, 2),
        rig.uncore_path("package_00_die_00", "min"),
    ],
)
def test_a_file_unreadable_at_first_is_given_back_all_the_same(tmp_path: Path, path: str) -> None:
    """EIO while its group is first touched; when it can be read it is, before it is written; and so
    it can be restored (A7, R6).
    """
    entry = rig.package_entry()
    model = KernelModel(rig.intel(1, uncore=(entry,)))
    plan = rig.plan(model.machine, {0: FULL}, uncore=[UncoreTarget(entry, GHZ, 2 * GHZ)])
    before = rig.shown(model)
    with rig.applier(model, str(tmp_path)) as handle:
        model.faults = {path: errno.EIO}
        assert not handle.apply(plan).settled
        model.faults = {}
        model.clock += 1000
        handle.apply(plan)
        assert rig.shown(model).items() >= rig.texts(plan, model.machine).items()
        handle.restore()
    assert rig.shown(model) == before


def test_a_first_touch_that_needs_no_write_is_owned_all_the_same(tmp_path: Path) -> None:
    """The machine happens to be right: the groups are claimed, so what somebody else changes
    afterwards is drift.
    """
    model = KernelModel(rig.amd(1))
    plan = plan_of(model.machine, Target(400_000, 4 * GHZ, "powersave", "balance_performance"))
    with rig.applier(model, str(tmp_path)) as handle:
        assert handle.apply(plan).writes == ()
        assert set(handle.state.groups) == {"cpufreq:0"}
        rig.foreign_write(model, rig.max_path(), "1000000")
        assert [write.reason for write in handle.apply(plan).writes] == [Reason.DRIFT]
        assert model.read(rig.max_path()) == b"4000000\n"


# --- A3: drift ---


def test_drift_is_counted_reported_and_repaired(tmp_path: Path) -> None:
    """Field report 49: which file, what somebody put there, what we put back."""
    model = KernelModel(rig.intel(2))
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(plan_of(model.machine))
        rig.foreign_write(model, rig.max_path(1), "3500000")
        report = handle.apply(plan_of(model.machine))
        assert [(write.path, write.old, write.value) for write in report.drift] == [
            (rig.max_path(1), "3500000", "2000000")
        ]
        assert handle.drift_count == 1
        assert handle.apply(plan_of(model.machine)) == Report()
        assert handle.drift_count == 1


def test_repair_backs_off_from_somebody_who_insists(tmp_path: Path) -> None:
    """A daemon that writes every second for an hour meets fewer and fewer of our writes, and never
    none at all.
    """
    model = KernelModel(rig.intel(1))
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(plan_of(model.machine))
        model.log.clear()
        times = []
        for second in range(3600):
            rig.foreign_write(model, rig.max_path(), "3500000")
            if handle.apply(plan_of(model.machine)).writes:
                times.append(second)
            model.clock += 1
        assert 5 <= len(times) <= 40
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert gaps == sorted(gaps)
        assert max(gaps) <= 301


def test_while_backing_off_the_foreign_value_is_reported(tmp_path: Path) -> None:
    """DRIFTED, with the value that stands there now."""
    model = KernelModel(rig.intel(1))
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(plan_of(model.machine))
        for text in ("3500000", "3600000"):
            rig.foreign_write(model, rig.max_path(), text)
            report = handle.apply(plan_of(model.machine))
        assert report.writes == ()
        assert report.outcomes == (
            Outcome(rig.max_path(), "cpufreq:0", Status.DRIFTED, "2000000", "3600000"),
        )


def test_backing_off_is_per_group(tmp_path: Path) -> None:
    """Who fights over CPU 0 does not make us slow on CPU 1."""
    model = KernelModel(rig.intel(2))
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(plan_of(model.machine))
        for _ in range(3):
            rig.foreign_write(model, rig.max_path(0), "3500000")
            handle.apply(plan_of(model.machine))
        rig.foreign_write(model, rig.max_path(1), "3500000")
        handle.apply(plan_of(model.machine))
        assert (model.read(rig.max_path(0)), model.read(rig.max_path(1))) == (
            b"3500000\n",
            b"2000000\n",
        )


def test_a_foreign_value_that_stays_is_counted_once(tmp_path: Path) -> None:
    """A metric that grows with every look would say that somebody writes again and again."""
    model = KernelModel(rig.intel(1))
    with rig.applier(model, str(tmp_path), Repair.REPORT) as handle:
        handle.apply(plan_of(model.machine))
        rig.foreign_write(model, rig.max_path(), "3500000")
        for _ in range(5):
            assert handle.apply(plan_of(model.machine)).outcomes
            model.clock += 60
        assert handle.drift_count == 1
        rig.foreign_write(model, rig.max_path(), "3600000")
        handle.apply(plan_of(model.machine))
        assert handle.drift_count == 2


@pytest.mark.parametrize("repair", list(Repair))
def test_a_changed_request_is_written_whatever_somebody_did_to_the_group(
    tmp_path: Path, repair: Repair
) -> None:
    """A3: a file is written when its request changes; neither back-off nor `repair: report` speaks
    of that.
    """
    model = KernelModel(rig.amd(1))
    with rig.applier(model, str(tmp_path), repair) as handle:
        handle.apply(plan_of(model.machine))
        for text in ("3500000", "3600000"):
            rig.foreign_write(model, rig.max_path(), text)
            handle.apply(plan_of(model.machine))
        handle.apply(plan_of(model.machine, Target(GHZ, 2 * GHZ, "powersave", "performance")))
        assert model.read(rig.epp_path()) == b"performance\n"


def test_report_only_leaves_foreign_values_also_when_the_plan_changes(tmp_path: Path) -> None:
    """The file whose request stays is somebody else's now; it is reported, not overwritten on the
    occasion of its neighbour.
    """
    model = KernelModel(rig.amd(1, idle=()))
    with rig.applier(model, str(tmp_path), Repair.REPORT) as handle:
        handle.apply(plan_of(model.machine, Target(GHZ, 2 * GHZ, "powersave", "power")))
        rig.foreign_write(model, rig.max_path(), "3500000")
        report = handle.apply(
            plan_of(model.machine, Target(GHZ, 2 * GHZ, "powersave", "performance"))
        )
        assert model.read(rig.max_path()) == b"3500000\n"
        assert (
            Outcome(rig.max_path(), "cpufreq:0", Status.DRIFTED, "2000000", "3500000")
            in report.outcomes
        )


def test_a_crash_is_no_drift_of_somebody_else(tmp_path: Path) -> None:
    """A6: killed half-way through B, back to A: what B left is ours, so it is put right even where
    others' values are only reported.
    """
    model = KernelModel(rig.amd(1))
    rig.apply_once(model, str(tmp_path), plan_of(model.machine, FULL))
    with pytest.raises(rig.Crash):
        rig.apply_once(Probe(model, crash_at=2), str(tmp_path), plan_of(model.machine, OTHER))
    with rig.applier(model, str(tmp_path), Repair.REPORT) as handle:
        report = handle.apply(plan_of(model.machine, FULL))
        assert (report.drift, handle.drift_count) == ((), 0)
    assert (
        rig.shown(model).items() >= rig.texts(plan_of(model.machine, FULL), model.machine).items()
    )


def test_a_limit_that_changes_is_answered_once(tmp_path: Path) -> None:
    """R3: thermal throttling is no fight: one try a change at most,
    then it is the settled value.
    """
    model = KernelModel(rig.intel(1))
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(plan_of(model.machine))
        for khz in (1_500_000, 1_200_000, 1_800_000):
            model.limit(0, khz)
            model.clock += 1000
            model.log.clear()
            handle.apply(plan_of(model.machine))
            assert len(model.log) <= 1
            model.log.clear()
            assert handle.apply(plan_of(model.machine)) == Report()
        model.limit(0, None)
        assert handle.apply(plan_of(model.machine)).writes == ()
        assert model.read(rig.max_path()) == b"2000000\n"


# --- A2: the machine itself changes ---


def test_what_is_ours_on_a_cpu_that_is_offline_is_not_looked_for(tmp_path: Path) -> None:
    """Its files are gone as long as it is away, and that it comes back is seen by itself."""
    found = rig.amd(2)
    found = evolve(found, cpus=tuple(evolve(cpu, resume_latency="0") for cpu in found.cpus))
    model = KernelModel(found)
    target = evolve(FULL, latency_us=20)
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(plan_of(found, target))
        kinds = {key.partition(":")[0] for key in handle.state.groups if key.endswith(":1")}
        assert {"cpufreq", "idle", "latency"} <= kinds
        model.plug(1, online=False)
        handle.discover()
        handle.apply(rig.plan(handle.machine, {0: target}))
        model.clock += 1000
        assert not handle.changed()


@pytest.mark.parametrize("ours", [False, True])
def test_what_could_not_be_read_is_looked_for_less_and_less_often(
    tmp_path: Path, ours: bool
) -> None:
    """After 1, 2, 4 … s and at last every 300 s; what is not ours is given up then, what is ours
    never.
    """
    model = KernelModel(rig.amd(2))
    if ours:
        rig.apply_once(model, str(tmp_path), plan_of(model.machine))
    host = Probe(model, deny=lambda _, path: errno.EIO if path.endswith("scaling_driver") else None)
    looks = []
    with rig.applier(host, str(tmp_path)) as handle:
        start = before = model.clock
        while model.clock - start < 3000:
            model.clock += 0.5
            if handle.changed():
                looks.append(model.clock - before)
                before = model.clock
                handle.discover()
    doubled = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0]
    assert looks[:10] == doubled
    assert looks[10:] == ([300.0] * 7 if ours else [])


def test_hotplug_is_noticed_and_repaired(tmp_path: Path) -> None:
    """Field report 50: amd-pstate-epp forgets the EPP of a CPU that was offline (K18); after one
    look the plan is in force again.
    """
    model = KernelModel(rig.amd(2))
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(plan_of(model.machine))
        assert not handle.changed()
        model.plug(1, online=False)
        assert handle.changed()
        handle.discover()
        assert not handle.machine.by_id[1].online
        handle.apply(rig.plan(handle.machine, {0: FULL}))
        model.plug(1, online=True)
        assert model.read(rig.epp_path(1)) != b"power\n"
        assert handle.changed()
        handle.discover()
        handle.apply(plan_of(handle.machine))
        assert model.read(rig.epp_path(1)) == b"power\n"


@pytest.mark.parametrize(
    "path", [rig.max_path(1), rig.governor_path(1), rig.epp_path(1), rig.idle_path(1, 2)]
)
@pytest.mark.parametrize("plan", ["released", "restored"])
def test_what_is_released_is_given_back_whatever_somebody_else_wrote(
    tmp_path: Path, path: str, plan: str
) -> None:
    """Also where foreign values are only reported: its baseline is about to be forgotten."""
    model = KernelModel(rig.amd(2))
    before = rig.shown(KernelModel(rig.amd(2)))
    foreign = {
        rig.max_path(1): "1500000",
        rig.governor_path(1): "performance",
        rig.epp_path(1): "balance_power",
        rig.idle_path(1, 2): "1",
    }
    with rig.applier(model, str(tmp_path), Repair.REPORT) as handle:
        handle.apply(plan_of(model.machine))
        rig.foreign_write(model, path, foreign[path])
        handle.apply(plan_of(model.machine))
        if plan == "released":
            handle.apply(rig.plan(handle.machine, {}))
        else:
            handle.restore()
        assert handle.state.groups == {}
    assert rig.shown(model) == before


@pytest.mark.parametrize("repair", list(Repair))
def test_what_was_asked_for_as_it_was_found_is_given_back_all_the_same(
    tmp_path: Path, repair: Repair
) -> None:
    """The plan wants the maximum that was there before, somebody else insists on another: released,
    the file shows what was there, whether others are only reported or are being backed off from.
    """
    model = KernelModel(rig.amd(1))
    before = rig.shown(KernelModel(rig.amd(1)))
    with rig.applier(model, str(tmp_path), repair) as handle:
        plan = plan_of(model.machine, Target(max_khz=4 * GHZ, epp="power"))
        handle.apply(plan)
        for text in ("1500000", "1600000"):
            rig.foreign_write(model, rig.max_path(), text)
            assert handle.apply(plan).drift
        report = handle.apply(rig.plan(model.machine, {}))
        assert (report.outcomes, handle.state.groups) == ((), {})
    assert rig.shown(model) == before


@pytest.mark.parametrize("seen_away", [True, False])
def test_nobody_is_blamed_for_what_a_driver_forgot(tmp_path: Path, seen_away: bool) -> None:
    """A CPU that was away comes back to the plan without a foreign value, whether it was seen away
    or only told of.
    """
    model = KernelModel(rig.amd(2))
    with rig.applier(model, str(tmp_path), repair=Repair.REPORT) as handle:
        handle.apply(plan_of(model.machine))
        model.plug(1, online=False)
        if seen_away:
            handle.discover()
            handle.apply(rig.plan(handle.machine, {0: FULL}))
        model.plug(1, online=True)
        if seen_away:
            handle.discover()
        else:
            handle.came_back({1})
        report = handle.apply(plan_of(model.machine))
        assert (report.drift, handle.drift_count) == ((), 0)
        assert model.read(rig.epp_path(1)) == b"power\n"
        # It is an excuse for one pass and one CPU: what is written then is somebody's.
        rig.foreign_write(model, rig.epp_path(1), "performance")
        assert [write.path for write in handle.apply(plan_of(model.machine)).drift] == [
            rig.epp_path(1)
        ]
        rig.foreign_write(model, rig.epp_path(0), "performance")
        handle.came_back({1})
        assert rig.epp_path(0) in [
            write.path for write in handle.apply(plan_of(model.machine)).drift
        ]


def test_the_epp_of_intel_is_read_after_hotplug(tmp_path: Path) -> None:
    """A1 names hotplug as an occasion to read it: what came back with another EPP is put right."""
    model = KernelModel(rig.intel(2))
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(plan_of(model.machine))
        assert not handle.changed()
        model.plug(1, online=False)
        handle.changed()
        handle.discover()
        handle.apply(rig.plan(handle.machine, {0: FULL}))
        model.plug(1, online=True)
        model.policies[1].epp = "balance_power"
        assert handle.changed()
        handle.discover()
        handle.apply(plan_of(handle.machine))
        assert model.read(rig.epp_path(1)) == b"power\n"


@pytest.mark.parametrize("between", ["cpu", "boost", "status", "hardware"])
def test_what_changes_before_the_first_look_is_noticed(tmp_path: Path, between: str) -> None:
    """`changed` compares with what discovery saw, not with what the first look after it sees."""
    active = rig.amd(2)
    passive = {number: rig.domain(number, driver="amd-pstate", low=400_000) for number in range(2)}
    machine = (
        rig.machine(
            [rig.domain(0, driver="cppc_cpufreq"), rig.domain(1, driver="cppc_cpufreq")], boost=True
        )
        if between == "boost"
        else active
    )
    model = KernelModel(machine, modes={"amd-pstate": passive})
    with rig.applier(model, str(tmp_path)) as handle:
        match between:
            case "cpu":
                model.plug(1, online=False)
            case "boost":
                rig.foreign_write(model, f"{CPU_ROOT}/cpufreq/boost", "0")
            case "status":
                rig.foreign_write(model, f"{CPU_ROOT}/amd_pstate/status", "passive")
            case _:
                model.policies[1].hardware_max = 3_000_000
        assert handle.changed()


def test_one_cpuinfo_max_freq_a_domain_is_watched(tmp_path: Path) -> None:
    """A2; also of a domain whose first CPU is offline, and per-policy boost (K24) moves just one of
    them.
    """
    machine = rig.arm(2, 2)
    model = KernelModel(machine)
    model.plug(2, online=False)
    with rig.applier(model, str(tmp_path)) as handle:
        for number in (0, 2):
            assert not handle.changed()
            model.policies[number].hardware_max = 2_000_000
            assert handle.changed()
            handle.discover()
            assert handle.machine.domain_by_id[number].hardware_max_khz == 2_000_000


def test_an_unnoticed_driver_switch_is_met_by_discovering_again(tmp_path: Path) -> None:
    """A2: ENODEV on a kept descriptor: closed, discovered, tried once; the old driver's entries are
    void and nothing is raised.
    """
    passive = {number: rig.domain(number, driver="amd-pstate", low=400_000) for number in range(2)}
    model = KernelModel(rig.amd(2), modes={"amd-pstate": passive}, modules=frozenset())
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(plan_of(model.machine))
        handle.apply(plan_of(model.machine))
        rig.foreign_write(model, f"{CPU_ROOT}/amd_pstate/status", "passive")
        report = handle.apply(plan_of(model.machine))
        assert {domain.driver for domain in handle.machine.domains} == {"amd-pstate"}
        assert {outcome.path for outcome in report.outcomes} == {
            rig.governor_path(0),
            rig.governor_path(1),
        }
        assert model.read(rig.max_path()) == b"2000000\n"


def test_boost_of_somebody_else_moves_the_unlimited_domains(tmp_path: Path) -> None:
    """A plan for the new maximum is in force after one discovery (field report 51)."""
    machine = rig.machine([rig.domain(0, driver="cppc_cpufreq", high=2_500_000)], boost=False)
    model = KernelModel(machine, boosted={0: 2_956_522}, unboosted={0: 2_500_000})
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(plan_of(machine, Target(GHZ, 2_500_000)))
        assert not handle.changed()
        rig.foreign_write(model, f"{CPU_ROOT}/cpufreq/boost", "1")
        assert handle.changed()
        handle.discover()
        assert handle.machine.domains[0].hardware_max_khz == 2_956_522
        handle.apply(plan_of(handle.machine, Target(GHZ, 2_956_522)))
        assert model.read(rig.max_path()) == b"2956522\n"


# --- leaving ---


def test_a_release_writes_the_baseline_and_drops_the_entry(tmp_path: Path) -> None:
    """CPU 1 leaves management: back to what it was, out of the state file, and free for others."""
    model = KernelModel(rig.intel(2))
    before = rig.shown(model)
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(plan_of(model.machine))
        report = handle.apply(rig.plan(model.machine, {0: FULL}))
        assert set(report.released) == {"cpufreq:1", "idle:1"}
        assert {write.reason for write in report.writes} == {Reason.RESTORE}
        assert set(handle.state.groups) == rig.owned(str(tmp_path)) == {"cpufreq:0", "idle:0"}
        assert {
            path: text
            for path, text in rig.shown(model).items()
            if "policy1" in path or "cpu1/" in path
        } == {path: text for path, text in before.items() if "policy1" in path or "cpu1/" in path}
        rig.foreign_write(model, rig.max_path(1), "3500000")
        assert handle.apply(rig.plan(model.machine, {0: FULL})).writes == ()


def test_restoring_with_an_offline_cpu_keeps_its_entry_and_says_so(tmp_path: Path) -> None:
    """What cannot be reached is not forgotten: restored when it is back."""
    model = KernelModel(rig.intel(2))
    before = rig.shown(model)
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(plan_of(model.machine))
        model.plug(1, online=False)
        handle.discover()
        report = handle.restore()
        assert {
            outcome.group for outcome in report.outcomes if outcome.status is Status.OFFLINE
        } == {"cpufreq:1"}
        assert not report.settled
        assert set(handle.state.groups) == {"cpufreq:1"}
    model.plug(1, online=True)
    assert rig.restore_once(model, str(tmp_path)).settled
    assert rig.shown(model) == before
    assert rig.owned(str(tmp_path)) == set()


def test_restoring_with_a_cpu_that_went_unnoticed_keeps_its_entry(tmp_path: Path) -> None:
    """The same where nobody has discovered anew: EBUSY, OFFLINE, entry kept."""
    model = KernelModel(rig.intel(2))
    before = rig.shown(model)
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(plan_of(model.machine))
        model.plug(1, online=False)
        report = handle.restore()
        assert {
            outcome.group for outcome in report.outcomes if outcome.status is Status.OFFLINE
        } == {"cpufreq:1"}
        assert set(handle.state.groups) == {"cpufreq:1"}
        model.plug(1, online=True)
        assert handle.restore().settled
    assert rig.shown(model) == before


def test_one_failing_restore_does_not_stop_the_others(tmp_path: Path) -> None:
    """Field report 11: the failed group stays owned, the rest is back; the next restore does what
    is left.
    """
    model = KernelModel(rig.intel(3))
    before = rig.shown(model)
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(plan_of(model.machine))
        model.faults = {rig.max_path(1): errno.EIO}
        report = handle.restore()
        assert [(outcome.path, outcome.errno) for outcome in report.outcomes] == [
            (rig.max_path(1), errno.EIO)
        ]
        assert set(handle.state.groups) == {"cpufreq:1"}
        model.faults = {}
        assert handle.restore().settled
        assert handle.state.groups == {}
    assert rig.shown(model) == before


def test_a_restore_does_not_wait_for_anybody(tmp_path: Path) -> None:
    """Leaving happens now: neither back-off after a fight nor `repair: report` leaves our values
    behind (A7, field report 8).
    """
    for repair in Repair:
        model = KernelModel(rig.amd(1))
        before = rig.shown(model)
        folder = tmp_path / str(repair)
        with rig.applier(model, str(folder), repair) as handle:
            handle.apply(plan_of(model.machine, Target(400_000, 2 * GHZ, "powersave", "power")))
            for text in ("500000", "600000", "700000"):
                rig.foreign_write(model, rig.min_path(), text)
                handle.apply(plan_of(model.machine, Target(400_000, 2 * GHZ, "powersave", "power")))
            handle.restore()
            assert (rig.shown(model)[rig.max_path()], rig.shown(model)[rig.epp_path()]) == (
                before[rig.max_path()],
                before[rig.epp_path()],
            )
            assert handle.state.groups == {}
        assert rig.owned(str(folder)) == set()


def test_restoring_an_unowned_machine_does_nothing(tmp_path: Path) -> None:
    """Also twice."""
    model = KernelModel(rig.intel(1))
    assert (
        rig.restore_once(model, str(tmp_path)) == rig.restore_once(model, str(tmp_path)) == Report()
    )
    assert model.log == []


def test_uncore_and_boost_are_given_back(tmp_path: Path) -> None:
    """They are rows of the same table."""
    entry = rig.package_entry(low=900_000, high=2_000_000)
    model = KernelModel(rig.intel(1, uncore=(entry,), boost=True))
    before = rig.shown(model)
    plan = rig.plan(model.machine, {}, uncore=[UncoreTarget(entry, GHZ, GHZ)], boost=False)
    rig.apply_once(model, str(tmp_path), plan)
    assert rig.shown(model)[rig.uncore_path(entry.name, "max")] == "1000000"
    assert rig.shown(model)[f"{CPU_ROOT}/intel_pstate/no_turbo"] == "1"
    rig.restore_once(model, str(tmp_path))
    assert rig.shown(model) == before


# --- on real files ---


def test_a_copy_of_sys_is_applied_to_and_restored(tmp_path: Path) -> None:
    """The same on SysfsHost: apply, idle passes, drift through kept descriptors, restart, restore:
    not a byte is left.
    """
    machine = rig.amd(2)
    root, states = rig.tree(tmp_path / "sys", machine), str(tmp_path / "state")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    host = SysfsHost(str(root))
    with rig.applier(host, states) as handle:
        assert handle.machine.domains == machine.domains
        assert handle.apply(plan_of(machine)).settled
        assert (root / rig.max_path(1)).read_text() == "2000000\n"
        for _ in range(3):
            assert handle.apply(plan_of(machine)) == Report()
        (root / rig.max_path(1)).write_text("3500000\n")
        assert [write.path for write in handle.apply(plan_of(machine)).drift] == [rig.max_path(1)]
        assert (root / rig.max_path(1)).read_text() == "2000000\n"
        assert not handle.changed()
        (root / f"{CPU_ROOT}/online").write_text("0\n")
        assert handle.changed()
        (root / f"{CPU_ROOT}/online").write_text("0-1\n")
        handle.discover()
        handle.apply(plan_of(machine, Target(GHZ, 3 * GHZ)))
        assert (root / rig.epp_path(0)).read_text() == "balance_performance\n"
    with rig.applier(SysfsHost(str(root)), states) as handle:
        assert handle.restore().settled
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_closing_lets_go_of_everything(tmp_path: Path) -> None:
    """Descriptors and lock: another process can go on at once."""
    root = rig.tree(tmp_path / "sys", rig.amd(2))
    before = len(list(Path("/proc/self/fd").iterdir()))
    handle = Applier(
        SysfsHost(str(root)), StateStore(str(tmp_path / "state"), str(root), live=False)
    )
    handle.open()
    handle.apply(plan_of(rig.amd(2)))
    handle.apply(plan_of(rig.amd(2)))
    handle.changed()
    handle.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    handle.close()
