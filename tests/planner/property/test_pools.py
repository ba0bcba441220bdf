"""R2: every present CPU is in exactly one pool, and in the right one."""

from hypothesis import assume, given

from kpm_planner.model.assignment import Pool
from kpm_planner.model.objects import PowerWorkload
from kpm_planner.model.problems import Code
from kpm_planner.plan import NodePlan
from kpm_planner.profiles import resolve_profile
from tests.planner.property import reference
from tests.planner.reading import baseline_cpus, codes, group_of, held_cpus
from tests.strategies.scenarios import Scenario, scenarios


def devices(scenario: Scenario) -> tuple[str, ...]:
    """Custom devices of the PowerConfig; scenarios in which two could hold are left out by the
    caller.
    """
    configs = [config for config in scenario.intent.configs if reference.counts(config)]
    assume(len(configs) < 2)
    return configs[0].custom_devices if configs else ()


def managed(scenario: Scenario) -> NodePlan:
    """The plan of a node that the PowerConfig selects."""
    plan = scenario.plan()
    assume(Code.NODE_NOT_SELECTED not in codes(plan.problems))
    return plan


def valid_profiles(scenario: Scenario) -> dict[str, bool]:
    """Profiles in force on the node, and whether each is valid there."""
    found = reference.profiles(scenario.intent, scenario.item.node)
    return {
        name: resolve_profile(profile, scenario.machine).valid for name, profile in found.items()
    }


@given(scenarios())
def test_every_present_cpu_is_in_exactly_one_group(scenario: Scenario) -> None:
    """The groups of a plan are disjoint, sorted, not empty, and together
    they are the present CPUs.
    """
    plan = scenario.plan()
    assert sorted(group_of(plan)) == sorted(cpu.id for cpu in scenario.machine.cpus)
    assert all(group.cpus == tuple(sorted(set(group.cpus))) and group.cpus for group in plan.groups)
    assert [group.cpus[0] for group in plan.groups] == sorted(
        group.cpus[0] for group in plan.groups
    )


@given(scenarios())
def test_a_cpu_is_in_pool_offline_exactly_when_it_is_offline(scenario: Scenario) -> None:
    """Offline CPUs are left alone, whoever owns or reserves them; they are held at baseline."""
    for cpu, group in group_of(scenario.plan()).items():
        assert (group.pool is Pool.OFFLINE) == (cpu not in scenario.machine.online)
        if group.pool is Pool.OFFLINE:
            assert group.held
            assert cpu in baseline_cpus(scenario.plan())


@given(scenarios())
def test_an_exclusive_cpu_belongs_to_a_container_that_was_reported_with_it(
    scenario: Scenario,
) -> None:
    """Its container is named in the plan, can own CPUs, and has not ended; a container of an
    unknown pod has no uid.
    """
    allocation = scenario.item.allocation
    entries = (*allocation.reported, *(allocation.last_known or ()))
    for group in scenario.plan().groups:
        assert (group.pool is Pool.EXCLUSIVE) == (group.container is not None)
        if group.container is None:
            continue
        ref = group.container
        mine = [
            entry
            for entry in entries
            if (entry.namespace, entry.pod, entry.container) == (ref.namespace, ref.pod, ref.name)
        ]
        assert set(group.cpus) <= {cpu for entry in mine for cpu in entry.cpus}
        if ref.uid:
            assert any(reference.owns(allocation.pods, entry, devices(scenario)) for entry in mine)
        else:
            assert all(
                reference.newest(allocation.pods, entry.namespace, entry.pod) is None
                for entry in mine
            )
            assert group.profile is None


@given(scenarios())
def test_reported_cpus_of_a_container_that_can_own_them_are_exclusive(scenario: Scenario) -> None:
    """Whatever else names an online CPU, reserved definitions among it, a container that owns it
    has it.
    """
    plan = managed(scenario)
    allocation, groups = scenario.item.allocation, group_of(plan)
    for entry in allocation.reported if allocation.answered else ():
        if reference.owns(allocation.pods, entry, devices(scenario)):
            assert all(
                groups[cpu].pool is Pool.EXCLUSIVE for cpu in entry.cpus & scenario.machine.online
            )


@given(scenarios(awkward=True))
def test_of_two_containers_the_one_whose_pod_started_later_has_the_cpu(scenario: Scenario) -> None:
    """Pods with a start time both; a container of a pod that is not known has nothing against one
    that is.
    """
    plan = managed(scenario)
    allocation, groups = scenario.item.allocation, group_of(plan)
    assume(allocation.answered)
    for cpu in scenario.machine.online:
        claims = [
            entry
            for entry in allocation.reported
            if cpu in entry.cpus and reference.owns(allocation.pods, entry, devices(scenario))
        ]
        pods = [reference.container_of(allocation.pods, entry) for entry in claims]
        starts = [found[0].started for found in pods if found is not None]
        if not claims or None in starts:
            continue
        winner = groups[cpu].container
        assert winner is not None
        latest = max(start for start in starts if start is not None)
        pod = next(pod for pod in allocation.pods if pod.meta.uid == winner.uid)
        assert pod.started == latest


@given(scenarios())
def test_no_container_shares_a_cpu_with_another(scenario: Scenario) -> None:
    """A CPU of one container is in no group of another; CPUs that the kubelet reports once and
    online are all its own.
    """
    plan = managed(scenario)
    allocation, groups = scenario.item.allocation, group_of(plan)
    reported = [entry for entry in allocation.reported if allocation.answered]
    for entry in reported:
        rivals = {cpu for other in reported if other != entry for cpu in other.cpus}
        if reference.owns(allocation.pods, entry, devices(scenario)):
            for cpu in (entry.cpus - rivals) & scenario.machine.online:
                container = groups[cpu].container
                assert container is not None
                assert (container.namespace, container.pod, container.name) == (
                    entry.namespace,
                    entry.pod,
                    entry.container,
                )


@given(scenarios())
def test_reserved_cpus_are_those_that_any_matching_definition_names_and_no_container_owns(
    scenario: Scenario,
) -> None:
    """The union over all matching definitions, losers of the shared pool too.

    Two profiles, or none valid: baseline.
    """
    plan = managed(scenario)
    named: dict[int, set[str | None]] = {}
    for item in reference.definitions(scenario.intent, scenario.item.node):
        for entry in item.reserved_cpus:
            for cpu in entry.cores:
                named.setdefault(cpu, set()).add(entry.power_profile)
    valid = valid_profiles(scenario)
    for cpu, group in group_of(plan).items():
        if group.pool in (Pool.OFFLINE, Pool.EXCLUSIVE):
            continue
        assert (group.pool is Pool.RESERVED) == (cpu in named)
        wanted = {name for name in named.get(cpu, ()) if name is not None}
        if group.pool is Pool.RESERVED and not group.held:
            only = next(iter(wanted)) if len(wanted) == 1 else None
            assert group.profile == (only if only is not None and valid.get(only) else None)


@given(scenarios())
def test_the_rest_is_shared_where_a_definition_says_so_and_unmanaged_elsewhere(
    scenario: Scenario,
) -> None:
    """The shared profile is one that a matching definition names; it is in force only where it is
    valid.
    """
    plan = managed(scenario)
    claims = [
        item.power_profile if isinstance(item, PowerWorkload) else item.shared_power_profile
        for item in reference.definitions(scenario.intent, scenario.item.node)
        if (
            item.all_cores
            if isinstance(item, PowerWorkload)
            else item.shared_power_profile is not None
        )
    ]
    valid = valid_profiles(scenario)
    for cpu, group in group_of(plan).items():
        if group.pool in (Pool.SHARED, Pool.UNMANAGED):
            assert (group.pool is Pool.SHARED) == bool(claims)
            assert group.profile is None or (group.profile in claims and valid.get(group.profile))
            if (
                claims
                and all(valid.get(name or "") for name in claims)
                and cpu not in held_cpus(plan)
            ):
                assert group.profile is not None
