"""What every pod is told, and what a node's standing power is taken for, before it can be known.

Theory: a meter shows standing power and work together. Only loads that differ can tell them apart,
so until they did, something must be assumed: out of the processor, its CPUs, its thermal design
power. It must be good enough that nobody is told nonsense (35 %), must not be unlearned by readings
that jitter while the load does not change, and must give way to what is learned (5 %). Above all a
pod that does nothing different is told the same, whoever starts beside it.

The first experiment of everybody: a quiet node, a pod that takes CPUs, a quiet node again. The node
is made (story_node.py); what is told is what `kpm energy --json` prints, in this process under a
clock that the test plays, once as a process; what only scrapes are told is an agent's meter's.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve, frozen

from kpm.energy.collector import EnergyMeter, EnergySettings
from kpm.energy.sampler import Roots, Sampler
from kpm.process.logs import Log
from kpm_applier.discovery.discover import discover
from kpm_applier.sysfs.tree import SysfsHost
from tests.energy.story_node import BUSY, FULL, KINDS, PODS, QUIET, SAME, Kind, Load, Node, uid_of
from tests.energy.test_energy_meter import told, value
from tests.kpm.cli_rig import REPO, kpm

INTERVAL = 2.0
#: A round that teaches: so many intervals quiet, as many with a neighbour, as many quiet.
ROUND = 10
LESSON = ((QUIET, ROUND), (BUSY, ROUND), (QUIET, ROUND))
#: Intervals after which what is told must be right.
LEARNED = 3 * ROUND
ASSUMED_WITHIN, LEARNED_WITHIN, SAME_WITHIN = 0.35, 0.05, 1.15
STANDING = "kpm_meter_standing_watts"
LOADS = {"quiet": QUIET, "steady": BUSY, "saturated": FULL}
ORDINARY = ["desktop", "server", "atom", "unknown"]


@frozen
class Interval:
    """What happened and what was told, pod → W of work."""

    truth: dict[str, float]
    told: dict[str, float]


Make = Callable[..., Node]
Play = Callable[..., list[Interval]]


@pytest.fixture
def new_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes nodes; the sampler's clock is that of the last one."""
    made: list[Node] = []

    def make(kind: str | Kind = "desktop", **fields: Any) -> Node:
        known = kind if isinstance(kind, Kind) else KINDS[kind]
        node = Node(tmp_path / str(len(made)), known, **fields)
        made.append(node)
        monkeypatch.setattr("kpm.energy.sampler._clocks", lambda: (node.us, 0))
        return node

    yield make
    for node in made:
        node.close()


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Runs `kpm energy --json` on a node through phases: each a load and a number of intervals."""

    def run(node: Node, *phases: tuple[Load, int]) -> list[Interval]:
        loads = iter([load for load, count in phases for _ in range(count)])
        truths: list[dict[str, float]] = []

        def sleep(seconds: float) -> None:
            node.run(seconds, next(loads))
            truths.append(node.truth)

        monkeypatch.setattr("kpm.cli.energy.time", SimpleNamespace(sleep=sleep, time=time.time))
        ran = kpm(*command(node, INTERVAL, sum(count for _, count in phases)))
        assert ran.code == 0, ran.err
        documents = map(json.loads, ran.out.splitlines())
        return [Interval(*both) for both in zip(truths, map(busy_watts, documents), strict=True)]

    return run


def command(node: Node, interval: float, count: int) -> tuple[str, ...]:
    """The words of a person at a shell."""
    roots = zip(("--sysfs", "--proc", "--cgroup"), node.roots, strict=True)
    words = [word for option in roots for word in option]
    words += ["--pods", str(node.pods), "--interval", f"{interval:g}s", "--count", str(count)]
    return ("energy", *words, "--json")


def busy_watts(document: dict[str, Any]) -> dict[str, float]:
    """Pod → W of work, out of a document."""
    return {row["name"]: row["busyWatts"] for row in document["rows"] if row["kind"] == "pod"}


def wrong(truth: dict[str, float], told: dict[str, float], bound: float) -> list[str]:
    """What is told further from the truth than allowed; who does nothing has nothing."""
    return [
        f"{name} is told {told[name]:.3f} W of {watts:.3f} W ({told[name] / max(watts, 1e-9):.0%})"
        for name, watts in truth.items()
        if abs(told[name] - watts) > bound * watts
    ]


def faults(intervals: list[Interval], bound: float) -> list[str]:
    """What is told wrongly from the second interval on, in the first and the last such interval."""
    found = [(number, wrong(x.truth, x.told, bound)) for number, x in enumerate(intervals, 1)]
    bad = [f"interval {number}: {'; '.join(texts)}" for number, texts in found[1:] if texts]
    return bad if len(bad) < 2 else [f"{len(bad)} intervals", bad[0], bad[-1]]


def phases_of(intervals: list[Interval]) -> list[Interval]:
    """The median of each round; the truth of one does not change."""
    rounds = [intervals[first : first + ROUND] for first in range(0, len(intervals), ROUND)]
    return [
        Interval(
            part[0].truth,
            {name: statistics.median(item.told[name] for item in part) for name in PODS},
        )
        for part in rounds
    ]


def changed(phases: list[Interval]) -> list[str]:
    """Pods that did the same all the time and were told otherwise."""
    found = {name: [item.told[name] for item in phases] for name in SAME}
    return [
        f"{name} is told {min(watts):.3f} to {max(watts):.3f} W of {phases[0].truth[name]:.3f} W"
        for name, watts in found.items()
        if max(watts) > SAME_WITHIN * min(watts)
    ]


def hold(texts: list[str]) -> None:
    """Nothing is to be said."""
    assert not texts, "\n".join(texts)


# --- before anything is learned ---


@pytest.mark.parametrize("kind", ORDINARY)
def test_who_does_the_same_is_told_the_same(new_node: Make, play: Play, kind: str) -> None:
    """Before, while and after a neighbour takes a quarter of the machine for the first time."""
    hold(changed(phases_of(play(new_node(kind), *LESSON))))


@pytest.mark.parametrize("jitter", [0.0, pytest.param(0.06, marks=pytest.mark.soak), 0.15])
@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_load_alone_is_told_nearly_right(
    new_node: Make,
    play: Play,
    kind: str,
    load: str,
    jitter: float,
) -> None:
    """From the second interval on, for two minutes, however frequencies are read.

    Such a node teaches nothing of what it takes standing: what is assumed must hold.
    """
    node = new_node(kind, jitter=jitter, ripple=0.002 if jitter else 0.0)
    found = play(node, (LOADS[load], 60))
    hold(faults(found, ASSUMED_WITHIN))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", ["quiet", "saturated"])
def test_the_first_change_is_told_nearly_right(
    new_node: Make,
    play: Play,
    kind: str,
    first: str,
) -> None:
    """No interval of the first lesson is far off, whether the node began quiet or saturated."""
    lesson = LESSON if first == "quiet" else ((FULL, ROUND), (QUIET, ROUND), (FULL, ROUND))
    hold(faults(play(new_node(kind), *lesson), ASSUMED_WITHIN))


# --- once it is learned ---


@pytest.mark.parametrize("jitter", [0.0, 0.06])
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_learned_is_right(new_node: Make, play: Play, kind: str, jitter: float) -> None:
    """After LEARNED intervals with two loads each phase is right, one of a load never seen too."""
    node = new_node(kind, jitter=jitter, ripple=0.002 if jitter else 0.0)
    again = ((QUIET, ROUND), (BUSY, ROUND), (FULL, ROUND), (QUIET, ROUND))
    found = phases_of(play(node, *LESSON, *again)[LEARNED:])
    for item in found:
        hold(wrong(item.truth, item.told, LEARNED_WITHIN))
    hold(changed(found))


# --- what is told of it ---


def measuring(node: Node, name: str = "made", **settings: Any) -> EnergyMeter:
    """An agent's meter, which knows its machine as an agent does: by what /sys says."""
    chosen = EnergySettings(**{"proc": str(node.proc), **settings})
    made = EnergyMeter(name, chosen, Sampler(Roots(*node.roots)), Log(stream=io.StringIO()))
    made.follow(discover(SysfsHost(str(node.sysfs))).machine, {}, {})
    return made


def live(node: Node, meter: EnergyMeter, *phases: tuple[Load, int]) -> EnergyMeter:
    """Time passes, in the agent's own steps."""
    meter.sample()
    for load, count in phases:
        for _ in range(count):
            node.run(10.0, load)
            meter.sample()
    return meter


def standing(meter: EnergyMeter) -> dict[tuple[str, str], tuple[str, float]]:
    """Zone and place → on what basis, and W; one series a meter, of every package."""
    lines = told(meter).get(STANDING, [])
    found = {(x.labels["zone"], x.labels["place"]): (x.labels["basis"], x.value) for x in lines}
    assert len(found) == len(lines), f"{STANDING}: {lines}"
    packages = {(x.zone, x.place) for x in meter.sampler.meters if x.zone == "package"}
    assert packages <= found.keys(), f"{STANDING} tells {sorted(found)}"
    return found


def bases(meter: EnergyMeter) -> set[str]:
    """On what basis the packages' standing power is told."""
    return {basis for (zone, _), (basis, _) in standing(meter).items() if zone == "package"}


def pods_of(meter: EnergyMeter) -> dict[str, float]:
    """Pod → W."""
    return {name: value(meter, "kpm_pod_power_watts", pod_uid=uid_of(name)) for name in SAME}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_assumed_says_so(new_node: Make, kind: str) -> None:
    """At the first interval: a power that is there, and no more than was measured."""
    node = new_node(kind)
    meter = live(node, measuring(node), (BUSY, 1))
    assert bases(meter) == {"prior"}
    for (zone, place), (_, watts) in standing(meter).items():
        assert 0 < watts <= value(meter, "kpm_node_power_watts", zone=zone, place=place)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_learned_says_so(new_node: Make, kind: str) -> None:
    """After a lesson: each package's own standing power."""
    node = new_node(kind)
    meter = live(node, measuring(node), *LESSON)
    assert bases(meter) == {"learned"}
    found = {zone_place: watts for zone_place, (_, watts) in standing(meter).items()}
    for package in range(node.kind.packages):
        assert found["package", f"package-{package}"] == pytest.approx(node.kind.standing, rel=0.05)


@pytest.mark.parametrize("jitter", [0.0, 0.03, 0.06, 0.1, 0.15])
def test_readings_that_jitter_teach_nothing(new_node: Make, jitter: float) -> None:
    """Ten minutes of one load: its spread is only how it was read; a line through it is flat."""
    node = new_node(jitter=jitter, ripple=0.002)
    meter = live(node, measuring(node), (BUSY, 60))
    assert bases(meter) == {"prior"}
    hold(wrong({name: node.truth[name] for name in SAME}, pods_of(meter), ASSUMED_WITHIN))


@pytest.mark.parametrize("kind", KINDS)
def test_each_cpu_is_told_with_its_processor(new_node: Make, kind: str) -> None:
    """Vendor and model as cpuinfo has them, under the name that Kepler's users ask for."""
    node = new_node(kind)
    meter = measuring(node)
    told(meter)  # a scrape that comes before the first look fixes nothing
    live(node, meter, (BUSY, 1))
    found = told(meter)["kepler_node_cpu_info"]
    assert len(found) == node.kind.packages * node.kind.cpus
    assert {line.labels["model_name"] for line in found} == {node.kind.name}
    assert {line.labels["vendor_id"] for line in found} <= {"GenuineIntel", "AuthenticAMD", ""}


def test_a_process_is_told_what_its_pod_is(new_node: Make) -> None:
    """What is assumed holds at every level."""
    node = new_node()
    meter = live(node, measuring(node, levels=("node", "pod", "container", "process")), (BUSY, 3))
    shop = value(meter, "kpm_process_power_watts", pid=str(100 + PODS.index("shop/web")))
    assert shop == pytest.approx(pods_of(meter)["shop/web"], rel=0.05)
    assert shop == pytest.approx(node.truth["shop/web"], rel=ASSUMED_WITHIN)


# --- over a restart ---

OTHER_BOOT = "22222222-0000-4000-8000-000000000002"


def taught(node: Node, state: Path) -> None:
    """An agent learns and ends."""
    meter = live(node, measuring(node, state=str(state)), *LESSON)
    meter.stop()
    meter.sampler.close()


@pytest.mark.parametrize("boot", ["same", "other"])
def test_what_was_learned_outlives_a_restart(new_node: Make, tmp_path: Path, boot: str) -> None:
    """Of the agent, and of the machine: what it takes standing does not change with a boot."""
    node, state = new_node("frugal"), tmp_path / "energy.json"
    taught(node, state)
    if boot == "other":
        node.boot(OTHER_BOOT)
    meter = live(node, measuring(node, state=str(state)), (BUSY, 1))
    assert bases(meter) == {"learned"}
    hold(wrong({name: node.truth[name] for name in SAME}, pods_of(meter), LEARNED_WITHIN))


DESKTOP = KINDS["desktop"]
OTHERS = {
    "model": evolve(DESKTOP, name="Intel(R) Core(TM) i3-6100 CPU @ 3.70GHz"),
    "machine": evolve(DESKTOP, packages=2, cpus=8, tdp=140, standing=30.0),
}


@pytest.mark.parametrize("other", OTHERS)
def test_what_another_machine_learned_is_not_taken(
    new_node: Make,
    tmp_path: Path,
    other: str,
) -> None:
    """The file came with a disk or an image: another processor, or more of the same."""
    first, state = new_node(DESKTOP), tmp_path / "energy.json"
    taught(first, state)
    second = new_node(OTHERS[other], us=first.us)
    second.boot(OTHER_BOOT)
    meter = live(second, measuring(second, "other", state=str(state)), (BUSY, 2))
    assert bases(meter) == {"prior"}


# --- as a process ---


def test_a_person_at_a_shell_is_told_nearly_right(tmp_path: Path) -> None:
    """`python -m kpm energy --json` beside a node that lives by the wall's clock."""
    node = Node(tmp_path)
    words = [sys.executable, "-m", "kpm", *command(node, 1, 2)]
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=env, cwd=tmp_path) as run:
        last = time.monotonic()
        while run.poll() is None:
            time.sleep(0.02)
            now = time.monotonic()
            node.run(now - last, BUSY)
            last = now
        assert run.stdout is not None
        documents = [json.loads(line) for line in run.stdout]
    node.close()
    assert (run.returncode, len(documents)) == (0, 2)
    hold(wrong(node.truth, busy_watts(documents[1]), ASSUMED_WITHIN))
