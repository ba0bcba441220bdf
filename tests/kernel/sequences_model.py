"""Lives of nodes on the kernel model: machines of every driver that is managed."""

import contextlib
from collections import Counter
from collections.abc import Mapping
from functools import partial

from attrs import define, evolve, field

from kpm.request.machines import (
    CoreSpec,
    IdleStateSpec,
    MachineSpec,
    PowerSpec,
    UncoreSpec,
    build_machine,
)
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.sysfs.host import Host
from kpm_planner.model.machine import Machine
from tests.applier import rig
from tests.kernel.sequences_life import Fault, Life, life_of, live, seed_of, shortest

_IDLE = tuple(IdleStateSpec(name, us) for name, us in (("POLL", 0), ("C1", 2), ("C6", 133)))
_SMALL = MachineSpec(cores=3, idle_driver="intel_idle", idle_states=_IDLE)
_INTEL = evolve(_SMALL, epp="balance_performance", boost=True)
_KINDS = (CoreSpec(2, "big", 1, 400, 2500), CoreSpec(2, "little", 1, 400, 1500))
_ARM = evolve(_SMALL, driver="cppc_cpufreq", kinds=_KINDS, architecture="aarch64")
_TABLED = evolve(_SMALL, driver="acpi-cpufreq", available_mhz=(800, 1800, 2600, 3700))
_TWO = ("performance", "schedutil")
_SIX = ("conservative", "ondemand", "userspace", "powersave", "performance", "schedutil")
#: How far turbo goes above what a machine without it names.
_TURBO_KHZ = 400_000
MACHINES: dict[str, MachineSpec] = {
    "intel_pstate": evolve(_INTEL, uncore=UncoreSpec(), power=PowerSpec(short_watts=198)),
    "intel_pstate, HWP off": evolve(_INTEL, epp=None, boost=None, uncore=UncoreSpec(layout="tpmi")),
    "intel_cpufreq": evolve(_INTEL, driver="intel_cpufreq", governors=_SIX, governor="schedutil"),
    "acpi-cpufreq": evolve(_TABLED, boost=True),
    "acpi-cpufreq, shared": evolve(_TABLED, cores=4, domain_size=2),
    "amd-pstate": evolve(_SMALL, driver="amd-pstate", governors=_TWO, governor=_TWO[1]),
    "amd-pstate-epp": evolve(
        _SMALL,
        driver="amd-pstate-epp",
        epp="balance_performance",
        power=PowerSpec("amd_hsmp_hwmon", 280, 400),
        fabric_protocol=5,
    ),
    "cppc_cpufreq": evolve(_ARM, boost=False),
    "cppc_cpufreq, shared": evolve(_ARM, domain_size=2),
}


@define
class ModelWorld:
    """A kernel model, and what happens around it. removable: all CPUs but the first one."""

    machine: Machine
    latency: float
    driver: str = ""
    removable: tuple[int, ...] = ()
    model: KernelModel = field(init=False)

    @property
    def turbo(self) -> bool:
        return self.machine.boost is not None

    def __attrs_post_init__(self) -> None:
        self.driver = self.machine.domains[0].driver or ""
        self.removable = tuple(sorted(self.machine.online - {0}))
        self.reboot()

    @property
    def host(self) -> Host:
        return self.model

    @property
    def offline(self) -> set[int]:
        return self.model.offline

    def text(self, path: str) -> str | None:
        try:
            return self.model.read(path).decode().strip()
        except OSError:
            return None

    def settle(self) -> None:
        self.model.settle()

    def differing(self, wanted: Mapping[str, frozenset[str]]) -> dict[str, str]:
        self.settle()
        found = {path: self.text(path) for path in wanted}
        return {path: text for path, text in found.items() if text and text not in wanted[path]}

    def plug(self, cpu: int, *, online: bool) -> None:
        self.model.plug(cpu, online=online)

    def write(self, path: str, text: str) -> None:
        with contextlib.suppress(OSError):
            rig.foreign_write(self.model, path, text)

    def pass_time(self, seconds: float) -> None:
        self.model.clock += seconds

    def late(self) -> None:
        self.model.clock += 0.3

    def reboot(self) -> None:
        # Without turbo a frequency table ends below its last entry.
        tables = {item.id: item.available_khz for item in self.machine.domains}
        lower = {number: table[-2] for number, table in tables.items() if table}
        boosted = {}
        if self.machine.boost is False:
            tops = {item.id: item.hardware_max_khz or 0 for item in self.machine.domains}
            boosted = {number: top + _TURBO_KHZ for number, top in tops.items()}
        clock = self.model.clock if hasattr(self, "model") else 0.0
        self.model = KernelModel(self.machine, self.latency, boosted, lower, clock=clock)


def lead(name: str, life: Life, counts: Counter[str] | None = None) -> Fault | None:
    """A life on the model of a machine."""
    world = ModelWorld(build_machine(MACHINES[name]), life.latency)
    return live(world, life, Counter() if counts is None else counts)


def shortened(name: str, seed: object, number: int) -> Fault:
    """The fault of one life of a run, cut down to what is needed for it."""
    fault = lead(name, life_of(seed_of(seed, name, number)))
    if fault is None:
        raise ValueError(f"life {number} of {name} has no fault")
    return shortest(fault, partial(lead, name))
