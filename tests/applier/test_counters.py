"""Files that are read again and again: kept open, never followed out of where they are, never more
of them than the process can spare (field report 59).
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kpm_applier.measure.counters import CounterFiles
from tests.applier import rig

REPOSITORY = Path(__file__).parents[2]
KIB = 1 << 10
#: How a process of few descriptors begins.
FEW = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (600, 600))
from kpm_applier.measure.counters import CounterFiles
root = sys.argv[1]
files = CounterFiles(root)
def kept():
    return len(os.listdir("/proc/self/fd")) - 1
before = kept()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree with a file, a folder with another, and links to both."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "stat").write_bytes(b"cpu 1 2 3\n")
    (tmp_path / "inner/usage").write_bytes(b"42\n")
    (tmp_path / "link").symlink_to("stat")
    (tmp_path / "folderlink").symlink_to("inner")
    return tmp_path


@pytest.fixture
def files(root: Path) -> Iterator[CounterFiles]:
    """The tree, closed at the end."""
    made = CounterFiles(str(root))
    yield made
    made.close()


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


# --- the root ---


@pytest.mark.parametrize("name", ["", "stat", "missing", "stat/below"])
def test_a_root_that_is_no_folder_is_told(root: Path, name: str) -> None:
    """With the name that was given."""
    given = str(root / name) if name else ""
    with pytest.raises(NotADirectoryError) as caught:
        CounterFiles(given)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOTDIR, given)


def test_a_root_may_be_a_link(root: Path) -> None:
    """As /sys/fs/cgroup/cpuacct is to cpu,cpuacct."""
    assert CounterFiles(str(root / "folderlink")).read_once("usage") == b"42\n"


# --- reading ---


def test_a_file_is_opened_once(files: CounterFiles, root: Path) -> None:
    """Each look reads from the start, through the descriptor of the first, even when the name is
    gone.
    """
    before = descriptors()
    assert files.read("inner/usage") == b"42\n"
    (root / "inner/usage").write_bytes(b"1234\n")
    assert files.read("inner/usage") == b"1234\n"
    (root / "inner/usage").rename(root / "elsewhere")
    assert files.read("inner/usage") == b"1234\n"
    assert descriptors() == before + 1


def test_only_the_beginning_is_read(files: CounterFiles, root: Path) -> None:
    """A page, or as much as is asked for, also by the first look."""
    (root / "long").write_bytes(b"x" * 10_000)
    assert files.read("long", 5) == b"xxxxx"
    assert len(files.read("long")) == 4096
    assert len(files.read_once("long")) == 4096
    assert files.read_once("long", 3) == b"xxx"
    assert files.read_all(["long", "stat"], 7) == [b"xxxxxxx", b"cpu 1 2"]


@pytest.mark.parametrize(
    "size",
    [
        0,
        1,
        4 * KIB - 1,
        4 * KIB,
        4 * KIB + 1,
        64 * KIB - 1,
        64 * KIB,
        64 * KIB + 1,
        200 * KIB,
        1024 * KIB,
    ],
)
def test_a_long_file_is_read_whole(files: CounterFiles, root: Path, size: int) -> None:
    """As /proc/stat of a machine with a thousand CPUs; twice, since the second look is through the
    kept descriptor.
    """
    content = bytes(number % 251 for number in range(size))
    (root / "long").write_bytes(content)
    assert files.read_whole("long") == content
    assert files.read_whole("long") == content


def test_a_file_without_end_is_not_read_for_ever(files: CounterFiles, root: Path) -> None:
    """Beyond a megabyte something is wrong with it."""
    with (root / "huge").open("wb") as file:
        file.truncate(8 << 20)
    assert 1 << 20 <= len(files.read_whole("huge")) < 2 << 20


def test_what_cannot_be_read_costs_itself_only(files: CounterFiles) -> None:
    """Each of many files has its own content or failure, in their order."""
    found = files.read_all(["stat", "missing", "inner", "inner/usage", "stat/below"])
    assert found[0] == b"cpu 1 2 3\n"
    assert found[3] == b"42\n"
    assert [item.errno for item in (found[1], found[2], found[4]) if isinstance(item, OSError)] == [
        errno.ENOENT,
        errno.EISDIR,
        errno.ENOTDIR,
    ]


def test_a_file_that_comes_later_is_read(files: CounterFiles, root: Path) -> None:
    """That it was missing is not remembered."""
    assert isinstance(files.read_all(["late"])[0], OSError)
    (root / "late").write_bytes(b"5\n")
    assert files.read_all(["late"]) == [b"5\n"]


def test_a_file_read_once_is_not_kept(files: CounterFiles) -> None:
    """Nor is one that is a folder."""
    before = descriptors()
    assert files.read_once("stat") == b"cpu 1 2 3\n"
    with pytest.raises(IsADirectoryError):
        files.read_once("inner")
    with pytest.raises(FileNotFoundError):
        files.read_once("missing")
    assert descriptors() == before


@pytest.mark.usefixtures("impatient")
def test_a_pipe_does_not_hold_anybody_up(files: CounterFiles, root: Path) -> None:
    """Nobody writes to it: it says nothing, or cannot be read, at once."""
    os.mkfifo(root / "pipe")
    assert files.read_once("pipe") == b""
    assert isinstance(files.read_all(["pipe"])[0], OSError)


# --- links ---


def test_a_link_at_the_end_is_not_followed(files: CounterFiles, root: Path) -> None:
    """Neither inside nor out, neither for a file nor for a folder."""
    (root / "out").symlink_to("/proc/self/status")
    for path in ("link", "out"):
        for read in (files.read, files.read_whole, files.read_once):
            with pytest.raises(OSError, match=r"Too many levels") as caught:
                read(path)
            assert caught.value.errno == errno.ELOOP
    assert files.links("folderlink") is None


def test_where_a_link_leads_is_a_text(files: CounterFiles, root: Path) -> None:
    """As /proc/PID/exe does; what is no link, or not there, leads nowhere."""
    (root / "exe").symlink_to("/usr/bin/no such (deleted)")
    assert [files.link(path) for path in ("exe", "link", "stat", "missing")] == [
        "/usr/bin/no such (deleted)",
        "stat",
        "",
        "",
    ]


# --- folders ---


def test_names_and_folders(files: CounterFiles) -> None:
    """Of the root, and below; a link is no folder; what is none has no names."""
    assert set(files.names("")) == {"stat", "inner", "link", "folderlink"}
    assert files.folders("") == ("inner",)
    assert (files.names("inner"), files.folders("inner")) == (("usage",), ())
    assert (
        files.names("stat")
        == files.folders("stat")
        == files.names("missing")
        == files.folders("missing")
        == ()
    )


def test_odd_names_are_names(files: CounterFiles, root: Path) -> None:
    """A line break, bytes that are no text, blanks: each can be listed, and read by what was
    listed.
    """
    odd = {"a\nb", " ", "\udcff", "é" * 60}
    for name in odd:
        (root / name).mkdir()
        (root / name / "usage").write_bytes(b"7\n")
    assert set(files.folders("")) == odd | {"inner"}
    assert {files.read(f"{name}/usage") for name in odd} == {b"7\n"}


def test_links_count_folders() -> None:
    """And nothing else; a folder that is gone has no count, a file never had one."""
    with rig.state_folder() as name:
        root, files = Path(name), CounterFiles(name)
        (root / "inner").mkdir()
        first = files.links("inner")
        assert first is not None
        (root / "inner/a").mkdir()
        assert files.links("inner") == first + 1
        (root / "inner/usage").write_bytes(b"1\n")
        assert files.links("inner") == first + 1
        (root / "inner/b").mkdir()
        assert files.links("inner") == first + 2
        (root / "inner/a").rmdir()
        assert files.links("inner") == first + 1
        (root / "inner/b").rmdir()
        (root / "inner/usage").unlink()
        (root / "inner").rmdir()
        assert files.links("inner") is None
        assert files.links("missing") is None
        (root / "file").write_bytes(b"")
        assert files.links("file") is None
        files.close()


# --- letting go ---


def test_only_what_is_wanted_stays_open(root: Path) -> None:
    """keep_only closes the others, files and folders; drop closes one; close closes all, and what
    is closed can be read again.
    """
    before = descriptors()
    files = CounterFiles(str(root))
    for name in "abc":
        (root / name).write_bytes(name.encode())
    assert files.read_all(["a", "b", "c"]) == [b"a", b"b", b"c"]
    files.links("")
    files.links("inner")
    assert descriptors() == before + 5
    files.keep_only(["a", "b", "never seen"], ["inner"])
    assert descriptors() == before + 3
    files.drop("a")
    files.drop("a")
    files.drop("never seen")
    assert descriptors() == before + 2
    files.close()
    files.close()
    assert descriptors() == before
    assert files.read_all(["a", "b"]) == [b"a", b"b"]
    files.close()
    assert descriptors() == before


def test_a_dropped_file_is_looked_up_anew(files: CounterFiles, root: Path) -> None:
    """What has the name now is read, not what had it."""
    assert files.read("stat") == b"cpu 1 2 3\n"
    (root / "stat").unlink()
    (root / "stat").write_bytes(b"cpu 9 9 9\n")
    assert files.read("stat") == b"cpu 1 2 3\n"
    files.drop("stat")
    assert files.read("stat") == b"cpu 9 9 9\n"


def test_failures_leave_no_descriptor(files: CounterFiles) -> None:
    """However often what cannot be read is asked for: a folder in place of a file takes one at
    most.
    """
    before = descriptors()
    for _ in range(20):
        files.read_all(["missing", "link", "stat/below", "inner"])
        files.links("missing")
        files.links("link")
        files.links("stat")
    assert descriptors() <= before + 1


# --- few descriptors ---


def run(script: str, *arguments: object) -> str:
    """What a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_soft_limit_is_raised_to_the_hard_one(root: Path) -> None:
    """A container runtime may set 1024 for a process that may have more."""
    script = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 4096))
from kpm_applier.measure.counters import CounterFiles
CounterFiles(sys.argv[1])
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    assert run(script, root) == "4096 4096\n"


def test_many_files_are_read_with_few_descriptors(tmp_path: Path) -> None:
    """Those beyond are opened, read and closed; all say what they hold, in every look, and a file
    can be opened beside them.
    """
    for number in range(700):
        (tmp_path / f"{number}").write_bytes(b"%d\n" % number)
    script = f"""{FEW}
paths = [str(number) for number in range(700)]
for _ in range(3):
    assert files.read_all(paths) == [b"%d\\n" % number for number in range(700)]
assert 0 < kept() - before <= 150, kept()
open("/dev/null").close()
files.close()
assert kept() == before
"""
    run(script, tmp_path)


def test_all_parts_of_a_process_share_one_budget(tmp_path: Path) -> None:
    """Counters of processes, of cgroups, and managed files together leave half of few descriptors
    to the rest; managed files go first.
    """
    for number in range(700):
        (tmp_path / f"{number}").write_bytes(b"%d\n" % number)
    script = f"""{FEW}
from kpm_applier.sysfs.tree import SysfsHost
paths = [str(number) for number in range(700)]
other, host = CounterFiles(root), SysfsHost(root)
for tree in (files, other):
    assert tree.read_all(paths) == [b"%d\\n" % number for number in range(700)]
counters = kept() - before
host.keep(paths)
print(counters, kept() - before)
for tree in (files, other):
    tree.close()
host.forget()
assert kept() == before
host.keep(paths)
print(kept() - before)
"""
    assert run(script, tmp_path) == "150 300\n300\n"


def test_a_long_file_is_read_whole_with_few_descriptors(tmp_path: Path) -> None:
    """As with many: it is no shorter where it cannot be kept."""
    content = b"0123456789abcdef" * (16 * KIB)
    (tmp_path / "long").write_bytes(content)
    for number in range(200):
        (tmp_path / f"{number}").write_bytes(b"\n")
    script = f"""{FEW}
files.read_all([str(number) for number in range(200)])
print(len(files.read_whole("long")))
"""
    assert int(run(script, tmp_path)) == len(content)


def test_many_folders_leave_descriptors_to_others(tmp_path: Path) -> None:
    """Watching the folders of hundreds of pods takes no descriptor from the files in them, nor from
    the rest of the process.
    """
    for number in range(700):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}/usage").write_bytes(b"5\n")
    script = f"""{FEW}
for number in range(700):
    files.links(str(number))
print(files.read_all([f"{{number}}/usage" for number in range(700)]).count(b"5\\n"))
open("/dev/null").close()
"""
    assert run(script, tmp_path) == "700\n"
