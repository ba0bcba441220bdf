"""The namespace is deleted, and everything in it with one command: Kubernetes' own namespace
controller does it.
"""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kpm.request.machines import MachineSpec
from tests.apiserver.envtest import controllers
from tests.apiserver.nodes import LABEL, NAMESPACE, SimNode
from tests.apiserver.server import ApiServer, wait_for
from tests.apiserver.world import World, install

pytestmark = pytest.mark.apiserver
REPO = Path(__file__).parents[2]
SMALL = MachineSpec(cores=4, epp="balance_performance")
OPERATOR_POD = "controller-manager-0"


@pytest.fixture(scope="module")
def _namespace_controller(server: ApiServer) -> Iterator[None]:
    """The controller that empties a namespace that is being deleted, and no other."""
    command = [
        str(controllers()),
        "--controllers=namespace-controller",
        "--leader-elect=false",
        "--secure-port=0",
    ]
    config = ["--kubeconfig", str(server.folder / "admin.kubeconfig")]
    with (server.folder / "controllers.log").open("wb") as log:
        process = subprocess.Popen([*command, *config], stdout=log, stderr=log)
        yield
        process.terminate()
        process.wait(30)


class Kubelets:
    """What the kubelets do about pods of the namespace that are being deleted: end the processes,
    then the pods are gone.
    """

    def __init__(self, world: World) -> None:
        self.world, self._stop = world, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            found = self.world.server.get("pods", "-n", NAMESPACE) or {"items": []}
            ending = {
                item["metadata"]["name"]
                for item in found["items"]
                if "deletionTimestamp" in item["metadata"]
            }
            for node in self.world.nodes.values():
                if node.agent is not None and node.pod in ending:
                    threading.Thread(target=node.end_agent).start()
            if OPERATOR_POD in ending and self.world.operator.process is not None:
                self.world.operator.end()
                self.world.server.kubectl(
                    "delete",
                    "pod",
                    OPERATOR_POD,
                    "-n",
                    NAMESPACE,
                    "--force",
                    "--grace-period=0",
                    check=False,
                )


@pytest.fixture
def nodes(server: ApiServer, world: World) -> Iterator[list[SimNode]]:
    """Two nodes, everything in force, every process with its pod."""
    made = [world.node(name, SMALL) for name in ("one", "two")]
    world.start()
    container = {"name": "operator", "image": "kpm"}
    server.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": OPERATOR_POD, "namespace": NAMESPACE},
            "spec": {"nodeName": "one", "containers": [container]},
        }
    )
    for node in made:
        server.kubectl("label", "node", node.name, f"{LABEL}=true")
    for name in ("powerconfig", "shared-profile", "shared-workload"):
        server.kubectl("apply", "-f", str(REPO / f"examples/example-{name}.yaml"))
    for node in made:
        wait_for(
            f"the plan is in force on {node.name}",
            lambda node=node: (
                {item[2:] for item in node.cpufreqs("2-3")} == {("powersave", "power")}
            ),
        )
        wait_for(
            f"{node.name} is reported",
            lambda node=node: (
                "Settled" in str(server.get("pns", f"{node.name}-power-state", "-n", NAMESPACE))
            ),
        )
    assert world.daemon_sets is not None
    world.daemon_sets.pause()
    yield made
    install(server)


@pytest.mark.usefixtures("_namespace_controller")
def test_the_namespace_goes_and_leaves_nothing_behind(
    server: ApiServer, world: World, nodes: list[SimNode]
) -> None:
    """Pods first, as Kubernetes does it: agents put back what they set, the operator takes its
    finalizer off, the namespace goes.
    """
    kubelets = Kubelets(world)
    server.kubectl("delete", "namespace", NAMESPACE, "--timeout=60s")
    kubelets.close()
    assert {node.name: node.shown() for node in nodes} == {node.name: node.before for node in nodes}


@pytest.mark.usefixtures("_namespace_controller")
def test_a_node_that_does_not_answer_does_not_hold_the_namespace(
    server: ApiServer, world: World, nodes: list[SimNode]
) -> None:
    """The operator waits for as long as it may, says which node it waited for, and takes the
    finalizer off all the same.
    """
    one, two = nodes
    two.end_agent(signal.SIGKILL)
    kubelets = Kubelets(world)
    server.kubectl("delete", "namespace", NAMESPACE, "--timeout=90s")
    kubelets.close()
    assert one.shown() == one.before
    assert two.shown() != two.before
    assert "two-power-state" in world.operator.log
