"""`kpm simulate`: scenarios run the real code, expectations are tests, the page stands alone."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from kpm.cli import cli
from kpm.process.errors import InputError
from kpm.simulate.scenario import read_scenario
from kpm.simulate.simulation import run
from kpm.simulate.world import StepView

REPO = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((REPO / "examples").glob("*/scenario.yaml"))

PROFILE = {
    "apiVersion": "power.openshift.io/v1",
    "kind": "PowerProfile",
    "metadata": {"name": "slow"},
    "spec": {"shared": True, "pstates": {"max": 1500}},
}
WORKLOAD: dict[str, Any] = {
    "apiVersion": "power.openshift.io/v1",
    "kind": "PowerWorkload",
    "metadata": {"name": "w"},
    "spec": {
        "allCores": True,
        "powerProfile": "slow",
        "powerNodeSelector": {"kubernetes.io/hostname": "n"},
    },
}


def write(tmp_path: Path, **parts: object) -> Path:
    """A scenario of one node of four CPUs under a shared policy, with these parts."""
    scenario = {
        "version": 1,
        "nodes": [{"name": "n", "machine": {"cores": 4}}],
        "objects": [PROFILE, WORKLOAD],
        **parts,
    }
    path = tmp_path / "scenario.yaml"
    path.write_text(yaml.safe_dump(scenario))
    return path


def simulate(*words: object) -> Result:
    """The verb as a user runs it."""
    return CliRunner().invoke(cli, ["simulate", *map(str, words)])


def steps_of(path: Path) -> list[StepView]:
    """All steps of a scenario."""
    return list(run(read_scenario(str(path))))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_every_example_holds_what_it_expects(path: Path) -> None:
    """The examples of this repository are tests of it."""
    result = simulate(path)
    assert result.exit_code == 0, result.output[-2000:]
    assert any("expect" in step for step in yaml.safe_load(path.read_text())["steps"])


def test_there_is_an_example_of_every_kind() -> None:
    """A quickstart, mixed use, hybrid cores, shared domains on ARM, an Uncore, a fabric, power
    caps, turbo, energy, and mistakes.
    """
    assert [path.parent.name for path in EXAMPLES] == [
        "arm",
        "energy",
        "fabric",
        "hybrid",
        "mistakes",
        "mixed-use",
        "power-caps",
        "quickstart",
        "turbo",
        "uncore",
    ]


@pytest.mark.parametrize(
    "folder",
    ["mixed-use", "hybrid", "arm", "uncore", "fabric", "power-caps", "turbo", "energy", "mistakes"],
)
def test_the_objects_of_an_example_are_read_on_their_own(folder: str) -> None:
    """What a scenario applies is a policy file for kpm plan and apply too (field report 55)."""
    result = CliRunner().invoke(
        cli, ["validate", "-f", str(REPO / "examples" / folder / "objects.yaml")]
    )
    assert result.exit_code == (1 if folder == "mistakes" else 0), result.output


def test_the_quickstart_is_embedded() -> None:
    """Without a scenario the quickstart runs."""
    result = simulate()
    assert result.exit_code == 0
    assert "Quickstart" in result.output
    assert result.output.count("files written, settled") >= 6


def test_an_expectation_that_does_not_hold_is_exit_1_with_the_difference(tmp_path: Path) -> None:
    """The difference names step, node, CPUs, field, what was expected and what is."""
    path = write(
        tmp_path,
        steps=[
            {
                "name": "look",
                "resync": True,
                "expect": {"n": {"cpus": {"0-3": {"pool": "reserved", "maxKHz": 1500000}}}},
            }
        ],
    )
    result = simulate("-q", path)
    assert result.exit_code == 1
    assert "step 1 (look): n: cpus 0-3 pool: expected 'reserved', is 'shared'" in result.output
    assert "maxKHz" not in result.output


@pytest.mark.parametrize(
    ("expect", "difference"),
    [
        ({"n": {"writes": 7}}, "writes: expected 7, is 4"),
        ({"n": {"settled": False}}, "settled: expected False, is True"),
        ({"n": {"resources": {"a": 1}}}, "resources"),
        ({"n": {"problems": ["pod-count"]}}, "problems"),
        ({"n": {"agent": "dead"}}, "agent: expected 'dead', is 'running'"),
        (
            {"n": {"cpus": {"1": {"shows": {"maxKHz": 1}}}}},
            "cpus 1 shows.maxKHz: expected 1, is 1500000",
        ),
        ({"pending": ["default/a"]}, "pending"),
    ],
)
def test_each_kind_of_expectation_can_fail(
    tmp_path: Path, expect: dict[str, object], difference: str
) -> None:
    """No expectation is always true."""
    first = {"apply": [PROFILE, WORKLOAD], "expect": expect}
    result = simulate("-q", write(tmp_path, objects=[], steps=[first]))
    assert result.exit_code == 1
    assert difference in result.output


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"version": 2}, "version: expected 1, got 2"),
        ({"nodes": []}, "nodes: is empty"),
        ({"nodes": [{"name": "n", "machine": {"model": "pdp11"}}]}, "expected one of xeon"),
        (
            {"nodes": [{"name": "n", "machine": {"cores": 0}}]},
            "cores: expected a whole number from 1",
        ),
        ({"nodes": [{"name": "n", "machine": {"sysfs": "/nowhere"}}]}, "machine.sysfs"),
        ({"nodes": [{"name": "n", "machine": {}}] * 2}, "'n' stands twice"),
        ({"steps": [{"frobnicate": 1}]}, "steps[0].frobnicate: is no field here"),
        ({"steps": [{"stop": ["default/ghost"]}]}, "that runs, got 'default/ghost'"),
        (
            {"steps": [{"delete": ["PowerProfile/ghost"]}]},
            "that is there, got 'PowerProfile/ghost'",
        ),
        ({"steps": [{"offline": {"m": "1"}}]}, "expected one of the nodes n, got 'm'"),
        ({"steps": [{"offline": {"n": "x"}}]}, "a CPU list"),
        ({"steps": [{"write": [{"node": "n", "path": "etc/passwd", "value": 1}]}]}, "No such file"),
        ({"steps": [{"expect": {"m": {}}}]}, "expect.m: is no field here"),
        ({"steps": [{"expect": {"n": {"speed": 1}}}]}, "expect.n.speed: is no field here"),
        (
            {"steps": [{"expect": {"n": {"cpus": {"0": {"colour": "red"}}}}}]},
            "'colour' is no field here",
        ),
        (
            {
                "steps": [
                    {
                        "start": [
                            {
                                "metadata": {"name": "a"},
                                "spec": {
                                    "containers": [
                                        {"name": "c", "resources": {"limits": {"cpu": "2x"}}}
                                    ]
                                },
                            }
                        ]
                    }
                ]
            },
            "got '2x'",
        ),
    ],
)
def test_a_wrong_scenario_is_one_line_and_exit_2(
    tmp_path: Path, parts: dict[str, object], said: str
) -> None:
    """File, field, value and what is allowed; never a traceback."""
    result = simulate("-q", write(tmp_path, **parts))
    assert result.exit_code == 2, result.output
    assert result.output.count("\n") == 1
    assert said in result.output


def test_a_pod_without_room_waits_until_another_ends(tmp_path: Path) -> None:
    """Pending pods are tried again when CPUs come free."""
    pod = {
        "spec": {
            "containers": [{"name": "c", "resources": {"limits": {"cpu": 3, "memory": "1Gi"}}}]
        }
    }
    first, second = ({"metadata": {"name": name}, **pod} for name in ("a", "b"))
    steps = [
        {
            "start": [first, second],
            "expect": {"pending": ["default/b"], "n": {"cpus": {"0-2": {"pod": "default/a"}}}},
        },
        {
            "stop": ["default/a"],
            "expect": {"pending": [], "n": {"cpus": {"0-2": {"pod": "default/b"}}}},
        },
    ]
    assert simulate("-q", write(tmp_path, steps=steps)).exit_code == 0


def test_steps_that_touch_nothing_write_nothing(tmp_path: Path) -> None:
    """A step without a cause leaves every node alone; a resync reads and writes nothing."""
    views = steps_of(write(tmp_path, steps=[{"name": "nothing"}, {"name": "look", "resync": True}]))
    assert [len(view.nodes[0].report.writes) for view in views if view.nodes[0].report] == [4, 0, 0]
    assert [view.nodes[0].changed for view in views] == [True, False, False]


def test_a_killed_agent_does_nothing_and_a_new_one_finishes(tmp_path: Path) -> None:
    """Between crash and restart nobody writes; afterwards the machine is at the plan."""
    edited = {**PROFILE, "spec": {"shared": True, "pstates": {"max": 2000}}}
    steps = [
        {
            "crash": {"n": 2},
            "apply": [edited],
            "expect": {
                "n": {
                    "agent": "dead",
                    "cpus": {
                        "0-1": {"shows": {"maxKHz": 2000000}},
                        "2-3": {"shows": {"maxKHz": 1500000}},
                    },
                }
            },
        },
        {"name": "quiet"},
        {
            "restart": ["n"],
            "expect": {
                "n": {
                    "agent": "running",
                    "settled": True,
                    "cpus": {"0-3": {"shows": {"maxKHz": 2000000}}},
                }
            },
        },
    ]
    assert simulate("-q", write(tmp_path, steps=steps)).exit_code == 0


def test_a_dump_of_a_real_machine_is_a_node(tmp_path: Path) -> None:
    """A node's machine may be any /sys tree."""
    cpu = tmp_path / "sys/devices/system/cpu"
    files = {
        "scaling_driver": "acpi-cpufreq",
        "cpuinfo_min_freq": 800000,
        "cpuinfo_max_freq": 3000000,
        "scaling_min_freq": 800000,
        "scaling_max_freq": 3000000,
        "scaling_governor": "ondemand",
        "scaling_available_governors": "ondemand performance",
    }
    for number in range(2):
        (cpu / f"cpu{number}/cpufreq").mkdir(parents=True)
        for name, text in {**files, "related_cpus": number}.items():
            (cpu / f"cpu{number}/cpufreq/{name}").write_text(f"{text}\n")
    for name in ("online", "present"):
        (cpu / name).write_text("0-1\n")
    path = write(
        tmp_path,
        nodes=[{"name": "n", "machine": {"sysfs": "sys"}}],
        steps=[
            {"resync": True, "expect": {"n": {"cpus": {"0-1": {"shows": {"maxKHz": 1500000}}}}}}
        ],
    )
    assert simulate("-q", path).exit_code == 0


class _Page(HTMLParser):
    """Collects what a page refers to and how its elements nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []
        self.figures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.figures += tag == "svg"
        self.outside += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in ("meta", "br", "rect", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "circle"):
            assert self.open.pop() == tag


def test_the_page_stands_alone_and_is_escaped(tmp_path: Path) -> None:
    """One file, nothing from outside, every element closed, names from objects as text."""
    target = tmp_path / "page.html"
    path = write(
        tmp_path, title="<script>alert(1)</script>", steps=[{"name": "a & b", "resync": True}]
    )
    assert simulate("-q", path, "--html", target).exit_code == 0
    page = _Page()
    page.feed(target.read_text())
    assert not page.open
    assert not page.outside
    assert page.figures == 1
    assert "<script" not in target.read_text()
    assert "a &amp; b" in target.read_text()
    assert 'name="viewport"' in target.read_text()
    assert "@media print" in target.read_text()


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """A wrong --html is bad usage."""
    result = simulate("-q", write(tmp_path), "--html", tmp_path / "no/such/page.html")
    assert result.exit_code == 2
    assert "page.html: cannot write" in result.output


def test_the_picture_of_the_terminal_is_svg(tmp_path: Path) -> None:
    """--svg keeps what the terminal showed."""
    target = tmp_path / "picture.svg"
    assert simulate(write(tmp_path), "--svg", target).exit_code == 0
    assert re.match(r"<svg\b", target.read_text())


def test_a_large_cluster_costs_by_what_changes(tmp_path: Path) -> None:
    """Of fifty nodes only those that a step concerns plan and write."""
    nodes = [{"name": "n", "count": 50, "machine": {"cores": 8}, "labels": {"pool": "all"}}]
    workload = {**WORKLOAD, "spec": {**WORKLOAD["spec"], "powerNodeSelector": {"pool": "all"}}}
    foreign = [
        {"node": "n-7", "path": "devices/system/cpu/cpu1/cpufreq/scaling_max_freq", "value": 900000}
    ]
    views = steps_of(
        write(
            tmp_path,
            nodes=nodes,
            objects=[PROFILE, workload],
            steps=[{"write": foreign}, {"name": "nothing"}],
        )
    )
    assert [sum(node.changed for node in view.nodes) for view in views] == [50, 1, 0]


def test_offline_verbs_do_not_load_the_simulator_or_rich() -> None:
    """Start-up stays light: a JSON plan loads neither."""
    code = (
        "import sys; from kpm.cli import planning; print([name for name in sys.modules if"
        " name.split('.')[0] in ('rich', 'kubernetes') or 'simulate' in name])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPO
    )
    assert out.stdout.strip() == "[]"


def test_a_scenario_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    """Not even a mapping."""
    path = tmp_path / "s.yaml"
    path.write_text("- 1\n")
    with pytest.raises(InputError, match="exactly one mapping"):
        read_scenario(str(path))


def test_an_energy_bias_is_asked_shown_and_given_back(tmp_path: Path) -> None:
    """A setting that a CPU has alone goes the whole way, without a word about it in the
    simulator.
    """
    path = tmp_path / "scenario.yaml"
    path.write_text(
        """
version: 1
nodes: [{name: n, machine: {model: xeon, epb: 6}}]
steps:
  - apply:
      - apiVersion: power.openshift.io/v1
        kind: PowerProfile
        metadata: {name: p, namespace: power-manager}
        spec: {shared: true, pstates: {epb: balance-power}}
      - apiVersion: power.openshift.io/v1
        kind: PowerWorkload
        metadata: {name: w, namespace: power-manager}
        spec: {allCores: true, powerProfile: p, powerNodeSelector: {kubernetes.io/hostname: n}}
    expect: {n: {cpus: {"1": {epb: 8, shows: {epb: 8}}}}}
  - delete: [PowerWorkload/w]
    expect: {n: {cpus: {"1": {epb: null, shows: {epb: 6}}}}}
"""
    )
    assert not [line for view in run(read_scenario(str(path))) for line in view.differences]
