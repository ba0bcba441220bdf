"""How many queries of Kepler's dashboards answer: writes docs/developer/kepler-queries.md.

    python tests/bench/kepler_queries.py             by what boards.yaml says that queries ask for
    python tests/bench/kepler_queries.py FOLDER      and each query itself, of a copy of Kepler

Needs what `make test-monitoring` installs. A query that answers otherwise than boards.yaml says
ends it with status 1, and nothing is written.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # holds the package tests

import yaml

from tests.monitoring.energy_rig import NODE, Rig, rigged
from tests.monitoring.kepler.boards import (
    BOARDS,
    REASONS,
    SETTINGS,
    Query,
    Setting,
    example,
    expected,
    measured,
    queries,
    unanswered,
)
from tests.monitoring.prometheus_server import JOB, REPO, PrometheusServer, until

RESULT = REPO / "docs/developer/kepler-queries.md"
#: What a user would choose or leave; constants of Kepler's boards where they have no effect.
CHOSEN = {
    "job": JOB, "zone_name": "package", "namespace": ".*", "pod": ".*", "container": ".*",
    "vm": ".*", "node": ".*", "nodename": NODE, "coal": "2.23", "natural_gas": "0.91",
    "petroleum": "2.13", "watt_per_second_to_kWh": "0.000000277777777777778",
    "__rate_interval": "20s",
}  # fmt: skip
#: Too slow for a bench.
QUICK = (("[24h:1m]", "[30s:1s]"),)
_VALUES = re.compile(r"label_values\((.*), *\w+\)\s*")
_RESULT = re.compile(r"query_result\((.*)\)\s*", re.DOTALL)


def texts(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and PromQL of each query of the boards in a copy of Kepler."""
    for board in yaml.safe_load(BOARDS.read_text()):
        document = json.loads((folder / board["file"]).read_text())
        for panel in panels(document):
            for target in panel.get("targets", ()):
                yield f"{board['board']} {panel['id']}:{target['refId']}", target["expr"]
        for variable in document["templating"]["list"]:
            if variable["type"] == "query":
                yield f"{board['board']} ${variable['name']}", _of_variable(variable["query"])


def panels(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All panels, those in rows that are folded too."""
    for panel in document["panels"]:
        yield panel
        yield from panel.get("panels", ())


def _of_variable(query: str | dict[str, Any]) -> str:
    text = query if isinstance(query, str) else str(query["query"])
    found = _VALUES.fullmatch(text) or _RESULT.fullmatch(text)
    assert found, text
    return found[1]


def filled(text: str, pid: str) -> str:
    """A query with its variables chosen; the zone is a pattern or a value, as the board has it."""
    for slow, fast in QUICK:
        text = text.replace(slow, fast)
    text = re.sub(r'zone=~"\$\{?zone\}?"', 'zone=~".*"', text)
    chosen = {**CHOSEN, "zone": "package", "pid": pid, "process": pid}
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda item: chosen[item[1] or item[2]], text)


def silent_texts(rig: Rig, server: PrometheusServer, asked: dict[str, str]) -> set[str]:
    """The names of the queries that have no sample, each as it is written."""
    pod = rig.pods["web"]
    pid = str(rig.cgroups.processes[pod.cgroups["app"]][0].pid)
    return {name for name, text in asked.items() if not server.query(f"count({filled(text, pid)})")}


def main() -> int:
    asked = queries()
    given = dict(texts(Path(sys.argv[1]))) if sys.argv[1:] else {}
    if given and given.keys() != {query.name for query in asked}:
        print("not in both:", sorted(given.keys() ^ {query.name for query in asked}))
        return 1
    wrong = 0
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as last:
        rig = last.enter_context(rigged(Path(name)))
        for setting, server in measured(rig, Path(name)):
            wanted = expected(asked, setting)
            differing = unanswered(server, asked) ^ wanted
            if given:
                settle(rig, server, given, wanted)
                differing |= silent_texts(rig, server, given) ^ wanted
            print(f"{setting.title}: {len(asked) - len(wanted)} of {len(asked)}")
            for query in sorted(differing):
                print("  otherwise than boards.yaml says:", query)
            wrong += len(differing)
    if not wrong:
        RESULT.write_text(page(asked, each=bool(given)))
    return int(wrong > 0)


def settle(rig: Rig, server: PrometheusServer, given: dict[str, str], wanted: set[str]) -> None:
    """Wait until what is to answer does; what does not in time is told as differing."""
    with contextlib.suppress(AssertionError):
        until("queries answer", lambda: silent_texts(rig, server, given) <= wanted, 40, 2.0)


def page(asked: tuple[Query, ...], *, each: bool) -> str:
    """The results as a page."""
    metrics = example()
    chosen = (metrics.names, metrics.levels)
    mine = [item for item in SETTINGS if (item.names, item.levels) == chosen]
    how = "each query itself, and what it asks for" if each else "what each query asks for"
    lines = [
        "# Queries of Kepler's dashboards that answer",
        "",
        "Asked of a real Prometheus that scrapes a real agent on a made machine of two sockets",
        "(package and memory of each are measured, the machine as a whole is not):",
        f"{how}. A query answers when it has at least one sample.",
        "`python tests/bench/kepler_queries.py FOLDER` makes this page, `make test-monitoring`",
        "holds it. Where the boards are from: `tests/monitoring/kepler/README.md`.",
        "",
        f"The example for measuring alone is: {mine[-1].title if mine else 'none of these'}.",
        "",
        "| board | " + " | ".join(item.title for item in SETTINGS) + " |",
        "|---|" + "---:|" * len(SETTINGS),
    ]
    boards = list(dict.fromkeys(query.board for query in asked))
    for board in boards:
        of = [query for query in asked if query.board == board]
        lines.append(f"| {board} | " + " | ".join(_share(of, item) for item in SETTINGS) + " |")
    for title, line in (("**present boards**", "now"), ("**board of 0.7**", "0.7")):
        of = [query for query in asked if query.line == line]
        lines.append(f"| {title} | " + " | ".join(_share(of, item) for item in SETTINGS) + " |")
    lines += ["", "## Why the others do not", "", "| queries | reason |", "|---:|---|"]
    for why, text in REASONS.items():
        lines.append(f"| {sum(query.why == why for query in asked)} | {text} |")
    for need, text in (
        ("process", "level `process`"),
        ("kepler-0.7", "names `kepler-0.7`"),
        ("platform", "a meter of the whole machine that the model gives containers a part of"),
    ):
        count = sum(not query.why and need in query.needs for query in asked)
        lines.append(f"| {count} | without {text} |")
    lines += [
        "", "## Each that does not answer with the newest names", "",
        "Panel id and letter; $ is a variable of the board.", "",
        "| board | query | metrics | what it takes, or why never |", "|---|---|---|---|",
    ]  # fmt: skip
    newest = next(item for item in SETTINGS if item.title == "newest names")
    for query in asked:
        reason = query.reason(newest.given)
        if reason:
            names = ", ".join(f"`{text.split()[0]}`" for text in query.asks)
            text = f"never: {query.why}" if query.why else f"set {reason}"
            lines.append(f"| {query.board} | {query.at} | {names} | {text} |")
    return "\n".join(lines) + "\n"


def _share(of: list[Query], setting: Setting) -> str:
    return f"{sum(not query.reason(setting.given) for query in of)} of {len(of)}"


if __name__ == "__main__":
    sys.exit(main())
