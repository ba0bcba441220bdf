"""P1 to P4, pools: shared and reserved CPUs, and what is neither."""

import pytest
from attrs import evolve

from kpm_planner.model.assignment import Pool
from kpm_planner.model.cluster import LabelSelector, Node, NodeSelector
from kpm_planner.model.objects import ReservedCpus
from kpm_planner.model.problems import Code, Severity
from kpm_planner.model.target import BASELINE
from tests.planner.build import (
    HOST,
    NODE,
    allocation,
    asking,
    container,
    machine,
    moment,
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
from tests.planner.reading import codes, with_code

SHARED = profile("shared", shared=True, min=1000, max=1500)


# --- shared ---


def test_a_workload_with_all_cores_puts_every_free_online_cpu_in_the_shared_pool() -> None:
    """Neither reserved nor exclusive nor offline ones."""
    found = plan(
        SHARED,
        profile(),
        workload(reserved=[reserved("0")]),
        on=machine("0-5", offline="5"),
        with_=allocation([pod()], [owns("1-2")]),
    )
    assert pools(found) == {
        0: "reserved",
        1: "exclusive",
        2: "exclusive",
        3: "shared",
        4: "shared",
        5: "offline",
    }
    assert on_cpu(found, 3).profile == "shared"
    assert (on_cpu(found, 3).target.min_khz, on_cpu(found, 3).target.max_khz) == (
        1_000_000,
        1_500_000,
    )


def test_a_node_config_does_the_same_for_all_nodes_it_selects() -> None:
    """One object for a hundred nodes (field report 6)."""
    found = [plan(SHARED, node_config(uses="shared"), node=Node(name, {})) for name in ("a", "b")]
    assert all(profiles_of(item) == dict.fromkeys(range(4), "shared") for item in found)


def test_two_objects_for_different_nodes_do_not_affect_each_other() -> None:
    """The shared profile belongs to a node, not to the cluster (field report 6)."""
    other = profile("other", shared=True)
    objects = (
        SHARED,
        other,
        workload(),
        workload("theirs", "other", power_node_selector={"zone": "b"}),
    )
    assert profiles_of(plan(*objects)) == dict.fromkeys(range(4), "shared")
    assert profiles_of(plan(*objects, node=Node("node-2", {"zone": "b"}))) == dict.fromkeys(
        range(4), "other"
    )
    assert not plan(*objects).problems


def test_a_workload_without_all_cores_defines_no_shared_pool() -> None:
    """It may still reserve CPUs."""
    found = plan(SHARED, workload(all_cores=False, reserved=[reserved("0", "shared")]))
    assert pools(found) == {0: "reserved", 1: "unmanaged", 2: "unmanaged", 3: "unmanaged"}


@pytest.mark.parametrize("selector", [None, {}, {"zone": "b"}, {**HOST, "zone": "b"}])
def test_a_workload_whose_selector_is_left_out_empty_or_another_does_nothing_here(
    selector: dict[str, str] | None,
) -> None:
    """Left out means none for every kind but PowerProfile and PowerConfig."""
    assert set(pools(plan(SHARED, workload(power_node_selector=selector))).values()) == {
        "unmanaged"
    }


@pytest.mark.parametrize(
    "selector", [None, NodeSelector(), NodeSelector(LabelSelector({"zone": "b"}))]
)
def test_a_node_config_whose_selector_is_left_out_or_another_does_nothing_here(
    selector: NodeSelector | None,
) -> None:
    """An empty label selector selects all, one that is left out none."""
    assert set(
        pools(plan(SHARED, node_config(uses="shared", node_selector=selector))).values()
    ) == {"unmanaged"}


def test_a_shared_profile_that_is_not_marked_so_is_allowed_with_a_warning() -> None:
    """It is in force, and pods may ask for it too."""
    found = plan(profile(), workload(uses="performance"))
    assert profiles_of(found) == dict.fromkeys(range(4), "performance")
    assert [problem.severity for problem in with_code(found.problems, Code.PROFILE_NOT_SHARED)] == [
        Severity.WARNING
    ]


def test_without_a_definition_cpus_are_unmanaged_and_nothing_is_asked_of_them() -> None:
    """Profiles alone change nothing."""
    found = plan(profile(min=2000), SHARED)
    assert {group.pool for group in found.groups} == {Pool.UNMANAGED}
    assert {group.target for group in found.groups} == {BASELINE}


@pytest.mark.parametrize("bad", [[], [profile("shared", shared=True, min="fast")]])
def test_a_missing_or_invalid_shared_profile_leaves_the_pool_at_baseline(bad: list[object]) -> None:
    """R8; the workload is told."""
    found = plan(workload(), *bad)
    assert set(pools(found).values()) == {"shared"}
    assert {group.target for group in found.groups} == {BASELINE}
    assert {problem.object for problem in found.problems if problem.severity is Severity.ERROR} >= {
        "PowerWorkload/shared-pool"
    }


def test_a_shared_pool_without_the_name_of_a_profile_is_an_error_and_at_baseline() -> None:
    """Nothing falls over (field report 47)."""
    found = plan(workload(uses=None))
    assert {group.target for group in found.groups} == {BASELINE}
    assert [
        (problem.severity, problem.field)
        for problem in with_code(found.problems, Code.PROFILE_MISSING)
    ] == [(Severity.ERROR, "spec.powerProfile")]


def test_exclusive_cpus_need_no_shared_pool() -> None:
    """A Guaranteed pod has its profile with nothing else configured (field report 20)."""
    found = plan(profile(min=2000), with_=allocation([pod()], [owns("1-2")]))
    assert profiles_of(found) == {0: None, 1: "performance", 2: "performance", 3: None}
    assert not found.problems


def test_of_two_shared_definitions_the_older_holds_and_the_other_is_told() -> None:
    """Stable across restarts: age decides, not arrival (field report 43)."""
    old, young = (
        workload("young-name", meta_created=moment(8)),
        workload("a", "other", meta_created=moment(9)),
    )
    found = plan(SHARED, profile("other", shared=True), young, old)
    assert profiles_of(found)[0] == "shared"
    assert [problem.object for problem in with_code(found.problems, Code.SHARED_SUPERSEDED)] == [
        "PowerWorkload/a"
    ]


def test_two_node_configs_that_both_want_the_shared_pool_are_both_told() -> None:
    """Either of their owners may be the one to change something."""
    found = plan(
        SHARED,
        node_config("a", "shared", meta_created=moment(8)),
        node_config("b", "shared", meta_created=moment(9)),
    )
    assert [problem.object for problem in with_code(found.problems, Code.SHARED_SUPERSEDED)] == [
        "PowerNodeConfig/a",
        "PowerNodeConfig/b",
    ]


# --- reserved ---


def test_reserved_cpus_run_under_the_profile_named_for_them() -> None:
    """Any profile, for any part of them (field report 22)."""
    found = plan(
        profile(max=3000),
        profile("power", max=1200),
        node_config(reserved=[reserved("0", "performance"), reserved("1", "power"), reserved("2")]),
    )
    assert profiles_of(found) == {0: "performance", 1: "power", 2: None, 3: None}
    assert pools(found) == {0: "reserved", 1: "reserved", 2: "reserved", 3: "unmanaged"}
    assert (on_cpu(found, 0).target.max_khz, on_cpu(found, 1).target.max_khz) == (
        3_000_000,
        1_200_000,
    )


def test_reserved_cpus_are_not_in_the_shared_pool() -> None:
    """They keep what they have unless a profile is named (field report 21)."""
    found = plan(SHARED, workload(reserved=[reserved("0-1")]))
    assert on_cpu(found, 0).target == BASELINE
    assert profiles_of(found) == {0: None, 1: None, 2: "shared", 3: "shared"}


def test_reserved_cpus_are_the_union_over_all_matching_definitions_losers_too() -> None:
    """A definition that lost the shared pool still reserves its CPUs; one that does not select the
    node does not.
    """
    found = plan(
        SHARED,
        workload("a", reserved=[reserved("0")], meta_created=moment(8)),
        workload("b", reserved=[reserved("1")], meta_created=moment(9)),
        workload("c", reserved=[reserved("2")], power_node_selector={"zone": "b"}),
    )
    assert pools(found) == {0: "reserved", 1: "reserved", 2: "shared", 3: "shared"}


def test_a_reserved_cpu_with_two_profiles_is_an_error_of_both_and_at_baseline() -> None:
    """Whichever is older; the other CPUs of both entries keep their profile."""
    found = plan(
        profile("a", max=2000),
        profile("b", max=3000),
        node_config("one", reserved=[reserved("0-1", "a")], meta_created=moment(8)),
        node_config("two", reserved=[reserved("1-2", "b")], meta_created=moment(9)),
    )
    assert profiles_of(found) == {0: "a", 1: None, 2: "b", 3: None}
    assert on_cpu(found, 1).pool is Pool.RESERVED
    assert on_cpu(found, 1).target == BASELINE
    assert [problem.object for problem in with_code(found.problems, Code.RESERVED_CONFLICT)] == [
        "PowerNodeConfig/one",
        "PowerNodeConfig/two",
    ]


def test_the_same_profile_named_twice_for_a_cpu_is_no_conflict() -> None:
    """Two definitions that agree."""
    found = plan(
        profile(),
        node_config("one", reserved=[reserved("0", "performance")]),
        node_config("two", reserved=[reserved("0", "performance")]),
    )
    assert profiles_of(found)[0] == "performance"
    assert not with_code(found.problems, Code.RESERVED_CONFLICT)


@pytest.mark.parametrize("objects", [[], [profile(min="fast")]])
def test_a_missing_or_invalid_profile_leaves_reserved_cpus_at_baseline(
    objects: list[object],
) -> None:
    """Not the shared target: R8."""
    found = plan(SHARED, workload(reserved=[reserved("0", "performance")]), *objects)
    assert on_cpu(found, 0).pool is Pool.RESERVED
    assert on_cpu(found, 0).target == BASELINE
    place = [problem for problem in found.problems if problem.object == "PowerWorkload/shared-pool"]
    assert [problem.field for problem in place] == ["spec.reservedCPUs[0].powerProfile"]


def test_a_reserved_cpu_that_does_not_exist_is_a_warning_and_the_rest_applies() -> None:
    """The message names the CPUs that the node has."""
    found = plan(profile(), node_config(reserved=[reserved("0,7-8", "performance")]))
    assert profiles_of(found)[0] == "performance"
    assert "7-8" in with_code(found.problems, Code.RESERVED_UNKNOWN_CPU)[0].message
    assert "0-3" in with_code(found.problems, Code.RESERVED_UNKNOWN_CPU)[0].message


def test_a_reserved_number_that_can_be_no_cpu_is_named_as_it_was_written() -> None:
    """-1 is not dropped from the message."""
    found = plan(profile(), node_config(reserved=[ReservedCpus((-1, 0), "performance")]))
    assert profiles_of(found)[0] == "performance"
    assert "-1" in with_code(found.problems, Code.RESERVED_UNKNOWN_CPU)[0].message


def test_an_offline_cpu_may_be_reserved_and_is_offline_until_it_is_back() -> None:
    """Field report 5."""
    found = plan(
        profile(), node_config(reserved=[reserved("3", "performance")]), on=machine(offline="3")
    )
    assert on_cpu(found, 3).pool is Pool.OFFLINE
    assert on_cpu(found, 3).held
    assert not found.problems
    assert (
        profiles_of(plan(profile(), node_config(reserved=[reserved("3", "performance")])))[3]
        == "performance"
    )


def test_a_container_that_owns_a_reserved_cpu_wins_with_a_warning() -> None:
    """The kubelet has handed it out, whatever the list says (field report 21)."""
    found = plan(
        profile(max=3000),
        SHARED,
        node_config(reserved=[reserved("0-1", "shared")]),
        with_=allocation([pod()], [owns("1-2")]),
    )
    assert profiles_of(found) == {0: "shared", 1: "performance", 2: "performance", 3: None}
    assert [
        (problem.severity, problem.object)
        for problem in with_code(found.problems, Code.RESERVED_OWNED)
    ] == [(Severity.WARNING, "Pod/ns1/web")]


def test_reserved_cpus_are_compared_with_those_that_the_kubelet_keeps_back() -> None:
    """Online minus allocatable; a difference is a warning with both lists, equality is none
    (field report 21).
    """
    objects = (node_config(reserved=[reserved("0-1")]),)
    assert not plan(*objects, with_=allocation(allocatable=frozenset({2, 3}))).problems
    different = with_code(
        plan(*objects, with_=allocation(allocatable=frozenset({1, 2, 3}))).problems,
        Code.RESERVED_DIFFERS,
    )
    assert "0-1" in different[0].message
    assert different[0].message.endswith("reserves 0")
    offline = plan(
        node_config(reserved=[reserved("0,3")]),
        on=machine(offline="3"),
        with_=allocation(allocatable=frozenset({1, 2})),
    )
    assert not with_code(offline.problems, Code.RESERVED_DIFFERS)


def test_where_the_kubelet_was_not_asked_nothing_is_compared() -> None:
    """And where it names no allocatable CPU at all, the static CPU manager is what is missing."""
    objects = (node_config(reserved=[reserved("0-1")]),)
    assert not plan(*objects).problems
    assert codes(plan(*objects, with_=allocation(allocatable=frozenset())).problems) == {
        Code.CPU_MANAGER_INACTIVE
    }


# --- hyperthreads ---


def test_hyperthreads_with_different_targets_are_written_as_asked_with_one_warning_a_core() -> None:
    """The hardware runs the higher (field report 52)."""
    found = plan(
        profile(max=3000),
        node_config(reserved=[reserved("0-1", "performance")]),
        on=machine(siblings=[(0, 2), (1, 3)]),
    )
    assert (on_cpu(found, 0).target.max_khz, on_cpu(found, 2).target.max_khz) == (3_000_000, None)
    assert [problem.field for problem in with_code(found.problems, Code.SIBLING_CONFLICT)] == [
        "cpu0",
        "cpu1",
    ]


def test_hyperthreads_whose_values_are_the_same_in_the_end_are_no_conflict() -> None:
    """A target that equals baseline, or a sibling that is offline."""
    objects = (profile(min="0%", max="100%"), node_config(reserved=[reserved("0", "performance")]))
    assert not plan(*objects, on=machine("0-1", siblings=[(0, 1)])).problems
    assert not plan(
        profile(max=2000),
        node_config(reserved=[reserved("0", "performance")]),
        on=machine("0-1", siblings=[(0, 1)], offline="1"),
    ).problems


def test_hyperthreads_of_which_nothing_is_asked_have_no_different_targets() -> None:
    """One reserved, one unmanaged, both at baseline, and their baselines differ."""
    pair = machine("0-1", siblings=[(0, 1)])
    other = evolve(pair.domains[1], settings=evolve(pair.domains[1].settings, max_khz=2_000_000))
    assert not plan(
        node_config(reserved=[reserved("0")]), on=evolve(pair, domains=(pair.domains[0], other))
    ).problems


# --- numbering ---


@pytest.mark.parametrize("cpus", ["0-63", "0-3,8-11", "0", "0,2,4,6", "0-3,8", "0,2-3", "4-7"])
def test_any_numbering_of_cpus_is_taken_as_it_is(cpus: str) -> None:
    """Field report 4: gaps, a first CPU that is not 0, a single one."""
    found = plan(SHARED, workload(), on=machine(cpus))
    assert pools(found) == dict.fromkeys(sorted(machine(cpus).online), "shared")


def test_an_offline_cpu_costs_nobody_else() -> None:
    """It is reported as offline, whoever owns it (field report 5)."""
    found = plan(
        profile(), with_=allocation([pod(asking(2))], [owns("1,3")]), on=machine(offline="3")
    )
    assert pools(found) == {0: "unmanaged", 1: "exclusive", 2: "unmanaged", 3: "offline"}
    assert not found.problems


@pytest.mark.parametrize("group", ["power.amdepyc.com", "power.intel.com"])
def test_a_pod_of_an_earlier_operator_keeps_its_profile_where_its_group_is_gone(group: str) -> None:
    """AMD's fork has a group that is not served here, so its pods outlive it; Intel's is served: a
    pod that asks in it asks for another profile.
    """
    pods = allocation([pod(asking(group=group))], [owns("1,3")])
    found = plan(profile(), with_=pods)
    kept = group == "power.amdepyc.com"
    assert {on_cpu(found, cpu).profile for cpu in (1, 3)} == {"performance" if kept else None}
    (problem,) = found.problems
    assert problem.code == ("pod-earlier-group" if kept else "pod-profile")
    assert problem.severity is (Severity.WARNING if kept else Severity.ERROR)
    assert "power.openshift.io/performance" in problem.message or not kept


def test_pools_have_reasons() -> None:
    """What a reader sees first of each CPU."""
    found = plan(
        SHARED,
        workload(reserved=[reserved("0")]),
        on=machine("0-3", offline="3"),
        with_=allocation([pod(container(cpu=1), name="db")], [owns("2", "db")]),
    )
    assert (
        on_cpu(found, 0).because[0]
        == "reserved: PowerWorkload/shared-pool spec.reservedCPUs[0] names no profile, so baseline"
    )
    assert on_cpu(found, 1).because[:2] == ("shared: PowerWorkload/shared-pool", "profile shared")
    assert (
        on_cpu(found, 2).because[0]
        == "exclusive: pod ns1/db container app owns it and asks for no profile, so the shared"
        " target"
    )
    assert on_cpu(found, 3).because == ("offline: left alone until it is back",)
    assert on_cpu(plan(node=NODE), 0).because == ("no object covers it",)
