"""Custom resources, pods and nodes between mappings and values: every field there and back,
strictly.
"""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from attrs import fields, has
from hypothesis import given
from hypothesis import strategies as st

from kpm.formats.pods import structure_node, structure_pod
from kpm.formats.wire import (
    KINDS,
    WireError,
    api_name,
    converter,
    parse_time,
    structure_object,
    structure_plain,
)
from kpm_planner.model.cluster import LabelSelector, Node, NodeSelector, Requirement
from kpm_planner.model.objects import CStates, PStates, ReservedCpus
from kpm_planner.model.objects import PowerProfile as Profile
from kpm_planner.model.problems import Code
from kpm_planner.profile_rules import validate_profile
from tests.kpm.cli_rig import examples
from tests.kpm.object_samples import (
    GROUP,
    INTEL_GROUP,
    OBJECTS,
    OURS,
    pod,
    profile,
    sample,
    set_at,
    workload,
)
from tests.kpm.random_samples import own_objects


def spec_of(obj: Any) -> dict[str, Any]:
    """The spec that gives an object, without what does not come from it."""
    return {
        key: value
        for key, value in converter().unstructure(obj).items()
        if not key.startswith("\0")
    }


# --- our kinds ---


@pytest.mark.parametrize("name", OURS)
def test_every_field_there_and_back(name: str) -> None:
    obj = structure_object(OBJECTS[name])
    again = structure_object({**OBJECTS[name], "spec": spec_of(obj)})
    assert again == obj
    assert again.meta.labels == obj.meta.labels


@given(own_objects())
@examples(100)
def test_any_object_there_and_back(document: dict[str, Any]) -> None:
    obj = structure_object(document)
    assert structure_object({**document, "spec": spec_of(obj)}) == obj


#: What operators before this one had; samples of its own below.
EARLIER = {"PowerProfile": {"min", "max", "governor", "epp"}, "PowerConfig": {"powerProfiles"}}


def api_fields(kind: type) -> set[str]:
    return {
        api_name(item.name) for item in fields(kind) if item.name not in ("meta", "group")
    } - EARLIER.get(kind.__name__, set())


@pytest.mark.parametrize("kind", KINDS)
def test_the_samples_have_every_field(kind: str) -> None:
    """So that what is shown for the samples is shown for all of the API."""

    def check(cls: type, values: list[dict[str, Any]]) -> None:
        assert api_fields(cls) <= {key for value in values for key in value}, cls
        for item in fields(cls):
            inner = [
                arg
                for arg in (item.type, *getattr(item.type, "__args__", ()))
                if isinstance(arg, type) and has(arg) and arg.__name__ != "Meta"
            ]
            for part in inner:
                below = [
                    value[api_name(item.name)] for value in values if api_name(item.name) in value
                ]
                check(
                    part,
                    [
                        entry
                        for value in below
                        for entry in (value if isinstance(value, list) else [value])
                    ],
                )

    check(KINDS[kind], [item["spec"] for item in OBJECTS.values() if item["kind"] == kind])


def test_a_profile_in_full() -> None:
    found = structure_object(sample("PowerProfile"))
    assert (found.meta.name, found.meta.namespace, found.meta.uid, found.group) == (
        "fast",
        "power-manager",
        "uid-fast",
        "power.openshift.io",
    )
    assert found.meta.created == datetime(2026, 1, 31, 8, tzinfo=UTC)
    assert (found.name, found.shared, found.cpu_capacity) == ("fast", False, "50%")
    assert found.pstates == PStates(1200, "80%", "userspace", "performance", "balance-power")
    assert found.cstates.names == {"C1": True, "C6": False}
    assert found.node_selector is not None
    assert found.node_selector.label_selector is not None
    assert found.node_selector.label_selector.match_labels == {
        "role": "worker",
        "kubernetes.io/hostname": "n",
    }
    assert found.node_selector.label_selector.match_expressions == (
        Requirement("zone", "In", ("a", "b")),
        Requirement("gpu", "DoesNotExist"),
    )
    policy = found.cpu_scaling_policy
    assert policy is not None
    assert (policy.workload_type, policy.sample_period, policy.cooldown_period) == (
        "polling-dpdk",
        "10ms",
        "30ms",
    )
    assert (
        policy.target_usage,
        policy.allowed_usage_difference,
        policy.allowed_frequency_difference,
    ) == (80, 5, 25)
    assert (policy.scale_percentage, policy.fallback_freq_percent) == (50, 50)


@pytest.mark.parametrize("name", KINDS)
def test_a_spec_may_be_left_out(name: str) -> None:
    """Everything has a default; null and {} are the same as nothing."""
    bare = {"apiVersion": INTEL_GROUP, "kind": name, "metadata": {"name": "x"}}
    found = structure_object(bare)
    assert (
        found
        == structure_object({**bare, "spec": None})
        == structure_object({**bare, "spec": {}})
        == structure_object({**bare, "status": {"any": 1}})
    )
    assert found.group == "power.intel.com"
    assert found.meta.namespace is None
    assert found.meta.created is None
    assert spec_of(found) == {}


def test_names_of_the_api() -> None:
    assert [
        api_name(name)
        for name in (
            "reserved_cpus",
            "max_latency_us",
            "power_node_selector",
            "min",
            "cpu_capacity",
            "fallback_freq_percent",
            "min_mhz",
        )
    ] == [
        "reservedCPUs",
        "maxLatencyUs",
        "powerNodeSelector",
        "min",
        "cpuCapacity",
        "fallbackFreqPercent",
        "minMHz",
    ]


def test_reserved_cpus_in_both_forms() -> None:
    """The older form is a plain list of numbers."""
    short, long = (
        structure_object(workload("w", "p", reservedCPUs=[0, 1])),
        structure_object(workload("w", "p", reservedCPUs=[{"cores": [0, 1]}])),
    )
    assert short == long
    assert short.reserved_cpus == (ReservedCpus((0, 1)),)
    assert structure_object(workload("w", "p", reservedCPUs=[])).reserved_cpus == ()
    for mixed in ([0, {"cores": [1]}], [True], ["0"], [0.0], [0, None]):
        with pytest.raises(WireError, match=r"^spec\.reservedCPUs\[\d\]"):
            structure_object(workload("w", "p", reservedCPUs=mixed))


@pytest.mark.parametrize("value", [1, 0, -5, 10**12, "40%", "", "x"])
def test_a_frequency_is_kept_as_it_was_written(value: object) -> None:
    """What it means is judged by the planner, with the machine at hand."""
    found = structure_object(profile("p", pstates={"min": value, "max": value}, cpuCapacity=value))
    assert (found.pstates.min, found.pstates.max, found.cpu_capacity) == (value, value, value)


@pytest.mark.parametrize("value", ["800000", 1.9, True, 2.0, [1], {}])
@pytest.mark.parametrize(
    "path", [("spec", "amd", "dfPstateMin"), ("spec", "dieSelector", 0, "die")]
)
def test_a_whole_number_is_a_whole_number(value: object, path: tuple[str | int, ...]) -> None:
    with pytest.raises(WireError, match=r"expected a whole number, got "):
        structure_object(set_at(OBJECTS["Uncore"], path, value))


def test_nulls_are_left_out_at_every_depth() -> None:
    found = structure_object(
        profile(
            "p",
            pstates={"min": None, "max": 5},
            nodeSelector={"labelSelector": {"matchLabels": None, "matchExpressions": None}},
            cstates=None,
        )
    )
    assert found.pstates == PStates(max=5)
    assert found.node_selector == NodeSelector(LabelSelector())
    assert found.cstates == CStates()


def test_the_first_fault_is_named_in_the_users_words() -> None:
    faults = {
        (
            "spec",
            "nodeSelector",
            "labelSelector",
            "matchExpressions",
            1,
            "operator",
        ): "spec.nodeSelector.labelSelector.matchExpressions[1].operator",
        (
            "spec",
            "cpuScalingPolicy",
            "fallbackFreqPercent",
        ): "spec.cpuScalingPolicy.fallbackFreqPercent",
        ("spec", "cstates", "names", "C6"): "spec.cstates.names.C6",
        (
            "spec",
            "nodeSelector",
            "labelSelector",
            "matchLabels",
            "kubernetes.io/hostname",
        ): "spec.nodeSelector.labelSelector.matchLabels.kubernetes.io/hostname",
    }
    for path, named in faults.items():
        with pytest.raises(WireError) as failure:
            structure_object(set_at(OBJECTS["PowerProfile"], path, 1.5))
        assert str(failure.value).startswith(f"{named}: expected ")
    with pytest.raises(
        WireError,
        match=r"^spec\.nodeSelector\.labelSelector\.matchExpressions\[0\]\.key: is missing",
    ):
        structure_object(
            profile("p", nodeSelector={"labelSelector": {"matchExpressions": [{"operator": "In"}]}})
        )


def test_a_key_that_looks_like_ours_is_no_way_in() -> None:
    for key in ("\0meta", "\0group", "meta", "group"):
        with pytest.raises(WireError, match="is no field here"):
            structure_object(profile("p", **{key: "power.intel.com"}))


@given(
    st.datetimes(
        min_value=datetime(1, 1, 2),  # noqa: DTZ001  # naive by the library's rule
        max_value=datetime(9999, 12, 30),  # noqa: DTZ001
        timezones=st.sampled_from([UTC]),
    ),
    st.integers(-23 * 60, 23 * 60),
)
@examples(100)
def test_times_are_points_in_time(moment: datetime, minutes: int) -> None:
    """In any offset, with or without a fraction; with none at all it is UTC."""
    sign, hours, rest = ("-" if minutes < 0 else "+", *divmod(abs(minutes), 60))
    shifted = (moment.replace(tzinfo=None) + timedelta(0)).isoformat()
    found = parse_time(f"{shifted}{sign}{hours:02d}:{rest:02d}", "x")
    assert found.tzinfo is not None
    assert found.utcoffset() == timedelta(minutes=minutes)
    assert parse_time(f"{shifted}Z", "x") == parse_time(shifted, "x") == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-13-01T00:00:00Z",
        "2026-01-31T25:00:00Z",
        "1769846400",
        "2026-01-31T08:00:00Mars",
    ],
)
def test_a_time_that_is_none(text: str) -> None:
    with pytest.raises(WireError, match=r"^x: expected a time such as"):
        parse_time(text, "x")


def test_any_class_can_be_read_plainly_over_a_base() -> None:
    base = PStates(1, 2, "performance", "power")
    assert structure_plain({"max": 7}, PStates, "x", base=base) == PStates(
        1, 7, "performance", "power"
    )
    assert structure_plain({"epp": None}, PStates, "x", base=base).epp is None, (
        "a null takes away what the base has"
    )
    assert structure_plain({"max": 7}, PStates, "x") == PStates(max=7)
    with pytest.raises(
        WireError, match=r"^x\.top: is no field here; allowed are min, max, governor, epp"
    ):
        structure_plain({"top": 7}, PStates, "x", base=base)


def test_values_are_values() -> None:
    """Equal input gives equal values, which can stand in a set."""
    for name in OURS:
        assert len({structure_object(sample(name)), structure_object(sample(name))}) == 1
    assert isinstance(structure_object(sample("PowerProfile")), Profile)


# --- pods and nodes ---


def limits(cpu: object = "1", memory: object = "1Gi", **more: object) -> dict[str, Any]:
    return {"resources": {"limits": {"cpu": cpu, "memory": memory, **more}}}


def a_pod(
    containers: list[dict[str, Any]], status: dict[str, Any] | None = None, **spec: Any
) -> Any:
    named = [{"name": f"c{index}", **item} for index, item in enumerate(containers)]
    return structure_pod(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p"},
            "spec": {"containers": named, **spec},
            **({"status": status} if status is not None else {}),
        }
    )


def test_a_node() -> None:
    assert structure_node(
        {"metadata": {"name": "n", "labels": {"a": "b"}}, "spec": 7, "status": []}
    ) == Node("n", {"a": "b"})
    assert structure_node({"metadata": {"name": "n", "labels": None}}).labels == {}


def test_a_pod_in_full() -> None:
    found = structure_pod(sample("Pod"))
    assert (found.meta.name, found.meta.namespace, found.node, found.phase) == (
        "web",
        "default",
        "n",
        "Running",
    )
    assert found.started == datetime(2026, 1, 31, 8, 0, 1, tzinfo=UTC)
    assert [item.name for item in found.containers] == [
        "app",
        "log",
        "side",
    ], "an ordinary init container owns nothing for long"
    app, log, _ = found.containers
    assert app.cpu == (2, 2)
    assert app.memory == (2**30, 2**30)
    assert app.resources == (("power.openshift.io/fast", 2),)
    assert (app.id, app.finished) == ("containerd://1", False)
    assert log.cpu == (Fraction(1, 2), Fraction(1, 2))
    assert found.guaranteed
    assert found.live


@pytest.mark.parametrize(
    ("containers", "guaranteed"),
    [
        ([limits()], True),
        ([limits(), limits("500m")], True),
        ([limits("1500m")], True),
        ([limits(), {}], False),
        ([{}], False),
        ([], False),
        ([{"resources": {"limits": {"cpu": "1"}}}], False),
        ([{"resources": {"limits": {"memory": "1Gi"}}}], False),
        ([{"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}], False),
        (
            [{"resources": {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1"}}}],
            False,
        ),
        (
            [
                {
                    "resources": {
                        "limits": {"cpu": "2", "memory": "1Gi"},
                        "requests": {"cpu": "2000m", "memory": "1024Mi"},
                    }
                }
            ],
            True,
        ),
        ([{"resources": {"limits": {"cpu": 0, "memory": "1Gi"}}}], False),
    ],
)
def test_guaranteed_is_computed_as_the_api_server_does(
    containers: list[dict[str, Any]], guaranteed: bool
) -> None:
    assert a_pod(containers).guaranteed is guaranteed
    assert a_pod(containers, {"qosClass": "Guaranteed"}).guaranteed is True, (
        "what the API server says goes before"
    )
    assert a_pod(containers, {"qosClass": "Burstable"}).guaranteed is False


def test_init_containers_count_for_guaranteed_and_sidecars_own_cpus() -> None:
    assert a_pod([limits()], initContainers=[{"name": "i", **limits()}]).guaranteed
    assert not a_pod([limits()], initContainers=[{"name": "i"}]).guaranteed
    found = a_pod(
        [limits()],
        initContainers=[
            {"name": "i", **limits()},
            {"name": "s", "restartPolicy": "Always", **limits(2)},
        ],
    )
    assert [(item.name, item.cpu[0]) for item in found.containers] == [("c0", 1), ("s", 2)]


def test_resources_of_the_pod_as_a_whole() -> None:
    whole = {"limits": {"cpu": "2", "memory": "1Gi"}}
    assert a_pod([{}], resources=whole).guaranteed
    assert not a_pod(
        [limits()], resources={"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1"}}
    ).guaranteed


def test_requests_are_limits_where_left_out() -> None:
    (found,) = a_pod(
        [
            {
                "resources": {
                    "limits": {"cpu": "2", "x/y": 3},
                    "requests": {"x/y": 1, "x/z": 4, "hugepages-2Mi": 1},
                }
            }
        ]
    ).containers
    assert found.cpu == (2, 2)
    assert found.resources == (("x/y", 1), ("x/z", 4))
    (only,) = a_pod([{"resources": {"requests": {"cpu": "2"}}}]).containers
    assert only.cpu == (2, None)


@pytest.mark.parametrize(
    ("policy", "code", "finished"),
    [
        ("Never", 0, True),
        ("Never", 1, True),
        ("OnFailure", 0, True),
        ("OnFailure", 1, False),
        ("Always", 0, False),
        ("Always", 1, False),
        (None, 0, False),
    ],
)
def test_a_container_has_finished_for_good(policy: str | None, code: int, finished: bool) -> None:
    status = {
        "containerStatuses": [
            {"name": "c0", "containerID": "cri-o://1", "state": {"terminated": {"exitCode": code}}}
        ]
    }
    (found,) = a_pod([limits()], status, **({"restartPolicy": policy} if policy else {})).containers
    assert (found.finished, found.id) == (finished, "cri-o://1")
    (running,) = a_pod(
        [limits()],
        {
            "containerStatuses": [
                {
                    "name": "c0",
                    "state": {"waiting": {}},
                    "lastState": {"terminated": {"exitCode": 0}},
                }
            ]
        },
        restartPolicy="Never",
    ).containers
    assert not running.finished


def test_a_sidecar_is_restarted_whatever_the_pod_says() -> None:
    status = {"initContainerStatuses": [{"name": "s", "state": {"terminated": {"exitCode": 0}}}]}
    found = a_pod(
        [limits()],
        status,
        initContainers=[{"name": "s", "restartPolicy": "Always"}],
        restartPolicy="Never",
    )
    assert [item.finished for item in found.containers] == [False, False]


def test_phases() -> None:
    """A deletionTimestamp changes nothing; Succeeded and Failed end it."""
    for phase, live in {
        "Pending": True,
        "Running": True,
        "Unknown": True,
        "": True,
        "Succeeded": False,
        "Failed": False,
    }.items():
        document = {**pod("p"), "status": {"phase": phase}}
        document["metadata"] |= {
            "deletionTimestamp": "2026-01-31T08:00:00Z",
            "deletionGracePeriodSeconds": 300,
        }
        assert structure_pod(document).live is live


def test_what_a_pod_may_leave_out() -> None:
    bare = structure_pod({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}})
    assert (bare.containers, bare.node, bare.phase, bare.started, bare.guaranteed) == (
        (),
        None,
        "",
        None,
        False,
    )
    empty = {"name": "p", "annotations": None, "labels": None}
    assert (
        structure_pod(
            {"apiVersion": GROUP, "kind": "Pod", "metadata": empty, "spec": None, "status": None}
        )
        == bare
    )


def test_claims_are_seen() -> None:
    (found,) = a_pod([{"resources": {"claims": [{"name": "gpu"}]}}]).containers
    assert found.claims
    assert not a_pod([limits()]).containers[0].claims


FLAT = {
    "name": "fast",
    "max": 3700,
    "min": 3400,
    "epp": "balance-performance",
    "governor": "powersave",
}


@pytest.mark.parametrize("group", ["power.intel.com", "power.amdepyc.com", "power.openshift.io"])
def test_a_profile_as_earlier_operators_wrote_it_means_what_it_meant(group: str) -> None:
    """Its fields beside pstates are read, whatever the group; the words of their EPPs too."""
    document = {
        "apiVersion": f"{group}/v1",
        "kind": "PowerProfile",
        "metadata": {"name": "fast"},
        "spec": FLAT,
    }
    asked = structure_object(document).pstates
    assert (asked.min, asked.max, asked.epp, asked.governor) == (
        3400,
        3700,
        "balance_performance",
        "powersave",
    )


def test_what_pstates_says_beats_the_earlier_fields() -> None:
    """Each field by itself."""
    document = {
        "apiVersion": "power.intel.com/v1",
        "kind": "PowerProfile",
        "metadata": {"name": "fast"},
        "spec": {**FLAT, "pstates": {"max": 2000}},
    }
    obj = structure_object(document)
    assert (obj.pstates.min, obj.pstates.max) == (3400, 2000)
    told = {
        problem.field: problem.message
        for problem in validate_profile(obj)
        if problem.code is Code.PROFILE_EARLIER_FORM
    }
    assert told.keys() == {"spec.min", "spec.max", "spec.epp", "spec.governor"}
    assert "spec.pstates.max 2000 is used" in told["spec.max"]


@pytest.mark.parametrize("field", ["min", "max", "governor", "epp"])
def test_an_earlier_field_is_checked_as_those_of_pstates_are(field: str) -> None:
    """A value that is none is an error under the name that counts now."""
    wrong = {"min": "fast", "max": "101%", "governor": "turbo", "epp": "warp"}
    document = {
        "apiVersion": "power.intel.com/v1",
        "kind": "PowerProfile",
        "metadata": {"name": "fast"},
        "spec": {field: wrong[field]},
    }
    obj = structure_object(document)
    errors = [problem.field for problem in validate_profile(obj) if problem.severity == "error"]
    assert getattr(obj.pstates, field) == wrong[field]
    assert errors == ([] if field == "governor" else [f"spec.pstates.{field}"])
