"""The image that `make images` builds where there is no podman and no docker."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import images
from tests.cluster.steps import REPO

pytestmark = pytest.mark.cluster
_MIB = 1 << 20
_PYTHON = "/opt/kpm/bin/python"
#: Every module of ours, less those that run something when they are imported.
_IMPORT_ALL = """
import importlib, pkgutil
for name in ("kpm", "kpm_planner", "kpm_applier"):
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
            print(module.name)
"""
#: What the agent makes of its pod's account and of a file, without a server to ask.
_CLIENT = """
from kpm.kube.api import ApiError, Resource, connect
api = connect("/tmp/kubeconfig")
try:
    api.get(Resource("", "v1", "pods", "default"), "x")
except ApiError as failure:
    print(failure.status, failure.reason)
"""
_KUBECONFIG = {
    "apiVersion": "v1", "kind": "Config", "current-context": "c",
    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {"token": "x"}}],
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The image unpacked, and mounted as the manifests ask: read-only."""
    folder = tmp_path_factory.mktemp("image")
    unpacked = images.unpack(images.product(), folder / "root")
    subprocess.run(["mount", "--bind", "-o", "ro", unpacked, unpacked], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", unpacked / "tmp"], check=True)
    yield unpacked
    subprocess.run(["umount", "--recursive", "--lazy", unpacked], check=True)


def inside(root: Path, *words: str, user: int = 65532) -> subprocess.CompletedProcess[str]:
    """Run a command in the image, as the operator's user or the agent's, which is 0."""
    # The image has no tool to change the user with but Python itself.
    change = f"os.setgroups([]); os.setgid({user}); os.setuid({user})"
    give_up = f"import os, sys; {change}; os.execv(sys.argv[1], sys.argv[1:])"
    command = ["unshare", "--mount", f"--root={root}", "--wd=/", _PYTHON, "-c", give_up, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_it_is_small(root: Path) -> None:
    """At most 150 MiB unpacked: a node without a registry near it has an agent soon."""
    size = sum(path.lstat().st_blocks * 512 for path in root.rglob("*"))
    assert size <= 150 * _MIB


def test_it_has_nothing_to_install_with_and_no_shell(root: Path) -> None:
    names = {path.name for path in root.rglob("*")}
    assert not names & {"pip", "setuptools", "pkg_resources", "ensurepip"}
    assert not [
        name
        for name in ("sh", "bash", "apt", "dpkg")
        for folder in ("bin", "sbin")
        if (root / "usr" / folder / name).exists()
    ]
    assert not {
        name for name in names if name.startswith(("pip-", "setuptools-")) or name.endswith(".whl")
    }


def test_it_has_the_client_that_is_used_and_no_other(root: Path) -> None:
    (client,) = root.glob("opt/kpm/lib/python3*/site-packages/kubernetes")
    assert not (client / "aio").exists()
    assert not list(client.parent.glob("aiohttp*"))
    assert {path.name for path in (client / "client/models").iterdir()} == {
        "__init__.py",
        "__pycache__",
    }


@pytest.mark.parametrize("user", [0, 65532])
def test_every_module_can_be_imported(root: Path, user: int) -> None:
    """What was left out is imported by nothing."""
    done = inside(root, _PYTHON, "-W", "error::ImportWarning", "-c", _IMPORT_ALL, user=user)
    assert done.returncode == 0, done.stderr
    sources = [
        path
        for name in ("kpm", "kpm_planner", "kpm_applier")
        for path in (REPO / name).rglob("*.py")
    ]
    assert len(done.stdout.split()) > 0.8 * len(sources)


@pytest.mark.parametrize(
    ("verb", "user"),
    [("agent", 0), ("helper", 0), ("operator", 65532), ("scaler", 0), ("energy", 65532)],
)
def test_commands_start_on_a_read_only_root(root: Path, verb: str, user: int) -> None:
    done = inside(root, _PYTHON, "-m", "kpm", verb, "--help", user=user)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: kpm {verb}")


def test_the_client_asks_a_server(root: Path) -> None:
    """Configuration, authentication and the request itself need none of what was left out."""
    (root / "tmp/kubeconfig").write_text(json.dumps(_KUBECONFIG))
    done = inside(root, _PYTHON, "-c", _CLIENT)
    assert done.stdout.split() == ["0", "NewConnectionError"], done.stderr


def test_nothing_is_compiled_at_start(root: Path) -> None:
    """All modules that are loaded have their bytecode beside them."""
    program = """
import sys
import kpm.cli.shells, kpm.agent.build, kpm.agent.cluster, kpm.operator.operator, kpm.kube.api
for module in list(sys.modules.values()):
    path, made = getattr(module, "__file__", None), getattr(module, "__cached__", None)
    if path and path.endswith(".py") and made:
        import os
        os.path.exists(made) or print(path)
"""
    done = inside(root, _PYTHON, "-c", program)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
