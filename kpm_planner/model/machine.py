"""A machine as values: CPUs, frequency domains, idle states, uncore entries, power zones, fabrics.

A machine is discovered from sysfs, read from a file or described by hand. The settings in it are
what the files hold; for planning, the applier puts the baseline of every owned group in their
place.
"""

from collections.abc import Iterable
from functools import cached_property

from attrs import field, fields, frozen

#: Scaling drivers that were tried on their kernels, some with rules of their own (E8; kernel
#: documentation of cpufreq, intel_pstate, amd-pstate). Any other is managed by the general rules.
TESTED_DRIVERS = frozenset(
    {
        "intel_pstate",
        "intel_cpufreq",
        "acpi-cpufreq",
        "amd-pstate",
        "amd-pstate-epp",
        "cppc_cpufreq",
    }
)
#: Those whose governor powersave scales with load; elsewhere it pins the lowest frequency.
SCALING_POWERSAVE = frozenset({"intel_pstate", "amd-pstate-epp"})
#: Those whose governor performance takes the EPP along and refuses others (kernel-facts K9, K10).
EPP_FOLLOWS = frozenset({"intel_pstate", "amd-pstate-epp"})
#: The kernel's own governors. Those that are not listed may be modules, which load when they are
#: named (kernel-facts).
KERNEL_GOVERNORS = frozenset(
    {"performance", "powersave", "userspace", "ondemand", "conservative", "schedutil"}
)


#: Where a field that is a setting says what it is called in JSON, and its type there.
KEY, TYPE = "key", "type"


@frozen
class IdleState:
    """A cpuidle state of one CPU.

    Units: µs. default_enabled: None where the kernel has no default_status.
    """

    index: int
    name: str
    latency_us: int
    enabled: bool = True
    default_enabled: bool | None = None


@frozen
class Cpu:
    """A present CPU. What the kernel does not say (an offline CPU, odd firmware) is None or empty.

    resume_latency: what limits the latency of its idle states: "0" for nothing, µs, or "n/a" for
    none at all. epb: its energy performance bias, 0 to 15.
    """

    id: int
    online: bool = True
    package: int | None = None
    die: int | None = None
    cluster: int | None = None
    core: int | None = None
    siblings: tuple[int, ...] = ()
    domain: int | None = None
    idle: tuple[IdleState, ...] = ()
    resume_latency: str | None = field(default=None, metadata={KEY: "resumeLatency"})
    epb: str | None = field(default=None, metadata={KEY: "epb"})


#: Settings that a CPU has alone: field → key in JSON. None where the CPU has no such file.
CPU_SETTINGS = {item.name: item.metadata[KEY] for item in fields(Cpu) if KEY in item.metadata}


@frozen
class CpufreqSettings:
    """What the files of a frequency domain hold.

    Units: kHz. epp: None where the file does not exist.
    """

    min_khz: int | None = field(default=None, metadata={KEY: "minKHz", TYPE: int})
    max_khz: int | None = field(default=None, metadata={KEY: "maxKHz", TYPE: int})
    governor: str | None = field(default=None, metadata={KEY: "governor", TYPE: str})
    epp: str | None = field(default=None, metadata={KEY: "epp", TYPE: str})


#: Settings of a frequency domain: field → key in JSON and type there.
DOMAIN_SETTINGS = {
    item.name: (item.metadata[KEY], item.metadata[TYPE]) for item in fields(CpufreqSettings)
}


@frozen
class FrequencyDomain:
    """A cpufreq policy. Units: kHz.

    hardware_min_khz, hardware_max_khz: cpuinfo_{min,max}_freq of now; a maximum of 0 is none.
    limit_max_khz: the highest frequency with boost on that any file names; limit_named: False while
    boost is off and none does. base_khz: the highest without turbo; None where no file says it.
    epps: the preferences that the kernel lists now, never used to validate.
    """

    id: int
    cpus: tuple[int, ...]
    driver: str | None = None
    hardware_min_khz: int | None = None
    hardware_max_khz: int | None = None
    limit_max_khz: int | None = None
    available_khz: tuple[int, ...] = ()
    governors: tuple[str, ...] = ()
    epps: tuple[str, ...] = ()
    settings: CpufreqSettings = CpufreqSettings()
    limit_named: bool = True
    base_khz: int | None = None

    @property
    def managed(self) -> bool:
        """Whether its frequencies can be set: there is a driver, and the range is known.

        The other files are made by the kernel for every driver (kernel, cpufreq.c).
        """
        return (
            bool(self.driver)
            and self.hardware_min_khz is not None
            and self.hardware_max_khz is not None
        )

    def may_have(self, governor: str) -> bool:
        """Whether it is worth asking for a governor: it is listed, or may be a module.

        Drivers that choose speeds themselves have two, both listed.
        """
        return governor in self.governors or (
            governor in KERNEL_GOVERNORS and self.driver not in SCALING_POWERSAVE
        )


@frozen
class UncoreEntry:
    """One directory of intel_uncore_frequency. Units: kHz. domain, cluster: TPMI only."""

    name: str
    package: int | None = None
    die: int | None = None
    domain: int | None = None
    cluster: int | None = None
    hardware_min_khz: int | None = None
    hardware_max_khz: int | None = None
    min_khz: int | None = None
    max_khz: int | None = None


@frozen
class PowerLimit:
    """One limit of a zone.

    Units: µW, µs. file: what sets it, below the zone's folder; max_uw, window_us: None where not
    known.

    window_us: over which time the power is averaged; it is shown and never set.
    """

    name: str
    file: str
    limit_uw: int | None = None
    max_uw: int | None = None
    window_us: int | None = None


@frozen
class PowerZone:
    """What caps the power of a package, or of one die of it.

    id: its folder below /sys, or socketN of the HSMP device. control: intel-rapl, amd_hsmp_hwmon or
    hsmp. enabled: None where there is no switch. mirror_uw: the long-term limit of the
    memory-mapped twin, in force where it is lower.
    """

    id: str
    name: str
    control: str
    package: int
    die: int | None = None
    enabled: bool | None = None
    limits: tuple[PowerLimit, ...] = ()
    mirror_uw: int | None = None


@frozen
class Fabric:
    """The data fabric of one AMD package. protocol: of its HSMP; pstates: what was last asked,
    "auto" for nothing.
    """

    package: int
    protocol: int | None = None
    pstates: str = "auto"


@frozen
class CoreKind:
    """What decides a CPU's targets beside its profile: its domain's capability and settings, its
    idle states, and which of the settings that a CPU has alone there are.
    """

    frequency: FrequencyDomain | None
    idle: tuple[IdleState, ...]
    alone: frozenset[str] = frozenset()

    @property
    def limits_latency(self) -> bool:
        """Whether the latency of its idle states can be limited as a whole."""
        return "resume_latency" in self.alone


@frozen
class Machine:
    """A whole machine. driver_status: the mode of intel_pstate or amd_pstate; boost: None where
    there is no switch.

    fabric_fault: why an HSMP device that is there is of no use. min_percent, max_percent: the range
    of intel_pstate as a whole, in per cent of the highest frequency; nothing that a profile asks
    for goes beyond it. boost_before: the switch before us, where it is ours.
    """

    architecture: str | None = None
    cpu_model: str | None = None
    cpus: tuple[Cpu, ...] = ()
    domains: tuple[FrequencyDomain, ...] = ()
    idle_driver: str | None = None
    uncore: tuple[UncoreEntry, ...] = ()
    boost: bool | None = None
    driver_status: str | None = None
    kernel: str | None = None
    power_zones: tuple[PowerZone, ...] = ()
    fabrics: tuple[Fabric, ...] = ()
    fabric_fault: str = ""
    min_percent: int | None = None
    max_percent: int | None = None
    boost_before: bool | None = None

    @cached_property
    def limits_known(self) -> bool:
        """Whether it is known how far turbo goes.

        Where it is on since we turned it on, the limit of now may still be that of before.
        """
        kinds = self.managed_kinds
        unmoved = self.boost_before is False and any(
            domain.limit_max_khz == domain.hardware_max_khz for domain in kinds
        )
        return not unmoved and all(domain.limit_named for domain in kinds)

    @cached_property
    def cores(self) -> int:
        """How many cores are online: hyperthreads of one are siblings; what siblings are not told
        counts by the numbers of its core.
        """
        return len(
            {
                cpu.siblings
                or (cpu.package, cpu.die, cpu.core, cpu.id if cpu.core is None else None)
                for cpu in self.cpus
                if cpu.online
            }
        )

    @cached_property
    def online(self) -> frozenset[int]:
        """Ids of the CPUs that are online."""
        return frozenset(cpu.id for cpu in self.cpus if cpu.online)

    @cached_property
    def by_id(self) -> dict[int, Cpu]:
        """CPU id → CPU."""
        return {cpu.id: cpu for cpu in self.cpus}

    @cached_property
    def domain_by_id(self) -> dict[int, FrequencyDomain]:
        """Domain id → domain."""
        return {domain.id: domain for domain in self.domains}

    @cached_property
    def kinds(self) -> tuple[tuple[CoreKind, frozenset[int]], ...]:
        """The online CPUs by what they can do: few kinds, many CPUs."""
        found: dict[tuple[object, ...], tuple[CoreKind, set[int]]] = {}
        for cpu in self.cpus:
            if not cpu.online:
                continue
            domain = None if cpu.domain is None else self.domain_by_id.get(cpu.domain)
            shape = None if domain is None else _shape(domain)
            alone = tuple([name for name in CPU_SETTINGS if getattr(cpu, name) is not None])
            key = (shape, cpu.idle, alone)
            if key not in found:
                found[key] = (CoreKind(domain, cpu.idle, frozenset(alone)), set())
            _, cpus = found[key]
            cpus.add(cpu.id)
        return tuple((kind, frozenset(cpus)) for kind, cpus in found.values())

    @cached_property
    def shared_domains(self) -> tuple[tuple[FrequencyDomain, frozenset[int]], ...]:
        """Domains with more than one online CPU, each with those CPUs."""
        pairs = ((domain, self.online.intersection(domain.cpus)) for domain in self.domains)
        return tuple((domain, cpus) for domain, cpus in pairs if len(cpus) > 1)

    @cached_property
    def shared_cores(self) -> tuple[tuple[int, ...], ...]:
        """Online hyperthread siblings, for cores that have more than one."""
        cores = {
            tuple(sorted(self.online.intersection(cpu.siblings)))
            for cpu in self.cpus
            if len(cpu.siblings) > 1
        }
        return tuple(sorted(core for core in cores if len(core) > 1))

    @cached_property
    def idle_names(self) -> tuple[str, ...]:
        """Names of all idle states of the machine, shallow first."""
        latency: dict[str, int] = {}
        for states in {cpu.idle for cpu in self.cpus}:
            for state in states:
                latency[state.name] = min(
                    state.latency_us, latency.get(state.name, state.latency_us)
                )
        return tuple(sorted(latency, key=lambda name: (latency[name], name)))

    @cached_property
    def untested_drivers(self) -> tuple[str, ...]:
        """Scaling drivers of managed CPUs that were not tried."""
        return tuple(sorted({str(item.driver) for item in self.managed_kinds} - TESTED_DRIVERS))

    @cached_property
    def span_khz(self) -> tuple[int, int]:
        """(lowest, highest) frequency that any managed CPU can have, kHz; 0 where there is none."""
        kinds = self.managed_kinds
        return (
            min((domain.hardware_min_khz or 0 for domain in kinds), default=0),
            max(
                (domain.limit_max_khz or domain.hardware_max_khz or 0 for domain in kinds),
                default=0,
            ),
        )

    @cached_property
    def managed_kinds(self) -> tuple[FrequencyDomain, ...]:
        """One domain of each kind whose frequency this system manages."""
        return tuple(
            kind.frequency
            for kind, _ in self.kinds
            if kind.frequency is not None and kind.frequency.managed
        )


def _shape(domain: FrequencyDomain) -> tuple[object, ...]:
    return (
        domain.driver,
        domain.hardware_min_khz,
        domain.hardware_max_khz,
        domain.limit_max_khz,
        domain.limit_named,
        domain.base_khz,
        domain.governors,
        domain.settings,
    )


def by_state(
    asked: Iterable[tuple[str, bool]], states: Iterable[IdleState]
) -> tuple[bool | None, ...]:
    """What a target asks of each state, None for nothing: of two of one name the first is meant by
    the first of the target, and so on.
    """
    waiting: dict[str, list[bool]] = {}
    for name, on in asked:
        waiting.setdefault(name, []).append(on)
    return tuple(
        waiting[state.name].pop(0) if waiting.get(state.name) else None for state in states
    )
