"""What may stand in a PowerProfile, as far as it can be seen without a machine."""

from collections.abc import Iterable

from attrs import evolve

from kpm_planner.bias import bias_faults
from kpm_planner.model.objects import EPP_WORDS, PowerProfile, PStates
from kpm_planner.model.problems import Code, Problem, error, warning
from kpm_planner.model.quantities import (
    FIRST_KHZ,
    frequency_khz,
    is_frequency,
    parse_percent,
)
from kpm_planner.model.scaling_policy import CpuScalingPolicy
from kpm_planner.selection import LONGEST_RESOURCE_NAME, reference, selector_problems

#: Fields of a profile as earlier operators had them, beside pstates.
EARLIER_FIELDS = ("min", "max", "governor", "epp")


#: EPP as earlier versions spelled it.
_EARLIER_EPPS = {"balance-performance": "balance_performance", "balance-power": "balance_power"}


def with_pstates(profile: PowerProfile) -> PowerProfile:
    """A profile with what earlier versions wrote directly below spec moved into pstates, where that
    does not say it already.
    """
    found = {name: getattr(profile, name) for name in EARLIER_FIELDS}
    found["epp"] = _EARLIER_EPPS.get(found["epp"], found["epp"])
    missing = {
        name: value
        for name, value in found.items()
        if value not in (None, "") and getattr(profile.pstates, name) is None
    }
    return evolve(profile, pstates=evolve(profile.pstates, **missing)) if missing else profile


def _earlier_faults(profile: PowerProfile, obj: str) -> Iterable[Problem]:
    """Each field as earlier versions wrote it, and whether what is written now beats it."""
    for name in EARLIER_FIELDS:
        value, meant = getattr(profile, name), getattr(profile.pstates, name)
        if value is not None:
            same = meant == _EARLIER_EPPS.get(str(value), value)
            how = f"write spec.pstates.{name}" if same else f"spec.pstates.{name} {meant!r} is used"
            yield warning(
                Code.PROFILE_EARLIER_FORM,
                obj,
                f"spec.{name}",
                f"{value!r} is written as in earlier versions; {how}",
            )


def validate_profile(profile: PowerProfile) -> tuple[Problem, ...]:
    """Faults of a profile that can be seen without a machine."""
    obj = reference(profile)
    problems = [
        *_frequency_faults(profile.pstates, obj),
        *_epp_faults(profile.pstates, obj),
        *_cstate_faults(profile, obj),
        *bias_faults(profile),
        *_capacity_faults(profile.cpu_capacity, obj),
        *selector_problems(profile.node_selector, obj),
        *_policy_faults(profile, obj),
        *_earlier_faults(profile, obj),
    ]
    if len(profile.meta.name) > LONGEST_RESOURCE_NAME:
        message = (
            f"{profile.meta.name[:20]}… has {len(profile.meta.name)} characters, at most"
            f" {LONGEST_RESOURCE_NAME} fit in an extended resource"
        )
        problems.append(error(Code.NAME_TOO_LONG, obj, "metadata.name", message))
    return tuple(problems)


def _frequency_faults(pstates: PStates, obj: str) -> Iterable[Problem]:
    for field, value in ((MIN_FIELD, pstates.min), (MAX_FIELD, pstates.max)):
        if value is not None and not is_frequency(value):
            allowed = (
                'MHz below 100000, kHz from there on, a percentage from "0%" to "100%", or min,'
                " base or max"
            )
            yield error(Code.FREQUENCY_FORMAT, obj, field, f"expected {allowed}, got {value!r}")
    if pstates.min is None or pstates.max is None or type(pstates.min) is not type(pstates.max):
        return
    # any range will do to compare two percentages
    low, high = (frequency_khz(value, (0, 100)) for value in (pstates.min, pstates.max))
    if low is not None and high is not None and low > high:
        yield error(
            Code.FREQUENCY_ORDER,
            obj,
            MIN_FIELD,
            f"{pstates.min!r} is above spec.pstates.max {pstates.max!r}",
        )


def _epp_faults(pstates: PStates, obj: str) -> Iterable[Problem]:
    if pstates.epp is None:
        return
    if pstates.epp not in EPP_WORDS:
        yield error(
            Code.EPP_WORD,
            obj,
            "spec.pstates.epp",
            f"expected one of {', '.join(EPP_WORDS)}, got {pstates.epp!r}",
        )
    elif pstates.governor == "performance" and pstates.epp != "performance":
        yield error(
            Code.EPP_GOVERNOR,
            obj,
            "spec.pstates.epp",
            f"expected performance under governor performance, got {pstates.epp!r}",
        )


def _cstate_faults(profile: PowerProfile, obj: str) -> Iterable[Problem]:
    cstates = profile.cstates
    if cstates.names is not None and cstates.max_latency_us is not None:
        yield error(
            Code.IDLE_BOTH,
            obj,
            "spec.cstates",
            "expected names or maxLatencyUs, got both",
        )
    if cstates.max_latency_us is not None and cstates.max_latency_us < 0:
        yield error(
            Code.IDLE_LATENCY,
            obj,
            "spec.cstates.maxLatencyUs",
            f"expected µs from 0, got {cstates.max_latency_us}",
        )


def _capacity_faults(capacity: int | str | None, obj: str) -> Iterable[Problem]:
    good_text = isinstance(capacity, str) and (parse_percent(capacity) or 0) >= 1
    if capacity is not None and not good_text and not (isinstance(capacity, int) and capacity >= 1):
        message = (
            f'expected a whole number from 1 or a percentage from "1%" to "100%", got {capacity!r}'
        )
        yield error(Code.CAPACITY_FORMAT, obj, "spec.cpuCapacity", message)


_POLICY_RANGES = (
    ("target_usage", "targetUsage", 1, 100),
    ("allowed_usage_difference", "allowedUsageDifference", 0, 50),
    ("allowed_frequency_difference", "allowedFrequencyDifference", 0, FIRST_KHZ - 1),
    ("scale_percentage", "scalePercentage", 10, 200),
    ("fallback_freq_percent", "fallbackFreqPercent", 0, 100),
)


def _policy_faults(profile: PowerProfile, obj: str) -> Iterable[Problem]:
    policy = profile.cpu_scaling_policy
    if policy is None:
        return
    for attribute, name, low, high in _POLICY_RANGES:
        value = getattr(policy, attribute)
        if value is not None and not low <= value <= high:
            yield error(
                Code.SCALING_POLICY,
                obj,
                f"spec.cpuScalingPolicy.{name}",
                f"expected {low} to {high}, got {value}",
            )
    if policy.workload_type != "polling-dpdk":
        yield error(
            Code.SCALING_POLICY,
            obj,
            "spec.cpuScalingPolicy.workloadType",
            f"expected polling-dpdk, got {policy.workload_type!r}",
        )
    if profile.pstates.governor != "userspace":
        yield error(
            Code.SCALING_POLICY,
            obj,
            "spec.pstates.governor",
            f"expected userspace beside a scaling policy, got {profile.pstates.governor!r}",
        )
    yield from _period_faults(policy, obj)


def _period_faults(policy: CpuScalingPolicy, obj: str) -> Iterable[Problem]:
    sample, cooldown = policy.sample_us, policy.cooldown_us
    if sample is None or not 10_000 <= sample <= 1_000_000:
        yield error(
            Code.SCALING_POLICY,
            obj,
            "spec.cpuScalingPolicy.samplePeriod",
            f"expected 10ms to 1s, got {policy.sample_period!r}",
        )
    elif cooldown is None or cooldown < sample:
        yield error(
            Code.SCALING_POLICY,
            obj,
            "spec.cpuScalingPolicy.cooldownPeriod",
            f"expected a duration of at least samplePeriod, got {policy.cooldown_period!r}",
        )


MIN_FIELD, MAX_FIELD = "spec.pstates.min", "spec.pstates.max"
