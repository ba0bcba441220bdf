"""What a test of the cluster side has: an API server as `make install deploy` leaves it, nodes,
operator, DaemonSet controller.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar

import yaml

from kpm.request.machines import MachineSpec
from tests.apiserver import olm
from tests.apiserver.nodes import NAMESPACE, DaemonSets, OperatorProcess, SimNode
from tests.apiserver.server import ApiServer, wait_for
from tests.charts.helm import CHARTS, CRDS, MAIN, helm, options

REPO = Path(__file__).parents[2]
Node = TypeVar("Node", bound=SimNode)


@contextlib.contextmanager
def installed(folder: Path) -> Iterator[ApiServer]:
    """A server with the definitions and manifests of the repository, applied by kubectl."""
    found = ApiServer(folder)
    try:
        found.start()
        install(found)
        yield found
    finally:
        found.close()


#: How the system comes into the cluster; the same tests hold for each.
INSTALL = os.environ.get("KPM_TEST_INSTALL", "kustomize")
#: What the chart is told so that its agents are those of the manifests.
IMAGES = {
    "image.repository": "power-operator",
    "image.tag": "latest",
    "agents.image": "power-node-agent:latest",
}


def install(server: ApiServer) -> None:
    """`make install deploy`, `make helm-install`, or the OLM bundle; without a PowerConfig."""
    if INSTALL == "chart":
        values = options({**IMAGES, "powerConfig.create": False})
        helm_install(server, CRDS)
        helm_install(server, MAIN, *values)
    elif INSTALL == "bundle":
        names = ("power-operator:latest", "power-node-agent:latest")
        folder = olm.bundle(server.folder / "olm", *names)
        server.kubectl("create", "namespace", NAMESPACE)
        found = [*olm.expanded(folder, NAMESPACE), *olm.policies(folder, NAMESPACE)]
        text = yaml.safe_dump_all(found)
        server.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=text)
    else:
        assert INSTALL == "kustomize"
        server.kubectl("apply", "--server-side", "-k", str(REPO / "crds"))
        server.kubectl("apply", "-k", str(REPO / "deploy/overlays/default"))
    wait_for(
        "the kinds are served",
        lambda: server.kubectl("get", "pns", "-n", NAMESPACE, check=False).returncode == 0,
    )
    _wait_for_policies(server)


def _wait_for_policies(server: ApiServer) -> None:
    """The API server reads new policies some seconds after it has taken them; until then nothing is
    refused.
    """
    server.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "probe"}})
    token = server.token("power-manager-node-agent", NAMESPACE)
    path, body = "/api/v1/nodes/probe/status?dryRun=All", '{"metadata": {"labels": {"a": "b"}}}'
    wait_for(
        "the admission policies are in force",
        lambda: server.patch(token, path, body)[0] == HTTPStatus.UNPROCESSABLE_ENTITY,
    )
    server.kubectl("delete", "node", "probe")


def helm_install(server: ApiServer, chart: str, *words: str) -> None:
    """Install or upgrade a release of the name of its chart."""
    where = ("-n", NAMESPACE, "--create-namespace", "--take-ownership")
    on_server(server, "upgrade", "--install", chart, str(CHARTS / chart), *where, *words)


def on_server(
    server: ApiServer, *words: str, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Helm against a server."""
    config = str(server.folder / "admin.kubeconfig")
    return helm(*words, check=check, KUBECONFIG=config, HELM_CACHE_HOME=str(server.folder / "helm"))


class World:
    """What a test has beside the API server."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.nodes: dict[str, SimNode] = {}
        self.operator = OperatorProcess(server, folder)
        self.daemon_sets: DaemonSets | None = None

    def node(self, name: str, spec: MachineSpec) -> SimNode:
        """A node with its kubelet; no agent yet."""
        return self.add(SimNode(self.server, name, self.folder / name, spec))

    def add(self, node: Node) -> Node:
        """A node of any kind."""
        self.nodes[node.name] = node
        node.create()
        return node

    def start(self) -> None:
        """The operator, and the controller that runs agents."""
        self.operator.start()
        self.daemon_sets = DaemonSets(self.server, list(self.nodes.values()))
        self.daemon_sets.start()

    def close(self) -> None:
        """Uninstall, end every process, delete what the test made; every step is made whatever
        comes of the others.
        """
        with contextlib.ExitStack() as last:
            last.callback(self._delete)
            for node in self.nodes.values():
                last.callback(node.close)
            last.callback(self.operator.end)
            if self.daemon_sets is not None:
                last.callback(self.daemon_sets.stop)
            last.callback(self._uninstall)

    def _uninstall(self) -> None:
        self.server.kubectl(
            "delete", "powerconfigs", "--all", "-n", NAMESPACE, "--wait=false", check=False
        )
        if self.operator.process is not None:
            wait_for(
                "the PowerConfigs are gone",
                lambda: not self.server.get("powerconfigs", "-n", NAMESPACE)["items"],
                60,
            )

    def _delete(self) -> None:
        self.server.kubectl(
            "patch",
            "powerconfigs",
            "--all",
            "-n",
            NAMESPACE,
            "--type=merge",
            "-p",
            '{"metadata":{"finalizers":null}}',
            check=False,
        )
        self.server.kubectl(
            "delete",
            "pods,pp,pw,pnc,uncores,pn,pns,ds",
            "--all",
            "-n",
            NAMESPACE,
            "--force",
            "--grace-period=0",
            check=False,
        )
        self.server.kubectl(
            "delete", "pods", "--all", "-n", "default", "--force", "--grace-period=0", check=False
        )
        self.server.kubectl("delete", "nodes", "--all", check=False)
