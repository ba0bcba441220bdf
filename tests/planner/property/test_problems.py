"""Problems are values: sorted, told once, of the registry, about something that exists, and never
an exception.
"""

from typing import Any

from attrs import evolve
from hypothesis import given

from kpm_planner.caps.rules import validate_cap
from kpm_planner.model.cluster import LabelSelector, Meta, NodeSelector
from kpm_planner.model.objects import Intent
from kpm_planner.model.problems import REGISTRY, Code, Severity
from kpm_planner.plan import plan_cluster
from kpm_planner.profile_rules import validate_profile
from kpm_planner.profiles import resolve_profile
from kpm_planner.uncore import validate_uncore
from kpm_planner.validate import validate_intent
from tests.strategies.scenarios import Scenario, scenarios


@given(scenarios())
def test_problems_are_sorted_told_once_and_of_the_registry(scenario: Scenario) -> None:
    """Those of a node, of the cluster, and of a validation alike."""
    cluster = plan_cluster(scenario.intent, [scenario.item])
    for problems in (scenario.plan().problems, cluster.problems, validate_intent(scenario.intent)):
        assert list(problems) == sorted(problems)
        assert len(set(problems)) == len(problems)
        assert all(problem.code in REGISTRY for problem in problems)


@given(scenarios())
def test_a_problem_names_an_object_of_the_input_and_says_something(scenario: Scenario) -> None:
    """Kind/name, Pod/namespace/name or Node/name; a message of one line without stray blanks."""
    intent, allocation = scenario.intent, scenario.item.allocation
    objects: list[Any] = [
        *intent.profiles,
        *intent.workloads,
        *intent.node_configs,
        *intent.uncores,
        *intent.configs,
        *intent.caps,
    ]
    known = {f"{type(obj).__name__}/{obj.meta.name}" for obj in objects} | {
        f"Node/{scenario.item.node.name}"
    }
    known |= {f"Pod/{pod.meta.namespace or 'default'}/{pod.meta.name}" for pod in allocation.pods}
    known |= {
        f"Pod/{entry.namespace}/{entry.pod}"
        for entry in (*allocation.reported, *(allocation.last_known or ()))
    }
    for problem in (
        *plan_cluster(intent, [scenario.item]).problems,
        *scenario.plan().problems,
        *validate_intent(intent),
    ):
        assert problem.object in known, problem
        assert problem.message == problem.message.strip() != ""
        assert "\n" not in problem.message
        assert "None" not in problem.message.split("profile None")[0] or problem.code in (
            Code.UNCORE_DIE,
            Code.SCALING_POLICY,
        ), problem


@given(scenarios())
def test_what_is_wrong_without_a_machine_is_wrong_on_every_machine(scenario: Scenario) -> None:
    """validate finds what a plan would find: each error of a profile, an Uncore object or a
    PowerCap is in both.
    """
    for profile in scenario.intent.profiles:
        assert set(validate_profile(profile)) <= set(
            resolve_profile(profile, scenario.machine).problems
        )
        assert set(validate_profile(profile)) <= set(validate_intent(scenario.intent))
    for uncore in scenario.intent.uncores:
        assert set(validate_uncore(uncore)) <= set(validate_intent(scenario.intent))
    for cap in scenario.intent.caps:
        assert set(validate_cap(cap)) <= set(validate_intent(scenario.intent))
        alone = evolve(cap, meta=Meta(cap.meta.name), node_selector=NodeSelector(LabelSelector()))
        assert set(validate_cap(alone)) <= set(
            evolve(scenario, intent=Intent(caps=(alone,))).plan().problems
        )


@given(scenarios(awkward=False))
def test_scenarios_without_faults_have_no_errors(scenario: Scenario) -> None:
    """The rules refuse nothing that is right: warnings at most, apart from profiles that do not
    exist on the node.
    """
    about_names = {
        Code.PROFILE_MISSING,
        Code.POD_PROFILE,
        Code.RESERVED_CONFLICT,
        Code.GOVERNOR_UNAVAILABLE,
        Code.POD_NOT_GUARANTEED,
    }
    errors = [
        problem
        for problem in scenario.plan().problems
        if problem.severity is Severity.ERROR and problem.code not in about_names
    ]
    assert errors == []
    assert not [
        problem
        for problem in validate_intent(scenario.intent)
        if problem.severity is Severity.ERROR and problem.code not in about_names
    ]


@given(scenarios(awkward=True))
def test_an_error_of_a_profile_makes_it_invalid_and_a_warning_does_not(scenario: Scenario) -> None:
    """Invalid means: no target, no resource."""
    plan = scenario.plan()
    for profile in scenario.intent.profiles:
        resolved = resolve_profile(profile, scenario.machine)
        wrong = any(problem.severity is Severity.ERROR for problem in resolved.problems)
        assert resolved.valid is not wrong
        if (
            wrong
            and [other.meta.name for other in scenario.intent.profiles].count(profile.meta.name)
            == 1
        ):
            assert profile.meta.name not in {group.profile for group in plan.groups}
            assert f"{profile.group}/{profile.meta.name}" not in plan.extended_resources
