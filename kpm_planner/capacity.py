"""How many of each profile a node advertises as an extended resource (C4)."""

from collections import Counter
from collections.abc import Iterable, Mapping

from kpm_planner.entitlement import requested_profiles
from kpm_planner.model.agent_settings import AgentSettings, CpuSource
from kpm_planner.model.allocation import Allocation
from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import PowerConfig
from kpm_planner.model.problems import Code, Problem, warning
from kpm_planner.model.quantities import parse_percent
from kpm_planner.model.target import ResolvedProfile
from kpm_planner.ownership import hands_out_none
from kpm_planner.rivals import policy_of
from kpm_planner.selection import reference


def plan_capacity(
    profiles: Iterable[ResolvedProfile],
    allocation: Allocation,
    machine: Machine,
    config: PowerConfig | None = None,
) -> tuple[Mapping[str, int], tuple[Problem, ...]]:
    """Extended resource name → amount, for every valid profile that is not shared.

    Never below what running pods hold; a profile whose share rounds down to nothing and that nobody
    holds is left out, and so are all where nothing hands out CPUs: a pod would be scheduled here,
    and never tuned.
    """
    given = _hands_out(allocation, config)
    owned = _owned(allocation)
    problems: list[Problem] = []
    resources = {}
    for resolved in profiles:
        profile = resolved.profile
        if profile.shared or not resolved.valid:
            continue
        name = f"{profile.group}/{profile.meta.name}"
        amount = max(_amount(resolved, len(machine.online), problems) if given else 0, owned[name])
        if amount:
            resources[name] = amount
    return dict(sorted(resources.items())), tuple(problems)


def _hands_out(allocation: Allocation, config: PowerConfig | None) -> bool:
    """Whether containers can come to own CPUs here: by the kubelet, a device plugin, a claim
    driver, or a policy that NRI shows.

    Claim drivers need a kubelet that hands out none itself, so they are known by the setting that
    says so; policies by their pods.
    """
    agent = config.agent if config is not None else AgentSettings()
    source = CpuSource.of(agent.source)
    others = bool(
        agent.claim_socket
        or (config is not None and config.custom_devices)
        or source is CpuSource.NRI
    )
    policies = () if source is CpuSource.PODRESOURCES else allocation.pods
    return (
        others
        or not hands_out_none(allocation)
        or any(item.cpus for item in allocation.said_last)
        or any(policy_of(pod) for pod in policies)
    )


def _amount(resolved: ResolvedProfile, cpus: int, problems: list[Problem]) -> int:
    capacity, obj, field = (
        resolved.profile.cpu_capacity,
        reference(resolved.profile),
        "spec.cpuCapacity",
    )
    if capacity is None:
        return cpus
    if isinstance(capacity, int):
        if capacity > cpus:
            problems.append(
                warning(
                    Code.CAPACITY_CLAMPED,
                    obj,
                    field,
                    f"{capacity} is more than the {cpus} CPUs online; {cpus} are advertised",
                )
            )
        return min(capacity, cpus)
    amount = cpus * (parse_percent(capacity) or 0) // 100
    if not amount:
        problems.append(
            warning(
                Code.CAPACITY_CLAMPED,
                obj,
                field,
                f"{capacity!r} of {cpus} CPUs rounds down to none; nothing is advertised",
            )
        )
    return amount


def _owned(allocation: Allocation) -> Counter[str]:
    owned: Counter[str] = Counter()
    for pod in allocation.pods:
        if pod.live and pod.phase:
            for container in pod.containers:
                for group, name, amount in requested_profiles(container):
                    owned[f"{group}/{name}"] += int(amount)
    return owned
