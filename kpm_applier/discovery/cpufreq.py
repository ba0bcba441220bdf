"""Frequency domains and turbo of a machine, and the groups of files that set them."""

import errno

from kpm_applier import attributes as table
from kpm_applier.attributes import CPU_ROOT, Attribute, Group, Kind, ManagedFile
from kpm_applier.sysfs.reader import Reader, as_number
from kpm_planner.model.machine import (
    CpufreqSettings,
    FrequencyDomain,
)

SWITCHES = ((f"{CPU_ROOT}/cpufreq", table.BOOST), (f"{CPU_ROOT}/intel_pstate", table.NO_TURBO))


def discover_boost(reader: Reader, groups: list[Group]) -> bool | None:
    """The node's switch, or where there is none those of all policies, which are then set alike."""
    for folder, attribute in SWITCHES:
        path = f"{folder}/{attribute.file}"
        text = reader.managed(path)
        if text in ("0", "1"):
            groups.append(boost_group(attribute, path))
            return (text == "1") is (attribute is table.BOOST)
        if reader.errors.pop(path, errno.ENOENT) != errno.ENOENT:
            return None  # it is there, so policies have none of their own to be set instead
    numbers = sorted(
        int(name[6:])
        for name in reader.names(f"{CPU_ROOT}/cpufreq")
        if name.startswith("policy") and name[6:].isdecimal()
    )
    shown = [
        text for number in numbers if (text := _policy_boost(reader, number, groups)) is not None
    ]
    return "1" in shown if shown else None


def boost_group(attribute: Attribute, path: str, policy: int | None = None) -> Group:
    """The switch of the node, or of one policy."""
    key = "boost" if policy is None else f"boost:{policy}"
    files = (ManagedFile(attribute, path, attribute.file),)
    where = "boost" if policy is None else policy
    return Group(key, Kind.BOOST, where, driver=attribute.file, files=files)


def _policy_boost(reader: Reader, number: int, groups: list[Group]) -> str | None:
    """The switch of one policy, a group of its own: one that cannot be read now costs no other."""
    path = f"{CPU_ROOT}/cpufreq/policy{number}/{table.BOOST.file}"
    text = reader.managed(path)
    if text in ("0", "1"):
        groups.append(boost_group(table.BOOST, path, number))
        return text
    reader.errors.pop(path, None)
    return None


def discover_domains(
    reader: Reader,
    present: frozenset[int],
    online: frozenset[int],
    boost_off: bool,
    groups: list[Group],
) -> list[FrequencyDomain]:
    """The frequency domains of online CPUs, with the groups of their files."""
    found: dict[int, FrequencyDomain] = {}
    covered: set[int] = set()
    policies = sorted(
        (
            name
            for name in reader.names(f"{CPU_ROOT}/cpufreq")
            if name.startswith("policy") and name[6:].isdigit()
        ),
        key=lambda name: (len(name), name),  # by number: a folder lists them in any order
    )
    folders = [f"{CPU_ROOT}/cpufreq/{name}" for name in policies]
    for folder in folders:
        _add_domain(
            reader,
            folder,
            None,
            online=online,
            boost_off=boost_off,
            found=found,
            covered=covered,
            groups=groups,
        )
    for cpu in sorted(present - covered):
        if cpu not in covered:
            _add_domain(
                reader,
                f"{CPU_ROOT}/cpu{cpu}/cpufreq",
                cpu,
                online=online,
                boost_off=boost_off,
                found=found,
                covered=covered,
                groups=groups,
            )
    return [found[number] for number in sorted(found)]


def _add_domain(
    reader: Reader,
    folder: str,
    cpu: int | None,
    online: frozenset[int],
    boost_off: bool,
    found: dict[int, FrequencyDomain],
    covered: set[int],
    groups: list[Group],
) -> None:
    related = reader.cpus(f"{folder}/related_cpus") or (
        frozenset() if cpu is None else frozenset({cpu})
    )
    if not related & online or related & covered or reader.text(f"{folder}/scaling_driver") is None:
        return
    number = min(related) if cpu is not None else int(folder.rpartition("policy")[2])
    domain = _read_domain(reader, folder, number, tuple(sorted(related)), boost_off)
    found[number] = domain
    covered |= related
    has_epp = reader.errors.get(f"{folder}/{table.EPP.file}") not in (errno.ENOENT, errno.ENODATA)
    groups.append(domain_group(domain, folder, online, has_epp=has_epp))


def _read_domain(
    reader: Reader, folder: str, number: int, cpus: tuple[int, ...], boost_off: bool
) -> FrequencyDomain:
    available = _numbers(reader.text(f"{folder}/scaling_available_frequencies"))
    top = reader.number(f"{folder}/cpuinfo_max_freq") or None
    named = reader.number(f"{folder}/amd_pstate_max_freq") or None
    others = [named, *available, *_numbers(reader.text(f"{folder}/scaling_boost_frequencies"))]
    if boost_off and named is None:
        others.append(_cppc_top(reader, cpus[0]))
    settings = CpufreqSettings(
        min_khz=as_number(reader.managed(f"{folder}/{table.MIN_FREQ.file}")),
        max_khz=as_number(reader.managed(f"{folder}/{table.MAX_FREQ.file}")),
        governor=reader.managed(f"{folder}/{table.GOVERNOR.file}"),
        epp=reader.managed(f"{folder}/{table.EPP.file}") or None,
    )
    if boost_off and top is not None and (settings.max_khz or 0) > top:  # set while boost was on
        others.append(settings.max_khz)
    base = _base(reader, folder, cpus[0], available)
    limits = [khz for khz in (top, *others) if khz]
    return FrequencyDomain(
        id=number,
        cpus=cpus,
        driver=reader.text(f"{folder}/scaling_driver"),
        hardware_min_khz=reader.number(f"{folder}/cpuinfo_min_freq"),
        hardware_max_khz=top,
        limit_max_khz=max(limits, default=None),
        available_khz=available,
        governors=tuple((reader.text(f"{folder}/scaling_available_governors") or "").split()),
        epps=tuple(
            (reader.text(f"{folder}/energy_performance_available_preferences") or "").split()
        ),
        settings=settings,
        limit_named=not boost_off or any(others),
        base_khz=base,
    )


def _base(reader: Reader, folder: str, cpu: int, available: tuple[int, ...]) -> int | None:
    """The highest frequency without turbo: as intel_pstate says it, as firmware does, or the
    highest of a table. A table's first entry that is 1 MHz above its second stands for turbo
    (kernel, acpi-cpufreq: P0 of Intel's tables).
    """
    named = reader.number(f"{folder}/base_frequency")
    if named:
        return named
    mhz = reader.number(f"{CPU_ROOT}/cpu{cpu}/acpi_cppc/nominal_freq")
    if mhz:
        return mhz * 1000
    turbo = len(available) > 1 and available[-1] - available[-2] == 1000
    return available[-2 if turbo else -1] if available else None


def _cppc_top(reader: Reader, cpu: int) -> int | None:
    """The boosted maximum that firmware names, for when boost is off and no cpufreq file does
    (kernel, acpi/cppc_sysfs).
    """
    highest, nominal, mhz = (
        reader.number(f"{CPU_ROOT}/cpu{cpu}/acpi_cppc/{name}")
        for name in ("highest_perf", "nominal_perf", "nominal_freq")
    )
    return mhz * 1000 * highest // nominal if highest and nominal and mhz else None


def _numbers(text: str | None) -> tuple[int, ...]:
    return tuple(
        sorted({int(word) for word in (text or "").split() if word.isascii() and word.isdigit()})
    )


def domain_group(
    domain: FrequencyDomain, folder: str, online: frozenset[int], *, has_epp: bool
) -> Group:
    """What is set of a domain."""
    rows = (table.GOVERNOR, *((table.EPP,) if has_epp else ()), table.MIN_FREQ, table.MAX_FREQ)
    files = tuple(ManagedFile(row, f"{folder}/{row.file}", row.file) for row in rows)
    low, high = domain.hardware_min_khz, domain.hardware_max_khz
    hardware = None if low is None or high is None else (str(low), str(high))
    return Group(
        f"cpufreq:{domain.id}",
        Kind.CPUFREQ,
        domain.id,
        driver=domain.driver or "",
        files=files,
        cpus=tuple(sorted(online.intersection(domain.cpus))),
        hardware=hardware,
    )
