"""Laws of a world that does not stand still: limits, other writers, hotplug, faults, driver modes,
boost (A1 to A4, R3, R6).
"""

import contextlib
import errno
from collections import Counter
from collections.abc import Collection

from attrs import evolve
from hypothesis import assume, given
from hypothesis import strategies as st

from kpm_applier.attributes import CPU_ROOT
from kpm_applier.diff import Repair
from kpm_applier.discovery.discover import discover
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.session import Applier
from kpm_planner.model.assignment import Pool
from kpm_planner.model.changes import Status
from kpm_planner.model.machine import Machine
from kpm_planner.model.target import BASELINE
from kpm_planner.model.why import Why
from kpm_planner.plan import NodePlan
from tests.applier import rig
from tests.applier.property.asks import cases, limits, plans
from tests.strategies.machines import Driver

Case = tuple[Machine, tuple[NodePlan, ...]]
LATENCIES = st.sampled_from((0.0, 0.004))
FAULTS = st.sampled_from((errno.EBUSY, errno.EIO, errno.EINVAL, errno.EACCES))
LONG = 1000.0


def managed_paths(machine: Machine) -> list[str]:
    return sorted(
        item.path for group in discover(KernelModel(machine)).groups for item in group.files
    )


def bring_in_force(handle: Applier, plan: NodePlan, model: KernelModel) -> None:
    """What an agent does until its node stands still: look whether the machine has changed, plan
    for what it is, apply.
    """
    for _ in range(6):
        model.clock += LONG
        if handle.changed():
            handle.discover()
        before = len(model.log)
        report = handle.apply(for_machine(plan, handle.machine))
        if (
            report.settled
            and not report.drift
            and len(model.log) == before
            and not handle.changed()
        ):
            return
    raise AssertionError(f"does not come to rest: {model.log[-10:]}")


def for_machine(plan: NodePlan, machine: Machine) -> NodePlan:
    """The plan with CPUs that are offline now in the pool of those."""
    groups = []
    for group in plan.groups:
        online = all(machine.by_id[cpu].online for cpu in group.cpus)
        groups.append(
            group
            if online
            else evolve(group, pool=Pool.OFFLINE, target=BASELINE, because=(Why("offline"),))
        )
    return evolve(plan, groups=tuple(groups))


# --- limits ---


@given(cases(), LATENCIES, st.data())
def test_a_limit_from_elsewhere_costs_one_write_a_file_at_most(
    case: Case, latency: float, data: st.DataObject
) -> None:
    """R3, A3: each change of it is answered once at most, then there is peace, whatever the limit;
    and when it is gone, the plan is in force.
    """
    machine, (plan,) = case
    assume(machine.domains)
    model = KernelModel(machine, latency)
    with rig.state_folder() as folder, rig.applier(model, folder) as handle:
        handle.apply(plan)
        reached = rig.shown(model)
        for _ in range(data.draw(st.integers(1, 4))):
            model.limit(*data.draw(limits(machine.domains)))
            model.clock += LONG
            model.log.clear()
            report = handle.apply(plan)
            assert report.settled
            assert set(Counter(path for path, _ in model.log).values()) <= {1}
            model.log.clear()
            for _ in range(2):
                model.clock += LONG
                assert handle.apply(plan).writes == ()
            assert model.log == []
        for domain in machine.domains:
            model.limit(domain.id, None)
        model.clock += LONG
        handle.apply(plan)
        assert rig.shown(model) == reached


@given(cases(2), LATENCIES, st.data())
def test_a_limit_does_not_stay_behind(case: Case, latency: float, data: st.DataObject) -> None:
    """K1: what is asked for under somebody's limit is in force when that is lifted, and so is what
    a restore under it gave back.
    """
    machine, (first, second) = case
    assume(machine.domains)
    model, free = KernelModel(machine, latency), KernelModel(machine, latency)
    before = rig.shown(KernelModel(machine))
    number, khz = data.draw(limits(machine.domains))
    with rig.state_folder() as one, rig.state_folder() as two:
        rig.apply_once(model, one, first)
        model.limit(number, khz)
        model.clock += LONG
        owned = rig.owned(one)
        rig.apply_once(model, one, second)
        model.limit(number, None)
        rig.apply_once(free, two, second)
        if f"cpufreq:{number}" in owned:
            assert rig.shown(model) == rig.shown(free)
            model.limit(number, khz)
            model.clock += LONG
            rig.restore_once(model, one)
            model.limit(number, None)
            assert rig.shown(model) == before


# --- other writers ---


@st.composite
def foreign_values(draw: st.DrawFn, machine: Machine, paths: Collection[str]) -> tuple[str, str]:
    """A managed file and a text that its kernel would take."""
    path = draw(st.sampled_from(sorted(paths)))
    domains = {domain.id: domain for domain in machine.domains}
    if path.endswith("/disable"):
        return path, draw(st.sampled_from("01"))
    if path.endswith(("boost", "no_turbo")):
        return path, draw(st.sampled_from("01"))
    if "uncore" in path:
        return path, str(draw(st.integers(8, 24)) * 100_000)
    if path.endswith("enabled"):
        return path, draw(st.sampled_from("01"))
    if path.endswith("df_pstate"):
        return path, draw(st.sampled_from(("auto", "0", "2 1")))
    if "power" in path:
        return path, str(draw(st.integers(80, 1600)) * (125 if path.endswith("mw") else 125_000))
    domain = domains[int(path.split("policy")[1].split("/")[0])]
    if path.endswith("governor"):
        return path, draw(st.sampled_from(domain.governors))
    if path.endswith("preference"):
        return path, draw(st.sampled_from(rig.EPP_WORDS))
    return path, str(draw(st.integers(domain.hardware_min_khz or 0, domain.hardware_max_khz or 0)))


def disturb(model: KernelModel, path: str, text: str) -> None:
    """Somebody else writes, or tries to."""
    with contextlib.suppress(OSError):
        rig.foreign_write(model, path, text)


def unread(machine: Machine) -> set[str]:
    """Files that no pass reads to find drift: their reading interrupts the CPU (A1)."""
    return {
        rig.epp_path(domain.id)
        for domain in machine.domains
        if str(domain.driver).startswith("intel")
    }


def quiet_files(machine: Machine) -> list[str]:
    boost = (f"{CPU_ROOT}/cpufreq/boost", f"{CPU_ROOT}/intel_pstate/no_turbo")
    return [
        path for path in managed_paths(machine) if path not in unread(machine) and path not in boost
    ]


@given(cases(), LATENCIES, st.data())
def test_foreign_writes_to_owned_files_are_repaired_and_counted(
    case: Case, latency: float, data: st.DataObject
) -> None:
    """A3, field report 49: within one pass, in a running process or the next; each file that shows
    neither target nor settled value is counted once.
    """
    machine, (plan,) = case
    model = KernelModel(machine, latency)
    with rig.state_folder() as folder:
        rig.apply_once(model, folder, plan)
        reached = rig.shown(model)
        with rig.applier(model, folder) as handle:
            handle.apply(plan)
            owned = {
                item.path
                for group in discover(model).groups
                if group.key in handle.state.groups
                for item in group.files
            }
            touched = sorted(owned & set(quiet_files(machine)))
            assume(touched)
            for _ in range(data.draw(st.integers(1, 3))):
                disturb(model, *data.draw(foreign_values(machine, touched)))
            found = rig.shown(model)
            changed = {path for path in touched if found[path] != reached[path]}
            report = handle.apply(plan)
            assert rig.shown(model) == reached
            assert {write.path for write in report.drift} == changed
            assert all(write.old == found[write.path] for write in report.drift)
            assert handle.drift_count == len(changed)
            model.log.clear()
            model.clock += LONG
            assert handle.apply(plan).drift == ()
            assert model.log == []


@given(cases(), st.data())
def test_foreign_writes_are_only_reported_where_that_is_asked(
    case: Case, data: st.DataObject
) -> None:
    """A3: `repair: report` writes nothing over somebody else's value and names file, wanted and
    foreign value.
    """
    machine, (plan,) = case
    model = KernelModel(machine)
    with rig.state_folder() as folder:
        rig.apply_once(model, folder, plan)
        reached = rig.shown(model)
        with rig.applier(model, folder, Repair.REPORT) as handle:
            handle.apply(plan)
            owned = {
                item.path
                for group in discover(model).groups
                if group.key in handle.state.groups
                for item in group.files
            }
            touched = sorted(owned & set(quiet_files(machine)))
            assume(touched)
            disturb(model, *data.draw(foreign_values(machine, touched)))
            found = rig.shown(model)
            changed = {path for path in touched if found[path] != reached[path]}
            model.log.clear()
            for _ in range(3):
                report = handle.apply(plan)
                drifted = {
                    outcome.path: outcome
                    for outcome in report.outcomes
                    if outcome.status is Status.DRIFTED
                }
                assert changed <= drifted.keys()
                assert all(drifted[path].shows == found[path] for path in changed)
                model.clock += LONG
            assert model.log == []
            assert rig.shown(model) == found


@given(cases(), LATENCIES, st.data())
def test_what_nobody_claims_belongs_to_others(
    case: Case, latency: float, data: st.DataObject
) -> None:
    """R2: foreign writes to groups that are not ours stay, through passes and a restore."""
    machine, (plan,) = case
    model = KernelModel(machine, latency)
    with rig.state_folder() as folder, rig.applier(model, folder) as handle:
        handle.apply(plan)
        free = {
            item.path
            for group in discover(model).groups
            if group.key not in handle.state.groups
            for item in group.files
        }
        others = sorted(free & set(quiet_files(machine)))
        assume(others)
        for _ in range(data.draw(st.integers(1, 3))):
            disturb(model, *data.draw(foreign_values(machine, others)))
        found = rig.shown(model)
        assert handle.apply(plan).drift == ()
        handle.restore()
        after = rig.shown(model)
        assert all(after[path] == found[path] for path in others)


# --- hotplug ---


@given(cases(2), LATENCIES, st.data())
def test_a_cpu_that_goes_costs_itself_and_comes_back_to_the_plan(
    case: Case, latency: float, data: st.DataObject
) -> None:
    """R6, K17 to K19, field report 50: CPUs go between and during passes; the others are done; on
    return they get what is planned; a restore then gives all back.
    """
    machine, (first, second) = case
    rest = _may_go(machine)
    model = KernelModel(machine, latency)
    before, never = rig.shown(KernelModel(machine)), KernelModel(machine, latency)
    going = data.draw(st.sets(st.sampled_from(rest), min_size=1), label="going")
    at = data.draw(st.integers(0, 12), label="after this many writes")
    with rig.state_folder() as folder, rig.state_folder() as other:
        host = rig.Probe(model)
        with rig.applier(host, folder) as handle:
            handle.apply(first)
            _unplug_after(host, model, going, at)
            handle.apply(second)
            host.after_write = lambda _path, _text: None
            _unplug(model, going)
            handle.apply(second)
            _check_others(model, second, machine)
            _plug(model, going)
            handle.came_back(going)  # as the kernel tells an agent
            bring_in_force(handle, second, model)
            assert handle.drift_count == 0, "nobody else wrote anything"
            rig.apply_once(never, other, second)
            assert (
                rig.shown(model).items()
                >= rig.texts(second, machine).items() & rig.shown(never).items()
            )
            assert {
                path: text
                for path, text in rig.shown(model).items()
                if path in rig.texts(second, machine)
            } == {
                path: text
                for path, text in rig.shown(never).items()
                if path in rig.texts(second, machine)
            }
            assert set(handle.state.groups) == rig.owned(other)
            owned = {
                item.path
                for group in discover(model).groups
                if group.key in handle.state.groups
                for item in group.files
            }
            handle.restore()
            after = rig.shown(model)
            assert {path: after[path] for path in owned} == {path: before[path] for path in owned}
        assert rig.owned(folder) == set()


def _may_go(machine: Machine) -> list[int]:
    """CPUs that can go and come back to the same machine: a cppc_cpufreq policy forgets that it was
    boosted (K18, K24).
    """
    rest = sorted(machine.online - {0})
    assume(
        rest
        and not (
            machine.boost and any(domain.driver == "cppc_cpufreq" for domain in machine.domains)
        )
    )
    return rest


def _unplug_after(host: rig.Probe, model: KernelModel, going: Collection[int], at: int) -> None:
    host.writes.clear()

    def count(_path: str, _text: str) -> None:
        if len(host.writes) >= at:
            _unplug(model, going)

    host.after_write = count


def _unplug(model: KernelModel, cpus: Collection[int]) -> None:
    for cpu in cpus:
        model.plug(cpu, online=False)


def _plug(model: KernelModel, cpus: Collection[int]) -> None:
    for cpu in cpus:
        model.plug(cpu, online=True)


def _check_others(model: KernelModel, plan: NodePlan, machine: Machine) -> None:
    """Every file of a CPU that is still there shows what is planned, or is rounded."""
    shown = rig.shown(model)
    rounded = any(domain.available_khz for domain in machine.domains)
    for path, text in rig.texts(plan, machine).items():
        if path in shown and not _of_offline(path, model):
            assert shown[path] == text or (rounded and "_freq" in path), path


def _of_offline(path: str, model: KernelModel) -> bool:
    word = path.removeprefix(f"{CPU_ROOT}/cpu").partition("/")[0]
    return word.isdigit() and int(word) in model.offline


@given(cases(), st.data())
def test_a_cpu_that_goes_while_the_machine_is_read_stops_nothing(
    case: Case, data: st.DataObject
) -> None:
    """R6: at any read of a discovery; the pass after it brings the others in force."""
    machine, (plan,) = case
    rest = _may_go(machine)
    model = KernelModel(machine)
    going, at, left = (
        data.draw(st.sets(st.sampled_from(rest), min_size=1)),
        data.draw(st.integers(0, 150)),
        [0],
    )

    def deny(_verb: str, _path: str) -> None:
        left[0] += 1
        if left[0] == at:
            _unplug(model, going)

    host = rig.Probe(model, deny=deny)
    with rig.state_folder() as folder, rig.applier(host, folder) as handle:
        handle.apply(plan)
        host.deny = lambda _verb, _path: None
        _check_others(model, plan, machine)
        _unplug(model, going)
        _plug(model, going)
        bring_in_force(handle, plan, model)
        _check_others(model, plan, machine)
        before = rig.shown(KernelModel(machine))
        owned = {
            item.path
            for group in discover(model).groups
            if group.key in handle.state.groups
            for item in group.files
        }
        # amd-pstate-epp forgets them when its last CPU goes (K18)
        epps = {rig.epp_path(domain.id) for domain in machine.domains}
        handle.restore()
        after = rig.shown(model)
        assert {path: after[path] for path in owned - epps} == {
            path: before[path] for path in owned - epps
        }


@given(cases(), LATENCIES, st.data())
def test_a_cpu_that_first_appears_later_gets_its_plan(
    case: Case, latency: float, data: st.DataObject
) -> None:
    """Offline at the start, then brought online: noticed, discovered, planned, and its baseline is
    what it had when it came (A2, A7).
    """
    machine, (plan,) = case
    rest = _may_go(machine)
    model, always = KernelModel(machine, latency), KernelModel(machine, latency)
    absent = data.draw(st.sets(st.sampled_from(rest), min_size=1))
    _unplug(model, absent)
    with (
        rig.state_folder() as folder,
        rig.state_folder() as other,
        rig.applier(model, folder) as handle,
    ):
        handle.apply(for_machine(plan, handle.machine))
        assert not handle.changed()
        _plug(model, absent)
        before = rig.shown(model)
        assert handle.changed()
        bring_in_force(handle, plan, model)
        rig.apply_once(always, other, plan)
        wants = rig.texts(plan, machine)
        assert {path: text for path, text in rig.shown(model).items() if path in wants} == {
            path: text for path, text in rig.shown(always).items() if path in wants
        }
        new = {f"idle:{cpu}" for cpu in absent} & set(handle.state.groups)
        paths = {
            item.path
            for group in discover(model).groups
            if group.key in new
            for item in group.files
        }
        handle.restore()
        assert {path: rig.shown(model)[path] for path in paths} == {
            path: before[path] for path in paths
        }


# --- faults ---


@given(cases(), LATENCIES, FAULTS, st.data())
def test_a_file_that_fails_costs_itself(
    case: Case, latency: float, number: int, data: st.DataObject
) -> None:
    """A4, R6: reads and writes of some files fail from the second pass on; every other file gets
    its value; when the fault is gone, so is its effect.
    """
    machine, (plan,) = case
    paths = managed_paths(machine)
    assume(paths)
    model, whole = KernelModel(machine, latency), KernelModel(machine, latency)
    before = rig.shown(KernelModel(machine))
    broken = data.draw(st.sets(st.sampled_from(paths), min_size=1, max_size=3))
    with (
        rig.state_folder() as folder,
        rig.state_folder() as other,
        rig.applier(model, folder) as handle,
    ):
        rig.apply_once(whole, other, plan)
        model.faults = dict.fromkeys(broken, number)
        report = handle.apply(plan)
        assert {
            outcome.path for outcome in report.outcomes if outcome.status is Status.FAILED
        } <= broken | _dependent(broken)
        assert not broken & {path for path, _ in model.log}
        shown, reached = rig.shown(model), rig.shown(whole)
        unhurt = {path for path in paths if path not in broken | _dependent(broken)}
        assert {path: shown[path] for path in unhurt} == {path: reached[path] for path in unhurt}
        model.faults = {}
        model.clock += LONG
        handle.apply(plan)
        assert rig.shown(model) == reached
        handle.restore()
        known = before.keys() - _lost(broken)
        assert {path: rig.shown(model)[path] for path in known} == {
            path: before[path] for path in known
        }
        assert rig.owned(folder) == set()


@given(cases(), FAULTS, st.data())
def test_a_file_that_fails_at_the_start_costs_itself(
    case: Case, number: int, data: st.DataObject
) -> None:
    """The same with files that fail already while the machine is read."""
    machine, (plan,) = case
    paths = managed_paths(machine)
    assume(paths)
    model, whole = KernelModel(machine), KernelModel(machine)
    before = rig.shown(KernelModel(machine))
    broken = data.draw(st.sets(st.sampled_from(paths), min_size=1, max_size=3))
    model.faults = dict.fromkeys(broken, number)
    with (
        rig.state_folder() as folder,
        rig.state_folder() as other,
        rig.applier(model, folder) as handle,
    ):
        rig.apply_once(whole, other, plan)
        handle.apply(plan)
        shown, reached = rig.shown(model), rig.shown(whole)
        hurt = broken | _dependent(broken) | _forcing(broken)
        unhurt = {path for path in paths if path not in hurt}
        assert {path: shown.get(path) for path in unhurt} == {
            path: reached[path] for path in unhurt
        }
        model.faults = {}
        model.clock += LONG
        handle.discover()
        handle.apply(plan)
        assert rig.shown(model) == reached
        handle.restore()
        known = before.keys() - _lost(broken)
        assert {path: rig.shown(model)[path] for path in known} == {
            path: before[path] for path in known
        }
        assert rig.owned(folder) == set()


def _lost(broken: Collection[str]) -> set[str]:
    """Limits and EPPs that can be read only once their neighbours have been written: what they held
    nobody knows any more (K1, K10).
    """
    return {path for path in broken if "policy" in path and not path.endswith("governor")}


def _dependent(broken: Collection[str]) -> set[str]:
    """Files that hang on a broken one: the EPP on the governor (K9), an end of a range on the other
    (K1; of an uncore entry both are needed), a switch on its limits.
    """
    found = set()
    for path in broken:
        folder = path.rpartition("/")[0]
        if path.endswith("scaling_governor"):
            found.add(f"{folder}/energy_performance_preference")
        if "scaling_m" in path:
            found |= {f"{folder}/scaling_min_freq", f"{folder}/scaling_max_freq"}
        if "uncore" in path:
            found |= {f"{folder}/min_freq_khz", f"{folder}/max_freq_khz"}
        if "power_limit_uw" in path:
            found |= {f"{folder}/constraint_{number}_power_limit_uw" for number in (0, 1)} | {
                f"{folder}/enabled"
            }
    return found


def _forcing(unread: Collection[str]) -> set[str]:
    """Governors that may force an EPP of which nobody knows what it was (K9)."""
    epp = "energy_performance_preference"
    return {path.replace(epp, "scaling_governor") for path in unread if path.endswith(epp)}


# --- driver modes and boost ---

_AMD = (Driver("amd-pstate-epp", ("performance", "powersave"), epp=True, status="active"),)


@st.composite
def switchable(draw: st.DrawFn) -> tuple[Machine, NodePlan, Machine, NodePlan]:
    """An active amd-pstate machine with a plan, and the same in passive mode with another."""
    count = draw(st.integers(1, 3))
    high = draw(st.sampled_from((3_000_000, 4_100_123)))
    start = (
        draw(st.sampled_from((None, 1_000_000))),
        None,
        draw(st.sampled_from(("powersave", "performance"))),
        "performance",
    )
    active = rig.machine(
        (
            rig.domain(number, driver="amd-pstate-epp", low=400_000, high=high, settings=start)
            for number in range(count)
        ),
        status="active",
    )
    passive = rig.machine(
        (
            rig.domain(number, driver="amd-pstate", low=400_000, high=high)
            for number in range(count)
        ),
        status="passive",
    )

    return active, draw(plans(active)), passive, draw(plans(passive))


@given(switchable(), LATENCIES, st.booleans())
def test_a_driver_switch_is_noticed_and_starts_anew(
    case: tuple[Machine, NodePlan, Machine, NodePlan], latency: float, look: bool
) -> None:
    """K23, A2, A7: policies are made anew with start values: entries of the old driver are void,
    baselines are read again; switching back starts anew once more.
    """
    active, plan, passive, other_plan = case
    starts = {
        domain.id: domain
        for domain in rig.machine(
            rig.domain(d.id, driver="amd-pstate-epp", low=400_000, high=d.hardware_max_khz or 0)
            for d in active.domains
        ).domains
    }
    modes = {
        "amd-pstate": {domain.id: domain for domain in passive.domains},
        "amd-pstate-epp": starts,
    }
    model = KernelModel(active, latency, modes=modes)
    status = f"{CPU_ROOT}/amd_pstate/status"
    with rig.state_folder() as folder, rig.applier(model, folder) as handle:
        handle.apply(plan)
        for word, wanted in (("passive", other_plan), ("active", plan)):
            if look:
                assert not handle.changed()
            rig.foreign_write(model, status, word)
            before = rig.shown(model)
            assert handle.changed()
            handle.discover()
            assert not any(key.startswith("cpufreq") for key in handle.state.groups)
            handle.apply(wanted)
            shown = rig.shown(model)
            assert {
                path: shown.get(path) for path in rig.texts(wanted, handle.machine)
            } == rig.texts(wanted, handle.machine)
            fresh = {
                item.path
                for group in discover(model).groups
                if group.key in handle.state.groups and group.key.startswith("cpufreq")
                for item in group.files
            }
            assert rig.owned(folder) == set(handle.state.groups)
            _check_baselines(handle, before, fresh)
        handle.restore()
        after = rig.shown(model)
        assert {path: after[path] for path in fresh} == {path: before[path] for path in fresh}


def _check_baselines(handle: Applier, before: dict[str, str], paths: Collection[str]) -> None:
    settings = {
        f"{CPU_ROOT}/cpufreq/policy{domain.id}": domain.settings
        for domain in handle.machine.domains
    }
    for path in paths:
        folder, _, name = path.rpartition("/")
        found = settings[folder]
        known = {
            "scaling_min_freq": found.min_khz,
            "scaling_max_freq": found.max_khz,
            "scaling_governor": found.governor,
            "energy_performance_preference": found.epp,
        }
        assert str(known[name]) == before[path]


@given(switchable(), LATENCIES)
def test_a_driver_switch_that_nobody_noticed_stops_nothing(
    case: tuple[Machine, NodePlan, Machine, NodePlan], latency: float
) -> None:
    """ENODEV on a kept descriptor: the groups are closed and discovered again in the same pass;
    what the new driver lacks fails alone (A2, A4).
    """
    active, plan, passive, other_plan = case
    model = KernelModel(
        active, latency, modes={"amd-pstate": {domain.id: domain for domain in passive.domains}}
    )
    with rig.state_folder() as folder, rig.applier(model, folder) as handle:
        handle.apply(plan)
        handle.apply(plan)
        rig.foreign_write(model, f"{CPU_ROOT}/amd_pstate/status", "passive")
        handle.apply(plan)
        bring_in_force(handle, other_plan, model)
        shown = rig.shown(model)
        assert {path: shown.get(path) for path in rig.texts(other_plan, passive)} == rig.texts(
            other_plan, passive
        )


@st.composite
def boosted(draw: st.DrawFn) -> tuple[Machine, NodePlan, NodePlan, int]:
    """A cppc_cpufreq or intel_pstate machine with a boost switch, two plans that ask something of
    every domain, and the boosted maximum.
    """

    driver, on = draw(st.sampled_from(("cppc_cpufreq", "intel_pstate"))), draw(st.booleans())
    top = draw(st.sampled_from((2_600_000, 2_956_522)))
    start = (None, draw(st.sampled_from((None, 2_000_000))), None, None)
    machine = rig.machine(
        (
            rig.domain(number, driver=driver, high=top if on else 2_500_000, settings=start)
            for number in range(2)
        ),
        boost=on,
        idle=(),
    )
    first, second = (
        rig.plan(
            machine,
            {
                cpu: evolve(
                    BASELINE, min_khz=900_000, max_khz=draw(st.integers(900_000, 2_500_000))
                )
                for cpu in (0, 1)
            },
        )
        for _ in range(2)
    )
    switches = st.sampled_from((None, True, False))
    return machine, evolve(first, boost=draw(switches)), evolve(second, boost=draw(switches)), top


@given(boosted(), LATENCIES)
def test_boost_comes_and_goes_with_the_plan(
    case: tuple[Machine, NodePlan, NodePlan, int], latency: float
) -> None:
    """A2, K24, field report 51: boost is set before frequencies; the limits that it moves end at
    what is planned; unlimited domains are unlimited again after a restore.
    """
    machine, first, second, top = case
    model = KernelModel(
        machine, latency, boosted={0: top, 1: top}, unboosted={0: 2_500_000, 1: 2_500_000}
    )
    before, on = rig.shown(model), bool(machine.boost)
    with rig.state_folder() as folder, rig.applier(model, folder) as handle:
        for plan in (first, second):
            bring_in_force(handle, plan, model)
            shown = rig.shown(model)
            switch = next(path for path in shown if path.endswith(("cpufreq/boost", "no_turbo")))
            assert shown[switch] == (
                "1"
                if (on if plan.boost is None else plan.boost) is switch.endswith("boost")
                else "0"
            )
            assert {path: shown[path] for path in rig.texts(plan, machine)} == rig.texts(
                plan, machine
            )
        for _ in range(2):
            handle.restore()
            if handle.changed():
                handle.discover()
        assert rig.shown(model) == before
        assert rig.owned(folder) == set()


@given(boosted(), st.booleans())
def test_boost_changed_by_somebody_else_is_noticed(
    case: tuple[Machine, NodePlan, NodePlan, int], look: bool
) -> None:
    """A2: it moves the hardware's limits, so the machine is discovered and planned anew; also when
    nobody has looked before.
    """
    machine, _, plan, top = case
    model = KernelModel(machine, boosted={0: top, 1: top}, unboosted={0: 2_500_000, 1: 2_500_000})
    plan = evolve(plan, boost=None)
    with rig.state_folder() as folder, rig.applier(model, folder) as handle:
        handle.apply(plan)
        if look:
            assert not handle.changed()
        switch = next(
            path
            for path in discover(model).observed.values
            if path.endswith(("cpufreq/boost", "no_turbo"))
        )
        rig.foreign_write(
            model, switch, "0" if bool(machine.boost) is switch.endswith("boost") else "1"
        )
        assert handle.changed()
        handle.discover()
        assert [domain.hardware_max_khz for domain in handle.machine.domains] == [
            2_500_000 if machine.boost else top
        ] * 2
        bring_in_force(handle, plan, model)
        assert rig.shown(model).items() >= rig.texts(plan, machine).items()
