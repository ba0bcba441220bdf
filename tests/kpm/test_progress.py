"""On a terminal a command that writes shows how far it is; elsewhere it shows nothing of it."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kpm.tree_samples import INTEL, build_tree

REPO = Path(__file__).parents[2]
POLICY = """
apiVersion: power.openshift.io/v1
kind: PowerProfile
metadata: {name: slow, namespace: power-manager}
spec: {shared: true, pstates: {min: "0%", max: "40%"}}
---
apiVersion: power.openshift.io/v1
kind: PowerWorkload
metadata: {name: everywhere, namespace: power-manager}
spec: {allCores: true, powerProfile: slow, powerNodeSelector: {power: "yes"}}
"""


def run(tmp_path: Path, *words: str, terminal: bool) -> tuple[str, str]:
    """Standard output, and what standard error was shown."""
    where = ["--sysfs", str(tmp_path / "sys"), "--state-dir", str(tmp_path / "state")]
    master, slave = pty.openpty() if terminal else os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "kpm", *words, *where],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=slave,
            check=True,
            env={**os.environ, "PYTHONPATH": str(REPO), "TERM": "xterm", "COLUMNS": "80"},
        )
        os.write(slave, b"end")
        shown = b""
        while not shown.endswith(b"end"):  # a terminal hands over what it has, not all
            shown += os.read(master, 65536)
        return done.stdout.decode(), shown.decode()
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("terminal", [True, False])
def test_apply_and_restore_show_how_many_files_they_have_written(
    tmp_path: Path, terminal: bool
) -> None:
    """The last number is that of the report; the line is wiped at the end."""
    build_tree(tmp_path / "sys", INTEL)
    policy = str(tmp_path / "policy.yaml")
    Path(policy).write_text(POLICY)
    for words in (("apply", "--yes", "-f", policy, "--label", "power=yes"), ("restore",)):
        said, shown = run(tmp_path, *words, terminal=terminal)
        written = re.search(r"(\d+) files written", said)
        assert written, said
        assert int(written[1]) > 1
        if not terminal:
            assert shown == "end"
            continue
        counts = re.findall(r"(\d+)/(\d+|\?)", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))
        assert "writing" in shown
        assert counts[-1] == (written[1], written[1] if words[0] == "apply" else "?")
        assert shown.rpartition("\x1b[2K")[2] == "end"
