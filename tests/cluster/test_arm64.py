"""The image for arm64, built and run by emulation: some seven minutes, so before a release.

What it computes is compared with what this machine computes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import images
from tests.cluster.images import COMMANDS, IMPORT_ALL, PYTHON, archive_size, inside, mounted
from tests.cluster.steps import REPO
from tests.kpm.cli_rig import tree_hash
from tests.kpm.tree_samples import SHARED_DOMAINS, build_tree

pytestmark = pytest.mark.cluster_long
ARCH = "arm64"
#: Of an ELF file: where its machine stands, and aarch64's number (ELF for the Arm 64-bit).
_MACHINE, _AARCH64 = slice(18, 20), (183).to_bytes(2, "little")
_PLAN = ("plan", "-f", "/tmp/examples/arm/objects.yaml", "--node", "edge", "--sysfs", "/tmp/sys")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The image, read-only, and in its /tmp the examples and the /sys of an Arm machine."""
    folder = tmp_path_factory.mktemp("image") / "root"
    with mounted(images.product(arch=ARCH), folder) as found:
        shutil.copytree(REPO / "examples", found / "tmp/examples")
        build_tree(found / "tmp/sys", SHARED_DOMAINS)
        yield found


def kpm(root: Path, *words: str, user: int = 65532) -> subprocess.CompletedProcess[str]:
    """The program in the image."""
    return inside(root, PYTHON, "-m", "kpm", *words, user=user, seconds=600)


def here(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The program on this machine, given the same files."""
    own = [word.replace("/tmp/", f"{root}/tmp/") for word in words]
    command = [sys.executable, "-m", "kpm", *own]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPO)


def test_every_program_and_library_in_it_is_for_arm64(root: Path) -> None:
    heads = [
        path.read_bytes()[: _MACHINE.stop]
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    ]
    programs = [head for head in heads if head.startswith(b"\x7fELF")]
    assert len(programs) > 20
    assert {head[_MACHINE] for head in programs} == {_AARCH64}


def test_it_is_small_to_carry() -> None:
    """As the other one: at most 90 MB as registries hold it."""
    assert archive_size(images.product(arch=ARCH)) <= 90_000_000


@pytest.mark.parametrize("user", [0, 65532])
def test_every_module_can_be_imported(root: Path, user: int) -> None:
    done = inside(root, PYTHON, "-c", IMPORT_ALL, user=user, seconds=600)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 0.8 * len(images.sources())


@pytest.mark.parametrize(("verb", "user"), COMMANDS)
def test_commands_start_on_a_read_only_root(root: Path, verb: str, user: int) -> None:
    done = kpm(root, verb, "--help", user=user)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: kpm {verb}")


@pytest.mark.parametrize(
    "words", [(*_PLAN, "-o", "json"), ("simulate", "/tmp/examples/arm/scenario.yaml")]
)
def test_it_plans_what_is_planned_here(root: Path, words: tuple[str, ...]) -> None:
    """Equal to the last byte, whatever the machine."""
    there, own = kpm(root, *words), here(root, *words)
    assert (there.returncode, own.returncode) == (0, 0), there.stderr + own.stderr
    assert there.stdout.replace("/tmp/", f"{root}/tmp/") == own.stdout


def test_it_tunes_and_gives_everything_back(root: Path) -> None:
    """On files: after apply they hold what is planned, after restore what they held."""
    before = tree_hash(root / "tmp/sys")
    where = ("--sysfs", "/tmp/sys", "--state-dir", "/tmp/state")
    done = kpm(root, "apply", "-f", _PLAN[2], "--node", "edge", *where, "--yes", user=0)
    assert done.returncode == 0, done.stdout + done.stderr
    assert tree_hash(root / "tmp/sys") != before
    done = kpm(root, "restore", *where, user=0)
    assert done.returncode == 0, done.stdout + done.stderr
    assert tree_hash(root / "tmp/sys") == before
