"""R6: what is wrong costs only itself."""

from typing import Any

from attrs import evolve
from hypothesis import assume, given
from hypothesis import strategies as st

from kpm_planner.model.cluster import LabelSelector as Labels
from kpm_planner.model.cluster import NodeSelector
from kpm_planner.model.cluster import Requirement as Expression
from kpm_planner.model.machine import Cpu
from kpm_planner.model.objects import Intent, PStates
from kpm_planner.plan import NodePlan
from tests.planner.reading import group_of, held_cpus, mates
from tests.strategies.objects import PROFILE_NAMES
from tests.strategies.scenarios import Scenario, scenarios

FAULTS = {
    "frequency": lambda profile: evolve(profile, pstates=PStates(min="fast")),
    "order": lambda profile: evolve(profile, pstates=PStates(min=2000, max=1000)),
    "selector": lambda profile: evolve(
        profile, node_selector=NodeSelector(Labels({}, (Expression("zone", "Within"),)))
    ),
    "namespace": lambda profile: evolve(profile, meta=evolve(profile.meta, namespace="elsewhere")),
}


def outcome(plan: NodePlan, cpus: frozenset[int]) -> dict[int, tuple[object, ...]]:
    """Pool, profile, owner and target of some CPUs."""
    return {
        cpu: (group.pool, group.profile, group.container, group.target, group.held)
        for cpu, group in group_of(plan).items()
        if cpu in cpus
    }


def beside_cpus(plan: NodePlan) -> tuple[object, ...]:
    """What is asked of the node beside its CPUs."""
    return plan.uncore, plan.fabrics, plan.caps, plan.boost


def using(plan: NodePlan, name: str) -> frozenset[int]:
    """CPUs on which a profile is in force."""
    return frozenset(cpu for group in plan.groups if group.profile == name for cpu in group.cpus)


@given(scenarios(), st.sampled_from(PROFILE_NAMES), st.sampled_from(sorted(FAULTS)))
def test_a_profile_that_becomes_invalid_changes_only_the_cpus_that_use_it(
    scenario: Scenario, name: str, fault: str
) -> None:
    """And those that share a frequency domain with them.

    Other profiles are advertised, uncore, fabrics, caps and turbo are asked for, as before.
    """
    plan = scenario.plan()
    names = [profile.meta.name for profile in scenario.intent.profiles]
    assume(names.count(name) == 1)
    broken = tuple(
        FAULTS[fault](profile) if profile.meta.name == name else profile
        for profile in scenario.intent.profiles
    )
    after = evolve(scenario, intent=evolve(scenario.intent, profiles=broken)).plan()
    others = frozenset(scenario.machine.by_id) - mates(scenario.machine, using(plan, name))
    assert outcome(after, others) == outcome(plan, others)
    assert beside_cpus(after) == beside_cpus(plan)
    assert after.extended_resources == {
        key: amount
        for key, amount in plan.extended_resources.items()
        if not key.endswith(f"/{name}")
    }


@given(scenarios(), st.integers(0, 3), st.sampled_from(("two profiles", "phase", "vanished")))
def test_a_bad_pod_changes_only_its_own_cpus(scenario: Scenario, index: int, fault: str) -> None:
    """One that asks for two profiles, ends, or vanishes while the kubelet still reports it."""
    allocation = scenario.item.allocation
    assume(allocation.pods and allocation.answered)
    pod = allocation.pods[index % len(allocation.pods)]
    key = (pod.meta.namespace or "default", pod.meta.name)
    assume(
        [(other.meta.namespace or "default", other.meta.name) for other in allocation.pods].count(
            key
        )
        == 1
    )
    rest = tuple(other for other in allocation.pods if other is not pod)
    doubled = evolve(
        pod,
        containers=tuple(
            evolve(
                item,
                resources=(
                    *item.resources,
                    ("power.openshift.io/b", 1),
                    ("power.openshift.io/c", 1),
                ),
            )
            for item in pod.containers
        ),
    )
    pods = {
        "two profiles": (*rest, doubled),
        "phase": (*rest, evolve(pod, phase="Failed")),
        "vanished": rest,
    }[fault]
    plan, after = (
        scenario.plan(),
        scenario.with_item(allocation=evolve(allocation, pods=pods)).plan(),
    )
    assume(not held_cpus(plan) and not held_cpus(after))
    mine = {
        cpu
        for entry in (*allocation.reported, *(allocation.last_known or ()))
        if (entry.namespace, entry.pod) == key
        for cpu in entry.cpus
    }
    others = frozenset(scenario.machine.by_id) - mates(scenario.machine, mine)
    assert outcome(after, others) == outcome(plan, others)
    assert beside_cpus(after) == beside_cpus(plan)


@given(scenarios())
def test_a_cpu_of_which_nothing_can_be_read_changes_no_other(scenario: Scenario) -> None:
    """No cpufreq, no idle states, no topology: it is in a pool like any other, and its neighbours
    do not notice.
    """
    machine = scenario.machine
    more = max(machine.by_id) + 1
    after = scenario.with_item(machine=evolve(machine, cpus=(*machine.cpus, Cpu(more)))).plan()
    others = frozenset(machine.by_id)
    assert outcome(after, others) == outcome(scenario.plan(), others)
    target = group_of(after)[more].target
    assert (target.min_khz, target.max_khz, target.governor, target.epp, target.idle) == (
        None,
        None,
        None,
        None,
        (),
    )


@given(
    scenarios(awkward=True),
    st.sampled_from(("workloads", "node_configs", "uncores", "configs", "caps")),
)
def test_objects_outside_the_systems_namespace_have_no_effect(
    scenario: Scenario, kind: str
) -> None:
    """Taking them away gives the same plan (field report 43)."""
    objects = getattr(scenario.intent, kind)
    moved = tuple(
        evolve(obj, meta=evolve(obj.meta, name=f"{obj.meta.name}-copy", namespace="default"))
        for obj in objects
    )
    more: dict[str, Any] = {kind: (*objects, *moved)}
    with_more: Intent = evolve(scenario.intent, **more)
    assert evolve(scenario, intent=with_more).plan() == scenario.plan()
