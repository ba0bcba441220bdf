"""One moment of a machine's CPUs, and how it is written in lines of a terminal (pure)."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import evolve, frozen

from kpm.process.errors import one_line
from kpm_planner.model.quantities import format_ghz

#: Of `kpm top -o json`.
VERSION = 1
SORTS = ("cpu", "now", "busy")


@frozen
class CpuNow:
    """One CPU. Units: kHz; busy and idle as shares from 0 to 1. None where it is not known.

    idle: (state, share) of the time since the last look. holder: namespace/pod/container.
    """

    cpu: int
    pool: str = ""
    holder: str = ""
    low_khz: int | None = None
    high_khz: int | None = None
    khz: int | None = None
    busy: float | None = None
    idle: tuple[tuple[str, float], ...] = ()


@frozen
class Picture:
    """A moment. power: (place, watts); pods: (namespace/pod, watts), most first; idle: shares of
    pools where those of CPUs are not told. notes: what is not known, and why.
    """

    title: str
    cpus: tuple[CpuNow, ...] = ()
    power: tuple[tuple[str, float], ...] = ()
    pods: tuple[tuple[str, float], ...] = ()
    idle: tuple[tuple[str, tuple[tuple[str, float], ...]], ...] = ()
    notes: tuple[str, ...] = ()


@frozen
class View:
    """How somebody looks: sorted by what, only CPUs in whose line these letters are."""

    sort: str = SORTS[0]
    needle: str = ""

    def next_sort(self) -> "View":
        """The same, sorted by the next thing."""
        return evolve(self, sort=SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)])


_KEYS: dict[str, Callable[[CpuNow], Any]] = {
    "cpu": lambda item: item.cpu,
    "now": lambda item: (-(item.khz or 0), item.cpu),
    "busy": lambda item: (-(item.busy or 0.0), item.cpu),
}


def lines(picture: Picture, view: View = View(), most: int | None = None) -> list[str]:
    """The picture in 80 columns; most: lines of CPUs."""
    said = [one_line(picture.title, 78)]
    if picture.power:
        said.append("  ".join(f"{one_line(place)} {watts:.1f} W" for place, watts in picture.power))
    for pool, shares in picture.idle:
        said.append(f"idle, {one_line(pool) or 'unmanaged'}: {_shares(shares)}")
    rows = [_row(item) for item in sorted(picture.cpus, key=_KEYS[view.sort])]
    rows = [row for row in rows if view.needle.lower() in " ".join(row).lower()]
    shown = rows if most is None else rows[: max(most, 1)]
    said += _table(("CPU", "POOL", "HOLDER", "LIMITS", "NOW", "BUSY", "IDLE"), shown)
    if len(rows) > len(shown):
        said.append(f"  and {len(rows) - len(shown)} more CPUs")
    if picture.pods:
        said.append("pods")
        said += [f"  {watts:8.2f} W  {one_line(name, 64)}" for name, watts in picture.pods[:12]]
    return [*said, *(f"note: {one_line(text)}" for text in picture.notes)]


def document(picture: Picture) -> dict[str, Any]:
    """As JSON has it."""
    return {
        "version": VERSION,
        "title": picture.title,
        "cpus": [
            {
                "cpu": item.cpu,
                "pool": item.pool,
                "holder": item.holder,
                "minKHz": item.low_khz,
                "maxKHz": item.high_khz,
                "kHz": item.khz,
                "busy": item.busy,
                "idle": dict(item.idle),
            }
            for item in picture.cpus
        ],
        "watts": dict(picture.power),
        "pods": dict(picture.pods),
        "poolIdle": {pool: dict(shares) for pool, shares in picture.idle},
        "notes": list(picture.notes),
    }


def _row(item: CpuNow) -> tuple[str, ...]:
    ends = [None if khz is None else format_ghz(khz) for khz in (item.low_khz, item.high_khz)]
    limits = "-".join(end or "?" for end in ends) if any(ends) else ""
    now = "" if item.khz is None else f"{item.khz / 1e6:.2f}"
    busy = "" if item.busy is None else f"{item.busy:.0%}"
    return str(item.cpu), item.pool, item.holder, limits, now, busy, _shares(item.idle)


def _shares(shares: Iterable[tuple[str, float]]) -> str:
    return " ".join(f"{one_line(name, 12)} {share:.0%}" for name, share in shares if share >= 0.005)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns in which something stands; what is too wide for 80 is cut, the holder first."""
    used = [index for index in range(len(head)) if any(row[index] for row in rows)]
    texts = [[one_line(row[index]) for index in used] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for name in ("HOLDER", "IDLE", "POOL"):
        over = sum(widths) + 2 * (len(widths) - 1) - 79
        if over > 0 and name in texts[0]:
            place = texts[0].index(name)
            widths[place] = max(widths[place] - over, 8)
    return [
        "  ".join(_cut(text, width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in texts
    ]


def _cut(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else f"{text[: width - 1]}…"
