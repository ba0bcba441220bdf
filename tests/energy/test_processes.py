"""Energy of processes: known by number and start, never more than their container has, and found in
their container's cgroup (field reports 62, 63, 67).
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from kpm.energy.processes import MOST_PROCESSES, Processes, Stat, parse_stat_line
from kpm_applier.measure.counters import CounterFiles
from kpm_planner.energy.attribution import EnergyReport, MeterEnergy
from kpm_planner.energy.meters import Meter

PACKAGE, DRAM = Meter("p0", "package", "rapl", 0), Meter("d0", "dram", "rapl", 0)
TICK = 10_000
POD = "0a1b2c3d-0000-4000-8000-000000000001"
A, B = "a" * 64, "b" * 64


def line(pid: int, comm: str | bytes, user: int, system: int, start: int) -> bytes:
    """A stat file as proc(5) has it."""
    name = comm if isinstance(comm, bytes) else comm.encode()
    return (
        b"%d (" % pid + name + b") S 1 %d %d 0 -1 4194560 10 20 0 0 %d %d 3 4 20 0 1 0 %d 1000 200"
        b" 18446744073709551615\n" % (pid, pid, user, system, start)
    )


# --- a line ---


@pytest.mark.parametrize(
    ("comm", "seen"),
    [
        ("bash", "bash"),
        ("a) b", "a) b"),
        ("(sd-pam)", "(sd-pam)"),
        (") S 1 (", ") S 1 ("),
        ("tmux: server", "tmux: server"),
        ("", ""),
        ("kworker/0:1H-kblockd", "kworker/0:1H-kblockd"),
        ("a\nb", "a\nb"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        ("ü€", "ü€"),
    ],
)
def test_a_name_may_hold_anything(comm: str | bytes, seen: str) -> None:
    """Brackets, blanks, line ends, bytes that are no text: it ends at the last bracket."""
    assert parse_stat_line(line(7, comm, 30, 12, 990)) == Stat(seen, 42, 990)


@given(
    st.binary(max_size=15).filter(lambda name: b"\0" not in name),
    st.integers(0, 2**62),
    st.integers(0, 2**62),
    st.integers(0, 2**63),
)
def test_any_line_of_the_kernel_is_read(comm: bytes, user: int, system: int, start: int) -> None:
    """User and system time together, and the start."""
    assert parse_stat_line(line(1, comm, user, system, start)) == Stat(
        comm.decode("utf-8", "replace"), user + system, start
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"7",
        b"7 (a",
        b"7 a) S",
        b")(",
        b"7 (a) S 1 2 3",
        line(7, "a", 1, 2, 3)[:40],
        line(7, "a", 1, 2, 3).replace(b" 0 0 1 2 ", b" 0 0 x 2 "),
    ],
)
def test_what_is_no_line_is_none(content: bytes) -> None:
    """Cut, empty, or words in place of numbers."""
    assert parse_stat_line(content) is None


@given(st.binary(max_size=200))
def test_no_bytes_at_all_are_an_error(content: bytes) -> None:
    """They are a process or none."""
    assert isinstance(parse_stat_line(content), Stat | None)


# --- a tree ---


class Refusing(CounterFiles):
    """A procfs whose files of some processes cannot be read: those of a process that has ended say
    ESRCH.
    """

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.gone: set[str] = set()

    def read_all(self, paths: Sequence[str], size: int = 4096) -> list[bytes | OSError]:
        contents = super().read_all(paths, size)
        return [
            ProcessLookupError(errno.ESRCH, "gone") if path in self.gone else content
            for path, content in zip(paths, contents, strict=True)
        ]


@define
class Tree:
    """A procfs in a folder, and what is counted of it."""

    root: Path
    counted: Processes = field(init=False)
    proc: Refusing = field(init=False)

    def __attrs_post_init__(self) -> None:
        (self.root / "sys").mkdir()
        (self.root / "stat").write_text("cpu  1 2 3 4\n")
        self.proc = Refusing(str(self.root))
        self.counted = Processes(self.proc)

    def put(
        self,
        pid: int,
        ticks: int,
        start: int = 100,
        *,
        comm: str = "app",
        cgroup: str = "0::/init.scope\n",
        exe: str = "/bin/app",
    ) -> None:
        """A process as it is now."""
        folder = self.root / str(pid)
        folder.mkdir(exist_ok=True)
        (folder / "stat").write_bytes(line(pid, comm, ticks, 0, start))
        (folder / "cgroup").write_text(cgroup)
        if exe:
            (folder / "exe").unlink(missing_ok=True)
            (folder / "exe").symlink_to(exe)

    def end(self, pid: int) -> None:
        """It has ended."""
        shutil.rmtree(self.root / str(pid))

    def look(
        self,
        busy: Mapping[str, int] | None = None,
        *,
        system: int = 0,
        usage: Mapping[str, int] | None = None,
        meter: Meter = PACKAGE,
    ) -> dict[tuple[int, int], int]:
        """A look, and an interval in which containers had this energy and CPU time."""
        used = self.counted.sample()
        part = MeterEnergy(meter, sum((busy or {}).values()) + system, dict(busy or {}), system)
        self.counted.book(EnergyReport(10_000_000, (part,), dict(usage or {})), used)
        return used

    def energy(self, pid: int, start: int = 100) -> int:
        """Of a process, in packages."""
        return self.counted.accounts[pid, start].zones.get("package", 0)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    made = Tree(tmp_path)
    yield made
    made.proc.close()


def in_container(number: str, pod: str = POD) -> str:
    """A cgroup file of version 2 under the systemd driver."""
    slices = f"kubepods-burstable.slice/kubepods-burstable-pod{pod.replace('-', '_')}.slice"
    return f"0::/kubepods.slice/{slices}/cri-containerd-{number}.scope\n"


def test_the_first_look_says_nothing_of_the_time_before(tree: Tree) -> None:
    """What ran before the agent did is nobody's business."""
    tree.put(7, 1000)
    assert tree.look(system=500) == {(7, 100): 0}
    assert tree.energy(7) == 0


def test_time_since_the_last_look_is_paid_for(tree: Tree) -> None:
    """In hundredths of a second, and it adds up."""
    tree.put(7, 1000)
    tree.put(8, 0)
    tree.look()
    tree.put(7, 1003)
    tree.put(8, 1)
    assert tree.look(system=400) == {(7, 100): 3 * TICK, (8, 100): TICK}
    assert (tree.energy(7), tree.energy(8)) == (300, 100)
    tree.look(system=400)
    assert (tree.energy(7), tree.energy(8)) == (300, 100)
    assert tree.counted.accounts[7, 100].usage_us == 3 * TICK


def test_a_process_that_begins_later_is_counted_from_its_beginning(tree: Tree) -> None:
    """All of its time is of this interval."""
    tree.put(7, 50)
    tree.look()
    tree.put(8, 4, start=200)
    assert tree.look(system=100)[8, 200] == 4 * TICK
    assert tree.energy(8, 200) == 100


def test_a_process_that_has_ended_is_forgotten(tree: Tree) -> None:
    """Field report 59: its series go, and its descriptor."""
    for pid in (7, 8):
        tree.put(pid, 0)
    tree.look()
    tree.end(7)
    assert set(tree.look()) == {(8, 100)}
    assert set(tree.counted.accounts) == {(8, 100)}
    assert not [
        name
        for name in os.listdir("/proc/self/fd")
        if os.path.islink(f"/proc/self/fd/{name}")
        and f"{tree.root}/7/" in os.readlink(f"/proc/self/fd/{name}")
    ]
    tree.end(8)
    tree.look()
    assert not tree.counted.accounts


def test_a_number_used_again_is_another_process(tree: Tree) -> None:
    """Field report 62: the same number, another start: its time is its own and never negative."""
    tree.put(1, 0)
    tree.put(7, 1000)
    tree.look()
    tree.put(7, 1010)
    tree.look(system=100)
    tree.put(7, 3, start=900, comm="new")
    used = tree.look(system=60)
    assert used == {(1, 100): 0, (7, 900): 3 * TICK}
    assert set(tree.counted.accounts) == {(1, 100), (7, 900)}
    assert (tree.counted.accounts[7, 900].comm, tree.energy(7, 900)) == ("new", 60)


def test_a_number_used_again_while_the_old_file_is_open(tree: Tree) -> None:
    """The kernel answers ESRCH then; the new process is met at the next
    look, with all of its time.
    """
    tree.put(1, 0)
    tree.put(7, 1000)
    tree.look()
    tree.end(7)
    tree.put(7, 3, start=900)
    tree.proc.gone = {"7/stat"}
    assert tree.look() == {(1, 100): 0}
    tree.proc.gone = set()
    assert tree.look()[7, 900] == 3 * TICK
    assert set(tree.counted.accounts) == {(1, 100), (7, 900)}


def test_time_that_falls_is_no_time(tree: Tree) -> None:
    """Kernels have shown that for a moment; energy goes on and does not fall."""
    tree.put(7, 100)
    tree.look()
    for ticks, grown in ((90, 0), (95, 5), (120, 25)):
        tree.put(7, ticks)
        assert tree.look(system=10)[7, 100] == grown * TICK


def test_names_that_are_no_number_and_folders_without_stat_are_no_process(tree: Tree) -> None:
    """Such as sys and self, and a process that ends between listing and reading."""
    (tree.root / "self").symlink_to("7")
    (tree.root / "9").mkdir()
    (tree.root / "10").mkdir()
    (tree.root / "10" / "stat").write_text("no line\n")
    tree.put(7, 1)
    assert set(tree.look()) == {(7, 100)}
    assert set(tree.counted.accounts) == {(7, 100)}


def test_of_too_many_some_are_left_out_and_counted(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Field report 59."""
    assert MOST_PROCESSES >= 10_000
    monkeypatch.setattr("kpm.energy.processes.MOST_PROCESSES", 3)
    for pid in range(1, 6):
        tree.put(pid, 0)
    assert len(tree.look()) == 3
    assert tree.counted.dropped == 2


def test_the_name_is_the_present_one(tree: Tree) -> None:
    """A process may call itself otherwise at any time."""
    tree.put(7, 0, comm="before")
    tree.look()
    tree.put(7, 1, comm="after")
    tree.look(system=10)
    assert (tree.counted.accounts[7, 100].comm, tree.energy(7)) == ("after", 10)


def test_a_process_that_runs_another_program_is_that_program(tree: Tree) -> None:
    """A shell that ends in exec, or a runtime's child on its way into a container: program and
    container are those of now, like the name.
    """
    tree.put(7, 0, comm="sh", exe="/bin/sh")
    tree.look()
    tree.put(7, 1, comm="app", exe="/bin/app", cgroup=in_container(A))
    tree.look({A: 10})
    account = tree.counted.accounts[7, 100]
    assert (account.comm, account.exe, account.container_id) == ("app", "/bin/app", A)


@pytest.mark.parametrize(
    ("exe", "seen"),
    [
        ("/usr/bin/app (deleted)", "/usr/bin/app (deleted)"),
        ("", ""),
        ("/" + "x" * 500, "/" + "x" * 199),
    ],
)
def test_the_program_is_told_as_far_as_it_can_be(tree: Tree, exe: str, seen: str) -> None:
    """Threads of the kernel have none; a long one is cut."""
    tree.put(7, 0, exe=exe)
    tree.look()
    assert tree.counted.accounts[7, 100].exe == seen


# --- whose it is ---

IN_POD = f"/kubepods/burstable/pod{POD}/{A}"
V1 = f"12:pids:/\n4:cpu,cpuacct:{IN_POD}\n1:name=systemd:{IN_POD}\n0::/\n"
#: A node that is a container of Docker's.
IN_NODE = f"/docker/{B}/kubelet.slice/kubelet-kubepods.slice"


@pytest.mark.parametrize(
    "cgroup",
    [
        in_container(A),
        V1,
        f"0::/kubepods/besteffort/pod{POD}/{A}\n",
        f"0::/kubepods/pod{POD}/{A}\n",
        f"0::/kubepods.slice/kubepods-pod{POD.replace('-', '_')}.slice/crio-{A}.scope\n",
        f"0::/kubepods.slice/kubepods-pod{POD.replace('-', '_')}.slice/crio-{A}.scope/container\n",
        f"0::/kubepods-burstable-pod{POD.replace('-', '_')}.slice:cri-containerd:{A}\n",
        f"0::/system.slice/docker-{A}.scope\n",
        f"0::/docker/{A}\n",
        (
            f"0::{IN_NODE}/kubelet-kubepods-pod{POD.replace('-', '_')}.slice"
            f"/cri-containerd-{A}.scope\n"
        ),
        f"0::/machine.slice/libpod-{A}.scope/container\n",
        f"0::/system.slice/docker-{A}.scope/init.scope\n",
    ],
    ids=[
        "v2",
        "v1",
        "cgroupfs",
        "guaranteed",
        "crio",
        "crio inner",
        "colons",
        "docker",
        "docker cgroupfs",
        "kind",
        "podman",
        "inside",
    ],
)
def test_its_container_is_found(tree: Tree, cgroup: str) -> None:
    """Field report 58: the innermost, in both versions, under every runtime."""
    tree.put(7, 0, cgroup=cgroup)
    tree.look()
    assert tree.counted.accounts[7, 100].container_id == A


@pytest.mark.parametrize(
    "cgroup",
    [
        "0::/system.slice/cron.service\n",
        "0::/\n",
        "",
        "no line\n",
        f"0::/kubepods.slice/kubepods-pod{POD.replace('-', '_')}.slice\n",
        f"0::/x{A}\n",
        f"0::/crio-conmon-{A}.scope\n",
    ],
)
def test_what_is_in_no_container_is_the_systems(tree: Tree, cgroup: str) -> None:
    """A service, a pod's own folder, what watches a container, a file that cannot be understood."""
    tree.put(7, 0, cgroup=cgroup)
    tree.look()
    assert tree.counted.accounts[7, 100].container_id == ""


def test_a_process_without_a_cgroup_file_is_the_systems(tree: Tree) -> None:
    """It may have ended meanwhile."""
    tree.put(7, 0)
    (tree.root / "7" / "cgroup").unlink()
    assert tree.look() == {(7, 100): 0}
    assert tree.counted.accounts[7, 100].container_id == ""


# --- who pays ---


def test_a_containers_energy_is_divided_by_time(tree: Tree) -> None:
    """And that of another container and of the system is not touched."""
    for pid, who in ((7, A), (8, A), (9, B)):
        tree.put(pid, 0, cgroup=in_container(who))
    tree.put(10, 0)
    tree.look()
    for pid, ticks, who in ((7, 30, A), (8, 10, A), (9, 5, B)):
        tree.put(pid, ticks, cgroup=in_container(who))
    tree.put(10, 77)
    tree.look({A: 4000, B: 600}, system=50, usage={A: 40 * TICK, B: 5 * TICK})
    assert [tree.energy(pid) for pid in (7, 8, 9, 10)] == [3000, 1000, 600, 50]


def test_zones_are_told_apart(tree: Tree) -> None:
    """Each meter's energy under its own zone."""
    tree.put(7, 0)
    tree.look()
    for ticks, meter, uj in ((1, PACKAGE, 10), (2, DRAM, 5), (3, PACKAGE, 10)):
        tree.put(7, ticks)
        tree.look(system=uj, meter=meter)
    assert tree.counted.accounts[7, 100].zones == {"package": 20, "dram": 5}


def test_time_of_processes_that_were_not_seen_stays_with_the_container(tree: Tree) -> None:
    """Field report 63: those that began and ended between two looks are not
    paid for by those that live.
    """
    tree.put(7, 0, cgroup=in_container(A))
    tree.look()
    tree.put(7, 25, cgroup=in_container(A))
    tree.look({A: 4000}, usage={A: 100 * TICK})
    assert tree.energy(7) == 1000


def test_a_container_that_nothing_is_known_of_costs_nothing(tree: Tree) -> None:
    """Its cgroup is not measured, so its energy is the system's, and its processes have none."""
    tree.put(7, 0, cgroup=in_container(A))
    tree.put(8, 0)
    tree.look()
    tree.put(7, 10, cgroup=in_container(A))
    tree.put(8, 10)
    tree.look(system=100)
    assert (tree.energy(7), tree.energy(8)) == (0, 100)


AMOUNTS = st.integers(0, 50)


@given(
    st.lists(
        st.dictionaries(st.integers(1, 5), st.tuples(AMOUNTS, st.booleans()), max_size=5),
        min_size=1,
        max_size=4,
    ),
    st.lists(
        st.tuples(
            st.integers(0, 10**9),
            st.integers(0, 10**9),
            st.integers(0, 10**9),
            st.integers(0, 400 * TICK),
        ),
        min_size=4,
        max_size=4,
    ),
)
def test_processes_never_have_more_than_their_container(
    tmp_path_factory: pytest.TempPathFactory,
    looks: list[dict[int, tuple[int, bool]]],
    energies: list[tuple[int, int, int, int]],
) -> None:
    """Field report 67: whoever begins, ends, or takes a number again; the same for the system; and
    nothing is ever negative.
    """
    tree = Tree(tmp_path_factory.mktemp("proc"))
    ticks: dict[tuple[int, int], int] = {}
    starts = dict.fromkeys(range(1, 6), 100)
    whose = {1: "", 2: "", 3: A, 4: A, 5: B}
    before: dict[tuple[int, int], int] = {}
    for look, (of_a, of_b, of_system, usage) in zip(looks, energies, strict=False):
        for pid in range(1, 6):
            if pid not in look:
                if (tree.root / str(pid)).exists():
                    tree.end(pid)
                continue
            grown, again = look[pid]
            starts[pid] += again
            key = pid, starts[pid]
            ticks[key] = ticks.get(key, 0) + grown
            tree.put(
                pid,
                ticks[key],
                starts[pid],
                cgroup=in_container(whose[pid]) if whose[pid] else "0::/\n",
            )
        used = tree.look({A: of_a, B: of_b}, system=of_system, usage={A: usage, B: usage // 2})
        assert all(us >= 0 for us in used.values())
        after = {
            key: account.zones.get("package", 0) for key, account in tree.counted.accounts.items()
        }
        paid = {
            who: sum(uj - before.get(key, 0) for key, uj in after.items() if whose[key[0]] == who)
            for who in ("", A, B)
        }
        assert min(paid.values()) >= 0
        assert paid[""] <= of_system
        assert paid[A] <= of_a
        assert paid[B] <= of_b
        assert not [key for key, uj in after.items() if uj < before.get(key, 0)]
        before = after
    tree.proc.close()
    shutil.rmtree(tree.root)
