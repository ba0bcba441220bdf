"""The helper as a process: it writes what the agent asks for, and gave up everything else before it
listened.
"""

import ctypes
import errno
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kpm.request.machines import IdleStateSpec, MachineSpec, build_machine
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.session import Applier
from kpm_applier.state.store import StateStore
from kpm_applier.sysfs.boundary import ANSWER, MOST_RECORDS, RECORD
from kpm_applier.sysfs.composite import Composite
from kpm_applier.sysfs.hsmp import Hsmp
from kpm_applier.sysfs.remote import Helper, RemoteHost, RemoteMailbox
from kpm_planner.model.agent_settings import AgentSettings
from kpm_planner.model.cluster import Meta, Node
from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import (
    CStates,
    Intent,
    PowerConfig,
    PowerProfile,
    PowerWorkload,
    PStates,
)
from kpm_planner.plan import NodeInput, NodePlan, plan_node
from tests.helper.running import REPO, Running, helper, until
from tests.trees import write_tree

CPU = "devices/system/cpu"
MAX = f"{CPU}/cpufreq/policy0/scaling_max_freq"
MACHINE = build_machine(
    MachineSpec(
        cores=4,
        idle_driver="intel_idle",
        idle_states=(IdleStateSpec("POLL", 0), IdleStateSpec("C1", 2), IdleStateSpec("C6", 170)),
    )
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write_tree(KernelModel(MACHINE), tmp_path)
    return tmp_path / "sys"


@pytest.fixture
def running(tree: Path, tmp_path: Path) -> Iterator[Running]:
    with helper(tree, tmp_path) as process:
        yield process


@pytest.fixture
def remote(tree: Path, tmp_path: Path) -> Iterator[RemoteHost]:
    """The tree as an agent has it: read here, written by whoever listens."""
    host = RemoteHost(str(tree), Helper(str(tmp_path / "helper.sock")))
    yield host
    host.forget()


def test_a_batch_is_written_in_order_and_a_failure_costs_its_own_file(
    running: Running, tree: Path, remote: RemoteHost
) -> None:
    gone = f"{CPU}/cpu0/cpuidle/state9/disable"
    failures = remote.write_all(
        [(MAX, b"1500000\n"), (gone, b"1\n"), (f"{CPU}/cpu1/online", b"0\n"), (MAX, b"900000\n")]
    )
    assert {path: failure.errno for path, failure in failures.items()} == {
        gone: errno.ENOENT,
        f"{CPU}/cpu1/online": errno.ENOTSUP,
    }
    assert remote.read(MAX) == b"900000\n"


def test_a_batch_of_any_size_crosses(running: Running, tree: Path, remote: RemoteHost) -> None:
    writes = [(MAX, b"%d\n" % (1_000_000 + number)) for number in range(2 * MOST_RECORDS + 1)]
    assert remote.write_all(writes) == {}
    assert remote.read(MAX) == writes[-1][1]


def test_a_whole_plan_and_its_restore_go_through_it(
    running: Running, tree: Path, remote: RemoteHost, tmp_path: Path
) -> None:
    """The applier does not know the difference: a policy in force, nothing on a second pass, and
    everything as it was at the end.
    """
    before = {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}

    def planned(machine: Machine) -> NodePlan:
        profile = PowerProfile(
            Meta("shared"),
            shared=True,
            pstates=PStates(max="30%", governor="powersave"),
            cstates=CStates(max_latency_us=10),
        )
        everywhere = PowerWorkload(
            Meta("w"), all_cores=True, power_node_selector={"a": "b"}, power_profile="shared"
        )
        return plan_node(
            Intent((profile,), (everywhere,)), NodeInput(Node("n", {"a": "b"}), machine)
        )

    applier = Applier(remote, StateStore(str(tmp_path / "state"), remote.root, live=False))
    applier.open()
    _, report = applier.bring(planned)
    assert report.settled
    assert (tree / CPU / "cpu0/cpuidle/state2/disable").read_text() == "1\n"
    assert applier.bring(planned)[1].writes == ()
    assert applier.restore().settled
    applier.close()
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(("limit", "shown"), [(10, "10\n"), (0, "n/a\n")])
def test_by_latency_one_file_a_cpu_is_written_and_given_back(
    running: Running, tree: Path, remote: RemoteHost, tmp_path: Path, limit: int, shown: str
) -> None:
    """No idle state is touched, so no capability is needed; a limit that CRI-O or TuneD had set is
    what comes back.
    """
    file = tree / CPU / "cpu2/power/pm_qos_resume_latency_us"
    file.write_text("50\n")

    def planned(machine: Machine) -> NodePlan:
        profile = PowerProfile(Meta("shared"), shared=True, cstates=CStates(max_latency_us=limit))
        everywhere = PowerWorkload(
            Meta("w"), all_cores=True, power_node_selector={"a": "b"}, power_profile="shared"
        )
        config = PowerConfig(
            Meta("c"), power_node_selector={"a": "b"}, agent=AgentSettings(idle_states="byLatency")
        )
        return plan_node(
            Intent((profile,), (everywhere,), configs=(config,)),
            NodeInput(Node("n", {"a": "b"}), machine),
        )

    applier = Applier(remote, StateStore(str(tmp_path / "state"), remote.root, live=False))
    applier.open()
    _, report = applier.bring(planned)
    assert {write.path for write in report.writes if "cpuidle" in write.path} == set()
    assert file.read_text() == shown
    file.write_text("77\n")
    drifted = applier.bring(planned)[1]
    assert [write.old for write in drifted.drift] == ["77"]
    assert file.read_text() == shown
    applier.restore()
    assert file.read_text() == "50\n"
    assert (tree / CPU / "cpu0/power/pm_qos_resume_latency_us").read_text() == "0\n"
    applier.close()


# --- what it gave up ---


def test_it_says_and_the_kernel_confirms_what_it_gave_up(running: Running) -> None:
    """No new privileges, a filter in force, another network namespace than ours."""
    assert (running.said["network_left"], running.said["calls_filtered"]) == (True, True)
    assert (running.status("NoNewPrivs"), running.status("Seccomp")) == ("1", "2")
    assert os.readlink(f"/proc/{running.process.pid}/ns/net") != os.readlink("/proc/self/ns/net")
    assert running.said["CapEff"] == running.status("CapEff")


def test_a_privileged_container_leaves_it_the_one_capability_that_it_needs(
    running: Running,
) -> None:
    """Nothing else is effective, permitted or within bounds, however much it was started with."""
    one = 1 << 21  # CAP_SYS_ADMIN
    assert all(
        int(running.status(name), 16) | one == one
        for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")
    )


def test_messages_reach_the_mailboxs_device_and_nothing_else_of_it(
    tree: Path, tmp_path: Path, remote: RemoteHost
) -> None:
    """A plain file in the device's place: the kernel itself says that it takes no such message, so
    the filter let it pass.
    """
    device = tmp_path / "hsmp"
    device.write_bytes(b"")
    both = Composite(remote, Hsmp(RemoteMailbox("/dev/hsmp", remote.helper)))
    with helper(tree, tmp_path, hsmp=device) as running:
        assert running.said["calls_filtered"] is True
        assert both.list("hsmp") == ("fault",)
        assert both.read("hsmp/fault") == b"/dev/hsmp ENOTTY: Inappropriate ioctl for device\n"
        assert both.refuses_writing("hsmp/socket0/df_pstate") == 0
        both.write(MAX, b"1234567\n")
        assert both.read(MAX) == b"1234567\n", "one link serves both"
    assert device.read_bytes() == b""


def test_a_helper_without_a_device_has_no_mailbox(running: Running, remote: RemoteHost) -> None:
    both = Composite(remote, Hsmp(RemoteMailbox("/dev/hsmp", remote.helper)))
    with pytest.raises(FileNotFoundError):
        both.list("hsmp")
    assert both.refuses_writing("hsmp/socket0/df_pstate") == errno.ENOENT


def test_without_any_capability_it_serves_all_the_same(
    tree: Path, tmp_path: Path, remote: RemoteHost
) -> None:
    """As under byLatency: it cannot leave its network, so the filter alone keeps it from it."""
    with helper(tree, tmp_path, ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]) as running:
        assert running.said["CapEff"] == "0000000000000000"
        assert (running.said["network_left"], running.said["calls_filtered"]) == (False, True)
        remote.write(MAX, b"1234567\n")
        assert remote.read(MAX) == b"1234567\n"


ATTACK = """
import ctypes, errno, os, socket, sys
sys.path.insert(0, sys.argv[1])
from kpm.helper.confine import drop_capabilities, filter_calls, leave_network, write_only
leave_network()
drop_capabilities()
terminal = os.openpty()[0]
write_only([sys.argv[2]])
assert filter_calls(mailbox=True)
libc = ctypes.CDLL(None, use_errno=True)
def refused(call):
    try:
        got = call()
    except OSError as failure:
        return failure.errno in (errno.EPERM, errno.EACCES)
    return got == -1 and ctypes.get_errno() in (errno.EPERM, errno.EACCES)
def mapped():
    return ctypes.c_long(libc.mmap(0, 4096, 7, 0x22, -1, 0))
attempts = {
    "mount": lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None),
    "unshare": lambda: libc.unshare(0x20000000),
    "setns": lambda: libc.setns(0, 0),
    "ptrace": lambda: libc.ptrace(16, 1, 0, 0),
    "bpf": lambda: libc.syscall(int(sys.argv[3]), 0, 0, 0),
    "chroot": lambda: libc.chroot(b"/"),
    "kill": lambda: libc.kill(os.getppid(), 0),
    "execve": lambda: libc.execve(b"/bin/true", None, None),
    "fork": lambda: libc.syscall(int(sys.argv[4]), 0, 0, 0, 0, 0),
    "inet": lambda: socket.socket(socket.AF_INET),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "executable memory": lambda: -1 if mapped().value == -1 else 0,
    "another ioctl": lambda: libc.ioctl(terminal, 0x5401, ctypes.create_string_buffer(64)),
    "mkdir": lambda: os.mkdir("/tmp/kpm-proof"),
    "unlink": lambda: os.unlink(sys.argv[5]),
    "chmod": lambda: os.chmod(sys.argv[5], 0o777),
}
wrong = [name for name, call in attempts.items() if not refused(call)]
sys.stdout.write(" ".join(wrong) + "\\n")
sys.stdout.flush()
os._exit(0)
"""
_BPF, _CLONE = {"x86_64": (321, 56), "aarch64": (280, 220)}.get(platform.machine(), (0, 0))


def test_what_makes_the_capability_as_good_as_root_is_refused(tree: Path, tmp_path: Path) -> None:
    """As an attacker who runs code in the helper would try, with every capability that this test
    has.
    """
    file = tmp_path / "victim"
    file.write_text("x")
    words = [sys.executable, "-c", ATTACK, str(REPO), str(tree), str(_BPF), str(_CLONE), str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
    assert file.read_text() == "x"


@pytest.mark.skipif(
    ctypes.CDLL(None, use_errno=True).syscall(444, None, 0, 1) < 1,
    reason="this kernel has no Landlock",
)
def test_files_beside_the_managed_folders_cannot_be_opened_for_writing(
    tree: Path, tmp_path: Path
) -> None:
    """Of a bus that is mounted as a whole only the chip's own folder, where the kernel has
    Landlock.
    """
    beside, chip = (
        tree / "devices/platform/other.0/setting",
        tree / "devices/platform/AMDI0097:00/hwmon/hwmon3/power1_cap",
    )
    for file in (beside, chip):
        file.parent.mkdir(parents=True)
        file.write_text("1\n")
    program = f"""
import sys
sys.path.insert(0, {str(REPO)!r})
from kpm.helper.confine import write_only
from kpm.helper.server import folders
assert write_only(folders({str(tree)!r}))
for path in ({str(chip)!r}, {str(beside)!r}, {str(tmp_path / "new")!r}):
    try:
        open(path, "w").close()
        print("opened")
    except PermissionError:
        print("refused")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["opened", "refused", "refused"], done.stderr


# --- whoever talks to it ---


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"x",
        b"\xff" * RECORD.size,
        b"\0" * (RECORD.size + 1),
        b"\0" * RECORD.size * (MOST_RECORDS + 1),
    ],
)
def test_nonsense_costs_its_link_at_most(
    running: Running, tree: Path, remote: RemoteHost, message: bytes
) -> None:
    """And is never written; the agent's own link goes on."""
    remote.write(MAX, b"1000000\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.settimeout(5)
        stranger.connect(running.socket)
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        stranger.send(message)
        answer = stranger.recv(4096) if message else b""
        assert answer in (b"", ANSWER.pack(errno.EINVAL))
    remote.write(MAX, b"1100000\n")
    assert remote.read(MAX) == b"1100000\n"


def test_many_links_cost_the_oldest(running: Running, tree: Path, remote: RemoteHost) -> None:
    """Descriptors are bounded, and who comes anew is served: the agent connects again by itself."""
    remote.write(MAX, b"1000000\n")
    links = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(40)]
    for link in links:
        link.connect(running.socket)
    remote.write(MAX, b"1200000\n")
    assert remote.read(MAX) == b"1200000\n"
    for link in links:
        link.close()


def test_a_helper_that_is_started_again_is_found_again(
    tree: Path, tmp_path: Path, remote: RemoteHost
) -> None:
    """A write waits for it a few seconds; one that never comes is a failure of the write, with
    errno.
    """
    with helper(tree, tmp_path):
        remote.write(MAX, b"1000000\n")
    with helper(tree, tmp_path):
        remote.write(MAX, b"1300000\n")
    assert remote.read(MAX) == b"1300000\n"


def test_a_helper_that_is_not_there_is_waited_for_once_and_every_file_says_why(
    tree: Path, remote: RemoteHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass of many batches does not wait for each of them."""
    monkeypatch.setattr("kpm_applier.sysfs.remote._PATIENCE", 0.6)
    started = time.monotonic()
    for _ in range(5):
        failures = remote.write_all([(MAX, b"1000000\n")])
        assert failures[MAX].errno == errno.ENOENT
    assert remote.refuses_writing(MAX) == errno.ENOENT
    assert 0.5 < time.monotonic() - started < 2.4, "five waits would be three seconds"


def test_a_signal_ends_it(running: Running) -> None:
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(5) == 0


def test_it_loads_no_library(running: Running) -> None:
    """Its footprint is an interpreter's."""
    maps = Path(f"/proc/{running.process.pid}/maps").read_text()
    assert "site-packages" not in maps
    pss = until(
        lambda: [
            line
            for line in Path(f"/proc/{running.process.pid}/smaps_rollup").read_text().splitlines()
            if line.startswith("Pss:")
        ]
    )
    assert int(pss[0].split()[1]) <= 12 * 1024


def test_a_mailbox_that_a_copy_has_as_plain_files_is_written_here(
    tree: Path, running: Running, remote: RemoteHost
) -> None:
    """No helper takes them: they are no part of /sys. With other files, in order."""
    folder = tree / "hsmp/socket0"
    folder.mkdir(parents=True)
    (folder / "df_pstate").write_text("auto\n")
    assert remote.refuses_writing("hsmp/socket0/df_pstate") == 0
    assert remote.write_all([("hsmp/socket0/df_pstate", b"2 1\n"), (MAX, b"1234567\n")]) == {}
    assert (folder / "df_pstate").read_text() == "2 1\n"
    assert remote.read(MAX) == b"1234567\n"
