"""What is assumed of each meter of a machine before it has taught anything, and which machine that
is.
"""

from collections.abc import Iterable, Mapping

from kpm.energy.coefficients import coefficients_of, processor_of
from kpm_planner.energy.estimate import Coefficients
from kpm_planner.energy.meters import Meter, whole_zone
from kpm_planner.energy.shares import EnergyCpu, WeightPolicy
from kpm_planner.energy.standing import Package, Prior, prior_of
from kpm_planner.model.machine import Machine

#: What a whole machine takes more for a busy CPU than its packages: conversion, fans, memory.
_WHOLE, _WHOLE_ERROR = 1.2, 0.4
#: Of a package's slope what its cores take, and how sure that is.
_CORES, _CORES_ERROR = 0.9, 0.4
_ESTIMATE_ERROR = 0.01
#: An entry of cpu_models.yaml that is this far off, per cent, is of all other processors; what
#: their cores and frequencies are says more.
_ANY_OTHER = 80
_UW = 1_000_000
#: What tells processors apart (cpuinfo of x86 and of ARM).
_NAMES = (
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "CPU implementer",
    "CPU part",
    "CPU variant",
)


def priors_of(
    machine: Machine,
    cpus: Iterable[EnergyCpu],
    meters: Iterable[Meter],
    cpuinfo: str,
    weights: WeightPolicy,
) -> dict[str, Prior]:
    """Meter id → what is assumed; meters of which nothing can be are left out: memory, devices,
    parts of boards.
    """
    kind, power, known = coefficients_of(cpuinfo), design_watts(machine), tuple(cpus)
    core_w = kind.core if kind.error < _ANY_OTHER else 0.0
    by_package = {}
    for package in {cpu.package for cpu in known}:
        mine = [cpu for cpu in known if cpu.package == package]
        load, cores = (
            sum(_full_load(cpu, weights) for cpu in mine),
            sum(1 / (1 + len(cpu.siblings)) for cpu in mine),
        )
        by_package[package] = prior_of(
            Package(
                power.get(package, 0.0),
                load,
                cores,
                max_khz=max(cpu.max_khz for cpu in mine),
                core_w=core_w,
                core_error=kind.error / 100,
            )
        )
    found = tuple(meters)
    whole = whole_zone({meter.zone for meter in found})
    made = {meter.id: _prior(meter, whole, by_package, kind) for meter in found}
    return {name: prior for name, prior in made.items() if prior is not None}


def design_watts(machine: Machine) -> dict[int, float]:
    """Package → thermal design power as its power zone names it; where it names none, the limit
    that is in force.
    """
    found: dict[int, float] = {}
    for zone in machine.power_zones:
        if zone.limits:
            limit = zone.limits[0]
            found[zone.package] = (
                found.get(zone.package, 0.0) + (limit.max_uw or limit.limit_uw or 0) / _UW
            )
    return found


def machine_key(machine: Machine, cpuinfo: str) -> str:
    """What makes this machine another than one whose standing power was learned: processor, CPUs,
    packages, design power.
    """
    words = processor_of(cpuinfo)
    packages = sorted({cpu.package or 0 for cpu in machine.cpus})
    parts = [words.get(name, "") for name in _NAMES]
    power = [zone.limits[0].max_uw or 0 for zone in machine.power_zones if zone.limits]
    return "|".join([*parts, str(len(machine.cpus)), str(len(packages)), *map(str, power)])[:1000]


def _full_load(cpu: EnergyCpu, weights: WeightPolicy) -> float:
    """The weighted load of a CPU that is busy all the time, as are the other hyperthreads of its
    core.
    """
    others = len(cpu.siblings)
    return (1 + others * weights.sibling / 100) / (1 + others)


def _prior(
    meter: Meter, whole: str | None, by_package: Mapping[int, Prior], kind: Coefficients
) -> Prior | None:
    if meter.source == "estimated":
        return Prior(kind.core, _ESTIMATE_ERROR)
    mean = sum(prior.slope_w for prior in by_package.values()) / max(len(by_package), 1)
    if meter.zone == "package":
        return by_package.get(meter.package or 0)
    if meter.zone == "core" and (meter.package or 0) in by_package:
        return Prior(by_package[meter.package or 0].slope_w * _CORES, _CORES_ERROR)
    if meter.zone == whole and mean:
        return Prior(mean * _WHOLE, _WHOLE_ERROR)
    return None
