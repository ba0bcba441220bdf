"""Options of measuring energy, as the agent takes them."""

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from attrs import frozen

from kpm.process.errors import InputError
from kpm_planner.model.agent_settings import METRIC_LEVELS, METRIC_NAMES
from kpm_planner.model.quantities import duration_s

if TYPE_CHECKING:
    from kpm.energy.collector import EnergySettings

_STATE = "energy.json"
_SHORTEST, _LONGEST = 1, 60


@frozen
class EnergyOptions:
    """What was asked for on the command line. interval: seconds."""

    on: bool
    levels: tuple[str, ...]
    names: tuple[str, ...]
    idle: str
    interval: int
    estimate: bool
    series: int
    proc: str
    cgroup: str

    def settings(self, state_dir: str) -> "EnergySettings | None":
        """The settings of the meter; None where nothing is to be measured."""
        if not self.on:
            return None
        from kpm.energy.collector import EnergySettings

        levels = self.levels or METRIC_LEVELS[:3]
        names = self.names or METRIC_NAMES[:2]
        return EnergySettings(
            tuple(dict.fromkeys(levels)),
            tuple(dict.fromkeys(names)),
            self.idle,
            interval=self.interval,
            most_series=self.series,
            state=os.path.join(state_dir, _STATE),
            proc=self.proc,
        )


def _interval(_context: object, parameter: click.Parameter, text: str) -> int:
    seconds = duration_s(text)
    if seconds is None or not _SHORTEST <= seconds <= _LONGEST:
        raise InputError(f"{parameter.opts[0]}: expected 1s to 60s, got {text!r}")
    return seconds


_OPTIONS = (
    click.option("--energy", is_flag=True, help="Measure the energy of node, pods and containers."),
    click.option(
        "--energy-level",
        multiple=True,
        type=click.Choice(METRIC_LEVELS),
        help="What energy is told of; node, pod and container by default.",
    ),
    click.option(
        "--energy-name",
        multiple=True,
        type=click.Choice(METRIC_NAMES),
        help="Names of the energy metrics; kpm and kepler by default.",
    ),
    click.option(
        "--energy-idle",
        type=click.Choice(["owner", "requests", "node"]),
        default="owner",
        show_default=True,
        help="Whose idle energy is.",
    ),
    click.option(
        "--energy-interval",
        callback=_interval,
        default="10s",
        show_default=True,
        help="How often the meters are read.",
    ),
    click.option(
        "--energy-estimate", is_flag=True, help="Estimate the energy of a node that has no meter."
    ),
    click.option(
        "--energy-series",
        type=click.IntRange(100, 1_000_000),
        default=20_000,
        show_default=True,
        help="Most energy series that are told.",
    ),
    click.option("--proc", default="/proc", show_default=True, help="Where the host's procfs is."),
    click.option(
        "--cgroup",
        default="/sys/fs/cgroup",
        show_default=True,
        help="Where the host's cgroup file system is.",
    ),
)


def energy_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options, handed to a command as one value."""

    @functools.wraps(command)
    def taken(
        *args: Any,
        energy: bool,
        energy_level: tuple[str, ...],
        energy_name: tuple[str, ...],
        energy_idle: str,
        energy_interval: int,
        energy_estimate: bool,
        energy_series: int,
        proc: str,
        cgroup: str,
        **kwargs: Any,
    ) -> Any:
        asked = EnergyOptions(
            energy,
            energy_level,
            energy_name,
            idle=energy_idle,
            interval=energy_interval,
            estimate=energy_estimate,
            series=energy_series,
            proc=proc,
            cgroup=cgroup,
        )
        return command(*args, energy=asked, **kwargs)

    for option in reversed(_OPTIONS):
        taken = option(taken)
    return taken
