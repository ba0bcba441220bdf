"""R8: mistakes do not slow pods.

What falls back falls back to baseline, never to the shared target.
"""

from attrs import evolve
from hypothesis import assume, given

from kpm_planner.model.assignment import Pool
from kpm_planner.model.problems import Code
from kpm_planner.model.target import BASELINE
from kpm_planner.profiles import resolve_profile
from tests.planner.property import reference
from tests.planner.reading import codes, group_of
from tests.strategies.scenarios import Scenario, scenarios


@given(scenarios())
def test_exclusive_cpus_have_the_profile_asked_for_or_baseline(scenario: Scenario) -> None:
    """A missing, invalid or shared profile, two of them, a wrong number: baseline.

    Only who asks for none has the shared one.
    """
    plan = scenario.plan()
    usable = {
        name: profile
        for name, profile in reference.profiles(scenario.intent, scenario.item.node).items()
        if not profile.shared and resolve_profile(profile, scenario.machine).valid
    }
    containers = {
        (pod.meta.uid, item.name): item
        for pod in scenario.item.allocation.pods
        for item in pod.containers
    }
    for group in plan.groups:
        if group.container is None:
            continue
        container = containers.get((group.container.uid, group.container.name))
        asked = (
            [
                resource
                for resource, amount in container.resources
                if amount and resource.startswith("power.")
            ]
            if container
            else ["unknown"]
        )
        wanted = asked[0].partition("/")[2] if len(asked) == 1 else None
        if asked and group.profile is not None:
            assert group.profile == wanted
            assert f"{usable[group.profile].group}/{wanted}" == asked[0]
        elif asked and len(group.cpus) == len(scenario.machine.online & frozenset(group.cpus)):
            neighbours = {
                cpu
                for domain in scenario.machine.domains
                if set(domain.cpus) & set(group.cpus)
                for cpu in domain.cpus
            }
            if neighbours <= set(group.cpus):
                assert group.target == BASELINE


@given(scenarios())
def test_reserved_cpus_without_a_usable_profile_ask_for_nothing(scenario: Scenario) -> None:
    """No profile, two, a missing or an invalid one: baseline, whatever the shared pool has."""
    for cpu, group in group_of(scenario.plan()).items():
        alone = all(
            domain.cpus == (cpu,) for domain in scenario.machine.domains if cpu in domain.cpus
        )
        if group.pool is Pool.RESERVED and group.profile is None and alone:
            assert group.target == BASELINE


@given(scenarios(awkward=False))
def test_taking_all_profiles_away_leaves_no_target_at_all(scenario: Scenario) -> None:
    """Pools stay as they are, and every CPU is at baseline."""
    plan, after = (
        scenario.plan(),
        evolve(scenario, intent=evolve(scenario.intent, profiles=())).plan(),
    )
    assume(Code.NODE_NOT_SELECTED not in codes(plan.problems))
    assert all(group.target == BASELINE and group.profile is None for group in after.groups)
    assert {cpu: group.pool for cpu, group in group_of(after).items()} == {
        cpu: group.pool for cpu, group in group_of(plan).items()
    }
    assert not after.extended_resources
