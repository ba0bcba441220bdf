"""Every command that the pages show runs, and ends as they say."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from kpm.request.machines import MODELS, build_machine
from kpm_applier.kernel_model.model import KernelModel
from tests.docs import commands
from tests.docs.commands import HERE, REPO, all_commands, pages, typed
from tests.kpm.cli_rig import DUMPS, tree_hash
from tests.trees import unpack_dump, write_tree

KINDS = {"console", "console root", "console cluster"}
#: So many commands there are: one that is taken out of the tests by its mark is noticed.
FIRST_PAGES = ("README.md", "docs/user/first-ten-minutes.md")
LEAST = {"console": 14, "console root": 7, "console cluster": 5}
#: Verbs that look at a machine, and those that keep a state.
_LOOKING = "init discover plan explain diff apply restore snapshot"
_KEEPING = "plan explain diff apply restore snapshot"
_KPM = """#!/bin/sh
verb=$1
case " $* " in *" --sysfs "*|*" --machine "*) ;; *)
    case " {looking} " in *" $verb "*) set -- "$@" --sysfs {tree} ;; esac ;;
esac
case " $* " in *" --machine "*) ;; *)
    case " {keeping} " in *" $verb "*) set -- "$@" --state-dir {state} ;; esac ;;
esac
exec {python} -m kpm "$@"
"""


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder like the repository's in which a person types, beside a machine of his own."""
    write_tree(KernelModel(build_machine(MODELS["xeon"])), tmp_path / "machine")
    return desk_beside(tmp_path / "machine/sys", tmp_path)


def desk_beside(tree: Path, place: Path) -> Path:
    """The folder, below a place, for the machine of a tree."""
    text = _KPM.format(
        looking=_LOOKING,
        keeping=_KEEPING,
        tree=tree,
        state=place / "state",
        python=sys.executable,
    )
    return commands.desk(place / "desk", text)


@pytest.mark.parametrize("page", all_commands())
def test_the_commands_of_a_page_end_as_it_says(page: str, desk: Path) -> None:
    """In order, in one folder; nothing is written but to a machine that is the test's."""
    run_page(page, desk)


@pytest.mark.parametrize("page", FIRST_PAGES)
@pytest.mark.parametrize("archive", DUMPS or [None], ids=lambda path: path.name if path else "none")
def test_the_first_pages_on_a_real_machine(archive: Path | None, page: str, tmp_path: Path) -> None:
    """They go as they say on what real machines show: Intel, AMD, cores of two kinds."""
    if archive is None:
        pytest.skip("no dumps of machines beside the repository (../shared/machines)")
    tree = unpack_dump(archive, tmp_path)
    before = tree_hash(tree)
    run_page(page, desk_beside(tree, tmp_path))
    assert tree_hash(tree) == before, "it ends with everything as it was"


def run_page(page: str, desk: Path) -> None:
    """Run its commands, in order."""
    for item in all_commands()[page]:
        if item.where in HERE:
            done = typed(item.line, desk, PYTHONPATH=str(REPO))
            assert done.returncode == item.exit, f"{item.line}\n{done.stdout}{done.stderr}"
            assert "Traceback" not in done.stderr


def test_every_block_is_of_a_known_kind_and_all_are_counted() -> None:
    counts = dict.fromkeys(KINDS, 0)
    for items in all_commands().values():
        for item in items:
            counts[item.where] += 1
    assert {kind: counts[kind] >= least for kind, least in LEAST.items()} == dict.fromkeys(
        LEAST, True
    ), counts


@pytest.mark.parametrize("page", pages(), ids=lambda path: str(path.relative_to(REPO)))
def test_what_is_not_run_says_why(page: Path) -> None:
    """A block of text has a comment above it; other blocks are data or code with tests of their
    own.
    """
    text = page.read_text(encoding="utf-8")
    opened = re.findall(r"(.*)\n```([a-z ]+)\n", text)
    for before, kind in opened:
        assert kind.split()[0] in ("console", "text", "yaml", "python"), (page, kind)
        if kind == "text":
            assert before.startswith("<!-- not run"), (page, before)


def test_paths_of_the_help_exist() -> None:
    """Files that a verb's own help names."""
    from click.testing import CliRunner

    from kpm.cli import _VERBS, cli

    for verb in _VERBS:
        said = CliRunner().invoke(cli, [verb, "--help"]).output
        for name in re.findall(r"\b(examples/[\w./-]+|docs/[\w./-]+)", said):
            assert (REPO / name).exists(), (verb, name)
