"""The rules of docs/developer/rules.md once more, CPU by CPU and as slowly as they read: what the
laws compare the planner with.

Nothing here imports a decision of the planner. Where the rules leave a choice open, the laws do
not ask.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from fractions import Fraction
from math import ceil

from kpm_planner.model.allocation import ContainerCpus
from kpm_planner.model.cluster import (
    SYSTEM_NAMESPACE,
    Container,
    LabelSelector,
    Node,
    NodeSelector,
    Pod,
)
from kpm_planner.model.machine import FrequencyDomain, Machine
from kpm_planner.model.objects import Intent, PowerNodeConfig, PowerProfile, PowerWorkload
from kpm_planner.model.target import BASELINE, Target
from tests.planner.reading import Effective, effective

TESTED_DRIVERS = {
    "intel_pstate",
    "intel_cpufreq",
    "acpi-cpufreq",
    "amd-pstate",
    "amd-pstate-epp",
    "cppc_cpufreq",
}
GOVERNORS = ["userspace", "powersave", "conservative", "ondemand", "schedutil", "performance"]
EPPS = ["power", "balance_power", "balance_performance", "performance"]
Definition = PowerWorkload | PowerNodeConfig


# --- identity and selectors ---


def counts(obj: object) -> bool:
    """Whether an object is in the namespace in which objects count."""
    return obj.meta.namespace in (None, SYSTEM_NAMESPACE[obj.group])  # type: ignore[attr-defined]


def selected(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """A label selector as Kubernetes defines it; one that is not valid selects nothing."""
    for key, value in selector.match_labels.items():
        if key not in labels or labels[key] != value:
            return False
    for item in selector.match_expressions:
        if item.operator not in ("In", "NotIn", "Exists", "DoesNotExist") or (
            item.operator in ("In", "NotIn")
        ) != (len(item.values) > 0):
            return False
        present = item.key in labels
        value = labels.get(item.key, "")
        meets = {
            "In": present and value in item.values,
            "NotIn": not present or value not in item.values,
            "Exists": present,
            "DoesNotExist": not present,
        }[item.operator]
        if not meets:
            return False
    return True


def chosen(selector: NodeSelector | None, labels: Mapping[str, str], *, left_out: bool) -> bool:
    """Whether a kind's node selector selects a node; left_out: what leaving it out means for the
    kind.
    """
    if selector is None or selector.label_selector is None:
        return left_out
    return selected(selector.label_selector, labels)


def definitions(intent: Intent, node: Node) -> list[Definition]:
    """The objects that define pools on a node."""
    workloads = [
        item
        for item in intent.workloads
        if counts(item)
        and item.power_node_selector
        and selected(LabelSelector(item.power_node_selector), node.labels)
    ]
    return [
        *workloads,
        *(
            item
            for item in intent.node_configs
            if counts(item) and chosen(item.node_selector, node.labels, left_out=False)
        ),
    ]


def profiles(intent: Intent, node: Node) -> dict[str, PowerProfile]:
    """The profiles of a node by name; a name that exists in both groups is neither's."""
    present = [profile for profile in intent.profiles if counts(profile)]
    names = [profile.meta.name for profile in present]
    return {
        item.meta.name: item
        for item in present
        if names.count(item.meta.name) == 1
        and chosen(item.node_selector, node.labels, left_out=True)
    }


# --- pods ---


def newest(pods: Iterable[Pod], namespace: str, name: str) -> Pod | None:
    """Of the pods of one name the one that counts; the age of each has to be known or unlike the
    others'.
    """
    same = [
        pod
        for pod in pods
        if ((pod.meta.namespace or "default"), pod.meta.name) == (namespace, name)
    ]
    far = datetime.max.replace(tzinfo=UTC)
    return max(same, key=lambda pod: (pod.meta.created or far, pod.meta.uid), default=None)


def container_of(pods: Iterable[Pod], entry: ContainerCpus) -> tuple[Pod, Container] | None:
    """The pod and container that an entry of the kubelet's answer means."""
    pod = newest(pods, entry.namespace, entry.pod)
    found = [item for item in pod.containers if item.name == entry.container] if pod else []
    return (pod, found[0]) if pod and found else None


def owed(pod: Pod, container: Container, devices: Iterable[str]) -> bool:
    """Whether a container can own CPUs: native ones, a custom device's, or a claim's."""
    request, limit = container.cpu
    native = (
        pod.guaranteed
        and request is not None
        and request == limit
        and request >= 1
        and request == int(request)
    )
    return (
        native
        or container.claims
        or any(resource in set(devices) for resource, amount in container.resources if amount)
    )


def owns(pods: Iterable[Pod], entry: ContainerCpus, devices: Iterable[str]) -> bool:
    """Whether a reported container holds its CPUs: it runs or may still run, and can own any."""
    found = container_of(pods, entry)
    if found is None:
        return False
    pod, container = found
    return (
        pod.phase not in ("Succeeded", "Failed")
        and not container.finished
        and owed(pod, container, devices)
    )


# --- targets ---


def percent_khz(percent: int, low: int, high: int) -> int:
    """A percentage of a range, rounded up to a whole kHz."""
    return ceil(low + Fraction(high - low) * Fraction(percent, 100))


def khz(value: int | str, domain: FrequencyDomain) -> int:
    """What a user's frequency means on a domain, before it is clamped."""
    low, high = limits(domain)
    if value in ("min", "base", "max"):
        return {"min": low, "base": domain.base_khz or 0, "max": high}[str(value)]
    if isinstance(value, str):
        return percent_khz(int(value.rstrip("%")), low, high)
    return value * 1000 if value < 100000 else value


def limits(domain: FrequencyDomain) -> tuple[int, int]:
    """The hardware's range."""
    assert domain.hardware_min_khz is not None
    assert domain.hardware_max_khz is not None
    return domain.hardware_min_khz, domain.hardware_max_khz


def wish(profile: PowerProfile | None, machine: Machine, cpu: int) -> Target:
    """What a valid profile asks of one CPU, whatever its neighbours want; None is baseline."""
    if profile is None:
        return BASELINE
    number = machine.by_id[cpu].domain
    domain = next((item for item in machine.domains if item.id == number), None)
    idle = _idle(profile, machine, cpu)
    epb = _epb(profile, machine, cpu)
    if domain is None:
        return Target(idle=idle, epb=epb)
    low, high = _range(profile, domain)
    governor = _governor(profile, domain)
    return Target(low, high, governor, _epp(profile, domain, governor), idle, epb=epb)


def _range(profile: PowerProfile, domain: FrequencyDomain) -> tuple[int, int]:
    lowest, highest = limits(domain)
    low = lowest if profile.pstates.min is None else khz(profile.pstates.min, domain)
    high = highest if profile.pstates.max is None else khz(profile.pstates.max, domain)
    return min(max(low, lowest), highest), min(max(high, lowest), highest)


def _governor(profile: PowerProfile, domain: FrequencyDomain) -> str | None:
    wanted = profile.pstates.governor
    if wanted is not None:
        return wanted if wanted in domain.governors else None
    return "powersave" if domain.driver in ("intel_pstate", "amd-pstate-epp") else None


def _epp(profile: PowerProfile, domain: FrequencyDomain, governor: str | None) -> str | None:
    if domain.settings.epp is None:
        return None
    return (
        "performance"
        if (governor or domain.settings.governor) == "performance"
        else profile.pstates.epp
    )


def _epb(profile: PowerProfile, machine: Machine, cpu: int) -> int | None:
    words = {"performance": 0, "normal": 6, "power": 15}
    asked = profile.pstates.epb
    if machine.by_id[cpu].epb is None or asked is None:
        return None
    return words[asked] if isinstance(asked, str) else asked


def _idle(profile: PowerProfile, machine: Machine, cpu: int) -> tuple[tuple[str, bool], ...]:
    states, wanted = machine.by_id[cpu].idle, profile.cstates
    if wanted.max_latency_us is not None:
        return tuple((state.name, state.latency_us <= wanted.max_latency_us) for state in states)
    names = wanted.names or {}
    return tuple((state.name, names[state.name]) for state in states if state.name in names)


def epp_rank(word: str) -> int:
    """Place of an EPP between power and performance; a raw number counts
    as the next word above it.
    """
    if word.isdigit():
        return next(
            rank for rank, least in ((3, 0), (2, 128), (1, 192), (0, 255)) if int(word) <= least
        )
    return EPPS.index(word)


def highest(wishes: Iterable[Target], domain: FrequencyDomain) -> Effective:
    """What a whole domain gets when its CPUs differ: the highest of everything, baseline among the
    candidates.
    """
    values = [effective(target, domain) for target in wishes]
    governors = {value.governor for value in values if value.governor is not None}
    governor = max(governors, key=GOVERNORS.index, default=None)
    return Effective(
        max((value.min_khz for value in values if value.min_khz is not None), default=None),
        max((value.max_khz for value in values if value.max_khz is not None), default=None),
        governor,
        max((value.epp for value in values if value.epp is not None), key=epp_rank, default=None),
    )
