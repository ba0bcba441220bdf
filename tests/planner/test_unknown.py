"""R7: a source that has not answered is unknown, not empty."""

import pytest
from attrs import evolve

from kpm_planner.model.allocation import ContainerCpus
from kpm_planner.model.assignment import Pool
from kpm_planner.model.problems import Code, Severity
from kpm_planner.model.target import BASELINE
from kpm_planner.ownership_memory import awaited, without_cpus
from tests.planner.build import (
    DEVICE,
    allocation,
    asking,
    config,
    container,
    machine,
    node_config,
    on_cpu,
    owns,
    plan,
    pod,
    pools,
    profile,
    profiles_of,
    reserved,
    workload,
)
from tests.planner.reading import codes, held_cpus, with_code

OBJECTS = (profile(min=2000), profile("shared", shared=True, max=1500), workload())


def test_without_an_answer_no_cpu_that_could_be_allocated_is_written() -> None:
    """Even though no pod is known: it may only not be known yet (field report 2)."""
    found = plan(*OBJECTS, with_=allocation(answered=False))
    assert held_cpus(found) == {0, 1, 2, 3}
    assert {group.target for group in found.groups} == {BASELINE}
    assert codes(found.problems) == {Code.ALLOCATION_UNKNOWN}


def test_cpus_that_the_kubelet_cannot_hand_out_are_written_meanwhile() -> None:
    """Allocatable CPUs are known from before; reserved ones are not among them."""
    found = plan(
        *OBJECTS,
        node_config(reserved=[reserved("0", "performance")]),
        with_=allocation(answered=False, allocatable=frozenset({2, 3})),
    )
    assert held_cpus(found) == {2, 3}
    assert profiles_of(found) == {0: "performance", 1: "shared", 2: None, 3: None}


def test_the_last_known_allocation_stays() -> None:
    """A kubelet that restarts changes nothing (R7)."""
    found = plan(*OBJECTS, with_=allocation([pod()], answered=False, last_known=(owns("1-2"),)))
    assert profiles_of(found) == {0: "shared", 1: "performance", 2: "performance", 3: "shared"}
    assert codes(found.problems) == {Code.ALLOCATION_UNKNOWN}
    assert not held_cpus(found)


def test_a_last_known_allocation_may_be_empty() -> None:
    """It was known that nobody owned any."""
    found = plan(*OBJECTS, with_=allocation(answered=False, last_known=()))
    assert not held_cpus(found)
    assert profiles_of(found)[0] == "shared"


def test_what_ended_meanwhile_is_gone_also_from_the_last_known_allocation() -> None:
    """The API still answers (field report 1)."""
    found = plan(
        *OBJECTS,
        with_=allocation([pod(phase="Succeeded")], answered=False, last_known=(owns("1-2"),)),
    )
    assert pools(found)[1] == "shared"


def test_a_container_that_runs_and_is_not_listed_is_unknown() -> None:
    """The CPUs that could be its are held; with a last known allocation it has those."""
    found = plan(*OBJECTS, with_=allocation([pod()]))
    assert held_cpus(found) == {0, 1, 2, 3}
    assert "ns1/web/app" in with_code(found.problems, Code.ALLOCATION_UNKNOWN)[0].message
    known = plan(*OBJECTS, with_=allocation([pod()], last_known=(owns("1-2"),)))
    assert profiles_of(known)[1] == "performance"
    assert not held_cpus(known)


def test_one_that_is_listed_without_cpus_owns_none_and_costs_only_itself() -> None:
    """Pod-level resources, a claim, a pod older than the static policy: the node is tuned all the
    same, and the pod is told.
    """
    two = [pod(), pod(asking(1), name="other", uid="other")]
    found = plan(*OBJECTS, with_=allocation(two, [owns(""), owns("1", "other")]))
    assert profiles_of(found) == {0: "shared", 1: "performance", 2: "shared", 3: "shared"}
    assert not held_cpus(found)
    (problem,) = found.problems
    assert (problem.code, problem.severity, problem.object) == (
        Code.POD_WITHOUT_CPUS,
        Severity.ERROR,
        "Pod/ns1/web",
    )
    assert "lists it without CPUs" in problem.message


def test_one_that_had_cpus_and_is_listed_without_any_keeps_them_for_a_while() -> None:
    """A kubelet that starts without its checkpoint; whoever asks it says when that has lasted too
    long.
    """
    given = allocation([pod()], [owns("")], last_known=(owns("1-2"),))
    found = plan(*OBJECTS, with_=given)
    assert profiles_of(found) == {0: "shared", 1: "performance", 2: "performance", 3: "shared"}
    assert codes(found.problems) == {Code.ALLOCATION_UNKNOWN}
    late = plan(*OBJECTS, with_=evolve(given, overdue=frozenset({("uid-web", "app")})))
    assert profiles_of(late) == dict.fromkeys(range(4), "shared")
    assert codes(late.problems) == {Code.POD_WITHOUT_CPUS}


@pytest.mark.parametrize("known", [None, (owns("1-2"),)])
def test_one_that_is_not_listed_for_too_long_costs_only_itself(
    known: tuple[ContainerCpus, ...] | None,
) -> None:
    given = allocation([pod()], last_known=known, overdue=frozenset({("uid-web", "app")}))
    found = plan(*OBJECTS, with_=given)
    assert profiles_of(found) == dict.fromkeys(range(4), "shared")
    (problem,) = found.problems
    assert (problem.code, problem.object) == (Code.POD_WITHOUT_CPUS, "Pod/ns1/web")
    assert "does not list it" in problem.message
    assert not awaited(given)
    assert without_cpus(given) == {("uid-web", "app")}


def test_no_answer_makes_nobody_overdue() -> None:
    given = allocation(
        [pod()], answered=False, last_known=(owns("1-2"),), overdue=frozenset({("uid-web", "app")})
    )
    assert profiles_of(plan(*OBJECTS, with_=given))[1] == "performance"
    assert without_cpus(given) == frozenset()


def test_only_what_is_unknown_is_held() -> None:
    """A container that is reported has its profile; CPUs that cannot be
    allocated have theirs (R6).
    """
    two = [pod(), pod(asking(1), name="new", uid="new")]
    found = plan(*OBJECTS, with_=allocation(two, [owns("1-2")], allocatable=frozenset({1, 2, 3})))
    assert profiles_of(found) == {0: "shared", 1: "performance", 2: "performance", 3: None}
    assert held_cpus(found) == {3}
    assert on_cpu(found, 3).pool is Pool.SHARED


def test_the_last_known_cpus_of_one_container_do_not_help_another() -> None:
    """The one left out was never known."""
    two = [pod(), pod(asking(1), name="new", uid="new")]
    assert held_cpus(
        plan(*OBJECTS, with_=allocation(two, [owns("1-2")], last_known=(owns("1-2"),)))
    ) == {0, 3}


@pytest.mark.parametrize(
    "item",
    [
        pod(phase="Pending"),
        pod(phase="Succeeded"),
        pod(phase="Unknown"),
        pod(asking(finished=True)),
        pod(guaranteed=False),
        pod(container(cpu=2)),
    ],
)
def test_a_container_that_does_not_run_cannot_own_cpus_or_asks_for_no_profile_is_not_waited_for(
    item: object,
) -> None:
    """Nothing that is asked of its CPUs depends on the answer."""
    assert not held_cpus(plan(*OBJECTS, with_=allocation([item])))  # type: ignore[list-item]


def test_containers_that_get_cpus_from_elsewhere_are_waited_for_too() -> None:
    """Custom devices and resource claims."""
    device = pod(
        container(cpu=(None, None), resources=((DEVICE, 2), ("power.openshift.io/performance", 2))),
        guaranteed=False,
    )
    claim = pod(
        container(
            cpu=(None, None), claims=True, resources=(("power.openshift.io/performance", 2),)
        ),
        guaranteed=False,
    )
    assert held_cpus(plan(*OBJECTS, config(custom_devices=(DEVICE,)), with_=allocation([device])))
    assert held_cpus(plan(*OBJECTS, with_=allocation([claim])))


def test_where_the_kubelet_hands_out_no_cpus_there_is_nothing_to_wait_for() -> None:
    """The static CPU manager is not active; that is the problem."""
    found = plan(*OBJECTS, with_=allocation([pod()], allocatable=frozenset()))
    assert not held_cpus(found)
    assert codes(found.problems) == {Code.CPU_MANAGER_INACTIVE}


def test_held_cpus_say_why() -> None:
    """And offline ones are not among them."""
    found = plan(*OBJECTS, on=machine(offline="3"), with_=allocation(answered=False))
    assert (
        on_cpu(found, 0).because[-1]
        == "held: it could be a container's, and the kubelet has not said whose"
    )
    assert on_cpu(found, 3).pool is Pool.OFFLINE
