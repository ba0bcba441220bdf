"""Machines and pods as users have reported them: what is shown, written and put back of each, and
what is said of it.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

from tests.kpm.cli_rig import Ran, kpm, tree_hash
from tests.kpm.object_samples import as_json, as_yaml, pod, profile
from tests.kpm.tree_samples import (
    CPU,
    INTEL,
    NO_POWER,
    SHARED_DOMAINS,
    TREES,
    Tree,
    build_tree,
    put,
)

PLAIN = evolve(
    INTEL,
    cpus=2,
    threads=1,
    uncore=False,
    no_turbo=None,
    high=3500000,
    states=(("POLL", 0), ("C1", 2), ("C6", 133)),
)


def pools(**spec: Any) -> dict[str, Any]:
    """Puts all CPUs of every node under the profile shared."""
    content = {"nodeSelector": {"labelSelector": {}}, "sharedPowerProfile": "shared", **spec}
    return {
        "apiVersion": "power.openshift.io/v1",
        "kind": "PowerNodeConfig",
        "metadata": {"name": "all", "namespace": "power-manager"},
        "spec": content,
    }


@frozen
class Case:
    """A tree, a state folder and objects; each verb runs on them."""

    folder: Path
    tree: Path

    def run(self, verb: str, objects: Sequence[dict[str, Any]], *words: object) -> Ran:
        """A verb on these objects."""
        kept = ("--state-dir", self.folder / "state") if verb == "apply" else ()
        return kpm(
            verb,
            "-f",
            "-",
            "--sysfs",
            self.tree,
            "--node",
            "n",
            *kept,
            *words,
            stdin=as_yaml(*objects),
        )

    def restore(self) -> Ran:
        """Everything as it was."""
        return kpm("restore", "--sysfs", self.tree, "--state-dir", self.folder / "state")

    def planned(self, objects: Sequence[dict[str, Any]], *words: object) -> dict[str, Any]:
        """The one node of the plan as JSON."""
        nodes: list[dict[str, Any]] = json.loads(
            self.run("plan", objects, "-o", "json", *words).out
        )["nodes"]
        (found,) = nodes
        return found

    def problems(self, objects: Sequence[dict[str, Any]], *words: object) -> list[tuple[str, str]]:
        """Severity and code of each problem of the plan."""
        return [
            (item["severity"], item["code"]) for item in self.planned(objects, *words)["problems"]
        ]

    def put(self, path: str, value: object) -> None:
        """A file below the folder of the CPUs."""
        put(self.tree, f"{CPU}/{path}", value)

    def shown(self, path: str) -> str:
        """What a file below the folder of the CPUs holds."""
        return (self.tree / CPU / path).read_text().strip()

    def limits(self, cpu: int) -> tuple[int, int]:
        """Minimum and maximum of a CPU."""
        low, high = (
            int(self.shown(f"cpu{cpu}/cpufreq/scaling_{end}_freq")) for end in ("min", "max")
        )
        return low, high


@pytest.fixture
def case(tmp_path: Path) -> Callable[[Tree], Case]:
    """Makes a tree."""
    return lambda tree: Case(tmp_path, build_tree(tmp_path / "sys", tree))


Make = Callable[[Tree], Case]

# --- pods: 8 CPUs, of which 2960 to 3500 MHz are for those that ask, 800 to 2150 for the rest ---

EIGHT = evolve(PLAIN, cpus=8)
POLICY = [
    pools(),
    profile("shared", shared=True, pstates={"max": "50%"}),
    profile("fast", pstates={"min": "80%", "max": "100%"}),
]
SHARED_KHZ, FAST_KHZ = (800000, 2150000), (2960000, 3500000)


def answer(folder: Path, **cpus: dict[str, list[int] | None]) -> Path:
    """The kubelet's answer: pod → container → its CPUs, None for one that is listed without any."""
    listed = [
        {
            "name": name,
            "namespace": "default",
            "containers": [
                {"name": item, **({} if ids is None else {"cpuIds": ids})}
                for item, ids in containers.items()
            ],
        }
        for name, containers in cpus.items()
    ]
    file = folder / "pod-resources.json"
    file.write_text(as_json({"podResources": listed, "cpuIds": list(range(1, 8))}))
    return file


def owners(plan: dict[str, Any]) -> dict[str, tuple[str | None, list[int]]]:
    """Container → its profile and CPUs; "" for the CPUs of none."""
    found: dict[str, tuple[str | None, list[int]]] = {}
    for item in plan["cpus"]:
        name = (
            ""
            if item["container"] is None
            else f"{item['container']['pod']}/{item['container']['name']}"
        )
        assert not item["held"]
        found.setdefault(name, (item["profile"], []))[1].append(item["cpu"])
        assert found[name][0] == item["profile"]
    return found


def test_a_pod_whose_resources_stand_at_the_pod_concerns_nobody_else(
    case: Make, tmp_path: Path
) -> None:
    """The kubelet gives its containers no CPUs of their own, and says so: that is known, so all
    others have theirs as always.
    """
    eight = case(EIGHT)
    ok, pooled = (
        pod("ok"),
        pod(
            "pooled",
            resources={
                "limits": {"cpu": 4, "memory": "2Gi"},
                "requests": {"cpu": 4, "memory": "2Gi"},
            },
        ),
    )
    words = ("--pod-resources", answer(tmp_path, ok={"app": [1, 5]}, pooled={"app": None}))
    plan = eight.planned([*POLICY, ok, pooled], *words)
    assert owners(plan) == {"": ("shared", [0, 2, 3, 4, 6, 7]), "ok/app": ("fast", [1, 5])}
    assert [
        (item["object"], item["code"]) for item in plan["problems"] if item["severity"] == "error"
    ] == [("Pod/default/pooled", "pod-without-cpus")]
    assert "allocation-unknown" not in [item["code"] for item in plan["problems"]]
    assert (
        eight.run(
            "apply", [*POLICY, ok], "--pod-resources", answer(tmp_path, ok={"app": [1, 5]})
        ).code
        == 0
    )
    assert (eight.limits(1), eight.limits(5), eight.limits(2)) == (FAST_KHZ, FAST_KHZ, SHARED_KHZ)
    eight.run(
        "apply",
        [*POLICY, ok, pooled],
        "--pod-resources",
        answer(tmp_path, ok={"app": [1, 5]}, pooled={"app": None}),
    )
    assert (eight.limits(1), eight.limits(5), eight.limits(2)) == (FAST_KHZ, FAST_KHZ, SHARED_KHZ)
    eight.run("apply", [*POLICY, pooled], "--pod-resources", answer(tmp_path, pooled={"app": None}))
    assert {eight.limits(cpu) for cpu in range(8)} == {SHARED_KHZ}


@pytest.mark.parametrize("asked", [3, 1])
def test_a_resize_that_the_kubelet_does_not_make_changes_nothing(
    case: Make, tmp_path: Path, asked: int
) -> None:
    """What it has allocated counts, not what the pod would like; nothing must be remembered to know
    that.
    """
    resized = pod("resized", 2)
    for part in resized["spec"]["containers"][0]["resources"].values():
        part["cpu"] = asked
    held = {"cpu": "2", "memory": "1Gi"}
    resized["status"] |= {
        "qosClass": "Guaranteed",
        "conditions": [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}],
        "containerStatuses": [
            {
                "name": "app",
                "containerID": "containerd://1",
                "state": {"running": {}},
                "allocatedResources": held,
                "resources": {"limits": held, "requests": held},
            }
        ],
    }
    plan = case(EIGHT).planned(
        [*POLICY, resized], "--pod-resources", answer(tmp_path, resized={"app": [1, 5]})
    )
    assert owners(plan) == {"": ("shared", [0, 2, 3, 4, 6, 7]), "resized/app": ("fast", [1, 5])}
    assert not [item for item in plan["problems"] if item["object"].startswith("Pod/")]


NEVER_BUT_42 = {
    "restartPolicy": "Never",
    "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}],
}


@pytest.mark.parametrize(
    ("of_pod", "of_container", "code", "ended"),
    [
        ("Always", {"restartPolicy": "Never"}, 0, True),
        ("Always", {"restartPolicy": "Never"}, 1, True),
        ("Always", {"restartPolicy": "OnFailure"}, 0, True),
        ("Always", {"restartPolicy": "OnFailure"}, 1, False),
        ("Always", {}, 0, False),
        ("Never", {"restartPolicy": "Always"}, 0, False),
        ("Never", {"restartPolicy": "OnFailure"}, 1, False),
        ("Never", {}, 1, True),
        ("Always", NEVER_BUT_42, 42, False),
        ("Always", NEVER_BUT_42, 1, True),
    ],
)
def test_a_container_that_has_ended_for_good_by_its_own_policy_gives_its_cpus_back(
    case: Make, tmp_path: Path, of_pod: str, of_container: dict[str, Any], code: int, ended: bool
) -> None:
    """Its own policy and rules go before the pod's; one that is started again keeps its CPUs
    meanwhile.
    """
    job = pod("job", 2, restartPolicy=of_pod)
    once = {**job["spec"]["containers"][0], "name": "once", **of_container}
    web = {
        "name": "web",
        "resources": {"limits": {"cpu": 1, "memory": "1Gi", "power.openshift.io/fast": 1}},
    }
    job["spec"]["containers"] = [once, web]
    job["status"]["containerStatuses"] = [
        {
            "name": "once",
            "containerID": "containerd://1",
            "state": {"terminated": {"exitCode": code}},
        },
        {"name": "web", "containerID": "containerd://2", "state": {"running": {}}},
    ]
    plan = case(EIGHT).planned(
        [*POLICY, job], "--pod-resources", answer(tmp_path, job={"once": [1, 5], "web": [2]})
    )
    kept = {"": ("shared", [0, 3, 4, 6, 7]), "job/once": ("fast", [1, 5]), "job/web": ("fast", [2])}
    given = {"": ("shared", [0, 1, 3, 4, 5, 6, 7]), "job/web": ("fast", [2])}
    assert owners(plan) == (given if ended else kept)


# --- turbo that was off from the start ---

OFF = evolve(PLAIN, no_turbo="1", high=2200000)
TURBO = profile("shared", shared=True, pstates={"min": 1000, "max": 3000})


def test_a_frequency_of_turbo_where_turbo_was_off_from_the_start_is_clamped_with_a_warning(
    case: Make,
) -> None:
    """No file says how far turbo goes, so nobody can say that it is too much."""
    off = case(OFF)
    ran = off.run("plan", [pools(), TURBO])
    assert ran.code == 0
    assert " 1..2.2 " in ran.out
    assert "3000 (3 GHz) is above 2.2 GHz, the highest that any file names" in ran.out + ran.err
    assert off.problems([pools(), TURBO]) == [("warning", "frequency-limit-unknown")]
    assert [
        (item["profile"], item["minKHz"], item["maxKHz"])
        for item in off.planned([pools(), TURBO])["cpus"]
    ] == [("shared", 1000000, 2200000)] * 2


def test_turbo_and_a_frequency_of_it_may_be_asked_for_together(case: Make) -> None:
    """In the first pass, where turbo was off until then, and in every later one, though the files
    of the tree do not move.
    """
    off = case(OFF)
    before = tree_hash(off.tree)
    for written in (
        r"^3 files written, settled",
        r"^0 files written, settled",
        r"^0 files written, settled",
    ):
        ran = off.run("apply", [pools(turbo=True), TURBO])
        assert ran.code == 0, ran
        assert re.match(written, ran.out)
        assert "[frequency-limit-unknown]" in ran.err
        assert "error:" not in ran.err
        assert (off.shown("intel_pstate/no_turbo"), off.limits(0)) == ("0", (1000000, 2200000))
    assert off.restore().code == 0
    assert tree_hash(off.tree) == before


def test_once_turbo_moves_the_files_the_frequency_is_what_was_asked(case: Make) -> None:
    """And nothing is said any more."""
    off = case(OFF)
    assert off.run("apply", [pools(turbo=True), TURBO]).code == 0
    for number in (0, 1):
        off.put(f"cpufreq/policy{number}/cpuinfo_max_freq", 3500000)
    ran = off.run("apply", [pools(turbo=True), TURBO])
    assert (ran.code, ran.err) == (0, "")
    assert (off.limits(0), off.limits(1)) == ((1000000, 3000000), (1000000, 3000000))


@pytest.mark.parametrize("end", ["min", "max"])
def test_too_much_for_a_machine_whose_turbo_is_on_is_an_error_all_the_same(
    case: Make, end: str
) -> None:
    """There the range is known."""
    on = case(evolve(OFF, no_turbo="0"))
    asked = [pools(), profile("shared", shared=True, pstates={end: 3000})]
    assert on.run("plan", asked).code == 1
    assert [code for severity, code in on.problems(asked) if severity == "error"] == [
        "frequency-range",
        "profile-invalid",
    ]


# --- ranges that are 0, or that nobody knows ---

SIXTY = [pools(), profile("shared", shared=True, pstates={"min": "10%", "max": "60%"})]


def test_a_maximum_of_0_is_no_range_and_nothing_is_written(case: Make) -> None:
    """Neither is it shown as one."""
    zero = case(evolve(SHARED_DOMAINS, low=0, high=0, cpus=2, domain=1))
    for number in (0, 1):
        zero.put(f"cpufreq/policy{number}/scaling_min_freq", 500000)
        zero.put(f"cpufreq/policy{number}/scaling_max_freq", 2000000)
    before = tree_hash(zero.tree)
    assert zero.problems(SIXTY) == [("warning", "frequency-unsupported")]
    assert {(item["minKHz"], item["maxKHz"]) for item in zero.planned(SIXTY)["cpus"]} == {
        (None, None)
    }
    ran = zero.run("apply", SIXTY)
    assert (ran.code, ran.out) == (0, "0 files written, settled\n")
    assert tree_hash(zero.tree) == before
    shown = kpm("discover", "--sysfs", zero.tree).out
    assert " 0..unknown " in shown
    assert "frequency: no, no file says between which frequencies the hardware runs" in shown


def test_a_minimum_of_0_is_shown_as_0(case: Make) -> None:
    """It is asked for, so it is not what was there before."""
    low = case(evolve(PLAIN, low=0))
    asked = [pools(), profile("shared", shared=True, pstates={"min": "0%", "max": "60%"})]
    for ran, words in (
        (low.run("plan", asked), "0..2.1"),
        (low.run("explain", asked, "cpu", "0"), "0..2.1 GHz"),
    ):
        assert ran.code == 0
        assert words in ran.out
        assert "baseline.." not in ran.out
    assert low.run("apply", asked).code == 0
    assert low.limits(0) == (0, 2100000)
    assert " 0..3.5 " in kpm("discover", "--sysfs", low.tree).out


@pytest.mark.parametrize(
    "missing",
    [("cpuinfo_min_freq", "cpuinfo_max_freq"), ("cpuinfo_min_freq",), ("cpuinfo_max_freq",)],
)
def test_where_the_range_is_not_known_that_is_what_is_said(
    case: Make, missing: tuple[str, ...]
) -> None:
    """Not that the driver is another one than itself."""
    unknown = case(evolve(PLAIN, cpus=1))
    for name in missing:
        (unknown.tree / CPU / "cpufreq/policy0" / name).unlink()
    shown = kpm("discover", "--sysfs", unknown.tree)
    assert (
        "frequency: no, no file says between which frequencies the hardware runs (cpuinfo_min_freq,"
        " cpuinfo_max_freq)" in shown.out
    )
    ran = unknown.run("plan", SIXTY)
    assert (
        "no file says between which frequencies the hardware runs; those CPUs keep their"
        " frequencies [frequency-unsupported]" in ran.out + ran.err
    )
    for text in (shown.out, shown.err, ran.out, ran.err):
        assert "None" not in text
        assert "is none of" not in text
        assert "not one that is managed" not in text


def test_a_driver_that_was_not_tried_is_named_and_managed(case: Make) -> None:
    """Public dumps have powernow-k8, qcom-cpufreq-hw, exynos and others."""
    shown = kpm("discover", "--sysfs", case(evolve(PLAIN, driver="apple-cpufreq")).tree).out
    (line,) = (line for line in shown.splitlines() if line.startswith("frequency: "))
    assert line == (
        "frequency: yes, driver apple-cpufreq; not tried with apple-cpufreq, the general rules hold"
    )


# --- idle states ---


@pytest.mark.parametrize("content", ["", "\n"])
def test_a_disable_that_is_empty_is_neither_written_nor_put_back(case: Make, content: str) -> None:
    """It has no value; all others are set, and come back."""
    dump = case(PLAIN)
    empty = dump.tree / CPU / "cpu1/cpuidle/state2/disable"
    empty.write_text(content)
    before = tree_hash(dump.tree)
    assert (
        dump.run(
            "apply", [pools(), profile("shared", shared=True, cstates={"maxLatencyUs": 20})]
        ).code
        == 0
    )
    assert empty.read_text() == content
    assert [dump.shown(f"cpu0/cpuidle/state{number}/disable") for number in range(3)] == [
        "0",
        "0",
        "1",
    ]
    assert [dump.shown(f"cpu1/cpuidle/state{number}/disable") for number in range(2)] == ["0", "0"]
    assert dump.restore().code == 0
    assert tree_hash(dump.tree) == before


@pytest.mark.parametrize(
    ("latency", "off"), [(0, "0111"), (2, "0011"), (50, "0001"), (39, "0011"), (200, "0000")]
)
def test_of_two_idle_states_of_one_name_the_one_that_takes_longer_is_off(
    case: Make, latency: int, off: str
) -> None:
    """As the plan says of them, and of no other."""
    twins = case(evolve(PLAIN, cpus=1, states=(("POLL", 0), ("C1", 2), ("C3", 40), ("C3", 200))))
    before = tree_hash(twins.tree)
    asked = [pools(), profile("shared", shared=True, cstates={"maxLatencyUs": latency})]
    states = [
        f"{name}:{'off' if digit == '1' else 'on'}"
        for name, digit in zip(("POLL", "C1", "C3", "C3"), off, strict=True)
    ]
    assert " ".join(states) in twins.run("plan", asked).out
    assert twins.run("apply", asked).code == 0
    assert "".join(twins.shown(f"cpu0/cpuidle/state{number}/disable") for number in range(4)) == off
    assert twins.run("diff", asked, "--state-dir", twins.folder / "state").code == 0
    assert twins.restore().code == 0
    assert tree_hash(twins.tree) == before


@pytest.mark.parametrize("on", [True, False])
def test_a_name_that_two_idle_states_have_means_both(case: Make, on: bool) -> None:
    """By name nothing tells them apart."""
    twins = case(evolve(PLAIN, cpus=1, states=(("POLL", 0), ("C1", 2), ("C3", 40), ("C3", 200))))
    for number in (1, 2, 3):
        twins.put(f"cpu0/cpuidle/state{number}/disable", 1 if on else 0)
    assert (
        twins.run(
            "apply", [pools(), profile("shared", shared=True, cstates={"names": {"C3": on}})]
        ).code
        == 0
    )
    assert [twins.shown(f"cpu0/cpuidle/state{number}/disable") for number in range(4)] == (
        ["0", "1", "0", "0"] if on else ["0", "0", "1", "1"]
    )


# --- cores ---


@pytest.mark.parametrize(
    ("threads", "numbers", "cores"),
    [(2, (0, 1, 2, 3), 2), (2, (0, 0, 1, 1), 2), (1, (0, 1, 2, 3), 4), (4, (0, 1, 2, 3), 1)],
)
def test_a_core_is_what_siblings_share(
    case: Make, threads: int, numbers: tuple[int, ...], cores: int
) -> None:
    """Whatever its number: two cores of one module are siblings with numbers of their own."""
    modules = case(evolve(PLAIN, cpus=4, threads=threads))
    for cpu, number in enumerate(numbers):
        modules.put(f"cpu{cpu}/topology/core_id", number)
    assert (
        f"4 of 4 CPUs online (0-3), {cores} cores, 1 packages"
        in kpm("discover", "--sysfs", modules.tree).out
    )


# --- what somebody else has limited ---

FAST = [pools(), profile("shared", shared=True, pstates={"min": 3000, "max": 3500})]


def test_a_limit_of_intel_pstate_as_a_whole_is_said_and_left_alone(case: Make) -> None:
    """By every verb that has something to say about frequencies; what is asked is written all the
    same.
    """
    limited = case(evolve(PLAIN, no_turbo="0"))
    limited.put("intel_pstate/max_perf_pct", 50)
    limited.put("intel_pstate/min_perf_pct", 10)
    assert (
        "intel_pstate as a whole: 10..50 per cent of the highest frequency (min_perf_pct,"
        " max_perf_pct)" in kpm("discover", "--sysfs", limited.tree).out
    )
    words = "max_perf_pct is 50: CPUs 0-1 run at most at 50 % of their highest frequency"
    planned, applied = limited.run("plan", FAST), limited.run("apply", FAST)
    explained = [limited.run("explain", FAST, *what) for what in (("cpu", "0"), ("cpu", "1"))]
    for ran in (planned, applied, *explained):
        assert ran.code == 0
        assert words in ran.out + ran.err
        assert "[frequency-limited]" in ran.out + ran.err
    assert limited.limits(0) == (3000000, 3500000)
    assert (
        limited.shown("intel_pstate/max_perf_pct"),
        limited.shown("intel_pstate/min_perf_pct"),
    ) == ("50", "10")
    assert limited.problems(FAST) == [("warning", "frequency-limited")]


def test_a_limit_that_keeps_nobody_from_anything_is_shown_and_not_complained_of(case: Make) -> None:
    """The whole range, or more than a profile asks for."""
    limited = case(evolve(PLAIN, no_turbo="0"))
    for low, high, objects in ((10, 100, FAST), (10, 70, SIXTY)):
        limited.put("intel_pstate/min_perf_pct", low)
        limited.put("intel_pstate/max_perf_pct", high)
        assert (
            f"intel_pstate as a whole: {low}..{high} per cent"
            in kpm("discover", "--sysfs", limited.tree).out
        )
        assert limited.problems(objects) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [("20", "no idle state of more than 20 µs"), ("n/a", "no idle state that takes time to leave")],
)
def test_a_limit_of_latency_is_said_of_the_cpus_that_have_it(
    case: Make, text: str, words: str
) -> None:
    """It is somebody else's while idle states are set by name."""
    limited = case(PLAIN)
    limited.put("cpu0/power/pm_qos_resume_latency_us", 0)
    limited.put("cpu1/power/pm_qos_resume_latency_us", text)
    for ran in (
        limited.run("plan", FAST),
        limited.run("apply", FAST),
        limited.run("explain", FAST, "cpu", "1"),
    ):
        assert f"is {text} on CPUs 1: {words} is entered there" in ran.out + ran.err
        assert "[idle-limited]" in ran.out + ran.err
    assert limited.shown("cpu1/power/pm_qos_resume_latency_us") == text


# --- trees of which much is missing ---


def without(case: Case, *patterns: str) -> None:
    """Take these files away."""
    for pattern in patterns:
        files = [path for path in (case.tree / CPU).glob(pattern) if not path.is_dir()]
        assert files, pattern
        for file in files:
            file.unlink()


def nothing_but_cpus(case: Case) -> None:
    without(case, "cpu*/topology/*", "cpu*/cpuidle/*/*", "cpufreq/policy*/*")


def no_list_of_cpus(case: Case) -> None:
    without(case, "online", "present", "possible", "offline")


def idle_states_bare(case: Case) -> None:
    without(case, "cpu*/cpuidle/*/latency", "cpu*/cpuidle/*/default_status")


def empty_settings(case: Case) -> None:
    for name in (
        "scaling_min_freq",
        "scaling_max_freq",
        "scaling_governor",
        "energy_performance_preference",
    ):
        case.put(f"cpufreq/policy0/{name}", "")
        case.put(f"cpufreq/policy1/{name}", "nonsense")


def half_an_uncore(case: Case) -> None:
    for name, files in {
        "uncore00": ("min_freq_khz", "max_freq_khz"),
        "uncore01": ("min_freq_khz", "max_freq_khz", "initial_max_freq_khz"),
    }.items():
        for file in files:
            case.put(f"intel_uncore_frequency/{name}/{file}", 1200000)


def half_a_range(case: Case) -> None:
    case.put("intel_pstate/max_perf_pct", 50)


def power_without_limits(case: Case) -> None:
    zone = "devices/virtual/powercap/intel-rapl/intel-rapl:0"
    for name, text in {
        "name": "package-0",
        "constraint_0_name": "long_term",
        "constraint_0_power_limit_uw": "",
        "constraint_0_max_power_uw": "0",
    }.items():
        put(case.tree, f"{zone}/{name}", text)


def latencies(case: Case) -> None:
    case.put("cpu0/power/pm_qos_resume_latency_us", "n/a")
    case.put("cpu1/power/pm_qos_resume_latency_us", "20")


ODD: dict[str, tuple[Tree, Callable[[Case], None]]] = {
    **{name: (tree, lambda _: None) for name, tree in TREES.items()},
    "no topology": (PLAIN, lambda case: without(case, "cpu*/topology/*")),
    "no range": (PLAIN, lambda case: without(case, "cpufreq/policy*/cpuinfo_*_freq")),
    "no lowest": (PLAIN, lambda case: without(case, "cpufreq/policy*/cpuinfo_min_freq")),
    "no highest": (PLAIN, lambda case: without(case, "cpufreq/policy*/cpuinfo_max_freq")),
    "a highest of 0": (evolve(PLAIN, high=0), lambda _: None),
    "a range of 0": (evolve(SHARED_DOMAINS, low=0, high=0), lambda _: None),
    "no settings": (
        PLAIN,
        lambda case: without(
            case, "cpufreq/policy*/scaling_m*_freq", "cpufreq/policy*/scaling_governor"
        ),
    ),
    "no lowest setting": (PLAIN, lambda case: without(case, "cpufreq/policy*/scaling_min_freq")),
    "empty settings": (PLAIN, empty_settings),
    "no governors": (
        PLAIN,
        lambda case: without(case, "cpufreq/policy*/scaling_available_governors"),
    ),
    "no driver": (PLAIN, lambda case: without(case, "cpufreq/policy*/scaling_driver")),
    "another driver": (evolve(PLAIN, driver="apple-cpufreq", epp=None), lambda _: None),
    "another driver without a range": (
        evolve(PLAIN, driver="apple-cpufreq"),
        lambda case: without(case, "cpufreq/policy*/cpuinfo_*_freq"),
    ),
    "bare idle states": (PLAIN, idle_states_bare),
    "an empty disable": (PLAIN, lambda case: case.put("cpu1/cpuidle/state2/disable", "")),
    "no list of CPUs": (PLAIN, no_list_of_cpus),
    "nothing but CPUs": (PLAIN, nothing_but_cpus),
    "half an uncore": (PLAIN, half_an_uncore),
    "half a range of intel_pstate": (evolve(PLAIN, no_turbo="0"), half_a_range),
    "turbo off": (OFF, lambda _: None),
    "power without limits": (PLAIN, power_without_limits),
    "limits of latency": (PLAIN, latencies),
    "no power at all": (NO_POWER, lambda _: None),
}
EVERYTHING = [
    pools(turbo=True),
    profile(
        "shared",
        shared=True,
        pstates={"min": 1000, "max": 3000, "epp": "power", "governor": "powersave"},
        cstates={"maxLatencyUs": 20},
    ),
    {
        "apiVersion": "power.openshift.io/v1",
        "kind": "Uncore",
        "metadata": {"name": "n", "namespace": "power-manager"},
        "spec": {"sysMin": 1200000, "sysMax": 1300000},
    },
    {
        "apiVersion": "power.openshift.io/v1",
        "kind": "PowerCap",
        "metadata": {"name": "cap", "namespace": "power-manager"},
        "spec": {"nodeSelector": {"labelSelector": {}}, "source": {"static": {"watts": 60}}},
    },
]


@pytest.mark.parametrize(
    "objects",
    [EVERYTHING, pytest.param(SIXTY, marks=pytest.mark.soak), [pools()]],
    ids=["everything", "frequencies", "a pool"],
)
@pytest.mark.parametrize("name", ODD)
def test_what_is_not_known_is_never_called_none(
    case: Make, name: str, objects: list[dict[str, Any]]
) -> None:
    """In whatever is printed for people; and no such tree stops a verb."""
    tree, change = ODD[name]
    odd = case(tree)
    change(odd)
    shown = json.loads(kpm("discover", "--sysfs", odd.tree, "-o", "json").out)
    asked = [
        ("cpu", "0"),
        *(
            ("profile", item["metadata"]["name"])
            for item in objects
            if item["kind"] == "PowerProfile"
        ),
        *(("uncore", entry["name"]) for entry in shown["uncore"]),
        *(("cap", zone["name"]) for zone in shown["powerZones"]),
    ]
    rans = [
        kpm("discover", "--sysfs", odd.tree),
        odd.run("plan", objects),
        kpm("validate", "-f", "-", stdin=as_yaml(*objects)),
    ]
    rans += [odd.run("explain", objects, *what) for what in asked]
    for ran in rans:
        assert ran.code in (0, 1), ran
        assert ran.out + ran.err
        assert not re.search(r"\bNone\b", ran.out + ran.err), ran.out + ran.err
