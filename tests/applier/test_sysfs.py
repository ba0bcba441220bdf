"""SysfsHost on real trees of files: it never leaves its root, never hangs, and an idle look is only
a look (A1, A5).
"""

import errno
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyfakefs.fake_filesystem_unittest import Patcher

from kpm_applier.sysfs.tree import SysfsHost
from tests.applier import rig

PAGE = 4096
Reach = Callable[[SysfsHost, str], object]
#: Every way to open a file of a host.
REACHES: dict[str, Reach] = {
    "read": lambda host, path: host.read(path),
    "write": lambda host, path: host.write(path, b"1\n"),
    "watch": lambda host, path: host.watch({path: b""}),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tree = tmp_path / "sys"
    (tree / "devices/cpu0").mkdir(parents=True)
    (tree / "devices/cpu0/max").write_text("3700000\n")
    return tree


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside of the root, in a folder whose name begins like the root's."""
    folder = tmp_path / "sys-outside"
    folder.mkdir()
    (folder / "secret").write_text("secret\n")
    return folder / "secret"


pytestmark = pytest.mark.usefixtures("impatient")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def nobody(tree: Path) -> Iterator[None]:
    """As a user without rights, also where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    for folder in [tree, *tree.parents]:
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & 0o005:
            folder.chmod(folder.stat().st_mode | 0o055)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def refused(number: int | None = None) -> Iterator[None]:
    """The block must end in an OSError, of this errno where one is given."""
    try:
        yield
    except OSError as failure:
        if number not in (None, failure.errno):
            pytest.fail(f"{failure!r}, expected {errno.errorcode[number]}")
    else:
        pytest.fail("was not refused")


# --- plain use ---


def test_reads_writes_and_lists(root: Path) -> None:
    """Contents are bytes as the file has them; names come sorted."""
    host = SysfsHost(str(root))
    assert host.read("devices/cpu0/max") == b"3700000\n"
    host.write("devices/cpu0/max", b"1\n")
    assert (root / "devices/cpu0/max").read_bytes() == b"1\n"
    for name in ("cpu10", "cpu2", "cpu1"):
        (root / "devices" / name).mkdir()
    assert host.list("devices") == ("cpu0", "cpu1", "cpu10", "cpu2")
    assert host.list("") == ("devices",)


def test_a_root_must_be_a_folder(root: Path) -> None:
    """A root that is a file or does not exist is refused at once; a link to a folder is that
    folder.
    """
    for bad in (root / "devices/cpu0/max", root / "missing"):
        with pytest.raises(NotADirectoryError):
            SysfsHost(str(bad))
    (root.parent / "link").symlink_to(root)
    assert SysfsHost(str(root.parent / "link")).root == str(root.resolve())


def test_only_sys_itself_is_live(root: Path) -> None:
    """Boot ids mean something for the running kernel's tree alone (A7)."""
    assert not SysfsHost(str(root)).live
    assert SysfsHost("/sys").live


@pytest.mark.parametrize("kept", [False, True], ids=["opened", "kept"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"3700000\n", b"1\n"),
        (b"1\n", b"3700000\n"),
        (b"", b"0\n"),
        (b"powersave\n", b"performance\n"),
        (b"x" * 9000, b"1\n"),
    ],
)
def test_a_plain_file_is_cut_to_what_is_written(
    root: Path, before: bytes, after: bytes, kept: bool
) -> None:
    """In a copy of /sys nothing of a longer text stays behind a shorter one; a sysfs file does that
    by itself.
    """
    file = root / "devices/cpu0/max"
    file.write_bytes(before)
    host = SysfsHost(str(root))
    if kept:
        host.watch({"devices/cpu0/max": before[:PAGE]})
    host.write("devices/cpu0/max", after)
    assert file.read_bytes() == after
    assert host.read("devices/cpu0/max") == after
    host.forget()


def test_an_empty_file_reads_as_nothing(root: Path) -> None:
    """Dumps have empty files where the kernel refused to be read."""
    (root / "devices/cpu0/max").write_bytes(b"")
    assert SysfsHost(str(root)).read("devices/cpu0/max") == b""


def test_a_huge_file_costs_one_page(root: Path) -> None:
    """No sysfs file is longer than a page; a tree from elsewhere cannot fill the memory."""
    (root / "devices/cpu0/max").write_bytes(b"7" * 10_000_000)
    host = SysfsHost(str(root))
    assert len(host.read("devices/cpu0/max")) == PAGE
    watch = host.watch({"devices/cpu0/max": b"7" * PAGE})
    assert watch.same()
    assert len(host.read("devices/cpu0/max")) == PAGE
    host.forget()


def test_a_file_that_vanishes_says_so(root: Path) -> None:
    """Between two looks a CPU may go: ENOENT, and the next file is not affected."""
    host = SysfsHost(str(root))
    (root / "devices/cpu0/min").write_text("800000\n")
    host.read("devices/cpu0/min")
    (root / "devices/cpu0/min").unlink()
    with pytest.raises(FileNotFoundError):
        host.read("devices/cpu0/min")
    with pytest.raises(FileNotFoundError):
        host.write("devices/cpu0/min", b"1\n")
    assert not (root / "devices/cpu0/min").exists()
    assert host.read("devices/cpu0/max") == b"3700000\n"


def test_a_folder_that_vanishes_says_so(root: Path) -> None:
    """So does a folder, also one that has been used before."""
    host = SysfsHost(str(root))
    host.read("devices/cpu0/max")
    (root / "devices/cpu0/max").unlink()
    (root / "devices/cpu0").rmdir()
    for reach in (
        lambda: host.read("devices/cpu0/max"),
        lambda: host.list("devices/cpu0"),
        lambda: host.list("devices/cpu9"),
    ):
        with pytest.raises(FileNotFoundError):
            reach()


# --- A5: it never leaves its root ---


def test_a_folder_link_inside_is_followed(root: Path) -> None:
    """/sys is full of them: cpuN/cpufreq leads to policyM, and a link may lead to a link."""
    (root / "devices/by-name").symlink_to("../devices/cpu0")
    (root / "devices/chain").symlink_to("by-name")
    (root / "absolute").symlink_to(root / "devices")
    host = SysfsHost(str(root))
    for folder in ("devices/by-name", "devices/chain", "absolute/cpu0", "absolute/chain"):
        assert host.read(f"{folder}/max") == b"3700000\n"
        host.write(f"{folder}/max", b"3700000\n")
        assert host.list(folder) == ("max",)


@pytest.mark.parametrize("reach", REACHES.values(), ids=REACHES)
@pytest.mark.parametrize("target", ["absolute", "relative", "through-a-link", "prefix"])
def test_a_folder_link_that_leads_out_is_refused(
    root: Path, secret: Path, target: str, reach: Reach
) -> None:
    """Whatever the spelling; a folder beside the root whose name begins with the root's is outside
    too.
    """
    link = root / "devices/out"
    match target:
        case "absolute" | "prefix":
            link.symlink_to(secret.parent)
        case "relative":
            link.symlink_to("../../sys-outside")
        case _:
            (root / "devices/step").symlink_to("../../sys-outside")
            link.symlink_to("step")
    host = SysfsHost(str(root))
    before = descriptors()
    with pytest.raises(OSError, match="out"):
        reach(host, "devices/out/secret")
    assert secret.read_text() == "secret\n"
    assert descriptors() == before
    with refused():
        host.list("devices/out")


@pytest.mark.parametrize("reach", REACHES.values(), ids=REACHES)
def test_a_file_link_that_leads_out_is_refused(root: Path, secret: Path, reach: Reach) -> None:
    """Neither read nor cut nor written."""
    (root / "devices/cpu0/out").symlink_to(secret)
    (root / "devices/cpu0/far").symlink_to("../../../sys-outside/secret")
    host = SysfsHost(str(root))
    for name in ("out", "far"):
        with refused():
            reach(host, f"devices/cpu0/{name}")
    assert secret.read_text() == "secret\n"


@pytest.mark.parametrize("reach", REACHES.values(), ids=REACHES)
@pytest.mark.parametrize(
    "path",
    [
        "../sys-outside/secret",
        "devices/../../sys-outside/secret",
        "devices/cpu0/../cpu0/max",
        "..",
        "devices/..",
        ".",
        "",
        "devices/./cpu0/max",
        "devices//cpu0",
    ],
)
def test_dots_are_no_paths(root: Path, secret: Path, path: str, reach: Reach) -> None:
    """A path of the attribute table has none; one that has is refused even where it would stay
    inside.
    """
    host = SysfsHost(str(root))
    with refused():
        reach(host, path)
    assert secret.read_text() == "secret\n"


def test_an_absolute_path_stays_below_the_root(root: Path, secret: Path) -> None:
    """Paths are relative to the root, whatever they begin with."""
    host = SysfsHost(str(root))
    for path in (str(secret), f"/{secret}", "/etc/hostname"):
        with refused():
            host.read(path)
        with refused():
            host.list(path)


def test_a_folder_that_becomes_a_link_outwards_is_refused(root: Path, secret: Path) -> None:
    """A5: what a path meant a moment ago is no permission to write; for reading, folders are looked
    at once until forget().
    """
    host = SysfsHost(str(root))
    host.read("devices/cpu0/max")
    (root / "devices/cpu0").rename(root / "devices/cpu0-before")
    (secret.parent / "max").write_text("outside\n")
    (root / "devices/cpu0").symlink_to(secret.parent)
    with refused():
        host.write("devices/cpu0/max", b"1\n")
    assert (secret.parent / "max").read_text() == "outside\n"
    host.forget()
    with refused():
        host.read("devices/cpu0/max")


@pytest.mark.parametrize("reach", REACHES.values(), ids=REACHES)
@pytest.mark.parametrize("kind", ["fifo", "folder", "socket", "dangling", "loop", "device"])
def test_what_is_no_plain_file_is_refused_and_does_not_hang(
    root: Path, kind: str, reach: Reach, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A FIFO in a tree from elsewhere must not stop the program; nothing stays open."""
    path = root / "devices/cpu0/odd"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                monkeypatch.chdir(path.parent)  # the address of a socket has few characters
                listener.bind("odd")
        case "dangling":
            path.symlink_to("nowhere")
        case "loop":
            path.symlink_to("odd")
        case _:
            try:
                os.mknod(path, 0o20600, os.makedev(1, 3))
            except PermissionError:
                pytest.skip("making a device node needs root")
    host = SysfsHost(str(root))
    before = descriptors()
    with refused():
        reach(host, "devices/cpu0/odd")
    assert descriptors() == before
    assert host.read("devices/cpu0/max") == b"3700000\n"


def test_a_folder_loop_is_refused(root: Path) -> None:
    """Links in a circle end as an error."""
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    host = SysfsHost(str(root))
    for reach in (lambda: host.read("a/max"), lambda: host.list("a")):
        with refused():
            reach()


# --- rights ---


def test_a_file_without_rights_is_eacces(root: Path) -> None:
    """cpuinfo_cur_freq has mode 0400 on arm64 (K22); a read-only file cannot be written."""
    (root / "devices/cpu0/max").chmod(0o444)
    (root / "devices/cpu0/cur").write_text("1\n")
    (root / "devices/cpu0/cur").chmod(0o000)
    with nobody(root / "devices/cpu0"):
        host = SysfsHost(str(root))
        assert host.read("devices/cpu0/max") == b"3700000\n"
        for reach in (
            lambda: host.read("devices/cpu0/cur"),
            lambda: host.write("devices/cpu0/max", b"1\n"),
        ):
            with refused(errno.EACCES):
                reach()
    assert (root / "devices/cpu0/max").read_text() == "3700000\n"


def test_a_kept_file_without_the_right_to_write_says_eacces(root: Path) -> None:
    """Watching needs reading only; a write through the kept descriptor reports what a fresh open
    would (A4).
    """
    (root / "devices/cpu0/max").chmod(0o444)
    with nobody(root / "devices/cpu0"):
        host = SysfsHost(str(root))
        assert host.watch({"devices/cpu0/max": b"3700000\n"}).same()
        with refused(errno.EACCES):
            host.write("devices/cpu0/max", b"1\n")
        host.forget()


def test_a_read_only_file_system_can_be_watched(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/sys mounted read-only: looking works, writing says EROFS, kept or not."""
    real = os.open

    def read_only(path: str, flags: int, *rest: int, **more: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", read_only)
    host = SysfsHost(str(root))
    with refused(errno.EROFS):
        host.write("devices/cpu0/max", b"1\n")
    assert host.watch({"devices/cpu0/max": b"3700000\n"}).same()
    with refused(errno.EROFS):
        host.write("devices/cpu0/max", b"1\n")
    host.forget()


def test_a_kernel_that_refuses_a_write_is_heard() -> None:
    """EINVAL of write(2) reaches the caller with its errno (pyfakefs raises it for the writer)."""
    with Patcher() as fake:
        assert fake.fs is not None
        fake.fs.create_file("/tree/devices/min", contents="800000\n", side_effect=_refuse)
        host = SysfsHost("/tree")
        assert host.read("devices/min") == b"800000\n"
        with refused(errno.EINVAL):
            host.write("devices/min", b"wrong\n")


def _refuse(_file: object) -> None:
    raise OSError(errno.EINVAL, "Invalid argument")


def test_a_short_write_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value of which the kernel took half is not the value that was asked for."""
    monkeypatch.setattr(os, "write", lambda _descriptor, data: len(data) - 1)
    with pytest.raises(OSError, match="short write"):
        SysfsHost(str(root)).write("devices/cpu0/max", b"12\n")


# --- kept descriptors ---


@given(before=st.binary(min_size=0, max_size=80), after=st.binary(min_size=0, max_size=80))
def test_a_watch_sees_every_change(before: bytes, after: bytes) -> None:
    """same() is true exactly where the contents are equal, whichever of the two is longer."""
    with rig.state_folder() as folder:
        file = Path(folder) / "file"
        file.write_bytes(before)
        host = SysfsHost(folder)
        watch = host.watch({"file": before})
        assert watch.same()
        file.write_bytes(after)
        assert watch.same() is (before == after)
        file.write_bytes(before)
        assert watch.same()
        host.forget()


@pytest.mark.parametrize("size", [0, 1, 62, 63, 64, 65, 127, 4094, 4095, 4096])
@pytest.mark.parametrize("more", [1, 64, 5000])
def test_a_watch_sees_growth_and_cuts_at_any_length(root: Path, size: int, more: int) -> None:
    """Also where a text ends just at the size of a read; beyond one page it need not look."""
    file, path = root / "devices/cpu0/max", "devices/cpu0/max"
    file.write_bytes(b"a" * size)
    host = SysfsHost(str(root))
    watch = host.watch({path: b"a" * size})
    assert watch.same()
    file.write_bytes(b"a" * (size + more))
    assert not watch.same() or size == PAGE
    if size:
        file.write_bytes(b"a" * (size - 1))
        assert not watch.same()
    host.forget()


def test_a_watch_sees_own_writes(root: Path) -> None:
    """A kept file is the same file for reading, writing and comparing."""
    host = SysfsHost(str(root))
    watch = host.watch({"devices/cpu0/max": b"3700000\n"})
    host.write("devices/cpu0/max", b"800000\n")
    assert not watch.same()
    assert host.read("devices/cpu0/max") == b"800000\n"
    host.write("devices/cpu0/max", b"3700000\n")
    assert watch.same()
    host.forget()


@pytest.mark.parametrize("content", [b"3700000\n", b"other\n"])
def test_a_watch_is_of_the_file_and_not_of_its_name(root: Path, content: bytes) -> None:
    """A file that is replaced in a copy of /sys is another one, found after forget(); of a replaced
    policy the kernel says ENODEV (K23).
    """
    host = SysfsHost(str(root))
    watch = host.watch({"devices/cpu0/max": b"3700000\n"})
    (root / "devices/cpu0/new").write_bytes(content)
    (root / "devices/cpu0/new").rename(root / "devices/cpu0/max")
    assert watch.same()
    host.forget()
    assert host.read("devices/cpu0/max") == content
    host.write("devices/cpu0/max", b"1\n")
    assert (root / "devices/cpu0/max").read_bytes() == b"1\n"


def test_a_dead_descriptor_raises(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENODEV of a destroyed policy passes through same() and read() (K23)."""
    host = SysfsHost(str(root))
    watch = host.watch({"devices/cpu0/max": b"3700000\n"})

    def dead(*_: object) -> bytes:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    monkeypatch.setattr(os, "pread", dead)
    for reach in (watch.same, lambda: host.read("devices/cpu0/max")):
        with refused(errno.ENODEV):
            reach()
    monkeypatch.undo()
    host.forget()
    assert host.read("devices/cpu0/max") == b"3700000\n"


def test_forget_closes_every_descriptor(root: Path) -> None:
    """After hotplug nothing stays open, and watching again opens each file once."""
    paths = {}
    for number in range(40):
        (root / "devices" / f"f{number}").write_text(f"{number}\n")
        paths[f"devices/f{number}"] = f"{number}\n".encode()
    before = descriptors()
    host = SysfsHost(str(root))
    for _ in range(3):
        assert host.watch(paths).same()
    assert descriptors() == before + len(paths)
    host.forget()
    assert descriptors() == before
    assert host.watch(paths).same()
    assert descriptors() == before + len(paths)
    host.forget()
    host.forget()
    assert descriptors() == before


def test_a_watch_that_cannot_be_had_leaves_nothing_open_after_forget(root: Path) -> None:
    """One missing file among many: the error comes, and forget closes the others."""
    before = descriptors()
    host = SysfsHost(str(root))
    with pytest.raises(FileNotFoundError):
        host.watch({"devices/cpu0/max": b"3700000\n", "devices/cpu0/missing": b""})
    host.forget()
    assert descriptors() == before


def test_plain_use_leaves_nothing_open(root: Path) -> None:
    """Reading, writing, listing, and failing at each."""
    host = SysfsHost(str(root))
    before = descriptors()
    for _ in range(5):
        host.read("devices/cpu0/max")
        host.write("devices/cpu0/max", b"1\n")
        host.list("devices")
        for path in ("devices/cpu0", "devices/none", "devices/cpu0/none"):
            with refused():
                host.read(path)
    assert descriptors() == before


_MANY_FILES = """
    import os, resource, sys
    from kpm_applier.sysfs.tree import SysfsHost
    root, count = sys.argv[1], 200
    for number in range(count):
        with open(f"{root}/f{number}", "w") as file:
            file.write(f"{number}\\n")
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    host = SysfsHost(root)
    try:
        watch = host.watch({f"f{number}": f"{number}\\n".encode() for number in range(count)})
    except OSError as failure:
        print("refused", failure.errno)
    else:
        print("same", watch.same())
    print(host.read("f199"), host.list("")[:1])
    host.write("f199", b"7\\n")
    print(host.read("f199"))
    os.close(os.open(f"{root}/spare", os.O_CREAT | os.O_WRONLY, 0o600))
    print("done")
"""


def run_python(code: str, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """A Python of its own with the project in its path."""
    repo = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=repo,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_more_files_than_descriptors_allowed(tmp_path: Path) -> None:
    """The usual soft limit is 1024 and a big machine has more managed files: the host stays usable,
    and so does the process.
    """
    result = run_python(_MANY_FILES, str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[1:] == ["b'199\\n' ('f0',)", "b'7\\n'", "done"]


_QUIET = """
    import os, sys
    from kpm_applier.sysfs.tree import SysfsHost
    root = sys.argv[1]
    host = SysfsHost(root)
    names = [f"f{number}" for number in range(50)]
    for name in names:
        with open(f"{root}/{name}", "w") as file:
            file.write("1\\n")
    watch = host.watch(dict.fromkeys(names, b"1\\n"))
    events, calls = [], []
    for name in ("write", "pwrite", "ftruncate", "fstat", "stat", "lstat"):
        def counted(*arguments, _real=getattr(os, name), _name=name, **more):
            calls.append(_name)
            return _real(*arguments, **more)
        setattr(os, name, counted)
    def heard(event, arguments):
        if event.startswith(("open", "os.", "socket", "subprocess")):
            events.append(event)
    sys.addaudithook(heard)
    assert watch.same()
    print(events, calls)
"""


def test_an_idle_look_opens_and_writes_nothing(tmp_path: Path) -> None:
    """A pass over a machine that is right is one pread a file (A1, K20)."""
    result = run_python(_QUIET, str(tmp_path))
    assert result.stdout == "[] []\n", result.stderr


def test_time_is_monotonic_and_passes(root: Path) -> None:
    """The host's clock is for intervals."""
    host = SysfsHost(str(root))
    before = host.now()
    host.wait(0.002)
    assert host.now() >= before + 0.002


# --- many files at once ---


def _many(root: Path) -> list[str]:
    """Files of every kind that may be asked for: plain, empty, long,
    missing, a folder, a link out.
    """
    (root / "devices/empty").write_bytes(b"")
    (root / "devices/long").write_bytes(b"x" * 9000)
    (root / "devices/just").write_bytes(b"y" * 64)
    (root / "devices/out").symlink_to("/etc/hostname")
    return [
        f"devices/{name}"
        for name in ("cpu0/max", "empty", "long", "just", "missing", "cpu0", "out", "gone/max")
    ]


@pytest.mark.parametrize("kept", [False, True], ids=["opened", "kept"])
def test_reading_many_files_is_reading_each(root: Path, kept: bool) -> None:
    """In order, with what each gives or why it does not."""
    paths = _many(root)
    host = SysfsHost(str(root))
    if kept:
        host.keep(paths)
    found = host.read_all(paths)
    assert [_described(content) for content in found] == [
        _described(_content(host, path)) for path in paths
    ]
    host.forget()


def _content(host: SysfsHost, path: str) -> bytes | OSError:
    try:
        return host.read(path)
    except OSError as failure:
        return failure


def _described(content: bytes | OSError | None) -> object:
    return content.errno if isinstance(content, OSError) else content


@pytest.mark.parametrize("kept", [False, True], ids=["opened", "kept"])
def test_differing_files_are_those_that_differ(root: Path, kept: bool) -> None:
    """Each with what it holds, or why it cannot be read; equal ones are not there.

    What is expected is shorter than 64 bytes, as all managed files are.
    """
    paths = _many(root)
    host = SysfsHost(str(root))
    if kept:
        host.keep(paths)
    right = [b"3700000\n", b"", b"x", b"y", b"", b"", b"", b""]
    assert {
        path: _described(content) for path, content in host.differing(paths, right).items()
    } == {path: _described(_content(host, path)) for path in paths[2:]}
    for expected in (b"1\n", b"3700000", b"3700000\n0", b"", b"y" * 63):
        found = host.differing(paths[:4], [expected] * 4)
        assert {path: _described(content) for path, content in found.items()} == {
            path: host.read(path) for path in paths[:4] if host.read(path) != expected
        }
    host.forget()


@pytest.mark.parametrize("kept", [False, True], ids=["opened", "kept"])
def test_writing_many_files_is_writing_each(root: Path, kept: bool) -> None:
    """In order; a failure costs that file only; every file is cut to what was written."""
    paths = _many(root)
    outside = Path("/etc/hostname").read_bytes()
    host = SysfsHost(str(root))
    if kept:
        host.keep(paths)
    failures = host.write_all([(path, f"{number}\n".encode()) for number, path in enumerate(paths)])
    assert set(failures) == set(paths[4:])
    assert all(isinstance(failure, OSError) for failure in failures.values())
    assert [(root / path).read_bytes() for path in paths[:4]] == [b"0\n", b"1\n", b"2\n", b"3\n"]
    assert host.write_all([(paths[0], b"22\n"), (paths[0], b"1\n")]) == {}
    assert (root / paths[0]).read_bytes() == b"1\n"
    assert Path("/etc/hostname").read_bytes() == outside
    assert not (root / "devices/missing").exists()
    host.forget()


def test_keeping_files_costs_one_descriptor_each(root: Path) -> None:
    """Those that cannot be opened cost none and are no error; keeping twice is keeping once."""
    paths = _many(root)
    before = descriptors()
    host = SysfsHost(str(root))
    host.keep(paths)
    host.keep(paths)
    assert descriptors() == before + 4
    host.forget()
    assert descriptors() == before


_CAT = """
    import os, resource, sys
    from kpm_applier.session import Applier
    from kpm_applier.state.store import StateStore
    from kpm_applier.sysfs.tree import SysfsHost
    from kpm_planner.model.target import Target
    from tests.applier import rig
    root, states, hard = sys.argv[1], sys.argv[2], int(sys.argv[3])
    machine = rig.amd(40)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    for number in range(2):
        handle = Applier(SysfsHost(root), StateStore(states, root, live=False))
        handle.open()
        for khz in (2000000, 2500000, 2500000, 2500000):
            target = Target(400000 + khz // 10, khz, "powersave", "power", (("C6", False),))
            report = handle.apply(rig.everywhere(machine, target))
            assert report.settled, report.outcomes[:2]
            print(len(report.writes), handle.changed())
        handle.close()
    handle = Applier(SysfsHost(root), StateStore(states, root, live=False))
    handle.open()
    print(handle.restore().settled, len(handle.state.groups))
    handle.close()
"""


@pytest.mark.parametrize("hard", [64, 4096], ids=["hard limit", "soft limit"])
def test_a_machine_with_more_files_than_descriptors_is_managed_all_the_same(
    tmp_path: Path, hard: int
) -> None:
    """40 CPUs have 280 managed files; 64 descriptors are allowed: plans, idle passes, state and
    restore work, and nothing stays behind.
    """
    root = rig.tree(tmp_path / "sys", rig.amd(40))
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    result = run_python(_CAT, str(root), str(tmp_path / "state"), str(hard))
    assert result.returncode == 0, result.stderr
    expected = "160 False 80 False 0 False 0 False 80 False 80 False 0 False 0 False True 0"
    assert " ".join(result.stdout.split()) == expected
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_whether_a_file_may_be_written_is_asked_without_writing(root: Path) -> None:
    """The errno, and nothing is changed; a file that may be written gives 0 (field report 39)."""
    host, file = SysfsHost(str(root)), root / "devices/cpu0/max"
    before = (file.read_bytes(), file.stat().st_mtime_ns)
    assert host.refuses_writing("devices/cpu0/max") == 0
    assert host.refuses_writing("devices/cpu0/none") == errno.ENOENT
    file.chmod(0o444)
    with nobody(root):
        assert host.refuses_writing("devices/cpu0/max") == errno.EACCES
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before
