"""What the tests of the command line share."""

import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kpm.cli_rig import DUMPS
from tests.kpm.tree_samples import INTEL, build_tree


def _wanted(name: str) -> bool:
    """Whether discovery may look at a member; the rest of a dump takes seconds to unpack."""
    if "devices/system/cpu" not in name:
        return name.endswith("proc/cpuinfo")
    return not {
        "cache",
        "hotplug",
        "microcode",
        "power",
        "thermal_throttle",
        "node0",
        "node1",
    }.intersection(name.split("/"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small Intel machine as a /sys tree."""
    return build_tree(tmp_path / "machine" / "sys", INTEL)


@pytest.fixture(
    scope="session",
    params=[*DUMPS] if DUMPS else [None],
    ids=lambda path: path.name.split(".tar")[0] if path else "no dumps",
)
def dump(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The `sys` folder of a real machine's dump, cut down to its CPUs and made readable."""
    if request.param is None:
        pytest.skip("no dumps of machines beside the repository (../shared/machines)")
    with (
        tempfile.TemporaryDirectory(
            dir="/dev/shm" if Path("/dev/shm").is_dir() else None
        ) as folder,
        tarfile.open(request.param) as archive,
    ):
        for member in archive:
            if _wanted(member.name):
                archive.extract(member, folder, filter="fully_trusted")
        for path in Path(folder).rglob("*"):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() else 0o644)
        yield next(
            path for path in Path(folder).rglob("sys") if (path / "devices/system/cpu").is_dir()
        )
