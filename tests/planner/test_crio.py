"""CRI-O's annotations: named as what sets a pod's CPUs too, or taken
for a profile of that pod's.
"""

import pytest

from kpm_planner.crio import GOVERNOR, STATES
from kpm_planner.model.agent_settings import AgentSettings
from kpm_planner.model.assignment import Pool
from kpm_planner.model.problems import Code, Severity
from kpm_planner.plan import NodePlan
from tests.planner.build import (
    allocation,
    asking,
    config,
    container,
    machine,
    on_cpu,
    owns,
    plan,
    pod,
    profile,
    workload,
)
from tests.planner.reading import with_code

SHARED = (profile("shared", shared=True, max="30%"), workload(uses="shared"))


def planned(setting: str | None, *wishes: tuple[str, str], profiled: bool = False) -> NodePlan:
    """A pod that owns CPUs 2 and 3 and has these annotations."""
    item = asking(2) if profiled else container(cpu=2)
    given = allocation([pod(item, wishes=tuple(sorted(wishes)))], [owns("2-3")])
    return plan(
        *SHARED,
        profile(),
        config(agent=AgentSettings(crio_annotations=setting)),
        on=machine("0-3"),
        with_=given,
    )


@pytest.mark.parametrize("setting", [None, "conflict"])
def test_by_default_they_are_named_and_nothing_is_done(setting: str | None) -> None:
    found = planned(setting, (GOVERNOR, "performance"))
    (problem,) = with_code(found.problems, Code.POD_ANNOTATIONS)
    assert (problem.severity, problem.object) == (Severity.WARNING, "Pod/ns1/web")
    assert problem.message.endswith("drop them, or set agent.crioAnnotations: accept")
    assert on_cpu(found, 2).profile == "shared"
    assert "its CRI-O annotations are not used, so the shared target" in on_cpu(found, 2).because[0]


@pytest.mark.parametrize(
    ("text", "off"),
    [("disable", {"C1", "C1E", "C6"}), ("max_latency:10", {"C6"}), ("enable", set())],
)
def test_accepted_they_are_a_profile_of_the_pods_own(text: str, off: set[str]) -> None:
    found = planned("accept", (GOVERNOR, "performance"), (STATES, text))
    group = on_cpu(found, 2)
    assert (group.pool, group.profile, group.target.governor) == (
        Pool.EXCLUSIVE,
        None,
        "performance",
    )
    assert {name for name, on in group.target.idle if not on} == off
    assert not found.problems


@pytest.mark.parametrize(
    "wish",
    [
        (GOVERNOR, "turbo"),
        (STATES, "max_latency:x"),
        (STATES, "max_latency:-1"),
        (STATES, "off"),
        (STATES, ""),
        (STATES, "max_latency:" + "9" * 40),
    ],
)
def test_a_value_that_is_none_is_an_error_of_the_pod_and_changes_nothing(
    wish: tuple[str, str],
) -> None:
    found = planned("accept", wish)
    assert {(problem.severity, problem.object) for problem in found.problems} == {
        (Severity.ERROR, "Pod/ns1/web")
    }
    assert on_cpu(found, 2).profile == "shared"


def test_a_profile_that_is_asked_for_goes_before() -> None:
    found = planned("accept", (GOVERNOR, "powersave"), profiled=True)
    assert on_cpu(found, 2).profile == "performance"
    (problem,) = found.problems
    assert problem.code == Code.POD_ANNOTATIONS
    assert problem.message.endswith("drop them, or ask for no profile")


def test_the_annotations_are_cri_os_own() -> None:
    """Word for word (CRI-O, high-performance hooks)."""
    assert (GOVERNOR, STATES) == ("cpu-freq-governor.crio.io", "cpu-c-states.crio.io")
