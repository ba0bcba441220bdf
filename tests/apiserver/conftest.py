"""One API server for each module of tests, with the definitions and manifests of the repository applied by kubectl."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from nodes import NAMESPACE, DaemonSets, OperatorProcess, SimNode
from server import ApiServer, wait_for

from kpm.machines import MachineSpec

REPO = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server as `make install deploy` leaves it."""
    found = ApiServer(tmp_path_factory.mktemp("apiserver"))
    try:
        found.start()
        found.kubectl("apply", "--server-side", "-k", str(REPO / "crds"))
        found.kubectl("apply", "-k", str(REPO / "deploy/overlays/default"))
        wait_for("the kinds are served", lambda: found.kubectl("get", "pns", "-n", NAMESPACE, check=False).returncode == 0)
        yield found
    finally:
        found.close()


@pytest.fixture
def world(server: ApiServer, tmp_path: Path) -> Iterator[World]:
    """Nodes, operator and DaemonSet controller of one test; everything is ended and deleted after it."""
    found = World(server, tmp_path)
    yield found
    found.close()


class World:
    """What a test has beside the API server."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.nodes: dict[str, SimNode] = {}
        self.operator = OperatorProcess(server, folder)
        self.daemon_sets: DaemonSets | None = None

    def node(self, name: str, spec: MachineSpec, **options: object) -> SimNode:
        """A node with its kubelet; no agent yet."""
        made = SimNode(self.server, name, spec, self.folder / name, **options)  # type: ignore[arg-type]
        made.create()
        self.nodes[name] = made
        return made

    def start(self) -> None:
        """The operator, and the controller that runs agents."""
        self.operator.start()
        self.daemon_sets = DaemonSets(self.server, list(self.nodes.values()))
        self.daemon_sets.start()

    def close(self) -> None:
        """Uninstall, end every process, delete what the test made."""
        self.server.kubectl("delete", "powerconfigs", "--all", "-n", NAMESPACE, "--wait=false", check=False)
        if self.operator.process is not None:
            wait_for("the PowerConfigs are gone", lambda: not self.server.get("powerconfigs", "-n", NAMESPACE)["items"], 40)
        if self.daemon_sets is not None:
            self.daemon_sets.stop()
        self.operator.end()
        for node in self.nodes.values():
            node.close()
        self.server.kubectl("patch", "powerconfigs", "--all", "-n", NAMESPACE, "--type=merge", "-p", '{"metadata":{"finalizers":null}}', check=False)
        self.server.kubectl("delete", "pods,pp,pw,pnc,uncores,pn,pns,ds", "--all", "-n", NAMESPACE, "--force", "--grace-period=0", check=False)
        self.server.kubectl("delete", "pods", "--all", "-n", "default", "--force", "--grace-period=0", check=False)
        self.server.kubectl("delete", "nodes", "--all", check=False)
