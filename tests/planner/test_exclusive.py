"""P5 to P8, exclusive CPUs: which container owns which, and under which profile."""

from fractions import Fraction

import pytest
from attrs import evolve

from kpm_planner.model.assignment import Pool
from kpm_planner.model.cluster import INTEL_GROUP, Pod
from kpm_planner.model.problems import Code, Severity
from kpm_planner.model.target import BASELINE
from tests.planner.build import (
    DEVICE,
    allocation,
    asking,
    config,
    container,
    machine,
    moment,
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
from tests.planner.reading import codes, with_code

FAST = profile(min=2000, max=3000)
SHARED = (profile("shared", shared=True, max=1500), workload())


# --- who owns what ---


def test_a_container_owns_the_cpus_that_the_kubelet_reports_for_it() -> None:
    """And they run under the profile it asks for."""
    found = plan(FAST, *SHARED, with_=allocation([pod()], [owns("1-2")]))
    assert profiles_of(found) == {0: "shared", 1: "performance", 2: "performance", 3: "shared"}
    group = on_cpu(found, 1)
    assert group.pool is Pool.EXCLUSIVE
    assert group.container is not None
    assert (
        group.container.namespace,
        group.container.pod,
        group.container.uid,
        group.container.name,
    ) == ("ns1", "web", "uid-web", "app")
    assert (group.target.min_khz, group.target.max_khz) == (2_000_000, 3_000_000)


def test_pods_of_one_name_in_two_namespaces_are_two() -> None:
    """Each has exactly its own CPUs; taking one away leaves the other (field report 3)."""
    one, two = pod(namespace="ns1", uid="1"), pod(namespace="ns2", uid="2")
    reported = [owns("0-1"), owns("2-3", namespace="ns2")]
    found = plan(FAST, with_=allocation([one, two], reported))
    owners = [on_cpu(found, cpu).container for cpu in range(4)]
    assert [owner and owner.namespace for owner in owners] == ["ns1", "ns1", "ns2", "ns2"]
    assert pools(plan(FAST, with_=allocation([two], reported[1:])))[0] == "unmanaged"
    assert profiles_of(plan(FAST, with_=allocation([two], reported[1:])))[3] == "performance"


def test_a_pod_without_a_namespace_is_in_default() -> None:
    """As the API server would put it."""
    assert (
        profiles_of(
            plan(FAST, with_=allocation([pod(namespace=None)], [owns("1-2", namespace="default")]))
        )[1]
        == "performance"
    )


def test_containers_of_one_pod_have_each_their_own_profile() -> None:
    """Field report 23."""
    two = pod(asking(1, name="a"), asking(1, "power", name="b"))
    found = plan(
        FAST,
        profile("power", max=1200),
        with_=allocation([two], [owns("0", container_name="a"), owns("1", container_name="b")]),
    )
    assert profiles_of(found) == {0: "performance", 1: "power", 2: None, 3: None}


@pytest.mark.parametrize("phase", ["Pending", "Running", "Unknown"])
def test_a_pod_owns_its_cpus_from_admission_on(phase: str) -> None:
    """Also while it is being deleted: its container may still run (field reports 1 and 26)."""
    assert (
        profiles_of(plan(FAST, with_=allocation([pod(phase=phase)], [owns("1-2")])))[1]
        == "performance"
    )


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_owns_nothing_whatever_the_kubelet_still_reports(phase: str) -> None:
    """Jobs and evicted pods give their CPUs back (field reports 1 and 27)."""
    found = plan(FAST, *SHARED, with_=allocation([pod(phase=phase)], [owns("1-2")]))
    assert profiles_of(found) == dict.fromkeys(range(4), "shared")
    assert not found.problems


def test_a_container_that_has_terminated_for_good_owns_nothing_the_others_of_its_pod_do() -> None:
    """One that will be started again is not finished."""
    two = pod(asking(1, name="a", finished=True), asking(1, name="b"))
    found = plan(
        FAST,
        *SHARED,
        with_=allocation([two], [owns("0", container_name="a"), owns("1", container_name="b")]),
    )
    assert profiles_of(found) == {0: "shared", 1: "performance", 2: "shared", 3: "shared"}


def test_a_new_container_id_after_a_restart_changes_only_the_id() -> None:
    """Field report 28."""
    first, again = (
        plan(FAST, with_=allocation([pod(asking(id=f"cri-o://{number}"))], [owns("1-2")]))
        for number in (1, 2)
    )
    assert on_cpu(first, 1).target == on_cpu(again, 1).target
    assert on_cpu(again, 1).container.id == "cri-o://2"  # type: ignore[union-attr]
    assert len(again.groups) == len(first.groups)


def test_of_two_pods_of_one_name_the_newer_counts() -> None:
    """A pod that is made again under its name."""
    old, new = pod(uid="1", created=moment(8)), pod(asking(2, "power"), uid="2", created=moment(9))
    found = plan(FAST, profile("power"), with_=allocation([new, old], [owns("1-2")]))
    assert profiles_of(found)[1] == "power"
    assert on_cpu(found, 1).container.uid == "2"  # type: ignore[union-attr]


def test_a_pod_without_a_creation_time_counts_as_the_newest_of_its_name() -> None:
    """R5: a missing timestamp is newest, in any order of arrival."""
    known, unknown = pod(uid="9"), pod(asking(2, "power"), uid="1", created=None)
    for pods in ((known, unknown), (unknown, known)):
        assert (
            profiles_of(plan(FAST, profile("power"), with_=allocation(pods, [owns("1-2")])))[1]
            == "power"
        )


def test_of_two_containers_that_own_one_cpu_the_pod_started_later_has_it() -> None:
    """The other keeps the rest of its CPUs, and is told."""
    late = pod(asking(2, "power"), name="db", started=moment(9))
    found = plan(
        FAST, profile("power"), with_=allocation([pod(), late], [owns("0-1"), owns("1-2", "db")])
    )
    assert profiles_of(found) == {0: "performance", 1: "power", 2: "power", 3: None}
    assert [
        (problem.severity, problem.object)
        for problem in with_code(found.problems, Code.POD_OVERLAP)
    ] == [(Severity.WARNING, "Pod/ns1/web")]


def test_a_cpu_of_an_ended_and_of_a_running_pod_is_the_running_ones() -> None:
    """Without a warning: nothing overlaps (field report 27)."""
    ended = pod(phase="Succeeded", name="job", started=moment(20))
    found = plan(FAST, with_=allocation([ended, pod()], [owns("1-2", "job"), owns("1-2")]))
    assert on_cpu(found, 1).container.pod == "web"  # type: ignore[union-attr]
    assert not found.problems


@pytest.mark.parametrize("pods", [("a", "b"), ("b", "a")])
def test_two_pods_that_started_at_one_time_are_told_apart_by_namespace_and_name(
    pods: tuple[str, str],
) -> None:
    """R5: where age does not decide, the first by namespace, then name, holds; in any order of
    arrival.
    """
    both = [pod(name=name, uid=name) for name in pods]
    found = plan(FAST, with_=allocation(both, [owns("0-1", name) for name in pods]))
    assert on_cpu(found, 0).container.pod == "a"  # type: ignore[union-attr]


def test_an_overlap_that_is_decided_without_timestamps_says_so() -> None:
    """R5: offline, a decision that rests on a missing timestamp is marked."""
    both = [pod(name=name, uid=name, started=None, created=None) for name in ("a", "b")]
    found = plan(FAST, with_=allocation(both, [owns("0-1", "a"), owns("0-1", "b")]))
    assert "without" in with_code(found.problems, Code.POD_OVERLAP)[0].message


def test_cpus_reported_for_a_pod_that_nobody_knows_stay_at_baseline() -> None:
    """It may run; the shared target could slow it (R8)."""
    found = plan(FAST, *SHARED, with_=allocation((), [owns("1-2")]))
    assert on_cpu(found, 1).pool is Pool.EXCLUSIVE
    assert on_cpu(found, 1).target == BASELINE
    assert codes(found.problems) == {Code.POD_UNKNOWN}


def test_a_reported_cpu_that_the_machine_does_not_have_is_nothing() -> None:
    """The others of the container are its own (R6)."""
    found = plan(FAST, with_=allocation([pod(asking(3))], [owns("1-2,900")]))
    assert profiles_of(found) == {0: None, 1: "performance", 2: "performance", 3: None}


# --- what it has to look like ---


@pytest.mark.parametrize(
    "item",
    [
        pod(asking(2), guaranteed=False),
        pod(asking(2, cpu=Fraction(3, 2))),
        pod(evolve(asking(2), cpu=(2, 3))),
        pod(evolve(asking(2), cpu=(None, None))),
    ],
)
def test_a_pod_that_is_not_guaranteed_or_asks_for_no_whole_cpus_is_never_exclusive(
    item: Pod,
) -> None:
    """Old kubelets report shared CPUs for it (field report 27).

    It asked for a profile, so it is told.
    """
    found = plan(FAST, *SHARED, with_=allocation([item], [owns("1-2")]))
    assert profiles_of(found) == dict.fromkeys(range(4), "shared")
    assert [
        (problem.severity, problem.object)
        for problem in with_code(found.problems, Code.POD_NOT_GUARANTEED)
    ] == [(Severity.ERROR, "Pod/ns1/web")]


@pytest.mark.parametrize("reported", [[], [owns("")]])
def test_it_is_told_also_where_the_kubelet_reports_no_cpus_for_it(reported: list[object]) -> None:
    """Which is what a kubelet of today does: no exclusive CPUs, no entry, or one without CPUs."""
    item = pod(asking(2), guaranteed=False)
    found = plan(FAST, *SHARED, with_=allocation([item], reported))  # type: ignore[arg-type]
    assert profiles_of(found) == dict.fromkeys(range(4), "shared")
    assert [
        (problem.severity, problem.object)
        for problem in with_code(found.problems, Code.POD_NOT_GUARANTEED)
    ] == [(Severity.ERROR, "Pod/ns1/web")]


def test_a_pod_that_asks_for_no_profile_and_is_not_guaranteed_is_no_ones_business() -> None:
    """No problem, no pool of its own."""
    assert not plan(
        FAST, *SHARED, with_=allocation([pod(container(), guaranteed=False)], [owns("1-2")])
    ).problems


def test_as_many_resources_as_cpus_are_needed() -> None:
    """Otherwise an error, and baseline: never the shared target (R8)."""
    found = plan(FAST, *SHARED, with_=allocation([pod(asking(1, cpu=2))], [owns("1-2")]))
    assert on_cpu(found, 1).pool is Pool.EXCLUSIVE
    assert on_cpu(found, 1).target == BASELINE
    assert codes(found.problems) == {Code.POD_COUNT}


def test_a_quantity_counts_by_its_value_not_by_its_text() -> None:
    """2000m is 2."""
    assert (
        profiles_of(
            plan(FAST, with_=allocation([pod(asking(2, cpu=Fraction(2000, 1000)))], [owns("1-2")]))
        )[1]
        == "performance"
    )


def test_exactly_one_profile_may_be_asked_for() -> None:
    """Two: an error that names both, and baseline."""
    both = container(
        cpu=2, resources=(("power.openshift.io/performance", 2), ("power.openshift.io/power", 2))
    )
    found = plan(FAST, profile("power"), *SHARED, with_=allocation([pod(both)], [owns("1-2")]))
    assert on_cpu(found, 1).target == BASELINE
    message = with_code(found.problems, Code.POD_TWO_PROFILES)[0].message
    assert "power.openshift.io/performance" in message
    assert "power.openshift.io/power" in message


def test_an_amount_of_zero_asks_for_nothing() -> None:
    """And resources that are no profiles are none."""
    item = container(
        cpu=2, resources=(("example.com/gpu", 1), ("power.openshift.io/performance", 0))
    )
    assert (
        profiles_of(plan(FAST, *SHARED, with_=allocation([pod(item)], [owns("1-2")])))[1]
        == "shared"
    )


def test_the_comparison_is_made_when_a_container_is_first_seen() -> None:
    """In-place resize later is a warning, and the profile stays in force."""
    grown, seen = pod(asking(2, cpu=3)), frozenset({("uid-web", "app")})
    assert codes(plan(FAST, with_=allocation([grown], [owns("0-2")])).problems) == {Code.POD_COUNT}
    found = plan(FAST, with_=allocation([grown], [owns("0-2")], accepted=seen))
    assert profiles_of(found) == {0: "performance", 1: "performance", 2: "performance", 3: None}
    assert [(problem.code, problem.severity) for problem in found.problems] == [
        (Code.POD_COUNT_CHANGED, Severity.WARNING)
    ]


def test_cpus_from_a_custom_device_are_compared_with_those_reported() -> None:
    """The pod need not be Guaranteed; without the device in the PowerConfig it owns none.

    Any of several devices will do.
    """
    item = pod(
        container(cpu=(None, None), resources=((DEVICE, 2), ("power.openshift.io/performance", 2))),
        guaranteed=False,
    )
    devices = config(custom_devices=(DEVICE, "example.com/other"))
    assert (
        profiles_of(plan(FAST, devices, with_=allocation([item], [owns("1-2")])))[1]
        == "performance"
    )
    assert codes(plan(FAST, devices, with_=allocation([item], [owns("1-3")])).problems) == {
        Code.POD_COUNT
    }
    assert codes(plan(FAST, with_=allocation([item], [owns("1-2")])).problems) == {
        Code.POD_NOT_GUARANTEED
    }


def test_cpus_from_a_resource_claim_are_compared_with_those_reported() -> None:
    """Dynamic resource allocation hands them out."""
    item = pod(
        container(
            cpu=(None, None), claims=True, resources=(("power.openshift.io/performance", 2),)
        ),
        guaranteed=False,
    )
    assert profiles_of(plan(FAST, with_=allocation([item], [owns("1-2")])))[1] == "performance"
    assert codes(plan(FAST, with_=allocation([item], [owns("1-3")])).problems) == {Code.POD_COUNT}


# --- its profile ---


@pytest.mark.parametrize(
    "present", [None, profile(min="fast"), profile(shared=True), profile(group=INTEL_GROUP)]
)
def test_a_missing_invalid_or_shared_profile_leaves_the_cpus_exclusive_at_baseline(
    present: object,
) -> None:
    """A profile of the other API group is another resource. R8: not the shared target."""
    found = plan(*SHARED, *([present] if present else []), with_=allocation([pod()], [owns("1-2")]))
    assert on_cpu(found, 1).pool is Pool.EXCLUSIVE
    assert on_cpu(found, 1).profile is None
    assert on_cpu(found, 1).target == BASELINE
    assert [problem.severity for problem in with_code(found.problems, Code.POD_PROFILE)] == [
        Severity.ERROR
    ]


def test_the_intel_groups_resources_ask_for_the_intel_groups_profiles() -> None:
    """power.intel.com/<profile>."""
    found = plan(
        profile(group=INTEL_GROUP, max=3000),
        with_=allocation([pod(asking(group=INTEL_GROUP))], [owns("1-2")]),
    )
    assert on_cpu(found, 1).target.max_khz == 3_000_000
    assert found.extended_resources == {"power.intel.com/performance": 4}


def test_a_container_that_asks_for_no_profile_has_the_shared_target_and_is_listed_so() -> None:
    """Its CPUs are exclusive all the same; without a shared pool they are at baseline."""
    item = pod(container(cpu=2))
    found = plan(*SHARED, with_=allocation([item], [owns("1-2")]))
    assert on_cpu(found, 1).pool is Pool.EXCLUSIVE
    assert on_cpu(found, 1).profile == "shared"
    assert on_cpu(found, 1).target == on_cpu(found, 0).target
    assert on_cpu(plan(with_=allocation([item], [owns("1-2")])), 1).target == BASELINE


def test_a_changed_profile_reaches_exclusive_shared_and_reserved_cpus_alike() -> None:
    """(field report 12)"""
    for mhz in (1000, 2000):
        everywhere = profile(max=mhz)
        found = plan(
            everywhere,
            workload(uses="performance", reserved=[reserved("0", "performance")]),
            with_=allocation([pod()], [owns("1-2")]),
        )
        assert {group.pool for group in found.groups} == {
            Pool.RESERVED,
            Pool.SHARED,
            Pool.EXCLUSIVE,
        }
        assert {group.target.max_khz for group in found.groups} == {mhz * 1000}


def test_a_pod_on_a_machine_with_shared_domains_is_told_of_its_neighbours() -> None:
    """CPU 1 is the pod's, CPU 0 is nobody's: the higher holds for both, with one warning."""
    found = plan(
        profile(min=2000),
        with_=allocation([pod(asking(1))], [owns("1")]),
        on=machine("0-1", shared=[(0, 1)]),
    )
    assert [on_cpu(found, cpu).target.min_khz for cpu in (0, 1)] == [2_000_000, 2_000_000]
    assert len(with_code(found.problems, Code.DOMAIN_CONFLICT)) == 1
