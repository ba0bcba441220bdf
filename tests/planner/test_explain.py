"""explain: the reasons of a plan as text."""

from attrs import evolve

from kpm_planner.fabric import FabricTarget
from kpm_planner.model.machine import Fabric
from kpm_planner.model.problems import Code, warning
from kpm_planner.model.target import Target
from kpm_planner.model.why import Why
from kpm_planner.report.explain import (
    cpus_of_pod,
    describe_cap,
    describe_fabric,
    describe_node,
    describe_target,
    describe_values,
    explain_cap,
    explain_cpu,
    explain_pod,
    explain_profile,
    explain_uncore,
    watts,
)
from tests.planner.build import (
    allocation,
    die,
    machine,
    moment,
    on_cpu,
    owns,
    plan,
    pod,
    power_cap,
    profile,
    rapl,
    uncore,
    workload,
)

FAST = profile(min="40%", max=3000)
PODS = allocation([pod()], [owns("1-2")])
FOUND = plan(
    FAST,
    profile("shared", shared=True, max=1500),
    workload(),
    on=machine("0-4", offline="4"),
    with_=PODS,
)


def test_a_cpu_is_explained_from_its_pool_to_each_value() -> None:
    """The chain: pod, container, profile, field, formula."""
    assert explain_cpu(FOUND, 1) == (
        "CPU 1 on node node-1: exclusive, profile performance: 1.96..3 GHz, powersave",
        (
            "  exclusive: pod ns1/web container app owns it and asks for"
            " power.openshift.io/performance"
        ),
        "  profile performance",
        "  min 1.96 GHz: spec.pstates.min '40%' of 0.8..3.7 GHz",
        "  max 3 GHz: spec.pstates.max 3000 MHz",
        "  governor powersave: left out, and intel_pstate scales under it",
        "  epp baseline: left out",
    )


def test_problems_of_its_profile_and_its_pod_stand_below_a_cpu() -> None:
    """Those of others do not."""
    found = plan(profile(min=2000, cpu_capacity=100), profile("other", min="fast"), with_=PODS)
    lines = explain_cpu(found, 1)
    assert any("[capacity-clamped]" in line for line in lines)
    assert not any("[frequency-format]" in line for line in lines)
    broken = plan(with_=PODS)
    assert any("[pod-profile]" in line for line in explain_cpu(broken, 1))
    assert not any("[pod-profile]" in line for line in explain_cpu(broken, 0))


def test_what_limits_the_cpus_from_outside_of_all_objects_stands_below_those_of_a_profile() -> None:
    """It keeps them from what the lines above say; a CPU that nobody asks anything of is not kept
    from anything.
    """
    limited = evolve(machine(), max_percent=50)
    limited = evolve(limited, cpus=tuple(evolve(cpu, resume_latency="20") for cpu in limited.cpus))
    found = plan(FAST, on=limited, with_=PODS)
    lines = explain_cpu(found, 1)
    for words in (
        "max_perf_pct is 50: CPUs 1-2 run at most",
        "[frequency-limited]",
        "is 20 on CPUs 1-2",
        "[idle-limited]",
    ):
        assert any(
            line.startswith("  warning: Node/node-1: ") and words in line for line in lines
        ), words
    assert explain_cpu(found, 0) == (
        "CPU 0 on node node-1: unmanaged: baseline",
        "  no object covers it",
    )


def test_an_offline_cpu_and_one_that_nobody_claims_are_explained_too() -> None:
    """A CPU that does not exist is not."""
    assert explain_cpu(FOUND, 4) == (
        "CPU 4 on node node-1: offline, left as it is",
        "  offline: left alone until it is back",
    )
    assert explain_cpu(plan(), 0) == (
        "CPU 0 on node node-1: unmanaged: baseline",
        "  no object covers it",
    )
    assert explain_cpu(FOUND, 99) == ()


def test_a_held_cpu_is_left_as_it_is() -> None:
    """Whatever its pool."""
    held = plan(FAST, with_=allocation([pod()], answered=False))
    assert explain_cpu(held, 0)[0] == "CPU 0 on node node-1: unmanaged, left as it is"


def test_a_profile_is_explained_by_the_cpus_that_use_it_and_what_is_advertised() -> None:
    """A shared one is not advertised."""
    assert explain_profile(FOUND, "performance") == (
        "profile performance on node node-1: in use",
        "  CPUs 1-2: exclusive, profile performance: 1.96..3 GHz, powersave",
        "  advertised as power.openshift.io/performance: 4",
    )
    assert explain_profile(FOUND, "shared") == (
        "profile shared on node node-1: in use",
        "  CPUs 0,3: shared, profile shared: 0.8..1.5 GHz, powersave",
    )


def test_what_stands_in_a_profiles_way_is_told() -> None:
    """Its own problems, and those of pods and workloads that ask for it; not those of profiles with
    a similar name.
    """
    found = plan(
        profile(min="fast"),
        profile("performance-2", max=9000),
        workload(uses="performance"),
        with_=PODS,
    )
    lines = explain_profile(found, "performance")
    assert lines[0] == "profile performance on node node-1: no CPU uses it"
    text = "\n".join(lines)
    assert "[frequency-format]" in text
    assert "[pod-profile]" in text
    assert "[profile-invalid]" in text
    assert "9000" not in text
    assert explain_profile(plan(), "ghost") == ("profile ghost on node node-1: no CPU uses it",)


def test_a_workload_that_names_a_missing_profile_is_told_where_the_profile_is_explained() -> None:
    """Whoever looks for the profile by name finds who asks for it."""
    assert any(
        "[profile-missing]" in line
        for line in explain_profile(plan(workload(uses="ghost")), "ghost")
    )


def test_a_pod_is_explained_container_by_container() -> None:
    """With the CPUs it owns and why they run as they do."""
    lines = explain_pod(FOUND, "ns1", "web")
    assert lines[0] == "pod ns1/web on node node-1: owns CPUs"
    assert (
        lines[1] == "  container app, CPUs 1-2: exclusive, profile performance: 1.96..3 GHz,"
        " powersave"
    )
    assert explain_pod(FOUND, "ns1", "ghost") == ("pod ns1/ghost on node node-1: owns no CPUs",)


def test_the_cpus_of_a_pod_are_those_of_its_containers_and_no_others() -> None:
    """Of its namespace and name, whatever else owns CPUs on the node."""
    owned = {
        cpu
        for group in FOUND.groups
        if group.container is not None and group.container.pod == "web"
        for cpu in group.cpus
    }
    assert owned
    assert set(cpus_of_pod(FOUND, "ns1", "web")) == owned
    assert cpus_of_pod(FOUND, "other", "web") == ()


def test_a_pod_that_owns_nothing_but_has_a_problem_is_not_said_to_own_cpus() -> None:
    """It asks for a profile and is not Guaranteed."""
    found = plan(FAST, with_=allocation([pod(guaranteed=False)], [owns("1-2")]))
    lines = explain_pod(found, "ns1", "web")
    assert "owns CPUs" not in lines[0]
    assert "[pod-not-guaranteed]" in lines[1]


def test_values_are_described_in_one_line() -> None:
    """baseline where nothing is asked, for one end or for all."""
    assert describe_values(Target()) == "baseline"
    assert describe_values(Target(min_khz=1)) == "0.000001..baseline GHz"
    assert (
        describe_values(Target(1, 2, "powersave", "power", (("C1", True), ("C6", False))))
        == "0.000001..0.000002 GHz, powersave, power, C1 on, C6 off"
    )
    group = on_cpu(FOUND, 1)
    assert describe_target(evolve(group, held=True)) == "exclusive, left as it is"


# --- what is asked of the node beside its CPUs ---

CAPPED = evolve(
    plan(
        power_cap(150),
        uncore(sys_min=1_000_000, sys_max=2_000_000),
        on=evolve(machine(uncore=(die(),)), power_zones=(rapl(),)),
    ),
    fabrics=(FabricTarget(Fabric(0), "2 1", (Why("asked for"),)), FabricTarget(Fabric(1), "3")),
    boost=False,
)


def test_the_power_of_a_package_is_explained_by_its_limits_and_their_reasons() -> None:
    """With how long that holds, and with the problems of caps and of nothing else."""
    until = evolve(
        CAPPED,
        valid_until=moment(9),
        problems=(
            warning(Code.CAP_SUPERSEDED, "PowerCap/other", "", "is not in force"),
            warning(Code.NO_SELECTOR, "Uncore/other", "", "is about no node"),
        ),
    )
    head, *reasons = explain_cap(until, "package-0")
    assert head.startswith("power of package-0 on node node-1: long_term 150 W")
    assert head.endswith(", which time does not change before 2026-01-31T09:00:00Z")
    assert any("PowerCap/budget" in line for line in reasons)
    assert any("PowerCap/other" in line for line in reasons)
    assert not any("Uncore/other" in line for line in reasons)
    assert "time does not change" not in explain_cap(CAPPED, "package-0")[0]
    assert explain_cap(CAPPED, "package-7") == ()


def test_a_zone_that_nobody_caps_is_at_baseline() -> None:
    """And of a power that nobody knows that is said."""
    (target,) = CAPPED.caps
    assert describe_cap(evolve(target, limits=(None,) * len(target.limits))) == "baseline"
    assert (watts(None), watts(1_500_000)) == ("unknown", "1.5 W")


def test_an_uncore_entry_is_explained_by_its_limits_and_their_reasons() -> None:
    """One that nobody limits is at baseline; one that is not there has no lines."""
    name = "package_00_die_00"
    head, *reasons = explain_uncore(CAPPED, name)
    assert head == f"uncore {name} on node node-1: 1..2 GHz"
    assert any("Uncore/node-1" in line for line in reasons)
    assert explain_uncore(plan(on=machine(uncore=(die(),))), name) == (
        f"uncore {name} on node node-1: baseline",
        *(f"  {line}" for line in plan(on=machine(uncore=(die(),))).uncore[0].because),
    )
    assert explain_uncore(CAPPED, "package_07_die_00") == ()


def test_a_data_fabric_is_explained_under_the_name_of_its_package() -> None:
    """With the problems of uncore objects, which ask for it."""
    told = evolve(
        CAPPED,
        problems=(
            warning(Code.NO_SELECTOR, "Uncore/other", "", "is about no node"),
            warning(Code.CAP_SUPERSEDED, "PowerCap/other", "", "is not in force"),
        ),
    )
    assert explain_uncore(told, "fabric-0") == (
        "fabric-0 on node node-1: slowest and fastest P-state 2 1",
        "  asked for",
        "  warning: Uncore/other: is about no node [no-selector]",
    )
    assert explain_uncore(CAPPED, "fabric-1") == ("fabric-1 on node node-1: P-state 3",)
    assert explain_uncore(CAPPED, "fabric-2") == ()
    assert describe_fabric(FabricTarget(Fabric(0))) == "baseline"


def test_a_node_is_described_by_what_is_asked_beside_its_cpus() -> None:
    """Power, data fabrics, turbo; nothing of turbo that nobody asked for."""
    assert describe_node(CAPPED) == (
        f"power package-0: {describe_cap(CAPPED.caps[0])}",
        "data fabric of package 0: slowest and fastest P-state 2 1",
        "data fabric of package 1: P-state 3",
        "turbo: off",
    )
    assert describe_node(evolve(CAPPED, boost=True))[-1] == "turbo: on"
    assert describe_node(evolve(CAPPED, boost=None, caps=(), fabrics=())) == ()
