"""Read a machine from a host: its CPUs, frequency domains, idle states, uncore entries, power
zones, and the groups to manage.

What a file does not say is None; a file that is missing, empty or unreadable costs itself only
(R6). Topology of an offline CPU is not there (kernel-facts K17).
"""

import errno
import os
from collections.abc import Mapping, Sequence

from attrs import field, frozen

from kpm_applier import attributes as table
from kpm_applier.attributes import CPU_ROOT, UNCORE_ROOT, Group, Kind, ManagedFile
from kpm_applier.discovery.power import discover_fabrics, discover_zones, fabric_fault
from kpm_applier.sysfs.host import Host
from kpm_applier.sysfs.reader import Reader, as_number, number_of
from kpm_planner.model.changes import Observed
from kpm_planner.model.cpuset import LARGEST_CPU
from kpm_planner.model.machine import (
    Cpu,
    CpufreqSettings,
    FrequencyDomain,
    IdleState,
    Machine,
    UncoreEntry,
)

#: Errors of reads that say nothing of the file.
_PASSING = frozenset(
    {
        errno.EIO,
        errno.EBUSY,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENODEV,
        errno.ENXIO,
        errno.ENOMEM,
        errno.EAGAIN,
    }
)
_SWITCHES = ((f"{CPU_ROOT}/cpufreq", table.BOOST), (f"{CPU_ROOT}/intel_pstate", table.NO_TURBO))
_STATUS_FILES = (f"{CPU_ROOT}/intel_pstate/status", f"{CPU_ROOT}/amd_pstate/status")
#: Read before everything else: what changes while the machine is read must be noticed afterwards.
_MARKS = (
    *_STATUS_FILES,
    *(f"{folder}/{attribute.file}" for folder, attribute in _SWITCHES),
    f"{CPU_ROOT}/online",
)


class HostError(Exception):
    """The tree is not one that can be managed; the text says which file and why."""


@frozen
class Discovery:
    """A machine, its groups, what their files showed, and files whose change means: discover again
    (rule A2).

    troubled: whether something could not be read for a reason that may pass, so that it is worth
    looking again.
    """

    machine: Machine
    groups: tuple[Group, ...]
    observed: Observed
    sentinels: Mapping[str, bytes] = field(hash=False)
    troubled: bool = False


def discover(host: Host) -> Discovery:
    """Read the whole machine.

    Errors: HostError where not even the list of CPUs can be read.
    """
    reader = Reader(host, {}, {})
    marks = _raw(host, _MARKS)
    present, online = _cpu_lists(reader)
    groups: list[Group] = []
    boost = _discover_boost(reader, groups)
    domains = _discover_domains(reader, present, online, boost is False, groups)
    domain_of = {cpu: domain.id for domain in domains for cpu in domain.cpus}
    idle_driver = reader.text(f"{CPU_ROOT}/cpuidle/current_driver")
    states: dict[tuple[IdleState, ...], tuple[IdleState, ...]] = {}
    cpus = []
    for cpu in sorted(present):
        idle = _discover_idle(reader, cpu, cpu in online, idle_driver or "", groups)
        cpus.append(
            _discover_cpu(
                reader,
                cpu,
                cpu in online,
                domain_of.get(cpu),
                states.setdefault(idle, idle),
                _discover_latency(reader, cpu, cpu in online, groups),
            )
        )
    machine = Machine(
        architecture=_architecture(reader),
        cpu_model=None,
        cpus=tuple(cpus),
        domains=tuple(domains),
        idle_driver=None if idle_driver == "none" else idle_driver,
        uncore=_discover_uncore(reader, groups),
        boost=boost,
        driver_status=next(filter(None, map(reader.text, _STATUS_FILES)), None),
        power_zones=discover_zones(reader, groups),
        fabrics=discover_fabrics(reader, groups),
        fabric_fault=fabric_fault(reader),
        min_percent=reader.number(f"{CPU_ROOT}/intel_pstate/min_perf_pct"),
        max_percent=reader.number(f"{CPU_ROOT}/intel_pstate/max_perf_pct"),
    )
    return Discovery(
        machine,
        tuple(groups),
        Observed(reader.values, reader.errors),
        _sentinels(reader, domains, marks),
        _troubled(reader, present - online),
    )


def check_tree(host: Host) -> None:
    """See that a tree lists its CPUs, before anything is made for it. Errors: HostError."""
    _cpu_lists(Reader(host, {}, {}))


def _cpu_lists(reader: Reader) -> tuple[frozenset[int], frozenset[int]]:
    online = reader.cpus(f"{CPU_ROOT}/online")
    present = reader.cpus(f"{CPU_ROOT}/present") or frozenset()
    if online is None and "online" not in reader.names(CPU_ROOT):
        names = (name[3:] for name in reader.names(CPU_ROOT) if name.startswith("cpu"))
        present |= {
            number
            for name in names
            if _is_number(name) and (number := int(name[:9])) <= LARGEST_CPU
        }
        online = frozenset(cpu for cpu in present if _seems_online(reader, cpu)) or None
    if online is None:
        shown = reader.text(f"{CPU_ROOT}/online")
        what = f"is no CPU list: {shown[:60]!r}" if shown else "is missing or empty"
        raise HostError(f"{CPU_ROOT}/online {what}; a /sys tree lists the CPUs there, as in 0-3,8")
    return present | online, online


def _seems_online(reader: Reader, cpu: int) -> bool:
    """Of a tree without a list of those online: by the CPU's own file, which those that cannot be
    turned off have not, else by its folder.
    """
    folder = f"{CPU_ROOT}/cpu{cpu}"
    names = reader.names(folder)
    return reader.text(f"{folder}/online") == "1" if "online" in names else bool(names)


def _architecture(reader: Reader) -> str | None:
    if reader.host.live:
        return os.uname().machine
    modalias = reader.text(f"{CPU_ROOT}/modalias") or ""
    kind = (
        modalias.removeprefix("cpu:type:").partition(",")[0].partition(":")[0]
        if modalias.startswith("cpu:type:")
        else ""
    )
    return {"x86": "x86_64", "aarch64": "aarch64"}.get(kind)


def _discover_cpu(
    reader: Reader,
    cpu: int,
    online: bool,
    domain: int | None,
    idle: tuple[IdleState, ...],
    latency: str | None,
) -> Cpu:
    topology = f"{CPU_ROOT}/cpu{cpu}/topology"
    siblings = _siblings(reader, topology) if online else frozenset()
    package, die, cluster, core = (
        reader.identity(f"{topology}/{name}") if online else None
        for name in ("physical_package_id", "die_id", "cluster_id", "core_id")
    )
    return Cpu(
        cpu, online, package, die, cluster, core, tuple(sorted(siblings)), domain, idle, latency
    )


def _siblings(reader: Reader, topology: str) -> frozenset[int]:
    """The hyperthreads of a CPU's core, as a list or, in older kernels
    and some dumps, as a mask.
    """
    found = reader.cpus(f"{topology}/thread_siblings_list") or reader.mask(
        f"{topology}/thread_siblings"
    )
    return (
        found
        or reader.cpus(f"{topology}/core_cpus_list")
        or reader.mask(f"{topology}/core_cpus")
        or frozenset()
    )


def _discover_boost(reader: Reader, groups: list[Group]) -> bool | None:
    """The node's switch, or where there is none those of all policies, which are then set alike."""
    for folder, attribute in _SWITCHES:
        path = f"{folder}/{attribute.file}"
        text = reader.managed(path)
        if text in ("0", "1"):
            groups.append(
                Group(
                    "boost",
                    Kind.BOOST,
                    "boost",
                    attribute.file,
                    (ManagedFile(attribute, path, attribute.file),),
                )
            )
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


def _policy_boost(reader: Reader, number: int, groups: list[Group]) -> str | None:
    """The switch of one policy, a group of its own: one that cannot be read now costs no other."""
    path = f"{CPU_ROOT}/cpufreq/policy{number}/{table.BOOST.file}"
    text = reader.managed(path)
    if text in ("0", "1"):
        groups.append(
            Group(
                f"boost:{number}",
                Kind.BOOST,
                number,
                table.BOOST.file,
                (ManagedFile(table.BOOST, path, table.BOOST.file),),
            )
        )
        return text
    reader.errors.pop(path, None)
    return None


def _discover_domains(
    reader: Reader,
    present: frozenset[int],
    online: frozenset[int],
    boost_off: bool,
    groups: list[Group],
) -> list[FrequencyDomain]:
    found: dict[int, FrequencyDomain] = {}
    covered: set[int] = set()
    policies = (
        name
        for name in reader.names(f"{CPU_ROOT}/cpufreq")
        if name.startswith("policy") and name[6:].isdigit()
    )
    folders = [f"{CPU_ROOT}/cpufreq/{name}" for name in policies]
    for folder in folders:
        _add_domain(reader, folder, None, online, boost_off, found, covered, groups)
    for cpu in sorted(present - covered):
        if cpu not in covered:
            _add_domain(
                reader,
                f"{CPU_ROOT}/cpu{cpu}/cpufreq",
                cpu,
                online,
                boost_off,
                found,
                covered,
                groups,
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
    groups.append(_domain_group(reader, domain, folder, online))


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
    )


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


def _domain_group(
    reader: Reader, domain: FrequencyDomain, folder: str, online: frozenset[int]
) -> Group:
    has_epp = reader.errors.get(f"{folder}/{table.EPP.file}") not in (errno.ENOENT, errno.ENODATA)
    rows = (table.GOVERNOR, *((table.EPP,) if has_epp else ()), table.MIN_FREQ, table.MAX_FREQ)
    files = tuple(ManagedFile(row, f"{folder}/{row.file}", row.file) for row in rows)
    low, high = domain.hardware_min_khz, domain.hardware_max_khz
    hardware = None if low is None or high is None else (str(low), str(high))
    return Group(
        f"cpufreq:{domain.id}",
        Kind.CPUFREQ,
        domain.id,
        domain.driver or "",
        files,
        tuple(sorted(online.intersection(domain.cpus))),
        hardware,
    )


def _discover_idle(
    reader: Reader, cpu: int, online: bool, driver: str, groups: list[Group]
) -> tuple[IdleState, ...]:
    folder = f"{CPU_ROOT}/cpu{cpu}/cpuidle"
    numbers = sorted(
        int(name[5:])
        for name in reader.names(folder)
        if name.startswith("state") and name[5:].isascii() and name[5:].isdigit()
    )
    states, files = [], []
    for number in numbers:
        base = f"{folder}/state{number}"
        name, disable = (
            reader.text(f"{base}/name"),
            reader.managed(f"{base}/{table.IDLE_DISABLE.file}"),
        )
        if name is None or disable is None:
            continue
        default = reader.text(f"{base}/default_status")
        states.append(
            IdleState(
                number,
                name,
                reader.number(f"{base}/latency") or 0,
                disable == "0",
                None if default is None else default == "enabled",
            )
        )
        files.append(
            ManagedFile(
                table.IDLE_DISABLE, f"{base}/{table.IDLE_DISABLE.file}", f"state{number}", number
            )
        )
    if files:
        groups.append(
            Group(f"idle:{cpu}", Kind.IDLE, cpu, driver, tuple(files), (cpu,) if online else ())
        )
    return tuple(states)


def _discover_latency(reader: Reader, cpu: int, online: bool, groups: list[Group]) -> str | None:
    """The limit of a CPU's idle states; kernels without it, and most dumps, have none."""
    path = f"{CPU_ROOT}/cpu{cpu}/power/{table.RESUME_LATENCY.file}"
    text = reader.managed(path)
    if text is None or not (text == "n/a" or _is_number(text)):
        reader.errors.pop(path, None)
        return None
    files = (ManagedFile(table.RESUME_LATENCY, path, table.RESUME_LATENCY.file),)
    groups.append(
        Group(f"latency:{cpu}", Kind.LATENCY, cpu, "pm_qos", files, (cpu,) if online else ())
    )
    return text


def _discover_uncore(reader: Reader, groups: list[Group]) -> tuple[UncoreEntry, ...]:
    """Entries of the TPMI layout where there are any, else of the older one; both at once describe
    the same hardware.
    """
    names = reader.names(UNCORE_ROOT)
    tpmi = [name for name in names if name.startswith("uncore") and _is_number(name[6:])]
    entries = []
    for name in tpmi or [name for name in names if name.startswith("package_")]:
        entry = _read_uncore(reader, name)
        if entry is not None:
            entries.append(entry)
            groups.append(_uncore_group(entry))
    return tuple(entries)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _read_uncore(reader: Reader, name: str) -> UncoreEntry | None:
    folder = f"{UNCORE_ROOT}/{name}"
    low, high = (
        as_number(reader.managed(f"{folder}/{row.file}"))
        for row in (table.UNCORE_MIN, table.UNCORE_MAX)
    )
    package, die = reader.identity(f"{folder}/package_id"), reader.identity(f"{folder}/die_id")
    words = name.split("_")
    if len(words) == 4 and _is_number(words[1]) and _is_number(words[3]):
        package, die = int(words[1]), int(words[3])
    if low is None or high is None:
        return None
    return UncoreEntry(
        name=name,
        package=package,
        die=die,
        domain=reader.identity(f"{folder}/domain_id"),
        cluster=reader.identity(f"{folder}/fabric_cluster_id"),
        hardware_min_khz=reader.number(f"{folder}/initial_min_freq_khz"),
        hardware_max_khz=reader.number(f"{folder}/initial_max_freq_khz"),
        min_khz=low,
        max_khz=high,
    )


def _uncore_group(entry: UncoreEntry) -> Group:
    files = tuple(
        ManagedFile(row, f"{UNCORE_ROOT}/{entry.name}/{row.file}", row.file)
        for row in (table.UNCORE_MIN, table.UNCORE_MAX)
    )
    low, high = entry.hardware_min_khz, entry.hardware_max_khz
    hardware = None if low is None or high is None else (str(low), str(high))
    return Group(
        f"uncore:{entry.name}",
        Kind.UNCORE,
        entry.name,
        "intel_uncore_frequency",
        files,
        (),
        hardware,
    )


def _sentinels(
    reader: Reader, domains: Sequence[FrequencyDomain], marks: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Files whose change means that the machine is another one (rule A2).

    With what they held when the machine was read: one that says something else by now is taken
    down as it was, so that the change is noticed.
    """
    folders = [f"{CPU_ROOT}/cpu{domain.cpus[0]}/cpufreq" for domain in domains]
    found = dict(marks)
    tops = [f"{folder}/cpuinfo_max_freq" for folder in folders]
    now = _raw(reader.host, tops)
    for path, domain in zip(tops, domains, strict=True):
        if path in now:
            known = domain.hardware_max_khz
            same = (number_of(_plain(now[path])) or None) == known
            found[path] = now[path] if same else f"{known or ''}\n".encode()
    for path, raw in _raw(
        reader.host, [f"{folder}/scaling_driver" for folder in folders[:1]]
    ).items():
        driver = domains[0].driver
        found[path] = raw if (_plain(raw) or None) == driver else f"{driver or ''}\n".encode()
    return found


def _plain(raw: bytes) -> str:
    return raw.decode("ascii", "replace").strip()


def _raw(host: Host, paths: Sequence[str]) -> dict[str, bytes]:
    """Contents of those of these files that can be read."""
    contents = zip(paths, host.read_all(paths), strict=True)
    return {path: content for path, content in contents if not isinstance(content, OSError)}


def _troubled(reader: Reader, offline: frozenset[int]) -> bool:
    """Whether a read failed for a reason that may pass; files of offline CPUs are busy as long as
    they are (kernel-facts K17).
    """
    away = {f"{CPU_ROOT}/{name}{cpu}" for cpu in offline for name in ("cpufreq/policy", "cpu")}
    busy = (
        number == errno.EBUSY and "/".join(path.split("/")[: 5 if "/policy" in path else 4]) in away
        for path, number in reader.troubles
    )
    return any(
        number in _PASSING and not gone
        for (_, number), gone in zip(reader.troubles, busy, strict=True)
    )
