"""What the kernel refused to write, told where it belongs: to the object that asked, with errno and
what to do about it.
"""

import errno
from collections.abc import Iterable, Mapping

from kpm_planner.model.changes import Outcome, Status
from kpm_planner.model.machine import Machine
from kpm_planner.model.problems import Code, Problem, error
from kpm_planner.model.target import OF_CPUS
from kpm_planner.parts import CpuGroup
from kpm_planner.plan import NodePlan

_MODULES = "run as root; where AppArmor or SELinux refuses it use the privileged overlay of deploy/"
_HELPER = "see the log of the pod's helper container"
_REMEDIES = {
    errno.EROFS: (
        "mount the host's folder read-write in the helper container, as the operator's DaemonSet"
        " does"
    ),
    errno.EACCES: _MODULES,
    errno.EPERM: _MODULES,
    errno.ECONNREFUSED: f"the helper container does not answer: {_HELPER}",
    errno.ECONNRESET: f"the helper container has ended: {_HELPER}",
    errno.ETIMEDOUT: f"nobody answers: {_HELPER}",
    errno.ENOENT: f"the file, or the helper container's socket, is not there: {_HELPER}",
    errno.ENOTSUP: "the helper's table has no such file or value: please report it",
}
#: What a kind of group needs beside; an idle state asks for a capability when it is written
#: (kernel, cpuidle/sysfs.c).
_OF_KIND = {
    (
        "idle",
        errno.EPERM,
    ): (
        "needs CAP_SYS_ADMIN: run the helper container as shipped, or set agent.idleStates:"
        " byLatency"
    ),
    (
        "cpufreq",
        errno.EINVAL,
    ): "the kernel knows no such value; for a governor its module is missing",
    (
        "cpufreq",
        errno.EBUSY,
    ): "the driver refuses it now: under governor performance no EPP but performance",
    ("cap", errno.ENODATA): "the limit is locked by firmware",
    ("fabric", errno.EACCES): "use the hsmp overlay of deploy/",
    ("fabric", errno.EPERM): "use the hsmp overlay of deploy/",
}
#: Kind of group → the field that asks: of a kind with one setting its own, else what they share.
_FIELDS = {
    "cpufreq": "spec.pstates",
    "idle": "spec.cstates",
    **{item.group: item.spec for item in OF_CPUS},
}


def remedy(kind: str, number: int) -> str:
    """The errno's name and what to do about it. kind: of the group that the file belongs to."""
    name = errno.errorcode.get(number, str(number))
    meaning = _OF_KIND.get((kind, number)) or _REMEDIES.get(number)
    return f"{name}: {meaning}" if meaning else name


def refused(outcome: Outcome) -> str:
    """A write that failed as one line."""
    kind = outcome.group.partition(":")[0]
    return (
        f"{outcome.path} wanted {outcome.wanted}, shows {outcome.shows}:"
        f" {remedy(kind, outcome.errno or errno.EIO)}"
    )


def refusal_problems(
    plan: NodePlan, machine: Machine, outcomes: Iterable[Outcome]
) -> tuple[Problem, ...]:
    """A problem for each profile, kind and errno of the writes that failed; of what no profile
    asked for, on the node.
    """
    groups = {cpu: group for group in plan.groups for cpu in group.cpus}
    found: dict[tuple[str, str, int], list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.status is Status.FAILED:
            kind = outcome.group.partition(":")[0]
            found.setdefault(
                (
                    _object(outcome.group, groups, machine, plan.node),
                    kind,
                    outcome.errno or errno.EIO,
                ),
                [],
            ).append(outcome)
    return tuple(sorted(_problem(obj, kind, failed) for (obj, kind, _), failed in found.items()))


def _problem(obj: str, kind: str, failed: list[Outcome]) -> Problem:
    first = min(failed, key=lambda item: item.path)
    more = f" (and {len(failed) - 1} more files)" if len(failed) > 1 else ""
    place = _FIELDS.get(kind, "") if obj.startswith("PowerProfile/") else ""
    return error(Code.WRITE_REFUSED, obj, place, f"{refused(first)}{more}")


def _object(key: str, groups: Mapping[int, CpuGroup], machine: Machine, node: str) -> str:
    """The profile that the CPUs of a group of files have, else the node."""
    kind, _, number = key.partition(":")
    if kind not in _FIELDS or not number.isdecimal():
        return f"Node/{node}"
    domain = machine.domain_by_id.get(int(number)) if kind == "cpufreq" else None
    cpus = domain.cpus if domain is not None else (int(number),)
    profile = next(
        (groups[cpu].profile for cpu in cpus if cpu in groups and groups[cpu].profile), None
    )
    return f"PowerProfile/{profile}" if profile else f"Node/{node}"
