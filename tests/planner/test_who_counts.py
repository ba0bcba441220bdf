"""Who is passed over when CPUs are given to containers, and what is left to a caller to ask: small
questions about allocations, annotations and caps.
"""

import pytest
from attrs import evolve

from kpm_planner.bound import lacking
from kpm_planner.caps.zones import holding_cap
from kpm_planner.crio import GOVERNOR, STATES, conflict, wishes_of
from kpm_planner.model.agent_settings import CpuSource, MetricsAccess
from kpm_planner.model.cap_objects import CapSource, StaticCap
from kpm_planner.model.cluster import LabelSelector, NodeSelector
from kpm_planner.model.problems import Code
from kpm_planner.model.scaling_policy import CpuScalingPolicy
from kpm_planner.ownership_memory import awaited
from kpm_planner.scaling import Speed
from kpm_planner.selection import accept, nowhere
from tests.planner.build import (
    NODE,
    allocation,
    asking,
    intent,
    machine,
    node_config,
    owns,
    plan,
    pod,
    power_cap,
    profile,
    uncore,
)
from tests.planner.reading import with_code


def test_a_container_that_has_finished_lacks_no_cpus() -> None:
    """An init container that ran its course asks for nothing; nor does a pod that has ended."""
    running, done = asking(name="app"), asking(name="init", finished=True)
    assert lacking([pod(running, done)], [], ()) == {("ns1", "web", "app")}
    assert lacking([pod(running, phase="Succeeded")], [], ()) == frozenset()


def test_nobody_is_waited_for_where_the_kubelet_hands_out_no_cpus() -> None:
    """It has answered and named none that it could hand out, so asking again changes nothing."""
    waiting = allocation([pod()])
    assert awaited(waiting)
    assert not awaited(evolve(waiting, allocatable=frozenset()))
    assert awaited(evolve(waiting, allocatable=frozenset(), answered=False))


def test_who_uses_a_claim_is_not_told_that_the_kubelet_hands_out_no_cpus() -> None:
    """Somebody else may give it CPUs; its neighbour in the pod is told."""
    both = pod(asking(name="app"), asking(name="claiming", claims=True))
    found = plan(profile(), with_=allocation([both], allocatable=frozenset()))
    told = with_code(found.problems, Code.CPU_MANAGER_INACTIVE)
    assert [item.field for item in told if item.object.startswith("Pod/")] == [
        "spec.containers[app].resources"
    ]


def test_of_a_pods_annotations_those_of_crio_are_its_wishes() -> None:
    """By name, whatever else is written there."""
    assert wishes_of({STATES: "disable", "other": "x", GOVERNOR: "performance"}) == tuple(
        sorted([(GOVERNOR, "performance"), (STATES, "disable")])
    )
    assert wishes_of({"other": "x"}) == ()


@pytest.mark.parametrize(
    ("text", "way"),
    [
        (None, MetricsAccess.OPEN),
        ("open", MetricsAccess.OPEN),
        ("certificate", MetricsAccess.CERTIFICATE),
        ("token", MetricsAccess.TOKEN),
        ("a-word-of-tomorrow", MetricsAccess.CERTIFICATE),
        ("", MetricsAccess.CERTIFICATE),
    ],
)
def test_a_word_for_access_that_is_not_known_lets_nobody_in_unseen(
    text: str | None, way: MetricsAccess
) -> None:
    """Only what is left out is open."""
    assert MetricsAccess.of(text) is way


@pytest.mark.parametrize(
    ("text", "source"),
    [
        (None, CpuSource.AUTO),
        ("auto", CpuSource.AUTO),
        ("podresources", CpuSource.PODRESOURCES),
        ("nri", CpuSource.NRI),
        ("a-word-of-tomorrow", CpuSource.PODRESOURCES),
        ("", CpuSource.PODRESOURCES),
    ],
)
def test_a_source_that_is_not_known_is_the_one_that_is_always_there(
    text: str | None, source: CpuSource
) -> None:
    """The kubelet; and its words are those that users write."""
    assert CpuSource.of(text) is source
    assert text in (None, "", "a-word-of-tomorrow", str(source))


def test_both_annotations_of_a_pod_are_named_where_they_conflict() -> None:
    """As a list, each with its value."""
    both = ((STATES, "disable"), (GOVERNOR, "performance"))
    problem = conflict("Pod/ns1/web", both, accepted=False)
    assert problem.message == (
        f"CRI-O sets its CPUs too, by {STATES}: 'disable', {GOVERNOR}: 'performance'; drop them,"
        " or set agent.crioAnnotations: accept"
    )


def test_the_cap_that_holds_is_the_one_to_ask_a_source_for() -> None:
    """Not one that selects other nodes, and not one with errors of its own."""
    cap = power_cap(150)
    assert holding_cap(NODE, accept(intent(cap))) == cap
    elsewhere = power_cap(150, node_selector=NodeSelector(LabelSelector({"zone": "b"})))
    assert holding_cap(NODE, accept(intent(elsewhere))) is None
    broken = power_cap(source=CapSource(static=StaticCap(-1)))
    assert holding_cap(NODE, accept(intent(broken))) is None


def test_a_speed_that_the_kernel_took_is_remembered_with_its_time() -> None:
    """From both the next target is reckoned."""
    assert Speed().taken(1_200_000, 5) == Speed(1_200_000, 5)
    assert Speed(800_000, 1).taken(1_200_000, 5) == Speed(1_200_000, 5)


def test_a_cpu_without_a_frequency_domain_is_not_scaled() -> None:
    """Its neighbours of the same pod are; so is none whose domain's range is not known."""
    acpi = machine("0-3", driver="acpi-cpufreq")
    bare = evolve(acpi, cpus=tuple(evolve(cpu, domain=cpu.domain or None) for cpu in acpi.cpus))
    scaled = evolve(
        profile(min=1000, max=2000, governor="userspace"),
        cpu_scaling_policy=CpuScalingPolicy("polling-dpdk", target_usage=70),
    )
    pods = allocation([pod()], [owns("0-1")])
    assert [item.cpus for item in plan(scaled, on=acpi, with_=pods).scaling] == [(0,), (1,)]
    assert [item.cpus for item in plan(scaled, on=bare, with_=pods).scaling] == [(1,)]


def test_an_object_with_a_selector_is_somewhere_and_one_without_is_nowhere() -> None:
    """But for uncore limits of a node of that name."""
    assert nowhere(node_config(), ["node-1"]) is None
    assert nowhere(uncore("node-1"), ["node-1"]) is None
    for obj, words in (
        (node_config(node_selector=None), "is missing; {labelSelector"),
        (uncore("node-2"), "is missing, and no node has its name; {labelSelector"),
    ):
        problem = nowhere(obj, ["node-1"])
        assert problem is not None
        assert problem.message.startswith(words)
        assert (problem.code, problem.field) == (Code.NO_SELECTOR, "spec.nodeSelector")


def test_a_hyperthread_without_a_frequency_domain_is_not_asked_for_one() -> None:
    """Its core has different targets all the same, and that is said."""
    whole = machine("0-3", siblings=((0, 1),))
    cpus = tuple(evolve(cpu, domain=None if cpu.id == 1 else cpu.domain) for cpu in whole.cpus)
    found = plan(
        profile(min=3000),
        on=evolve(whole, cpus=cpus),
        with_=allocation([pod(asking(1))], [owns("0")]),
    )
    assert [item.field for item in with_code(found.problems, Code.SIBLING_CONFLICT)] == ["cpu0"]
