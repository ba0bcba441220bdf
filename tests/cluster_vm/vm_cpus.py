"""What the kernel shows of the CPUs: the managed files of all of them, read at once."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.cluster_vm.vm_link import Link

_NAMES = (
    "scaling_min_freq", "scaling_max_freq", "scaling_governor", "energy_performance_preference",
    "cpuinfo_min_freq", "cpuinfo_max_freq",
)  # fmt: skip
_READ = f"""
cd /sys/devices/system/cpu
grep -Hs . {" ".join(f"cpufreq/policy*/{name}" for name in _NAMES)} cpufreq/boost online \\
    cpu[0-9]*/cpuidle/state*/disable cpu[0-9]*/cpuidle/state*/name \\
    cpu[0-9]*/power/pm_qos_resume_latency_us
true
"""


@dataclass(frozen=True)
class Cpus:
    """shown: path below /sys/devices/system/cpu → text. Frequencies are in kHz."""

    shown: dict[str, str]

    def limits(self, cpu: int) -> tuple[int, int, str, str]:
        """Lowest and highest frequency, governor, and EPP or nothing."""
        folder = f"cpufreq/policy{cpu}"
        low, high, governor, epp = (self.shown.get(f"{folder}/{name}", "") for name in _NAMES[:4])
        return int(low or -1), int(high or -1), governor, epp

    def hardware(self, cpu: int) -> tuple[int, int]:
        low, high = (int(self.shown[f"cpufreq/policy{cpu}/{name}"]) for name in _NAMES[4:])
        return low, high

    def off(self, cpu: int) -> set[str]:
        """The names of its idle states that are turned off."""
        folder = f"cpu{cpu}/cpuidle/"
        named = [(path, name) for path, name in self.shown.items() if path.endswith("/name")]
        own = {path.removesuffix("/name"): name for path, name in named if path.startswith(folder)}
        return {name for path, name in own.items() if self.shown.get(f"{path}/disable") == "1"}

    def latency(self, cpu: int) -> str:
        return self.shown.get(f"cpu{cpu}/power/pm_qos_resume_latency_us", "")

    def line(self, cpu: int) -> str:
        off = ",".join(sorted(self.off(cpu))) or "none"
        return f"cpu{cpu} {self.limits(cpu)} off={off} latency={self.latency(cpu)}"


def read(link: Link) -> Cpus:
    return Cpus(dict(re.findall(r"^([^:\n]+):(.*)$", link.run(_READ), re.MULTILINE)))
