"""Styles and scripts of the pages, and what browsers are told of all that is served."""

from functools import lru_cache
from importlib.resources import files

from kpm.pages.frame import STYLE

#: Name → kind.
ASSETS = {"style.css": "text/css", "live.js": "text/javascript", "plan.js": "text/javascript"}
#: Scripts are these files alone; a page of a plan has its style in itself.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self';"
        " connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@lru_cache(8)
def asset(name: str) -> bytes:
    """One of them; the style is that of all pages, and what these have beside."""
    own = files("kpm.ui").joinpath("templates", name).read_bytes()
    return STYLE.encode() + own if name == "style.css" else own
