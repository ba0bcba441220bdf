"""The commands that the pages show for a cluster, against a real API server with a node."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kpm.request.machines import MODELS
from tests.apiserver.nodes import pod, running
from tests.apiserver.server import ApiServer, wait_for
from tests.apiserver.world import World
from tests.docs.commands import REPO, all_commands

pytestmark = pytest.mark.apiserver
PAGES = {
    name: [item for item in items if item.where == "console cluster"]
    for name, items in all_commands().items()
}


@pytest.mark.parametrize("page", [name for name, items in PAGES.items() if items])
def test_the_commands_of_a_page_end_as_it_says(
    server: ApiServer, world: World, page: str, tmp_path: Path
) -> None:
    """In order; the pod of the examples is given its CPUs as a kubelet would."""
    node = world.node("worker-1", MODELS["xeon"])
    world.start()
    config = f"{server.folder}/admin.kubeconfig"
    lines = {
        "kubectl": f'exec {server.bin}/kubectl --kubeconfig {config} "$@"',
        "kpm": f'KUBECONFIG={config} PYTHONPATH={REPO} exec {sys.executable} -m kpm "$@"',
    }
    for name, line in lines.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    surroundings = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for item in PAGES[page]:
        done = subprocess.run(
            ["bash", "-c", item.line],
            cwd=REPO,
            env=surroundings,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == item.exit, f"{item.line}\n{done.stdout}{done.stderr}"
    wait_for("the shared pool is tuned", lambda: node.shown() != node.before)
    server.apply(pod("web", "worker-1", 2, "performance"))
    node.kubelet.cpus["default", "web", "app"] = {4, 5}
    server.status("pod", "web", running("web"), "default")
    fast = {(2975000, 3555000, "performance", "performance")}
    wait_for("the pod's CPUs are fast", lambda: node.cpufreqs("4-5") == fast)
