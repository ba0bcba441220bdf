"""Inside a lab machine: the commands of pages, as root types them, on the real /sys.

    python first_pages.py PAGE...

Prints one line of JSON: for every command its page, its line, the exit status that it says of
itself, its own and what it said, and what the managed files showed before all and after all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.docs.commands import REPO, all_commands
from tests.kernel.inside.commands import look

DESKS = Path("/tmp/desks")
PROGRAMS = {
    "kpm": f'#!/bin/sh\nexec {sys.executable} -m kpm "$@"\n',
    "sudo": '#!/bin/sh\nexec "$@"\n',
}


def desk(page: str) -> Path:
    """A folder like the repository's, with the program in the places that the pages name."""
    place = DESKS / page
    for folder in ("bin", ".venv/bin"):
        (place / folder).mkdir(parents=True)
        for name, text in PROGRAMS.items():
            (place / folder / name).write_text(text)
            (place / folder / name).chmod(0o755)
    for name in ("examples", "crds", "deploy"):
        (place / name).symlink_to(REPO / name)
    return place


def typed(line: str, place: Path) -> subprocess.CompletedProcess[str]:
    """A line, in a shell; the machine's disk is read-only, so the state stands elsewhere."""
    path = f"{place}/bin:{os.environ['PATH']}"
    own = {"PATH": path, "HOME": str(place), "KPM_STATE_DIR": "/tmp/kpm-state"}
    return subprocess.run(
        ["sh", "-c", line],
        cwd=place,
        env={**os.environ, **own},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def main() -> None:
    """Type all commands and print the report."""
    before, done = look(), []
    for page in sys.argv[1:]:
        place = desk(page)
        for item in all_commands()[page]:
            if item.where != "console cluster":
                found = typed(item.line, place)
                said = (found.stdout + found.stderr)[-2000:]
                done.append([page, item.line, item.exit, found.returncode, said])
    print(json.dumps({"commands": done, "before": before, "after": look()}))


if __name__ == "__main__":
    main()
