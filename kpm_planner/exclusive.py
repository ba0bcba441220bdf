"""Exclusive CPUs: the profile that the container which owns them asks for."""

from collections.abc import Mapping

from attrs import field, frozen

from kpm_planner.crio import ACCEPT, conflict, wished_profile
from kpm_planner.model.agent_settings import AgentSettings, IdleStates
from kpm_planner.model.assignment import Assignment, Pool, Profiles
from kpm_planner.model.cluster import AMD_GROUP
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import Machine
from kpm_planner.model.problems import Code, Problem, error, warning
from kpm_planner.model.target import ResolvedProfile
from kpm_planner.model.why import Why
from kpm_planner.ownership import Owner

#: Groups of earlier operators for which no definitions are installed here: pods that ask in one of
#: them outlive their operator, and keep the profile of the name.
_UNSERVED = (AMD_GROUP,)


@frozen
class Wishes:
    """CRI-O's annotations by pod uid, and what is made of them."""

    of: Mapping[str, tuple[tuple[str, str], ...]] = field(hash=False)
    machine: Machine
    settings: AgentSettings

    def profile(self, owner: Owner, problems: list[Problem]) -> ResolvedProfile | None:
        """The profile that an owner's annotations ask for.

        None where there are none, and, with a problem, where they are not accepted, stand beside a
        profile that it asks for, or have errors.
        """
        wishes = self.of.get(owner.ref.uid)
        if not wishes:
            return None
        pod = f"Pod/{owner.ref.namespace}/{owner.ref.pod}"
        accepted = self.settings.crio_annotations == ACCEPT
        if not accepted or owner.profile is not None:
            problems.append(conflict(pod, wishes, accepted=accepted))
            return None
        found = wished_profile(pod, wishes, self.machine, IdleStates.of(self.settings.idle_states))
        problems += found.problems
        return found if found.valid else None


def exclusive_assignment(
    owner: Owner,
    profiles: Profiles,
    shared: Assignment | None,
    wishes: Wishes,
    problems: list[Problem],
) -> Assignment:
    """What an owner's CPUs get. The first that fits: baseline where its request was refused (two
    profiles, a wrong count, a pod that nobody knows); the profile of its annotations; the shared
    target where it asks for no profile; the profile that it asks for; baseline where that cannot
    be used.
    """
    ref = owner.ref
    if owner.refused:
        return _has(owner, None, None, ", at baseline because its request cannot be honoured")
    wished = wishes.profile(owner, problems)
    if wished is not None:
        return _has(owner, wished, None, " and has CRI-O's annotations")
    if owner.profile is None:
        profile, name = (shared.profile, shared.profile_name) if shared else (None, None)
        unused = "its CRI-O annotations are not used" if wishes.of.get(ref.uid) else ""
        return _has(
            owner, profile, name, f" and {unused or 'asks for no profile'}, so the shared target"
        )
    group, name = owner.profile
    found = profiles.get(name)
    fault = _pod_profile_fault(found, group)
    if found is None or fault:
        message = f"{group}/{name}: {fault}; CPUs {format_cpulist(owner.cpus)} stay at baseline"
        pod = f"Pod/{ref.namespace}/{ref.pod}"
        problems.append(error(Code.POD_PROFILE, pod, _resources(ref.name), message))
        return _has(owner, None, None, f", at baseline because profile {name} cannot be used")
    if group != found.profile.group:
        message = (
            f"container {ref.name} asks for {group}/{name}, which the earlier operator offered, and"
            f" has PowerProfile/{name}; its next pod has to ask for {found.profile.group}/{name}"
        )
        pod = f"Pod/{ref.namespace}/{ref.pod}"
        problems.append(warning(Code.POD_EARLIER_GROUP, pod, _resources(ref.name), message))
    return _has(owner, found, name, f" and asks for {group}/{name}")


def _resources(container: str) -> str:
    return f"spec.containers[{container}].resources"


def _has(owner: Owner, profile: ResolvedProfile | None, name: str | None, why: str) -> Assignment:
    """The owner's CPUs under a profile, at baseline without one."""
    ref = owner.ref
    pod = f"{ref.namespace}/{ref.pod}"
    text = f"exclusive: pod {pod} container {ref.name} owns it{why}"
    reason = Why(text, object=f"Pod/{pod}")
    return Assignment(owner.cpus, Pool.EXCLUSIVE, profile, name, ref, because=(reason,))


def _pod_profile_fault(found: ResolvedProfile | None, group: str) -> str:
    """Why a container cannot have the profile that it asks for; "" where it can."""
    if found is None or group not in (found.profile.group, *_UNSERVED):
        return "no such profile is in force on this node"
    if not found.valid:
        return "the profile has errors on this node"
    return "the profile is shared and cannot be asked for" if found.profile.shared else ""
