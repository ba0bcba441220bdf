"""C4: what a node advertises of each profile."""

import pytest

from kpm_planner.model.cluster import INTEL_GROUP
from kpm_planner.model.problems import Code, Severity
from tests.planner.build import allocation, asking, machine, moment, owns, plan, pod, profile
from tests.planner.reading import with_code

KEY = "power.openshift.io/performance"


@pytest.mark.parametrize(
    ("capacity", "amount"),
    [(None, 8), (1, 1), (8, 8), ("100%", 8), ("75%", 6), ("50%", 4), ("99%", 7), ("13%", 1)],
)
def test_capacity_is_a_number_or_a_percentage_of_the_cpus_online_rounded_down(
    capacity: int | str | None, amount: int
) -> None:
    """Left out: 100 %. It alone decides, not the EPP (field report 24)."""
    for epp in ("performance", "power"):
        assert plan(
            profile(cpu_capacity=capacity, epp=epp), on=machine("0-7")
        ).extended_resources == {KEY: amount}


def test_offline_cpus_do_not_count() -> None:
    """100 % of the CPUs online."""
    assert plan(profile(), on=machine("0-7", offline="4-7")).extended_resources == {KEY: 4}


def test_more_than_the_node_has_is_clamped_with_a_warning() -> None:
    """Up to the node's CPUs."""
    found = plan(profile(cpu_capacity=100), on=machine("0-7"))
    assert found.extended_resources == {KEY: 8}
    assert [problem.severity for problem in with_code(found.problems, Code.CAPACITY_CLAMPED)] == [
        Severity.WARNING
    ]


@pytest.mark.parametrize("capacity", [0, -1, "0%", "110%", "4", "many", "", "50"])
def test_another_capacity_is_an_error_not_silently_replaced(capacity: int | str) -> None:
    """Field report 24."""
    found = plan(profile(cpu_capacity=capacity))
    assert [
        (problem.severity, problem.field)
        for problem in with_code(found.problems, Code.CAPACITY_FORMAT)
    ] == [(Severity.ERROR, "spec.cpuCapacity")]
    assert found.extended_resources == {}


def test_a_share_that_rounds_down_to_nothing_is_not_advertised() -> None:
    """Never 0; a warning says so."""
    found = plan(profile(cpu_capacity="10%"), on=machine("0-3"))
    assert found.extended_resources == {}
    assert with_code(found.problems, Code.CAPACITY_CLAMPED)


def test_capacity_never_falls_below_what_running_pods_hold() -> None:
    """Lowering it evicts nobody."""
    running = [pod(asking(2), name=name, uid=name) for name in ("a", "b")]
    reported = [owns("0-1", "a"), owns("2-3", "b")]
    assert plan(
        profile(cpu_capacity=1), with_=allocation(running, reported)
    ).extended_resources == {KEY: 4}
    assert plan(
        profile(cpu_capacity="10%"), with_=allocation(running, reported)
    ).extended_resources == {KEY: 4}


@pytest.mark.parametrize(
    ("phase", "amount"),
    [("Pending", 3), ("Running", 3), ("Unknown", 3), ("Succeeded", 1), ("Failed", 1)],
)
def test_a_pod_holds_its_resources_until_it_has_ended(phase: str, amount: int) -> None:
    """As the scheduler counts them."""
    assert plan(
        profile(cpu_capacity=1), with_=allocation([pod(asking(3), phase=phase)])
    ).extended_resources == {KEY: amount}


@pytest.mark.parametrize(
    "bad", [profile(shared=True), profile(min="fast"), profile(meta_namespace="default")]
)
def test_only_valid_profiles_that_are_not_shared_are_advertised(bad: object) -> None:
    """A leaving key is removed, never set to 0, whoever holds it (field report 25)."""
    assert plan(bad).extended_resources == {}
    assert plan(bad, with_=allocation([pod()], [owns("0-1")])).extended_resources == {}


def test_the_prefix_follows_the_profiles_group() -> None:
    """Keys are sorted."""
    found = plan(profile("b"), profile("c", group=INTEL_GROUP), profile("a"))
    assert list(found.extended_resources) == [
        "power.intel.com/c",
        "power.openshift.io/a",
        "power.openshift.io/b",
    ]


def test_a_hundred_profiles_are_advertised_at_once() -> None:
    """None hides another."""
    found = plan(*(profile(f"p{index}", meta_created=moment(8)) for index in range(100)))
    assert len(found.extended_resources) == 100
    assert not found.problems
