"""Least privilege: what the accounts may do is what they do, and an agent's token reaches no other
node.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kpm.request.machines import MachineSpec
from tests.apiserver.nodes import LABEL, NAMESPACE, pod
from tests.apiserver.server import ApiServer, wait_for
from tests.apiserver.world import World

pytestmark = pytest.mark.apiserver
REPO = Path(__file__).parents[2]
AGENT, OPERATOR = (
    f"system:serviceaccount:{NAMESPACE}:power-manager-{name}" for name in ("node-agent", "operator")
)
SMALL = MachineSpec(cores=4)
#: Of these only some end in a watch or a deletion within the life of a test.
Right = tuple[str, str, str]


def granted(name: str) -> set[Right]:
    """(group, resource, verb) of an account, out of the manifests."""
    found = set()
    for item in yaml.safe_load_all((REPO / "deploy/base" / f"rbac-{name}.yaml").read_text()):
        for rule in item.get("rules") or ():
            found |= {
                (group, resource, verb)
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for verb in rule["verbs"]
            }
    return found


def used(server: ApiServer, user: str) -> tuple[set[Right], list[str]]:
    """What the audit log shows of an account: what it did, and what was refused to it or came in
    conflict with somebody else.
    """
    done, refused = set(), []
    for entry in server.requests(user):
        ref = entry.get("objectRef")
        if ref is None:
            continue
        resource = "/".join(filter(None, (ref["resource"], ref.get("subresource"))))
        right = (ref.get("apiGroup", ""), resource, entry["verb"])
        done.add(right)
        # applied, and so created, which needs the right to
        if entry["verb"] == "patch" and entry["responseStatus"]["code"] == 201:
            done.add((*right[:2], "create"))
        if entry["responseStatus"]["code"] == 403 or (
            entry["responseStatus"]["code"] == 409 and ref["resource"] != "leases"
        ):
            refused.append(f"{right} {entry['responseStatus'].get('message', '')}")
    return done, refused


def test_every_right_is_needed_and_none_is_missing(server: ApiServer, world: World) -> None:
    """A whole life of a cluster uses each granted verb, nothing is refused, and no write meets
    another's (field reports 7, 40, 55).
    """
    nodes = [world.node(name, SMALL) for name in ("one", "two")]
    world.start()
    for node in nodes:
        server.kubectl("label", "node", node.name, f"{LABEL}=true")
    for name in ("powerconfig", "shared-profile", "shared-workload", "powerprofile", "uncore"):
        server.kubectl("apply", "-f", str(REPO / f"examples/example-{name}.yaml"))
    selector = {"labelSelector": {"matchLabels": {LABEL: "true"}}}
    server.apply(
        {
            "apiVersion": "power.openshift.io/v1",
            "kind": "PowerNodeConfig",
            "metadata": {"name": "all", "namespace": NAMESPACE},
            "spec": {"nodeSelector": selector, "sharedPowerProfile": "shared"},
        },
        {
            "apiVersion": "power.openshift.io/v1",
            "kind": "PowerConfig",
            "metadata": {"name": "second", "namespace": NAMESPACE},
            "spec": {},
        },
        {
            "apiVersion": "power.openshift.io/v1",
            "kind": "PowerCap",
            "metadata": {"name": "metered", "namespace": NAMESPACE},
            "spec": {
                "nodeSelector": selector,
                "source": {"external": {"configMap": {"name": "meter", "key": "watts"}}},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "meter", "namespace": NAMESPACE},
            "data": {"watts": "200"},
        },
        pod("greedy", "one", 2, "nothing"),
    )
    server.status("pod", "greedy", {"phase": "Running", "qosClass": "Guaranteed"}, "default")
    nodes[0].kubelet.cpus["default", "greedy", "app"] = {2, 3}
    wait_for(
        "the second PowerConfig is deleted",
        lambda: server.get("powerconfig", "second", "-n", NAMESPACE) is None,
    )
    wait_for(
        "the workloads are there",
        lambda: server.get("powerworkload", "performance-one-workload", "-n", NAMESPACE),
    )
    wait_for(
        "the pod is told",
        lambda: [
            item
            for item in server.get("events", "-n", "default")["items"]
            if item["reason"] == "PodProfile"
        ],
    )
    wait_for(
        "each user object has a status",
        lambda: (
            [
                item["metadata"]["name"]
                for item in server.get("pp,pw,pnc,uncores,pcfg,pcap", "-n", NAMESPACE)["items"]
                if "status" not in item
            ]
            == []
        ),
    )
    server.kubectl("label", "node", "two", f"{LABEL}-")
    wait_for(
        "node two is released",
        lambda: server.get("pns", "two-power-state", "-n", NAMESPACE) is None,
    )
    server.kubectl("delete", "powerconfig", "power-config", "-n", NAMESPACE, "--timeout=40s")
    wait_for("no agent is left", lambda: all(node.agent is None for node in nodes))
    world.operator.end()
    world.operator.start()  # a second life finds the lease
    wait_for("it leads again", lambda: world.operator.log.count('"leading"') >= 2)
    for user, name in ((AGENT, "agent"), (OPERATOR, "operator")):
        done, refused = used(server, user)
        assert refused == []
        assert done == granted(name), (
            f"{name}: not needed {granted(name) - done}, not granted {done - granted(name)}"
        )


@pytest.fixture
def agents(server: ApiServer, world: World) -> dict[str, str]:
    """Two nodes with objects, and each agent's token."""
    tokens = {}
    for name in ("one", "two"):
        world.node(name, SMALL)
        agent_pod = {
            "nodeName": name,
            "serviceAccountName": "power-manager-node-agent",
            "containers": [{"name": "agent", "image": "kpm"}],
        }
        server.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"agent-{name}", "namespace": NAMESPACE},
                "spec": agent_pod,
            }
        )
        for kind, suffix in (("PowerNode", ""), ("PowerNodeState", "-power-state")):
            meta = {"name": f"{name}{suffix}", "namespace": NAMESPACE}
            server.apply(
                {
                    "apiVersion": "power.openshift.io/v1",
                    "kind": kind,
                    "metadata": meta,
                    "spec": {"nodeName": name},
                }
            )
        tokens[name] = server.token("power-manager-node-agent", NAMESPACE, f"agent-{name}")
    return tokens


POWER = f"/apis/power.openshift.io/v1/namespaces/{NAMESPACE}"
STATUS = '{"status":{"conditions":[{"type":"Ready","status":"False","reason":"X"}]}}'
RESOURCE = '{"status":{"capacity":{"power.openshift.io/performance":"4"}}}'
ALLOWED = {
    "its PowerNodeState": (f"{POWER}/powernodestates/one-power-state/status", STATUS),
    "its PowerNode": (f"{POWER}/powernodes/one/status", '{"status":{"sharedPool":"x"}}'),
    "an extended resource of its node": ("/api/v1/nodes/one/status", RESOURCE),
}
REFUSED = {
    "another's PowerNodeState": (f"{POWER}/powernodestates/two-power-state/status", STATUS),
    "another's PowerNode": (f"{POWER}/powernodes/two/status", '{"status":{"sharedPool":"x"}}'),
    "an extended resource of another node": ("/api/v1/nodes/two/status", RESOURCE),
    "a condition of its node": ("/api/v1/nodes/one/status", STATUS),
    "a resource that is not ours": (
        "/api/v1/nodes/one/status",
        '{"status":{"capacity":{"example.com/gpu":"4"}}}',
    ),
    "the CPUs of its node": ("/api/v1/nodes/one/status", '{"status":{"capacity":{"cpu":"400"}}}'),
    "a label of its node": (
        "/api/v1/nodes/one",
        '{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}}}',
    ),
    "a label of its node, by its status": (
        "/api/v1/nodes/one/status",
        '{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}}}',
    ),
    "which node its PowerNodeState is about": (
        f"{POWER}/powernodestates/one-power-state",
        '{"spec":{"nodeName":"two"}}',
    ),
    "a profile": (f"{POWER}/powerprofiles/any", '{"spec":{"shared":true}}'),
}


@pytest.mark.parametrize("what", ALLOWED)
def test_an_agent_may_change_what_is_its_own(
    server: ApiServer, agents: dict[str, str], what: str
) -> None:
    """With its own token, bound to its pod."""
    status, text = server.patch(agents["one"], *ALLOWED[what])
    assert status == 200, text


@pytest.mark.parametrize("what", REFUSED)
def test_an_agent_may_change_nothing_else(
    server: ApiServer, agents: dict[str, str], what: str
) -> None:
    """By RBAC or by the admission policy."""
    before = server.get("node", "one")["metadata"].get("labels")
    status, text = server.patch(agents["one"], *REFUSED[what])
    assert status in (403, 422) or (status == 200 and "its status" in what), text
    assert server.get("node", "one")["metadata"].get("labels") == before


def test_a_token_that_is_bound_to_no_node_changes_nothing(
    server: ApiServer, agents: dict[str, str]
) -> None:
    """A stolen or hand-made token of the account is worth nothing."""
    assert agents
    token = server.token("power-manager-node-agent", NAMESPACE)
    assert {server.patch(token, *ALLOWED[what])[0] for what in ALLOWED} <= {403, 422}
