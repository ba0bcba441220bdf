"""What apply would change, for people: CPUs that change alike in one line, by setting, in the units
that people use.

A line says faster, slower or otherwise by a sign; colour only repeats it. Sources of a line are the
objects that ask for it; where no object does, the reason itself.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from attrs import evolve, frozen

from kpm.process.words import counted
from kpm_applier.attributes import ATTRIBUTES, Kind
from kpm_applier.described import cpus_of
from kpm_applier.state.record import kind_and_number
from kpm_planner.model.assignment import Pool
from kpm_planner.model.changes import Reason, Write
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import Machine
from kpm_planner.model.why import Why
from kpm_planner.plan import NodePlan

#: The name of a file → the setting of a target that it holds.
_SETTING_OF = {row.file: row.asks for row in ATTRIBUTES}
_FOREIGN = Why("changed by somebody else")
_FREQUENCIES = {
    "scaling_min_freq": "min",
    "scaling_max_freq": "max",
    "min_freq_khz": "min",
    "max_freq_khz": "max",
}
_WORDS = {"scaling_governor": "governor", "energy_performance_preference": "EPP"}
_SWITCHES = {"boost": ("off", "on"), "no_turbo": ("on", "off"), "enabled": ("off", "on")}
_KHZ, _UW = 1_000_000, 1_000_000
#: Order of what is no CPU's.
_OTHERS = (Kind.BOOST, Kind.UNCORE, Kind.FABRIC, Kind.CAP)
#: EPP from slow to fast; of others nothing is said.
_EPP_RANK = ("power", "balance_power", "balance_performance", "performance")


@frozen
class Sign:
    """What a line says before its words. style: the colour that repeats it; word: for
    sentences and JSON.
    """

    mark: str
    style: str
    word: str


FASTER, SLOWER = Sign("▲", "green", "faster"), Sign("▼", "yellow", "slower")
OTHER = Sign("●", "cyan", "other")


@frozen
class Row:
    """One line: what changes, how, and who asks for it. writes: how many files; cpus: of which it
    is, none where CPUs share it.
    """

    place: str
    changes: tuple[str, ...]
    sign: Sign
    sources: tuple[str, ...]
    writes: int
    order: tuple[int, int, str]
    cpus: tuple[int, ...] = ()

    def __str__(self) -> str:
        said = "  ".join(self.changes)
        return f"{self.sign.mark} {self.place}  {said}  ({', '.join(self.sources)})"


@frozen
class _Change:
    """One setting of one thing. faster: None where it is neither."""

    name: str
    text: str
    faster: bool | None


def rows(writes: Iterable[Write], machine: Machine) -> tuple[Row, ...]:
    """The lines, CPUs in natural order, then what CPUs share."""
    by_thing: dict[tuple[str, int | str], list[Write]] = {}
    for write in writes:
        kind, _, name = write.group.partition(":")
        things: list[tuple[str, int | str]] = [("cpu", cpu) for cpu in cpus_of(write, machine)]
        for thing in things or [(kind, name)]:
            by_thing.setdefault(thing, []).append(write)
    return tuple(sorted(_together(by_thing, machine), key=lambda row: row.order))


def shared_moves(made: Iterable[Row], plan: NodePlan) -> tuple[int, int]:
    """How many CPUs that pods share become faster, and how many slower."""
    shared = {cpu for group in plan.groups if group.pool is Pool.SHARED for cpu in group.cpus}
    counts = {FASTER: 0, SLOWER: 0, OTHER: 0}
    for row in made:
        counts[row.sign] += len(shared.intersection(row.cpus))
    return counts[FASTER], counts[SLOWER]


def effects(pods: tuple[int, int], shared: tuple[int, int]) -> str:
    """Who becomes faster and slower, in words. Each: faster, slower."""
    parts = [
        f"{counted(count, 'shared CPU')} {sign.word}"
        for count, sign in zip(shared, (FASTER, SLOWER), strict=True)
        if count
    ]
    return ", ".join([f"{counted(pods[0], 'pod')} faster, {pods[1]} slower", *parts])


def _together(
    by_thing: dict[tuple[str, int | str], list[Write]], machine: Machine
) -> Iterator[Row]:
    """CPUs that change alike in one row."""
    alike: dict[tuple[tuple[_Change, ...], tuple[str, ...]], list[int]] = {}
    counted: dict[int, set[str]] = {}
    for (kind, name), writes in by_thing.items():
        changes = tuple(_change(write, machine) for write in writes)
        found = (sources_of(write, whole=kind != "cpu") for write in writes)
        sources = tuple(dict.fromkeys(text for texts in found for text in texts))
        if kind == "cpu" and isinstance(name, int):
            alike.setdefault((changes, sources), []).append(name)
            counted[name] = {write.path for write in writes}
        else:
            order = _rank(kind, name)
            yield _row(_place(kind, str(name)), changes, sources, count=len(writes), order=order)
    for (changes, sources), cpus in alike.items():
        word = "CPU " if len(cpus) == 1 else "CPUs "
        files = len(set().union(*(counted[cpu] for cpu in cpus)))
        place, order = f"{word}{format_cpulist(cpus)}", (0, min(cpus), "")
        row = _row(place, changes, sources, count=files, order=order)
        yield evolve(row, cpus=tuple(sorted(cpus)))


def _row(
    place: str,
    changes: tuple[_Change, ...],
    sources: tuple[str, ...],
    *,
    count: int,
    order: tuple[int, int, str],
) -> Row:
    moods = {item.faster for item in changes if item.faster is not None}
    sign = OTHER if len(moods) != 1 else FASTER if True in moods else SLOWER
    texts = tuple(item.text for item in changes)
    return Row(place, texts, sign, sources, writes=count, order=order)


def _rank(kind: str, name: int | str) -> tuple[int, int, str]:
    place = _OTHERS.index(Kind(kind)) if kind in set(_OTHERS) else len(_OTHERS)
    return 1 + place, int(name) if str(name).isdigit() else 0, str(name)


def _place(kind: str, name: str) -> str:
    """What is no CPU's, by its name."""
    if kind == Kind.BOOST:
        return "turbo" if not name else f"turbo of domain {name}"
    return {Kind.UNCORE: "uncore", Kind.FABRIC: "fabric", Kind.CAP: "cap"}.get(
        Kind(kind), kind
    ) + f" {name}"


def _change(write: Write, machine: Machine) -> _Change:
    """One file as people say it."""
    file = write.path.rpartition("/")[2]
    kind, number = kind_and_number(write.group)
    if file in _FREQUENCIES:
        return _number(_FREQUENCIES[file], write, _KHZ, "GHz", up_is_faster=True)
    if kind == Kind.IDLE:
        return _idle(write, machine, number)
    if file in _SWITCHES:
        off_on = _SWITCHES[file]
        new, old = (off_on[text == "1"] for text in (write.value, write.old))
        return _Change(file, f"{old} → {new}", new == "on" if kind == Kind.BOOST else None)
    if file == "pm_qos_resume_latency_us":
        old, new = (_latency(text) for text in (write.old, write.value))
        return _Change("latency", f"latency {old} → {new}", None)
    if kind == Kind.CAP:
        return _number(_limit_name(write), write, _UW, "W", up_is_faster=True)
    name = _WORDS.get(file, {"energy_perf_bias": "EPB", "df_pstate": "P-state"}.get(file, file))
    ranks = [_EPP_RANK.index(text) if text in _EPP_RANK else None
             for text in (write.old, write.value)]  # fmt: skip
    before, after = ranks
    known = name == "EPP" and before is not None and after is not None and before != after
    faster = (after or 0) > (before or 0) if known else None
    return _Change(name, f"{name} {write.old or '?'} → {write.value}", faster)


def _limit_name(write: Write) -> str:
    """A limit of power, by its number where a zone has several."""
    found = re.search(r"constraint_([0-9]+)_", write.path)
    return f"limit {found[1]}" if found else "limit"


def _idle(write: Write, machine: Machine, number: object) -> _Change:
    index = write.path.split("/")[-2].removeprefix("state")
    cpu = machine.by_id.get(number) if isinstance(number, int) else None
    states = cpu.idle if cpu is not None else ()
    name = next((item.name for item in states if str(item.index) == index), f"state{index}")
    return _Change(f"idle {index}", f"{name} {'off' if write.value == '1' else 'on'}", None)


def _latency(text: str | None) -> str:
    return {"0": "any", "n/a": "0 µs", None: "?"}.get(text, f"{text} µs")


def _number(name: str, write: Write, unit: int, word: str, *, up_is_faster: bool) -> _Change:
    """Two numbers in a larger unit, with as many digits as tell them apart."""
    texts = (write.old, write.value)
    if not all(text is not None and text.isdigit() for text in texts):
        return _Change(name, f"{name} {write.old or '?'} → {write.value}", None)
    old, new = (int(text or 0) / unit for text in texts)
    digits = next((item for item in (2, 3) if f"{old:.{item}f}" != f"{new:.{item}f}"), 6)
    shown = [f"{value:.{digits}f}".rstrip("0").rstrip(".") for value in (old, new)]
    faster = None if old == new else (new > old) is up_is_faster
    return _Change(name, f"{name} {shown[0]} → {shown[1]} {word}", faster)


def reasons_of(write: Write) -> list[Why]:
    """The reasons of one file out of those of its whole group."""
    setting = _SETTING_OF.get(write.path.rpartition("/")[2], "")
    own = [line for line in write.because if line.setting in ("", setting)]
    return [*([_FOREIGN] if write.reason is Reason.DRIFT else []), *own]


def sources_of(write: Write, *, whole: bool = False) -> tuple[str, ...]:
    """Who asks for a file: objects, or reasons in words where there is none or all is wanted."""
    reasons = reasons_of(write)
    return tuple(dict.fromkeys((not whole and line.object) or str(line) for line in reasons))


def closing(writes: Sequence[Write], errors: int) -> str:
    """The last line: how many of each."""
    restored = sum(write.reason is Reason.RESTORE for write in writes)
    written = counted(len(writes) - restored, "write")
    return f"{written}, {restored} restored, {counted(errors, 'error')}"
