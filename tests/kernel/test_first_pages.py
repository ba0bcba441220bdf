"""On a real kernel, the first pages go as they say: root types their commands one by one."""

from __future__ import annotations

import pytest

from tests.docs.commands import HERE, all_commands
from tests.docs.test_commands import FIRST_PAGES
from tests.kernel.lab import LabMachine, prepare
from tests.kernel.lab_python import report_of

pytestmark = pytest.mark.kernel
TIMEOUT = 400.0


@pytest.mark.parametrize("driver", ["amd-pstate-epp", "cppc_cpufreq"])
def test_the_commands_of_the_first_pages_end_as_they_say(driver: str) -> None:
    """Blocks for anybody and blocks for root, in order; at the end all files are as at boot."""
    prepare()
    report = report_of(LabMachine(driver=driver), "first_pages.py", *FIRST_PAGES, timeout=TIMEOUT)
    wrong = [item for item in report["commands"] if item[2] != item[3] or "Traceback" in item[4]]
    assert wrong == []
    typed = [item[1] for item in report["commands"]]
    asked = [
        item.line for page in FIRST_PAGES for item in all_commands()[page] if item.where in HERE
    ]
    assert typed == asked
    assert sum("apply" in line and "--dry-run" not in line for line in typed) >= 2
    assert report["after"] == report["before"]
