"""What runs of random lives came to, kept as sections of one page."""

import time
from collections.abc import Mapping
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs/developer/random-lives.md"
_TITLE = "# Random lives of nodes\n"


def keep(title: str, lines: list[str], page: Path = PAGE) -> None:
    """Put a section in the place of the one with its title, or at the end."""
    page.parent.mkdir(exist_ok=True)
    text = page.read_text(encoding="utf-8") if page.exists() else _TITLE
    parts = text.split("\n## ")
    others = [part for part in parts[1:] if part.partition("\n")[0].strip() != title]
    section = "\n".join([title, "", *lines, ""])
    page.write_text("\n## ".join([parts[0].rstrip() + "\n", *others, section]), encoding="utf-8")


def today() -> str:
    """The date, for people."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


def table(counts: Mapping[str, Mapping[str, float]]) -> list[str]:
    """A row for each kind of event, a column for each machine."""
    kinds = sorted({kind for of_machine in counts.values() for kind in of_machine})
    head = ["event", *counts]
    rows = [[kind, *(f"{counts[name].get(kind, 0)}" for name in counts)] for kind in kinds]
    return [_row(head), _row(["---"] * len(head)), *map(_row, rows)]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
