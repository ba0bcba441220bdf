"""Whether the tests would notice a fault: make small ones and see which survive (make mutants).

The theory: coverage says that a line was run, not that anybody looked at what came of it. So a line
is changed a little, as a slip of the hand would change it, and the tests that run it must fail. A
fault that all of them let pass is either a hole in the tests or no fault at all, because nothing
that anybody can see depends on it; which of the two is argued one by one in `equivalent.yaml`.

Tried are 300 lines of kpm_planner and kpm_applier without the kernel model, which is a tool of the
tests, and beside them the faults of `always.yaml`, which once survived. Every line has the same
chance: lines are drawn by a hash of their text with a seed that is checked in, so that a change
elsewhere draws no others. A line's tests are those that a run with coverage saw on it, with few
examples of each property; they run with as many as always until one fails: first the modules
with the tests that run little else than the file of the line (for a line of the next kind: those
of the checked-in definitions and those that run little at all), then all others, fastest first.
A line that runs while its module is loaded, such as a constant, is tried by the tests that run a
line with its name, by all that reach its module, and by those that run no line at all and look only
at what modules define.

Prints what it does and writes docs/developer/mutants.md; fails where fewer than 92 % are killed or
one of `always.yaml` survives. --measured FOLDER: keep there which test reaches what, and use it
again.
"""

import argparse
import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # holds the package tests

import yaml
from attrs import asdict, evolve, frozen
from coverage import CoverageData

from tests.mutants.mutations import Mutation, mutations
from tests.mutants.trials import (
    BUDGET,
    REPO,
    Fault,
    Verdict,
    compiles,
    copied,
    load_libraries,
    try_out,
)

SEED, COUNT, LIMIT = "kpm-1", 300, 0.92
HERE = Path(__file__).resolve().parent
PAGE = REPO / "docs/developer/mutants.md"
#: Folders of tests that decide; those that need root, clusters or kernels take too long for it.
FOLDERS = (
    "tests/planner",
    "tests/applier",
    "tests/helper",
    "tests/powercap",
    "tests/simulate",
    "tests/docs",
    "tests/kpm/test_crds.py",
    "tests/kpm/test_schema.py",
)
#: What users may write is checked in as files, which tell every text, bound and default.
_WRITTEN = "tests/kpm/test_crds.py"
PACKAGES = ("kpm_applier", "kpm_planner")
PROCESSES = 2


def files() -> list[Path]:
    """What faults are made in."""
    return [
        path
        for package in PACKAGES
        for path in sorted((REPO / package).rglob("*.py"))
        if path.parent.name != "kernel_model"
    ]


# --- which faults ---


def _hash(*words: str) -> str:
    return hashlib.sha256("\0".join((SEED, *words)).encode()).hexdigest()


def drawn(sources: Mapping[str, str], count: int) -> list[Fault]:
    """So many lines by their hashes, and by its hash one fault of each."""
    lines: list[tuple[str, str, str, list[Mutation]]] = []
    for path, source in sources.items():
        texts, seen = source.splitlines(), Counter[str]()
        by_line: dict[int, list[Mutation]] = {}
        for item in mutations(source):
            by_line.setdefault(item.line, []).append(item)
        for line, items in sorted(by_line.items()):
            text = texts[line - 1].strip()
            seen[text] += 1
            lines.append((_hash(path, text, str(seen[text])), path, text, items))
    found = []
    for _, path, text, items in sorted(lines, key=lambda item: item[0]):
        for item in sorted(items, key=lambda item: _hash(path, text, item.change)):
            changed = item.applied(sources[path])
            if compiles(changed):
                found.append(
                    Fault(path, item.line, text, item.change, item.what, item.operator, changed)
                )
                break
        if len(found) == count:
            break
    return found


def always(sources: Mapping[str, str]) -> list[Fault]:
    """The faults that are tried whatever is drawn: one text of a file for another."""
    found = []
    for case in yaml.safe_load((HERE / "always.yaml").read_text()):
        places = [path for path, source in sources.items() if case["text"] in source]
        if len(places) != 1 or sources[places[0]].count(case["text"]) != 1:
            raise SystemExit(f"always.yaml: not one place for: {case['text']}")
        source = sources[places[0]]
        line = source[: source.index(case["text"])].count("\n") + 1
        changed = source.replace(case["text"], case["instead"])
        change = f"{case['text']} → {case['instead'] or 'nothing'}"
        text = source.splitlines()[line - 1].strip()
        found.append(Fault(places[0], line, text, change, change, "known", changed, case["what"]))
    return found


# --- which tests ---


@frozen
class Reach:
    """Which tests run which lines, how many of each file, and how long they take."""

    lines: Mapping[str, Mapping[int, frozenset[str]]]
    seconds: Mapping[str, float]
    counts: Mapping[str, Counter[str]]

    def of(self, fault: Fault, source: str) -> list[str]:
        """The tests of a fault, those before that run little else than its file."""
        here = self.lines.get(fault.path, {})
        statement, name, loading = place(source, fault.line)
        direct = here.get(fault.line, frozenset()) or here.get(statement, frozenset())
        if direct and not loading:
            return sorted(direct, key=lambda test: (-self._share(test, fault.path), test))
        found = frozenset().union(self._by_name(name), *here.values(), self._looking())
        return sorted(found, key=lambda test: (_WRITTEN not in test, self._total(test), test))

    def _share(self, test: str, path: str) -> float:
        """How much of what a test runs is of this file."""
        counts = self.counts.get(test) or Counter()
        return counts[path] / (counts.total() or 1)

    def _total(self, test: str) -> int:
        """How many lines a test runs."""
        counts = self.counts.get(test)
        return counts.total() if counts else 0

    def _looking(self) -> frozenset[str]:
        """Tests that run no line of the packages: they look at what modules define."""
        return frozenset(self.seconds.keys() - self.counts.keys())

    def _by_name(self, name: str) -> frozenset[str]:
        word = re.compile(rf"\b{re.escape(name)}\b") if name else None
        found: set[str] = set()
        for path, lines in self.lines.items() if word else ():
            for number, text in enumerate((REPO / path).read_text().splitlines(), 1):
                if word and word.search(text):
                    found |= lines.get(number, frozenset())
        return frozenset(found)


def place(source: str, line: int) -> tuple[int, str, bool]:
    """(first line of the statement that a line belongs to, the name that it gives a value, whether
    it runs while the module is loaded).
    """
    first, name, loading = line, "", True
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0):
            first = node.lineno  # inner ones come later
            if isinstance(node, ast.AnnAssign | ast.Assign):
                target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                name = ast.unparse(target)
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                name = node.name
            if isinstance(node, ast.FunctionDef):
                loading = loading and line < node.body[0].lineno
    return first, name if name.isidentifier() else "", loading


def measure(folder: Path) -> Reach:
    """Run the tests once with coverage, unless the folder has what came of it."""
    data, times = folder / "coverage", folder / "durations.json"
    if not data.exists():
        folder.mkdir(parents=True, exist_ok=True)
        env = os.environ | {
            "COVERAGE_FILE": str(data),
            "HYPOTHESIS_PROFILE": "few",
            "KPM_DURATIONS": str(times),
            "PYTHONPATH": str(REPO),
        }
        words = "-p tests.mutants.durations -p no:cacheprovider --cov --cov-context=test"
        command = [sys.executable, "-m", "pytest", "-n", "2", *words.split(), "--cov-report="]
        subprocess.run([*command, *FOLDERS], cwd=REPO, env=env, check=True)
    coverage = CoverageData(str(data))
    coverage.read()
    known: dict[str, dict[int, frozenset[str]]] = {}
    for name in coverage.measured_files():
        known[str(Path(name).relative_to(REPO))] = {
            line: frozenset(
                context.rpartition("|")[0] for context in contexts if "|" in context
            )
            for line, contexts in coverage.contexts_by_lineno(name).items()
        }  # fmt: skip
    counts: dict[str, Counter[str]] = {}
    for name, lines in known.items():
        for tests in lines.values():
            for test in tests:
                counts.setdefault(test, Counter())[name] += 1
    return Reach(known, json.loads(times.read_text()), counts)


# --- running ---


def _worker(
    number: int, faults: Sequence[Fault], reach: Reach, results: Path, budget: float
) -> None:
    """Try every second fault in a copy of its own."""
    load_libraries()
    with (
        tempfile.TemporaryDirectory(prefix="kpm-mutants-") as folder,
        copied(Path(folder)) as root,
        results.open("a") as told,
    ):
        _control(root, faults, reach)
        for fault in faults[number::PROCESSES]:
            start = time.monotonic()
            source = (REPO / fault.path).read_text()
            verdict = try_out(root, fault, reach.of(fault, source), reach.seconds, budget)
            mark = "killed  " if verdict.by else "SURVIVES"
            print(
                f"{mark} {fault.path}:{fault.line} {fault.change}"
                f" [{verdict.ran} of {verdict.reach}, {time.monotonic() - start:.0f} s]",
                flush=True,
            )
            told.write(json.dumps([_key(fault), asdict(verdict)]) + "\n")
            told.flush()


def _control(root: Path, faults: Sequence[Fault], reach: Reach) -> None:
    """The same without a fault: where that fails, a failure says nothing."""
    for fault in faults[:1]:
        source = (REPO / fault.path).read_text()
        some = reach.of(fault, source)[:20]
        verdict = try_out(root, evolve(fault, source=source), some, reach.seconds)
        if verdict.by or not verdict.ran:
            raise SystemExit(f"without a fault: {verdict}")


def _key(fault: Fault) -> str:
    return "\0".join((fault.path, str(fault.line), fault.text, fault.change))


def _tried(results: Path) -> dict[str, Verdict]:
    """What an earlier run has found, by fault."""
    lines = results.read_text().splitlines() if results.exists() else []
    return {key: Verdict(**verdict) for key, verdict in map(json.loads, lines)}


def try_all(
    faults: Sequence[Fault], reach: Reach, results: Path, budget: float
) -> dict[str, Verdict]:
    """Two processes at once; of what an earlier run has tried only those are tried again that
    survived without an argument, at the end.
    """
    known = _tried(results)
    argued = argued_ones()
    left = [
        fault
        for fault in faults
        if _key(fault) not in known
        or not (known[_key(fault)].by or (fault.path, fault.text, fault.what) in argued)
    ]
    left.sort(key=lambda fault: _key(fault) in known)
    children = []
    for number in range(PROCESSES):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                _worker(number, left, reach, results, budget)
                status = 0
            except SystemExit as told:
                print(told, flush=True)
            except Exception:  # noqa: BLE001  # told by the parent, whatever it is
                traceback.print_exc()
            finally:
                os._exit(status)
        children.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    if any(statuses):
        raise SystemExit("a process has failed")
    return _tried(results)


# --- the page ---


def argued_ones() -> dict[tuple[str, str, str], str]:
    """(file, line, change) → why nobody can see it."""
    return {
        (item["file"], item["line"], item["change"]): item["because"]
        for item in yaml.safe_load((HERE / "equivalent.yaml").read_text()) or ()
    }


def page(faults: Sequence[Fault], verdicts: Mapping[str, Verdict]) -> tuple[str, bool]:
    """docs/developer/mutants.md, and whether enough were killed."""
    arguments = argued_ones()
    sample = [fault for fault in faults if not fault.case]
    known = [fault for fault in faults if fault.case]
    killed = [fault for fault in sample if verdicts[_key(fault)].by]
    alive = [fault for fault in sample if not verdicts[_key(fault)].by]
    argued = {
        _key(fault): arguments[fault.path, fault.text, fault.what]
        for fault in alive
        if (fault.path, fault.text, fault.what) in arguments
    }
    holes = [fault for fault in alive if _key(fault) not in argued]
    share = len(killed) / (len(sample) - len(argued))
    good = share >= LIMIT and all(verdicts[_key(fault)].by for fault in known)
    rows = [
        "# Faults that the tests must notice",
        "",
        (
            "`make mutants` writes this page. It changes a line as a slip of the hand would, runs"
            " the tests that run the line, and counts the faults that none of them notices."
            " [tests/mutants/run.py](../../tests/mutants/run.py) says how lines are drawn."
        ),
        "",
        "| | |",
        "|---|---|",
        f"| lines tried | {len(sample)} |",
        f"| killed | {len(killed)} |",
        f"| survivors that change nothing anybody can see, argued below | {len(argued)} |",
        f"| other survivors | {len(holes)} |",
        f"| killed of those that change something | {share:.1%} (at least {LIMIT:.0%}) |",
        f"| faults that are always tried | {len(known)} |",
        f"| killed of these | {sum(bool(verdicts[_key(fault)].by) for fault in known)} |",
        "",
        "By kind of change:",
        "",
        "| change | tried | killed |",
        "|---|---|---|",
    ]
    tried, dead = Counter(f.operator for f in sample), Counter(f.operator for f in killed)
    rows += [f"| {name} | {tried[name]} | {dead[name]} |" for name in sorted(tried)]
    rows += ["", "## Always tried", "", "| fault | killed by |", "|---|---|"]
    rows += [
        f"| {fault.case} | {_code(verdicts[_key(fault)].by) if verdicts[_key(fault)].by else '—'} |"
        for fault in known
    ]
    rows += ["", "## Survivors", "", "| where | what was changed |", "|---|---|"]
    rows += list(_table(holes))
    rows += ["", "## What changes nothing", ""]
    rows += ["| where | what was changed | why nobody can see it |", "|---|---|---|"]
    rows += [
        f"| {fault.path}:{fault.line} | {_code(fault.what)} | {argued[_key(fault)]} |"
        for fault in sorted(alive, key=lambda fault: (fault.path, fault.line))
        if _key(fault) in argued
    ]
    return "\n".join(rows) + "\n", good


def _table(faults: Iterable[Fault]) -> Iterator[str]:
    for fault in sorted(faults, key=lambda fault: (fault.path, fault.line)):
        yield f"| {fault.path}:{fault.line} | {_code(fault.what)} |"


def _code(text: str) -> str:
    escaped = text.replace("|", "\\|")
    return f"``{escaped}``" if "`" in escaped else f"`{escaped}`"


def main() -> int:
    """Draw, try, write the page."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    words.add_argument("--measured", type=Path, help="a folder that keeps the measurement")
    words.add_argument("--results", type=Path, help="a file that keeps verdicts: go on there")
    words.add_argument("--count", type=int, default=COUNT, help="so many lines instead of 300")
    words.add_argument("--seconds", type=float, default=BUDGET, help="of the processor for each")
    given: Any = words.parse_args()
    sources = {str(path.relative_to(REPO)): path.read_text() for path in files()}
    faults = [*always(sources), *drawn(sources, given.count)]
    with tempfile.TemporaryDirectory(prefix="kpm-mutants-") as folder:
        reach = measure(given.measured or Path(folder) / "measured")
        verdicts = try_all(
            faults, reach, given.results or Path(folder) / "results.jsonl", given.seconds
        )
    text, good = page(faults, verdicts)
    PAGE.write_text(text)
    print(text)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
