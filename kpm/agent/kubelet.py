"""The kubelet's answers as the planner's allocation, with what it said last."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from attrs import define, evolve, field, frozen

from kpm.agent.podresources import KubeletError, allocatable_cpus, list_cpus
from kpm_planner.bound import lacking
from kpm_planner.model.allocation import Allocation, ContainerCpus, RuntimeCpus
from kpm_planner.model.cluster import Pod
from kpm_planner.ownership_memory import awaited, remembered, without_cpus

if TYPE_CHECKING:
    from kpm.agent.elsewhere import Elsewhere

#: Seconds for which a running container without CPUs is waited for: a kubelet that starts anew may
#: not know it yet.
_PATIENCE = 60.0


@frozen
class Sockets:
    """Where the kubelet, and a driver that hands out CPUs through resource claims, answer."""

    kubelet: str
    claims: str | None = None


@define
class Kubelet:
    """Asks, and remembers. error: why the last question failed, or nothing.

    elsewhere: makes what reads the CPUs of containers that the kubelet leaves without; None for no
    such look.
    """

    sockets: Sockets
    list_cpus: Callable[[str], tuple[ContainerCpus, ...]] = list_cpus
    allocatable_cpus: Callable[[str], frozenset[int]] = allocatable_cpus
    monotonic: Callable[[], float] = time.monotonic
    elsewhere: "Callable[[], Elsewhere] | None" = None
    error: str = ""
    waiting: bool = False
    _before: Allocation = Allocation()
    _custom: tuple[str, ...] = ()
    _first: bool = True
    _files: "Elsewhere | None" = None
    _without: dict[tuple[str, str], float] = field(factory=dict)

    @property
    def accepted(self) -> frozenset[tuple[str, str]]:
        """(pod uid, container) whose CPU count was found right."""
        return self._before.accepted

    def recall(self, accepted: frozenset[tuple[str, str]]) -> None:
        """Before the first look: what was found right by an agent before this one."""
        if self._first:
            self._first = False
            self._before = evolve(self._before, accepted=accepted)

    def look(
        self,
        pods: tuple[Pod, ...],
        custom_devices: Sequence[str],
        runtime: tuple[RuntimeCpus, ...] = (),
    ) -> Allocation:
        """The allocation of these pods as the kubelet has it now, with what it said before where it
        does not answer. runtime: what that says.
        """
        self._custom = tuple(custom_devices)
        try:
            reported, allocatable = self._ask()
            self.error, answered = "", True
        except KubeletError as failure:
            reported, allocatable, answered = (), self._before.allocatable, False
            self.error = str(failure)
        allocation = Allocation(
            pods,
            reported,
            answered,
            allocatable=allocatable,
            last_known=self._before.last_known,
            accepted=self._before.accepted,
            runtime=runtime,
        )
        allocation = self._looked_elsewhere(allocation) if answered else allocation
        allocation = evolve(allocation, overdue=self._overdue(allocation))
        self.waiting = awaited(allocation, self._custom) or (
            self._files is not None and self._files.waiting
        )
        self._before = remembered(allocation, self._custom)
        return allocation

    def _looked_elsewhere(self, allocation: Allocation) -> Allocation:
        """With what cgroups and claims say, where a container is left without CPUs; what the
        runtime says goes before cgroups.
        """
        short = lacking(allocation.pods, allocation.reported, self._custom)
        if self.elsewhere is None or not (short or self._files):
            return allocation
        self._files = self._files or self.elsewhere()
        told = self._files.look(allocation.pods, allocation.reported, short, self.monotonic())
        return evolve(
            allocation, cpusets=() if allocation.runtime else told.cpusets, claimed=told.claimed
        )

    def _overdue(self, allocation: Allocation) -> frozenset[tuple[str, str]]:
        """Containers for which good answers have named no CPUs for a minute; a question without an
        answer starts it anew.
        """
        now = self.monotonic()
        self._without = {
            key: self._without.get(key, now) for key in without_cpus(allocation, self._custom)
        }
        return frozenset(key for key, since in self._without.items() if now - since >= _PATIENCE)

    def _ask(self) -> tuple[tuple[ContainerCpus, ...], frozenset[int] | None]:
        reported = self.list_cpus(self.sockets.kubelet)
        if self.sockets.claims:
            reported = (*reported, *self.list_cpus(self.sockets.claims))
        return tuple(
            sorted(
                reported,
                key=lambda item: (item.namespace, item.pod, item.container, sorted(item.cpus)),
            )
        ), self.allocatable_cpus(self.sockets.kubelet)
