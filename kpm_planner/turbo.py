"""Turbo, also called boost, of a whole node: on, off, or as it was."""

from collections.abc import Sequence

from attrs import frozen

from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import PowerNodeConfig
from kpm_planner.model.problems import Code, Problem, warning
from kpm_planner.selection import decided_without_age, reference


@frozen
class TurboPlan:
    """Whether the node may run above its base frequencies; None is baseline."""

    wanted: bool | None = None
    problems: tuple[Problem, ...] = ()


def plan_turbo(claims: Sequence[PowerNodeConfig], machine: Machine, node: str) -> TurboPlan:
    """The switch by the PowerNodeConfigs that set it, by precedence; those that do not, do not
    count here (R5).
    """
    if not claims:
        return TurboPlan()
    problems = [
        _superseded(claims[0], loser) for loser in claims[1:] if loser.turbo != claims[0].turbo
    ]
    if machine.boost is None:
        problems.append(
            warning(
                Code.TURBO_UNSUPPORTED,
                reference(claims[0]),
                "spec.turbo",
                f"node {node} has no switch of turbo",
            )
        )
        return TurboPlan(None, tuple(problems))
    return TurboPlan(claims[0].turbo, tuple(problems))


def _superseded(winner: PowerNodeConfig, loser: PowerNodeConfig) -> Problem:
    mark = decided_without_age(winner.meta, loser.meta)
    word = "on" if winner.turbo else "off"
    return warning(
        Code.TURBO_SUPERSEDED,
        reference(loser),
        "spec.turbo",
        f"{reference(winner)} has set turbo {word} on this node already{mark}",
    )
