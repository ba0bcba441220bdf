"""What a run said, kept in a page of the documentation under the commit that it ran on, newest
first.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from tests.cluster.steps import REPO, run

_HEAD = """# Runs on an emulated node

What `make test-cluster-vm` said, newest first; \
[tests in a cluster](cluster-tests.md#on-a-node-with-real-drivers) says what \
is real there. Times are seconds since power on, of an emulator that shares two CPUs with others.
"""


def keep(page: Path, lines: list[str], outcome: str) -> None:
    """Put a run on top of the page."""
    old = page.read_text().partition("\n## ")[2] if page.exists() else ""
    commit = run("git", "-C", REPO, "rev-parse", "--short", "HEAD").strip()
    dirty = run("git", "-C", REPO, "status", "--porcelain", "--untracked-files=no")
    changed = " and uncommitted changes" if dirty else ""
    today = dt.datetime.now(tz=dt.UTC).date()
    section = (
        f"## {today}, commit {commit}{changed}: {outcome}\n\n```text\n"
        + "\n".join(lines)
        + "\n```\n"
    )
    page.write_text("\n".join([_HEAD, section, *([f"## {old}"] if old else [])]))
