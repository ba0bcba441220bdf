"""Settings of measuring, from the PowerConfig through the DaemonSet's arguments and mounts into the
agent: what was asked for arrives, and nothing else.
"""

from __future__ import annotations

import itertools
from typing import Any

import click
import pytest
from attrs import evolve
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from kpm.cli import cli
from kpm.cli.energy_options import EnergyOptions, energy_options
from kpm.cli.shells import agent
from kpm.energy.collector import EnergySettings
from kpm.operator.daemonset import HASH, Image, daemon_set
from kpm.process.errors import InputError
from kpm_planner.energy.attribution import IDLE_POLICIES
from kpm_planner.model.agent_settings import (
    METRIC_LEVELS,
    METRIC_NAMES,
    AgentSettings,
    MetricSettings,
)
from kpm_planner.model.cluster import Meta
from kpm_planner.model.objects import PowerConfig
from kpm_planner.model.quantities import duration_s

IMAGE = Image("kpm:1")
FULL = MetricSettings(
    ("process", "node"), ("kepler-0.7", "kpm"), "requests", "2s", estimate=True, max_series=777
)


def made(metrics: MetricSettings | None, **settings: Any) -> dict[str, Any]:
    """The DaemonSet of a PowerConfig."""
    return daemon_set(
        PowerConfig(Meta("c"), agent=AgentSettings(metrics=metrics, **settings)),
        "power-manager",
        IMAGE,
    )


def pod_of(metrics: MetricSettings | None, **settings: Any) -> dict[str, Any]:
    """Its pod's specification."""
    found: dict[str, Any] = made(metrics, **settings)["spec"]["template"]["spec"]
    return found


def arguments(metrics: MetricSettings | None, **settings: Any) -> list[str]:
    """What the agent is started with, without the verb."""
    verb, *words = pod_of(metrics, **settings)["containers"][0]["args"]
    assert verb == "agent"
    return list(words)


def mounts(metrics: MetricSettings | None, **settings: Any) -> dict[str, tuple[str, str, bool]]:
    """Place in the container → folder of the host, its type, whether it is read-only."""
    pod = pod_of(metrics, **settings)
    volumes = {
        volume["name"]: volume.get("hostPath", {"path": "", "type": ""})
        for volume in pod["volumes"]
    }
    (container,) = pod["containers"]
    return {
        item["mountPath"]: (
            volumes[item["name"]]["path"],
            volumes[item["name"]]["type"],
            item["readOnly"],
        )
        for item in container["volumeMounts"]
    }


def options(words: list[str]) -> tuple[EnergyOptions, str]:
    """What the agent makes of its arguments, and its state folder; nothing is started."""
    # Under the program, as users call it: a command keeps the help option of its first parent.
    parameters = agent.make_context(
        "agent", ["--node", "n", *words], parent=cli.make_context("kpm", ["agent"])
    ).params
    names = {
        "on": "energy",
        "levels": "energy_level",
        "names": "energy_name",
        "idle": "energy_idle",
        "interval": "energy_interval",
        "estimate": "energy_estimate",
        "series": "energy_series",
        "proc": "proc",
        "cgroup": "cgroup",
    }
    return (
        EnergyOptions(**{own: parameters[name] for own, name in names.items()}),
        parameters["state_dir"],
    )


def settings_of(metrics: MetricSettings | None, **settings: Any) -> EnergySettings | None:
    """The settings that an agent has whose operator was given these."""
    found, state_dir = options(arguments(metrics, **settings))
    return found.settings(state_dir)


# --- not asked for ---


def test_without_metrics_nothing_is_mounted_or_asked_for() -> None:
    """Nobody pays for what he does not want, with privileges least of all."""
    assert not [
        word for word in arguments(None) if "energy" in word or word in ("--proc", "--cgroup")
    ]
    assert not {"/host/sys", "/host/proc"} & mounts(None).keys()
    assert not [
        source
        for source, _, _ in mounts(None).values()
        if source in ("/", "/sys", "/proc") or source.startswith(("/sys/fs", "/proc/"))
    ]
    assert settings_of(None) is None


def test_by_default_an_agent_measures_nothing() -> None:
    """Also one that is started by hand, whatever else is set."""
    assert options([])[0].settings("/var/lib/kpm") is None
    assert (
        options(["--energy-level", "node", "--energy-interval", "5s"])[0].settings("/var/lib/kpm")
        is None
    )


# --- asked for ---


def test_with_metrics_what_is_needed_is_mounted_piece_by_piece_for_reading() -> None:
    """Not /sys and /proc as a whole: what is mounted below them would stay writable.

    Processes alone need /proc, its settings covered.
    """
    before, after, processes = (
        mounts(None),
        mounts(MetricSettings()),
        mounts(MetricSettings(("process",))),
    )
    pieces = {
        f"/host{path}": (path, "Directory", True)
        for path in ("/sys/devices", "/sys/class", "/sys/fs/cgroup")
    }
    assert {target: found for target, found in after.items() if target not in before} == pieces
    assert {target: found for target, found in after.items() if target in before} == before
    more = {target: found for target, found in processes.items() if target not in after}
    assert more == {"/host/proc": ("/proc", "Directory", True), "/host/proc/sys": ("", "", True)}


@pytest.mark.parametrize("caps", [(), ("rapl",), ("amd", "rapl")], ids=str)
def test_what_is_mounted_for_writing_stays_so_below_what_is_for_reading(
    caps: tuple[str, ...],
) -> None:
    """Outer folders come before those inside them, in a list that runtimes mount in order."""
    found = mounts(FULL, power_caps=caps)
    places = list(found)
    for outer, inner in itertools.permutations(places, 2):
        if inner.startswith(f"{outer}/"):
            assert places.index(outer) < places.index(inner)
    writable = {target for target, (_, _, read_only) in found.items() if not read_only}
    assert writable == {
        target
        for target, (_, _, read_only) in mounts(None, power_caps=caps).items()
        if not read_only
    }


def test_measuring_takes_no_privilege() -> None:
    """Field reports 37, 39: no capability, no host namespace, no privileged pod."""
    pod, plain = pod_of(FULL), pod_of(None)
    assert pod["containers"][0]["securityContext"] == plain["containers"][0]["securityContext"]
    assert {
        key: value
        for key, value in pod.items()
        if key not in ("containers", "initContainers", "volumes")
    } == {
        key: value
        for key, value in plain.items()
        if key not in ("containers", "initContainers", "volumes")
    }


def test_every_setting_rolls_the_agents() -> None:
    """By the hash; the same settings do not."""
    changed = [
        None,
        MetricSettings(),
        FULL,
        evolve(FULL, levels=("node",)),
        evolve(FULL, names=()),
        evolve(FULL, idle="node"),
        evolve(FULL, interval="3s"),
        evolve(FULL, estimate=False),
        evolve(FULL, max_series=778),
    ]
    marks = [made(item)["metadata"]["annotations"][HASH] for item in changed]
    assert len(set(marks)) == len(changed)
    assert made(evolve(FULL))["metadata"]["annotations"][HASH] == marks[2]


# --- there and back ---


def test_settings_that_say_nothing_have_the_defaults() -> None:
    """Node, pods and containers, by our names and Kepler's present ones, every ten seconds."""
    found = settings_of(MetricSettings())
    assert found == EnergySettings(
        ("node", "pod", "container"),
        ("kpm", "kepler"),
        "owner",
        10,
        20_000,
        "/var/lib/kpm/energy.json",
        "/proc",
    )
    asked, _ = options(arguments(MetricSettings()))
    assert (asked.cgroup, asked.estimate) == ("/host/sys/fs/cgroup", False)


def test_all_settings_arrive() -> None:
    """In the order in which they were named: it says what is left out first."""
    assert settings_of(FULL) == EnergySettings(
        ("process", "node"),
        ("kepler-0.7", "kpm"),
        "requests",
        2,
        777,
        "/var/lib/kpm/energy.json",
        "/host/proc",
    )
    assert options(arguments(FULL))[0].estimate


def test_where_the_host_is_mounted_the_agent_looks() -> None:
    """Paths of the arguments lie in what is mounted."""
    words = arguments(FULL)
    places = {
        option: words[words.index(option) + 1] for option in ("--sysfs", "--proc", "--cgroup")
    }
    found = mounts(FULL)
    assert [place for place in found if place.startswith(f"{places['--sysfs']}/devices")]
    assert places["--proc"] in found
    assert places["--cgroup"].startswith(f"{places['--sysfs']}/")


@given(
    st.builds(
        MetricSettings,
        st.lists(st.sampled_from(METRIC_LEVELS), max_size=4).map(tuple),
        st.lists(st.sampled_from(METRIC_NAMES), max_size=3).map(tuple),
        st.none() | st.sampled_from(IDLE_POLICIES),
        st.none() | st.integers(1, 60).map(lambda seconds: f"{seconds}s") | st.just("1m"),
        st.booleans(),
        st.none() | st.integers(100, 1_000_000),
    ),
    st.booleans(),
)
def test_any_settings_arrive_as_they_were_asked_for(
    metrics: MetricSettings, measure_only: bool
) -> None:
    """Each argument is one that the agent takes; what is named twice counts once; beside all other
    settings.
    """
    asked, state_dir = options(
        arguments(
            metrics,
            measure_only=measure_only,
            resync_period="30s",
            repair="report",
            log_level="debug",
            power_caps=("rapl",),
        )
    )
    found = asked.settings(state_dir)
    assert found is not None
    assert found.levels == (tuple(dict.fromkeys(metrics.levels)) or METRIC_LEVELS[:3])
    assert found.names == (tuple(dict.fromkeys(metrics.names)) or METRIC_NAMES[:2])
    assert found.idle == (metrics.idle or "owner")
    assert found.interval == (duration_s(metrics.interval) if metrics.interval else 10)
    assert found.most_series == (metrics.max_series or 20_000)
    assert asked.estimate is metrics.estimate


def test_the_agent_hands_over_what_it_was_given() -> None:
    """The options come as one value to the command that has them."""
    taken: list[Any] = []

    @click.command()
    @energy_options
    @click.option("--other")
    def probe(other: str, energy: EnergyOptions) -> None:
        taken.append((other, energy))

    words = arguments(FULL)
    done = CliRunner().invoke(
        probe, ["--other", "x", *words[words.index("--cgroup") :]], catch_exceptions=False
    )
    assert (done.exit_code, done.output) == (0, "")
    assert taken == [("x", options(words)[0])]


# --- refused ---


@pytest.mark.parametrize(
    "text",
    [
        "0s",
        "61s",
        "2m",
        "1h",
        "10",
        "s",
        "",
        "10ms",
        "1.5s",
        "-5s",
        "+5s",
        " 5s",
        "5 s",
        "5S",
        "ten seconds",
        "5s\n5s",
        "٣s",
        "9" * 5000 + "s",
        "1e1s",
        "\x1b[31m5s",
        "\ud800s",
    ],
    ids=lambda text: ascii(text[:12]),
)
def test_a_bad_interval_is_refused_in_one_line(text: str) -> None:
    """It names the option, what was given, and what is allowed."""
    with pytest.raises(InputError) as refused:
        options(["--energy", "--energy-interval", text])
    said = str(refused.value)
    assert said.startswith("--energy-interval: ")
    assert "1s to 60s" in said
    assert said.isprintable()


@pytest.mark.parametrize(("text", "seconds"), [("1s", 1), ("60s", 60), ("1m", 60), ("05s", 5)])
def test_a_good_interval_is_taken(text: str, seconds: int) -> None:
    """From a second to a minute."""
    assert options(["--energy", "--energy-interval", text])[0].interval == seconds


@pytest.mark.parametrize(
    "words",
    [
        ["--energy-level", "vm"],
        ["--energy-name", "scaphandre"],
        ["--energy-idle", "all"],
        ["--energy-series", "99"],
        ["--energy-series", "1000001"],
        ["--energy-series", "many"],
    ],
    ids=" ".join,
)
def test_what_is_not_in_a_list_or_range_is_refused(words: list[str]) -> None:
    """By click, with what is allowed."""
    with pytest.raises(click.BadParameter):
        options(["--energy", *words])
