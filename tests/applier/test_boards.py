"""Sensors of boards and machines: the whole told once by the best that there is, parts by their
labels, what belongs to others left out.

Sources: field reports 34, 37, 38; the kernel's documentation of hwmon; recorded and reported
machines.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
from attrs import field, frozen
from hypothesis import given
from hypothesis import strategies as st

from kpm_applier.measure import boards
from kpm_applier.measure.meters import MeterReader, discover_meters, read_meters
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.energy.meters import WHOLE, ZONES, Meter
from tests.applier import rig
from tests.applier.power import RAPL
from tests.kpm.tree_samples import put

HWMON = "class/hwmon"
W = 1_000_000
UNKNOWN = "no other power or energy input that is known"


@frozen
class Chip:
    """A chip of hwmon. watts: label → W, by its channels in order; volts: label → V and A; files:
    anything else.
    """

    name: str
    watts: Mapping[str, float] = field(factory=dict, hash=False)
    volts: Mapping[str, tuple[float, float]] = field(factory=dict, hash=False)
    files: Mapping[str, object] = field(factory=dict, hash=False)

    def build(self, root: Path, folder: str) -> None:
        """Its files; a label that is empty, or begins with a blank, is no file."""
        put(root, f"{folder}/name", self.name)
        for number, (label, watts) in enumerate(self.watts.items(), 1):
            put(root, f"{folder}/power{number}_input", round(watts * W))
            if label.strip():
                put(root, f"{folder}/power{number}_label", label)
        for number, (label, (volts, amperes)) in enumerate(self.volts.items(), 1):
            put(root, f"{folder}/in{number}_input", round(volts * 1000))
            put(root, f"{folder}/curr{number}_input", round(amperes * 1000))
            if label.strip():
                put(root, f"{folder}/in{number}_label", label)
        for file, value in self.files.items():
            put(root, f"{folder}/{file}", value)


def acpi(watts: float, interval: object = None, about: str | None = None) -> Chip:
    """An ACPI power meter. interval: over which it averages, ms; about: what the firmware says of
    it.
    """
    files: dict[str, object] = {"power1_average": round(watts * W)}
    files |= {} if interval is None else {"power1_average_interval": interval}
    return Chip("power_meter", files=files | ({} if about is None else {"power1_oem_info": about}))


def rapl(root: Path) -> None:
    """One package that RAPL measures."""
    put(root, f"{RAPL}/intel-rapl:0/name", "package-0")
    put(root, f"{RAPL}/intel-rapl:0/energy_uj", 5)


def host_with(root: Path, chips: Iterable[Chip], numbers: Iterable[int] | None = None) -> SysfsHost:
    """A machine of these chips. numbers: of hwmon, else from 0."""
    known = list(chips)
    for number, chip in zip(range(len(known)) if numbers is None else numbers, known, strict=True):
        chip.build(root, f"{HWMON}/hwmon{number}")
    (root / HWMON).mkdir(parents=True, exist_ok=True)
    return SysfsHost(str(root))


def told(host: SysfsHost) -> list[tuple[str, str, float | None]]:
    """Zone, place and watts of what the sensors of boards show, in order."""
    meters = [meter for meter in discover_meters(host).meters if meter.source == "hwmon"]
    shown = zip(meters, read_meters(host, meters), strict=True)
    return [(meter.zone, meter.place, None if uw is None else uw / W) for meter, uw in shown]


def machine(*watts: float) -> list[tuple[str, str, float]]:
    """What tells the whole."""
    return [("platform", "node", each) for each in watts]


def part(zone: str, watts: float) -> tuple[str, str, float]:
    """One of it."""
    return (zone, "node", watts)


def package(number: int, watts: float) -> tuple[str, str, float]:
    """A processor."""
    return ("package", f"package-{number}", watts)


CORSAIR = Chip(
    "corsairpsu", {"power total": 174, "power +12v": 134, "power +5v": 24.5, "power +3.3v": 11.5}
)
CORSAIR_RAILS = [part("power +12v", 134), part("power +5v", 24.5), part("power +3.3v", 11.5)]
APPLE = Chip(
    "macsmc_hwmon",
    {"Total System Power": 21, "AC Input Power": 24, "3.8 V Rail Power": 9, "Heatpipe Power": 7},
)
APPLE_PARTS = [part("AC Input Power", 24), part("3.8 V Rail Power", 9), part("Heatpipe Power", 7)]
SUPPLY = Chip("pmbus", {"pin": 100, "pout1": 92})
ORIN_NX = Chip(
    "ina3221", volts={"VDD_IN": (5, 2), "VDD_CPU_GPU_CV": (5, 0.8), "VDD_SOC": (4.904, 0.5)}
)
ORIN_PARTS = [part("VDD_CPU_GPU_CV", 4), part("VDD_SOC", 2.452)]
ZENPOWER = Chip("zenpower", {"SVI2_P_Core": 75.04, "SVI2_P_SoC": 18.03})
FAM15H = Chip("fam15h_power", {"": 45}, files={"power1_crit": 115 * W})


def grace(socket: int, more: float = 0.0) -> tuple[Chip, ...]:
    """The sensors of one of NVIDIA's modules: it holds the superchip, that the CPU and its inputs
    and outputs.
    """
    words = {"Module": 300, "Grace": 220, "CPU": 150, "SysIO": 30}
    return tuple(
        acpi(watts + more, 50, f"{word} Power Socket {socket}") for word, watts in words.items()
    )


#: Chips → what is told of them where nothing else measures.
MACHINES: dict[str, tuple[tuple[Chip, ...], list[tuple[str, str, float]]]] = {
    # supplies
    "a supply's total and its rails": ((CORSAIR,), [*machine(174), *CORSAIR_RAILS]),
    "a supply's input and output": ((SUPPLY,), [*machine(100), part("pout1", 92)]),
    "two supplies": (
        (SUPPLY, Chip("pmbus", {"pin": 110, "pout1": 101})),
        [*machine(100, 110), part("pout1", 92), part("pout1", 101)],
    ),
    "two supplies of other kinds": (
        (Chip("cffps1", {"pout1": 470, "pin": 500}), CORSAIR),
        [*machine(500, 174), part("pout1", 470), *CORSAIR_RAILS],
    ),
    "a supply of two outputs": (
        (Chip("dps800", {"pin": 200, "pout1": 150, "pout2": 30}),),
        [*machine(200), part("pout1", 150), part("pout2", 30)],
    ),
    "a supply that tells its output alone": (
        (Chip("pfe1100", {"pout1": 92}),),
        [part("pout1", 92)],
    ),
    "a supply without labels": (
        (Chip("pmbus", {"": 92, " ": 93}),),
        [part("pmbus power1", 92), part("pmbus power2", 93)],
    ),
    # ACPI
    "an ACPI meter": ((acpi(294, 1000),), machine(294)),
    "two ACPI meters of one machine": ((acpi(165, 1000), acpi(169, 60_000)), machine(165)),
    "two ACPI meters, the slow one first": ((acpi(169, 60_000), acpi(165, 1000)), machine(165)),
    "two ACPI meters, one without an interval": ((acpi(169), acpi(165, 60_000)), machine(165)),
    "two ACPI meters, one with an interval that says nothing": (
        (acpi(169, 0), acpi(168, "x"), acpi(165, 60_000)),
        machine(165),
    ),
    "two ACPI meters without intervals": ((acpi(165), acpi(169)), machine(165)),
    "an ACPI meter of which the firmware says something": (
        (acpi(165, 1000, "Contoso rack meter"),),
        machine(165),
    ),
    # the best of several
    "ACPI before supplies": (
        (SUPPLY, Chip("pmbus", {"pin": 110}), acpi(205)),
        [*machine(205), part("pout1", 92)],
    ),
    "ACPI before a machine's total": ((APPLE, acpi(22)), [*machine(22), *APPLE_PARTS]),
    "a machine's total before supplies": (
        (SUPPLY, APPLE),
        [*machine(21), part("pout1", 92), *APPLE_PARTS],
    ),
    "supplies before rails": ((ORIN_NX, CORSAIR), [*machine(174), *ORIN_PARTS, *CORSAIR_RAILS]),
    "ACPI before rails": ((ORIN_NX, acpi(12)), [*machine(12), *ORIN_PARTS]),
    # machines that tell their total
    "a total beside what it holds": ((APPLE,), [*machine(21), *APPLE_PARTS]),
    "a module of one socket": (
        grace(0),
        [
            *machine(300),
            part("Grace Power Socket 0", 220),
            package(0, 150),
            part("SysIO Power Socket 0", 30),
        ],
    ),
    "modules of two sockets": (
        (*grace(0), *grace(1, 5)),
        [
            *machine(300, 305),
            *(part("Grace Power Socket 0", 220), package(0, 150), part("SysIO Power Socket 0", 30)),
            *(part("Grace Power Socket 1", 225), package(1, 155), part("SysIO Power Socket 1", 35)),
        ],
    ),
    "modules in a machine with a meter of its own": (
        (*grace(0), acpi(800, 1000)),
        [
            *machine(800),
            part("Grace Power Socket 0", 220),
            package(0, 150),
            part("SysIO Power Socket 0", 30),
        ],
    ),
    "a module that is told twice": (
        (acpi(300, 50, "Module Power Socket 0"), acpi(301, 50, "module power socket 0")),
        machine(300),
    ),
    # volts and amperes
    "rails with that of the input": ((ORIN_NX,), [*machine(10), *ORIN_PARTS]),
    "rails with that of an older board's input": (
        (
            Chip(
                "ina3221",
                volts={"POM_5V_IN": (5, 1), "POM_5V_GPU": (5, 0.1), "POM_5V_CPU": (5, 0.2)},
            ),
        ),
        [*machine(5), part("POM_5V_GPU", 0.5), part("POM_5V_CPU", 1)],
    ),
    "rails alone": (
        (Chip("ina3221", volts={"GPU": (19, 0.1), "CPU": (19, 0.05), "SOC": (19, 0.2)}),),
        [part("GPU", 1.9), part("CPU", 0.95), part("SOC", 3.8)],
    ),
    "rails without labels": (
        (Chip("ina3221", volts=dict.fromkeys(("", " ", "  "), (5, 2))),),
        [part(f"ina3221 in{number}", 10) for number in (1, 2, 3)],
    ),
    "another sensor of volts and amperes": (
        (Chip("isl28022", volts={"": (12, 3)}),),
        [part("isl28022 in1", 36)],
    ),
    "volts and amperes beside the power of the same wire": (
        (Chip("ina226", {"": 35}, {"": (12, 2.9)}),),
        [part("ina226 power1", 35)],
    ),
    # processors
    "a processor's own sensor": ((FAM15H,), [package(0, 45)]),
    "two processors' own sensors": (
        (FAM15H, Chip("fam15h_power", {"": 47})),
        [package(0, 45), package(1, 47)],
    ),
    "parts of a processor": ((ZENPOWER,), [package(0, 75.04), package(0, 18.03)]),
    "processors beside other chips": (
        (SUPPLY, ZENPOWER, acpi(200), FAM15H),
        [*machine(200), part("pout1", 92), package(0, 75.04), package(0, 18.03), package(1, 45)],
    ),
    # channels
    "a part of an unknown board": ((Chip("board", {"": 20}),), [part("board power1", 20)]),
    "an average before a moment's value": (
        (Chip("board", {"CPU": 20}, files={"power1_average": 19 * W}),),
        [part("CPU", 19)],
    ),
    "everything at once": (
        (
            acpi(200),
            SUPPLY,
            APPLE,
            FAM15H,
            Chip("ina3221", volts=dict.fromkeys(("", " ", "  "), (5, 2))),
        ),
        [
            *machine(200),
            part("pout1", 92),
            *APPLE_PARTS,
            package(0, 45),
            *(part(f"ina3221 in{number}", 10) for number in (1, 2, 3)),
        ],
    ),
    "nothing that is known": ((Chip("coretemp", files={"temp1_input": 40_000}),), []),
}


@pytest.mark.parametrize("name", MACHINES)
def test_machines(tmp_path: Path, name: str) -> None:
    """Field report 34: the machine is told once, by what is best; what it holds is told beside it
    and by its own name, never as the machine.
    """
    chips, expected = MACHINES[name]
    host = host_with(tmp_path, chips)
    assert told(host) == expected
    meters = discover_meters(host).meters
    assert len({meter.id for meter in meters}) == len(meters)


@pytest.mark.parametrize("name", MACHINES)
def test_machines_whose_packages_are_measured_already(tmp_path: Path, name: str) -> None:
    """The same, but for processors' own sensors, which would tell a package twice."""
    rapl(tmp_path)
    chips, expected = MACHINES[name]
    assert told(host_with(tmp_path, chips)) == [item for item in expected if item[0] != "package"]


def test_a_module_with_its_cpus_is_measured_by_package_and_as_a_whole(tmp_path: Path) -> None:
    """The meters themselves, so that a socket's energy goes to what ran on it."""
    meters = discover_meters(host_with(tmp_path, (*grace(0), *grace(1)))).meters
    path = f"{HWMON}/hwmon{{}}/power1_average"
    assert [meter for meter in meters if meter.zone in ZONES] == [
        *(Meter(path.format(number), "platform", "hwmon", power=True) for number in (0, 4)),
        *(
            Meter(path.format(number), "package", "hwmon", number // 4, power=True)
            for number in (2, 6)
        ),
    ]


# --- whose chip it is ---

STRANGERS = (
    *(
        "amdgpu",
        "radeon",
        "nouveau",
        "nvidia",
        "i915",
        "i915_gt0",
        "xe",
        "wormhole",
        "blackhole",
        "grayskull",
        "habanalabs",
        "qaic",
    ),
    *(
        "nvme",
        "drivetemp",
        "ucsi_source_psy_USBC000:001",
        "sfp",
        "sfp_1",
        "mlx5",
        "i40e",
        "iwlwifi_1",
        "hidpp_battery_0",
        "hidpp_battery_12",
    ),
)


@pytest.mark.parametrize("name", STRANGERS)
def test_what_belongs_to_other_devices_is_left_out(tmp_path: Path, name: str) -> None:
    """Accelerators, graphics, disks, networks (the light of their modules), mice: none of them is
    the machine, or a part that is told.
    """
    found = discover_meters(
        host_with(
            tmp_path,
            (Chip(name, {"": 22, "power total": 23, "pin": 24}, files={"energy9_input": 5}),),
        )
    )
    assert found.meters == ()
    assert dict(found.absent)["hwmon"] == UNKNOWN


@pytest.mark.parametrize("name", ["xenon", "sfpx", "icelake", "nvmeof", "icepower", "pmbus"])
def test_a_chip_that_is_only_named_like_one_is_a_part(tmp_path: Path, name: str) -> None:
    """A name is whole, or goes on with a number or a line."""
    assert told(host_with(tmp_path, (Chip(name, {"": 22}),))) == [part(f"{name} power1", 22)]


def linked(root: Path, number: int, device: str) -> None:
    """As the kernel has it: a chip below its device, a link to it in its class, and one back to the
    device.
    """
    folder = f"{device}/hwmon/hwmon{number}"
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / HWMON).mkdir(parents=True, exist_ok=True)
    (root / HWMON / f"hwmon{number}").symlink_to(f"../../{folder}")
    (root / folder / "device").symlink_to("../..")


LEFT_OUT = ("0x120000", "0x030000", "0x030200", "0x020000", "0x010802")
BOARDS_OWN = ("0x060400", "0x0c0500", "", "x", "0x1200000", "12")


@pytest.mark.parametrize(
    ("kind", "known"),
    [*((kind, False) for kind in LEFT_OUT), *((kind, True) for kind in BOARDS_OWN)],
)
def test_a_chip_of_a_device_says_by_its_class_what_it_is(
    tmp_path: Path, kind: str, known: bool
) -> None:
    """PCI: processing accelerators, graphics, networks and storage are left out, whatever they call
    themselves; bridges and buses are boards'.
    """
    device = "devices/pci0000:00/0000:05:00.0"
    linked(tmp_path, 0, device)
    put(tmp_path, f"{device}/class", kind)
    Chip("something", {"Power": 22}).build(tmp_path, f"{device}/hwmon/hwmon0")
    assert told(SysfsHost(str(tmp_path))) == ([part("Power", 22)] if known else [])


def test_a_chip_of_no_known_device_is_not_a_stranger(tmp_path: Path) -> None:
    """Without a device, or one without a class: a board's."""
    (tmp_path / HWMON / "hwmon0/device").mkdir(parents=True)
    assert told(host_with(tmp_path, (Chip("one", {"": 1}), Chip("other", {"": 2})))) == [
        part("one power1", 1),
        part("other power1", 2),
    ]


@pytest.mark.parametrize("called", ["BAT0", "qcom_battmgr_bat"])
def test_what_the_kernel_makes_of_a_power_supply_is_left_out(tmp_path: Path, called: str) -> None:
    """Also of one that is charged, or a mouse's: it is told as a battery, or not at all."""
    for file, value in {
        "type": "Battery",
        "status": "Charging",
        "power_now": 9 * W,
        "scope": "Device",
    }.items():
        put(tmp_path, f"class/power_supply/{called.replace('_', '-')}/{file}", value)
    assert told(host_with(tmp_path, (Chip(called, {"": 9}),))) == []


# --- where its files are ---


def below_device(root: Path, number: int, chip: Chip) -> None:
    """A driver of the old kind: its files are those of its device; the chip has a name, or not even
    that.
    """
    device = f"devices/LNXSYSTM:00/LNXSYBUS:00/ACPI000D:{number:02}"
    linked(root, number, device)
    chip.build(root, device)


@pytest.mark.parametrize("named", [False, True], ids=["named by its device", "named by itself"])
def test_files_below_the_device_are_found(tmp_path: Path, named: bool) -> None:
    """As acpi_power_meter has them: the meter, its interval and what the firmware says of it."""
    for number, chip in enumerate(
        (acpi(169, 60_000), acpi(294, 1000), acpi(150, 50, "CPU Power Socket 1"))
    ):
        below_device(tmp_path, number, chip)
        if named:
            put(tmp_path, f"{HWMON}/hwmon{number}/name", chip.name)
    host = SysfsHost(str(tmp_path))
    assert told(host) == [*machine(294), package(1, 150)]
    assert [meter.id for meter in discover_meters(host).meters] == [
        f"{HWMON}/hwmon{number}/device/power1_average" for number in (1, 2)
    ]


def test_files_of_a_chip_and_of_its_device_are_not_both_told(tmp_path: Path) -> None:
    """Where the chip has its own, those of the device below it are not looked for."""
    below_device(tmp_path, 0, acpi(294, 1000))
    acpi(293, 1000).build(tmp_path, f"{HWMON}/hwmon0")
    assert told(SysfsHost(str(tmp_path))) == machine(293)


def test_a_stranger_below_its_device_is_left_out(tmp_path: Path) -> None:
    """By name, and by the class of the device itself."""
    below_device(tmp_path, 0, Chip("nvme", {"": 5}))
    below_device(tmp_path, 1, Chip("something", {"": 5}, files={"class": "0x120000"}))
    assert told(SysfsHost(str(tmp_path))) == []


def test_links_out_of_the_tree_are_not_followed(tmp_path: Path) -> None:
    """Nor one of a device: a dump cannot show what is elsewhere."""
    root, outside = tmp_path / "sys", tmp_path / "outside"
    acpi(294).build(outside, "device")
    put(root, f"{HWMON}/hwmon0/name", "power_meter")
    (root / HWMON / "hwmon0/device").symlink_to(outside / "device")
    assert told(SysfsHost(str(root))) == []


def test_a_counter_of_energy_comes_before_power(tmp_path: Path) -> None:
    """It misses nothing between two readings; a chip that tells both is told by it alone."""
    chip = Chip("ina228", {"CPU": 35}, files={"energy1_input": 5 * W, "energy1_label": "CPU"})
    meters = discover_meters(host_with(tmp_path, (chip,))).meters
    assert meters == (Meter(f"{HWMON}/hwmon0/energy1_input", "CPU", "hwmon"),)


# --- channels that are off ---


@pytest.mark.parametrize(
    ("enable", "on"), [("0", False), ("1", True), ("2", True), ("", True), ("x", True)]
)
def test_a_channel_that_is_off_is_no_meter(tmp_path: Path, enable: str, on: bool) -> None:
    """Field report 38: it would be lost for ever; whoever does not say is on.

    Power, energy, and volts with amperes.
    """
    chips = (
        Chip("board", {"CPU": 20, "Memory": 5}, files={"power1_enable": enable}),
        Chip(
            "other",
            files={
                "energy1_input": 7,
                "energy1_label": "Fan",
                "energy2_input": 8,
                "energy1_enable": enable,
            },
        ),
        Chip("ina3221", volts={"GPU": (5, 2), "SOC": (5, 1)}, files={"in1_enable": enable}),
    )
    zones = [zone for zone, _, _ in told(host_with(tmp_path, chips))]
    assert zones == (
        ["CPU", "Memory", "Fan", "other energy2", "GPU", "SOC"]
        if on
        else ["Memory", "other energy2", "SOC"]
    )


def test_a_machines_channel_that_is_off_does_not_tell_the_machine(tmp_path: Path) -> None:
    """The next best does."""
    off = Chip("power_meter", files={"power1_average": 200 * W, "power1_enable": 0})
    assert told(host_with(tmp_path, (off, SUPPLY))) == [*machine(100), part("pout1", 92)]


def test_a_chip_with_every_channel_off_is_none(tmp_path: Path) -> None:
    """And why there is nothing is told."""
    found = discover_meters(
        host_with(tmp_path, (Chip("board", {"": 20}, files={"power1_enable": 0}),))
    )
    assert found.meters == ()
    assert dict(found.absent)["hwmon"] == UNKNOWN


# --- volts and amperes ---


def test_volts_times_amperes_are_read_together(tmp_path: Path) -> None:
    """mV x mA are µW; through kept descriptors both are read anew at every look."""
    host = host_with(tmp_path, (ORIN_NX,))
    reader = MeterReader(host, discover_meters(host).meters)
    assert list(reader.read().values()) == [10 * W, 4 * W, 2_452_000]
    put(tmp_path, f"{HWMON}/hwmon0/in1_input", 4_900)
    assert list(reader.read().values()) == [9_800_000, 4 * W, 2_452_000]
    put(tmp_path, f"{HWMON}/hwmon0/curr1_input", 3_000)
    assert list(reader.read().values()) == [14_700_000, 4 * W, 2_452_000]
    host.forget()


@pytest.mark.parametrize("content", ["", "x", "-5", "9" * 30])
@pytest.mark.parametrize("file", ["in2_input", "curr2_input"])
def test_a_product_of_which_one_cannot_be_read_is_not_known(
    tmp_path: Path, file: str, content: str
) -> None:
    """Field report 37: that is not 0 W, and costs itself only; the meter stays."""
    host = host_with(tmp_path, (ORIN_NX,))
    put(tmp_path, f"{HWMON}/hwmon0/{file}", content)
    meters = discover_meters(host).meters
    assert read_meters(host, meters) == [10 * W, None, 2_452_000]
    assert list(MeterReader(host, meters).read().values()) == [10 * W, None, 2_452_000]
    host.forget()


@pytest.mark.parametrize(
    "files",
    [{"in1_input": 5_000}, {"curr1_input": 2_000}, {"in1_input": 5_000, "curr2_input": 2_000}],
)
def test_volts_without_amperes_are_no_meter(tmp_path: Path, files: dict[str, object]) -> None:
    """Nor the other way round, nor those of two channels."""
    assert told(host_with(tmp_path, (Chip("ina3221", files=files),))) == []


@pytest.mark.parametrize("name", ["nct6775", "coretemp", "pmbus", "max34440"])
def test_volts_and_amperes_of_a_chip_that_does_not_pair_them_are_no_meter(
    tmp_path: Path, name: str
) -> None:
    """Its numbers are of different wires."""
    assert told(host_with(tmp_path, (Chip(name, volts={"vin": (12, 3)}),))) == []


# --- labels ---


@pytest.mark.parametrize("label", sorted(ZONES))
def test_a_part_is_never_named_as_something_else(tmp_path: Path, label: str) -> None:
    """A rail called package is no package: it would be added to the machine's."""
    assert told(host_with(tmp_path, (Chip("board", {label: 5}),))) == [part(f"part {label}", 5)]


@pytest.mark.parametrize(
    ("label", "zone"),
    [
        ('12V "main"', "12V _main_"),
        ("a\\b", "a_b"),
        ("a\tb", "a_b"),
        ("a\nb", "a_b"),
        ("a\0b", "a_b"),
        ("{x=1,y}", "{x=1,y}"),
        ("  +12V  ", "+12V"),
        ("x" * 500, "x" * 48),
        ("x" * 47 + " y", "x" * 47),
        ("package\u00e9", "package__"),
    ],
    ids=ascii,
)
def test_a_label_of_odd_characters_is_a_name_of_plain_ones(
    tmp_path: Path, label: str, zone: str
) -> None:
    """Not too long, and without what would end a label of a metric."""
    assert told(host_with(tmp_path, (Chip("board", {label: 5}),))) == [part(zone, 5)]


@given(st.binary(max_size=80))
def test_any_label_makes_a_plain_name(label: bytes) -> None:
    """Printable, short, and the whole, a package or memory only where the label says so in the way
    that is known.
    """
    with rig.state_folder() as name:
        host = host_with(Path(name), (Chip("board", {"": 5}),))
        (Path(name) / HWMON / "hwmon0/power1_label").write_bytes(label)
        ((zone, place, watts),) = told(host)
    assert watts == 5
    assert zone.isascii()
    assert zone.isprintable()
    assert zone == zone.strip() != ""
    assert len(zone) <= 60
    assert not set(zone) & set('"\\')
    assert zone not in ZONES or zone in (*WHOLE, "package")
    assert place == "node" or zone == "package"


# --- anything ---

KINDS: tuple[Callable[[int], Chip], ...] = (
    lambda watts: acpi(watts, watts),
    lambda watts: Chip("pmbus", {"pin": watts, "pout1": watts + 0.25}),
    lambda watts: Chip("corsairpsu", {"power total": watts, "power +5v": watts + 0.25}),
    lambda watts: Chip("ina3221", volts={f"rail {watts}": (1, watts)}),
    lambda watts: Chip("nvme", {"": watts}),
    lambda watts: Chip("board", {f"rail {watts}": watts}),
    lambda watts: acpi(watts, 50, f"Module Power Socket {watts}"),
    lambda watts: acpi(watts, 50, f"CPU Power Socket {watts}"),
)


@given(st.lists(st.sampled_from(KINDS), max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_chips_changes_nothing(
    kinds: list[Callable[[int], Chip]], mixed: random.Random
) -> None:
    """Their numbers are of the order in which drivers were loaded."""
    chips = [kind(watts) for watts, kind in enumerate(kinds, 1)]
    found = []
    for numbers in (range(len(chips)), mixed.sample(range(20), len(chips))):
        with rig.state_folder() as name:
            found.append(Counter(told(host_with(Path(name), chips, numbers))))
    assert found[0] == found[1]


@given(st.lists(st.sampled_from(KINDS), max_size=8))
def test_the_machine_is_one_kind_of_sensor(kinds: list[Callable[[int], Chip]]) -> None:
    """One, or supplies or modules side by side; it is never told twice."""
    with rig.state_folder() as name:
        host = host_with(Path(name), [kind(watts) for watts, kind in enumerate(kinds, 1)])
        whole = [
            meter.id.rpartition("/")[0]
            for meter in discover_meters(host).meters
            if meter.zone == "platform"
        ]
        chips = [kinds[int(folder.removeprefix(f"{HWMON}/hwmon"))] for folder in whole]
    assert len(whole) == len(set(whole))
    assert len(whole) <= 1 or set(chips) <= {KINDS[1], KINDS[2]} or set(chips) == {KINDS[6]}


WORDS = (
    b"",
    b"\n",
    b"0\n",
    b"7\n",
    b"-1\n",
    b"9" * 30,
    b"power_meter\n",
    b"ina3221\n",
    b"pmbus\n",
    b"pin\n",
    b"zenpower\n",
    b"package\n",
)
CONTENT = st.sampled_from(WORDS) | st.binary(max_size=12)
FILES = (
    *(
        "name",
        "power1_input",
        "power1_average",
        "power1_label",
        "power1_oem_info",
        "power1_enable",
        "power1_average_interval",
        "energy1_input",
    ),
    *(
        "in1_input",
        "curr1_input",
        "in1_label",
        "in1_enable",
        "device/name",
        "device/power1_average",
        "device/class",
    ),
)
PATHS = tuple(f"{HWMON}/hwmon{number}/{file}" for number in (0, 1) for file in FILES)


@given(st.dictionaries(st.sampled_from(PATHS), CONTENT, max_size=len(PATHS)))
def test_whatever_the_files_hold_nothing_is_raised(files: dict[str, bytes]) -> None:
    """Field reports 33, 37: and no meter shows less than 0, and none is there twice."""
    with rig.state_folder() as name:
        rig.write_files(name, files)
        host = SysfsHost(name)
        meters = discover_meters(host).meters
        values = MeterReader(host, meters).read()
        host.forget()
    assert len(values) == len(meters)
    assert all(value is None or value >= 0 for value in values.values())


@pytest.mark.parametrize(
    "name",
    [
        *("pmbus", "dps650ab", "cffps1", "ibm_cffps2", "ipsps1", "pfe1100", "crps185", "psu1"),
        *("intel_crps", "bpa_rs600", "bpd_rs600", "ym2151e", "yh5151e", "fsg032", "corsairpsu"),
        *("acbel_fsg032", "psu"),
    ],
)
def test_drivers_of_supplies_by_their_names(name: str) -> None:
    """As the kernel's hwmon names them; a name that only begins like one is none."""
    assert boards._SUPPLIES.fullmatch(name)
    assert not boards._SUPPLIES.fullmatch(f"x{name}")
