"""The public names of planner and applier, and the page that shows them: its examples run."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import kpm_applier
import kpm_planner
from kpm_applier.kernel_model.model import KernelModel
from tests.applier import rig
from tests.trees import write_tree

PAGE = Path(__file__).parents[2] / "docs/developer/python-api.md"


def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    """One after the other, as a reader would type them."""
    host = write_tree(KernelModel(rig.intel(4)), tmp_path)
    names: dict[str, Any] = {"root": host.root, "state": str(tmp_path / "state")}
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 2
    before = (tmp_path / "sys" / rig.max_path(0)).read_text()
    for example in examples:
        exec(example, names)
    assert (tmp_path / "sys" / rig.max_path(0)).read_text() == before


@pytest.mark.parametrize("package", [kpm_planner, kpm_applier], ids=lambda item: item.__name__)
def test_every_public_name_is_there(package: ModuleType) -> None:
    """And no other name is public by accident."""
    assert len(set(package.__all__)) == len(package.__all__)
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError):
        _ = package.nothing
