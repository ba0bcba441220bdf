"""Generated objects of users, in view of a machine: their frequencies, idle states and dies are
mostly those it has.

`awkward` puts in what the planner has to refuse or to warn of: wrong texts, values out of range,
ends the wrong way round, profiles that do not exist, objects in a namespace that does not count.
Identities are unique as an API server keeps them: one object for a kind, API group, namespace and
name; an object without a namespace is in its group's own.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import product

from hypothesis import strategies as st

from kpm_planner.model.cap_objects import (
    CapEntry,
    CapSource,
    ConfigMapKey,
    ExternalCap,
    MarketCap,
    PowerCap,
    SolarCap,
    StaticCap,
)
from kpm_planner.model.cluster import (
    INTEL_GROUP,
    OPENSHIFT_GROUP,
    SYSTEM_NAMESPACE,
    LabelSelector,
    Meta,
    Node,
    NodeSelector,
    Requirement,
)
from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import (
    EPP_WORDS,
    AmdFabric,
    CStates,
    DieSelector,
    Intent,
    PowerConfig,
    PowerNodeConfig,
    PowerProfile,
    PowerWorkload,
    PStates,
    ReservedCpus,
    Uncore,
)
from kpm_planner.model.scaling_policy import CpuScalingPolicy
from tests.strategies.choices import often, pick

HOSTNAME = "kubernetes.io/hostname"
NODE = Node("node-1", {HOSTNAME: "node-1", "zone": "a", "feature": ""})
GROUPS = (OPENSHIFT_GROUP, INTEL_GROUP)
#: Names of generated profiles; "shared" is marked so, and "ghost" never exists.
PROFILE_NAMES = ("performance", "shared", "balanced", "power")
GHOST = "ghost"
CUSTOM_DEVICE = "example.com/isolated-cpu"
EPOCH = datetime(2026, 1, 31, 8, tzinfo=UTC)
#: Few points in time, so that objects are often of one age, and none, where it is not known.
TIMES = (None, EPOCH, EPOCH + timedelta(hours=1), EPOCH + timedelta(days=1))

Frequency = int | str | None

_PERCENTS = ("0%", "1%", "40%", "50%", "99%", "100%")
_BAD_FREQUENCIES: tuple[int | str, ...] = (
    0,
    -5,
    99_999,
    100_000,
    37_000_000,
    "101%",
    "-5%",
    "abc%",
    "",
    "40",
    "4 0%",
    "٤٠%",
)
_LABEL_KEYS, _LABEL_VALUES = ("zone", "feature", HOSTNAME), ("a", "b", "", "node-1")
_NAMES = ("a", "b", NODE.name)

#: Label maps, about half of which match NODE.
LABEL_MAPS: tuple[dict[str, str], ...] = (
    {},
    {"zone": "a"},
    {HOSTNAME: NODE.name},
    {"feature": "", "zone": "a"},
    {"zone": "b"},
    {"zone": "a", HOSTNAME: "node-2"},
    {"absent": ""},
)


def metas(name: str, group: str = OPENSHIFT_GROUP, *, awkward: bool = False) -> tuple[Meta, ...]:
    """Identities in the system's namespace, said or left out, of several ages."""
    spaces = (None, SYSTEM_NAMESPACE[group]) * 3 + (("default",) if awkward else ())
    return tuple(Meta(name, space, created=created) for created in TIMES for space in spaces)


def requirements(*, awkward: bool = False) -> tuple[Requirement, ...]:
    """Expressions of a label selector; awkward: with operators that do not exist, values missing or
    too many.
    """
    keys = (*_LABEL_KEYS, "absent")
    values = ((), *((value,) for value in _LABEL_VALUES), ("a", "b"))
    operators = ("In", "NotIn", "Exists", "DoesNotExist", *(("Gt", "") if awkward else ()))
    every = (Requirement(*parts) for parts in product(keys, operators, values))
    return tuple(
        item for item in every if awkward or (item.operator in ("In", "NotIn")) == bool(item.values)
    )


def draw_label_selector(draw: st.DrawFn, *, awkward: bool = False) -> LabelSelector:
    """Full label selectors of up to two labels and two expressions."""
    pool = requirements(awkward=awkward)
    labels, count, first, second = pick(draw, LABEL_MAPS, (0, 1, 2), pool, pool)
    return LabelSelector(labels, (first, second)[:count])


#: Left out, everything, and selectors of which most match NODE; the last ones are not valid.
NODE_SELECTORS: tuple[NodeSelector | None, ...] = (
    NodeSelector(LabelSelector({HOSTNAME: NODE.name})),
    NodeSelector(LabelSelector()),
    NodeSelector(
        LabelSelector(
            {}, (Requirement("zone", "In", ("a", "b")), Requirement("absent", "NotIn", ("a",)))
        )
    ),
    NodeSelector(LabelSelector({"zone": "b"})),
    NodeSelector(LabelSelector({}, (Requirement("feature", "DoesNotExist"),))),
    NodeSelector(),
    None,
)
_BAD_NODE_SELECTORS = (
    NodeSelector(LabelSelector({}, (Requirement("zone", "Gt", ("a",)),))),
    NodeSelector(
        LabelSelector({}, (Requirement("zone", "Exists", ("a",)), Requirement("zone", "NotIn")))
    ),
)
_POWER_NODE_SELECTORS: tuple[dict[str, str] | None, ...] = (
    *often({HOSTNAME: NODE.name}, {"zone": "a"}, {"zone": "b"}, {}, times=6),
    None,
)


def frequencies(machine: Machine) -> tuple[Frequency, ...]:
    """Frequencies as users write them, in the range of some core of the machine: MHz, kHz,
    percentages, words, left out.
    """
    ranges = sorted(
        {(domain.hardware_min_khz or 0, domain.limit_max_khz or 0) for domain in machine.domains}
    ) or [(800_000, 3_700_000)]
    low, high = min(first for first, _ in ranges), max(last for _, last in ranges)
    ends = {end for pair in ranges for end in pair} | {(low + high) // 2}
    megahertz = {-(-low // 1000), *(end // 1000 for end in ends if end // 1000 * 1000 >= low)}
    return (None, *_PERCENTS, "min", "base", "max", *sorted(megahertz), *sorted(ends))


def _kilohertz(value: int) -> int:
    return value * 1000 if value < 100_000 else value


def _may_pair(low: Frequency, high: Frequency) -> bool:
    """Whether two ends are in order on every core: both of one form, or one of them at the end of
    every range.
    """
    if low in (None, "0%", "min") or high in (None, "100%", "max"):
        return True
    if {low, high} & {"min", "base", "max"}:
        return low == high
    if isinstance(low, str) and isinstance(high, str):
        return int(low.removesuffix("%")) <= int(high.removesuffix("%"))
    return isinstance(low, int) and isinstance(high, int) and _kilohertz(low) <= _kilohertz(high)


def frequency_pairs(
    machine: Machine, *, awkward: bool = False
) -> tuple[tuple[Frequency, Frequency], ...]:
    """Minimum and maximum; unless awkward, such as no core minds."""
    values = frequencies(machine)
    pairs = [(low, high) for low in values for high in values if awkward or _may_pair(low, high)]
    return (
        (
            *pairs,
            *product(_BAD_FREQUENCIES, (None, "50%", 2000)),
            *product((None, "50%", 2000), _BAD_FREQUENCIES),
        )
        if awkward
        else tuple(pairs)
    )


def draw_pstates(draw: st.DrawFn, machine: Machine, *, awkward: bool = False) -> PStates:
    """P-states; unless awkward, the ends are in order, the governor exists and the EPP goes with
    it.
    """
    offered = sorted({governor for domain in machine.domains for governor in domain.governors}) or [
        "performance"
    ]
    governors = (None, None, *offered, *(("userspace", "schedutil", "turbo") if awkward else ()))
    epps = (None, *EPP_WORDS, *(("default", "128") if awkward else ()))
    biases = (None, None, None, "normal", 0, 15, *((16, -1, "low") if awkward else ()))
    (low, high), governor, epp, epb = pick(
        draw, frequency_pairs(machine, awkward=awkward), governors, epps, biases
    )
    if not awkward and governor == "performance" and epp:
        epp = "performance"
    return PStates(low, high, governor, epp, epb)


def cstates(machine: Machine, *, awkward: bool = False) -> tuple[CStates, ...]:
    """Nothing, some names of the machine, or a latency; awkward: foreign names, both forms, a
    latency below 0.
    """
    names = (*machine.idle_names, *(("C0", "C99", "c1") if awkward else ()))
    maps = [
        {},
        *({name: on} for name in names for on in (False, True)),
        dict.fromkeys(names, False),
        {name: index % 2 == 0 for index, name in enumerate(names)},
    ]
    found = [
        CStates(),
        CStates(),
        *(CStates(names=item) for item in maps),
        *(CStates(max_latency_us=limit) for limit in (0, 1, 2, 9, 10, 170, 10_000)),
    ]
    return (
        (*found, CStates({"C1": True}, 10), CStates(max_latency_us=-1)) if awkward else tuple(found)
    )


#: Scaling policies; all but the first two have something out of range.
SCALING_POLICIES = (
    CpuScalingPolicy("polling-dpdk"),
    CpuScalingPolicy("polling-dpdk", "20ms", "1s", 80, 5, 25, 50, 100),
    CpuScalingPolicy("polling-dpdk", target_usage=0),
    CpuScalingPolicy("polling-dpdk", sample_period="5ms"),
    CpuScalingPolicy(),
)


def draw_profile(
    draw: st.DrawFn,
    machine: Machine,
    name: str,
    group: str = OPENSHIFT_GROUP,
    *,
    awkward: bool = False,
) -> PowerProfile:
    """A profile, valid on the machine for the most part unless awkward."""
    amounts: tuple[int | str | None, ...] = (
        None,
        None,
        1,
        4,
        1000,
        "75%",
        "1%",
        *((0, -1, "0%", "110%", "many") if awkward else ()),
    )
    written = (None, name, *(("other",) if awkward else ()))
    selectors = (*often(None, *NODE_SELECTORS, times=14), *(_BAD_NODE_SELECTORS if awkward else ()))
    meta, said, capacity, selector, idle = pick(
        draw,
        metas(name, group, awkward=awkward),
        written,
        amounts,
        selectors,
        cstates(machine, awkward=awkward),
    )
    wanted = draw_pstates(draw, machine, awkward=awkward)
    policies = (None, *(SCALING_POLICIES if awkward else SCALING_POLICIES[:2]))
    policy = pick(draw, policies)[0] if wanted.governor == "userspace" else None
    return PowerProfile(
        meta, group, said, name == "shared", selector, wanted, idle, capacity, policy
    )


def _draw_reserved(
    draw: st.DrawFn, machine: Machine, *, awkward: bool = False
) -> tuple[ReservedCpus, ...]:
    """Up to two entries of up to three CPUs; awkward: with CPUs that do not exist and profiles that
    do not.
    """
    ids = (None, *machine.by_id, *((9_999,) if awkward else ()))
    names = ("performance", None, "balanced", *((GHOST, "shared") if awkward else ()))
    (count,) = pick(draw, (0, 1, 1, 2))
    drawn = [pick(draw, ids, ids, ids, names) for _ in range(count)]
    return tuple(
        ReservedCpus(tuple(dict.fromkeys(cpu for cpu in cpus if cpu is not None)), name)
        for *cpus, name in drawn
    )


def draw_workload(
    draw: st.DrawFn,
    machine: Machine,
    name: str,
    group: str = OPENSHIFT_GROUP,
    *,
    awkward: bool = False,
) -> PowerWorkload:
    """A PowerWorkload: a shared pool, reserved CPUs, or both."""
    wanted = often("shared", *PROFILE_NAMES, *((None, GHOST) if awkward else ()))
    meta, all_cores, selector, profile = pick(
        draw, metas(name, group, awkward=awkward), (True, False), _POWER_NODE_SELECTORS, wanted
    )
    return PowerWorkload(
        meta,
        group,
        None,
        all_cores,
        _draw_reserved(draw, machine, awkward=awkward),
        selector,
        profile,
    )


def draw_node_config(
    draw: st.DrawFn,
    machine: Machine,
    name: str,
    group: str = OPENSHIFT_GROUP,
    *,
    awkward: bool = False,
) -> PowerNodeConfig:
    """A PowerNodeConfig: a shared pool, reserved CPUs, turbo, or some of these."""
    selectors = (*NODE_SELECTORS, *NODE_SELECTORS[:3], *(_BAD_NODE_SELECTORS if awkward else ()))
    wanted = often("shared", None, *PROFILE_NAMES, *((GHOST,) if awkward else ()))
    meta, selector, profile, turbo = pick(
        draw,
        metas(name, group, awkward=awkward),
        selectors,
        wanted,
        often(None, True, False, times=2),
    )
    return PowerNodeConfig(
        meta, group, selector, profile, _draw_reserved(draw, machine, awkward=awkward), turbo
    )


def draw_uncore(
    draw: st.DrawFn,
    machine: Machine,
    name: str = NODE.name,
    group: str = OPENSHIFT_GROUP,
    *,
    awkward: bool = False,
) -> Uncore:
    """Uncore limits, for the dies and fabrics that the machine has; awkward: others, one end, ends
    the wrong way round or out of range.
    """
    low = min((entry.hardware_min_khz or 0 for entry in machine.uncore), default=800_000)
    high = max((entry.hardware_max_khz or 0 for entry in machine.uncore), default=2_400_000)
    pairs = _uncore_ends(low, high, awkward=awkward)
    places = sorted(
        {
            (entry.package or 0, entry.domain if entry.die is None else entry.die)
            for entry in machine.uncore
        },
        key=str,
    )
    chosen = [
        *places,
        *((package, None) for package in sorted({package for package, _ in places})),
        *(((None, None), (7, 0)) if awkward else ()),
    ]
    selectors = (None, *NODE_SELECTORS, *(_BAD_NODE_SELECTORS if awkward else ()))
    fabrics = _fabrics(machine, awkward=awkward)
    meta, selector, system, dies, amd = pick(
        draw,
        metas(name, group, awkward=awkward),
        selectors,
        ((None, None), *pairs),
        (0, 1, 2),
        fabrics,
    )
    named = [pick(draw, chosen, pairs) for _ in range(dies if chosen else 0)]
    if not awkward:
        named = list(dict(named).items())
    if not awkward and not named and amd is None and system == (None, None):
        system = pairs[0]  # one that asks for nothing is an error
    dies_of = tuple(DieSelector(package, die, *ends) for (package, die), ends in named)
    return Uncore(
        meta,
        group,
        sys_min=system[0],
        sys_max=system[1],
        die_selector=dies_of,
        node_selector=selector,
        amd=amd,
    )


def _fabrics(machine: Machine, *, awkward: bool) -> tuple[AmdFabric | None, ...]:
    """Nothing, or P-states of fabrics that the machine has: fixed ones, and ranges where its
    firmware knows them.
    """
    odd = (
        AmdFabric(3, None),
        AmdFabric(None, 0),
        AmdFabric(0, 2),
        AmdFabric(4, 0),
        AmdFabric(2, -1),
        AmdFabric(1, 1, 7),
        AmdFabric(2, 0),
        AmdFabric(1, 1),
    )
    packages = (None, *(fabric.package for fabric in machine.fabrics))
    ranges = all(fabric.protocol in (5, 7) for fabric in machine.fabrics)
    pairs = [
        (slow, fast) for slow in range(4) for fast in range(slow + 1) if ranges or slow == fast
    ]
    right = (
        tuple(AmdFabric(*pair, package) for pair in pairs for package in packages)
        if machine.fabrics
        else ()
    )
    return (*[None] * max(len(right) // 2, 3), *right, *(odd if awkward else ()))


def _uncore_ends(low: int, high: int, *, awkward: bool) -> tuple[tuple[Frequency, Frequency], ...]:
    inside = sorted({low, min(low + 150_000, high), (low + high) // 2, high})
    pairs: list[tuple[Frequency, Frequency]] = [
        *((first, last) for first in inside for last in inside if first <= last),
        ("min", "max"),
    ]
    odd: Sequence[tuple[Frequency, Frequency]] = (
        ("max", "min"),
        ("base", "max"),
        (None, high),
        (low, None),
        (high, low - 1),
        (low - 1, high),
        (low, high + 100_000),
        (-100_000, 0),
        (None, None),
    )
    return (*pairs, *odd) if awkward else tuple(pairs)


#: Time zones whose clocks are turned: by an hour, by half an hour, in the other half of the year,
#: around Ramadan, by a whole day once.
TIME_ZONES = (
    "Europe/Paris",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Pacific/Apia",
)
_ZONES = (None, "UTC", *TIME_ZONES)
_OFFICE = (
    CapEntry("07:30", ("Mon", "Tue", "Wed", "Thu", "Fri"), watts=300),
    CapEntry("19:00", watts=120),
    CapEntry("00:00", ("Sun",), watts=90),
)
_NIGHT = (
    CapEntry("01:45", watts=80),
    CapEntry("02:30", watts=150),
    CapEntry("03:00", watts=200),
    CapEntry("23:59", watts=250),
)
_CONFIG_MAP = ExternalCap(ConfigMapKey("grid", "watts"))
#: Kind → sources.
CAP_SOURCES: dict[str, tuple[CapSource, ...]] = {
    "static": tuple(CapSource(static=StaticCap(watts)) for watts in (150, 1, 95, 5000)),
    "schedule": tuple(
        CapSource(schedule=entries, time_zone=zone)
        for entries in (_OFFICE, _NIGHT, (CapEntry("12:00", ("Wed",), watts=100),))
        for zone in _ZONES
    ),
    "percent": tuple(
        CapSource(
            schedule=(
                CapEntry("06:00", percent=100),
                CapEntry("22:00", percent=40),
                CapEntry("02:15", percent=1),
            ),
            time_zone=zone,
        )
        for zone in _ZONES
    ),
    "solar": tuple(
        CapSource(solar=solar, time_zone=zone)
        for solar in (SolarCap(400), SolarCap(350, "06:00", "18:30", 1))
        for zone in _ZONES
    ),
    "market": tuple(
        CapSource(market=MarketCap(300, volumes), time_zone=zone)
        for volumes in ((7,), (184, 1206, 0, 655), tuple(range(96)))
        for zone in _ZONES
    ),
    "external": (
        CapSource(external=_CONFIG_MAP),
        CapSource(
            external=ExternalCap(
                url="https://grid.example.com/watts", max_age="1m", fallback_watts=110
            )
        ),
    ),
}
#: Kind → sources of which each is refused for one reason.
BAD_CAP_SOURCES: dict[str, tuple[CapSource, ...]] = {
    "number": (CapSource(), CapSource(static=StaticCap(100), solar=SolarCap(100))),
    "static": tuple(CapSource(static=StaticCap(watts)) for watts in (None, 0)),
    "time": tuple(
        CapSource(schedule=(CapEntry(time, watts=100),))
        for time in ("25:10:30", "24:00", "8:30", "12:60", "")
    ),
    "schedule": (
        CapSource(schedule=(CapEntry("08:00", ("Someday",), watts=100),)),
        CapSource(schedule=(CapEntry("08:00", watts=100), CapEntry("08:00", ("Tue",), watts=90))),
        *(
            CapSource(schedule=(CapEntry("08:00", watts=watts, percent=percent),))
            for watts, percent in ((None, None), (100, 50), (0, None), (None, 0), (None, 101))
        ),
    ),
    "solar": tuple(
        CapSource(solar=solar)
        for solar in (
            SolarCap(),
            SolarCap(100, "25:00"),
            SolarCap(100, "20:00", "04:00"),
            SolarCap(100, exponent=0),
        )
    ),
    "market": tuple(
        CapSource(market=market)
        for market in (
            MarketCap(None, (1,)),
            MarketCap(100),
            MarketCap(100, (0, 0)),
            MarketCap(100, (1, -1)),
        )
    ),
    "external": tuple(
        CapSource(external=source)
        for source in (
            ExternalCap(),
            ExternalCap(ConfigMapKey("grid"), max_age="soon"),
            ExternalCap(url="file:///etc/passwd", fallback_watts=0),
        )
    ),
    "zone": tuple(
        CapSource(solar=SolarCap(200), time_zone=zone)
        for zone in ("Mars/Olympus_Mons", "", "../../etc/passwd")
    ),
}
#: minWatts, maxWatts, maxStepWatts; the first ones are in order.
_BOUNDS = ((None, None, None), (40, 400, 25), (None, 250, None), (90, None, 1), (None, 300, 100))
_BAD_BOUNDS = ((200, 100, None), (0, None, None), (None, -5, None), (None, None, 0))
#: divide, per, constraint, period.
_CAP_WORDS = (
    (None, "equal", "demand"),
    (None, "node", "package"),
    (None, "long_term", "short_term", "all"),
    (None, "60s", "5s", "1h", "10m"),
)
_BAD_CAP_WORDS = (
    ("fair",),
    (None, "rack"),
    (None, "peak_power"),
    (None, "1s", "2h", "60", "500ms"),
)


def draw_power_cap(
    draw: st.DrawFn,
    machine: Machine,
    name: str,
    group: str = OPENSHIFT_GROUP,
    *,
    awkward: bool = False,
) -> PowerCap:
    """A PowerCap of any source; percentages where something says what 100% is. awkward: a source,
    bounds or words that are refused.
    """
    selectors = (*often(*NODE_SELECTORS, times=8), *(_BAD_NODE_SELECTORS if awkward else ()))
    meta, selector, odd = pick(
        draw,
        metas(name, group, awkward=awkward),
        selectors,
        often("", "source", "bounds", "words", times=4) if awkward else ("",),
    )
    sources, bounds = (
        (BAD_CAP_SOURCES if odd == "source" else CAP_SOURCES),
        (_BAD_BOUNDS if odd == "bounds" else _BOUNDS),
    )
    kind, number, (least, most, step), *words = pick(
        draw, tuple(sources), range(24), bounds, *(_BAD_CAP_WORDS if odd == "words" else _CAP_WORDS)
    )
    source = sources[kind][number % len(sources[kind])]
    known = all(
        any(limit.max_uw and limit.name != "short_term" for limit in zone.limits)
        for zone in machine.power_zones
    )
    if (
        not awkward
        and not known
        and most is None
        and any(entry.percent is not None for entry in source.schedule)
    ):
        most = 350
    return PowerCap(meta, group, selector, source, least, most, step, *words)


def draw_config(
    draw: st.DrawFn,
    name: str = "power-config",
    group: str = OPENSHIFT_GROUP,
    *,
    awkward: bool = False,
) -> PowerConfig:
    """A PowerConfig that selects NODE, or, awkward, perhaps another one."""
    selectors = (None, {}, {"zone": "a"}, *(({"zone": "b"},) if awkward else ()))
    devices = ((), (CUSTOM_DEVICE,), ("example.com/other", CUSTOM_DEVICE))
    meta, selector, custom = pick(draw, metas(name, group, awkward=awkward), selectors, devices)
    return PowerConfig(meta, group, selector, custom)


def draw_intent(draw: st.DrawFn, machine: Machine, *, awkward: bool = False) -> Intent:
    """All objects of a small cluster, written for one machine.

    Names repeat across kinds and API groups, never within.
    """
    groups = often(OPENSHIFT_GROUP, INTEL_GROUP)
    faults = often(0, 1, 2, 4, 8, 10, 15, times=4)
    group, kept, twice, wrong, configured = pick(
        draw,
        groups,
        often(4, 3, 2, 1, 0, times=6),
        often(False, True, times=5),
        faults,
        often(0, 1, 2, times=2),
    )
    found = [
        draw_profile(draw, machine, name, group, awkward=awkward and bool(wrong >> index & 1))
        for index, name in enumerate(PROFILE_NAMES[:kept])
    ]
    if awkward and twice:
        found.append(
            draw_profile(draw, machine, "power", next(item for item in GROUPS if item != group))
        )
    identities = tuple(
        (name, item) for item in (GROUPS if awkward else (group,)) for name in _NAMES
    )
    numbers = pick(draw, (1, 1, 2, 0), (0, 1, 2), (1, 0, 2), (1, 0, 2))
    chosen = [pick(draw, identities, identities) for _ in numbers]
    several = [
        tuple(dict.fromkeys(pair))[:number] for pair, number in zip(chosen, numbers, strict=True)
    ]
    return Intent(
        profiles=tuple(found),
        workloads=tuple(
            draw_workload(draw, machine, *identity, awkward=awkward) for identity in several[0]
        ),
        node_configs=tuple(
            draw_node_config(draw, machine, *identity, awkward=awkward) for identity in several[1]
        ),
        uncores=tuple(
            draw_uncore(draw, machine, *identity, awkward=awkward) for identity in several[2]
        ),
        configs=tuple(
            draw_config(draw, name, group, awkward=awkward)
            for name in ("power-config", "a")[:configured]
        ),
        caps=tuple(
            draw_power_cap(draw, machine, *identity, awkward=awkward and bool(wrong))
            for identity in several[3]
        ),
    )


label_selectors = st.composite(draw_label_selector)
pstates = st.composite(draw_pstates)
profiles = st.composite(draw_profile)
workloads = st.composite(draw_workload)
node_configs = st.composite(draw_node_config)
uncores = st.composite(draw_uncore)
power_caps = st.composite(draw_power_cap)
configs = st.composite(draw_config)
intents = st.composite(draw_intent)
