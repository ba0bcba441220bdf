"""Random power policy for one machine: what a user could write, a little of it wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from kpm_planner.model.allocation import Allocation, ContainerCpus
from kpm_planner.model.cluster import (
    OPENSHIFT_GROUP,
    Container,
    LabelSelector,
    Meta,
    Node,
    NodeSelector,
    Pod,
)
from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import (
    EPP_WORDS,
    CStates,
    Intent,
    PowerNodeConfig,
    PowerProfile,
    PowerWorkload,
    PStates,
    ReservedCpus,
)

HOST = {"kubernetes.io/hostname": "n"}
NODE = Node("n", HOST)
SHARED, EXCLUSIVE = "shared", ("first", "second", "third")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a plan is made of beside the machine."""

    intent: Intent
    allocation: Allocation


def wish(rng: Random, machine: Machine) -> Wish:
    """Profiles, perhaps a shared pool with reserved CPUs, perhaps pods with exclusive CPUs."""
    profiles = tuple(_profile(rng, machine, name) for name in (SHARED, *EXCLUSIVE))
    cpus = [cpu.id for cpu in machine.cpus]
    rng.shuffle(cpus)
    reserved = _reserved(rng, cpus[: rng.choice((0, 1, 1, 2))])
    workloads: tuple[PowerWorkload, ...] = ()
    configs: tuple[PowerNodeConfig, ...] = ()
    chosen = rng.random()
    if chosen < 0.5:
        workloads = (
            PowerWorkload(
                Meta("w"),
                all_cores=True,
                reserved_cpus=reserved,
                power_node_selector=HOST,
                power_profile=SHARED,
            ),
        )
    elif chosen < 0.85:
        configs = (
            PowerNodeConfig(
                Meta("c"),
                node_selector=NodeSelector(LabelSelector(HOST)),
                shared_power_profile=SHARED,
                reserved_cpus=reserved,
            ),
        )
    return Wish(
        Intent(profiles=profiles, workloads=workloads, node_configs=configs), _allocation(rng, cpus)
    )


def _reserved(rng: Random, cpus: Sequence[int]) -> tuple[ReservedCpus, ...]:
    return tuple(ReservedCpus((cpu,), rng.choice((None, *EXCLUSIVE, "missing"))) for cpu in cpus)


def _allocation(rng: Random, cpus: Sequence[int]) -> Allocation:
    """Up to two pods on the CPUs from the end of the list; they may
    reach into the reserved ones.
    """
    pods, reported = [], []
    left = list(cpus)
    for name in ("a", "b")[: rng.choice((0, 1, 1, 2))]:
        own = [left.pop() for _ in range(rng.choice((1, 1, 2))) if left]
        profile = rng.choice((*EXCLUSIVE, *EXCLUSIVE, None))
        # now and then the wrong number: an error, and baseline
        amount = len(own) + (rng.random() < 0.05)
        resources = ((f"{OPENSHIFT_GROUP}/{profile}", amount),) if profile else ()
        pods.append(
            Pod(
                Meta(name, "default", uid=name),
                (Container("main", (len(own), len(own)), resources=resources),),
                "n",
                "Running",
                guaranteed=True,
            )
        )
        reported.append(ContainerCpus("default", name, "main", frozenset(own)))
    return Allocation(tuple(pods), tuple(reported))


def _profile(rng: Random, machine: Machine, name: str) -> PowerProfile:
    domain = machine.domains[0]
    governor = rng.choice((None, None, *domain.governors, "performance", "powersave"))
    epp = None
    if rng.random() < 0.7:
        epp = (
            rng.choice(EPP_WORDS)
            if governor != "performance"
            else rng.choice((None, "performance"))
        )
    if rng.random() < 0.03:
        governor = "nonsense"
    low, high = _limits(rng, machine)
    return PowerProfile(
        Meta(name),
        shared=name == SHARED,
        pstates=PStates(low, high, governor, epp),
        cstates=_cstates(rng, machine),
    )


def _limits(rng: Random, machine: Machine) -> tuple[int | str | None, int | str | None]:
    """Both ends in one form or in two; now and then the wrong way round or out of range."""
    lowest = min(domain.hardware_min_khz or 0 for domain in machine.domains)
    highest = max(domain.hardware_max_khz or 0 for domain in machine.domains)
    ends = sorted(rng.random() for _ in range(2))
    if rng.random() < 0.04:
        ends.reverse()
    forms: list[int | str | None] = []
    for end in ends:
        khz = lowest + int((highest - lowest) * end)
        table = machine.domains[0].available_khz
        exact = rng.choice(table) if table else khz
        forms.append(
            rng.choice(
                (
                    None,
                    f"{int(end * 100)}%",
                    f"{int(end * 100)}%",
                    khz // 1000,
                    khz,
                    exact,
                    (lowest, highest)[end > 0.5],
                )
            )
        )
    return forms[0], forms[1]


def _cstates(rng: Random, machine: Machine) -> CStates:
    """Idle states by latency or by name.

    The shallow ones stay on mostly: a CPU that polls costs an emulated machine all its speed.
    """
    states = machine.cpus[0].idle
    chosen = rng.random()
    if chosen < 0.35 or not states:
        return CStates()
    deep = (
        [state for state in states if state.latency_us > 1]
        if rng.random() < 0.9
        else [*states, *states]
    )
    if chosen < 0.65:
        return CStates(
            max_latency_us=rng.choice(
                [
                    state.latency_us + rng.choice((-1, 0, 1)) * (state not in deep[:1])
                    for state in deep
                ]
            )
        )
    names = rng.sample(
        [state.name for state in deep[1:] or deep], rng.randrange(1, max(2, len(deep)))
    )
    return CStates(names={name: rng.random() < 0.5 for name in names})
