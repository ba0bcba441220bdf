"""kpm top and kubectl power top: what CPUs do just now, on a terminal and once."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from kpm.cli import power
from kpm.cli.top import pod_watts
from kpm.formats.wire import document_of
from kpm.kube.api import ApiError
from kpm.kube.kinds import PODS
from kpm.live.agent import NodeLooks, parsed
from kpm.live.machine import MachineLooks
from kpm.live.picture import SORTS, CpuNow, Picture, View, document, lines
from kpm.live.screen import pressed
from kpm.request.machines import MODELS, build_machine
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.sysfs.tree import SysfsHost
from tests.kpm.cli_rig import REPO, SCHEMAS, examples
from tests.kpm.cli_rig import kpm as run
from tests.kpm.test_cluster_verbs import GROUP, PLACE, STATES, Server, state
from tests.kpm.test_status_verb import status_of_a_node
from tests.trees import write_tree

CPU = "sys/devices/system/cpu"
SIZE = {"COLUMNS": "80", "LINES": "24"}
RAPL = "sys/devices/virtual/powercap/intel-rapl/intel-rapl:0"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine of four CPUs whose counters a test moves."""
    spec = evolve(MODELS["xeon"], packages=1, cores=4, threads=1)
    write_tree(KernelModel(build_machine(spec)), tmp_path)
    (tmp_path / "proc").mkdir()
    move(tmp_path, busy=100, idle=100, c6_us=0, uj=1_000_000)
    return tmp_path


def move(root: Path, *, busy: int, idle: int, c6_us: int, uj: int) -> None:
    """What the kernel's counters show from now on."""
    rows = "".join(f"cpu{cpu} {busy} 0 0 {idle} 0 0 0 0 0 0\n" for cpu in range(4))
    (root / "proc/stat").write_text(f"cpu 1 1 1 1\n{rows}")
    for cpu in range(4):
        for index, us in enumerate((0, 0, 0, c6_us)):
            folder = root / CPU / f"cpu{cpu}/cpuidle/state{index}"
            (folder / "time").write_text(f"{us}\n")
        (root / CPU / f"cpufreq/policy{cpu}/scaling_cur_freq").write_text("2345678\n")
    folder = root / RAPL
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("name", "package-0"), ("energy_uj", uj), ("max_energy_range_uj", 10**9)):
        (folder / name).write_text(f"{text}\n")


def test_shares_and_watts_are_of_the_time_between_two_looks(root: Path) -> None:
    looks = MachineLooks(SysfsHost(str(root / "sys")), str(root / "proc"))
    first = looks.look()
    assert [item.busy for item in first.cpus] == [None] * 4
    time.sleep(0.2)
    move(root, busy=130, idle=110, c6_us=100_000, uj=3_000_000)
    second = looks.look()
    one = second.cpus[1]
    assert one.khz == 2_345_678
    assert one.busy == pytest.approx(0.75)
    assert 0.2 < dict(one.idle)["C6"] <= 0.5
    ((place, watts),) = second.power
    assert place == "package-0"
    assert 3 < watts <= 10


def test_a_counter_that_began_again_is_no_negative_power(root: Path) -> None:
    looks = MachineLooks(SysfsHost(str(root / "sys")), str(root / "proc"))
    looks.look()
    move(root, busy=1, idle=1, c6_us=0, uj=10)
    found = looks.look()
    assert all(watts >= 0 for _, watts in found.power)
    assert all(item.busy is None for item in found.cpus)


def test_once_prints_and_ends(root: Path) -> None:
    ran = run("top", "--sysfs", root / "sys", "--once", "--interval", "1s")
    assert ran.code == 0
    assert "2.35" in ran.out
    found = json.loads(
        run("top", "--sysfs", root / "sys", "--once", "--interval", "1s", "-o", "json").out
    )
    schema = json.loads((SCHEMAS / "top.schema.json").read_text())
    Draft202012Validator(schema).validate(found)
    assert run("top", "--sysfs", root / "nothing", "--once").code == 2


_TEXTS = st.text(max_size=40)
_CPUS = st.builds(
    CpuNow,
    st.integers(0, 65535),
    _TEXTS,
    _TEXTS,
    low_khz=st.none() | st.integers(0, 9_999_999),
    high_khz=st.none() | st.integers(0, 9_999_999),
    khz=st.none() | st.integers(0, 9_999_999),
    busy=st.none() | st.floats(0, 1),
    idle=st.lists(st.tuples(_TEXTS, st.floats(0, 1)), max_size=8).map(tuple),
)


@given(st.lists(_CPUS, max_size=6), st.sampled_from(SORTS), st.text(max_size=3))
@examples(100)
def test_any_picture_fits_80_columns(cpus: list[CpuNow], sort: str, needle: str) -> None:
    picture = Picture("a title", tuple(cpus))
    found = lines(picture, View(sort, needle), 4)
    assert all(len(line) <= 80 for line in found)
    assert all(line.isprintable() for line in found)
    assert json.dumps(document(picture))


def test_what_is_sorted_and_filtered_is_shown() -> None:
    cpus = (CpuNow(0, busy=0.1, khz=9), CpuNow(1, "exclusive", "a/b/c", busy=0.9, khz=5))
    picture = Picture("t", cpus)
    assert lines(picture, View("busy"))[2].startswith("1")
    assert lines(picture, View("now"))[2].startswith("0")
    assert len(lines(picture, View(needle="EXCLUSIVE"))) == 3
    assert lines(picture, most=1)[-1] == "  and 1 more CPUs"


@pytest.mark.parametrize(
    ("keys", "view", "typing"),
    [
        ("s", View("now"), False),
        ("sss", View("cpu"), False),
        ("/web\r", View(needle="web"), False),
        ("/we\x7fa", View(needle="wa"), True),
        ("/web\x1b", View(), False),
        ("/\x01\x02q", View(needle="q"), True),
        ("x", View(), False),
    ],
)
def test_keys(keys: str, view: View, typing: bool) -> None:
    now, at = View(), False
    for key in keys:
        now, at = pressed(now, key, typing=at)
    assert (now, at) == (view, typing)


def screen(child: int, until: str, seconds: float = 20.0) -> str:
    """What a terminal is sent until some text comes."""
    text, ends = "", time.monotonic() + seconds
    while until not in text and time.monotonic() < ends:
        if select.select([child], [], [], 0.2)[0]:
            try:
                text += os.read(child, 65536).decode("utf-8", "replace")
            except OSError:
                break
    return text


@pytest.fixture
def terminal(root: Path) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """`kpm top` on a real terminal of 80 columns."""
    master, slave = pty.openpty()
    words = ["top", "--sysfs", str(root / "sys"), "--interval", "1s"]
    process = subprocess.Popen(
        [sys.executable, "-m", "kpm", *words],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "PYTHONPATH": str(REPO), "TERM": "xterm", **SIZE},
        start_new_session=True,
    )
    os.close(slave)
    yield master, process
    process.kill()
    process.wait()
    os.close(master)


def test_a_terminal_follows_until_somebody_leaves(
    terminal: tuple[int, "subprocess.Popen[bytes]"],
) -> None:
    """s sorts, / filters, q ends, and the terminal is as it was."""
    child, process = terminal
    assert "q quit" in screen(child, "by cpu")
    os.write(child, b"s")
    assert "by now" in screen(child, "by now")
    os.write(child, b"/nobody\r")
    assert "filter: nobody" in screen(child, "filter: nobody ")
    os.write(child, b"q")
    screen(child, "never", 1.0)
    assert process.wait(10) == 0


# --- a node of a cluster ---

METRICS = """# HELP kpm_cpu_busy_ratio Share.
# TYPE kpm_cpu_busy_ratio gauge
kpm_cpu_busy_ratio{cpu="2",pool="exclusive"} 0.5
kpm_cpu_busy_ratio{cpu="99999999999",pool="x"} 0.5
kpm_cpu_frequency_hertz{cpu="2",pool="exclusive"} 3410000000
kpm_domain_limit_hertz{domain="2",pool="exclusive",limit="min"} 3400000000
kpm_idle_state_seconds_total{pool="shared",idle_state="C6"} 10.0
kpm_node_power_watts{zone="package",place="package-0",source="rapl",path="x"} 42.5
kpm_pod_power_watts{namespace="ns1",pod="db",zone="package",mode="busy"} 7.25
kpm_pod_power_watts{namespace="ns1",pod="db",zone="package",mode="idle"} 1.0
kpm_agent_passes_total 3.0
nonsense{ 1
kpm_cpu_busy_ratio{cpu="2"} NaN
"""
AGENT: dict[str, Any] = {
    "metadata": {"name": "agent-n1", "namespace": PLACE},
    "spec": {"containers": [{"name": "agent", "ports": [{"name": "metrics", "containerPort": 7}]}]},
}


class Proxied(Server):
    """Agents that answer through the API server."""

    answers: tuple[str, ...] = (METRICS,)
    asked: str = ""

    def proxied(self, namespace: str, pod: str, path: str) -> str:
        self.asked = f"{namespace} {pod} {path}"
        if not self.answers:
            raise ApiError(403, "Forbidden", "pods/proxy is forbidden")
        first, *rest = self.answers
        self.answers = tuple(rest) or (first,)
        return first


def node(**more: Any) -> Proxied:
    api = Proxied()
    api.put(STATES, {**state("n1"), "status": document_of(status_of_a_node())})
    api.put(PODS, {**AGENT, **more})
    return api


def test_a_node_is_shown_by_its_agents_metrics() -> None:
    api = node()
    api.answers = (METRICS, METRICS.replace("} 10.0", "} 13.0"))
    looks = NodeLooks(api, GROUP, PLACE, "n1")
    looks.look()
    found = looks.look()
    assert api.asked == f"{PLACE} agent-n1:7 metrics"
    cpu = {item.cpu: item for item in found.cpus}[2]
    assert (cpu.pool, cpu.holder) == ("exclusive", "ns1/db/app")
    assert (cpu.khz, cpu.busy, cpu.low_khz) == (3_410_000, 0.5, 3_400_000)
    assert found.power == (("package-0", 42.5),)
    assert found.pods == (("ns1/db", 7.25),)
    assert found.idle == (("shared", (("C6", 1.0),)),)


def test_an_agent_behind_tls_is_asked_so() -> None:
    container = {**AGENT["spec"]["containers"][0], "args": ["agent", "--metrics-cert", "x"]}
    api = node(spec={"containers": [container]})
    NodeLooks(api, GROUP, PLACE, "n1").look()
    assert api.asked == f"{PLACE} https:agent-n1:7 metrics"


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ((), "nothing live: get pods/proxy of the agent: 403 Forbidden"),
        (("",), "nothing live: the agent tells no CPUs; set spec.agent.metrics"),
        (("\x00" * 1000,), "nothing live: the agent tells no CPUs"),
    ],
)
def test_without_the_right_or_the_metrics_one_line_says_so(
    answers: tuple[str, ...], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = node()
    api.answers = answers
    monkeypatch.setattr("kpm.kube.api.connect", lambda *_: api)
    words = ["top", "n1", "--once", "--interval", "1s"]
    ran = CliRunner().invoke(power, words, prog_name="kubectl power")
    assert ran.exit_code == 0
    notes = [line for line in ran.stdout.splitlines() if line.startswith("note: ")]
    assert [note.startswith(f"note: {why}") for note in notes] == [True]
    assert "ns1/db/app" in ran.stdout


def test_a_node_that_nobody_knows_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kpm.kube.api.connect", lambda *_: Proxied())
    ran = CliRunner().invoke(power, ["top", "n9", "--once"], prog_name="kubectl power")
    assert ran.exit_code == 2
    assert ran.stderr.startswith("kubectl power: Node/n9: ")


@given(st.text(max_size=200))
@examples(100)
def test_whatever_an_agent_says_is_read_or_passed_over(text: str) -> None:
    for name, labels, value in parsed(f"{METRICS}\n{text}"):
        assert name.startswith("kpm_")
        assert isinstance(labels, dict)
        assert value == value


def test_pods_of_a_file_have_their_watts(root: Path) -> None:
    """Their own and their part of what is idle, by their cgroups' CPU time; no more than there
    is.
    """
    uids = {
        "web": "0a1b2c3d-0000-4000-8000-000000000001",
        "job": "0a1b2c3d-0000-4000-8000-000000000002",
    }
    listed = []
    for number, (name, uid) in enumerate(uids.items()):
        container = f"{number}" * 64
        listed.append(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "shop", "uid": uid},
                "spec": {"nodeName": "x", "containers": [{"name": "app"}]},
                "status": {
                    "containerStatuses": [{"name": "app", "containerID": f"cri://{container}"}]
                },
            }
        )
    pods = root / "pods.json"
    pods.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": listed}))
    (root / "sys/fs/cgroup/kubepods").mkdir(parents=True)
    (root / "sys/fs/cgroup/cgroup.controllers").write_text("cpu\n")

    def used(web: int, job: int) -> None:
        for number, (uid, usec) in enumerate(zip(uids.values(), (web, job), strict=True)):
            folder = root / f"sys/fs/cgroup/kubepods/pod{uid}" / (f"{number}" * 64)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "cpu.stat").write_text(f"usage_usec {usec}\n")

    used(0, 0)
    tell = pod_watts(str(root / "sys"), str(root / "proc"), str(pods))
    looks = MachineLooks(SysfsHost(str(root / "sys")), str(root / "proc"), tell)
    looks.look()
    time.sleep(0.3)
    used(3_000_000, 1_000_000)
    move(root, busy=200, idle=100, c6_us=0, uj=9_000_000)
    seen = looks.look()
    found = dict(seen.pods)
    assert list(found) == ["shop/web", "shop/job"]
    assert found["shop/web"] > found["shop/job"] > 0
    assert sum(found.values()) < 1.2 * sum(watts for _, watts in seen.power)


def test_limits_are_those_of_now(root: Path) -> None:
    """Somebody lowers a maximum while it is looked at."""
    looks = MachineLooks(SysfsHost(str(root / "sys")), str(root / "proc"))
    before = looks.look().cpus[1]
    (root / CPU / "cpufreq/policy1/scaling_max_freq").write_text("1500000\n")
    after = looks.look().cpus[1]
    assert (after.low_khz, after.high_khz) == (before.low_khz, 1_500_000)
    assert before.high_khz != 1_500_000
