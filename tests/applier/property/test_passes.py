"""Laws of a pass: it finds the machine, reaches the plan, writes nothing twice, and touches nothing
else (R2, R3, A2, A3, A5).
"""

import re

from attrs import evolve
from hypothesis import assume, given
from hypothesis import strategies as st

from kpm_applier.attributes import ATTRIBUTES
from kpm_applier.diff import Repair, diff
from kpm_applier.discovery.discover import Discovery, discover
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.kernel_model.power import shown_limits
from kpm_applier.session import Report
from kpm_applier.state.record import State
from kpm_applier.wants import wanted
from kpm_planner.caps.division import MOST_UW
from kpm_planner.model.changes import Status
from kpm_planner.model.machine import Machine
from kpm_planner.plan import NodePlan
from tests.applier import rig
from tests.applier.property.asks import cases, limits, small_machines

Case = tuple[Machine, tuple[NodePlan, ...]]
LATENCIES = st.sampled_from((0.0, 0.004))


@given(small_machines(most_cpus=12))
def test_discovery_finds_the_machine(machine: Machine) -> None:
    """Reading the files of a machine's kernel gives that machine; that no file names a limit is
    only so while turbo is off.
    """
    found = discover(KernelModel(machine)).machine
    assert (
        evolve(found, domains=tuple(evolve(domain, limit_named=True) for domain in found.domains))
        == machine
    )
    assert all(
        domain.limit_named
        or (machine.boost is False and domain.limit_max_khz == domain.hardware_max_khz)
        for domain in found.domains
    )


@given(small_machines(most_cpus=12))
def test_discovery_names_every_managed_file_once(machine: Machine) -> None:
    """Groups have keys and files of their own, every file has been looked at, and every file
    belongs to a row of the table.
    """
    found = discover(KernelModel(machine))
    paths = [item.path for group in found.groups for item in group.files]
    # whose names stand in other files
    limits = {f"{zone.id}/{limit.file}" for zone in machine.power_zones for limit in zone.limits}
    assert len(set(paths)) == len(paths)
    assert len({group.key for group in found.groups}) == len(found.groups)
    assert set(paths) == set(found.observed.values)
    assert all(
        item.attribute in ATTRIBUTES and item.path.endswith(f"/{item.attribute.file}")
        for group in found.groups
        for item in group.files
        if item.path not in limits
    )
    assert all(
        item.attribute.file == item.label
        for group in found.groups
        for item in group.files
        if item.path in limits
    )


@given(cases(), LATENCIES, st.data())
def test_a_second_apply_writes_nothing(case: Case, latency: float, data: st.DataObject) -> None:
    """R3: by the same process or another one, with deferred updates (K2), and while somebody else
    holds a limit.
    """
    machine, (plan,) = case
    model = KernelModel(machine, latency)
    if machine.domains:
        model.limit(*data.draw(limits(machine.domains)))
        model.clock += 1
    with rig.state_folder() as folder:
        with rig.applier(model, folder) as handle:
            assert handle.apply(plan).settled
            model.log.clear()
            for _ in range(2):
                again = handle.apply(plan)
                assert (again.writes, again.drift, again.outcomes) == ((), (), ())
                model.clock += 1
        with rig.applier(model, folder) as handle:
            assert handle.preview(plan) == ()
            assert handle.apply(plan).writes == ()
    assert model.log == []


@given(cases(), LATENCIES)
def test_every_planned_value_is_reached_or_reported_as_limited(case: Case, latency: float) -> None:
    """A3: a file shows what was asked, or where the kernel has moved it to, and then the report
    says so and counts as settled.
    """
    machine, (plan,) = case
    model = KernelModel(machine, latency)
    with rig.state_folder() as folder:
        report = rig.apply_once(model, folder, plan)
    shown = rig.shown(model)
    off = {path: text for path, text in rig.texts(plan, machine).items() if shown.get(path) != text}
    limited = {
        outcome.path: outcome for outcome in report.outcomes if outcome.status is Status.LIMITED
    }
    assert off.keys() <= limited.keys()
    assert all(
        (limited[path].wanted, limited[path].shows) == (text, shown[path])
        for path, text in off.items()
    )
    assert report.settled
    assert not off or any(domain.available_khz for domain in machine.domains), (
        "only a frequency table rounds"
    )


@given(cases())
def test_the_writes_of_a_diff_are_the_difference(case: Case) -> None:
    """Applying a diff's writes to what is shown gives what is wanted, for every file of every want;
    nothing is written to what it shows already, but for the EPP.
    """
    machine, (plan,) = case
    found = discover(KernelModel(machine))
    wants = wanted(plan, found.machine, found.groups, found.observed, State())
    writes = diff(wants, found.observed)
    after = {**found.observed.values, **{write.path: write.value for write in writes}}
    assert all(
        text is None or after[item.path] == text
        for want in wants
        for item, text in zip(want.group.files, want.values, strict=True)
    )
    assert rig.texts(plan, machine).items() <= after.items()
    assert all(write.old == found.observed.values[write.path] for write in writes)
    assert all(
        write.old != write.value or write.path.endswith("energy_performance_preference")
        for write in writes
    )
    assert len({write.path for write in writes}) == len(writes)


@given(cases(2), LATENCIES)
def test_only_files_of_the_table_and_of_claimed_groups_are_written(
    case: Case, latency: float
) -> None:
    """R2, A5: what nobody claims is never written, whatever was done to the rest; and no other file
    is, ever.
    """
    machine, plans = case
    model = KernelModel(machine, latency)
    claimed = set().union(*(_claimed(plan, discover(model)) for plan in plans))
    with rig.state_folder() as folder:
        for plan in plans:
            rig.apply_once(model, folder, plan)
        rig.restore_once(model, folder)
    table = {item.path for group in discover(model).groups for item in group.files}
    assert {path for path, _ in model.log} <= claimed & table


def _claimed(plan: NodePlan, found: Discovery) -> set[str]:
    """The files of groups of which the plan wants anything."""
    wants = rig.texts(plan, found.machine)
    return {
        item.path
        for group in found.groups
        if any(item.path in wants for item in group.files)
        for item in group.files
    }


@given(cases(3), LATENCIES, st.data())
def test_no_write_ever_makes_a_minimum_exceed_its_maximum(
    case: Case, latency: float, data: st.DataObject
) -> None:
    """Field report 11, in the order that the kernel registers requests (K6), also where a limit of
    somebody else hides them (K1), as long as it is there: what is released under such a limit and
    taken in anew shows the limit, and nobody can tell what is registered below it.
    """
    machine, plans = case
    model = KernelModel(machine, latency)
    host = rig.Probe(model, after_write=lambda _path, _text: _check_order(model))
    with rig.state_folder() as folder, rig.applier(host, folder) as handle:
        for plan in plans:
            handle.apply(plan)
            owned = [
                domain
                for domain in machine.domains
                if f"cpufreq:{domain.id}" in handle.state.groups
            ]
            for domain in machine.domains:
                if domain not in owned:
                    model.limit(domain.id, None)
            if owned:
                model.limit(*data.draw(limits(owned)))
                model.clock += 1000
        handle.restore()


def _check_order(model: KernelModel) -> None:
    for policy in model.policies.values():
        assert policy.min_request <= policy.max_request, model.log
    for entry in model._uncore.values():
        assert (entry.min_khz or 0) <= (entry.max_khz or 0), model.log
    for zone in model.machine.power_zones:
        limits = shown_limits(model.power, zone)
        assert limits.get("short_term", MOST_UW) >= limits.get("long_term", 0), model.log


@given(cases(2))
def test_boost_first_then_governor_then_epp_then_limits_within_a_group(case: Case) -> None:
    """A2: the classes of the attribute table are the order of the first writes to every group."""
    machine, plans = case
    model = KernelModel(machine)
    rank = {
        item.path: item.attribute.order for group in discover(model).groups for item in group.files
    }
    with rig.state_folder() as folder, rig.applier(model, folder) as handle:
        for plan in plans:
            writes = handle.preview(plan)
            for key in {write.group for write in writes}:
                orders = [rank[write.path] for write in writes if write.group == key]
                assert orders == sorted(orders)
            handle.apply(plan)


@given(cases(), st.booleans())
def test_a_preview_writes_nothing_and_says_what_apply_does(case: Case, report_only: bool) -> None:
    """`diff` and `apply` show the same writes, in the same order."""
    machine, (plan,) = case
    assume(machine.cpus)
    model = KernelModel(machine)
    with (
        rig.state_folder() as folder,
        rig.applier(model, folder, Repair.REPORT if report_only else Repair.WRITE) as handle,
    ):
        preview = handle.preview(plan)
        assert model.log == []
        assert rig.owned(folder) == set()
        report = handle.apply(plan)
        assert report.writes[: len(preview)] == preview
        assert [(write.path, write.value) for write in report.writes] == model.log


@given(cases(2))
def test_idle_passes_do_not_list_or_discover(case: Case) -> None:
    """A1: a pass over a machine that is right reads managed files only; no folder is listed,
    nothing is written.
    """
    machine, (plan, _) = case
    host = rig.Probe(KernelModel(machine))
    with rig.state_folder() as folder, rig.applier(host, folder) as handle:
        _settle(handle.apply(plan), host)
        host.reads.clear()
        host.listed.clear()
        handle.apply(plan)
        assert host.listed == []
        assert host.writes == []
        table = {item.path for group in discover(host.inner).groups for item in group.files}
        assert set(host.reads) <= table
        assert all(count == 1 for count in host.reads.values())


def _settle(report: Report, host: rig.Probe) -> None:
    assert report.settled
    host.writes.clear()


#: The CPUs, the zones of powercap, the hardware monitors of AMD's firmware, its mailbox; of other
#: devices not even the names inside.
PLACES = re.compile(
    r"devices/system/cpu/.+|(devices/virtual|class)/powercap(/.+)?|devices/platform|devices/platform/(amd_hsmp(\.[^/]*)?|AMDI0097:[^/]*)/hwmon(/.+)?|hsmp(/.+)?"
)


@given(cases(2))
def test_every_path_lies_where_something_is_managed(case: Case) -> None:
    """A5: nothing else of /sys is even read."""
    machine, plans = case
    host = rig.Probe(KernelModel(machine))
    with rig.state_folder() as folder:
        for plan in plans:
            rig.apply_once(host, folder, plan)
        rig.restore_once(host, folder)
    seen: set[str] = {*host.reads, *host.listed, *(path for path, _ in host.writes)}
    assert all(PLACES.fullmatch(path) and ".." not in path for path in seen), sorted(seen)
    assert not [path for path in seen if path.endswith("energy_uj") or "intel-rapl-mmio:" in path]
