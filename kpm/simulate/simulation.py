"""Run a scenario from its first step to its last."""

from collections.abc import Iterator

from attrs import evolve

from kpm.simulate.expect import differences
from kpm.simulate.scenario import Scenario, Step
from kpm.simulate.world import StepView, World

_START = Step(name="agents start")


def run(scenario: Scenario) -> Iterator[StepView]:
    """The steps as they go, expectations checked; a scenario with objects begins with the agents'
    first look at them.
    """
    world = World(scenario)
    steps = (
        (_START, *scenario.spec.steps)
        if scenario.objects or not scenario.spec.steps
        else scenario.spec.steps
    )
    for number, step in enumerate(steps, 0 if steps[0] is _START else 1):
        view = world.advance(number, step)
        if step.expect is not None:
            view = evolve(
                view,
                differences=differences(
                    view, step.expect, f"{scenario.source}: step {number}: expect"
                ),
            )
        yield view
