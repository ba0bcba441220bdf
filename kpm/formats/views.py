"""Machines and plans as the JSON of the command line: versioned, growing only by addition
(docs/schema).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import evolve

from kpm.process.errors import InputError, show
from kpm.request.readings import instant_of
from kpm_planner.caps.schedule import Reading, Signals
from kpm_planner.caps.zones import CapTarget
from kpm_planner.model.allocation import Allocation, ContainerCpus
from kpm_planner.model.cluster import Pod
from kpm_planner.model.cpuset import LARGEST_CPU
from kpm_planner.model.machine import (
    CPU_SETTINGS,
    DOMAIN_SETTINGS,
    TESTED_DRIVERS,
    Cpu,
    CpufreqSettings,
    Fabric,
    FrequencyDomain,
    IdleState,
    Machine,
    PowerLimit,
    PowerZone,
    UncoreEntry,
)
from kpm_planner.model.problems import Problem
from kpm_planner.model.target import SETTINGS
from kpm_planner.model.why import Why
from kpm_planner.parts import CpuGroup
from kpm_planner.plan import ClusterPlan, NodePlan
from kpm_planner.uncore import UncoreTarget

VERSION = 1


def features(machine: Machine) -> list[dict[str, Any]]:
    """What of power management the machine supports, and where not, why."""
    managed = [domain for domain in machine.domains if domain.managed]
    no_frequency = why_no_frequency(machine)
    epp = any(domain.settings.epp is not None for domain in machine.domains)
    file, idle = "energy_performance_preference", f"driver {machine.idle_driver or 'unknown'}"
    no_fabric = machine.fabric_fault or "no HSMP device"
    entries, switch = f"{len(machine.uncore)} entries", machine.boost is not None
    found = (
        ("frequency", managed, _driver_words(machine), no_frequency),
        ("epp", epp, f"{file} exists", f"the driver has no {file}"),
        ("idle", machine.idle_names, idle, "no cpuidle states"),
        ("uncore", machine.uncore, entries, "no intel_uncore_frequency"),
        ("cap", machine.power_zones, _cap_reason(machine), _cap_reason(machine)),
        ("fabric", machine.fabrics, "HSMP answers", no_fabric),
        ("boost", switch, "a node-wide switch exists", "no node-wide switch"),
    )
    return [
        {"name": name, "supported": bool(has), "reason": yes if has else no}
        for name, has, yes, no in found
    ]


def _driver_words(machine: Machine) -> str:
    drivers = sorted({domain.driver for domain in machine.domains if domain.driver})
    untested = sorted(set(drivers) - TESTED_DRIVERS)
    note = f"; not tried with {', '.join(untested)}, the general rules hold" if untested else ""
    return f"driver {', '.join(drivers)}{note}"


def why_no_frequency(machine: Machine) -> str:
    """Why no frequency of a machine can be set."""
    if not any(domain.driver for domain in machine.domains):
        return "no cpufreq policy: no scaling driver is loaded"
    return (
        "no file says between which frequencies the hardware runs (cpuinfo_min_freq,"
        " cpuinfo_max_freq)"
    )


def _cap_reason(machine: Machine) -> str:
    if not machine.power_zones:
        return "no powercap zone of a package has limits, and no AMD driver offers one"
    return (
        f"{len(machine.power_zones)} zones,"
        f" {', '.join(sorted({zone.control for zone in machine.power_zones}))}"
    )


def machine_view(machine: Machine) -> dict[str, Any]:
    """A machine as `discover -o json` gives it. Units: kHz, µs."""
    return {
        "version": VERSION,
        "architecture": machine.architecture,
        "cpuModel": machine.cpu_model,
        "cpus": [_cpu_view(cpu) for cpu in machine.cpus],
        "frequencyDomains": [_domain_view(domain) for domain in machine.domains],
        "idle": {
            "driver": machine.idle_driver,
            "cpus": [
                {
                    "cpu": cpu.id,
                    "states": [_state_view(state) for state in cpu.idle],
                    **{key: getattr(cpu, name) for name, key in CPU_SETTINGS.items()},
                }
                for cpu in machine.cpus
                if cpu.idle or any(getattr(cpu, name) is not None for name in CPU_SETTINGS)
            ],
        },
        "uncore": [_uncore_view(entry) for entry in machine.uncore],
        "boost": machine.boost,
        "powerZones": [_zone_view(zone) for zone in machine.power_zones],
        "fabrics": [
            {"package": fabric.package, "protocol": fabric.protocol, "pstates": fabric.pstates}
            for fabric in machine.fabrics
        ],
        "fabricFault": machine.fabric_fault or None,
        "driverStatus": machine.driver_status,
        **{
            name: percent
            for name, percent in (
                ("minPercent", machine.min_percent),
                ("maxPercent", machine.max_percent),
            )
            if percent is not None
        },
        "features": features(machine),
    }


def _cpu_view(cpu: Cpu) -> dict[str, Any]:
    return {
        "cpu": cpu.id,
        "online": cpu.online,
        "package": cpu.package,
        "die": cpu.die,
        "cluster": cpu.cluster,
        "core": cpu.core,
        "siblings": list(cpu.siblings),
        "frequencyDomain": cpu.domain,
    }


def _uncore_view(entry: UncoreEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "package": entry.package,
        "die": entry.die,
        "domain": entry.domain,
        "cluster": entry.cluster,
        "hardwareMinKHz": entry.hardware_min_khz,
        "hardwareMaxKHz": entry.hardware_max_khz,
        "minKHz": entry.min_khz,
        "maxKHz": entry.max_khz,
    }


def _domain_view(domain: FrequencyDomain) -> dict[str, Any]:
    settings = domain.settings
    return {
        "id": domain.id,
        "cpus": list(domain.cpus),
        "driver": domain.driver,
        "hardwareMinKHz": domain.hardware_min_khz,
        "hardwareMaxKHz": domain.hardware_max_khz,
        "limitMaxKHz": domain.limit_max_khz,
        **({} if domain.limit_named else {"limitNamed": False}),
        **({} if domain.base_khz is None else {"baseKHz": domain.base_khz}),
        "availableKHz": list(domain.available_khz),
        "governors": list(domain.governors),
        "epps": list(domain.epps),
        **{key: getattr(settings, name) for name, (key, _) in DOMAIN_SETTINGS.items()},
    }


def _zone_view(zone: PowerZone) -> dict[str, Any]:
    limits = [
        {
            "name": limit.name,
            "file": limit.file,
            "limitUW": limit.limit_uw,
            "maxUW": limit.max_uw,
            "windowUs": limit.window_us,
        }
        for limit in zone.limits
    ]
    return {
        "id": zone.id,
        "name": zone.name,
        "control": zone.control,
        "package": zone.package,
        "die": zone.die,
        "enabled": zone.enabled,
        "limits": limits,
        "mirrorUW": zone.mirror_uw,
    }


def _state_view(state: IdleState) -> dict[str, Any]:
    default = (
        None
        if state.default_enabled is None
        else "enabled"
        if state.default_enabled
        else "disabled"
    )
    return {
        "index": state.index,
        "name": state.name,
        "latencyUs": state.latency_us,
        "enabled": state.enabled,
        "default": default,
    }


class _Fields:
    """Typed access to a mapping of a file, with faults that name the field."""

    def __init__(self, content: Any, path: str) -> None:
        if not isinstance(content, Mapping):
            raise InputError(f"{path}: expected a mapping, got {show(content)}")
        self.content, self.path = content, path

    def get(self, name: str, kind: type, *, needed: bool = False) -> Any:
        value = self.content.get(name)
        if value is None and not needed:
            return None
        if type(value) is not kind:
            names = {
                int: "a whole number",
                str: "text",
                bool: "true or false",
                list: "a list",
                dict: "a mapping",
            }
            raise InputError(f"{self.path}.{name}: expected {names[kind]}, got {show(value)}")
        return value

    def numbers(self, name: str) -> tuple[int, ...]:
        return tuple(self._items(name, int, "whole numbers"))

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(self._items(name, str, "texts"))

    def _items(self, name: str, kind: type, what: str) -> list[Any]:
        items = self.get(name, list) or []
        if not all(type(item) is kind for item in items):
            raise InputError(f"{self.path}.{name}: expected a list of {what}, got {show(items)}")
        return list(items)

    def each(self, name: str, make: Callable[["_Fields"], Any]) -> list[Any]:
        return [
            make(_Fields(item, f"{self.path}.{name}[{index}]"))
            for index, item in enumerate(self.get(name, list) or [])
        ]


def machine_of(content: Mapping[str, Any], source: str) -> Machine:
    """A machine from what `machine_view` gave. Errors: InputError."""
    top = _Fields(content, source)
    version = top.get("version", int, needed=True)
    if version != VERSION:
        raise InputError(f"{source}.version: expected {VERSION}, got {version}")
    idle = _Fields({} if content.get("idle") is None else content["idle"], f"{source}.idle")
    alone = dict(idle.each("cpus", _alone_of))
    cpus = top.each("cpus", lambda item: _cpu_of(item, alone))
    domains = top.each("frequencyDomains", _domain_of)
    if not cpus:
        raise InputError(f"{source}.cpus: is missing or empty; a machine has CPUs")
    _check_machine(cpus, domains, source)
    return Machine(
        architecture=top.get("architecture", str),
        cpu_model=top.get("cpuModel", str),
        cpus=tuple(sorted(cpus, key=lambda cpu: int(cpu.id))),
        domains=tuple(domains),
        idle_driver=idle.get("driver", str),
        uncore=tuple(top.each("uncore", _uncore_of)),
        boost=top.get("boost", bool),
        driver_status=top.get("driverStatus", str),
        power_zones=tuple(top.each("powerZones", _zone_of)),
        fabrics=tuple(
            top.each(
                "fabrics",
                lambda item: Fabric(
                    item.get("package", int, needed=True),
                    item.get("protocol", int),
                    item.get("pstates", str) or "auto",
                ),
            )
        ),
        fabric_fault=top.get("fabricFault", str) or "",
        min_percent=top.get("minPercent", int),
        max_percent=top.get("maxPercent", int),
    )


def _check_machine(cpus: list[Cpu], domains: list[FrequencyDomain], source: str) -> None:
    """Refuse a machine that contradicts itself. Errors: InputError."""
    for name, numbers in (
        ("cpus", [cpu.id for cpu in cpus]),
        ("frequencyDomains", [domain.id for domain in domains]),
    ):
        wrong = [number for number in numbers if not 0 <= number <= LARGEST_CPU] or [
            number for number, times in Counter(numbers).items() if times > 1
        ]
        if wrong:
            raise InputError(
                f"{source}.{name}: expected each number once, from 0 to {LARGEST_CPU}, got"
                f" {wrong[0]}"
            )
    known = {domain.id for domain in domains}
    for cpu in cpus:
        if cpu.domain is not None and cpu.domain not in known:
            raise InputError(
                f"{source}.cpus: CPU {cpu.id} is in frequency domain {cpu.domain}, which"
                " frequencyDomains does not list"
            )


def _state_of(item: _Fields) -> IdleState:
    default = item.get("default", str)
    enabled = item.get("enabled", bool)
    if default not in (None, "enabled", "disabled"):
        raise InputError(f"{item.path}.default: expected enabled or disabled, got {show(default)}")
    index, name, latency = (
        item.get("index", int, needed=True),
        item.get("name", str, needed=True),
        item.get("latencyUs", int) or 0,
    )
    return IdleState(
        index,
        name,
        latency,
        enabled is not False,
        None if default is None else default == "enabled",
    )


def _alone_of(item: _Fields) -> tuple[int, dict[str, Any]]:
    """A CPU's number, and what it has alone, by field."""
    states = tuple(item.each("states", _state_of))
    settings = {name: item.get(key, str) for name, key in CPU_SETTINGS.items()}
    return item.get("cpu", int, needed=True), {"idle": states, **settings}


def _cpu_of(item: _Fields, alone: Mapping[int, Mapping[str, Any]]) -> Cpu:
    number = item.get("cpu", int, needed=True)
    package, die, cluster, core = (
        item.get(name, int) for name in ("package", "die", "cluster", "core")
    )
    online, domain = item.get("online", bool) is not False, item.get("frequencyDomain", int)
    return Cpu(
        number,
        online,
        package,
        die=die,
        cluster=cluster,
        core=core,
        siblings=item.numbers("siblings"),
        domain=domain,
        **alone.get(number, {}),
    )


def _domain_of(item: _Fields) -> FrequencyDomain:
    top = item.get("hardwareMaxKHz", int) or None
    return FrequencyDomain(
        id=item.get("id", int, needed=True),
        cpus=item.numbers("cpus"),
        driver=item.get("driver", str),
        hardware_min_khz=item.get("hardwareMinKHz", int),
        hardware_max_khz=top,
        limit_max_khz=item.get("limitMaxKHz", int) or top,
        base_khz=item.get("baseKHz", int) or None,
        available_khz=item.numbers("availableKHz"),
        governors=item.texts("governors"),
        epps=item.texts("epps"),
        settings=CpufreqSettings(
            **{name: item.get(key, kind) for name, (key, kind) in DOMAIN_SETTINGS.items()}
        ),
        limit_named=item.get("limitNamed", bool) is not False,
    )


def _uncore_of(item: _Fields) -> UncoreEntry:
    numbers = (
        item.get(name, int)
        for name in (
            "package",
            "die",
            "domain",
            "cluster",
            "hardwareMinKHz",
            "hardwareMaxKHz",
            "minKHz",
            "maxKHz",
        )
    )
    return UncoreEntry(item.get("name", str, needed=True), *numbers)


def _zone_of(item: _Fields) -> PowerZone:
    limits = item.each(
        "limits",
        lambda limit: PowerLimit(
            limit.get("name", str, needed=True),
            limit.get("file", str, needed=True),
            *(limit.get(key, int) for key in ("limitUW", "maxUW", "windowUs")),
        ),
    )
    name, control, package = (
        item.get("name", str, needed=True),
        item.get("control", str, needed=True),
        item.get("package", int, needed=True),
    )
    return PowerZone(
        item.get("id", str, needed=True),
        name,
        control,
        package=package,
        die=item.get("die", int),
        enabled=item.get("enabled", bool),
        limits=tuple(limits),
        mirror_uw=item.get("mirrorUW", int),
    )


def readings_view(signals: Signals) -> dict[str, Any]:
    """What external sources had answered, as snapshots hold it."""
    return {
        name: {"watts": reading.watts, "at": reading.at.isoformat()}
        for name, reading in signals.external.items()
    }


def readings_from(content: Any, place: str) -> dict[str, Reading]:
    """What `readings_view` gave. Errors: InputError."""
    items = {} if content is None else _Fields(content, f"{place}.capReadings").content
    found = {}
    for name, value in items.items():
        item = _Fields(value, f"{place}.capReadings.{show(name)}")
        watts: Any = item.content.get("watts")
        if type(watts) not in (int, float):
            raise InputError(f"{item.path}.watts: expected a number, got {show(watts)}")
        found[str(name)] = Reading(
            float(watts), instant_of(item.get("at", str, needed=True), f"{item.path}.at")
        )
    return found


def problem_view(problem: Problem) -> dict[str, str]:
    """A problem of a plan."""
    return {
        "severity": problem.severity,
        "code": problem.code,
        "object": problem.object,
        "field": problem.field,
        "message": problem.message,
    }


def plan_view(
    plan: ClusterPlan, left_out: Mapping[str, tuple[Why, ...]] | None = None
) -> dict[str, Any]:
    """A plan as `plan -o json` gives it: one entry a CPU. left_out: node → why objects are not
    about it, where that is to be told.
    """
    return {
        "version": VERSION,
        "nodes": [
            _node_view(node)
            if left_out is None
            else {**_node_view(node), "notInForce": left_out_view(left_out.get(node.node, ()))}
            for node in plan.nodes
        ],
        "problems": [problem_view(problem) for problem in plan.problems],
    }


def _uncore_target_view(target: UncoreTarget) -> dict[str, Any]:
    return {
        "name": target.entry.name,
        "package": target.entry.package,
        "die": target.entry.die,
        "minKHz": target.min_khz,
        "maxKHz": target.max_khz,
        "because": list(target.because),
    }


def _cap_view(target: CapTarget) -> dict[str, Any]:
    limits = zip(target.zone.limits, target.limits, strict=True)
    return {
        "zone": target.zone.name,
        "package": target.zone.package,
        "die": target.zone.die,
        "limitsUW": {limit.name: uw for limit, uw in limits},
        "because": list(target.because),
    }


def left_out_view(reasons: Iterable[Why]) -> list[dict[str, Any]]:
    """Why objects are not about a node."""
    return [{"object": why.object, "field": why.field, "reason": str(why)} for why in reasons]


def _node_view(plan: NodePlan) -> dict[str, Any]:
    return {
        "node": plan.node,
        "cpus": sorted(
            (view for group in plan.groups for view in _group_views(group)),
            key=lambda view: int(view["cpu"]),
        ),
        "uncore": [_uncore_target_view(target) for target in plan.uncore],
        "turbo": plan.boost,
        "powerCaps": [_cap_view(target) for target in plan.caps],
        "fabrics": [
            {
                "package": target.fabric.package,
                "pstates": target.pstates,
                "because": list(target.because),
            }
            for target in plan.fabrics
        ],
        "scaling": [
            {
                "domain": item.domain,
                "cpus": list(item.cpus),
                "profile": item.profile,
                "minKHz": item.scaling.min_khz,
                "maxKHz": item.scaling.max_khz,
                "byLimits": item.by_limits,
            }
            for item in plan.scaling
        ],
        "extendedResources": dict(plan.extended_resources),
        "problems": [problem_view(problem) for problem in plan.problems],
        "validUntil": plan.valid_until.isoformat() if plan.valid_until else None,
    }


def _group_views(group: CpuGroup) -> list[dict[str, Any]]:
    target, owner = group.target, group.container
    shared = {
        "pool": group.pool,
        "profile": group.profile,
        "container": (
            None
            if owner is None
            else {
                "namespace": owner.namespace,
                "pod": owner.pod,
                "uid": owner.uid,
                "name": owner.name,
                "id": owner.id,
            }
        ),
        **{item.key: getattr(target, item.name) for item in SETTINGS},
        "cstates": dict(target.idle) or None,
        "held": group.held,
        "because": list(group.because),
    }
    return [{"cpu": cpu, **shared} for cpu in group.cpus]


def allocation_view(allocation: Allocation) -> dict[str, Any]:
    """An allocation as snapshots hold it, beside the pods, which are objects."""
    return {
        "version": VERSION,
        "answered": allocation.answered,
        "allocatable": None if allocation.allocatable is None else sorted(allocation.allocatable),
        "pods": [
            {
                "namespace": pod.meta.namespace or "default",
                "name": pod.meta.name,
                "uid": pod.meta.uid,
                "phase": pod.phase,
            }
            for pod in allocation.pods
        ],
        "containers": list(map(_container_view, allocation.reported)),
        **(
            {"claimed": list(map(_container_view, allocation.claimed))}
            if allocation.claimed
            else {}
        ),
    }


def _container_view(item: ContainerCpus) -> dict[str, Any]:
    names = {"namespace": item.namespace, "pod": item.pod, "name": item.container}
    return {**names, "cpus": sorted(item.cpus)}


def allocation_of(content: Mapping[str, Any], pods: Iterable[Pod], source: str) -> Allocation:
    """An allocation from what `allocation_view` gave; `pods` are the objects it refers to.

    Errors: InputError.
    """
    top = _Fields(content, source)
    if top.get("version", int, needed=True) != VERSION:
        raise InputError(f"{source}.version: expected {VERSION}, got {show(content['version'])}")
    phases = {
        (item.get("namespace", str), item.get("name", str)): item.get("phase", str) or ""
        for item in top.each("pods", lambda item: item)
    }
    chosen = tuple(
        evolve(pod, phase=phases[key])
        for pod in pods
        if (key := (pod.meta.namespace or "default", pod.meta.name)) in phases
    )
    reported, claimed = (top.each(name, _container_of) for name in ("containers", "claimed"))
    allocatable = (
        None if top.get("allocatable", list) is None else frozenset(top.numbers("allocatable"))
    )
    return Allocation(
        chosen,
        tuple(reported),
        top.get("answered", bool) is not False,
        allocatable,
        claimed=tuple(claimed),
    )


def _container_of(item: "_Fields") -> ContainerCpus:
    namespace, pod, name = (item.get(key, str) or "" for key in ("namespace", "pod", "name"))
    return ContainerCpus(namespace, pod, name, frozenset(item.numbers("cpus")))
