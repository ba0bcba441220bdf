"""Draw the dashboards of deploy/monitoring as pictures, from what a running Prometheus answers to
their own queries.

python docs/make_dashboard_pictures.py URL [SECONDS [FOLDER]]      default: the last hour,
docs/dashboards

They are not Grafana's pictures, but show the same panels at the same places with the same queries,
units and legends.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from http.client import HTTPConnection
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from attrs import field, frozen

DASHBOARDS = Path(__file__).resolve().parents[1] / "deploy/monitoring/dashboards"
_COLUMN, _ROW, _GAP, _EDGE, _HEAD = 58, 38, 8, 12, 58
_STEPS = 160
_COLOURS = (
    "#4e79a7",
    "#f28e2b",
    "#59a14f",
    "#e15759",
    "#76b7b2",
    "#b07aa1",
    "#d4a418",
    "#9c755f",
    "#d37295",
    "#79706e",
)
_INK, _FAINT, _LINE, _PAGE, _TILE = "#24292f", "#6a737d", "#e1e4e8", "#f4f5f7", "#eef1f4"
#: Mean width of a character, of its height; with some room in tables, where columns follow each
#: other closely.
_LETTER, _WIDE = 0.56, 0.61
_UNITS = {"watt": "W", "joule": "J", "hertz": "Hz", "short": "", "percentunit": "%"}
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_TIME_STEPS = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)

Labels = Mapping[str, str]
Points = Sequence[tuple[float, float]]


@frozen
class Source:
    """A Prometheus, and the time that is shown. change: what is done to each query before it is
    asked.
    """

    url: str
    end: float
    seconds: float
    change: Callable[[str], str] = str

    def span(self, query: str) -> list[tuple[Labels, Points]]:
        """What a query gives over the time."""
        step = max(self.seconds / _STEPS, 1.0)
        found = self._ask(
            "query_range",
            {
                "query": self.change(query),
                "start": self.end - self.seconds,
                "end": self.end,
                "step": step,
            },
        )
        return [
            (item["metric"], [(float(at), float(value)) for at, value in item["values"]])
            for item in found
        ]

    def instant(self, query: str) -> list[tuple[Labels, float]]:
        """What it gives at the end of the time."""
        return [
            (item["metric"], float(item["value"][1]))
            for item in self._ask("query", {"query": self.change(query), "time": self.end})
        ]

    def _ask(self, what: str, arguments: Mapping[str, object]) -> Any:
        link = HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            link.request("GET", f"/api/v1/{what}?{urlencode(arguments)}")
            answer = json.loads(link.getresponse().read())
        finally:
            link.close()
        if answer["status"] != "success":
            raise ValueError(f"{arguments['query']}: {answer.get('error')}")
        return answer["data"]["result"]


def values_of(
    dashboard: Mapping[str, Any], seconds: float, chosen: Labels | None = None
) -> dict[str, str]:
    """What stands for each variable: what is chosen, else all, or the text that a box holds."""
    found = {
        "__range": f"{round(seconds)}s",
        "__range_s": str(round(seconds)),
        "__interval": "1m",
        "__rate_interval": "5m",
    }
    for variable in dashboard["templating"]["list"]:
        held = variable.get("current", {}).get("value", variable.get("query", ""))
        found[variable["name"]] = variable.get("allValue") or str(held)
    return {**found, **(chosen or {})}


def fill(query: str, values: Labels) -> str:
    """A query with its variables replaced.

    >>> fill('rate(a{b=~"$b"}[$__range]) * ${c}', {"b": ".*", "__range": "9s", "c": "2"})
    'rate(a{b=~".*"}[9s]) * 2'
    """
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: values[found[1] or found[2]], query)


def picture(dashboard: Mapping[str, Any], source: Source, chosen: Labels | None = None) -> str:
    """A dashboard as SVG."""
    values = values_of(dashboard, source.seconds, chosen)
    panels = dashboard["panels"]
    height = (
        _HEAD
        + max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * _ROW
        + _EDGE
    )
    width = 24 * _COLUMN + 2 * _EDGE
    said = [
        f"{item['name']}: {_shown(values[item['name']])}"
        for item in dashboard["templating"]["list"]
        if item["type"] != "datasource"
    ]
    began, ended = (
        datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")
        for at in (source.end - source.seconds, source.end)
    )
    head = (
        f'viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" role="img"'
        f' aria-label="{escape(dashboard["title"])}"'
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {head}>',
        f'<rect width="{width}" height="{height}" fill="{_PAGE}"/>',
        _text(_EDGE + 4, 28, dashboard["title"], 20, weight=600),
        _text(_EDGE + 4, 47, " · ".join(said), 12, _FAINT),
        _text(width - _EDGE - 4, 28, f"{began} to {ended} UTC", 12, _FAINT, "end"),
    ]
    for panel in panels:
        parts += _panel(panel, source, values)
    return "\n".join([*parts, "</svg>", ""])


def _shown(value: str) -> str:
    return "all" if value == ".*" else value


# --- panels ---


@frozen
class Box:
    """A place in the picture."""

    x: float
    y: float
    width: float
    height: float


@frozen
class Row:
    """One line of a panel. labels: of its series, without its name; points: over time, or the last
    one alone; query: the letter of the one that gave it.
    """

    name: str
    labels: Labels
    points: Points = field(factory=tuple)
    query: str = "A"

    @property
    def last(self) -> float:
        """The value at the end."""
        return self.points[-1][1]


def _panel(panel: Mapping[str, Any], source: Source, values: Labels) -> list[str]:
    at = panel["gridPos"]
    frame = Box(
        _EDGE + at["x"] * _COLUMN + _GAP / 2,
        _HEAD + at["y"] * _ROW + _GAP / 2,
        at["w"] * _COLUMN - _GAP,
        at["h"] * _ROW - _GAP,
    )
    parts = [
        (
            f'<rect x="{frame.x:g}" y="{frame.y:g}" width="{frame.width:g}"'
            f' height="{frame.height:g}" rx="4" fill="#fff" stroke="{_LINE}"/>'
        )
    ]
    parts.append(_text(frame.x + 12, frame.y + 20, panel["title"], 13, weight=600))
    rows = [row for target in panel["targets"] for row in _rows(panel, target, source, values)]
    inner = Box(frame.x + 12, frame.y + 30, frame.width - 24, frame.height - 40)
    defaults = panel["fieldConfig"]["defaults"]
    if not rows:
        return [
            *parts,
            _text(
                inner.x + inner.width / 2,
                inner.y + inner.height / 2,
                defaults.get("noValue", "No data"),
                14,
                _FAINT,
                "middle",
            ),
        ]
    if panel["type"] == "table":
        return [*parts, *_table(*_cells(panel, rows), inner)]
    return [*parts, *_DRAWN[panel["type"]](rows, defaults["unit"], inner, source)]


def _cells(panel: Mapping[str, Any], rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Heads and lines of a table, as its transformations and units make them: rows of one meaning
    are one line where columns are chosen.
    """
    titles = _titles(panel, rows)
    chosen, several = "organize" in _transformed(panel), len(panel["targets"]) > 1
    lines: dict[Any, dict[str, str]] = {}
    for number, row in enumerate(rows):
        value = f"Value #{row.query}" if several and chosen else "Value"
        key = tuple(sorted(row.labels.items())) if chosen else number
        cells = lines.setdefault(key, dict(row.labels))
        cells[value] = _worded(panel, titles[value], row.last)
    return list(titles.values()), [
        [cells.get(name, "") for name in titles] for cells in lines.values()
    ]


def _transformed(panel: Mapping[str, Any]) -> dict[str, Any]:
    return {item["id"]: item["options"] for item in panel.get("transformations", ())}


def _titles(panel: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, str]:
    """What each column shows → its title, in their order."""
    shown = _transformed(panel).get("organize")
    if shown is None:
        names = [*dict.fromkeys(name for row in rows for name in sorted(row.labels)), "Value"]
        return {name: name for name in names}
    order = sorted(shown["indexByName"], key=shown["indexByName"].__getitem__)
    return {name: shown["renameByName"][name] for name in order}


def _worded(panel: Mapping[str, Any], title: str, value: float) -> str:
    """A value of a column in its unit, or the words that stand for it."""
    config = panel["fieldConfig"]
    words = {
        key: result["text"]
        for mapping in config["defaults"].get("mappings", ())
        for key, result in mapping["options"].items()
    }
    units = {
        override["matcher"]["options"]: override["properties"][0]["value"]
        for override in config.get("overrides", ())
    }
    return words.get(f"{value:g}") or amount(value, units.get(title, config["defaults"]["unit"]))


def _rows(
    panel: Mapping[str, Any], target: Mapping[str, Any], source: Source, values: Labels
) -> Iterator[Row]:
    query = fill(target["expr"], values)
    over_time = panel["type"] == "timeseries"
    found = (
        source.span(query)
        if over_time
        else [(labels, [(source.end, value)]) for labels, value in source.instant(query)]
    )
    for labels, points in found:
        own = {name: text for name, text in labels.items() if name != "__name__"}
        known = [point for point in points if math.isfinite(point[1])]
        if known:
            name = _legend(target.get("legendFormat") or "", labels)
            yield Row(name, own, known, target["refId"])


def _legend(form: str, labels: Labels) -> str:
    """A series by the form of its legend; by its labels where there is none, or nothing comes of
    it.
    """
    name = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), form).strip()
    return (
        name
        or ", ".join(text for key, text in sorted(labels.items()) if key != "__name__")
        or "outside"
    )


def _timeseries(rows: Sequence[Row], unit: str, box: Box, source: Source) -> list[str]:
    legend, lines = _legends([row.name for row in rows], box)
    plot = Box(box.x + 58, box.y + 4, box.width - 66, box.height - 26 - 16 * lines)
    marks = _marks([value for row in rows for _, value in row.points])
    low, high = marks[0], marks[-1]

    def across(at: float) -> float:
        return plot.x + (at - source.end + source.seconds) / source.seconds * plot.width

    def up(value: float) -> float:
        return plot.y + plot.height - (value - low) / (high - low) * plot.height

    parts = []
    for mark in marks:
        parts.append(f'<path d="M{plot.x:g} {up(mark):.1f}h{plot.width:g}" stroke="{_LINE}"/>')
        parts.append(_text(plot.x - 6, up(mark) + 4, amount(mark, unit), 11, _FAINT, "end"))
    for at, label in _moments(source):
        parts.append(f'<path d="M{across(at):.1f} {plot.y:g}v{plot.height:g}" stroke="{_LINE}"/>')
        parts.append(_text(across(at), plot.y + plot.height + 15, label, 11, _FAINT, "middle"))
    step = max(source.seconds / _STEPS, 1.0)
    for row, colour in zip(rows, _cycle(len(rows)), strict=True):
        for run in _runs(row.points, 2.5 * step):
            path = "L".join(
                f"{across(at):.1f} {up(value):.1f}"
                for at, value in (run if len(run) > 1 else [*run, *run])
            )
            parts.append(
                f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.6"'
                ' stroke-linejoin="round" stroke-linecap="round"/>'
            )
    return [*parts, *legend]


def _stat(rows: Sequence[Row], unit: str, box: Box, _source: Source) -> list[str]:
    """A tile for each value, as square as they fit."""
    across = max(
        range(1, len(rows) + 1),
        key=lambda count: min(box.width / count / 2.5, box.height / math.ceil(len(rows) / count)),
    )
    down = math.ceil(len(rows) / across)
    width, height = box.width / across, box.height / down
    parts = []
    for number, row in enumerate(rows):
        x, y = box.x + number % across * width, box.y + number // across * height
        value = amount(row.last, unit)
        size = min(
            height * (0.42 if len(rows) > 1 else 0.55),
            (width - 24) / max(len(value), 1) / _LETTER,
            44,
        )
        parts.append(
            f'<rect x="{x + 2:.1f}" y="{y + 2:.1f}" width="{width - 4:.1f}"'
            f' height="{height - 4:.1f}" rx="4" fill="{_TILE}"/>'
        )
        if len(rows) > 1:
            parts.append(
                _text(
                    x + width / 2,
                    y + height * 0.30,
                    _cut(row.name, width - 16, 13),
                    13,
                    _INK,
                    "middle",
                )
            )
        parts.append(
            _text(
                x + width / 2,
                y + height * (0.72 if len(rows) > 1 else 0.5) + size * 0.3,
                value,
                size,
                _INK,
                "middle",
                600,
            )
        )
    return parts


def _bars(rows: Sequence[Row], unit: str, box: Box, _source: Source) -> list[str]:
    """A bar for each value, the longest first."""
    rows = sorted(rows, key=lambda row: -row.last)
    height = min(box.height / len(rows), 34.0)
    top = max((row.last for row in rows), default=0.0) or 1.0
    names = min(max(len(row.name) for row in rows) * 12 * _LETTER + 10, box.width * 0.4)
    most = box.width - names - 90
    parts = []
    for number, (row, colour) in enumerate(zip(rows, _cycle(len(rows)), strict=True)):
        y = box.y + number * height
        parts.append(
            _text(
                box.x + names - 8,
                y + height / 2 + 4,
                _cut(row.name, names - 8, 12),
                12,
                _INK,
                "end",
            )
        )
        parts.append(
            f'<rect x="{box.x + names:.1f}" y="{y + 3:.1f}" width="{most:.1f}"'
            f' height="{height - 6:.1f}" rx="3" fill="{_PAGE}"/>'
        )
        parts.append(
            f'<rect x="{box.x + names:.1f}" y="{y + 3:.1f}"'
            f' width="{max(row.last / top, 0) * most:.1f}" height="{height - 6:.1f}" rx="3"'
            f' fill="{colour}"/>'
        )
        parts.append(
            _text(
                box.x + names + most + 8, y + height / 2 + 4, amount(row.last, unit), 12, weight=600
            )
        )
    return parts


def _table(heads: list[str], lines: list[list[str]], box: Box) -> list[str]:
    room = max(int((box.height - 26) // 20), 1)
    left_over = len(lines) - room
    if left_over > 0:
        lines = [*lines[: room - 1], [f"… and {left_over + 1} more"] + [""] * (len(heads) - 1)]
    wanted = [
        max(len(head), *(len(line[column]) for line in lines)) * 12 * _WIDE + 16
        for column, head in enumerate(heads)
    ]
    widths = _fitted(wanted, box.width)
    parts = [
        f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="22" fill="{_PAGE}"/>'
    ]
    for number, line in enumerate([heads, *lines]):
        y, x = box.y + 15 + number * 20 + (4 if number else 0), box.x
        for text, width in zip(line, widths, strict=True):
            parts.append(
                _text(
                    x + 6, y, _cut(text, width - 12, 12, _WIDE), 12, weight=400 if number else 600
                )
            )
            x += width
        if number:
            parts.append(f'<path d="M{box.x:g} {y + 6:.1f}h{box.width:g}" stroke="{_LINE}"/>')
    return parts


def _fitted(wanted: Sequence[float], room: float) -> list[float]:
    """Widths of columns: as wanted where that fits, else the widest are cut to one width."""
    low, high = 0.0, max(wanted)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if sum(min(width, middle) for width in wanted) <= room else (low, middle)
        )
    cut = [min(width, high) for width in wanted]
    spare = max(room - sum(cut), 0) / len(cut)
    return [width + spare for width in cut]


_DRAWN: dict[str, Callable[[Sequence[Row], str, Box, Source], list[str]]] = {
    "timeseries": _timeseries,
    "stat": _stat,
    "bargauge": _bars,
}


# --- parts of them ---


def amount(value: float, unit: str) -> str:
    """A value with its unit, to three digits.

    >>> amount(0.4567, "percentunit"), amount(12345, "joule")
    ('45.7 %', '12.3 kJ')
    >>> amount(0, "watt"), amount(0.00012, "short")
    ('0 W', '0.00012')
    """
    if unit == "percentunit":
        return f"{_digits(value * 100)} %"
    size, prefix = next(
        ((size, prefix) for size, prefix in _PREFIXES if abs(value) >= size), (1.0, "")
    )
    return f"{_digits(value / size)} {prefix}{_UNITS.get(unit, unit)}".strip()


def _digits(value: float) -> str:
    text = f"{value:.3g}"
    return (
        text
        if "e" not in text
        else f"{value:.0f}"
        if abs(value) >= 1
        else f"{value:.6f}".rstrip("0").rstrip(".")
    )


def _marks(values: Iterable[float]) -> list[float]:
    """Round numbers on an axis that holds all values, and 0."""
    known = [*values, 0.0]
    low, high = min(known), max(known)
    rough = (high - low) / 4 or 0.25
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _moments(source: Source) -> list[tuple[float, str]]:
    """Round times of the day, at most seven."""
    step = next((step for step in _TIME_STEPS if source.seconds / step <= 7), _TIME_STEPS[-1])
    first = math.ceil((source.end - source.seconds) / step) * step
    form = "%H:%M:%S" if step < 60 else "%H:%M"
    return [
        (at, datetime.fromtimestamp(at, UTC).strftime(form))
        for at in range(int(first), int(source.end) + 1, step)
    ]


def _runs(points: Points, longest: float) -> list[list[tuple[float, float]]]:
    """Points without the gaps between them."""
    runs = [[points[0]]]
    for before, point in pairwise(points):
        if point[0] - before[0] > longest:
            runs.append([])
        runs[-1].append(point)
    return runs


def _legends(names: Sequence[str], box: Box) -> tuple[list[str], int]:
    """The legend at the foot of a box, and how many lines it has."""
    lines: list[list[tuple[float, str, str]]] = [[]]
    x = 0.0
    for name, colour in zip(names, _cycle(len(names)), strict=True):
        text = _cut(name, box.width - 30, 12)
        width = len(text) * 12 * _LETTER + 34
        if lines[-1] and x + width > box.width:
            lines.append([])
            x = 0.0
        lines[-1].append((x, text, colour))
        x += width
    parts = []
    for number, line in enumerate(lines):
        y = box.y + box.height - 16 * (len(lines) - number - 1)
        for x, text, colour in line:
            parts.append(
                f'<path d="M{box.x + x:.1f} {y - 4:.1f}h16" stroke="{colour}" stroke-width="4"/>'
            )
            parts.append(_text(box.x + x + 21, y, text, 12))
    return parts, len(lines)


def _cycle(count: int) -> list[str]:
    return [_COLOURS[number % len(_COLOURS)] for number in range(count)]


def _cut(text: str, width: float, size: float, letter: float = _LETTER) -> str:
    room = max(int(width / size / letter), 1)
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _text(
    x: float,
    y: float,
    text: str,
    size: float,
    colour: str = _INK,
    anchor: str = "start",
    weight: int = 400,
) -> str:
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    heavy = "" if weight == 400 else f' font-weight="{weight}"'
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:.3g}"'
        f' fill="{colour}"{where}{heavy}>{escape(text)}</text>'
    )


def main(
    url: str, seconds: float = 3600.0, folder: Path = Path(__file__).parent / "dashboards"
) -> None:
    """Draw all dashboards."""
    folder.mkdir(parents=True, exist_ok=True)
    source = Source(url, time.time(), seconds)
    for path in sorted(DASHBOARDS.glob("*.json")):
        (folder / f"{path.stem}.svg").write_text(
            picture(json.loads(path.read_text(encoding="utf-8")), source), encoding="utf-8"
        )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], *map(float, sys.argv[2:3]), *map(Path, sys.argv[3:4]))
