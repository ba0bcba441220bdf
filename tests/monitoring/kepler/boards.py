"""What Kepler's dashboards ask for (boards.yaml), asked of a Prometheus; README.md tells where it
comes from."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from kpm.formats.wire import structure_object
from kpm.operator.daemonset import _energy_arguments
from kpm_planner.model.agent_settings import MetricSettings
from tests.monitoring.energy_rig import CGROUP, Rig
from tests.monitoring.prometheus_server import REPO, PrometheusServer, until

BOARDS = Path(__file__).with_name("boards.yaml")
EXAMPLE = REPO / "examples/example-powerconfig-measuring.yaml"
NEW, OLD = ("kpm", "kepler"), "kepler-0.7"
#: Why a query has no answer whatever is set.
REASONS = {
    "machine": "virtual machines are not told apart: a hypervisor is a process of its container",
    "gpu": "graphics processors are not measured",
    "exporter": "a metric of another exporter (node exporter, Scaphandre, IPMI)",
    "bed": "a scrape job or prefix of Kepler's own test bed of two versions, fixed in the board",
    "processes": "energy of processes by the names of 0.7; those of now have it",
}


@dataclass(frozen=True)
class Query:
    """One query of a board. asks: metric, then labels that must not be empty, or have a value."""

    board: str
    at: str
    asks: tuple[str, ...]
    needs: frozenset[str]
    why: str
    line: str

    @property
    def name(self) -> str:
        return f"{self.board} {self.at}"

    def probes(self) -> tuple[str, ...]:
        """A PromQL question for each metric; the query has an answer where all of them have."""
        return tuple(_probe(text) for text in self.asks)

    def reason(self, given: frozenset[str]) -> str:
        """Why it has no answer with what is given; "" where it has one."""
        return self.why or ", ".join(sorted(self.needs - given))


@dataclass(frozen=True)
class Setting:
    """What an agent is told to tell."""

    title: str
    names: tuple[str, ...]
    levels: tuple[str, ...]

    @property
    def given(self) -> frozenset[str]:
        return frozenset({*self.names, *self.levels})


def example() -> MetricSettings:
    """What the example for measuring alone asks for."""
    config = structure_object(yaml.safe_load(EXAMPLE.read_text()))
    assert config.agent.measure_only
    found: MetricSettings = config.agent.metrics
    return found


_LEVELS = ("node", "pod", "container")
NEWEST = Setting("newest names", NEW, _LEVELS)
BOTH = Setting("0.7 names too", (*NEW, OLD), _LEVELS)
ALL = Setting("0.7 names and processes too", (*NEW, OLD), (*_LEVELS, "process"))
SETTINGS = (NEWEST, BOTH, ALL)


def queries() -> tuple[Query, ...]:
    """All queries of all boards."""
    return tuple(
        Query(
            board["board"],
            at,
            tuple(group["asks"]),
            frozenset(group.get("needs", ())),
            group.get("why", ""),
            board.get("line", "now"),
        )
        for board in yaml.safe_load(BOARDS.read_text())
        for group in board["queries"]
        for at in group["at"]
    )


def _probe(text: str) -> str:
    metric, *labels = text.split()
    pairs = [label.partition("=") for label in labels]
    chosen = ",".join(f'{name}="{value}"' if is_ else f'{name}!=""' for name, is_, value in pairs)
    selector = f"{metric}{{{chosen}}}"
    return f"rate({selector}[20s])" if metric.endswith("_total") else selector


def unanswered(server: PrometheusServer, asked: Sequence[Query]) -> set[str]:
    """The names of the queries that have no sample."""
    probes = {probe for query in asked for probe in query.probes()}
    answered = {probe for probe in probes if server.query(f"count({probe})")}
    return {query.name for query in asked if not answered.issuperset(query.probes())}


def expected(asked: Sequence[Query], setting: Setting) -> set[str]:
    """The names of the queries that are to have no sample."""
    return {query.name for query in asked if query.reason(setting.given)}


Turn = tuple[Setting, PrometheusServer]


def measured(rig: Rig, folder: Path) -> Iterator[Turn]:
    """Each setting in turn: the agent started with it, and a Prometheus of its own beside it."""
    asked = queries()
    for number, setting in enumerate(SETTINGS):
        rig.node.options = arguments(rig, setting)
        rig.restart_agent(signal.SIGTERM)
        place, target = folder / f"prometheus-{number}", f"127.0.0.1:{rig.port}"
        server = PrometheusServer(place, target, rig.labels)
        try:
            server.start()
            _settle(server, asked, expected(asked, setting))
            yield setting, server
        finally:
            server.stop()


def _settle(server: PrometheusServer, asked: Sequence[Query], wanted: set[str]) -> None:
    """Until what is to answer does; what does not in time is told by who asks."""
    with contextlib.suppress(AssertionError):
        until("queries answer", lambda: unanswered(server, asked) <= wanted, 60, 1.0)


def arguments(rig: Rig, setting: Setting) -> list[str]:
    """The agent's options as the operator makes them, on this machine and quicker."""
    metrics = MetricSettings(setting.levels, setting.names, example().idle, "1s")
    here = {"/host/sys/fs/cgroup": CGROUP, "/host/proc": "/proc"}
    words = [here.get(word, word) for word in _energy_arguments(metrics)]
    return ["--resync", "2s", "--port", str(rig.port), *words, "--measure-only"]
