"""What holds a CPU back that nobody asked for is told with its file; nothing of it is written."""

from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve

from kpm_applier.discovery.clamps import clamps_of
from kpm_applier.discovery.discover import discover
from kpm_applier.sysfs.tree import SysfsHost
from tests.applier.power import MMIO, RAPL, UW, put_zone
from tests.kpm.cli_rig import tree_hash
from tests.kpm.tree_samples import CPU, INTEL, build_tree, put

DEVICE = "devices/virtual/thermal/cooling_device3"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four CPUs of two packages."""
    return build_tree(tmp_path, evolve(INTEL, packages=2))


def told(root: Path, *cpus: int, ours: tuple[str, ...] = ()) -> list[str]:
    host = SysfsHost(str(root))
    return list(map(str, clamps_of(host, discover(host).machine, cpus or (0,), ours)))


def test_a_machine_that_nothing_holds_back_has_no_line(root: Path) -> None:
    assert told(root, 0, 1, 2, 3) == []
    assert told(root, 99) == [], "nor has a CPU that is not there"


def _firmware(root: Path) -> None:
    put(root, f"{CPU}/cpufreq/policy0/bios_limit", 2_300_000)


def _heat(root: Path) -> None:
    put(root, f"{CPU}/cpu0/thermal_throttle/core_throttle_count", 49)
    put(root, f"{CPU}/cpu0/thermal_throttle/core_throttle_total_time_ms", 215)


def _heat_of_the_package(root: Path) -> None:
    put(root, f"{CPU}/cpu0/thermal_throttle/package_throttle_count", 7)


def _cooling(root: Path) -> None:
    for name, value in {"type": "intel_powerclamp", "cur_state": 24, "max_state": 50}.items():
        put(root, f"{DEVICE}/{name}", value)


def _power(root: Path) -> None:
    limits = (("long_term", 95 * UW, 165 * UW), ("short_term", 198 * UW, 0))
    put_zone(root, f"{RAPL}/intel-rapl:0", "package-0", limits)


def _memory_mapped(root: Path) -> None:
    put_zone(root, f"{RAPL}/intel-rapl:0", "package-0")
    put_zone(root, f"{MMIO}/intel-rapl-mmio:0", "package-0", (("long_term", 45 * UW, 165 * UW),))


def _profile(root: Path) -> None:
    put(root, "firmware/acpi/platform_profile", "low-power")


@pytest.mark.parametrize(
    ("clamp", "words"),
    [
        (_firmware, "the firmware allows 2.3 GHz at most (devices/system/cpu/cpufreq/policy0/bio"),
        (
            _heat,
            "the core was throttled for heat 49 times since the machine started, 215 ms in all",
        ),
        (_heat_of_the_package, "the package was throttled for heat 7 times since the machine st"),
        (_cooling, f"intel_powerclamp cools CPUs, at 24 of 50 ({DEVICE}/cur_state)"),
        (_power, "package-0 may draw 95 W over 0.999 s of 165 W (devices/virtual/powercap/intel-r"),
        (_memory_mapped, "package-0 may draw 45 W by its memory-mapped limit"),
        (_profile, "the firmware's platform profile is low-power (firmware/acpi/platform_profile)"),
    ],
)
def test_each_kind_is_told_once_and_only_read(
    root: Path, clamp: Callable[[Path], None], words: str
) -> None:
    clamp(root)
    before = tree_hash(root)
    (line,) = told(root, 0)
    assert line.startswith(words), line
    assert tree_hash(root) == before
    other = told(root, 2)
    whole = clamp in (_cooling, _profile)
    assert other == ([line] if whole else []), "a CPU of the other package has none of it"


def test_what_holds_nothing_back_has_no_line(root: Path) -> None:
    put(root, f"{CPU}/cpufreq/policy0/bios_limit", 3_700_000)
    put(root, f"{CPU}/cpu0/thermal_throttle/core_throttle_count", 0)
    put_zone(root, f"{RAPL}/intel-rapl:0", "package-0")
    off = (("long_term", 10 * UW, 165 * UW),)
    put_zone(root, f"{RAPL}/intel-rapl:1", "package-1", off, enabled=0)
    for number, (kind, state) in enumerate(
        [("intel_powerclamp", "-1"), ("Processor", "0"), ("Fan", "3"), ("Processor", "what?")]
    ):
        put(root, f"devices/virtual/thermal/cooling_device{number}/type", kind)
        put(root, f"devices/virtual/thermal/cooling_device{number}/cur_state", state)
    put(root, "firmware/acpi/platform_profile", "performance")
    assert told(root, 0, 1, 2, 3) == []


def test_a_cap_of_a_powercap_object_is_no_limit_of_somebody_else(root: Path) -> None:
    _power(root)
    assert told(root, 0, ours=("package-0",)) == []


def test_links_alone_do(root: Path) -> None:
    """A dump may have class/thermal with nothing behind devices/virtual."""
    for name, value in {"type": "Processor", "cur_state": 2}.items():
        put(root, f"class/thermal/cooling_device0/{name}", value)
    assert told(root, 0) == [
        "Processor cools CPUs, at 2 of ? (class/thermal/cooling_device0/cur_state)"
    ]
