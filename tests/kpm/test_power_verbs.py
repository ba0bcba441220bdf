"""Power caps, fabrics and turbo on the command line: for an instant, with what a source answers, on
files, and back.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from kpm.request.machines import MODELS, MachineSpec, PowerSpec, UncoreSpec, build_machine
from kpm_applier.kernel_model.model import KernelModel
from tests.kpm.cli_rig import Ran, assert_names, kpm
from tests.kpm.object_samples import as_json, as_yaml, node
from tests.trees import write_tree

EVERY: dict[str, Any] = {"labelSelector": {}}
GROUP = "power.openshift.io/v1"
MACHINE = {"packages": 2, "cores": 2, "power": {"watts": 165, "maxWatts": 165, "shortWatts": 198}}


def power(kind: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": GROUP,
        "kind": kind,
        "metadata": {"name": "p"},
        "spec": {"nodeSelector": EVERY, **spec},
    }


SCHEDULE = power(
    "PowerCap",
    source={
        "schedule": [{"time": "08:00", "watts": 200}, {"time": "20:00", "percent": 50}],
        "timeZone": "Europe/Paris",
    },
)
EXTERNAL = power("PowerCap", source={"external": {"url": "http://127.0.0.1:1/"}})
DAY, NIGHT = "2026-06-01T08:00:00Z", "2026-06-01T20:00:00Z"


@pytest.fixture
def case(tmp_path: Path) -> Any:
    """Runs a verb on objects and a described machine."""
    (tmp_path / "m.json").write_text(as_json(MACHINE))

    def run(verb: str, *words: object, objects: dict[str, Any] = SCHEDULE) -> Ran:
        return kpm(
            verb,
            "-f",
            "-",
            "--machine",
            f"n={tmp_path / 'm.json'}",
            *words,
            stdin=as_yaml(objects, node("n")),
        )

    return run


def limits(ran: Ran) -> list[int | None]:
    return [cap["limitsUW"]["long_term"] for cap in json.loads(ran.out)["nodes"][0]["powerCaps"]]


def test_a_plan_is_for_an_instant(case: Any) -> None:
    """Offline, as the cluster would do it then, and until when."""
    day, night = case("plan", "--at", DAY, "-o", "json"), case("plan", "--at", NIGHT, "-o", "json")
    assert (limits(day), limits(night)) == ([100_000_000] * 2, [82_500_000] * 2)
    assert json.loads(day.out)["nodes"][0]["validUntil"] == "2026-06-01T18:00:00+00:00"
    assert_names(
        case("plan", "--at", DAY).out,
        ["power package-0: long_term 100 W", "power package-1: long_term 100 W"],
    )


def test_a_cap_is_explained(case: Any) -> None:
    """Source, entry, bounds, part; and what may be asked about."""
    ran = case("explain", "--at", NIGHT, "cap", "package-1")
    assert ran.code == 0
    assert_names(
        ran.out,
        [
            "long_term 82.5 W",
            "schedule entry 20:00",
            "Europe/Paris",
            "package-1: 82.5 W",
            "2026-06-02T06:00:00Z",
        ],
    )
    unknown = case("explain", "cap", "package-9")
    assert unknown.code == 2
    assert_names(unknown.err, ["got 'package-9'", "package-0, package-1"])
    nothing = case("explain", "uncore", "fabric-0")
    assert (nothing.code, "which has none" in nothing.err) == (2, True)


def test_what_a_source_answers_can_be_played(case: Any) -> None:
    """Without it the plan says that the source has not answered."""
    assert (
        limits(case("plan", "-o", "json", "--cap-reading", "p=240", objects=EXTERNAL))
        == [120_000_000] * 2
    )
    silent = case("plan", "-o", "json", objects=EXTERNAL)
    assert limits(silent) == [None, None]
    assert [item["code"] for item in json.loads(silent.out)["nodes"][0]["problems"]] == [
        "cap-stale"
    ]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--at", "noon"], ["--at", "'noon'", "2026-01-31T08:00:00Z"]),
        (["--at", "9999-12-31T23:59:59-12:00"], ["kpm:"]),
        (["--at", "0001-01-01T00:00:00+14:00"], ["kpm:"]),
        (["--at", "9998-01-01T00:00:00Z"], ["--at", "from 1970 to 2999"]),
        (["--cap-reading", "p"], ["--cap-reading", "NAME=WATTS"]),
        (["--cap-reading", "p=lots"], ["--cap-reading", "NAME=WATTS"]),
        (["--cap-reading", "=5"], ["--cap-reading", "NAME=WATTS"]),
    ],
)
def test_options_that_are_none_are_named(case: Any, words: list[str], named: list[str]) -> None:
    ran = case("plan", *words)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert_names(ran.err, named)


def test_a_recording_keeps_the_instant_and_the_answers(tmp_path: Path) -> None:
    """A year later the replay gives the same plan."""
    (tmp_path / "m.json").write_text(as_json(MACHINE))
    both = as_yaml(
        SCHEDULE,
        {
            **EXTERNAL,
            "metadata": {"name": "q"},
            "spec": {
                **EXTERNAL["spec"],
                "nodeSelector": {"labelSelector": {"matchLabels": {"a": "b"}}},
            },
        },
        node("n"),
    )
    words = ("--machine", f"n={tmp_path / 'm.json'}", "--at", NIGHT, "--cap-reading", "q=100")
    assert kpm("snapshot", tmp_path / "case", "-f", "-", *words, stdin=both).code == 0
    again = kpm("replay", tmp_path / "case", "-o", "json")
    assert again.code == 0, again.err
    assert limits(again) == [82_500_000] * 2
    head = json.loads((tmp_path / "case/snapshot.json").read_text())
    assert (head["instant"], head["nodes"][0]["capReadings"]["q"]["watts"]) == (
        "2026-06-01T20:00:00+00:00",
        100,
    )
    for name, wrong in (("instant", 7), ("instant", "noon")):
        (tmp_path / "case/snapshot.json").write_text(json.dumps({**head, name: wrong}))
        assert kpm("replay", tmp_path / "case").code == 2
    (tmp_path / "case/snapshot.json").write_text(
        json.dumps(
            {
                **head,
                "nodes": [
                    {**head["nodes"][0], "capReadings": {"q": {"watts": "many", "at": NIGHT}}}
                ],
            }
        )
    )
    assert_names(kpm("replay", tmp_path / "case").err, ["capReadings", "watts"])


def test_a_cap_on_files_and_back(tmp_path: Path) -> None:
    """Applied, ramped by one step a run and period, told in the diff, restored to the byte."""
    machine = build_machine(
        MachineSpec(
            packages=2,
            cores=2,
            power=PowerSpec(watts=165, max_watts=165, short_watts=198, enabled=False),
        )
    )
    write_tree(KernelModel(machine), tmp_path)
    files = sorted((tmp_path / "sys/devices/virtual").rglob("*"))
    before = {path: path.read_bytes() for path in files if path.is_file()}
    place = ("--sysfs", tmp_path / "sys", "--state-dir", tmp_path / "state")
    ramped = as_yaml({**SCHEDULE, "spec": {**SCHEDULE["spec"], "maxStepWatts": 10}}, node("n"))

    def shown() -> set[int]:
        return {
            int(path.read_text()) for path in files if path.name == "constraint_0_power_limit_uw"
        }

    def run(verb: str, at: str) -> Ran:
        return kpm(verb, "-f", "-", *place, "--at", at, stdin=ramped)

    assert run("apply", NIGHT).code == 0
    assert shown() == {82_500_000}
    assert [path.read_text().strip() for path in files if path.name == "enabled"] == ["1", "1"]
    assert run("apply", NIGHT).out.splitlines()[-1] == "0 files written, settled"
    diff = run("diff", DAY)
    assert diff.code == 1
    assert_names(diff.out, ["82.5 → 87.5 W", "schedule entry 08:00", "up by at most 10 W"])
    assert run("apply", DAY).code == 0
    assert shown() == {87_500_000}
    assert kpm("restore", *place).code == 0
    assert {path: path.read_bytes() for path in before} == before


def test_uncore_under_both_layouts_leaves_everything_but_tpmis_limits_alone(tmp_path: Path) -> None:
    """Field report 41: TPMI's entries are written, the older layout beside them and
    efficiency-latency control (elc) are not.
    """
    machine = build_machine(MachineSpec(cores=2, uncore=UncoreSpec(layout="tpmi")))
    write_tree(KernelModel(machine), tmp_path)
    root = tmp_path / "sys/devices/system/cpu/intel_uncore_frequency"
    elc = {
        "elc_floor_freq_khz": "800000",
        "elc_low_threshold_percent": "10",
        "elc_high_threshold_percent": "95",
        "elc_high_threshold_enable": "1",
    }
    older = {
        "min_freq_khz": "800000",
        "max_freq_khz": "2400000",
        "initial_min_freq_khz": "800000",
        "initial_max_freq_khz": "2400000",
    }
    for folder, contents in (("uncore00", elc), ("package_00_die_00", older)):
        (root / folder).mkdir(exist_ok=True)
        for name, text in contents.items():
            (root / folder / name).write_text(f"{text}\n")
    before = {path: path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}
    place = ("--sysfs", tmp_path / "sys", "--state-dir", tmp_path / "state")
    assert (
        kpm(
            "apply",
            "-f",
            "-",
            *place,
            stdin=as_yaml(power("Uncore", sysMin=1_200_000, sysMax=2_000_000), node("n")),
        ).code
        == 0
    )
    changed = {
        str(path.relative_to(root)): path.read_text().strip()
        for path, text in before.items()
        if path.read_text() != text
    }
    assert changed == {"uncore00/min_freq_khz": "1200000", "uncore00/max_freq_khz": "2000000"}
    assert (
        kpm(
            "apply", "-f", "-", *place, stdin=as_yaml(power("Uncore", sysMax=2_000_000), node("n"))
        ).code
        == 1
    )
    assert (root / "uncore00/max_freq_khz").read_text().strip() == "2000000", (
        "the last valid version stays in force"
    )
    assert kpm("apply", "-f", "-", *place, stdin=as_yaml(node("n"))).code == 0
    assert {path: path.read_text() for path in before} == before


def test_fabric_and_turbo_on_files_and_back(tmp_path: Path) -> None:
    """A folder that stands for the mailbox; a switch that is not there is said."""
    write_tree(KernelModel(build_machine(MODELS["epyc"])), tmp_path)
    place = ("--sysfs", tmp_path / "sys", "--state-dir", tmp_path / "state")
    objects = as_yaml(
        power("Uncore", amd={"dfPstateMin": 1, "dfPstateMax": 1}),
        power("PowerNodeConfig", turbo=False),
        node("n"),
    )
    ran = kpm("apply", "-f", "-", *place, stdin=objects)
    assert ran.code == 0
    assert_names(ran.err, ["has no switch of turbo"])
    assert (tmp_path / "sys/hsmp/socket0/df_pstate").read_text().strip() == "1"
    assert "P-state 1" in kpm("explain", "-f", "-", *place, "uncore", "fabric-0", stdin=objects).out
    assert kpm("restore", *place).code == 0
    assert (tmp_path / "sys/hsmp/socket0/df_pstate").read_text().strip() == "auto"
