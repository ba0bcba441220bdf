"""kpm powercap: the earlier tool's settings do what they say, on packages, and leave nothing
behind.
"""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kpm.kube.api import ApiError
from kpm.powercap.capper import Annotations, Capper, annotator
from kpm.powercap.settings import Provider, read_environment
from kpm.powercap.sources import Sources, sources_of
from kpm.process.errors import InputError
from kpm.request.machines import MachineSpec, PowerSpec, build_machine
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.session import Applier
from kpm_applier.state.store import StateStore
from kpm_planner.caps.legacy_tool import (
    CalcMode,
    CapSettings,
    PmaxFunc,
    Trade,
    capped,
    market_uw,
    maximum_uw,
    pmax_uw,
    solar_uw,
)
from kpm_planner.model.machine import PowerLimit, PowerZone
from kpm_planner.model.quantities import UW
from tests.captured import CapturingLog
from tests.powercap.test_trades import day
from tests.trees import write_tree

MACHINE = build_machine(
    MachineSpec(packages=2, cores=2, power=PowerSpec(max_watts=165, short_watts=198))
)
NOON = datetime(2026, 6, 1, 10, tzinfo=UTC)  # in Paris


def environment(**values: str) -> Any:
    return read_environment({"NODE_NAME": "n", **values})


@contextmanager
def capper(
    model: KernelModel,
    folder: Path,
    read: Callable[[str, date], bytes] | None = None,
    **values: str,
) -> Iterator[tuple[Capper, list[Annotations]]]:
    """A capper on a kernel, and what it says on its Node."""
    said: list[Annotations] = []
    applier = Applier(model, StateStore(str(folder / "state"), "/model", live=False))
    applier.open()
    settings, log = environment(**values), CapturingLog()
    sources = sources_of(settings, log) if read is None else Sources(settings, log, read)

    def say(changes: Annotations) -> bool:
        said.append(changes)
        return True

    yield Capper(settings, applier, sources, say, log), said
    applier.close()


def shown(model: KernelModel) -> dict[str, tuple[int, int]]:
    """Long- and short-term limit of each zone, W."""
    found = {}
    for zone in MACHINE.power_zones:
        long, short = (model.power.limits[f"{zone.id}/{limit.file}"] // UW for limit in zone.limits)
        found[zone.name] = (long, short)
    return found


# --- settings ---


def test_every_setting_has_the_default_that_users_know() -> None:
    found = environment()
    assert found.settings == CapSettings(
        40_000_000, 4, 10_000_000, None, PmaxFunc.MAX, CalcMode.MAX
    )
    assert (found.stabilisation, found.provider, str(found.zone)) == (
        300,
        Provider.SOLAR,
        "Europe/Paris",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NODE_NAME", ""),
        ("MAX_SOURCE", "-1"),
        ("MAX_SOURCE", "40 W"),
        ("STABILISATION_TIME", "0"),
        ("ALPHA", "0"),
        ("ALPHA", "1e3"),
        ("RAPL_MIN_POWER", "x"),
        ("RAPL_LIMIT", "101"),
        ("PMAX_FUNC", "median"),
        ("DATA_PROVIDER", "entsoe"),
        ("PROVIDER_PARAMS", "[1]"),
        ("PROVIDER_PARAMS", "{"),
        ("TIMEZONE", "Europe/Nowhere"),
        ("TIMEZONE", "../../etc/passwd"),
        ("POWER_CALC_MODE", "median"),
        ("MAX_SOURCE", "9" * 30),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(name: str, value: str) -> None:
    with pytest.raises(InputError, match=f"^{name}: .*(expected|needed)"):
        environment(**{name: value})


def test_a_provider_that_needs_an_address_says_so() -> None:
    for provider, url in (("csv", ""), ("epex", ""), ("epex", "file:///etc")):
        with pytest.raises(InputError, match="PROVIDER_URL"):
            environment(DATA_PROVIDER=provider, PROVIDER_URL=url)


# --- arithmetic ---


def test_the_sun_gives_nothing_at_night() -> None:
    """The earlier tool raised a negative sine to an even power and gave a quarter of full power at
    midnight (field report 57).
    """
    settings = CapSettings(max_source_uw=40 * UW)
    assert solar_uw(settings, 12 * 60) == 40 * UW
    assert [solar_uw(settings, hour * 60) for hour in (0, 3.99, 20.01, 23.99)] == [0, 0, 0, 0]
    assert solar_uw(settings, 8 * 60) == pytest.approx(40 * UW / 4, rel=1e-6)


@given(st.floats(0, 1440, exclude_max=True), st.integers(1, 16))
def test_the_sun_is_never_above_its_peak_nor_below_nothing(minute: float, alpha: int) -> None:
    assert 0 <= solar_uw(CapSettings(alpha=alpha), minute) <= 40_000_000


@given(
    st.lists(st.floats(0, 1e4), min_size=1, max_size=96),
    st.integers(0, 95),
    st.integers(1, 10**9),
    st.sampled_from(CalcMode),
)
def test_a_market_never_gives_more_than_the_maximum(
    volumes: list[float], index: int, maximum: int, mode: CalcMode
) -> None:
    trades = [
        Trade(number * 15, number * 15 + 15, volume, 1.0) for number, volume in enumerate(volumes)
    ]
    found = market_uw(trades, trades[index % len(trades)], maximum, mode)
    assert 0 <= found <= maximum
    if mode is CalcMode.MAX and max(volumes) > 0:
        assert (
            market_uw(trades, max(trades, key=lambda trade: trade.volume), maximum, mode) == maximum
        )


def test_pmax_is_made_of_the_limits_that_were_there() -> None:
    """Those of 0 are left out; the maximum is of firmware's own long-term maxima, never of a limit
    in force (field report 36).
    """
    zones = MACHINE.power_zones
    assert [pmax_uw(zones, func) // UW for func in PmaxFunc] == [165, 198, 181, 726]
    assert maximum_uw(zones) == 330 * UW
    low = evolve(
        zones[0], limits=tuple(evolve(limit, limit_uw=20 * UW) for limit in zones[0].limits)
    )
    assert maximum_uw((low, zones[1])) == 330 * UW
    assert (
        maximum_uw((evolve(zones[0], limits=(evolve(zones[0].limits[0], max_uw=None),)), zones[1]))
        is None
    )
    assert pmax_uw((), PmaxFunc.AVG) == 0


_LIMITS = st.integers(0, 400).map(lambda watts: watts * UW)


@given(
    st.lists(
        st.tuples(
            _LIMITS,
            _LIMITS,
            st.one_of(st.none(), st.integers(20, 400).map(lambda watts: watts * UW)),
        ),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, 10**10),
    st.one_of(st.none(), st.integers(0, 100)),
    st.integers(1, 50 * UW),
)
def test_packages_share_the_nodes_power(
    limits: list[tuple[int, int, int | None]], source: int, floor: int | None, least: int
) -> None:
    """Not one number for every socket: the parts sum to the budget at most, no long-term limit is
    above its maximum, short never below long (field report 36).
    """
    zones = tuple(
        PowerZone(
            f"z{number}",
            f"package-{number}",
            "intel-rapl",
            number,
            None,
            True,
            (
                PowerLimit("long_term", "l", long, top),
                PowerLimit("short_term", "s", max(long, short)),
            ),
        )
        for number, (long, short, top) in enumerate(limits)
    )
    found = capped(CapSettings(ratio_floor=floor, min_uw=least), zones, source)
    for target in found.targets:
        long, short = target.limits
        before = target.zone.limits
        if floor is None:
            assert long is not None
            assert long <= (before[0].max_uw or long)
            assert (short if short is not None else before[1].limit_uw or 0) >= long
        else:
            assert long is None or long <= (before[0].limit_uw or 0)
            assert long is None or short is None or short >= long
    if floor is None:
        assert found.uw <= max(source, least * len(zones))


def test_limits_are_scaled_not_below_the_floor() -> None:
    """RAPL_LIMIT: each constraint's own limit of the start by one ratio, the packages together
    within the source (two of 165 W under 82.5 W).
    """
    zones = MACHINE.power_zones
    half = capped(CapSettings(ratio_floor=40, pmax_func=PmaxFunc.MIN), zones, 165 * UW // 2)
    assert [tuple(limit // UW for limit in target.limits if limit) for target in half.targets] == [
        (66, 79),
        (66, 79),
    ]
    night = capped(CapSettings(ratio_floor=40), zones, 0)
    assert [target.limits[0] for target in night.targets] == [66 * UW, 66 * UW]
    assert [
        target.limits[0] for target in capped(CapSettings(ratio_floor=40), zones, 10**9).targets
    ] == [165 * UW, 165 * UW]


# --- a node ---


def test_a_source_is_divided_and_everything_put_back(tmp_path: Path) -> None:
    """Also the switch; and the Node says what is in force by the files (field report
    69).
    """
    model = KernelModel(MACHINE)
    before = dict(model.power.limits), dict(model.power.switches)
    with capper(model, tmp_path, DATA_PROVIDER="static", MAX_SOURCE="200000000") as (made, said):
        assert made.once(NOON).settled
        assert shown(model) == {"package-0": (100, 198), "package-1": (100, 198)}
        assert said == [
            {
                "rapl/pmax": "200000000",
                "rapl/max_power_uw": "330000000",
                "rapl/provider": "static",
                "rapl/last-update": "2026-06-01T10:00:00Z",
                "rapl/market-period": None,
                "rapl/market-volume": None,
                "rapl/market-price": None,
            }
        ]
        assert made.once(NOON + timedelta(minutes=5)).writes == ()
        assert len(said) == 1
        made.leave()
        assert set(said[-1].values()) == {None}
    assert (model.power.limits, model.power.switches) == before


def test_a_market_day_sets_the_share_of_its_volume(tmp_path: Path) -> None:
    with capper(
        KernelModel(MACHINE),
        tmp_path,
        lambda _url, _day: day(0.0),
        DATA_PROVIDER="csv",
        PROVIDER_URL="/data",
    ) as (made, said):
        made.once(datetime(2026, 6, 1, 21, 50, tzinfo=UTC))  # 23:50 in Paris: the last quarter
        assert said[-1]["rapl/market-period"] == "23:45-24:00"
        assert said[-1]["rapl/pmax"] == "330000000"
        assert (said[-1]["rapl/market-volume"], said[-1]["rapl/market-price"]) == ("95.0", "5.00")
        made.once(datetime(2026, 6, 1, 10, tzinfo=UTC))
        assert said[-1]["rapl/market-period"] == "12:00-12:15"
        assert abs(int(str(said[-1]["rapl/pmax"])) - 330 * UW * 48 // 95) < UW // 4


def test_each_day_is_read_anew_and_yesterday_stands_in(tmp_path: Path) -> None:
    """The earlier tool read data once and silently used them for ever (field report 57)."""
    files = {date(2026, 6, 1): day(10.0), date(2026, 6, 3): day(30.0)}
    asked: list[date] = []

    def read(_: str, wanted: date) -> bytes:
        asked.append(wanted)
        if wanted not in files:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(wanted))
        return files[wanted]

    with capper(
        KernelModel(MACHINE),
        tmp_path,
        read,
        DATA_PROVIDER="csv",
        PROVIDER_URL="/data",
        TIMEZONE="UTC",
    ) as (made, said):
        volumes = []
        for hours in (0, 1, 25, 26, 49, 100):
            made.once(datetime(2026, 6, 1, tzinfo=UTC) + timedelta(hours=hours))
            volumes.append(said[-1]["rapl/market-volume"])
        assert volumes == ["10.0", "14.0", "14.0", "18.0", "34.0", None]
        assert asked[:4] == [date(2026, 6, 1), date(2026, 6, 2), date(2026, 6, 2), date(2026, 6, 3)]
        # nothing for two days: RAPL_MIN_POWER for each package, as before
        assert said[-1]["rapl/pmax"] == "20000000"


def test_a_locked_limit_is_not_told_as_done(tmp_path: Path) -> None:
    """Nor does the annotation tell of success then (field reports 35, 69)."""
    model = KernelModel(MACHINE)
    model.power.locked.update(zone.id for zone in MACHINE.power_zones)
    with capper(model, tmp_path, DATA_PROVIDER="static", MAX_SOURCE="200000000") as (made, said):
        assert not made.once(NOON).settled
        assert said[-1]["rapl/pmax"] == "330000000"
        lines = cast(CapturingLog, made.log).calls
        assert [level for level, event, _ in lines if event == "limit"].count("warning") >= 2


def test_annotations_that_failed_are_tried_again(tmp_path: Path) -> None:
    """At the next look, until they are there."""
    with capper(KernelModel(MACHINE), tmp_path, DATA_PROVIDER="static", MAX_SOURCE="200000000") as (
        made,
        _,
    ):
        answers: list[bool] = [False, False, True]
        asked: list[Annotations] = []

        def annotate(changes: Annotations) -> bool:
            asked.append(changes)
            return answers[len(asked) - 1]

        made.annotate = annotate
        for _ in range(5):
            made.once(NOON)
        assert len(asked) == 3


def test_the_least_power_holds_for_scaled_limits_too() -> None:
    """RAPL_MIN_POWER is the least of a package whether or not RAPL_LIMIT is set."""
    found = capped(CapSettings(ratio_floor=40, min_uw=120 * UW), MACHINE.power_zones, 0)
    assert [target.limits[0] for target in found.targets] == [120 * UW, 120 * UW]


def test_a_machine_without_limits_is_no_error(tmp_path: Path) -> None:
    """Field report 37."""
    with capper(KernelModel(build_machine(MachineSpec())), tmp_path) as (made, said):
        assert made.once(NOON).settled
        made.leave()
    assert said == [dict.fromkeys(said[0], None)]


def test_annotations_are_a_patch_of_just_these_keys() -> None:
    """No Update of the whole Node, no conflict (field report 7); without an API server, or one that
    refuses, capping goes on.
    """
    calls: list[Any] = []

    class Refusing:
        def patch(self, resource: Any, name: str, body: Any) -> None:
            calls.append((resource.plural, name, body))
            raise ApiError(403, "Forbidden", "no")

    log = CapturingLog()
    assert not annotator(Refusing(), "n", log)({"rapl/pmax": "1"})  # type: ignore[arg-type]
    assert annotator(None, "n", log)({"rapl/pmax": "1"})
    assert calls == [("nodes", "n", {"metadata": {"annotations": {"rapl/pmax": "1"}}})]
    assert [event for _, event, _ in log.calls] == ["annotations failed"]


# --- the process ---


@contextmanager
def run(folder: Path, *words: str, **values: str) -> "Iterator[subprocess.Popen[str]]":
    """A process of it on the files of a folder; it is gone at the end."""
    command = [
        sys.executable,
        "-m",
        "kpm",
        "powercap",
        "--sysfs",
        str(folder / "sys"),
        "--state-dir",
        str(folder / "state"),
        "--no-annotations",
        *words,
    ]
    surroundings: Mapping[str, str] = {
        "PATH": os.environ["PATH"],
        "NODE_NAME": "n",
        "DATA_PROVIDER": "static",
        "MAX_SOURCE": "100000000",
        **values,
    }
    with subprocess.Popen(
        command, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in (folder / "sys/devices/virtual").rglob("*")
        if path.is_file()
    }


def wait_until_capped(folder: Path) -> None:
    until = time.monotonic() + 20
    while list(map(str.strip, files(folder).values())).count("50000000") < 2:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_process_puts_everything_back_when_it_is_told_to_stop(tmp_path: Path) -> None:
    """On real files; a second one is refused meanwhile; after a kill the next one still knows what
    was there (field report 8).
    """
    write_tree(KernelModel(MACHINE), tmp_path)
    before = files(tmp_path)
    with run(tmp_path):
        wait_until_capped(tmp_path)
        with run(tmp_path, "--once") as second:
            assert second.wait(20) == 1
            assert "only one writer" in second.communicate()[1]
    wait_until_capped(tmp_path)
    with run(tmp_path) as again:
        assert again.stderr is not None
        while "powercap started" not in again.stderr.readline():
            pass
        again.terminate()
        assert again.wait(20) == 0
    assert files(tmp_path) == before


def test_a_wrong_environment_is_one_line(tmp_path: Path) -> None:
    write_tree(KernelModel(MACHINE), tmp_path)
    with run(tmp_path, "--once", ALPHA="many") as process:
        assert process.wait(20) == 2
        assert process.communicate()[1].splitlines() == [
            "kpm: ALPHA: expected a number from 1 to 16, got 'many'"
        ]
