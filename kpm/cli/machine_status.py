"""How a machine is without a cluster: what of it is ours, what somebody else changed or limits, who
holds CPUs by the kubelet.
"""

from collections.abc import Iterable
from typing import Any

from attrs import frozen

from kpm.cli.changes import rows
from kpm.cli.status_text import table
from kpm.process.errors import InputError, one_line
from kpm.request.hostinfo import with_cpu_model
from kpm.request.options import TreeOptions
from kpm.request.tree import open_applier, told
from kpm_applier.holdings import Holding
from kpm_applier.state.record import StateError
from kpm_planner.model.changes import Reason, Write
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import Machine

VERSION = 1


@frozen
class MachineStatus:
    """What is ours of a machine. holders: (CPUs, namespace/pod/container); unasked: why they are
    not known; not_found: owned groups that are not there now.
    """

    machine: Machine
    held: tuple[Holding, ...]
    not_found: tuple[str, ...]
    holders: tuple[tuple[str, str], ...] = ()
    unasked: str = ""

    @property
    def well(self) -> bool:
        """Whether nobody else changed what is ours."""
        return not any(item.foreign for item in self.held)

    def lines(self) -> list[str]:
        """For people."""
        machine, online = self.machine, len(self.machine.online)
        drivers = sorted({str(item.driver) for item in machine.domains if item.driver})
        said = [
            one_line(
                f"{machine.cpu_model or 'machine'}: {online} CPUs online,"
                f" {', '.join(drivers) or 'no scaling driver'}"
            )
        ]
        if not self.held:
            said.append("nothing of it is ours: no state is kept")
        said += self._part("in force (before → asked)", self.held, lambda i: (i.before, i.asked))
        foreign = [item for item in self.held if item.foreign]
        said += self._part("changed by somebody else (asked → is)", foreign, _seen)
        limited = [item for item in self.held if item.limited]
        said += self._part("rounded, or limited by another party (asked → is)", limited, _seen)
        if self.not_found:
            said += ["", f"ours and not there now: {', '.join(map(one_line, self.not_found))}"]
        if self.holders:
            said += ["", *table(("CPUS", "HOLDER"), self.holders)]
        return [*said, *([f"note: {self.unasked}"] if self.unasked else [])]

    def _part(self, title: str, held: Iterable[Holding], ends: Any) -> list[str]:
        writes = []
        for item in held:
            old, new = ends(item)
            if new is not None and old != new:
                writes.append(Write(item.path, new, old, group=item.group, reason=Reason.PLAN))
        if not writes:
            return []
        found = rows(writes, self.machine)
        lines = [
            one_line(f"{row.sign.mark} {row.place}  {'  '.join(row.changes)}", 2000)
            for row in found
        ]
        return ["", title, *lines]

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "version": VERSION,
            "well": self.well,
            "files": [
                {
                    "group": item.group,
                    "path": item.path,
                    "before": item.before,
                    "asked": item.asked,
                    "is": item.shows,
                    "foreign": item.foreign,
                    "limited": item.limited,
                }
                for item in self.held
            ],
            "notFound": list(self.not_found),
            "holders": [{"cpus": cpus, "holder": holder} for cpus, holder in self.holders],
        }


def _seen(item: Holding) -> tuple[str | None, str | None]:
    return item.asked, item.shows


def machine_status(tree: TreeOptions) -> MachineStatus:
    """Look at a machine; nothing is written. Errors: InputError."""
    try:
        with open_applier(tree, writing=False) as applier:
            machine = with_cpu_model(applier.shown, applier.host)
            held, away = applier.holdings, applier.not_found
    except StateError as failure:
        raise InputError(told(failure)) from None
    holders, unasked = _holders() if tree.sysfs == "/sys" else ((), "")
    return MachineStatus(machine, held, away, holders, unasked)


def _holders() -> tuple[tuple[tuple[str, str], ...], str]:
    """Who holds which CPUs, as this machine's kubelet says; and why that is not known."""
    import os

    from kpm.agent.podresources import KUBELET_SOCKET, KubeletError, list_cpus

    if not os.path.exists(KUBELET_SOCKET):
        return (), ""
    try:
        found = list_cpus(KUBELET_SOCKET)
    except KubeletError as failure:
        return (), f"who holds CPUs is not known: {failure}"
    return tuple(
        (format_cpulist(item.cpus), f"{item.namespace}/{item.pod}/{item.container}")
        for item in found
        if item.cpus
    ), ""
