"""The telemetry client and the scaler against a real DPDK process: two lcores that poll, on plain
CPUs, without huge pages.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kpm.agent.scaling import ScalerProcess
from kpm.process.logs import Log
from kpm.scaler import sockets
from kpm.scaler.telemetry import PeerStatus, Telemetry
from kpm_planner.scaling import PodCpus, ScaledDomain, Scaling, usage
from tests.dpdk.dpdk_root import prepare

pytestmark = pytest.mark.dpdk
UID = "0a1b2c3d-0000-4000-8000-000000000001"
LOW, HIGH = 1_000_000, 3_000_000
#: lcore → CPU: the numbers differ on purpose.
LCORES = {3: 0, 5: 1}


class Dpdk:
    """The process, in its root, with its runtime folder in a pod's."""

    def __init__(self, root: Path, pods: Path, prefix: str) -> None:
        self.root, self.share, self.prefix = root, root / "tmp" / "share", prefix
        self.folder = pods / UID / "dpdk"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, share: int) -> None:
        """Run it; mounts end with it, since they are in a name space of its own."""
        self.load(share)
        places = ",".join(f"{lcore}@{cpu}" for lcore, cpu in LCORES.items())
        binds = (
            f"mount --bind /proc {self.root}/proc && mount --bind /sys {self.root}/sys && mkdir -p"
            f" {self.root}/run/dpdk && "
        )
        binds += f"mount --bind {self.folder} {self.root}/run/dpdk"
        program = (
            f"exec chroot {self.root} /busy --lcores '9@0,{places}' --main-lcore 9 --no-huge -m 64"
            f" --no-pci --file-prefix {self.prefix} -- /tmp/share"
        )
        self.process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", f"{binds} && {program}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def load(self, share: int) -> None:
        """From now on the lcores have work for a share of their cycles."""
        fresh = self.share.with_name("share.new")
        fresh.write_text(f"{share}\n")
        fresh.rename(self.share)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None


@pytest.fixture(scope="module")
def root() -> Path:
    """DPDK, fetched and built."""
    return prepare()


@pytest.fixture
def pods(tmp_path: Path) -> Path:
    return tmp_path / "pods"


@pytest.fixture
def dpdk(root: Path, pods: Path) -> Iterator[Dpdk]:
    """Started with a quarter of load, under a prefix of its own."""
    made = Dpdk(root, pods, "kpm-test")
    try:
        made.start(25)
        wait_until(lambda: sockets.prefixes(str(pods), UID) == ("kpm-test",))
        yield made
    finally:
        made.stop()


def wait_until(check: Callable[[], object], seconds: float = 30.0) -> None:
    ends = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < ends, "it does not come"
        time.sleep(0.02)


def answer(telemetry: Telemetry) -> None:
    """Ask, and wait for the answer."""
    telemetry.ask(0)
    wait_until(lambda: telemetry.receive(time.monotonic_ns() // 1000), 5)


def test_a_real_process_is_understood(dpdk: Dpdk, pods: Path) -> None:
    """Greeting, counters of every lcore that polls, the CPUs of each; the usage is the load that it
    was given.
    """
    link = sockets.connect(str(pods), UID, "kpm-test")
    with link:
        telemetry = Telemetry(link)
        wait_until(lambda: telemetry.receive(0), 5)
        answer(telemetry)
        assert telemetry.status is PeerStatus.CONNECTED
        assert set(LCORES) <= set(telemetry.cycles)
        while telemetry.unplaced is not None:
            answer(telemetry)
        assert {cpu: set(telemetry.lcores[cpu]) & set(LCORES) for cpu in LCORES.values()} == {
            cpu: {lcore} for lcore, cpu in LCORES.items()
        }
        for share in (25, 90):
            dpdk.load(share)
            time.sleep(0.5)
            answer(telemetry)
            before = telemetry.cycles
            time.sleep(0.5)
            answer(telemetry)
            found = [usage(before[lcore], telemetry.cycles[lcore]) for lcore in LCORES]
            assert all(value is not None and abs(value - share) < 3 for value in found), found


def test_the_scaler_follows_it_and_its_restart(dpdk: Dpdk, pods: Path, tmp_path: Path) -> None:
    """Up, down, the fall-back while it is away, and on with the new process."""
    speeds = []
    for cpu in LCORES.values():
        place = tmp_path / "sys/devices/system/cpu/cpufreq" / f"policy{cpu}"
        place.mkdir(parents=True)
        speeds.append(place / "scaling_setspeed")
        speeds[-1].write_text("0\n")

    def shown() -> set[int]:
        return {int(path.read_text() or 0) for path in speeds}

    scaling = Scaling(LOW, HIGH, 20_000, 20_000, fallback=50)
    wanted = tuple(
        ScaledDomain(cpu, (PodCpus(UID, (cpu,)),), "dpdk", scaling) for cpu in LCORES.values()
    )
    scaler = ScalerProcess(
        [
            sys.executable,
            "-m",
            "kpm",
            "scaler",
            "--sysfs",
            str(tmp_path / "sys"),
            "--telemetry-dir",
            str(pods),
        ],
        Log(),
    )
    try:
        scaler.scale(wanted)
        for share, reached in (
            (99, lambda: min(shown()) > 0.98 * HIGH),
            (5, lambda: max(shown()) == LOW),
        ):
            dpdk.load(share)
            wait_until(reached)
        dpdk.stop()
        wait_until(lambda: shown() == {(LOW + HIGH) // 2})
        dpdk.start(99)
        wait_until(lambda: min(shown()) > 0.98 * HIGH)
    finally:
        scaler.stop()
    assert shown() == {(LOW + HIGH) // 2}


def test_the_peer_is_seen_where_it_can_be(dpdk: Dpdk, pods: Path, tmp_path: Path) -> None:
    """A process of this machine, in no pod's cgroup: no stranger; in another pod's: one."""
    with sockets.connect(str(pods), UID, "kpm-test") as link:
        assert not sockets.stranger(link, UID)
        pid = _peer(link)
        for groups, strange in (
            (f"0::/kubepods/pod{UID}/x\n", False),
            (f"0::/kubepods-pod{UID.replace('-', '_')}.slice\n", False),
            ("0::/kubepods/podother/x\n", True),
        ):
            (tmp_path / "proc" / str(pid)).mkdir(parents=True, exist_ok=True)
            (tmp_path / "proc" / str(pid) / "cgroup").write_text(groups)
            assert sockets.stranger(link, UID, str(tmp_path / "proc")) is strange
    assert os.path.exists(f"/proc/{pid}")


def _peer(link: object) -> int:
    import socket
    import struct

    assert isinstance(link, socket.socket)
    return int(struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
