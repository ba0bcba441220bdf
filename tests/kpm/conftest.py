"""What the tests of the command line share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kpm.cli_rig import DUMPS
from tests.kpm.tree_samples import INTEL, build_tree
from tests.trees import unpack_dump

#: What discovery never looks at and takes seconds to unpack.
_NEEDLESS = ("cache", "hotplug", "microcode", "power", "thermal_throttle", "node0", "node1")


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
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield unpack_dump(request.param, Path(folder), but=_NEEDLESS)
