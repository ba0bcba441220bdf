"""Run a Python script of this checkout inside a lab machine, against this checkout's packages."""

from __future__ import annotations

import json
import os
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab import LabMachine, LabResult, run

CHECKOUT = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).resolve().parent / "inside"
TAIL = 3000  # characters of standard error in a failure


def python_path(machine: LabMachine) -> str:
    """Return the PYTHONPATH inside: the checkout first, then the site-packages that this Python uses.

    They hold pure Python, which another architecture runs as well; where this checkout is installed beside them, the checkout wins.
    """
    return os.pathsep.join(machine.path(folder) for folder in (CHECKOUT, sysconfig.get_path("purelib")))


def run_python(machine: LabMachine, script: str, arguments: Sequence[str], *, timeout: float, env: dict[str, str] | None = None) -> LabResult:
    """Run a script of the folder `inside` in a machine."""
    command = [machine.python, machine.path(INSIDE / script), *arguments]
    return run(machine, command, timeout=timeout, env={"PYTHONPATH": python_path(machine), "PYTHONDONTWRITEBYTECODE": "1", **(env or {})})


def report_of(machine: LabMachine, script: str, *arguments: object, timeout: float) -> dict[str, Any]:
    """Return the report that a script prints as its last line; AssertionError with the end of what it said where it prints none."""
    result = run_python(machine, script, [str(argument) for argument in arguments], timeout=timeout)
    lines = result.stdout.strip().splitlines()
    if result.returncode or not lines:
        raise AssertionError(f"{machine}: {script} ended with {result.returncode}\n{result.stdout[-TAIL:]}\n{result.stderr[-TAIL:]}")
    report: dict[str, Any] = json.loads(lines[-1])
    return {**report, "boot seconds": round(result.boot_seconds, 1), "whole seconds": round(result.seconds, 1), "said": result.stderr[-TAIL:]}
