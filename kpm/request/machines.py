"""Machines described by hand: built-in models, and packages × dies × cores × threads in a file."""

from collections.abc import Iterator, Mapping
from typing import Any

from attrs import field, frozen

from kpm.formats.documents import parse_mapping, read_file
from kpm.formats.views import machine_of
from kpm.formats.wire import WireError, structure_plain
from kpm.process.errors import InputError, one_line
from kpm_planner.model.cpuset import parse_cpulist
from kpm_planner.model.machine import (
    SCALING_POWERSAVE,
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
from kpm_planner.model.objects import LARGEST_EPB
from kpm_planner.model.quantities import UW

_MOST_CPUS = 4096
_CONTROLS = ("intel-rapl", "amd_hsmp_hwmon", "hsmp")
_MOST_WATTS = 4000
_ALL_GOVERNORS = ("conservative", "ondemand", "userspace", "powersave", "performance", "schedutil")
_EPP_WORDS = ("default", "performance", "balance_performance", "balance_power", "power")


@frozen
class IdleStateSpec:
    """An idle state of a described machine. Units: µs."""

    name: str
    latency_us: int = 0


@frozen
class CoreSpec:
    """One kind of core of a die. Units: MHz."""

    cores: int
    name: str = ""
    threads: int = 1
    min_mhz: int | None = None
    max_mhz: int | None = None
    base_mhz: int | None = None


@frozen
class UncoreSpec:
    """Uncore range of each die; layout: package (package_00_die_00) or tpmi (uncore00).

    Units: MHz.
    """

    min_mhz: int = 800
    max_mhz: int = 2400
    layout: str = "package"


@frozen
class PowerSpec:
    """What caps the power of each package.

    Units: W. control: intel-rapl, amd_hsmp_hwmon or hsmp. short: the short-term limit of RAPL.
    """

    control: str = "intel-rapl"
    watts: int = 165
    max_watts: int | None = None
    short_watts: int | None = None
    enabled: bool = True


@frozen
class MachineSpec:
    """A machine as a scenario describes it.

    Units: MHz. domain_size: consecutive CPUs that share a frequency domain.

    fabric_protocol: of the HSMP that sets each package's data fabric. epb: the energy performance
    bias of each CPU, where they have one.
    """

    model: str | None = None
    packages: int = 1
    dies: int = 1
    cores: int = 4
    threads: int = 1
    kinds: tuple[CoreSpec, ...] = ()
    numbering: str | None = None
    driver: str | None = "intel_pstate"
    min_mhz: int = 800
    max_mhz: int = 3700
    base_mhz: int | None = None
    available_mhz: tuple[int, ...] = ()
    governors: tuple[str, ...] = ()
    governor: str | None = None
    epp: str | None = None
    epb: int | None = None
    domain_size: int = 1
    idle_driver: str | None = None
    idle_states: tuple[IdleStateSpec, ...] = ()
    uncore: UncoreSpec | None = None
    boost: bool | None = None
    power: PowerSpec | None = None
    fabric_protocol: int | None = None
    offline: str = ""
    architecture: str = "x86_64"
    cpu_model: str | None = field(default=None)


def _states(**latencies: int) -> tuple[IdleStateSpec, ...]:
    return tuple(
        IdleStateSpec(name.replace("_", "-"), latency) for name, latency in latencies.items()
    )


_INTEL_IDLE = _states(POLL=0, C1=2, C1E=10, C6=133)
#: Built-in models; sizes are small enough to see every CPU in a terminal.
MODELS: dict[str, MachineSpec] = {
    "xeon": MachineSpec(
        packages=2,
        cores=8,
        threads=2,
        max_mhz=3700,
        base_mhz=2600,
        epp="balance_performance",
        idle_driver="intel_idle",
        idle_states=_INTEL_IDLE,
        uncore=UncoreSpec(),
        boost=True,
        power=PowerSpec(max_watts=165, short_watts=198),
        cpu_model="two-socket Xeon, intel_pstate",
    ),
    "epyc": MachineSpec(
        packages=1,
        cores=16,
        threads=2,
        driver="amd-pstate-epp",
        min_mhz=400,
        max_mhz=3990,
        base_mhz=2450,
        epp="balance_performance",
        idle_driver="acpi_idle",
        idle_states=_states(POLL=0, C1=1, C2=400),
        power=PowerSpec("amd_hsmp_hwmon", 280, 400),
        fabric_protocol=5,
        cpu_model="EPYC, amd-pstate-epp",
    ),
    "opteron": MachineSpec(
        packages=2,
        cores=8,
        driver="acpi-cpufreq",
        min_mhz=1200,
        max_mhz=2300,
        available_mhz=(1200, 1800, 2300),
        governor="ondemand",
        idle_driver="acpi_idle",
        idle_states=_states(POLL=0, C1=0, C2=100),
        boost=True,
        cpu_model="older server, acpi-cpufreq with a frequency table",
    ),
    "hybrid": MachineSpec(
        kinds=(
            CoreSpec(6, "P", 2, min_mhz=400, max_mhz=5000, base_mhz=2500),
            CoreSpec(8, "E", 1, min_mhz=400, max_mhz=3800, base_mhz=1900),
        ),
        epp="balance_performance",
        idle_driver="intel_idle",
        idle_states=_INTEL_IDLE,
        boost=True,
        cpu_model="hybrid with P and E cores, intel_pstate",
    ),
    "arm": MachineSpec(
        kinds=(CoreSpec(8, "big", 1, 400, 2500), CoreSpec(8, "little", 1, 400, 1500)),
        driver="cppc_cpufreq",
        domain_size=2,
        governor="schedutil",
        idle_driver="psci_idle",
        idle_states=_states(LPI_0=1, LPI_1=100),
        architecture="aarch64",
        cpu_model="arm64 with unlike cores, shared frequency domains",
    ),
    "vm": MachineSpec(cores=8, driver=None, cpu_model="virtual machine without power interfaces"),
}


def read_machine(path: str) -> Machine:
    """A machine from a file: `discover -o json`, or a description. Errors: InputError."""
    content = parse_mapping(read_file(path), path)
    return machine_of(content, path) if "cpus" in content else described_machine(content, path)


def described_machine(content: Mapping[str, Any], source: str) -> Machine:
    """A machine from a description; `model` names a built-in one, whose other fields may be
    overridden. Errors: InputError.
    """
    try:
        spec = structure_plain(content, MachineSpec, source)
        if spec.model is not None:
            if spec.model not in MODELS:
                raise InputError(
                    f"{source}.model: expected one of {', '.join(MODELS)}, got"
                    f" {one_line(spec.model, 60)!r}"
                )
            rest = {key: value for key, value in content.items() if key != "model"}
            spec = structure_plain(rest, MachineSpec, source, base=MODELS[spec.model])
    except WireError as failure:
        raise InputError(one_line(failure)) from None
    return build_machine(spec, source)


def build_machine(spec: MachineSpec, source: str = "machine") -> Machine:
    """The machine of a description. Errors: InputError where its numbers make no sense."""
    _check(spec, source)
    offline = _offline(spec, source)
    cpus = list(_numbered(spec))
    lost = offline - {place.id for place in cpus}
    if lost:
        raise InputError(
            f"{source}.offline: expected one of the {len(cpus)} CPUs, got CPU {min(lost)}"
        )
    domains = [] if spec.driver is None else list(_domains(spec, cpus))
    domains = [domain for domain in domains if not offline.issuperset(domain.cpus)]
    domain_of = {cpu: domain.id for domain in domains for cpu in domain.cpus}
    idle = tuple(
        IdleState(index, state.name, state.latency_us, True, True)
        for index, state in enumerate(spec.idle_states)
    )
    return Machine(
        architecture=spec.architecture,
        cpu_model=spec.cpu_model,
        cpus=tuple(_cpu(place, domain_of.get(place.id), idle, offline, spec.epb) for place in cpus),
        domains=tuple(domains),
        idle_driver=spec.idle_driver if idle else None,
        uncore=tuple(_uncore(spec)),
        boost=spec.boost,
        power_zones=(
            tuple(_zone(spec.power, package) for package in range(spec.packages))
            if spec.power
            else ()
        ),
        fabrics=(
            tuple(Fabric(package, spec.fabric_protocol) for package in range(spec.packages))
            if spec.fabric_protocol
            else ()
        ),
        driver_status="active" if spec.driver in ("intel_pstate", "amd-pstate-epp") else None,
    )


@frozen
class _Place:
    """A CPU before it has its settings."""

    id: int
    package: int
    die: int
    core: int
    siblings: tuple[int, ...]
    kind: CoreSpec


def _check(spec: MachineSpec, source: str) -> None:
    for name in ("packages", "dies", "cores", "threads", "domain_size"):
        if not 1 <= getattr(spec, name) <= _MOST_CPUS:
            raise InputError(
                f"{source}.{name}: expected a whole number from 1 to {_MOST_CPUS}, got"
                f" {getattr(spec, name)}"
            )
    per_die = (
        sum(kind.cores * kind.threads for kind in spec.kinds)
        if spec.kinds
        else spec.cores * spec.threads
    )
    if (
        any(kind.cores < 1 or kind.threads < 1 for kind in spec.kinds)
        or spec.packages * spec.dies * per_die > _MOST_CPUS
    ):
        raise InputError(
            f"{source}: at most {_MOST_CPUS} CPUs are allowed, in cores and threads of at least 1"
        )
    for low, high, base in (
        (spec.min_mhz, spec.max_mhz, spec.base_mhz),
        *(
            (kind.min_mhz or spec.min_mhz, kind.max_mhz or spec.max_mhz, kind.base_mhz)
            for kind in spec.kinds
        ),
    ):
        if not 0 < low <= high < 100_000:
            raise InputError(
                f"{source}: expected 0 < minMHz <= maxMHz < 100000, got minMHz {low} and maxMHz"
                f" {high}"
            )
        if base is not None and not low <= base <= high:
            raise InputError(f"{source}.baseMHz: expected {low} to {high}, got {base}")
    _check_rest(spec, source)
    if spec.numbering not in (None, "split", "adjacent"):
        raise InputError(
            f"{source}.numbering: expected split or adjacent, got {one_line(spec.numbering, 40)!r}"
        )


def _check_rest(spec: MachineSpec, source: str) -> None:
    if spec.epb is not None and not 0 <= spec.epb <= LARGEST_EPB:
        raise InputError(f"{source}.epb: expected 0 to {LARGEST_EPB}, got {spec.epb}")
    uncore = spec.uncore or UncoreSpec()
    if uncore.layout not in ("package", "tpmi"):
        raise InputError(
            f"{source}.uncore.layout: expected package or tpmi, got {one_line(uncore.layout, 40)!r}"
        )
    if not 0 < uncore.min_mhz <= uncore.max_mhz < 100_000:
        raise InputError(
            f"{source}.uncore: expected 0 < minMHz <= maxMHz < 100000, got minMHz"
            f" {uncore.min_mhz} and maxMHz {uncore.max_mhz}"
        )
    _check_power(spec, source)
    for index, state in enumerate(spec.idle_states):
        if state.latency_us < 0:
            raise InputError(
                f"{source}.idleStates[{index}].latencyUs: expected microseconds from 0, got"
                f" {state.latency_us}"
            )


def _check_power(spec: MachineSpec, source: str) -> None:
    power = spec.power or PowerSpec()
    if power.control not in _CONTROLS:
        raise InputError(
            f"{source}.power.control: expected one of {', '.join(_CONTROLS)}, got"
            f" {one_line(power.control, 40)!r}"
        )
    for name, watts in (
        ("watts", power.watts),
        ("maxWatts", power.max_watts),
        ("shortWatts", power.short_watts),
    ):
        if watts is not None and not 1 <= watts <= _MOST_WATTS:
            raise InputError(
                f"{source}.power.{name}: expected watts from 1 to {_MOST_WATTS}, got {watts}"
            )
    if spec.fabric_protocol is not None and not 1 <= spec.fabric_protocol <= 255:
        raise InputError(f"{source}.fabricProtocol: expected 1 to 255, got {spec.fabric_protocol}")


def _zone(power: PowerSpec, package: int) -> PowerZone:
    """The zone of a package, with its limit where the kernel's driver has it."""
    now, top = power.watts * UW, None if power.max_watts is None else power.max_watts * UW
    match power.control:
        case "intel-rapl":
            limits = [PowerLimit("long_term", "constraint_0_power_limit_uw", now, top)]
            if power.short_watts is not None:
                limits.append(
                    PowerLimit("short_term", "constraint_1_power_limit_uw", power.short_watts * UW)
                )
            folder = f"devices/virtual/powercap/intel-rapl/intel-rapl:{package}"
            return PowerZone(
                folder,
                f"package-{package}",
                power.control,
                package=package,
                die=None,
                enabled=power.enabled,
                limits=tuple(limits),
            )
        case "hsmp":
            return PowerZone(
                f"hsmp/socket{package}",
                f"socket-{package}",
                power.control,
                package,
                limits=(PowerLimit("power_cap", "power_limit_mw", now, top),),
            )
    folder = f"devices/platform/amd_hsmp/hwmon/hwmon{package}"
    return PowerZone(
        folder,
        f"socket-{package}",
        power.control,
        package,
        limits=(PowerLimit("power_cap", "power1_cap", now, top),),
    )


def _offline(spec: MachineSpec, source: str) -> frozenset[int]:
    try:
        return parse_cpulist(spec.offline)
    except ValueError:
        raise InputError(
            f"{source}.offline: expected a CPU list such as 3,8-9, got"
            f" {one_line(spec.offline, 60)!r}"
        ) from None


def _numbered(spec: MachineSpec) -> Iterator[_Place]:
    """CPUs in order of id. split: the second threads follow all first ones; adjacent: siblings are
    neighbours.
    """
    kinds = spec.kinds or (CoreSpec(spec.cores, "", spec.threads),)
    cores = [
        (package, die, kind)
        for package in range(spec.packages)
        for die in range(spec.dies)
        for kind in kinds
        for _ in range(kind.cores)
    ]
    adjacent = spec.numbering == "adjacent" or (spec.numbering is None and bool(spec.kinds))
    ids: list[list[int]] = [[] for _ in cores]
    number = 0
    if adjacent:
        for core, (_, _, kind) in enumerate(cores):
            ids[core] = list(range(number, number + kind.threads))
            number += kind.threads
    else:
        for thread in range(max(kind.threads for kind in kinds)):
            for core, (_, _, kind) in enumerate(cores):
                if thread < kind.threads:
                    ids[core].append(number)
                    number += 1
    places = [
        _Place(cpu, package, die, core=core, siblings=tuple(ids[core]), kind=kind)
        for core, (package, die, kind) in enumerate(cores)
        for cpu in ids[core]
    ]
    yield from sorted(places, key=lambda place: place.id)


def _cpu(
    place: _Place,
    domain: int | None,
    idle: tuple[IdleState, ...],
    offline: frozenset[int],
    epb: int | None,
) -> Cpu:
    if place.id in offline:
        return Cpu(place.id, online=False, domain=domain, idle=idle, resume_latency="0")
    siblings = tuple(cpu for cpu in place.siblings if cpu not in offline)
    bias = None if epb is None else str(epb)
    return Cpu(
        place.id,
        True,
        place.package,
        die=place.die,
        cluster=None,
        core=place.core,
        siblings=siblings,
        domain=domain,
        idle=idle,
        resume_latency="0",
        epb=bias,
    )


def _domains(spec: MachineSpec, cpus: list[_Place]) -> Iterator[FrequencyDomain]:
    smart = spec.driver in SCALING_POWERSAVE
    governors = spec.governors or (("performance", "powersave") if smart else _ALL_GOVERNORS)
    governor = spec.governor or ("powersave" if smart else "schedutil")
    for members in _runs(cpus, spec.domain_size):
        kind = members[0].kind
        low, high = (kind.min_mhz or spec.min_mhz) * 1000, (kind.max_mhz or spec.max_mhz) * 1000
        settings = CpufreqSettings(low, high, governor, spec.epp)
        table = tuple(sorted(mhz * 1000 for mhz in spec.available_mhz))
        epps = _EPP_WORDS if spec.epp else ()
        yield FrequencyDomain(
            members[0].id,
            tuple(place.id for place in members),
            spec.driver,
            hardware_min_khz=low,
            hardware_max_khz=high,
            limit_max_khz=high,
            available_khz=table,
            governors=governors,
            epps=epps,
            settings=settings,
            base_khz=(kind.base_mhz or spec.base_mhz or 0) * 1000 or max(table, default=None),
        )


def _runs(cpus: list[_Place], size: int) -> Iterator[list[_Place]]:
    """Consecutive CPUs of one kind, at most so many: a frequency domain ends where a kind of core
    does.
    """
    members: list[_Place] = []
    for place in cpus:
        if members and (len(members) == size or place.kind != members[0].kind):
            yield members
            members = []
        members.append(place)
    if members:
        yield members


def _uncore(spec: MachineSpec) -> Iterator[UncoreEntry]:
    if spec.uncore is None:
        return
    low, high = spec.uncore.min_mhz * 1000, spec.uncore.max_mhz * 1000
    for package in range(spec.packages):
        for die in range(spec.dies):
            if spec.uncore.layout == "tpmi":
                yield UncoreEntry(
                    f"uncore{package * spec.dies + die:02d}",
                    package,
                    None,
                    domain=die,
                    cluster=0,
                    hardware_min_khz=low,
                    hardware_max_khz=high,
                    min_khz=low,
                    max_khz=high,
                )
            else:
                yield UncoreEntry(
                    f"package_{package:02d}_die_{die:02d}",
                    package,
                    die,
                    domain=None,
                    cluster=None,
                    hardware_min_khz=low,
                    hardware_max_khz=high,
                    min_khz=low,
                    max_khz=high,
                )
