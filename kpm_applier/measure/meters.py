"""The energy meters of a machine: found by name, told once where two show the same energy, and
read.

RAPL zones of the powercap framework; amd_energy and amd_hsmp_hwmon by socket where RAPL has no
packages; sensors of boards (boards.py); batteries that are being emptied, where nothing else tells
the machine. Read only. Sources: kernel documentation of powercap, hwmon and power_supply; field
reports 33 to 38.
"""

import re
from collections.abc import Iterable, Mapping

from attrs import define, evolve, field, frozen

from kpm_applier.discovery.power import hwmon_sockets
from kpm_applier.measure.boards import board_meters, chip_folders
from kpm_applier.sysfs.host import Host
from kpm_applier.sysfs.powercap import MMIO, RAPL, part_folders, zone_folders
from kpm_applier.sysfs.reader import Reader, as_number
from kpm_planner.energy.meters import Meter

_TOP = re.compile(r"package-([0-9]{1,5})(?:-die-([0-9]{1,5}))?")
_PSYS = re.compile(r"psys(?:-[0-9]{1,5})?")
_SUB = frozenset({"core", "uncore", "dram"})
_SOCKET = re.compile(r"Esocket([0-9]{1,5})")
_SUPPLY = "class/power_supply"
#: Between the names of batteries that are one meter.
_AND = "+"
#: Where each source is asked for, in the order of preference for what a package uses.
SOURCES = ("rapl", "amd_energy", "amd_hsmp_hwmon", "hwmon", "battery")


@frozen
class FoundMeters:
    """What was found. absent: source → why there is none of it."""

    meters: tuple[Meter, ...] = ()
    absent: tuple[tuple[str, str], ...] = ()


def discover_meters(host: Host) -> FoundMeters:
    """All meters of a host."""
    reader = Reader(host, {}, {})
    rapl, why = _rapl(host, reader)
    chips = chip_folders(reader)
    found = list(rapl)
    absent = [] if rapl else [("rapl", why)]
    for source, meters in (
        ("amd_energy", _amd_energy(reader, chips)),
        ("amd_hsmp_hwmon", _amd_sockets(reader, chips)),
    ):
        if not meters:
            absent.append((source, f"no hwmon chip {source}"))
        elif any(meter.zone == "package" for meter in found):
            absent.append((source, "the packages are measured already"))
        else:
            found += meters
    others = _others(
        reader, chips, packages_measured=any(meter.zone == "package" for meter in found)
    )
    absent += [] if others else [("hwmon", "no other power or energy input that is known")]
    batteries = _batteries(reader)
    if batteries and any(meter.zone == "platform" for meter in others):
        absent.append(("battery", "the machine is measured already"))
        batteries = []
    elif not batteries:
        absent.append(("battery", "no battery that tells its power"))
    return FoundMeters((*found, *others, *batteries), tuple(absent))


def _rapl(host: Host, reader: Reader) -> tuple[tuple[Meter, ...], str]:
    zones = zone_folders(reader, RAPL)
    found = [meter for folder in zones for meter in _zone_meters(reader, folder)]
    # the memory-mapped twin shows the same energy: only where it is alone
    if not any(meter.zone == "package" for meter in found):
        found += [
            meter for folder in zone_folders(reader, MMIO) for meter in _zone_meters(reader, folder)
        ]
    if not found:
        return (
            (),
            (
                "no energy counter below /sys/class/powercap"
                if not zones
                else f"{zones[0]}/energy_uj cannot be read"
            ),
        )
    return (
        tuple(
            sorted(
                _without_mirrors(host, found), key=lambda meter: (meter.zone, meter.place, meter.id)
            )
        ),
        "",
    )


def _zone_meters(reader: Reader, folder: str) -> list[Meter]:
    """A zone's own meter and those of its parts."""
    name = reader.text(f"{folder}/name") or ""
    named = _TOP.fullmatch(name)
    if named is None:
        top = _counter(reader, folder, "psys") if _PSYS.fullmatch(name) else None
        return [] if top is None else [top]
    package, die = int(named[1]), None if named[2] is None else int(named[2])
    own = _counter(reader, folder, "package", package, die)
    found = [] if own is None else [own]
    for part in part_folders(reader, folder):
        zone = reader.text(f"{part}/name") or ""
        meter = _counter(reader, part, zone, package, die) if zone in _SUB else None
        found += [] if meter is None else [meter]
    return found


def _counter(
    reader: Reader, folder: str, zone: str, package: int | None = None, die: int | None = None
) -> Meter | None:
    """A RAPL counter; None where there is no such file.

    One that cannot be read now, or holds no number, is a meter all the same.
    """
    path = f"{folder}/energy_uj"
    reader.managed(path)
    if reader.errors.get(path) is not None and "energy_uj" not in reader.names(folder):
        return None
    reach = reader.number(f"{folder}/max_energy_range_uj")
    return Meter(
        path,
        zone,
        "rapl",
        package=package,
        die=die,
        range_uj=reach if reach and reach > 0 else None,
    )


def _without_mirrors(host: Host, meters: Iterable[Meter]) -> list[Meter]:
    """Without dies that show their package's one counter again (Zen and Zen 2); a package of which
    one is left is measured as a whole.
    """
    groups: dict[tuple[str, int | None], list[Meter]] = {}
    for meter in meters:
        groups.setdefault((meter.zone, meter.package), []).append(meter)
    return [meter for group in groups.values() for meter in _once(host, group)]


def _once(host: Host, dies: list[Meter]) -> list[Meter]:
    """Those of one package; where any two are one counter, those that cannot be read are taken for
    it too.
    """
    kept: list[Meter] = []
    for meter in dies:
        if meter.die is None or not any(_same_counter(host, other, meter) for other in kept):
            kept.append(meter)
    if len(kept) == len(dies):
        return kept
    readable = [meter for meter in kept if read_meters(host, (meter,))[0] is not None]
    return [evolve(readable[0], die=None)] if len(readable) == 1 else readable


def _same_counter(host: Host, first: Meter, other: Meter) -> bool:
    """Read between two looks at the first, the other lies between them: no two counters that are
    not one do that.
    """
    before, between, after = (read_meters(host, (meter,))[0] for meter in (first, other, first))
    return (
        before is not None
        and between is not None
        and after is not None
        and 0 < before <= between <= after
    )


def _amd_energy(reader: Reader, chips: Iterable[tuple[str, str]]) -> list[Meter]:
    """Counters of the sockets; those of single cores are no zone of their own."""
    found = []
    for folder, name in chips:
        for entry in reader.names(folder) if name == "amd_energy" else ():
            number = re.fullmatch(r"energy([0-9]{1,4})_input", entry)
            label = (
                _SOCKET.fullmatch(reader.text(f"{folder}/energy{number[1]}_label") or "")
                if number
                else None
            )
            if label:
                found.append(Meter(f"{folder}/{entry}", "package", "amd_energy", int(label[1])))
    return sorted(found, key=lambda meter: (meter.package or 0, meter.id))


def _amd_sockets(reader: Reader, chips: Iterable[tuple[str, str]]) -> list[Meter]:
    """One sensor a socket, numbered as the caps are; in dumps without devices, in the order of the
    chips.
    """
    folders = hwmon_sockets(reader) or [
        folder for folder, name in chips if name == "amd_hsmp_hwmon"
    ]
    known = [f"{folder}/power1_input" for folder in folders]
    return [
        Meter(path, "package", "amd_hsmp_hwmon", number, power=True)
        for number, path in enumerate(known)
        if "power1_input" in reader.names(path.rpartition("/")[0])
    ]


def _others(
    reader: Reader, chips: Iterable[tuple[str, str]], *, packages_measured: bool
) -> list[Meter]:
    """Sensors of boards, machines and processors; not the chips that the kernel makes of power
    supplies (power_supply_hwmon.c).
    """
    beside = {
        "amd_energy",
        "amd_hsmp_hwmon",
        *(name.replace("-", "_") for name in reader.names(_SUPPLY)),
    }
    return board_meters(
        reader,
        [chip for chip in chips if chip[1] not in beside],
        packages_measured=packages_measured,
    )


def _batteries(reader: Reader) -> list[Meter]:
    """The batteries of the machine that tell their power, together: it empties one after the other.

    Those of mice and the like are devices'.
    """
    names = [entry for entry in reader.names(_SUPPLY) if _is_battery(reader, f"{_SUPPLY}/{entry}")]
    return (
        [Meter(f"{_SUPPLY}/{_AND.join(names)}", "platform", "battery", power=True)] if names else []
    )


def _is_battery(reader: Reader, folder: str) -> bool:
    names = set(reader.names(folder))
    tells = "power_now" in names or {"current_now", "voltage_now"} <= names
    return (
        tells
        and reader.text(f"{folder}/type") == "Battery"
        and not ("scope" in names and reader.text(f"{folder}/scope") == "Device")
        and _AND not in folder
    )


def read_meters(host: Host, meters: Iterable[Meter]) -> list[int | None]:
    """What each shows now, µJ or µW; None for one that cannot be read or shows no number from 0,
    and for batteries that none is taken from.
    """
    known = tuple(meters)
    paths = files_of(known)
    contents = dict(zip(paths, host.read_all(paths), strict=True)) if paths else {}
    return [
        (
            _emptied(Reader(host, {}, {}), meter.id)
            if meter.source == "battery"
            else _shown(contents, meter)
        )
        for meter in known
    ]


def files_of(meters: Iterable[Meter]) -> list[str]:
    """The files that are kept open."""
    return [
        path
        for meter in meters
        if meter.source != "battery"
        for path in (meter.id, meter.volts)
        if path
    ]


def _shown(contents: Mapping[str, bytes | OSError], meter: Meter) -> int | None:
    value = _number(contents[meter.id])
    if not meter.volts or value is None:
        return value
    volts = _number(contents[meter.volts])
    return None if volts is None else value * volts


def _number(content: bytes | OSError) -> int | None:
    return (
        None
        if isinstance(content, OSError)
        else as_number(content.decode("ascii", "replace").strip())
    )


def _emptied(reader: Reader, path: str) -> int | None:
    """What the machine's batteries give together; None while one is charged or none is emptied, as
    they do not tell what the machine uses then.
    """
    parent, _, names = path.rpartition("/")
    folders = [f"{parent}/{name}" for name in names.split(_AND)]
    status = {folder: reader.text(f"{folder}/status") for folder in folders}
    given = [_given(reader, folder) for folder in folders if status[folder] == "Discharging"]
    if not given or None in given or "Charging" in status.values():
        return None
    return sum(power for power in given if power is not None)


def _given(reader: Reader, folder: str) -> int | None:
    power = reader.number(f"{folder}/power_now") if "power_now" in reader.names(folder) else None
    if power is not None:
        return abs(power)
    current, voltage = (
        reader.number(f"{folder}/current_now"),
        reader.number(f"{folder}/voltage_now"),
    )
    return None if current is None or voltage is None else abs(current) * abs(voltage) // 1_000_000


@define
class MeterReader:
    """Reads meters again and again through kept descriptors; one whose file has gone is looked for
    anew.
    """

    host: Host
    meters: tuple[Meter, ...] = ()
    _kept: bool = field(default=False)

    def read(self) -> dict[str, int | None]:
        """Meter id → what it shows."""
        if not self._kept:
            self.host.keep(files_of(self.meters))
            self._kept = True
        values = dict(
            zip(
                (meter.id for meter in self.meters),
                read_meters(self.host, self.meters),
                strict=True,
            )
        )
        if any(values[meter.id] is None for meter in self.meters if meter.source != "battery"):
            self.host.forget()
            self._kept = False
        return values
