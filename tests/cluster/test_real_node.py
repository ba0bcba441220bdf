"""The user guide on a real node, from `make install deploy` to `make undeploy uninstall`.

kubelet, container runtime, scheduler, controllers and control plane are real, the DaemonSet's pod
is the one that the operator makes; only the CPUs' part of /sys is a folder of files. The tests
follow each other.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.cluster import images, story
from tests.cluster.cluster import AGENT, LABEL, NAMESPACE, NODE, Cluster
from tests.cluster.steps import REPO, wait_for
from tests.cluster.story import (
    BASELINE,
    FAST,
    OWNED,
    RESERVED,
    RESOURCE,
    SHARED,
    agent_ready,
    end,
    example,
    pod,
    shows,
    start,
    stays,
)

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("no_pods_left")]


def test_the_operator_becomes_ready(cluster: Cluster) -> None:
    """Also where the cluster's authority has no keyUsage."""
    cluster.make("install", "deploy")
    wait_for("the operator is ready", lambda: story.operator_ready(cluster), 60)


def test_a_labelled_node_gets_an_agent(cluster: Cluster) -> None:
    """The pod as the operator makes it starts, is Ready, and changes
    nothing that nobody asked for.
    """
    before = cluster.tree.content()
    with cluster.tree.watched() as written:
        cluster.kubectl("label", "node", NODE, f"{LABEL}=true")
        cluster.kubectl("apply", "-f", f"{REPO}/examples/example-powerconfig.yaml")
        agent_ready(cluster)
        wait_for("the node is reported as settled", cluster.settled)
    assert cluster.tree.content() == before
    assert written == []


def test_the_shared_pool_is_set(cluster: Cluster) -> None:
    """All but the reserved CPU."""
    cluster.apply(example("shared-profile"), example("powerprofile"), story.shared_workload())
    shows(cluster.tree, SHARED)
    assert cluster.tree.limits(RESERVED) == BASELINE


def openable(installed: Cluster, agent: str) -> list[str]:
    """Files of the host that a program in the agent's container can open for writing."""
    program = f"""
import os
for top, _, names in os.walk("/host"):
    for name in names:
        try:
            os.close(os.open(os.path.join(top, name), os.O_WRONLY))
            print(os.path.join(top, name))
        except OSError:
            continue
print("looked at", len(os.listdir("/host/sys/devices/system/cpu/cpufreq/policy{OWNED}")) > 0)
"""
    said = installed.kubectl(
        "exec", "-n", NAMESPACE, agent, "-c", "agent", "--", "/opt/kpm/bin/python", "-c", program
    )
    *found, last = said.splitlines()
    assert last == "looked at True"
    return found


def cgroup_controllers() -> set[str]:
    """The controllers of cgroup v1 that this machine has mounted."""
    return (
        {path.name for path in Path("/sys/fs/cgroup").iterdir()}
        if not Path("/sys/fs/cgroup/cgroup.controllers").exists()
        else set()
    )


def test_the_agent_itself_can_write_nothing_of_the_host(installed: Cluster) -> None:
    """What talks to the network sees the machine read-only; who writes for it has no network."""
    assert openable(installed, installed.agent()) == []


def first_process(installed: Cluster, container: str, file: str) -> dict[str, str]:
    """A file of /proc about the first process of one of the agent's containers, by its lines'
    names.
    """
    words = ["--", "/opt/kpm/bin/python", "-c", f"print(open('/proc/1/{file}').read())"]
    said = installed.kubectl("exec", "-n", NAMESPACE, installed.agent(), "-c", container, *words)
    return {
        name: value.strip()
        for name, _, value in (line.partition(":") for line in said.splitlines())
    }


def test_each_container_has_the_privileges_that_the_page_on_security_names(
    installed: Cluster,
) -> None:
    """As the kernel has them: no capability where the network is, CAP_SYS_ADMIN alone where it is
    not.
    """
    agent, helper = (first_process(installed, name, "status") for name in ("agent", "helper"))
    assert (agent["CapEff"], agent["CapBnd"], helper["CapEff"]) == (
        "0" * 16,
        "0" * 16,
        f"{1 << 21:016x}",
    )
    assert (agent["NoNewPrivs"], helper["NoNewPrivs"]) == ("1", "1")
    assert (agent["Seccomp"], helper["Seccomp"]) == ("2", "2")
    assert int(helper["Seccomp_filters"]) == int(agent["Seccomp_filters"]) + 1


def test_neither_container_takes_more_memory_than_it_asks_for(installed: Cluster) -> None:
    """Proportional, in MiB, as docs/developer/bench.md has them."""
    agent, helper = (first_process(installed, name, "smaps_rollup") for name in ("agent", "helper"))
    assert int(agent["Rss"].split()[0]) <= 72 * 1024
    assert int(helper["Pss"].split()[0]) <= 12 * 1024


def test_the_runtime_tells_of_containers(installed: Cluster) -> None:
    """NRI is on in this node's containerd: the helper is its plugin, and the agent knows of every
    container.
    """
    wait_for(
        "the helper is connected",
        lambda: (
            "runtime connected"
            in installed.kubectl("logs", "-n", NAMESPACE, installed.agent(), "-c", "helper")
        ),
    )
    wait_for(
        "the agent is told",
        lambda: (
            '"state": "synced"'
            in installed.kubectl("logs", "-n", NAMESPACE, installed.agent(), "-c", "agent")
        ),
    )


def test_a_foreign_edit_of_the_agents_is_put_back(installed: Cluster) -> None:
    """A security context above all: whoever may edit DaemonSets is no operator."""
    patch = '{"spec": {"template": {"spec": {"hostPID": true}}}}'
    installed.kubectl("patch", "daemonset", "power-node-agent", "-n", NAMESPACE, "-p", patch)
    wait_for(
        "hostPID is gone",
        lambda: (
            not installed.get("daemonset", "power-node-agent", "-n", NAMESPACE)["spec"]["template"][
                "spec"
            ].get("hostPID")
        ),
    )
    agent_ready(installed)


def test_a_guaranteed_pod_is_scheduled_by_its_profile_and_tuned(installed: Cluster) -> None:
    assert start(installed, pod("fast")) == str(OWNED)
    shows(installed.tree, FAST)
    assert installed.tree.limits(RESERVED) == BASELINE
    wait_for("the node's state names the pod", lambda: "fast" in json.dumps(installed.state()))


def test_the_cpu_is_shared_again_when_the_pod_is_gone(installed: Cluster) -> None:
    start(installed, pod("gone"))
    shows(installed.tree, FAST)
    end(installed, "gone")
    shows(installed.tree, SHARED)


def test_a_profile_is_edited_while_a_pod_uses_it(installed: Cluster) -> None:
    start(installed, pod("edited"))
    shows(installed.tree, FAST)
    profile = example("powerprofile")
    slower = story.edited(profile, pstates={**profile["spec"]["pstates"], "max": "80%"})
    installed.apply(slower)
    shows(installed.tree, (FAST[0], 3040000, *FAST[2:]))
    installed.apply(profile)
    shows(installed.tree, FAST)


def test_an_edit_that_cannot_be_honoured_slows_no_pod(installed: Cluster) -> None:
    """A typo in a profile in use: its pods keep what they have, those that come get the same, over
    a new agent too; the node says which version that is, and the profile what is wrong. The next
    edit is in force again.
    """
    start(installed, pod("typo"))
    shows(installed.tree, FAST)
    profile = example("powerprofile")
    with installed.tree.watched() as written:
        installed.apply(
            story.edited(profile, pstates={**profile["spec"]["pstates"], "governor": "no-such"})
        )
        name = f"PowerProfile/{profile['metadata']['name']}"
        wait_for(
            "the node says which version holds",
            lambda: (
                name in [item["object"] for item in installed.state().get("earlierVersions", ())]
            ),
        )
        installed.kubectl("delete", "pod", "-n", NAMESPACE, installed.agent())
        agent_ready(installed)
        assert stays(lambda: installed.tree.limits(OWNED) == FAST, 2)
    assert written == []
    end(installed, "typo")
    start(installed, pod("later"))
    shows(installed.tree, FAST)
    errors = installed.get("powerprofile", profile["metadata"]["name"], "-n", NAMESPACE)["status"][
        "errors"
    ]
    assert any("no-such" in line for line in errors), errors
    installed.apply(profile)
    wait_for("nothing is held any more", lambda: not installed.state().get("earlierVersions"))
    shows(installed.tree, FAST)


def test_a_sidecar_shares_and_its_pod_owns(installed: Cluster) -> None:
    """A native sidecar runs on what is shared; the container beside it has its CPU."""
    item = pod("beside")
    sidecar = {
        "name": "sidecar",
        "image": images.BUSYBOX,
        "command": story.IDLE,
        "restartPolicy": "Always",
    }
    item["spec"]["initContainers"] = [{**sidecar, "resources": story.resources("20m")}]
    assert start(installed, item) == str(OWNED)
    shows(installed.tree, FAST)
    assert str(RESERVED) in story.cpus(installed, "beside", "sidecar")


def test_a_burstable_pod_owns_nothing_and_is_told_so(installed: Cluster) -> None:
    with installed.tree.watched() as written:
        start(installed, pod("burst", cpu="500m", limit="1"))
        wait_for("the pod is told", lambda: "pod-not-guaranteed" in problems(installed, "burst"))
        assert stays(lambda: installed.tree.limits(OWNED) == SHARED, 2)
    assert written == []


def test_resources_of_the_whole_pod_own_nothing(installed: Cluster) -> None:
    """The static CPU manager gives CPUs to containers that ask themselves; a pod that asks as a
    whole has none.
    """
    item = pod("whole")
    item["spec"]["resources"] = {
        "requests": {"cpu": "1", "memory": "20Mi"},
        "limits": {"cpu": "1", "memory": "20Mi"},
    }
    item["spec"]["containers"][0]["resources"] = {
        "limits": {RESOURCE: "1"},
        "requests": {RESOURCE: "1"},
    }
    allowed = start(installed, item)
    if allowed == str(OWNED):  # a kubelet that knows how
        shows(installed.tree, FAST)
        return
    assert stays(lambda: installed.tree.limits(OWNED) == SHARED, 3)
    wait_for("the pod is told", lambda: "pod-not-guaranteed" in problems(installed, "whole"))


def test_a_resize_that_cannot_be_leaves_the_pod_as_it_is(installed: Cluster) -> None:
    start(installed, pod("resized"))
    shows(installed.tree, FAST)
    patch = {
        "spec": {
            "containers": [
                {"name": "main", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}}
            ]
        }
    }
    with installed.tree.watched() as written:
        installed.kubectl(
            "patch", "pod", "resized", "--subresource=resize", "--patch", json.dumps(patch)
        )
        wait_for(
            "the kubelet refuses",
            lambda: "Infeasible" in json.dumps(installed.get("pod", "resized")["status"]),
        )
        assert stays(lambda: installed.tree.limits(OWNED) == FAST, 3)
    assert written == []


def test_a_static_pod_is_tuned(installed: Cluster) -> None:
    """Its number at the kubelet is not the one that the API server shows."""
    manifest = installed.node.path("/etc/kubernetes/manifests/static.yaml")
    manifest.write_text(yaml.safe_dump(pod("static")))
    try:
        wait_for("the static pod runs", lambda: story.running(installed, f"static-{NODE}"), 60)
        assert story.cpus(installed, f"static-{NODE}") == str(OWNED)
        shows(installed.tree, FAST)
    finally:
        manifest.unlink()
    shows(installed.tree, SHARED, seconds=60)


# --- what restarts, while a pod runs ---


@pytest.fixture
def with_pod(installed: Cluster) -> Cluster:
    """A pod runs on its tuned CPU."""
    start(installed, pod("steady"))
    shows(installed.tree, FAST)
    return installed


def test_nothing_is_written_when_the_kubelet_restarts(with_pod: Cluster) -> None:
    with with_pod.tree.watched() as written:
        with_pod.node.restart_kubelet()
        wait_for("the kubelet answers again", lambda: kubelet_answers(with_pod), 60)
        assert stays(lambda: with_pod.tree.limits(OWNED) == FAST, 6)
        wait_for("the node is settled", with_pod.settled)
    assert written == []
    assert story.running(with_pod, "steady")


def test_nothing_is_written_when_containerd_restarts(with_pod: Cluster) -> None:
    with with_pod.tree.watched() as written:
        with_pod.node.restart_containerd()
        wait_for("the node is Ready", with_pod.node_ready, 60)
        assert stays(lambda: with_pod.tree.limits(OWNED) == FAST, 5)
    assert written == []


def test_nothing_is_written_when_the_agent_is_killed(with_pod: Cluster) -> None:
    """It comes back by itself, and finds what it had done."""
    (agent,) = with_pod.agents()
    with with_pod.tree.watched() as written:
        before = with_pod.agent_container(agent)
        with_pod.node.run("kill", "-KILL", str(inner(with_pod, story.process_of(with_pod, before))))
        wait_for("the agent was restarted", lambda: restarts(with_pod) > before["restartCount"], 40)
        agent_ready(with_pod)
        wait_for("the node is settled", with_pod.settled)
    assert written == []
    assert with_pod.tree.limits(OWNED) == FAST


def test_an_upgrade_writes_nothing(with_pod: Cluster) -> None:
    """Another image for operator and agent: both roll, the pod and its CPU do not notice."""
    first, product = with_pod.agent(), images.PRODUCT
    with_pod.node.run("ctr", "-n", "k8s.io", "images", "tag", f"{product}:test", f"{product}:next")
    with with_pod.tree.watched() as written:
        with_pod.make("deploy", image=f"{product}:next")
        agent_ready(with_pod, but=first)
        (agent,) = wait_for(
            "one agent is left", lambda: len(found := with_pod.agents()) == 1 and found
        )
        assert with_pod.agent_container(agent)["image"] == f"{product}:next"
        wait_for("the node is settled", with_pod.settled)
    assert written == []
    assert with_pod.tree.limits(OWNED) == FAST


def test_a_node_is_drained_and_comes_back(with_pod: Cluster) -> None:
    """The agent stays on a drained node, and its CPUs are shared until pods come again."""
    with_pod.kubectl(
        "drain", NODE, "--ignore-daemonsets", "--force", "--delete-emptydir-data", "--timeout=60s"
    )
    shows(with_pod.tree, SHARED)
    with_pod.kubectl("uncordon", NODE)
    start(with_pod, pod("again"))
    shows(with_pod.tree, FAST)


# --- looking at it ---


def power(cluster: Cluster, *words: str) -> tuple[int, str]:
    """What a person sees of `kubectl power WORDS` -o json: status and answer."""
    program = "from kpm.__main__ import kubectl_power; kubectl_power()"
    place = ["--kubeconfig", f"{cluster.folder}/pki/admin.conf", "-n", NAMESPACE]
    command = [*cluster.network.words(), sys.executable, "-c", program, *words, *place]
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=env, timeout=120
    )
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, done.stdout


def test_the_cluster_is_told_by_kubectl_power(with_pod: Cluster) -> None:
    """Who holds which CPU since when, as the real kubelet handed it out; and nothing is wrong that
    is not of this machine.
    """
    wait_for("all is well", lambda: power(with_pod, "status")[0] == 0)
    found = json.loads(power(with_pod, "status", NODE, "-o", "json")[1])
    (own,) = [row for row in found["pools"] if row["pool"] == "exclusive"]
    assert own["cpus"] == str(OWNED)
    assert own["holder"].split("/")[1] == "steady"
    assert own["since"]
    assert "steady" in power(with_pod, "explain", NODE, "cpu", str(OWNED))[1]
    findings = json.loads(power(with_pod, "doctor", "-o", "json")[1])["findings"]
    assert findings == []


def test_the_doctor_names_what_is_missing_and_what_mends_it(with_pod: Cluster) -> None:
    """Somebody deletes a binding of the admission policies; `make deploy` is named, and helps."""

    def codes() -> list[str]:
        found = json.loads(power(with_pod, "doctor", "-o", "json")[1])["findings"]
        assert all("make deploy" in item["mend"] for item in found)
        return [item["code"] for item in found]

    with_pod.kubectl("delete", "validatingadmissionpolicybinding", "power-manager-telemetry")
    wait_for("it is found", lambda: codes() == ["no-admission-policies"])
    with_pod.make("deploy")
    wait_for("it is mended", lambda: codes() == [])
    assert story.running(with_pod, "steady")
    assert with_pod.tree.limits(OWNED) == FAST


def test_what_kubectl_power_foretells_is_what_the_agent_writes(
    with_pod: Cluster, tmp_path: Path
) -> None:
    """Objects are compared, applied, and the files that the agent writes are counted."""
    asked = example("powerprofile")
    slower = story.edited(asked, pstates={**asked["spec"]["pstates"], "max": "80%"})
    policy = tmp_path / "slower.yaml"
    policy.write_text(yaml.safe_dump(slower))
    with with_pod.tree.watched() as written:
        status, said = power(with_pod, "plan", "-f", str(policy), "-o", "json")
        assert written == []
    assert status == 1
    (change,) = json.loads(said)["changes"]
    assert change["nodes"] == [NODE]
    before = with_pod.tree.content()
    with_pod.apply(slower)

    def changed() -> int:
        return sum(before[path] != text for path, text in with_pod.tree.content().items())

    wait_for("it is written", lambda: changed() == change["writes"])
    with_pod.apply(asked)
    wait_for("it is as before", lambda: with_pod.tree.content() == before)


# --- measuring ---


def test_energy_is_told_by_the_name_of_the_pod(with_pod: Cluster) -> None:
    """Where nothing measures, an estimate, labelled as one."""
    first = with_pod.agent()
    measuring = story.edited(
        example("powerconfig"),
        agent={
            "metrics": {"levels": ["node", "pod", "container"], "estimate": True, "interval": "1s"}
        },
    )
    with with_pod.tree.watched() as written:
        with_pod.apply(measuring)
        name = agent_ready(with_pod, but=first)
        wait_for("the pod has joules", lambda: joules(with_pod, name, "steady") > 0, 40, 0.5)
        # the real API server reaches the agent's port through the real kubelet's pod
        words = ("top", NODE, "--once", "--interval", "2s", "-o", "json")
        live = json.loads(power(with_pod, *words)[1])
        assert live["notes"] == []
        assert any(name.endswith("/steady") for name in live["pods"])
        assert {item["cpu"] for item in live["cpus"] if item["busy"] is not None}
    assert written == []
    # On cgroup v1 each controller is a mount of its own, which containerd 1.7 cannot make read-only
    # with the folder above.
    left = {"/".join(path.split("/")[:6]) for path in openable(with_pod, name)}
    assert left <= (
        set()
        if recursive_read_only(with_pod)
        else {f"/host/sys/fs/cgroup/{controller}" for controller in cgroup_controllers()}
    )
    with_pod.kubectl(
        "patch",
        "powerconfig",
        "power-config",
        "-n",
        NAMESPACE,
        "--type=json",
        "-p",
        '[{"op": "remove", "path": "/spec/agent"}]',
    )
    agent_ready(with_pod, but=name)


# --- the end ---


def test_the_machine_is_as_it_was_when_the_powerconfig_is_gone(with_pod: Cluster) -> None:
    """Also while a pod runs: its CPU goes back to what was there before."""
    with_pod.kubectl("delete", "powerconfig", "power-config", "-n", NAMESPACE, "--timeout=60s")
    assert {cpu: with_pod.tree.limits(cpu) for cpu in (RESERVED, OWNED)} == {
        RESERVED: BASELINE,
        OWNED: BASELINE,
    }
    wait_for("the agents are gone", lambda: not (with_pod.get("pods", *AGENT) or {}).get("items"))
    assert RESOURCE not in with_pod.get("node", NODE)["status"]["allocatable"]


def test_undeploy_leaves_nothing(cluster: Cluster, baseline: dict[str, bytes]) -> None:
    cluster.make("undeploy", "uninstall")
    wait_for("the namespace is gone", lambda: cluster.get("namespace", NAMESPACE) is None)
    assert cluster.tree.content() == baseline
    assert "power" not in cluster.kubectl(
        "get", "crd,clusterrole,clusterrolebinding,validatingadmissionpolicy", "-o", "name"
    ).replace("powercap", "")


# --- how it is looked at ---


def problems(cluster: Cluster, name: str) -> str:
    """What the pod's events and the node's state say of it."""
    events = cluster.kubectl(
        "get",
        "events",
        "-n",
        "default",
        "--field-selector",
        f"involvedObject.name={name}",
        "-o",
        "json",
        check=False,
    )
    told = [item for item in cluster.state().get("problems") or () if name in json.dumps(item)]
    return events + json.dumps(told)


def restarts(cluster: Cluster) -> int:
    return max(
        (cluster.agent_container(item).get("restartCount", 0) for item in cluster.agents()),
        default=0,
    )


def inner(cluster: Cluster, pid: int) -> int:
    """A process by its number in the node's own namespace, the second of those that it has."""
    words = next(
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("NSpid:")
    ).split()
    return int(words[2])


def kubelet_answers(cluster: Cluster) -> bool:
    return (
        cluster.kubectl("get", "--raw", f"/api/v1/nodes/{NODE}/proxy/healthz", check=False).strip()
        == "ok"
    )


def recursive_read_only(cluster: Cluster) -> bool:
    """Whether the runtime makes what is mounted below a read-only folder read-only too, as the
    kubelet has it from there.
    """
    handlers = cluster.get("node", NODE)["status"].get("runtimeHandlers") or ()
    return any((item.get("features") or {}).get("recursiveReadOnlyMounts") for item in handlers)


def joules(cluster: Cluster, agent: str, name: str) -> float:
    """What /metrics has of a pod, over all zones."""
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{agent}:10258/proxy/metrics"
    text = cluster.kubectl("get", "--raw", path, check=False)
    values = re.findall(
        rf'^kpm_pod_joules_total{{[^}}]*pod="{name}"[^}}]*}} (\S+)', text, re.MULTILINE
    )
    return sum(float(value) for value in values)
