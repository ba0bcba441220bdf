"""A small file is written whole or not at all, and nothing is left beside it."""

import os
import resource
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from kpm_applier.state.files import boot_id, write_durably, write_whole


@pytest.mark.parametrize("write", [write_whole, write_durably])
def test_writing_replaces_the_file(tmp_path: Path, write: Callable[[str, bytes], None]) -> None:
    """By a new one, which nobody but its owner reads; nothing else is left in the folder."""
    path = tmp_path / "energy.json"
    path.write_bytes(b"before, and much longer than what comes after")
    path.chmod(0o644)
    before = path.stat().st_ino
    mask = os.umask(0)
    try:
        write(str(path), b"after")
    finally:
        os.umask(mask)
    assert path.read_bytes() == b"after"
    assert path.stat().st_ino != before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["energy.json"]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    """What it leads to is left alone."""
    (tmp_path / "other").write_bytes(b"of somebody else")
    (tmp_path / "energy.json").symlink_to("other")
    write_whole(str(tmp_path / "energy.json"), b"ours")
    assert (tmp_path / "other").read_bytes() == b"of somebody else"
    assert not (tmp_path / "energy.json").is_symlink()


def test_a_name_without_a_folder_is_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for any command."""
    monkeypatch.chdir(tmp_path)
    write_whole("energy.json", b"x")
    assert os.listdir(tmp_path) == ["energy.json"]


def no_folder(root: Path) -> Path:
    return root / "missing" / "energy.json"


def file_as_folder(root: Path) -> Path:
    (root / "file").write_bytes(b"")
    return root / "file" / "energy.json"


def folder_in_its_place(root: Path) -> Path:
    (root / "energy.json").mkdir()
    return root / "energy.json"


@pytest.mark.parametrize("make", [no_folder, file_as_folder, folder_in_its_place])
def test_where_it_cannot_be_written_nothing_is_left(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    """It fails with an OSError and no other file is in the folder afterwards."""
    path = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OSError, match="energy"):
        write_whole(str(path), b"x" * 100_000)
    assert sorted(tmp_path.rglob("*")) == before


def test_where_there_is_no_room_the_old_file_stays(tmp_path: Path) -> None:
    """A limit on the size of files fails a write in the middle, as a full disk does."""
    path = tmp_path / "energy.json"
    path.write_bytes(b"before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            write_whole(str(path), b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["energy.json"]


def test_a_folder_that_is_not_there_is_made_private(tmp_path: Path) -> None:
    """Where the file is to last."""
    write_durably(str(tmp_path / "new" / "state.json"), b"x")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_which_boot_this_is(tmp_path: Path) -> None:
    """The kernel's own word, elsewhere where that is asked for; nothing where nobody says."""
    assert boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert boot_id(str(tmp_path)) == ""
