"""CPU time of cgroups: both versions and both side by side, trees that change under the reader, and
nodes in containers (field reports 58, 59).

Trees are folders in memory, whose link counts tell of their folders as those of cgroupfs do; two
tests are on the machine's own cgroup file system.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from kpm_applier.measure.cgroups import MOST_CGROUPS, Cgroups, Layout, layout_of, parse_usage
from kpm_applier.measure.counters import CounterFiles
from tests.applier import rig

V1 = Layout(1, "cpu,cpuacct", "cpuacct.usage")
V2 = Layout(2, "", "cpu.stat")
HYBRID = Layout(2, "unified", "cpu.stat")
DEEPEST = 24

# --- trees ---


@pytest.fixture
def root() -> Iterator[Path]:
    """An empty tree in memory."""
    with rig.state_folder() as name:
        yield Path(name)


def wanted(path: str) -> bool:
    """Cgroups named c… are containers."""
    return path.rpartition("/")[2].startswith("c-")


def make(root: Path, layout: Layout, path: str, usage_us: object = 0) -> None:
    """A cgroup, and those above it, which have used as much."""
    folder = root / layout.base / path
    folder.mkdir(parents=True, exist_ok=True)
    set_usage(root, layout, path, usage_us)


def set_usage(root: Path, layout: Layout, path: str, usage_us: object) -> None:
    text = (
        f"{usage_us}\n"
        if layout.version == 1
        else f"usage_usec {usage_us}\nuser_usec 0\nsystem_usec 0\nnr_periods 0\n"
    )
    if layout.version == 1 and isinstance(usage_us, int):
        text = f"{usage_us * 1000 + 999}\n"
    (root / layout.base / path / layout.file).write_text(text)


def mounted(root: Path, layout: Layout) -> None:
    """What tells the layout."""
    make(root, layout, "", 10**12)
    if layout.version == 2:
        (root / layout.base / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")


@contextlib.contextmanager
def cgroups(root: Path, layout: Layout) -> Iterator[Cgroups]:
    files = CounterFiles(str(root))
    try:
        yield Cgroups(files, layout, wanted)
    finally:
        files.close()


LAYOUTS = pytest.mark.parametrize(
    "layout",
    [V1, V2, HYBRID, Layout(1, "cpuacct", "cpuacct.usage")],
    ids=["v1", "v2", "unified", "cpuacct"],
)


def ready(root: Path, layout: Layout, *paths: str) -> None:
    """A mounted tree with these cgroups; each has used 1000 µs more than the one before."""
    mounted(root, layout)
    for number, path in enumerate(paths, 1):
        make(root, layout, path, number * 1000)


# --- layouts ---


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (("cgroup.controllers", "cpu.stat"), V2),
        (("cpu,cpuacct/cpuacct.usage", "cpuset/tasks"), V1),
        (("cpuacct/cpuacct.usage", "cpu/tasks"), Layout(1, "cpuacct", "cpuacct.usage")),
        (("cpuacct,cpu/cpuacct.usage",), Layout(1, "cpuacct,cpu", "cpuacct.usage")),
        (("cpu,cpuacct/cpuacct.usage", "unified/cgroup.controllers"), V1),
        (
            ("cpuacct/cpuacct.usage", "unified/cgroup.controllers"),
            Layout(1, "cpuacct", "cpuacct.usage"),
        ),
        (("cpuset/tasks", "unified/cgroup.controllers"), HYBRID),
        (("cgroup.controllers", "unified/cgroup.controllers", "cpuacct/cpuacct.usage"), V2),
        (("cpu/tasks", "memory/tasks"), None),
        (("cpuacct/tasks",), None),
        (("unified/cpu.stat",), None),
        ((), None),
    ],
)
def test_layouts(root: Path, files: tuple[str, ...], expected: Layout | None) -> None:
    """Field report 58: version 2, version 1 by any of its mounts, and where both are mounted the
    one that has the containers; else none.
    """
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    assert layout_of(CounterFiles(str(root))) == expected


def test_a_mount_may_be_a_link(root: Path) -> None:
    """As systemd makes it: cpu and cpuacct lead to cpu,cpuacct, which is counted once."""
    ready(root, V1, "c-a")
    for name in ("cpu", "cpuacct"):
        (root / name).symlink_to("cpu,cpuacct")
    assert layout_of(CounterFiles(str(root))) == V1


# --- what a file says ---


@pytest.mark.parametrize(
    ("content", "version", "expected"),
    [
        (b"1500\n", 1, 1),
        (b"999\n", 1, 0),
        (b"0\n", 1, 0),
        (b"123456789012345678\n", 1, 123456789012345),
        (b"-1000\n", 1, None),
        (b"\n", 1, None),
        (b"", 1, None),
        (b"words\n", 1, None),
        (b"1500 1500\n", 1, None),
        (b"usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n", 2, 1500),
        (b"usage_usec 0\n", 2, 0),
        (b"usage_usec 1500", 2, 1500),
        (b"usage_usec -1\n", 2, None),
        (b"usage_usec\n", 2, None),
        (b"usage_usec words\n", 2, None),
        (b"usage_usec 1 2\n", 2, None),
        (b"user_usec 1000\nusage_usec 1500\n", 2, None),
        (b"1500\n", 2, None),
        (b"", 2, None),
        (b"\x00\xff\xfe", 2, None),
    ],
)
def test_usage_is_whole_microseconds(content: bytes, version: int, expected: int | None) -> None:
    """Version 1 counts ns, version 2 µs; what is no number from 0 is none."""
    assert parse_usage(content, version) == expected


@given(
    st.binary(max_size=64)
    | st.integers().map(lambda number: f"usage_usec {number}\n".encode()[:64]),
    st.sampled_from((1, 2)),
)
def test_usage_is_never_negative(content: bytes, version: int) -> None:
    """Whatever is in the file; nothing is raised."""
    used = parse_usage(content, version)
    assert used is None or used >= 0


# --- looking ---


@LAYOUTS
def test_cgroups_are_found_at_any_depth(root: Path, layout: Layout) -> None:
    """Field report 58: those that are wanted, by their paths below the mount, with their CPU time;
    no others.
    """
    ready(
        root,
        layout,
        "c-a",
        "kubepods.slice/c-b",
        "kubepods.slice/pod1/c-c",
        "system.slice/cron.service",
    )
    with cgroups(root, layout) as groups:
        assert groups.look()
        assert groups.paths == ("c-a", "kubepods.slice/c-b", "kubepods.slice/pod1/c-c")
        assert groups.usage_us() == {
            "c-a": 1000,
            "kubepods.slice/c-b": 2000,
            "kubepods.slice/pod1/c-c": 3000,
        }
        set_usage(root, layout, "c-a", 5_000_000)
        assert groups.usage_us()["c-a"] == 5_000_000


@LAYOUTS
def test_a_look_at_what_is_the_same_finds_nothing(root: Path, layout: Layout) -> None:
    """Field report 59: no folder is listed while the link counts are the same, however much the
    cgroups use.
    """
    ready(root, layout, "pod1/c-a", "pod2/c-b")
    with cgroups(root, layout) as groups:
        assert groups.look()
        assert [groups.look() for _ in range(3)] == [False] * 3
        groups.usage_us()
        set_usage(root, layout, "pod1/c-a", 77)
        assert not groups.look()
        assert groups.look(anew=True)


def test_a_tree_without_cgroups_is_looked_at_once(root: Path) -> None:
    """Field report 59: nothing to watch but the top."""
    ready(root, V2)
    with cgroups(root, V2) as groups:
        assert groups.look()
        assert groups.paths == ()
        assert groups.usage_us() == {}
        assert not groups.look()


@LAYOUTS
def test_a_cgroup_that_comes_or_goes_is_noticed(root: Path, layout: Layout) -> None:
    """Field report 58: beside one that is known, in a new folder beside it, at the top; and the
    last one of a folder.
    """
    ready(root, layout, "kubepods/pod1/c-a")
    with cgroups(root, layout) as groups:
        groups.look()
        for path in ("kubepods/pod1/c-b", "kubepods/pod2/c-c", "c-d"):
            make(root, layout, path, 5)
            assert groups.look()
            assert path in groups.usage_us()
            assert not groups.look()
        for path in ("kubepods/pod1/c-b", "kubepods/pod2/c-c", "c-d", "kubepods/pod1/c-a"):
            shutil.rmtree(root / layout.base / path)
            assert groups.look()
            assert path not in groups.paths
        assert groups.usage_us() == {}
        assert not groups.look()


def test_a_folder_that_is_replaced_by_another_is_noticed(root: Path) -> None:
    """The count of folders is the same then; that the old one cannot be read any more tells it."""
    ready(root, V2, "kubepods/c-a", "kubepods/c-b")
    with cgroups(root, V2) as groups:
        groups.look()
        shutil.rmtree(root / "kubepods/c-a")
        make(root, V2, "kubepods/c-new", 9)
        assert groups.usage_us() == {"kubepods/c-b": 2000}
        assert groups.look()
        assert groups.usage_us() == {"kubepods/c-b": 2000, "kubepods/c-new": 9}
        assert not groups.look()


def test_a_cgroup_of_the_same_name_is_noticed_once_a_read_failed(root: Path) -> None:
    """Removed and made again between two looks: the look after the
    failed read finds the new one.
    """
    ready(root, V2, "kubepods/c-a", "kubepods/c-b")
    with cgroups(root, V2) as groups:
        groups.look()
        shutil.rmtree(root / "kubepods/c-a")
        assert groups.usage_us() == {"kubepods/c-b": 2000}
        make(root, V2, "kubepods/c-a", 9)
        assert groups.look()
        assert groups.usage_us() == {"kubepods/c-a": 9, "kubepods/c-b": 2000}
        assert not groups.look()


def test_a_watched_folder_that_is_replaced_is_noticed(root: Path) -> None:
    """A pod's folder that was made anew has another count: the old one has none any more."""
    ready(root, V2, "kubepods/pod1/c-a")
    with cgroups(root, V2) as groups:
        groups.look()
        shutil.rmtree(root / "kubepods/pod1")
        make(root, V2, "kubepods/pod1/c-b", 9)
        assert groups.look()
        assert groups.paths == ("kubepods/pod1/c-b",)


def test_a_container_in_a_pods_folder_that_came_before_it_is_noticed(root: Path) -> None:
    """Field report 58, new pods: the kubelet makes a pod's cgroup seconds before its first
    container's, and a look may fall between them.
    """
    ready(root, V2, "kubepods/pod1/c-a")
    with cgroups(root, V2) as groups:
        groups.look()
        make(root, V2, "kubepods/pod2")
        assert groups.look()
        make(root, V2, "kubepods/pod2/c-b", 9)
        groups.look()
        assert "kubepods/pod2/c-b" in groups.usage_us()


def test_the_first_container_of_a_node_is_noticed(root: Path) -> None:
    """Field report 58, new pods: below folders that were there before anything was in them."""
    ready(root, V2, "kubepods.slice/kubepods-burstable.slice")
    with cgroups(root, V2) as groups:
        groups.look()
        make(root, V2, "kubepods.slice/kubepods-burstable.slice/pod1/c-a", 9)
        groups.look()
        assert list(groups.usage_us().values()) == [9]


# --- nodes in containers ---


@LAYOUTS
def test_nested_containers_all_count(root: Path, layout: Layout) -> None:
    """Field report 58, kind: a node in a container is told beside those in it; whose time is whose
    is said by who is inside of whom.
    """
    inner = ("c-kind/kubelet.slice/pod1/c-a", "c-kind/kubelet.slice/pod2/c-b")
    ready(root, layout, *inner, "c-alone")
    make(root, layout, "c-kind", 10**9)
    with cgroups(root, layout) as groups:
        groups.look()
        assert list(groups.paths) == ["c-alone", "c-kind", *inner]
        assert groups.usage_us() == {
            inner[0]: 1000,
            inner[1]: 2000,
            "c-alone": 3000,
            "c-kind": 10**9,
        }
        for path in ("c-kind/kubelet.slice/pod1", "c-kind/kubelet.slice/pod2"):
            shutil.rmtree(root / layout.base / path)
        assert groups.look()
        assert list(groups.paths) == ["c-alone", "c-kind"]


def test_containers_in_containers_in_containers_all_count(root: Path) -> None:
    """However many levels; folders between them that are no containers do not."""
    ready(root, V2, "c-0/c-1/x/c-2", "c-0/c-1b", "c-0/y")
    for number, path in enumerate(("c-0", "c-0/c-1"), 8):
        make(root, V2, path, number * 1000)
    with cgroups(root, V2) as groups:
        groups.look()
        assert groups.usage_us() == {
            "c-0": 8000,
            "c-0/c-1": 9000,
            "c-0/c-1/x/c-2": 1000,
            "c-0/c-1b": 2000,
        }


def test_an_inner_container_that_comes_beside_another_is_noticed(root: Path) -> None:
    """In a folder that has one already; and the outer one is told all the while."""
    ready(root, V2, "c-0/docker/c-1")
    make(root, V2, "c-0", 9000)
    with cgroups(root, V2) as groups:
        groups.look()
        make(root, V2, "c-0/docker/c-2", 5)
        assert groups.look()
        assert groups.usage_us() == {"c-0": 9000, "c-0/docker/c-1": 1000, "c-0/docker/c-2": 5}
        shutil.rmtree(root / "c-0/docker/c-1")
        assert groups.look()
        assert groups.usage_us() == {"c-0": 9000, "c-0/docker/c-2": 5}


# --- what is wrong with one ---


@LAYOUTS
@pytest.mark.parametrize("usage", ["", "words", "-5", "1.5", "0x10", "nan", "5 6"])
def test_a_cgroup_that_says_no_number_costs_itself_only(
    root: Path, layout: Layout, usage: str
) -> None:
    """It is there, and may say one later; nothing is looked for anew because of it."""
    ready(root, layout, "c-a", "c-b")
    set_usage(root, layout, "c-a", usage)
    with cgroups(root, layout) as groups:
        groups.look()
        assert groups.usage_us() == {"c-b": 2000}
        assert not groups.look()
        set_usage(root, layout, "c-a", 50)
        assert groups.usage_us() == {"c-a": 50, "c-b": 2000}


@LAYOUTS
def test_a_cgroup_without_its_file_costs_itself_only(root: Path, layout: Layout) -> None:
    """And one whose file is a folder, or a link."""
    ready(root, layout, "c-a", "c-b", "c-c", "c-d")
    for name in "abc":
        (root / layout.base / f"c-{name}" / layout.file).unlink()
    (root / layout.base / "c-b" / layout.file).mkdir()
    (root / layout.base / "c-c" / layout.file).symlink_to("/proc/self/stat")
    with cgroups(root, layout) as groups:
        groups.look()
        assert groups.usage_us() == {"c-d": 4000}


def test_links_are_not_followed(root: Path) -> None:
    """Cgroupfs has none; a link to a folder above would lead round for ever."""
    ready(root, V2, "kubepods/c-a")
    (root / "kubepods/loop").symlink_to("..")
    (root / "kubepods/c-link").symlink_to("c-a")
    with cgroups(root, V2) as groups:
        groups.look()
        assert groups.paths == ("kubepods/c-a",)


def test_odd_names_are_found(root: Path) -> None:
    """Line breaks, blanks, bytes that are no text."""
    odd = ("c-a\nb", "c- ", "c-\udcff", "pod\\x2d1/c-é")
    ready(root, V2, *odd)
    with cgroups(root, V2) as groups:
        groups.look()
        assert groups.usage_us() == {path: number * 1000 for number, path in enumerate(odd, 1)}


# --- very many ---


def test_more_than_the_most_are_dropped_and_counted(root: Path) -> None:
    """Field report 59: of 10050 the first 10000 by name are looked at, the others are counted, and
    what is left free is taken again.
    """
    mounted(root, V2)
    extra = 50
    for number in range(MOST_CGROUPS + extra):
        os.mkdir(f"{root}/c-{number:05}")
    for number in (0, MOST_CGROUPS - 1, MOST_CGROUPS):
        set_usage(root, V2, f"c-{number:05}", number)
    with cgroups(root, V2) as groups:
        assert groups.look()
        assert (len(groups.paths), groups.dropped) == (MOST_CGROUPS, extra)
        assert groups.paths[-1] == f"c-{MOST_CGROUPS - 1:05}"
        assert not groups.look()
        assert groups.usage_us() == {"c-00000": 0, f"c-{MOST_CGROUPS - 1:05}": MOST_CGROUPS - 1}
        for number in range(1, extra + 1):
            os.rmdir(f"{root}/c-{number:05}")
        assert groups.look()
        assert (len(groups.paths), groups.dropped) == (MOST_CGROUPS, 0)
        assert groups.usage_us()[f"c-{MOST_CGROUPS:05}"] == MOST_CGROUPS


def test_that_some_are_left_out_is_told_also_where_each_has_a_folder_of_its_own(root: Path) -> None:
    """Field report 59: one container in each of 10500 pods; that not all are measured one by one
    does not go unsaid.
    """
    mounted(root, V2)
    pods = MOST_CGROUPS + 500
    for number in range(pods):
        os.makedirs(f"{root}/kubepods/pod{number}/c-a")
    with cgroups(root, V2) as groups:
        groups.look()
        assert len(groups.paths) <= MOST_CGROUPS
        assert groups.dropped > 0, f"{pods - len(groups.paths)} of {pods} are not looked at"


def test_what_lies_too_deep_is_not_looked_for(root: Path) -> None:
    """A tree that goes on and on comes to an end."""
    ready(
        root,
        V2,
        "/".join(["x"] * (DEEPEST - 1) + ["c-a"]),
        "/".join(["y"] * DEEPEST + ["c-b"]),
        "/".join(["z"] * 300 + ["c-c"]),
    )
    with cgroups(root, V2) as groups:
        groups.look()
        assert list(groups.usage_us().values()) == [1000]


def test_descriptors_of_those_that_are_gone_are_closed(root: Path) -> None:
    """However many come and go; none is left in the end."""
    ready(root, V2, "pod/c-0")
    before = len(os.listdir("/proc/self/fd"))
    with cgroups(root, V2) as groups:
        groups.look()
        groups.usage_us()
        held = len(os.listdir("/proc/self/fd"))
        for number in range(1, 30):
            make(root, V2, f"pod/c-{number}", 1)
            shutil.rmtree(root / f"pod/c-{number - 1}")
            groups.look(anew=True)
            assert groups.usage_us() == {f"pod/c-{number}": 1}
        assert len(os.listdir("/proc/self/fd")) == held
    assert len(os.listdir("/proc/self/fd")) == before


# --- histories ---

STEPS = st.lists(
    st.tuples(
        st.sampled_from(("add", "remove", "use")),
        st.sampled_from(("c-a", "c-b", "pod1/c-a", "pod1/c-b", "pod2/c-c/x/c-d", "pod2/c-c")),
    ),
    max_size=12,
)


@given(STEPS, st.sampled_from((V1, V2)))
def test_after_a_look_anew_usage_is_that_of_all_that_are_there(
    steps: list[tuple[str, str]], layout: Layout
) -> None:
    """Field report 58: whatever came and went, also inside of others, none that is there is
    missing, and none that is not is told.
    """
    with rig.state_folder() as name:
        root = Path(name)
        mounted(root, layout)
        with cgroups(root, layout) as groups:
            for number, (verb, path) in enumerate(steps, 1):
                folder = root / layout.base / path
                if verb == "remove":
                    shutil.rmtree(folder, ignore_errors=True)
                elif verb == "add" or folder.is_dir():
                    folder.mkdir(parents=True, exist_ok=True)
                    for above in (
                        path,
                        *(path[:at] for at, letter in enumerate(path) if letter == "/"),
                    ):
                        if not (root / layout.base / above / layout.file).exists() or above == path:
                            set_usage(root, layout, above, number)
                groups.look(anew=True)
                there = {
                    str(found.relative_to(root / layout.base))
                    for found in (root / layout.base).rglob("c-*")
                }
                assert groups.usage_us().keys() == there


# --- the machine's own ---

BUSY = (
    'echo $$ > "$1/cgroup.procs" && exec sh -c "i=0; while [ \\$i -lt 25000 ]; do i=\\$((i+1));'
    ' done"'
)


@frozen
class Mount:
    """A writable cgroup file system, and a folder of our own in it."""

    root: str
    layout: Layout
    folder: str

    @property
    def path(self) -> str:
        return os.path.join(self.root, self.layout.base, self.folder)


@contextlib.contextmanager
def real_mounts() -> Iterator[list[Mount]]:
    """One of each version that is mounted and may be written; the test is skipped where there is
    none.
    """
    asked = (
        ("/sys/fs/cgroup", layout)
        for layout in (V2, V1, Layout(1, "cpuacct", "cpuacct.usage"), HYBRID)
    )
    found: dict[int, Mount] = {}
    why = ["no cgroup file system with CPU time below /sys/fs/cgroup"]
    for root, layout in asked:
        mount = Mount(root, layout, f"kpm-test-{os.getpid()}-{secrets.token_hex(6)}")
        if layout.version in found or not os.path.isfile(
            os.path.join(root, layout.base, layout.file)
        ):
            continue
        try:
            os.mkdir(mount.path)
        except OSError as failure:
            why.append(f"{mount.path}: {failure.strerror}")
            continue
        moved = subprocess.run(
            ["/bin/sh", "-c", 'echo $$ > "$1/cgroup.procs"', "sh", mount.path],
            capture_output=True,
            text=True,
            check=False,
        )
        if moved.returncode:
            _remove(mount.path)
            why.append(f"{mount.path}: {moved.stderr.strip()}")
            continue
        found[layout.version] = mount
    if not found:
        pytest.skip(f"cgroups cannot be made on this machine: {'; '.join(why)}")
    try:
        yield list(found.values())
    finally:
        for mount in found.values():
            for folder, _, _ in os.walk(mount.path, topdown=False):
                _remove(folder)


def _remove(folder: str) -> None:
    """A cgroup, once the processes that were in it are wholly gone."""
    for attempt in itertools.count():
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            return
        except OSError:
            if attempt >= 200:
                raise
            time.sleep(0.01)


def busy_in(folder: str, processes: int = 6) -> int:
    """So many processes after each other in a cgroup, none of which is left; how much CPU time they
    had, µs.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(processes):
        subprocess.run(["/bin/sh", "-c", BUSY, "sh", folder], check=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert Path(folder, "cgroup.procs").read_text() == ""
    return round(1e6 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))


def test_time_of_processes_that_are_gone_is_counted() -> None:
    """Field report 58, on the running kernel: processes that lived for some 20 ms each between two
    looks, and of which none is left, are in their cgroup's time.
    """
    with real_mounts() as mounts:
        for mount in mounts:
            os.mkdir(f"{mount.path}/c-busy")
            os.mkdir(f"{mount.path}/c-quiet")
            with cgroups(Path(mount.root), mount.layout) as groups:
                assert groups.look()
                busy, quiet = (f"{mount.folder}/{name}" for name in ("c-busy", "c-quiet"))
                before = groups.usage_us()
                had = busy_in(f"{mount.path}/c-busy")
                used = {
                    path: us - before[path]
                    for path, us in groups.usage_us().items()
                    if path in (busy, quiet)
                }
            assert used[quiet] == 0
            assert 0.7 * had < used[busy] <= had + 10_000, (mount, had, used)


def test_a_cgroup_that_was_made_anew_is_counted_again() -> None:
    """Field report 58, on the running kernel: `docker restart` keeps the id, so that the
    container's cgroup goes and comes back under its name between two looks.
    """
    with real_mounts() as mounts:
        for mount in mounts:
            path, folder = f"{mount.folder}/c-again", f"{mount.path}/c-again"
            os.mkdir(folder)
            with cgroups(Path(mount.root), mount.layout) as groups:
                groups.look()
                assert path in groups.usage_us()
                _remove(folder)
                os.mkdir(folder)
                busy_in(folder, 1)
                groups.usage_us()
                groups.look()
                assert groups.usage_us().get(path, 0) > 0, mount
                assert not groups.look()
