"""The pages as a site, by task, without anything from outside (make docs).

    python docs/make_site.py FOLDER      needs zensical on the path

Pages that stand beside docs/ come along; a link to a file that is no page loses its link and keeps
its words. Then every link and anchor of the site is looked up, and every address that would be
fetched from elsewhere is a fault.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

DOCS = Path(__file__).parent
REPO = DOCS.parent
#: Pages outside of docs/ that the site has → their place in it.
BESIDE = {
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "developer/contributing.md",
    "SECURITY.md": "security-policy.md",
    "deploy/charts/kubernetes-power-manager/README.md": "user/chart.md",
    "deploy/charts/kubernetes-power-manager-crds/README.md": "user/chart-crds.md",
}
NAV: dict[str, dict[str, str]] = {
    "Start": {
        "First ten minutes": "user/first-ten-minutes.md",
        "Concepts": "user/concepts.md",
        "When something is wrong": "user/troubleshooting.md",
        "What the doctor finds": "user/doctor.md",
    },
    "In a cluster": {
        "Installing": "user/installing.md",
        "Operator and agents": "user/cluster.md",
        "Helm chart": "user/chart.md",
        "Definitions' chart": "user/chart-crds.md",
        "Looking at a running cluster": "user/live.md",
        "Security": "user/security.md",
    },
    "Tasks": {
        "Profiles": "user/profiles.md",
        "Measuring energy": "user/energy.md",
        "Polling pods": "user/scaling.md",
        "Power caps, fabrics, turbo": "user/power.md",
        "Scenarios": "user/simulate.md",
        "Coming from another system": "user/migrating.md",
    },
    "Reference": {
        "Command line": "user/cli.md",
        "Custom resources": "user/resources.md",
        "Problem codes": "user/problems.md",
        "Changes": "changes.md",
    },
}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def main(target: Path) -> None:
    """Make the site in `target`. Exits with what is wrong."""
    source = target / "source"
    shutil.rmtree(target, ignore_errors=True)
    places = _places()
    for page, place in places.items():
        path = source / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_moved(page, place, places), encoding="utf-8")
    for path in [*DOCS.rglob("*.svg"), *DOCS.rglob("*.png"), *DOCS.rglob("*.html")]:
        copy = source / path.relative_to(DOCS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    (target / "zensical.toml").write_text(_settings())
    generator = shutil.which("zensical") or sys.exit("zensical is not on the path")
    subprocess.run([generator, "build", "--strict"], check=True, cwd=target)
    pages = _read(target / "site")
    faults = list(_faults(target / "site", pages))
    if faults:
        sys.exit("\n".join(faults))
    links = sum(len(page.links) for page in pages.values())
    sys.stdout.write(f"{len(pages)} pages, {links} links lead somewhere\n")


def _places() -> dict[Path, str]:
    """Page → its place in the site."""
    found = {path: str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    found[DOCS / "README.md"] = "index.md"
    return found | {REPO / name: place for name, place in BESIDE.items()}


def _moved(page: Path, place: str, places: dict[Path, str]) -> str:
    """A page with its links as they are from its place."""

    def link(found: re.Match[str]) -> str:
        mark, text, target = found.groups()
        parts = urlsplit(target)
        if parts.scheme or not parts.path:
            return found[0]
        path = (page.parent / parts.path).resolve()
        anchor = f"#{parts.fragment}" if parts.fragment else ""
        if path in places:
            up = "../" * place.count("/")
            return f"{mark}[{text}]({up}{places[path]}{anchor})"
        if path.is_relative_to(DOCS) and path.suffix in (".svg", ".png", ".html"):
            return found[0]
        return text

    return _LINK.sub(link, page.read_text(encoding="utf-8"))


def _settings() -> str:
    """What the generator is told; fonts and scripts are its own, from the site itself."""
    parts = []
    for part, pages in NAV.items():
        entries = ", ".join(f'{{ "{name}" = "{page}" }}' for name, page in pages.items())
        parts.append(f'  {{ "{part}" = [{entries}] }}')
    nav = ",\n".join(parts)
    return (
        '[project]\nsite_name = "Kubernetes Power Manager"\ndocs_dir = "source"\n'
        'site_dir = "site"\nuse_directory_urls = false\n'
        f'nav = [\n  {{ "Overview" = "index.md" }},\n{nav}\n]\n'
        '[project.theme]\nlanguage = "en"\nfont = false\n'
        'features = ["navigation.sections", "navigation.top", "search.highlight", '
        '"content.code.copy"]\n'
    )


class _Page(HTMLParser):
    """Links, anchors and what is fetched of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors.update(filter(None, (given.get("id"), given.get("name"))))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"] or "")
        elif tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.fetched.append(given.get("href") or "")
        elif given.get("src"):
            self.fetched.append(given["src"] or "")


def _read(site: Path) -> dict[Path, _Page]:
    """All pages of a site."""
    pages: dict[Path, _Page] = {}
    for path in sorted(site.rglob("*.html")):
        pages[path] = _Page()
        pages[path].feed(path.read_text(encoding="utf-8"))
    return pages


def _faults(site: Path, pages: dict[Path, _Page]) -> Iterator[str]:
    """Links that lead nowhere, and what would come from elsewhere."""
    for path, page in pages.items():
        name = path.relative_to(site)
        for address in page.fetched:
            if urlsplit(address).netloc:
                yield f"{name}: fetches {address}"
        for address in page.links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or address.startswith(("#__", "/")):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                yield f"{name}: {address} leads nowhere"
            elif (
                parts.fragment
                and target in pages
                and unquote(parts.fragment) not in pages[target].anchors
            ):
                yield f"{name}: {address} has no such anchor"


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
