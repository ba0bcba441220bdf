"""Which container owns which CPUs, and under which profile (rule R7)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from attrs import evolve, frozen

from kpm_planner.bound import bound_cpus
from kpm_planner.entitlement import entitled, native_cpus, requested_profiles
from kpm_planner.model.allocation import Allocation, ContainerCpus, ContainerRef
from kpm_planner.model.cluster import Container, Pod
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.problems import Code, Problem, error, warning
from kpm_planner.model.quantities import Quantity

_OLDEST = datetime.min.replace(tzinfo=UTC)
_NEWEST = datetime.max.replace(tzinfo=UTC)


@frozen
class Owner:
    """A container with its CPUs. profile: (API group, name) asked for, None for none; refused: its
    CPUs stay at baseline.
    """

    ref: ContainerRef
    cpus: frozenset[int]
    profile: tuple[str, str] | None = None
    refused: bool = False


@frozen
class Ownership:
    """All owners, disjoint; unknown: CPUs that somebody may own who has not been reported."""

    owners: tuple[Owner, ...]
    unknown: bool
    problems: tuple[Problem, ...]


def resolve_ownership(allocation: Allocation, custom_devices: Sequence[str] = ()) -> Ownership:
    """Match what the kubelet reports with the pods.

    Of two pods of one name the newer counts; of two that own one CPU the later started. What has
    not been reported is unknown, and the last known allocation stays (R7).
    """
    problems: list[Problem] = []
    pods = newest_by_name(allocation.pods)
    reported, unknown = reported_entries(allocation, pods, custom_devices, problems)
    claims: list[_Claim] = []
    for entry in reported:
        pod = pods.get((entry.namespace, entry.pod))
        owner = (
            _unknown_pod(entry, problems)
            if pod is None
            else _owner(entry, pod, allocation, custom_devices, problems)
        )
        if owner is not None:
            claims.append((_started(pod), owner))
    problems += _refused_unreported(
        pods, {(entry.namespace, entry.pod, entry.container) for entry in reported}, custom_devices
    )
    owners = _disjoint(claims, problems)
    return Ownership(owners, unknown, tuple(problems))


def newest_by_name(pods: Iterable[Pod]) -> dict[tuple[str, str], Pod]:
    """Pods by namespace and name; a newer one that has ended still
    hides an older one of its name.
    """
    found: dict[tuple[str, str], Pod] = {}
    for pod in sorted(pods, key=lambda item: (item.meta.created or _NEWEST, item.meta.uid)):
        found[(pod.meta.namespace or "default", pod.meta.name)] = pod
    return found


def reported_entries(
    allocation: Allocation,
    pods: Mapping[tuple[str, str], Pod],
    custom_devices: Sequence[str],
    problems: list[Problem],
) -> tuple[tuple[ContainerCpus, ...], bool]:
    """Who has which CPUs by all that is known, and whether somebody may have some that nobody knows
    of.
    """
    reported = by_container(allocation.reported) if allocation.answered else {}
    bound = bound_cpus(allocation, reported, pods, custom_devices)
    problems += bound.problems
    reported |= bound.found
    known = still_known(allocation, pods)
    missing = unreported_containers(reported, known, pods, custom_devices)
    listed = {
        (entry.namespace, entry.pod, entry.container)
        for entry in of_now(allocation.said_last, pods)
    }
    # A kubelet that has only just started names no allocatable CPUs either, so what is known of
    # running containers goes first.
    if inactive(allocation) and not missing & known.keys():
        message = "the kubelet names no allocatable CPUs: static CPU manager not active"
        problems.append(warning(Code.CPU_MANAGER_INACTIVE, "Node", "", message))
        problems += _in_vain(missing, pods)
        claiming = [key for key in missing & listed if claims_of(pods, key)]
        problems += _without_cpus(claiming, listed, bound.why_not)
        return tuple(reported.values()), False
    # One that is listed without CPUs owns none. One that had some keeps them for a while, since a
    # kubelet may have lost its checkpoint, and one that is not listed is unknown for as long; after
    # that both cost only themselves.
    overdue = {key for key in missing if (pods[key[:2]].meta.uid, key[2]) in allocation.overdue}
    given_up = overdue | (missing & listed - known.keys())
    problems += _without_cpus(given_up, listed, bound.why_not)
    missing -= given_up
    if allocation.answered and not missing:
        return tuple(reported.values()), False
    kept = {
        key: entry
        for key, entry in known.items()
        if key not in reported and (not allocation.answered or key in missing)
    }
    never = not allocation.answered and allocation.last_known is None
    unknown = never or any(key not in known for key in missing)
    problems.append(_unknown_cpus(missing, unknown=unknown))
    return (*reported.values(), *kept.values()), unknown


def _unknown_cpus(missing: Collection[tuple[str, str, str]], *, unknown: bool) -> Problem:
    names = ", ".join("/".join(key) for key in sorted(missing)) or "any container"
    stays = "no CPU that could be allocated is written" if unknown else "the last known CPUs stay"
    message = f"the CPUs of {names} are not known; {stays}"
    return warning(Code.ALLOCATION_UNKNOWN, "Node", "", message)


def claims_of(pods: Mapping[tuple[str, str], Pod], key: tuple[str, str, str]) -> bool:
    """Whether a container uses resource claims: then others than the kubelet may give it CPUs."""
    return any(item.name == key[2] and item.claims for item in pods[key[:2]].containers)


def inactive(allocation: Allocation) -> bool:
    """Whether the kubelet says that it hands out no CPUs at all."""
    return allocation.answered and hands_out_none(allocation)


def hands_out_none(allocation: Allocation) -> bool:
    """Whether the kubelet named no CPU that it can hand out when it answered last."""
    return allocation.allocatable is not None and not allocation.allocatable


def by_container(entries: Iterable[ContainerCpus]) -> dict[tuple[str, str, str], ContainerCpus]:
    """The entries by namespace, pod and container; those without CPUs are none."""
    found: dict[tuple[str, str, str], ContainerCpus] = {}
    for entry in entries:
        key = (entry.namespace, entry.pod, entry.container)
        if entry.cpus:
            found[key] = evolve(entry, cpus=entry.cpus | found[key].cpus) if key in found else entry
    return found


def unreported_containers(
    reported: Mapping[tuple[str, str, str], ContainerCpus],
    known: Mapping[tuple[str, str, str], ContainerCpus],
    pods: Mapping[tuple[str, str], Pod],
    custom_devices: Sequence[str],
) -> set[tuple[str, str, str]]:
    """Containers that run, or were reported before they ran, and of which the kubelet says nothing
    now.
    """
    missing = set()
    for (namespace, name), pod in pods.items():
        for container in pod.containers if pod.live else ():
            key = (namespace, name, container.name)
            if pod.phase != "Running" and key not in known:
                continue
            if (
                key not in reported
                and not container.finished
                and requested_profiles(container)
                and entitled(pod, container, custom_devices)
            ):
                missing.add(key)
    return missing


def _refused_unreported(
    pods: Mapping[tuple[str, str], Pod],
    reported: Collection[tuple[str, str, str]],
    custom_devices: Sequence[str],
) -> Iterable[Problem]:
    """Containers that ask for a profile, can own no CPUs, and of which the kubelet says nothing
    either.
    """
    for (namespace, name), pod in pods.items():
        for container in pod.containers if pod.live else ():
            waiting = (namespace, name, container.name) not in reported and not container.finished
            if (
                waiting
                and requested_profiles(container)
                and not entitled(pod, container, custom_devices)
            ):
                yield _not_guaranteed(f"Pod/{namespace}/{name}", container)


def _not_guaranteed(obj: str, container: Container) -> Problem:
    message = (
        "asks for a profile but can own no CPUs: needs QoS Guaranteed, whole cpu, requests equal to"
        " limits"
    )
    return error(Code.POD_NOT_GUARANTEED, obj, _resources_of(container.name), message)


def _pod_name(entry: ContainerCpus) -> str:
    return f"Pod/{entry.namespace}/{entry.pod}"


def _unknown_pod(entry: ContainerCpus, problems: list[Problem]) -> Owner:
    message = (
        f"container {entry.container} is reported to own CPUs {format_cpulist(entry.cpus)}, but no"
        " such pod is known; they stay at baseline"
    )
    problems.append(warning(Code.POD_UNKNOWN, _pod_name(entry), "", message))
    return Owner(
        ContainerRef(entry.namespace, entry.pod, "", entry.container, ""), entry.cpus, refused=True
    )


def _owner(
    entry: ContainerCpus,
    pod: Pod,
    allocation: Allocation,
    custom_devices: Sequence[str],
    problems: list[Problem],
) -> Owner | None:
    container = _named(pod, entry.container)
    if container is None or container.finished or not pod.live:
        return None
    asked = requested_profiles(container)
    ref = ContainerRef(entry.namespace, entry.pod, pod.meta.uid, container.name, container.id)
    if not entitled(pod, container, custom_devices):
        if asked:
            problems.append(_not_guaranteed(_pod_name(entry), container))
        return None
    if not asked:
        return Owner(ref, entry.cpus)
    if len(asked) > 1:
        names = ", ".join(f"{group}/{name}" for group, name, _ in asked)
        problems.append(
            error(
                Code.POD_TWO_PROFILES,
                _pod_name(entry),
                _resources_of(container.name),
                f"asks for {names}; exactly one is allowed",
            )
        )
        return Owner(ref, entry.cpus, refused=True)
    group, name, amount = asked[0]
    right = count_right(
        entry,
        pod,
        container,
        amount=amount,
        accepted=(pod.meta.uid, container.name) in allocation.accepted,
        problems=problems,
    )
    return Owner(ref, entry.cpus, (group, name), refused=not right)


def count_right(
    entry: ContainerCpus,
    pod: Pod,
    container: Container,
    amount: Quantity,
    accepted: bool,
    problems: list[Problem],
) -> bool:
    """Whether the amount of the profile resource fits; a later difference of an accepted container
    is only a warning.
    """
    native = native_cpus(pod, container)
    owed = len(entry.cpus) if container.claims or native is None else native
    if amount == owed and (native is None or container.claims or len(entry.cpus) == native):
        return True
    if accepted or amount == owed:
        message = (
            f"owns {len(entry.cpus)} CPUs now and asks for {amount} of the profile; it stays in"
            " force"
        )
        problems.append(
            warning(
                Code.POD_COUNT_CHANGED, _pod_name(entry), _resources_of(container.name), message
            )
        )
        return True
    problems.append(
        error(
            Code.POD_COUNT,
            _pod_name(entry),
            _resources_of(container.name),
            f"asks for {amount} of the profile and for {owed} CPUs; they must be equal",
        )
    )
    return False


def _named(pod: Pod, name: str) -> Container | None:
    """The container of a pod that has this name."""
    for container in pod.containers:
        if container.name == name:
            return container
    return None


def _resources_of(container: str) -> str:
    """The field in which a container asks."""
    return f"spec.containers[{container}].resources"


_Claim = tuple[datetime | None, Owner]


def _started(pod: Pod | None) -> datetime | None:
    return None if pod is None else pod.started or pod.meta.created


def _precedence(claim: _Claim) -> tuple[float, str, str, str]:
    """The pod that started later first; of two that started at one time, by namespace and name."""
    started, owner = claim
    age = (started or _OLDEST) - _OLDEST
    return (-age.total_seconds(), owner.ref.namespace, owner.ref.pod, owner.ref.name)


def _disjoint(claims: list[_Claim], problems: list[Problem]) -> tuple[Owner, ...]:
    """Give every CPU to one owner."""
    taken: dict[int, _Claim] = {}
    owners = []
    for claim in sorted(claims, key=_precedence):
        started, owner = claim
        if not taken.keys().isdisjoint(owner.cpus):
            lost = owner.cpus & taken.keys()
            problems.append(_overlap(owner, lost, started, taken[min(lost)]))
            owner = evolve(owner, cpus=owner.cpus - lost)
        if owner.cpus:
            taken.update(dict.fromkeys(owner.cpus, claim))
            owners.append(owner)
    return tuple(owners)


def _overlap(
    owner: Owner, lost: frozenset[int], started: datetime | None, winner: _Claim
) -> Problem:
    ref = winner[1].ref
    how = (
        "started later"
        if None not in (started, winner[0]) and started != winner[0]
        else "decided without timestamps"
    )
    message = (
        f"container {owner.ref.name} is reported to own CPUs {format_cpulist(lost)}, which"
        f" {ref.namespace}/{ref.pod} has ({how})"
    )
    return warning(Code.POD_OVERLAP, f"Pod/{owner.ref.namespace}/{owner.ref.pod}", "", message)


def _without_cpus(
    containers: Collection[tuple[str, str, str]],
    listed: Collection[tuple[str, str, str]],
    why_not: Mapping[tuple[str, str, str], str],
) -> Iterable[Problem]:
    """An error of each such pod alone.

    listed: containers that the kubelet names, with CPUs or without; why_not: why what a container
    is bound to does not count.
    """
    for key in sorted(containers):
        namespace, name, container = key
        how = "lists it without CPUs of its own" if key in listed else "does not list it"
        advice = (
            ": see topology manager, pod-level resources, and whether the pod is older than the"
            " static policy"
        )
        reason = f", and {why_not[key]}" if key in why_not else advice
        message = f"asks for a profile, but the kubelet {how}{reason}"
        yield error(
            Code.POD_WITHOUT_CPUS,
            f"Pod/{namespace}/{name}",
            _resources_of(container),
            message,
        )


def _in_vain(
    missing: Collection[tuple[str, str, str]], pods: Mapping[tuple[str, str], Pod]
) -> Iterable[Problem]:
    """Containers that ask for a profile where nobody gives them CPUs of their own: their pods are
    told, for nobody else would be.
    """
    for namespace, name, container in sorted(missing):
        pod = pods[namespace, name]
        if not claims_of(pods, (namespace, name, container)) and any(
            item.name == container and native_cpus(pod, item) is not None for item in pod.containers
        ):
            message = (
                "asks for a profile, but nothing on this node hands out CPUs of one's own: the"
                " kubelet's static CPU manager is not active"
            )
            yield error(
                Code.CPU_MANAGER_INACTIVE,
                f"Pod/{namespace}/{name}",
                _resources_of(container),
                message,
            )


def of_now(
    entries: Iterable[ContainerCpus], pods: Mapping[tuple[str, str], Pod]
) -> list[ContainerCpus]:
    """These, less what was said of an earlier pod of the same name."""
    uids = {key: pod.meta.uid for key, pod in pods.items()}
    return [
        entry
        for entry in entries
        if entry.uid in ("", uids.get((entry.namespace, entry.pod), entry.uid))
    ]


def still_known(
    allocation: Allocation, pods: Mapping[tuple[str, str], Pod]
) -> dict[tuple[str, str, str], ContainerCpus]:
    """What is remembered of pods that are still there."""
    return by_container(of_now(allocation.last_known or (), pods))
