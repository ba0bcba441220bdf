"""A foreign edit of the agents' DaemonSet: seen wherever it is, put back as a whole; the API
server's own defaults are none.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from kpm.kube.kinds import AGENT_NAME
from kpm.operator.daemonset import daemon_set
from kpm.operator.departures import departure
from kpm.operator.reconcile import Mend
from kpm_planner.model.agent_settings import AgentSettings, MetricSettings, Toleration
from kpm_planner.model.cluster import Meta
from kpm_planner.model.objects import PowerConfig
from tests.agent.clusters import IMAGE, NAMESPACE, running

CONFIG = PowerConfig(
    Meta("c"),
    power_node_selector={"power": "yes"},
    agent=AgentSettings(
        metrics=MetricSettings(("process",)),
        tolerations=(Toleration("a", "Exists"),),
        power_caps=("rapl",),
        metrics_access="token",
    ),
)
WANTED: dict[str, Any] = daemon_set(CONFIG, NAMESPACE, IMAGE)["spec"]


def served() -> dict[str, Any]:
    """The specification as an API server gives it back."""
    live = copy.deepcopy(WANTED)
    live["revisionHistoryLimit"] = 10
    live["updateStrategy"]["rollingUpdate"]["maxSurge"] = 0
    pod = live["template"]["spec"]
    live["template"]["metadata"]["creationTimestamp"] = None
    pod |= {
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "serviceAccount": pod["serviceAccountName"],
    }
    for container in (*pod["containers"], *pod["initContainers"]):
        container |= {
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        }
        for entry in container.get("env", ()):
            if "valueFrom" in entry:
                entry["valueFrom"]["fieldRef"]["apiVersion"] = "v1"
        for mount in container["volumeMounts"]:
            if not mount["readOnly"]:
                del mount["readOnly"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in container:
                container[probe] |= {"successThreshold": 1}
                container[probe]["httpGet"]["scheme"] = "HTTP"
    for volume in pod["volumes"]:
        for kind in {"projected", "secret"} & volume.keys():
            volume[kind]["defaultMode"] = 420
    return live


def test_what_an_api_server_fills_in_is_no_departure() -> None:
    assert departure(WANTED, WANTED) == ""
    assert departure(WANTED, served()) == ""


def test_what_an_older_api_server_drops_is_nobodys_edit() -> None:
    """Kubernetes 1.30 knows neither field, anywhere; where one of them is gone at one place alone
    somebody took it out.
    """
    live = served()
    _pod(live).pop("hostUsers", None)
    mounts = [
        mount
        for container in (*_pod(live)["containers"], *_pod(live)["initContainers"])
        for mount in container["volumeMounts"]
    ]
    partly = copy.deepcopy(live)
    for mount in mounts:
        mount.pop("recursiveReadOnly", None)
    assert departure(WANTED, live) == ""
    next(
        mount
        for mount in _pod(partly)["containers"][0]["volumeMounts"]
        if "recursiveReadOnly" in mount
    ).pop("recursiveReadOnly")
    assert "recursiveReadOnly" in departure(WANTED, partly)


def test_an_annotation_that_is_privilege_is_a_departure() -> None:
    """Others may annotate the pods, as `kubectl rollout restart` does; AppArmor was an annotation
    once, and still is read as one.
    """
    live = served()
    live["template"]["metadata"]["annotations"] = {"kubectl.kubernetes.io/restartedAt": "now"}
    assert departure(WANTED, live) == ""
    live["template"]["metadata"]["annotations"][
        "container.apparmor.security.beta.kubernetes.io/helper"
    ] = "unconfined"
    assert "annotations" in departure(WANTED, live)


def _pod(live: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = live["template"]["spec"]
    return found


EDITS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "privileged": (
        lambda live: _pod(live)["containers"][0]["securityContext"].update(privileged=True)
    ),
    "escalation": (
        lambda live: _pod(live)["containers"][0]["securityContext"].update(
            allowPrivilegeEscalation=True
        )
    ),
    "escalation left out": (
        lambda live: _pod(live)["containers"][0]["securityContext"].pop("readOnlyRootFilesystem")
    ),
    "a capability": (
        lambda live: _pod(live)["containers"][0]["securityContext"]["capabilities"].update(
            add=["NET_ADMIN"]
        )
    ),
    "another one": (
        lambda live: _pod(live)["initContainers"][0]["securityContext"]["capabilities"][
            "add"
        ].append("BPF")
    ),
    "seccomp": (
        lambda live: _pod(live)["securityContext"]["seccompProfile"].update(type="Unconfined")
    ),
    "a group": lambda live: _pod(live)["securityContext"].update(supplementalGroups=[0]),
    "procMount": (
        lambda live: _pod(live)["containers"][0]["securityContext"].update(procMount="Unmasked")
    ),
    "apparmor": (
        lambda live: _pod(live)["containers"][0]["securityContext"].update(
            appArmorProfile={"type": "Unconfined"}
        )
    ),
    "hostPID": lambda live: _pod(live).update(hostPID=True),
    "hostNetwork": lambda live: _pod(live).update(hostNetwork=True),
    "user namespace": lambda live: _pod(live).update(hostUsers=False),
    "the token": lambda live: _pod(live).update(automountServiceAccountToken=True),
    "a container": lambda live: _pod(live)["containers"].append({"name": "x", "image": "x"}),
    "an init container": (
        lambda live: _pod(live)["initContainers"].insert(0, {"name": "x", "image": "x"})
    ),
    "no helper": lambda live: _pod(live)["initContainers"].clear(),
    "a volume": (
        lambda live: _pod(live)["volumes"].append(
            {"name": "x", "hostPath": {"path": "/", "type": ""}}
        )
    ),
    "a mount": (
        lambda live: _pod(live)["containers"][0]["volumeMounts"].append(
            {"name": "run", "mountPath": "/x"}
        )
    ),
    "a writable mount": (
        lambda live: _pod(live)["containers"][0]["volumeMounts"][0].update(readOnly=False)
    ),
    "propagation": (
        lambda live: _pod(live)["containers"][0]["volumeMounts"][0].update(
            mountPropagation="Bidirectional"
        )
    ),
    "an image": lambda live: _pod(live)["containers"][0].update(image="evil:1"),
    "an argument": lambda live: _pod(live)["containers"][0]["args"].append("--measure-only"),
    "a command": lambda live: _pod(live)["containers"][0].update(command=["sh"]),
    "a variable": (
        lambda live: _pod(live)["containers"][0]["env"].append({"name": "X", "value": "y"})
    ),
    "a limit": lambda live: _pod(live)["containers"][0]["resources"]["limits"].update(cpu="1m"),
    "a selector": lambda live: _pod(live)["nodeSelector"].update(no="where"),
    "affinity": (
        lambda live: _pod(live).update(affinity={"nodeAffinity": {}} | {"podAffinity": {"x": 1}})
    ),
    "an account": lambda live: _pod(live).update(serviceAccountName="other"),
    "runtime class": lambda live: _pod(live).update(runtimeClassName="x"),
    "lifecycle": (
        lambda live: _pod(live)["containers"][0].update(
            lifecycle={"preStop": {"exec": {"command": ["x"]}}}
        )
    ),
    "rollout": lambda live: live["updateStrategy"].update(type="OnDelete"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=list(EDITS))
def test_every_edit_is_seen(edit: Callable[[dict[str, Any]], Any]) -> None:
    live = served()
    edit(live)
    assert departure(WANTED, live) != ""


@pytest.mark.parametrize("mark", ["labels", "annotations"])
def test_marks_on_the_pods_are_others_to_add(mark: str) -> None:
    """As kubectl rollout restart does."""
    live = served()
    live["template"]["metadata"].setdefault(mark, {})["kubectl.kubernetes.io/restartedAt"] = "now"
    assert departure(WANTED, live) == ""


def test_an_edit_is_put_back_as_a_whole_and_then_all_is_quiet() -> None:
    world = running("a", profiles=("fast",))
    document = world.objects["daemonsets", AGENT_NAME]
    wanted = copy.deepcopy(document["spec"])
    document["spec"]["template"]["spec"]["containers"][0]["securityContext"]["privileged"] = True
    (action,) = [action for action in world.wanted() if isinstance(action, Mend)]
    assert action.place == "template.spec.containers[0].securityContext.privileged"
    world.settle()
    assert world.objects["daemonsets", AGENT_NAME]["spec"] == wanted


# --- the capability that is not needed any more ---


def helper_adds(world: Any) -> list[str]:
    found: list[str] = _pod(world.objects["daemonsets", AGENT_NAME]["spec"])["initContainers"][0][
        "securityContext"
    ]["capabilities"].get("add", [])
    return found


@pytest.mark.parametrize(
    "down", [False, True], ids=["agents run", "an agent was not there at the edit"]
)
def test_the_capability_stays_until_every_node_has_put_its_idle_states_back(down: bool) -> None:
    """Whoever forbids idle states by name must not leave those that are off as they are: the new
    helper could not turn them on.
    """
    world = running("a", "b", profiles=("fast",))
    value = {"cpus": "2", "requested": {"idleOff": ["C6"]}, "effective": {}}
    off: dict[str, Any] = {"values": [value]}
    for node in ("a", "b"):
        world.report(node, "fast", **(off if node == "a" or down else {}))
    world.objects["powerconfigs", "config"]["spec"]["agent"] = {"idleStates": "byLatency"}
    world.settle()
    assert helper_adds(world) == ["SYS_ADMIN"]
    world.report("b", "fast")
    world.settle()
    assert helper_adds(world) == ["SYS_ADMIN"]
    world.report("a", "fast")
    world.settle()
    assert helper_adds(world) == []
