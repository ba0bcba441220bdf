"""Power sensors of boards and machines: what each of them measures, and the one choice that tells
the whole machine.

Sensors contain each other: a supply's total is the sum of its rails, an ACPI meter shows what the
supplies take in, a module holds its processor. So nothing is added up that is not known to lie side
by side: the machine is what one kind of sensor says, the best that there is; all others that are
known to be parts keep their label as their zone. Sources: kernel documentation of hwmon
(sysfs-interface, acpi_power_meter, pmbus-core, corsair-psu, ina3221, macsmc-hwmon), NVIDIA's Grace
tuning guide (power1_oem_info).
"""

import re
from collections.abc import Iterable, Sequence
from enum import IntEnum

from attrs import evolve, frozen

from kpm_applier.sysfs.reader import Reader
from kpm_planner.energy.meters import ZONES, Meter

HWMON = "class/hwmon"
#: Chips of what is neither processor nor machine: graphics and other accelerators, disks, networks
#: and their modules, input devices.
_STRANGERS = re.compile(
    r"(?:amdgpu|radeon|nouveau|nvidia|i915|xe|wormhole|blackhole|grayskull|habanalabs|hl|qaic|nvme|drivetemp|ucsi_source_psy|sfp|mlx\d|bnxt|be2net|"
    r"i40e|ixgbe|ice|igb|tg3|r8169|iwlwifi|ath\d+k|mt7\d+|hidpp_battery|hid|asus_rog|corsaircpro|corsaircommander|nzxt|aquacomputer)(?:[_-].*|\d.*)?",
    re.DOTALL,
)
#: PCI classes of the same: storage, network, display, processing accelerators.
_STRANGE_CLASSES = re.compile(r"0x(?:01|02|03|12)[0-9a-f]{4}")
_SUPPLIES = re.compile(
    r"pmbus|dps\d+.*|(?:ibm_)?cffps\d*|ipsps\d*|pfe\d+|(?:intel_)?crps\d*|bp[ad]_rs600|ym2151e?|yh5151e?|fsg032|acbel.*|corsairpsu|psu.*",
    re.DOTALL,
)
_PROCESSORS = frozenset({"zenpower", "fam15h_power"})
#: Sensors of volts and amperes that a board puts in its rails.
_VOLTS_AND_AMPERES = re.compile(r"ina\d+|isl28022|pac193\d|ltc\d+|adm1\d+", re.DOTALL)
_CHANNEL = re.compile(r"(power|energy)([0-9]{1,3})_(average|input)")
_MODULE = re.compile(r"module power socket ([0-9]{1,3})")
_CPU = re.compile(r"cpu power socket ([0-9]{1,3})")
_TOTAL = re.compile(
    r"(?:power total|total(?: system)?(?: power)?|system(?: total)?(?: power)?|psu total)"
)
_TAKEN_IN = re.compile(r"(?:pin[0-9]*|iin|vin|input power|ac input power|psu input power)")
_BOARD_INPUT = re.compile(r"(?:pom_5v_in|vdd_in)")
#: Channels of an INA3221 that are rails; the others are its shunts and their sum.
_RAILS = frozenset({1, 2, 3})
_LONGEST_LABEL = 48
#: Of a meter that does not say over how long it averages, ms.
_LONGEST_INTERVAL = 1 << 30


class Whole(IntEnum):
    """Ways to tell what the machine takes, the best first."""

    ACPI = 1
    MODULES = 2
    TOTAL = 3
    SUPPLIES = 4
    BOARD = 5


@frozen
class Sensor:
    """One channel of a chip. whole: how it tells the machine, None where it does not; interval:
    over which it averages, ms.
    """

    folder: str
    meter: Meter
    label: str = ""
    whole: Whole | None = None
    interval: int = 0


def chip_folders(reader: Reader) -> list[tuple[str, str]]:
    """Folder and name of each hwmon chip; a driver of the old kind has its files one folder further
    down.
    """
    found = []
    for entry in sorted(reader.names(HWMON), key=lambda name: (len(name), name)):
        folder = f"{HWMON}/{entry}"
        name = reader.text(f"{folder}/name") or reader.text(f"{folder}/device/name") or ""
        old = not _has_channels(reader, folder) and _has_channels(reader, f"{folder}/device")
        found.append((f"{folder}/device" if old else folder, name))
    return found


def board_meters(
    reader: Reader, chips: Iterable[tuple[str, str]], *, packages_measured: bool
) -> list[Meter]:
    """The meters of boards, machines and, where nothing else measures packages, of processors.
    chips: those that may be meant.
    """
    known = [(folder, name) for folder, name in chips if not _is_strange(reader, folder, name)]
    processors = [folder for folder, name in known if name in _PROCESSORS]
    sensors = [
        sensor for folder, name in known for sensor in _sensors(reader, folder, name, processors)
    ]
    found = [sensor.meter for sensor in _machine(sensors)]
    found += [
        sensor.meter
        for sensor in sensors
        if sensor.whole is None and not (packages_measured and sensor.meter.package is not None)
    ]
    return found


def _has_channels(reader: Reader, folder: str) -> bool:
    return any(_CHANNEL.fullmatch(entry) for entry in reader.names(folder))


def _is_strange(reader: Reader, folder: str, name: str) -> bool:
    """Whether a chip belongs to what is neither processor nor machine."""
    device = folder if folder.endswith("/device") else f"{folder}/device"
    kind = reader.text(f"{device}/class") if "class" in reader.names(device) else None
    return _STRANGERS.fullmatch(name) is not None or (
        kind is not None and _STRANGE_CLASSES.fullmatch(kind) is not None
    )


def _sensors(reader: Reader, folder: str, name: str, processors: Sequence[str]) -> list[Sensor]:
    """The channels of one chip that are on, each with what it measures."""
    channels = _channels(reader, folder) or (
        _products(reader, folder, name) if _VOLTS_AND_AMPERES.fullmatch(name) else []
    )
    package = processors.index(folder) if folder in processors else None
    return [
        _judged(reader, folder, name, meter=meter, channel=channel, package=package)
        for meter, channel in channels
    ]


def _channels(reader: Reader, folder: str) -> list[tuple[Meter, str]]:
    """Energy counters; where there are none, power, and of a channel with average and input the
    average. Each with the begin of its files' names.
    """
    energies: dict[int, tuple[Meter, str]] = {}
    powers: dict[int, tuple[Meter, str]] = {}
    for entry in sorted(reader.names(folder)):  # average before input
        match = _CHANNEL.fullmatch(entry)
        if match is not None and _is_on(reader, folder, f"{match[1]}{match[2]}"):
            meter = Meter(f"{folder}/{entry}", "platform", "hwmon", power=match[1] == "power")
            (powers if meter.power else energies).setdefault(
                int(match[2]), (meter, f"{match[1]}{match[2]}")
            )
    found = energies or powers
    return [found[index] for index in sorted(found)]


def _products(reader: Reader, folder: str, name: str) -> list[tuple[Meter, str]]:
    """Channels that tell volts and amperes alone."""
    names = reader.names(folder)
    indices = sorted(
        int(match[1]) for entry in names if (match := re.fullmatch(r"in([0-9]{1,3})_input", entry))
    )
    return [
        (
            Meter(
                f"{folder}/curr{index}_input",
                "platform",
                "hwmon",
                power=True,
                volts=f"{folder}/in{index}_input",
            ),
            f"in{index}",
        )
        for index in indices
        if f"curr{index}_input" in names
        and (name != "ina3221" or index in _RAILS)
        and _is_on(reader, folder, f"in{index}")
    ]


def _is_on(reader: Reader, folder: str, channel: str) -> bool:
    return (
        f"{channel}_enable" not in reader.names(folder)
        or reader.text(f"{folder}/{channel}_enable") != "0"
    )


def _judged(
    reader: Reader, folder: str, name: str, meter: Meter, channel: str, package: int | None
) -> Sensor:
    """A channel with what it measures. package: of a processor's own chip."""
    present = reader.names(folder)
    texts = [
        reader.text(f"{folder}/{channel}_{word}")
        for word in ("label", "oem_info")
        if f"{channel}_{word}" in present
    ]
    label = next((text.strip() for text in texts if text and text.strip()), "")
    cpu = _CPU.fullmatch(label.lower())
    if cpu is not None or package is not None:
        return Sensor(
            folder,
            evolve(meter, zone="package", package=int(cpu[1]) if cpu is not None else package),
            label,
        )
    whole = _whole(name, label.lower())
    if whole is None:
        return Sensor(folder, evolve(meter, zone=_zone(label or f"{name} {channel}")), label)
    timed = f"{channel}_average_interval" in present
    return Sensor(
        folder,
        meter,
        label,
        whole,
        (reader.number(f"{folder}/{channel}_average_interval") or 0) if timed else 0,
    )


def _whole(name: str, words: str) -> Whole | None:
    """How a channel tells the machine, by its chip and its label in small letters; None for a part,
    or for what nobody knows.
    """
    supply = _SUPPLIES.fullmatch(name) is not None
    if _MODULE.fullmatch(words):
        return Whole.MODULES
    if name == "power_meter" and (not words or "socket" not in words):
        return Whole.ACPI
    if supply and (_TOTAL.fullmatch(words) or _TAKEN_IN.fullmatch(words)):
        return Whole.SUPPLIES
    if _TOTAL.fullmatch(words):
        return Whole.TOTAL
    return (
        Whole.BOARD
        if _BOARD_INPUT.fullmatch(words) and _VOLTS_AND_AMPERES.fullmatch(name)
        else None
    )


def _machine(sensors: Iterable[Sensor]) -> list[Sensor]:
    """What tells the whole machine: of one kind, the best, and of that one sensor, or those that
    lie side by side.
    """
    wholes = [sensor for sensor in sensors if sensor.whole is not None]
    best = min((sensor.whole for sensor in wholes if sensor.whole is not None), default=None)
    found = [sensor for sensor in wholes if sensor.whole is best]
    if best is Whole.MODULES:
        return list({sensor.label.lower(): sensor for sensor in reversed(found)}.values())[::-1]
    if best is Whole.SUPPLIES:
        folders = dict.fromkeys(sensor.folder for sensor in found)
        return [
            min((sensor for sensor in found if sensor.folder == folder), key=_of_supply)
            for folder in folders
        ]
    return sorted(found, key=lambda sensor: sensor.interval or _LONGEST_INTERVAL)[:1]


def _of_supply(sensor: Sensor) -> bool:
    """Sort key: what a supply takes in before what it gives."""
    return _TAKEN_IN.fullmatch(sensor.label.lower()) is None


def _zone(label: str) -> str:
    """A part's label as the name of its zone; never one that means something else."""
    plain = "".join(
        char if char.isascii() and char.isprintable() and char not in '"\\' else "_"
        for char in label
    )[:_LONGEST_LABEL].strip()
    return f"part {plain}" if plain in ZONES or not plain else plain
