"""`kpm migrate` in a cluster of each earlier operator, with a pod that runs: it only reads; its
steps lead to this system; and where the meaning is the same no file of the machine is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.apiserver import nodes
from tests.apiserver.nodes import LABEL, DaemonSets, OperatorProcess, SimNode, pod
from tests.apiserver.server import ApiServer, wait_for
from tests.apiserver.test_migration import (
    CASES,
    EIGHT,
    FAST,
    SHARED,
    UNCORE,
    Case,
    Cluster,
    cluster,
)

pytestmark = pytest.mark.apiserver


@dataclass
class Moved:
    """A cluster that went through the steps, and what was seen."""

    cluster: Cluster
    node: SimNode
    set_by_old: dict[str, tuple[str, int]]
    fought: str
    at_peace: str
    calls: list[tuple[str, str]]


def as_the_old_agent_left_it(node: SimNode) -> None:
    """The files hold what the objects ask for: no baseline of anybody is left."""
    for cpus, (low, high, governor, epp) in (((2, 3, 6, 7), SHARED), ((4, 5), FAST)):
        for cpu in cpus:
            folder = f"cpufreq/policy{cpu}"
            node.write(f"{folder}/scaling_max_freq", str(high))
            node.write(f"{folder}/scaling_min_freq", str(low))
            node.write(f"{folder}/scaling_governor", governor)
            node.write(f"{folder}/energy_performance_preference", epp)
    for package in (node.folder / "sys/devices/system/cpu/intel_uncore_frequency").iterdir():
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


@pytest.fixture(scope="module", params=CASES.values(), ids=list(CASES))
def moved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Moved]:
    """The steps of steps.md, up to an operator and an agent that are at rest."""
    case: Case = request.param
    folder = tmp_path_factory.mktemp(case.file)
    with pytest.MonkeyPatch.context() as patch, cluster(case, folder) as found:
        patch.setattr(nodes, "NAMESPACE", case.namespace)
        patch.setenv("KPM_GROUP", case.group)
        patch.setenv("KPM_NAMESPACE", case.namespace)
        patch.setenv("KUBECONFIG", str(found.server.folder / "admin.kubeconfig"))
        yield from _move(found, folder)


def _move(found: Cluster, folder: Path) -> Iterator[Moved]:
    server, case = found.server, found.case
    found.define("create")
    found.fill()
    found.operate()
    node = SimNode(server, "one", folder / "one", EIGHT)
    node.create()
    node.kubelet.cpus["default", "web", "app"] = {4, 5}
    server.apply(pod("web", "one", 2, "performance", group=case.group))
    server.status("pod", "web", nodes.running("web"), "default")
    as_the_old_agent_left_it(node)
    _without_idle_states(server, case)

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
    before = files(node)
    server.kubectl("label", "node", "one", f"{LABEL}=true")
    operator, agents = OperatorProcess(server, folder), DaemonSets(server, [node])
    operator.start()
    agents.start()
    try:
        wait_for("all is well", lambda: found.types("kpm status").returncode == 0, 60, 0.5)
        yield Moved(found, node, before, fought, peace.stdout, made)
    finally:
        agents.stop()
        operator.end()
        node.close()


def _without_idle_states(server: ApiServer, case: Case) -> None:
    """Idle states of the objects are left out here: what the old agent had set of them cannot be
    told from what was there, and the tree's states are all on.
    """
    where = ("-n", case.namespace)
    if case.file == "intel":
        server.kubectl("delete", f"cstates.{case.group}", "--all", *where)
    else:
        patch = '{"spec":{"cstates":null}}'
        for name in ("shared", "performance"):
            kind = f"powerprofiles.{case.group}"
            server.kubectl("patch", kind, name, *where, "--type=merge", "-p", patch)


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
    assert {"PowerConfig", "PowerProfile", "Uncore", "PowerNode"} <= {kind for kind, _ in kept}
    assert ("Pod", "web") in kept


def test_no_file_is_written_where_the_meaning_is_the_same(moved: Moved) -> None:
    """Shared pool, the pod's CPUs, uncore: all hold what they held, and were not touched."""
    changed = {
        path: (was, now)
        for path, was in moved.set_by_old.items()
        if (now := files(moved.node)[path]) != was
    }
    if moved.cluster.case.file == "openshift":  # its reserved CPUs have a profile; nobody set it
        reserved = ("cpufreq/policy0/", "cpufreq/policy1/")
        assert all(path.startswith(reserved) for path in changed), changed
    else:
        assert changed == {}


def test_the_pod_kept_running_under_its_profile(moved: Moved) -> None:
    where = ("pns", "one-power-state", "-n", moved.cluster.case.namespace)
    state = moved.cluster.server.get(*where)
    assert "web" in json.dumps(state["status"])
    assert moved.node.cpufreqs("4-5") == {FAST}
