"""Extended resources: what a node advertises of each profile."""

from collections import Counter
from datetime import UTC, datetime

from attrs import evolve
from hypothesis import assume, given

from kpm_planner.model.cluster import Meta
from kpm_planner.model.objects import PowerConfig
from kpm_planner.model.problems import Code
from kpm_planner.profiles import resolve_profile
from tests.planner.property import reference
from tests.planner.reading import codes
from tests.strategies.scenarios import Scenario, scenarios


def held(scenario: Scenario) -> Counter[str]:
    """What pods that have not ended hold of every profile resource."""
    found: Counter[str] = Counter()
    for pod in scenario.item.allocation.pods:
        if pod.phase in ("Pending", "Running", "Unknown"):
            for container in pod.containers:
                for resource, amount in container.resources:
                    found[resource] += int(amount)
    return found


@given(scenarios())
def test_every_valid_profile_that_is_not_shared_is_advertised_with_its_capacity(
    scenario: Scenario,
) -> None:
    """A whole number up to the CPUs online, or a percentage of them rounded down; never below what
    pods hold.
    """
    plan = scenario.plan()
    assume(Code.NODE_NOT_SELECTED not in codes(plan.problems))
    online, mine = len(scenario.machine.online), held(scenario)
    expected = {}
    for name, profile in reference.profiles(scenario.intent, scenario.item.node).items():
        if profile.shared or not resolve_profile(profile, scenario.machine).valid:
            continue
        capacity = "100%" if profile.cpu_capacity is None else profile.cpu_capacity
        amount = (
            min(capacity, online)
            if isinstance(capacity, int)
            else online * int(capacity.rstrip("%")) // 100
        )
        resource = f"{profile.group}/{name}"
        expected[resource] = max(amount, mine[resource])
    assert dict(plan.extended_resources) == {
        resource: amount for resource, amount in expected.items() if amount
    }


@given(scenarios())
def test_an_amount_is_never_zero_and_never_below_what_pods_hold(scenario: Scenario) -> None:
    """A leaving key is removed, never set to 0 (field reports 24 and 25)."""
    mine = held(scenario)
    for resource, amount in scenario.plan().extended_resources.items():
        assert amount > 0
        assert amount >= mine[resource]


@given(scenarios())
def test_a_node_that_is_not_selected_advertises_nothing(scenario: Scenario) -> None:
    """Nothing on it is managed: no target, no uncore limit, no resource; offline CPUs are offline
    all the same.
    """
    config = PowerConfig(
        Meta("first", created=datetime.min.replace(tzinfo=UTC)),
        power_node_selector={"zone": "nowhere"},
    )
    plan = evolve(
        scenario, intent=evolve(scenario.intent, configs=(*scenario.intent.configs, config))
    ).plan()
    assert codes(plan.problems) == {Code.NODE_NOT_SELECTED}
    assert not plan.extended_resources
    assert all(target.min_khz is None and target.max_khz is None for target in plan.uncore)
    assert {str(group.pool) for group in plan.groups} <= {"unmanaged", "offline"}
    assert all(group.profile is None and group.container is None for group in plan.groups)
