"""kpm energy: the live table, measured runs, what a change saved, rates, and what Prometheus is
asked.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from kpm.cli import cli
from kpm.energy.live import History, Row, Shown, sparkline
from kpm.energy.rates import rates_of
from kpm.energy.record import read_recording
from kpm.process.errors import InputError
from kpm_planner.energy.savings import rate_at
from tests.agent.http_server import serving
from tests.applier.power import LONG_SHORT, RAPL, bare, put_zone

WATTS = 40


@pytest.fixture
def burning(tmp_path: Path) -> Iterator[Path]:
    """A machine whose package takes 40 W all the time."""
    root = bare(tmp_path / "sys")
    put_zone(root, f"{RAPL}/intel-rapl:0", "package-0", LONG_SHORT)
    descriptor, ends = (
        os.open(root / f"{RAPL}/intel-rapl:0/energy_uj", os.O_WRONLY),
        threading.Event(),
    )
    began = time.monotonic()

    def burn() -> None:
        while not ends.wait(0.002):
            os.pwrite(descriptor, b"%015d\n" % int((time.monotonic() - began) * WATTS * 1e6), 0)

    os.pwrite(descriptor, b"%015d\n" % 0, 0)
    thread = threading.Thread(target=burn)
    thread.start()
    yield root
    ends.set()
    thread.join()
    os.close(descriptor)


def run(*words: object) -> Result:
    """One command."""
    return CliRunner().invoke(cli, ["energy", *map(str, words)], prog_name="kpm")


def recording(path: Path, *totals: float, began: str = "2026-01-31T08:00:00+00:00") -> Path:
    """A recording of runs of a second each."""
    runs = [
        {
            "seconds": 1.0,
            "joules": {"package package-0": total},
            "total": total,
            "status": 0,
            "began": began,
        }
        for total in totals
    ]
    path.write_text(
        json.dumps({"version": 1, "kind": "EnergyRecording", "command": ["true"], "runs": runs})
    )
    return path


# --- live ---


def test_json_tells_meters_and_who_used_them(burning: Path) -> None:
    """One document a line; what runs on this machine in no container is the system's, and the parts
    are the whole.
    """
    result = run(
        "--sysfs", burning, "--json", "--count", 2, "--interval", "1s", "--cgroup", burning
    )
    assert result.exit_code == 0, result.output
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(documents) == 2
    last = documents[-1]
    assert last["version"] == 1
    assert last["watts"] == pytest.approx(WATTS, rel=0.5)
    assert [(item["zone"], item["place"], item["source"]) for item in last["meters"]] == [
        ("package", "package-0", "rapl")
    ]
    assert {row["name"] for row in last["rows"]} == {"system", "idle of nobody"}
    assert sum(row["joules"] for row in last["rows"]) == pytest.approx(last["meters"][0]["joules"])


def test_the_table_names_zone_and_source(burning: Path) -> None:
    """For people: watts, meters, rows."""
    result = run("--sysfs", burning, "--count", 1, "--interval", "1s", "--cgroup", burning)
    assert "package of package-0" in result.output
    assert "idle of nobody" in result.output


def test_a_machine_without_a_meter_says_so_and_shows_no_watts(tmp_path: Path) -> None:
    """Field reports 37, 38: never a silent 0 W; the reasons are there."""
    root = bare(tmp_path / "sys")
    result = run("--sysfs", root, "--json", "--count", 1, "--interval", "1s")
    document = json.loads(result.stdout)
    assert (document["watts"], document["meters"]) == (None, [])
    assert document["problems"][0]["code"] == "energy-no-meter"
    assert "rapl" in document["problems"][0]["message"]


def test_an_estimate_is_labelled(tmp_path: Path) -> None:
    """Off unless asked for, and then by its name."""
    root = bare(tmp_path / "sys")
    document = json.loads(
        run("--sysfs", root, "--json", "--count", 1, "--interval", "1s", "--estimate").stdout
    )
    assert [item["source"] for item in document["meters"]] == ["estimated"]


def test_the_picture_of_watts_remembers_a_while_and_forgets_who_is_gone() -> None:
    """Forty looks, from 0 to the largest."""
    history = History()
    row = Row("pod", "a/b", 1.0, 1.0, 5.0)
    for _ in range(50):
        past = history.add(Shown(2.0, (row,), (), ()))
    assert past[("pod", "a/b")] == [2.0] * 40
    assert history.add(Shown(2.0, (), (), ())) == {}
    assert sparkline([0.0, 0.0]) == "▁▁"
    assert sparkline([]) == ""


# --- record and compare ---


def test_a_run_is_measured_and_kept(burning: Path, tmp_path: Path) -> None:
    """Energy is power times time; the result is on standard error, the measurements in the file."""
    path = tmp_path / "a.json"
    result = run(
        "record", "--sysfs", burning, "-n", 3, "--settle", "0s", "-w", path, "--", "sleep", "0.4"
    )
    assert result.exit_code == 0, result.output
    assert "standard error of 3" in result.stderr
    found = read_recording(str(path))
    assert found.command == ("sleep", "0.4")
    for item in found.runs:
        # the counter is a thread of this process, which may have to wait
        assert item.total == pytest.approx(item.seconds * WATTS, rel=0.5)
        assert item.joules == {"package package-0": item.total}


def test_a_command_that_fails_is_told(burning: Path) -> None:
    """Its energy is measured all the same; exit 1."""
    result = run("record", "--sysfs", burning, "-n", 1, "--settle", "0s", "--", "false")
    assert result.exit_code == 1
    assert "status 1" in result.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("record", "--settle", "0s", "--", "no-such-command-here"), "cannot be run"),
        (("record", "-n", "0", "--", "true"), "0 is not in the range"),
        (("--interval", "soon"), "soon"),
        (("compare", "/nonexistent", "/nonexistent"), "/nonexistent"),
        (("report", "--prometheus", "ftp://x"), "ftp://x"),
        (("report", "--prometheus", "http://127.0.0.1:1"), "127.0.0.1:1"),
    ],
)
def test_bad_usage_is_one_line(burning: Path, words: tuple[str, ...], told: str) -> None:
    """Exit 2, the option and what is wrong with it, no traceback."""
    name, *rest = words
    result = run(*(("record", "--sysfs", burning, *rest) if name == "record" else words))
    assert result.exit_code == 2
    assert told in result.stderr
    assert "Traceback" not in result.output


def test_nothing_to_measure_with_is_said_before_the_command_runs(tmp_path: Path) -> None:
    """The command is not run for nothing."""
    mark = tmp_path / "ran"
    result = run("record", "--sysfs", bare(tmp_path / "sys"), "--", "touch", mark)
    assert result.exit_code == 2
    assert "nothing measures energy here" in result.stderr
    assert not mark.exists()


def test_a_saving_has_an_interval_money_and_carbon(tmp_path: Path) -> None:
    """In joules, money and grams, for machines and for people."""
    before, after = recording(tmp_path / "a", 100, 102, 98), recording(tmp_path / "b", 80, 81, 79)
    document = json.loads(
        run("compare", before, after, "--price", "0.36", "--carbon", "360", "-o", "json").stdout
    )
    joules = document["joules"]
    assert (
        joules["before"]["mean"],
        joules["after"]["mean"],
        joules["saved"],
        joules["share"],
    ) == (100, 80, 20, 0.2)
    assert joules["certain"]
    assert joules["low"] < 20 < joules["high"]
    assert document["money"]["saved"] == pytest.approx(20 / 3.6e6 * 0.36)
    assert document["gramsCO2e"]["saved"] == pytest.approx(20 / 3.6e6 * 360)
    table = run("compare", before, after).output
    assert "20.0%" in table
    assert "saved" in table


def test_one_run_each_has_no_interval(tmp_path: Path) -> None:
    """And nothing is certain."""
    document = json.loads(
        run(
            "compare", recording(tmp_path / "a", 100), recording(tmp_path / "b", 80), "-o", "json"
        ).stdout
    )
    assert (document["joules"]["low"], document["joules"]["certain"]) == (None, False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"version": 2}',
        '{"version":1,"kind":"EnergyRecording","runs":[]}',
        '{"version":1,"kind":"EnergyRecording","runs":[7]}',
    ],
)
def test_a_file_that_is_no_recording_is_refused(tmp_path: Path, text: str) -> None:
    """In one line that names it."""
    path = tmp_path / "bad"
    path.write_text(text)
    result = run("compare", path, path)
    assert result.exit_code == 2
    assert str(path) in result.stderr
    assert result.stderr.count("\n") == 1


# --- rates ---


def test_a_rate_follows_a_file_of_times(tmp_path: Path) -> None:
    """The one in force at the middle of a run; before the first one, the first; a heading is passed
    over.
    """
    path = tmp_path / "grid.csv"
    path.write_text(
        "time,grams\n2026-01-31T09:00:00Z,100\n2026-01-31T08:00:00Z,400\n2026-01-31T10:00,50\n"
    )
    rates = rates_of("--carbon", str(path))
    first = rates[0].since
    assert [rate_at(rates, first + offset) for offset in (-1, 0, 3599, 3600, 7200, 1e9)] == [
        400,
        400,
        400,
        100,
        50,
        50,
    ]
    before, after = (
        recording(tmp_path / "a", 3.6e6, began="2026-01-31T08:30:00+00:00"),
        recording(tmp_path / "b", 3.6e6, began="2026-01-31T09:30:00+00:00"),
    )
    document = json.loads(run("compare", before, after, "--carbon", path, "-o", "json").stdout)
    assert document["gramsCO2e"]["saved"] == 300


@pytest.mark.parametrize(
    "text", ["-1", "nan", "many", "1e99", "2026,x\n2026-01-01T00:00:00Z,y", "2026-01-01T00:00:00Z"]
)
def test_a_rate_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    """As a number, and as a line of a file."""
    path = tmp_path / "rates.csv"
    path.write_text(f"{text}\n{text}\n")
    for value in (text, str(path)):
        with pytest.raises(InputError, match="--price"):
            rates_of("--price", value)


@given(st.text(max_size=60))
def test_no_rate_raises_anything_else(text: str) -> None:
    """Whatever the option says."""
    try:
        rates = rates_of("--price", text)
    except InputError:
        return
    assert rates[0].per_kwh >= 0


# --- report ---


def vector(*rows: tuple[dict[str, str], float]) -> dict[str, object]:
    """What Prometheus answers (HTTP API v1)."""
    return {
        "status": "success",
        "data": {
            "resultType": "vector",
            "result": [{"metric": labels, "value": [1.0, str(value)]} for labels, value in rows],
        },
    }


def test_a_report_adds_up_the_pods_of_a_profile() -> None:
    """Busy and idle beside each other; the profile's name cannot leave its quotes."""
    who = {"profile": "fast", "pool": "exclusive", "namespace": "a", "pod": "b"}
    with serving() as server:
        server.say(200, vector(({**who, "mode": "busy"}, 3600.0), ({**who, "mode": "idle"}, 400.0)))
        words = (
            "report",
            "--prometheus",
            f"http://127.0.0.1:{server.port}/",
            "--profile",
            'fast"} or {x="',
            "--since",
            "1h",
            "--price",
            "0.36",
        )
        document = json.loads(run(*words, "-o", "json").stdout)
        table = run(*words).output
    assert (document["joules"], document["watts"], document["seconds"]) == (4000, 4000 / 3600, 3600)
    assert document["money"] == pytest.approx(4000 / 3.6e6 * 0.36)
    assert document["pods"][0]["pod"] == "a/b"
    assert "a/b" in table
    (query,) = parse_qs(urlsplit(server.requests[0].target).query)["query"]
    assert r'profile="fast\"} or {x=\""' in query
    assert "[3600s]" in query


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b'{"status":"error"}',
        b'{"status":"success","data":{"resultType":"matrix","result":[]}}',
        b"\xff",
    ],
)
def test_an_answer_that_is_none_is_one_line(answer: bytes) -> None:
    """Exit 2 with the address."""
    with serving() as server:
        server.say(200, answer)
        result = run("report", "--prometheus", f"http://127.0.0.1:{server.port}")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


def test_no_energy_at_all_says_what_to_look_at() -> None:
    """Exit 1, as there is nothing to report."""
    with serving() as server:
        server.say(200, vector())
        result = run("report", "--prometheus", f"http://127.0.0.1:{server.port}", "--profile", "x")
    assert result.exit_code == 1
    assert "spec.agent.metrics" in result.stderr


@pytest.mark.parametrize("text", ["0.1s", "199ms", "0s", "2h", "x", "-1s", "1e3s", "nan"])
def test_an_interval_is_from_a_fifth_of_a_second_to_an_hour(text: str) -> None:
    result = run("--interval", text, "--count", "1")
    assert result.exit_code == 2
    assert "0.2s to 1h" in result.stderr


def test_a_machine_without_a_meter_is_told_in_one_line(tmp_path: Path) -> None:
    """With the option that reckons, and how far off that is; at once, not after an interval."""
    began = time.monotonic()
    result = run("--sysfs", bare(tmp_path / "sys"), "--interval", "1m")
    assert time.monotonic() - began < 30
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "--estimate" in result.stderr
    assert "% off" in result.stderr


def test_each_look_reaches_a_pipe_when_it_is_made(tmp_path: Path) -> None:
    """Two looks are two tables, the first before the second is made."""
    words = [sys.executable, "-m", "kpm", "energy", "--estimate", "--interval", "300ms"]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    for _ in range(2):
        while b"estimated" not in process.stdout.readline():
            assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)


def test_a_saving_of_a_year_is_in_a_currency(tmp_path: Path) -> None:
    before, after = recording(tmp_path / "a", 100, 102, 98), recording(tmp_path / "b", 80, 81, 79)
    said = run("compare", before, after, "--price", "0.36", "--currency", "CHF").stdout
    assert re.search(r"\d+\.\d\d CHF a year", said)
