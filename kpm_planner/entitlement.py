"""What a container asks for of profiles, and whether it can own CPUs at all."""

from collections.abc import Sequence

from kpm_planner.model.cluster import SYSTEM_NAMESPACE, Container, Pod
from kpm_planner.model.quantities import Quantity


def requested_profiles(container: Container) -> tuple[tuple[str, str, Quantity], ...]:
    """The profile resources a container asks for: (API group, profile name, amount)."""
    found = []
    for resource, amount in container.resources:
        group, _, name = resource.partition("/")
        if group in SYSTEM_NAMESPACE and name and amount:
            found.append((group, name, amount))
    return tuple(sorted(found)) if len(found) > 1 else tuple(found)


def entitled(pod: Pod, container: Container, custom_devices: Sequence[str]) -> bool:
    """Whether a container can own the CPUs that are reported for it."""
    return (
        native_cpus(pod, container) is not None
        or container.claims
        or _uses_device(container, custom_devices)
    )


def native_cpus(pod: Pod, container: Container) -> int | None:
    """CPUs that the static CPU manager owes the container; None where it hands out none.

    Source: the kubelet's static policy.
    """
    request, limit = container.cpu
    whole = request is not None and request == limit and request.denominator == 1 and request >= 1
    return int(request) if pod.guaranteed and whole and request is not None else None


def _uses_device(container: Container, custom_devices: Sequence[str]) -> bool:
    return any(resource in custom_devices and amount for resource, amount in container.resources)
