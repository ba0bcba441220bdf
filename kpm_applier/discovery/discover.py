"""Read a machine from a host: its CPUs, frequency domains, idle states, uncore entries, power
zones, and the groups to manage.

What a file does not say is None; a file that is missing, empty or unreadable costs itself only
(R6). Topology of an offline CPU is not there (kernel-facts K17).
"""

import errno
import os
from collections.abc import Mapping, Sequence

from attrs import field, frozen

from kpm_applier.attributes import CPU_ROOT, Group
from kpm_applier.discovery.cpufreq import SWITCHES, discover_boost, discover_domains
from kpm_applier.discovery.idle import discover_alone, discover_idle
from kpm_applier.discovery.power import discover_fabrics, discover_zones, fabric_fault
from kpm_applier.discovery.uncore import discover_uncore
from kpm_applier.sysfs.host import Host
from kpm_applier.sysfs.reader import Reader, is_number, number_of
from kpm_planner.model.changes import Observed
from kpm_planner.model.cpuset import LARGEST_CPU
from kpm_planner.model.machine import (
    Cpu,
    FrequencyDomain,
    IdleState,
    Machine,
)

#: Errors of reads that say nothing of the file.
MAY_PASS = frozenset(
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
_STATUS_FILES = (f"{CPU_ROOT}/intel_pstate/status", f"{CPU_ROOT}/amd_pstate/status")
#: Read before everything else: what changes while the machine is read must be noticed afterwards.
_MARKS = (
    *_STATUS_FILES,
    *(f"{folder}/{attribute.file}" for folder, attribute in SWITCHES),
    f"{CPU_ROOT}/online",
)


class HostError(Exception):
    """The tree is not one that can be managed; the text says which file and why."""


#: Features of x86 CPUs as modalias lists them: word 14 of the kernel's table, bits 7 and 10
#: (kernel, asm/cpufeatures.h).
_HWP, _HWP_EPP = "01C7", "01CA"


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
    reader.marks.update(_raw(reader, _MARKS))
    present, online = _cpu_lists(reader)
    groups: list[Group] = []
    boost = discover_boost(reader, groups)
    domains = discover_domains(reader, present, online, boost is False, groups)
    idle_driver = reader.text(f"{CPU_ROOT}/cpuidle/current_driver")
    cpus = _discover_cpus(
        reader, present, online, domains=domains, idle_driver=idle_driver or "", groups=groups
    )
    machine = Machine(
        architecture=_architecture(reader),
        cpu_model=None,
        cpus=tuple(cpus),
        domains=tuple(domains),
        idle_driver=None if idle_driver == "none" else idle_driver,
        uncore=discover_uncore(reader, groups),
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
        _sentinels(reader, domains),
        _troubled(reader, present - online, domains),
    )


def _discover_cpus(
    reader: Reader,
    present: frozenset[int],
    online: frozenset[int],
    domains: Sequence[FrequencyDomain],
    idle_driver: str,
    groups: list[Group],
) -> list[Cpu]:
    """The CPUs, with the groups of what each has alone; those that are alike share their states."""
    domain_of = {cpu: domain for domain in domains for cpu in domain.cpus}
    one_register = _epp_is_bias(reader)
    states: dict[tuple[IdleState, ...], tuple[IdleState, ...]] = {}
    cpus = []
    for cpu in sorted(present):
        here, domain = cpu in online, domain_of.get(cpu)
        idle = discover_idle(reader, cpu, here, idle_driver, groups)
        has_epp = domain is not None and domain.settings.epp is not None
        alone = discover_alone(reader, cpu, here, groups, one_register=one_register and has_epp)
        number = None if domain is None else domain.id
        kept = states.setdefault(idle, idle)
        cpus.append(_discover_cpu(reader, cpu, here, domain=number, idle=kept, alone=alone))
    return cpus


def check_tree(host: Host) -> None:
    """See that a tree lists its CPUs, before anything is made for it. Errors: HostError."""
    _cpu_lists(Reader(host, {}, {}))


def _cpu_lists(reader: Reader) -> tuple[frozenset[int], frozenset[int]]:
    online = reader.cpus(f"{CPU_ROOT}/online")
    present = reader.cpus(f"{CPU_ROOT}/present") or frozenset()
    if online is None and "online" not in reader.names(CPU_ROOT):
        names = (name[3:] for name in reader.names(CPU_ROOT) if name.startswith("cpu"))
        present |= {
            number for name in names if is_number(name) and (number := int(name[:9])) <= LARGEST_CPU
        }
        online = frozenset(cpu for cpu in present if _seems_online(reader, cpu)) or None
    if online is None:
        failed = dict(reader.troubles).get(f"{CPU_ROOT}/online", errno.ENOENT)
        if failed != errno.ENOENT:
            raise HostError(f"{CPU_ROOT}/online cannot be read: {os.strerror(failed)}")
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


def _epp_is_bias(reader: Reader) -> bool:
    """Whether the CPUs choose speeds themselves and have no register for EPP: then the driver keeps
    it in that of the energy performance bias (kernel, intel_pstate_get_epp).
    """
    words = (reader.text(f"{CPU_ROOT}/modalias") or "").partition("feature:")[2].split(",")
    return _HWP in words and _HWP_EPP not in words


def _discover_cpu(
    reader: Reader,
    cpu: int,
    online: bool,
    domain: int | None,
    idle: tuple[IdleState, ...],
    alone: Mapping[str, str],
) -> Cpu:
    topology = f"{CPU_ROOT}/cpu{cpu}/topology"
    siblings = _siblings(reader, topology) if online else frozenset()
    package, die, cluster, core = (
        reader.identity(f"{topology}/{name}") if online else None
        for name in ("physical_package_id", "die_id", "cluster_id", "core_id")
    )
    together = tuple(sorted(siblings))
    return Cpu(
        cpu,
        online,
        package,
        die=die,
        cluster=cluster,
        core=core,
        siblings=together,
        domain=domain,
        idle=idle,
        **alone,
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


def _sentinels(reader: Reader, domains: Sequence[FrequencyDomain]) -> dict[str, bytes]:
    """Files whose change means that the machine is another one (rule A2).

    With what they held when the machine was read: one that says something else by now is taken
    down as it was, so that the change is noticed.
    """
    folders = [f"{CPU_ROOT}/cpu{domain.cpus[0]}/cpufreq" for domain in domains]
    found = dict(reader.marks)
    tops = [f"{folder}/cpuinfo_max_freq" for folder in folders]
    now = _raw(reader, tops)
    for path, domain in zip(tops, domains, strict=True):
        if path in now:
            known = domain.hardware_max_khz
            same = (number_of(_plain(now[path])) or None) == known
            found[path] = now[path] if same else f"{known or ''}\n".encode()
    drivers = [f"{folder}/scaling_driver" for folder in folders[:1]]
    for path, raw in _raw(reader, drivers).items():
        driver = domains[0].driver
        found[path] = raw if (_plain(raw) or None) == driver else f"{driver or ''}\n".encode()
    return found


def _plain(raw: bytes) -> str:
    return raw.decode("ascii", "replace").strip()


def _raw(reader: Reader, paths: Sequence[str]) -> dict[str, bytes]:
    """Contents of those of these files that can be read.

    Of one that cannot nobody would notice a change, so it is a trouble like that of any other file.
    """
    found: dict[str, bytes] = {}
    for path, content in zip(paths, reader.host.read_all(paths), strict=True):
        if isinstance(content, OSError):
            reader.troubles.append((path, content.errno or errno.EIO))
        else:
            found[path] = content
    return found


def _troubled(reader: Reader, offline: frozenset[int], domains: Sequence[FrequencyDomain]) -> bool:
    """Whether a read failed for a reason that may pass; files of offline CPUs, and of policies that
    have no other, are busy as long as they are (kernel-facts K17).
    """
    away = {f"{CPU_ROOT}/cpu{cpu}" for cpu in offline}
    away |= {f"{CPU_ROOT}/cpufreq/policy{cpu}" for cpu in offline - {item.id for item in domains}}
    busy = (
        number == errno.EBUSY and "/".join(path.split("/")[: 5 if "/policy" in path else 4]) in away
        for path, number in reader.troubles
    )
    return any(
        number in MAY_PASS and not gone
        for (_, number), gone in zip(reader.troubles, busy, strict=True)
    )
