"""kpm doctor: every finding has a tree or a cluster that trips it, and a healthy one trips none."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from attrs import evolve
from jsonschema import Draft202012Validator

from kpm.cli.doctor import document, lines
from kpm.doctor import cluster as of_cluster
from kpm.doctor import node as of_node
from kpm.doctor.cluster import Clinic
from kpm.doctor.findings import MEANINGS, Code, Finding
from kpm.kube.api import ApiError, Object, Resource
from kpm.kube.kinds import NAMESPACES, PODS, power
from kpm.operator.admission import _BINDINGS, NAMES, POLICIES
from kpm.request.machines import MODELS, MachineSpec, build_machine
from kpm_applier.kernel_model.model import KernelModel
from tests.kpm.cli_rig import SCHEMAS
from tests.kpm.cli_rig import kpm as run
from tests.kpm.test_cluster_verbs import (
    CONFIGS,
    GROUP,
    LEASES,
    PLACE,
    STATES,
    Server,
    config,
    lease,
    state,
)
from tests.trees import write_tree

CPUINFO = "vendor_id\t: {vendor}\nmodel name\t: a model\nflags\t\t: fpu {flags}\n"
KUBELET = "cpuManagerPolicy: static\nreservedSystemCPUs: 0-1\n"
Trip = Callable[[Path], None]


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def healthy(root: Path, spec: MachineSpec = MODELS["xeon"]) -> None:
    """A server on which nothing is wrong."""
    write_tree(KernelModel(build_machine(evolve(spec, cores=2))), root)
    put(root, "proc/cpuinfo", CPUINFO.format(vendor="GenuineIntel", flags="hwp"))
    put(root, "proc/cmdline", "root=/dev/sda quiet\n")
    put(root, "proc/sys/kernel/osrelease", "6.12.0-1\n")
    put(root, "proc/mounts", "sysfs /sys sysfs rw,nosuid 0 0\n")
    put(root, "proc/17/comm", "kubelet\n")
    put(root, "var/lib/kubelet/config.yaml", KUBELET)
    put(root, "var/lib/kubelet/pod-resources/kubelet.sock", "")
    put(root, "sys/fs/cgroup/cgroup.controllers", "cpu\n")


def file(path: str, text: str) -> Trip:
    return lambda root: put(root, path, text)


def gone(path: str) -> Trip:
    return lambda root: (root / path).unlink()


def machine(spec: MachineSpec, flags: str = "", vendor: str = "GenuineIntel") -> Trip:
    def trip(root: Path) -> None:
        import shutil

        shutil.rmtree(root / "sys")
        healthy(root, spec)
        put(root, "proc/cpuinfo", CPUINFO.format(vendor=vendor, flags=flags))

    return trip


def without(folder: str) -> Trip:
    def trip(root: Path) -> None:
        import shutil

        for found in sorted((root / "sys").rglob(folder)):
            shutil.rmtree(found)

    return trip


PLAIN = MachineSpec(cores=2, driver="acpi-cpufreq", available_mhz=(800, 2600))
KUBELET_FILE = "var/lib/kubelet/config.yaml"
NODE_TRIPS: dict[str, tuple[Trip, Code, str]] = {
    "no driver": (without("cpufreq"), Code.NO_SCALING_DRIVER, "BIOS"),
    "intel off": (
        file("sys/devices/system/cpu/intel_pstate/status", "off\n"),
        Code.SCALING_DRIVER_OFF,
        "echo active > /sys/devices/system/cpu/intel_pstate/status",
    ),
    "acpi on hwp": (machine(PLAIN, "hwp"), Code.FALLBACK_DRIVER, "intel_pstate=disable"),
    "acpi on cppc": (
        machine(PLAIN, "cppc", "AuthenticAMD"),
        Code.FALLBACK_DRIVER,
        "--args=amd_pstate=active",
    ),
    "no hwp": (machine(MachineSpec(cores=2), "hwp"), Code.NO_EPP, "intel_pstate=no_hwp"),
    "no idle": (without("cpuidle"), Code.NO_IDLE_STATES, "enable C-states"),
    "poll": (
        file("proc/cmdline", "quiet idle=poll\n"),
        Code.IDLE_STATES_LIMITED,
        "--remove-args=idle=poll",
    ),
    "cstate": (
        file("proc/cmdline", "processor.max_cstate=1\n"),
        Code.IDLE_STATES_LIMITED,
        "--remove-args=processor.max_cstate=1",
    ),
    "bios limit": (
        file("sys/devices/system/cpu/cpufreq/policy0/bios_limit", "1000000\n"),
        Code.FIRMWARE_LIMIT,
        "BIOS",
    ),
    "turbo": (
        file("sys/devices/system/cpu/intel_pstate/no_turbo", "1\n"),
        Code.TURBO_OFF,
        "turboEnabled",
    ),
    "thermald": (
        file("proc/20/comm", "thermald\n"),
        Code.OTHER_DAEMON,
        "systemctl disable --now thermald",
    ),
    "profiles": (
        file("proc/20/comm", "power-profiles-\n"),
        Code.OTHER_DAEMON,
        "systemctl disable --now power-profiles-daemon",
    ),
    "tuned": (file("proc/20/comm", "tuned\n"), Code.OTHER_DAEMON, "--now tuned"),
    "policy": (
        file(KUBELET_FILE, "cpuManagerPolicy: none\n"),
        Code.CPU_MANAGER,
        "rm /var/lib/kubelet/cpu_manager_state; systemctl restart kubelet",
    ),
    "policy left out": (
        file(KUBELET_FILE, "kind: KubeletConfiguration\n"),
        Code.CPU_MANAGER,
        "set",
    ),
    "reserved": (
        file(KUBELET_FILE, "cpuManagerPolicy: static\n"),
        Code.RESERVED_CPUS,
        "reservedSystemCPUs: 0-1",
    ),
    "socket": (
        gone("var/lib/kubelet/pod-resources/kubelet.sock"),
        Code.NO_POD_RESOURCES,
        "systemctl status kubelet",
    ),
    "selinux": (file("sys/fs/selinux/enforce", "1"), Code.SELINUX, "overlays/privileged"),
    "read only": (
        file("proc/mounts", "sysfs /sys sysfs ro,nosuid 0 0\n"),
        Code.SYSFS_READ_ONLY,
        "on the node itself",
    ),
    "cgroup": (gone("sys/fs/cgroup/cgroup.controllers"), Code.CGROUP_V1, "unified_cgroup"),
    "kernel": (file("proc/sys/kernel/osrelease", "4.18.0-1\n"), Code.OLD_KERNEL, "5.10"),
}


def node_findings(root: Path) -> tuple[Finding, ...]:
    return of_node.findings_of(of_node.facts_of(str(root)), "node-1")


def test_a_healthy_node_has_no_finding(tmp_path: Path) -> None:
    healthy(tmp_path)
    assert node_findings(tmp_path) == ()


@pytest.mark.parametrize("name", NODE_TRIPS)
def test_every_finding_of_a_node_is_tripped_and_says_what_mends_it(
    name: str, tmp_path: Path
) -> None:
    trip, code, mend = NODE_TRIPS[name]
    healthy(tmp_path)
    trip(tmp_path)
    found = {item.code: item for item in node_findings(tmp_path)}
    assert code in found
    assert mend in found[code].mend
    assert found.keys() - {code} <= {Code.NO_EPP, Code.NO_IDLE_STATES, Code.NO_SCALING_DRIVER}


@pytest.mark.parametrize(
    "text", ["a: [", "- list", "{}", "a: &x [*x]", "\x00\x01", "cpuManagerPolicy: [1, 2]"]
)
def test_a_kubelet_file_that_cannot_be_read_says_nothing_wrong(text: str, tmp_path: Path) -> None:
    healthy(tmp_path)
    put(tmp_path, KUBELET_FILE, text)
    assert {item.code for item in node_findings(tmp_path)} <= {Code.CPU_MANAGER}


def test_a_node_without_kubernetes_is_told_nothing_of_it(tmp_path: Path) -> None:
    healthy(tmp_path)
    (tmp_path / KUBELET_FILE).unlink()
    gone("var/lib/kubelet/pod-resources/kubelet.sock")(tmp_path)
    assert node_findings(tmp_path) == ()


def test_the_verb_prints_and_says_by_its_status(tmp_path: Path) -> None:
    healthy(tmp_path)
    assert run("doctor", "--root", tmp_path).out == "nothing was found\n"
    file("proc/20/comm", "thermald\n")(tmp_path)
    ran = run("doctor", "--root", tmp_path)
    assert (ran.code, len(ran.out.splitlines())) == (1, 3)
    found = json.loads(run("doctor", "--root", tmp_path, "-o", "json").out)
    schema = json.loads((SCHEMAS / "doctor.schema.json").read_text())
    Draft202012Validator(schema).validate(found)
    assert run("doctor", "--root", tmp_path / "nothing").code == 2


# --- clusters ---


class Cluster(Server):
    """A healthy one: whoever asks may do everything."""

    said: ClassVar[Object] = {"major": "1", "minor": "35+", "gitVersion": "v1.35.4"}
    refused: tuple[str, ...] = ()

    def server_version(self) -> Object:
        return self.said

    def create(self, resource: Resource, body: Object, namespace: str | None = None) -> Object:
        asked = body["spec"]["resourceAttributes"]
        return {"status": {"allowed": asked["resource"] not in self.refused}}


def sound() -> Cluster:
    api = Cluster()
    fresh = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    api.put(LEASES, {**lease(0), "spec": {"holderIdentity": "operator-1", "renewTime": fresh}})
    api.put(CONFIGS, config(nodes=["n1"]))
    api.put(STATES, state("n1"))
    for name in NAMES:
        api.put(POLICIES, {"metadata": {"name": name}})
        spec = {"policyName": name, "validationActions": ["Deny"]}
        api.put(_BINDINGS, {"metadata": {"name": name}, "spec": spec})
    label = {"pod-security.kubernetes.io/enforce": "privileged"}
    api.put(NAMESPACES, {"metadata": {"name": PLACE, "labels": label}})
    return api


def old(api: Cluster) -> None:
    older = {"major": "1", "minor": "29", "gitVersion": "v1.29.1"}
    setattr(api, "server_version", lambda: older)  # noqa: B010


def forget(resource: Resource, name: str) -> Callable[[Cluster], None]:
    def trip(api: Cluster) -> None:
        del api.objects[resource.plural, resource.namespace, name]

    return trip


def restricted(api: Cluster) -> None:
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.put(NAMESPACES, {"metadata": {"name": PLACE, "labels": label}})


def reporting(kind: str, reason: str) -> Callable[[Cluster], None]:
    def trip(api: Cluster) -> None:
        item = state("n1")
        said = {"type": kind, "status": "False", "reason": reason, "message": "m"}
        item["status"]["conditions"].append(said)
        api.put(STATES, item)

    return trip


def pod_with(**meta: Any) -> Callable[[Cluster], None]:
    def trip(api: Cluster) -> None:
        whole = {"name": "p", "namespace": "other", **meta}
        spec = {"nodeName": "n1", "containers": [{"name": "c"}]}
        api.put(PODS, {"metadata": whole, "spec": spec, "status": {"phase": "Running"}})

    return trip


def not_allowed(*names: str) -> Callable[[Cluster], None]:
    return lambda api: setattr(api, "refused", names)


CLUSTER_TRIPS: dict[str, tuple[Callable[[Cluster], None], Code, str]] = {
    "old": (old, Code.OLD_KUBERNETES, "1.30"),
    "operator": (forget(LEASES, "power-manager-operator"), Code.NO_OPERATOR, "kubectl apply -k"),
    "config": (forget(CONFIGS, "power-config"), Code.NO_POWERCONFIG, "example-powerconfig"),
    "config's errors": (
        lambda api: api.put(CONFIGS, config(nodes=["n1"], errors=["odd"])),
        Code.NO_POWERCONFIG,
        "kubectl describe powerconfig",
    ),
    "silent": (forget(STATES, "n1-power-state"), Code.NODE_SILENT, "kubectl get pods"),
    "policy": (forget(POLICIES, NAMES[0]), Code.NO_ADMISSION_POLICIES, "admission-policies.yaml"),
    "binding": (forget(_BINDINGS, NAMES[1]), Code.NO_ADMISSION_POLICIES, "make deploy"),
    "pod security": (restricted, Code.POD_SECURITY, "kubectl label namespace power-manager"),
    "rights": (not_allowed("pods"), Code.NO_RIGHT, "kubectl create clusterrole"),
    "forbidden": (reporting("SelfTest", "Forbidden"), Code.NODE_REFUSED, "overlays/privileged"),
    "kubelet": (reporting("PodResources", "NotAnswered"), Code.NODE_REFUSED, "systemctl status"),
    "not settled": (reporting("Other", "NotSettled"), Code.NODE_REFUSED, "kubectl power status n1"),
    "tuned": (pod_with(labels={"openshift-app": "tuned"}), Code.OTHER_SYSTEM, "kpm migrate"),
    "balloons": (
        pod_with(labels={"app.kubernetes.io/name": "nri-resource-policy-balloons"}),
        Code.OTHER_SYSTEM,
        "kpm migrate",
    ),
    "CRI-O": (
        pod_with(annotations={"cpu-freq-governor.crio.io": "performance"}),
        Code.OTHER_SYSTEM,
        "kpm migrate",
    ),
}


def cluster_findings(api: Cluster) -> tuple[Finding, ...]:
    return of_cluster.findings_of(Clinic(api, GROUP, PLACE))


def test_a_sound_cluster_has_no_finding() -> None:
    assert cluster_findings(sound()) == ()


@pytest.mark.parametrize("name", CLUSTER_TRIPS)
def test_every_finding_of_a_cluster_is_tripped_and_says_what_mends_it(name: str) -> None:
    trip, code, mend = CLUSTER_TRIPS[name]
    api = sound()
    trip(api)
    found = cluster_findings(api)
    assert {item.code for item in found} == {code}
    assert mend in found[0].mend
    text = list(lines(found))
    assert all("{" not in line for line in text)


def test_kinds_that_are_not_installed_are_one_finding() -> None:
    class Empty(Cluster):
        def list(self, resource: Resource, query: Any, sized: Any = lambda _: None) -> Object:
            if resource.group == GROUP:
                raise ApiError(404, "NotFound", "no such kind")
            return super().list(resource, query, sized)

    api = Empty()
    api.objects = sound().objects
    (found,) = cluster_findings(api)
    assert (found.code, found.mend) == (
        Code.NO_KINDS,
        "kpm crds | kubectl apply --server-side -f -",
    )


def test_what_may_not_be_asked_costs_no_other_check() -> None:
    class Shut(Cluster):
        def list(self, resource: Resource, query: Any, sized: Any = lambda _: None) -> Object:
            raise ApiError(403, "Forbidden", "you may not")

    api = Shut()
    api.objects = sound().objects
    restricted(api)
    codes = [item.code for item in cluster_findings(api)]
    assert set(codes) == {Code.NO_RIGHT, Code.POD_SECURITY}
    assert document(cluster_findings(api))["findings"]


def test_every_code_is_tripped_by_a_test_and_has_a_meaning() -> None:
    tripped = {code for _, code, _ in (*NODE_TRIPS.values(), *CLUSTER_TRIPS.values())}
    assert tripped | {Code.NO_KINDS} == set(Code) == MEANINGS.keys()
    assert power(GROUP, "x", None).namespace is None
