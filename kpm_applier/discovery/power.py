"""What caps the power of packages, and the fabrics of AMD packages, found on a host.

Zones and constraints are known by their names, never by their numbers, which say nothing of package
or limit (field reports 34, 36). Sub-zones, psys and the memory-mapped twin are not caps of a
package. AMD's own powercap zones have no limits: there the cap is a file of amd_hsmp_hwmon, or a
message of the HSMP.
"""

import errno
import re

from kpm_applier import attributes as table
from kpm_applier.attributes import (
    HSMP_ROOT,
    PLATFORM_ROOT,
    Group,
    Kind,
    ManagedFile,
)
from kpm_applier.sysfs.host import Host
from kpm_applier.sysfs.powercap import MMIO, RAPL, zone_folders
from kpm_applier.sysfs.reader import Reader, as_number
from kpm_planner.caps.division import MOST_UW
from kpm_planner.model.machine import Fabric, PowerLimit, PowerZone

_HWMON, _HSMP = "amd_hsmp_hwmon", "hsmp"
_PACKAGE = re.compile(r"package-([0-9]{1,5})(?:-die-([0-9]{1,5}))?")
_HSMP_DEVICE = re.compile(r"amd_hsmp(?:\..*)?|AMDI0097:.*")
_MOST_CONSTRAINTS = 8
_ROWS = {table.CAP_LONG.file: table.CAP_LONG, table.CAP_SHORT.file: table.CAP_SHORT}
_MILLI = 1000


def discover_zones(reader: Reader, groups: list[Group]) -> tuple[PowerZone, ...]:
    """Zones by package: RAPL's, else those of AMD's driver, else those of its mailbox."""
    zones = _rapl_zones(reader, groups)
    if not zones:
        # a sensor that cannot be read now is not replaced by the mailbox
        sensors = hwmon_sockets(reader)
        zones = _hwmon_zones(reader, sensors, groups) if sensors else _hsmp_zones(reader, groups)
    return tuple(sorted(zones, key=lambda zone: (zone.package, zone.die or 0, zone.id)))


def _rapl_zones(reader: Reader, groups: list[Group]) -> list[PowerZone]:
    found: dict[str, PowerZone] = {}
    folders = _named_zones(reader, RAPL)
    mirrors = {
        name: uw
        for name, folder in _named_zones(reader, MMIO).items()
        if (uw := _mirror(reader, folder)) is not None
    }
    for name, folder in folders.items():
        named = _PACKAGE.fullmatch(name)
        limits = _constraints(reader, folder) if named else ()
        if named is None or not limits:
            continue
        enabled = reader.managed(f"{folder}/enabled")
        die = None if named[2] is None else int(named[2])
        zone = PowerZone(
            folder,
            name,
            RAPL,
            package=int(named[1]),
            die=die,
            enabled=None if enabled is None else enabled == "1",
            limits=limits,
            mirror_uw=mirrors.get(name),
        )
        found[name] = zone
        groups.append(zone_group(zone, switch=enabled is not None))
    return list(found.values())


def _named_zones(reader: Reader, control: str) -> dict[str, str]:
    """Name of each top-level zone of a control type → its folder.

    Of two zones of one name, which no kernel makes, the first.
    """
    folders = reversed(zone_folders(reader, control))
    return {reader.text(f"{folder}/name") or "": folder for folder in folders}


def _constraints(reader: Reader, folder: str) -> tuple[PowerLimit, ...]:
    """The long- and short-term limits; peak_power is the hardware's own
    protection and stays alone.
    """
    found: dict[str, PowerLimit] = {}
    for number in range(_MOST_CONSTRAINTS):
        name = reader.text(f"{folder}/constraint_{number}_name")
        if name not in _ROWS or name in found:
            continue
        path = f"{folder}/constraint_{number}_power_limit_uw"
        text = reader.managed(path)
        top = reader.number(f"{folder}/constraint_{number}_max_power_uw")
        if reader.errors.get(path) == errno.ENOENT:
            del reader.errors[path]
        else:
            window = reader.number(f"{folder}/constraint_{number}_time_window_us") or None
            found[name] = PowerLimit(
                name, f"constraint_{number}_power_limit_uw", as_number(text), _sane(top), window
            )
    return tuple(found[name] for name in _ROWS if name in found)


def _sane(top: int | None) -> int | None:
    """A maximum of 0, or of more than the register holds, is not known."""
    return top if top is not None and 0 < top <= MOST_UW else None


def _mirror(reader: Reader, folder: str) -> int | None:
    """The long-term limit that a memory-mapped zone has in force; it is read only to be told
    (field report 35).
    """
    if reader.text(f"{folder}/enabled") == "0":
        return None
    numbers = (
        number
        for number in range(_MOST_CONSTRAINTS)
        if reader.text(f"{folder}/constraint_{number}_name") == table.CAP_LONG.file
    )
    return next(
        (
            reader.number(f"{folder}/constraint_{number}_power_limit_uw") or None
            for number in numbers
        ),
        None,
    )


def hwmon_sockets(reader: Reader) -> list[str]:
    """Folders of amd_hsmp_hwmon, one sensor a socket, in the order of the sockets (kernel,
    amd/hsmp/hwmon.c).
    """
    found = []
    for device in filter(_HSMP_DEVICE.fullmatch, reader.names(PLATFORM_ROOT)):
        base = f"{PLATFORM_ROOT}/{device}/hwmon"
        entries = (
            f"{base}/{entry}"
            for entry in sorted(reader.names(base), key=lambda name: (len(name), name))
        )
        # One whose name cannot be read keeps its number, or the next one would be taken for it.
        found += [folder for folder in entries if reader.text(f"{folder}/name") in (_HWMON, None)]
    return found


def _hwmon_zones(reader: Reader, sensors: list[str], groups: list[Group]) -> list[PowerZone]:
    """One that cannot be read now keeps its number from the others."""
    zones = [
        zone
        for socket, folder in enumerate(sensors)
        if (zone := _hwmon_zone(reader, folder, socket)) is not None
    ]
    groups += [zone_group(zone, switch=False) for zone in zones]
    return zones


def _hwmon_zone(reader: Reader, folder: str, socket: int) -> PowerZone | None:
    text = (
        reader.managed(f"{folder}/power1_cap") if reader.text(f"{folder}/name") == _HWMON else None
    )
    if text is None:
        return None
    limit = PowerLimit(
        table.CAP_ONLY.file,
        "power1_cap",
        as_number(text),
        _sane(reader.number(f"{folder}/power1_cap_max")),
    )
    return PowerZone(folder, f"socket-{socket}", _HWMON, socket, limits=(limit,))


def _hsmp_zones(reader: Reader, groups: list[Group]) -> list[PowerZone]:
    zones = []
    for number in _sockets(reader):
        folder = f"{HSMP_ROOT}/socket{number}"
        text = reader.managed(f"{folder}/power_limit_mw")
        if text is not None:
            limit, top = as_number(text), reader.number(f"{folder}/power_limit_max_mw")
            known = PowerLimit(
                table.CAP_ONLY.file,
                "power_limit_mw",
                None if limit is None else limit * _MILLI,
                _sane(None if top is None else top * _MILLI),
            )
            zones.append(PowerZone(folder, f"socket-{number}", _HSMP, number, limits=(known,)))
            groups.append(zone_group(zones[-1], switch=False))
    return zones


def power_marks(host: Host) -> tuple[object, ...]:
    """What changes when a driver of power limits comes or goes, or the memory-mapped twin of one
    limits otherwise.
    """
    reader = Reader(host, {}, {})
    mirrors = tuple(_mirror(reader, folder) for folder in _named_zones(reader, MMIO).values())
    devices = tuple(filter(_HSMP_DEVICE.fullmatch, reader.names(PLATFORM_ROOT)))
    return (tuple(_named_zones(reader, RAPL).items()), mirrors, devices, reader.names(HSMP_ROOT))


def zone_group(zone: PowerZone, *, switch: bool) -> Group:
    """The limits of a zone. switch: it has one that puts them in force."""
    rows = {table.CAP_ONLY.file: table.CAP_ONLY, **_ROWS}
    files = [
        ManagedFile(rows[limit.name], f"{zone.id}/{limit.file}", limit.name)
        for limit in zone.limits
    ]
    enabled = [ManagedFile(table.CAP_ENABLED, f"{zone.id}/enabled", "enabled")] if switch else []
    return Group(f"cap:{zone.name}", Kind.CAP, zone.id, zone.control, (*enabled, *files))


def zone_text(zone: PowerZone, uw: int) -> str:
    """A limit as the zone's file takes it: µW, but mW through the mailbox."""
    return str(uw // _MILLI if zone.control == _HSMP else uw)


def zone_uw(zone: PowerZone, text: str | None) -> int | None:
    """A limit as the zone's file shows it, in µW."""
    number = as_number(text)
    return None if number is None else number * _MILLI if zone.control == _HSMP else number


def discover_fabrics(reader: Reader, groups: list[Group]) -> tuple[Fabric, ...]:
    """The data fabric of every socket that the mailbox knows."""
    fabrics = []
    for number in _sockets(reader):
        path = f"{HSMP_ROOT}/socket{number}/{table.DF_PSTATE.file}"
        text = reader.managed(path)
        if text is not None:
            fabrics.append(
                Fabric(number, reader.number(f"{HSMP_ROOT}/socket{number}/protocol"), text)
            )
            groups.append(fabric_group(number))
    return tuple(fabrics)


def fabric_group(package: int) -> Group:
    """The data fabric of a package."""
    path = f"{HSMP_ROOT}/socket{package}/{table.DF_PSTATE.file}"
    files = (ManagedFile(table.DF_PSTATE, path, table.DF_PSTATE.file),)
    return Group(f"fabric:{package}", Kind.FABRIC, package, _HSMP, files)


def fabric_fault(reader: Reader) -> str:
    """Why a mailbox that is there is of no use."""
    return reader.text(f"{HSMP_ROOT}/fault") or ""


def _sockets(reader: Reader) -> list[int]:
    return sorted(
        int(name[6:])
        for name in reader.names(HSMP_ROOT)
        if name.startswith("socket") and name[6:].isascii() and name[6:].isdigit() and len(name) < 9
    )
