"""The checks of the contract that are kept beside the repository; they use `kpm` from outside."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kpm.cli_rig import DUMPS, SHARED

CHECKS = SHARED / "checks"
KPM = Path(sys.executable).with_name("kpm")


def run_check(name: str, *words: object) -> None:
    """Run one check; its one line is the message where it fails."""
    if not (CHECKS / name).is_file():
        pytest.skip(f"no {CHECKS / name}: the checks are not part of the repository")
    if not KPM.exists():
        pytest.skip(f"no {KPM}: kpm is not installed beside this Python")
    surroundings = {**os.environ, **({"TMPDIR": "/dev/shm"} if Path("/dev/shm").is_dir() else {})}
    found = subprocess.run(
        [sys.executable, name, "--kpm", str(KPM), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKS,
        timeout=120,
        env=surroundings,
    )
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.soak
def test_machines() -> None:
    if not DUMPS:
        pytest.skip(f"no {SHARED / 'machines'}: the dumps are not part of the repository")
    run_check("machines.py", *DUMPS)


@pytest.mark.soak
def test_idle_pass() -> None:
    if shutil.which("strace") is None:
        pytest.skip("no strace: the check counts system calls (apt-get install strace)")
    run_check("idle_pass.py")
