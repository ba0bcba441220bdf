"""Power zones from file to file: which are found (field reports 34, 36, 37), and what a cap writes,
reads back and gives back (field reports 33 to 36, A3, A5 to A7).
"""

import contextlib
import errno
import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kpm.request.machines import MachineSpec, PowerSpec, build_machine
from kpm_applier.attributes import Kind
from kpm_applier.diff import Repair
from kpm_applier.discovery.discover import discover
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.kernel_model.power import shown_limits
from kpm_applier.session import Report
from kpm_applier.state.baseline import cap_in_force
from kpm_applier.state.store import StateStore
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.caps.schedule import CapState
from kpm_planner.model.cap_objects import CapSource, PowerCap, StaticCap
from kpm_planner.model.changes import Outcome, Status
from kpm_planner.model.cluster import LabelSelector, Meta, Node, NodeSelector
from kpm_planner.model.machine import Machine, PowerLimit, PowerZone
from kpm_planner.model.objects import Intent
from kpm_planner.plan import NodeInput, NodePlan, plan_node
from tests.applier import rig
from tests.applier.power import (
    CLASS,
    LONG_SHORT,
    MMIO,
    PLATFORM,
    RAPL,
    UW,
    all_capped,
    bare,
    capped,
    file_of,
    found,
    nothing,
    power_files,
    put_sensor,
    put_zone,
    zones_of,
)
from tests.kpm.tree_samples import put

EPP_FREE = MachineSpec(cores=1, driver=None)


def xeon(packages: int = 2, **changes: object) -> Machine:
    """Two packages with RAPL's two limits; no CPU of it has anything else to set."""
    given = {"watts": 165, "max_watts": 165, "short_watts": 198, **changes}
    return build_machine(evolve(EPP_FREE, packages=packages, power=PowerSpec(**given)))  # type: ignore[arg-type]


def epyc(control: str = "amd_hsmp_hwmon", packages: int = 2) -> Machine:
    """Two sockets whose firmware has one limit each."""
    return build_machine(evolve(EPP_FREE, packages=packages, power=PowerSpec(control, 280, 400)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return bare(tmp_path / "sys")


# --- which zones there are ---


def test_one_socket(root: Path) -> None:
    """Folder, name, package, switch and both limits, each with its file."""
    folder = put_zone(root, f"{RAPL}/intel-rapl:0", "package-0")
    long = PowerLimit("long_term", "constraint_0_power_limit_uw", 165 * UW, 165 * UW, 999_424)
    short = PowerLimit("short_term", "constraint_1_power_limit_uw", 198 * UW, None, 999_424)
    assert zones_of(root) == (
        PowerZone(folder, "package-0", "intel-rapl", 0, None, True, (long, short)),
    )


def test_the_number_of_a_zone_is_not_its_package(root: Path) -> None:
    """Field report 34: two sockets of which intel-rapl:0 is package 1; they come in the order of
    packages.
    """
    put_zone(root, f"{RAPL}/intel-rapl:0", "package-1", [("long_term", 100 * UW, None)])
    put_zone(root, f"{RAPL}/intel-rapl:1", "package-0", [("long_term", 200 * UW, None)])
    assert [
        (zone.id[-1], zone.name, zone.package, zone.limits[0].limit_uw) for zone in zones_of(root)
    ] == [
        ("1", "package-0", 0, 200 * UW),
        ("0", "package-1", 1, 100 * UW),
    ]


def test_more_than_ten_zones_are_in_the_order_of_packages(root: Path) -> None:
    """By number, not by spelling."""
    for number in range(12):
        put_zone(root, f"{RAPL}/intel-rapl:{number}", f"package-{number}")
    assert [zone.package for zone in zones_of(root)] == list(range(12))


def test_the_number_of_a_constraint_is_not_its_limit(root: Path) -> None:
    """Field report 36: constraint_0 is the short-term limit here; the limits come long-term first,
    with the files that they have.
    """
    put_zone(
        root,
        f"{RAPL}/intel-rapl:0",
        "package-0",
        [("short_term", 198 * UW, 0), ("long_term", 165 * UW, 165 * UW)],
    )
    (zone,) = zones_of(root)
    assert [(limit.name, limit.file, limit.limit_uw) for limit in zone.limits] == [
        ("long_term", "constraint_1_power_limit_uw", 165 * UW),
        ("short_term", "constraint_0_power_limit_uw", 198 * UW),
    ]


def test_peak_power_is_no_limit_of_ours(root: Path) -> None:
    """Field report 36: of three constraints the hardware's own protection stays alone; a fourth
    that nobody knows does too.
    """
    constraints = [
        ("peak_power", 400 * UW, 0),
        ("long_term", 165 * UW, 165 * UW),
        ("short_term", 198 * UW, 0),
        ("new_term", 1, 1),
    ]
    put_zone(root, f"{RAPL}/intel-rapl:0", "package-0", constraints)
    result = discover(SysfsHost(str(root)))
    assert [limit.name for limit in result.machine.power_zones[0].limits] == [
        "long_term",
        "short_term",
    ]
    paths = {item.path for group in result.groups for item in group.files}
    assert (
        paths
        == set(result.observed.values)
        == {
            f"{RAPL}/intel-rapl:0/{name}"
            for name in ("enabled", "constraint_1_power_limit_uw", "constraint_2_power_limit_uw")
        }
    )


def test_the_platform_and_sub_zones_are_no_packages(root: Path) -> None:
    """Field report 34: psys contains the packages, a package contains core, uncore and memory; none
    of them is a cap of a package.
    """
    put_zone(root, f"{RAPL}/intel-rapl:0", "package-0")
    put_zone(root, f"{RAPL}/intel-rapl:1", "psys")
    put_zone(root, f"{RAPL}/intel-rapl:2", "psys-1")
    for number, name in enumerate(("core", "uncore", "dram", "package-7")):
        put_zone(
            root,
            f"{RAPL}/intel-rapl:0/intel-rapl:0:{number}",
            name,
            [("long_term", 0, None)],
            enabled=0,
        )
    assert [zone.id for zone in zones_of(root)] == [f"{RAPL}/intel-rapl:0"]


def test_memory_without_a_limit_leaves_its_package_alone(root: Path) -> None:
    """Field report 34: dram with a limit of 0, and core turned off, as servers have them."""
    put_zone(root, f"{RAPL}/intel-rapl:0", "package-0")
    alone = zones_of(root)
    put_zone(
        root,
        f"{RAPL}/intel-rapl:0/intel-rapl:0:0",
        "dram",
        [("long_term", 0, 41_250_000)],
        enabled=0,
    )
    assert zones_of(root) == alone


@pytest.mark.parametrize(
    ("limit", "enabled", "expected"),
    [
        (120 * UW, 1, 120 * UW),
        (300 * UW, 1, 300 * UW),
        (120 * UW, 0, None),
        (0, 1, None),
        ("", 1, None),
        (None, 1, None),
        (120 * UW, None, 120 * UW),
    ],
    ids=["lower", "higher", "off", "zero", "empty", "no file", "no switch"],
)
def test_the_memory_mapped_twin_is_told_and_no_zone(
    root: Path, limit: int | str | None, enabled: int | None, expected: int | None
) -> None:
    """Field reports 34, 35: what it limits to is known, by the limit's name; it is none of the
    files that are managed.
    """
    put_zone(root, f"{RAPL}/intel-rapl:0", "package-0")
    put_zone(
        root,
        f"{MMIO}/intel-rapl-mmio:0",
        "package-0",
        [("short_term", 50 * UW, 0), ("long_term", limit, 0)],
        enabled=enabled,
    )
    result = discover(SysfsHost(str(root)))
    assert [(zone.id, zone.mirror_uw) for zone in result.machine.power_zones] == [
        (f"{RAPL}/intel-rapl:0", expected)
    ]
    assert not any(MMIO in item.path for group in result.groups for item in group.files)


def test_twins_belong_to_packages_by_name(root: Path) -> None:
    """Their numbers say as little as those of the zones; one without a zone is nobody's."""
    for number in (0, 1):
        put_zone(root, f"{RAPL}/intel-rapl:{number}", f"package-{number}")
        put_zone(
            root,
            f"{MMIO}/intel-rapl-mmio:{number}",
            f"package-{1 - number}",
            [("long_term", (100 + number) * UW, 0)],
        )
    put_zone(root, f"{MMIO}/intel-rapl-mmio:2", "package-2")
    assert [zone.mirror_uw for zone in zones_of(root)] == [101 * UW, 100 * UW]


def test_a_twin_alone_caps_nothing(root: Path) -> None:
    """Firmware that uses only the memory-mapped interface has no zone that is written."""
    put_zone(root, f"{MMIO}/intel-rapl-mmio:0", "package-0")
    assert zones_of(root) == ()


def test_every_die_has_a_zone(root: Path) -> None:
    """Field report 34: keyed by package and die, so that two of one package are not one; in their
    order.
    """
    for number, name in enumerate(
        ("package-1-die-1", "package-0-die-1", "package-1-die-0", "package-0-die-0")
    ):
        put_zone(root, f"{RAPL}/intel-rapl:{number}", name)
    result = discover(SysfsHost(str(root)))
    assert [(zone.package, zone.die) for zone in result.machine.power_zones] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    ]
    keys = {group.key for group in result.groups}
    assert keys == {f"cap:package-{package}-die-{die}" for package in (0, 1) for die in (0, 1)}


@pytest.mark.parametrize(
    "name",
    [
        "package",
        "package-",
        "package-x",
        "package-0-die-",
        "package--1",
        "package-0 ",
        "Package-0",
        "package-٣",
        "package-1234567",
        "",
        "core",
    ],
)
def test_a_name_that_is_no_package_is_none(root: Path, name: str) -> None:
    """Only the names that the kernel gives; blanks around one are the newline's."""
    put_zone(root, f"{RAPL}/intel-rapl:0", name)
    assert [zone.name for zone in zones_of(root)] == (
        ["package-0"] if name.strip() == "package-0" else []
    )


@pytest.mark.parametrize(
    "folder",
    [
        "intel-rapl:",
        "intel-rapl:x",
        "intel-rapl:0x",
        "intel-rapl",
        "xintel-rapl:0",
        "intel-rapl:123456",
        "power",
        "uevent",
    ],
)
def test_a_folder_that_is_no_zone_is_none(root: Path, folder: str) -> None:
    """Whatever it holds."""
    put_zone(root, f"{RAPL}/{folder}", "package-0")
    assert zones_of(root) == ()


def test_a_zone_without_a_switch(root: Path) -> None:
    """Older kernels and AMD's have none: its group has the limits alone."""
    put_zone(root, f"{RAPL}/intel-rapl:0", "package-0", enabled=None)
    result = discover(SysfsHost(str(root)))
    assert result.machine.power_zones[0].enabled is None
    assert [item.label for group in result.groups for item in group.files] == [
        "long_term",
        "short_term",
    ]
    assert result.observed.errors.keys() <= {f"{RAPL}/intel-rapl:0/enabled"}


@pytest.mark.parametrize(("text", "expected"), [("0", False), ("1", True)])
def test_a_switch_is_read(root: Path, text: str, expected: bool) -> None:
    """Limits work only where it is on."""
    put_zone(root, f"{RAPL}/intel-rapl:0", "package-0", enabled=text)
    assert zones_of(root)[0].enabled is expected


@pytest.mark.parametrize(
    "top", [0, None, "", "no number", -5, 3_408_250_000_000, 10**25, 4_095_875_001], ids=str
)
def test_a_maximum_that_makes_no_sense_is_not_known(root: Path, top: int | str | None) -> None:
    """Field report 36: absent, 0, or more than the register holds."""
    put_zone(root, f"{RAPL}/intel-rapl:0", "package-0", [("long_term", 165 * UW, top)])
    assert [limit.max_uw for limit in zones_of(root)[0].limits] == [None]


@pytest.mark.parametrize("top", [1, 165 * UW, 4_095_875_000])
def test_a_maximum_that_the_register_holds_is_known(root: Path, top: int) -> None:
    """Up to 32767 eighths of a watt."""
    put_zone(root, f"{RAPL}/intel-rapl:0", "package-0", [("long_term", 165 * UW, top)])
    assert [limit.max_uw for limit in zones_of(root)[0].limits] == [top]


@pytest.mark.parametrize("number", [errno.ENODATA, errno.EACCES, errno.EIO])
def test_a_maximum_that_cannot_be_read_is_not_known(root: Path, number: int) -> None:
    """Field report 35: ENODATA of max_power_uw is common; the limit can be set all the same."""
    put_zone(root, f"{RAPL}/intel-rapl:0", "package-0")
    host = rig.Probe(
        SysfsHost(str(root)),
        deny=lambda _verb, path: number if path.endswith("max_power_uw") else None,
    )
    (zone,) = discover(host).machine.power_zones
    assert [(limit.limit_uw, limit.max_uw) for limit in zone.limits] == [
        (165 * UW, None),
        (198 * UW, None),
    ]


def test_a_limit_that_cannot_be_read_costs_itself_only(root: Path) -> None:
    """R6: it is there and not known; the others are."""
    put_zone(root, f"{RAPL}/intel-rapl:0", "package-0")
    broken = f"{RAPL}/intel-rapl:0/constraint_0_power_limit_uw"
    host = rig.Probe(
        SysfsHost(str(root)), deny=lambda _verb, path: errno.ENODATA if path == broken else None
    )
    result = discover(host)
    assert [(limit.name, limit.limit_uw) for limit in result.machine.power_zones[0].limits] == [
        ("long_term", None),
        ("short_term", 198 * UW),
    ]
    assert result.observed.errors[broken] == errno.ENODATA


def test_a_constraint_without_its_limit_is_none(root: Path) -> None:
    """A name alone can not be set."""
    put_zone(
        root, f"{RAPL}/intel-rapl:0", "package-0", [("long_term", None, 0), ("short_term", 1, 0)]
    )
    result = discover(SysfsHost(str(root)))
    assert [limit.name for limit in result.machine.power_zones[0].limits] == ["short_term"]
    assert set(result.observed.values) == {
        f"{RAPL}/intel-rapl:0/{name}" for name in ("enabled", "constraint_1_power_limit_uw")
    }


def test_a_package_of_amd_has_energy_and_no_limit(root: Path) -> None:
    """Field report 37: RAPL of AMD counts and does not cap, so it is no zone; where nothing else
    caps, nothing does.
    """
    put_zone(root, f"{RAPL}/intel-rapl:0", "package-0", [], enabled=0)
    put_zone(root, f"{RAPL}/intel-rapl:0/intel-rapl:0:0", "core", [], enabled=0)
    assert zones_of(root) == ()
    folder = put_sensor(root, f"{PLATFORM}/amd_hsmp/hwmon/hwmon3")
    assert [(zone.id, zone.control) for zone in zones_of(root)] == [(folder, "amd_hsmp_hwmon")]


def test_the_class_folder_alone_is_enough(root: Path) -> None:
    """Some dumps have it without the devices; top-level zones and
    sub-zones lie side by side there.
    """
    put_zone(root, f"{CLASS}/intel-rapl:0", "package-0")
    put_zone(root, f"{CLASS}/intel-rapl:0:0", "core")
    put_zone(root, f"{CLASS}/intel-rapl-mmio:0", "package-0", [("long_term", 90 * UW, 0)])
    assert [(zone.id, zone.mirror_uw) for zone in zones_of(root)] == [
        (f"{CLASS}/intel-rapl:0", 90 * UW)
    ]


def test_links_of_the_class_folder_are_no_second_zones(root: Path) -> None:
    """As the kernel has both: one zone, in the folder of the devices."""
    put_zone(root, f"{RAPL}/intel-rapl:0", "package-0")
    (root / CLASS).mkdir(parents=True)
    (root / CLASS / "intel-rapl:0").symlink_to(
        "../../devices/virtual/powercap/intel-rapl/intel-rapl:0"
    )
    assert [zone.id for zone in zones_of(root)] == [f"{RAPL}/intel-rapl:0"]


def test_no_powercap_at_all(root: Path) -> None:
    """Field report 37: a virtual machine, ARM, a kernel without it: nothing caps, and everything
    else is found.
    """
    machine = found(root)
    assert (machine.power_zones, machine.fabrics, machine.fabric_fault) == ((), (), "")
    assert machine.online == {0}


def test_one_device_a_socket(root: Path) -> None:
    """AMDI0097:NN, each with a sensor; numbers of sensors are the order of their drivers and say
    nothing.
    """
    put_sensor(root, f"{PLATFORM}/AMDI0097:00/hwmon/hwmon7", cap=100 * UW)
    put_sensor(root, f"{PLATFORM}/AMDI0097:01/hwmon/hwmon2", cap=200 * UW, top=None)
    assert [(zone.name, zone.package, zone.enabled, zone.limits) for zone in zones_of(root)] == [
        ("socket-0", 0, None, (PowerLimit("power_cap", "power1_cap", 100 * UW, 400 * UW),)),
        ("socket-1", 1, None, (PowerLimit("power_cap", "power1_cap", 200 * UW, None),)),
    ]


def test_one_device_of_all_sockets(root: Path) -> None:
    """Amd_hsmp with a sensor a socket, in the order of their numbers, 9 before 10."""
    for number in (10, 9, 11):
        put_sensor(root, f"{PLATFORM}/amd_hsmp/hwmon/hwmon{number}", cap=number * UW)
    assert [(zone.package, zone.limits[0].limit_uw) for zone in zones_of(root)] == [
        (0, 9 * UW),
        (1, 10 * UW),
        (2, 11 * UW),
    ]


def test_a_sensor_of_another_driver_or_without_a_cap_is_none(root: Path) -> None:
    """By its name; and a kernel that only measures has no power1_cap."""
    put_sensor(root, f"{PLATFORM}/amd_hsmp/hwmon/hwmon0", name="other")
    put_sensor(root, f"{PLATFORM}/amd_hsmp/hwmon/hwmon1", cap=None)
    put_sensor(root, f"{PLATFORM}/coretemp.0/hwmon/hwmon2")
    put_sensor(root, f"{PLATFORM}/amd_hsmpx/hwmon/hwmon3")
    assert zones_of(root) == ()


def test_a_socket_that_cannot_be_read_does_not_give_its_number_away(root: Path) -> None:
    """R6, field report 34: what is known of socket 1, and its baseline, is
    never taken for socket 0's.
    """
    for number in (0, 1):
        put_sensor(
            root, f"{PLATFORM}/AMDI0097:0{number}/hwmon/hwmon{number}", cap=(100 + number) * UW
        )
    host = rig.Probe(
        SysfsHost(str(root)),
        deny=lambda _verb, path: (
            errno.ETIMEDOUT if "AMDI0097:00" in path and path.endswith("power1_cap") else None
        ),
    )
    zones = discover(host).machine.power_zones
    assert [zone.package for zone in zones if "AMDI0097:01" in zone.id] == [1]


def test_rapl_goes_before_sensors(root: Path) -> None:
    """A machine has one of them; a tree with both has one cap a package all the same."""
    put_zone(root, f"{RAPL}/intel-rapl:0", "package-0")
    put_sensor(root, f"{PLATFORM}/amd_hsmp/hwmon/hwmon0")
    assert [zone.control for zone in zones_of(root)] == ["intel-rapl"]


# --- it never leaves the tree (A5) ---


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A zone beside the tree, with limits that a cap would change."""
    folder = tmp_path / "sys-outside"
    put_zone(folder, "zone", "package-0")
    put_sensor(folder, "sensor")
    return folder


Snapshot = Mapping[Path, bytes]


def contents(folder: Path) -> Snapshot:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("link", "target"),
    [
        (f"{RAPL}/intel-rapl:0", "zone"),
        (f"{CLASS}/intel-rapl:0", "zone"),
        (f"{PLATFORM}/amd_hsmp/hwmon/hwmon0", "sensor"),
        (f"{PLATFORM}/amd_hsmp/hwmon/hwmon0/power1_cap", "sensor/power1_cap"),
    ],
)
def test_what_a_link_leads_out_to_is_no_zone(
    root: Path, outside: Path, link: str, target: str
) -> None:
    """A5: it is neither read nor written, as a folder or as a file."""
    if link.endswith("power1_cap"):
        put_sensor(root, link.rpartition("/")[0], cap=None)
    (root / link).parent.mkdir(parents=True, exist_ok=True)
    (root / link).symlink_to(outside / target)
    assert zones_of(root) == ()


@pytest.mark.parametrize(
    "file", ["constraint_0_power_limit_uw", "constraint_1_power_limit_uw", "enabled"]
)
def test_a_file_that_is_a_link_out_is_not_written(
    root: Path, outside: Path, tmp_path: Path, file: str
) -> None:
    """A5: the other files are, and the report says which could not be."""
    put_zone(root, f"{RAPL}/intel-rapl:0", "package-0", enabled=0)
    (root / RAPL / "intel-rapl:0" / file).unlink()
    (root / RAPL / "intel-rapl:0" / file).symlink_to(outside / "zone" / file)
    before = contents(outside)
    host = SysfsHost(str(root))
    report = rig.apply_once(
        host,
        str(tmp_path / "state"),
        all_capped(discover(host).machine, long_term=100, short_term=120),
    )
    rig.restore_once(host, str(tmp_path / "state"))
    assert contents(outside) == before
    assert file == "enabled" or {
        outcome.path.rpartition("/")[2] for outcome in report.outcomes
    } == {file}


def test_a_copy_of_sys_is_capped_and_given_back(root: Path, tmp_path: Path) -> None:
    """On files as on the kernel's: both packages, by name, and nothing else of the tree has changed
    then or after.
    """
    put_zone(
        root,
        f"{RAPL}/intel-rapl:0",
        "package-1",
        [
            ("peak_power", 400 * UW, 0),
            ("short_term", 198 * UW, 0),
            ("long_term", 165 * UW, 165 * UW),
        ],
        enabled=0,
    )
    put_zone(root, f"{RAPL}/intel-rapl:1", "package-0")
    put_zone(root, f"{RAPL}/intel-rapl:2", "psys")
    put_zone(root, f"{RAPL}/intel-rapl:0/intel-rapl:0:0", "dram", [("long_term", 0, 0)], enabled=0)
    put_zone(root, f"{MMIO}/intel-rapl-mmio:0", "package-0")
    before = contents(root)
    host = SysfsHost(str(root))
    plan = capped(
        discover(host).machine,
        {
            "package-0": {"long_term": 100 * UW},
            "package-1": {"long_term": 90 * UW, "short_term": 95 * UW},
        },
    )
    assert rig.apply_once(host, str(tmp_path / "state"), plan).settled
    after = contents(root)
    assert {
        str(path.relative_to(root)): after[path] for path in after if after[path] != before[path]
    } == {
        f"{RAPL}/intel-rapl:1/constraint_0_power_limit_uw": b"100000000\n",
        f"{RAPL}/intel-rapl:0/constraint_2_power_limit_uw": b"90000000\n",
        f"{RAPL}/intel-rapl:0/constraint_1_power_limit_uw": b"95000000\n",
        f"{RAPL}/intel-rapl:0/enabled": b"1\n",
    }
    assert rig.restore_once(host, str(tmp_path / "state")).settled
    assert contents(root) == before


# --- what a cap writes ---


def test_a_cap_is_written_once(tmp_path: Path) -> None:
    """R3: the second pass, and the first one of the next process, write nothing."""
    model = KernelModel(xeon())
    plan = all_capped(model.machine, long_term=100)
    with rig.applier(model, str(tmp_path)) as handle:
        report = handle.apply(plan)
        assert (report.settled, report.outcomes) == (True, ())
        assert dict(model.log) == {
            file_of(zone, "long_term"): "100000000" for zone in model.machine.power_zones
        }
        assert handle.apply(plan) == Report()
    assert rig.apply_once(model, str(tmp_path), plan) == Report()
    assert len(model.log) == 2


def test_the_limits_of_packages_are_their_own(tmp_path: Path) -> None:
    """Field report 36: not one number for all; a package at baseline is not owned."""
    model = KernelModel(xeon(3))
    rig.apply_once(
        model,
        str(tmp_path),
        capped(
            model.machine,
            {"package-0": {"long_term": 80 * UW}, "package-2": {"long_term": 90 * UW}},
        ),
    )
    assert [shown_limits(model.power, zone)["long_term"] for zone in model.machine.power_zones] == [
        80 * UW,
        165 * UW,
        90 * UW,
    ]
    assert rig.owned(str(tmp_path)) == {"cap:package-0", "cap:package-2"}


def test_a_cap_is_turned_on_after_its_limits_and_off_before_them(tmp_path: Path) -> None:
    """Field report 35: a limit that is not enabled has no effect, and one
    from before may be nonsense.
    """
    model = KernelModel(xeon(1, enabled=False, watts=1, short_watts=2))
    zone = model.machine.power_zones[0]
    long, short, switch = (file_of(zone, name) for name in ("long_term", "short_term", "enabled"))
    rig.apply_once(model, str(tmp_path), all_capped(model.machine, long_term=100, short_term=120))
    assert model.log == [(short, "120000000"), (long, "100000000"), (switch, "1")]
    model.log.clear()
    assert rig.restore_once(model, str(tmp_path)).settled
    assert model.log == [(switch, "0"), (long, "1000000"), (short, "2000000")]


def test_a_plan_without_the_cap_turns_it_off_first_too(tmp_path: Path) -> None:
    """The same where the PowerCap goes while the agent stays."""
    model = KernelModel(xeon(1, enabled=False))
    before = power_files(model)
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(all_capped(model.machine, long_term=100))
        model.log.clear()
        assert handle.apply(nothing(handle.machine)).released == ("cap:package-0",)
    assert [path.rpartition("/")[2] for path, _ in model.log] == [
        "enabled",
        "constraint_0_power_limit_uw",
    ]
    assert power_files(model) == before


@pytest.mark.parametrize("number", [errno.ENODATA, errno.EIO])
def test_a_limit_that_was_refused_is_not_turned_on(tmp_path: Path, number: int) -> None:
    """Field report 35: what is in force then would be the limit from before, perhaps 0 W."""
    model = KernelModel(xeon(1, enabled=False, watts=1, short_watts=2))
    zone = model.machine.power_zones[0]
    host = rig.Probe(
        model,
        deny=lambda verb, path: (
            number if verb == "write" and path == file_of(zone, "long_term") else None
        ),
    )
    rig.apply_once(host, str(tmp_path), all_capped(model.machine, long_term=100, short_term=120))
    assert model.read(file_of(zone, "enabled")) == b"0\n"


def test_a_zone_that_is_on_is_not_turned_on(tmp_path: Path) -> None:
    """And a zone without a switch is capped without."""
    for machine in (
        xeon(1),
        evolve(
            xeon(1), power_zones=tuple(evolve(zone, enabled=None) for zone in xeon(1).power_zones)
        ),
    ):
        model = KernelModel(machine)
        with rig.state_folder() as folder:
            rig.apply_once(model, folder, all_capped(machine, long_term=100))
        assert [path.rpartition("/")[2] for path, _ in model.log] == ["constraint_0_power_limit_uw"]


def test_somebody_who_turns_the_cap_off_is_drift(tmp_path: Path) -> None:
    """Field report 35: it would have no effect; it is told and turned on again."""
    model = KernelModel(xeon(1))
    switch = file_of(model.machine.power_zones[0], "enabled")
    with rig.applier(model, str(tmp_path)) as handle:
        plan = all_capped(model.machine, long_term=100)
        handle.apply(plan)
        rig.foreign_write(model, switch, "0")
        assert [(write.path, write.old, write.value) for write in handle.apply(plan).drift] == [
            (switch, "0", "1")
        ]
        assert model.read(switch) == b"1\n"


@pytest.mark.parametrize("name", ["long_term", "short_term"])
def test_a_foreign_limit_is_drift(tmp_path: Path, name: str) -> None:
    """A3: thermal daemons and firmware write limits too; counted, told, put right."""
    model = KernelModel(xeon(2))
    path = file_of(model.machine.power_zones[1], name)
    plan = all_capped(model.machine, long_term=100, short_term=120)
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(plan)
        before = power_files(model)
        rig.foreign_write(model, path, "130000000")
        report = handle.apply(plan)
        assert [(write.path, write.old) for write in report.drift] == [(path, "130000000")]
        assert (handle.drift_count, power_files(model)) == (1, before)


def test_a_foreign_limit_may_only_be_reported(tmp_path: Path) -> None:
    """`repair: report`."""
    model = KernelModel(xeon(1))
    path = file_of(model.machine.power_zones[0], "long_term")
    with rig.applier(model, str(tmp_path), Repair.REPORT) as handle:
        plan = all_capped(model.machine, long_term=100)
        handle.apply(plan)
        rig.foreign_write(model, path, "130000000")
        report = handle.apply(plan)
        assert (
            [write.path for write in report.drift],
            [outcome.status for outcome in report.outcomes],
        ) == ([path], [Status.DRIFTED])
        assert model.read(path) == b"130000000\n"


def test_the_register_has_eighths_of_a_watt(tmp_path: Path) -> None:
    """Field report 35: what is read back is said, once, counts as settled, and is no drift."""
    model = KernelModel(xeon(1))
    path = file_of(model.machine.power_zones[0], "long_term")
    plan = capped(model.machine, {"package-0": {"long_term": 100_100_000}})
    with rig.applier(model, str(tmp_path)) as handle:
        report = handle.apply(plan)
        assert report.outcomes == (
            Outcome(path, "cap:package-0", Status.LIMITED, "100100000", "100000000"),
        )
        assert report.settled
        assert handle.apply(plan) == Report()
    assert rig.apply_once(model, str(tmp_path), plan) == Report()
    assert model.log == [(path, "100100000")]


def test_a_limit_that_the_register_cannot_hold_is_seen(tmp_path: Path) -> None:
    """15 bits, the rest is cut off in silence: 5000 W are 904 W, and the report says so."""
    model = KernelModel(xeon(1))
    path = file_of(model.machine.power_zones[0], "long_term")
    report = rig.apply_once(
        model,
        str(tmp_path),
        capped(model.machine, {"package-0": {"long_term": 5000 * UW, "short_term": 5000 * UW}}),
    )
    assert {outcome.path: outcome.shows for outcome in report.outcomes}[path] == str(904 * UW)


@pytest.mark.parametrize("watts", [1, 30, 165, 4095, 4096, 5000, 40_000])
@pytest.mark.parametrize("top", [None, 165])
def test_what_the_planner_asks_is_what_is_read_back(
    tmp_path: Path, watts: int, top: int | None
) -> None:
    """Its caps are eighths of a watt that the register holds, and below the firmware's maximum
    where there is one.
    """
    model = KernelModel(xeon(2, max_watts=top))
    report = rig.apply_once(model, str(tmp_path), planned(model.machine, watts, "all"))
    assert (report.settled, report.outcomes) == (True, ())
    assert all(
        shown_limits(model.power, zone)["long_term"] <= (top or 4095.875) * UW
        for zone in model.machine.power_zones
    )


def planned(machine: Machine, watts: int, constraint: str | None = None) -> NodePlan:
    """What the planner makes of a constant budget of the node."""
    cap = PowerCap(
        Meta("cap"),
        node_selector=NodeSelector(LabelSelector()),
        source=CapSource(static=StaticCap(watts)),
        constraint=constraint,
    )
    return plan_node(Intent(caps=(cap,)), NodeInput(Node("node"), machine))


# --- locked by firmware ---


def test_a_locked_zone_refuses_and_nothing_is_given_back_wrongly(tmp_path: Path) -> None:
    """Field report 35: every limit fails with ENODATA, and so the switch is not tried; the other
    package is capped, and a restore writes nothing to the locked one.
    """
    model = KernelModel(xeon(2))
    locked, free = model.machine.power_zones
    model.power.locked.add(locked.id)
    before = power_files(model)
    with rig.applier(model, str(tmp_path)) as handle:
        plan = all_capped(model.machine, long_term=100, short_term=120)
        report = handle.apply(plan)
        assert {
            (outcome.path, outcome.status, outcome.shows, outcome.errno)
            for outcome in report.outcomes
        } == {
            (file_of(locked, "long_term"), Status.FAILED, "165000000", errno.ENODATA),
            (file_of(locked, "short_term"), Status.FAILED, "198000000", errno.ENODATA),
            (file_of(locked, "enabled"), Status.FAILED, "0", errno.ENODATA),
        }
        assert not report.settled
        assert shown_limits(model.power, free) == {"long_term": 100 * UW, "short_term": 120 * UW}
        model.log.clear()
        assert handle.restore().settled
        assert all(path.startswith(free.id) for path, _ in model.log)
    assert power_files(model) == before
    assert rig.owned(str(tmp_path)) == set()


def test_a_zone_that_is_locked_later_keeps_its_entry(tmp_path: Path) -> None:
    """A7: what cannot be given back now is given back once it can."""
    model = KernelModel(xeon(1))
    (zone,) = model.machine.power_zones
    before = power_files(model)
    rig.apply_once(model, str(tmp_path), all_capped(model.machine, long_term=100))
    model.power.locked.add(zone.id)
    assert not rig.restore_once(model, str(tmp_path)).settled
    assert rig.owned(str(tmp_path)) == {"cap:package-0"}
    model.power.locked.clear()
    assert rig.restore_once(model, str(tmp_path)).settled
    assert (power_files(model), rig.owned(str(tmp_path))) == (before, set())


def test_firmware_that_takes_a_limit_and_keeps_its_own_is_seen(tmp_path: Path) -> None:
    """Field report 35: the write succeeds and the old value is read back; said once, not written
    again and again.
    """
    machine = xeon(1)
    model = KernelModel(machine)
    path = file_of(machine.power_zones[0], "long_term")
    host = rig.Probe(
        model,
        after_write=lambda written, _text: (
            model.power.limits.update({path: 165 * UW}) if written == path else None
        ),
    )
    plan = all_capped(machine, long_term=100)
    with rig.applier(host, str(tmp_path)) as handle:
        assert [
            (outcome.path, outcome.status, outcome.shows) for outcome in handle.apply(plan).outcomes
        ] == [(path, Status.LIMITED, "165000000")]
        assert (handle.apply(plan), len(host.writes)) == (Report(), 1)


@pytest.mark.parametrize("text", ["", "no number"])
def test_a_limit_that_was_no_number_stops_nothing(root: Path, tmp_path: Path, text: str) -> None:
    """R6, A7: copies of /sys have empty files; both limits are given back as they were, and so is
    the other package.
    """
    put_zone(
        root,
        f"{RAPL}/intel-rapl:0",
        "package-0",
        [("long_term", 165 * UW, 0), ("short_term", text, 0)],
    )
    put_zone(root, f"{RAPL}/intel-rapl:1", "package-1")
    before = contents(root)
    host = SysfsHost(str(root))
    rig.apply_once(host, str(tmp_path / "state"), planned(discover(host).machine, 100, "all"))
    rig.restore_once(host, str(tmp_path / "state"))
    assert contents(root) == before


# --- AMD ---


@pytest.mark.parametrize(("control", "text"), [("amd_hsmp_hwmon", "200000000"), ("hsmp", "200000")])
def test_an_amd_socket_is_capped_by_its_one_limit(tmp_path: Path, control: str, text: str) -> None:
    """µW in the file of the sensor, mW in the message; written once, drift is seen, baseline comes
    back.
    """
    model = KernelModel(epyc(control))
    before = power_files(model)
    files = [file_of(zone, "power_cap") for zone in model.machine.power_zones]
    with rig.applier(model, str(tmp_path)) as handle:
        plan = all_capped(model.machine, power_cap=200)
        assert handle.apply(plan).outcomes == ()
        assert model.log == [(file, text) for file in files]
        assert [limit.limit_uw for zone in handle.shown.power_zones for limit in zone.limits] == [
            200 * UW
        ] * 2
        assert [limit.limit_uw for zone in handle.machine.power_zones for limit in zone.limits] == [
            280 * UW
        ] * 2
        assert handle.apply(plan) == Report()
        rig.foreign_write(model, files[1], text[:-1])
        assert [write.path for write in handle.apply(plan).drift] == files[1:]
        assert handle.restore().settled
    assert power_files(model) == before


@pytest.mark.parametrize("control", ["amd_hsmp_hwmon", "hsmp"])
def test_amd_firmware_limits_to_its_maximum(tmp_path: Path, control: str) -> None:
    """More is cut off by it and told; the planner asks for no more."""
    model = KernelModel(epyc(control, 1))
    assert [
        outcome.status
        for outcome in rig.apply_once(
            model, str(tmp_path), all_capped(model.machine, power_cap=500)
        ).outcomes
    ] == [Status.LIMITED]
    assert rig.apply_once(model, str(tmp_path), planned(model.machine, 500)).outcomes == ()


# --- what the planner is told ---


def test_the_machine_of_the_planner_shows_baselines(tmp_path: Path) -> None:
    """So that a cap does not become its own baseline; what is in force is known beside it, after a
    restart too.
    """
    model = KernelModel(xeon(2, enabled=False))
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(all_capped(model.machine, long_term=100))
        assert handle.machine.power_zones == model.machine.power_zones
        assert [(zone.enabled, zone.limits[0].limit_uw) for zone in handle.shown.power_zones] == [
            (True, 100 * UW)
        ] * 2
    with rig.applier(model, str(tmp_path)) as handle:
        assert handle.machine.power_zones == model.machine.power_zones
        assert cap_in_force(handle.shown, handle.state.groups) == (
            CapState("", 200 * UW),
            {0: 100 * UW, 1: 100 * UW},
        )
        handle.restore()
        assert cap_in_force(handle.shown, handle.state.groups) == (None, {})


def test_a_package_that_is_not_capped_does_not_count(tmp_path: Path) -> None:
    """Nor does a machine that nobody caps have a cap."""
    model = KernelModel(xeon(2))
    with rig.applier(model, str(tmp_path)) as handle:
        assert cap_in_force(handle.shown, handle.state.groups) == (None, {})
        handle.apply(capped(model.machine, {"package-1": {"long_term": 70 * UW}}))
        assert cap_in_force(handle.shown, handle.state.groups) == (
            CapState("", 70 * UW),
            {1: 70 * UW},
        )


def test_the_cap_in_force_is_the_limit_that_was_asked_for(tmp_path: Path) -> None:
    """Not one that is at its baseline beside it: a restart would pull a short-term cap down."""
    model = KernelModel(xeon(1))
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(all_capped(model.machine, short_term=190))
        assert cap_in_force(handle.shown, handle.state.groups) == (
            CapState("", 190 * UW),
            {0: 190 * UW},
        )


def test_a_limit_that_cannot_be_read_is_not_turned_on(tmp_path: Path) -> None:
    """It could not be given back, so it is not written, and what it
    holds must not come in force.
    """
    model = KernelModel(xeon(1, enabled=False))
    (zone,) = model.machine.power_zones
    model.faults[file_of(zone, "long_term")] = errno.EIO
    with rig.applier(model, str(tmp_path)) as handle:
        report = handle.apply(all_capped(model.machine, long_term=100))
        assert not report.settled
    assert model.log == []


def test_a_driver_that_comes_later_is_found(tmp_path: Path) -> None:
    """The remedy of what is missing must need no restart."""
    machine = xeon(1)
    model = KernelModel(evolve(machine, power_zones=()))
    with rig.applier(model, str(tmp_path)) as handle:
        assert not handle.changed()
        model.power = KernelModel(machine).power
        assert handle.changed()
        assert handle.discover().machine.power_zones == machine.power_zones
        assert not handle.changed()


# --- zones that are numbered anew ---


def renumbered(machine: Machine) -> Machine:
    """The same packages in folders of other numbers, with the constraints the other way round."""
    zones = machine.power_zones
    folders = [zone.id for zone in reversed(zones)]
    swapped = {
        "constraint_0_power_limit_uw": "constraint_1_power_limit_uw",
        "constraint_1_power_limit_uw": "constraint_0_power_limit_uw",
    }
    return evolve(
        machine,
        power_zones=tuple(
            evolve(
                zone,
                id=folder,
                limits=tuple(evolve(limit, file=swapped[limit.file]) for limit in zone.limits),
            )
            for zone, folder in zip(zones, folders, strict=True)
        ),
    )


def test_a_package_is_the_same_whatever_its_number(tmp_path: Path) -> None:
    """Field reports 34, 36: after the modules are loaded again in another order, every package gets
    its own baseline back.
    """
    machine = evolve(xeon(2), power_zones=tuple(_unlike(zone) for zone in xeon(2).power_zones))
    first = KernelModel(machine)
    rig.apply_once(first, str(tmp_path), all_capped(machine, long_term=100, short_term=120))
    second = KernelModel(renumbered(machine))
    for zone, other in zip(machine.power_zones, second.machine.power_zones, strict=True):
        for name in ("long_term", "short_term"):
            rig.foreign_write(
                second, file_of(other, name), str(shown_limits(first.power, zone)[name])
            )
    plan = all_capped(second.machine, long_term=100, short_term=120)
    assert rig.apply_once(second, str(tmp_path), plan) == Report()
    assert rig.restore_once(second, str(tmp_path)).settled
    assert [shown_limits(second.power, zone) for zone in second.machine.power_zones] == [
        shown_limits(KernelModel(machine).power, zone) for zone in machine.power_zones
    ]
    assert rig.owned(str(tmp_path)) == set()


def _unlike(zone: PowerZone) -> PowerZone:
    return evolve(
        zone,
        limits=tuple(
            evolve(limit, limit_uw=(limit.limit_uw or 0) + zone.package * UW)
            for limit in zone.limits
        ),
    )


@pytest.mark.parametrize(
    ("first", "second"), [("hsmp", "amd_hsmp_hwmon"), ("amd_hsmp_hwmon", "hsmp")]
)
def test_another_driver_makes_the_entry_void(tmp_path: Path, first: str, second: str) -> None:
    """A7: a baseline in mW is not written to a file of µW, though both are the cap of socket 0."""
    before, after = KernelModel(epyc(first, 1)), KernelModel(epyc(second, 1))
    rig.apply_once(before, str(tmp_path), all_capped(before.machine, power_cap=200))
    with rig.applier(after, str(tmp_path)) as handle:
        assert (handle.state.groups, handle.restore()) == ({}, Report())
    assert after.log == []


# --- laws, over whatever caps follow each other ---

WATTS = st.sampled_from((10, 50, 100, 150, 165, 198, 250))


@st.composite
def boxes(draw: st.DrawFn) -> Machine:
    """One to three packages, dies among them, whose limits are anything that firmware leaves
    behind, short not below long.
    """
    zones = []
    for package in range(draw(st.integers(1, 3))):
        long, more = draw(WATTS), draw(st.sampled_from((0, 1, 40)))
        both = draw(st.booleans())
        limits = [
            PowerLimit(
                "long_term",
                "constraint_0_power_limit_uw",
                long * UW,
                draw(st.sampled_from((None, 165 * UW))),
            )
        ]
        limits += (
            [PowerLimit("short_term", "constraint_1_power_limit_uw", (long + more) * UW)]
            if both
            else []
        )
        zones.append(
            PowerZone(
                f"{RAPL}/intel-rapl:{package}",
                f"package-{package}",
                "intel-rapl",
                package,
                None,
                draw(st.sampled_from((None, False, True))),
                tuple(limits),
            )
        )
    return evolve(xeon(1), power_zones=tuple(zones))


@st.composite
def stories(draw: st.DrawFn) -> tuple[Machine, tuple[NodePlan, ...]]:
    """A machine and what PowerCaps ask of it, one after the other; none is one of them."""
    machine = draw(boxes())
    asked = draw(
        st.lists(
            st.tuples(
                st.sampled_from((None, 30, 99, 200, 301, 5000)),
                st.sampled_from((None, "long_term", "short_term", "all")),
            ),
            min_size=1,
            max_size=4,
        )
    )
    return machine, tuple(
        nothing(machine) if watts is None else planned(machine, watts, constraint)
        for watts, constraint in asked
    )


def check_zones(model: KernelModel) -> None:
    """What must hold of every zone after every write."""
    for zone in model.machine.power_zones:
        limits = shown_limits(model.power, zone)
        assert limits.get("short_term", limits["long_term"]) >= limits["long_term"], model.log


@given(stories())
def test_short_is_never_below_long(story: tuple[Machine, tuple[NodePlan, ...]]) -> None:
    """Field report 36: not between two writes either, whatever cap follows whatever, and while all
    of it is given back.
    """
    machine, plans = story
    model = KernelModel(machine)
    host = rig.Probe(model, after_write=lambda _path, _text: check_zones(model))
    with rig.state_folder() as folder, rig.applier(host, folder) as handle:
        for plan in plans:
            handle.apply(plan)
        handle.restore()


@given(stories())
def test_a_zone_is_on_only_with_limits_that_were_there_or_asked_for(
    story: tuple[Machine, tuple[NodePlan, ...]],
) -> None:
    """Field report 35: where the switch was off, it goes on after the limits of the plan and off
    before they go.
    """
    machine, plans = story
    model = KernelModel(machine)
    was_off = {
        zone.id: shown_limits(model.power, zone)
        for zone in machine.power_zones
        if zone.enabled is False
    }
    allowed: dict[str, list[Mapping[str, int]]] = {}

    def check(_path: str, _text: str) -> None:
        for zone in machine.power_zones:
            if zone.id in was_off and model.power.switches[f"{zone.id}/enabled"]:
                shown = shown_limits(model.power, zone)
                assert all(
                    any(shown[name] == limits[name] for limits in allowed[zone.id])
                    for name in shown
                ), model.log

    host = rig.Probe(model, after_write=check)
    with rig.state_folder() as folder, rig.applier(host, folder) as handle:
        before: dict[str, Mapping[str, int]] = {}
        for plan in plans:
            now = {
                target.zone.id: _asked(target.zone, target.limits)
                for target in plan.caps
                if any(target.limits)
            }
            allowed = {
                zone.id: [limits for limits in (before.get(zone.id), now.get(zone.id)) if limits]
                for zone in machine.power_zones
            }
            handle.apply(plan)
            before = now
        handle.restore()


def _asked(zone: PowerZone, limits: tuple[int | None, ...]) -> Mapping[str, int]:
    """What a plan's limits come to: a limit that is not asked for has its baseline."""
    return {
        limit.name: asked if asked is not None else limit.limit_uw or 0
        for limit, asked in zip(zone.limits, limits, strict=True)
    }


@given(stories())
def test_the_last_cap_is_all_that_is_left(story: tuple[Machine, tuple[NodePlan, ...]]) -> None:
    """R1, R3, A7: as if it had been the first; nothing is written twice; and then everything is as
    it was.
    """
    machine, plans = story
    long_way, short_way = KernelModel(machine), KernelModel(machine)
    before = power_files(long_way)
    with rig.state_folder() as one, rig.state_folder() as two:
        for plan in plans:
            assert rig.apply_once(long_way, one, plan).settled
        rig.apply_once(short_way, two, plans[-1])
        assert power_files(long_way) == power_files(short_way)
        assert rig.owned(one) == rig.owned(two)
        assert rig.apply_once(long_way, one, plans[-1]).writes == ()
        assert rig.restore_once(long_way, one).settled
        assert (power_files(long_way), rig.owned(one)) == (before, set())


@given(stories(), st.data())
def test_a_kill_between_two_writes_is_harmless(
    story: tuple[Machine, tuple[NodePlan, ...]], data: st.DataObject
) -> None:
    """A6: the next process comes to the same end, and gives back the same."""
    machine, plans = story
    whole, broken = KernelModel(machine), KernelModel(machine)
    before = power_files(whole)
    with rig.state_folder() as one, rig.state_folder() as two:
        for plan in plans:
            rig.apply_once(whole, one, plan)
            with contextlib.suppress(rig.Crash):
                rig.apply_once(rig.Probe(broken, crash_at=data.draw(st.integers(0, 9))), two, plan)
        rig.apply_once(broken, two, plans[-1])
        assert power_files(broken) == power_files(whole)
        with contextlib.suppress(rig.Crash):
            rig.restore_once(rig.Probe(broken, crash_at=data.draw(st.integers(0, 9))), two)
        rig.restore_once(broken, two)
        assert (power_files(broken), rig.owned(two)) == (before, set())


@pytest.mark.parametrize("control", ["intel-rapl", "amd_hsmp_hwmon", "hsmp"])
def test_every_place_where_a_process_may_be_killed(control: str) -> None:
    """A6, each of them: while a cap is set, lowered, raised and given back."""
    machine = xeon(2, enabled=False) if control == "intel-rapl" else epyc(control)
    before = power_files(KernelModel(machine))
    plans = [planned(machine, watts, "all") for watts in (200, 100, 300)]
    for at, number in itertools.product(range(7), range(len(plans) + 1)):
        model = KernelModel(machine)
        with rig.state_folder() as folder:
            for plan in plans[:number]:
                rig.apply_once(model, folder, plan)
            with contextlib.suppress(rig.Crash):
                host = rig.Probe(model, crash_at=at)
                (
                    rig.restore_once(host, folder)
                    if number == len(plans)
                    else rig.apply_once(host, folder, plans[number])
                )
            assert rig.restore_once(model, folder).settled
            assert (power_files(model), rig.owned(folder)) == (before, set())


def test_what_is_no_limit_of_a_package_is_never_written(root: Path, tmp_path: Path) -> None:
    """Field reports 34 to 36: peak_power, windows, maxima, psys, sub-zones, the twin: not by a cap,
    its change, drift, or its end.
    """
    put_zone(
        root,
        f"{RAPL}/intel-rapl:0",
        "package-0",
        [*LONG_SHORT, ("peak_power", 400 * UW, 0)],
        enabled=0,
    )
    put_zone(root, f"{RAPL}/intel-rapl:1", "psys")
    for number, name in enumerate(("core", "dram")):
        put_zone(root, f"{RAPL}/intel-rapl:0/intel-rapl:0:{number}", name)
    put_zone(root, f"{MMIO}/intel-rapl-mmio:0", "package-0", [("long_term", 20 * UW, 0)])
    host = rig.Probe(SysfsHost(str(root)))
    with rig.applier(host, str(tmp_path / "state")) as handle:
        for watts, constraint in itertools.product(
            (10, 150, 90, 5000), ("long_term", "short_term", "all")
        ):
            handle.apply(planned(handle.machine, watts, constraint))
            handle.apply(planned(handle.machine, watts, constraint))
        put(root, f"{RAPL}/intel-rapl:0/constraint_0_power_limit_uw", 1)
        handle.apply(planned(handle.machine, 5000, "all"))
        handle.restore()
    allowed = {
        item.path
        for group in discover(host).groups
        if group.kind is Kind.CAP
        for item in group.files
    }
    assert {path for path, _ in host.writes} <= allowed
    assert len(allowed) == 3


def test_energy_is_not_read_by_a_pass(tmp_path: Path) -> None:
    """A1: reading the counter runs on a CPU of the package."""
    host = rig.Probe(KernelModel(xeon()))
    with rig.applier(host, str(tmp_path)) as handle:
        handle.apply(all_capped(handle.machine, long_term=100))
        handle.apply(all_capped(handle.machine, long_term=100))
    assert not [path for path in host.reads if path.endswith("energy_uj")]


def test_the_baseline_is_in_the_state_file_before_the_first_write(tmp_path: Path) -> None:
    """A7, for limits and switch."""
    model = KernelModel(xeon(2, enabled=False))

    def check(path: str, _text: str) -> None:
        key = f"cap:package-{path.partition('intel-rapl:')[2][0]}"
        assert StateStore(str(tmp_path), "/model", live=False).load().groups[key].baseline == (
            "0",
            "165000000",
            "198000000",
        )

    rig.apply_once(
        rig.Probe(model, before_write=check),
        str(tmp_path),
        all_capped(model.machine, long_term=100),
    )
    assert len(model.log) == 4


def test_a_package_that_goes_costs_itself_only(root: Path, tmp_path: Path) -> None:
    """A2: the other one stays capped and nothing is raised; the entry stays, and its baseline is
    given back when it is there again.
    """
    for number in (0, 1):
        put_zone(root, f"{RAPL}/intel-rapl:{number}", f"package-{number}", enabled=0)
    before = contents(root)
    host = SysfsHost(str(root))
    with rig.applier(host, str(tmp_path / "state")) as handle:
        handle.apply(all_capped(handle.machine, long_term=100))
        (root / RAPL / "intel-rapl:0").rename(tmp_path / "away")
        for watts in (100, 90, 80):
            handle.apply(all_capped(handle.machine, long_term=watts))
            handle.discover()
        assert (
            root / RAPL / "intel-rapl:1/constraint_0_power_limit_uw"
        ).read_text() == "80000000\n"
        report = handle.restore()
        assert [(outcome.group, outcome.status) for outcome in report.outcomes] == [
            ("cap:package-0", Status.OFFLINE)
        ]
        (tmp_path / "away").rename(root / RAPL / "intel-rapl:5")
        handle.discover()
        assert handle.restore().settled
        (root / RAPL / "intel-rapl:5").rename(root / RAPL / "intel-rapl:0")
    assert contents(root) == before
