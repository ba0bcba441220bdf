"""CPUs as the container runtime has them, beside what the kubelet lists: used where that lists
none, compared where it does.
"""

import pytest
from attrs import evolve

from kpm_planner.capacity import plan_capacity
from kpm_planner.model.agent_settings import AgentSettings
from kpm_planner.model.allocation import Allocation, RuntimeCpus
from kpm_planner.model.assignment import Pool
from kpm_planner.model.cluster import Meta, Pod
from kpm_planner.model.objects import PowerConfig
from kpm_planner.model.problems import Code, Severity
from kpm_planner.rivals import rival_problems
from tests.planner.build import (
    allocation,
    asking,
    container,
    machine,
    on_cpu,
    owns,
    plan,
    pod,
    policy_pod,
    profile,
    profiles_of,
    workload,
)
from tests.planner.reading import with_code

PROFILES = (
    profile(),
    profile("shared", shared=True, governor="powersave"),
    workload(uses="shared"),
)


def claiming() -> Pod:
    """A pod whose CPUs come of a resource claim, as those of a claim driver: the kubelet lists none
    for it.
    """
    return pod(asking(2, claims=True), uid="u1")


def bound(*entries: RuntimeCpus, pods: tuple[Pod, ...] = ()) -> Allocation:
    return allocation(pods or (claiming(),), allocatable=frozenset({1, 2, 3}), runtime=entries)


def test_a_claim_that_the_kubelet_knows_no_cpus_of_has_those_of_the_runtime() -> None:
    """As kubernetes-sigs/dra-driver-cpu hands them out: CDI and cpuset, and nothing in
    PodResources. The node is not frozen by it.
    """
    found = plan(*PROFILES, on=machine("0-3"), with_=bound(RuntimeCpus("u1", "app", (2, 3), "c1")))
    assert [on_cpu(found, cpu).pool for cpu in range(4)] == [
        Pool.SHARED,
        Pool.SHARED,
        Pool.EXCLUSIVE,
        Pool.EXCLUSIVE,
    ]
    assert on_cpu(found, 2).profile == "performance"
    assert not with_code(found.problems, Code.ALLOCATION_UNKNOWN)


@pytest.mark.parametrize(
    "entries",
    [
        (),
        (RuntimeCpus("u1", "app", (), "c1"),),
        (RuntimeCpus("u1", "app", (1, 2, 3), "c1"),),
        (RuntimeCpus("other", "app", (2, 3), "c1"),),
        (RuntimeCpus("u1", "other", (2, 3), "c1"),),
        (
            RuntimeCpus("u1", "app", (2, 3), "c1"),
            RuntimeCpus("u9", "shared", (3,), "c2"),
        ),
    ],
    ids=[
        "nothing",
        "unbound",
        "another count",
        "another pod",
        "another container",
        "shared with somebody",
    ],
)
def test_a_cpuset_alone_proves_nothing(entries: tuple[RuntimeCpus, ...]) -> None:
    """Shared containers have one too: it counts for as many CPUs as are asked for, which nobody
    else is bound to.
    """
    found = plan(*PROFILES, on=machine("0-3"), with_=bound(*entries))
    assert Pool.EXCLUSIVE not in {on_cpu(found, cpu).pool for cpu in range(4)}


def test_a_container_without_a_profile_or_title_owns_nothing_by_its_cpuset() -> None:
    for item in (container(), evolve(asking(2), cpu=(None, None))):
        found = plan(
            *PROFILES,
            on=machine("0-3"),
            with_=bound(
                RuntimeCpus("u1", "app", (2, 3), "c1"),
                pods=(pod(item, uid="u1", guaranteed=False),),
            ),
        )
        assert Pool.EXCLUSIVE not in {on_cpu(found, cpu).pool for cpu in range(4)}


def test_where_both_know_and_differ_the_kubelets_hold_and_the_difference_is_told() -> None:
    given = allocation([pod(uid="u1")], [owns("1-2")])
    same, other = (
        plan(
            *PROFILES,
            on=machine("0-3"),
            with_=evolve(given, runtime=(RuntimeCpus("u1", "app", cpus, "c"),)),
        )
        for cpus in ((1, 2), (2, 3))
    )
    assert not with_code(same.problems, Code.ALLOCATION_DIFFERS)
    (problem,) = with_code(other.problems, Code.ALLOCATION_DIFFERS)
    assert (problem.severity, problem.object) == (Severity.WARNING, "Pod/ns1/web")
    assert "CPUs 1-2, the runtime 2-3" in problem.message
    assert profiles_of(other) == profiles_of(same)


def test_nothing_is_offered_where_nothing_hands_out_cpus_and_never_less_than_is_held() -> None:
    """A pod would be scheduled here and never tuned; one that is here already keeps its title."""
    resolved = plan(*PROFILES, on=machine("0-3")).profiles
    silent = allocation([], allocatable=frozenset())
    assert plan_capacity(resolved, silent, machine("0-3"))[0] == {}
    held = allocation([pod()], allocatable=frozenset())
    assert plan_capacity(resolved, held, machine("0-3"))[0] == {"power.openshift.io/performance": 2}
    assert plan_capacity(resolved, allocation([], allocatable=frozenset({1})), machine("0-3"))[
        0
    ] == {"power.openshift.io/performance": 4}
    assert plan_capacity(resolved, allocation([], answered=False), machine("0-3"))[0] == {
        "power.openshift.io/performance": 4
    }


def test_a_pod_that_asks_in_vain_is_told() -> None:
    found = plan(*PROFILES, on=machine("0-3"), with_=allocation([pod()], allocatable=frozenset()))
    told = {
        (problem.severity, problem.object)
        for problem in with_code(found.problems, Code.CPU_MANAGER_INACTIVE)
    }
    assert told == {(Severity.WARNING, "Node/node-1"), (Severity.ERROR, "Pod/ns1/web")}


@pytest.mark.parametrize(
    "name", ["nri-resource-policy-balloons", "nri-resource-policy-topology-aware"]
)
def test_a_policy_that_hands_out_cpus_too_is_named_with_what_it_holds(name: str) -> None:
    """Every set of CPUs with the pods on it, whoever they are; a warning, since both can live side
    by side.
    """
    entries = (
        RuntimeCpus("u1", "app", (2, 3), "c1"),
        RuntimeCpus("u1", "side", (2, 3), "c2"),
        RuntimeCpus("u7", "app", (0, 1), "c3"),
        RuntimeCpus("p1", "app", (), "c4"),
    )
    found = plan(
        *PROFILES, on=machine("0-3"), with_=bound(*entries, pods=(policy_pod(name), pod(uid="u1")))
    )
    (problem,) = with_code(found.problems, Code.RIVAL_POLICY)
    assert (problem.severity, problem.object) == (Severity.WARNING, "Node/node-1")
    assert (
        problem.message
        == f"{name} (pod kube-system/policy) hands out CPUs too: 0-1 to a pod of uid u7; 2-3 to"
        " ns1/web"
    )


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ((), "which ones is not known, as the runtime is not asked"),
        ((RuntimeCpus("u1", "app", (), "c1"),), "none at present"),
        (
            tuple(RuntimeCpus(f"u{number}", "app", (2,), f"c{number}") for number in range(4)),
            "2 to a pod of uid u0, a pod of uid u1, 2 more",
        ),
    ],
)
def test_what_a_policy_holds_is_said_briefly(entries: tuple[RuntimeCpus, ...], said: str) -> None:
    (problem,) = rival_problems(allocation([policy_pod()], runtime=entries))
    assert problem.message.endswith(f"hands out CPUs too: {said}")


def test_many_sets_are_counted() -> None:
    (problem,) = rival_problems(
        allocation(
            [policy_pod()],
            runtime=tuple(RuntimeCpus("u", "app", (cpu,), f"c{cpu}") for cpu in range(500)),
        )
    )
    assert problem.message.endswith("5 to a pod of uid u; 494 more")
    assert len(problem.message) < 400


def test_a_policy_that_has_ended_is_no_rival() -> None:
    assert rival_problems(allocation([policy_pod(phase="Failed")])) == ()
    assert rival_problems(allocation([pod()])) == ()


def test_profiles_are_offered_where_a_policy_hands_out_cpus() -> None:
    """It needs a kubelet that hands out none; what it does is seen through the runtime, so not
    where that is not asked.
    """
    resolved = plan(*PROFILES, on=machine("0-3")).profiles
    given = allocation([policy_pod()], allocatable=frozenset())
    assert plan_capacity(resolved, given, machine("0-3"))[0] == {
        "power.openshift.io/performance": 4
    }
    blind = PowerConfig(Meta("power-config"), agent=AgentSettings(source="podresources"))
    assert plan_capacity(resolved, given, machine("0-3"), blind)[0] == {}


def test_a_container_that_a_policy_gave_cpus_to_is_tuned() -> None:
    entries = (RuntimeCpus("u1", "app", (2, 3), "c1"), RuntimeCpus("u2", "other", (0, 1), "c2"))
    given = allocation(
        [policy_pod(), pod(asking(2), uid="u1")], allocatable=frozenset(), runtime=entries
    )
    found = plan(*PROFILES, on=machine("0-3"), with_=given)
    assert [on_cpu(found, cpu).pool for cpu in (2, 3)] == [Pool.EXCLUSIVE, Pool.EXCLUSIVE]
