"""Uncore entries of a machine, and the groups of files that set them."""

from kpm_applier import attributes as table
from kpm_applier.attributes import UNCORE_ROOT, Group, Kind, ManagedFile
from kpm_applier.sysfs.reader import Reader, as_number, is_number
from kpm_planner.model.machine import (
    UncoreEntry,
)


def discover_uncore(reader: Reader, groups: list[Group]) -> tuple[UncoreEntry, ...]:
    """Entries of the TPMI layout where there are any, else of the older one; both at once describe
    the same hardware.
    """
    names = reader.names(UNCORE_ROOT)
    tpmi = [name for name in names if name.startswith("uncore") and is_number(name[6:])]
    entries = []
    for name in tpmi or [name for name in names if name.startswith("package_")]:
        entry = _read_uncore(reader, name)
        if entry is not None:
            entries.append(entry)
            groups.append(uncore_group(entry))
    return tuple(entries)


def _read_uncore(reader: Reader, name: str) -> UncoreEntry | None:
    folder = f"{UNCORE_ROOT}/{name}"
    low, high = (
        as_number(reader.managed(f"{folder}/{row.file}"))
        for row in (table.UNCORE_MIN, table.UNCORE_MAX)
    )
    package, die = reader.identity(f"{folder}/package_id"), reader.identity(f"{folder}/die_id")
    words = name.split("_")
    if len(words) == 4 and is_number(words[1]) and is_number(words[3]):
        package, die = int(words[1]), int(words[3])
    if low is None or high is None:
        return None
    return UncoreEntry(
        name=name,
        package=package,
        die=die,
        domain=reader.identity(f"{folder}/domain_id"),
        cluster=reader.identity(f"{folder}/fabric_cluster_id"),
        hardware_min_khz=reader.number(f"{folder}/initial_min_freq_khz"),
        hardware_max_khz=reader.number(f"{folder}/initial_max_freq_khz"),
        min_khz=low,
        max_khz=high,
    )


def uncore_group(entry: UncoreEntry) -> Group:
    """Both ends of an entry."""
    files = tuple(
        ManagedFile(row, f"{UNCORE_ROOT}/{entry.name}/{row.file}", row.file)
        for row in (table.UNCORE_MIN, table.UNCORE_MAX)
    )
    low, high = entry.hardware_min_khz, entry.hardware_max_khz
    hardware = None if low is None or high is None else (str(low), str(high))
    return Group(
        f"uncore:{entry.name}",
        Kind.UNCORE,
        entry.name,
        driver="intel_uncore_frequency",
        files=files,
        cpus=(),
        hardware=hardware,
    )
