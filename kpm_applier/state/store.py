"""What was there before us, what we asked for and where it settled: the state file (rules A3, A6,
A7).

One file for each root, private, written whole with fsync and rename, before the first write to a
group. Groups with equal records are stored once, so that a person can read it.
"""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

from attrs import evolve, field, frozen

from kpm_applier.attributes import (
    BOOST,
    DF_PSTATE,
    HSMP_ROOT,
    NO_TURBO,
    RESUME_LATENCY,
    Group,
    Kind,
)
from kpm_applier.discovery.power import zone_uw
from kpm_applier.state.files import read_plain, write_durably
from kpm_planner.caps.schedule import CapState
from kpm_planner.model.cpuset import format_cpulist, parse_cpulist
from kpm_planner.model.machine import (
    Cpu,
    CpufreqSettings,
    Fabric,
    FrequencyDomain,
    IdleState,
    Machine,
    PowerZone,
    UncoreEntry,
)

VERSION = 1
#: Baseline of a limit that equalled the hardware's: restored as whatever the hardware's is then.
HARDWARE_LIMIT = "hardware limit"
#: Settled value of a request from before its write until it has been verified. Whoever finds it
#: makes the write again whatever the file shows: a crash may have come before it, and what is shown
#: may be late news (K2).
IN_DOUBT = ""
_LONGEST_TEXT = 4096
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class StateError(Exception):
    """The state cannot be used; nothing may be written to the tree.

    The text says why and what to do.
    """


@frozen(cache_hash=True)
class GroupState:
    """An owned group. labels name its files; the tuples run in step with them.

    baseline: what each file held before our first write; requested: what we last asked for, None
    for nothing yet; settled: what it showed when it had settled, None where that is not known,
    IN_DOUBT from before the write until then.
    """

    driver: str
    labels: tuple[str, ...]
    baseline: tuple[str | None, ...]
    requested: tuple[str | None, ...]
    settled: tuple[str | None, ...]

    def of(self, label: str) -> tuple[str | None, str | None, str | None]:
        """Baseline, request and settled value of one file; all None where it is not known."""
        if label not in self.labels:
            return None, None, None
        index = self.labels.index(label)
        return self.baseline[index], self.requested[index], self.settled[index]


@frozen
class State:
    """All owned groups by key."""

    groups: Mapping[str, GroupState] = field(factory=dict, hash=False)
    boot_id: str | None = None


def new_group_state(
    group: Group, shown: Mapping[str, str], *, turbo_hides: bool = False
) -> GroupState:
    """The record of a group at first touch: its baseline is what its files show.

    turbo_hides: turbo is off because of us, so a limit at the top may be a higher one that cannot
    be seen: unknown (K24).
    """
    baseline = []
    for item in group.files:
        text = shown.get(item.path)
        limit = {"min": 0, "max": 1}.get(item.attribute.limit)
        at_limit = (
            group.hardware is not None and limit is not None and text == group.hardware[limit]
        )
        hidden = (
            turbo_hides
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


def supposed(group: Group, record: GroupState, asked: Sequence[str | None]) -> GroupState:
    """A record for maxima that are about to be written while turbo hides what they were: most
    often, no limit at all.
    """
    rows = zip(group.files, record.baseline, asked, strict=True)
    baseline = tuple(
        (
            HARDWARE_LIMIT
            if base is None and text is not None and item.attribute.limit == "max"
            else base
        )
        for item, base, text in rows
    )
    return record if baseline == record.baseline else evolve(record, baseline=baseline)


def completed(
    group: Group, record: GroupState, shown: Mapping[str, str], *, turbo_hides: bool = False
) -> GroupState:
    """A record with the baseline of files that could not be known before and have not been written
    since.
    """
    fresh = new_group_state(group, shown, turbo_hides=turbo_hides).baseline
    baseline = tuple(
        new if known is None and asked is None else known
        for known, asked, new in zip(record.baseline, record.requested, fresh, strict=True)
    )
    return evolve(record, baseline=baseline)


def aligned(group: Group, record: GroupState) -> GroupState:
    """A record in step with a group whose files are not those it was made for; what it does not
    know is None.
    """
    columns = zip(*(record.of(label) for label in group.labels), strict=True)
    return GroupState(record.driver, group.labels, *columns)


def whole(record: GroupState, before: GroupState | None) -> GroupState:
    """A record with what the one before it knows of files that were not found this time: what
    cannot be read is not gone (R7).
    """
    if before is None or before.labels == record.labels:
        return record
    missing = tuple(label for label in before.labels if label not in record.labels)
    return extended(record, before, missing) if missing else record


def extended(record: GroupState | None, before: GroupState, labels: tuple[str, ...]) -> GroupState:
    """A record, none for an empty one, with these files of another one."""
    columns = tuple(zip(*(before.of(label) for label in labels), strict=True))
    if record is None:
        return GroupState(before.driver, labels, *columns)
    joined = (
        (*own, *more)
        for own, more in zip(
            (record.baseline, record.requested, record.settled), columns, strict=True
        )
    )
    return GroupState(record.driver, (*record.labels, *labels), *joined)


def incomplete(state: State, groups: Iterable[Group], machine: Machine) -> bool:
    """Whether something that is ours was not found, other than for a CPU that is offline: it is
    worth looking again.
    """
    found = {group.key: group for group in groups}
    for key, record in state.groups.items():
        group = found.get(key)
        if group is None:
            kind, number = _parts(key)
            if not (
                kind in (Kind.CPUFREQ, Kind.IDLE, Kind.LATENCY) and number not in machine.online
            ):
                return True
        elif group.labels != record.labels and not set(record.labels) <= set(group.labels):
            return True
    return False


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
    held = {group.key: _held(group, state.groups.get(group.key), shown) for group in groups}
    domains = tuple(
        _domain(item, held[key]) if (key := f"cpufreq:{item.id}") in held else item
        for item in machine.domains
    )
    uncore = tuple(
        _uncore(item, held[key]) if (key := f"uncore:{item.name}") in held else item
        for item in machine.uncore
    )
    idle: dict[tuple[object, ...], tuple[IdleState, ...]] = {}
    cpus = tuple(
        _cpu(item, held[key], idle) if (key := f"idle:{item.id}") in held else item
        for item in machine.cpus
    )
    cpus = tuple(
        _limited(item, held[key]) if (key := f"latency:{item.id}") in held else item
        for item in cpus
    )
    zones = tuple(
        _zone(item, held[key]) if (key := f"cap:{item.name}") in held else item
        for item in machine.power_zones
    )
    fabrics = tuple(
        _fabric(item, held[key]) if (key := f"fabric:{item.package}") in held else item
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


def _held(
    group: Group, owned: GroupState | None, shown: Mapping[str, str]
) -> dict[str, str | None]:
    if owned is None:
        return {item.label: shown.get(item.path) for item in group.files}
    return {item.label: baseline_text(group, owned, item.label) for item in group.files}


def _domain(domain: FrequencyDomain, held: Mapping[str, str | None]) -> FrequencyDomain:
    settings = _settings(domain.settings, held)
    return domain if settings == domain.settings else evolve(domain, settings=settings)


def _cpu(
    cpu: Cpu, held: Mapping[str, str | None], seen: dict[tuple[object, ...], tuple[IdleState, ...]]
) -> Cpu:
    key = (cpu.idle, *held.values())
    if key not in seen:
        seen[key] = tuple(
            evolve(state, enabled=held.get(f"state{state.index}", "0") in ("0", None))
            for state in cpu.idle
        )
    return cpu if seen[key] == cpu.idle else evolve(cpu, idle=seen[key])


def _limited(cpu: Cpu, held: Mapping[str, str | None]) -> Cpu:
    latency = held.get(RESUME_LATENCY.file) or cpu.resume_latency
    return cpu if latency == cpu.resume_latency else evolve(cpu, resume_latency=latency)


def _uncore(entry: UncoreEntry, held: Mapping[str, str | None]) -> UncoreEntry:
    return evolve(
        entry, min_khz=_number(held.get("min_freq_khz")), max_khz=_number(held.get("max_freq_khz"))
    )


def _zone(zone: PowerZone, held: Mapping[str, str | None]) -> PowerZone:
    limits = tuple(
        evolve(limit, limit_uw=zone_uw(zone, held.get(limit.name))) for limit in zone.limits
    )
    return evolve(
        zone, limits=limits, enabled=None if zone.enabled is None else held.get("enabled") == "1"
    )


def _fabric(fabric: Fabric, held: Mapping[str, str | None]) -> Fabric:
    return evolve(fabric, pstates=held.get("df_pstate") or fabric.pstates)


def _settings(found: CpufreqSettings, held: Mapping[str, str | None]) -> CpufreqSettings:
    return evolve(
        found,
        min_khz=_number(held.get("scaling_min_freq")),
        max_khz=_number(held.get("scaling_max_freq")),
        governor=held.get("scaling_governor"),
        epp=held.get("energy_performance_preference") or found.epp,
    )


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


def without_void(state: State, groups: Iterable[Group]) -> State:
    """The state less the groups that are known to be another driver's now; a name that could not be
    read is none.
    """
    drivers = {group.key: group.driver for group in groups}
    kept = {
        key: item
        for key, item in state.groups.items()
        if "" in (item.driver, drivers.get(key, "")) or drivers[key] == item.driver
    }
    return state if len(kept) == len(state.groups) else evolve(state, groups=kept)


class Store(Protocol):
    """Where the state is kept, with room for one writer. path: of its file."""

    path: str

    def lock(self) -> None:
        """Become the one writer. Errors: StateError."""
        ...

    def unlock(self) -> None:
        """Let another one write."""
        ...

    def load(self) -> State:
        """The state. Errors: StateError."""
        ...

    def save(self, state: State) -> None:
        """Keep the state. Errors: StateError."""
        ...


class StateStore:
    """The state file of one root below a folder, and the lock of its one writer."""

    def __init__(self, folder: str, root: str, *, live: bool) -> None:
        digest = hashlib.sha256(root.encode()).hexdigest()[:12]
        name = "sys" if live else f"{os.path.basename(root) or 'root'}-{digest}"
        self.folder, self.root, self.live = folder, root, live
        self.path = os.path.join(folder, f"{name}.json")
        self._lock_path = os.path.join(folder, f"{name}.lock")
        self._lock: int | None = None
        self._saved: State | None = None

    def lock(self) -> None:
        """Become the one writer of the root. Errors: StateError that names the holder."""
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            descriptor = os.open(
                self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as failure:
            raise StateError(_cannot("use", self.folder, failure)) from failure
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as failure:
            holder = (
                os.read(descriptor, 200).decode("ascii", "replace").strip() or "another process"
            )
            os.close(descriptor)
            raise StateError(
                f"{self._lock_path}: {self.root} is being written by {holder}; only one writer is"
                " allowed"
            ) from failure
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()}\n".encode())
        self._lock = descriptor

    def unlock(self) -> None:
        """Let another process write."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def load(self) -> State:
        """The state; empty where there is no file or it is of another boot.

        Errors: StateError where it is not usable.
        """
        try:
            data = read_plain(self.path)
        except FileNotFoundError:
            return State(boot_id=self._boot_id())
        except OSError as failure:
            raise StateError(_cannot("read", self.path, failure)) from failure
        state = decode(data, self.path)
        boot_id = self._boot_id()
        self._saved = state
        if self.live and state.boot_id != boot_id:
            return State(boot_id=boot_id)
        return evolve(state, boot_id=boot_id)

    def save(self, state: State) -> None:
        """Write the state so that a crash leaves the old or the new one.

        Errors: StateError, nothing changed then.
        """
        if state == self._saved:
            return
        try:
            write_durably(self.path, encode(state, self.root))
        except OSError as failure:
            raise StateError(_cannot("write", self.path, failure)) from failure
        self._saved = state

    def _boot_id(self) -> str | None:
        if not self.live:
            return None
        try:
            with open(_BOOT_ID, encoding="ascii") as file:
                return file.read(64).strip()
        except OSError:
            return None


def _cannot(verb: str, path: str, failure: OSError) -> str:
    why = (
        "no space"
        if failure.errno in (errno.ENOSPC, errno.EDQUOT)
        else (failure.strerror or str(failure))
    )
    return f"{path}: cannot {verb} the state: {why}; nothing was written to the tree"


def encode(state: State, root: str) -> bytes:
    """The state file's content; equal records are written once, under all their keys."""
    by_record: dict[GroupState, list[str]] = {}
    for key, item in state.groups.items():
        by_record.setdefault(item, []).append(key)
    records: list[dict[str, Any]] = [
        {
            "groups": _folded(keys),
            "driver": item.driver,
            "files": {
                label: {"baseline": base, "requested": asked, "settled": settled}
                for label, base, asked, settled in zip(
                    item.labels, item.baseline, item.requested, item.settled, strict=True
                )
            },
        }
        for item, keys in by_record.items()
    ]
    records.sort(key=lambda record: str(record["groups"]))
    return (
        json.dumps(
            {"version": VERSION, "root": root, "bootId": state.boot_id, "records": records},
            indent=1,
        )
        + "\n"
    ).encode()


def _folded(keys: Iterable[str]) -> list[str]:
    """Group keys with their numbers as lists: cpufreq:0, cpufreq:1 as cpufreq:0-1."""
    numbers: dict[str, set[int]] = {}
    names = []
    for key in keys:
        kind, number = _parts(key)
        if number is None:
            names.append(key)
        else:
            numbers.setdefault(kind, set()).add(number)
    return sorted([*names, *(f"{kind}:{format_cpulist(found)}" for kind, found in numbers.items())])


@lru_cache(maxsize=1 << 16)  # every save meets the same keys
def _parts(key: str) -> tuple[str, int | None]:
    kind, _, number = key.partition(":")
    return kind, int(number) if number.isdigit() else None


def _unfolded(text: str) -> Iterable[str]:
    kind, _, numbers = text.partition(":")
    if not numbers[:1].isdigit():
        return [text]
    return [f"{kind}:{number}" for number in parse_cpulist(numbers)]


def decode(data: bytes, path: str) -> State:
    """The state of a file's content.

    Errors: StateError where it is damaged or of a newer version.
    """
    remedy = "move it away to start anew from what the machine shows now"
    try:
        content = json.loads(data)
        version = content["version"]
        if version == VERSION:
            return State(_groups_of(content["records"]), _text(content["bootId"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as failure:
        raise StateError(
            f"{path}: the state file is damaged ({type(failure).__name__}); nothing was written to"
            f" the tree; {remedy}"
        ) from failure
    raise StateError(
        f"{path}: the state file has version {version!r}, this program knows {VERSION}; nothing was"
        " written to the tree; use the newer program"
    )


def _groups_of(records: list[dict[str, Any]]) -> dict[str, GroupState]:
    """The groups of a file's records.

    Errors: TypeError, ValueError, KeyError for whatever is not as it was written.
    """
    groups: dict[str, GroupState] = {}
    for record in records:
        files = record["files"]
        columns = [
            tuple(_text(item[name]) for item in files.values())
            for name in ("baseline", "requested", "settled")
        ]
        state = GroupState(_needed(record["driver"]), tuple(map(_needed, files)), *columns)
        if not isinstance(record["groups"], list):
            raise TypeError("groups")
        groups.update(
            dict.fromkeys(
                (key for text in record["groups"] for key in _unfolded(_needed(text))), state
            )
        )
    return groups


def _text(value: object) -> str | None:
    """A text as sysfs files hold it, or None."""
    return None if value is None else _needed(value)


def _needed(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(type(value).__name__)
    if len(value) > _LONGEST_TEXT:
        raise ValueError(value[:_LONGEST_TEXT])
    return value
