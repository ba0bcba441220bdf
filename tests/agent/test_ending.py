"""Being told to end, at whatever moment: what comes before there is anything to end waits, and is
not lost.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
PROGRAM = """
import sys, time
sys.path.insert(0, sys.argv[1])
from kpm.process.ending import listen, on_signals
listen()
print("listening", flush=True)
time.sleep(float(sys.argv[2]))
on_signals(lambda number, frame: (print("told", number, flush=True), sys.exit(0)))
time.sleep(10)
"""


@pytest.mark.parametrize("slow", [0.0, 0.5])
def test_a_signal_before_the_loop_is_made_reaches_it(slow: float) -> None:
    """It is kept while modules are loaded."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(REPO), str(slow)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "listening\n"
        child.send_signal(signal.SIGTERM)
        assert child.stdout.readline() == f"told {int(signal.SIGTERM)}\n"
        assert child.wait(5) == 0


def blocks_sigterm(pid: str) -> bool:
    """Whether `env` has begun to block it; what forks the namespace blocks it for a moment of its
    own before.
    """
    if Path(f"/proc/{pid}/comm").read_text().strip() == "unshare":
        return False
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    blocked = next(int(line.split()[1], 16) for line in lines if line.startswith("SigBlk:"))
    return bool(blocked >> (signal.SIGTERM - 1) & 1)


def first_process(seconds: float, *words: str) -> float:
    """Seconds until kpm, as the first process of a PID namespace and started as the image does,
    ends after a SIGTERM that comes so late.
    """
    inside = ["env", "--block-signal=TERM", sys.executable, "-m", "kpm", *words]
    child = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", *inside],
        cwd=REPO,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        inner = ""
        while not inner:
            inner = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().strip()
        # `env` has begun, and the interpreter has not: a thousandth of a second
        while not blocks_sigterm(inner):
            assert child.poll() is None
        time.sleep(seconds)
        told = time.monotonic()
        os.kill(int(inner), signal.SIGTERM)
        child.wait(30)
        return time.monotonic() - told
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.1, 0.3, 1.0])
def test_the_first_process_of_a_container_ends_whenever_it_is_told(
    seconds: float, tmp_path: Path
) -> None:
    """It has no default handler: without the blocked start a signal of its first tenths of a second
    would be lost.
    """
    (tmp_path / "sys").mkdir()
    words = ["helper", "--sysfs", str(tmp_path / "sys"), "--socket", str(tmp_path / "socket")]
    assert first_process(seconds, *words) < 20
