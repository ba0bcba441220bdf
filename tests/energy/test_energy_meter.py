"""A node measured over made trees: restarts, meters that fail, readers, and what goes wrong beside
them (field reports 33, 34, 37, 38, 58, 59, 61 to 66).
"""

from __future__ import annotations

import http.client
import io
import json
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample as Line

from kpm.energy.collector import KEEP_S, EnergyMeter, EnergySettings
from kpm.energy.exposition import build_labels
from kpm.energy.kept import Kept, dump
from kpm.energy.ledger import Ledger, MeterAccount
from kpm.energy.live import look
from kpm.energy.names import Identity, Known, known_containers
from kpm.energy.sampler import Roots, Sampler
from kpm.formats.pods import structure_pod
from kpm.process.logs import Log
from kpm.process.serving import metric_answers, serve
from kpm.process.threads import Threads
from kpm_applier.discovery.discover import discover
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.energy.attribution import EnergyReport, Sample
from kpm_planner.energy.estimate import Coefficients
from kpm_planner.energy.shares import Consumer
from kpm_planner.energy.standing import Standing
from kpm_planner.model.allocation import ContainerCpus, ContainerRef
from kpm_planner.model.assignment import Pool
from kpm_planner.model.cluster import Container, Meta, Pod
from kpm_planner.model.machine import Machine
from kpm_planner.model.target import Target
from kpm_planner.parts import CpuGroup
from tests.applier.power import RAPL, put_zone
from tests.kpm.tree_samples import CPU, INTEL, NO_POWER, Tree, build_tree, put

SECOND = 1_000_000
BOOT, OTHER_BOOT = "11111111-0000-4000-8000-000000000001", "22222222-0000-4000-8000-000000000002"
UID = "0a1b2c3d-0000-4000-8000-000000000001"
APP = Identity("a" * 64, "containerd", "ns", "pod", UID, "app", "exclusive", "fast")
SIDE = Identity("b" * 64, "containerd", "ns", "other", UID[:-1] + "2", "side", "shared", "slow")
PACKAGE_0, PACKAGE_1, DRAM = (
    f"{RAPL}/intel-rapl:0",
    f"{RAPL}/intel-rapl:1",
    f"{RAPL}/intel-rapl:0/intel-rapl:0:0",
)
ZONES = {PACKAGE_0: "package-0", PACKAGE_1: "package-1", DRAM: "dram"}
#: What every zone uses in every test that says nothing else: 100 W.
WATTS = dict.fromkeys(ZONES, 100)


@define
class Rig:
    """A node in a folder, with a clock of its own.

    Everything that counts is in seconds, joules, or µJ where it says so.
    """

    root: Path
    zones: Mapping[str, str] = field(factory=lambda: dict(ZONES))
    version: int = 2
    tree: Tree = evolve(NO_POWER, threads=1)
    us: int = 50 * SECOND
    energy_uj: dict[str, int] = field(factory=dict)
    busy: dict[int, float] = field(factory=lambda: dict.fromkeys(range(4), 0.0))
    up: float = 1000.0
    used: dict[Identity, float] = field(factory=dict)
    log: io.StringIO = field(factory=io.StringIO)
    made: list[EnergyMeter] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        build_tree(self.sysfs, self.tree)
        for folder, name in self.zones.items():
            put_zone(self.sysfs, folder, name)
            self.energy_uj[folder] = 1000 * SECOND
        self.boot(BOOT)
        self.cgroup.mkdir()
        if self.version == 2:
            put(self.cgroup, "cgroup.controllers", "cpu")
        else:
            put(self.cgroup, "cpuacct/cpuacct.usage", 0)
        (self.root / "state").mkdir()
        self.write()

    @property
    def sysfs(self) -> Path:
        return self.root / "sys"

    @property
    def cgroup(self) -> Path:
        return self.root / "cgroup"

    @property
    def proc(self) -> Path:
        return self.root / "proc"

    @property
    def state(self) -> Path:
        return self.root / "state" / "energy.json"

    @property
    def machine(self) -> Machine:
        return discover(SysfsHost(str(self.sysfs))).machine

    def boot(self, name: str) -> None:
        put(self.proc, "sys/kernel/random/boot_id", name)

    def folder(self, who: Identity) -> Path:
        """A container's cgroup."""
        if self.version == 1:
            return self.cgroup / f"cpuacct/kubepods/burstable/pod{who.pod_uid}/{who.id}"
        pod = who.pod_uid.replace("-", "_")
        return self.cgroup / f"kubepods.slice/kubepods-pod{pod}.slice/cri-containerd-{who.id}.scope"

    def write(self) -> None:
        """Show everything as it is now."""
        for folder, uj in self.energy_uj.items():
            if (self.sysfs / folder / "energy_uj").exists():
                put(self.sysfs, f"{folder}/energy_uj", uj)
        rows = [
            f"cpu{cpu} {round(busy * 100)} 0 0 {round((self.up - busy) * 100)} 0 0 0 0 0 0"
            for cpu, busy in self.busy.items()
        ]
        put(self.proc, "stat", "\n".join(["cpu  0 0 0 0 0 0 0 0 0 0", *rows, "intr 0"]))
        for who, seconds in self.used.items():
            if self.version == 1:
                put(self.folder(who), "cpuacct.usage", round(seconds * 10**9))
            else:
                put(
                    self.folder(who),
                    "cpu.stat",
                    f"usage_usec {round(seconds * SECOND)}\nuser_usec 0",
                )

    def meter(
        self,
        *,
        who: tuple[Identity, ...] = (APP, SIDE),
        coefficients: Coefficients | None = None,
        **settings: Any,
    ) -> EnergyMeter:
        """A new agent's, which goes on from the same file."""
        chosen = EnergySettings(**{"state": str(self.state), "proc": str(self.proc), **settings})
        sampler = Sampler(Roots(str(self.sysfs), str(self.proc), str(self.cgroup)), coefficients)
        made = EnergyMeter("node-1", chosen, sampler, Log(stream=self.log), build_labels())
        made.follow(
            self.machine,
            {
                item.id: Known(item, Consumer(frozenset({0}) if item is APP else frozenset()))
                for item in who
            },
            {},
        )
        self.made.append(made)
        return made

    def run(
        self,
        used: Mapping[Identity, float] | None = None,
        *,
        seconds: float = 10.0,
        watts: Mapping[str, float] | None = None,
        load: float | None = None,
    ) -> None:
        """Time passes. used: CPU seconds of containers; load: CPUs that were busy, else those of
        the containers.
        """
        ran = used or {}
        self.us += round(seconds * SECOND)
        self.up += seconds
        for folder in self.energy_uj:
            self.energy_uj[folder] += round({**WATTS, **(watts or {})}[folder] * seconds * SECOND)
        for who, time_used in ran.items():
            self.used[who] = self.used.get(who, 0.0) + time_used
        busy = sum(ran.values()) if load is None else load * seconds
        for cpu in self.busy:
            self.busy[cpu] += busy / len(self.busy)
        self.write()

    def step(
        self, meter: EnergyMeter, used: Mapping[Identity, float] | None = None, **what: Any
    ) -> EnergyReport:
        """Time passes and the meter looks."""
        self.run(used, **what)
        return meter.sample()

    def end(self, who: Identity) -> None:
        """A container has ended, and its pod."""
        del self.used[who]
        shutil.rmtree(self.folder(who).parent)

    def show(self, folder: str, content: str) -> None:
        """A zone shows something else than its counter."""
        (self.sysfs / folder / "energy_uj").write_text(content)

    def lines(self) -> list[dict[str, Any]]:
        """What was logged as a warning or worse."""
        return [
            item
            for item in map(json.loads, self.log.getvalue().splitlines())
            if item["level"] in ("warning", "error")
        ]


@pytest.fixture
def new_rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Rig]]:
    """Makes a rig whose clock is the sampler's too; at the end all that its meters keep open is
    closed.
    """
    made: list[Rig] = []

    def make(**fields: Any) -> Rig:
        rig = Rig(tmp_path, **fields)
        made.append(rig)
        monkeypatch.setattr("kpm.energy.sampler._clocks", lambda: (rig.us, 0))
        return rig

    yield make
    for meter in [meter for rig in made for meter in rig.made]:
        meter.sampler.close()
        if meter._processes is not None:
            meter._processes.proc.close()


@pytest.fixture
def rig(new_rig: Callable[..., Rig]) -> Rig:
    return new_rig()


def put_process(rig: Rig, pid: int, ticks: int) -> None:
    put(
        rig.proc,
        f"{pid}/stat",
        f"{pid} (app) S 1 1 1 0 -1 4 1 0 0 0 {ticks} 0 0 0 20 0 1 0 {pid} 1 1",
    )
    put(rig.proc, f"{pid}/cgroup", "0::/init.scope")


def told(meter: EnergyMeter, reader: str = "10.0.0.1") -> dict[str, list[Line]]:
    """Family → series, as a reader gets them."""
    found: dict[str, list[Line]] = {}
    for metric in text_string_to_metric_families(meter.metrics(reader).decode()):
        for line in metric.samples:
            found.setdefault(line.name, []).append(line)
    return found


def value(meter: EnergyMeter, name: str, **wanted: str) -> float:
    """The sum of some series; absent where there are none."""
    lines = [
        line.value for line in told(meter).get(name, []) if wanted.items() <= line.labels.items()
    ]
    assert lines, f"{name} {wanted} is absent"
    return sum(lines)


def joules(meter: EnergyMeter, folder: str) -> float:
    """What passed through a meter."""
    return value(meter, "kpm_node_energy_joules_total", path=f"{folder}/energy_uj")


def counters(
    meter: EnergyMeter, *, without: tuple[str, ...] = ("kpm_energy_",)
) -> dict[str, float]:
    """Every counter, by name and labels, states apart: what ends is another series."""
    return {
        f"{line.name}{sorted(line.labels.items())}": line.value
        for name, lines in told(meter).items()
        if name.endswith("_total") and not name.startswith(without)
        for line in lines
    }


def codes(meter: EnergyMeter) -> set[str]:
    """What keeps energy from being measured."""
    return {code for code, _ in meter.problems}


def none_fell(before: Mapping[str, float], after: Mapping[str, float]) -> None:
    """No counter fell, and none is gone."""
    assert {
        key: (uj, after.get(key)) for key, uj in before.items() if after.get(key, -1.0) < uj
    } == {}


# --- what is measured ---


def test_the_first_look_says_nothing_of_the_time_before(rig: Rig) -> None:
    """Field reports 33, 66: what the counters show at first is of nobody."""
    meter = rig.meter()
    rig.used[APP] = 500.0
    assert rig.step(meter).elapsed_us == 0
    found = told(meter)
    assert not [name for name in found if "joules" in name or "watts" in name]
    assert "kpm_energy_samples_total" in found


@pytest.mark.parametrize("version", [1, 2])
def test_containers_have_what_they_used(new_rig: Callable[..., Rig], version: int) -> None:
    """Field report 58: in both versions of cgroups; to the joule what the meters say."""
    rig = new_rig(version=version)
    meter = rig.meter()
    rig.step(meter, {APP: 0.0, SIDE: 0.0})
    rig.step(meter, {APP: 9.0, SIDE: 3.0}, load=4.0)
    busy = {
        who: value(
            meter, "kpm_container_joules_total", container_id=who.id, zone="package", mode="busy"
        )
        for who in (APP, SIDE)
    }
    assert busy[APP] > busy[SIDE] > 0
    whole = joules(meter, PACKAGE_0) + joules(meter, PACKAGE_1)
    assert whole == 2000
    parts = [
        value(meter, name, zone="package")
        for name in (
            "kpm_pod_joules_total",
            "kpm_node_system_joules_total",
            "kpm_node_unattributed_joules_total",
        )
    ]
    assert sum(parts) == pytest.approx(whole, rel=1e-12)
    assert value(meter, "kpm_node_power_watts", path=f"{PACKAGE_0}/energy_uj") == 100
    assert value(meter, "kpm_container_cpu_seconds_total", container_id=APP.id) == 9
    assert not meter.problems


def test_the_text_is_one_exposition(rig: Rig) -> None:
    """All levels and names, with what measuring tells of itself: each family once, each series
    once.
    """
    meter = rig.meter(
        levels=("node", "pod", "container", "process"), names=("kpm", "kepler", "kepler-0.7")
    )
    for _ in range(3):
        rig.step(meter, {APP: 5.0, SIDE: 1.0})
    text = meter.metrics("a").decode()
    heads = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(heads) == len({line.split()[2] for line in heads})
    rows = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(rows) == len(set(rows))
    (series,) = told(meter)["kpm_energy_series"]
    assert series.value == len([row for row in rows if not row.startswith("kpm_energy_")])


def test_promtool_has_nothing_to_say_of_all_of_it(new_rig: Callable[..., Rig]) -> None:
    """Of a machine with frequencies and idle states, with what measuring tells of itself, of
    problems and of faults too.
    """
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    rig = new_rig(tree=INTEL)
    for cpu in range(4):
        put(rig.sysfs, f"{CPU}/cpufreq/policy{cpu}/scaling_cur_freq", 2_000_000)
        put(rig.sysfs, f"{CPU}/cpu{cpu}/cpuidle/state1/time", 1000)
    meter = rig.meter(
        levels=("node", "pod", "container", "process"), names=("kpm", "kepler", "kepler-0.7")
    )
    put_process(rig, 7, 0)
    for looks in range(4):
        rig.run({APP: 5.0, SIDE: 1.0})
        put_process(rig, 7, looks)
        if looks == 2:
            rig.show(DRAM, "x\n")
        meter.sample()
    text = meter.metrics("a")
    for name in (
        b"kpm_cpu_frequency_hertz",
        b"kpm_idle_state_seconds_total",
        b"kpm_meter_faults_total",
        b"kpm_process_joules_total",
        b"kpm_energy_source_present",
    ):
        assert name in text
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (0, "", "")


def test_a_pod_is_named_as_soon_as_the_cluster_knows_it(rig: Rig) -> None:
    """First by nothing but its UID, then by the pod, then by its status, with the CPUs that the
    kubelet gave; its energy is one total.
    """
    meter = rig.meter(who=())
    pod = Pod(Meta("pod", "ns", uid=UID), (Container("app", (2, None), id=""),))
    running = evolve(pod, containers=(evolve(pod.containers[0], id=f"containerd://{APP.id}"),))
    group = CpuGroup(
        (0,), Pool.EXCLUSIVE, "fast", ContainerRef("ns", "pod", UID, "app", APP.id), Target(), ()
    )
    rest = CpuGroup((1, 2, 3), Pool.SHARED, "slow", None, Target(), ())
    seen = []
    for pods, owned in (
        ((), ()),
        ((pod,), ()),
        ((running,), ()),
        ((running,), (ContainerCpus("ns", "pod", "app", frozenset({0})),)),
    ):
        meter.follow(
            rig.machine, *known_containers(pods, owned, (group, rest) if owned else (rest,))
        )
        for _ in range(2):
            rig.step(meter, {APP: 5.0})
        (container,) = told(meter)["kpm_container_cpu_seconds_total"]
        seen.append(
            [
                container.labels[name]
                for name in ("namespace", "pod", "container", "pool", "profile")
            ]
        )
        assert [line.labels["state"] for line in told(meter)["kpm_pod_cpu_seconds_total"]] == [
            "running"
        ]
    assert seen == [
        ["", "", "", "", ""],
        ["ns", "pod", "", "shared", "slow"],
        ["ns", "pod", "app", "shared", "slow"],
        ["ns", "pod", "app", "exclusive", "fast"],
    ]
    assert (
        value(meter, "kpm_pod_cpu_seconds_total")
        == value(meter, "kpm_container_cpu_seconds_total")
        == 35
    )
    for family in ("kpm_container_joules_total", "kpm_pool_joules_total"):
        assert value(meter, "kpm_pod_joules_total", zone="package") == pytest.approx(
            value(meter, family, zone="package"), rel=1e-12
        )


def test_a_clock_that_stands_still_or_goes_back_loses_nothing(rig: Rig) -> None:
    """What passed meanwhile is counted at the next look that has a length."""
    meter = rig.meter()
    rig.step(meter)
    rig.run()
    rig.us -= 10 * SECOND
    assert meter.sample().elapsed_us == 0
    rig.us -= SECOND
    assert meter.sample().elapsed_us == 0
    rig.us += 11 * SECOND
    meter.sample()
    assert joules(meter, PACKAGE_0) == 1000


def test_standing_power_is_learned(new_rig: Callable[..., Rig]) -> None:
    """Field report 58: idle energy does not shrink to nothing as load grows; what was learned
    outlives a restart.
    """
    rig = new_rig(zones={PACKAGE_0: "package-0"})
    first = rig.meter()

    def idle_watts(meter: EnergyMeter, load: float) -> float:
        report = rig.step(meter, {SIDE: load * 10}, load=load, watts={PACKAGE_0: 50 + 25 * load})
        return (
            (report.meters[0].uj - report.meters[0].busy_uj) / report.elapsed_us
            if report.meters
            else 0.0
        )

    rig.step(first, {SIDE: 0.0})
    assert 0 < idle_watts(first, 4.0) < 150  # assumed
    for number in range(60):
        idle_watts(first, (0.2, 1.0, 2.5, 3.5)[number % 4])
    for load in (4.0, 2.0, 0.5):
        assert idle_watts(first, load) == pytest.approx(50, rel=0.1)
    second = rig.meter()
    assert idle_watts(second, 4.0) == pytest.approx(50, rel=0.1)


# --- a restart ---


def test_after_a_restart_counters_go_on_and_the_time_between_is_counted(rig: Rig) -> None:
    """Field report 61: no total falls, and an upgrade of the agent costs no energy."""
    first = rig.meter()
    for _ in range(3):
        rig.step(first, {APP: 5.0, SIDE: 1.0})
    before = counters(first)
    first.stop()
    rig.run({APP: 30.0, SIDE: 6.0}, seconds=60)
    second = rig.meter()
    report = second.sample()
    assert report.elapsed_us == 60 * SECOND
    none_fell(before, counters(second))
    assert joules(second, PACKAGE_0) == 2000 + 6000
    assert value(second, "kpm_container_cpu_seconds_total", container_id=APP.id) == 10 + 30
    none_fell(counters(second), counters(rig_step(rig, second)))


def rig_step(rig: Rig, meter: EnergyMeter) -> EnergyMeter:
    """An interval later."""
    rig.step(meter, {APP: 5.0})
    return meter


def test_an_agent_that_is_killed_loses_nothing_that_was_told(rig: Rig) -> None:
    """Between a look and the next one: the totals were kept before any reader could see them."""
    first = rig.meter()
    for _ in range(3):
        rig.step(first, {APP: 5.0})
    seen = counters(first)
    none_fell(seen, counters(rig_step(rig, rig.meter())))
    unseen = rig.meter()
    rig.step(unseen, {APP: 5.0})
    last = rig_step(rig, rig.meter())
    assert joules(last, PACKAGE_0) == 5000
    none_fell(seen, counters(last))


def test_many_restarts_lose_nothing(rig: Rig) -> None:
    """An agent that never looks twice."""
    for _ in range(6):
        meter = rig.meter()
        rig.step(meter, {APP: 5.0})
    assert joules(meter, PACKAGE_0) == 5000
    assert value(meter, "kpm_container_cpu_seconds_total", container_id=APP.id) == 25


def test_what_ended_while_no_agent_ran_is_told_as_ended(rig: Rig) -> None:
    """With the total that it had."""
    first = rig.meter()
    for _ in range(3):
        rig.step(first, {APP: 5.0, SIDE: 1.0})
    had = value(first, "kpm_pod_joules_total", pod_uid=SIDE.pod_uid)
    rig.end(SIDE)
    second = rig.meter()
    rig.step(second, {APP: 5.0})
    assert value(second, "kpm_pod_joules_total", pod_uid=SIDE.pod_uid, state="terminated") == had
    assert value(second, "kpm_pod_joules_total", pod_uid=APP.pod_uid, state="running") > 0


def test_on_another_boot_everything_begins_at_nothing(rig: Rig) -> None:
    """The counters of the meters did too: what they show at first is of nobody."""
    first = rig.meter()
    for _ in range(3):
        rig.step(first, {APP: 5.0})
    rig.boot(OTHER_BOOT)
    rig.us, rig.up, rig.used = 20 * SECOND, 20.0, {APP: 3.0}
    rig.busy = dict.fromkeys(rig.busy, 0.0)
    rig.energy_uj = dict.fromkeys(rig.energy_uj, 7 * SECOND)
    second = rig.meter()
    assert rig.step(second).elapsed_us == 0
    rig.step(second, {APP: 2.0})
    assert joules(second, PACKAGE_0) == 1000
    assert value(second, "kpm_container_cpu_seconds_total", container_id=APP.id) == 2
    assert not second.problems


def test_where_the_boot_is_not_known_totals_begin_at_nothing(rig: Rig) -> None:
    """And measuring goes on."""
    (rig.proc / "sys/kernel/random/boot_id").unlink()
    for _ in range(2):
        meter = rig.meter()
        rig.step(meter)
        rig.step(meter)
        assert joules(meter, PACKAGE_0) == 1000


def test_an_estimate_goes_on_after_a_restart_too(new_rig: Callable[..., Rig]) -> None:
    """Without a fall and without a fault: an estimate has no counter that could begin anew."""
    rig = new_rig(zones={})
    kind = Coefficients("some", 20.0, 5.0, 50)
    first = rig.meter(coefficients=kind)
    for _ in range(3):
        rig.step(first, {APP: 5.0}, load=2.0)
    assert value(first, "kpm_node_energy_joules_total", source="estimated") == pytest.approx(
        2 * 10 * (20 + 2 * 5)
    )
    second = rig.meter(coefficients=kind)
    rig.step(second, {APP: 5.0}, load=2.0)
    rig.step(second, {APP: 5.0}, load=2.0)
    assert "kpm_meter_faults_total" not in told(second)
    assert value(second, "kpm_node_energy_joules_total", source="estimated") == pytest.approx(
        4 * 10 * (20 + 2 * 5)
    )


# --- meters that fail ---

BAD = {
    "words": "no energy\n",
    "negative": "-5\n",
    "empty": "",
    "float": "1.5\n",
    "long": "9" * 30 + "\n",
    "bytes": "\x00\x00",
}


@pytest.mark.parametrize("content", BAD.values(), ids=list(BAD))
def test_a_meter_that_cannot_be_read_costs_itself_and_only_for_a_time(
    rig: Rig, content: str
) -> None:
    """Field reports 33, 37, 64: a problem, a fault a look, the others go on, and its energy is
    counted when it comes back.
    """
    meter = rig.meter()
    rig.step(meter, {APP: 1.0})
    rig.step(meter, {APP: 1.0})
    for looks in (1, 2):
        rig.run({APP: 1.0})
        rig.show(PACKAGE_0, content)
        report = meter.sample()
        assert report.elapsed_us == 10 * SECOND
        assert codes(meter) == {"energy-unreadable"}
        at = {"path": f"{PACKAGE_0}/energy_uj"}
        assert value(meter, "kpm_meter_faults_total", code="energy-unreadable", **at) == looks
        assert value(meter, "kpm_meter_up", **at) == 0
        assert not [
            line
            for line in told(meter)["kpm_node_power_watts"]
            if line.labels["path"] == at["path"]
        ]
        assert (joules(meter, PACKAGE_0), joules(meter, PACKAGE_1), joules(meter, DRAM)) == (
            1000,
            1000 + 1000 * looks,
            1000 + 1000 * looks,
        )
        assert value(meter, "kpm_energy_problems", code="energy-unreadable") == 1
    rig.step(meter, {APP: 1.0})
    assert not meter.problems
    assert (joules(meter, PACKAGE_0), joules(meter, PACKAGE_1)) == (4000, 4000)
    assert value(meter, "kpm_meter_up") == 3


@pytest.mark.parametrize(("looks", "marked"), [(11, set()), (50, {"energy-wrapped"})])
def test_energy_is_counted_also_after_a_long_time_unreadable(
    rig: Rig, looks: int, marked: set[str]
) -> None:
    """However long: no more than is possible in all that time passed through; where the counter may
    have wrapped meanwhile that is said.
    """
    meter = rig.meter()
    rig.step(meter, watts={PACKAGE_0: 500})
    for _ in range(looks):
        rig.run(watts={PACKAGE_0: 500})
        rig.show(PACKAGE_0, "no energy\n")
        meter.sample()
    rig.step(meter, watts={PACKAGE_0: 500})
    assert codes(meter) == marked
    assert joules(meter, PACKAGE_0) == 5 * joules(meter, PACKAGE_1) == 5000 * (looks + 1)


def test_a_meter_that_was_not_read_before_a_restart_is_counted_after_it(rig: Rig) -> None:
    """Its last reading, and when that was, are kept with the totals."""
    first = rig.meter()
    rig.step(first)
    for _ in range(5):
        rig.run(watts={PACKAGE_0: 1000})
        rig.show(PACKAGE_0, "no energy\n")
        first.sample()
    second = rig.meter()
    rig.step(second, watts={PACKAGE_0: 1000})
    assert not second.problems
    assert joules(second, PACKAGE_0) == 60_000


def test_power_after_a_time_unreadable_is_no_more_than_there_was(rig: Rig) -> None:
    """Field report 33: the energy of six intervals is not the power of one; 100 W do not show as
    600 W.
    """
    meter = rig.meter()
    rig.step(meter)
    for _ in range(5):
        rig.run()
        rig.show(PACKAGE_0, "no energy\n")
        meter.sample()
    rig.step(meter)
    powers = [
        line.value
        for line in told(meter)["kpm_node_power_watts"]
        if line.labels["path"] == f"{PACKAGE_0}/energy_uj"
    ]
    assert powers in ([], [100.0])


def test_a_zone_that_vanishes_and_comes_back_goes_on(rig: Rig) -> None:
    """Its driver was loaded again: between two looks, and also where the zones are looked for
    meanwhile.
    """
    meter = rig.meter()
    for _ in range(2):
        rig.step(meter, {APP: 1.0})
    before = counters(meter)
    for looked_anew in (False, True):
        rig.show(PACKAGE_0, "")
        shutil.rmtree(rig.sysfs / PACKAGE_0)
        if looked_anew:
            meter.sampler._looked = None
        rig.step(meter, {APP: 1.0})
        assert joules(meter, PACKAGE_1) > 0
        if looked_anew:
            assert not [
                line
                for line in told(meter)["kpm_node_energy_joules_total"]
                if line.labels["path"].startswith(PACKAGE_0)
            ]
        else:
            assert codes(meter) == {"energy-unreadable"}
        for folder in (PACKAGE_0, DRAM):
            put_zone(rig.sysfs, folder, ZONES[folder])
        meter.sampler._looked = None
        for _ in range(2):
            rig.step(meter, {APP: 1.0})
        assert not meter.problems
        none_fell(before, counters(meter))
        before = counters(meter)
    assert value(meter, "kpm_meter_up") == 3


def test_no_counter_falls_whatever_a_meter_shows(rig: Rig) -> None:
    """Field report 33: resets, leaps, absurd numbers, the end of the range."""
    meter = rig.meter()
    rig.step(meter)
    before: dict[str, float] = {}
    for shown in (
        "5",
        "0",
        "4294967295000",
        "1",
        "262143328849",
        "10",
        "-1",
        "x",
        "7",
        "1000000000",
        "999999999",
    ):
        rig.run({APP: 3.0})
        rig.show(PACKAGE_0, f"{shown}\n")
        meter.sample()
        after = counters(meter)
        none_fell(before, after)
        before = after
        assert all(line.value <= 2000 for line in told(meter).get("kpm_node_power_watts", []))
    faults = {line.labels["code"] for line in told(meter)["kpm_meter_faults_total"]}
    assert {"energy-reset", "energy-implausible", "energy-unreadable"} <= faults


def test_without_any_meter_everything_else_is_measured(new_rig: Callable[..., Rig]) -> None:
    """Field reports 37, 38: a virtual machine: a problem that says why, CPU time, and never a
    silent 0 W.
    """
    rig = new_rig(zones={})
    meter = rig.meter(names=("kpm", "kepler", "kepler-0.7"))
    for _ in range(3):
        rig.step(meter, {APP: 5.0})
    assert codes(meter) == {"energy-no-meter"}
    assert "rapl" in next(text for _, text in meter.problems)
    found = told(meter)
    assert not [name for name in found if "joules" in name or "watts" in name]
    assert value(meter, "kpm_container_cpu_seconds_total", container_id=APP.id) == 10
    assert value(meter, "kepler_node_cpu_usage_ratio") == pytest.approx(5 / 40)
    assert {line.value for line in found["kpm_energy_source_present"]} == {0}
    assert {line.labels["source"] for line in found["kpm_energy_source_present"]} == {
        "rapl",
        "amd_energy",
        "amd_hsmp_hwmon",
        "hwmon",
        "battery",
    }


def test_a_meter_that_comes_later_is_found(new_rig: Callable[..., Rig]) -> None:
    """Its module was loaded; what it shows at first is of nobody."""
    rig = new_rig(zones={})
    meter = rig.meter()
    for _ in range(2):
        rig.step(meter, {APP: 5.0})
    put_zone(rig.sysfs, PACKAGE_0, "package-0", energy=900 * SECOND)
    meter.sampler._looked = None
    rig.energy_uj[PACKAGE_0] = 900 * SECOND
    rig.step(meter, {APP: 5.0})
    rig.step(meter, {APP: 5.0})
    assert joules(meter, PACKAGE_0) == 1000
    assert not meter.problems


@pytest.mark.parametrize("missing", ["sys", "proc", "cgroup"])
def test_a_source_that_is_not_there_costs_itself(rig: Rig, missing: str) -> None:
    """Each is named by a problem; the rest is measured."""
    meter = rig.meter()
    meter.sampler.roots = Roots(
        *(
            str(rig.root / ("nowhere" if name == missing else name))
            for name in ("sys", "proc", "cgroup")
        )
    )
    for _ in range(3):
        rig.step(meter, {APP: 5.0})
    assert codes(meter) == (
        {"energy-unreadable", "energy-no-meter"} if missing == "sys" else {"energy-unreadable"}
    )
    assert any("nowhere" in text for _, text in meter.problems)
    if missing != "sys":
        assert joules(meter, PACKAGE_0) == 2000
        whole = (
            "kpm_pool_joules_total",
            "kpm_node_system_joules_total",
            "kpm_node_unattributed_joules_total",
        )
        found = told(meter)
        assert sum(
            line.value
            for name in whole
            for line in found.get(name, [])
            if line.labels["zone"] == "package"
        ) == pytest.approx(4000, rel=1e-12)
    if missing != "cgroup":
        assert value(meter, "kpm_container_cpu_seconds_total", container_id=APP.id) == 10


def test_a_problem_is_logged_once(rig: Rig) -> None:
    """However long it lasts; one line."""
    meter = rig.meter()
    for _ in range(20):
        rig.run()
        rig.show(PACKAGE_0, "x\n")
        meter.sample()
    assert Counter(line["code"] for line in rig.lines()) == {"energy-unreadable": 1}


# --- sensors of a board ---


def sense(rig: Rig, chip: int, name: str, *channels: tuple[str, float]) -> None:
    """A chip of hwmon that shows power, by label, W."""
    put(rig.sysfs, f"class/hwmon/hwmon{chip}/name", name)
    for number, (label, watts) in enumerate(channels, 1):
        put(rig.sysfs, f"class/hwmon/hwmon{chip}/power{number}_input", round(watts * SECOND))
        if label:
            put(rig.sysfs, f"class/hwmon/hwmon{chip}/power{number}_label", label)


def corsair(rig: Rig) -> None:
    sense(
        rig,
        0,
        "corsairpsu",
        ("power total", 174),
        ("power +12v", 134),
        ("power +5v", 24.5),
        ("power +3.3v", 11.5),
    )


def two_acpi_meters(rig: Rig) -> None:
    for chip, (watts, interval) in enumerate(((169, 60_000), (165, 1_000))):
        sense(rig, chip, "power_meter", ("", watts))
        put(rig.sysfs, f"class/hwmon/hwmon{chip}/power1_average_interval", interval)


def two_supplies(rig: Rig) -> None:
    for chip, watts in enumerate((100, 110)):
        sense(rig, chip, "pmbus", ("pin", watts), ("pout1", watts * 0.9))


def parts_alone(rig: Rig) -> None:
    sense(rig, 0, "board", ("CPU", 20), ("Memory", 5))


def two_batteries(rig: Rig) -> None:
    for number, (status, power) in enumerate((("Not charging", 0), ("Discharging", 12_000_000))):
        for file, value in (("type", "Battery"), ("status", status), ("power_now", power)):
            put(rig.sysfs, f"class/power_supply/BAT{number}/{file}", value)


@pytest.mark.parametrize(
    ("build", "watts", "meters"),
    [
        (corsair, 174, 4),
        (two_acpi_meters, 165, 1),
        (two_supplies, 210, 4),
        (two_batteries, 12, 1),
        (parts_alone, None, 2),
    ],
)
def test_the_machine_is_told_once(
    new_rig: Callable[..., Rig], build: Callable[[Rig], None], watts: float | None, meters: int
) -> None:
    """Field report 34: what a live look calls the machine's watts, and its rows add up to; parts
    are told beside it, and are no machine.
    """
    rig = new_rig(zones={})
    build(rig)
    meter = rig.meter()
    for _ in range(3):
        rig.step(meter, {APP: 5.0, SIDE: 1.0})
    shown = look(meter)
    assert shown.watts == watts
    assert (len(shown.meters), shown.problems) == (meters, ())
    rows = [row for row in shown.rows if row.kind in ("pool", "node")]
    assert sum(row.busy + row.idle for row in rows) == pytest.approx(watts or 0, abs=1e-5)
    assert sum(row.joules for row in rows) == pytest.approx(20 * (watts or 0), abs=1e-4)


def test_packages_tell_the_machine_where_they_are_measured(rig: Rig) -> None:
    """What a supply shows besides does not add to them."""
    corsair(rig)
    meter = rig.meter()
    for _ in range(3):
        rig.step(meter, {APP: 5.0})
    assert look(meter).watts == 300


#: What sensors show instead of saying that they know nothing, µW.
ERRORS = (0xFFFFFFFF * 1000, 10**18 - 1)


@pytest.mark.parametrize("error", ERRORS, ids=hex)
def test_a_value_that_stands_for_an_error_is_no_power(
    new_rig: Callable[..., Rig], error: int
) -> None:
    """Field reports 33, 37: an ACPI meter that shows 0xFFFFFFFF mW: a problem, not up, no power by
    any name, never 0 W; and it may come back.
    """
    rig = new_rig(zones={})
    sense(rig, 0, "power_meter", ("", 165))
    meter = rig.meter(names=("kpm", "kepler", "kepler-0.7"))
    for _ in range(2):
        rig.step(meter, {APP: 5.0})
    assert (value(meter, "kpm_meter_up"), value(meter, "kpm_node_power_watts")) == (1, 165)
    before = counters(meter)
    for looks in (1, 2):
        put(rig.sysfs, "class/hwmon/hwmon0/power1_input", error)
        rig.step(meter, {APP: 5.0})
        found = told(meter)
        assert [name for name in found if "watts" in name] == []
        assert value(meter, "kpm_meter_up") == 0
        assert value(meter, "kpm_meter_faults_total", code="energy-implausible") == looks
        assert codes(meter) == {"energy-implausible"}
        assert (look(meter).watts, [item[3] for item in look(meter).meters]) == (None, [None])
    none_fell(before, counters(meter))
    assert value(meter, "kpm_node_energy_joules_total") == 1650
    put(rig.sysfs, "class/hwmon/hwmon0/power1_input", 165 * SECOND)
    for _ in range(2):
        rig.step(meter, {APP: 5.0})
    assert not meter.problems
    assert (value(meter, "kpm_meter_up"), value(meter, "kpm_node_power_watts")) == (1, 165)
    none_fell(before, counters(meter))


def test_a_sensor_that_only_ever_shows_an_error_has_no_energy(new_rig: Callable[..., Rig]) -> None:
    """The others are measured; what the machine takes is not known."""
    rig = new_rig(zones={})
    sense(rig, 0, "power_meter", ("", 0))
    put(rig.sysfs, "class/hwmon/hwmon0/power1_input", ERRORS[0])
    meter = rig.meter(names=("kpm", "kepler", "kepler-0.7"))
    for _ in range(3):
        rig.step(meter, {APP: 5.0})
    assert not [name for name in told(meter) if "watts" in name]
    assert codes(meter) == {"energy-implausible"}
    assert (value(meter, "kpm_meter_up"), value(meter, "kpm_node_energy_joules_total")) == (0, 0)
    assert look(meter).watts is None


def test_batteries_that_are_charged_are_no_problem(new_rig: Callable[..., Rig]) -> None:
    """Field report 37: plugged in, or charged, they are no meter and say nothing; what they gave is
    not forgotten.
    """
    rig = new_rig(zones={PACKAGE_0: "package-0"})
    two_batteries(rig)
    meter = rig.meter()
    for _ in range(2):
        rig.step(meter, {APP: 5.0})
    name = "class/power_supply/BAT0+BAT1"
    assert value(meter, "kpm_node_power_watts", path=name) == 12
    for first, second in (("Full", "Full"), ("Charging", "Full"), ("Charging", "Discharging")):
        put(rig.sysfs, "class/power_supply/BAT0/status", first)
        put(rig.sysfs, "class/power_supply/BAT1/status", second)
        rig.step(meter, {APP: 5.0})
        assert not meter.problems
        for family in (
            "kpm_meter_up",
            "kpm_node_power_watts",
            "kpm_node_energy_joules_total",
            "kpm_energy_source_present",
        ):
            assert not [
                line
                for line in told(meter)[family]
                if line.value
                and (line.labels.get("path") == name or line.labels["source"] == "battery")
            ]
        assert value(meter, "kpm_meter_up") == 1
    put(rig.sysfs, "class/power_supply/BAT0/status", "Full")
    put(rig.sysfs, "class/power_supply/BAT1/status", "Discharging")
    for _ in range(2):
        rig.step(meter, {APP: 5.0})
    assert not meter.problems
    assert value(meter, "kpm_node_power_watts", path=name) == 12
    assert value(meter, "kpm_node_energy_joules_total", path=name) >= 2 * 120
    assert rig.lines() == []


# --- containers in containers ---

INNER = Identity("d" * 64)


@define
class Nested(Rig):
    """A node whose cgroups are where a test says. places: id → path."""

    places: dict[str, str] = field(factory=dict)

    def folder(self, who: Identity) -> Path:
        return self.cgroup / self.places[who.id] if who.id in self.places else Rig.folder(self, who)


@pytest.fixture
def nested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nested]:
    """APP's container with Docker in it."""
    made = Nested(tmp_path)
    made.places[INNER.id] = f"{made.folder(APP).relative_to(made.cgroup)}/docker/{INNER.id}"
    monkeypatch.setattr("kpm.energy.sampler._clocks", lambda: (made.us, 0))
    yield made
    for meter in made.made:
        meter.sampler.close()


def runner(rig: Rig, **kinds: Any) -> Mapping[str, Any]:
    """What the API says of APP's pod."""
    status = {
        "phase": "Running",
        "containerStatuses": [
            {"name": "app", "containerID": f"containerd://{APP.id}", "state": {"running": {}}}
        ],
    }
    metadata = {"name": "pod", "namespace": "ns", "uid": UID, **kinds}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"nodeName": "node-1", "containers": [{"name": "app"}]},
        "status": status,
    }


def follow(rig: Rig, meter: EnergyMeter, *documents: Mapping[str, Any]) -> None:
    """The cluster says this of the node's pods."""
    meter.follow(
        rig.machine, *known_containers([structure_pod(item) for item in documents], (), ())
    )


def test_docker_in_a_pod_is_the_pods(nested: Nested) -> None:
    """Of 9 s that the pod's container has, 3 are of a container in it: the pod has 9, each
    container its own, the system what is left.
    """
    meter = nested.meter()
    follow(nested, meter, runner(nested))
    nested.step(meter, {APP: 1.0, INNER: 0.5})
    nested.step(meter, {APP: 9.0, INNER: 3.0}, load=1.0)
    seconds = {
        line.labels["container_id"]: line.value
        for line in told(meter)["kpm_container_cpu_seconds_total"]
    }
    assert seconds == {APP.id: 6, INNER.id: 3}
    assert (
        value(meter, "kpm_pod_cpu_seconds_total", pod="pod", namespace="ns", state="running") == 9
    )
    joules_of = {
        who.id: value(
            meter, "kpm_container_joules_total", container_id=who.id, zone="package", mode="busy"
        )
        for who in (APP, INNER)
    }
    assert joules_of[APP.id] == pytest.approx(2 * joules_of[INNER.id], rel=1e-6)
    pod = value(meter, "kpm_pod_joules_total", pod_uid=UID, zone="package", mode="busy")
    assert pod == pytest.approx(sum(joules_of.values()), rel=1e-12)
    assert value(meter, "kpm_node_system_joules_total", zone="package") == pytest.approx(
        pod / 9, rel=1e-5
    )


def test_a_pod_has_the_same_with_docker_in_it_and_without(nested: Nested) -> None:
    """However its time is divided among those in it."""
    found = []
    for inner in (0.0, 3.0, 9.0):
        meter = nested.meter(state="")
        follow(nested, meter, runner(nested))
        nested.step(meter, {APP: 1.0, INNER: 0.5})
        nested.step(meter, {APP: 9.0, INNER: inner, SIDE: 4.0}, load=2.0)
        found.append(
            (
                value(meter, "kpm_pod_joules_total", pod_uid=UID, zone="package"),
                value(meter, "kpm_pod_cpu_seconds_total", pod_uid=UID),
            )
        )
    assert {seconds for _, seconds in found} == {9}
    assert max(uj for uj, _ in found) - min(uj for uj, _ in found) <= 4e-6


def test_an_inner_container_that_ends_leaves_its_energy_to_its_pod(nested: Nested) -> None:
    """Its own total ends; the pod's goes on, and what the outer one does from then on is the outer
    one's.
    """
    meter = nested.meter()
    follow(nested, meter, runner(nested))
    for _ in range(3):
        nested.step(meter, {APP: 9.0, INNER: 3.0})
    before = counters(meter)
    del nested.used[INNER]
    shutil.rmtree(nested.folder(INNER))
    nested.step(meter, {APP: 5.0})
    assert (
        value(meter, "kpm_container_cpu_seconds_total", container_id=INNER.id, state="terminated")
        == 6
    )
    assert value(meter, "kpm_container_cpu_seconds_total", container_id=APP.id) == 12 + 5
    assert value(meter, "kpm_pod_cpu_seconds_total", pod_uid=UID, state="running") == 18 + 5
    none_fell({key: uj for key, uj in before.items() if INNER.id not in key}, counters(meter))


def test_a_static_pod_is_one_pod(nested: Nested) -> None:
    """Its cgroups have the uid that the kubelet made of its file; its sandbox, which is in no
    status, is not a pod without a name.
    """
    uid = "d41d8cd98f00b204e9800998ecf8427e"
    for who in (APP, INNER):
        nested.places[who.id] = (
            f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice/cri-containerd-{who.id}.scope"
        )
    meter = nested.meter()
    follow(
        nested,
        meter,
        runner(
            nested,
            annotations={"kubernetes.io/config.hash": uid, "kubernetes.io/config.mirror": uid},
        ),
    )
    for _ in range(2):
        nested.step(meter, {APP: 9.0, INNER: 0.5})
    assert {
        (line.labels["pod"], line.labels["pod_uid"], line.value)
        for line in told(meter)["kpm_pod_cpu_seconds_total"]
    } == {("pod", UID, 9.5)}


def test_a_container_of_a_unit_has_energy(nested: Nested) -> None:
    """Podman's, in a service of systemd: outside of pods, by its id."""
    nested.places[INNER.id] = f"system.slice/web.service/libpod-payload-{INNER.id}"
    meter = nested.meter()
    for _ in range(2):
        nested.step(meter, {INNER: 9.0})
    assert value(meter, "kpm_container_joules_total", container_id=INNER.id, zone="package") > 0
    assert (
        value(meter, "kpm_container_cpu_seconds_total", container_id=INNER.id, pool="", pod="") == 9
    )
    assert (
        value(meter, "kepler_container_cpu_seconds_total", container_id=INNER.id, runtime="podman")
        == 9
    )


# --- readers ---


def states(meter: EnergyMeter, reader: str) -> set[str]:
    """What a reader sees of the pod that ends."""
    return {
        line.labels["state"]
        for name in ("kpm_pod_joules_total", "kepler_pod_cpu_joules_total")
        for line in told(meter, reader)[name]
        if SIDE.pod_uid in line.labels.values()
    }


def test_every_reader_sees_once_that_a_pod_has_ended(rig: Rig) -> None:
    """Field reports 59, 65: two Prometheus servers; after both it is gone."""
    meter = rig.meter()
    for _ in range(3):
        rig.step(meter, {APP: 5.0, SIDE: 1.0})
    assert states(meter, "10.0.0.1") == states(meter, "10.0.0.2") == {"running"}
    rig.end(SIDE)
    rig.step(meter, {APP: 5.0})
    assert states(meter, "10.0.0.1") == {"terminated"}
    assert states(meter, "10.0.0.1") == {"terminated"}
    rig.step(meter, {APP: 5.0})
    assert states(meter, "10.0.0.2") == {"terminated"}
    assert states(meter, "10.0.0.1") == states(meter, "10.0.0.2") == set()
    assert value(meter, "kpm_pool_joules_total", pool="shared") > 0


def test_readers_have_addresses(rig: Rig) -> None:
    """Over HTTP, beside the agent's own metrics: whoever asks from another address is another
    reader, and all of it is one text.
    """
    meter = rig.meter()
    for _ in range(3):
        rig.step(meter, {APP: 5.0, SIDE: 1.0})
    registry = CollectorRegistry()
    Gauge("kpm_agent_problems", "Problems of the plan in force.", registry=registry).set(1)
    port = serve("metrics", 0, Threads(Log()), metric_answers(lambda: registry, meter.metrics))

    def get(address: str) -> str:
        connection = http.client.HTTPConnection(
            "127.0.0.1", port, timeout=10, source_address=(address, 0)
        )
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        assert answer.status == 200
        families = [metric.name for metric in text_string_to_metric_families(text)]
        assert len(families) == len(set(families))
        assert "kpm_agent_problems" in families
        return text

    for address in ("127.0.0.1", "127.0.0.2"):
        assert 'state="running"' in get(address)
    rig.end(SIDE)
    rig.step(meter, {APP: 5.0})
    for address in ("127.0.0.1", "127.0.0.2"):
        assert 'state="terminated"' in get(address)
    for address in ("127.0.0.1", "127.0.0.2"):
        assert 'state="terminated"' not in get(address)


def test_without_readers_what_has_ended_is_kept_for_ten_minutes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And then let go, so that an agent that nobody reads does not grow."""
    assert KEEP_S == 600
    meter = rig.meter()
    for _ in range(3):
        rig.step(meter, {APP: 5.0, SIDE: 1.0})
    rig.end(SIDE)
    rig.step(meter)
    assert SIDE.id in meter.ledger.containers
    monkeypatch.setattr("kpm.energy.collector.KEEP_S", 0.0)
    rig.step(meter)
    assert SIDE.id not in meter.ledger.containers
    assert SIDE.pod_uid not in meter.ledger.pods


def test_levels_that_are_left_out_are_named(rig: Rig) -> None:
    """Field report 59: by a series, by a problem, and by a line in the log."""
    meter = rig.meter(most_series=70, names=("kpm",))
    for number in range(30):
        rig.used[Identity(f"{number:064x}", pod_uid=f"0a1b2c3d-0000-4000-8000-{number:012x}")] = 1.0
    for _ in range(3):
        rig.step(meter, dict.fromkeys(rig.used, 0.1))
    found = told(meter)
    assert "kpm_node_energy_joules_total" in found
    assert "kpm_container_joules_total" not in found
    left_out = {line.labels["level"] for line in found["kpm_energy_level_left_out"]}
    assert "container" in left_out
    assert found["kpm_energy_series"][0].value <= 70
    rig.step(meter)
    assert codes(meter) == {"energy-series"}
    assert len(rig.lines()) == len(left_out)


# --- the file of the totals ---


def folder_missing(rig: Rig) -> None:
    rig.state.parent.rmdir()


def file_as_folder(rig: Rig) -> None:
    rig.state.parent.rmdir()
    rig.state.parent.write_bytes(b"")


def folder_in_its_place(rig: Rig) -> None:
    rig.state.mkdir()


@pytest.mark.parametrize("spoil", [folder_missing, file_as_folder, folder_in_its_place])
def test_where_totals_cannot_be_kept_measuring_goes_on(rig: Rig, spoil: Any) -> None:
    """And it is said."""
    spoil(rig)
    meter = rig.meter()
    for _ in range(4):
        rig.step(meter, {APP: 5.0})
    assert codes(meter) == {"energy-state"}
    assert joules(meter, PACKAGE_0) == 3000
    assert value(meter, "kpm_energy_problems", code="energy-state") >= 1
    assert {line["code"] for line in rig.lines()} == {"energy-state"}


@pytest.mark.parametrize("spoil", [folder_missing, file_as_folder, folder_in_its_place])
def test_totals_that_cannot_be_kept_are_one_problem_however_long(rig: Rig, spoil: Any) -> None:
    """Not one more at every look, with a line in the log each: it is the same one (two where it can
    be neither read nor written).
    """
    spoil(rig)
    meter = rig.meter()
    for _ in range(20):
        rig.step(meter)
    assert len(meter.problems) <= 2
    assert len(rig.lines()) <= 2


def test_once_totals_are_kept_again_there_is_no_problem(rig: Rig) -> None:
    """A disk that was full for a moment: what is said must be true of now."""
    meter = rig.meter()
    rig.step(meter)
    shutil.rmtree(rig.state.parent)
    rig.step(meter)
    assert codes(meter) == {"energy-state"}
    rig.state.parent.mkdir()
    for _ in range(2):
        rig.step(meter)
    assert rig.state.exists()
    assert not meter.problems


def document(*way: Any, value: Any) -> bytes:
    """A state file of this boot with something wrong in one place."""
    name = f"{PACKAGE_0}/energy_uj"
    learned = Standing(20.0, 10.0, 10.0, 100.0, 20.0, 20.0, 60.0, 20.0, 60.0, 550.0, 3.0, 2.0, 0.5)
    whole = json.loads(
        dump(
            Kept(
                Ledger({name: MeterAccount(5)}),
                Sample(40 * SECOND, {name: 900 * SECOND}),
                {name: learned},
            ),
            BOOT,
        )
    )
    inner = whole
    for key in way[:-1]:
        inner = inner[name if key is ... else key]
    inner[way[-1]] = value
    return json.dumps(whole).encode()


DAMAGED = {
    "cut": document("version", value=1)[:-9],
    "empty": b"",
    "deep": b"[" * 200_000,
    "text for a number": document("ledger", "meters", ..., 0, value="many"),
    "null for faults": document("ledger", "meters", ..., 4, value=None),
    "infinite time": document("sample", 0, value=float("inf")),
    "infinite learning": document("standing", ..., 1, value=float("inf")),
    "no sums": document("standing", ..., 0, value=float("nan")),
    "of the future": document("sample", 0, value=10**15),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=list(DAMAGED))
def test_a_damaged_file_never_keeps_energy_from_being_measured(rig: Rig, content: bytes) -> None:
    """Totals begin at 0 and that is said, or what is wrong does no harm; and the next file is a
    good one.
    """
    rig.state.write_bytes(content)
    meter = rig.meter()
    for _ in range(4):
        rig.step(meter, {APP: 5.0})
    assert 3000 <= joules(meter, PACKAGE_0) < 5000
    again = rig.meter()
    before = counters(meter)
    rig.step(again, {APP: 5.0})
    none_fell(before, counters(again))
    assert joules(again, PACKAGE_0) == joules(meter, PACKAGE_0) + 1000
    assert "energy-state" not in codes(again)


def test_without_a_file_nothing_is_kept(rig: Rig) -> None:
    """That is a choice and no problem."""
    for _ in range(2):
        meter = rig.meter(state="")
        rig.step(meter)
        rig.step(meter)
        assert joules(meter, PACKAGE_0) == 1000
    assert not meter.problems
    assert list(rig.state.parent.iterdir()) == []


# --- threads ---


def change(rig: Rig, meter: EnergyMeter, done: threading.Event) -> int:
    """Looks, between which processes and containers come and go; how many."""
    number = 0
    while not done.is_set():
        number += 1
        for pid in range(40 + number % 7 * 2, 46 + number % 7 * 2):
            folder = rig.proc / str(pid)
            shutil.rmtree(folder) if folder.exists() else put_process(rig, pid, number)
        there = number % 20 != 10
        if not there:
            rig.end(SIDE)
        rig.step(meter, {APP: 1.0, **({SIDE: 0.5} if there else {})})
    return number


def test_a_scrape_while_it_looks_never_fails(rig: Rig) -> None:
    """Two hundred looks and as many scrapes of three readers at once, while containers and
    processes come and go; each is whole.
    """
    meter = rig.meter(
        levels=("node", "pod", "container", "process"),
        names=("kpm", "kepler", "kepler-0.7"),
        state="",
    )
    for pid in range(1, 40):
        put_process(rig, pid, 0)
    rig.step(meter, {APP: 1.0, SIDE: 1.0})
    done = threading.Event()
    looks: list[int | BaseException] = []

    def look() -> None:
        try:
            looks.append(change(rig, meter, done))
        except BaseException as failure:  # noqa: BLE001  # it is the other thread's to tell
            looks.append(failure)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread = threading.Thread(target=look)
    thread.start()
    try:
        scrapes = 0
        while thread.is_alive() and (scrapes < 200 or meter._samples < 200):
            scrapes += 1
            time.sleep(0.0005)  # a lock is not fair: the looks would starve
            assert meter.metrics(f"10.0.0.{scrapes % 3}").endswith(b"\n")
    finally:
        sys.setswitchinterval(before)
        done.set()
        thread.join(20)
    assert looks == [joules(meter, PACKAGE_1) / 1000]
    assert min(scrapes, meter._samples) >= 200


def test_it_looks_by_itself_until_it_is_stopped(rig: Rig) -> None:
    """From a thread of its own, once the machine is known; at the end the totals are kept."""
    unknown = EnergyMeter(
        "n", EnergySettings(proc=str(rig.proc)), Sampler(Roots(str(rig.sysfs))), Log(stream=rig.log)
    )
    threads = Threads(Log(stream=rig.log))
    unknown.start(threads)
    meter = rig.meter(interval=0.02)
    meter.start(threads)
    waited = time.monotonic()
    while value(meter, "kpm_energy_samples_total") < 3 and time.monotonic() < waited + 10:
        rig.run({APP: 0.5}, seconds=1)
        time.sleep(0.02)
    for item in (meter, unknown):
        item.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "energy"]
    assert value(meter, "kpm_energy_samples_total") >= 3
    assert value(unknown, "kpm_energy_samples_total") == 0
    assert json.loads(rig.state.read_bytes())["boot"] == BOOT
    assert not [line for line in rig.lines() if line["level"] == "error"]
