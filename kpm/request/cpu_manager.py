"""A model of the kubelet's static CPU manager: who gets which exclusive CPUs.

Whole sockets first, then whole physical cores, then single threads, each from where fewest are
free, so that allocations pack. Source: the kubelet's static policy (cpu_assignment, numa-first
order of a machine whose sockets are its NUMA nodes).
"""

from collections.abc import Callable, Iterable

from attrs import evolve, frozen

from kpm_planner.model.allocation import Allocation, ContainerCpus
from kpm_planner.model.cluster import Pod
from kpm_planner.model.machine import Cpu, Machine


@frozen
class Refusal:
    """A container that could not be given its CPUs."""

    namespace: str
    pod: str
    container: str
    wanted: int
    free: int


def assign_cpus(
    machine: Machine, pods: Iterable[Pod], reserved: frozenset[int], held: Allocation = Allocation()
) -> tuple[Allocation, tuple[Refusal, ...]]:
    """Hand out exclusive CPUs to the live Guaranteed pods that have none yet; those that have keep
    theirs.

    reserved: CPUs that are never handed out. held: the allocation so far. Pods are served in order
    of start, then name.
    """
    live = sorted(
        (pod for pod in pods if pod.live),
        key=lambda pod: (
            str(pod.started or pod.meta.created or "~"),
            pod.meta.namespace or "",
            pod.meta.name,
        ),
    )
    names = {
        (pod.meta.namespace or "default", pod.meta.name, container.name)
        for pod in live
        for container in pod.containers
        if not container.finished
    }
    entries = {
        (item.namespace, item.pod, item.container): item
        for item in held.reported
        if (item.namespace, item.pod, item.container) in names
    }
    free = set(machine.online - reserved).difference(*(item.cpus for item in entries.values()))
    refused = []
    for pod in live:
        for container in pod.containers:
            key = (pod.meta.namespace or "default", pod.meta.name, container.name)
            request, limit = container.cpu
            if (
                key in entries
                or container.finished
                or not pod.guaranteed
                or request is None
                or request != limit
                or request.denominator != 1
                or request < 1
            ):
                continue
            taken = take(machine, frozenset(free), int(request))
            if taken is None:
                refused.append(Refusal(*key, int(request), len(free)))
                continue
            free -= taken
            entries[key] = ContainerCpus(*key, taken)
    allocation = evolve(
        held,
        pods=tuple(live),
        reported=tuple(entries.values()),
        allocatable=machine.online - reserved,
    )
    return allocation, tuple(refused)


def take(machine: Machine, free: frozenset[int], count: int) -> frozenset[int] | None:
    """Choose `count` of the free CPUs, topology-packed; None where there are not enough."""
    if count > len(free):
        return None
    by_id = machine.by_id
    left, taken = set(free), set[int]()

    def group_by(key: Callable[[Cpu], object], all_cpus: Iterable[int]) -> dict[object, set[int]]:
        found: dict[object, set[int]] = {}
        for cpu in all_cpus:
            found.setdefault(key(by_id[cpu]), set()).add(cpu)
        return found

    def take_whole(key: Callable[[Cpu], object]) -> None:
        whole = group_by(key, machine.online)
        for place in _packed(group_by(_socket, left), group_by(key, left), by_id):
            cpus = whole[place]
            if cpus <= left and len(cpus) <= count - len(taken):
                taken.update(cpus)
                left.difference_update(cpus)

    for key in (_socket, _core):
        take_whole(key)
    sockets, cores = group_by(_socket, left), group_by(_core, left)

    def packed(number: int) -> tuple[int, int, int, int, int]:
        """Order of single threads: socket by socket, core by core, those with the fewest free CPUs
        first.
        """
        cpu = by_id[number]
        package = -1 if cpu.package is None else cpu.package
        return len(sockets[_socket(cpu)]), package, len(cores[_core(cpu)]), min(_core(cpu)), number

    rest = sorted(left, key=packed)
    taken.update(rest[: count - len(taken)])
    return frozenset(taken)


def _socket(cpu: Cpu) -> object:
    return cpu.package


def _core(cpu: Cpu) -> tuple[int, ...]:
    return cpu.siblings or (cpu.id,)


def _packed(
    sockets: dict[object, set[int]], places: dict[object, set[int]], by_id: dict[int, Cpu]
) -> list[object]:
    """Places ordered by how few CPUs their socket has free, then by their own number."""
    return sorted(
        places,
        key=lambda place: (len(sockets[_socket(by_id[min(places[place])])]), min(places[place])),
    )
