"""The documentation is true: generated pages are current, links lead somewhere, rules name tests
that exist.
"""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from kpm.cli import _VERBS, cli
from kpm_planner.model.problems import Code
from tests.programs import load_program

REPO = Path(__file__).resolve().parents[2]
PAGES = [*sorted(REPO.glob("*.md")), *sorted((REPO / "docs").rglob("*.md"))]


def make_pages() -> dict[str, object]:
    """The makers of the generated pages."""
    return dict(load_program("docs/make_pages.py").PAGES)


@pytest.mark.parametrize(
    "name",
    [
        "user/quickstart.svg",
        "user/doctor.md",
        "user/quickstart.html",
        "user/data-flow.svg",
        "user/scaling.svg",
        "user/problems.md",
        "user/resources.md",
        "user/security.md",
    ],
)
def test_a_generated_page_is_what_the_program_makes_now(name: str) -> None:
    """`make pages` would change nothing."""
    made = make_pages()[name]
    assert callable(made)
    assert (REPO / "docs" / name).read_text(encoding="utf-8") == made(), "run make pages"


FIELD_REPORTS = REPO / "docs/developer/field-reports.md"
#: How a field report is cited, in text whose lines are joined: one number, a list, a range.
_CITED = re.compile(r"field reports? (\d+(?:(?:, | and | to )\d+)*)|\bFR(\d+)", re.IGNORECASE)
#: What a page or a comment must not point to, because it is not here.
_OUTSIDE = re.compile(
    r"design §|\bdesign\.md|user-asks|\bpeers (?:§|[a-g]\d?\b)|\bdeps\.md|\baesthetics\b|\bKI#\d"
)


def texts() -> list[Path]:
    """What people wrote in this repository: code, pages, manifests."""
    folders = ("kpm", "kpm_applier", "kpm_planner", "tests", "docs", "deploy", "examples", ".ci")
    found = [path for path in REPO.iterdir() if path.is_file() and path.name != ".git"]
    for folder in folders:
        found += [path for path in (REPO / folder).rglob("*") if path.is_file()]
    kinds = {".py", ".md", ".yaml", ".toml", ".go", ".c", ""}
    return [path for path in found if path.suffix in kinds and path != Path(__file__).resolve()]


def cited(text: str) -> set[int]:
    """The numbers of the field reports that a text cites."""
    numbers: set[int] = set()
    for listed, single in _CITED.findall(re.sub(r"\s*\n\s*(?:#:? ?)?", " ", text)):
        for first, last in re.findall(r"(\d+)(?: to (\d+))?", listed or single):
            numbers |= set(range(int(first), int(last or first) + 1))
    return numbers


def test_citations_are_read_as_they_are_written() -> None:
    """Lists, ranges, and over the end of a line."""
    assert cited("(field report\n    39) and Field reports 1 to 3, 20 and\n#: 22; FR60") == {
        *(1, 2, 3, 20, 22, 39, 60)
    }


def test_every_field_report_that_is_cited_has_its_row() -> None:
    """And each row once, in order, and with a test that cites it."""
    rows = re.findall(r"^\| FR(\d+) \|", FIELD_REPORTS.read_text(encoding="utf-8"), re.MULTILINE)
    known = [int(row) for row in rows]
    assert known == sorted(set(known))
    by_tests: set[int] = set()
    for path in texts():
        numbers = cited(path.read_text(encoding="utf-8", errors="replace"))
        assert numbers <= set(known), path
        if path.is_relative_to(REPO / "tests"):
            by_tests |= numbers
    assert set(known) - by_tests == set()


def test_no_page_is_cited_that_is_not_here() -> None:
    """Notes that are kept elsewhere say nothing to whoever reads this repository alone."""
    named = {
        path.relative_to(REPO): found[0]
        for path in texts()
        if (found := _OUTSIDE.search(path.read_text(encoding="utf-8", errors="replace")))
    }
    assert named == {}


def headings(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    lines = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link and picture of a page exists, and the heading that it names."""
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        name, _, heading = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        assert not heading or heading in headings(file), target


#: Pages that tell of runs name what was there then.
_RECORDS = {"cluster-runs.md", "cluster-vm-runs.md", "policy-runs.md", "random-lives.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_files_that_a_page_names_exist(page: Path) -> None:
    """By their path from the top of the repository; a pattern matches something."""
    if page.name in _RECORDS:
        return
    tops = "kpm|kpm_applier|kpm_planner|tests|docs|deploy|examples|crds"
    for path in re.findall(rf"`((?:{tops})/[\w./*-]*)`", page.read_text(encoding="utf-8")):
        assert any(REPO.glob(path.rstrip("/"))), path


def test_every_rule_names_tests_that_exist() -> None:
    """docs/developer/rules.md: a rule without a test, or with one that has gone, is not held."""
    rows = [
        line
        for line in (REPO / "docs/developer/rules.md").read_text(encoding="utf-8").splitlines()
        if re.match(r"\| [A-Z](?:-E)?\d", line)
    ]
    assert len(rows) >= 40
    ids = [row.split()[1] for row in rows]
    assert len(ids) == len(set(ids))
    for row in rows:
        named = re.findall(r"`(tests/[\w/.]+)(?:::(\w+))?`", row)
        assert named, row
        for file, test in named:
            assert (REPO / file).exists(), (row, file)
            assert not test or f"def {test}(" in (REPO / file).read_text(encoding="utf-8"), (
                row,
                test,
            )


def test_every_verb_is_in_the_command_line_page_and_has_an_example() -> None:
    """docs/user/cli.md and the help know all verbs."""
    page = (REPO / "docs/user/cli.md").read_text(encoding="utf-8")
    for verb in _VERBS:
        assert f"`{verb}" in page
        assert f"kpm {verb}" in CliRunner().invoke(cli, [verb, "--help"]).output


def test_every_problem_code_is_listed() -> None:
    """docs/user/problems.md has all codes."""
    page = (REPO / "docs/user/problems.md").read_text(encoding="utf-8")
    assert all(f"| `{code}` |" in page for code in Code)


def test_every_dependency_is_accounted_for() -> None:
    """docs/developer/dependencies.md names what pyproject.toml asks for."""
    page = (REPO / "docs/developer/dependencies.md").read_text(encoding="utf-8").lower()
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for requirement in [
        *project["dependencies"],
        *extras["cluster"],
        *extras["ui"],
        *extras["dev"],
    ]:
        name = re.split(r"[><=]", requirement)[0].lower()
        assert name.removeprefix("types-") in page, name


def test_the_readme_promises_targets_that_exist() -> None:
    """make demo and make test, which the README opens with, are in the
    Makefile and called by CI.
    """
    makefile, script = (REPO / "Makefile").read_text(), (REPO / ".ci/run").read_text()
    for target in ("demo", "test"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
        assert f"make {target}" in (REPO / "README.md").read_text()
        assert f"make {target}" in script


def test_the_hooks_before_a_commit_are_those_of_make_check() -> None:
    """One hook for each of its targets, by the same command."""
    checked = re.search(r"^check: ([^#]+)", (REPO / "Makefile").read_text(), re.MULTILINE)
    assert checked is not None
    hooks = yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["entry"] for hook in hooks] == [f"make {name}" for name in checked[1].split()]
