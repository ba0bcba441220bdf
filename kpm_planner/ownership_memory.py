"""What was known of ownership before, for as long as the kubelet's answer leaves it open."""

from collections.abc import Mapping, Sequence

from attrs import evolve

from kpm_planner.bound import bound_cpus
from kpm_planner.entitlement import entitled, requested_profiles
from kpm_planner.model.allocation import Allocation, ContainerCpus
from kpm_planner.model.cluster import Pod
from kpm_planner.ownership import (
    by_container,
    count_right,
    inactive,
    newest_by_name,
    of_now,
    reported_entries,
    still_known,
    unreported_containers,
)


def remembered(allocation: Allocation, custom_devices: Sequence[str] = ()) -> Allocation:
    """The allocation that the next look starts from: what is known now, and which containers' CPU
    counts were found right.

    Its `last_known` and `accepted` are for the caller to carry over; None stays None until the
    kubelet has answered once.
    """
    pods = newest_by_name(allocation.pods)
    known, _ = reported_entries(allocation, pods, custom_devices, [])
    present = {
        (pod.meta.uid, container.name)
        for pod in pods.values()
        if pod.live
        for container in pod.containers
        if not container.finished
    }
    right = (_right_count(entry, pods, allocation.accepted) for entry in known)
    accepted = (allocation.accepted & present).union(key for key in right if key is not None)
    uids = {key: pod.meta.uid for key, pod in pods.items()}
    without = [
        entry
        for entry in of_now(allocation.said_last, pods)
        if not entry.cpus and (entry.namespace, entry.pod) in pods
    ]
    told = allocation.answered or allocation.last_known is not None
    last = (
        tuple(
            evolve(entry, uid=uids.get((entry.namespace, entry.pod), ""))
            for entry in (*known, *without)
        )
        if told
        else None
    )
    return evolve(allocation, last_known=last, accepted=accepted)


def _right_count(
    entry: ContainerCpus,
    pods: Mapping[tuple[str, str], Pod],
    accepted: frozenset[tuple[str, str]],
) -> tuple[str, str] | None:
    """Uid and name of a container whose number of CPUs is the one that it asks for."""
    pod = pods.get((entry.namespace, entry.pod))
    found = (item for item in pod.containers if item.name == entry.container) if pod else ()
    container = next(iter(found), None)
    if pod is None or container is None:
        return None
    key, asked = (pod.meta.uid, container.name), requested_profiles(container)
    if len(asked) != 1:
        return None
    right = count_right(
        entry, pod, container, amount=asked[0][2], accepted=key in accepted, problems=[]
    )
    return key if right else None


def awaited(allocation: Allocation, custom_devices: Sequence[str] = ()) -> bool:
    """Whether a container that asks for a profile and can own CPUs has not been reported yet: it is
    worth asking again soon.
    """
    if inactive(allocation):
        return False
    reported = by_container(allocation.reported) if allocation.answered else {}
    pods = newest_by_name(allocation.pods)
    reported |= bound_cpus(allocation, reported, pods, custom_devices).found
    return any(
        (namespace, name, container.name) not in reported
        and (pod.meta.uid, container.name) not in allocation.overdue
        and not container.finished
        and requested_profiles(container)
        and entitled(pod, container, custom_devices)
        for (namespace, name), pod in pods.items()
        if pod.live
        for container in pod.containers
    )


def without_cpus(
    allocation: Allocation, custom_devices: Sequence[str] = ()
) -> frozenset[tuple[str, str]]:
    """(pod uid, container) of running ones that should have CPUs of their own and for which a good
    answer names none.

    For the caller to measure how long that lasts; who is to be in `overdue`.
    """
    if not allocation.answered or inactive(allocation):
        return frozenset()
    pods = newest_by_name(allocation.pods)
    reported = by_container(allocation.reported)
    reported |= bound_cpus(allocation, reported, pods, custom_devices).found
    missing = unreported_containers(reported, still_known(allocation, pods), pods, custom_devices)
    return frozenset(
        (pods[namespace, name].meta.uid, container) for namespace, name, container in missing
    )
