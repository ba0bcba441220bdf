"""What a release says of itself: one version, a section of changes, a workflow that does what
`make release` cannot, and a matrix whose every line names tests that exist.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType
from typing import cast

import pytest
import yaml

from kpm import __version__
from tests.charts.helm import REPO
from tests.charts.releasing import load_release


@pytest.fixture(scope="module")
def release() -> ModuleType:
    return cast(ModuleType, load_release())


def test_the_changes_have_a_section_of_this_version(release: ModuleType) -> None:
    assert "### " in release.notes(__version__)
    release.check(__version__)


@pytest.mark.parametrize("version", ["9.9.9", "0.1", "", "latest"])
def test_another_version_is_refused(release: ModuleType, version: str) -> None:
    """Before anything is made."""
    with pytest.raises(SystemExit, match=r"__version__|CHANGELOG"):
        release.check(version)


def test_notes_are_the_section_and_nothing_else(release: ModuleType) -> None:
    assert "0.1.0\n" not in release.notes(__version__).splitlines()
    assert "## " not in re.sub(r"(?m)^### ", "", release.notes(__version__))


def test_archives_of_one_commit_are_equal(
    release: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever and by whomever they are made: neither times nor owners are in them."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    made = []
    for turn in (1, 2):
        path = tmp_path / f"{turn}.tar.gz"
        with tarfile.open(path, "w:gz") as content:
            for name in ("b", "a") if turn == 1 else ("a", "b"):
                item = tarfile.TarInfo(name)
                item.mtime, item.uname, item.size = turn * 1000, f"user{turn}", 1
                content.addfile(item, io.BytesIO(b"x"))
        release._plain(path)
        made.append(path.read_bytes())
    assert made[0] == made[1]


def test_the_workflow_makes_the_release_by_make() -> None:
    """And tests first; only publishing is its own."""
    text = (REPO / ".github/workflows/release.yaml").read_text()
    steps = yaml.safe_load(text)["jobs"]["release"]["steps"]
    runs = [step["run"] for step in steps if "run" in step]
    assert runs[0] == ".ci/run"
    assert "make airgap" in runs[1]
    assert "secrets." not in "".join(runs)


def test_every_line_of_the_matrix_names_tests_that_exist() -> None:
    text = (REPO / "docs/user/installing.md").read_text().partition("## What is supported")[2]
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 8
    for row in rows:
        named = re.findall(r"`(tests/[^`]+)`", row)
        assert named, row
        assert all((REPO / name).exists() for name in named), row


def test_the_containerfile_has_no_fault_that_is_known() -> None:
    """By hadolint."""
    tool = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [str(tool), str(REPO / "Containerfile")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
