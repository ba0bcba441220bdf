"""Runs `kpm` as a user would: in this process for speed, or as a process of its own."""

import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from attrs import frozen
from click.testing import CliRunner
from hypothesis import settings

from kpm.cli import cli

NOBODY = 65534
REPO = Path(__file__).resolve().parents[2]
SHARED = REPO.parent / "shared"
DUMPS = sorted((SHARED / "machines").glob("*.tar.*")) if (SHARED / "machines").is_dir() else []
SCHEMAS = REPO / "docs" / "schema"
#: The state folder of a run that names none: it does not exist, and not even root can make it.
NO_STATE = "/proc/self/no-state-of-the-tests"
#: What a line of a terminal may not hold: C0 and C1 controls, and delete.
CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def examples(of_a_hundred: int) -> settings:
    """Fewer or more examples than the profile has, for tests that cost more or less than others;
    at least twenty.
    """
    usual = settings.default
    assert usual is not None
    return settings(max_examples=max(20, usual.max_examples * of_a_hundred // 100))


@frozen
class Ran:
    """How a run ended."""

    code: int
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        """The lines on standard error that are no warnings."""
        return [line for line in self.err.splitlines() if not line.startswith("warning:")]


def kpm(
    *args: object, stdin: bytes | str | None = None, env: Mapping[str, str] | None = None
) -> Ran:
    """Run a verb in this process. What would end in a traceback is raised here."""
    words = [str(word) for word in args]
    if words and words[0] in ("apply", "restore") and not {"--help", "-h"}.intersection(words):
        assert "--sysfs" in words, "a test must never write to the machine it runs on"
    found = CliRunner().invoke(
        cli,
        words,
        input=stdin,
        env={"KPM_STATE_DIR": NO_STATE, **(env or {})},
        color=True,
        prog_name="kpm",
    )
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise AssertionError(f"traceback of kpm {' '.join(words)[:200]}") from found.exception
    return Ran(found.exit_code, found.stdout, found.stderr)


def run_process(
    *args: object,
    env: Mapping[str, str] | None = None,
    before: str = "",
    stdout: int = subprocess.PIPE,
) -> Ran:
    """Run a verb as a process of its own. before: Python to run in it first."""
    code = (
        f"import sys; sys.argv[0] = 'kpm'; sys.path.insert(0, {str(REPO)!r})\n{before}\nfrom"
        " kpm.__main__ import main; main()"
    )
    surroundings = {**os.environ, "KPM_STATE_DIR": NO_STATE, **(env or {})}
    words = [sys.executable, "-c", code, *(str(word) for word in args)]
    found = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=surroundings,
        timeout=30,
        check=False,
        cwd="/",
    )
    return Ran(
        found.returncode,
        (found.stdout or b"").decode(errors="replace"),
        found.stderr.decode(errors="replace"),
    )


def in_a_copy(prepare: Callable[[], None], *args: object) -> Ran:
    """Run a verb in a copy of this process, so that a signal or lost rights end with it."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # a test runner may have threads; none of them is needed in the copy
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            prepare()
            ran = kpm(*args)
            os.write(writer, json.dumps([ran.code, ran.out[-1000:], ran.err[-5000:]]).encode())
        except BaseException:  # noqa: BLE001 - the copy must end here, whatever happened
            os.write(writer, json.dumps([-1, "", traceback.format_exc()[-5000:]]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        answer = file.read()
    _, status = os.waitpid(child, 0)
    assert not os.WIFSIGNALED(status), f"ended by {signal.Signals(os.WTERMSIG(status)).name}"
    return Ran(*json.loads(answer))


def run_bounded(*args: object, seconds: int = 5, memory: int = 1 << 30) -> Ran:
    """Run a verb that may use little time, and little more memory than this process has."""

    def prepare() -> None:
        signal.alarm(seconds)
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + memory, held + memory))

    return in_a_copy(prepare, *args)


def run_as_nobody(*args: object) -> Ran:
    """Run a verb without any right beyond other people's; what it loads is loaded before, while it
    can be read.
    """
    for name in (
        "cli.applying",
        "cli.machine",
        "cli.planning",
        "cli.recording",
        "cli.tables",
        "formats.views",
        "request.hostinfo",
        "request.nodes",
        "request.objects",
        "request.tree",
    ):
        import_module(f"kpm.{name}")

    def prepare() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    return in_a_copy(prepare, *args) if os.geteuid() == 0 else kpm(*args)


def open_to_all(folder: Path) -> None:
    """Let everybody pass through the folders of the test run down to this one."""
    for path in (folder, *folder.parents):
        if path.is_relative_to(tempfile.gettempdir()) and path != Path(tempfile.gettempdir()):
            path.chmod(0o755)


def only_complaint(ran: Ran) -> str:
    """The one line of a run that ended because of its input; the contract of exit status 2."""
    assert ran.code == 2, (ran.code, ran.out[-300:], ran.err[-300:])
    assert len(ran.complaints) == 1, ran.err
    line = ran.complaints[0]
    assert line.startswith("kpm: "), line
    assert not CONTROLS.search(line), line
    assert "Traceback" not in ran.err
    return line


def assert_names(line: str, parts: Sequence[object]) -> None:
    """All of these parts stand in a message."""
    missing = [str(part) for part in parts if str(part) not in line]
    assert not missing, f"{missing} not in: {line}"


def tree_hash(root: Path) -> dict[str, str]:
    """Every entry below a folder with its kind, mode and content."""
    found: dict[str, str] = {}
    folders = [""]
    for folder in folders:
        with os.scandir(root / folder) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}".removeprefix("/")
                if entry.is_symlink():
                    content = f"-> {os.readlink(entry.path)}"
                elif entry.is_file():
                    with open(entry.path, "rb") as file:
                        content = hashlib.sha256(file.read()).hexdigest()
                else:
                    content = "folder"
                if entry.is_dir(follow_symlinks=False):
                    folders.append(name)
                found[name] = f"{entry.stat(follow_symlinks=False).st_mode:o} {content}"
    return found
