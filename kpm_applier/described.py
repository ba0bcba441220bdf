"""A described machine as discovery would have found it: groups of files, and what they hold; and
what one plan would write where another is in force (pure).

A machine that was published or recorded holds as its settings what its files held before this
system. So two plans of it can be compared file by file as `kpm diff` does on the machine itself,
without being there. What cannot be known from afar: values that the kernel rounds, and what others
have changed since.
"""

from collections.abc import Iterator, Mapping, Sequence

from attrs import frozen

from kpm_applier import attributes as table
from kpm_applier.attributes import ALONE, CPU_ROOT, OF_DOMAINS, Group, Kind, ManagedFile
from kpm_applier.diff import diff
from kpm_applier.discovery.cpufreq import SWITCHES, boost_group, domain_group
from kpm_applier.discovery.idle import alone_group, idle_group
from kpm_applier.discovery.power import fabric_group, zone_group, zone_text
from kpm_applier.discovery.uncore import uncore_group
from kpm_applier.state.record import GroupState, State, kind_and_number
from kpm_applier.wants import wanted
from kpm_planner.model.changes import Observed, Write
from kpm_planner.model.machine import Cpu, FrequencyDomain, Machine, PowerZone
from kpm_planner.model.target import SHOWN
from kpm_planner.plan import NodePlan

#: Kinds of groups that are one CPU's.
_OF_ONE_CPU = frozenset({Kind.IDLE, *(row.prefix for row in ALONE)})
_NO_TURBO_DRIVERS = frozenset({"intel_pstate", "intel_cpufreq"})


@frozen
class Described:
    """A machine, its groups, and what their files hold."""

    machine: Machine
    groups: tuple[Group, ...]
    observed: Observed


def describe(machine: Machine) -> Described:
    """The groups of a machine, in the order in which they are set."""
    pairs = [
        *_boost(machine),
        *(pair for domain in machine.domains for pair in _domain(machine, domain)),
        *(pair for cpu in machine.cpus for pair in _alone(machine, cpu)),
        *((uncore_group(item), _ends(item.min_khz, item.max_khz)) for item in machine.uncore),
        *(_zone(item) for item in machine.power_zones),
        *((fabric_group(item.package), (item.pstates,)) for item in machine.fabrics),
    ]
    values = {
        path: text
        for group, texts in pairs
        for path, text in zip(group.paths, texts, strict=True)
        if text is not None
    }
    return Described(machine, tuple(group for group, _ in pairs), Observed(values))


def between(found: Described, before: NodePlan, after: NodePlan) -> tuple[Write, ...]:
    """The writes of the second plan where the first one is in force and nobody else writes."""
    machine, groups = found.machine, found.groups
    values, records = dict(found.observed.values), dict[str, GroupState]()
    for want in wanted(before, machine, groups, found.observed, State()):
        texts = dict(zip(want.group.paths, want.values, strict=True))
        values |= {path: text for path, text in texts.items() if text is not None}
        record = want.record
        records[want.group.key] = GroupState(
            record.driver, record.labels, record.baseline, want.values, settled=want.values
        )
    now = Observed(values)
    return diff(wanted(after, machine, groups, now, State(records)), now)


def cpus_of(write: Write, machine: Machine) -> Sequence[int]:
    """The CPUs that a write is about; none for what is no CPU's."""
    kind, number = kind_and_number(write.group)
    if number is None:
        return ()
    if kind == Kind.CPUFREQ:
        domain = machine.domain_by_id.get(number)
        return () if domain is None else domain.cpus
    return (number,) if kind in _OF_ONE_CPU else ()


_Pairs = Iterator[tuple[Group, Sequence[str | None]]]


def _boost(machine: Machine) -> _Pairs:
    if machine.boost is not None:
        intel = any(item.driver in _NO_TURBO_DRIVERS for item in machine.domains)
        folder, attribute = next(pair for pair in SWITCHES if (pair[1] is table.NO_TURBO) is intel)
        on = machine.boost is (attribute is table.BOOST)
        yield boost_group(attribute, f"{folder}/{attribute.file}"), ("1" if on else "0",)


def _domain(machine: Machine, domain: FrequencyDomain) -> _Pairs:
    if not domain.driver or not machine.online.intersection(domain.cpus):
        return
    folder = f"{CPU_ROOT}/cpufreq/policy{domain.id}"
    has_epp = domain.settings.epp is not None
    group = domain_group(domain, folder, machine.online, has_epp=has_epp)
    texts = {
        row.file: _text(getattr(domain.settings, SHOWN[row.asks])) for row in OF_DOMAINS if row.asks
    }
    yield group, _in_step(group.files, texts)


def _alone(machine: Machine, cpu: Cpu) -> _Pairs:
    if cpu.idle:
        group = idle_group(cpu.id, cpu.idle, machine.idle_driver or "", online=cpu.online)
        yield group, ["0" if state.enabled else "1" for state in cpu.idle]
    for row in ALONE:
        text = getattr(cpu, SHOWN[row.asks])
        if text is not None:
            yield alone_group(cpu.id, row, online=cpu.online), (str(text),)


def _zone(zone: PowerZone) -> tuple[Group, Sequence[str | None]]:
    group = zone_group(zone, switch=zone.enabled is not None)
    limits = {
        item.name: None if item.limit_uw is None else zone_text(zone, item.limit_uw)
        for item in zone.limits
    }
    switch = {table.CAP_ENABLED.file: "1" if zone.enabled else "0"}
    return group, _in_step(group.files, limits | switch)


def _in_step(files: Sequence[ManagedFile], texts: Mapping[str, str | None]) -> list[str | None]:
    """The texts of files, by their labels."""
    return [texts.get(item.label) for item in files]


def _ends(low: int | None, high: int | None) -> tuple[str | None, str | None]:
    return _text(low), _text(high)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
