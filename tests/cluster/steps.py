"""Small things that every part needs: run a command, wait for a condition, keep caches of what is
slow to make.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
CACHE = Path.home() / ".cache" / "kpm-cluster"


def run(
    *words: str | Path, given: str | bytes = b"", check: bool = True, seconds: float = 120
) -> str:
    """What a command prints. AssertionError with all that it said where it fails."""
    content = given.encode() if isinstance(given, str) else given
    command = [str(word) for word in words]
    done = subprocess.run(command, input=content, capture_output=True, check=False, timeout=seconds)
    said = done.stdout.decode(errors="replace")
    if check and done.returncode:
        complaint = done.stderr.decode(errors="replace")
        raise AssertionError(f"{' '.join(command)}: {done.returncode}\n{said}{complaint}")
    return said


def wait_for(what: str, check: Callable[[], Any], seconds: float = 60, pause: float = 0.1) -> Any:
    """The first true result of a check. AssertionError where it does not come in time."""
    ends = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > ends:
            raise AssertionError(f"not in {seconds:g} s: {what}")
        time.sleep(pause)


def packages(commands: Sequence[str], names: Sequence[str]) -> None:
    """Install Debian packages where one of the commands is missing."""
    if any(shutil.which(command) is None for command in commands):
        apt = f"apt-get update && apt-get install -y --no-install-recommends {' '.join(names)}"
        subprocess.run(apt, shell=True, check=True)


@contextmanager
def only_once(name: str) -> Iterator[Path]:
    """The cache, while nobody else makes the same thing in it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield CACHE


def niced(*words: str) -> list[str]:
    """A build, which should leave the machine to those who wait for it."""
    return ["nice", "-n", str(max(0, 5 - os.nice(0))), *words]
