"""Frequency that follows the load of a polling workload: usage out of cycle counters, and the next
target (pure).

Units: kHz, µs, per cent. Source: PowerProfile.spec.cpuScalingPolicy; S15.
"""

from collections.abc import Iterable

from attrs import evolve, frozen

from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import PowerProfile
from kpm_planner.model.scaling_policy import CpuScalingPolicy
from kpm_planner.parts import Part

_MHZ = 1000


@frozen
class Scaling:
    """A policy with its defaults filled in, and the limits of the profile on one kind of core."""

    min_khz: int
    max_khz: int
    sample_us: int = 10_000
    cooldown_us: int = 30_000
    target: int = 80
    usage_band: int = 5
    band_khz: int = 25 * _MHZ
    scale: int = 50
    fallback: int = 0

    @property
    def fallback_khz(self) -> int:
        """Where to go without telemetry."""
        return self.min_khz + (self.max_khz - self.min_khz) * self.fallback // 100

    def clamped(self, khz: int) -> int:
        """Inside the profile's limits."""
        return min(max(khz, self.min_khz), self.max_khz)


def scaling_of(policy: CpuScalingPolicy, min_khz: int, max_khz: int) -> Scaling:
    """A valid policy between two limits."""
    given = {
        "sample_us": policy.sample_us,
        "cooldown_us": policy.cooldown_us,
        "target": policy.target_usage,
        "usage_band": policy.allowed_usage_difference,
        "band_khz": policy.band_khz,
        "scale": policy.scale_percentage,
        "fallback": policy.fallback_freq_percent,
    }
    return Scaling(
        min_khz, max_khz, **{name: value for name, value in given.items() if value is not None}
    )


@frozen
class Cycles:
    """Counters of one polling thread: cycles since its start, and those of them with work."""

    total: int
    busy: int


def usage(before: Cycles | None, after: Cycles) -> float | None:
    """Busy share of a window in per cent; None where the counters say nothing: no earlier ones,
    going back, more busy than total.
    """
    if before is None:
        return None
    total, busy = after.total - before.total, after.busy - before.busy
    if total < 0 or busy < 0 or busy > total:
        return None
    return 100 * busy / total if total else 0.0


@frozen
class Speed:
    """Where a frequency domain stands. khz: the last target that the kernel took, None at first;
    changed_us: when it took it.
    """

    khz: int | None = None
    changed_us: int = 0

    def taken(self, khz: int, now_us: int) -> "Speed":
        """The kernel took a new target."""
        return evolve(self, khz=khz, changed_us=now_us)


def next_target(scaling: Scaling, speed: Speed, busy: float | None, now_us: int) -> int | None:
    """The frequency to ask for now, or None to hold.

    Args:     busy: usage of the last window in per cent, None without a sample.
    Rules:    a target outside the limits is brought inside at once; after a change nothing is
    changed for the cool-down; usage near
              its target and a step smaller than the allowed difference hold, but a step to a limit
              does not: a driver with few frequencies rounds a target up, so just above the
              minimum is one whole frequency too many.
    """
    if speed.khz is None:
        return scaling.fallback_khz
    current = scaling.clamped(speed.khz)
    if current != speed.khz:
        return current
    if now_us - speed.changed_us < scaling.cooldown_us:
        return None
    if busy is None:
        wanted = scaling.fallback_khz
    elif abs(busy - scaling.target) <= scaling.usage_band:
        return None
    else:
        wanted = scaling.clamped(
            round(current * (1 + (busy / scaling.target - 1) * scaling.scale / 100))
        )
    at_limit = wanted in (scaling.min_khz, scaling.max_khz)
    large = at_limit or abs(wanted - current) >= scaling.band_khz
    return wanted if wanted != current and large else None


@frozen
class PodCpus:
    """CPUs that a pod's telemetry may speak for. uid: of the pod; empty where no pod has them, and
    so no telemetry.
    """

    uid: str
    cpus: tuple[int, ...]


@frozen
class ScaledDomain:
    """A frequency domain whose speed follows telemetry.

    by_limits: the driver has no governor userspace, so minimum and maximum are both set to the
    target.
    """

    domain: int
    pods: tuple[PodCpus, ...]
    profile: str
    scaling: Scaling
    by_limits: bool = False

    @property
    def cpus(self) -> tuple[int, ...]:
        """All of it that are scaled."""
        return tuple(sorted(cpu for pod in self.pods for cpu in pod.cpus))


@frozen
class ScaledCpu:
    """An online CPU under a profile with a policy, and the limits in force on its domain."""

    cpu: int
    domain: int
    uid: str
    profile: PowerProfile
    min_khz: int
    max_khz: int
    by_limits: bool = False


def scaled_domains(cpus: Iterable[ScaledCpu]) -> tuple[ScaledDomain, ...]:
    """One entry a domain; where several policies meet in one, that of the profile whose name is
    first counts.
    """
    found: dict[int, list[ScaledCpu]] = {}
    for item in cpus:
        found.setdefault(item.domain, []).append(item)
    return tuple(_domain(domain, members) for domain, members in sorted(found.items()))


def _domain(domain: int, members: list[ScaledCpu]) -> ScaledDomain:
    leader = min(members, key=lambda item: item.profile.meta.name)
    pods: dict[str, list[int]] = {}
    for item in members:
        pods.setdefault(item.uid, []).append(item.cpu)
    policy = leader.profile.cpu_scaling_policy or CpuScalingPolicy()
    return ScaledDomain(
        domain,
        tuple(PodCpus(uid, tuple(sorted(cpus))) for uid, cpus in sorted(pods.items())),
        leader.profile.meta.name,
        scaling_of(policy, leader.min_khz, leader.max_khz),
        leader.by_limits,
    )


def scaled_cpus(parts: list[Part], machine: Machine) -> list[ScaledCpu]:
    """CPUs under a scaling policy, on domains that are under one as a whole."""
    found = [item for part in parts for item in _scaled_part(part, machine)]
    scaled = {item.cpu for item in found}
    mixed = {
        machine.by_id[cpu].domain
        for domain, cpus in machine.shared_domains
        if cpus - scaled
        for cpu in cpus
    }
    return [item for item in found if item.domain not in mixed]


def _scaled_part(part: Part, machine: Machine) -> Iterable[ScaledCpu]:
    item, target = part.assignment, part.resolved.target
    if (
        item.profile is None
        or item.held
        or item.profile.profile.cpu_scaling_policy is None
        or target.min_khz is None
        or target.max_khz is None
    ):
        return
    uid = item.container.uid if item.container is not None else ""
    for cpu in sorted(part.cpus):
        number = machine.by_id[cpu].domain
        assert number is not None  # else no frequency would be asked of it
        yield ScaledCpu(
            cpu,
            number,
            uid,
            profile=item.profile.profile,
            min_khz=target.min_khz,
            max_khz=target.max_khz,
            by_limits="userspace" not in machine.domain_by_id[number].governors,
        )
