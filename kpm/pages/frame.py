"""The frame of every page: style, head, and the small parts of which pages are made.

Every text is escaped where it enters. Colours have a contrast of at least 4.5 to 1; a problem, a
change and a direction are words or signs first.
"""

from collections.abc import Iterable, Sequence
from html import escape

COLOURS = {
    "exclusive": "#2e7d32",
    "reserved": "#f9a825",
    "shared": "#1565c0",
    "unmanaged": "#6b6b6b",
    "offline": "#e0e0e0",
}
#: Of texts on them; white where nothing stands here.
TEXTS = {"reserved": "#000", "offline": "#595959"}

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 62rem; }
body { color: #1b1b1b; background: #fff; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; border-top: 1px solid #ccc; padding-top: .8rem; }
h3 { font-size: 1rem; margin: .8rem 0 .2rem; }
ul { margin: .2rem 0; padding-left: 1.2rem; }
.events { list-style: "▸ "; } .signs { list-style: none; padding-left: 0; }
.small { font-size: .85rem; color: #444; }
.answer { border: 2px solid #1565c0; border-radius: .4rem; padding: .6rem 1rem; margin: 1rem 0; }
.answer strong { font-size: 1.25rem; }
.maps { display: flex; flex-wrap: wrap; gap: .8rem; margin: .4rem 0; }
.maps figure { margin: 0; flex: 0 1 23rem; min-width: 14rem; }
.maps svg, .chart svg { width: 100%; height: auto; display: block; }
.chart { max-width: 40rem; margin: .6rem 0; }
figcaption { font-size: .85rem; color: #444; }
.chip { display: inline-block; padding: 0 .5em; border-radius: .3em; margin: 0 .3em .2em 0; }
.chip { font-size: .85rem; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.error { color: #b00020; font-weight: bold; } .warning { color: #7a4f00; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; }
th, td { text-align: left; padding: .15rem .7rem .15rem 0; vertical-align: top; }
th { border-bottom: 1px solid #999; overflow-wrap: normal; }
summary { cursor: pointer; font-size: .85rem; padding: .2rem 0; }
svg * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
@media print { body { max-width: none; font-size: 11pt; padding: 0; } }
@media print { section, figure, tr { break-inside: avoid; } .scroll { overflow: visible; } }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page. parts: HTML, the empty ones left out."""
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head>\n<body><main>\n<h1>{escape(title)}</h1>\n{body}\n"
        "</main></body></html>\n"
    )


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text; nothing for nothing."""
    mark = f' class="{kind}"' if kind else ""
    return f"<p{mark}>{escape(text)}</p>" if text else ""


def strong(text: str) -> str:
    """A paragraph of plain text that is the answer."""
    return f"<p><strong>{escape(text)}</strong></p>"


def chip(pool: str, text: str) -> str:
    """A small coloured label of a pool."""
    style = f"background:{COLOURS[pool]};color:{TEXTS.get(pool, '#fff')}"
    return f'<span class="chip" style="{style}">{escape(text)}</span>'


def bullets(lines: Iterable[object], kind: str = "small") -> str:
    """A list; nothing for no lines."""
    items = "".join(f"<li>{escape(str(line))}</li>" for line in lines)
    return f'<ul class="{kind}">{items}</ul>' if items else ""


def problems(errors: Iterable[object], warnings: Iterable[object]) -> str:
    """Errors apart from warnings; each says by its first word which it is."""
    return bullets(errors, "error") + bullets(warnings, "warning")


def table(head: Sequence[str], rows: Iterable[Sequence[object]], label: str) -> str:
    """A table that scrolls alone where it is wide; nothing for no rows."""
    cells = "".join(
        f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows
    )
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    attributes = f'class="scroll" tabindex="0" role="region" aria-label="{escape(label)}"'
    return (
        f"<div {attributes}><table><thead><tr>{names}</tr></thead><tbody>{cells}</tbody></table>"
        "</div>"
        if cells
        else ""
    )


def details(summary: str, inside: str) -> str:
    """What is shown when somebody asks for it, and on paper."""
    return f"<details><summary>{escape(summary)}</summary>{inside}</details>" if inside else ""
