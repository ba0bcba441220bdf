"""What goes wrong around operator and agent, and how it ends: the plan in force, no object lost, no
busy loop.
"""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kpm.request.machines import MachineSpec
from tests.apiserver.nodes import LABEL, NAMESPACE, SimNode, pod, running
from tests.apiserver.proxy import Proxy
from tests.apiserver.server import ApiServer, wait_for
from tests.apiserver.world import World

pytestmark = pytest.mark.apiserver
REPO = Path(__file__).parents[2]
SMALL = MachineSpec(cores=8, epp="balance_performance")
SLOW, FAST = (
    (800000, 1670000, "powersave", "power"),
    (2975000, 3555000, "performance", "performance"),
)
KILLS, FEWEST_KILLS, MOST_SECONDS = 200, 50, 150.0
EVENTS, PART, STORM_SECONDS = 10_000, 500, 55.0
OPERATOR = f"system:serviceaccount:{NAMESPACE}:power-manager-operator"
AGENT = f"system:serviceaccount:{NAMESPACE}:power-manager-node-agent"


def policy(server: ApiServer, *names: str) -> None:
    for name in names or ("powerconfig", "shared-profile", "shared-workload", "powerprofile"):
        server.kubectl("apply", "-f", str(REPO / f"examples/example-{name}.yaml"))


def in_force(node: SimNode) -> bool:
    return node.cpufreqs("2-3") == {FAST} and node.cpufreqs("4-7") == {SLOW}


def ready(server: ApiServer, node: str) -> bool:
    found = server.get("pns", f"{node}-power-state", "-n", NAMESPACE)
    conditions = ((found or {}).get("status") or {}).get("conditions") or ()
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def admit(server: ApiServer, node: SimNode, name: str = "web", cpus: Any = (2, 3)) -> None:
    server.apply(pod(name, node.name, len(cpus), "performance"))
    node.kubelet.cpus["default", name, "app"] = set(cpus)
    server.status("pod", name, running(name), "default")


@pytest.fixture
def node(server: ApiServer, world: World) -> SimNode:
    """A labelled node with a running pod, the policy applied, everything in force."""
    made = world.node("one", SMALL)
    server.kubectl("label", "node", "one", f"{LABEL}=true")
    world.start()
    policy(server)
    admit(server, made)
    wait_for("the plan is in force", lambda: in_force(made) and ready(server, "one"), 40)
    return made


def moved(server: ApiServer, node: SimNode) -> None:
    """Everything still works: an edited profile arrives, and goes back."""
    edit = '{{"spec":{{"pstates":{{"max":"{}"}}}}}}'
    server.kubectl(
        "patch", "powerprofile", "shared", "-n", NAMESPACE, "--type=merge", "-p", edit.format("20%")
    )
    wait_for("an edit arrives", lambda: {item[1] for item in node.cpufreqs("4-7")} == {1380000}, 60)
    server.kubectl(
        "patch", "powerprofile", "shared", "-n", NAMESPACE, "--type=merge", "-p", edit.format("30%")
    )
    wait_for("and goes back", lambda: in_force(node), 60)


def test_the_api_server_goes_and_comes_back(server: ApiServer, node: SimNode) -> None:
    """Mid-watch; nothing is written meanwhile, foreign values are repaired all the same, and
    afterwards every edit arrives.
    """
    server.stop("kube-apiserver", signal.SIGKILL)
    node.write("cpufreq/policy5/scaling_max_freq", "3700000")
    wait_for("the foreign value is repaired without an API server", lambda: in_force(node), 45)
    time.sleep(3)
    failures = node.log.count('"watch failed"')
    assert failures < 60, "a busy loop"
    server.start_server()
    moved(server, node)


def test_history_is_compacted_away(server: ApiServer, node: SimNode) -> None:
    """A watch whose place etcd has forgotten lists anew (410)."""
    server.stop("kube-apiserver", signal.SIGKILL)
    server.stop("etcd")
    server.start_etcd()
    server.start_server()
    for number in range(20):
        server.kubectl(
            "annotate", "powerprofile", "shared", "-n", NAMESPACE, f"n={number}", "--overwrite"
        )
    version = server.get("powerprofile", "shared", "-n", NAMESPACE)["metadata"]["resourceVersion"]
    etcdctl = [
        "curl",
        "-s",
        f"http://127.0.0.1:{server.etcd_ports[0]}/v3/kv/compaction",
        "-d",
        f'{{"revision":"{version}"}}',
    ]
    subprocess.run(etcdctl, check=True, capture_output=True)
    moved(server, node)


def test_the_operator_is_killed_while_leading(
    server: ApiServer, world: World, node: SimNode
) -> None:
    """Another one takes over when the lease has run out, and finds nothing to do twice."""
    before = server.get("daemonset", "power-node-agent", "-n", NAMESPACE)["metadata"]["uid"]
    wait_for(
        "the workload is there",
        lambda: server.get("powerworkload", "performance-one-workload", "-n", NAMESPACE),
    )
    world.operator.end(signal.SIGKILL)
    world.operator.start()
    wait_for("another leads", lambda: world.operator.log.count('"leading"') >= 2, 60)
    server.kubectl("delete", "powerworkload", "performance-one-workload", "-n", NAMESPACE)
    wait_for(
        "what was deleted is there again",
        lambda: server.get("powerworkload", "performance-one-workload", "-n", NAMESPACE),
        60,
    )
    assert server.get("daemonset", "power-node-agent", "-n", NAMESPACE)["metadata"]["uid"] == before
    assert in_force(node)


def test_the_agent_is_killed_at_random_moments(
    server: ApiServer, node: SimNode, world: World
) -> None:
    """kill -9 two hundred times, on a slow machine as often as fits some minutes (field report 2).

    The pod's CPUs never leave their values, and at the end the plan is in force.
    """
    assert world.daemon_sets is not None
    world.daemon_sets.pause()
    node.keep_token = True  # and with it the pod that it is bound to
    node.end_agent(signal.SIGKILL)
    rng = random.Random(20260131)
    edits = [f'{{"spec":{{"pstates":{{"max":"{percent}%"}}}}}}' for percent in (20, 25, 30)]
    life, ends, kills = time_to_first_pass(node), time.monotonic() + MOST_SECONDS, 0
    while kills < KILLS and (kills < FEWEST_KILLS or time.monotonic() < ends):
        node.start_agent()
        if kills % 8 == 0:
            server.kubectl(
                "patch",
                "powerprofile",
                "shared",
                "-n",
                NAMESPACE,
                "--type=merge",
                "-p",
                rng.choice(edits),
            )
        time.sleep(life * rng.uniform(0.3, 2.0))
        assert node.cpufreqs("2-3") == {FAST}
        node.end_agent(signal.SIGKILL)
        kills += 1
    server.kubectl(
        "patch", "powerprofile", "shared", "-n", NAMESPACE, "--type=merge", "-p", edits[-1]
    )
    node.keep_token = False
    assert "Unauthorized" not in node.log
    assert node.log.count('"written"') > kills // 8, "agents lived long enough to write"
    lists = node.log.count("all kinds are listed")
    world.daemon_sets.resume()
    wait_for("an agent runs again", lambda: node.log.count("all kinds are listed") > lists, 60)
    wait_for("the plan is in force", lambda: in_force(node), 60)


def time_to_first_pass(node: SimNode) -> float:
    """Seconds from the start of an agent until it knows all kinds, on a machine that may be busy;
    it is killed then.
    """
    lists, began = node.log.count("all kinds are listed"), time.monotonic()
    node.start_agent()
    wait_for("an agent knows all kinds", lambda: node.log.count("all kinds are listed") > lists, 30)
    took = time.monotonic() - began
    node.end_agent(signal.SIGKILL)
    return took


def test_a_restart_writes_nothing(node: SimNode) -> None:
    """SIGTERM while wanted, and a new agent: no file is touched (field report 2); so a rolling
    update writes nothing.
    """
    time.sleep(2.5)
    before = stamps(node)
    written = node.log.count('"written"')
    starts = node.starts
    assert node.agent is not None
    node.agent.send_signal(signal.SIGTERM)
    wait_for(
        "another agent runs",
        lambda: node.starts > starts and node.log.count('"all kinds are listed"') >= 2,
        60,
    )
    time.sleep(1.5)
    assert in_force(node)
    assert node.log.count('"written"') == written
    assert stamps(node) == before


def test_a_second_agent_on_the_node_waits(node: SimNode, server: ApiServer, world: World) -> None:
    """Two writers of one machine, as in a rolling update with a surge: the second says who holds
    the lock; when the first has ended it takes over and writes nothing.
    """
    assert world.daemon_sets is not None
    world.daemon_sets.pause()
    first, first_pod = node.agent, node.pod
    node.start_agent("agent-second")
    assert first is not None
    wait_for("it is told", lambda: "only one writer is allowed" in node.log, 45)
    assert in_force(node)
    moved(server, node)
    written, times = node.log.count('"written"'), stamps(node)
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == 0
    server.kubectl("delete", "pod", first_pod, "-n", NAMESPACE, "--force", "--grace-period=0")
    node.write("cpufreq/policy5/scaling_max_freq", "3700000")
    wait_for("the second one repairs", lambda: in_force(node), 45)
    assert node.log.count('"written"') == written + 1
    assert {path for path, time_ns in stamps(node).items() if time_ns != times[path]} == {
        "cpufreq/policy5/scaling_max_freq"
    }
    world.daemon_sets.resume()
    moved(server, node)


def stamps(node: SimNode) -> dict[str, int]:
    """When each file of the machine was last written."""
    root = node.folder / "sys/devices/system/cpu"
    return {
        str(path.relative_to(root)): path.stat().st_mtime_ns
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("how", ["no socket", "an error", "an empty answer", "an old answer"])
def test_the_kubelet_forgets(server: ApiServer, node: SimNode, how: str) -> None:
    """R7: no running pod changes speed while the kubelet does not say; a new pod waits; when it
    says again, all is as told.
    """
    known = dict(node.kubelet.cpus)
    match how:
        case "no socket":
            node.kubelet.stop()
        case "an error":
            node.kubelet.refuse = True
        case "an empty answer":
            node.kubelet.cpus.clear()
        case _:  # a pod that was there long ago, and not yet the one that runs
            node.kubelet.cpus.clear()
            node.kubelet.cpus["default", "gone", "app"] = {2, 3}
    server.kubectl(
        "patch",
        "powerprofile",
        "performance",
        "-n",
        NAMESPACE,
        "--type=merge",
        "-p",
        '{"spec":{"cstates":null}}',
    )
    for _ in range(8):
        time.sleep(0.5)
        assert in_force(node)
    node.kubelet.cpus.clear()
    node.kubelet.cpus.update(known)
    node.kubelet.refuse = False
    if how == "no socket":
        node.kubelet.start()
    admit(server, node, "late", (6, 7))
    wait_for(
        "the late pod is fast",
        lambda: node.cpufreqs("6-7") == {FAST} and node.cpufreqs("2-3") == {FAST},
        45,
    )


def test_no_socket_at_the_start(server: ApiServer, world: World) -> None:
    """Nothing that could be a pod's is written until the kubelet has answered once."""
    made = world.node("late", SMALL)
    server.kubectl("label", "node", "late", f"{LABEL}=true")
    made.kubelet.cpus["default", "web", "app"] = {2, 3}
    made.kubelet.stop()
    world.start()
    policy(server)
    server.apply(pod("web", "late", 2, "performance"))
    server.status("pod", "web", {"phase": "Running", "qosClass": "Guaranteed"}, "default")
    wait_for(
        "the agent says so",
        lambda: "NotAnswered" in str(server.get("pns", "late-power-state", "-n", NAMESPACE)),
        40,
    )
    assert made.shown() == made.before
    made.kubelet.start()
    wait_for("the plan is in force", lambda: in_force(made), 45)


def test_drift_is_repaired_and_told(server: ApiServer, node: SimNode) -> None:
    """Somebody else's value: an Event with the value, a condition, and it is put back (field report
    49).
    """
    node.write("cpufreq/policy6/scaling_governor", "performance")
    wait_for("it is repaired", lambda: in_force(node), 45)

    def events() -> list[str]:
        return [
            item["message"]
            for item in server.get("events", "-n", NAMESPACE)["items"]
            if item["reason"] == "ForeignValue"
        ]

    wait_for(
        "it is told",
        lambda: any(
            "policy6/scaling_governor" in text and "performance" in text for text in events()
        ),
        45,
    )


def test_a_storm_of_pod_events(server: ApiServer, node: SimNode) -> None:
    """Ten thousand of pods that have nothing to do with power (field report 59): a small share of a
    CPU, no pass, no line.

    Or as many as a slow server takes in less than the 90 s after which quiet watches are opened
    anew.
    """
    assert node.agent is not None
    statistics = Path(f"/proc/{node.agent.pid}/stat")

    def cpu_seconds() -> float:
        words = statistics.read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / 100

    other = pod("noise", "one", 1, None)
    other["spec"]["containers"][0]["resources"] = {}
    server.apply(other)
    before, lines, requests = cpu_seconds(), node.log.count("\n"), len(server.requests(AGENT))
    bodies = [f'{{"metadata":{{"annotations":{{"n":"{number}"}}}}}}' for number in range(EVENTS)]
    sent, seconds = 0, 0.0
    while sent < EVENTS and seconds < STORM_SECONDS:
        seconds += server.flood("/api/v1/namespaces/default/pods/noise", bodies[sent : sent + PART])
        sent += PART
    assert sent >= EVENTS // 4, "the API server is too slow for this test"
    used = cpu_seconds() - before
    assert used / sent < 0.0015, f"{used:.2f} s for {sent} events in {seconds:.0f} s"
    assert node.log.count("\n") - lines < 5
    assert len(server.requests(AGENT)) - requests < 5
    moved(server, node)


def test_nothing_is_asked_when_nothing_changes(server: ApiServer, node: SimNode) -> None:
    """Ten seconds of peace: no request but the watches that stand (at most 30 an hour are allowed),
    and of the operator only its lease (field report 56).
    """
    time.sleep(3)
    before = len(server.requests(AGENT)), len(asked_by_operator(server))
    time.sleep(10)
    assert (len(server.requests(AGENT)), len(asked_by_operator(server))) == before
    assert in_force(node)


def asked_by_operator(server: ApiServer) -> list[str]:
    """What the operator asked for, but for its lease."""
    return [
        entry["requestURI"]
        for entry in server.requests(OPERATOR)
        if "/leases/" not in entry["requestURI"]
    ]


def test_a_pod_ends_while_the_agent_is_down(server: ApiServer, node: SimNode, world: World) -> None:
    """Its CPUs go back when an agent runs again (field report 1)."""
    assert world.daemon_sets is not None
    world.daemon_sets.pause()
    node.end_agent(signal.SIGKILL)
    server.kubectl("delete", "pod", "web", "-n", "default", "--force", "--grace-period=0")
    node.kubelet.cpus.clear()
    assert node.cpufreqs("2-3") == {FAST}
    world.daemon_sets.resume()
    wait_for("its CPUs are shared again", lambda: node.cpufreqs("2-7") == {SLOW}, 45)


def test_the_definitions_come_late(server: ApiServer, world: World) -> None:
    """Operator and agent start without the kinds: they wait, log it, and work once the kinds are
    there.
    """
    made = world.node("early", SMALL)
    server.kubectl("label", "node", "early", f"{LABEL}=true")
    server.kubectl(
        "delete", "crd", "powernodeconfigs.power.openshift.io", "uncores.power.openshift.io"
    )
    try:
        world.start()
        policy(server)
        wait_for(
            "the operator waits", lambda: "waiting for the API server" in world.operator.log, 45
        )
        time.sleep(3)
        assert made.shown() == made.before
    finally:
        server.kubectl("apply", "--server-side", "-k", str(REPO / "crds"))
    admit(server, made)
    wait_for("the plan is in force", lambda: in_force(made), 90)


@pytest.mark.parametrize("agent", ["ends with it", "lives on"])
def test_a_node_object_goes_and_a_new_one_comes(
    server: ApiServer, node: SimNode, world: World, agent: str
) -> None:
    """Deleted and made again under its name: its objects too, and the plan is in force again
    (field report 44).
    """
    assert world.daemon_sets is not None
    if agent == "lives on":
        world.daemon_sets.pause()
    first = server.get("pns", "one-power-state", "-n", NAMESPACE)["metadata"]["uid"]
    starts = node.starts
    server.kubectl("delete", "node", "one")
    if agent == "ends with it":
        wait_for("the agent has ended", lambda: node.agent is None, 60)
    wait_for(
        "its objects are gone",
        lambda: server.get("pns", "one-power-state", "-n", NAMESPACE) is None,
        60,
    )
    labels = {"kubernetes.io/hostname": "one", "kubernetes.io/os": "linux", LABEL: "true"}
    server.apply(
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "one", "labels": labels}}
    )
    server.status("node", "one", {"conditions": [{"type": "Ready", "status": "True"}]})
    wait_for(
        "new objects",
        lambda: (
            (server.get("pns", "one-power-state", "-n", NAMESPACE) or {"metadata": {"uid": first}})[
                "metadata"
            ]["uid"]
            != first
        ),
        60,
    )
    wait_for("the plan is in force", lambda: in_force(node) and ready(server, "one"), 60)
    assert (node.starts == starts) == (agent == "lives on")
    world.daemon_sets.resume()


def test_a_node_is_renamed(server: ApiServer, node: SimNode, world: World) -> None:
    """The machine comes back under another name: its settings stay in the same state folder, the
    old objects go, no file is written.
    """
    assert world.daemon_sets is not None
    world.daemon_sets.pause()
    node.end_agent(signal.SIGKILL)
    before = stamps(node)
    server.kubectl("delete", "pod", "web", "-n", "default", "--force", "--grace-period=0")
    server.kubectl("delete", "node", "one")
    node.name = "uno"
    node.make_object(8)
    admit(server, node)
    server.kubectl("label", "node", "uno", f"{LABEL}=true")
    world.daemon_sets.resume()
    wait_for("the new name is ready", lambda: ready(server, "uno"), 60)
    wait_for(
        "the old objects are gone",
        lambda: server.get("pns", "one-power-state", "-n", NAMESPACE) is None,
        60,
    )
    assert in_force(node)
    assert stamps(node) == before


@pytest.fixture
def proxied(server: ApiServer, world: World) -> Iterator[tuple[SimNode, Proxy]]:
    """A node whose agent reaches the API server through a proxy, everything in force."""
    proxy = Proxy(server.port)
    made = world.node("one", SMALL)
    made.url = proxy.url
    server.kubectl("label", "node", "one", f"{LABEL}=true")
    world.start()
    policy(server)
    admit(server, made)
    wait_for("the plan is in force", lambda: in_force(made) and ready(server, "one"), 40)
    yield made, proxy
    world.close()
    proxy.close()


def test_watches_die_in_silence(server: ApiServer, proxied: tuple[SimNode, Proxy]) -> None:
    """Connections that stay open and bring nothing any more: noticed within the time of a missing
    bookmark, then resumed.
    """
    node, proxy = proxied
    proxy.swallow()
    server.kubectl(
        "patch",
        "powerprofile",
        "shared",
        "-n",
        NAMESPACE,
        "--type=merge",
        "-p",
        '{"spec":{"pstates":{"max":"20%"}}}',
    )
    wait_for(
        "an edit arrives", lambda: {item[1] for item in node.cpufreqs("4-7")} == {1380000}, 150, 0.5
    )
    assert node.log.count('"watch failed"') < 30


def test_a_slow_api_server(server: ApiServer, proxied: tuple[SimNode, Proxy]) -> None:
    """Two seconds each way: edits and pods arrive late, nothing breaks."""
    node, proxy = proxied
    proxy.delay = 2.0
    admit(server, node, "late", (6, 7))
    wait_for(
        "the late pod is fast",
        lambda: node.cpufreqs("6-7") == {FAST} and node.cpufreqs("2-3") == {FAST},
        60,
    )
    proxy.delay = 0.0


def test_the_kubelet_drops_the_extended_resources(server: ApiServer, node: SimNode) -> None:
    """Zeroed or gone after a restart of the kubelet: repaired, key by key (field report 25)."""
    name = "power.openshift.io/performance"
    for change in ({name: "0"}, {name: None}):
        server.status("node", "one", {"capacity": change, "allocatable": change})
        wait_for(
            "it is repaired",
            lambda: server.get("node", "one")["status"]["allocatable"].get(name) == "8",
            45,
        )
    assert server.get("node", "one")["status"]["capacity"]["cpu"] == "8"


def test_everything_is_uninstalled_at_once(server: ApiServer, node: SimNode, world: World) -> None:
    """PowerConfig deleted and the operator told to end in one moment: the node is put back, and the
    PowerConfig goes.
    """
    server.kubectl("delete", "powerconfig", "power-config", "-n", NAMESPACE, "--wait=false")
    assert world.operator.end() == 0
    assert server.get("powerconfig", "power-config", "-n", NAMESPACE) is None
    assert node.shown() == node.before


def _delete_config(server: ApiServer) -> None:
    server.kubectl("delete", "powerconfig", "power-config", "-n", NAMESPACE, "--wait=false")


def _errors(server: ApiServer) -> list[str]:
    found = server.get("powerconfig", "power-config", "-n", NAMESPACE)
    return list(((found or {}).get("status") or {}).get("errors") or ())


def test_an_agent_that_died_is_started_once_more_and_puts_everything_back(
    server: ApiServer, world: World, node: SimNode
) -> None:
    """The PowerConfig is deleted while no agent runs on a node that is well: it says what it waits
    for, and is gone soon after an agent has been there.
    """
    assert world.daemon_sets is not None
    world.daemon_sets.pause()
    node.end_agent(signal.SIGKILL)
    _delete_config(server)
    wait_for(
        "it says what it waits for",
        lambda: _errors(server) == ["waiting for node one: no agent runs there"],
    )
    assert server.get("daemonset", "power-node-agent", "-n", NAMESPACE) is not None
    world.daemon_sets.resume()
    wait_for(
        "the PowerConfig is gone",
        lambda: server.get("powerconfig", "power-config", "-n", NAMESPACE) is None,
        60,
    )
    assert node.shown() == node.before
