"""Idle states of a profile on a machine: which it has, how they may be set, what each is to be."""

from collections.abc import Iterable

from kpm_planner.model.agent_settings import IdleStates
from kpm_planner.model.machine import (
    IdleState,
    Machine,
)
from kpm_planner.model.objects import PowerProfile
from kpm_planner.model.problems import Code, Problem, error, warning


def idle_faults(
    profile: PowerProfile, machine: Machine, how: IdleStates, obj: str
) -> Iterable[Problem]:
    """Problems of a profile's idle states on this machine.

    A machine without any: a warning, since profiles are for mixed clusters too. One that has some
    but not the named one: an error, as it is probably a typing mistake. States that the agent may
    not set so: a warning.
    """
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
    for name in sorted(set(cstates.names or ()).difference(machine.idle_names)):
        message = (
            f"expected an idle state of this node, {', '.join(machine.idle_names)}; got {name!r}"
        )
        yield error(Code.IDLE_NAME_UNKNOWN, obj, f"spec.cstates.names.{name}", message)
    field = "spec.cstates.names" if cstates.names else "spec.cstates.maxLatencyUs"
    for kind, _ in machine.kinds:
        wanted = idle_target(profile, kind.idle)
        if wanted and not any(on for _, on in wanted) and _all_named(wanted, kind.idle):
            yield warning(
                Code.IDLE_ALL_OFF,
                obj,
                field,
                f"turns off every idle state; the kernel then uses {kind.idle[0].name} all the"
                " same",
            )
            return


def _all_named(wanted: tuple[tuple[str, bool], ...], states: tuple[IdleState, ...]) -> bool:
    """Whether every state is among those that something is wanted of."""
    return {name for name, _ in wanted} == {state.name for state in states}


def _idle_hindrance(profile: PowerProfile, machine: Machine, how: IdleStates) -> str:
    """Why the agent leaves the idle states as they are although the machine has some; "" where it
    sets them.
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


def idle_target(
    profile: PowerProfile, states: tuple[IdleState, ...]
) -> tuple[tuple[str, bool], ...]:
    """Which states are to be on, where they are set one by one: with maxLatencyUs every one that
    takes at most so long to leave, and none else; with names those named, and no other is touched.
    """
    limit, names = profile.cstates.max_latency_us, profile.cstates.names
    if limit is not None:
        return tuple((state.name, state.latency_us <= limit) for state in states)
    return (
        tuple((state.name, names[state.name]) for state in states if state.name in names)
        if names
        else ()
    )
