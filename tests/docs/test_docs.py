"""The documentation is true: generated pages are current, links lead somewhere, rules name tests
that exist.
"""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from kpm.cli import _VERBS, cli
from kpm_planner.model.problems import Code

REPO = Path(__file__).resolve().parents[2]
PAGES = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]


def make_pages() -> dict[str, object]:
    """The makers of the generated pages."""
    spec = importlib.util.spec_from_file_location("make_pages", REPO / "docs/make_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.PAGES)


@pytest.mark.parametrize(
    "name",
    [
        "quickstart.svg",
        "quickstart.html",
        "data-flow.svg",
        "scaling.svg",
        "problems.md",
        "resources.md",
        "security.md",
    ],
)
def test_a_generated_page_is_what_the_program_makes_now(name: str) -> None:
    """`make pages` would change nothing."""
    made = make_pages()[name]
    assert callable(made)
    assert (REPO / "docs" / name).read_text(encoding="utf-8") == made(), "run make pages"


#: Rows of the table of what users of earlier systems met that are about things not built yet.
NOT_YET: set[int] = set()


def test_each_of_the_sixty_bugs_of_earlier_systems_has_a_test_that_cites_it() -> None:
    """As "user-asks N" in the test's words."""
    cited = set()
    for file in (REPO / "tests").rglob("*.py"):
        for rows in re.findall(
            r"user-asks ((?:\d+(?:, | and )?)+)", file.read_text(encoding="utf-8"), re.IGNORECASE
        ):
            cited |= {int(number) for number in re.findall(r"\d+", rows)}
    assert set(range(1, 61)) - cited == NOT_YET


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link and picture of a page exists."""
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_every_rule_names_tests_that_exist() -> None:
    """docs/rules.md: a rule without a test, or with one that has gone, is not held."""
    rows = [
        line
        for line in (REPO / "docs/rules.md").read_text(encoding="utf-8").splitlines()
        if re.match(r"\| [RAPCUEX]", line)
    ]
    assert len(rows) >= 40
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
    """docs/cli.md and the help know all verbs."""
    page = (REPO / "docs/cli.md").read_text(encoding="utf-8")
    for verb in _VERBS:
        assert f"`{verb}" in page
        assert f"kpm {verb}" in CliRunner().invoke(cli, [verb, "--help"]).output


def test_every_problem_code_is_listed() -> None:
    """docs/problems.md has all codes."""
    page = (REPO / "docs/problems.md").read_text(encoding="utf-8")
    assert all(f"| `{code}` |" in page for code in Code)


def test_every_dependency_is_accounted_for() -> None:
    """docs/dependencies.md names what pyproject.toml asks for."""
    page = (REPO / "docs/dependencies.md").read_text(encoding="utf-8").lower()
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
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
