"""Which containers own which CPUs, as the kubelet reports it."""

from attrs import frozen

from kpm_planner.model.cluster import Pod


@frozen
class ContainerCpus:
    """CPUs that the kubelet reports for one container, found by namespace, pod and container name.

    uid: of the pod, in what is remembered; the kubelet does not tell it. devices: the CDI devices
    of its claims.
    """

    namespace: str
    pod: str
    container: str
    cpus: frozenset[int] = frozenset()
    uid: str = ""
    devices: tuple[str, ...] = ()


@frozen(order=True)
class RuntimeCpus:
    """CPUs that one container is bound to; none where it is bound to none. uid: of the pod."""

    uid: str
    container: str
    cpus: tuple[int, ...] = ()
    id: str = ""


@frozen
class Allocation:
    """The pods of a node and what the kubelet says about their CPUs.

    answered: False where the kubelet has not answered or answered an error: unknown is not empty.
    allocatable: CPUs that the kubelet can hand out; None where it was not asked, empty where it
    named none. last_known: the allocation of the last good answer, kept by the caller; None where
    there is none. runtime: what the container runtime says, where it is asked. A cpuset never
    proves that CPUs are a container's own. cpusets: what cgroups say, looked at where the kubelet
    leaves a container without CPUs. claimed: the CPUs that CDI devices name for containers with
    resource claims. accepted: (pod uid, container) of containers whose CPU count was compared and
    found right when first seen. overdue: (pod uid, container) of running ones for which good
    answers have named no CPUs for so long that none are waited for.
    """

    pods: tuple[Pod, ...] = ()
    reported: tuple[ContainerCpus, ...] = ()
    answered: bool = True
    allocatable: frozenset[int] | None = None
    last_known: tuple[ContainerCpus, ...] | None = None
    accepted: frozenset[tuple[str, str]] = frozenset()
    runtime: tuple[RuntimeCpus, ...] = ()
    cpusets: tuple[RuntimeCpus, ...] = ()
    claimed: tuple[ContainerCpus, ...] = ()
    overdue: frozenset[tuple[str, str]] = frozenset()

    @property
    def said_last(self) -> tuple[ContainerCpus, ...]:
        """What the kubelet says, or said when it answered last."""
        return self.reported if self.answered else self.last_known or ()


@frozen
class ContainerRef:
    """A container that owns CPUs, as plans and statuses name it."""

    namespace: str
    pod: str
    uid: str
    name: str
    id: str
