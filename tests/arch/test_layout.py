"""Folders: what a reader may rely on who has only seen their names."""

from pathlib import Path

import pytest

import kpm
import kpm_applier
import kpm_planner

PACKAGES = {
    module.__name__: Path(str(module.__file__)).parent for module in (kpm, kpm_applier, kpm_planner)
}
FOLDERS = [
    folder
    for package in PACKAGES.values()
    for folder in sorted(package.rglob("*"))
    if folder.is_dir() and any(folder.glob("*.py"))
]


def name_of(folder: Path) -> str:
    """A folder in test names."""
    return f"{folder.parent.name}.{folder.name}"


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_folders_are_one_level_deep_and_hold_three_modules_or_more(folder: Path) -> None:
    """Fewer are no group, and a folder in a folder hides what it decides."""
    assert folder.parent in PACKAGES.values()
    assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) >= 3


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_a_folder_says_in_one_docstring_what_it_is(folder: Path) -> None:
    """Its `__init__` holds that and, but for the command line, nothing else."""
    lines = (folder / "__init__.py").read_text().strip().splitlines()
    assert lines[0].startswith('"""')
    assert folder.name == "cli" or len(lines) <= 4
