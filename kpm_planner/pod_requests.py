"""Whether the containers of a pod can own CPUs under the profile that they ask for (pure).

What the kubelet's static policy asks: a Guaranteed pod, whole CPUs; what this system asks: as many
of the profile's resource as CPUs, of a profile that is offered.
"""

from collections.abc import Iterator, Mapping

from kpm_planner.entitlement import native_cpus, requested_profiles
from kpm_planner.model.cluster import Container, Pod
from kpm_planner.model.objects import PowerProfile
from kpm_planner.model.problems import Code


def pod_faults(
    pod: Pod, profiles: Mapping[str, PowerProfile] | None
) -> Iterator[tuple[str, Code, str]]:
    """(field, code, message) of each container that asks for a profile and cannot have it.

    profiles: those that are known by name; None where none are, so that nothing is said of names.
    """
    for index, container in enumerate(pod.containers):
        field = f"spec.containers[{index}].resources"
        asked = requested_profiles(container)
        if len(asked) > 1:
            names = ", ".join(name for _, name, _ in asked)
            text = f"asks for {len(asked)} profiles, {names}; one is allowed"
            yield field, Code.POD_TWO_PROFILES, text
        for _, name, amount in asked[:1]:
            yield from _asked(pod, container, field, (name, int(amount)), profiles)


def _asked(
    pod: Pod,
    container: Container,
    field: str,
    asked: tuple[str, int],
    profiles: Mapping[str, PowerProfile] | None,
) -> Iterator[tuple[str, Code, str]]:
    name, amount = asked
    cpus = native_cpus(pod, container)
    if not pod.guaranteed:
        text = (
            f"asks for profile {name}, but the pod is not Guaranteed: every container needs limits"
            " equal to its requests, of cpu and memory"
        )
        yield field, Code.POD_NOT_GUARANTEED, text
    elif cpus is None and not container.claims:
        text = f"asks for profile {name}, but not for whole CPUs: cpu must be a whole number"
        yield field, Code.POD_COUNT, text
    elif cpus is not None and cpus != amount:
        text = f"asks for {amount} of profile {name} and for {cpus} CPUs; both must be the same"
        yield field, Code.POD_COUNT, text
    if profiles is None:
        return
    profile = profiles.get(name)
    if profile is None:
        there = ", ".join(sorted(profiles))
        text = f"profile {name!r} is not among the objects given, {there}"
        yield field, Code.PROFILE_MISSING, text
    elif profile.shared:
        text = f"profile {name} is shared, so it is offered to no pod"
        yield field, Code.POD_PROFILE, text
