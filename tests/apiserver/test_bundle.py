"""The OLM bundle on a real API server: no agents before the admission policies are there, and then
all of it (the story itself is test_story.py, run from the bundle too).
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kpm.request.machines import MachineSpec
from tests.apiserver import olm
from tests.apiserver.envtest import go_tool
from tests.apiserver.nodes import LABEL, NAMESPACE, DaemonSets
from tests.apiserver.server import ApiServer, wait_for
from tests.apiserver.world import World

pytestmark = pytest.mark.apiserver
REPO = Path(__file__).parents[2]
SMALL = MachineSpec(cores=4, epp="balance_performance")
VERIFY = ("github.com/operator-framework/api", "cmd/operator-verify", "v0.9.1")


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[ApiServer]:
    found = ApiServer(tmp_path / "server")
    found.folder.mkdir()
    try:
        found.start()
        yield found
    finally:
        found.close()


def test_the_frameworks_own_tool_finds_nothing(tmp_path: Path) -> None:
    """Neither an error nor a warning."""
    folder = olm.bundle(tmp_path, f"quay.io/me/kpm@sha256:{'1' * 64}", "quay.io/me/agent:1")
    verify = go_tool(*VERIFY)
    options = ("--operatorhub_validate", "--object_validate")
    done = subprocess.run(
        [str(verify), "manifests", str(folder / "bundle"), *options],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_no_agents_before_the_policies_are_there(bare: ApiServer, tmp_path: Path) -> None:
    """The PowerConfig says what is missing; a few seconds after it came the node is tuned."""
    folder = olm.bundle(tmp_path / "olm", "power-operator:latest", "power-node-agent:latest")
    bare.kubectl("create", "namespace", NAMESPACE)
    text = yaml.safe_dump_all(olm.expanded(folder, NAMESPACE))
    bare.kubectl("apply", "--server-side", "-f", "-", given=text)
    bare.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    world = World(bare, tmp_path)
    try:
        world.node("one", SMALL)
        world.operator.start()
        bare.kubectl("label", "node", "one", f"{LABEL}=true")
        example = (REPO / "examples/example-powerconfig.yaml").read_text()
        given = example.replace("namespace: power-manager", f"namespace: {NAMESPACE}")
        bare.kubectl("apply", "-f", "-", given=given)

        def errors() -> str:
            found = bare.get("powerconfig", "power-config", "-n", NAMESPACE) or {}
            return str((found.get("status") or {}).get("errors"))

        wait_for("it says what is missing", lambda: "expected the admission policies" in errors())
        assert bare.get("daemonset", "power-node-agent", "-n", NAMESPACE) is None
        given = yaml.safe_dump_all(olm.policies(folder, NAMESPACE))
        bare.kubectl("apply", "-f", "-", given=given)
        wait_for("the agents are made", lambda: bare.get("ds", "power-node-agent", "-n", NAMESPACE))
        wait_for("nothing is missing", lambda: errors() == "[]")
        world.daemon_sets = DaemonSets(bare, list(world.nodes.values()))
        world.daemon_sets.start()
    finally:
        world.close()
