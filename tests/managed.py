"""What the managed files of a machine show, below a folder that is laid out like
/sys/devices/system/cpu.
"""

from __future__ import annotations

import errno
import time
from pathlib import Path

NAMES = (
    "scaling_min_freq",
    "scaling_max_freq",
    "scaling_governor",
    "energy_performance_preference",
    "disable",
    "min_freq_khz",
    "max_freq_khz",
)
#: Those outside of that folder: limits of power and their switches, P-states of fabrics.
POWER = ("power_limit_uw", "enabled", "power1_cap", "power_limit_mw", "df_pstate")


def managed_files(root: Path) -> dict[str, str]:
    """Path below the root → text."""
    return {
        str(path.relative_to(root)): text_of(path)
        for path in sorted(root.rglob("*"))
        if path.name in NAMES and not path.is_symlink() and path.is_file()
    }


def power_files(sysfs: Path) -> dict[str, str]:
    """Path below /sys → text."""
    folders = [
        sysfs / name
        for name in ("devices/virtual/powercap", "devices/platform", "hsmp")
        if (sysfs / name).is_dir()
    ]
    return {
        str(path.relative_to(sysfs)): text_of(path)
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.name.endswith(POWER)
    }


def text_of(path: Path) -> str:
    """A file's text, or the error's name where a CPU that is offline has none.

    A plain file is empty for a moment while it is written, which a file of sysfs never is.
    """
    for _ in range(1000):
        try:
            text = path.read_text().strip()
        except OSError as failure:
            if failure.errno == errno.ENOENT:
                raise
            return errno.errorcode[failure.errno or 0]
        if text:
            return text
        time.sleep(0.001)
    raise AssertionError(f"{path} stays empty")
