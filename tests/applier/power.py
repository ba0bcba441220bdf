"""What the tests of power share: zones as files in a folder, caps and fabrics as plans by hand,
what a model's zones hold.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from kpm_applier.discovery.discover import discover
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.caps.zones import CapTarget
from kpm_planner.fabric import FabricTarget
from kpm_planner.model.machine import Fabric, Machine, PowerZone
from kpm_planner.plan import NodePlan
from tests.kpm.tree_samples import put

UW = 1_000_000
RAPL = "devices/virtual/powercap/intel-rapl"
MMIO = "devices/virtual/powercap/intel-rapl-mmio"
CLASS = "class/powercap"
PLATFORM = "devices/platform"
#: Name of a constraint → its limit and its maximum, µW; None for no such file, a text for what is
#: no number.
Constraints = Iterable[tuple[str, int | str | None, int | str | None]]
LONG_SHORT: Constraints = (("long_term", 165 * UW, 165 * UW), ("short_term", 198 * UW, 0))


def bare(root: Path) -> Path:
    """A tree with one CPU and nothing else."""
    put(root, "devices/system/cpu/online", "0")
    put(root, "devices/system/cpu/present", "0")
    return root


def put_zone(
    root: Path,
    folder: str,
    name: str,
    constraints: Constraints = LONG_SHORT,
    *,
    enabled: int | str | None = 1,
    energy: int = 5,
) -> str:
    """A zone of the powercap framework, as the kernel shows it; returns its folder."""
    put(root, f"{folder}/name", name)
    put(root, f"{folder}/energy_uj", energy)
    put(root, f"{folder}/max_energy_range_uj", 262_143_328_850)
    if enabled is not None:
        put(root, f"{folder}/enabled", enabled)
    for number, (label, limit, top) in enumerate(constraints):
        put(root, f"{folder}/constraint_{number}_name", label)
        put(root, f"{folder}/constraint_{number}_time_window_us", 999_424)
        for file, value in (("power_limit_uw", limit), ("max_power_uw", top)):
            if value is not None:
                put(root, f"{folder}/constraint_{number}_{file}", value)
    return folder


def put_sensor(
    root: Path,
    folder: str,
    *,
    cap: int | None = 280 * UW,
    top: int | None = 400 * UW,
    name: str = "amd_hsmp_hwmon",
) -> str:
    """A hardware monitor of one AMD socket."""
    put(root, f"{folder}/name", name)
    put(root, f"{folder}/power1_input", 90 * UW)
    for file, value in (("power1_cap", cap), ("power1_cap_max", top)):
        if value is not None:
            put(root, f"{folder}/{file}", value)
    return folder


def found(root: Path) -> Machine:
    """The machine of a tree."""
    return discover(SysfsHost(str(root))).machine


def zones_of(root: Path) -> tuple[PowerZone, ...]:
    """What caps power in a tree."""
    return found(root).power_zones


# --- plans by hand ---


def capped(machine: Machine, limits: Mapping[str, Mapping[str, int]]) -> NodePlan:
    """Zone → limit → µW; everything else at baseline."""
    caps = tuple(
        CapTarget(zone, tuple(limits.get(zone.name, {}).get(limit.name) for limit in zone.limits))
        for zone in machine.power_zones
    )
    return NodePlan(
        "node", (), fabrics=tuple(FabricTarget(fabric) for fabric in machine.fabrics), caps=caps
    )


def all_capped(machine: Machine, **limits: int) -> NodePlan:
    """The same limits for every zone; W."""
    return capped(
        machine,
        {
            zone.name: {name: watts * UW for name, watts in limits.items()}
            for zone in machine.power_zones
        },
    )


def fabrics(machine: Machine, **asked: str) -> NodePlan:
    """P-states by socket, as in socket0="2"."""
    targets = tuple(
        FabricTarget(fabric, asked.get(f"socket{fabric.package}")) for fabric in machine.fabrics
    )
    return NodePlan(
        "node",
        (),
        fabrics=targets,
        caps=tuple(CapTarget(zone, (None,) * len(zone.limits)) for zone in machine.power_zones),
    )


def nothing(machine: Machine) -> NodePlan:
    """Everything at baseline."""
    return capped(machine, {})


# --- what is there ---


def power_files(model: KernelModel) -> dict[str, str]:
    """What every file of every zone that can be written shows."""
    found = discover(model)
    paths = [
        item.path
        for group in found.groups
        if group.key.startswith(("cap:", "fabric:"))
        for item in group.files
    ]
    return {path: model.read(path).decode().strip() for path in paths}


def file_of(zone: PowerZone, name: str) -> str:
    """The path of a zone's limit, by its name, or of its switch."""
    if name == "enabled":
        return f"{zone.id}/enabled"
    return f"{zone.id}/{next(limit.file for limit in zone.limits if limit.name == name)}"


def with_fabrics(packages: int, protocol: int = 5) -> Machine:
    """A machine of fabrics alone."""
    return Machine(fabrics=tuple(Fabric(package, protocol) for package in range(packages)))
