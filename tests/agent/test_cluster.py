"""What an agent keeps of what the API server shows, and who else it takes for a writer of CPU
settings.
"""

from typing import Any

import pytest

from kpm.agent.cluster import PodView, node_view, pod_view
from kpm.kube.kinds import PART_OF

OURS = "power-manager"


def pod(
    name: str,
    namespace: str = "default",
    phase: str = "Running",
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
) -> dict[str, Any]:
    """A pod of the API."""
    meta = {
        "name": name,
        "namespace": namespace,
        "labels": labels or {},
        "annotations": annotations or {},
    }
    return {"metadata": meta, "spec": {"containers": [{"name": "app"}]}, "status": {"phase": phase}}


CRIO = {"cpu-c-states.crio.io": "disable"}
RIVALS = {
    "tuned": (
        pod(
            "tuned-abcde",
            "openshift-cluster-node-tuning-operator",
            labels={"openshift-app": "tuned"},
        ),
        "tuned",
    ),
    "CRI-O": (pod("fast", annotations=CRIO), "CRI-O (annotations of pod default/fast)"),
    "a capping daemon": (
        pod("powercap-x", "kube-system", labels={"name": "powercap"}),
        "powercap (pod kube-system/powercap-x)",
    ),
    "the earlier operator": (
        pod("power-node-agent-x", "intel-power"),
        "another power manager (pod intel-power/power-node-agent-x)",
    ),
    "its agent in our namespace": (
        pod("power-node-agent-x", OURS),
        "another power manager (pod power-manager/power-node-agent-x)",
    ),
    "another installation of ours": (
        pod("power-node-agent-x", "intel-power", labels=dict([PART_OF])),
        "another power manager (pod intel-power/power-node-agent-x)",
    ),
    "our own agent": (pod("power-node-agent-x", OURS, labels=dict([PART_OF])), ""),
    "any pod": (pod("web"), ""),
    "one that has ended": (pod("fast", phase="Succeeded", annotations=CRIO), ""),
}


@pytest.mark.parametrize("who", RIVALS)
def test_who_else_writes(who: str) -> None:
    """So that drift is told with a name where it can be known (field report 49)."""
    document, rival = RIVALS[who]
    found = pod_view(document, OURS)
    assert isinstance(found, PodView)
    assert found.rival == rival


def test_of_a_nodes_resources_only_ours_are_kept() -> None:
    """Both amounts; what neither shows is not there."""
    status = {
        "capacity": {"cpu": "8", "power.openshift.io/fast": "4"},
        "allocatable": {"power.openshift.io/slow": "2", "example.com/gpu": "1"},
    }
    found = node_view(
        {"metadata": {"name": "a", "uid": "1"}, "status": status}, "power.openshift.io"
    )
    assert found.resources == {
        "power.openshift.io/fast": ("4", None),
        "power.openshift.io/slow": (None, "2"),
    }
