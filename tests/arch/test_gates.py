"""What keeps the planner pure, the applier's files in two modules, start-up light, and functions
short.

Import contracts see imports only; the syntax sees names; an audit hook sees what really happens.
Each catches what the others cannot.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given

import kpm
import kpm_applier
import kpm_planner
from kpm_planner.plan import plan_cluster
from kpm_planner.report.explain import explain_cpu
from kpm_planner.validate import validate_intent
from tests.arch.sources import Source, body_lines, sources
from tests.strategies.scenarios import Scenario, scenarios

ROOT = Path(str(kpm.__file__)).parent.parent
PLANNER, APPLIER = sources(kpm_planner), sources(kpm_applier)


def module_id(source: Source) -> str:
    """A module in test names."""
    return f"{source.package}.{source.name}"


# --- the planner: no input, no output, no clock ---

#: Standard modules that neither open, connect, start nor read anything, and attrs.
PURE = {
    "attrs",
    "collections",
    "datetime",
    "enum",
    "errno",
    "fractions",
    "functools",
    "itertools",
    "kpm_planner",
    "math",
    "re",
    "typing",
}
#: Names that would be an input or an output, or a way to one.
IMPURE_NAMES = {
    "open",
    "print",
    "input",
    "exec",
    "eval",
    "compile",
    "__import__",
    "breakpoint",
    "globals",
    "locals",
    "ZoneInfo",
}
CLOCKS = {"now", "utcnow", "today", "fromtimestamp", "utcfromtimestamp", "astimezone"}


@pytest.mark.parametrize("source", PLANNER, ids=module_id)
def test_a_planner_module_imports_only_what_is_pure(source: Source) -> None:
    """An allow-list: a new standard module is a decision. Lazy and type-only imports count."""
    assert {name.partition(".")[0] for name in source.imports()} <= PURE


@pytest.mark.parametrize("source", PLANNER, ids=module_id)
def test_a_planner_module_names_no_input_output_or_clock(source: Source) -> None:
    """No bare open or print, no now() or today(), no time zone file."""
    used = [
        f"line {line}: {name}"
        for line, name in source.names()
        if name in IMPURE_NAMES or name.rpartition(".")[2] in CLOCKS
    ]
    assert used == []


@pytest.mark.parametrize("source", PLANNER, ids=module_id)
def test_a_planner_module_keeps_nothing_between_calls(source: Source) -> None:
    """R1: no global statement and no cache of results; mypy is not told to look away."""
    assert not [
        node.lineno for node in ast.walk(source.tree) if isinstance(node, ast.Global | ast.Nonlocal)
    ]
    assert not [
        name for _, name in source.names() if name.rpartition(".")[2] in ("cache", "lru_cache")
    ]
    assert "type: ignore" not in source.text


#: What reads a plan to say something of it.
REPORTS = {
    f"report/{name}"
    for name in ("conditions", "earlier", "explain", "node", "power_node", "refusals", "words")
}


def test_only_plan_composes_the_decisions() -> None:
    """The other modules of the planner decide one thing each, and none of them knows the plan but
    what reads it.
    """
    users = {source.name for source in PLANNER if "kpm_planner.plan" in source.imports()}
    assert users <= {"__init__", *REPORTS}


def test_the_planners_public_names_exist_and_are_sorted() -> None:
    """What `from kpm_planner import …` offers."""
    assert list(kpm_planner.__all__) == sorted(kpm_planner.__all__)
    assert all(hasattr(kpm_planner, name) for name in kpm_planner.__all__)


class Watch:
    """Audit events that were raised below a frame of the planner.

    One hook a process: hooks cannot be taken away.
    """

    EVENTS = (
        "open",
        "os.",
        "socket.",
        "subprocess.",
        "shutil.",
        "tempfile.",
        "urllib.",
        "ctypes.",
        "glob.",
        "pty.",
        "fcntl.",
        "mmap.",
    )

    def __init__(self) -> None:
        self.active = False
        self.seen: list[str] = []
        sys.addaudithook(self.hear)

    def hear(self, event: str, _: tuple[Any, ...]) -> None:
        """Note an event that the planner caused."""
        if self.active and event.startswith(self.EVENTS):
            frame: FrameType | None = sys._getframe(1)
            while frame is not None:
                if str(frame.f_globals.get("__name__", "")).partition(".")[0] == "kpm_planner":
                    self.seen.append(f"{event} from {frame.f_globals['__name__']}:{frame.f_lineno}")
                    return
                frame = frame.f_back

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Listen meanwhile."""
        self.active = True
        try:
            yield
        finally:
            self.active = False


WATCH = Watch()


@given(scenarios())
def test_planning_opens_lists_connects_and_starts_nothing(scenario: Scenario) -> None:
    """Heard by an audit hook while planning, validating and explaining."""
    with WATCH.watching():
        cluster = plan_cluster(scenario.intent, [scenario.item])
        validate_intent(scenario.intent)
        for cpu in scenario.machine.by_id:
            explain_cpu(cluster.nodes[0], cpu)
    assert WATCH.seen == []


def test_the_audit_hook_hears_a_planner_that_opens_a_file(tmp_path: Path) -> None:
    """Otherwise silence would prove nothing."""
    path = tmp_path / "file"
    path.write_text("")
    names: dict[str, Any] = {"__name__": "kpm_planner.traitor"}
    exec("def read(path):\n    with open(path) as file:\n        return file.read()", names)
    with WATCH.watching():
        names["read"](path)
        path.read_text()
    heard, WATCH.seen = WATCH.seen, []
    assert heard == ["open from kpm_planner.traitor:2"]


# --- the applier: files and sockets in six modules ---

#: Of os, what touches no file.
HARMLESS_OS = {"os.strerror", "os.uname"}
OPENING = {"open", "io.open", "os.open", "os.fdopen"}
OPENERS = {
    "measure/counters",
    "state/files",
    "state/store",
    "sysfs/mailbox",
    "sysfs/remote",
    "sysfs/tree",
}


@pytest.mark.parametrize(
    "source",
    [source for source in APPLIER if source.name not in OPENERS],
    ids=module_id,
)
def test_only_six_modules_of_the_applier_touch_files_or_sockets(source: Source) -> None:
    """The others are handed a Host or are pure."""
    used = {
        name
        for _, name in source.names()
        if name in OPENING or (name.startswith("os.") and name not in HARMLESS_OS)
    }
    assert used == set()
    assert not {"shutil", "tempfile", "subprocess", "socket", "pathlib", "io", "glob"} & {
        name.partition(".")[0] for name in source.imports()
    }


# --- the command line: light for machines ---

VERBS = """
import contextlib, io, json, sys
from kpm.cli import cli
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        cli(words, prog_name="kpm")
    json.loads(out.getvalue())
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
POLICY = """
apiVersion: power.openshift.io/v1
kind: PowerProfile
metadata: {name: shared}
spec: {shared: true, pstates: {max: 2000}}
---
apiVersion: power.openshift.io/v1
kind: PowerWorkload
metadata: {name: shared-pool}
spec: {allCores: true, powerNodeSelector: {kubernetes.io/hostname: node-1}, powerProfile: shared}
"""


def test_offline_verbs_load_no_client_and_for_json_no_terminal_library(tmp_path: Path) -> None:
    """validate, plan, discover and diff as a script would call them, one after the other in a fresh
    process.
    """
    policy, machine, tree = tmp_path / "policy.yaml", tmp_path / "machine.yaml", tmp_path / "sys"
    policy.write_text(POLICY)
    machine.write_text("model: xeon\n")
    (tree / "devices/system/cpu").mkdir(parents=True)
    (tree / "devices/system/cpu/online").write_text("0-1\n")
    objects = ["-f", str(policy), "-o", "json"]
    root = ["--sysfs", str(tree)]
    verbs = [
        ["validate", *objects],
        ["plan", *objects, "--node", "node-1", "--machine", str(machine)],
        ["discover", *root, "-o", "json"],
        ["diff", *objects, "--node", "node-1", *root, "--state-dir", str(tmp_path / "state")],
    ]
    done = subprocess.run(
        [sys.executable, "-c", VERBS, json.dumps(verbs)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout))
    assert {"kpm", "kpm_planner", "attrs"} <= loaded
    assert not loaded & {"kubernetes", "requests", "urllib3", "aiohttp", "rich", "asyncio"}


# --- sizes ---


#: Modules that are tables: their length is the number of their rows.
TABLES = {"model/problems"}
#: Functions of the shells that are longer and wait for being cut: no others, and none that is not.
LONG = {
    "agent/build": {"build_agent"},
    "agent/metrics": {"on"},
    "cli/energy": {"report_verb"},
    "cli/options": {"planning_options"},
    "cli/shells": {"agent"},
    "energy/live": {"look"},
    "energy/collector": {"_own"},
    "energy/names": {"known_containers"},
    "formats/crds": {"crd"},
    "formats/pods": {"structure_pod"},
    "request/cpu_manager": {"assign_cpus"},
}


@pytest.mark.parametrize("source", [*PLANNER, *APPLIER, *sources(kpm)], ids=module_id)
def test_functions_have_at_most_40_lines(source: Source) -> None:
    """Bodies without their docstrings.

    Length proves nothing, but a long rule is rarely one rule.
    """
    long = {item.name for item in source.functions() if body_lines(item) > 40}
    waiting = LONG.get(source.name, set()) if source.package == "kpm" else set()
    assert long == waiting


#: Calls that take any number of one kind.
_ANY_NUMBER = {"plain_table", "struct.pack", "_named"}


@pytest.mark.parametrize("source", [*PLANNER, *APPLIER, *sources(kpm)], ids=module_id)
def test_a_call_has_at_most_five_positional_arguments(source: Source) -> None:
    """Nobody counts to the seventh value to know what it is."""
    assert not [
        f"line {node.lineno}: {ast.unparse(node.func)}"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call)
        and sum(not isinstance(value, ast.Starred) for value in node.args) > 5
        and ast.unparse(node.func) not in _ANY_NUMBER
    ]


@pytest.mark.parametrize("source", PLANNER, ids=module_id)
def test_a_planner_module_has_at_most_430_lines(source: Source) -> None:
    """One that needs a map is two; a table may be as long as it is."""
    assert source.lines <= 430 or source.name in TABLES


def test_the_planner_as_a_whole_is_made_of_small_pieces() -> None:
    """The distribution matters more than any one function: medians and nine in ten."""
    sizes = sorted(body_lines(function) for source in PLANNER for function in source.functions())
    lengths = sorted(source.lines for source in PLANNER)
    assert sizes[len(sizes) // 2] <= 8
    assert sizes[len(sizes) * 9 // 10] <= 25
    assert lengths[len(lengths) // 2] <= 150


# --- docstrings and contracts ---


@pytest.mark.parametrize("source", [*PLANNER, *APPLIER], ids=module_id)
def test_modules_and_all_that_is_public_in_them_have_a_docstring(source: Source) -> None:
    """One line of what, at least."""
    assert ast.get_docstring(source.tree)
    assert [name for name, node in source.public() if not ast.get_docstring(node)] == []


def test_the_import_contracts_hold() -> None:
    """import-linter, as `make arch` runs it."""
    command = (
        "from importlinter.cli import lint_imports; import sys;"
        " sys.exit(lint_imports(no_cache=True))"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout
