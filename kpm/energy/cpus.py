"""What CPUs did: how busy, how fast, and how long each pool asked for each idle state."""

from collections.abc import Iterable, Mapping

from attrs import define, field

from kpm.energy.exposition import Family, labels
from kpm_applier.measure.cputime import idle_residency
from kpm_applier.sysfs.host import Host
from kpm_planner.energy.attribution import EnergyReport
from kpm_planner.model.machine import Machine

#: Seconds between looks at the idle states: their counters lose nothing meanwhile.
_IDLE_EVERY = 30.0


@define(eq=False)
class CpuTotals:
    """Of one machine. residency_us: (pool, idle state) → µs; a CPU that changes its pool takes
    along nothing of what was before.
    """

    residency_us: dict[tuple[str, str], int] = field(factory=dict)
    _before: dict[int, dict[str, int]] = field(factory=dict)
    _looked: float | None = None

    def look(self, host: Host, machine: Machine, pools: Mapping[int, str], now: float) -> None:
        """Add up what the CPUs' idle states were asked for since the last look."""
        if self._looked is not None and now - self._looked < _IDLE_EVERY:
            return
        self._looked = now
        for cpu in sorted(machine.online):
            times = idle_residency(host, machine, [cpu])
            before = self._before.get(cpu, times)
            self._before[cpu] = times
            for name, us in times.items():
                key = (pools.get(cpu, ""), name)
                self.residency_us[key] = self.residency_us.get(key, 0) + max(
                    0, us - before.get(name, us)
                )

    def families(
        self, machine: Machine, pools: Mapping[int, str], khz: Mapping[int, int], last: EnergyReport
    ) -> list[Family]:
        """The metrics of CPUs and frequency domains."""
        residency = [
            (labels(pool=pool, idle_state=name), us / 1_000_000)
            for (pool, name), us in sorted(self.residency_us.items())
        ]
        return [
            Family(
                "kpm_cpu_busy_ratio",
                "gauge",
                "Share of the last interval in which a CPU was busy.",
                list(_busy(pools, last)),
            ),
            Family(
                "kpm_cpu_frequency_hertz",
                "gauge",
                "Mean effective frequency of a CPU over the last interval; absent where it was idle"
                " throughout.",
                [
                    f"kpm_cpu_frequency_hertz{{{labels(cpu=str(cpu), pool=pools.get(cpu, ''))}}}"
                    f" {value * 1000}\n"
                    for cpu, value in sorted(khz.items())
                ],
            ),
            Family(
                "kpm_domain_limit_hertz",
                "gauge",
                "What the limits of a frequency domain are set to.",
                list(_limits(machine, pools)),
            ),
            Family(
                "kpm_idle_state_seconds_total",
                "counter",
                "How long the CPUs of a pool had asked for an idle state.",
                [
                    f"kpm_idle_state_seconds_total{{{at}}} {seconds!r}\n"
                    for at, seconds in residency
                ],
            ),
        ]


def _busy(pools: Mapping[int, str], last: EnergyReport) -> Iterable[str]:
    for cpu, us in sorted(last.busy_us.items()):
        whole = us + last.idle_us.get(cpu, 0)
        if whole:
            yield (
                f"kpm_cpu_busy_ratio{{{labels(cpu=str(cpu), pool=pools.get(cpu, ''))}}}"
                f" {us / whole!r}\n"
            )


def _limits(machine: Machine, pools: Mapping[int, str]) -> Iterable[str]:
    for domain in machine.domains:
        pool = next((pools[cpu] for cpu in domain.cpus if cpu in pools), "")
        for name, khz in (("min", domain.settings.min_khz), ("max", domain.settings.max_khz)):
            if khz is not None:
                whose = labels(domain=str(domain.id), pool=pool, limit=name)
                yield f"kpm_domain_limit_hertz{{{whose}}} {khz * 1000}\n"
