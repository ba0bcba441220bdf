"""The real helper as a process of its own, on a tree of files."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

REPO = Path(__file__).parents[2]


@frozen
class Running:
    """The process, its socket, its first line of log."""

    process: "subprocess.Popen[str]"
    socket: str
    said: dict[str, Any]

    def status(self, name: str) -> str:
        """A line of what the kernel says of the process."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(f"{name}:"))


@contextlib.contextmanager
def helper(
    sysfs: Path,
    folder: Path,
    before: Sequence[str] = (),
    nri: Path | None = None,
    hsmp: Path | None = None,
) -> Iterator[Running]:
    """A helper that listens. before: a command that starts it, with less privilege; nri: the
    runtime's socket; hsmp: a device.
    """
    socket = folder / "helper.sock"
    given = {"--sysfs": sysfs, "--socket": socket, "--nri": nri, "--hsmp": hsmp}
    words = [
        *before,
        sys.executable,
        "-m",
        "kpm",
        "helper",
        *(str(word) for pair in given.items() if pair[1] for word in pair),
    ]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=REPO)
    try:
        assert process.stderr is not None
        said = json.loads(process.stderr.readline())
        yield Running(process, str(socket), said)
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def until(check: Any, seconds: float = 10.0) -> Any:
    """The first true result."""
    ends = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < ends
        time.sleep(0.02)
    return found
