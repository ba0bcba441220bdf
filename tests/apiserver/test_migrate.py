"""`kpm migrate` in a cluster of each earlier operator, with a pod that runs: it only reads; its
steps lead to this system; and where the meaning is the same no file of the machine is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kpm.request.machines import MachineSpec
from tests.apiserver import nodes
from tests.apiserver.migration import earlier
from tests.apiserver.nodes import LABEL, DaemonSets, OperatorProcess, SimNode, pod
from tests.apiserver.server import ApiServer, wait_for
from tests.apiserver.test_migration import (
    AMD,
    EIGHT,
    FAST,
    IDLE,
    INTEL,
    OPENSHIFT,
    SHARED,
    UNCORE,
    Case,
    Cluster,
    cluster,
)

pytestmark = pytest.mark.apiserver


@dataclass(frozen=True)
class Before:
    """An earlier operator, its node, and what its agent had set there: minimum, maximum, governor,
    EPP by CPUs; C6 is off on what the pod owns.
    """

    case: Case
    machine: MachineSpec
    set: dict[tuple[int, ...], tuple[int, int, str, str]]
    idle_off: tuple[int, ...] = (4, 5)

    @property
    def pods(self) -> tuple[int, int, str, str]:
        """What the pod's CPUs have."""
        return self.set[4, 5]


_SHARED_CPUS = (2, 3, 6, 7)
_EPYC = MachineSpec(
    cores=8, driver="amd-pstate-epp", epp="balance_performance", idle_states=IDLE,
    idle_driver="acpi_idle",
)  # fmt: skip
BEFORE = {
    "intel": Before(INTEL, EIGHT, {_SHARED_CPUS: SHARED, (4, 5): FAST}),
    "openshift": Before(
        OPENSHIFT, EIGHT, {_SHARED_CPUS: SHARED, (4, 5): FAST, (0, 1): FAST}, (4, 5, 0, 1)
    ),
    "amd": Before(
        AMD,
        _EPYC,
        {
            _SHARED_CPUS: (800000, 2250000, "powersave", "power"),
            (4, 5): (3120000, 3700000, "powersave", "performance"),
        },
    ),
}


@dataclass
class Moved:
    """A cluster that went through the steps, and what was seen."""

    cluster: Cluster
    before: Before
    node: SimNode
    set_by_old: dict[str, tuple[str, int]]
    fought: str
    at_peace: str
    calls: list[tuple[str, str]] = field(repr=False)


def as_the_old_agent_left_it(node: SimNode, before: Before) -> None:
    """The files hold what the objects ask for: no baseline of anybody is left."""
    for cpus, (low, high, governor, epp) in before.set.items():
        for cpu in cpus:
            folder = f"cpufreq/policy{cpu}"
            node.write(f"{folder}/scaling_max_freq", str(high))
            node.write(f"{folder}/scaling_min_freq", str(low))
            node.write(f"{folder}/scaling_governor", governor)
            node.write(f"{folder}/energy_performance_preference", epp)
    for cpu in before.idle_off:
        node.write(f"cpu{cpu}/cpuidle/state2/disable", "1")
    uncore = node.folder / "sys/devices/system/cpu/intel_uncore_frequency"
    for package in uncore.iterdir() if before.machine.uncore else ():
        for name, text in zip(("min_freq_khz", "max_freq_khz"), UNCORE, strict=True):
            (package / name).write_text(f"{text}\n")


def files(node: SimNode) -> dict[str, tuple[str, int]]:
    """Every managed file: what it holds, and when it was written."""
    root = node.folder / "sys/devices/system/cpu"
    return {
        path: (text, (root / path).stat().st_mtime_ns)
        for path, text in node.shown().items()
        if (root / path).is_file()
    }


def calls(server: ApiServer) -> list[tuple[str, str]]:
    """Verb and address of every request that kpm made."""
    lines = (server.folder / "audit.log").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [
        (item["verb"], item["requestURI"])
        for item in found
        if item.get("userAgent", "").startswith("kpm/")
    ]


@pytest.fixture(scope="module", params=BEFORE.values(), ids=list(BEFORE))
def moved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Moved]:
    """The steps of steps.md, up to an operator and an agent that are at rest."""
    before: Before = request.param
    case = before.case
    folder = tmp_path_factory.mktemp(case.file)
    with pytest.MonkeyPatch.context() as patch, cluster(case, folder) as found:
        patch.setattr(nodes, "NAMESPACE", case.namespace)
        patch.setenv("KPM_GROUP", case.target)
        patch.setenv("KPM_NAMESPACE", case.namespace)
        patch.setenv("KUBECONFIG", str(found.server.folder / "admin.kubeconfig"))
        yield from _move(found, before, folder)


def _move(found: Cluster, before: Before, folder: Path) -> Iterator[Moved]:
    server, case = found.server, found.case
    found.define("create")
    found.fill()
    found.operate()
    node = SimNode(server, "one", folder / "one", before.machine)
    node.create()
    node.kubelet.cpus["default", "web", "app"] = {4, 5}
    server.apply(pod("web", "one", 2, "performance", group=case.group))
    server.status("pod", "web", nodes.running("web"), "default")
    as_the_old_agent_left_it(node, before)

    done = found.types("kpm migrate --cluster --to migration")
    assert done.returncode in (0, 1), done.stderr
    fought = found.types("kpm migrate --check").stdout
    made = calls(server)
    for command in re.findall(r"(kubectl delete \S+ \S+ -n \S+)", fought):
        found.must(command)
    peace = found.types("kpm migrate --check")
    assert peace.returncode == 0, peace.stdout
    found.must(f"kubectl apply --server-side --force-conflicts -k {case.definitions}")
    found.must(f"kubectl apply -k {case.overlay}")
    found.must("kpm validate -f migration/objects.yaml")
    found.must("kubectl apply -f migration/objects.yaml")
    set_by_old = files(node)
    server.kubectl("label", "node", "one", f"{LABEL}=true")
    operator, agents = OperatorProcess(server, folder), DaemonSets(server, [node])
    operator.start()
    agents.start()
    try:
        wait_for("all is well", lambda: found.types("kpm status").returncode == 0, 60, 0.5)
        yield Moved(found, before, node, set_by_old, fought, peace.stdout, made)
    finally:
        agents.stop()
        operator.end()
        node.close()


def test_it_only_reads(moved: Moved) -> None:
    """No request of kpm changes anything, with the rights to change everything."""
    assert moved.calls
    assert {verb for verb, _ in moved.calls} <= {"get", "list", "watch"}


def test_the_running_operator_is_named_and_then_nothing_is(moved: Moved) -> None:
    assert "Deployment/controller-manager" in moved.fought
    assert "DaemonSet/power-node-agent" in moved.fought
    assert moved.at_peace == "nothing that writes the same files\n"


def test_the_backup_has_every_object_of_every_kind(moved: Moved) -> None:
    path = moved.cluster.folder / "migration/backup/objects.json"
    items = json.loads(path.read_text())["items"]
    kept = {(item["kind"], item["metadata"]["name"]) for item in items}
    had = {(item["kind"], item["metadata"]["name"]) for item in
           earlier.objects(moved.cluster.case.file)}  # fmt: skip
    assert {*had, ("Pod", "web")} <= kept


def test_no_file_is_written_where_the_meaning_is_the_same(moved: Moved) -> None:
    """Frequencies, idle states, uncore, of the shared pool, reserved CPUs and the pod's: all hold
    what they held, and were not touched.
    """
    changed = {
        path: (was, now)
        for path, was in moved.set_by_old.items()
        if (now := files(moved.node)[path]) != was
    }
    assert changed == {}
    assert sum(path.endswith("/disable") for path in moved.set_by_old) == 24


def test_the_pod_kept_running_under_its_profile(moved: Moved) -> None:
    """Also where it asks for it by the name of a group that is no more."""
    where = (f"powernodestates.{moved.cluster.case.target}", "one-power-state")
    state = moved.cluster.server.get(*where, "-n", moved.cluster.case.namespace)
    (container,) = state["status"]["exclusivePools"]
    assert (container["pod"], container["powerProfile"]) == ("web", "performance")
    assert moved.node.cpufreqs("4-5") == {moved.before.pods}
