"""Run a Python script of this checkout inside a lab machine, against this checkout's packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.kernel.lab import LabMachine, LabResult, run
from tests.kernel.lab_debian import cache
from tests.kernel.lab_machine import Arch

CHECKOUT = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).resolve().parent / "inside"
TAIL = 3000  # characters of standard error in a failure
COMPILED = "pydantic-core"  # the one package of an agent that is of no use without machine code


def arm_packages() -> Path:
    """Return a folder with the arm64 builds of what is compiled, in the version that is installed
    here; fetched once.
    """
    release = version(COMPILED)
    folder = cache() / f"arm64-{COMPILED}-{release}"
    if not folder.exists():
        fresh = folder.with_suffix(".new")
        what = [
            "--only-binary",
            ":all:",
            "--no-deps",
            "--platform",
            "manylinux_2_17_aarch64",
            "--python-version",
            sysconfig.get_python_version(),
        ]
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--target",
                str(fresh),
                *what,
                f"{COMPILED}=={release}",
            ],
            check=True,
        )
        fresh.rename(folder)
    return folder


def python_path(machine: LabMachine) -> str:
    """Return the PYTHONPATH inside: the checkout first, then the site-packages that this Python
    uses.

    They hold pure Python but for a few packages, which another architecture runs as well; where
    this checkout is installed beside them, the checkout wins.
    """
    folders = [CHECKOUT, Path(sysconfig.get_path("purelib"))]
    if machine.traits.arch is Arch.ARM64:
        folders.insert(0, arm_packages())
    return os.pathsep.join(map(machine.path, folders))


def run_python(
    machine: LabMachine,
    script: str,
    arguments: Sequence[str],
    *,
    timeout: float,
) -> LabResult:
    """Run a script of the folder `inside` in a machine."""
    command = [machine.python, machine.path(INSIDE / script), *arguments]
    return run(
        machine,
        command,
        timeout=timeout,
        env={"PYTHONPATH": python_path(machine), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def report_of(
    machine: LabMachine, script: str, *arguments: object, timeout: float
) -> dict[str, Any]:
    """Return the report that a script prints as its last line; AssertionError with the end of what
    it said where it prints none.
    """
    result = run_python(machine, script, [str(argument) for argument in arguments], timeout=timeout)
    lines = result.stdout.strip().splitlines()
    if result.returncode or not lines:
        raise AssertionError(
            f"{machine}: {script} ended with"
            f" {result.returncode}\n{result.stdout[-TAIL:]}\n{result.stderr[-TAIL:]}"
        )
    report: dict[str, Any] = json.loads(lines[-1])
    return {
        **report,
        "boot seconds": round(result.boot_seconds, 1),
        "whole seconds": round(result.seconds, 1),
        "said": result.stderr[-TAIL:],
    }
