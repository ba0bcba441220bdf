"""Stolen tokens and hostile tenants against the admission policies: nobody gets more than is his.

Each attack is tried with the rights of the account that would be stolen; beside each stands what
the same account must be able to do, since a policy that refuses everything proves nothing.
"""

from __future__ import annotations

import copy
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kpm.operator.daemonset import Image, daemon_set
from kpm_planner.model.agent_settings import AgentSettings, MetricSettings
from kpm_planner.model.cluster import Meta
from kpm_planner.model.objects import PowerConfig
from tests.apiserver.envtest import controllers
from tests.apiserver.nodes import NAMESPACE
from tests.apiserver.server import ApiServer, wait_for

pytestmark = pytest.mark.apiserver
Document = dict[str, Any]
IMAGE = "power-node-agent:latest"
STATUS = {
    "capacity": {"cpu": "8"},
    "allocatable": {"cpu": "8"},
    "conditions": [{"type": "Ready", "status": "True"}],
    "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
    "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
    "nodeInfo": {
        "machineID": "m",
        "systemUUID": "u",
        "bootID": "b",
        "kernelVersion": "6",
        "osImage": "o",
        "containerRuntimeVersion": "c",
        "kubeletVersion": "v1.35.4",
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": "amd64",
    },
}


# --- an agent and its Node ---


@pytest.fixture(scope="module")
def agent(server: ApiServer) -> str:
    """The token of node one's agent; the Node has what kubelets say."""
    for name in ("one", "two"):
        server.apply(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            }
        )
        server.status("node", name, STATUS)
    spec = {
        "nodeName": "one",
        "serviceAccountName": "power-manager-node-agent",
        "containers": [{"name": "agent", "image": "x"}],
    }
    server.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "agent-one", "namespace": NAMESPACE},
            "spec": spec,
        }
    )
    return server.token("power-manager-node-agent", NAMESPACE, "agent-one")


OWNER = {
    "apiVersion": "v1",
    "kind": "Node",
    "name": "gone",
    "uid": "00000000-0000-4000-8000-000000000000",
}
NODE_ATTACKS: dict[str, Document] = {
    "an owner, so that the garbage collector deletes the Node": {
        "metadata": {"ownerReferences": [OWNER]}
    },
    "a finalizer": {"metadata": {"finalizers": ["evil.example/x"]}},
    "the port of the kubelet": {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 6666}}}},
    "what the node is": {"status": {"nodeInfo": {"kubeletVersion": "v0.0.1"}}},
    "its images": {"status": {"images": [{"names": ["evil:latest"], "sizeBytes": 1}]}},
    "volumes attached": {
        "status": {"volumesAttached": [{"name": "kubernetes.io/csi/x", "devicePath": "/dev/x"}]}
    },
    "volumes in use": {"status": {"volumesInUse": ["kubernetes.io/csi/x"]}},
    "its phase": {"status": {"phase": "Terminated"}},
    "its runtime handlers": {"status": {"runtimeHandlers": [{"name": "evil"}]}},
    "its features": {"status": {"features": {"supplementalGroupsPolicy": True}}},
    "its addresses": {"status": {"addresses": [{"type": "InternalIP", "address": "6.6.6.6"}]}},
    "the addresses are gone": {"status": {"addresses": None}},
    "a condition": {"status": {"conditions": [{"type": "Ready", "status": "False"}]}},
    "a label": {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}},
    "an annotation": {"metadata": {"annotations": {"a": "b"}}},
    "a name with a path": {"status": {"capacity": {"power.openshift.io/../cpu": "1"}}},
    "a name that is no profile's": {"status": {"capacity": {"power.openshift.io/A": "1"}}},
    "another group's resource": {"status": {"allocatable": {"example.com/gpu": "1"}}},
    "a group with ours as its end": {"status": {"capacity": {"evil.power.openshift.io/x": "1"}}},
    "its CPUs": {"status": {"capacity": {"cpu": "400"}}},
    "its CPUs are gone": {"status": {"allocatable": {"cpu": None}}},
    "more CPUs than there are": {
        "status": {"capacity": {"power.openshift.io/fast": "9223372036854775807"}}
    },
}

#: What Kubernetes 1.30 does not know yet, and drops before any policy sees it.
LATER = {"its features": "node.status.features"}


def _node(server: ApiServer) -> Document:
    found = server.get("node", "one")
    meta = {
        key: found["metadata"].get(key)
        for key in ("finalizers", "ownerReferences", "labels", "annotations")
    }
    return {"metadata": meta, "spec": found.get("spec"), "status": found["status"]}


@pytest.mark.parametrize("what", NODE_ATTACKS)
def test_an_agent_changes_nothing_of_its_node_but_its_own_resources(
    server: ApiServer, agent: str, what: str
) -> None:
    """By every key that a Node has, and not by a list of those that are known to be dangerous."""
    before = _node(server)
    status, text = server.patch(agent, "/api/v1/nodes/one/status", json.dumps(NODE_ATTACKS[what]))
    known = what not in LATER or server.kubectl("explain", LATER[what], check=False).returncode == 0
    assert status == (422 if known else 200), text
    assert "an agent may change no" in text or not known
    assert _node(server) == before


@pytest.mark.parametrize("amount", ["0", "8", "1k", "7"])
def test_an_agent_offers_profiles_and_takes_them_back(
    server: ApiServer, agent: str, amount: str
) -> None:
    """Beside resources that others offer."""
    body: dict[str, Any] = {
        "status": {
            part: {"power.openshift.io/fast.at-night": amount}
            for part in ("capacity", "allocatable")
        }
    }
    status, text = server.patch(agent, "/api/v1/nodes/one/status", json.dumps(body))
    assert status == 200, text
    body = {
        "status": {
            part: {"power.openshift.io/fast.at-night": None} for part in ("capacity", "allocatable")
        }
    }
    assert server.patch(agent, "/api/v1/nodes/one/status", json.dumps(body))[0] == 200


def test_the_garbage_collector_leaves_the_node(server: ApiServer, agent: str) -> None:
    """The real one, after an agent's token has tried to give the Node an
    owner that does not exist.
    """
    server.patch(
        agent, "/api/v1/nodes/one/status", json.dumps({"metadata": {"ownerReferences": [OWNER]}})
    )
    orphan = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "orphan",
            "namespace": "default",
            "ownerReferences": [{**OWNER, "kind": "Node"}],
        },
    }
    server.apply(orphan)
    command = [
        str(controllers()),
        "--controllers=garbage-collector-controller",
        "--leader-elect=false",
        "--secure-port=0",
        "--authentication-skip-lookup",
    ]
    with (server.folder / "gc.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--kubeconfig", str(server.folder / "admin.kubeconfig")],
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(
            "the collector collects",
            lambda: server.get("configmap", "orphan", "-n", "default") is None,
            90,
        )
        assert "deletionTimestamp" not in server.get("node", "one")["metadata"]
    finally:
        process.kill()
        process.wait()


def _event(component: str, host: str, message: str = "x") -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"e{time.time_ns()}", "namespace": "default"},
        "reason": "X",
        "message": message,
        "type": "Normal",
        "involvedObject": {"kind": "Pod", "name": "x", "namespace": "default"},
        "source": {"component": component, "host": host},
        "reportingComponent": component,
        "reportingInstance": host,
    }


@pytest.mark.parametrize(
    ("event", "taken"),
    [
        (_event("power-node-agent", "one"), True),
        (_event("power-node-agent", "two"), False),
        (_event("kubelet", "one"), False),
        (_event("power-node-agent", "one", "x" * 1100), False),
    ],
)
def test_an_event_of_an_agent_names_who_reports(
    server: ApiServer, agent: str, event: Document, taken: bool
) -> None:
    """It cannot speak as the kubelet, nor as another node's agent."""
    server.kubeconfig("thief", agent)
    done = server.kubectl("create", "-f", "-", given=json.dumps(event), user="thief", check=False)
    assert (done.returncode == 0) is taken, done.stderr


# --- the operator and its DaemonSet ---


@pytest.fixture(scope="module")
def operator(server: ApiServer) -> Iterator[str]:
    """A kubectl user with the operator's token."""
    server.kubeconfig("stolen-operator", server.token("power-manager-operator", NAMESPACE))
    evil = {**_made(), "metadata": {"name": "evil", "namespace": NAMESPACE}}
    command = ["create", "--dry-run=server", "-f", "-"]
    wait_for(
        "the policy is in force",
        lambda: (
            server.kubectl(
                *command, given=json.dumps(evil), user="stolen-operator", check=False
            ).returncode
        ),
    )
    yield "stolen-operator"
    server.kubectl("delete", "daemonsets", "--all", "-n", NAMESPACE, check=False)


FULL = PowerConfig(
    Meta("c"),
    agent=AgentSettings(
        power_caps=("rapl", "amd"),
        claim_socket="/var/lib/kubelet/plugins/dra.example.com/pod-resources.sock",
        metrics=MetricSettings(("node", "process"), ("kpm",)),
    ),
)
SHIPPED = {
    "plain": PowerConfig(Meta("c")),
    "everything": FULL,
    "no names": PowerConfig(
        Meta("c"), agent=AgentSettings(idle_states="byLatency", source="podresources")
    ),
}


def _made(config: PowerConfig = FULL) -> Document:
    return copy.deepcopy(daemon_set(config, NAMESPACE, Image(IMAGE)))


@pytest.mark.parametrize("what", SHIPPED)
def test_the_operator_makes_what_it_ships(server: ApiServer, operator: str, what: str) -> None:
    done = server.kubectl(
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "-f",
        "-",
        given=json.dumps(_made(SHIPPED[what])),
        user=operator,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _pod(body: Document) -> Document:
    found: Document = body["spec"]["template"]["spec"]
    return found


def _template(body: Document) -> Document:
    found: Document = body["spec"]["template"]["metadata"]
    return found


def _agent_of(body: Document) -> Document:
    found: Document = _pod(body)["containers"][0]
    return found


def _helper_of(body: Document) -> Document:
    found: Document = _pod(body)["initContainers"][0]
    return found


def _host(body: Document, path: str, target: str) -> None:
    _pod(body)["volumes"].append({"name": "evil", "hostPath": {"path": path}})
    _agent_of(body)["volumeMounts"].append({"name": "evil", "mountPath": target, "readOnly": True})


def _written(body: Document) -> None:
    for mount in _agent_of(body)["volumeMounts"]:
        mount["readOnly"] = False
        mount.pop("recursiveReadOnly", None)


def _volume(body: Document, source: Document) -> None:
    _pod(body)["volumes"].append({"name": "evil", **source})


OPERATOR_ATTACKS: dict[str, Callable[[Document], object]] = {
    "another DaemonSet": lambda body: body["metadata"].update(name="evil"),
    "another image": lambda body: _agent_of(body).update(image="evil:1"),
    "another image of the helper": lambda body: _helper_of(body).update(image=f"{IMAGE}-evil"),
    "another container": (
        lambda body: _pod(body)["containers"].append({**_agent_of(body), "name": "third"})
    ),
    "a command": lambda body: _agent_of(body).update(command=["python", "-c", "import os"]),
    "another verb": lambda body: _helper_of(body).update(args=["shell"]),
    "a hook": (
        lambda body: _agent_of(body).update(lifecycle={"postStart": {"exec": {"command": ["id"]}}})
    ),
    "a probe that runs something": (
        lambda body: _agent_of(body).update(livenessProbe={"exec": {"command": ["id"]}})
    ),
    "surroundings": (
        lambda body: _agent_of(body)["env"].append({"name": "PYTHONPATH", "value": "/var/lib/kpm"})
    ),
    "surroundings out of a Secret": (
        lambda body: _agent_of(body).update(envFrom=[{"secretRef": {"name": "any"}}])
    ),
    "a privileged agent": (
        lambda body: _agent_of(body).update(
            securityContext={"privileged": True, "readOnlyRootFilesystem": True}
        )
    ),
    "a privileged helper": (
        lambda body: _helper_of(body).update(
            securityContext={"privileged": True, "readOnlyRootFilesystem": True}
        )
    ),
    "a capability of the agent": (
        lambda body: _agent_of(body)["securityContext"]["capabilities"].update(add=["SYS_ADMIN"])
    ),
    "another capability": (
        lambda body: _helper_of(body)["securityContext"]["capabilities"].update(add=["SYS_PTRACE"])
    ),
    "no rule of seccomp": (
        lambda body: _pod(body)["securityContext"].update(seccompProfile={"type": "Unconfined"})
    ),
    "no rule of AppArmor": (
        lambda body: _template(body).update(
            annotations={"container.apparmor.security.beta.kubernetes.io/helper": "unconfined"}
        )
    ),
    "the host's processes": lambda body: _pod(body).update(hostPID=True),
    "the host's network": lambda body: _pod(body).update(hostNetwork=True),
    "another account": lambda body: _pod(body).update(serviceAccountName="default"),
    "the host": lambda body: _host(body, "/", "/host"),
    "kubelet's keys": lambda body: _host(body, "/var/lib/kubelet/pki", "/host/x"),
    "a path with dots": lambda body: _host(body, "/var/lib/kubelet/plugins/..", "/host/x"),
    "a folder over the program": lambda body: _host(body, "/var/lib/kpm", "/usr/lib/python3"),
    "a folder written": _written,
    "a Secret": lambda body: _volume(body, {"secret": {"secretName": "any"}}),
    "a ConfigMap": lambda body: _volume(
        body, {"projected": {"sources": [{"configMap": {"name": "any"}}]}}
    ),
}


@pytest.mark.parametrize("what", OPERATOR_ATTACKS)
def test_the_operators_token_runs_nothing_else_on_the_nodes(
    server: ApiServer, operator: str, what: str
) -> None:
    """RBAC lets it create a DaemonSet; the policy says which."""
    body = _made()
    OPERATOR_ATTACKS[what](body)
    done = server.kubectl(
        "create", "--dry-run=server", "-f", "-", given=json.dumps(body), user=operator, check=False
    )
    assert done.returncode != 0
    assert "power-manager-operator" in done.stderr or "must not contain '..'" in done.stderr, (
        done.stderr
    )


def test_the_operators_token_changes_no_intent_of_users(server: ApiServer, operator: str) -> None:
    """Not what a PowerConfig says, and no PowerWorkload that somebody else made; the finalizer it
    may take off.
    """
    meta = {"name": "mine", "namespace": NAMESPACE}
    group = "power.openshift.io/v1"
    server.apply(
        {
            "apiVersion": group,
            "kind": "PowerConfig",
            "metadata": {**meta, "finalizers": ["power.kpm.dev/restore"]},
            "spec": {},
        },
        {
            "apiVersion": group,
            "kind": "PowerWorkload",
            "metadata": meta,
            "spec": {"powerProfile": "x", "allCores": True},
        },
    )
    token, place = (
        server.token("power-manager-operator", NAMESPACE),
        f"/apis/{group}/namespaces/{NAMESPACE}",
    )
    refused = [
        server.patch(token, f"{place}/powerconfigs/mine", '{"spec":{"agent":{"image":"evil:1"}}}'),
        server.patch(token, f"{place}/powerworkloads/mine", '{"spec":{"allCores":false}}'),
    ]
    assert [(status, "the objects that it made" in text) for status, text in refused] == [
        (422, True)
    ] * 2, refused
    done = server.kubectl(
        "delete", "--raw", f"{place}/powerworkloads/mine", user=operator, check=False
    )
    assert "the objects that it made" in done.stderr
    assert (
        server.patch(token, f"{place}/powerconfigs/mine", '{"metadata":{"finalizers":null}}')[0]
        == 200
    )
    server.kubectl("delete", "powerconfig,powerworkload", "mine", "-n", NAMESPACE)


# --- a tenant and the telemetry of others ---

FOLDER = "/var/lib/power-node-agent/pods"
UID = {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}


def tenant_pod(path: str = FOLDER, env: tuple[Document, ...] = (UID,), **mount: Any) -> Document:
    """A pod that mounts a folder of the host."""
    container = {
        "name": "app",
        "image": "x",
        "env": list(env),
        "volumeMounts": [{"name": "telemetry", "mountPath": "/x", **mount}],
    }
    spec = {
        "containers": [container],
        "volumes": [{"name": "telemetry", "hostPath": {"path": path}}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"p{time.time_ns()}", "namespace": "tenant"},
        "spec": spec,
    }


def _in_init(body: Document) -> Document:
    container = {**body["spec"]["containers"][0], "name": "init"}
    plain = {"name": "app", "image": "x"}
    return {**body, "spec": {**body["spec"], "initContainers": [container], "containers": [plain]}}


TAKEN = {
    "its own folder": tenant_pod(subPathExpr="$(POD_UID)/dpdk"),
    "its own folder, whole": tenant_pod(subPathExpr="$(POD_UID)"),
    "reading": tenant_pod(readOnly=True),
    "reading the host": tenant_pod("/", readOnly=True),
    "another folder": tenant_pod("/var/log"),
    "a neighbour by name": tenant_pod("/var/lib/power-node"),
}
REFUSED = {
    "the folder": tenant_pod(),
    "a folder above": tenant_pod("/var/lib"),
    "the host": tenant_pod("/"),
    "another's folder": tenant_pod(f"{FOLDER}/6b1f"),
    "another's folder, below which is its own": tenant_pod(
        f"{FOLDER}/6b1f", subPathExpr="$(POD_UID)"
    ),
    "a folder by a written name": tenant_pod(subPath="6b1f"),
    "an expression that is none": tenant_pod(subPathExpr="6b1f"),
    "a name that begins so": tenant_pod(subPathExpr="$(POD_UID)x/dpdk"),
    "a UID that it wrote itself": tenant_pod(
        env=({"name": "POD_UID", "value": "6b1f"},), subPathExpr="$(POD_UID)/dpdk"
    ),
    "a UID that comes twice": tenant_pod(
        env=(UID, {"name": "POD_UID", "value": "6b1f"}), subPathExpr="$(POD_UID)/dpdk"
    ),
    "a UID that is its name": tenant_pod(
        env=({"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},),
        subPathExpr="$(POD_UID)/dpdk",
    ),
    "slashes": tenant_pod("//var//lib/./power-node-agent/pods/"),
    "by a process of the host": tenant_pod("/proc/1/root/var/lib"),
    "in an init container": _in_init(tenant_pod()),
}


@pytest.fixture(scope="module")
def tenant(server: ApiServer) -> str:
    """A user who may make pods in a namespace of his own."""
    server.kubectl("create", "namespace", "tenant", check=False)
    server.kubectl("create", "serviceaccount", "tenant", "-n", "tenant", check=False)
    server.kubectl(
        "create",
        "role",
        "tenant",
        "-n",
        "tenant",
        "--verb=create,get",
        "--resource=pods",
        check=False,
    )
    server.kubectl(
        "create",
        "rolebinding",
        "tenant",
        "-n",
        "tenant",
        "--role=tenant",
        "--serviceaccount=tenant:tenant",
        check=False,
    )
    server.kubeconfig("tenant", server.token("tenant", "tenant"))
    return "tenant"


def _create(server: ApiServer, user: str, body: Document) -> subprocess.CompletedProcess[str]:
    return server.kubectl(
        "create", "--dry-run=server", "-f", "-", given=json.dumps(body), user=user, check=False
    )


@pytest.mark.parametrize("what", TAKEN)
def test_a_pod_reaches_its_own_telemetry(server: ApiServer, tenant: str, what: str) -> None:
    done = _create(server, tenant, TAKEN[what])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("what", REFUSED)
def test_a_pod_writes_no_telemetry_of_others(server: ApiServer, tenant: str, what: str) -> None:
    """Under no spelling of the path, and with no UID but its own."""
    done = _create(server, tenant, REFUSED[what])
    assert done.returncode != 0
    assert "in its own folder alone" in done.stderr


def test_who_is_trusted_with_the_host_is_not_asked(server: ApiServer, tenant: str) -> None:
    """An administrator's `kubectl debug node/...`, and a namespace that an administrator has
    labelled.
    """
    assert _create(server, "admin", tenant_pod("/")).returncode == 0
    server.kubectl("label", "namespace", "tenant", "power.kpm.dev/host-paths=trusted")
    wait_for("the label counts", lambda: _create(server, tenant, tenant_pod("/")).returncode == 0)
    server.kubectl("label", "namespace", "tenant", "power.kpm.dev/host-paths-")


def test_the_shipped_example_is_taken(server: ApiServer, tenant: str) -> None:
    """examples/example-dpdk-testapp.yaml, by a tenant."""
    body = yaml.safe_load(
        (Path(__file__).parents[2] / "examples/example-dpdk-testapp.yaml").read_text()
    )
    body["metadata"]["namespace"] = "tenant"
    assert _create(server, tenant, body).returncode == 0


def volume(path: str, kind: str = "hostPath") -> Document:
    """A volume of the cluster that is a folder of hosts."""
    one = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n"]}
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [one]}]}}
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        kind: {"path": path},
        **({"nodeAffinity": affinity} if kind == "local" else {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"v{time.time_ns()}"},
        "spec": spec,
    }


@pytest.fixture(scope="module")
def provisioner(server: ApiServer, tenant: str) -> str:
    """A program that makes volumes, as local-path provisioners do."""
    server.kubectl("create", "serviceaccount", "provisioner", "-n", "tenant", check=False)
    server.kubectl(
        "create",
        "clusterrole",
        "provisioner",
        "--verb=create,get",
        "--resource=persistentvolumes",
        check=False,
    )
    server.kubectl(
        "create",
        "clusterrolebinding",
        "provisioner",
        "--clusterrole=provisioner",
        "--serviceaccount=tenant:provisioner",
        check=False,
    )
    server.kubeconfig("provisioner", server.token("provisioner", "tenant"))
    return "provisioner"


@pytest.mark.parametrize("kind", ["hostPath", "local"])
def test_a_volume_is_not_the_folder_of_telemetry(
    server: ApiServer, provisioner: str, kind: str
) -> None:
    """Which a pod would mount by its claim, where nobody sees the path; volumes of other folders
    are nobody's business here.
    """
    for path in (
        FOLDER,
        f"{FOLDER}/6b1f",
        "/var/lib",
        "/",
        "//var//lib/./power-node-agent",
        "/proc/1/root/var",
    ):
        done = _create(server, provisioner, volume(path, kind))
        assert done.returncode != 0, path
        assert "a volume does not reach" in done.stderr, done.stderr
    for path in ("/opt/local-path-provisioner/pvc-1", "/mnt/disks/one", "/var/lib/power-node"):
        done = _create(server, provisioner, volume(path, kind))
        assert done.returncode == 0, done.stderr
    assert _create(server, "admin", volume("/var/lib", kind)).returncode == 0
