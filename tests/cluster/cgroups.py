"""A cgroup of the node's own in every hierarchy of this machine: all of its processes and
containers are below it.

So what the node leaves behind can be found and ended, whoever started it, and no other process is
touched.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

_TOP = Path("/sys/fs/cgroup")
#: Hierarchies of cgroup v1, by their folder's name.
CONTROLLERS = (
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "systemd",
)


def missing() -> list[str]:
    """What this machine lacks for a node of cgroup v1."""
    return [name for name in CONTROLLERS if not (_TOP / name / "cgroup.procs").exists()]


def make(name: str) -> None:
    for controller in CONTROLLERS:
        folder = _TOP / controller / name
        folder.mkdir(exist_ok=True)
        if controller == "cpuset":
            for file in ("cpuset.cpus", "cpuset.mems"):
                (folder / file).write_text((_TOP / controller / file).read_text())


def words(name: str) -> list[str]:
    """What runs a command in it."""
    files = " ".join(f"{_TOP}/{controller}/{name}/cgroup.procs" for controller in CONTROLLERS)
    return ["bash", "-c", f'for file in {files}; do echo $$ > "$file"; done; exec "$@"', "bash"]


def remove(name: str, seconds: float = 20) -> None:
    """End every process below it, and remove it. AssertionError where something stays."""
    ends = time.monotonic() + seconds
    while True:
        for pid in _pids(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not _pids(name) and all(
            _removed(_TOP / controller / name) for controller in CONTROLLERS
        ):
            return
        assert time.monotonic() < ends, f"cgroup {name}: {_pids(name)}"
        time.sleep(0.1)


def _pids(name: str) -> list[int]:
    found: set[int] = set()
    for controller in CONTROLLERS:
        for folder, _, _ in os.walk(_TOP / controller / name):
            with contextlib.suppress(OSError):
                found.update(
                    int(word) for word in (Path(folder) / "cgroup.procs").read_text().split()
                )
    return sorted(found - {0, os.getpid()})


def _removed(folder: Path) -> bool:
    try:
        for inner, _, _ in os.walk(folder, topdown=False):
            Path(inner).rmdir()
    except OSError:
        return False
    return not folder.exists()
