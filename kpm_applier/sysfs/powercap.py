"""Where the zones of the powercap framework are.

A zone is known by the name in it, never by its number, which says nothing of package or part (field
reports 34, 36); so whoever uses zones reads their names, and only the walk is here.
"""

import re

from kpm_applier.sysfs.reader import Reader

RAPL, MMIO = "intel-rapl", "intel-rapl-mmio"
#: As they are, and by links to there, which some dumps have alone.
_REAL, _LINKS = "devices/virtual/powercap", "class/powercap"


def zone_folders(reader: Reader, control: str) -> list[str]:
    """The folders of a control type's top-level zones, in the order of the kernel's names."""
    pattern = re.compile(rf"{control}:[0-9]{{1,5}}")
    for root in (f"{_REAL}/{control}", _LINKS):
        folders = [f"{root}/{entry}" for entry in reader.names(root) if pattern.fullmatch(entry)]
        if folders:
            return folders
    return []


def part_folders(reader: Reader, folder: str) -> list[str]:
    """The folders of a zone's parts: in it, or beside it where a dump has links alone."""
    parent, _, entry = folder.rpartition("/")
    pattern = re.compile(rf"{re.escape(entry)}:[0-9]{{1,5}}")
    inside = [f"{folder}/{name}" for name in reader.names(folder) if pattern.fullmatch(name)]
    return inside or [
        f"{parent}/{name}" for name in reader.names(parent) if pattern.fullmatch(name)
    ]
