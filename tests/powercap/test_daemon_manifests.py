"""kpm powercap on manifests of every version of the earlier tool: they mean what they meant, mean
what the page says, or are refused in one line; none caps a node hard and says so in a log alone.
"""

import json
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kpm.powercap.settings import Environment, Provider, read_environment
from kpm.powercap.sources import sources_of
from kpm.process.errors import InputError
from kpm.request.machines import MachineSpec, PowerSpec, build_machine
from kpm_applier.kernel_model.model import KernelModel
from kpm_planner.caps.legacy_tool import (
    CalcMode,
    CapSettings,
    PmaxFunc,
    Trade,
    capped,
    market_uw,
    solar_uw,
)
from kpm_planner.model.machine import PowerLimit, PowerZone
from kpm_planner.model.quantities import UW
from tests.captured import CapturingLog
from tests.powercap.test_powercap import MACHINE, NOON, capper, files, run
from tests.powercap.test_trades import day
from tests.trees import write_tree

REPO = Path(__file__).parents[2]
ONE = build_machine(MachineSpec(cores=2, power=PowerSpec(max_watts=165, short_watts=198)))
STEP = UW // 8
ZONE = {"TIMEZONE": "UTC"}
MARK = "power-manager/initialized"
#: What the newest version's ConfigMaps give to its container beside NODE_NAME.
WORDS = {"market_area": "FR", "auction": "IDA1", "modality": "Auction", "sub_modality": "Intraday"}
PARAMS = json.dumps(WORDS)
CRON = {"DATA_REFRESH_CRON": "0 0 * * *"}
NEWEST = {
    "MAX_SOURCE": "40000000",
    "STABILISATION_TIME": "300",
    "ALPHA": "4",
    "RAPL_MIN_POWER": "10000000",
    "DATA_PROVIDER": "epex",
    "PROVIDER_URL": "https://www.epexspot.com/en/market-results",
    "PROVIDER_PARAMS": PARAMS,
    **CRON,
}
#: What the README of the version before it gives, and deploy/powercap too.
README = {
    "MAX_SOURCE": "140000000",
    "RAPL_LIMIT": "40",
    "STABILISATION_TIME": "120",
    "ALPHA": "4",
    "PMAX_FUNC": "min",
}


def made(values: Mapping[str, str]) -> Environment:
    return read_environment({"NODE_NAME": "n", **values})


def refusal(values: Mapping[str, str]) -> str:
    """The one line that refuses settings."""
    with pytest.raises(InputError) as failure:
        made(values)
    assert "\n" not in str(failure.value)
    return str(failure.value)


def long_limits(settings: CapSettings, zones: tuple[PowerZone, ...], source_uw: int) -> list[int]:
    return [target.limits[0] or 0 for target in capped(settings, zones, source_uw).targets]


# --- RAPL_LIMIT: a node's budget is kept on any number of sockets ---


@pytest.mark.parametrize("func", PmaxFunc)
def test_two_sockets_do_not_have_twice_the_budget(func: PmaxFunc) -> None:
    """cases/upstream/powercap-ratio.sh: 278 W for 140."""
    settings = evolve(made(README).settings, pmax_func=func)
    found = long_limits(settings, MACHINE.power_zones, solar_uw(settings, 12 * 60))
    assert sum(found) <= 140 * UW
    assert min(found) >= 66 * UW - STEP  # RAPL_LIMIT per cent of 165 W


def test_a_budget_is_used_up_where_pmax_leaves_it_room() -> None:
    """Not less than the budget either: source over pmax is above what two sockets may share."""
    settings = made(README).settings
    found = long_limits(settings, MACHINE.power_zones, 140 * UW)
    assert found == [pytest.approx(70 * UW, abs=STEP)] * 2
    short = [target.limits[1] for target in capped(settings, MACHINE.power_zones, 140 * UW).targets]
    assert short == [pytest.approx(84 * UW, abs=STEP)] * 2  # 198 W by the same ratio


@pytest.mark.parametrize(
    ("func", "watts"),
    [
        ("min", 140.0),
        ("max", 165 * 140 / 198),
        ("avg", 165 * 140 / 181.5),
    ],
)
def test_on_one_socket_the_ratio_is_what_it_was(func: str, watts: float) -> None:
    settings = made({**README, "PMAX_FUNC": func}).settings
    assert long_limits(settings, ONE.power_zones, 140 * UW) == [pytest.approx(watts * UW, abs=STEP)]


def test_below_the_floor_each_limit_keeps_its_share() -> None:
    """At night a node may take more than the source has: RAPL_LIMIT per cent, as before."""
    settings = made(README).settings
    for source in (0, 100 * UW):
        assert long_limits(settings, MACHINE.power_zones, source) == [66 * UW] * 2


def test_what_we_deploy_keeps_its_own_budget() -> None:
    objects = list(yaml.safe_load_all((REPO / "deploy/powercap/powercap.yaml").read_text()))
    pods = next(item for item in objects if item["kind"] == "DaemonSet")["spec"]["template"]
    env = {item["name"]: item.get("value", "n") for item in pods["spec"]["containers"][0]["env"]}
    settings = read_environment(env).settings
    found = long_limits(settings, MACHINE.power_zones, solar_uw(settings, 12 * 60))
    assert 130 * UW <= sum(found) <= settings.max_source_uw


_WATTS = st.integers(0, 400).map(lambda watts: watts * UW)


@given(
    st.lists(st.tuples(_WATTS, _WATTS), min_size=1, max_size=8),
    st.integers(0, 4 * 10**9),
    st.integers(0, 100),
    st.integers(1, 50 * UW),
    st.sampled_from(PmaxFunc),
)
def test_scaled_limits_together_are_never_above_the_budget(
    watts: list[tuple[int, int]],
    source: int,
    floor: int,
    least: int,
    func: PmaxFunc,
) -> None:
    """Nor above it by more than what floor and least power ask for."""
    zones = tuple(
        PowerZone(
            f"z{number}",
            f"package-{number}",
            "intel-rapl",
            number,
            None,
            True,
            (
                PowerLimit("long_term", "l", long, None),
                PowerLimit("short_term", "s", max(long, short)),
            ),
        )
        for number, (long, short) in enumerate(watts)
    )
    settings = CapSettings(ratio_floor=floor, min_uw=least, pmax_func=func)
    found = long_limits(settings, zones, source)
    starts = [long for long, _ in watts]
    asked = max(source, sum(starts) * floor // 100)
    assert sum(found) <= asked + sum(min(least, start) for start in starts) + 1
    assert all(limit <= start for limit, start in zip(found, starts, strict=True))


# --- numbers with fractions ---


def test_a_fractional_exponent_bends_the_sun() -> None:
    """The earlier tool took any decimal number."""
    settings = made({"ALPHA": "2.5"}).settings
    eighth = 40 * UW * math.sin(math.pi / 4) ** 2.5
    assert solar_uw(settings, 8 * 60) == pytest.approx(eighth, abs=1)
    assert [solar_uw(settings, minute) for minute in (0, 3 * 60, 21 * 60)] == [0, 0, 0]
    assert made({"ALPHA": "4.0"}) == made({"ALPHA": "4"})


def test_a_fractional_floor_is_a_floor() -> None:
    settings = made({**README, "RAPL_LIMIT": "62.5"}).settings
    lowest = pytest.approx(165 * UW * 0.625, abs=STEP)
    assert long_limits(settings, MACHINE.power_zones, 0) == [lowest] * 2


def test_a_fraction_of_a_second_is_waited_for() -> None:
    assert made({"STABILISATION_TIME": "90.5"}).stabilisation == 90.5
    assert made({"STABILISATION_TIME": "120"}).stabilisation == 120


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("ALPHA", value) for value in ("0.5", "16.5", "-2.5", "2,5", "1e1", "nan", "inf", "2.")),
        *(("RAPL_LIMIT", value) for value in ("100.5", "-0.5", "40%", "0x28")),
        # Theirs read 2m as 2ms, and 1m30 as 90 seconds.
        *(("STABILISATION_TIME", value) for value in ("0.5", "2m", "1m30", "86400.5", "5s")),
        ("MAX_SOURCE", "1.4e8"),
        ("RAPL_MIN_POWER", "10.5"),
    ],
)
def test_what_is_no_plain_number_in_range_is_refused(name: str, value: str) -> None:
    said = refusal({name: value})
    assert said.startswith(f"{name}: expected a ")
    assert said.endswith(f", got '{value}'")
    assert "number from " in said


# --- the provider ---


@pytest.mark.parametrize("name", ["PROVIDER_URL", "PROVIDER_PARAMS", "DATA_REFRESH_CRON"])
def test_a_market_without_a_provider_is_refused(name: str) -> None:
    """The newest version took epex then, older ones know the sun alone."""
    said = refusal({"MAX_SOURCE": "140000000", name: NEWEST[name]})
    assert said.startswith("DATA_PROVIDER: is missing")
    assert name in said


def test_without_any_market_setting_it_is_the_sun() -> None:
    """The README's manifests name no provider; an empty value is none."""
    empty = {"DATA_PROVIDER": "", "PROVIDER_URL": "", "PROVIDER_PARAMS": ""}
    assert made(README).provider is Provider.SOLAR
    assert made({**README, **empty}).provider is Provider.SOLAR


@pytest.mark.parametrize("text", ["MOCK", "Mock", "mock"])
def test_a_provider_may_be_in_capitals(text: str) -> None:
    """The earlier tool did not look at case either."""
    assert made({"DATA_PROVIDER": text}).provider is Provider.MOCK


def test_other_words_may_be_in_capitals_too() -> None:
    settings = made({"PMAX_FUNC": "MIN", "POWER_CALC_MODE": "Max"}).settings
    assert (settings.pmax_func, settings.mode) == (PmaxFunc.MIN, CalcMode.MAX)


@pytest.mark.parametrize("provider", ["epex", "EPEX"])
def test_the_newest_manifests_are_refused_not_throttled(provider: str) -> None:
    """Their address is a web page, no CSV: 10 W a package, where theirs gave 495."""
    said = refusal({**NEWEST, "DATA_PROVIDER": provider})
    assert said.startswith("PROVIDER_URL: expected the address of CSV files")
    assert "'https://www.epexspot.com/en/market-results'" in said
    assert "web page" in said
    assert "CSV" in said


def test_another_address_is_not_taken_for_that_page() -> None:
    for url in ("https://prices.example.com/fr/{date}.csv", "http://epexspot.com.example.org/"):
        assert made({**NEWEST, "PROVIDER_URL": url}).url == url


# --- static ---


def test_static_needs_to_be_told_its_power() -> None:
    """Theirs was a curve of the day up to the machine's maximum; 40 W by default are none."""
    assert refusal({"DATA_PROVIDER": "static"}).startswith("MAX_SOURCE: is missing")


def test_the_newest_versions_static_day_is_refused() -> None:
    """There MAX_SOURCE had no effect: 30 to 54 parts of the maximum, the most at noon."""
    values = {**NEWEST, "DATA_PROVIDER": "static", "PROVIDER_URL": "", "PROVIDER_PARAMS": "{}"}
    said = refusal(values)
    assert said.startswith("DATA_PROVIDER: expected epex or csv ")
    assert "DATA_REFRESH_CRON" in said
    assert "MAX_SOURCE" in said


def test_static_is_the_same_all_day(tmp_path: Path) -> None:
    """What the page says it means."""
    values = {"DATA_PROVIDER": "static", "MAX_SOURCE": "200000000", **ZONE}
    with capper(KernelModel(MACHINE), tmp_path, None, **values) as (it, said):
        for hour in (0, 7, 12, 23):
            it.once(datetime(2026, 6, 1, hour, tzinfo=UTC))
            assert said[-1]["rapl/pmax"] == "200000000"


def test_a_day_that_theirs_wrote_can_be_followed(tmp_path: Path) -> None:
    """What its static provider saved is a file that the csv provider reads."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "static_data_2026-06-01.csv").write_bytes(day())
    values = {"DATA_PROVIDER": "csv", "PROVIDER_URL": str(data), **ZONE}
    with capper(KernelModel(MACHINE), tmp_path, None, **values) as (it, said):
        it.once(datetime(2026, 6, 1, 23, 50, tzinfo=UTC))
        assert said[-1]["rapl/pmax"] == "330000000"


# --- POWER_CALC_MODE ---


def test_an_average_gives_more_than_the_largest_and_never_more_than_all() -> None:
    """It had no effect there; the page says what it does here."""
    trades = [Trade(0, 720, 20.0, 1.0), Trade(720, 1440, 60.0, 1.0)]
    found = [market_uw(trades, trades[0], 330 * UW, mode) for mode in CalcMode]
    assert found == [110 * UW, 165 * UW]
    assert market_uw(trades, trades[1], 330 * UW, CalcMode.AVERAGE) == 330 * UW
    assert made({}).settings.mode is CalcMode.MAX


# --- max_power_uw ---


def no_maximum(folder: Path) -> None:
    """Firmware names none: 0, as on many servers."""
    write_tree(KernelModel(MACHINE), folder)
    for path in (folder / "sys").rglob("constraint_*_max_power_uw"):
        path.write_text("0\n")


def test_a_market_needs_to_know_what_all_of_it_is(tmp_path: Path) -> None:
    """Theirs took a limit in force, or did not start; ours took 40 W for two sockets."""
    no_maximum(tmp_path)
    before = files(tmp_path)
    lines = refused(tmp_path, DATA_PROVIDER="mock", MAX_SOURCE="")
    assert lines[0].startswith("kpm: MAX_SOURCE: is missing")
    assert "max_power_uw" in lines[0]
    assert "package-0" in lines[0]
    assert files(tmp_path) == before


def test_max_source_is_all_of_it_where_firmware_names_nothing(tmp_path: Path) -> None:
    no_maximum(tmp_path)
    values = {"DATA_PROVIDER": "mock", "MAX_SOURCE": "300000000", "RAPL_MIN_POWER": "1000000"}
    with run(tmp_path, "--once", **values) as process:
        assert process.wait(20) == 0
    assert limits(tmp_path) not in ([], [165 * UW] * 2)
    assert sum(limits(tmp_path)) <= 300 * UW


@pytest.mark.parametrize("provider", ["", "static"])
def test_a_source_in_watts_needs_no_maximum(tmp_path: Path, provider: str) -> None:
    no_maximum(tmp_path)
    with run(tmp_path, "--once", DATA_PROVIDER=provider, MAX_SOURCE="100000000") as process:
        assert process.wait(20) == 0
    assert 20 * UW <= sum(limits(tmp_path)) <= 100 * UW


# --- no market data at the start ---


def limits(folder: Path) -> list[int]:
    """Long-term limits of the packages, µW."""
    root = folder / "sys/devices/virtual/powercap/intel-rapl"
    found = sorted(root.glob("intel-rapl:?/constraint_0_power_limit_uw"))
    return [int(path.read_text()) for path in found]


def refused(folder: Path, **values: str) -> list[str]:
    """What a process says that refuses to begin: one line for people."""
    with run(folder, "--log-level", "error", **values) as process:
        assert process.wait(20) != 0
        lines = [line for line in process.communicate()[1].splitlines() if line[:1] != "{"]
    assert len(lines) == 1
    return lines


@contextmanager
def page(body: bytes) -> Iterator[str]:
    """An HTTP server that answers everything with this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/en/market-results"
        finally:
            server.shutdown()
            thread.join()


def test_a_page_that_is_no_csv_is_refused_and_nothing_set(tmp_path: Path) -> None:
    write_tree(KernelModel(MACHINE), tmp_path)
    before = files(tmp_path)
    with page(b"<!DOCTYPE html>\n<html><body>market results</body></html>") as url:
        values = {**NEWEST, "PROVIDER_URL": url}
        (line,) = refused(tmp_path, **values)
    assert line.startswith("kpm: PROVIDER_URL: ")
    assert "<!DOCTYPE html>" in line
    assert files(tmp_path) == before


def test_a_folder_without_data_is_refused_and_nothing_set(tmp_path: Path) -> None:
    write_tree(KernelModel(MACHINE), tmp_path)
    before = files(tmp_path)
    empty = tmp_path / "data"
    empty.mkdir()
    (line,) = refused(tmp_path, DATA_PROVIDER="csv", PROVIDER_URL=str(empty))
    assert line.startswith("kpm: PROVIDER_URL: ")
    assert str(empty) in line
    assert files(tmp_path) == before


# --- the query of the epex provider ---


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that are asked; each answers with a day."""
    found: list[str] = []

    def fetch(address: str, _most: int) -> bytes:
        found.append(address)
        return day()

    monkeypatch.setattr("kpm.powercap.sources.fetch", fetch)
    return found


def ask(url: str, params: str = "", on: date = date(2026, 6, 1)) -> None:
    """Look at the epex provider at ten o'clock of a day."""
    settings = made({"DATA_PROVIDER": "epex", "PROVIDER_URL": url, "PROVIDER_PARAMS": params})
    instant = datetime(on.year, on.month, on.day, 10, tzinfo=UTC)
    sources_of(settings, CapturingLog()).at(instant, 330 * UW)


def query(address: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(address).query))


@pytest.mark.parametrize("traded", [date(2026, 5, 31), date(2027, 12, 31), date(2028, 2, 29)])
def test_a_day_is_traded_the_day_before(seen: list[str], traded: date) -> None:
    """Both dates go along; the day's own as trading date would bring the next day's trades."""
    delivered = traded + timedelta(days=1)
    ask("http://m/x", PARAMS, delivered)
    dates = {"trading_date": str(traded), "delivery_date": str(delivered)}
    assert [query(address) for address in seen] == [{**WORDS, **dates}]


@pytest.mark.parametrize("name", ["trading_date", "delivery_date"])
def test_no_parameter_stands_for_the_day(seen: list[str], name: str) -> None:
    ask("http://m/x?a=1", json.dumps({name: "2020-01-01"}))
    (address,) = seen
    assert address.count(name) == 1
    assert "2020-01-01" not in address
    assert query(address)["a"] == "1"


def test_a_date_in_the_address_is_the_day_and_no_other_goes_along(seen: list[str]) -> None:
    ask("http://m/{date}.csv")
    ask("http://m/{date}.csv", '{"k": 1}')
    assert seen == ["http://m/2026-06-01.csv", "http://m/2026-06-01.csv?k=1"]


# --- annotations ---


def test_the_earlier_tools_mark_goes_with_the_maximum_that_it_stands_for(tmp_path: Path) -> None:
    """With the mark, and without rapl/max_power_uw, theirs never sets a limit again."""
    values = {"DATA_PROVIDER": "static", "MAX_SOURCE": "200000000"}
    with capper(KernelModel(MACHINE), tmp_path, None, **values) as (it, said):
        it.once(NOON)
        assert MARK not in said[-1]  # it is theirs: ours needs none
        it.leave()
        assert said[-1][MARK] is None
        assert said[-1]["rapl/max_power_uw"] is None


def test_the_policy_allows_to_take_the_mark_off_and_not_to_set_it() -> None:
    objects = yaml.safe_load_all((REPO / "deploy/powercap/powercap.yaml").read_text())
    policy = next(item for item in objects if item["kind"] == "ValidatingAdmissionPolicy")
    rules = [rule["expression"] for rule in policy["spec"]["validations"]]
    rule = next(rule for rule in rules if "startsWith" in rule)
    new, _, old = rule.partition("variables.oldAnnotations.all(")
    assert MARK in old
    assert MARK not in new


# --- the page ---


@pytest.mark.parametrize(
    "words",
    [
        ("RAPL_LIMIT", "MAX_SOURCE", "together"),
        ("static", "MAX_SOURCE", "noon"),
        ("POWER_CALC_MODE", "no effect", "average"),
        ("max_power_uw", "MAX_SOURCE", "market", "refused"),
        ("DATA_PROVIDER", "solar", "refused"),
        ("trading_date", "delivery_date"),
        ("web page", "CSV", "refused"),
        ("no market data", "refused"),
        ("DATA_REFRESH_CRON", "no effect"),
        (MARK,),
        ("ALPHA", "RAPL_LIMIT", "STABILISATION_TIME", "decimal"),
    ],
)
def test_the_page_says_what_each_of_it_means_now(words: tuple[str, ...]) -> None:
    """One row of a table of docs/user/migrating.md, From the powercap tool, for each."""
    text = (REPO / "docs/user/migrating.md").read_text(encoding="utf-8")
    section = text.partition("## From the powercap tool")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert [row for row in rows if all(word in row for word in words)]
