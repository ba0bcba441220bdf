"""How the busy and the standing time of CPUs divides over those who use or own them.

A CPU's busy time weighs by its effective frequency and by how busy its hyperthreads are. Consumers
of one set of exclusive CPUs form a class, and all that own none another: what a class weighs
depends on its CPU time alone, not on how many consumers it has, so splitting one changes nothing
for the others. All weights are whole numbers.
"""

from collections.abc import Iterable, Mapping

from attrs import field, frozen

#: Weight of a µs at full frequency on a core of its own.
UNIT = 1 << 12


@frozen
class EnergyCpu:
    """An online CPU. siblings: the other hyperthreads of its core; max_khz: of its hardware, 0
    where not known.
    """

    id: int
    package: int = 0
    die: int | None = None
    siblings: tuple[int, ...] = ()
    max_khz: int = 0


@frozen
class Consumer:
    """What energy is attributed to: a container. cpus: those that it owns exclusively; request:
    CPUs that it asks for, in 1/1000.

    inside: the consumer whose CPU time contains this one's, "" for none.
    """

    cpus: frozenset[int] = frozenset()
    request: int = 0
    inside: str = ""


@frozen
class WeightPolicy:
    """How much a second on a CPU weighs, in per cent. Sources: docs/user/energy.md.

    static: of a busy core's power at its highest frequency, what does not depend on the frequency.
    voltage: the lowest voltage as a share of the highest. sibling: what a second hyperthread adds
    to a busy core.
    """

    static: int = 20
    voltage: int = 65
    sibling: int = 25


@frozen
class ClassShare:
    """A class of consumers in one scope. weight: of its CPU time; usage_us: of all of it; cpus: how
    many it owns there; owns: any at all.
    """

    members: tuple[str, ...]
    weight: int
    usage_us: int
    cpus: int
    owns: bool


@frozen
class Shares:
    """One scope (a package, or the node). weight: of all that ran; busy_us, cpus: of its CPUs;
    shared_cpus: those that nobody owns.

    requests: of each consumer, in 1/1000 CPU; requested: by those that own none, or all the CPUs
    that nobody owns where that is more.
    """

    classes: tuple[ClassShare, ...]
    weight: int
    busy_us: int
    idle_us: int
    cpus: int
    shared_cpus: int
    requested: int
    requests: Mapping[str, int] = field(hash=False)


def frequency_weight(khz: int, highest_khz: int, policy: WeightPolicy) -> int:
    """Weight of a µs at a frequency: static + (1 - static) x f x V(f)^2, all relative to the
    highest; UNIT where one is not known.
    """
    if khz <= 0 or highest_khz <= 0:
        return UNIT
    f = min(khz / highest_khz, 1.5)
    low = policy.voltage / 100
    volts = low + (1 - low) * f
    static = policy.static / 100
    return max(1, round(UNIT * (static + (1 - static) * f * volts * volts)))


def sibling_weight(weight: int, others_busy: float, others: int, policy: WeightPolicy) -> int:
    """The same where other hyperthreads are each busy for such a share of the time.

    Where k of them run too, the core costs 1 + k x sibling and each thread bears an equal part:
    sibling + (1 - sibling) / (1 + k). Threads run independently of each other, so k is binomial,
    and the mean of 1 / (1 + k) is as below.
    """
    share = min(max(others_busy, 0.0), 1.0)
    if not others or not share:
        return weight
    sibling = policy.sibling / 100
    mean = (1 - (1 - share) ** (others + 1)) / ((others + 1) * share)
    return max(1, round(weight * (sibling + (1 - sibling) * mean)))


def cpu_weights(
    cpus: Iterable[EnergyCpu],
    busy_us: Mapping[int, int],
    khz: Mapping[int, int],
    elapsed_us: int,
    policy: WeightPolicy,
) -> dict[int, int]:
    """CPU → weight of one of its busy µs in an interval.

    A CPU that did not run weighs as one at full frequency.
    """
    known = tuple(cpus)
    highest = max((cpu.max_khz for cpu in known), default=0)
    by_khz: dict[int, int] = {}
    found = {}
    for cpu in known:
        speed = khz.get(cpu.id, 0)
        weight = by_khz.get(speed)
        if weight is None:
            weight = by_khz[speed] = frequency_weight(speed, highest, policy)
        if cpu.siblings and elapsed_us > 0:
            others = sum(busy_us.get(other, 0) for other in cpu.siblings) / (
                len(cpu.siblings) * elapsed_us
            )
            weight = sibling_weight(weight, others, len(cpu.siblings), policy)
        found[cpu.id] = weight
    return found


@frozen
class Usage:
    """What ran in an interval. consumers: id → µs of CPU time; busy_us, idle_us: by CPU; weights:
    as cpu_weights gives them.
    """

    cpus: tuple[EnergyCpu, ...]
    consumers: Mapping[str, int] = field(hash=False)
    busy_us: Mapping[int, int] = field(hash=False)
    idle_us: Mapping[int, int] = field(hash=False)
    weights: Mapping[int, int] = field(hash=False)


@frozen
class Classes:
    """Consumers by the CPUs that they own; those of the empty set share
    the CPUs that nobody owns.
    """

    members: Mapping[frozenset[int], tuple[str, ...]] = field(hash=False)
    owned: frozenset[int]


def classify(consumers: Mapping[str, Consumer], online: frozenset[int]) -> Classes:
    """The classes. A CPU that two different sets claim is owned by neither."""
    sets = {item.cpus & online for item in consumers.values() if item.cpus}
    claimed: dict[int, int] = {}
    for cpus in sets:
        for cpu in cpus:
            claimed[cpu] = claimed.get(cpu, 0) + 1
    owned = frozenset(cpu for cpu, times in claimed.items() if times == 1)
    members: dict[frozenset[int], list[str]] = {}
    for name, item in consumers.items():
        members.setdefault(item.cpus & owned if item.cpus else frozenset(), []).append(name)
    return Classes({cpus: tuple(names) for cpus, names in members.items()}, owned)


def shares_of(
    usage: Usage, scope: frozenset[int], classes: Classes, consumers: Mapping[str, Consumer]
) -> Shares:
    """How a scope's CPU time and CPUs divide. scope: its online CPUs."""
    online = frozenset(cpu.id for cpu in usage.cpus)
    found = []
    for cpus, members in classes.members.items():
        where = cpus or (online - classes.owned) or online
        used = sum(usage.consumers.get(name, 0) for name in members)
        found.append(
            ClassShare(
                members, _weight(usage, used, where, scope), used, len(cpus & scope), bool(cpus)
            )
        )
    busy = sum(usage.busy_us.get(cpu, 0) for cpu in scope)
    ran = sum(usage.busy_us.get(cpu, 0) * usage.weights[cpu] for cpu in scope)
    shared = classes.members.get(frozenset(), ())
    requests = {name: max(item.request, 0) for name, item in consumers.items()}
    return Shares(
        classes=tuple(found),
        weight=max(ran, sum(item.weight for item in found)),
        busy_us=busy,
        idle_us=sum(usage.idle_us.get(cpu, 0) for cpu in scope),
        cpus=len(scope),
        shared_cpus=len(scope - classes.owned),
        requested=max(sum(requests[name] for name in shared), 1000 * len(online - classes.owned)),
        requests=requests,
    )


def _weight(usage: Usage, used: int, where: frozenset[int], scope: frozenset[int]) -> int:
    """Weight in a scope of CPU time that was used on these CPUs: over them as their busy time says,
    evenly where it says nothing.
    """
    if not used or not where:
        return used * UNIT  # no CPU is known: CPU time alone counts
    busy = {cpu: usage.busy_us.get(cpu, 0) for cpu in where}
    total = sum(busy.values())
    if not total:
        busy, total = dict.fromkeys(where, 1), len(where)
    return (
        used
        * sum(amount * usage.weights[cpu] for cpu, amount in busy.items() if cpu in scope)
        // total
    )
