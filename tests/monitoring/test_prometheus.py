"""A real Prometheus scrapes the real agent, which measures real containers against a real API
server and made meters (energy_rig.py).

One scene for all tests, in this order: what is scraped, what adds up, what is asked of it (rules,
report, dashboards), pods that end, and restarts of the agent last. KPM_PICTURES=1 draws
docs/dashboards/*.svg too, which takes some minutes more.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import yaml

from kpm_planner.model.agent_settings import METRIC_LEVELS, METRIC_NAMES
from tests.apiserver.nodes import NAMESPACE
from tests.monitoring.energy_rig import CAP_WATTS, NODE, TWIN_WATTS, PodOnNode, Rig, rigged
from tests.monitoring.prometheus_server import (
    REPO,
    RULES,
    Neighbour,
    PrometheusServer,
    promtool,
    quick,
    until,
)
from tests.programs import load_program

pytestmark = pytest.mark.monitoring
DASHBOARDS = REPO / "deploy/monitoring/dashboards"
#: What is compared on the board of savings where nobody has slowed anything.
COMPARED = {"reference": "offset 20s", "window": "5s"}
#: There is one node here: no group of them has a figure.
NO_FIGURE = "Power of nodes beside other nodes"
#: Zones that do not contain each other.
OWN = 'zone=~"package|dram"'
#: What is dropped of a scrape, by Prometheus' own counters.
DROPPED = (
    "sample_duplicate_timestamp",
    "sample_out_of_order",
    "sample_out_of_bounds",
    "exceeded_sample_limit",
    "exceeded_body_size_limit",
)
#: Of each choice of --energy-name and --energy-level, a metric that only it tells; the older names
#: have no pods and processes.
TOLD = {
    ("kpm", "node"): "kpm_node_energy_joules_total",
    ("kpm", "pod"): "kpm_pod_joules_total",
    ("kpm", "container"): "kpm_container_joules_total",
    ("kpm", "process"): "kpm_process_joules_total",
    ("kepler", "node"): "kepler_node_cpu_joules_total",
    ("kepler", "pod"): "kepler_pod_cpu_joules_total",
    ("kepler", "container"): "kepler_container_cpu_joules_total",
    ("kepler", "process"): "kepler_process_cpu_joules_total",
    ("kepler-0.7", "node"): "kepler_node_package_joules_total",
    ("kepler-0.7", "container"): "kepler_container_joules_total",
}


def drawing() -> Any:
    """docs/make_dashboard_pictures.py."""
    return load_program("docs/make_dashboard_pictures.py")


PICTURES = drawing()
LINE = re.compile(r"^kpm_pod_joules_total\{(?P<labels>.*)\} (?P<value>\S+)$", re.MULTILINE)


def pod_totals(text: str) -> dict[str, dict[str, float]]:
    """State → pod → joules of all zones and modes, out of one answer of an agent."""
    found: dict[str, dict[str, float]] = {
        "running": defaultdict(float),
        "terminated": defaultdict(float),
    }
    for item in LINE.finditer(text):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', item["labels"]))
        found[labels["state"]][labels["pod"]] += float(item["value"])
    return found


def meter_of(labels: dict[str, str]) -> str:
    """The counter of the rig that a series of ours or of Kepler's is about."""
    found = re.search(r"intel-rapl:(\d)", labels["path"])
    assert found, labels
    return f"{labels['zone']}-{found[1]}"


@dataclass
class Reader:
    """A plain client at an address of its own that reads the metrics once a second; for machines
    that allow no second network.
    """

    rig: Rig
    address: str = "127.0.0.2"
    ended: dict[str, float] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _paused: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def pause(self) -> None:
        self._paused.set()

    def resume(self) -> None:
        self._paused.clear()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(20)

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            if not self._paused.is_set():
                self.ended.update(
                    pod_totals(self.rig.answer("/metrics", self.address))["terminated"]
                )


@dataclass
class Scene:
    """A rig, a Prometheus beside it that records and alerts, and a second reader at another
    address. began, and when a profile was slowed: time.time().
    """

    rig: Rig
    prometheus: PrometheusServer
    other: PrometheusServer | Reader
    began: float = field(default_factory=time.time)
    slowed: float = 0.0

    @property
    def whole(self) -> str:
        """All of the time, as a range."""
        return f"{math.ceil(time.time() - self.began) + 5}s"

    def wait_until(self, seconds: float) -> None:
        """Until so many seconds after the beginning."""
        time.sleep(max(0.0, self.began + seconds - time.time()))

    def saw_ended(self, pod: str) -> tuple[float | None, float | None]:
        """What each of the two readers saw a pod end with, J; None for one that did not."""
        return ended_with(self.prometheus, pod), ended_with(self.other, pod)


def ended_with(reader: PrometheusServer | Reader, pod: str) -> float | None:
    """What a reader saw a pod end with, J."""
    if isinstance(reader, Reader):
        return reader.ended.get(pod)
    found = reader.query(
        f'sum(last_over_time(kpm_pod_joules_total{{pod="{pod}",state="terminated"}}[2m]))'
    )
    return found[0][1] if found else None


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """The rig, and both readers."""
    with contextlib.ExitStack() as last:
        rig = last.enter_context(rigged(tmp_path_factory.mktemp("energy")))
        beside = PrometheusServer(
            tmp_path_factory.mktemp("prometheus"),
            f"127.0.0.1:{rig.port}",
            rig.labels,
            quick(RULES.read_text()),
        )
        last.callback(beside.stop)
        beside.start()
        other = _second(rig, tmp_path_factory.mktemp("second"), last)
        yield Scene(rig, beside, other)


def _second(rig: Rig, folder: Path, last: contextlib.ExitStack) -> PrometheusServer | Reader:
    """A second Prometheus in a network of its own; a plain client where that is not allowed."""
    neighbour = Neighbour()
    last.callback(neighbour.remove)
    try:
        neighbour.make()
    except (OSError, subprocess.SubprocessError):
        reader = Reader(rig)
        last.callback(reader.stop)
        reader.start()
        return reader
    server = PrometheusServer(
        folder,
        f"{neighbour.host}:{rig.port}",
        rig.labels,
        address=neighbour.address,
        prefix=neighbour.prefix,
    )
    last.callback(server.stop)
    server.start()
    return server


# --- what is scraped ---


def test_promtool_has_nothing_to_say_of_the_metrics(scene: Scene) -> None:
    """`promtool check metrics` is silent, with all three names and all four levels told."""
    text = scene.rig.answer("/metrics")
    for choice, name in TOLD.items():
        assert f"\n{name}{{" in text, choice
    assert {name for name, _ in TOLD} == set(METRIC_NAMES)
    assert {level for _, level in TOLD} == set(METRIC_LEVELS)
    done = promtool("check", "metrics", given=text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_prometheus_scrapes_without_a_warning(scene: Scene) -> None:
    """Every scrape succeeds, no sample is dropped or told twice, and
    nothing of it is in the log.
    """
    scene.wait_until(12)
    server = scene.prometheus
    until(
        "ten scrapes in a row are well",
        lambda: server.query("min_over_time(up[10s]) == 1 and count_over_time(up[10s]) >= 9"),
    )
    (target,) = server.api("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    assert server.value("scrape_samples_scraped - scrape_samples_post_metric_relabeling") == 0
    lines = [line for line in scene.rig.answer("/metrics").splitlines() if not line.startswith("#")]
    assert len({line.rpartition(" ")[0] for line in lines}) == len(lines)
    names = "(kpm|kepler)_(node|pod|container|pool)_.+"  # processes come and go
    until(
        "it has all of them",
        lambda: (
            server.value(f'count({{__name__=~"{names}"}})')
            == sum(re.match(names, line) is not None for line in lines)
        ),
        5,
    )
    assert {
        name: server.own(f"prometheus_target_scrapes_{name}_total") for name in DROPPED
    } == dict.fromkeys(DROPPED, 0)
    assert not [
        line for line in server.log.splitlines() if re.search(r"level=(?:warn|error)", line)
    ]


def test_labels_are_those_of_whose_energy_it_is(scene: Scene) -> None:
    """honor_labels keeps the pods' own namespace and name; what is the node's has those of the
    agent; both say which node.
    """
    (found,) = scene.prometheus.query('kpm_pod_joules_total{pod="web",mode="busy",zone="package"}')
    expected = {
        "namespace": "shop",
        "pod_uid": scene.rig.pods["web"].uid,
        "pool": "exclusive",
        "profile": "performance",
        "state": "running",
        "node": NODE,
    }
    assert found[0].items() >= expected.items()
    found, *_ = scene.prometheus.query("kpm_node_energy_joules_total")
    assert (
        found[0].items()
        >= {
            "namespace": NAMESPACE,
            "pod": scene.rig.labels["pod"],
            "node": NODE,
        }.items()
    )


# --- what adds up ---


def test_the_parts_add_up_to_what_was_measured(scene: Scene) -> None:
    """Pods + system + nobody's idle = node, seen from outside, in each zone and as the recorded
    gap.
    """
    scene.wait_until(35)
    server, at = scene.prometheus, time.time()
    for zones in (OWN, 'zone="package"', 'zone="dram"'):
        parts = [
            server.value(f"sum({name}{{{zones}}})", at)
            for name in (
                "kpm_pod_joules_total",
                "kpm_node_system_joules_total",
                "kpm_node_unattributed_joules_total",
            )
        ]
        assert sum(parts) == pytest.approx(
            server.value(f"sum(kpm_node_energy_joules_total{{{zones}}})", at), rel=0.01
        ), zones
        assert parts[0] > 0
    assert server.value("max_over_time(kpm:attribution_gap:ratio[10s])") < 0.01
    assert server.value("count_over_time(kpm:attribution_gap:ratio[10s])") >= 5


def test_recorded_power_is_what_the_meters_gave(scene: Scene) -> None:
    """kpm:node_power:watts, of two packages and their memory without the twins, against the truth;
    in it a counter wrapped.
    """
    scene.wait_until(45)
    server, meters, at = scene.prometheus, scene.rig.meters, time.time()
    truth = (meters.joules("", at - 1) - meters.joules("", at - 21)) / 20
    assert server.value("sum(kpm:node_power:watts)", at) == pytest.approx(truth, rel=0.1)
    shown = int(
        (meters.sysfs / "devices/virtual/powercap/intel-rapl/intel-rapl:1/energy_uj").read_text()
    )
    assert shown < 50_000_000_000, "the counter of package-1 was to wrap"
    assert {labels["code"] for labels, _ in server.query("kpm_meter_faults_total")} == {
        "energy-unreadable"
    }, "no interval was lost"
    for name in ("package-0", "package-1"):
        truth = meters.joules(name, at - 1) - meters.joules(name, at - 31)
        assert server.value(
            f'increase(kpm_node_energy_joules_total{{zone="package",place="{name}"}}[30s])', at
        ) == pytest.approx(truth, rel=0.1), name


# --- what is asked of it ---


def test_all_rules_work(scene: Scene) -> None:
    """Prometheus evaluates each rule without an error; each recorded name has data."""
    rules = [rule for group in scene.prometheus.api("rules")["groups"] for rule in group["rules"]]
    assert len(rules) == sum(
        len(group["rules"]) for group in yaml.safe_load(RULES.read_text())["groups"]
    )
    assert {rule["name"]: (rule["health"], rule.get("lastError", "")) for rule in rules} == {
        rule["name"]: ("ok", "") for rule in rules
    }
    for rule in rules:
        assert rule["type"] == "alerting" or scene.prometheus.query(rule["name"]), rule["name"]


def test_the_report_of_a_profile(scene: Scene) -> None:
    """`kpm energy report` tells the energy of the pods of a profile and of no others, as Prometheus
    has it.
    """
    for profile, pods in (
        ("performance", ["shop/web"]),
        ("shared", ["batch/nightly", "shop/cart"]),
    ):
        words = [
            "energy",
            "report",
            "--prometheus",
            scene.prometheus.url,
            "--profile",
            profile,
            "--since",
            "30s",
            "-o",
            "json",
        ]
        at = time.time()
        done = subprocess.run(
            [str(Path(sys.executable).with_name("kpm")), *words],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        found = json.loads(done.stdout)
        assert [item["pod"] for item in found["pods"]] == pods
        assert {item["profile"] for item in found["pods"]} == {profile}
        expected = scene.prometheus.value(
            f'sum(increase(kpm_pod_joules_total{{{OWN},profile="{profile}"}}[30s]))', at
        )
        assert found["joules"] == pytest.approx(expected, rel=0.1)
        assert (
            0
            < found["joules"]
            < scene.rig.meters.joules("", at) - scene.rig.meters.joules("", at - 32)
        )
        assert found["watts"] == pytest.approx(found["joules"] / 30)


def _asked() -> Iterator[tuple[str, str, str, str]]:
    """Dashboard, panel or variable, kind, query."""
    for path in sorted(DASHBOARDS.glob("*.json")):
        dashboard: dict[str, Any] = json.loads(path.read_text())
        values = PICTURES.values_of(dashboard, 30, COMPARED if path.stem == "savings" else {})
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield (
                    path.stem,
                    panel["title"],
                    "range" if target["range"] else "instant",
                    quick(PICTURES.fill(target["expr"], values)),
                )
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                yield (
                    path.stem,
                    f"${variable['name']}",
                    "values",
                    PICTURES.fill(variable["query"], values),
                )


def test_every_query_of_every_dashboard_returns_data(scene: Scene) -> None:
    """With its variables filled in: all panels have something to show, all variables something to
    choose.
    """
    scene.wait_until(60)
    server, empty, count = scene.prometheus, [], 0
    for dashboard, name, kind, query in _asked():
        count += 1
        if kind == "values":
            selector, label = re.fullmatch(r"label_values\((.*), *(\w+)\)", query).groups()  # type: ignore[union-attr]
            values: list[float] = [1.0] * len(server.label_values(selector, label, scene.began))
        elif kind == "range":
            values = [
                value
                for _, points in server.query_range(query, time.time() - 30, time.time())
                for _, value in points
            ]
        else:
            values = [value for _, value in server.query(query)]
        if not any(map(math.isfinite, values)):
            empty.append((dashboard, name, query))
    assert count >= 60
    assert not [item for item in empty if item[1] != NO_FIGURE]
    assert [item for item in empty if item[1] == NO_FIGURE]


def test_alerts_tell_what_is_wrong_until_it_is_not(scene: Scene) -> None:
    """A meter that cannot be read, an object that is wrong, a cap below which somebody else goes,
    and values that somebody changes.
    """
    server, rig = scene.prometheus, scene.rig
    standing = {"KPMMeterLost", "KPMEnergyProblem", "KPMObjectInvalid"}
    until("what is wrong is told, and nothing else", lambda: server.firing() == standing)
    assert CAP_WATTS / 2 < TWIN_WATTS
    rig.meters.set_twin(50)
    for cpu in (0, 1):
        rig.node.write(
            f"cpufreq/policy{cpu}/scaling_max_freq", str(rig.node.spec.min_mhz * 1000 + cpu)
        )
        rig.node.write(
            f"cpufreq/policy{cpu}/scaling_governor",
            "powersave" if rig.node.cpufreq(cpu)[2] == "performance" else "performance",
        )
    more = {"KPMCapNotHonoured", "KPMDrift"}
    until("somebody else is told of", lambda: server.firing() == standing | more)
    rig.meters.set_twin(TWIN_WATTS)
    until("that is over", lambda: server.firing() == standing, 60)


# --- pods that end ---


def test_two_readers_both_see_a_pod_end_and_then_it_is_gone(scene: Scene) -> None:
    """Its last total is told as of one that ended until both have read
    it, and no more after that.
    """
    rig = scene.rig
    rig.add(PodOnNode("batch", "short", {"job": (0.3, 0.3)}))
    running = 'sum(kpm_pod_joules_total{pod="short",state="running"})'
    readers = [
        server for server in (scene.prometheus, scene.other) if isinstance(server, PrometheusServer)
    ]
    until(
        "the pod's energy is told",
        lambda: all(next(iter(server.query(running)), ({}, 0.0))[1] > 1 for server in readers),
    )
    rig.end("short")
    one, two = until(
        "both readers saw it end",
        lambda: found if None not in (found := scene.saw_ended("short")) else None,
    )
    assert one == two
    before = max(
        value
        for _, points in scene.prometheus.samples(
            'kpm_pod_joules_total{pod="short",zone="package",mode="busy",state="running"}[1m]'
        )
        for _, value in points
    )
    after = max(
        value
        for _, points in scene.prometheus.samples(
            'kpm_pod_joules_total{pod="short",zone="package",mode="busy",state="terminated"}[1m]'
        )
        for _, value in points
    )
    assert after >= before > 0
    until("it is told no more", lambda: 'pod="short"' not in rig.answer("/metrics"), 20)
    until(
        "nor has a reader it now",
        lambda: not any(server.query('kpm_pod_joules_total{pod="short"}') for server in readers),
        20,
    )


# --- what was saved ---


def test_a_saving_is_told_as_large_as_it_was(scene: Scene) -> None:
    """A profile is lowered: against the time before, the board tells the difference that the
    counters have, and an interval without 0; without a reference it tells nothing.
    """
    rig, server = scene.rig, scene.prometheus
    time.sleep(10)  # the pods of the tests before are over
    scene.slowed = time.time()
    rig.slow("performance", "45%")
    time.sleep(52)  # what was before has left the rates, and half a minute is new
    at = time.time()
    board = json.loads((DASHBOARDS / "savings.json").read_text())
    chosen = {**COMPARED, "reference": "offset 54s", "profile": "performance"}
    queries = {
        panel["title"]: [target["expr"] for target in panel["targets"]]
        for panel in board["panels"]
        if panel["type"] == "stat"
    }

    def shown(title: str, **more: str) -> list[float]:
        values = PICTURES.values_of(board, 30, {**chosen, **more})
        found = [server.query(PICTURES.fill(query, values), at) for query in queries[title]]
        return [value for rows in found for _, value in rows]

    saved, least, most = shown("Energy saved")
    joules = f'sum(kpm_pool_joules_total{{{OWN},profile="performance"}})'
    # The recorded power is a mean of the 20 s before.
    now = server.value(joules, at - 8) - server.value(joules, at - 38)
    then = server.value(joules, at - 62) - server.value(joules, at - 92)
    assert saved == pytest.approx(then - now, rel=0.3)
    assert 0 < least < saved < most
    assert shown("Money saved")[0] == pytest.approx(saved / 3.6e6 * 0.30)
    assert shown("CO2e saved, grams")[0] == pytest.approx(saved / 3.6e6 * 380)
    assert shown("Energy saved", reference="@ 0") == []


# --- pictures ---


def test_pictures_of_the_dashboards(scene: Scene, tmp_path: Path) -> None:
    """Each dashboard is drawn out of what its queries return, no panel empty; kept in
    docs/dashboards where KPM_PICTURES=1 asks for it.
    """
    wanted = os.environ.get("KPM_PICTURES") == "1"
    scene.wait_until(330 if wanted else 65)
    folder = REPO / "docs/dashboards" if wanted else tmp_path
    folder.mkdir(exist_ok=True)
    now = time.time()
    # A minute is long enough for what is read every half minute, as five are where the agent is
    # scraped as usual.
    source = PICTURES.Source(
        scene.prometheus.url,
        now,
        now - scene.began - 60,
        lambda query: quick(query.replace("[5m]", "[61s]")),
    )
    for path in sorted(DASHBOARDS.glob("*.json")):
        dashboard = json.loads(path.read_text())
        values: dict[str, str] = {}
        if path.stem == "savings":
            lasts = math.floor(now - scene.slowed - 22)
            source = PICTURES.Source(source.url, now, lasts, source.change)
            values = {
                "reference": f"offset {lasts + 24}s",
                "window": "5s",
                "profile": "performance",
            }
        (folder / f"{path.stem}.svg").write_text(PICTURES.picture(dashboard, source, values))
        text = (folder / f"{path.stem}.svg").read_text()
        assert "No data" not in text, path.stem
        assert not [
            panel["title"] for panel in dashboard["panels"] if escape(panel["title"]) not in text
        ], path.stem


# --- restarts of the agent ---


def test_counters_go_on_over_restarts_of_the_agent(scene: Scene) -> None:
    """Ended by SIGTERM and by SIGKILL: no counter ever falls, and over all of it they grew by what
    was really used (±10 %).
    """
    rig, server = scene.rig, scene.prometheus
    counters = [
        f"kpm_node_energy_joules_total{{{OWN}}}",
        f"kepler_node_cpu_joules_total{{{OWN}}}",
        'kpm_pod_joules_total{pod=~"web|cart|nightly"}',
        'kpm_pod_cpu_seconds_total{pod=~"web|cart|nightly"}',
    ]
    before = {name: len(server.query(name)) for name in counters}
    began, used = (
        time.time(),
        {
            name: sum(map(rig.cgroups.seconds, pod.cgroups.values()))
            for name, pod in rig.pods.items()
        },
    )
    for number, away in ((signal.SIGTERM, 1.0), (signal.SIGKILL, 4.0)):
        rig.restart_agent(number, away)
        until("it is scraped again", lambda: server.query("min_over_time(up[5s]) == 1"))
        time.sleep(5)
    assert [
        value
        for _, value in server.query(
            'max_over_time(ALERTS{alertname="KPMAgentDown",alertstate="firing"}[1m])'
        )
    ] == [1], "it was away for more than two seconds"
    at = time.time()
    for name in counters:
        resets = server.query(f"resets({name}[{scene.whole}])", at)
        assert [(labels, times) for labels, times in resets if times] == [], name
        assert len(resets) == len(server.query(name, at)) == before[name], "the series are the same"
    # Against the truth, over all of the time and over that of the restarts alone; a sample is at
    # most an interval older than its scrape.
    for name, range_ in product(counters[:2], (scene.whole, f"{math.ceil(at - began) + 3}s")):
        for labels, points in server.samples(f"{name}[{range_}]", at):
            truth = rig.meters.joules(meter_of(labels), points[-1][0] - 0.5) - rig.meters.joules(
                meter_of(labels), points[0][0] - 0.5
            )
            assert points[-1][1] - points[0][1] == pytest.approx(truth, rel=0.1), (range_, labels)
    for pod in rig.pods.values():
        truth = sum(map(rig.cgroups.seconds, pod.cgroups.values())) - used[pod.name]
        seconds = at - began
        ((_, points),) = server.samples(
            f'kpm_pod_cpu_seconds_total{{pod="{pod.name}"}}[{math.ceil(seconds)}s]', at
        )
        told = (points[-1][1] - points[0][1]) * seconds / (points[-1][0] - points[0][0])
        # load goes up and down over a second at each end
        assert told == pytest.approx(truth, rel=0.2), pod.name
    increase = sum(
        server.value(f"sum(increase({name}{{{OWN}}}[60s]))", at)
        for name in (
            "kpm_pod_joules_total",
            "kpm_node_system_joules_total",
            "kpm_node_unattributed_joules_total",
        )
    )
    assert increase == pytest.approx(
        server.value(f"sum(increase(kpm_node_energy_joules_total{{{OWN}}}[60s]))", at), rel=0.01
    )


def test_a_pod_that_ends_while_the_agent_is_away_is_told_to_both_readers(scene: Scene) -> None:
    """Both have read of it within the last five minutes, so both are told that it ended, though the
    agent is another process and they come one by one.
    """
    rig = scene.rig
    rig.add(PodOnNode("batch", "unlucky", {"job": (0.3, 0.3)}))
    until(
        "the pod's energy is told",
        lambda: scene.prometheus.query(
            'kpm_pod_joules_total{pod="unlucky",mode="busy",zone="package"} > 1'
        ),
    )
    time.sleep(2)  # the other one has it too
    readers = (scene.prometheus, scene.other)
    try:
        for reader in readers:
            reader.pause()
        rig.node.end_agent(signal.SIGTERM)
        rig.end("unlucky")
        said = rig.node.log.count('"measuring energy"')
        rig.start_agent()
        until("the agent measures", lambda: rig.node.log.count('"measuring energy"') > said)
        time.sleep(0.5)
        for place, reader in enumerate(readers):
            reader.resume()
            until(
                f"reader {place} is told",
                lambda reader=reader: ended_with(reader, "unlucky") is not None,
                20,
            )
            time.sleep(2)
    finally:
        for reader in readers:
            reader.resume()
    one, two = scene.saw_ended("unlucky")
    assert one == two


def test_a_scrape_at_any_moment_of_a_start_sees_every_pod_go_on(scene: Scene) -> None:
    """Read as fast as it answers while it starts, four times over, the agent never tells a pod that
    runs as ended, and its total never falls.
    """
    rig = scene.rig
    answers = [pod_totals(rig.answer("/metrics"))]
    done = threading.Event()

    def hammer() -> None:
        while not done.is_set():
            found = pod_totals(rig.answer("/metrics"))
            if any(found.values()):
                answers.append(found)

    thread = threading.Thread(target=hammer)
    thread.start()
    try:
        for _ in range(4):
            rig.restart_agent(signal.SIGKILL)
            until(
                "the pods are told",
                lambda count=len(answers): (
                    len(answers) > count and answers[-1]["running"].keys() >= rig.pods.keys()
                ),
            )
            time.sleep(1.5)
    finally:
        done.set()
        thread.join(20)
    ended = {pod for found in answers for pod in found["terminated"]} & rig.pods.keys()
    assert not ended, f"told as ended: {ended}"
    for pod in rig.pods:
        totals = [found["running"][pod] for found in answers if pod in found["running"]]
        assert all(before <= after + 0.001 for before, after in pairwise(totals)), pod
