"""What holds a CPU back that no object asks for and nothing here writes: heat, power, firmware.

Read when somebody asks, never kept. Sources, kernel documentation: `bios_limit` of acpi-cpufreq
(cpufreq), cooling devices and their states (thermal sysfs API; intel_powerclamp shows -1 while it
idles nothing), counts of `thermal_throttle` since the start of the machine (x86 machine checks),
`platform_profile` (firmware of laptops and some servers). Limits of RAPL stand in the machine.
"""

import re
from collections.abc import Container, Iterable, Iterator

from attrs import frozen

from kpm_applier.attributes import CPU_ROOT
from kpm_applier.sysfs.host import Host
from kpm_applier.sysfs.reader import Reader
from kpm_planner.model.machine import FrequencyDomain, Machine, PowerZone
from kpm_planner.model.quantities import format_ghz, format_watts

PROFILE = "firmware/acpi/platform_profile"
#: As they are, and by links to there, which some dumps have alone.
_THERMAL = ("devices/virtual/thermal", "class/thermal")
_S = 1_000_000
_COOLS_CPUS = re.compile(r"Processor|intel_powerclamp|(thermal-)?(cpufreq|idle|cpuidle)-[a-z0-9]+")
#: What has throttled → the files that count it and its time, ms.
_THROTTLED = {
    "the core": ("core_throttle_count", "core_throttle_total_time_ms"),
    "the package": ("package_throttle_count", "package_throttle_total_time_ms"),
}


@frozen
class Clamp:
    """One thing that holds a CPU back, or may. file: below /sys, where it is read."""

    file: str
    text: str

    def __str__(self) -> str:
        return f"{self.text} ({self.file})"


def clamps_of(
    host: Host, machine: Machine, cpus: Iterable[int], ours: Container[str] = ()
) -> tuple[Clamp, ...]:
    """What holds these CPUs back beside their plan, each once; what cannot be read is left out.

    ours: names of the power zones that the plan caps, which are no limits of somebody else.
    """
    reader = Reader(host, {}, {})
    found = [machine.by_id[cpu] for cpu in sorted(cpus) if cpu in machine.by_id]
    domains = [machine.domain_by_id[cpu.domain] for cpu in found if cpu.domain is not None]
    zones = [
        zone
        for zone in machine.power_zones
        if zone.enabled is not False
        and zone.name not in ours
        and any(zone.package == cpu.package and zone.die in (None, cpu.die) for cpu in found)
    ]
    clamps = [
        *(clamp for domain in domains for clamp in _firmware(reader, domain)),
        *(clamp for zone in zones for clamp in _power(zone)),
        *_cooling(reader),
        *(clamp for cpu in found for clamp in _throttled(reader, cpu.id)),
        *_profile(reader),
    ]
    return tuple(dict.fromkeys(clamps))


def _firmware(reader: Reader, domain: FrequencyDomain) -> Iterator[Clamp]:
    path = f"{CPU_ROOT}/cpufreq/policy{domain.id}/bios_limit"
    limit = reader.number(path)
    if limit is not None and 0 < limit < (domain.hardware_max_khz or 0):
        yield Clamp(path, f"the firmware allows {format_ghz(limit)} GHz at most")


def _power(zone: PowerZone) -> Iterator[Clamp]:
    """Limits below what the package could draw, where that is known."""
    for limit in zone.limits:
        if limit.limit_uw and limit.max_uw and limit.limit_uw < limit.max_uw:
            over = "" if limit.window_us is None else f" over {limit.window_us / _S:.3g} s"
            yield Clamp(
                f"{zone.id}/{limit.file}",
                f"{zone.name} may draw {format_watts(limit.limit_uw)}{over} of"
                f" {format_watts(limit.max_uw)}",
            )
    if zone.mirror_uw is not None and any(zone.mirror_uw < (x.limit_uw or 0) for x in zone.limits):
        yield Clamp(
            "devices/virtual/powercap/intel-rapl-mmio",
            f"{zone.name} may draw {format_watts(zone.mirror_uw)} by its memory-mapped limit",
        )


def _cooling(reader: Reader) -> Iterator[Clamp]:
    for root in _THERMAL:
        names = [name for name in reader.names(root) if re.fullmatch(r"cooling_device\d+", name)]
        for name in names:
            kind = reader.text(f"{root}/{name}/type") or ""
            state = reader.number(f"{root}/{name}/cur_state")
            if state is not None and state > 0 and _COOLS_CPUS.fullmatch(kind):
                most = reader.number(f"{root}/{name}/max_state")
                yield Clamp(
                    f"{root}/{name}/cur_state",
                    f"{kind} cools CPUs, at {state} of {'?' if most is None else most}",
                )
        if names:
            return


def _throttled(reader: Reader, cpu: int) -> Iterator[Clamp]:
    for what, (count_file, time_file) in _THROTTLED.items():
        folder = f"{CPU_ROOT}/cpu{cpu}/thermal_throttle"
        count = reader.number(f"{folder}/{count_file}")
        spent = reader.number(f"{folder}/{time_file}")
        if count is not None and count > 0:
            lasted = "" if spent is None else f", {spent} ms in all"
            yield Clamp(
                f"{folder}/{count_file}",
                f"{what} was throttled for heat {count} times since the machine started{lasted}",
            )


def _profile(reader: Reader) -> Iterator[Clamp]:
    profile = reader.text(PROFILE)
    if profile is not None and profile != "performance":
        yield Clamp(PROFILE, f"the firmware's platform profile is {profile}")
