"""CPUs of containers that the kubelet names none for, where this node's files tell them.

The cgroup of a container says what it is bound to, a CDI file what its claim was given. Both are
looked at while a container is left without CPUs, though not for as long as the kubelet usually
needs. Whether what they say counts is the planner's to say.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping

from attrs import define, field, frozen

from kpm.energy.containers import container_of, is_container
from kpm.formats.cdi import claimed_cpus, some_cpus
from kpm.process.logs import Log
from kpm_applier.measure.cgroups import Cgroups, cpuset_layout
from kpm_applier.measure.counters import CounterFiles
from kpm_planner.bound import Key
from kpm_planner.model.allocation import ContainerCpus, RuntimeCpus
from kpm_planner.model.cluster import Pod

#: Seconds for which the kubelet is given the time to name a container's CPUs itself.
GRACE = 1.0


@frozen
class Told:
    """What the files say. cpusets: of every container of these pods; claimed: by CDI."""

    cpusets: tuple[RuntimeCpus, ...] = ()
    claimed: tuple[ContainerCpus, ...] = ()


@define
class Elsewhere:
    """The files of this node. cgroup, cdi: folders; either may be absent.

    waiting: whether a container is given time yet, so that another look is due soon.
    """

    cgroup: str
    cdi: str
    log: Log
    waiting: bool = False
    _cgroups: Cgroups | None = None
    _since: dict[Key, float] = field(factory=dict)

    def look(
        self,
        pods: Collection[Pod],
        reported: Iterable[ContainerCpus],
        lacking: Collection[Key],
        now: float,
    ) -> Told:
        """What is to be had of containers that have lacked CPUs for a while. now: monotonic, s."""
        self._since = {key: self._since.get(key, now) for key in lacking}
        ages = [now - since for since in self._since.values()]
        self.waiting = min(ages, default=GRACE) < GRACE
        if max(ages, default=0.0) < GRACE:
            return Told()
        return Told(self._cpusets(pods), claimed_cpus(self.cdi, reported))

    def _cpusets(self, pods: Iterable[Pod]) -> tuple[RuntimeCpus, ...]:
        """What every container of these pods is bound to; nothing where one cannot be read."""
        try:
            cgroups = self._tree()
            if cgroups is None:
                return ()
            cgroups.look()
            lists = cgroups.cpusets()
            return tuple(sorted(_bound(pods, lists)))
        except (OSError, ValueError) as failure:
            self.log.debug("cpusets not read", error=str(failure))
            return ()

    def _tree(self) -> Cgroups | None:
        if self._cgroups is None:
            files = CounterFiles(self.cgroup)
            layout = cpuset_layout(files)
            self._cgroups = None if layout is None else Cgroups(files, layout, is_container)
        return self._cgroups


def _bound(pods: Iterable[Pod], lists: Mapping[str, str]) -> Iterator[RuntimeCpus]:
    """Errors: ValueError for what is no CPU list, or an empty one."""
    names = {}
    for pod in pods:
        both = (*((item.name, item.id) for item in pod.containers), *pod.others)
        names.update(
            {_number(identity): (pod.node_uid, name) for name, identity in both if identity}
        )
    for path, text in lists.items():
        container = container_of(path)
        if container is not None and not container.inside and container.id in names:
            uid, name = names[container.id]
            yield RuntimeCpus(uid, name, tuple(sorted(some_cpus(text))), container.id)


def _number(identity: str) -> str:
    """A container's id without its runtime's name."""
    return identity.rpartition("://")[2]
