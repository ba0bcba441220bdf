"""Small machines, objects and pods for examples: everything that an example does not speak of has a
plain default.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import evolve

from kpm_planner.caps.schedule import Signals
from kpm_planner.model.allocation import Allocation, ContainerCpus
from kpm_planner.model.cap_objects import CapSource, PowerCap, StaticCap
from kpm_planner.model.cluster import (
    OPENSHIFT_GROUP,
    Container,
    LabelSelector,
    Meta,
    Node,
    NodeSelector,
    Pod,
)
from kpm_planner.model.cpuset import parse_cpulist
from kpm_planner.model.machine import (
    Cpu,
    CpufreqSettings,
    FrequencyDomain,
    IdleState,
    Machine,
    PowerLimit,
    PowerZone,
    UncoreEntry,
)
from kpm_planner.model.objects import (
    CStates,
    Intent,
    PowerConfig,
    PowerNodeConfig,
    PowerProfile,
    PowerWorkload,
    PStates,
    ReservedCpus,
    Uncore,
)
from kpm_planner.model.quantities import UW, Quantity
from kpm_planner.parts import CpuGroup
from kpm_planner.plan import NodeInput, NodePlan, plan_node
from kpm_planner.report.types import Values
from tests.planner.reading import group_of

HOST = {"kubernetes.io/hostname": "node-1"}
NODE = Node("node-1", {**HOST, "zone": "a"})
EVERYWHERE = NodeSelector(LabelSelector())
GOVERNORS = ("conservative", "ondemand", "userspace", "powersave", "performance", "schedutil")
IDLE = (("POLL", 0), ("C1", 2), ("C1E", 10), ("C6", 170))
DEVICE = "example.com/isolated-cpu"


def moment(hour: int) -> datetime:
    """An hour of one day."""
    return datetime(2026, 1, 31, hour, tzinfo=UTC)


def idle_states(*states: tuple[str, int]) -> tuple[IdleState, ...]:
    """Idle states from (name, latency in µs), all on."""
    return tuple(
        IdleState(index, name, latency, True, True) for index, (name, latency) in enumerate(states)
    )


def machine(
    cpus: str = "0-3",
    *,
    offline: str = "",
    driver: str | None = "intel_pstate",
    khz: tuple[int, int] = (800_000, 3_700_000),
    limit: int | None = None,
    governors: tuple[str, ...] | None = None,
    settings: CpufreqSettings | None = None,
    shared: Iterable[tuple[int, ...]] = (),
    ranges: Mapping[int, tuple[int, int]] | None = None,
    idle: Iterable[tuple[str, int]] = IDLE,
    siblings: Iterable[tuple[int, ...]] = (),
    uncore: tuple[UncoreEntry, ...] = (),
) -> Machine:
    """A machine whose CPUs are alike.

    shared: frequency domains of several CPUs; every other CPU has its own. ranges: hardware ranges
    of domains that have another one, by first CPU. siblings: hyperthreads of one core. limit: the
    highest frequency with boost.
    """
    smart = driver in ("intel_pstate", "amd-pstate-epp")
    offered = governors or (("performance", "powersave") if smart else GOVERNORS)
    held = settings or CpufreqSettings(
        *khz, "powersave" if smart else "schedutil", "balance_performance" if smart else None
    )
    ids, gone = sorted(parse_cpulist(cpus)), parse_cpulist(offline)
    members = {cpu: next((group for group in shared if cpu in group), (cpu,)) for cpu in ids}
    cores = {cpu: next((group for group in siblings if cpu in group), (cpu,)) for cpu in ids}
    domains = []
    for group in sorted(set(members.values())) if driver else ():
        low, high = (ranges or {}).get(group[0], khz)
        own = evolve(held, min_khz=low, max_khz=high) if group[0] in (ranges or {}) else held
        if not gone.issuperset(group):
            domains.append(
                FrequencyDomain(
                    group[0], group, driver, low, high, limit or high, (), offered, (), own
                )
            )
    known = {cpu: domain.id for domain in domains for cpu in domain.cpus}
    states = idle_states(*idle)
    return Machine(
        cpus=tuple(
            Cpu(
                cpu,
                cpu not in gone,
                0,
                0,
                None,
                cores[cpu][0],
                tuple(sorted(set(cores[cpu]) - gone)),
                known.get(cpu),
                states,
            )
            for cpu in ids
        ),
        domains=tuple(domains),
        idle_driver="intel_idle" if states else None,
        uncore=uncore,
    )


def die(
    package: int = 0, number: int = 0, low: int = 800_000, high: int = 2_400_000
) -> UncoreEntry:
    """An uncore entry of the older layout."""
    return UncoreEntry(
        f"package_{package:02}_die_{number:02}", package, number, None, None, low, high, low, high
    )


def rapl(
    package: int = 0,
    die: int | None = None,
    *,
    long: int | None = 205,
    top: int | None = 205,
    short: int | None = 246,
    **fields: Any,
) -> PowerZone:
    """A RAPL zone of a package, or of one die of it.

    Units: W. top: the firmware's maximum of the long-term limit; short: None where there is none.
    """
    limits = [PowerLimit("long_term", "constraint_0_power_limit_uw", _uw(long), _uw(top))]
    limits += (
        [PowerLimit("short_term", "constraint_1_power_limit_uw", _uw(short))]
        if short is not None
        else []
    )
    name = f"package-{package}" if die is None else f"package-{package}-die-{die}"
    return PowerZone(
        f"powercap/intel-rapl:{package}:{die}",
        name,
        "intel-rapl",
        package,
        die,
        **{"enabled": True, "limits": tuple(limits), **fields},
    )


def socket(
    package: int = 0, now: int | None = 240, top: int | None = 280, control: str = "amd_hsmp_hwmon"
) -> PowerZone:
    """The one power limit of an AMD socket, W."""
    return PowerZone(
        f"{control}/{package}",
        f"socket-{package}",
        control,
        package,
        limits=(PowerLimit("power_cap", "power1_cap", _uw(now), _uw(top)),),
    )


def _uw(watts: int | None) -> int | None:
    return None if watts is None else watts * UW


def with_zones(*zones: PowerZone) -> Machine:
    """A machine that caps power."""
    return evolve(machine(), power_zones=zones)


def profile(
    name: str = "performance", *, shared: bool = False, group: str = OPENSHIFT_GROUP, **fields: Any
) -> PowerProfile:
    """A profile.

    Fields of pstates stand for themselves; names and max_latency_us make cstates; meta_… make
    metadata.
    """
    pstates = PStates(
        **{
            key: fields.pop(key)
            for key in ("min", "max", "governor", "epp", "epb")
            if key in fields
        }
    )
    cstates = CStates(
        **{key: fields.pop(key) for key in ("names", "max_latency_us") if key in fields}
    )
    return PowerProfile(
        _meta(name, fields), group=group, shared=shared, pstates=pstates, cstates=cstates, **fields
    )


def workload(
    name: str = "shared-pool",
    uses: str | None = "shared",
    *,
    all_cores: bool = True,
    reserved: Iterable[ReservedCpus] = (),
    **fields: Any,
) -> PowerWorkload:
    """A PowerWorkload that selects NODE by its host name."""
    fields.setdefault("power_node_selector", HOST)
    return PowerWorkload(
        _meta(name, fields),
        all_cores=all_cores,
        reserved_cpus=tuple(reserved),
        power_profile=uses,
        **fields,
    )


def node_config(
    name: str = "pools",
    uses: str | None = None,
    *,
    reserved: Iterable[ReservedCpus] = (),
    **fields: Any,
) -> PowerNodeConfig:
    """A PowerNodeConfig that selects every node."""
    fields.setdefault("node_selector", EVERYWHERE)
    return PowerNodeConfig(
        _meta(name, fields), shared_power_profile=uses, reserved_cpus=tuple(reserved), **fields
    )


def uncore(name: str = "node-1", **fields: Any) -> Uncore:
    """Uncore limits; named like NODE, so without a selector."""
    return Uncore(_meta(name, fields), **fields)


def power_cap(watts: int | None = 150, name: str = "budget", **fields: Any) -> PowerCap:
    """A PowerCap for every node: as many watts at all times, unless a source is given."""
    fields.setdefault("node_selector", EVERYWHERE)
    fields.setdefault("source", CapSource(static=StaticCap(watts)))
    return PowerCap(_meta(name, fields), **fields)


def config(name: str = "power-config", **fields: Any) -> PowerConfig:
    """A PowerConfig that selects every node."""
    return PowerConfig(_meta(name, fields), **fields)


def reserved(cpus: str, uses: str | None = None) -> ReservedCpus:
    """An entry of reservedCPUs."""
    return ReservedCpus(tuple(sorted(parse_cpulist(cpus))), uses)


def _meta(name: str, fields: dict[str, Any]) -> Meta:
    known = {
        key: fields.pop(f"meta_{key}")
        for key in ("namespace", "created")
        if f"meta_{key}" in fields
    }
    return Meta(name, **known)


def container(
    name: str = "app",
    cpu: Quantity | tuple[Quantity | None, Quantity | None] | None = None,
    **fields: Any,
) -> Container:
    """A container with equal request and limit of cpu, unless both are given."""
    pair = cpu if isinstance(cpu, tuple) else (cpu, cpu)
    return Container(name, pair, (2**30, 2**30), **fields)


def asking(
    amount: Quantity = 2,
    uses: str = "performance",
    *,
    cpu: Quantity | None = None,
    group: str = OPENSHIFT_GROUP,
    name: str = "app",
    **fields: Any,
) -> Container:
    """A container that asks for a profile and, unless said otherwise, for as many CPUs."""
    return container(
        name, amount if cpu is None else cpu, resources=((f"{group}/{uses}", amount),), **fields
    )


def pod(
    *containers: Container, name: str = "web", namespace: str | None = "ns1", **fields: Any
) -> Pod:
    """A running pod of QoS Guaranteed that started at eight."""
    meta = Meta(
        name,
        namespace,
        uid=fields.pop("uid", f"uid-{name}"),
        created=fields.pop("created", moment(8)),
    )
    values = {
        "node": "node-1",
        "phase": "Running",
        "started": moment(8),
        "guaranteed": True,
        **fields,
    }
    return Pod(meta, containers or (asking(),), **values)


def policy_pod(name: str = "nri-resource-policy-balloons", **more: Any) -> Pod:
    """A pod as the chart of a policy makes it."""
    plain = pod(
        container(), name="policy", namespace="kube-system", uid="p1", guaranteed=False, **more
    )
    return evolve(plain, meta=evolve(plain.meta, labels={"app.kubernetes.io/name": name}))


def owns(
    cpus: str, name: str = "web", container_name: str = "app", namespace: str = "ns1"
) -> ContainerCpus:
    """What the kubelet reports of one container."""
    return ContainerCpus(namespace, name, container_name, parse_cpulist(cpus))


def allocation(
    pods: Iterable[Pod] = (), reported: Iterable[ContainerCpus] = (), **fields: Any
) -> Allocation:
    """The pods of a node and the kubelet's answer."""
    return Allocation(tuple(pods), tuple(reported), **fields)


def values(**shown: Any) -> Values:
    """Settings as a status has them."""
    return Values(**shown)


def intent(*objects: Any) -> Intent:
    """Objects of any kinds."""
    kinds: tuple[Any, ...] = (
        PowerProfile,
        PowerWorkload,
        PowerNodeConfig,
        Uncore,
        PowerConfig,
        PowerCap,
    )
    return Intent(*(tuple(obj for obj in objects if isinstance(obj, kind)) for kind in kinds))


def plan(
    *objects: Any,
    on: Machine | None = None,
    with_: Allocation | None = None,
    node: Node = NODE,
    at: datetime | None = None,
    signals: Signals | None = None,
) -> NodePlan:
    """The plan of a node from these objects."""
    return plan_node(
        intent(*objects),
        NodeInput(node, on or machine(), with_ or Allocation(), signals or Signals()),
        at,
    )


def on_cpu(found: NodePlan, cpu: int) -> CpuGroup:
    """The group of a CPU."""
    return group_of(found)[cpu]


def pools(found: NodePlan) -> dict[int, str]:
    """CPU → pool."""
    return {cpu: str(group.pool) for cpu, group in sorted(group_of(found).items())}


def profiles_of(found: NodePlan) -> dict[int, str | None]:
    """CPU → profile in force."""
    return {cpu: group.profile for cpu, group in sorted(group_of(found).items())}
