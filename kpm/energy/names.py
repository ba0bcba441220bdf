"""Who a container is, in the words of Kubernetes, and what the plan gives it."""

from collections.abc import Collection, Iterable, Mapping

from attrs import evolve, frozen

from kpm.energy.containers import ContainerPath
from kpm_planner.energy.shares import Consumer
from kpm_planner.model.allocation import ContainerCpus
from kpm_planner.model.assignment import Pool
from kpm_planner.model.cluster import Pod
from kpm_planner.parts import CpuGroup


@frozen
class Identity:
    """A container.

    Empty texts where nothing is known: a container outside of pods has a runtime and an id only.
    """

    id: str
    runtime: str = ""
    namespace: str = ""
    pod: str = ""
    pod_uid: str = ""
    name: str = ""
    pool: str = ""
    profile: str = ""

    def fields(self) -> tuple[str, ...]:
        """All of it, in order."""
        return (
            self.id,
            self.runtime,
            self.namespace,
            self.pod,
            self.pod_uid,
            self.name,
            self.pool,
            self.profile,
        )


@frozen
class Known:
    """What the cluster says of a container. consumer: the CPUs that it owns, and its request."""

    identity: Identity
    consumer: Consumer = Consumer()


def known_containers(
    pods: Iterable[Pod], reported: Iterable[ContainerCpus], groups: Collection[CpuGroup]
) -> tuple[dict[str, Known], dict[str, Identity]]:
    """Container id → what is known of it, and pod UID → the pod, for those of its containers that
    are not in its status yet.

    reported: the CPUs that the kubelet has given to containers, exclusively. groups: of the plan,
    for the profiles, and for CPUs that others than the kubelet gave.
    """
    owned = {
        (item.namespace, item.pod, item.container): item.cpus for item in reported if item.cpus
    }
    for group in groups:
        ref = group.container
        if ref is not None and group.pool is Pool.EXCLUSIVE:
            key = (ref.namespace, ref.pod, ref.name)
            owned[key] = owned.get(key, frozenset()) | frozenset(group.cpus)
    profiles = {
        (group.container.uid, group.container.name): group.profile or ""
        for group in groups
        if group.container is not None
    }
    shared = next((group.profile or "" for group in groups if group.pool is Pool.SHARED), "")
    containers: dict[str, Known] = {}
    by_uid: dict[str, Identity] = {}
    for pod in pods:
        namespace = pod.meta.namespace or "default"
        base = Identity(
            "",
            "",
            namespace,
            pod=pod.meta.name,
            pod_uid=pod.meta.uid,
            name="",
            pool=Pool.SHARED.value,
            profile=shared,
        )
        by_uid[pod.meta.uid] = by_uid[pod.node_uid] = base
        for name, address in pod.others:
            runtime, _, number = address.partition("://")
            containers[number] = Known(evolve(base, id=number, runtime=runtime, name=name))
        for container in pod.containers:
            runtime, _, number = container.id.partition("://")
            cpus = owned.get((namespace, pod.meta.name, container.name), frozenset())
            identity = evolve(base, id=number, runtime=runtime, name=container.name)
            if cpus:
                identity = evolve(
                    identity,
                    pool=Pool.EXCLUSIVE.value,
                    profile=profiles.get((pod.meta.uid, container.name), ""),
                )
            request = container.cpu[0]
            containers[number] = Known(
                identity, Consumer(cpus, 0 if request is None else round(request * 1000))
            )
    containers.pop("", None)
    return containers, by_uid


def identify(
    found: ContainerPath, containers: Mapping[str, Known], pods: Mapping[str, Identity]
) -> Known:
    """Who a cgroup's container is: by its id, else by its pod; else the id alone."""
    known, base = containers.get(found.id), pods.get(found.pod_uid)
    if known is None and base is not None:
        known = Known(evolve(base, id=found.id, runtime=found.runtime))
    elif known is None:
        known = Known(Identity(found.id, found.runtime, pod_uid=found.pod_uid))
    if not found.inside:
        return known
    outer = containers.get(found.inside)
    if outer is not None and not known.consumer.cpus:  # it runs where the outer one does
        identity = evolve(known.identity, pool=outer.identity.pool, profile=outer.identity.profile)
        known = Known(identity, evolve(known.consumer, cpus=outer.consumer.cpus))
    return evolve(known, consumer=evolve(known.consumer, inside=found.inside))
