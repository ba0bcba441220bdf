"""R4: every value says where it comes from; explaining needs nothing but the plan."""

import re
from decimal import Decimal

from hypothesis import given

from kpm_planner.model.assignment import Pool
from kpm_planner.report.explain import explain_cpu, explain_pod, explain_profile
from tests.planner.reading import group_of
from tests.strategies.objects import PROFILE_NAMES
from tests.strategies.scenarios import Scenario, scenarios


def mentions(lines: tuple[str, ...], what: str, value: object) -> bool:
    """Whether a line speaks of a field and its value, as whole words."""
    pattern = rf"(?<![\w-]){re.escape(what)}(?![\w-]).*(?<![\w-]){re.escape(str(value))}(?![\w-])"
    return any(re.search(pattern, line) for line in lines)


def in_ghz(khz: int | None) -> str | None:
    """A frequency as reasons have it, exactly."""
    return None if khz is None else f"{Decimal(khz).scaleb(-6).normalize():f}"


@given(scenarios())
def test_every_group_says_why_it_is_in_its_pool(scenario: Scenario) -> None:
    """At least one line, no empty ones, none twice, and each on one line of text."""
    for group in scenario.plan().groups:
        assert group.because
        assert all(line.strip() == line and line and "\n" not in line for line in group.because)
        assert len(set(group.because)) == len(group.because)


@given(scenarios())
def test_every_frequency_value_has_a_reason_that_mentions_it(scenario: Scenario) -> None:
    """Minimum, maximum, governor and EPP, also where a frequency domain decided."""
    for group in scenario.plan().groups:
        target = group.target
        for what, value in (
            ("min", in_ghz(target.min_khz)),
            ("max", in_ghz(target.max_khz)),
            ("governor", target.governor),
            ("epp", target.epp),
        ):
            if value is not None:
                assert mentions(group.because, what, value), (what, value, group.because)


@given(scenarios())
def test_every_idle_state_has_a_reason_that_mentions_it(scenario: Scenario) -> None:
    """By name, with on or off."""
    for group in scenario.plan().groups:
        for name, on in group.target.idle:
            assert mentions(group.because, name, "on" if on else "off"), (name, group.because)


@given(scenarios())
def test_every_uncore_limit_has_a_reason_that_mentions_it(scenario: Scenario) -> None:
    """Both ends; and an entry without limits says why it has none."""
    for target in scenario.plan().uncore:
        assert target.because
        for value in (in_ghz(target.min_khz), in_ghz(target.max_khz)):
            assert value is None or any(value in line for line in target.because)


@given(scenarios())
def test_profile_and_container_of_a_group_are_in_its_reasons(scenario: Scenario) -> None:
    """From the pod over the container to the profile."""
    for group in scenario.plan().groups:
        text = "\n".join(group.because)
        if group.profile is not None:
            assert group.profile in text
        if group.container is not None:
            assert f"{group.container.namespace}/{group.container.pod}" in text
            assert group.container.name in text


@given(scenarios())
def test_every_present_cpu_can_be_explained_and_no_other(scenario: Scenario) -> None:
    """An explanation of a CPU starts with the CPU and its pool and
    holds all reasons of its group.
    """
    plan = scenario.plan()
    for cpu, group in group_of(plan).items():
        first, *rest = explain_cpu(plan, cpu)
        assert first.startswith(f"CPU {cpu} on node {plan.node}: {group.pool}")
        assert {line.strip() for line in rest} >= set(group.because)
    assert explain_cpu(plan, 65_535) == ()


@given(scenarios())
def test_every_owner_and_every_profile_can_be_explained(scenario: Scenario) -> None:
    """A pod's explanation names its CPUs' pool; a profile's says whether a CPU uses it.

    Unknown names are no error.
    """
    plan = scenario.plan()
    for group in plan.groups:
        if group.container is not None:
            lines = explain_pod(plan, group.container.namespace, group.container.pod)
            assert "owns CPUs" in lines[0]
            assert any(str(Pool.EXCLUSIVE) in line for line in lines)
    for name in (*PROFILE_NAMES, "no-such-profile"):
        used = any(group.profile == name for group in plan.groups)
        assert explain_profile(plan, name)[0].endswith("in use" if used else "no CPU uses it")
