"""The user guide on a node whose kernel drivers are real: what the agents' pod writes is what the
kernel then does.

Everything is as users have it (kubelet, containerd, systemd, cgroup v2, AppArmor, scheduler,
controllers, the image, the operator's DaemonSet) on an emulated machine with a real frequency
and a real idle driver. The tests follow each other.
"""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tests.cluster.cluster import NAMESPACE, NODE
from tests.cluster.steps import wait_for
from tests.cluster.story import RESOURCE, edited, end, example, running
from tests.cluster.story import cpus as cpus_of
from tests.cluster_vm import vm_story
from tests.cluster_vm.vm_attack import Taken, attack
from tests.cluster_vm.vm_cluster import PATIENCE, VmCluster
from tests.cluster_vm.vm_cpus import Cpus
from tests.cluster_vm.vm_proof import PROFILE, SYS_ADMIN, Confinement, confinement
from tests.cluster_vm.vm_story import (
    DEEP,
    FIRST,
    NAMED,
    NAMED_OFF,
    RESERVED,
    SECOND,
    SHARED,
    container,
    pod,
    shows,
    told,
)
from tests.kernel.lab_firmware import P_STATES_MHZ

pytestmark = pytest.mark.cluster_vm
_ALL = range(4)
_CPUS = "/host/sys/devices/system/cpu/"
_MEASURING = {"levels": ["node", "pod", "container", "process"], "estimate": True, "interval": "5s"}
#: What drivers have no word for is left out of a profile: acpi-cpufreq knows no EPP.
_EPP = {"amd-pstate-epp": ("power", "performance"), "acpi-cpufreq": ("", "")}


@pytest.fixture(scope="module")
def baseline(cluster: VmCluster) -> Cpus:
    """What the kernel set at boot, before anything was installed."""
    cluster.booted()
    told(cluster, "baseline")
    return cluster.cpus()


# --- the pod as it is shipped ---


def test_the_agent_becomes_ready_and_changes_nothing(cluster: VmCluster, baseline: Cpus) -> None:
    """README's commands; nobody has asked for anything yet."""
    vm_story.install(cluster)
    wait_for("the node is settled", cluster.settled, PATIENCE, 0.5)
    assert cluster.cpus() == baseline
    assert restarts(cluster) == 0


def test_the_agent_has_no_privilege_and_the_helper_one(cluster: VmCluster) -> None:
    """As the kernel has it, under containerd's own AppArmor profile."""
    agent, helper = (confinement(cluster, name) for name in ("agent", "helper"))
    cluster.tell("confinement", f"agent {agent}")
    cluster.tell("confinement", f"helper {helper}")
    assert agent == Confinement(PROFILE, capabilities=0, no_new_privileges=True, seccomp=2)
    assert helper == Confinement(PROFILE, capabilities=SYS_ADMIN, no_new_privileges=True, seccomp=2)


def test_the_shared_pool_is_set(cluster: VmCluster, baseline: Cpus) -> None:
    """All but the reserved CPU. Under acpi-cpufreq the governor is a module not loaded yet."""
    by_module = cluster.driver == "acpi-cpufreq"
    assert (powersave_loaded(cluster), by_module) in ((False, True), (False, False))
    vm_story.share(cluster)
    shown = shows(cluster, lambda cpus: are_shared(cluster, cpus, FIRST, SECOND, SHARED))
    told(cluster, "shared")
    assert same(shown, baseline, RESERVED)
    assert powersave_loaded(cluster) is by_module
    wait_for(
        "the profile can be asked for",
        lambda: NAMED in cluster.get("node", NODE)["status"]["allocatable"],
        PATIENCE,
    )


def test_the_idle_states_of_a_guaranteed_pod_are_off(cluster: VmCluster) -> None:
    """By the deployed pod, on the real kernel: cpuidle asks for CAP_SYS_ADMIN."""
    vm_story.start(cluster, pod("fast"))
    shown = shows(cluster, lambda cpus: is_fast(cluster, cpus, FIRST) and cpus.off(FIRST) == DEEP)
    told(cluster, "pod fast")
    assert {cpu: shown.off(cpu) for cpu in (RESERVED, SECOND, SHARED)} == {
        RESERVED: set(),
        SECOND: set(),
        SHARED: set(),
    }
    assert {shown.latency(cpu) for cpu in _ALL} == {"0"}
    wait_for("the node is settled", cluster.settled, PATIENCE)
    assert "fast" in json.dumps(cluster.state())


def test_whoever_takes_the_agent_over_can_write_nothing_of_its_host(cluster: VmCluster) -> None:
    taken = attack(cluster, "agent")
    cluster.tell("attack from the agent", taken.summary())
    assert taken.of_host() == []
    assert taken.of_kernel() == []


def test_whoever_takes_the_helper_over_can_write_the_cpus_and_nothing_else(
    cluster: VmCluster,
) -> None:
    """Also with CAP_SYS_ADMIN: AppArmor refuses to make a mount writable."""
    taken = attack(cluster, "helper")
    cluster.tell("attack from the helper", taken.summary())
    for line in shapes(taken):
        cluster.tell("the helper's container may write", line)
    assert taken.of_host(but=_CPUS) == []
    assert taken.of_kernel() == []
    assert "" not in taken.report["remount"].values()


# --- pods ---


def test_an_accepted_resize_leaves_the_cpu_tuned(cluster: VmCluster) -> None:
    """More memory in place: the kubelet takes it also of a container that owns its CPU."""
    before = cluster.cpus()
    more = {"requests": {"memory": "40Mi"}, "limits": {"memory": "40Mi"}}
    patch = {"spec": {"containers": [{"name": "main", "resources": more}]}}
    cluster.kubectl("patch", "pod", "fast", "--subresource=resize", "--patch", json.dumps(patch))
    wait_for("the kubelet has resized it", lambda: resized(cluster, "fast", "40Mi"), PATIENCE, 0.5)
    assert running(cluster, "fast")
    assert cluster.cpus() == before


def test_the_cpu_is_shared_again_when_the_pod_is_gone(cluster: VmCluster) -> None:
    end(cluster, "fast")
    shows(cluster, lambda cpus: are_shared(cluster, cpus, FIRST))


def test_two_containers_of_a_pod_have_two_profiles(cluster: VmCluster) -> None:
    """One turns idle states off by their latency, the other one by its name."""
    vm_story.start(cluster, pod("two", container("first", RESOURCE), container("second", NAMED)))
    fast, named = (owned(cluster, "two", name) for name in ("first", "second"))
    assert {fast, named} == {FIRST, SECOND}
    shows(cluster, lambda cpus: is_fast(cluster, cpus, fast) and cpus.off(fast) == DEEP)
    shows(
        cluster,
        lambda cpus: cpus.off(named) == NAMED_OFF and cpus.limits(named)[2] == "performance",
    )
    shows(cluster, lambda cpus: are_shared(cluster, cpus, SHARED))
    told(cluster, "pod two")
    end(cluster, "two")
    shows(cluster, lambda cpus: are_shared(cluster, cpus, FIRST, SECOND))


def test_a_cpu_that_comes_back_is_tuned_again(cluster: VmCluster) -> None:
    """Off and on while the shared pool has an idle state off and a pod runs on another CPU."""
    vm_story.start(cluster, pod("fast"))
    shows(cluster, lambda cpus: cpus.off(FIRST) == DEEP)
    cluster.apply(edited(example("shared-profile"), cstates={"names": {"C3": False}}))
    shows(cluster, lambda cpus: cpus.off(SHARED) == {"C3"})
    cluster.on_node(f"echo 0 > /sys/devices/system/cpu/cpu{SHARED}/online")
    wait_for(
        "the node has one CPU less", lambda: cluster.state()["sizes"]["offline"] == 1, PATIENCE, 0.5
    )
    assert is_fast(cluster, cluster.cpus(), FIRST)
    cluster.on_node(f"echo 1 > /sys/devices/system/cpu/cpu{SHARED}/online")
    shows(cluster, lambda cpus: is_shared(cluster, cpus, SHARED) and cpus.off(SHARED) == {"C3"})
    cluster.tell("cpu 3 came back", cluster.cpus().line(SHARED))
    events = cluster.kubectl("get", "events", "-n", NAMESPACE)
    assert "ForeignValue" not in events, "what its driver forgot nobody else has written"
    # A kept descriptor of `disable` is dead after that: the next write must find its way.
    cluster.apply(example("shared-profile"))
    shows(cluster, lambda cpus: not cpus.off(SHARED))
    wait_for("the node is settled", cluster.settled, PATIENCE, 0.5)


def test_a_node_that_reboots_is_tuned_again(cluster: VmCluster) -> None:
    """With a pod on its CPU: shut down under amd-pstate-epp, cut off from power under the other."""
    before = boot(cluster)
    if cluster.driver == "amd-pstate-epp":
        cluster.on_node("systemctl reboot", check=False)
    else:
        cluster.machine.cut_power()
    wait_for("the node boots anew", lambda: boot(cluster) not in ("", before), PATIENCE, 1)
    cluster.tell("ssh answers after the reboot")
    told(cluster, "right after the reboot")
    shows(cluster, lambda cpus: is_fast(cluster, cpus, FIRST) and cpus.off(FIRST) == DEEP, PATIENCE)
    shows(cluster, lambda cpus: are_shared(cluster, cpus, SECOND, SHARED))
    wait_for("the pod runs", lambda: running(cluster, "fast"), PATIENCE, 0.5)
    vm_story.agent_ready(cluster)
    wait_for("the node is settled", cluster.settled, PATIENCE, 0.5)
    told(cluster, "tuned after the reboot")


# --- idle states by a limit of latency, and measuring ---


def test_by_latency_needs_no_capability(cluster: VmCluster) -> None:
    """The same profile sets the CPU's limit and turns nothing off; the helper has nothing left.

    Said by the PowerConfig; under amd-pstate-epp by the operator, which allows no more.
    """
    if cluster.driver == "amd-pstate-epp":
        vm_story.allow(cluster, "byLatency")
        vm_story.configure(cluster, metrics=_MEASURING)
    else:
        vm_story.configure(cluster, idleStates="byLatency", metrics=_MEASURING)
    limit = str(example("powerprofile")["spec"]["cstates"]["maxLatencyUs"])
    shown = shows(
        cluster, lambda cpus: is_fast(cluster, cpus, FIRST) and cpus.latency(FIRST) == limit
    )
    told(cluster, "by latency")
    assert {cpu: shown.off(cpu) for cpu in _ALL} == {cpu: set() for cpu in _ALL}
    assert {shown.latency(cpu) for cpu in (RESERVED, SECOND, SHARED)} == {"0"}
    helper = confinement(cluster, "helper")
    cluster.tell("confinement by latency", f"helper {helper}")
    assert helper == Confinement(PROFILE, capabilities=0, no_new_privileges=True, seccomp=2)


@pytest.mark.parametrize("name", ["agent", "helper"])
def test_measuring_opens_nothing_for_writing(cluster: VmCluster, name: str) -> None:
    """With the mounts of level process, on cgroup v2: still the CPUs
    alone, for the helper alone.
    """
    taken = attack(cluster, name, seconds=900)
    cluster.tell(f"attack from the {name} that measures", taken.summary())
    assert taken.of_host(but=_CPUS if name == "helper" else "") == []
    assert taken.of_kernel() == []


# --- the end ---


def test_all_is_as_it_was_when_the_powerconfig_is_gone(cluster: VmCluster, baseline: Cpus) -> None:
    """Also while a pod runs, and after a reboot: every value of every CPU."""
    assert running(cluster, "fast")
    cluster.kubectl(
        "delete", "powerconfig", "power-config", "-n", NAMESPACE, "--timeout=120s", seconds=150
    )
    told(cluster, "PowerConfig gone")
    assert cluster.cpus() == baseline
    wait_for("the agents are gone", lambda: vm_story.agents_gone(cluster), PATIENCE, 0.5)
    assert RESOURCE not in cluster.get("node", NODE)["status"]["allocatable"]


def test_undeploy_leaves_nothing(cluster: VmCluster, baseline: Cpus) -> None:
    end(cluster, "fast")
    cluster.make("undeploy", "uninstall")
    wait_for(
        "the namespace is gone", lambda: cluster.get("namespace", NAMESPACE) is None, PATIENCE, 0.5
    )
    assert cluster.cpus() == baseline
    cluster.tell("end", f"emulator's CPU {cluster.machine.cpu_seconds():.0f} s")


# --- how it is looked at ---


def share_of(cpus: Cpus, cpu: int, percent: int) -> int:
    low, high = cpus.hardware(cpu)
    return low + (high - low) * percent // 100


def is_shared(cluster: VmCluster, cpus: Cpus, cpu: int) -> bool:
    """As examples/example-shared-profile.yaml says: 0 to 30%."""
    low, _ = cpus.hardware(cpu)
    return cpus.limits(cpu) == (
        low,
        at_most(cluster, cpus, cpu, 30),
        "powersave",
        _EPP[cluster.driver][0],
    )


def are_shared(cluster: VmCluster, cpus: Cpus, *numbers: int) -> bool:
    """All of them, without an idle state off."""
    return all(is_shared(cluster, cpus, cpu) and not cpus.off(cpu) for cpu in numbers)


def is_fast(cluster: VmCluster, cpus: Cpus, cpu: int) -> bool:
    """As examples/example-powerprofile.yaml says: 75 to 95%."""
    wanted = (
        at_least(cluster, cpus, cpu, 75),
        at_most(cluster, cpus, cpu, 95),
        "performance",
        _EPP[cluster.driver][1],
    )
    return cpus.limits(cpu) == wanted


def at_most(cluster: VmCluster, cpus: Cpus, cpu: int, percent: int) -> int:
    """A highest frequency as the kernel shows it: with a table, the entry below (K3)."""
    wanted = share_of(cpus, cpu, percent)
    return max(entry for entry in table(cluster, wanted) if entry <= wanted)


def at_least(cluster: VmCluster, cpus: Cpus, cpu: int, percent: int) -> int:
    """A lowest frequency: the entry above, but not above the highest of `performance`."""
    wanted = share_of(cpus, cpu, percent)
    above = [entry for entry in table(cluster, wanted) if entry >= wanted]
    return min(*above, at_most(cluster, cpus, cpu, 95))


def table(cluster: VmCluster, wanted: int) -> list[int]:
    """The frequencies that the driver has, kHz; any where it has no table."""
    return [mhz * 1000 for mhz, _ in P_STATES_MHZ] if cluster.driver == "acpi-cpufreq" else [wanted]


def same(shown: Cpus, before: Cpus, cpu: int) -> bool:
    return shown.line(cpu) == before.line(cpu)


def powersave_loaded(cluster: VmCluster) -> bool:
    return "cpufreq_powersave" in cluster.on_node("cut -d' ' -f1 /proc/modules")


def owned(cluster: VmCluster, pod: str, container: str) -> int:
    """The one CPU that a container has, as it said when it began."""
    return int(cpus_of(cluster, pod, container))


def restarts(cluster: VmCluster) -> int:
    every = [
        cluster.agent_container(item, name)
        for item in cluster.agents()
        for name in ("agent", "helper")
    ]
    return max(int(item.get("restartCount", 0)) for item in every)


def resized(cluster: VmCluster, name: str, memory: str) -> bool:
    """The kubelet says that it has done it."""
    status = cluster.get("pod", name)["status"]
    (main,) = status["containerStatuses"]
    pending = "Resize" in json.dumps(status["conditions"])
    return main["resources"]["limits"]["memory"] == memory and not pending


def boot(cluster: VmCluster) -> str:
    """The number that the kernel gave itself at this boot; nothing while it goes down."""
    try:
        cluster.link.open()
        return cluster.on_node("cat /proc/sys/kernel/random/boot_id", seconds=60).strip()
    except (AssertionError, subprocess.TimeoutExpired):
        return ""


def shapes(taken: Taken) -> list[str]:
    """The files below /host by their shape: how many, and which."""
    found: dict[str, int] = {}
    for path in taken.of_host():
        shape = re.sub(r"(cpu|policy|state|index)\d+", r"\1N", path)
        found[shape] = found.get(shape, 0) + 1
    return [f"{number:3} × {shape}" for shape, number in sorted(found.items())]
