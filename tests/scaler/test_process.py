"""The scaler as a process, and the agent's hold on it."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpm.agent.scaling import ScalerProcess
from kpm.process.logs import Log
from kpm.scaler.words import News, domains_of, line_of, speed_lines, speeds_of
from kpm_planner.scaling import PodCpus, ScaledDomain, Scaling
from tests.scaler.dpdk_server import DpdkServer
from tests.scaler.rig import HIGH, LOW, UID, Rig, domain
from tests.scaler.waiting import wait_until


@pytest.fixture
def process(rig: Rig) -> Iterator[ScalerProcess]:
    """The real program, on the rig's files."""
    command = [
        sys.executable,
        "-m",
        "kpm",
        "scaler",
        "--sysfs",
        str(rig.sys),
        "--telemetry-dir",
        str(rig.root),
    ]
    made = ScalerProcess(command, Log())
    yield made
    made.stop()


#: A speed this near to what the load asks for stays (allowedFrequencyDifference).
BAND = Scaling(LOW, HIGH).band_khz


def fast(rig: Rig, cpu: int) -> bool:
    """As fast as a full core comes to be."""
    return (rig.speed(cpu) or 0) >= HIGH - BAND


def slow(rig: Rig, cpu: int) -> bool:
    """As slow as an idle core comes to be."""
    return (rig.speed(cpu) or HIGH) <= LOW + BAND


def test_it_follows_the_load_and_ends_at_the_fall_back(
    rig: Rig, dpdk: DpdkServer, process: ScalerProcess
) -> None:
    """Told on its standard input; what it is told no more it leaves at once, and at the end it
    leaves the fall-back.
    """
    dpdk.load(100)
    process.scale((domain(4, fallback=50), domain(5, fallback=50)))
    wait_until(lambda: fast(rig, 4) and fast(rig, 5))
    dpdk.load(0)
    wait_until(lambda: slow(rig, 4))
    process.leave((domain(5, fallback=50),))
    left, before = rig.speed(4), rig.file(4).stat().st_mtime_ns
    dpdk.load(100)
    wait_until(lambda: fast(rig, 5))
    assert rig.file(4).stat().st_mtime_ns == before
    process.stop()
    assert (rig.speed(4), rig.speed(5)) == (left, 2_000_000)


def test_one_that_is_killed_is_started_again_later_and_later(
    rig: Rig, process: ScalerProcess
) -> None:
    """Not at once, so that a program that cannot run costs little."""
    now = [100.0]
    process.monotonic = lambda: now[0]
    wanted = (domain(4),)
    for pause in (1.0, 2.0, 4.0):
        process.scale(wanted)
        child = process._child
        assert child is not None
        wait_until(lambda: rig.speed(4) == LOW)
        child.send_signal(signal.SIGKILL)
        child.wait()
        process.scale(wanted)
        assert process._child is None
        assert process.retry_at() == now[0] + pause
        now[0] += pause


def test_it_says_what_becomes_of_telemetry(
    rig: Rig, dpdk: DpdkServer, process: ScalerProcess
) -> None:
    """Each state once, to the agent."""
    dpdk.answer = lambda _question: b'{"/eal/lcore/usage": null}'
    process.scale((domain(4),))
    found: list[News] = []

    def told(count: int) -> bool:
        found.extend(process.news())
        return len(found) >= count

    wait_until(lambda: told(1))
    usual = dpdk.usual
    dpdk.answer = usual
    wait_until(lambda: told(2))
    assert [(item.uid, item.prefix, item.state) for item in found] == [
        (UID, "rte", "too-old"),
        (UID, "rte", "connected"),
    ]


def test_it_says_how_fast_each_domain_is_when_it_is_asked(
    rig: Rig, dpdk: DpdkServer, process: ScalerProcess
) -> None:
    """Target and busy share, for the agent's metrics; of a domain that is not scaled any more
    nothing.
    """
    assert process.speeds() == {}
    dpdk.load(100)
    process.scale((domain(4), domain(5)))
    wait_until(lambda: process.speeds().get(4) == (HIGH, 100.0) == process.speeds().get(5))
    dpdk.load(0)
    wait_until(lambda: process.speeds().get(4) == (LOW, 0.0))
    process.scale((domain(5),))
    assert process.speeds().keys() == {5}
    assert rig.speed(5) == LOW


@given(
    st.lists(
        st.tuples(
            st.integers(0, 65535),
            st.one_of(st.none(), st.integers(0, 10**7)),
            st.one_of(st.none(), st.floats(0, 100)),
        ),
        max_size=500,
        unique_by=lambda item: item[0],
    )
)
def test_speeds_there_and_back(speeds: list[tuple[int, int | None, float | None]]) -> None:
    """In lines that a pipe takes whole."""
    lines = speed_lines(speeds)
    assert all(len(line) < 4096 for line in lines)
    found: dict[int, Any] = {}
    for line in lines:
        found |= speeds_of(line) or {}
    assert found == {
        number: (khz, None if busy is None else round(busy, 1)) for number, khz, busy in speeds
    }


def test_nobody_who_reads_holds_up_nothing(rig: Rig, dpdk: DpdkServer) -> None:
    """Its output is full: what it has to say is dropped, and the loop goes on."""
    command = [
        sys.executable,
        "-m",
        "kpm",
        "scaler",
        "--sysfs",
        str(rig.sys),
        "--telemetry-dir",
        str(rig.root),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        fcntl.fcntl(child.stdout.fileno(), fcntl.F_SETPIPE_SZ, 4096)
        for _ in range(3000):  # each is answered
            child.stdin.write(line_of((domain(4, fallback=100),)))
            child.stdin.flush()
        dpdk.load(0)
        wait_until(lambda: rig.speed(4) == LOW)
        child.stdin.close()
        assert child.wait(5) == 0
        child.stdout.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_its_end_too(rig: Rig, process: ScalerProcess, number: signal.Signals) -> None:
    """With the fall-back left behind."""
    process.scale((domain(4, fallback=100),))
    child = process._child
    assert child is not None
    wait_until(lambda: fast(rig, 4))
    rig.file(4).write_text("0\n")
    child.send_signal(number)
    assert child.wait(5) == 0
    assert rig.speed(4) == HIGH


def test_the_end_of_its_input_is_its_end(rig: Rig, process: ScalerProcess) -> None:
    """So an agent that is killed leaves no scaler behind; domains have their fall-back."""
    process.scale((domain(4, fallback=100),))
    child = process._child
    assert child is not None
    assert child.stdin is not None
    wait_until(lambda: fast(rig, 4))
    child.stdin.close()
    assert child.wait(5) == 0


_NUMBER = st.integers(0, 10**7)
_SCALING = st.builds(Scaling, *[_NUMBER] * 9)
_DOMAINS = st.builds(
    ScaledDomain,
    _NUMBER,
    st.lists(st.builds(PodCpus, st.text(), st.lists(_NUMBER).map(tuple))).map(tuple),
    st.text(),
    _SCALING,
    st.booleans(),
)


@given(st.lists(_DOMAINS).map(tuple))
def test_what_is_written_is_what_is_read(wanted: tuple[ScaledDomain, ...]) -> None:
    """One line, whatever names hold."""
    line = line_of(wanted)
    assert line.count(b"\n") == 1
    assert domains_of(line) == wanted


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}x",
        b"1",
        b"[1]",
        b'[{"pods": 1}]',
        b'[{"domain": "x", "pods": [], "profile": "", "scaling": {}, "by_limits": 0}]',
        b"\xff",
    ],
)
def test_a_line_that_says_something_else_is_refused(line: bytes) -> None:
    """As one kind of error."""
    with pytest.raises(ValueError, match=r"."):
        domains_of(line)


def test_a_line_that_is_not_understood_changes_nothing(rig: Rig, process: ScalerProcess) -> None:
    """What was in force stays so."""
    process.scale((domain(4, fallback=100),))
    child: Any = process._child
    wait_until(lambda: fast(rig, 4))
    child.stdin.write(b"rubbish\n")
    child.stdin.flush()
    time.sleep(0.2)
    assert child.poll() is None
    rig.file(4).write_text("0\n")
    process.stop()
    assert rig.speed(4) == HIGH
