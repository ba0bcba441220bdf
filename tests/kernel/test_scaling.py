"""The scaler with a real userspace governor (acpi-cpufreq): the kernel takes its speeds, and
hotplug costs only the CPU that goes.
"""

from __future__ import annotations

import json

import pytest

from tests.kernel.lab import LabMachine, prepare
from tests.kernel.lab_python import report_of

pytestmark = pytest.mark.kernel
MACHINE = LabMachine(driver="acpi-cpufreq")


def test_speeds_reach_a_real_governor() -> None:
    """Down with no load, up with a full one, on past a CPU that goes and comes, and the fall-back
    at the end.
    """
    prepare()
    report = report_of(MACHINE, "scaling.py", timeout=300.0)
    low, high = report["low"], report["high"]
    steps = ("comes down", "goes up", "the other goes on", "it comes back", "and follows")
    assert [step for step in steps if not report[step]] == [], json.dumps(report, indent=1)
    assert report["idle"] == {
        "governor": ["userspace"] * 2,
        "setspeed": [str(low)] * 2,
        "cur_freq": [str(low)] * 2,
    }
    assert report["busy"]["setspeed"] == report["busy"]["cur_freq"]
    assert report["busy"]["setspeed"] == [str(high)] * 2
    assert report["at the end"]["setspeed"] == [str(high)] * 2
