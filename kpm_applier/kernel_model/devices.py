"""What the kernel model's files show that belong to no cpufreq policy: idle states, topology,
uncore.
"""

import errno
from collections.abc import Collection, Mapping

from kpm_applier.kernel_model.texts import fail
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import Machine, UncoreEntry


def read_idle(
    machine: Machine, disabled: Mapping[int, int], number: int, state: int, name: str, path: str
) -> str:
    """A file of cpuidle/stateN. disabled: for each CPU, bit N is set while its state N is (K14)."""
    cpu = machine.by_id.get(number)
    found = next((item for item in cpu.idle if item.index == state), None) if cpu else None
    if found is None or (name == "default_status" and found.default_enabled is None):
        raise fail(errno.ENOENT, path)
    match name:
        case "name":
            return found.name
        case "latency":
            return str(found.latency_us)
        case "default_status":
            return "enabled" if found.default_enabled else "disabled"
        case "disable":
            return str(disabled[number] >> state & 1)
    raise fail(errno.ENOENT, path)


def read_topology(
    machine: Machine, offline: Collection[int], number: int, name: str, path: str
) -> str:
    """A file of cpuN/topology, which is gone while the CPU is offline (K17)."""
    cpu = machine.by_id.get(number)
    if cpu is None or number in offline:
        raise fail(errno.ENOENT, path)
    siblings = format_cpulist(other for other in cpu.siblings if other not in offline) or None
    known = {
        "physical_package_id": cpu.package,
        "die_id": cpu.die,
        "cluster_id": cpu.cluster,
        "core_id": cpu.core,
        "thread_siblings_list": siblings,
        "core_cpus_list": siblings,
    }
    return _text(known.get(name), path)


def read_uncore(entries: Mapping[str, UncoreEntry], entry: str, name: str, path: str) -> str:
    """A file of an intel_uncore_frequency entry; only TPMI's entries (uncoreNN) name package and
    die in files.
    """
    found = entries.get(entry)
    if found is None:
        raise fail(errno.ENOENT, path)
    tpmi = entry.startswith("uncore")
    known = {
        "min_freq_khz": found.min_khz,
        "max_freq_khz": found.max_khz,
        "initial_min_freq_khz": found.hardware_min_khz,
        "initial_max_freq_khz": found.hardware_max_khz,
        "package_id": found.package if tpmi else None,
        "die_id": found.die if tpmi else None,
        "domain_id": found.domain,
        "fabric_cluster_id": found.cluster,
    }
    return _text(known.get(name), path)


def _text(value: object, path: str) -> str:
    if value is None:
        raise fail(errno.ENOENT, path)
    return str(value)
