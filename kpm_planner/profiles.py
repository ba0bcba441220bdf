"""The target that a profile gives to each kind of core of a machine.

What may stand in a profile says `profile_rules`, what a machine cannot do of it `feasible`.
"""

from typing import Any

from kpm_planner.bias import FIELD as BIAS_FIELD
from kpm_planner.bias import resolve_bias
from kpm_planner.cstates import idle_target
from kpm_planner.feasible import machine_faults
from kpm_planner.model.agent_settings import IdleStates
from kpm_planner.model.machine import (
    SCALING_POWERSAVE,
    CoreKind,
    FrequencyDomain,
    Machine,
)
from kpm_planner.model.objects import PowerProfile, PStates
from kpm_planner.model.problems import Code, Problem, has_errors, warning
from kpm_planner.model.quantities import FIRST_KHZ, FREQUENCY_WORDS, format_ghz, format_khz
from kpm_planner.model.target import Resolved, ResolvedProfile, Target, frequency_range
from kpm_planner.model.why import Why
from kpm_planner.profile_rules import MAX_FIELD, MIN_FIELD, validate_profile
from kpm_planner.ranges import clamped, ends_khz, hardware_range, range_text
from kpm_planner.selection import reference


def resolve_profile(
    profile: PowerProfile, machine: Machine, how: IdleStates = IdleStates.BY_NAME
) -> ResolvedProfile:
    """A profile's targets on a machine, for each kind of core, with all its problems there. how:
    idle states may be set so.
    """
    problems = list(validate_profile(profile))
    if not has_errors(tuple(problems)):
        problems += machine_faults(profile, machine, how)
    if has_errors(tuple(problems)):
        return ResolvedProfile(profile, (), tuple(problems))
    by_kind = tuple(_resolve_kind(profile, kind, how, problems) for kind, _ in machine.kinds)
    return ResolvedProfile(profile, by_kind, tuple(dict.fromkeys(problems)))


def _resolve_kind(
    profile: PowerProfile, kind: CoreKind, how: IdleStates, problems: list[Problem]
) -> Resolved:
    values, lines = _resolve_alone(profile, kind, how)
    if kind.frequency is not None and kind.frequency.managed:
        of_domain, domain_lines = _resolve_frequency(profile, kind.frequency, problems)
        values, lines = values | of_domain, domain_lines + lines
        if profile.cpu_scaling_policy is not None:
            field = "spec.cpuScalingPolicy"
            text = f"speed between minimum and maximum follows telemetry: {field}"
            lines.append(("governor", field, text))
    obj = reference(profile)
    because = [
        Why(text, setting=setting, object=obj, field=field)
        for setting, field, text in lines
        if text
    ]
    return Resolved(Target(**values), (Why(f"profile {profile.meta.name}", object=obj), *because))


#: A reason: the setting whose value it explains, the field that asks, the text; "" is none.
_Line = tuple[str, str, str]


def _resolve_alone(
    profile: PowerProfile, kind: CoreKind, how: IdleStates
) -> tuple[dict[str, Any], list[_Line]]:
    """What each CPU has alone: idle states, their latency, the bias."""
    asked = profile.cstates
    by_latency = "spec.cstates.maxLatencyUs"
    field = "spec.cstates.names" if asked.max_latency_us is None else by_latency
    idle = idle_target(profile, kind.idle) if how is IdleStates.BY_NAME else ()
    lines = [("idle", field, f"{name} {'on' if on else 'off'}: {field}") for name, on in idle]
    latency = None
    if how is IdleStates.BY_LATENCY and kind.limits_latency and kind.idle:
        latency = asked.max_latency_us
    if latency is not None:
        text = f"idle states of at most {latency} µs: {by_latency}, by latency"
        lines.append(("latency_us", by_latency, text))
    bias, bias_reason = resolve_bias(profile, kind)
    lines.append(("epb", BIAS_FIELD, bias_reason))
    return {"idle": idle, "latency_us": latency, "epb": bias}, lines


def _resolve_frequency(
    profile: PowerProfile, domain: FrequencyDomain, problems: list[Problem]
) -> tuple[dict[str, Any], list[_Line]]:
    """What the CPUs of a domain have together."""
    pstates, obj = profile.pstates, reference(profile)
    low, high = ends_khz(profile.pstates, domain)
    min_khz, max_khz = clamped(low, domain), clamped(high, domain)
    if low > high:
        message = (
            f"minimum and maximum meet at {format_khz(max_khz)} on cores of {range_text(domain)}"
        )
        problems.append(warning(Code.FREQUENCY_COLLAPSED, obj, MIN_FIELD, message))
    governor, governor_reason = _resolve_governor(
        pstates, domain, scaled=profile.cpu_scaling_policy is not None
    )
    epp, epp_reason = _resolve_epp(pstates, governor, domain, obj, problems)
    lines = [
        ("min_khz", MIN_FIELD, _frequency_reason("min", pstates.min, low, min_khz, domain)),
        ("max_khz", MAX_FIELD, _frequency_reason("max", pstates.max, high, max_khz, domain)),
        ("governor", "spec.pstates.governor", governor_reason),
        ("epp", "spec.pstates.epp", epp_reason),
    ]
    values = {"min_khz": min_khz, "max_khz": max_khz, "governor": governor, "epp": epp}
    return values, lines


def _frequency_reason(
    end: str, value: int | str | None, asked: int, khz: int, domain: FrequencyDomain
) -> str:
    within = frequency_range(*hardware_range(domain))
    if value is None:
        return (
            f"{end} {format_khz(khz)}: spec.pstates.{end} left out, so the hardware's"
            f" {'minimum' if end == 'min' else 'maximum'}"
        )
    how = (
        repr(value)
        if value in FREQUENCY_WORDS
        else f"{value!r} of {within}"
        if isinstance(value, str)
        else f"{value} {'MHz' if value < FIRST_KHZ else 'kHz'}"
    )
    clamp = f", clamped from {format_ghz(asked)} to {within}" if asked != khz else ""
    return f"{end} {format_khz(khz)}: spec.pstates.{end} {how}{clamp}"


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
