"""Watts of simulated nodes: the parts are the whole, lower profiles save, idle pods cost nothing,
and wrong loads are refused.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from kpm.cli import cli
from kpm.process.errors import InputError
from kpm.simulate.energy import EnergyView
from kpm.simulate.page import page_of
from kpm.simulate.scenario import read_scenario
from kpm.simulate.simulation import run

REPO = Path(__file__).parents[2]
EXAMPLE = REPO / "examples/energy/scenario.yaml"
SCENARIO = """
version: 1
nodes: [{{name: n, reserved: "0", machine: {{model: {model}}}}}]
steps:
  - start:
    - metadata: {{name: a}}
      spec: {{containers: [{{name: c, resources: {{limits: {{cpu: 2, memory: 1Gi}}}}}}]}}
    load: {{a: {own}}}
  - start:
    - metadata: {{name: b}}
      spec: {{containers: [{{name: c, resources: {{requests: {{cpu: {request}}}}}}}]}}
    load: {{b: {shared}}}
  - {{at: 100}}
"""


def energies(path: Path) -> list[EnergyView]:
    """Of every step in which something ran."""
    return [
        node.energy
        for view in run(read_scenario(str(path)))
        for node in view.nodes
        if node.energy is not None
    ]


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(["xeon", "epyc", "arm", "hybrid"]),
    st.integers(0, 100),
    st.integers(1, 6),
    st.integers(0, 100),
)
def test_the_parts_are_the_whole(model: str, own: int, request: int, shared: int) -> None:
    """Busy and idle of pods, system, and idle of nobody are what the counters measured; a pod
    without load has no busy power.
    """
    text = SCENARIO.format(model=model, own=own, request=request, shared=shared)
    with NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        views = energies(Path(file.name))
    for view in views[-1:]:
        assert view.watts == pytest.approx(
            sum(item.busy + item.idle for item in view.pods) + view.system + view.nobody
        )
        for name, load in (("default/a", own), ("default/b", shared)):
            busy = sum(item.busy for item in view.pods if item.name == name)
            assert (busy > 0) == (load > 0)


def test_the_example_shows_what_a_profile_saves() -> None:
    """The router is cheaper at 2.4 GHz, and near what the power model knows; the batch job costs
    nothing once it idles.
    """
    views = [view for view in energies(EXAMPLE) if view.seconds > 50]
    fast, slow, alone = views
    router = [next(item for item in view.pods if item.name == "net/router") for view in views]
    assert slow.watts < fast.watts - 4
    assert fast.saved < 0 < slow.saved
    assert slow.unmanaged == pytest.approx(fast.unmanaged, rel=0.01)
    assert router[1].busy < 0.7 * router[0].busy
    assert all(item.busy == pytest.approx(item.truth, rel=0.15) for item in router)
    assert [item.busy for item in alone.pods if item.name == "jobs/batch"] == [0.0]


def test_terminal_and_page_show_the_watts(tmp_path: Path) -> None:
    """Of the time before each step, by pod, with the truth in brackets."""
    out = CliRunner().invoke(cli, ["simulate", str(EXAMPLE)]).output
    assert "net/router" in out
    assert "W idle (true" in " ".join(out.split())
    scenario = read_scenario(str(EXAMPLE))
    assert "power over 59 s" in page_of(scenario, list(run(scenario)))


def test_a_scenario_without_loads_has_no_energy_and_no_counters() -> None:
    """Nothing is made up; what was planned before stays as it was."""
    assert energies(REPO / "examples/mixed-use/scenario.yaml") == []


@pytest.mark.parametrize("load", ["{nobody: 50}", "{a: 101}", "{a: -1}"])
def test_a_wrong_load_is_one_line(tmp_path: Path, load: str) -> None:
    """It names the step and the pod."""
    path = tmp_path / "s.yaml"
    path.write_text(
        SCENARIO.format(model="xeon", own=1, request=1, shared=1) + f"  - {{load: {load}}}\n"
    )
    with pytest.raises(InputError, match="step 4: load"):
        energies(path)


def test_an_expectation_of_watts_that_does_not_hold_is_told(tmp_path: Path) -> None:
    """With what was expected and what is."""
    path = tmp_path / "s.yaml"
    path.write_text(
        SCENARIO.format(model="xeon", own=50, request=1, shared=1)
        + "  - {at: 200, expect: {n: {watts: [1, 2]}}}\n"
    )
    result = CliRunner().invoke(cli, ["simulate", "-q", str(path)])
    assert result.exit_code == 1
    assert "watts: expected 1 to 2, is" in result.output
