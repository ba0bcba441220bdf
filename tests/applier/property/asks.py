"""Plans by chance for a machine, consistent in themselves as the planner's are."""

from collections.abc import Sequence

from attrs import evolve, frozen
from hypothesis import strategies as st

from kpm_planner.caps.zones import CapTarget
from kpm_planner.fabric import FabricTarget
from kpm_planner.model.machine import Fabric, FrequencyDomain, Machine, PowerZone, UncoreEntry
from kpm_planner.model.target import BASELINE, Target
from kpm_planner.plan import NodePlan
from kpm_planner.uncore import UncoreTarget
from tests.applier import rig
from tests.strategies.machines import TESTED, UNTRIED, machines

EPP_WORDS = rig.EPP_WORDS
#: Scaling drivers under which governor performance leaves room for no other EPP (kernel fact K9).
_EPP_FOLLOWS = ("intel_pstate", "amd-pstate-epp")
_WATT, _EIGHTH = 1_000_000, 125_000
_PSTATES = (None, "0", "2", "2 0", "1 0")


@frozen
class _Ask:
    """What some CPUs are asked for, in terms that every machine understands: percent of the range,
    places in lists.
    """

    ends: tuple[int, int]
    has_ends: tuple[bool, bool]
    governor: int
    epp: int
    idle: int


_PERCENT = st.sampled_from((0, 10, 35, 50, 51, 90, 100))
_ASKS = st.builds(
    _Ask,
    st.tuples(_PERCENT, _PERCENT).map(lambda ends: (min(ends), max(ends))),
    st.sampled_from(((True, True), (False, False), (True, False), (False, True))),
    st.integers(0, 6),
    st.integers(0, 4),
    st.integers(0, 3**4 - 1),
)


def small_machines(*, most_cpus: int = 5) -> st.SearchStrategy[Machine]:
    """Machines of managed drivers that can be shown whole in a failure."""
    return machines(drivers=(*TESTED, *UNTRIED), most_cpus=most_cpus).map(_as_read)


def _as_read(machine: Machine) -> Machine:
    """The machine less what no file of it says."""
    domains = tuple(
        evolve(item, limit_max_khz=_limit(item), epps=_epps(item)) for item in machine.domains
    )
    zones = tuple(evolve(zone, mirror_uw=None) for zone in machine.power_zones)
    return evolve(machine, architecture=None, domains=domains, power_zones=zones, fabric_fault="")


def _limit(domain: FrequencyDomain) -> int | None:
    """The boosted maximum, where a file names it."""
    return (
        domain.limit_max_khz if str(domain.driver).startswith("amd-") else domain.hardware_max_khz
    )


def _epps(domain: FrequencyDomain) -> tuple[str, ...]:
    """What the kernel lists (K9)."""
    return (
        ("performance",)
        if domain.epps
        and (domain.driver, domain.settings.governor) == ("amd-pstate-epp", "performance")
        else domain.epps
    )


@st.composite
def plans(draw: st.DrawFn, machine: Machine, *, whole: bool = False) -> NodePlan:
    """A plan: up to three kinds of ask, spread over the domains; some domains and entries are not
    asked for anything.

    whole: what is asked for does not hang on what the machine holds: both ends or none, no EPP
    without governor.
    """
    asks: Sequence[_Ask | None] = [None, *draw(st.lists(_ASKS, min_size=1, max_size=3))]
    frequency = {
        item.id: _frequency(item, asks[draw(st.integers(0, len(asks) - 1))], whole=whole)
        for item in machine.domains
    }
    targets = {}
    for cpu in machine.cpus:
        ask = asks[draw(st.integers(0, len(asks) - 1))]
        base = BASELINE if cpu.domain is None else frequency.get(cpu.domain, BASELINE)
        names = [state.name for state in cpu.idle]
        targets[cpu.id] = evolve(
            base,
            idle=(
                ()
                if ask is None
                else tuple((name, way == 1) for name, way in _ways(names, ask.idle) if way)
            ),
        )
    uncore = [_uncore(entry, asks[draw(st.integers(0, len(asks) - 1))]) for entry in machine.uncore]
    caps = [
        _cap(zone, asks[draw(st.integers(0, len(asks) - 1))], whole=whole)
        for zone in machine.power_zones
    ]
    fabrics = [
        _fabric(fabric, asks[draw(st.integers(0, len(asks) - 1))]) for fabric in machine.fabrics
    ]
    return rig.plan(machine, targets, uncore=uncore, caps=caps, fabrics=fabrics)


def _ways(names: Sequence[str], code: int) -> list[tuple[str, int]]:
    """Each name with 0 (not named), 1 (on) or 2 (off)."""
    return [(name, code // 3**place % 3) for place, name in enumerate(names)]


def _frequency(domain: FrequencyDomain, ask: _Ask | None, *, whole: bool) -> Target:
    if ask is None:
        return BASELINE
    settings = domain.settings
    low, high = domain.hardware_min_khz or 0, domain.hardware_max_khz or 0
    ends = [low + (high - low) * percent // 100 for percent in ask.ends]
    minimum, maximum = (khz if has else None for khz, has in zip(ends, ask.has_ends, strict=True))
    if whole:
        minimum, maximum = (ends[0], ends[1]) if any(ask.has_ends) else (None, None)
    if minimum is not None and maximum is None:
        minimum = min(minimum, settings.max_khz or high)
    if maximum is not None and minimum is None:
        maximum = max(maximum, settings.min_khz or low)
    governor = ([None, *domain.governors])[ask.governor % (len(domain.governors) + 1)]
    epp = None
    if settings.epp is not None and (governor is not None or not whole):
        epp = ([None, *EPP_WORDS])[ask.epp]
        if (governor or settings.governor) == "performance" and domain.driver in _EPP_FOLLOWS:
            epp = "performance"
    return Target(minimum, maximum, governor, epp)


def _uncore(entry: UncoreEntry, ask: _Ask | None) -> UncoreTarget:
    if ask is None:
        return UncoreTarget(entry)
    low, high = entry.hardware_min_khz or 0, entry.hardware_max_khz or 0
    ends = [(low + (high - low) * percent // 100) // 100_000 * 100_000 for percent in ask.ends]
    return UncoreTarget(entry, max(ends[0], low), max(ends[1], low))


def _cap(zone: PowerZone, ask: _Ask | None, *, whole: bool) -> CapTarget:
    """Limits between 10 W and what the zone has, in the register's eighths of a watt; short not
    below long, whichever is asked for.
    """
    if ask is None:
        return CapTarget(zone, (None,) * len(zone.limits))
    long = zone.limits[0].limit_uw or 0
    ends = [
        (10 * _WATT + (long - 10 * _WATT) * percent // 100) // _EIGHTH * _EIGHTH
        for percent in ask.ends
    ]
    if len(zone.limits) == 1:
        return CapTarget(zone, (ends[1],))
    has_long, has_short = (any(ask.has_ends),) * 2 if whole else ask.has_ends
    short = ends[1] if has_long else long + ends[1]
    return CapTarget(zone, (ends[0] if has_long else None, short if has_short else None))


def _fabric(fabric: Fabric, ask: _Ask | None) -> FabricTarget:
    return FabricTarget(fabric, None if ask is None else _PSTATES[ask.epp])


@st.composite
def cases(
    draw: st.DrawFn, count: int = 1, *, most_cpus: int = 5, whole: bool = False
) -> tuple[Machine, tuple[NodePlan, ...]]:
    """A machine and plans for it."""
    machine = draw(small_machines(most_cpus=most_cpus))
    return machine, tuple(draw(plans(machine, whole=whole)) for _ in range(count))


@st.composite
def limits(draw: st.DrawFn, domains: Sequence[FrequencyDomain]) -> tuple[int, int | None]:
    """One of the domains and how far somebody else limits it; None for no limit."""
    domain = draw(st.sampled_from(domains))
    low, high = domain.hardware_min_khz or 0, domain.hardware_max_khz or 0
    return domain.id, draw(st.none() | st.integers(low, high))
