"""CRI-O's own annotations of a pod's CPUs: taken for a profile of that pod's, or named as what else
sets them (pure).

CRI-O's high-performance runtime sets the governor and the idle states of a pod's CPUs by two
annotations, and puts them back when the pod ends. Two writers of one file fight; so
`agent.crioAnnotations` says whether this system does what they ask (`accept`: both want the same
then) or only names them (`conflict`). Source: CRI-O, high-performance hooks, annotations
cpu-freq-governor.crio.io and cpu-c-states.crio.io.
"""

from collections.abc import Mapping

from attrs import evolve

from kpm_planner.model.agent_settings import IdleStates
from kpm_planner.model.cluster import Meta
from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import CStates, PowerProfile, PStates
from kpm_planner.model.problems import Code, Problem, error, warning
from kpm_planner.model.target import ResolvedProfile
from kpm_planner.profiles import resolve_profile

GOVERNOR, STATES = "cpu-freq-governor.crio.io", "cpu-c-states.crio.io"
ACCEPT, CONFLICT = "accept", "conflict"
_LIMIT = "max_latency:"
_MOST_US = 10_000_000


def wishes_of(annotations: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The annotations of a pod that are CRI-O's, by name."""
    return tuple(
        sorted((name, annotations[name]) for name in (GOVERNOR, STATES) if name in annotations)
    )


def conflict(pod: str, wishes: tuple[tuple[str, str], ...], *, accepted: bool) -> Problem:
    """What else sets the CPUs of a pod. accepted: annotations count, but not beside a profile."""
    named = ", ".join(f"{name}: {value!r}" for name, value in wishes)
    return warning(
        Code.POD_ANNOTATIONS,
        pod,
        "metadata.annotations",
        f"CRI-O sets its CPUs too, by {named}; drop them, or"
        f" {'ask for no profile' if accepted else 'set agent.crioAnnotations: accept'}",
    )


def wished_profile(
    pod: str, wishes: tuple[tuple[str, str], ...], machine: Machine, how: IdleStates
) -> ResolvedProfile:
    """What the annotations ask for as a profile of the pod's own; its problems are the pod's.

    A value that is none is an error.
    """
    asked, states = dict(wishes), CStates()
    problems = []
    governor, text = asked.get(GOVERNOR), asked.get(STATES, "enable")
    digits = text.removeprefix(_LIMIT)
    if text == "disable":
        states = CStates(max_latency_us=0)
    elif (
        text.startswith(_LIMIT)
        and digits.isascii()
        and digits.isdigit()
        and int(digits) <= _MOST_US
    ):
        states = CStates(max_latency_us=int(digits))
    elif text != "enable":
        message = f"{STATES}: expected enable, disable or {_LIMIT}N with N in µs, got {text!r}"
        problems.append(error(Code.POD_ANNOTATIONS, pod, "metadata.annotations", message))
    profile = PowerProfile(Meta("annotations"), pstates=PStates(governor=governor), cstates=states)
    found = resolve_profile(profile, machine, how)
    own = tuple(
        evolve(problem, object=pod, field="metadata.annotations") for problem in found.problems
    )
    return evolve(found, by_kind=() if problems else found.by_kind, problems=(*own, *problems))
