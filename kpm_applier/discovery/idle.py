"""Idle states of a machine and their limits, and the groups of files that set them."""

from kpm_applier import attributes as table
from kpm_applier.attributes import CPU_ROOT, Group, Kind, ManagedFile
from kpm_applier.sysfs.reader import Reader, is_number
from kpm_planner.model.machine import (
    IdleState,
)
from kpm_planner.model.objects import LARGEST_EPB
from kpm_planner.model.target import SHOWN


def discover_idle(
    reader: Reader, cpu: int, online: bool, driver: str, groups: list[Group]
) -> tuple[IdleState, ...]:
    """The idle states of a CPU, with the group of their switches."""
    folder = f"{CPU_ROOT}/cpu{cpu}/cpuidle"
    numbers = sorted(
        int(name[5:])
        for name in reader.names(folder)
        if name.startswith("state") and name[5:].isascii() and name[5:].isdigit()
    )
    states, files = [], []
    for number in numbers:
        base = f"{folder}/state{number}"
        name, disable = (
            reader.text(f"{base}/name"),
            reader.managed(f"{base}/{table.IDLE_DISABLE.file}"),
        )
        if name is None or disable is None:
            continue
        default = reader.text(f"{base}/default_status")
        states.append(
            IdleState(
                number,
                name,
                reader.number(f"{base}/latency") or 0,
                disable == "0",
                None if default is None else default == "enabled",
            )
        )
        files.append(
            ManagedFile(
                table.IDLE_DISABLE, f"{base}/{table.IDLE_DISABLE.file}", f"state{number}", number
            )
        )
    if files:
        groups.append(
            Group(f"idle:{cpu}", Kind.IDLE, cpu, driver, tuple(files), (cpu,) if online else ())
        )
    return tuple(states)


def discover_alone(
    reader: Reader, cpu: int, online: bool, groups: list[Group], *, one_register: bool
) -> dict[str, str]:
    """What a CPU has alone beside its idle states: field of a CPU → text. Most dumps have none.

    one_register: its EPP is kept in the register of the energy performance bias, which so is no
    setting of its own.
    """
    found = {}
    for attribute, fits in _ALONE:
        if attribute is table.ENERGY_BIAS and one_register:
            continue
        path = f"{CPU_ROOT}/cpu{cpu}/power/{attribute.file}"
        text = reader.managed(path)
        if text is None or not fits(text):
            reader.errors.pop(path, None)
            continue
        found[SHOWN[attribute.asks]] = text
        files = (ManagedFile(attribute, path, attribute.file),)
        key, cpus = f"{attribute.prefix}:{cpu}", (cpu,) if online else ()
        groups.append(Group(key, Kind.CPU, cpu, attribute.driver, files, cpus))
    return found


def _is_latency(text: str) -> bool:
    return text == "n/a" or is_number(text)


def _is_bias(text: str) -> bool:
    return is_number(text) and len(text) <= 2 and int(text) <= LARGEST_EPB


#: Which texts each such file has.
_ALONE = ((table.RESUME_LATENCY, _is_latency), (table.ENERGY_BIAS, _is_bias))
