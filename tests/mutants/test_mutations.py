"""The faults that lines are given: each is one change, the rest of the file stays as it is."""

from pathlib import Path

import pytest
import yaml

from tests.mutants.mutations import mutations

REPO = Path(__file__).resolve().parents[2]
PACKAGES = ("kpm_applier", "kpm_planner")
SOURCES = [
    path.read_text(encoding="utf-8")
    for package in PACKAGES
    for path in sorted((REPO / package).rglob("*.py"))
]


def changed(source: str) -> set[str]:
    """What the last line of a source may become."""
    return {item.applied(source).splitlines()[-1].strip() for item in mutations(source)}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", {"(a <= b)", "(a > b)"}),
        ("a <= b < c", {"(a < b < c)", "(a <= b <= c)"}),
        ("a is None", {"(a is not None)"}),
        ("a and b", {"(a or b)", "(a)", "(b)", "(not a and b)", "(a and (not b))"}),
        ("not a", {"(a)"}),
        ("a + 1", {"(a - 1)", "a + (0)", "a + (2)"}),
        ("min(a, b)", {"(max(a, b))"}),
        ("a if b else c", {"(c if b else a)", "a if (not b) else c"}),
        ("'µ', a + b", {"('µx'), a + b", "(''), a + b", "'µ', (a - b)"}),
        ("True", {"(False)"}),
        ("0.5", {"(2.0)"}),
        ("[a for a in b if c]", {"[a for a in b if (not c)]"}),
    ],
)
def test_an_expression_becomes_each_of_its_neighbours(source: str, expected: set[str]) -> None:
    """Comparisons, logic, arithmetic, arms, extremes, constants."""
    assert changed(f"x = {source}") == {f"x = {text}" for text in expected}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(a) -> int:\n    a.append(b)", {"pass"}),
        ("def f(a) -> int:\n    a += b", {"pass", "a -= b"}),
        ("def f(a) -> str:\n    return a", {"return ''"}),
        ("def f(a) -> tuple[int, ...]:\n    return a", {"return ()"}),
        ("def f(a) -> tuple[int, str]:\n    return a", {"return None"}),
        ("def f(a) -> None:\n    a.b = c", {"pass"}),
        ("def f(a) -> None:\n    raise a", {"pass"}),
    ],
)
def test_a_statement_is_left_out_or_returns_nothing(source: str, expected: set[str]) -> None:
    """By what its function promises; the last return is not left out, since that is the same."""
    assert changed(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""Text."""',
        "import a",
        "from a import b",
        "x: 'A | None'",
        "__all__ = ['a']",
        "_Pair = tuple[int, str | None]",
        "if TYPE_CHECKING:\n    x = 1",
        "@a(1)\ndef f(b: 'c') -> 'd': ...",
    ],
)
def test_what_decides_nothing_has_no_fault(source: str) -> None:
    """Docstrings, imports, annotations, decorators and what only type checkers read."""
    assert mutations(source) == []


def test_what_is_always_tried_is_in_one_place() -> None:
    """Whoever changes such a line changes tests/mutants/always.yaml with it."""
    cases = yaml.safe_load((Path(__file__).parent / "always.yaml").read_text(encoding="utf-8"))
    assert len(cases) >= 4
    for case in cases:
        assert sum(source.count(case["text"]) for source in SOURCES) == 1, case["text"]


def test_what_changes_nothing_is_argued_and_still_there() -> None:
    """An argument about a line that is gone is none."""
    path = Path(__file__).parent / "equivalent.yaml"
    for item in yaml.safe_load(path.read_text(encoding="utf-8")):
        lines = (REPO / item["file"]).read_text(encoding="utf-8").splitlines()
        assert item["line"] in [line.strip() for line in lines], item["line"]
        assert item["change"]
        assert len(item["because"].split()) > 5
