"""The status of PowerNode and PowerNodeState: lines as the source documents show them, fields for
programs, conditions.
"""

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import evolve

from kpm.formats.wire import document_of
from kpm_planner.model.changes import Outcome, Pass, Reason, Status, Write
from kpm_planner.model.machine import CpufreqSettings, Machine
from kpm_planner.model.problems import Code, Severity, error, warning
from kpm_planner.plan import NodePlan
from kpm_planner.report.conditions import stamped
from kpm_planner.report.node import node_state
from kpm_planner.report.power_node import power_node
from kpm_planner.report.room import LONGEST_MESSAGE
from kpm_planner.report.types import (
    Condition,
    CpuValues,
    PoolSizes,
    PoolState,
    PowerNodeStateStatus,
    PowerNodeStatus,
    UncoreState,
)
from tests.planner.build import (
    allocation,
    asking,
    container,
    die,
    machine,
    moment,
    node_config,
    owns,
    plan,
    pod,
    profile,
    reserved,
    uncore,
    values,
    workload,
)

#: A server as in the source documents' example: 48 CPUs that show 3.4 to 3.6 GHz.
SERVER = machine(
    "0-47",
    khz=(800_000, 3_900_000),
    settings=CpufreqSettings(3_400_000, 3_600_000, "powersave", "balance_performance"),
)
NO_C6 = {"C1": True, "C1E": True, "POLL": True, "C6": False}
SEED = (
    profile(
        "balance-performance",
        max=2_900_000,
        min=2_700_000,
        epp="balance_performance",
        governor="powersave",
        names=NO_C6,
    ),
    profile(
        "balance-power",
        max=2_200_000,
        min=2_000_000,
        epp="balance_power",
        governor="powersave",
        names=NO_C6,
    ),
    profile(
        "performance", max="95%", min="75%", epp="performance", governor="powersave", names=NO_C6
    ),
    profile(
        "shared-power-saving",
        shared=True,
        max=1_800_000,
        min=800_000,
        epp="power",
        governor="powersave",
    ),
    workload(uses="shared-power-saving", reserved=[reserved("0-1,24-25")]),
)
EXAMPLE = allocation(
    [
        pod(
            asking(2, "balance-performance", name="example-container", id="cri-o://e91d"),
            name="example-pod",
            uid="u1",
        )
    ],
    [owns("2,26", "example-pod", "example-container")],
)


def lines(
    *objects: Any, on: Machine, with_: Any = None, shown: Machine | None = None, **more: Any
) -> PowerNodeStatus:
    """What PowerNode shows of these objects."""
    return power_node(
        plan(*objects, on=on, with_=with_),
        shown or on,
        more.get("devices", ()),
        more.get("workload_of", {}),
    )


def state(
    found: NodePlan | None = None,
    last: Pass = Pass(),
    shown: Machine | None = None,
    features: Sequence[tuple[str, bool, str]] = (),
    **more: Any,
) -> PowerNodeStateStatus:
    """What PowerNodeState shows of a plan."""
    return node_state(
        found or plan(), shown or machine(), last, features, more.get("workload_of", {})
    )


def condition(
    kind: str, last: Pass = Pass(), found: NodePlan | None = None
) -> tuple[str, str, str]:
    """Status, reason and message of a condition."""
    item = next(item for item in state(found, last).conditions if item.type == kind)
    return item.status, item.reason, item.message


def outcome(status: Status, path: str = "cpu/policy0/scaling_min_freq") -> Outcome:
    """How a file ended up."""
    return Outcome(path, "freq:0", status, "800000", "900000")


# --- lines ---


def test_the_example_of_the_source_documents() -> None:
    """Every line as they print it, but for the order of powerWorkloads, which is sorted here."""
    found = lines(
        *SEED,
        on=SERVER,
        with_=EXAMPLE,
        workload_of={"balance-performance": "performance-example-node-workload"},
    )
    assert found.power_profiles == (
        (
            "balance-performance: 2900000 || 2700000 || balance_performance || powersave ||"
            " enabled: C1,C1E,POLL; disabled: C6"
        ),
        (
            "balance-power: 2200000 || 2000000 || balance_power || powersave || enabled:"
            " C1,C1E,POLL; disabled: C6"
        ),
        "performance: 95% || 75% || performance || powersave || enabled: C1,C1E,POLL; disabled: C6",
        "shared-power-saving: 1800000 || 800000 || power || powersave || enabled: C1,C1E,C6,POLL",
    )
    assert found.power_workloads == (
        "balance-performance: balance-performance || 2,26",
        "balance-power: balance-power || ",
        "performance: performance || ",
    )
    assert found.reserved_pools == ("3600000 || 3400000 || 0-1,24-25",)
    assert found.shared_pool == "shared-power-saving || 1800000 || 800000 || 3-23,27-47"
    (item,) = found.power_containers
    assert (item.exclusive_cpus, item.id, item.name, item.pod) == (
        (2, 26),
        "cri-o://e91d",
        "example-container",
        "example-pod",
    )
    assert (item.power_profile, item.workload) == (
        "balance-performance",
        "performance-example-node-workload",
    )


def test_absolute_values_are_khz_and_left_out_ones_the_hardware_s() -> None:
    """MHz are multiplied; percentages stay as they were written; nothing stands for a left-out EPP;
    the governor is the one in force.
    """
    found = lines(
        profile("mhz", max=2900),
        profile("none"),
        profile("share", shared=True, min="10%", max=3000),
        on=machine(idle=()),
    )
    assert found.power_profiles == (
        "mhz: 2900000 || 800000 ||  || powersave || ",
        "none: 3700000 || 800000 ||  || powersave || ",
        "share: 3000000 || 10% ||  || powersave || ",
    )


def test_idle_states_are_told_as_they_were_asked() -> None:
    """A latency as such, of names those that are named; where nothing is said, what is on by
    default.
    """
    head = "performance: 3700000 || 800000 ||  || powersave || "
    for fields, text in (
        ({"max_latency_us": 9}, "maxLatency: 9"),
        ({"names": {"C6": False}}, "disabled: C6"),
        ({"names": {"C6": True}}, "enabled: C6"),
        ({"names": {"C6": False, "C1E": False, "C1": True}}, "enabled: C1; disabled: C1E,C6"),
        ({}, "enabled: C1,C1E,C6,POLL"),
    ):
        assert lines(profile(**fields), on=machine()).power_profiles == (f"{head}{text}",)
    assert lines(
        profile(governor="schedutil"), on=machine(driver="acpi-cpufreq", idle=())
    ).power_profiles == ("performance: 3700000 || 800000 ||  || schedutil || ",)


def test_an_invalid_profile_has_no_line() -> None:
    """Neither among the profiles nor among the workloads; PowerNodeState says why."""
    found = lines(profile(min="90%", max="10%"), on=machine())
    assert (found.power_profiles, found.power_workloads) == ((), ())


def test_reserved_pools_are_one_line_for_each_profile() -> None:
    """Sorted; CPUs without a profile show what the first of them shows."""
    shown = machine(ranges={0: (900_000, 3_100_000), 1: (700_000, 3_000_000)})
    found = lines(
        profile(min=2000, max=2500),
        node_config(reserved=[reserved("0-1"), reserved("3", "performance")]),
        on=shown,
    )
    assert found.reserved_pools == ("2500000 || 2000000 || 3", "3100000 || 900000 || 0-1")


def test_a_shared_pool_without_its_profile_shows_what_is_there() -> None:
    """The first CPU's values; no profile is named."""
    assert lines(workload(uses="ghost"), on=machine()).shared_pool == " || 3700000 || 800000 || 0-3"


def test_what_nothing_covers_is_unaffected() -> None:
    """All that is neither shared nor owned, nor reserved under a profile."""
    found = lines(
        node_config(reserved=[reserved("0")]),
        on=machine("0-5"),
        with_=allocation([pod()], [owns("2-3")]),
    )
    assert (found.unaffected_cores, found.shared_pool) == ("0-1,4-5", "")


def test_containers_and_devices_are_sorted() -> None:
    """By namespace, pod and container."""
    pods = [
        pod(asking(1, name="b"), asking(1, name="a"), name="z"),
        pod(asking(1), name="y", namespace="ns0"),
    ]
    reports = [owns("1", "z", "b"), owns("2", "z", "a"), owns("3", "y", namespace="ns0")]
    found = lines(profile(), on=machine(), with_=allocation(pods, reports), devices=("x/b", "x/a"))
    assert [
        (item.namespace, item.pod, item.name, *item.exclusive_cpus)
        for item in found.power_containers
    ] == [
        ("ns0", "y", "app", 3),
        ("ns1", "z", "a", 2),
        ("ns1", "z", "b", 1),
    ]
    assert found.custom_devices == ("x/a", "x/b")


def test_a_machine_without_frequencies_has_empty_words() -> None:
    """The form of a line does not depend on the machine."""
    found = lines(profile("shared", shared=True), workload(), on=machine(driver=None))
    assert (found.power_profiles[0], found.shared_pool) == (
        "shared:  ||  ||  ||  || enabled: C1,C1E,C6,POLL",
        "shared ||  ||  || 0-3",
    )


# --- fields ---


def test_a_whole_state() -> None:
    """Pools, sizes, values and uncore of a small node; plain exclusive CPUs run under the shared
    profile.
    """
    on = machine("0-5", offline="5", idle=(("C1", 2),), uncore=(die(),))
    objects = (
        profile(min=2000, max=3000),
        profile("shared", shared=True, max=1500),
        workload(reserved=[reserved("0")]),
        uncore(sys_min=900_000, sys_max=1_000_000),
    )
    given = allocation(
        [pod(), pod(container(cpu=1), name="plain", uid="u")], [owns("1-2"), owns("3", "plain")]
    )
    found = state(plan(*objects, on=on, with_=given), shown=on, workload_of={"performance": "w"})
    assert found.sizes == PoolSizes(shared=1, reserved=1, exclusive=3, unmanaged=0, offline=1)
    assert (found.shared_pool, found.reserved_pools) == (
        (PoolState("4", "shared"),),
        (PoolState("0"),),
    )
    owned = [
        (item.pod, item.exclusive_cpus, item.power_profile, item.workload)
        for item in found.exclusive_pools
    ]
    assert owned == [("plain", (3,), "shared", ""), ("web", (1, 2), "performance", "w")]
    shows = values(
        min_khz=800_000,
        max_khz=3_700_000,
        governor="powersave",
        epp="balance_performance",
        idle_on=("C1",),
    )
    assert found.values == (
        CpuValues("0", values(), shows),
        CpuValues("1-2", values(min_khz=2_000_000, max_khz=3_000_000, governor="powersave"), shows),
        CpuValues("3-4", values(min_khz=800_000, max_khz=1_500_000, governor="powersave"), shows),
    )
    assert found.uncore is not None
    assert found.uncore.entries == (
        UncoreState("package_00_die_00", 900_000, 1_000_000, 800_000, 2_400_000),
    )
    assert found.omitted is None


def test_problems_are_told_errors_first_and_no_more_than_have_room() -> None:
    """What is left out is counted; a long message ends in an ellipsis."""
    many = [
        warning(Code.RESERVED_DIFFERS, f"A/{number}", "", "x" * 500) for number in range(40)
    ] + [error(Code.POD_COUNT, "Z/z", "spec", "short")]
    found = state(evolve(plan(), problems=tuple(many)))
    assert (
        found.problems[0].severity,
        found.problems[0].code,
        found.problems[0].object,
        found.problems[0].message,
    ) == (Severity.ERROR, "pod-count", "Z/z", "short")
    assert len(found.problems) + (found.omitted or 0) == 41
    assert 5 < len(found.problems) < 41
    assert found.problems[1].message == "x" * (LONGEST_MESSAGE - 1) + "…"


# --- conditions ---


def test_a_node_on_which_all_is_well() -> None:
    """Conditions are sorted by type; a feature that is missing says why."""
    found = state(features=[("cpufreq", True, "intel_pstate"), ("uncore", False, "no such folder")])
    assert found.conditions == (
        Condition("CpufreqSupported", "True", "Found", "intel_pstate"),
        Condition("Drifted", "False", "NoDrift"),
        Condition("IntentValid", "True", "Valid"),
        Condition("PodResources", "True", "Answered"),
        Condition("Ready", "True", "Settled"),
        Condition("UncoreSupported", "False", "Missing", "no such folder"),
    )


def test_a_limited_value_is_no_fault() -> None:
    """The request is registered; the message counts the files."""
    status, reason, message = condition(
        "Ready", Pass((outcome(Status.LIMITED), outcome(Status.LIMITED, "b")))
    )
    assert (status, reason) == ("True", "Settled")
    assert message == "2 files are rounded by the kernel or limited by another party"


@pytest.mark.parametrize("status", [Status.FAILED, Status.UNSETTLED, Status.OFFLINE])
def test_a_file_that_does_not_show_what_was_written_is_not_settled(status: Status) -> None:
    """The first one is named with what it shows; limited ones are not counted."""
    found = condition("Ready", Pass((outcome(Status.LIMITED, "a"), outcome(status)), settled=False))
    why = ": EIO" if status is Status.FAILED else ""
    assert found == (
        "False",
        "NotSettled",
        (
            "1 files do not show what was written: cpu/policy0/scaling_min_freq wanted 800000,"
            f" shows 900000{why}"
        ),
    )


def test_a_pass_that_did_not_settle_is_not_ready_also_without_a_file_to_name() -> None:
    """The wait ran out."""
    assert condition("Ready", Pass(settled=False))[:2] == ("False", "NotSettled")


def test_a_refusal_says_why() -> None:
    """It goes before all that the pass might have found."""
    assert condition(
        "Ready", Pass((outcome(Status.FAILED),), refused="state file is damaged", measure_only=True)
    ) == ("False", "Refused", "state file is damaged")


def test_what_the_self_test_found_is_not_ready_though_all_else_is_in_force() -> None:
    """With errno and remedy; a pass that failed goes before it."""
    lines = ("cpu3/cpuidle/state2/disable: EPERM: needs CAP_SYS_ADMIN",)
    assert condition("Ready", Pass(forbidden=lines)) == ("False", "Forbidden", lines[0])
    assert (
        condition("Ready", Pass((outcome(Status.FAILED),), settled=False, forbidden=lines))[1]
        == "NotSettled"
    )


def test_measuring_only_is_ready() -> None:
    """Nothing was to be written, so nothing is missing."""
    assert condition("Ready", Pass((outcome(Status.UNSETTLED),), settled=False, measure_only=True))[
        :2
    ] == ("True", "MeasureOnly")


def test_foreign_values_name_file_and_owner() -> None:
    """Ours first, then what was found."""
    drift = (
        Write("cpu/policy0/scaling_governor", "powersave", "performance", "freq:0", Reason.DRIFT),
        Write("b", "1", "2", "g", Reason.DRIFT),
    )
    who, text = (
        "2 files were changed by somebody else",
        "cpu/policy0/scaling_governor powersave -> performance",
    )
    assert condition("Drifted", Pass(drift=drift, owners=("tuned", "stalld"))) == (
        "True",
        "ForeignValue",
        f"{who}, perhaps by tuned or stalld: {text}",
    )
    assert condition("Drifted", Pass(drift=drift)) == ("True", "ForeignValue", f"{who}: {text}")


def test_a_kubelet_that_does_not_answer_is_said() -> None:
    """And what that means."""
    status, reason, message = condition("PodResources", Pass(answered=False))
    assert (status, reason) == ("False", "NotAnswered")
    assert "left as they are" in message


def test_errors_of_the_intent_are_counted() -> None:
    """Warnings are not."""
    problems = (
        error(Code.POD_COUNT, "Pod/a/b", "", "x"),
        error(Code.POD_COUNT, "Pod/a/c", "", "x"),
        warning(Code.POD_OVERLAP, "Pod/a/b", "", "y"),
    )
    assert condition("IntentValid", Pass(), evolve(plan(), problems=problems)) == (
        "False",
        "HasErrors",
        "2 errors, see problems",
    )
    assert condition("IntentValid", Pass(), evolve(plan(), problems=problems[2:])) == (
        "True",
        "Valid",
        "",
    )


def test_a_condition_keeps_its_time_while_its_status_is_the_same() -> None:
    """Another reason or message is no transition; a condition that was not there begins now."""
    eight, nine = "2026-01-31T08:00:00Z", "2026-01-31T09:00:00Z"
    first = stamped(
        (Condition("Ready", "True", "Settled"), Condition("Drifted", "False", "NoDrift")),
        (),
        moment(8),
    )
    assert {item.last_transition_time for item in first} == {eight}
    second = stamped(
        (
            Condition("Ready", "True", "MeasureOnly", "x"),
            Condition("Drifted", "True", "ForeignValue"),
            Condition("New", "True", "N"),
        ),
        first,
        moment(9),
    )
    assert [(item.type, item.last_transition_time) for item in second] == [
        ("Ready", eight),
        ("Drifted", nine),
        ("New", nine),
    ]
    assert second[0].message == "x"


def test_a_whole_state_in_the_form_of_the_earlier_operator() -> None:
    """Field by field as its programs read it; a CPU list is text for pools and numbers for
    containers.
    """
    on = machine("0-4", uncore=(die(),))
    objects = (
        profile(min=2000, max=3000, governor="powersave", epp="power", cpu_capacity="50%"),
        profile("shared", shared=True, max=1500),
        node_config(uses="shared", reserved=[reserved("0")]),
        uncore(sys_min=900_000, sys_max=1_000_000),
    )
    found = state(plan(*objects, on=on, with_=allocation([pod()], [owns("1-2")])), shown=on)
    assert document_of(found.cpu_pools) == {
        "shared": {
            "powerProfile": "shared",
            "powerNodeConfig": "pools",
            "cpuIDs": "3-4",
            "errors": [],
        },
        "reserved": [
            {"powerNodeConfig": "pools", "powerProfileCPUs": [{"cpuIDs": "0", "errors": []}]}
        ],
        "exclusive": [
            {
                "podUID": "uid-web",
                "pod": "web",
                "powerContainers": [
                    {"name": "app", "powerProfile": "performance", "cpuIDs": [1, 2], "errors": []}
                ],
            }
        ],
    }
    assert document_of(found.power_profiles[0]) == {
        "name": "performance",
        "config": (
            "Min: 2000000, Max: 3000000, Governor: powersave, EPP: power, C-states: enabled:"
            " C1,C1E,C6,POLL, Capacity: 50% (2 CPUs)"
        ),
        "errors": [],
    }
    assert found.uncore is not None
    assert (found.uncore.name, found.uncore.config, found.uncore.errors) == (
        "node-1", "0.9..1 GHz: Uncore/node-1 spec.sysMin, rounded down to 100 MHz", (),
    )  # fmt: skip


def test_errors_stand_beside_what_they_are_about() -> None:
    """As the earlier operator has it: with the profile, the pool and the container."""
    objects = (profile(max=99_000), node_config(uses="absent"), uncore(sys_min=1, sys_max=2))
    on = machine("0-4", uncore=(die(),))
    found = state(
        plan(*objects, on=on, with_=allocation([pod(asking(3, cpu=2))], [owns("1-2")])), shown=on
    )
    assert found.cpu_pools is not None
    assert found.cpu_pools.shared is not None
    assert "3.7 GHz" in found.power_profiles[0].errors[0]
    assert "absent" in found.cpu_pools.shared.errors[0]
    assert "asks for 3" in found.cpu_pools.exclusive[0].power_containers[0].errors[0]
