"""The commands of the pages: blocks that are marked `console`, and where they are run.

`console`: by the default tests. `console root`: by the same on a machine of files, and on real
kernels those of the first pages (tests/kernel/test_first_pages.py).
`console cluster`: against a real API server. Any other block that shows commands is `text`, and
says in a comment above it why it is not run.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
#: Blocks whose commands need no cluster.
HERE = {"console", "console root"}
_BLOCK = re.compile(r"^```(console[a-z ]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One line of a block. exit: the status that it says of itself."""

    page: str
    where: str
    line: str
    exit: int


def pages() -> list[Path]:
    """All pages that people wrote."""
    return [*sorted(REPO.glob("*.md")), *sorted((REPO / "docs").rglob("*.md"))]


def commands(page: Path) -> list[Command]:
    """The commands of a page, in order."""
    found = []
    for kind, block in _BLOCK.findall(page.read_text(encoding="utf-8")):
        for line in block.splitlines():
            if line.startswith("$ "):
                words, _, comment = line[2:].partition("  #")
                status = re.search(r"exit (\d)", comment)
                name = str(page.relative_to(REPO))
                found.append(Command(name, kind, words.strip(), int(status[1]) if status else 0))
    return found


def all_commands() -> dict[str, list[Command]]:
    """Page → its commands, of pages that have some."""
    found = {str(page.relative_to(REPO)): commands(page) for page in pages()}
    return {name: items for name, items in found.items() if items}


def desk(folder: Path, kpm: str) -> Path:
    """A folder like the repository's in which a person types. kpm: the text of the program."""
    for place in ("bin", ".venv/bin"):
        (folder / place).mkdir(parents=True)
        for name, content in (("kpm", kpm), ("sudo", '#!/bin/sh\nexec "$@"\n')):
            (folder / place / name).write_text(content)
            (folder / place / name).chmod(0o755)
    for name in ("examples", "crds", "deploy"):
        (folder / name).symlink_to(REPO / name)
    return folder


def typed(
    line: str, folder: Path, shell: str = "bash", **own: str
) -> subprocess.CompletedProcess[str]:
    """What a line does that is typed there, without a terminal. own: variables."""
    path = f"{folder}/bin:{os.environ['PATH']}"
    return subprocess.run(
        [shell, "-c", line],
        cwd=folder,
        env={**os.environ, "PATH": path, "HOME": str(folder), **own},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
