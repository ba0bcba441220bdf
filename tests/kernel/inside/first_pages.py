"""Inside a lab machine: the commands of pages, as root types them, on the real /sys.

    python first_pages.py PAGE...

Prints one line of JSON: for every command its page, its line, the exit status that it says of
itself, its own and what it said, and what the managed files showed before all and after all.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.docs.commands import HERE, all_commands, desk, typed
from tests.kernel.inside.commands import look

DESKS = Path("/tmp/desks")
KPM = f'#!/bin/sh\nexec {sys.executable} -m kpm "$@"\n'
#: The machine's disk is read-only.
STATE = "/tmp/kpm-state"


def main() -> None:
    """Type all commands and print the report."""
    before, done = look(), []
    for page in sys.argv[1:]:
        folder = desk(DESKS / page, KPM)
        for item in all_commands()[page]:
            if item.where in HERE:
                found = typed(item.line, folder, "sh", KPM_STATE_DIR=STATE)
                said = (found.stdout + found.stderr)[-2000:]
                done.append([page, item.line, item.exit, found.returncode, said])
    print(json.dumps({"commands": done, "before": before, "after": look()}))


if __name__ == "__main__":
    main()
