"""The image that `make images` builds where there is no podman and no docker."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.releasing import load_release
from tests.cluster import images
from tests.cluster.images import COMMANDS, IMPORT_ALL, PYTHON, archive_size, inside, mounted
from tests.cluster.steps import REPO
from tests.programs import load_program

pytestmark = pytest.mark.cluster
_MIB = 1 << 20
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


#: What the image leaves out, as the program says that makes it.
UNUSED = load_program("deploy/image/install.py").UNUSED


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The image unpacked, and mounted as the manifests ask: read-only."""
    with mounted(images.product(), tmp_path_factory.mktemp("image") / "root") as found:
        yield found


def test_it_is_small(root: Path) -> None:
    """At most 150 MiB unpacked: a node without a registry near it has an agent soon."""
    size = sum(path.lstat().st_blocks * 512 for path in root.rglob("*"))
    assert size <= 150 * _MIB


def test_it_is_small_to_carry() -> None:
    """At most 90 MB as registries hold it."""
    assert archive_size(images.product()) <= 90_000_000


def test_two_builds_are_equal_and_what_they_are_made_of_is_known(tmp_path: Path) -> None:
    """The same digest, and a bill of materials in both notations that names every locked package
    and the distribution's; the checksums are signed and verified without any service.
    """
    release = load_release(tmp_path)
    digests, bills = set(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "1700000000")
        for _ in range(2):
            digest = release.image(images.architecture(), "0", "localhost")
            digests.add(digest)
            release.materials(images.architecture(), "0", digest)
            bills.append({path.name: path.read_text() for path in (tmp_path / "sbom").iterdir()})
    assert len(digests) == 1
    assert bills[0] == bills[1]
    for text in bills[0].values():
        for name in re.findall(r"^([a-z0-9-]+)==", (REPO / "requirements.lock").read_text(), re.M):
            unused = any(fnmatch(name.replace("-", "_"), pattern) for pattern in UNUSED)
            assert unused or f'"{name}"' in text.lower(), name
        assert "pkg:deb/" in text
    release.sums()
    sign_and_verify(release, tmp_path)


def test_the_olm_bundle_is_an_image(tmp_path: Path) -> None:
    """Of its files alone, with the labels that a registry of operators reads; two are equal."""
    release = load_release(tmp_path)
    made = [sys.executable, str(REPO / "deploy/bundle/make.py"), str(tmp_path / "olm")]
    subprocess.run([*made, "localhost/kubernetes-power-manager:0"], check=True)
    root, digests = tmp_path / "root", set()
    for _ in range(2):
        release.bundle("0", "localhost")
        archive = tmp_path / "images/kubernetes-power-manager-bundle-0.oci.tar"
        with tarfile.open(archive) as content:
            (index,) = _read(content, "index.json")["manifests"]
            manifest = _read(content, _blob(index))
            config = _read(content, _blob(manifest["config"]))
            for layer in manifest["layers"]:
                with tarfile.open(fileobj=content.extractfile(_blob(layer))) as files:
                    files.extractall(root, filter="data")
        digests.add(index["digest"])
    assert len(digests) == 1
    bundle = tmp_path / "olm/bundle"
    notes = yaml.safe_load((bundle / "metadata/annotations.yaml").read_text())
    assert notes["annotations"].items() <= config["config"]["Labels"].items()
    found = {path.relative_to(root): path.read_bytes() for path in root.rglob("*.yaml")}
    assert found == {path.relative_to(bundle): path.read_bytes() for path in bundle.rglob("*.yaml")}


def _read(archive: tarfile.TarFile, name: str) -> Any:
    file = archive.extractfile(name)
    assert file is not None
    return json.loads(file.read())


def _blob(item: Any) -> str:
    return "blobs/" + str(item["digest"]).replace(":", "/")


def sign_and_verify(release: Any, folder: Path) -> None:
    """With a key of one's own; a changed file is noticed."""
    cosign = release.go_tool(*release.COSIGN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COSIGN_PASSWORD", "x")
        subprocess.run([cosign, "generate-key-pair"], check=True, cwd=folder, capture_output=True)
        release.sign(str(folder / "cosign.key"))
    sums = folder / "SHA256SUMS"
    verify = [cosign, "verify-blob", "--key", "cosign.pub", "--insecure-ignore-tlog=true"]
    verify += ["--bundle", "SHA256SUMS.sigstore.json", "SHA256SUMS"]
    assert subprocess.run(verify, cwd=folder, check=False).returncode == 0
    sums.write_text(sums.read_text() + "more\n")
    assert subprocess.run(verify, cwd=folder, check=False).returncode != 0


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
    done = inside(root, PYTHON, "-W", "error::ImportWarning", "-c", IMPORT_ALL, user=user)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 0.8 * len(images.sources())


@pytest.mark.parametrize(("verb", "user"), COMMANDS)
def test_commands_start_on_a_read_only_root(root: Path, verb: str, user: int) -> None:
    done = inside(root, PYTHON, "-m", "kpm", verb, "--help", user=user)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: kpm {verb}")


def test_the_client_asks_a_server(root: Path) -> None:
    """Configuration, authentication and the request itself need none of what was left out."""
    (root / "tmp/kubeconfig").write_text(json.dumps(_KUBECONFIG))
    done = inside(root, PYTHON, "-c", _CLIENT)
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
    done = inside(root, PYTHON, "-c", program)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_no_bytecode_asks_for_the_time_of_its_source(root: Path) -> None:
    """Layers have times of their own: bytecode that compares them would be compiled at every start,
    and differs from build to build.
    """
    unchecked = (1).to_bytes(4, "little")
    kinds = {path: path.read_bytes()[4:8] for path in root.rglob("*.pyc") if path.is_file()}
    assert kinds
    assert not [path for path, kind in kinds.items() if kind != unchecked]
