"""The status of PowerNode and PowerNodeState: of any plan it says all CPUs once, and it stays
small.
"""

import json
from copy import deepcopy
from datetime import timedelta

from attrs import evolve, frozen
from hypothesis import assume, given
from hypothesis import strategies as st

from kpm.formats.wire import document_of
from kpm_planner.model.assignment import Pool
from kpm_planner.model.changes import Outcome, Pass, Reason, Status, Write
from kpm_planner.model.cpuset import parse_cpulist
from kpm_planner.model.machine import CpufreqSettings, Machine
from kpm_planner.model.problems import Severity
from kpm_planner.plan import NodePlan
from kpm_planner.report.conditions import stamped
from kpm_planner.report.node import node_state
from kpm_planner.report.power_node import power_node
from kpm_planner.report.room import LONGEST_MESSAGE
from kpm_planner.report.types import (
    Condition,
    CpuPools,
    NodeInfo,
    PowerNodeStateStatus,
    PowerNodeStatus,
    Values,
)
from tests.planner.build import moment, values
from tests.planner.reading import domain_of, group_of
from tests.strategies.choices import mask, pick
from tests.strategies.scenarios import Scenario, scenarios

#: What the API server keeps for one node, in bytes of JSON (S12).
LARGEST = 16 << 10
FEATURES = (("cpufreq", True, "intel_pstate"), ("uncore", False, "no such folder"))


@frozen
class View:
    """A plan, and the machine with what its files show, which need not be what the plan asks."""

    plan: NodePlan
    shown: Machine

    def state(self, last: Pass = Pass()) -> PowerNodeStateStatus:
        return node_state(self.plan, self.shown, last, FEATURES, {"performance": "w"})

    def lines(self) -> PowerNodeStatus:
        return power_node(self.plan, self.shown, (), {"performance": "w"})


@st.composite
def views(draw: st.DrawFn, *, most_cpus: int = 16) -> View:
    """Plans of any kind; some domains show foreign values, some idle states are the other way
    round.
    """
    scenario = draw(scenarios(most_cpus=most_cpus))
    machine = scenario.machine
    foreign = CpufreqSettings(
        *pick(
            draw,
            (800_000, None),
            (1_234_567, None),
            ("userspace", "performance"),
            (None, "power", "128"),
        )
    )
    domains = zip(machine.domains, mask(draw, len(machine.domains)), strict=True)
    cpus = zip(machine.cpus, mask(draw, len(machine.cpus)), strict=True)
    shown = evolve(
        machine,
        domains=tuple(
            evolve(domain, settings=foreign) if other else domain for domain, other in domains
        ),
        cpus=tuple(
            evolve(
                cpu,
                idle=tuple(evolve(item, enabled=item.enabled ^ bool(turned)) for item in cpu.idle),
            )
            for cpu, turned in cpus
        ),
    )
    return View(scenario.plan(), shown)


outcomes = st.builds(
    Outcome,
    st.sampled_from(("a", "b")),
    st.just("g"),
    st.sampled_from(Status),
    st.text(max_size=300),
    st.none() | st.text(max_size=300),
)
writes = st.builds(
    Write,
    st.just("a"),
    st.text(max_size=300),
    st.none() | st.just("x"),
    st.just("g"),
    st.just(Reason.DRIFT),
    st.just(()),
)
passes = st.builds(
    Pass,
    st.lists(outcomes, max_size=4).map(tuple),
    st.lists(writes, max_size=3).map(tuple),
    st.booleans(),
    st.sampled_from(("", "no", "x" * 500)),
    st.booleans(),
    st.booleans(),
)


def cpus_in(view: View, pool: Pool) -> list[int]:
    """The CPUs of a pool, by the plan."""
    return sorted(cpu for cpu, group in group_of(view.plan).items() if group.pool is pool)


@given(views())
def test_the_sizes_of_the_pools_add_up_to_the_machine(view: View) -> None:
    """Every present CPU is counted once, in the pool that the plan puts it in."""
    sizes = view.state().sizes
    assert {pool: getattr(sizes, str(pool)) for pool in Pool} == {
        pool: len(cpus_in(view, pool)) for pool in Pool
    }
    assert sum(getattr(sizes, str(pool)) for pool in Pool) == len(view.shown.cpus)


@given(views())
def test_pools_list_the_cpus_of_the_plan(view: View) -> None:
    """Shared and reserved ones by profile, exclusive ones by container; none twice; the lines say
    the same.
    """
    state, lines = view.state(), view.lines()
    for pool, parts in ((Pool.SHARED, state.shared_pool), (Pool.RESERVED, state.reserved_pools)):
        listed = [(cpu, part.power_profile) for part in parts for cpu in parse_cpulist(part.cpus)]
        assert sorted(listed) == [
            (cpu, group_of(view.plan)[cpu].profile) for cpu in cpus_in(view, pool)
        ]
        assert len({part.power_profile for part in parts}) == len(parts)
    assert sorted(cpu for item in state.exclusive_pools for cpu in item.exclusive_cpus) == cpus_in(
        view, Pool.EXCLUSIVE
    )
    assert lines.power_containers == state.exclusive_pools
    bare = [cpu for cpu in cpus_in(view, Pool.RESERVED) if group_of(view.plan)[cpu].profile is None]
    assert sorted(parse_cpulist(lines.unaffected_cores)) == sorted(
        [*cpus_in(view, Pool.UNMANAGED), *bare]
    )
    assert sorted(
        cpu for line in lines.reserved_pools for cpu in parse_cpulist(line.rpartition(" || ")[2])
    ) == cpus_in(view, Pool.RESERVED)
    shared = lines.shared_pool.split("; ") if lines.shared_pool else []
    assert sorted(
        cpu for line in shared for cpu in parse_cpulist(line.rpartition(" || ")[2])
    ) == cpus_in(view, Pool.SHARED)


@given(views())
def test_lines_are_sorted_and_one_for_each_valid_profile(view: View) -> None:
    """A workload line for those that pods can ask for; the form never changes."""
    lines = view.lines()
    valid = [item.profile for item in view.plan.profiles if item.valid]
    assert sorted(line.partition(":")[0] for line in lines.power_profiles) == sorted(
        profile.meta.name for profile in valid
    )
    assert [line.partition(":")[0] for line in lines.power_workloads] == sorted(
        profile.meta.name for profile in valid if not profile.shared
    )
    for found in (lines.power_profiles, lines.power_workloads, lines.reserved_pools):
        assert list(found) == sorted(set(found))
    assert all(line.count(" || ") == 4 for line in lines.power_profiles)
    assert all(line.count(" || ") == 1 for line in lines.power_workloads)
    assert all(line.count(" || ") == 2 for line in lines.reserved_pools)
    for line in lines.power_workloads:
        name, _, cpus = line.partition(" || ")
        owned = [
            cpu
            for cpu, group in group_of(view.plan).items()
            if group.pool is Pool.EXCLUSIVE and group.profile == name.partition(":")[0]
        ]
        assert parse_cpulist(cpus) == frozenset(owned)


@given(views())
def test_values_say_of_every_online_cpu_what_is_asked_and_what_is_there(view: View) -> None:
    """In exactly one entry, CPUs with equal values together, in order of their first CPU."""
    state = view.state()
    assume(state.omitted is None)
    entry_of = {cpu: item for item in state.values for cpu in parse_cpulist(item.cpus)}
    assert sum(len(parse_cpulist(item.cpus)) for item in state.values) == len(entry_of)
    assert entry_of.keys() == view.shown.online
    for cpu, group in group_of(view.plan).items():
        if group.pool is not Pool.OFFLINE:
            target, idle = group.target, dict(group.target.idle)
            on, off = (
                tuple(sorted(name for name in idle if idle[name] is wanted))
                for wanted in (True, False)
            )
            assert entry_of[cpu].requested == values(
                min_khz=target.min_khz,
                max_khz=target.max_khz,
                governor=target.governor,
                epp=target.epp,
                epb=target.epb,
                idle_on=on,
                idle_off=off,
            )
            assert entry_of[cpu].effective == shows(view.shown, cpu)
    assert len({(item.requested, item.effective) for item in state.values}) == len(state.values)
    assert [min(parse_cpulist(item.cpus)) for item in state.values] == sorted(
        min(parse_cpulist(item.cpus)) for item in state.values
    )


def shows(machine: Machine, cpu: int) -> Values:
    """What the files of a CPU show."""
    domain = domain_of(machine, cpu)
    settings = domain.settings if domain else CpufreqSettings()
    idle = machine.by_id[cpu].idle
    on, off = (
        tuple(sorted(item.name for item in idle if item.enabled is wanted))
        for wanted in (True, False)
    )
    bias = machine.by_id[cpu].epb
    return values(
        min_khz=settings.min_khz,
        max_khz=settings.max_khz,
        governor=settings.governor,
        epp=settings.epp,
        epb=None if bias is None else int(bias),
        idle_on=on,
        idle_off=off,
    )


@given(views())
def test_uncore_entries_show_what_is_asked_and_what_is_there(view: View) -> None:
    """Every entry of the machine once, unless there is no room."""
    state = view.state()
    assume(state.omitted is None)
    shown = {entry.name: entry for entry in view.shown.uncore}
    asked = {item.entry.name: item for item in view.plan.uncore}
    assert {
        item.name: (item.requested_min_khz, item.requested_max_khz, item.min_khz, item.max_khz)
        for item in (state.uncore.entries if state.uncore else ())
    } == {
        name: (asked[name].min_khz, asked[name].max_khz, shown[name].min_khz, shown[name].max_khz)
        for name in shown
    }


@given(views())
def test_power_limits_and_fabrics_that_are_asked_for_show_what_is_there(view: View) -> None:
    """Each limit of a zone by its name, in mW; none that stays at baseline.

    Turbo stands as it is asked.
    """
    state = view.state()
    assume(state.omitted is None)
    shown = {
        (zone.name, limit.name): limit.limit_uw
        for zone in view.shown.power_zones
        for limit in zone.limits
    }
    asked = [
        (target.zone.name, limit.name, uw)
        for target in view.plan.caps
        for limit, uw in zip(target.zone.limits, target.limits, strict=True)
        if uw is not None
    ]
    assert [
        (item.zone, item.limit, item.requested_milliwatts, item.milliwatts)
        for item in state.power_caps
    ] == [(zone, limit, uw // 1000, (shown[zone, limit] or 0) // 1000) for zone, limit, uw in asked]
    assert [(item.package, item.pstates) for item in state.fabrics] == [
        (item.fabric.package, item.pstates) for item in view.plan.fabrics if item.pstates
    ]
    assert state.turbo is view.plan.boost


@given(views())
def test_problems_and_profiles_are_those_of_the_plan(view: View) -> None:
    """Errors first, what has no room is counted; a profile is valid where the plan has no error of
    it, else says why.
    """
    state = view.state()
    missing = (
        len(view.plan.problems) - len(state.problems),
        len(view.shown.uncore) - len(state.uncore.entries if state.uncore else ()),
    )
    assert min(missing) >= 0
    assert sum(missing) <= (state.omitted or 0)
    severities = [item.severity for item in state.problems]
    assert severities == sorted(severities)
    assert all(len(item.message) <= LONGEST_MESSAGE for item in state.problems)
    assert {item.name: item.valid for item in state.profiles} == {
        item.profile.meta.name: item.valid for item in view.plan.profiles
    }
    assert all(item.valid == (not item.errors) for item in state.profiles)


@given(views(), passes)
def test_conditions_are_true_of_plan_and_pass(view: View, last: Pass) -> None:
    """Each type once, in order; messages are short.

    No cap is honoured while a memory-mapped twin is lower (field report 35).
    """
    conditions = view.state(last).conditions
    found = {item.type: item.status == "True" for item in conditions}
    failed = any(
        item.status in (Status.FAILED, Status.UNSETTLED, Status.OFFLINE) for item in last.outcomes
    )
    capped = [
        (target.zone.mirror_uw, max(filter(None, target.limits)))
        for target in view.plan.caps
        if any(target.limits)
    ]
    twins = all(mirror is None or mirror >= uw for mirror, uw in capped)
    told = found.pop("CapHonoured", None)
    assert (told is not None) is (bool(capped) and not last.measure_only and not last.refused)
    assert twins or not told
    assert found == {
        "CpufreqSupported": True,
        "Drifted": bool(last.drift),
        "IntentValid": all(
            problem.severity is not Severity.ERROR for problem in view.plan.problems
        ),
        "PodResources": last.answered,
        "Ready": not last.refused and (last.measure_only or (last.settled and not failed)),
        "UncoreSupported": False,
    }
    assert [item.type for item in conditions] == sorted(item.type for item in conditions)
    assert all(len(item.message) <= LONGEST_MESSAGE for item in conditions)


@given(scenarios(), passes)
def test_equal_input_gives_an_equal_status(scenario: Scenario, last: Pass) -> None:
    """So nothing is sent while nothing changes: also when everything was read and planned anew,
    features in another order.
    """
    again = deepcopy((scenario, last))
    first, second = (
        document_of(
            (
                node_state(item.plan(), item.machine, went, features, {}),
                power_node(item.plan(), item.machine, ("b", "a"), {}),
            )
        )
        for item, went, features in ((scenario, last, FEATURES), (*again, FEATURES[::-1]))
    )
    assert json.dumps(first) == json.dumps(second)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(("Ready", "Drifted")), st.sampled_from(("True", "False", "Unknown"))
        ),
        max_size=6,
    )
)
def test_a_condition_has_the_time_at_which_it_last_changed(history: list[dict[str, str]]) -> None:
    """Over any sequence; a condition that was away for a while is new."""
    known: tuple[Condition, ...] = ()
    since: dict[str, tuple[str, str]] = {}
    for step, statuses in enumerate(history):
        instant = moment(8) + timedelta(seconds=step)
        known = stamped(
            [Condition(kind, status, f"R{step}") for kind, status in statuses.items()],
            known,
            instant,
        )
        since = {
            kind: (
                since[kind]
                if since.get(kind, ("", ""))[0] == status
                else (status, instant.strftime("%Y-%m-%dT%H:%M:%SZ"))
            )
            for kind, status in statuses.items()
        }
        assert {item.type: (item.status, item.last_transition_time) for item in known} == since
        assert all(item.reason == f"R{step}" for item in known)


@given(views(), passes)
def test_a_status_stays_below_16_kib(view: View, last: Pass) -> None:
    """Whatever the plan and however the pass went."""
    for status in (view.state(last), view.lines()):
        assert len(json.dumps(document_of(status))) <= LARGEST


@given(views())
def test_the_form_of_the_earlier_operator_says_the_same(view: View) -> None:
    """Its pools hold the CPUs of ours, its profiles are those that are offered; so where all has
    room.
    """
    state = view.state()
    assume(state.omitted is None)
    pools = state.cpu_pools or CpuPools()
    cpus = {
        pool: frozenset(
            cpu for group in view.plan.groups if group.pool is pool for cpu in group.cpus
        )
        for pool in Pool
    }
    assert (parse_cpulist(pools.shared.cpu_list) if pools.shared else frozenset()) == cpus[
        Pool.SHARED
    ]
    assert {
        cpu
        for pool in pools.reserved
        for part in pool.power_profile_cpus
        for cpu in parse_cpulist(part.cpu_list)
    } == cpus[Pool.RESERVED]
    assert {
        cpu for pod in pools.exclusive for item in pod.power_containers for cpu in item.cpu_numbers
    } == cpus[Pool.EXCLUSIVE]
    assert [item.name for item in state.power_profiles] == sorted(
        item.profile.meta.name for item in view.plan.profiles
    )
    assert state.node_info == NodeInfo(len(view.shown.cpus), view.shown.architecture or "")
