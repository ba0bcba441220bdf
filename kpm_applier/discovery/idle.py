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
    found = (_idle_state(reader, f"{folder}/state{number}", number) for number in numbers)
    states = tuple(state for state in found if state is not None)
    if states:
        groups.append(idle_group(cpu, states, driver, online=online))
    return states


def idle_group(cpu: int, states: tuple[IdleState, ...], driver: str, *, online: bool) -> Group:
    """The switches of a CPU's idle states."""
    folder, row = f"{CPU_ROOT}/cpu{cpu}/cpuidle", table.IDLE_DISABLE
    files = tuple(
        ManagedFile(row, f"{folder}/{state}/{row.file}", state, number)
        for number, state in ((item.index, f"state{item.index}") for item in states)
    )
    cpus = (cpu,) if online else ()
    return Group(f"idle:{cpu}", Kind.IDLE, cpu, driver=driver, files=files, cpus=cpus)


def _idle_state(reader: Reader, folder: str, number: int) -> IdleState | None:
    """One state; None where its name or its switch cannot be read."""
    name = reader.text(f"{folder}/name")
    disable = reader.managed(f"{folder}/{table.IDLE_DISABLE.file}")
    if name is None or disable is None:
        return None
    default = reader.text(f"{folder}/default_status")
    return IdleState(
        number,
        name,
        reader.number(f"{folder}/latency") or 0,
        enabled=disable == "0",
        default_enabled=None if default is None else default == "enabled",
    )


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
        group = alone_group(cpu, attribute, online=online)
        path = group.paths[0]
        text = reader.managed(path)
        if text is None or not fits(text):
            reader.errors.pop(path, None)
            continue
        found[SHOWN[attribute.asks]] = text
        groups.append(group)
    return found


def alone_group(cpu: int, attribute: table.Attribute, *, online: bool) -> Group:
    """One of what a CPU has alone."""
    path = f"{CPU_ROOT}/cpu{cpu}/power/{attribute.file}"
    files = (ManagedFile(attribute, path, attribute.file),)
    key, cpus = f"{attribute.prefix}:{cpu}", (cpu,) if online else ()
    return Group(key, Kind.CPU, cpu, driver=attribute.driver, files=files, cpus=cpus)


def _is_latency(text: str) -> bool:
    return text == "n/a" or is_number(text)


def _is_bias(text: str) -> bool:
    return is_number(text) and len(text) <= 2 and int(text) <= LARGEST_EPB


#: Which texts each such file has.
_ALONE = ((table.RESUME_LATENCY, _is_latency), (table.ENERGY_BIAS, _is_bias))
