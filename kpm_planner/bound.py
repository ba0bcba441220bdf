"""CPUs of containers that the kubelet names none for: what they are bound to, and what claims gave.

Drivers of resource claims and policies of NRI hand out CPUs that the kubelet never learns of. What
such a container has stands in three places: in what the container runtime says, in the cpuset of
its cgroup, and in the CDI device of its claim. A cpuset proves nothing by itself, since shared
containers have one too. It counts for a container that is entitled by a profile resource or a
claim, where it is of as many CPUs as are asked for and nobody else is bound to one of them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import define, field, frozen

from kpm_planner.entitlement import entitled, native_cpus, requested_profiles
from kpm_planner.model.allocation import Allocation, ContainerCpus
from kpm_planner.model.cluster import Container, Pod
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.problems import Code, Problem, warning
from kpm_planner.model.quantities import Quantity

Key = tuple[str, str, str]
Pods = Mapping[tuple[str, str], Pod]


@define
class Bound:
    """What was found. why_not: of containers whose cpuset does not count, the reason."""

    found: dict[Key, ContainerCpus] = field(factory=dict)
    why_not: dict[Key, str] = field(factory=dict)
    problems: list[Problem] = field(factory=list)


@frozen
class _Evidence:
    """What is known of every container. cpusets: by (pod uid, container); claimed: by container.

    holders: CPU → those who are bound to it, have it of a claim, or of the kubelet.
    """

    cpusets: Mapping[tuple[str, str], frozenset[int]]
    claimed: Mapping[Key, frozenset[int]]
    holders: Mapping[int, frozenset[str]]


def bound_cpus(
    allocation: Allocation,
    reported: Mapping[Key, ContainerCpus],
    pods: Pods,
    custom_devices: Sequence[str],
) -> Bound:
    """CPUs of containers that are not among the reported ones.

    Where the kubelet lists others than the runtime has, the kubelet's hold, and that is said.
    """
    result = Bound()
    if not (allocation.runtime or allocation.cpusets or allocation.claimed):
        return result  # the common case, and this is asked several times a pass
    evidence = _evidence(allocation, reported, pods)
    runtime = {(item.uid, item.container): frozenset(item.cpus) for item in allocation.runtime}
    for key, pod, container in _live(pods):
        cpus = evidence.cpusets.get((pod.node_uid, container.name), frozenset())
        if key in reported:
            said = runtime.get((pod.node_uid, container.name))
            result.problems += _differing(reported[key], said) if said else ()
        elif entitled(pod, container, custom_devices):
            _judge(result, key, cpus, _owed(pod, container, evidence.claimed.get(key)), evidence)
    return result


def lacking(
    pods: Iterable[Pod], reported: Iterable[ContainerCpus], custom_devices: Sequence[str]
) -> frozenset[Key]:
    """Containers that may own CPUs, ask for a profile or use a claim, and have none of the kubelet.

    For them it is worth looking at cgroups and claims, which costs more than asking the kubelet.
    """
    given = {(item.namespace, item.pod, item.container) for item in reported if item.cpus}
    by_name = {(pod.meta.namespace or "default", pod.meta.name): pod for pod in pods}
    return frozenset(
        key
        for key, pod, container in _live(by_name)
        if key not in given
        and (requested_profiles(container) or container.claims)
        and entitled(pod, container, custom_devices)
    )


def _live(pods: Pods) -> Iterator[tuple[Key, Pod, Container]]:
    for (namespace, name), pod in pods.items():
        for container in pod.containers if pod.live else ():
            if not container.finished:
                yield (namespace, name, container.name), pod, container


def _evidence(
    allocation: Allocation, reported: Mapping[Key, ContainerCpus], pods: Pods
) -> _Evidence:
    cpusets = {(item.uid, item.container): frozenset(item.cpus) for item in allocation.cpusets}
    cpusets |= {(item.uid, item.container): frozenset(item.cpus) for item in allocation.runtime}
    claimed = {(item.namespace, item.pod, item.container): item.cpus for item in allocation.claimed}
    names = {(pod.node_uid, container.name): "/".join(key) for key, pod, container in _live(pods)}
    holders: dict[int, set[str]] = {}
    for who, cpus in (
        *((names.get(owner, f"a pod of uid {owner[0]}"), cpus) for owner, cpus in cpusets.items()),
        *(("/".join(key), cpus) for key, cpus in claimed.items()),
        *(("/".join(key), entry.cpus) for key, entry in reported.items()),
    ):
        for cpu in cpus:
            holders.setdefault(cpu, set()).add(who)
    return _Evidence(cpusets, claimed, {cpu: frozenset(who) for cpu, who in holders.items()})


@frozen
class _Owed:
    """What a container is to have: so many CPUs, None for none;
    claimed: which, where CDI says so.
    """

    count: Quantity | int | None
    claimed: frozenset[int] | None


def _owed(pod: Pod, container: Container, claimed: frozenset[int] | None) -> _Owed:
    asked = requested_profiles(container)
    if len(asked) == 1:
        return _Owed(asked[0][2], claimed)
    if claimed:
        return _Owed(len(claimed), claimed)
    return _Owed(native_cpus(pod, container) if container.claims else None, claimed)


def _judge(
    result: Bound, key: Key, cpuset: frozenset[int], owed: _Owed, evidence: _Evidence
) -> None:
    """Take a container's CPUs for its own, or note why not."""
    cpus = cpuset or owed.claimed
    if not cpus or owed.count is None:
        return
    others = {who for cpu in cpus for who in evidence.holders[cpu]} - {"/".join(key)}
    shown = format_cpulist(cpus)
    if owed.claimed and owed.claimed != cpus:
        given = format_cpulist(owed.claimed)
        why = f"its claims give it CPUs {given}, but it is bound to {shown}"
        result.problems.append(
            warning(
                Code.ALLOCATION_DIFFERS, f"Pod/{key[0]}/{key[1]}", "", f"container {key[2]}: {why}"
            )
        )
    elif owed.count != len(cpus):
        why = f"it is bound to CPUs {shown}, which are not as many as the {owed.count} it asks for"
    elif others:
        why = f"it is bound to CPUs {shown}, and so is {min(others)}"
    else:
        result.found[key] = ContainerCpus(*key, cpus)
        return
    result.why_not[key] = why


def _differing(entry: ContainerCpus, cpus: frozenset[int]) -> Iterable[Problem]:
    if entry.cpus != cpus:
        message = (
            f"the kubelet says that container {entry.container} has CPUs"
            f" {format_cpulist(entry.cpus)}, the runtime {format_cpulist(cpus)}; the kubelet's hold"
        )
        yield warning(Code.ALLOCATION_DIFFERS, f"Pod/{entry.namespace}/{entry.pod}", "", message)
