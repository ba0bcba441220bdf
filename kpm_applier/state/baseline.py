"""What was there before us: taken at first touch, and the machine as it would be without us."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import evolve

from kpm_applier.attributes import (
    ALONE,
    BOOST,
    DF_PSTATE,
    EPP,
    GOVERNOR,
    HSMP_ROOT,
    NO_TURBO,
    OF_DOMAINS,
    Group,
    Kind,
)
from kpm_applier.discovery.power import zone_uw
from kpm_applier.state.record import GroupState, State
from kpm_planner.caps.schedule import CapState
from kpm_planner.model.machine import (
    EPP_FOLLOWS,
    Cpu,
    CpufreqSettings,
    Fabric,
    FrequencyDomain,
    IdleState,
    Machine,
    PowerZone,
    UncoreEntry,
)
from kpm_planner.model.target import SHOWN

#: Baseline of a limit that equalled the hardware's: restored as whatever the hardware's is then.
HARDWARE_LIMIT = "hardware limit"


def new_group_state(
    group: Group, shown: Mapping[str, str], *, turbo_hides: bool = False
) -> GroupState:
    """The record of a group at first touch: its baseline is what its files show.

    turbo_hides: turbo is off because of us, so a limit at the top may be a higher one that cannot
    be seen: unknown (K24). So is one of a domain whose range could not be read.
    """
    baseline: list[str | None] = []
    of_domain = group.kind is Kind.CPUFREQ
    for item in group.files:
        text = shown.get(item.path)
        limit = {"min": 0, "max": 1}.get(item.attribute.limit)
        if of_domain and limit is not None and group.hardware is None:
            baseline.append(None)
            continue
        at_limit = (
            group.hardware is not None and limit is not None and text == group.hardware[limit]
        )
        hidden = (
            turbo_hides
            and of_domain
            and group.hardware is not None
            and limit is not None
            and text == group.hardware[1]
        )
        baseline.append(None if hidden else HARDWARE_LIMIT if at_limit else text)
    nothing = (None,) * len(group.files)
    return GroupState(group.driver, group.labels, tuple(baseline), nothing, nothing)


def turbo_hides(state: State) -> bool:
    """Whether turbo is off because of us."""
    off = {BOOST.file: "0", NO_TURBO.file: "1"}
    switches = (
        record for key, record in state.groups.items() if key.partition(":")[0] == Kind.BOOST
    )
    rows = (
        row
        for record in switches
        for row in zip(record.labels, record.baseline, record.requested, strict=True)
    )
    return any(
        asked == off.get(label) != before for label, before, asked in rows if asked is not None
    )


def supposed(
    group: Group, record: GroupState, asked: Sequence[str | None], shown: Mapping[str, str]
) -> GroupState:
    """A record for limits that are about to be written while turbo hides what they were: a maximum
    was most often no limit at all, a minimum is taken for what it shows.
    """
    baseline = tuple(
        (
            {"max": HARDWARE_LIMIT, "min": shown.get(item.path)}.get(item.attribute.limit)
            if base is None and text is not None
            else base
        )
        for item, base, text in zip(group.files, record.baseline, asked, strict=True)
    )
    return record if baseline == record.baseline else evolve(record, baseline=baseline)


def completed(
    group: Group, record: GroupState, shown: Mapping[str, str], *, turbo_hides: bool = False
) -> GroupState:
    """A record with the baseline of files that could not be known before and have not been written
    since.

    The EPP of a domain that had governor performance was performance, whatever its driver shows
    under ours.
    """
    fresh = new_group_state(group, shown, turbo_hides=turbo_hides).baseline
    if group.driver in EPP_FOLLOWS and record.of(GOVERNOR.file)[0] == "performance":
        rows = zip(group.files, fresh, strict=True)
        fresh = tuple("performance" if item.attribute is EPP else text for item, text in rows)
    baseline = tuple(
        new if known is None and asked is None else known
        for known, asked, new in zip(record.baseline, record.requested, fresh, strict=True)
    )
    return evolve(record, baseline=baseline)


def baseline_text(group: Group, state: GroupState, label: str) -> str | None:
    """The baseline of a file as a text to write now; None where it is not known."""
    text = state.of(label)[0]
    if text != HARDWARE_LIMIT:
        return text
    limit = next(item.attribute.limit for item in group.files if item.label == label)
    return None if group.hardware is None else group.hardware[limit == "max"]


def with_baseline(
    machine: Machine, groups: Iterable[Group], state: State, shown: Mapping[str, str]
) -> Machine:
    """The machine as it would be without us: owned groups hold their baseline, all others what
    their files show.
    """
    texts = {group.key: _texts(group, state.groups.get(group.key), shown) for group in groups}
    domains = tuple(
        _domain(item, texts[key]) if (key := f"cpufreq:{item.id}") in texts else item
        for item in machine.domains
    )
    uncore = tuple(
        _uncore(item, texts[key]) if (key := f"uncore:{item.name}") in texts else item
        for item in machine.uncore
    )
    idle: dict[tuple[object, ...], tuple[IdleState, ...]] = {}
    cpus = tuple(
        _cpu(item, texts[key], idle) if (key := f"idle:{item.id}") in texts else item
        for item in machine.cpus
    )
    cpus = tuple(_with_alone(item, texts) for item in cpus)
    zones = tuple(
        _zone(item, texts[key]) if (key := f"cap:{item.name}") in texts else item
        for item in machine.power_zones
    )
    fabrics = tuple(
        _fabric(item, texts[key]) if (key := f"fabric:{item.package}") in texts else item
        for item in machine.fabrics
    )
    without_us = evolve(
        machine,
        domains=domains,
        uncore=uncore,
        cpus=cpus,
        power_zones=zones,
        fabrics=fabrics,
        boost_before=_boost_before(state),
    )
    return machine if without_us == machine else without_us


def _boost_before(state: State) -> bool | None:
    """Whether turbo was on before us, where it is ours."""
    switches = [
        record for key, record in state.groups.items() if key.partition(":")[0] == Kind.BOOST
    ]
    known = [
        text == "1" if label == BOOST.file else text == "0"
        for record in switches
        for label, text in zip(record.labels, record.baseline, strict=True)
    ]
    return any(known) if known else None


def _texts(
    group: Group, owned: GroupState | None, shown: Mapping[str, str]
) -> dict[str, str | None]:
    if owned is None:
        return {item.label: shown.get(item.path) for item in group.files}
    return {item.label: baseline_text(group, owned, item.label) for item in group.files}


def _domain(domain: FrequencyDomain, texts: Mapping[str, str | None]) -> FrequencyDomain:
    settings = _settings(domain.settings, texts)
    return domain if settings == domain.settings else evolve(domain, settings=settings)


def _cpu(
    cpu: Cpu, texts: Mapping[str, str | None], seen: dict[tuple[object, ...], tuple[IdleState, ...]]
) -> Cpu:
    key = (cpu.idle, *texts.values())
    if key not in seen:
        seen[key] = tuple(
            evolve(state, enabled=texts.get(f"state{state.index}", "0") in ("0", None))
            for state in cpu.idle
        )
    return cpu if seen[key] == cpu.idle else evolve(cpu, idle=seen[key])


def _with_alone(cpu: Cpu, texts: Mapping[str, Mapping[str, str | None]]) -> Cpu:
    """A CPU with the baseline of what it has alone."""
    changed: dict[str, Any] = {}
    for item in ALONE:
        text = texts.get(f"{item.prefix}:{cpu.id}", {}).get(item.file)
        name = SHOWN[item.asks]
        if text and text != getattr(cpu, name):
            changed[name] = text
    return evolve(cpu, **changed) if changed else cpu


def _uncore(entry: UncoreEntry, texts: Mapping[str, str | None]) -> UncoreEntry:
    return evolve(
        entry,
        min_khz=_number(texts.get("min_freq_khz")),
        max_khz=_number(texts.get("max_freq_khz")),
    )


def _zone(zone: PowerZone, texts: Mapping[str, str | None]) -> PowerZone:
    limits = tuple(
        evolve(limit, limit_uw=zone_uw(zone, texts.get(limit.name))) for limit in zone.limits
    )
    return evolve(
        zone, limits=limits, enabled=None if zone.enabled is None else texts.get("enabled") == "1"
    )


def _fabric(fabric: Fabric, texts: Mapping[str, str | None]) -> Fabric:
    return evolve(fabric, pstates=texts.get("df_pstate") or fabric.pstates)


def _settings(found: CpufreqSettings, texts: Mapping[str, str | None]) -> CpufreqSettings:
    values: dict[str, Any] = {}
    for item in OF_DOMAINS:
        text, name = texts.get(item.file), SHOWN[item.asks]
        values[name] = _number(text) if item.limit else text
    if not values["epp"]:  # a driver forgets it and shows it again
        values["epp"] = found.epp
    return evolve(found, **values)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def asked_fabrics(state: State) -> dict[str, str]:
    """Path of each fabric's file → what it was last set to, which nothing reads back."""
    label = DF_PSTATE.file
    texts = {
        key: item.of(label)[2] or item.of(label)[1]
        for key, item in state.groups.items()
        if key.startswith(f"{Kind.FABRIC}:")
    }
    return {
        f"{HSMP_ROOT}/socket{key.partition(':')[2]}/{label}": text
        for key, text in texts.items()
        if text is not None
    }


def cap_in_force(
    shown: Machine, owned: Mapping[str, GroupState]
) -> tuple[CapState | None, dict[int, int]]:
    """The power that the packages are capped at by us, as their files show it, and its parts by
    package.

    Whose cap it was nobody knows any more. Of a zone the limit counts that was asked for, not one
    that is at baseline.
    """
    parts: dict[int, int] = {}
    for zone in shown.power_zones:
        record = owned.get(f"{Kind.CAP}:{zone.name}")
        if record is not None:
            known = {
                limit.name: limit.limit_uw for limit in zone.limits if limit.limit_uw is not None
            }
            asked = [
                uw
                for name, uw in known.items()
                if record.of(name)[1] not in (None, record.of(name)[0])
            ]
            uw = next(iter(asked or known.values()), None)
            if uw is not None:
                parts[zone.package] = parts.get(zone.package, 0) + uw
    return (CapState("", sum(parts.values())) if parts else None), parts
