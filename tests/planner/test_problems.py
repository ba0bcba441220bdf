"""The registry of problems: for every code the smallest input that gives it."""

from collections.abc import Callable, Iterable

import pytest
from attrs import evolve, frozen

from kpm.agent.cluster import object_view
from kpm.operator.admission import admission_problem
from kpm.operator.daemonset import Image, image_problems
from kpm.operator.external import host_problem
from kpm_planner.model.agent_settings import AgentSettings
from kpm_planner.model.allocation import RuntimeCpus
from kpm_planner.model.cap_objects import CapEntry, CapSource, ConfigMapKey, ExternalCap, SolarCap
from kpm_planner.model.cluster import INTEL_GROUP, LabelSelector, Meta, NodeSelector, Requirement
from kpm_planner.model.machine import Fabric
from kpm_planner.model.objects import AmdFabric, DieSelector, PowerConfig
from kpm_planner.model.problems import REGISTRY, Code, Problem, Severity, error, has_errors, warning
from kpm_planner.model.scaling_policy import CpuScalingPolicy
from kpm_planner.plan import NodeInput, plan_cluster, plan_node
from kpm_planner.profile_rules import with_pstates
from kpm_planner.selection import nowhere
from kpm_planner.validate import validate_intent
from kpm_planner.versions import Version, Versions
from tests.planner.build import (
    NODE,
    allocation,
    asking,
    config,
    container,
    die,
    intent,
    machine,
    moment,
    node_config,
    owns,
    plan,
    pod,
    policy_pod,
    power_cap,
    profile,
    rapl,
    reserved,
    uncore,
    with_zones,
    workload,
)

ACPI = machine(driver="acpi-cpufreq")
HYBRID = machine("0-3", ranges={2: (800_000, 2_000_000), 3: (800_000, 2_000_000)})
WITH_UNCORE = machine(uncore=(die(),))
TURBO = evolve(ACPI, boost=True)
CAPPED = with_zones(rapl())
AMD = evolve(machine(), fabrics=(Fabric(0, 2),))
UNNAMED = evolve(
    machine(),
    boost=False,
    domains=tuple(evolve(domain, limit_named=False) for domain in machine().domains),
)
WAITING = evolve(machine(), cpus=tuple(evolve(cpu, resume_latency="20") for cpu in machine().cpus))
BAD_SELECTOR = NodeSelector(LabelSelector({}, (Requirement("zone", "Gt", ("a",)),)))


def of_cluster(*objects: object) -> Iterable[Problem]:
    """Problems that do not depend on a node."""
    return plan_cluster(intent(*objects), [NodeInput(NODE, machine())]).problems


def of_node(obj: object, versions: Versions) -> Iterable[Problem]:
    """Problems of one object on a node that remembers."""
    return plan_node(intent(obj), NodeInput(NODE, machine(), versions=versions)).problems


@frozen
class Case:
    """What is said about which object and field, and words of the message."""

    severity: Severity
    object: str
    field: str
    words: str
    problems: Callable[[], Iterable[Problem]]


PROFILE, CAP, NODE_CONFIG, WORKLOAD, UNCORE, POD, HERE = (
    "PowerProfile/performance",
    "PowerCap/budget",
    "PowerNodeConfig/pools",
    "PowerWorkload/shared-pool",
    "Uncore/node-1",
    "Pod/ns1/web",
    "Node/node-1",
)
RESOURCES = "spec.containers[app].resources"

CASES: dict[Code, Case] = {
    Code.ADMISSION_MISSING: Case(
        Severity.ERROR,
        "PowerConfig/c",
        "",
        "found no power-manager-operator",
        lambda: (admission_problem("c", ("power-manager-operator",)),),
    ),
    Code.AGENT_IMAGE: Case(
        Severity.ERROR,
        "PowerConfig/c",
        "agent.image",
        "evil:1 is not allowed",
        lambda: image_problems(
            PowerConfig(Meta("c"), agent=AgentSettings(image="evil:1")), Image("kpm:1")
        ),
    ),
    Code.ALLOCATION_DIFFERS: Case(
        Severity.WARNING,
        POD,
        "",
        "the runtime 2-3",
        lambda: (
            plan(
                profile(),
                with_=allocation(
                    [pod()], [owns("0-1")], runtime=(RuntimeCpus("uid-web", "app", (2, 3)),)
                ),
            ).problems
        ),
    ),
    Code.ALLOCATION_UNKNOWN: Case(
        Severity.WARNING,
        HERE,
        "",
        "ns1/web/app",
        lambda: plan(profile(), with_=allocation([pod()])).problems,
    ),
    Code.CAP_CONSTRAINT: Case(
        Severity.WARNING,
        CAP,
        "spec.constraint",
        "package-0 has no limit short_term; it has long_term",
        lambda: plan(power_cap(constraint="short_term"), on=with_zones(rapl(short=None))).problems,
    ),
    Code.CAP_MIRROR: Case(
        Severity.WARNING,
        CAP,
        "",
        "twin limits to 40 W, below the 150 W",
        lambda: plan(power_cap(150), on=with_zones(rapl(mirror_uw=40_000_000))).problems,
    ),
    Code.CAP_RANGE: Case(
        Severity.ERROR,
        CAP,
        "spec.minWatts",
        "200 W is above maxWatts 100 W",
        lambda: plan(power_cap(min_watts=200, max_watts=100), on=CAPPED).problems,
    ),
    Code.CAP_SOURCE: Case(
        Severity.ERROR,
        CAP,
        "spec.source.schedule[0].time",
        "expected HH:MM from 00:00 to 23:59, got '25:10:30'",
        lambda: (
            plan(
                power_cap(source=CapSource(schedule=(CapEntry("25:10:30", watts=100),))), on=CAPPED
            ).problems
        ),
    ),
    Code.CAP_HOST: Case(
        Severity.ERROR,
        CAP,
        "spec.source.external.url",
        "the server 'meter' is not among the operator's --external-host",
        lambda: filter(
            None,
            [
                host_problem(
                    power_cap(source=CapSource(external=ExternalCap(url="http://meter/w"))), ()
                )
            ],
        ),
    ),
    Code.CAP_STALE: Case(
        Severity.WARNING,
        CAP,
        "spec.source.external",
        "has not answered yet; fallbackWatts 90 holds",
        lambda: (
            plan(
                power_cap(
                    source=CapSource(
                        external=ExternalCap(ConfigMapKey("grid", "watts"), fallback_watts=90)
                    )
                ),
                on=CAPPED,
            ).problems
        ),
    ),
    Code.CAP_SUPERSEDED: Case(
        Severity.WARNING,
        CAP,
        "",
        "PowerCap/older holds",
        lambda: (
            plan(
                power_cap(meta_created=moment(9)),
                power_cap(200, "older", meta_created=moment(8)),
                on=CAPPED,
            ).problems
        ),
    ),
    Code.CAP_TIME_ZONE: Case(
        Severity.ERROR,
        CAP,
        "spec.source.timeZone",
        "'Mars/Olympus_Mons'",
        lambda: (
            plan(
                power_cap(source=CapSource(solar=SolarCap(100), time_zone="Mars/Olympus_Mons")),
                on=CAPPED,
            ).problems
        ),
    ),
    Code.CAP_UNSUPPORTED: Case(
        Severity.WARNING,
        CAP,
        "",
        "node node-1 has nothing that caps power",
        lambda: plan(power_cap()).problems,
    ),
    Code.CAPACITY_CLAMPED: Case(
        Severity.WARNING,
        PROFILE,
        "spec.cpuCapacity",
        "5",
        lambda: plan(profile(cpu_capacity=5)).problems,
    ),
    Code.CAPACITY_FORMAT: Case(
        Severity.ERROR,
        PROFILE,
        "spec.cpuCapacity",
        "'many'",
        lambda: plan(profile(cpu_capacity="many")).problems,
    ),
    Code.CONFIG_SUPERSEDED: Case(
        Severity.WARNING,
        "PowerConfig/b",
        "",
        "PowerConfig/a",
        lambda: of_cluster(
            config("b", meta_created=moment(9)), config("a", meta_created=moment(8))
        ),
    ),
    Code.CPU_MANAGER_INACTIVE: Case(
        Severity.WARNING,
        HERE,
        "",
        "static CPU manager not active",
        lambda: plan(with_=allocation(allocatable=frozenset())).problems,
    ),
    Code.DOMAIN_CONFLICT: Case(
        Severity.WARNING,
        HERE,
        "cpufreq/policy0",
        "0-1",
        lambda: (
            plan(
                profile(min=2000),
                node_config(reserved=[reserved("0", "performance")]),
                on=machine("0-1", shared=[(0, 1)]),
            ).problems
        ),
    ),
    Code.EPP_GOVERNOR: Case(
        Severity.ERROR,
        PROFILE,
        "spec.pstates.epp",
        "'power'",
        lambda: plan(profile(governor="performance", epp="power")).problems,
    ),
    Code.EPB_UNSUPPORTED: Case(
        Severity.WARNING,
        PROFILE,
        "spec.pstates.epb",
        "the CPUs have no energy_perf_bias",
        lambda: plan(profile(epb="normal")).problems,
    ),
    Code.EPB_VALUE: Case(
        Severity.ERROR,
        PROFILE,
        "spec.pstates.epb",
        "expected 0 to 15 or performance,",
        lambda: plan(profile(epb=16)).problems,
    ),
    Code.EPP_UNSUPPORTED: Case(
        Severity.WARNING,
        PROFILE,
        "spec.pstates.epp",
        "acpi-cpufreq",
        lambda: plan(profile(epp="power"), on=ACPI).problems,
    ),
    Code.EPP_WORD: Case(
        Severity.ERROR,
        PROFILE,
        "spec.pstates.epp",
        "'turbo'",
        lambda: plan(profile(epp="turbo")).problems,
    ),
    Code.FABRIC_RANGE: Case(
        Severity.ERROR,
        UNCORE,
        "spec.amd.dfPstateMax",
        "2 is slower than dfPstateMin 0",
        lambda: plan(uncore(amd=AmdFabric(0, 2)), on=AMD).problems,
    ),
    Code.FABRIC_UNSUPPORTED: Case(
        Severity.ERROR,
        UNCORE,
        "spec.amd",
        "a range needs HSMP protocol 5 or 7, this node has 2",
        lambda: plan(uncore(amd=AmdFabric(2, 0)), on=AMD).problems,
    ),
    Code.FREQUENCY_BASE_UNKNOWN: Case(
        Severity.ERROR,
        PROFILE,
        "spec.pstates.max",
        "0.8 to 3.7 GHz",
        lambda: plan(profile(max="base")).problems,
    ),
    Code.FREQUENCY_COLLAPSED: Case(
        Severity.WARNING,
        PROFILE,
        "spec.pstates.min",
        "2 GHz",
        lambda: plan(profile(min=3000, max="100%"), on=HYBRID).problems,
    ),
    Code.FREQUENCY_FORMAT: Case(
        Severity.ERROR,
        PROFILE,
        "spec.pstates.min",
        "'fast'",
        lambda: plan(profile(min="fast")).problems,
    ),
    Code.FREQUENCY_LIMIT_UNKNOWN: Case(
        Severity.WARNING,
        PROFILE,
        "spec.pstates.max",
        "above 3.7 GHz, the highest that any file names",
        lambda: plan(profile(max=9000), on=UNNAMED).problems,
    ),
    Code.FREQUENCY_LIMITED: Case(
        Severity.WARNING,
        HERE,
        "intel_pstate/max_perf_pct",
        "max_perf_pct is 50: CPUs 0-3",
        lambda: (
            plan(
                profile("shared", shared=True), workload(), on=evolve(machine(), max_percent=50)
            ).problems
        ),
    ),
    Code.FREQUENCY_ORDER: Case(
        Severity.ERROR,
        PROFILE,
        "spec.pstates.min",
        "spec.pstates.max 1000",
        lambda: plan(profile(min=2000, max=1000)).problems,
    ),
    Code.FREQUENCY_RANGE: Case(
        Severity.ERROR,
        PROFILE,
        "spec.pstates.max",
        "0.8 to 3.7 GHz",
        lambda: plan(profile(max=9000)).problems,
    ),
    Code.DRIVER_UNTESTED: Case(
        Severity.WARNING,
        PROFILE,
        "spec.pstates",
        "scaling driver powernow-k8 was not tried",
        lambda: plan(profile(max=2000), on=machine(driver="powernow-k8")).problems,
    ),
    Code.FREQUENCY_UNSUPPORTED: Case(
        Severity.WARNING,
        PROFILE,
        "spec.pstates",
        "scaling driver",
        lambda: plan(profile(max=2000), on=machine(driver=None)).problems,
    ),
    Code.GOVERNOR_STATIC: Case(
        Severity.WARNING,
        PROFILE,
        "spec.pstates.governor",
        "acpi-cpufreq",
        lambda: plan(profile(governor="powersave"), on=ACPI).problems,
    ),
    Code.GOVERNOR_UNAVAILABLE: Case(
        Severity.ERROR,
        PROFILE,
        "spec.pstates.governor",
        "performance, powersave",
        lambda: plan(profile(governor="schedutil")).problems,
    ),
    Code.IDLE_ALL_OFF: Case(
        Severity.WARNING,
        PROFILE,
        "spec.cstates.names",
        "POLL",
        lambda: plan(profile(names={"POLL": False}), on=machine(idle=[("POLL", 0)])).problems,
    ),
    Code.IDLE_BOTH: Case(
        Severity.ERROR,
        PROFILE,
        "spec.cstates",
        "maxLatencyUs",
        lambda: plan(profile(names={"C1": True}, max_latency_us=1)).problems,
    ),
    Code.IDLE_LATENCY: Case(
        Severity.ERROR,
        PROFILE,
        "spec.cstates.maxLatencyUs",
        "-1",
        lambda: plan(profile(max_latency_us=-1)).problems,
    ),
    Code.IDLE_LIMITED: Case(
        Severity.WARNING,
        HERE,
        "power/pm_qos_resume_latency_us",
        "is 20 on CPUs 0-3",
        lambda: plan(profile("shared", shared=True), workload(), on=WAITING).problems,
    ),
    Code.IDLE_MECHANISM: Case(
        Severity.WARNING,
        PROFILE,
        "spec.cstates.names",
        "byLatency, which knows no states by name",
        lambda: (
            plan(
                profile(names={"C1": True}), config(agent=AgentSettings(idle_states="byLatency"))
            ).problems
        ),
    ),
    Code.IDLE_NAME_UNKNOWN: Case(
        Severity.ERROR,
        PROFILE,
        "spec.cstates.names.C99",
        "POLL, C1, C1E, C6",
        lambda: plan(profile(names={"C99": True})).problems,
    ),
    Code.IDLE_UNSUPPORTED: Case(
        Severity.WARNING,
        PROFILE,
        "spec.cstates",
        "no idle states",
        lambda: plan(profile(names={"C1": True}), on=machine(idle=())).problems,
    ),
    Code.VERSION_UNKNOWN: Case(
        Severity.WARNING,
        PROFILE,
        "",
        "not known here",
        lambda: of_node(profile(min=9000), Versions(note="not known here")),
    ),
    Code.PROFILE_EARLIER_FORM: Case(
        Severity.WARNING,
        PROFILE,
        "spec.max",
        "write spec.pstates.max",
        lambda: plan(with_pstates(evolve(profile(), max=3000))).problems,
    ),
    Code.LAST_VALID: Case(
        Severity.WARNING,
        PROFILE,
        "",
        "its last valid version stays in force (valid here since 2026-01-31T08:00:00Z)",
        lambda: of_node(profile(min=9000), Versions((Version(profile(min=1000), moment(8)),))),
    ),
    Code.NAME_IN_BOTH_GROUPS: Case(
        Severity.ERROR,
        PROFILE,
        "metadata.name",
        "both API groups",
        lambda: of_cluster(profile(), profile(group=INTEL_GROUP)),
    ),
    Code.NAME_MISMATCH: Case(
        Severity.WARNING,
        PROFILE,
        "spec.name",
        "'other'",
        lambda: of_cluster(evolve(profile(), name="other")),
    ),
    Code.NAME_TOO_LONG: Case(
        Severity.ERROR,
        f"PowerProfile/{'p' * 64}",
        "metadata.name",
        "63",
        lambda: plan(profile("p" * 64)).problems,
    ),
    Code.NAMESPACE_IGNORED: Case(
        Severity.WARNING,
        PROFILE,
        "metadata.namespace",
        "power-manager",
        lambda: of_cluster(profile(meta_namespace="default")),
    ),
    Code.NO_SELECTOR: Case(
        Severity.ERROR,
        "Uncore/all",
        "spec.nodeSelector",
        "no node has its name",
        lambda: [found for found in [nowhere(uncore("all"), {"node-1"})] if found],
    ),
    Code.NODE_NOT_SELECTED: Case(
        Severity.WARNING,
        "PowerConfig/power-config",
        "spec.powerNodeSelector",
        "zone=b",
        lambda: plan(config(power_node_selector={"zone": "b"})).problems,
    ),
    Code.OBJECT_UNREADABLE: Case(
        Severity.ERROR,
        "PowerProfile/odd",
        "",
        "spec.shared",
        lambda: (
            object_view(
                {"metadata": {"name": "odd"}, "spec": {"shared": "yes"}},
                "PowerProfile",
                "power.openshift.io",
            ).problem,
        ),
    ),
    Code.POD_ANNOTATIONS: Case(
        Severity.WARNING,
        POD,
        "metadata.annotations",
        "cpu-freq-governor.crio.io: 'performance'",
        lambda: (
            plan(
                profile(),
                with_=allocation(
                    [pod(wishes=(("cpu-freq-governor.crio.io", "performance"),))], [owns("0-1")]
                ),
            ).problems
        ),
    ),
    Code.POD_COUNT: Case(
        Severity.ERROR,
        POD,
        RESOURCES,
        "3",
        lambda: plan(profile(), with_=allocation([pod(asking(3, cpu=2))], [owns("0-1")])).problems,
    ),
    Code.POD_COUNT_CHANGED: Case(
        Severity.WARNING,
        POD,
        RESOURCES,
        "3 CPUs",
        lambda: (
            plan(
                profile(),
                with_=allocation(
                    [pod(asking(2, cpu=3))], [owns("0-2")], accepted=frozenset({("uid-web", "app")})
                ),
            ).problems
        ),
    ),
    Code.POD_EARLIER_GROUP: Case(
        Severity.WARNING,
        POD,
        RESOURCES,
        "power.openshift.io/performance",
        lambda: (
            plan(
                profile(),
                with_=allocation([pod(asking(group="power.amdepyc.com"))], [owns("0-1")]),
            ).problems
        ),
    ),
    Code.POD_NOT_GUARANTEED: Case(
        Severity.ERROR,
        POD,
        RESOURCES,
        "Guaranteed",
        lambda: plan(profile(), with_=allocation([pod(guaranteed=False)], [owns("0-1")])).problems,
    ),
    Code.POD_OVERLAP: Case(
        Severity.WARNING,
        POD,
        "",
        "CPUs 1",
        lambda: (
            plan(
                profile(),
                with_=allocation(
                    [pod(), pod(name="db", started=moment(9))], [owns("0-1"), owns("1-2", "db")]
                ),
            ).problems
        ),
    ),
    Code.POD_PROFILE: Case(
        Severity.ERROR,
        POD,
        RESOURCES,
        "power.openshift.io/performance",
        lambda: plan(with_=allocation([pod()], [owns("0-1")])).problems,
    ),
    Code.POD_TWO_PROFILES: Case(
        Severity.ERROR,
        POD,
        RESOURCES,
        "exactly one",
        lambda: (
            plan(
                with_=allocation(
                    [
                        pod(
                            container(
                                cpu=1,
                                resources=(
                                    ("power.openshift.io/a", 1),
                                    ("power.openshift.io/b", 1),
                                ),
                            )
                        )
                    ],
                    [owns("0")],
                )
            ).problems
        ),
    ),
    Code.POD_WITHOUT_CPUS: Case(
        Severity.ERROR,
        POD,
        "spec.containers[app].resources",
        "lists it without CPUs",
        lambda: plan(profile(), with_=allocation([pod()], [owns("")])).problems,
    ),
    Code.POD_UNKNOWN: Case(
        Severity.WARNING,
        POD,
        "",
        "CPUs 0-1",
        lambda: plan(with_=allocation(reported=[owns("0-1")])).problems,
    ),
    Code.PROFILE_INVALID: Case(
        Severity.ERROR,
        WORKLOAD,
        "spec.powerProfile",
        "shared",
        lambda: plan(workload(), profile("shared", shared=True, min="fast")).problems,
    ),
    Code.PROFILE_MISSING: Case(
        Severity.ERROR, WORKLOAD, "spec.powerProfile", "'shared'", lambda: plan(workload()).problems
    ),
    Code.PROFILE_NOT_SHARED: Case(
        Severity.WARNING,
        WORKLOAD,
        "spec.powerProfile",
        "performance",
        lambda: plan(workload(uses="performance"), profile()).problems,
    ),
    Code.RESERVED_CONFLICT: Case(
        Severity.ERROR,
        NODE_CONFIG,
        "spec.reservedCPUs[0]",
        "a (",
        lambda: plan(node_config(reserved=[reserved("0", "a"), reserved("0", "b")])).problems,
    ),
    Code.RESERVED_DIFFERS: Case(
        Severity.WARNING,
        HERE,
        "spec.reservedCPUs",
        "reservedCPUs are 0, the kubelet reserves 0-1",
        lambda: (
            plan(
                node_config(reserved=[reserved("0")]),
                with_=allocation(allocatable=frozenset({2, 3})),
            ).problems
        ),
    ),
    Code.RESERVED_OWNED: Case(
        Severity.WARNING,
        POD,
        "",
        "CPUs 1",
        lambda: (
            plan(
                profile(),
                node_config(reserved=[reserved("1")]),
                with_=allocation([pod()], [owns("1-2")]),
            ).problems
        ),
    ),
    Code.RESERVED_UNKNOWN_CPU: Case(
        Severity.WARNING,
        NODE_CONFIG,
        "spec.reservedCPUs[0].cores",
        "99 do not exist",
        lambda: plan(node_config(reserved=[reserved("0,99")])).problems,
    ),
    Code.RIVAL_POLICY: Case(
        Severity.WARNING,
        HERE,
        "",
        "2-3 to a pod of uid u9",
        lambda: (
            plan(
                with_=allocation([policy_pod()], runtime=(RuntimeCpus("u9", "app", (2, 3)),))
            ).problems
        ),
    ),
    Code.SCALING_POLICY: Case(
        Severity.ERROR,
        PROFILE,
        "spec.cpuScalingPolicy.targetUsage",
        "expected 1 to 100, got 0",
        lambda: (
            plan(
                profile(
                    governor="userspace",
                    cpu_scaling_policy=CpuScalingPolicy("polling-dpdk", target_usage=0),
                ),
                on=ACPI,
            ).problems
        ),
    ),
    Code.SELECTOR_INVALID: Case(
        Severity.ERROR,
        NODE_CONFIG,
        "spec.nodeSelector.labelSelector.matchExpressions[0].operator",
        "'Gt'",
        lambda: plan(node_config(node_selector=BAD_SELECTOR)).problems,
    ),
    Code.SHARED_SUPERSEDED: Case(
        Severity.WARNING,
        WORKLOAD,
        "",
        "PowerWorkload/first",
        lambda: (
            plan(
                profile("shared", shared=True),
                workload(meta_created=moment(9)),
                workload("first", meta_created=moment(8)),
            ).problems
        ),
    ),
    Code.SIBLING_CONFLICT: Case(
        Severity.WARNING,
        HERE,
        "cpu0",
        "CPUs 0,2",
        lambda: (
            plan(
                profile(min=2000),
                node_config(reserved=[reserved("2", "performance")]),
                on=machine(siblings=[(0, 2)]),
            ).problems
        ),
    ),
    Code.TURBO_SUPERSEDED: Case(
        Severity.WARNING,
        NODE_CONFIG,
        "spec.turbo",
        "PowerNodeConfig/the-older has set turbo off",
        lambda: (
            plan(
                node_config(turbo=True, meta_created=moment(9)),
                node_config("the-older", turbo=False, meta_created=moment(8)),
                on=TURBO,
            ).problems
        ),
    ),
    Code.TURBO_UNSUPPORTED: Case(
        Severity.WARNING,
        NODE_CONFIG,
        "spec.turbo",
        "node node-1 has no switch of turbo",
        lambda: plan(node_config(turbo=False)).problems,
    ),
    Code.UNCORE_DIE: Case(
        Severity.ERROR,
        UNCORE,
        "spec.dieSelector[0]",
        "package 7",
        lambda: (
            plan(
                uncore(die_selector=(DieSelector(7, 0, 900_000, 900_000),)), on=WITH_UNCORE
            ).problems
        ),
    ),
    Code.UNCORE_ENDS: Case(
        Severity.ERROR,
        UNCORE,
        "spec.sysMax",
        "both ends",
        lambda: plan(uncore(sys_min=900_000), on=WITH_UNCORE).problems,
    ),
    Code.UNCORE_ORDER: Case(
        Severity.ERROR,
        UNCORE,
        "spec.sysMin",
        "2000000",
        lambda: plan(uncore(sys_min=2_000_000, sys_max=900_000), on=WITH_UNCORE).problems,
    ),
    Code.UNCORE_RANGE: Case(
        Severity.ERROR,
        UNCORE,
        "spec.sysMin",
        "800000..2400000",
        lambda: plan(uncore(sys_min=900_000, sys_max=2_500_000), on=WITH_UNCORE).problems,
    ),
    Code.UNCORE_SUPERSEDED: Case(
        Severity.WARNING,
        UNCORE,
        "",
        "Uncore/older",
        lambda: (
            plan(
                uncore(meta_created=moment(9)),
                uncore(
                    "older", meta_created=moment(8), node_selector=NodeSelector(LabelSelector())
                ),
                on=WITH_UNCORE,
            ).problems
        ),
    ),
    Code.UNCORE_UNSUPPORTED: Case(
        Severity.WARNING,
        UNCORE,
        "",
        "node-1",
        lambda: plan(uncore(sys_min=900_000, sys_max=900_000)).problems,
    ),
}


#: What goes wrong with measuring energy stands in no plan; tests/energy and
#: tests/planner/test_meters.py have the examples. What only a machine says: energy, and writes that
#: are refused (test_refusals.py).
MEASURED = {Code.WRITE_REFUSED} | {code for code in Code if code.value.startswith("energy-")}


@pytest.mark.parametrize("code", CASES)
def test_the_smallest_input_of_a_code_gives_one_problem_of_it_at_its_place(code: Code) -> None:
    """Severity, object and field as documented; the message names the value or what is allowed."""
    case = CASES[code]
    found = [problem for problem in case.problems() if problem.code is code]
    assert [(problem.severity, problem.object, problem.field) for problem in found[:1]] == [
        (case.severity, case.object, case.field)
    ]
    assert case.words in found[0].message
    assert found[0].message.isprintable()


def test_every_code_has_an_example_and_an_entry_in_the_registry() -> None:
    """Nothing in the registry is dead, and nothing is told that the registry does not explain."""
    assert set(CASES) | MEASURED == set(Code) == set(REGISTRY)
    assert not set(CASES) & MEASURED


@pytest.mark.parametrize("code", Code)
def test_a_registry_entry_says_what_is_meant_and_what_to_do(code: Code) -> None:
    """Two whole sentences; the code is its name in lower case with dashes, and stays so."""
    meaning, remedy = REGISTRY[code]
    assert meaning.endswith(".")
    assert remedy.endswith(".")
    assert code.value == code.name.lower().replace("_", "-")


def test_a_problem_reads_as_one_line_with_severity_place_message_and_code() -> None:
    """As kpm validate prints it; without a field the place is the object."""
    assert (
        str(error(Code.EPP_WORD, "PowerProfile/p", "spec.pstates.epp", "'x' is none"))
        == "error: PowerProfile/p: spec.pstates.epp: 'x' is none [epp-word]"
    )
    assert (
        str(warning(Code.POD_UNKNOWN, "Pod/a/b", "", "who?"))
        == "warning: Pod/a/b: who? [pod-unknown]"
    )


def test_errors_sort_before_warnings_and_only_errors_are_errors() -> None:
    """A list of problems starts with what makes objects invalid."""
    bad, odd = error(Code.EPP_WORD, "b", "", "x"), warning(Code.CAPACITY_CLAMPED, "a", "", "x")
    assert sorted([odd, bad]) == [bad, odd]
    assert has_errors((odd, bad))
    assert not has_errors((odd,))


ODD = "x\n\x1b[31m"
ODD_SELECTOR = NodeSelector(LabelSelector({}, (Requirement("zone", ODD),)))


@pytest.mark.parametrize(
    "objects",
    [
        [profile(min=ODD)],
        [profile(governor=ODD)],
        [profile(epp=ODD)],
        [profile(names={ODD: True})],
        [profile(cpu_capacity=ODD)],
        [evolve(profile(), name=ODD)],
        [
            profile(
                governor="userspace", cpu_scaling_policy=CpuScalingPolicy(ODD, sample_period=ODD)
            )
        ],
        [
            profile(
                governor="userspace",
                cpu_scaling_policy=CpuScalingPolicy("polling-dpdk", cooldown_period=ODD),
            )
        ],
        [workload(uses=ODD)],
        [node_config(uses=ODD)],
        [node_config(reserved=[reserved("0", ODD)])],
        [node_config(reserved=[reserved("0", ODD), reserved("0", "other")])],
        [node_config(node_selector=ODD_SELECTOR)],
        [power_cap(divide=ODD, per=ODD, constraint=ODD, period=ODD)],
        [power_cap(source=CapSource(schedule=(CapEntry(ODD, (ODD,), watts=1),)))],
        [power_cap(source=CapSource(solar=SolarCap(1, ODD, ODD)))],
        [power_cap(source=CapSource(external=ExternalCap(url=ODD, max_age=ODD)))],
        [power_cap(source=CapSource(solar=SolarCap(1), time_zone=ODD))],
    ],
)
def test_what_users_write_freely_cannot_break_a_line_or_colour_it(objects: list[object]) -> None:
    """A problem is one printable line, whatever stands in an object."""
    problems = [
        *plan(*objects, on=evolve(ACPI, power_zones=CAPPED.power_zones)).problems,
        *of_cluster(*objects),
        *validate_intent(intent(*objects)),
    ]
    assert problems
    assert [str(problem) for problem in problems if not str(problem).isprintable()] == []
