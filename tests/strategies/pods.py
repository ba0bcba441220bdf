"""Generated pods of a node, and what the kubelet says of their CPUs.

Mostly the two agree: containers of QoS Guaranteed with whole CPUs are reported with disjoint sets
of online CPUs. Awkward answers are those that kubelets do give for a while: pods that have ended or
are not known, CPUs reported twice, containers left out. Two pods of one name differ in their uid.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from attrs import evolve, frozen
from hypothesis import strategies as st

from kpm_planner.model.allocation import Allocation, ContainerCpus
from kpm_planner.model.cluster import AMD_GROUP, OPENSHIFT_GROUP, Container, Meta, Pod
from kpm_planner.model.machine import Machine
from kpm_planner.model.quantities import Quantity, parse_quantity
from tests.strategies.choices import often, pick
from tests.strategies.objects import CUSTOM_DEVICE, EPOCH, GHOST, PROFILE_NAMES, TIMES

#: What a container can look like; the first ones can own CPUs.
SHAPES = (
    "profile",
    "profile",
    "plain",
    "device",
    "claim",
    "wrong-count",
    "two-profiles",
    "fractional",
    "burstable",
    "best-effort",
)
PHASES = ("Running", "Running", "Running", "Pending", "Succeeded", "Failed", "Unknown", "")
_GIB: Quantity = 2**30


@frozen
class _Draft:
    """A container, and how many CPUs the kubelet owes it (0: none of its own)."""

    container: Container
    cpus: int
    guaranteed: bool


def _draft(name: str, shape: str, count: int, profile: str) -> _Draft:
    """A container of a shape that asks for `count` CPUs and, where its shape has one, for a profile
    resource.
    """
    group = profile.partition("/")[0]
    whole: Quantity = count
    memory = (_GIB, _GIB)
    match shape:
        case "profile":
            return _Draft(
                Container(name, (whole, whole), memory, ((profile, count),), id=f"cri-o://{name}"),
                count,
                True,
            )
        case "plain":
            return _Draft(Container(name, (whole, whole), memory), count, True)
        case "device":
            return _Draft(
                Container(name, (None, None), memory, ((CUSTOM_DEVICE, count), (profile, count))),
                count,
                False,
            )
        case "claim":
            return _Draft(
                Container(name, (None, None), memory, ((profile, count),), claims=True),
                count,
                False,
            )
        case "wrong-count":
            return _Draft(
                Container(name, (whole, whole), memory, ((profile, count + 1),)), count, True
            )
        case "two-profiles":
            other = f"{group}/{GHOST}"
            return _Draft(
                Container(name, (whole, whole), memory, ((other, count), (profile, count))),
                count,
                True,
            )
        case "fractional":
            half = parse_quantity("1500m")
            return _Draft(Container(name, (half, half), memory, ((profile, 1),)), 0, True)
        case "burstable":
            return _Draft(
                Container(name, (whole, whole + 1), memory, ((profile, count),)), 0, False
            )
    return _Draft(Container(name), 0, False)


def _draw_pod(
    draw: st.DrawFn, index: int, groups: Sequence[str], shapes: Sequence[str], phases: Sequence[str]
) -> tuple[Pod, tuple[int, ...]]:
    """A pod with the number of CPUs owed to each of its containers. groups: in which of them these
    ask for profiles.
    """
    name, namespace, created, phase, minutes, several = pick(
        draw, ("web", "db"), ("a", "b", None), TIMES, phases, (None, 0, 1), often(1, 2)
    )
    drafts = []
    for container in ("main", "side")[:several]:
        shape, count, profile, finished, asked = pick(
            draw,
            shapes,
            (1, 2, 3),
            often(*PROFILE_NAMES, times=2),
            often(False, True, times=9),
            groups,
        )
        draft = _draft(container, shape, count, f"{asked}/{profile}")
        drafts.append(evolve(draft, container=evolve(draft.container, finished=finished)))
    guaranteed = all(draft.guaranteed for draft in drafts)
    pod = Pod(
        meta=Meta(name, namespace, uid=f"uid-{index}", created=created),
        containers=tuple(draft.container for draft in drafts),
        node="node-1",
        phase=phase,
        started=None if minutes is None else (created or EPOCH) + timedelta(minutes=minutes),
        guaranteed=guaranteed,
    )
    return pod, tuple(draft.cpus if guaranteed or not draft.guaranteed else 0 for draft in drafts)


def draw_allocation(
    draw: st.DrawFn, machine: Machine, *, group: str = OPENSHIFT_GROUP, awkward: bool = False
) -> Allocation:
    """Pods and what the kubelet reports of them.

    Unless awkward, it has answered, every live container that is owed CPUs is reported once, with
    CPUs of its own, and of one name there is one pod.
    """
    shapes, phases = (SHAPES, PHASES) if awkward else (SHAPES[:5], PHASES[:4])
    groups = often(group, AMD_GROUP, times=9) if awkward else (group,)
    drawn = [
        _draw_pod(draw, index, groups, shapes, phases)
        for index in range(pick(draw, (1, 2, 3, 4, 0))[0])
    ]
    if not awkward:
        drawn = list(
            {
                (pod.meta.namespace or "default", pod.meta.name): (pod, owed) for pod, owed in drawn
            }.values()
        )
    order = sorted(machine.online)
    choices = (None, machine.online, machine.online - {0}, machine.online - set(order[:2]))
    turn, keep, allocatable, spoil, answered, accept = pick(
        draw,
        range(len(order)),
        (False, True),
        choices,
        (False, True),
        often(True, False),
        (False, True),
    )
    pods, reported = _hand_out(drawn, iter(order[turn:] + order[:turn]), keep_short=awkward)
    last_known: tuple[ContainerCpus, ...] | None = reported if keep else None
    if not awkward:
        return Allocation(pods, reported, True, allocatable or None, last_known)
    if reported and spoil:
        reported = _draw_spoiled(draw, reported, order)
    accepted = (
        frozenset((pod.meta.uid, container.name) for pod in pods for container in pod.containers)
        if accept
        else frozenset()
    )
    return Allocation(pods, reported, answered, allocatable, last_known, accepted)


def _hand_out(
    drawn: Sequence[tuple[Pod, tuple[int, ...]]], free: Iterator[int], *, keep_short: bool
) -> tuple[tuple[Pod, ...], tuple[ContainerCpus, ...]]:
    """CPUs for every container that is owed some; a pod for which too few are left is dropped
    unless `keep_short`.
    """
    pods, reported = [], []
    for pod, owed in drawn:
        entries = [
            ContainerCpus(
                pod.meta.namespace or "default",
                pod.meta.name,
                container.name,
                frozenset(cpu for _, cpu in zip(range(count), free, strict=False)),
            )
            for container, count in zip(pod.containers, owed, strict=True)
            if count
        ]
        short = any(
            len(entry.cpus) < count
            for entry, count in zip(entries, filter(None, owed), strict=True)
        )
        if keep_short or not short:
            pods.append(pod)
            reported += entries
    return tuple(pods), tuple(reported)


def _draw_spoiled(
    draw: st.DrawFn, reported: tuple[ContainerCpus, ...], online: Sequence[int]
) -> tuple[ContainerCpus, ...]:
    """An answer with one thing wrong."""
    faults = ("missing", "missing", "overlap", "unknown-pod", "empty", "foreign-cpu")
    index, cpu, fault = pick(draw, range(len(reported)), online, faults)
    owned = sorted({cpu for entry in reported for cpu in entry.cpus}) or online
    rest = reported[:index] + reported[index + 1 :]
    match fault:
        case "missing":
            return rest
        case "empty":
            return (*rest, evolve(reported[index], cpus=frozenset()))
        case "overlap":
            return (
                *rest,
                evolve(reported[index], cpus=reported[index].cpus | {owned[cpu % len(owned)]}),
            )
        case "unknown-pod":
            return (*reported, ContainerCpus("a", "vanished", "main", frozenset({cpu})))
    return (*rest, evolve(reported[index], cpus=reported[index].cpus | {9_998}))


allocations = st.composite(draw_allocation)
