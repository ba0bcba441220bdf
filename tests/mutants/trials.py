"""One fault and its tests: a copy of the project with the fault in it, and a process that runs the
tests there.

The process is forked from one that has loaded pytest and the libraries but nothing of the project,
so each fault costs the start of its tests and not that of the interpreter. The copy is the only
place that is written.
"""

import contextlib
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from attrs import define, field, frozen

REPO = Path(__file__).resolve().parents[2]
#: What tests load that is not of the project.
_LIBRARIES = (
    "attrs",
    "cattrs",
    "click",
    "hypothesis.strategies",
    "jsonschema",
    "prometheus_client",
    "urllib3",
    "yaml",
)
#: Seconds of the processor for the tests of one fault, and of the clock for those that wait.
BUDGET, PATIENCE = 60, 400
#: Modules whose tests are tried before all others: loading them costs more than most tests.
_FIRST = 4


@frozen
class Fault:
    """A file of the project with one text in place of another. change, what: for people, the second
    without what stays.
    """

    path: str
    line: int
    text: str
    change: str
    what: str
    operator: str
    source: str = field(repr=False)
    case: str = ""


@frozen
class Verdict:
    """What came of it.

    by: the test that failed, or what else happened; empty where the fault survives. ran: tests that
    passed. cut: the budget ended before all that reach the line had run.
    """

    by: str
    ran: int
    reach: int
    cut: bool = False


@define(eq=False)
class _Chosen:
    """The plugin that runs just these tests in this order, and tells what failed first."""

    order: Sequence[str]
    until: float
    failed: str = ""
    ran: int = 0
    cut: bool = False

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Fastest first, whatever module they are in."""
        known = {item.nodeid: item for item in items}
        items[:] = [known[name] for name in self.order if name in known]

    @pytest.hookimpl
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module that cannot be loaded with the fault in it."""
        if report.failed:
            self.failed = self.failed or f"{report.nodeid} (loading it)"

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The first failure, in whatever phase."""
        if report.failed:
            self.failed = self.failed or report.nodeid
        elif report.when == "call":
            self.ran += 1

    @pytest.hookimpl
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """No further test once the time is over."""
        if nextitem is not None and time.process_time() > self.until:
            self.cut = True
            item.session.shouldstop = "the time is over"


@contextlib.contextmanager
def copied(folder: Path) -> Iterator[Path]:
    """A copy of what tests read and run; everything else is linked."""
    root = folder / "project"
    root.mkdir()
    own = {"kpm", "kpm_applier", "kpm_planner", "tests"}
    for entry in REPO.iterdir():
        if entry.name in own:
            shutil.copytree(
                entry, root / entry.name, ignore=shutil.ignore_patterns("__pycache__", "*.tmp")
            )
        elif entry.name not in (".git", ".hypothesis"):
            (root / entry.name).symlink_to(entry)
    yield root


def load_libraries() -> None:
    """Load once what every fault's tests would load again."""
    for name in _LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def try_out(
    root: Path,
    fault: Fault,
    tests: Sequence[str],
    seconds: Mapping[str, float],
    budget: float = BUDGET,
) -> Verdict:
    """Run the tests that reach a fault until one fails: those of the first modules fastest first,
    then all others so.

    tests: those that are most of it first. budget: seconds of the processor.
    """
    order = sorted(tests, key=lambda name: seconds.get(name, 9.0))
    modules = list(dict.fromkeys(name.partition("::")[0] for name in tests))
    first = set(modules[:_FIRST])
    parts = [
        [name for name in order if (name.partition("::")[0] in first) is near]
        for near in (True, False)
    ]
    ran, left, cut = 0, budget, False
    file = root / fault.path
    original, times = file.read_text(), file.stat()
    file.write_text(fault.source)
    os.utime(file, (times.st_atime, times.st_mtime + 1 + int(time.time()) % 10**8))
    try:
        for part in parts:
            if not part or cut:
                continue
            by, more, cut, used = _run(root, part, left)
            ran, left = ran + more, left - used
            if by:
                return Verdict(by, ran, len(order))
    finally:
        file.write_text(original)
        os.utime(file, (times.st_atime, times.st_mtime))
    return Verdict("", ran, len(order), cut)


def _run(root: Path, tests: Sequence[str], seconds: float) -> tuple[str, int, bool, float]:
    """(what failed, tests that passed, whether time ended first, seconds of the processor)."""
    told = root.parent / "told.json"
    told.unlink(missing_ok=True)
    before = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(root, tests, seconds, told)
    while time.monotonic() - before < PATIENCE:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.02)
    else:
        os.killpg(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what its tests have started
    if not told.exists() and status == 0:
        raise SystemExit((root.parent / "output.txt").read_text())
    if not told.exists():
        return f"it never ends, or ends everything ({status})", 0, False, seconds
    by, ran, cut, used = json.loads(told.read_text())
    return by, ran, cut, used


def _child(root: Path, tests: Sequence[str], seconds: float, told: Path) -> None:
    """The process of the tests; does not return."""
    os.setsid()
    os.chdir(root)
    sink = os.open(root.parent / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    sys.path.insert(0, str(root))
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]  # the copy has its own
    sys.dont_write_bytecode = False
    os.environ |= {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": ""}
    start = time.process_time()
    limit = int(start + seconds) + 60
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    chosen = _Chosen(tests, start + max(seconds, 5.0))
    files = dict.fromkeys(name.partition("::")[0] for name in tests)
    words = [
        f"--basetemp={root.parent / 'tmp'}",
        "-x",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-p",
        "no:pytest_cov",
    ]
    words += ["-W", "ignore::pytest.PytestAssertRewriteWarning", *files]
    try:
        code = pytest.main(words, plugins=[chosen])
        if not chosen.failed and code not in (
            pytest.ExitCode.OK,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        ):
            chosen.failed = "" if chosen.cut else f"pytest ended with {int(code)}"
        used = time.process_time() - start
        told.write_text(json.dumps([chosen.failed, chosen.ran, chosen.cut, used]))
    except Exception:  # noqa: BLE001  # told by the parent, whatever it is
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def compiles(source: str) -> bool:
    """Whether Python takes it without a word."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compile(source, "fault", "exec")
    except (SyntaxError, ValueError):
        return False
    return True
