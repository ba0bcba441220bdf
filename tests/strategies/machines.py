"""Generated machines: unlike cores, hyperthreads, dies, gaps in the numbering, offline CPUs, shared
frequency domains, power zones, fabrics.

A machine is consistent in itself, so that `KernelModel(machine)` can stand for its kernel: settings
lie in the hardware's range (and on the frequency table where there is one), the governor is one of
those offered, there is an EPP only where the driver has one, and it is `performance` under governor
performance. CPU 0 is always online. A frequency domain with no CPU online is left out of
`Machine.domains`, as discovery leaves it out.

Choices that are made for every CPU or domain are bits of one number: fewer draws, and shrinking
turns bits off.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import evolve, frozen
from hypothesis import strategies as st

from kpm_planner.model.machine import (
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
from tests.strategies.choices import mask, often, pick

MOST_CPUS = 16
EPP_WORDS = ("performance", "balance_performance", "balance_power", "power")
_ALL_GOVERNORS = ("conservative", "ondemand", "userspace", "powersave", "performance", "schedutil")
_TWO_GOVERNORS = ("performance", "powersave")
#: Every range contains it, so that the ranges of unlike cores leave no gap between them.
_COMMON_KHZ = 1_200_000
_UNCORE_STEP_KHZ = 100_000
_WATT = 1_000_000


@frozen
class Driver:
    """A scaling driver: the governors it offers, whether it can have an EPP, whether it has a
    frequency table.
    """

    name: str
    governors: tuple[str, ...]
    epp: bool = False
    table: bool = False
    status: str | None = None


#: Drivers that were tried, as kernel-facts K8 and K12 describe them.
TESTED = (
    Driver("intel_pstate", _TWO_GOVERNORS, epp=True, status="active"),
    Driver("acpi-cpufreq", _ALL_GOVERNORS, table=True),
    Driver("amd-pstate-epp", _TWO_GOVERNORS, epp=True, status="active"),
    Driver("intel_cpufreq", _ALL_GOVERNORS, epp=True, status="passive"),
    Driver("cppc_cpufreq", _ALL_GOVERNORS),
    Driver("amd-pstate", ("performance", "schedutil"), status="passive"),
)
#: Drivers that the general rules set.
UNTRIED = (
    Driver("apple-cpufreq", ("performance", "schedutil"), table=True),
    Driver("pcc-cpufreq", _ALL_GOVERNORS),
)

#: Idle states as drivers name them: (name, latency in µs), shallow first. Source: field
#: reports 15 to 17.
IDLE_SETS: tuple[tuple[str | None, tuple[tuple[str, int], ...]], ...] = (
    ("intel_idle", (("POLL", 0), ("C1", 2), ("C1E", 10), ("C6", 170))),
    ("acpi_idle", (("POLL", 0), ("C1_ACPI", 1), ("C2_ACPI", 127))),
    ("psci_idle", (("WFI", 1), ("LPI-1", 100))),
    ("intel_idle", (("POLL", 0),)),
    (None, ()),
)


@frozen
class _Kind:
    """One kind of core.

    Units: kHz. limit: highest frequency with boost. settings, idle: variants that its CPUs choose
    from.
    """

    cores: int
    threads: int
    low: int
    high: int
    limit: int
    base: int
    table: tuple[int, ...]
    settings: tuple[CpufreqSettings, ...]
    idle: tuple[tuple[IdleState, ...], ...]
    scaled: bool


@frozen
class _Place:
    """A CPU before it has its settings."""

    id: int
    package: int
    die: int
    core: int
    kind: int


def draw_machine(
    draw: st.DrawFn,
    *,
    drivers: Sequence[Driver | None] = (*TESTED, *UNTRIED, None),
    most_cpus: int = MOST_CPUS,
) -> Machine:
    """A machine of 1 to `most_cpus` CPUs. drivers: those to choose from; None is a machine without
    cpufreq.
    """
    driver, (idle_driver, idle_set), size, packages, dies, kind_count = pick(
        draw, drivers, IDLE_SETS, often(1, 2, 4, 16), often(1, 2), often(1, 2), (1, 1, 2, 3)
    )
    boost, without_epp, architecture, epb = pick(
        draw,
        (None, True, False),
        often(False, True),
        ("x86_64", "aarch64", None),
        (None, None, "6", "0"),
    )
    has_epp = (
        driver is not None and driver.epp and not (without_epp and driver.name.startswith("intel"))
    )
    kinds = [_draw_kind(draw, driver, has_epp, boost is False, idle_set) for _ in range(kind_count)]
    places, siblings = _places(kinds, packages, dies, most_cpus, pick(draw, *_NUMBERINGS))
    count = len(places)
    packages_of, dies_of = (
        max(place.package for place in places) + 1,
        max(place.die for place in places) + 1,
    )
    offline = {
        place.id
        for place, gone in zip(places, mask(draw, count, rare=True), strict=True)
        if gone and place.id
    }
    domains = _domains(driver, kinds, places, size, mask(draw, count), offline)
    domain_of = {cpu: domain.id for domain in domains for cpu in domain.cpus}
    cpus = []
    for place, variant in zip(places, mask(draw, count), strict=True):
        idle = kinds[place.kind].idle[variant % len(kinds[place.kind].idle)]
        cpus.append(
            _cpu(
                place,
                domain_of.get(place.id),
                idle,
                tuple(cpu for cpu in siblings[place.core] if cpu not in offline),
                place.id not in offline,
            )
        )
    return Machine(
        architecture=architecture,
        cpus=tuple(evolve(cpu, epb=epb if cpu.online else None) for cpu in cpus),
        domains=tuple(domains),
        idle_driver=idle_driver,
        uncore=_draw_uncore(draw, packages_of, dies_of),
        boost=boost if driver else None,
        driver_status=driver.status if driver else None,
        **_draw_power(draw, packages_of, dies_of),
    )


machines = st.composite(draw_machine)

_LOWEST_KHZ, _HIGHEST_KHZ = (
    (800_000, 400_000, 1_000_577, _COMMON_KHZ),
    (3_700_000, 2_000_000, 4_100_123, 5_000_000, _COMMON_KHZ),
)
#: Where in a range settings or table entries lie, in thousandths.
_POINTS = (0, 1000, 250, 333, 999)


def _draw_kind(
    draw: st.DrawFn,
    driver: Driver | None,
    has_epp: bool,
    boost_off: bool,
    idle_set: tuple[tuple[str, int], ...],
) -> _Kind:
    cores, threads, low, high, boosted, rest = pick(
        draw, (1, 2, 3, 4), (1, 2), _LOWEST_KHZ, _HIGHEST_KHZ, (0, 500_000), (True,) * 9 + (False,)
    )
    points, variants, idle_variants = pick(draw, ((), (333,), (250, 999)), (1, 2), (1, 2))
    table = (
        tuple(sorted({low, high, *(_point(low, high, point) for point in points)}))
        if driver and driver.table
        else ()
    )
    return _Kind(
        cores=cores,
        threads=threads,
        low=low,
        high=high,
        limit=high + boosted if boost_off else high,
        base=max(table, default=_point(low, high, 500) // 1000 * 1000),
        table=table,
        settings=(
            tuple(_draw_settings(draw, driver, has_epp, low, high, table) for _ in range(variants))
            if driver
            else ()
        ),
        idle=tuple(_draw_idle(draw, idle_set) for _ in range(idle_variants)) if idle_set else ((),),
        scaled=driver is not None and rest,
    )


def _point(low: int, high: int, thousandths: int) -> int:
    return low + (high - low) * thousandths // 1000


def _draw_settings(
    draw: st.DrawFn, driver: Driver, has_epp: bool, low: int, high: int, table: tuple[int, ...]
) -> CpufreqSettings:
    words = (*EPP_WORDS, "128") if driver.name == "intel_pstate" else EPP_WORDS
    places = table or tuple(_point(low, high, point) for point in _POINTS)
    unlimited, first, second, governor, epp = pick(
        draw, (True, False), places, places, driver.governors, words
    )
    ends = (low, high) if unlimited else (min(first, second), max(first, second))
    return CpufreqSettings(
        ends[0],
        ends[1],
        governor,
        None if not has_epp else "performance" if governor == "performance" else epp,
    )


def _draw_idle(draw: st.DrawFn, states: tuple[tuple[str, int], ...]) -> tuple[IdleState, ...]:
    """Some of a driver's states, with latencies that differ from core to core; POLL stays at 0."""
    gone, disabled = mask(draw, len(states)), mask(draw, len(states))
    factor, default = pick(draw, (1, 3), (True, None, False))
    chosen = [
        (name, latency * factor, not off)
        for (name, latency), out, off in zip(states, gone, disabled, strict=True)
        if not out
    ]
    return tuple(
        IdleState(index, name, latency, on, default)
        for index, (name, latency, on) in enumerate(chosen)
    )


#: Whether hyperthreads are neighbours; position after which ids jump; by how much.
_NUMBERINGS = ((False, True), tuple(range(1, MOST_CPUS + 1)), (0, 0, 1, 100))


def _places(
    kinds: Sequence[_Kind], packages: int, dies: int, most: int, numbering: Sequence[int]
) -> tuple[list[_Place], dict[int, list[int]]]:
    """The CPUs in order of id, and the ids of each core."""
    adjacent, after, gap = numbering
    cores = [
        (package, die, kind)
        for package in range(packages)
        for die in range(dies)
        for kind, item in enumerate(kinds)
        for _ in range(item.cores)
    ]
    threads = [
        (core, thread)
        for core, (_, _, kind) in enumerate(cores)
        for thread in range(kinds[kind].threads)
    ][:most]
    if not adjacent:
        threads.sort(key=lambda item: (item[1], item[0]))
    places, siblings = [], dict[int, list[int]]()
    for position, (core, _) in enumerate(threads):
        number = position if position < after else position + gap
        package, die, kind = cores[core]
        places.append(_Place(number, package, die, core, kind))
        siblings.setdefault(core, []).append(number)
    return places, siblings


def _cpu(
    place: _Place,
    domain: int | None,
    idle: tuple[IdleState, ...],
    siblings: tuple[int, ...],
    online: bool,
) -> Cpu:
    if not online:  # its topology folder is gone (kernel-facts K17)
        return Cpu(place.id, online=False, domain=domain, idle=idle)
    return Cpu(place.id, True, place.package, place.die, None, place.core, siblings, domain, idle)


def _domains(
    driver: Driver | None,
    kinds: Sequence[_Kind],
    places: Iterable[_Place],
    size: int,
    variants: Sequence[int],
    offline: set[int],
) -> list[FrequencyDomain]:
    """Neighbours of one kind share a domain.

    Those without any CPU online are not there for anybody.
    """
    if driver is None:
        return []
    members: dict[int, list[int]] = {}
    for place in places:
        members.setdefault(place.kind, []).append(place.id)
    found: list[FrequencyDomain] = []
    for number, ids in sorted(members.items()):
        kind = kinds[number]
        for first in range(0, len(ids) if kind.scaled else 0, size):
            cpus = tuple(ids[first : first + size])
            settings = kind.settings[variants[len(found)] % len(kind.settings)]
            epps = EPP_WORDS if settings.epp else ()
            if not offline.issuperset(cpus):
                found.append(
                    FrequencyDomain(
                        min(cpus),
                        cpus,
                        driver.name,
                        kind.low,
                        kind.high,
                        kind.limit,
                        kind.table,
                        driver.governors,
                        epps,
                        settings,
                        base_khz=kind.base,
                    )
                )
    return sorted(found, key=lambda domain: domain.id)


def _draw_uncore(draw: st.DrawFn, packages: int, dies: int) -> tuple[UncoreEntry, ...]:
    """Nothing, or an entry for every die, in the older layout or in TPMI's (where a die has
    clusters).
    """
    layout, (lowest, highest), first, second, clusters = pick(
        draw, ("none", "package", "tpmi"), ((8, 24), (5, 20), (12, 12)), _POINTS, _POINTS, (1, 2)
    )
    low, high = lowest * _UNCORE_STEP_KHZ, highest * _UNCORE_STEP_KHZ
    shown = [
        (lowest + (highest - lowest) * point // 1000) * _UNCORE_STEP_KHZ
        for point in sorted((first, second))
    ]
    places = [(package, die) for package in range(packages) for die in range(dies)]
    if layout == "none":
        return ()
    if layout == "package":
        return tuple(
            UncoreEntry(
                f"package_{package:02}_die_{die:02}", package, die, None, None, low, high, *shown
            )
            for package, die in places
        )
    parts = [(package, die, cluster) for package, die in places for cluster in range(clusters)]
    return tuple(
        UncoreEntry(f"uncore{index:02}", package, None, die, cluster, low, high, *shown)
        for index, (package, die, cluster) in enumerate(parts)
    )


#: What caps power. RAPL has a zone a package, or a die where the package has several; AMD's have
#: one a socket.
_CONTROLS = ("none", *often("rapl", "rapl by die", "hwmon", "hsmp"))
#: Limits of a RAPL zone, W: long-term now and at most, short-term now (None: it has none) and at
#: most.
_RAPL_WATTS = (
    (205, 205, 246, None),
    (205, None, None, None),
    (150, 165, 180, 320),
    (60, 205, 60, None),
    (400, None, 480, 764),
)
#: Limit of a socket, W: now and at most.
_SOCKET_WATTS = ((240, 240), (280, 400), (200, None))
_MAILBOX_FAULT = "the firmware does not answer (ETIMEDOUT)"


def _draw_power(draw: st.DrawFn, packages: int, dies: int) -> dict[str, Any]:
    """Power zones, data fabrics of AMD packages, and why these are of no use, as discovery finds
    them.
    """
    control, watts, socket, enabled, mirror = pick(
        draw, _CONTROLS, _RAPL_WATTS, _SOCKET_WATTS, (True, False, None), (None, 40, 1000)
    )
    protocol, pstates = pick(draw, (None, 5, 7, 2, 6, "silent"), often("auto", "1", "2 0"))
    fabrics = (
        tuple(Fabric(package, protocol, pstates) for package in range(packages))
        if isinstance(protocol, int)
        else ()
    )
    fault = _MAILBOX_FAULT if protocol == "silent" else ""
    places: list[tuple[int, int | None]] = [(package, None) for package in range(packages)]
    if control.startswith("rapl"):
        if control.endswith("die") and dies > 1:
            places = [(package, die) for package in range(packages) for die in range(dies)]
        lower = None if mirror is None else mirror * _WATT
        numbers = reversed(range(len(places)))
        zones = tuple(
            _rapl_zone(number, *place, watts, enabled, lower)
            for number, place in zip(numbers, places, strict=True)
        )
        return {"power_zones": zones, "fabrics": fabrics, "fabric_fault": fault}
    zones = (
        tuple(_socket_zone(package, control, socket) for package in range(packages))
        if control != "none"
        else ()
    )
    return {"power_zones": zones, "fabrics": fabrics, "fabric_fault": fault}


def _rapl_zone(
    number: int,
    package: int,
    die: int | None,
    watts: Sequence[int | None],
    enabled: bool | None,
    mirror_uw: int | None,
) -> PowerZone:
    """A zone of powercap; its number says nothing of its package."""
    long, long_top, short, short_top = (None if value is None else value * _WATT for value in watts)
    limits = [PowerLimit("long_term", "constraint_0_power_limit_uw", long, long_top)]
    if short is not None:
        limits.append(PowerLimit("short_term", "constraint_1_power_limit_uw", short, short_top))
    name = f"package-{package}" if die is None else f"package-{package}-die-{die}"
    return PowerZone(
        f"devices/virtual/powercap/intel-rapl/intel-rapl:{number}",
        name,
        "intel-rapl",
        package,
        die,
        enabled,
        tuple(limits),
        mirror_uw,
    )


def _socket_zone(package: int, control: str, watts: Sequence[int | None]) -> PowerZone:
    """The one limit of a socket: a file of amd_hsmp_hwmon, or a message of the mailbox."""
    now, top = (None if value is None else value * _WATT for value in watts)
    if control == "hwmon":
        limit = PowerLimit("power_cap", "power1_cap", now, top)
        return PowerZone(
            f"devices/platform/amd_hsmp/hwmon/hwmon{package}",
            f"socket-{package}",
            "amd_hsmp_hwmon",
            package,
            limits=(limit,),
        )
    return PowerZone(
        f"hsmp/socket{package}",
        f"socket-{package}",
        "hsmp",
        package,
        limits=(PowerLimit("power_cap", "power_limit_mw", now, top),),
    )
