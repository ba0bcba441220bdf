"""Energy meters of recorded trees: each found by its name, once, with its place and range; whatever
is wrong with one costs that one only.

Sources: field reports 33, 34, 37, 38; kernel documentation of powercap and hwmon.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from kpm_applier.discovery.discover import discover
from kpm_applier.measure.meters import MeterReader, discover_meters, read_meters
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.energy.meters import Meter
from tests.applier import rig
from tests.applier.power import CLASS, MMIO, PLATFORM, RAPL, bare, put_sensor
from tests.kpm.tree_samples import put

RANGE = 262_143_328_850
DRAM_RANGE = 65_712_999_613
HWMON = "class/hwmon"
SUPPLY = "class/power_supply"

NO_RAPL = ("rapl", "no energy counter below /sys/class/powercap")
NO_AMD = (
    ("amd_energy", "no hwmon chip amd_energy"),
    ("amd_hsmp_hwmon", "no hwmon chip amd_hsmp_hwmon"),
)
NO_HWMON = ("hwmon", "no other power or energy input that is known")
NO_BATTERY = ("battery", "no battery that tells its power")
NOTHING_ELSE = (*NO_AMD, NO_HWMON, NO_BATTERY)
MEASURED = "the packages are measured already"

# --- trees ---


def zone(root: Path, folder: str, name: str, uj: object = 5_000_000, reach: object = RANGE) -> str:
    """A zone of powercap with a counter; reach None: without the file of its range.

    Returns its folder.
    """
    put(root, f"{folder}/name", name)
    put(root, f"{folder}/energy_uj", uj)
    if reach is not None:
        put(root, f"{folder}/max_energy_range_uj", reach)
    return folder


def chip(root: Path, number: int, name: str, **files: object) -> str:
    """A chip of hwmon with these files."""
    put(root, f"{HWMON}/hwmon{number}/name", name)
    for file, value in files.items():
        put(root, f"{HWMON}/hwmon{number}/{file}", value)
    return f"{HWMON}/hwmon{number}"


def battery(
    root: Path,
    name: str = "BAT0",
    status: str = "Discharging",
    kind: str = "Battery",
    **files: object,
) -> str:
    """A power supply."""
    put(root, f"{SUPPLY}/{name}/type", kind)
    put(root, f"{SUPPLY}/{name}/status", status)
    for file, value in files.items():
        put(root, f"{SUPPLY}/{name}/{file}", value)
    return f"{SUPPLY}/{name}"


def one_socket(root: Path) -> None:
    zone(root, f"{RAPL}/intel-rapl:0", "package-0", 111)
    for number, (name, reach) in enumerate(
        (("core", RANGE), ("uncore", RANGE), ("dram", DRAM_RANGE))
    ):
        zone(root, f"{RAPL}/intel-rapl:0/intel-rapl:0:{number}", name, 5, reach)


def two_sockets(root: Path) -> None:
    """Numbered against their packages, with parts of the same names."""
    for number, package in ((0, 1), (1, 0)):
        zone(root, f"{RAPL}/intel-rapl:{number}", f"package-{package}", 100 + package)
        zone(
            root,
            f"{RAPL}/intel-rapl:{number}/intel-rapl:{number}:0",
            "dram",
            5 + package,
            DRAM_RANGE,
        )


def mmio(root: Path) -> None:
    for number in (0, 1):
        zone(root, f"{MMIO}/intel-rapl-mmio:{number}", f"package-{number}", 100 + number)


def two_sockets_with_twin(root: Path) -> None:
    two_sockets(root)
    mmio(root)


def package_and_psys(root: Path) -> None:
    zone(root, f"{RAPL}/intel-rapl:0", "package-0")
    zone(root, f"{RAPL}/intel-rapl:1", "psys")


def psys_beside_mmio(root: Path) -> None:
    """What contains the packages does not stand in for them."""
    zone(root, f"{RAPL}/intel-rapl:0", "psys")
    mmio(root)


def dies(root: Path, *energies: int, package: int = 0, first: int = 0) -> None:
    """A package of so many dies, with what their counters show."""
    for die, uj in enumerate(energies):
        zone(root, f"{RAPL}/intel-rapl:{first + die}", f"package-{package}-die-{die}", uj)


def mirrored_dies(root: Path) -> None:
    """Zen: every die's zone shows the one counter of its package (codecarbon #1379)."""
    dies(root, 68_000_000, 68_000_000, 68_000_000, 68_000_000)
    dies(root, 71_000_000, 71_000_000, 71_000_000, 71_000_000, package=1, first=4)


def independent_dies(root: Path) -> None:
    dies(root, 68_000_000, 21_000_000)
    dies(root, 5_000, 71_000_000, package=1, first=2)


def amd_package(root: Path) -> None:
    """From Zen 3: a package and its cores, nothing else; no limits."""
    zone(root, f"{RAPL}/intel-rapl:0", "package-0", reach=65_532_610_987)
    zone(root, f"{RAPL}/intel-rapl:0/intel-rapl:0:0", "core", reach=65_532_610_987)


def flat(root: Path) -> None:
    """A dump of class/powercap alone: zones and parts side by side."""
    zone(root, f"{CLASS}/intel-rapl:0", "package-0", 3)
    zone(root, f"{CLASS}/intel-rapl:0:0", "core", 2)
    zone(root, f"{CLASS}/intel-rapl:1", "package-1", 4)
    zone(root, f"{CLASS}/intel-rapl:1:0", "dram", 1, DRAM_RANGE)
    zone(root, f"{CLASS}/intel-rapl-mmio:0", "package-0", 3)
    put(root, f"{CLASS}/intel-rapl/enabled", 1)


def linked(root: Path) -> None:
    """As the kernel has it: the zones where they are, and links to them."""
    one_socket(root)
    (root / CLASS).mkdir(parents=True)
    for name, target in (
        ("intel-rapl:0", "intel-rapl:0"),
        ("intel-rapl:0:0", "intel-rapl:0/intel-rapl:0:0"),
    ):
        (root / CLASS / name).symlink_to(f"../../{RAPL}/{target}")


def amd_energy(root: Path) -> None:
    """Cores first, sockets last, as the driver numbers them."""
    chip(
        root,
        3,
        "amd_energy",
        energy1_input=10,
        energy1_label="Ecore000",
        energy2_input=20,
        energy2_label="Ecore001",
        energy3_input=300,
        energy3_label="Esocket0",
        energy4_input=400,
        energy4_label="Esocket1",
        energy5_input=7,
    )


def amd_energy_beside_rapl(root: Path) -> None:
    amd_package(root)
    amd_energy(root)


def hsmp(root: Path) -> None:
    """Beyond ten chips: they are in the order of their numbers, not of their names' texts."""
    chip(root, 10, "amd_hsmp_hwmon", power1_input=120_000_000, power1_cap=280_000_000)
    chip(root, 2, "amd_hsmp_hwmon", power1_input=90_000_000, power1_cap=280_000_000)


def every_amd_source(root: Path) -> None:
    amd_energy(root)
    hsmp(root)


def power_meter(root: Path) -> None:
    """ACPI's, which tells an average and a momentary value of the same power."""
    chip(root, 0, "acpitz", temp1_input=27_000)
    chip(
        root,
        1,
        "power_meter",
        power1_average=310_000_000,
        power1_input=305_000_000,
        power1_average_interval=1_000,
        power1_cap=500_000_000,
    )


def parts(root: Path) -> None:
    """Chips of which nobody knows whether they tell a machine: without labels, channels that are
    numbered on.
    """
    chip(root, 4, "ibmpex", power1_input=210_000_000, power2_average=40_000_000)
    chip(root, 5, "scmi_sensors", energy1_input=77, energy12_input=78)


def laptop(root: Path) -> None:
    one_socket(root)
    battery(root, "AC", kind="Mains")
    battery(root, "BAT0", power_now=9_500_000)
    battery(root, "BAT1", power_now=100)


def laptop_with_a_meter(root: Path) -> None:
    """Both show what the machine takes."""
    laptop(root)
    chip(root, 0, "power_meter", power1_average=12_000_000)


def nothing(_root: Path) -> None:
    """A virtual machine."""


def rapl(
    path: str,
    zone: str = "package",
    package: int | None = 0,
    die: int | None = None,
    reach: int | None = RANGE,
) -> Meter:
    """An expected meter, by its folder below that of intel-rapl."""
    return Meter(f"{RAPL}/{path}/energy_uj", zone, "rapl", package, die, reach)


ONE_SOCKET = (
    rapl("intel-rapl:0/intel-rapl:0:0", "core"),
    rapl("intel-rapl:0/intel-rapl:0:2", "dram", reach=DRAM_RANGE),
    rapl("intel-rapl:0"),
    rapl("intel-rapl:0/intel-rapl:0:1", "uncore"),
)
TWO_SOCKETS = (
    rapl("intel-rapl:1/intel-rapl:1:0", "dram", 0, reach=DRAM_RANGE),
    rapl("intel-rapl:0/intel-rapl:0:0", "dram", 1, reach=DRAM_RANGE),
    rapl("intel-rapl:1", "package", 0),
    rapl("intel-rapl:0", "package", 1),
)
TWINS = tuple(
    Meter(f"{MMIO}/intel-rapl-mmio:{number}/energy_uj", "package", "rapl", number, None, RANGE)
    for number in (0, 1)
)
AMD_PACKAGE = (
    rapl("intel-rapl:0/intel-rapl:0:0", "core", reach=65_532_610_987),
    rapl("intel-rapl:0", reach=65_532_610_987),
)
AMD_ENERGY = tuple(
    Meter(f"{HWMON}/hwmon3/energy{3 + socket}_input", "package", "amd_energy", socket)
    for socket in (0, 1)
)
HSMP = tuple(
    Meter(f"{HWMON}/hwmon{number}/power1_input", "package", "amd_hsmp_hwmon", socket, power=True)
    for socket, number in enumerate((2, 10))
)
TREES: dict[str, tuple[Callable[[Path], None], tuple[Meter, ...], tuple[tuple[str, str], ...]]] = {
    "one socket": (one_socket, ONE_SOCKET, NOTHING_ELSE),
    "two sockets": (two_sockets, TWO_SOCKETS, NOTHING_ELSE),
    "two sockets and mmio": (two_sockets_with_twin, TWO_SOCKETS, NOTHING_ELSE),
    "mmio alone": (mmio, TWINS, NOTHING_ELSE),
    "psys": (
        package_and_psys,
        (rapl("intel-rapl:0"), rapl("intel-rapl:1", "psys", None)),
        NOTHING_ELSE,
    ),
    "psys beside mmio": (
        psys_beside_mmio,
        (*TWINS, rapl("intel-rapl:0", "psys", None)),
        NOTHING_ELSE,
    ),
    "mirrored dies": (
        mirrored_dies,
        (rapl("intel-rapl:0"), rapl("intel-rapl:4", package=1)),
        NOTHING_ELSE,
    ),
    "independent dies": (
        independent_dies,
        (
            rapl("intel-rapl:0", die=0),
            rapl("intel-rapl:1", die=1),
            rapl("intel-rapl:2", package=1, die=0),
            rapl("intel-rapl:3", package=1, die=1),
        ),
        NOTHING_ELSE,
    ),
    "amd package": (amd_package, AMD_PACKAGE, NOTHING_ELSE),
    "flat": (
        flat,
        (
            Meter(f"{CLASS}/intel-rapl:0:0/energy_uj", "core", "rapl", 0, None, RANGE),
            Meter(f"{CLASS}/intel-rapl:1:0/energy_uj", "dram", "rapl", 1, None, DRAM_RANGE),
            Meter(f"{CLASS}/intel-rapl:0/energy_uj", "package", "rapl", 0, None, RANGE),
            Meter(f"{CLASS}/intel-rapl:1/energy_uj", "package", "rapl", 1, None, RANGE),
        ),
        NOTHING_ELSE,
    ),
    "nested and linked": (linked, ONE_SOCKET, NOTHING_ELSE),
    "amd_energy": (amd_energy, AMD_ENERGY, (NO_RAPL, NO_AMD[1], NO_HWMON, NO_BATTERY)),
    "amd_energy beside rapl": (
        amd_energy_beside_rapl,
        AMD_PACKAGE,
        (("amd_energy", MEASURED), NO_AMD[1], NO_HWMON, NO_BATTERY),
    ),
    "hsmp": (hsmp, HSMP, (NO_RAPL, NO_AMD[0], NO_HWMON, NO_BATTERY)),
    "amd_energy and hsmp": (
        every_amd_source,
        AMD_ENERGY,
        (NO_RAPL, ("amd_hsmp_hwmon", MEASURED), NO_HWMON, NO_BATTERY),
    ),
    "power meter": (
        power_meter,
        (Meter(f"{HWMON}/hwmon1/power1_average", "platform", "hwmon", power=True),),
        (NO_RAPL, *NO_AMD, NO_BATTERY),
    ),
    "parts": (
        parts,
        (
            Meter(f"{HWMON}/hwmon4/power1_input", "ibmpex power1", "hwmon", power=True),
            Meter(f"{HWMON}/hwmon4/power2_average", "ibmpex power2", "hwmon", power=True),
            Meter(f"{HWMON}/hwmon5/energy1_input", "scmi_sensors energy1", "hwmon"),
            Meter(f"{HWMON}/hwmon5/energy12_input", "scmi_sensors energy12", "hwmon"),
        ),
        (NO_RAPL, *NO_AMD, NO_BATTERY),
    ),
    "laptop": (
        laptop,
        (*ONE_SOCKET, Meter(f"{SUPPLY}/BAT0+BAT1", "platform", "battery", power=True)),
        (*NO_AMD, NO_HWMON),
    ),
    "laptop with a meter of its own": (
        laptop_with_a_meter,
        (*ONE_SOCKET, Meter(f"{HWMON}/hwmon0/power1_average", "platform", "hwmon", power=True)),
        (*NO_AMD, ("battery", "the machine is measured already")),
    ),
    "nothing": (nothing, (), (NO_RAPL, *NOTHING_ELSE)),
}


def host_of(root: Path) -> SysfsHost:
    return SysfsHost(str(root))


@pytest.mark.parametrize("name", TREES)
def test_recorded_trees(tmp_path: Path, name: str) -> None:
    """Field reports 34, 37, 38: each meter once, by zone, package and die, whatever it is numbered;
    of what is not there, why; an absent zone is no meter of 0.
    """
    build, meters, absent = TREES[name]
    build(bare(tmp_path))
    found = discover_meters(host_of(tmp_path))
    assert found.meters == meters
    assert found.absent == absent


@pytest.mark.parametrize("name", TREES)
def test_every_meter_that_is_found_can_be_read(tmp_path: Path, name: str) -> None:
    """In a recorded tree; and no two of them are one in what is told: zone, place and path."""
    TREES[name][0](bare(tmp_path))
    host = host_of(tmp_path)
    meters = discover_meters(host).meters
    assert None not in read_meters(host, meters)
    assert len({meter.id for meter in meters}) == len(meters)


def test_a_node_is_its_sockets(tmp_path: Path) -> None:
    """Field report 34: the sum over packages of two sockets with a twin is
    100 + 101, not twice that.
    """
    two_sockets_with_twin(tmp_path)
    host = host_of(tmp_path)
    packages = [meter for meter in discover_meters(host).meters if meter.zone == "package"]
    assert [meter.place for meter in packages] == ["package-0", "package-1"]
    assert read_meters(host, packages) == [100, 101]


# --- dies ---


@define
class Counting:
    """A tree whose counters go on with every look at one, as real ones do; those of one key are one
    counter.
    """

    root: Path
    key: Callable[[str], str]
    looks: dict[str, int] = field(factory=dict)

    def host(self) -> rig.Probe:
        probe = rig.Probe(SysfsHost(str(self.root)))

        def look(verb: str, path: str) -> None:
            if verb == "read" and path.endswith("energy_uj"):
                key = self.key(path)
                self.looks[key] = self.looks.get(key, 0) + 1
                put(self.root, path, 1_000_000 * (1 + len(key)) + 61 * self.looks[key])

        probe.deny = look
        return probe


def test_mirrors_are_seen_while_the_counter_runs(tmp_path: Path) -> None:
    """Field report 34: no two looks show the same number then; one package
    of 68 W is not told as two.
    """
    dies(tmp_path, 1, 1, 1, 1)
    assert discover_meters(Counting(tmp_path, lambda _path: "one").host()).meters == (
        rapl("intel-rapl:0"),
    )


def test_counters_that_run_by_themselves_are_no_mirrors(tmp_path: Path) -> None:
    """Each goes on by itself, from where it stands."""
    dies(tmp_path, 1, 1)
    names = {"0": "one", "1": "the other"}
    host = Counting(tmp_path, lambda path: names[path.removesuffix("/energy_uj")[-1]]).host()
    assert [meter.place for meter in discover_meters(host).meters] == [
        "package-0-die-0",
        "package-0-die-1",
    ]


def test_parts_of_dies_are_mirrors_by_themselves(tmp_path: Path) -> None:
    """A package counter that both dies show, and cores that each counts alone."""
    dies(tmp_path, 900, 900)
    for die, uj in enumerate((300, 500)):
        zone(tmp_path, f"{RAPL}/intel-rapl:{die}/intel-rapl:{die}:0", "core", uj)
    assert discover_meters(host_of(tmp_path)).meters == (
        rapl("intel-rapl:0/intel-rapl:0:0", "core", die=0),
        rapl("intel-rapl:1/intel-rapl:1:0", "core", die=1),
        rapl("intel-rapl:0"),
    )


def test_packages_of_equal_counters_are_no_mirrors(tmp_path: Path) -> None:
    """Two sockets that happen to show the same number are two all the same."""
    for number in (0, 1):
        zone(tmp_path, f"{RAPL}/intel-rapl:{number}", f"package-{number}", 7_000_000)
    assert [meter.place for meter in discover_meters(host_of(tmp_path)).meters] == [
        "package-0",
        "package-1",
    ]


def test_mirrors_are_seen_where_the_first_of_them_cannot_be_read(tmp_path: Path) -> None:
    """Field report 34: the other three still show one counter, and a package of 68 J is not told as
    204 J.
    """
    dies(tmp_path, 1, 68_000_000, 68_000_000, 68_000_000)
    put(tmp_path, f"{RAPL}/intel-rapl:0/energy_uj", "")
    host = host_of(tmp_path)
    assert sum(uj or 0 for uj in read_meters(host, discover_meters(host).meters)) == 68_000_000


@pytest.mark.parametrize("look", [3, 4, 5])
def test_a_counter_that_cannot_be_read_again_is_not_known_to_be_a_mirror(
    tmp_path: Path, look: int
) -> None:
    """Between two looks it went away: both dies are kept, and measured once they can be."""
    dies(tmp_path, 68_000_000, 68_000_000)
    seen: list[str] = []

    def deny(verb: str, path: str) -> int | None:
        if verb == "read" and path.endswith("energy_uj"):
            seen.append(path)
            return errno.EIO if len(seen) == look else None
        return None

    found = discover_meters(rig.Probe(SysfsHost(str(tmp_path)), deny=deny)).meters
    assert [meter.place for meter in found] == ["package-0-die-0", "package-0-die-1"]


# --- what is wrong with a counter ---

UNREADABLE = (
    "",
    "no number",
    "-1",
    "-4294967295000",
    "9" * 30,
    "0x10",
    "1.5",
    "1e9",
    "+5",
    "5 6",
    "٥",
    "²",
    "<unsupported>",
    "nan",
)


@pytest.mark.parametrize("content", UNREADABLE)
def test_a_counter_that_shows_no_number_costs_itself_only(tmp_path: Path, content: str) -> None:
    """Field reports 33, 37: it stays a meter, which may show one later; the rest is measured."""
    two_sockets(tmp_path)
    put(tmp_path, f"{RAPL}/intel-rapl:0/energy_uj", content)
    host = host_of(tmp_path)
    assert discover_meters(host).meters == TWO_SOCKETS
    assert read_meters(host, TWO_SOCKETS) == [5, 6, 100, None]


def test_a_counter_that_cannot_be_read_costs_itself_only(tmp_path: Path) -> None:
    """A folder stands for what nobody may read; a counter that is not there at all is no meter
    (field report 38).
    """
    two_sockets(tmp_path)
    path = tmp_path / RAPL / "intel-rapl:0/energy_uj"
    path.unlink()
    assert discover_meters(host_of(tmp_path)).meters == tuple(
        meter for meter in TWO_SOCKETS if meter.id != f"{RAPL}/intel-rapl:0/energy_uj"
    )
    path.mkdir()
    assert discover_meters(host_of(tmp_path)).meters == TWO_SOCKETS
    assert read_meters(host_of(tmp_path), TWO_SOCKETS) == [5, 6, 100, None]


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENODATA, errno.EIO, errno.EINVAL])
def test_a_counter_that_the_kernel_refuses_costs_itself_only(tmp_path: Path, number: int) -> None:
    """Field report 37: EACCES, as for everybody but root since 5.10, EINVAL, as where the register
    cannot be read.
    """
    two_sockets(tmp_path)
    host = rig.Probe(
        host_of(tmp_path),
        deny=lambda _verb, path: number if path == f"{RAPL}/intel-rapl:1/energy_uj" else None,
    )
    assert discover_meters(host).meters == TWO_SOCKETS
    assert read_meters(host, TWO_SOCKETS) == [5, 6, None, 101]


def test_why_there_is_no_counter_is_told(tmp_path: Path) -> None:
    """Field report 37: zones without a counter are something else than no zones."""
    put(tmp_path, f"{RAPL}/intel-rapl:0/name", "package-0")
    found = discover_meters(host_of(tmp_path))
    assert found.meters == ()
    assert dict(found.absent)["rapl"] == f"{RAPL}/intel-rapl:0/energy_uj cannot be read"


@pytest.mark.parametrize("reach", [None, 0, -1, "", "no number", "9" * 30, "1.5"])
def test_a_range_that_is_not_known_is_none(tmp_path: Path, reach: object) -> None:
    """Field report 33: it is never taken for 0; the meter measures all the same."""
    zone(tmp_path, f"{RAPL}/intel-rapl:0", "package-0", 42, reach)
    host = host_of(tmp_path)
    assert discover_meters(host).meters == (rapl("intel-rapl:0", reach=None),)
    assert read_meters(host, discover_meters(host).meters) == [42]


ODD_NAMES = (
    *(
        "",
        "Package-0",
        "PACKAGE-0",
        "package",
        "package-",
        "package--1",
        "package-1.0",
        "package-123456",
        "package-٠",
        "package-0-die-",
        "package-0-die-x",
    ),
    *(
        "package-0 package-1",
        "package-0\npackage-1",
        "package-0\0",
        "psys-x",
        "psys2",
        "dram",
        "core",
        "uncore",
        "../../../etc",
        "A" * 5000,
        "💥",
        "intel-rapl",
    ),
)


@pytest.mark.parametrize("name", ODD_NAMES, ids=lambda name: repr(name[:20]))
def test_a_zone_of_another_name_is_left_out(tmp_path: Path, name: str) -> None:
    """As is one without a name, also as a part of a package; those of known names are found."""
    one_socket(tmp_path)
    zone(tmp_path, f"{RAPL}/intel-rapl:1", name)
    if name not in ("dram", "core", "uncore"):
        zone(tmp_path, f"{RAPL}/intel-rapl:0/intel-rapl:0:9", name)
    assert discover_meters(host_of(tmp_path)).meters == ONE_SOCKET


@pytest.mark.parametrize(
    "entry",
    [
        "intel-rapl:",
        "intel-rapl:x",
        "intel-rapl:-1",
        "intel-rapl:123456",
        "intel-rapl:٠",
        "intel-rapl:0:0",
        "arm-scmi:0",
        "dtpm",
        "\udcff",
    ],
)
def test_a_folder_of_another_name_is_left_out(tmp_path: Path, entry: str) -> None:
    """It is no zone of RAPL, whatever is in it."""
    one_socket(tmp_path)
    zone(tmp_path, f"{RAPL}/{entry}", "package-1")
    assert discover_meters(host_of(tmp_path)).meters == ONE_SOCKET


# --- hwmon ---


@pytest.mark.parametrize(
    "name",
    [
        "amdgpu",
        "nouveau",
        "i915",
        "i915_gt0",
        "xe",
        "nvme",
        "drivetemp",
        "ucsi_source_psy",
        "ucsi_source_psy_USBC000:001",
    ],
)
def test_what_is_no_power_of_cpu_or_machine_is_left_out(tmp_path: Path, name: str) -> None:
    """Graphics processors, disks and USB-C ports, by the names that their drivers give: i915 has
    one chip of each tile beside its own.
    """
    chip(tmp_path, 0, name, power1_average=35_000_000, power1_input=36_000_000, energy1_input=5)
    assert discover_meters(host_of(tmp_path)).meters == ()


def test_a_chip_that_tells_power_and_energy_is_one_meter(tmp_path: Path) -> None:
    """Field report 34: ina228 shows what passes through one wire both ways; told twice, a machine
    uses double.
    """
    chip(
        tmp_path,
        0,
        "ina228",
        power1_input=35_000_000,
        energy1_input=5_000_000,
        in1_input=12_000,
        curr1_input=2_900,
    )
    assert len(discover_meters(host_of(tmp_path)).meters) == 1


@pytest.mark.parametrize(
    ("name", "called"), [("BAT0", "BAT0"), ("qcom-battmgr-bat", "qcom_battmgr_bat")]
)
def test_a_battery_is_not_told_again_as_a_chip(tmp_path: Path, name: str, called: str) -> None:
    """Field report 34: the kernel shows power_now also as a chip of the battery's name, with a low
    line for each hyphen (power_supply_hwmon.c).
    """
    battery(tmp_path, name, power_now=9_500_000)
    chip(tmp_path, 2, called, power1_input=9_500_000, in0_input=12_000)
    assert discover_meters(host_of(tmp_path)).meters == (
        Meter(f"{SUPPLY}/{name}", "platform", "battery", power=True),
    )


def test_sensors_of_sockets_are_numbered_as_their_caps_are(tmp_path: Path) -> None:
    """By the device, not by the number of its chip: a driver that was
    bound anew gets another one.
    """
    bare(tmp_path)
    (tmp_path / HWMON).mkdir(parents=True)
    for socket, number in enumerate((4, 3)):
        folder = put_sensor(tmp_path, f"{PLATFORM}/AMDI0097:0{socket}/hwmon/hwmon{number}")
        (tmp_path / HWMON / f"hwmon{number}").symlink_to(f"../../{folder}")
    caps = {
        zone.id.rpartition("/")[2]: zone.package
        for zone in discover(host_of(tmp_path)).machine.power_zones
    }
    meters = {
        meter.id.split("/")[-2]: meter.package
        for meter in discover_meters(host_of(tmp_path)).meters
    }
    assert caps == {"hwmon4": 0, "hwmon3": 1}
    assert meters == caps


@pytest.mark.parametrize(
    "entry",
    [
        "power1_cap",
        "power1_max",
        "power1_label",
        "power_input",
        "powerx_input",
        "power1234_input",
        "energy1_label",
        "in1_input",
        "power1_input_lowest",
    ],
)
def test_other_files_of_a_chip_are_no_meters(tmp_path: Path, entry: str) -> None:
    """Limits, labels and what is only named alike."""
    chip(tmp_path, 0, "power_meter", **{entry: 5})
    assert discover_meters(host_of(tmp_path)).meters == ()


@pytest.mark.parametrize(
    "label",
    [
        "",
        "Ecore000",
        "Esocket",
        "Esocketx",
        "esocket0",
        "Esocket0 Esocket1",
        "Esocket123456",
        "socket0",
    ],
)
def test_a_counter_of_amd_energy_that_is_of_no_socket_is_left_out(
    tmp_path: Path, label: str
) -> None:
    """Cores are no zone of their own, and a label of another form says nothing."""
    chip(tmp_path, 0, "amd_energy", energy1_input=5, energy1_label=label)
    found = discover_meters(host_of(tmp_path))
    assert found.meters == ()
    assert "amd_energy" in dict(found.absent)


# --- batteries ---


@pytest.mark.parametrize(
    ("status", "files", "uw"),
    [
        ("Discharging", {"power_now": 9_500_000}, 9_500_000),
        ("Discharging", {"power_now": -9_500_000}, 9_500_000),
        ("Discharging", {"current_now": 2_000_000, "voltage_now": 11_500_000}, 23_000_000),
        ("Discharging", {"current_now": -2_000_000, "voltage_now": 11_500_000}, 23_000_000),
        (
            "Discharging",
            {"power_now": "no number", "current_now": 1_000_000, "voltage_now": 12_000_000},
            12_000_000,
        ),
        ("Discharging", {"power_now": 0}, 0),
        ("Discharging", {"power_now": ""}, None),
        ("Discharging", {"power_now": "", "current_now": 5}, None),
        ("Discharging", {"current_now": "", "voltage_now": 5}, None),
        ("Charging", {"power_now": 9_500_000}, None),
        ("Full", {"power_now": 0}, None),
        ("Not charging", {"power_now": 0}, None),
        ("Unknown", {"power_now": 1}, None),
        ("", {"power_now": 1}, None),
    ],
)
def test_a_battery_tells_what_it_gives(
    tmp_path: Path, status: str, files: dict[str, Any], uw: int | None
) -> None:
    """Field report 37: while it is charged or full it does not tell what the machine uses, and None
    is not 0 W.
    """
    folder = battery(tmp_path, status=status, **files)
    host = host_of(tmp_path)
    meters = discover_meters(host).meters
    assert meters == (Meter(folder, "platform", "battery", power=True),)
    assert read_meters(host, meters) == [uw]


#: BAT0 and BAT1, each with its state and what it shows; what the machine takes from them, µW.
TWO_BATTERIES: dict[str, tuple[tuple[str, object], tuple[str, object], int | None]] = {
    "one after the other": (("Not charging", 0), ("Discharging", 12_000_000), 12_000_000),
    "both, one of them at its end": (("Discharging", 0), ("Discharging", 12_000_000), 12_000_000),
    "both": (("Discharging", 7_000_000), ("Discharging", 5_000_000), 12_000_000),
    "one full": (("Discharging", 7_000_000), ("Full", 0), 7_000_000),
    "one of no known state": (("Discharging", 7_000_000), ("Unknown", 3_000_000), 7_000_000),
    "one charges the other": (("Discharging", 12_000_000), ("Charging", 9_000_000), None),
    "both charged": (("Charging", 20_000_000), ("Charging", 9_000_000), None),
    "full and charged": (("Full", 0), ("Charging", 9_000_000), None),
    "both full": (("Full", 0), ("Full", 0), None),
    "one that does not say": (("Discharging", 7_000_000), ("Discharging", "no number"), None),
    "one that is not emptied does not say": (
        ("Discharging", 7_000_000),
        ("Full", "no number"),
        7_000_000,
    ),
}


def through_a_reader(host: SysfsHost, meters: tuple[Meter, ...]) -> list[int | None]:
    return list(MeterReader(host, meters).read().values())


@pytest.mark.parametrize("case", TWO_BATTERIES)
def test_batteries_are_one_meter(tmp_path: Path, case: str) -> None:
    """What is taken from those that are emptied; nothing is known where one of them does not say,
    or while one is charged, as that is no use of the machine's.
    """
    *both, uw = TWO_BATTERIES[case]
    for number, (status, power) in enumerate(both):
        battery(tmp_path, f"BAT{number}", status, power_now=power)
    host = host_of(tmp_path)
    meters = discover_meters(host).meters
    assert meters == (Meter(f"{SUPPLY}/BAT0+BAT1", "platform", "battery", power=True),)
    assert read_meters(host, meters) == through_a_reader(host, meters) == [uw]


def test_batteries_that_tell_power_in_their_own_ways_are_added(tmp_path: Path) -> None:
    """One in µW, one in µA and µV, one below 0 as it gives."""
    battery(tmp_path, "BAT0", power_now=1_500_000)
    battery(tmp_path, "BAT1", current_now=2_000_000, voltage_now=11_500_000)
    battery(tmp_path, "BAT2", power_now=-500_000)
    host = host_of(tmp_path)
    assert read_meters(host, discover_meters(host).meters) == [25_000_000]


def test_a_battery_of_a_device_is_none_of_the_machine(tmp_path: Path) -> None:
    """A mouse: alone it is no meter, and beside the machine's own it neither adds to them nor keeps
    them from being read.
    """
    battery(tmp_path, "hidpp_battery_0", "Charging", power_now=500_000, scope="Device")
    found = discover_meters(host_of(tmp_path))
    assert (found.meters, dict(found.absent)["battery"]) == ((), NO_BATTERY[1])
    battery(tmp_path, "BAT0", power_now=9_000_000, scope="System")
    battery(tmp_path, "BAT1", power_now=1_000_000, scope="Unknown")
    host = host_of(tmp_path)
    meters = discover_meters(host).meters
    assert meters == (Meter(f"{SUPPLY}/BAT0+BAT1", "platform", "battery", power=True),)
    assert read_meters(host, meters) == [10_000_000]


def test_what_batteries_give_is_looked_up_at_every_look(tmp_path: Path) -> None:
    """One is emptied after the other; meanwhile the machine is plugged in."""
    for name in ("BAT0", "BAT1"):
        battery(tmp_path, name, "Full", power_now=0)
    host = host_of(tmp_path)
    reader = MeterReader(host, discover_meters(host).meters)
    seen: list[int | None] = []
    for first, second in (
        ("Discharging", "Full"),
        ("Full", "Full"),
        ("Charging", "Full"),
        ("Not charging", "Discharging"),
        ("Discharging", "Discharging"),
    ):
        battery(tmp_path, "BAT0", first, power_now=7_000_000)
        battery(tmp_path, "BAT1", second, power_now=5_000_000)
        seen += reader.read().values()
    assert seen == [7_000_000, None, None, 5_000_000, 12_000_000]


def test_a_battery_that_gives_nothing_costs_the_other_meters_nothing(tmp_path: Path) -> None:
    """Their descriptors are kept, look after look, as it is not lost."""
    two_sockets(tmp_path)
    battery(tmp_path, status="Full", power_now=0)
    host = host_of(tmp_path)
    reader = MeterReader(host, discover_meters(host).meters)
    reader.read()
    put(tmp_path, PACKAGE_1, 555)
    (tmp_path / PACKAGE_1).rename(tmp_path / "elsewhere")
    for _ in range(2):
        assert shown(reader) == [5, 6, 100, 555, None]
    host.forget()


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("Mains", {"power_now": 5}),
        ("USB", {"current_now": 5, "voltage_now": 5}),
        ("Battery", {}),
        ("Battery", {"voltage_now": 5}),
        ("", {"power_now": 5}),
    ],
)
def test_another_supply_is_no_meter(tmp_path: Path, kind: str, files: dict[str, Any]) -> None:
    """Nor is a battery that does not tell its power."""
    battery(tmp_path, kind=kind, **files)
    assert discover_meters(host_of(tmp_path)).meters == ()


# --- links ---


def test_links_out_of_the_tree_are_not_followed(tmp_path: Path) -> None:
    """A dump cannot show what is elsewhere on the machine that reads
    it; what is inside is found.
    """
    root, outside = tmp_path / "sys", tmp_path / "outside"
    one_socket(root)
    zone(outside, "intel-rapl:1", "package-1")
    chip(outside, 7, "power_meter", power1_average=5)
    battery(outside, power_now=5)
    (root / RAPL / "intel-rapl:1").symlink_to(outside / "intel-rapl:1")
    (root / RAPL / "intel-rapl:0/intel-rapl:0:9").symlink_to(outside / "intel-rapl:1")
    for folder, name in ((HWMON, "hwmon7"), (SUPPLY, "BAT0")):
        (root / folder).mkdir(parents=True)
        (root / folder / name).symlink_to(outside / folder / name)
    found = discover_meters(host_of(root))
    assert found.meters == ONE_SOCKET
    assert found.absent == NOTHING_ELSE


def test_a_counter_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    """Files of sysfs are none: it is a meter that shows nothing."""
    zone(tmp_path, f"{RAPL}/intel-rapl:0", "package-0")
    zone(tmp_path, f"{RAPL}/intel-rapl:1", "package-1", 7)
    path = tmp_path / RAPL / "intel-rapl:0/energy_uj"
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")
    host = host_of(tmp_path)
    assert read_meters(host, discover_meters(host).meters) == [None, 7]


# --- reading again and again ---


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[MeterReader]:
    """The meters of two sockets, and one of a battery."""
    two_sockets(tmp_path)
    battery(tmp_path, power_now=9_500_000)
    host = host_of(tmp_path)
    yield MeterReader(host, discover_meters(host).meters)
    host.forget()


PACKAGE_1 = f"{RAPL}/intel-rapl:0/energy_uj"


def shown(reader: MeterReader) -> list[int | None]:
    """By meter, in their order: memory and packages, then the battery."""
    return list(reader.read().values())


def test_every_meter_is_read_by_its_id(reader: MeterReader) -> None:
    """One value each, in any number of looks."""
    assert reader.read() == {
        **dict(zip((meter.id for meter in TWO_SOCKETS), (5, 6, 100, 101), strict=True)),
        f"{SUPPLY}/BAT0": 9_500_000,
    }
    assert shown(reader) == [5, 6, 100, 101, 9_500_000]


def test_counters_are_read_through_kept_descriptors(reader: MeterReader, tmp_path: Path) -> None:
    """No path is looked up again: what the counter of the first look shows is read even when its
    name is gone; a look opens nothing.
    """
    shown(reader)
    descriptors = len(os.listdir("/proc/self/fd"))
    put(tmp_path, PACKAGE_1, 555)
    (tmp_path / PACKAGE_1).rename(tmp_path / "elsewhere")
    assert shown(reader) == [5, 6, 100, 555, 9_500_000]
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_counter_that_was_replaced_comes_back(reader: MeterReader, tmp_path: Path) -> None:
    """A driver that was loaded anew: the kept file says nothing any more, and the look after that
    reads the new one.
    """
    shown(reader)
    os.truncate(tmp_path / PACKAGE_1, 0)
    (tmp_path / PACKAGE_1).unlink()
    put(tmp_path, PACKAGE_1, 7)
    assert shown(reader) == [5, 6, 100, None, 9_500_000]
    assert shown(reader) == [5, 6, 100, 7, 9_500_000]


def test_a_counter_that_vanishes_between_two_looks_costs_itself_only(
    reader: MeterReader, tmp_path: Path
) -> None:
    """Field report 37: the last CPU of a package went offline; the rest goes on, look after look,
    and the zone may come back.
    """
    gone: set[str] = set()
    reader.host = rig.Probe(
        reader.host, deny=lambda _verb, path: errno.ENODEV if path in gone else None
    )
    assert shown(reader) == [5, 6, 100, 101, 9_500_000]
    gone |= {f"{RAPL}/intel-rapl:0/energy_uj", f"{RAPL}/intel-rapl:0/intel-rapl:0:0/energy_uj"}
    for uj in (200, 300):
        put(tmp_path, f"{RAPL}/intel-rapl:1/energy_uj", uj)
        assert shown(reader) == [5, None, uj, None, 9_500_000]
    gone.clear()
    assert shown(reader) == [5, 6, 300, 101, 9_500_000]


def test_a_counter_that_is_gone_for_good_keeps_no_descriptors(
    reader: MeterReader, tmp_path: Path
) -> None:
    """However often it is looked for."""
    (tmp_path / PACKAGE_1).unlink()
    shown(reader)
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        assert shown(reader) == [5, 6, 100, None, 9_500_000]
    assert len(os.listdir("/proc/self/fd")) <= descriptors


def test_nothing_is_ever_written(tmp_path: Path) -> None:
    """Meters are read only."""
    laptop(tmp_path)
    host = rig.Probe(host_of(tmp_path))
    MeterReader(host, discover_meters(host).meters).read()
    assert host.writes == []


def test_no_meters_are_nothing(tmp_path: Path) -> None:
    """Field report 37: a machine without any is no failure."""
    assert MeterReader(host_of(tmp_path)).read() == {}
    assert read_meters(host_of(tmp_path), ()) == []


# --- anything ---

CONTENT = st.sampled_from(
    (
        b"",
        b"\n",
        b"0\n",
        b"7\n",
        b"-1\n",
        b"9" * 30,
        b"package-0\n",
        b"package-0-die-1\n",
        b"psys\n",
        b"core\n",
        b"BAT0",
        b"Battery\n",
        b"Discharging\n",
    )
) | st.binary(max_size=12)
PATHS = tuple(
    f"{folder}/{name}"
    for folder, names in (
        (f"{RAPL}/intel-rapl:0", ("name", "energy_uj", "max_energy_range_uj")),
        (f"{RAPL}/intel-rapl:1", ("name", "energy_uj", "max_energy_range_uj")),
        (f"{RAPL}/intel-rapl:0/intel-rapl:0:0", ("name", "energy_uj")),
        (f"{MMIO}/intel-rapl-mmio:0", ("name", "energy_uj")),
        (f"{HWMON}/hwmon0", ("name", "power1_input", "energy1_input", "energy1_label")),
        (f"{SUPPLY}/BAT0", ("type", "status", "power_now", "current_now", "voltage_now")),
    )
    for name in names
)


@given(st.dictionaries(st.sampled_from(PATHS), CONTENT, max_size=len(PATHS)))
def test_whatever_the_files_hold_nothing_is_raised(files: dict[str, bytes]) -> None:
    """Field reports 33, 37: and no meter shows less than 0."""
    with rig.state_folder() as name:
        rig.write_files(name, files)
        host = SysfsHost(name)
        found = discover_meters(host)
        values = MeterReader(host, found.meters).read()
        host.forget()
    assert values.keys() == {meter.id for meter in found.meters}
    assert all(value is None or value >= 0 for value in values.values())
    assert all(meter.range_uj is None or meter.range_uj > 0 for meter in found.meters)
