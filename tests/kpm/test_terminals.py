"""Every verb with wrong options, missing files, a reader that goes away, no colour, a narrow and a
plain terminal: the status that the pages name, one line for what is wrong, no traceback.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kpm.cli import _VERBS
from tests.kpm.cli_rig import REPO
from tests.kpm.object_samples import as_yaml, node, profile, workload

#: Verbs that go on until they are told to end, or need a server or a terminal of their own.
ENDLESS = {"agent", "operator", "helper", "scaler", "powercap"}
#: Verbs that print for people, with what they are given.
SHOWING: dict[str, list[str]] = {
    "init": ["--sysfs", "{tree}"],
    "discover": ["--sysfs", "{tree}"],
    "validate": ["-f", "{policy}"],
    "plan": ["-f", "{policy}", "--sysfs", "{tree}"],
    "explain": ["-f", "{policy}", "--sysfs", "{tree}", "cpu", "1"],
    "diff": ["-f", "{policy}", "--sysfs", "{tree}", "--state-dir", "{state}"],
    "apply": ["-f", "{policy}", "--sysfs", "{tree}", "--state-dir", "{state}", "--dry-run"],
    "simulate": [],
    "migrate": ["-f", "{policy}"],
    "crds": [],
    "completion": ["bash"],
}
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def places(tree: Path, tmp_path: Path) -> dict[str, str]:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        as_yaml(
            profile("slow", shared=True, pstates={"max": 1500}), workload("w", "slow"), node("n")
        )
    )
    return {"tree": str(tree), "policy": str(policy), "state": str(tmp_path / "state")}


def run(
    verb: str, words: list[str], then: str = "", **surroundings: str
) -> subprocess.CompletedProcess[str]:
    """A process as a shell starts it, without a terminal."""
    line = " ".join([sys.executable, "-m", "kpm", verb, *words, then])
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=REPO,
        env={**os.environ, **surroundings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def given(verb: str, places: dict[str, str]) -> list[str]:
    return [word.format(**places) for word in SHOWING[verb]]


@pytest.mark.parametrize("verb", _VERBS)
def test_an_option_that_is_none_is_named(verb: str) -> None:
    done = run(verb, ["--no-such-option"])
    assert done.returncode == 2
    assert "--no-such-option" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["validate", "plan", "explain", "diff", "apply", "migrate"])
def test_a_file_that_is_missing_is_named(verb: str) -> None:
    more = ["cpu", "0"] if verb == "explain" else []
    done = run(verb, ["-f", "/no/such/file.yaml", *more])
    assert done.returncode == 2
    assert "/no/such/file.yaml" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("verb", SHOWING)
def test_a_reader_that_goes_away_is_no_failure(verb: str, places: dict[str, str]) -> None:
    whole = run(verb, given(verb, places))
    done = run(verb, given(verb, places), "| head -1")
    assert done.returncode in (0, whole.returncode)
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr


@pytest.mark.parametrize("verb", SHOWING)
def test_a_pipe_gets_no_colour_and_force_color_forces_it(verb: str, places: dict[str, str]) -> None:
    plain = run(verb, given(verb, places))
    assert not COLOUR.search(plain.stdout)
    never = run(verb, given(verb, places), NO_COLOR="1")
    assert not COLOUR.search(never.stdout)
    if verb in ("plan", "diff", "simulate"):
        assert COLOUR.search(run(verb, given(verb, places), FORCE_COLOR="1").stdout)


@pytest.mark.parametrize("verb", ["discover", "validate", "plan", "explain", "diff", "simulate"])
def test_a_terminal_that_knows_ascii_alone_gets_it(verb: str, places: dict[str, str]) -> None:
    done = run(verb, given(verb, places), LC_ALL="C", LANG="C", PYTHONIOENCODING="ascii")
    assert done.returncode == run(verb, given(verb, places)).returncode
    assert done.stdout.isascii()
    assert "\\u" not in done.stdout, "each letter has its nearest, none is escaped"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["plan", "discover"])
def test_a_narrow_terminal_folds_no_number(verb: str, places: dict[str, str]) -> None:
    """At 60 columns the frequencies stand whole, in colour."""
    said = on_a_terminal([verb, *given(verb, places)], 60)
    assert COLOUR.search(said)
    plain = COLOUR.sub("", said)
    assert "Traceback" not in plain
    if verb == "plan":
        assert re.search(r"\b0\.8\.\.1\.5\b", plain)


def test_apply_asks_on_a_terminal_and_takes_no_for_an_answer(places: dict[str, str]) -> None:
    """What would change is shown first; without a yes nothing is written."""
    words = ["apply", "-f", places["policy"], "--sysfs", places["tree"]]
    words += ["--state-dir", places["state"]]
    said = on_a_terminal(words, 100, answer=b"n\n")
    assert "Write this?" in said
    assert "nothing was written" in said
    assert not Path(places["state"]).exists()
    said = on_a_terminal(words, 100, answer=b"y\n")
    assert "files written, settled" in said


def on_a_terminal(words: list[str], columns: int, answer: bytes = b"") -> str:
    """What a verb shows on a terminal of a width."""
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "LINES": "40", "TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "kpm", *words],
        cwd=REPO,
        env=environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    os.write(master, answer)
    said = b""
    with contextlib.suppress(OSError):  # the other end has gone
        while data := os.read(master, 65536):
            said += data
    process.wait(30)
    os.close(master)
    return said.decode(errors="replace")
