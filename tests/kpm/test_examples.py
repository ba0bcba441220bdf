"""Examples and documentation say what is true: the policies are valid, the commands exist
(field report 55).
"""

import json
import re
import shlex
from pathlib import Path

import click
import pytest

from kpm.cli import cli
from kpm.formats import documents
from kpm.request.machines import MODELS
from tests.kpm.cli_rig import REPO, kpm

EXAMPLES = sorted((REPO / "examples").glob("*/objects.yaml"))
#: Examples that show messages; what is wrong in them is wrong on purpose.
MISTAKES = {"mistakes"}
PAGES = [REPO / "README.md", *sorted((REPO / "docs").rglob("*.md"))]
_COMMAND = re.compile(r"^\s*\$?\s*(?:sudo )?(?:\S*/)?(kpm \w.*)$")


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.parent.name)
def test_an_example_is_valid(file: Path) -> None:
    ran = kpm("validate", "-f", file)
    assert ran.code == (1 if file.parent.name in MISTAKES else 0), ran.out
    assert not ran.err
    if file.parent.name not in MISTAKES:
        assert "warning" not in ran.out


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.parent.name)
def test_an_example_can_be_planned_anywhere(file: Path, tmp_path: Path) -> None:
    """On every model, also on one that it was not written for: what does not fit is a problem,
    never a refusal.
    """
    for model in MODELS:
        (tmp_path / "m.json").write_text(f'{{"model": "{model}"}}')
        ran = kpm(
            "plan",
            "-f",
            file,
            "--machine",
            f"n={tmp_path / 'm.json'}",
            "--assign-cpus",
            "-o",
            "json",
        )
        assert ran.code in (0, 1), ran
        assert not ran.complaints


FILES = sorted(
    path for path in (REPO / "examples").glob("example-*.yaml") if "kubelet" not in path.name
)
#: Machines on which the examples of single objects are to be right: a server with two packages, and
#: one whose driver has governor userspace.
SERVER = {"model": "xeon", "packages": 2}
ACPI = {"driver": "acpi-cpufreq", "cores": 8, "minMHz": 1500, "maxMHz": 3500}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_of_one_object_is_right_on_a_usual_server(file: Path, tmp_path: Path) -> None:
    """No error, on a machine of its kind, with a node that has the label of all examples."""
    dpdk = "dpdk" in file.name
    (tmp_path / "m.json").write_text(json.dumps(ACPI if dpdk else SERVER))
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": "worker-1",
            "labels": {"feature.node.kubernetes.io/power-node": "true"},
        },
    }
    (tmp_path / "node.json").write_text(json.dumps(node))
    needed = {
        REPO / f"examples/example-{name}.yaml"
        for name in (("powerprofile-dpdk",) if dpdk else ("powerprofile", "shared-profile"))
    }
    given = [word for path in sorted({file, *needed}) for word in ("-f", path)]
    ran = kpm(
        "plan",
        *given,
        "-f",
        tmp_path / "node.json",
        "--machine",
        f"worker-1={tmp_path / 'm.json'}",
        "--assign-cpus",
        "-o",
        "json",
    )
    assert ran.code == 0, ran.out[-600:] + ran.err
    assert [item for item in json.loads(ran.out)["problems"] if item["severity"] == "error"] == []


def commands(page: Path) -> list[list[str]]:
    """The words of every kpm command in the blocks of a page."""
    blocks = re.findall(
        r"^```(?:console|sh|shell|bash)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
    )
    lines = [
        match.group(1)
        for block in blocks
        for line in block.splitlines()
        if (match := _COMMAND.match(line))
    ]
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_the_documentation_exist(page: Path) -> None:
    """The verb, and every option that is given to it; files of the repository that are named are
    there.
    """
    context = click.Context(cli)
    for words in commands(page):
        verb = cli.get_command(context, words[1])
        assert verb is not None, words
        known = {option for parameter in verb.params for option in parameter.opts} | {
            "--help",
            "-h",
            "-",
        }
        given = {word.partition("=")[0] for word in words[2:] if re.match(r"--?[a-z]", word)}
        assert given <= known, (page.name, words)
        for word in words[2:]:
            assert not word.startswith("examples/") or (REPO / word).exists(), (page.name, word)


def test_the_readme_shows_commands() -> None:
    assert len(commands(REPO / "README.md")) >= 3


def test_the_documented_limits_are_those_in_force() -> None:
    text = (REPO / "docs/user/cli.md").read_text()
    assert f"{documents.LARGEST_FILE >> 20} MiB" in text
    assert f"{documents.DEEPEST} levels" in text
    assert documents.LARGEST_DOCUMENT == 2_000_000
    assert "two million values" in text


def test_every_verb_is_documented() -> None:
    text = (REPO / "docs/user/cli.md").read_text()
    for verb in cli.list_commands(click.Context(cli)):
        assert re.search(rf"`{verb}\b", text), verb
