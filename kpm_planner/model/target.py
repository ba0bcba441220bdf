"""What is asked of one CPU: a value for each setting, None for baseline."""

from attrs import frozen

from kpm_planner.model.objects import PowerProfile
from kpm_planner.model.problems import Problem, has_errors


@frozen
class Target:
    """What a CPU should be asked to do; None is baseline. Units: kHz, µs.

    idle: wanted states by name, named ones only. latency_us: the longest exit latency of its idle
    states, all states together.
    """

    min_khz: int | None = None
    max_khz: int | None = None
    governor: str | None = None
    epp: str | None = None
    idle: tuple[tuple[str, bool], ...] = ()
    latency_us: int | None = None


BASELINE = Target()


@frozen
class Resolved:
    """A target with the reasons of its values, one line each."""

    target: Target
    because: tuple[str, ...] = ()


@frozen
class ResolvedProfile:
    """A profile on one machine: its target for each of machine.kinds (empty where invalid) and its
    problems.
    """

    profile: PowerProfile
    by_kind: tuple[Resolved, ...]
    problems: tuple[Problem, ...]

    @property
    def valid(self) -> bool:
        """Whether the profile can be used on this machine."""
        return not has_errors(self.problems)
