"""From the release before to this one, and back, with pods running: nothing is written to machines
that are right, no object is lost, agents of both run beside each other.

upgrade/2b60205.tar.xz is the release before: its program, definitions, manifests and examples.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from kpm.request.machines import MachineSpec
from tests.apiserver.nodes import (
    LABEL,
    NAMESPACE,
    UNPRIVILEGED,
    OperatorProcess,
    Process,
    SimNode,
    pod,
    running,
)
from tests.apiserver.server import ApiServer, wait_for

pytestmark = pytest.mark.apiserver
REPO = Path(__file__).parents[2]
BEFORE = Path(__file__).parent / "upgrade/2b60205.tar.xz"
EIGHT = MachineSpec(cores=8, epp="balance_performance")
SLOW = {(800000, 1670000, "powersave", "power")}


def run_before(folder: Path, words: list[str], log: Path) -> Process:
    """The program of the release before, as a process."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [*UNPRIVILEGED, sys.executable, "-m", "kpm", *words],
            stdout=output,
            stderr=output,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder), "KPM_NAMESPACE": NAMESPACE},
        )


class Node(SimNode):
    """A node whose agent is of the release before, while that is asked for."""

    release: Path | None = None

    def launch(self, words: list[str], config: Path) -> Process:
        if self.release is None:
            return super().launch(words, config)
        words = [*words, "--kubeconfig", str(config), *self._places()]
        return run_before(self.release, words, self.folder / "agent.log")

    def files(self) -> dict[str, tuple[str, int]]:
        """Every managed file: what it holds, and when it was written."""
        root = self.folder / "sys/devices/system/cpu"
        return {
            path: (text, (root / path).stat().st_mtime_ns)
            for path, text in self.shown().items()
            if (root / path).is_file()
        }


@define
class Upgrade:
    """A cluster of the release before, with everything in force."""

    server: ApiServer
    release: Path
    nodes: dict[str, Node]
    operator: OperatorProcess
    old_operator: Process

    def roll(self, name: str, release: Path | None) -> None:
        """The agent of a node is replaced by one of another release."""
        node = self.nodes[name]
        node.end_agent()
        if node.helper is not None:
            node.helper.kill()
            node.helper.wait()
            node.helper = None
        node.release = release
        node.start_agent()

    def ready(self, name: str, since: str = "") -> bool:
        """Whether a node's agent has reported after a moment, and all is in force."""
        found = self.server.get("pns", f"{name}-power-state", "-n", NAMESPACE) or {}
        conditions = (found.get("status") or {}).get("conditions") or ()
        said = {item["type"]: item for item in conditions}
        return said.get("Ready", {}).get("status") == "True" and self.version(name) != since

    def version(self, name: str) -> str:
        found = self.server.get("pns", f"{name}-power-state", "-n", NAMESPACE)
        return str(found["metadata"]["resourceVersion"])

    def stored(self) -> dict[tuple[str, str], Any]:
        """spec of every object of the system's kinds."""
        kinds = "powerconfigs,powerprofiles,powerworkloads,powernodes,powernodestates,uncores"
        items = self.server.get(kinds, "-n", NAMESPACE)["items"]
        return {(item["kind"], item["metadata"]["name"]): item.get("spec") for item in items}

    def apply(self, folder: Path) -> None:
        """Definitions and manifests of a release."""
        forced = ("--server-side", "--force-conflicts")
        self.server.kubectl("apply", *forced, "-k", str(folder / "crds"))
        self.server.kubectl("apply", *forced, "-k", str(folder / "deploy/overlays/default"))

    def edit(self, most: str) -> None:
        """The shared profile gets another maximum."""
        patch = f'{{"spec":{{"pstates":{{"max":"{most}"}}}}}}'
        where = ("powerprofile", "shared", "-n", NAMESPACE)
        self.server.kubectl("patch", *where, "--type=merge", "-p", patch)

    def shared(self) -> dict[str, set[Any]]:
        """What the shared CPUs of each node have."""
        return {name: node.cpufreqs("2-3,6-7") for name, node in self.nodes.items()}


@pytest.fixture
def upgrade(tmp_path: Path) -> Iterator[Upgrade]:
    """Two nodes under the release before, a pod on each, a shared pool and a profile."""
    release = tmp_path / "release"
    with tarfile.open(BEFORE) as content:
        content.extractall(release, filter="data")
    server = ApiServer(tmp_path / "server")
    server.folder.mkdir()
    server.start()
    nodes = {name: Node(server, name, tmp_path / name, EIGHT) for name in ("one", "two")}
    operator = OperatorProcess(server, tmp_path)
    started: list[Process] = []
    try:
        server.kubectl("apply", "--server-side", "-k", str(release / "crds"))
        server.kubectl("apply", "-k", str(release / "deploy/overlays/default"))
        served = lambda: server.kubectl("get", "pns", "-A", check=False).returncode == 0  # noqa: E731
        wait_for("the kinds are served", served)
        token = server.token("power-manager-operator", NAMESPACE)
        config = str(server.kubeconfig("operator-before", token))
        words = ["operator", "--kubeconfig", config, "--port", "0", "--image", "x:1"]
        started.append(run_before(release, words, tmp_path / "operator-before.log"))
        made = Upgrade(server, release, nodes, operator, started[0])
        for name, node in nodes.items():
            node.create()
            node.release = release
            server.kubectl("label", "node", name, f"{LABEL}=true")
            web = pod(f"web-{name}", name, 2, "performance")
            node.kubelet.cpus["default", f"web-{name}", "app"] = {4, 5}
            server.apply(web)
            server.status("pod", f"web-{name}", running(f"web-{name}"), "default")
        for name in ("powerconfig", "shared-profile", "shared-workload", "powerprofile"):
            server.kubectl("apply", "-f", str(release / f"examples/example-{name}.yaml"))
        for name, node in nodes.items():
            wait_for(f"{name} is made", lambda name=name: made.stored().get(("PowerNode", name)))
            node.start_agent()
            wait_for(f"{name} is tuned", lambda node=node: node.cpufreqs("2-3,6-7") == SLOW)
            wait_for(f"{name} reports", lambda name=name: made.ready(name))
        yield made
    finally:
        for process in started:
            process.kill()
            process.wait()
        operator.end()
        for node in nodes.values():
            node.close()
        server.close()


def test_an_upgrade_writes_nothing_and_loses_nothing(upgrade: Upgrade) -> None:
    """Definitions, manifests, operator, then node by node; in between both releases work beside
    each other, and what is edited then holds on nodes of both.
    """
    files = {name: node.files() for name, node in upgrade.nodes.items()}
    stored = upgrade.stored()
    upgrade.apply(REPO)
    upgrade.old_operator.send_signal(signal.SIGTERM)
    upgrade.old_operator.wait(30)
    upgrade.operator.start()
    before = upgrade.version("one")
    upgrade.roll("one", None)
    wait_for("the new agent reports", lambda: upgrade.ready("one", before))
    assert {name: node.files() for name, node in upgrade.nodes.items()} == files
    assert upgrade.stored() == stored

    upgrade.edit("50%")
    wait_for("both follow", lambda: all(found != SLOW for found in upgrade.shared().values()))
    assert len({tuple(found) for found in upgrade.shared().values()}) == 1

    files = {name: node.files() for name, node in upgrade.nodes.items()}
    before = upgrade.version("two")
    upgrade.roll("two", None)
    wait_for("the last one reports", lambda: upgrade.ready("two", before))
    assert {name: node.files() for name, node in upgrade.nodes.items()} == files
    assert upgrade.stored().keys() == stored.keys()


def test_one_release_back_works_or_says_why_not(upgrade: Upgrade) -> None:
    """An agent of the release before on the state of this one: it goes on, or it refuses with a
    clear word and writes nothing; and forward again all is as it was.
    """
    upgrade.apply(REPO)
    before = upgrade.version("one")
    upgrade.roll("one", None)
    wait_for("the new agent reports", lambda: upgrade.ready("one", before))
    files = upgrade.nodes["one"].files()
    said = len(upgrade.nodes["one"].log)
    before = upgrade.version("one")
    upgrade.roll("one", upgrade.release)

    def answered() -> bool:
        node = upgrade.nodes["one"]
        assert node.agent is not None
        return "newer" in node.log[said:] or upgrade.ready("one", before)

    wait_for("the old agent reports", answered)
    assert upgrade.nodes["one"].files() == files
    before = upgrade.version("one")
    upgrade.roll("one", None)
    wait_for("forward again", lambda: upgrade.ready("one", before))
    assert upgrade.nodes["one"].files() == files
