"""Pods and the kubelet's answers, from files to the plan: one case for each thing that users have
hit (field reports 1 to 3, 20, 23 to 28).
"""

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen

from tests.kpm.cli_rig import kpm
from tests.kpm.object_samples import GROUP, POLICY, as_yaml, profile
from tests.kpm.tree_samples import INTEL, build_tree

FAST = "power.openshift.io/fast"
SHARED, OWNED, REFUSED, UNASKED = (
    ("shared", "slow"),
    ("exclusive", "fast"),
    ("exclusive", None),
    ("exclusive", "slow"),
)


def container(
    name: str = "app", requests: dict[str, object] | None = None, **more: Any
) -> dict[str, Any]:
    """A container; limits as given, or two CPUs and as many of profile fast."""
    limits = more.pop("limits", {"cpu": "2", "memory": "1Gi", FAST: "2"})
    return {
        "name": name,
        "resources": {"limits": limits, **({"requests": requests} if requests is not None else {})},
        **more,
    }


def a_pod(
    *containers: dict[str, Any],
    name: str = "web",
    status: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A running pod on the node."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{name}",
            **(metadata or {}),
        },
        "spec": {"nodeName": "n", "containers": list(containers or [container()]), **spec},
        "status": {"phase": "Running", **(status or {})},
    }


def reports(*entries: tuple[str, str, list[int]]) -> list[dict[str, Any]]:
    """An answer of the kubelet: (pod, container, CPUs)."""
    return [
        {"namespace": "default", "name": pod, "containers": [{"name": name, "cpuIds": cpus}]}
        for pod, name, cpus in entries
    ]


@frozen
class Case:
    """What is given, and what each of some CPUs must be: (pool, profile)."""

    pods: list[dict[str, Any]]
    answer: list[dict[str, Any]]
    cpus: dict[int, tuple[str, str | None]]
    codes: set[str] = field(factory=set)
    more: list[dict[str, Any]] = field(factory=list)

    @property
    def code(self) -> int:
        """Exit status: whether one of the problems is an error."""
        return (
            1
            if self.codes
            & {
                "pod-not-guaranteed",
                "pod-count",
                "pod-two-profiles",
                "pod-profile",
                "pod-without-cpus",
            }
            else 0
        )


APP = reports(("web", "app", [2, 3]))
LIMITS = {"cpu": "2", "memory": "1Gi"}


def _ended(code: int) -> dict[str, Any]:
    """The status of a pod whose container has ended."""
    return {"containerStatuses": [{"name": "app", "state": {"terminated": {"exitCode": code}}}]}


def _allocated(cpu: str) -> dict[str, Any]:
    """The status of a pod whose kubelet has admitted so much."""
    return {
        "containerStatuses": [{"name": "app", "allocatedResources": {"cpu": cpu, "memory": "1Gi"}}],
        "qosClass": "Guaranteed",
    }


def _rule(operator: str, *codes: int) -> dict[str, Any]:
    return {"action": "Restart", "exitCodes": {"operator": operator, "values": list(codes)}}


CONFIG = {
    "apiVersion": GROUP,
    "kind": "PowerConfig",
    "metadata": {"name": "c"},
    "spec": {"customDevices": ["example.com/cpus", "example.com/other"]},
}
CASES = {
    "two CPUs": Case([a_pod()], APP, {1: SHARED, 2: OWNED, 3: OWNED, 4: SHARED}),
    "2000m": Case(
        [a_pod(container(limits={"cpu": "2000m", "memory": "1Gi", FAST: 2}))], APP, {2: OWNED}
    ),
    "requests as well": Case(
        [a_pod(container(requests={"cpu": 2, "memory": "1024Mi", FAST: 2}))], APP, {2: OWNED}
    ),
    "one and a half": Case(
        [a_pod(container(limits={"cpu": "1500m", "memory": "1Gi", FAST: 2}))],
        reports(("web", "app", [1, 2, 3, 4, 5])),
        {1: SHARED, 2: SHARED, 5: SHARED},
        {"pod-not-guaranteed"},
    ),
    "one and a half, no profile": Case(
        [a_pod(container(limits={"cpu": "1500m", "memory": "1Gi"}))],
        reports(("web", "app", [1, 2, 3, 4])),
        {1: SHARED, 2: SHARED},
    ),
    "burstable": Case([a_pod(container(requests={"cpu": "1"}, limits=LIMITS))], APP, {2: SHARED}),
    "burstable that asks": Case(
        [a_pod(container(requests={"cpu": "1", FAST: 2}, limits={**LIMITS, FAST: 2}))],
        APP,
        {2: SHARED},
        {"pod-not-guaranteed"},
    ),
    "best effort": Case([a_pod({"name": "app"})], APP, {2: SHARED}),
    "another container makes it burstable": Case(
        [a_pod(container(), {"name": "log"})], APP, {2: SHARED}, {"pod-not-guaranteed"}
    ),
    "the API server says guaranteed": Case(
        [a_pod(container(), {"name": "log"}, status={"qosClass": "Guaranteed"})], APP, {2: OWNED}
    ),
    "fewer of the profile": Case(
        [a_pod(container(limits={**LIMITS, FAST: 1}))], APP, {2: REFUSED, 4: SHARED}, {"pod-count"}
    ),
    "more of the profile": Case(
        [a_pod(container(limits={**LIMITS, FAST: 3}))], APP, {2: REFUSED}, {"pod-count"}
    ),
    "two profiles": Case(
        [a_pod(container(limits={**LIMITS, FAST: 2, "power.openshift.io/slow": 2}))],
        APP,
        {2: REFUSED},
        {"pod-two-profiles"},
    ),
    "none of a profile": Case(
        [a_pod(container(limits={**LIMITS, FAST: 2, "power.openshift.io/slow": 0}))],
        APP,
        {2: OWNED},
    ),
    "a profile that is missing": Case(
        [a_pod(container(limits={**LIMITS, "power.openshift.io/none": 2}))],
        APP,
        {2: REFUSED},
        {"pod-profile"},
    ),
    "a profile that is shared": Case(
        [a_pod(container(limits={**LIMITS, "power.openshift.io/slow": 2}))],
        APP,
        {2: REFUSED},
        {"pod-profile"},
    ),
    "a profile of the other group": Case(
        [a_pod(container(limits={**LIMITS, "power.intel.com/fast": 2}))],
        APP,
        {2: REFUSED},
        {"pod-profile"},
    ),
    "no profile": Case([a_pod(container(limits=LIMITS))], APP, {1: SHARED, 2: UNASKED}),
    "other resources": Case(
        [
            a_pod(
                container(
                    limits={
                        **LIMITS,
                        FAST: 2,
                        "nvidia.com/gpu": 1,
                        "hugepages-2Mi": "2Mi",
                        "ephemeral-storage": "1Gi",
                    }
                )
            )
        ],
        APP,
        {2: OWNED},
    ),
    "an ordinary init container": Case(
        [a_pod(initContainers=[container("first")])], APP, {2: OWNED, 3: OWNED}
    ),
    "an ordinary init container that is reported": Case(
        [a_pod(initContainers=[container("first")])],
        reports(("web", "app", [2, 3]), ("web", "first", [2, 3, 4, 5])),
        {2: OWNED, 4: SHARED},
    ),
    "a sidecar": Case(
        [a_pod(initContainers=[container("side", restartPolicy="Always")])],
        reports(("web", "app", [2, 3]), ("web", "side", [4, 5])),
        {2: OWNED, 4: OWNED, 6: SHARED},
    ),
    "an ephemeral container": Case(
        [a_pod(ephemeralContainers=[{"name": "debug"}])],
        reports(("web", "app", [2, 3]), ("web", "debug", [4])),
        {2: OWNED, 4: SHARED},
    ),
    "two containers": Case(
        [
            a_pod(
                container(),
                container("b", limits={"cpu": 1, "memory": "1Gi", "power.openshift.io/quick": 1}),
            )
        ],
        [
            {
                "namespace": "default",
                "name": "web",
                "containers": [{"name": "app", "cpuIds": [2, 3]}, {"name": "b", "cpuIds": [5]}],
            }
        ],
        {2: OWNED, 3: OWNED, 4: SHARED, 5: ("exclusive", "quick")},
        more=[profile("quick", pstates={"min": 2000})],
    ),
    "ended well": Case([a_pod(status={"phase": "Succeeded"})], APP, {2: SHARED}),
    "evicted": Case([a_pod(status={"phase": "Failed", "reason": "Evicted"})], APP, {2: SHARED}),
    "on its way out": Case(
        [
            a_pod(
                metadata={
                    "deletionTimestamp": "2026-01-31T08:00:00Z",
                    "deletionGracePeriodSeconds": 300,
                }
            )
        ],
        APP,
        {2: OWNED},
    ),
    "pending and admitted": Case([a_pod(status={"phase": "Pending"})], APP, {2: OWNED}),
    "pending and not yet admitted": Case([a_pod(status={"phase": "Pending"})], [], {2: SHARED}),
    "of an unknown phase": Case([a_pod(status={"phase": "Unknown"})], APP, {2: OWNED}),
    "a job's container that is done": Case(
        [
            a_pod(
                restartPolicy="Never",
                status={
                    "containerStatuses": [{"name": "app", "state": {"terminated": {"exitCode": 0}}}]
                },
            )
        ],
        APP,
        {2: SHARED},
    ),
    "a container that will be restarted": Case(
        [
            a_pod(
                status={
                    "containerStatuses": [{"name": "app", "state": {"terminated": {"exitCode": 1}}}]
                }
            )
        ],
        APP,
        {2: OWNED},
    ),
    "a container that ends for good by its own policy": Case(
        [a_pod(container(restartPolicy="Never"), status=_ended(0))], APP, {2: SHARED}
    ),
    "a container that its own policy restarts": Case(
        [a_pod(container(restartPolicy="Always"), restartPolicy="Never", status=_ended(1))],
        APP,
        {2: OWNED},
    ),
    "a container that its own policy restarts on failure": Case(
        [a_pod(container(restartPolicy="OnFailure"), status=_ended(1))], APP, {2: OWNED}
    ),
    "a container that its own policy does not restart": Case(
        [a_pod(container(restartPolicy="OnFailure"), status=_ended(0))], APP, {2: SHARED}
    ),
    "a container that a rule restarts": Case(
        [
            a_pod(
                container(restartPolicy="Never", restartPolicyRules=[_rule("In", 42)]),
                status=_ended(42),
            )
        ],
        APP,
        {2: OWNED},
    ),
    "a container that no rule restarts": Case(
        [
            a_pod(
                container(restartPolicy="Never", restartPolicyRules=[_rule("In", 42)]),
                status=_ended(1),
            )
        ],
        APP,
        {2: SHARED},
    ),
    "a container that the rule for all others restarts": Case(
        [
            a_pod(
                container(restartPolicy="Never", restartPolicyRules=[_rule("NotIn", 42)]),
                status=_ended(1),
            )
        ],
        APP,
        {2: OWNED},
    ),
    "a resize that is infeasible": Case(
        [a_pod(container(limits={**LIMITS, "cpu": 3, FAST: 2}), status=_allocated("2"))],
        APP,
        {2: OWNED},
    ),
    "a resize that is deferred": Case(
        [a_pod(container(limits={**LIMITS, "cpu": "1", FAST: 2}), status=_allocated("2000m"))],
        APP,
        {2: OWNED},
    ),
    "a resize that an older kubelet tells": Case(
        [
            a_pod(
                container(limits={**LIMITS, "cpu": 3, FAST: 2}),
                status={
                    "containerStatuses": [
                        {"name": "app", "resources": {"requests": LIMITS, "limits": LIMITS}}
                    ]
                },
            )
        ],
        APP,
        {2: OWNED},
    ),
    "a sidecar whose resize is infeasible": Case(
        [
            a_pod(
                initContainers=[
                    container("side", restartPolicy="Always", limits={**LIMITS, "cpu": 4, FAST: 2})
                ],
                status={"initContainerStatuses": [{"name": "side", "allocatedResources": LIMITS}]},
            )
        ],
        reports(("web", "app", [2, 3]), ("web", "side", [4, 5])),
        {2: OWNED, 4: OWNED},
    ),
    "resources of the pod as a whole": Case(
        [a_pod(resources={"limits": LIMITS, "requests": LIMITS})],
        reports(("web", "app", [])),
        {2: SHARED},
        {"pod-without-cpus"},
    ),
    "resources of the pod alone": Case(
        [a_pod(container(limits={FAST: 2}), resources={"limits": LIMITS})],
        reports(("web", "app", [])),
        {2: SHARED},
        {"pod-not-guaranteed"},
    ),
    "running and not reported": Case([a_pod()], [], {2: ("shared", None)}, {"allocation-unknown"}),
    "running and reported without CPUs": Case(
        [a_pod()], reports(("web", "app", [])), {2: SHARED}, {"pod-without-cpus"}
    ),
    "reported and not known": Case([], APP, {2: REFUSED, 4: SHARED}, {"pod-unknown"}),
    "a custom device": Case(
        [a_pod(container(limits={"example.com/cpus": 2, FAST: 2}))], APP, {2: OWNED}, more=[CONFIG]
    ),
    "a device that nobody has named": Case(
        [a_pod(container(limits={"example.com/else": 2, FAST: 2}))],
        APP,
        {2: SHARED},
        {"pod-not-guaranteed"},
        [CONFIG],
    ),
    "a resource claim": Case(
        [
            a_pod(
                {"name": "app", "resources": {"limits": {FAST: 2}, "claims": [{"name": "c"}]}},
                resourceClaims=[{"name": "c"}],
            )
        ],
        APP,
        {2: OWNED},
    ),
    "overlap": Case(
        [
            a_pod(name="old", status={"startTime": "2026-01-31T08:00:00Z"}),
            a_pod(name="new", status={"startTime": "2026-01-31T10:00:00+01:00"}),
        ],
        reports(("old", "app", [2, 3]), ("new", "app", [3, 4])),
        {2: OWNED, 3: OWNED, 4: OWNED},
        {"pod-overlap"},
    ),
    "a static pod": Case(
        [
            a_pod(
                metadata={
                    "annotations": {"kubernetes.io/config.source": "file"},
                    "ownerReferences": [{"kind": "Node"}],
                }
            )
        ],
        APP,
        {2: OWNED},
    ),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tree(tmp_path_factory.mktemp("pods") / "sys", INTEL.__class__(cpus=8))


def plan_of(case: Case, root: Path, tmp_path: Path) -> tuple[int, dict[str, Any]]:
    (tmp_path / "answer.json").write_text(json.dumps({"podResources": case.answer}))
    ran = kpm(
        "plan",
        "-f",
        "-",
        "--sysfs",
        root,
        "--pod-resources",
        tmp_path / "answer.json",
        "-o",
        "json",
        stdin=as_yaml(*POLICY, *case.pods, *case.more),
    )
    assert not ran.complaints, ran.err
    return ran.code, json.loads(ran.out)


@pytest.mark.parametrize("name", CASES)
def test_a_pod(name: str, root: Path, tmp_path: Path) -> None:
    """Each of its lives and shapes, and which CPUs it has then (field reports 1, 26)."""
    case = CASES[name]
    code, plan = plan_of(case, root, tmp_path)
    (found,) = plan["nodes"]
    by_number = {item["cpu"]: item for item in found["cpus"]}
    assert {
        cpu: (by_number[cpu]["pool"], by_number[cpu]["profile"]) for cpu in case.cpus
    } == case.cpus, found["problems"]
    usual = {"sibling-conflict"}
    assert {item["code"] for item in found["problems"]} - usual == case.codes
    assert code == case.code
    for item in found["problems"]:
        if item["code"].startswith("pod-"):
            assert item["object"].startswith("Pod/default/")
    refused = [by_number[cpu] for cpu, wanted in case.cpus.items() if wanted == REFUSED]
    assert all(
        (item["minKHz"], item["maxKHz"], item["epp"], item["cstates"]) == (None,) * 4
        for item in refused
    ), "a mistake does not slow a pod (R8)"


def test_the_later_of_two_has_the_cpu(root: Path, tmp_path: Path) -> None:
    _, plan = plan_of(CASES["overlap"], root, tmp_path)
    owners = {
        item["cpu"]: (item["container"] or {}).get("pod") for item in plan["nodes"][0]["cpus"]
    }
    assert {cpu: owners[cpu] for cpu in (2, 3, 4)} == {2: "old", 3: "new", 4: "new"}


@pytest.mark.parametrize("prefix", ["docker", "containerd", "cri-o"])
def test_a_container_that_was_restarted_is_one_container(
    prefix: str, root: Path, tmp_path: Path
) -> None:
    """Row 28: its present id, once."""
    status = {
        "containerStatuses": [
            {
                "name": "app",
                "containerID": f"{prefix}://5",
                "restartCount": 5,
                "state": {"running": {}},
                "lastState": {"terminated": {"containerID": f"{prefix}://4"}},
            }
        ]
    }
    _, plan = plan_of(Case([a_pod(status=status)], APP, {}), root, tmp_path)
    owners = [item["container"] for item in plan["nodes"][0]["cpus"] if item["container"]]
    assert (
        owners
        == [
            {
                "namespace": "default",
                "pod": "web",
                "uid": "uid-web",
                "name": "app",
                "id": f"{prefix}://5",
            }
        ]
        * 2
    )


def test_held_cpus_are_not_written(root: Path, tmp_path: Path) -> None:
    """R7: running, entitled and not reported: its CPUs are unknown, so none that could be allocated
    is touched.
    """
    (tmp_path / "answer.json").write_text('{"podResources": []}')
    ran = kpm(
        "diff",
        "-f",
        "-",
        "--sysfs",
        root,
        "--pod-resources",
        tmp_path / "answer.json",
        stdin=as_yaml(*POLICY, a_pod()),
    )
    assert "allocation-unknown" in ran.err
    assert not [line for line in ran.out.splitlines() if "policy" in line or "cpuidle" in line]
    case = CASES["running and not reported"]
    _, plan = plan_of(case, root, tmp_path)
    assert {item["cpu"]: item["held"] for item in plan["nodes"][0]["cpus"]} == {
        0: False,
        **dict.fromkeys(range(1, 8), True),
    }


def test_the_kubelet_that_hands_out_nothing(root: Path, tmp_path: Path) -> None:
    """Without a static CPU manager the answer names no CPUs; that is a warning of its own, not a
    hold.
    """
    (tmp_path / "answer.json").write_text('{"podResources": [], "cpuIds": []}')
    ran = kpm(
        "plan",
        "-f",
        "-",
        "--sysfs",
        root,
        "--pod-resources",
        tmp_path / "answer.json",
        "-o",
        "json",
        stdin=as_yaml(*POLICY, a_pod()),
    )
    (found,) = json.loads(ran.out)["nodes"]
    assert "cpu-manager-inactive" in {item["code"] for item in found["problems"]}
    assert {item["pool"] for item in found["cpus"][1:]} == {"shared"}


def test_reserved_as_the_kubelet_reserves(root: Path, tmp_path: Path) -> None:
    """Row 21: a difference between both lists is a warning with both."""
    for allocatable, differs in (
        ([1, 2, 3, 4, 5, 6, 7], False),
        ([2, 3, 4, 5, 6, 7], True),
        (list(range(8)), True),
    ):
        (tmp_path / "answer.json").write_text(
            json.dumps({"podResources": [], "cpuIds": allocatable})
        )
        ran = kpm(
            "plan",
            "-f",
            "-",
            "--sysfs",
            root,
            "--pod-resources",
            tmp_path / "answer.json",
            "-o",
            "json",
            stdin=as_yaml(*POLICY),
        )
        codes = {item["code"] for item in json.loads(ran.out)["nodes"][0]["problems"]}
        assert ("reserved-differs" in codes) is differs
        assert ran.code == 0
