"""A profile's rules, and the target that it gives to each kind of core (design §4, P-states and
C-states).
"""

from collections.abc import Iterable

from attrs import evolve, frozen

from kpm_planner.model.agent_settings import IdleStates
from kpm_planner.model.machine import (
    MANAGED_DRIVERS,
    SCALING_POWERSAVE,
    CoreKind,
    FrequencyDomain,
    IdleState,
    Machine,
)
from kpm_planner.model.objects import EPP_WORDS, CpuScalingPolicy, PowerProfile, PStates
from kpm_planner.model.problems import Code, Problem, error, has_errors, warning
from kpm_planner.model.quantities import FIRST_KHZ, duration_ms, format_khz, parse_percent
from kpm_planner.scaling import DEFAULT_COOLDOWN, DEFAULT_SAMPLE
from kpm_planner.selection import LONGEST_RESOURCE_NAME, reference, selector_problems

MIN_FIELD, MAX_FIELD = "spec.pstates.min", "spec.pstates.max"


@frozen
class Target:
    """What a CPU should be asked to do; None is baseline. Units: kHz, µs.

    idle: wanted states by name, named ones only. latency_us: the longest exit latency of its idle
    states, all states together.
    """

    min_khz: int | None = None
    max_khz: int | None = None
    governor: str | None = None
    epp: str | None = None
    idle: tuple[tuple[str, bool], ...] = ()
    latency_us: int | None = None


BASELINE = Target()


@frozen
class Resolved:
    """A target with the reasons of its values, one line each."""

    target: Target
    because: tuple[str, ...] = ()


@frozen
class ResolvedProfile:
    """A profile on one machine: its target for each of machine.kinds (empty where invalid) and its
    problems.
    """

    profile: PowerProfile
    by_kind: tuple[Resolved, ...]
    problems: tuple[Problem, ...]

    @property
    def valid(self) -> bool:
        """Whether the profile can be used on this machine."""
        return not has_errors(self.problems)


def frequency_khz(value: int | str, hardware: tuple[int, int] | None) -> int | None:
    """A frequency field in kHz; None where the text is no frequency, or a percentage without a
    machine.

    Shape: hardware is (minimum, maximum) in kHz. A percentage is rounded up to a whole kHz.
    Source: design §4, P-states.
    """
    if isinstance(value, int):
        return value * 1000 if value < FIRST_KHZ else value
    percent = parse_percent(value)
    if percent is None or hardware is None:
        return None
    low, high = hardware
    return low + ((high - low) * percent + 99) // 100


#: Fields of a profile as earlier operators had them, beside pstates.
EARLIER_FIELDS = ("min", "max", "governor", "epp")
#: Words of theirs for an EPP.
_EARLIER_EPPS = {"balance-performance": "balance_performance", "balance-power": "balance_power"}


def with_pstates(profile: PowerProfile) -> PowerProfile:
    """A profile whose earlier fields stand in pstates, where that says nothing of them."""
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
            how = f"write spec.pstates.{name}" if same else f"spec.pstates.{name} {meant!r} counts"
            yield warning(
                Code.PROFILE_EARLIER_FORM,
                obj,
                f"spec.{name}",
                f"{value!r} is written as in earlier versions; {how}",
            )


def validate_profile(profile: PowerProfile) -> tuple[Problem, ...]:
    """Faults of a profile that no machine is needed to see."""
    obj = reference(profile)
    problems = [
        *_frequency_faults(profile.pstates, obj),
        *_epp_faults(profile.pstates, obj),
        *_cstate_faults(profile, obj),
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
        bad_text = isinstance(value, str) and parse_percent(value) is None
        if bad_text or (isinstance(value, int) and value <= 0):
            allowed = 'MHz below 100000, kHz from there on, or a percentage from "0%" to "100%"'
            yield error(Code.FREQUENCY_FORMAT, obj, field, f"{value!r} is no frequency: {allowed}")
    if pstates.min is None or pstates.max is None or type(pstates.min) is not type(pstates.max):
        return
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
            f"{pstates.epp!r} is none of {', '.join(EPP_WORDS)}",
        )
    elif pstates.governor == "performance" and pstates.epp != "performance":
        yield error(
            Code.EPP_GOVERNOR,
            obj,
            "spec.pstates.epp",
            f"{pstates.epp!r} cannot be set under governor performance; only performance can",
        )


def _cstate_faults(profile: PowerProfile, obj: str) -> Iterable[Problem]:
    cstates = profile.cstates
    if cstates.names is not None and cstates.max_latency_us is not None:
        yield error(
            Code.IDLE_BOTH,
            obj,
            "spec.cstates",
            "names and maxLatencyUs are both given; only one of them is allowed",
        )
    if cstates.max_latency_us is not None and cstates.max_latency_us < 0:
        yield error(
            Code.IDLE_LATENCY,
            obj,
            "spec.cstates.maxLatencyUs",
            f"{cstates.max_latency_us} is below 0 µs",
        )


def _capacity_faults(capacity: int | str | None, obj: str) -> Iterable[Problem]:
    good_text = isinstance(capacity, str) and (parse_percent(capacity) or 0) >= 1
    if capacity is not None and not good_text and not (isinstance(capacity, int) and capacity >= 1):
        message = (
            f'{capacity!r} is neither a whole number from 1 nor a percentage from "1%" to "100%"'
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
                f"{value} is not from {low} to {high}",
            )
    if policy.workload_type != "polling-dpdk":
        yield error(
            Code.SCALING_POLICY,
            obj,
            "spec.cpuScalingPolicy.workloadType",
            f"{policy.workload_type!r} is not polling-dpdk",
        )
    if profile.pstates.governor != "userspace":
        yield error(
            Code.SCALING_POLICY,
            obj,
            "spec.pstates.governor",
            f"{profile.pstates.governor!r}: a scaling policy needs governor userspace",
        )
    yield from _period_faults(policy, obj)


def _period_faults(policy: CpuScalingPolicy, obj: str) -> Iterable[Problem]:
    sample = duration_ms(policy.sample_period or DEFAULT_SAMPLE)
    cooldown = duration_ms(policy.cooldown_period or DEFAULT_COOLDOWN)
    if sample is None or not 10 <= sample <= 1000:
        yield error(
            Code.SCALING_POLICY,
            obj,
            "spec.cpuScalingPolicy.samplePeriod",
            f"{policy.sample_period!r} is not from 10ms to 1s",
        )
    elif cooldown is None or (policy.cooldown_period is not None and cooldown < sample):
        yield error(
            Code.SCALING_POLICY,
            obj,
            "spec.cpuScalingPolicy.cooldownPeriod",
            f"{policy.cooldown_period!r} is not a duration of at least samplePeriod",
        )


def resolve_profile(
    profile: PowerProfile, machine: Machine, how: IdleStates = IdleStates.BY_NAME
) -> ResolvedProfile:
    """A profile's targets on a machine, for each kind of core, with all its problems there. how:
    idle states may be set so.
    """
    problems = list(validate_profile(profile))
    if not has_errors(tuple(problems)):
        problems += _machine_faults(profile, machine, how)
    if has_errors(tuple(problems)):
        return ResolvedProfile(profile, (), tuple(problems))
    by_kind = tuple(_resolve_kind(profile, kind, how, problems) for kind, _ in machine.kinds)
    return ResolvedProfile(profile, by_kind, tuple(dict.fromkeys(problems)))


def _machine_faults(profile: PowerProfile, machine: Machine, how: IdleStates) -> Iterable[Problem]:
    obj = reference(profile)
    asks_frequency = profile.pstates != PStates()
    managed = machine.managed_kinds
    if asks_frequency and any(
        kind.frequency is None or not kind.frequency.managed for kind, _ in machine.kinds
    ):
        yield warning(
            Code.FREQUENCY_UNSUPPORTED,
            obj,
            "spec.pstates",
            f"{_why_unmanaged(machine)}; those CPUs keep their frequencies",
        )
    yield from _range_faults(profile.pstates, managed, obj, known=machine.limits_known)
    yield from _governor_faults(profile, managed, obj)
    yield from _idle_faults(profile, machine, how, obj)


def _why_unmanaged(machine: Machine) -> str:
    """Why CPUs of the machine have no frequency that could be set."""
    domains = [
        kind.frequency
        for kind, _ in machine.kinds
        if kind.frequency is not None and not kind.frequency.managed
    ]
    foreign = sorted(
        {domain.driver or "unknown" for domain in domains if domain.driver not in MANAGED_DRIVERS}
    )
    if foreign:
        return f"scaling driver {', '.join(foreign)} is not one that is managed"
    return (
        "no file says between which frequencies the hardware runs"
        if domains
        else "CPUs without a scaling driver"
    )


def _range_faults(
    pstates: PStates, domains: tuple[FrequencyDomain, ...], obj: str, *, known: bool
) -> Iterable[Problem]:
    """known: whether the highest frequency with turbo on is."""
    if not domains:
        return
    lowest = min(_hardware(domain)[0] for domain in domains)
    highest = max(domain.limit_max_khz or _hardware(domain)[1] for domain in domains)
    outside = False
    for field, value in ((MIN_FIELD, pstates.min), (MAX_FIELD, pstates.max)):
        khz = frequency_khz(value, None) if value is not None else None
        if khz is not None and khz > highest and not known:
            message = (
                f"{value!r} ({khz} kHz) is above {highest} kHz, the highest that any file names;"
                " turbo was off, and none says how far it goes; clamped"
            )
            yield warning(Code.FREQUENCY_LIMIT_UNKNOWN, obj, field, message)
        elif khz is not None and not lowest <= khz <= highest:
            outside = True
            message = (
                f"{value!r} ({khz} kHz) is outside every core's range, {lowest} to {highest} kHz"
            )
            yield error(Code.FREQUENCY_RANGE, obj, field, message)
    upside_down = next((domain for domain in domains if _upside_down(pstates, domain)), None)
    if upside_down is not None and not outside:
        low, high = _ends(pstates, upside_down)
        message = (
            f"{pstates.min!r} ({low} kHz) is above spec.pstates.max {pstates.max!r} ({high} kHz) on"
            f" cores of {_range_text(upside_down)}"
        )
        yield error(Code.FREQUENCY_ORDER, obj, MIN_FIELD, message)


def _upside_down(pstates: PStates, domain: FrequencyDomain) -> bool:
    """Whether the minimum lies above the maximum on these cores, and not only because it is clamped
    to them.
    """
    low, high = _ends(pstates, domain)
    return low > high and _clamped(low, domain) > _clamped(high, domain)


def _clamped(khz: int, domain: FrequencyDomain) -> int:
    low, high = _hardware(domain)
    return min(max(khz, low), high)


def _governor_faults(
    profile: PowerProfile, domains: tuple[FrequencyDomain, ...], obj: str
) -> Iterable[Problem]:
    governor, field = profile.pstates.governor, "spec.pstates.governor"
    if governor is None or not domains:
        return
    unlisted = [domain for domain in domains if governor not in domain.governors]
    if unlisted and profile.cpu_scaling_policy is not None:
        message = (
            f"{governor!r} is not listed under {unlisted[0].driver}; the speed is set by minimum"
            " and maximum instead"
        )
        yield warning(Code.GOVERNOR_UNAVAILABLE, obj, field, message)
        return
    lacking = [domain for domain in unlisted if not domain.may_have(governor)]
    if lacking:
        has = ", ".join(lacking[0].governors) or "none"
        if len(lacking) == len(domains):
            yield error(
                Code.GOVERNOR_UNAVAILABLE,
                obj,
                field,
                f"{governor!r} does not exist under {lacking[0].driver}, which has {has}",
            )
            return
        yield warning(
            Code.GOVERNOR_UNAVAILABLE,
            obj,
            field,
            f"{governor!r} does not exist on all cores; those that have only {has} keep theirs",
        )
    static = sorted(
        {
            str(domain.driver)
            for domain in domains
            if domain.driver not in SCALING_POWERSAVE and domain.may_have(governor)
        }
    )
    if governor == "powersave" and static:
        yield warning(
            Code.GOVERNOR_STATIC,
            obj,
            field,
            f"powersave pins the lowest frequency under {', '.join(static)}",
        )


def _idle_faults(
    profile: PowerProfile, machine: Machine, how: IdleStates, obj: str
) -> Iterable[Problem]:
    cstates = profile.cstates
    if not cstates.names and cstates.max_latency_us is None:
        return
    if not machine.idle_names:
        yield warning(
            Code.IDLE_UNSUPPORTED,
            obj,
            "spec.cstates",
            "the node has no idle states; C-states stay as they are",
        )
        return
    hindrance = _idle_hindrance(profile, machine, how)
    if hindrance:
        yield warning(
            Code.IDLE_MECHANISM,
            obj,
            "spec.cstates.names" if cstates.names else "spec.cstates.maxLatencyUs",
            hindrance,
        )
    for name in sorted(set(cstates.names or {}) - set(machine.idle_names)):
        message = (
            f"{name!r} is no idle state of this node, which has {', '.join(machine.idle_names)}"
        )
        yield error(Code.IDLE_NAME_UNKNOWN, obj, f"spec.cstates.names.{name}", message)
    field = "spec.cstates.names" if cstates.names else "spec.cstates.maxLatencyUs"
    for kind, _ in machine.kinds:
        wanted = dict(_idle_target(profile, kind.idle))
        if (
            wanted
            and len(wanted) == len({state.name for state in kind.idle})
            and not any(wanted.values())
        ):
            yield warning(
                Code.IDLE_ALL_OFF,
                obj,
                field,
                f"turns off every idle state; the kernel then uses {kind.idle[0].name} all the"
                " same",
            )
            return


def _idle_target(
    profile: PowerProfile, states: tuple[IdleState, ...]
) -> tuple[tuple[str, bool], ...]:
    limit, names = profile.cstates.max_latency_us, profile.cstates.names
    if limit is not None:
        return tuple((state.name, state.latency_us <= limit) for state in states)
    return (
        tuple((state.name, names[state.name]) for state in states if state.name in names)
        if names
        else ()
    )


def _idle_hindrance(profile: PowerProfile, machine: Machine, how: IdleStates) -> str:
    """Why a profile's C-states are left as they are though the machine has idle states; empty where
    they are not.
    """
    if how is IdleStates.OFF:
        return "agent.idleStates is off; C-states stay as they are"
    if how is IdleStates.BY_LATENCY and profile.cstates.names:
        return (
            "agent.idleStates is byLatency, which knows no states by name; C-states stay as"
            " they are"
        )
    if how is IdleStates.BY_LATENCY and not all(kind.limits_latency for kind, _ in machine.kinds):
        return (
            "agent.idleStates is byLatency, and CPUs have no pm_qos_resume_latency_us; their"
            " C-states stay as they are"
        )
    return ""


def _hardware(domain: FrequencyDomain) -> tuple[int, int]:
    return domain.hardware_min_khz or 0, domain.hardware_max_khz or 0


def _range_text(domain: FrequencyDomain) -> str:
    low, high = _hardware(domain)
    return f"{format_khz(low)} to {format_khz(high)}"


def _ends(pstates: PStates, domain: FrequencyDomain) -> tuple[int, int]:
    """Both ends before any clamp; one that is left out is the hardware's and never in the way of
    the other.
    """
    hardware = _hardware(domain)
    low = hardware[0] if pstates.min is None else frequency_khz(pstates.min, hardware) or 0
    high = (
        max(low, hardware[1]) if pstates.max is None else frequency_khz(pstates.max, hardware) or 0
    )
    return (min(low, high) if pstates.min is None else low), high


def _resolve_kind(
    profile: PowerProfile, kind: CoreKind, how: IdleStates, problems: list[Problem]
) -> Resolved:
    idle = _idle_target(profile, kind.idle) if how is IdleStates.BY_NAME else ()
    latency = (
        profile.cstates.max_latency_us
        if how is IdleStates.BY_LATENCY and kind.limits_latency and kind.idle
        else None
    )
    field = "maxLatencyUs" if profile.cstates.max_latency_us is not None else "names"
    because = [f"{name} {'on' if on else 'off'}: spec.cstates.{field}" for name, on in idle]
    if latency is not None:
        because.append(
            f"idle states of at most {latency} µs: spec.cstates.maxLatencyUs, by latency"
        )
    target = Target(idle=idle, latency_us=latency)
    if kind.frequency is not None and kind.frequency.managed:
        target, reasons = _resolve_frequency(profile, kind.frequency, problems)
        target, because = evolve(target, idle=idle, latency_us=latency), [*reasons, *because]
        if profile.cpu_scaling_policy is not None:
            because.append(
                "speed between minimum and maximum follows telemetry: spec.cpuScalingPolicy"
            )
    return Resolved(target, (f"profile {profile.meta.name}", *because))


def _resolve_frequency(
    profile: PowerProfile, domain: FrequencyDomain, problems: list[Problem]
) -> tuple[Target, list[str]]:
    pstates, obj = profile.pstates, reference(profile)
    low, high = _ends(profile.pstates, domain)
    min_khz, max_khz = _clamped(low, domain), _clamped(high, domain)
    if low > high:
        message = (
            f"minimum and maximum meet at {format_khz(max_khz)} on cores of {_range_text(domain)}"
        )
        problems.append(warning(Code.FREQUENCY_COLLAPSED, obj, MIN_FIELD, message))
    governor, governor_reason = _resolve_governor(
        pstates, domain, scaled=profile.cpu_scaling_policy is not None
    )
    epp, epp_reason = _resolve_epp(pstates, governor, domain, obj, problems)
    because = [
        _frequency_reason("min", pstates.min, low, min_khz, domain),
        _frequency_reason("max", pstates.max, high, max_khz, domain),
        governor_reason,
        epp_reason,
    ]
    return Target(min_khz, max_khz, governor, epp), [line for line in because if line]


def _frequency_reason(
    end: str, value: int | str | None, asked: int, khz: int, domain: FrequencyDomain
) -> str:
    low, high = _hardware(domain)
    if value is None:
        return (
            f"{end} {khz} kHz: spec.pstates.{end} left out, so the hardware's"
            f" {'minimum' if end == 'min' else 'maximum'}"
        )
    how = (
        f"{value!r} of {low}..{high}"
        if isinstance(value, str)
        else f"{value} {'MHz' if value < FIRST_KHZ else 'kHz'}"
    )
    clamp = f", clamped from {asked} to {low}..{high}" if asked != khz else ""
    return f"{end} {khz} kHz: spec.pstates.{end} {how}{clamp}"


def _resolve_governor(
    pstates: PStates, domain: FrequencyDomain, *, scaled: bool
) -> tuple[str | None, str]:
    if pstates.governor is not None:
        if pstates.governor in domain.governors or (
            domain.may_have(pstates.governor) and not scaled
        ):
            return pstates.governor, f"governor {pstates.governor}: spec.pstates.governor"
        return None, f"governor baseline: {pstates.governor} does not exist here"
    if domain.driver in SCALING_POWERSAVE:
        return "powersave", f"governor powersave: left out, and {domain.driver} scales under it"
    return None, "governor baseline: left out"


def _resolve_epp(
    pstates: PStates,
    governor: str | None,
    domain: FrequencyDomain,
    obj: str,
    problems: list[Problem],
) -> tuple[str | None, str]:
    field = "spec.pstates.epp"
    if domain.settings.epp is None:
        if pstates.epp is not None:
            problems.append(
                warning(
                    Code.EPP_UNSUPPORTED,
                    obj,
                    field,
                    f"{pstates.epp!r}: {domain.driver} has no EPP here; the rest of the profile"
                    " applies",
                )
            )
        return None, ""
    in_force = governor or domain.settings.governor
    if in_force == "performance" and pstates.epp != "performance":
        if pstates.epp is not None:
            message = (
                f"{pstates.epp!r} cannot be set under governor performance, which the node has at"
                " baseline"
            )
            problems.append(warning(Code.EPP_GOVERNOR, obj, field, message))
        return "performance", "epp performance: the only one under governor performance"
    if pstates.epp is None:
        return None, "epp baseline: left out"
    return pstates.epp, f"epp {pstates.epp}: {field}"
