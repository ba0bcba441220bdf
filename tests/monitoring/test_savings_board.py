"""The dashboard of savings by promtool's own judgement: what its queries make of series whose means
are known, and that there is no figure without a reference.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from statistics import mean, variance
from typing import Any

import pytest
import yaml

from kpm_planner.energy.savings import compare
from tests.monitoring.prometheus_server import REPO, promtool
from tests.programs import load_program

BOARD = json.loads((REPO / "deploy/monitoring/dashboards/savings.json").read_text())
PICTURES = load_program("docs/make_dashboard_pictures.py")
STATS = ("Energy saved", "Money saved", "CO2e saved, grams")
PERIODS, GROUPS = "Power then and now", "Power of nodes beside other nodes"
#: A day of ten minutes, whose windows are a minute: so many samples, half a minute apart.
WINDOW, SAMPLES = 2, 20
CHOSEN = {
    "profile": ".*",
    "price": "0.30",
    "carbon": "380",
    "window": "1m",
    "reference": "offset 20m",
    "nodes": "new-.*",
    "others": "old-.*",
}


def asked(title: str, **chosen: str) -> dict[str, str]:
    """Query of a panel by the name of its column or its legend, with its variables filled in."""
    (panel,) = [panel for panel in BOARD["panels"] if panel["title"] == title]
    values = {**PICTURES.values_of(BOARD, 600), **CHOSEN, **chosen}
    names: dict[str, str] = {}
    for item in panel.get("transformations", ()):
        names |= item["options"].get("renameByName", {})
    return {
        names.get(f"Value #{target['refId']}", target["legendFormat"]): PICTURES.fill(
            target["expr"], values
        )
        for target in panel["targets"]
    }


def judged(tests: list[dict[str, Any]], folder: Path) -> None:
    """promtool finds every expected sample, and no other."""
    path = folder / "savings_test.yaml"
    path.write_text(yaml.safe_dump({"evaluation_interval": "30s", "tests": tests}))
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def expectation(query: str, value: float | None, at: str = "30m") -> dict[str, Any]:
    """One value of the profile "fast", to a thousandth; None: no sample."""
    if value is None:
        return {"expr": query, "eval_time": at, "exp_samples": []}
    found = {"labels": '{profile="fast"}', "value": round(value * 1000)}
    return {"expr": f"round(({query}) * 1000)", "eval_time": at, "exp_samples": [found]}


def interval(then: list[float], now: list[float]) -> tuple[float, float, float]:
    """What was saved, at least and at most, as the head of savings.py tells it."""
    freedom = min(len(then), len(now)) - 1
    quantile = 1.96 + 2.4 / freedom + 3.2 / freedom**2
    reach = quantile * (variance(then) / len(then) + variance(now) / len(now)) ** 0.5
    saved = mean(then) - mean(now)
    return saved, saved - reach, saved + reach


def series(name: str, values: list[float]) -> dict[str, str]:
    return {"series": name, "values": " ".join(f"{value:g}" for value in values)}


def over_time(seed: int) -> tuple[dict[str, str], list[float], list[float]]:
    """Half an hour of a profile's power, and the means of windows in the first and the last ten
    minutes, that are looked at from the end.
    """
    chance = random.Random(seed)
    low, high = chance.randint(10, 200), chance.randint(10, 400)
    watts = [float(low + high * (place < SAMPLES) + chance.randint(0, 40)) for place in range(61)]
    windows = [mean(watts[max(end - WINDOW, 0) : end + 1]) for end in range(0, 61, WINDOW)]
    name = 'kpm:cluster_profile_power:watts{profile="fast"}'
    # a window holds both its ends, and so does a range: eleven windows in ten minutes
    return series(name, watts), windows[:11], windows[-11:]


@pytest.mark.parametrize("freedom", range(4, 200))
def test_the_interval_is_hardly_ever_narrower_than_welchs(freedom: int) -> None:
    """The fewer of both as degrees of freedom, and a quantile within 1 %."""
    chance = random.Random(freedom)
    then = [chance.gauss(100, 9) for _ in range(freedom + 1)]
    now = [chance.gauss(90, chance.choice((2, 9, 30))) for _ in range(freedom + 1)]
    exact = compare(then, now)
    saved, low, high = interval(then, now)
    assert saved == pytest.approx(exact.saved)
    assert exact.low is not None
    assert exact.high is not None
    assert high - low >= 0.985 * (exact.high - exact.low)


@pytest.mark.monitoring
def test_figures_are_those_of_the_means(tmp_path: Path) -> None:
    """For twelve days of random power: means, difference and interval, and joules, money and grams
    of them.
    """
    tests = []
    for seed in range(12):
        line, then, now = over_time(seed)
        saved, low, high = interval(then, now)
        table = asked(PERIODS)
        values = {"then": mean(then), "now": mean(now), "saved": saved}
        values |= {"at least": low, "at most": high}
        wanted = [expectation(table[name], value) for name, value in values.items()]
        for title, factor in zip(STATS, (1, 0.30 / 3.6e6, 380 / 3.6e6), strict=True):
            queries = asked(title)
            for name, value in (("saved", saved), ("at least", low), ("at most", high)):
                query = queries[f"{{{{profile}}}} {name}"]
                wanted.append(expectation(query, value * 600 * factor))
        tests.append({"interval": "30s", "input_series": [line], "promql_expr_test": wanted})
    judged(tests, tmp_path)


@pytest.mark.monitoring
def test_there_is_no_figure_without_a_reference(tmp_path: Path) -> None:
    """Nothing chosen, no data at that time, or fewer than five windows: no value at all."""
    line, _, _ = over_time(1)
    wanted = []
    for chosen in (
        {"reference": "@ 0"},
        {"reference": "offset 7d"},
        {"window": "3m"},
        {"reference": "offset 29m"},
    ):
        for title in (*STATS, PERIODS):
            for query in asked(title, **chosen).values():
                wanted.append(expectation(query, None))
    judged([{"interval": "30s", "input_series": [line], "promql_expr_test": wanted}], tmp_path)
    assert len(wanted) == 4 * (9 + 9)


@pytest.mark.monitoring
@pytest.mark.parametrize("nodes", [4, 5, 9])
def test_groups_of_nodes_have_a_figure_from_five_of_each(nodes: int, tmp_path: Path) -> None:
    """Each node is one measurement, whatever its pools."""
    chance = random.Random(nodes)
    watts = {
        f"{group}-{number}": [float(chance.randint(low, low + 20)) for _ in range(2)]
        for group, low in (("old", 60), ("new", 40))
        for number in range(nodes)
    }
    lines = [
        series(
            f'kpm:profile_power:watts{{node="{node}",pool="{pool}",profile="fast"}}', [value] * 61
        )
        for node, pools in watts.items()
        for pool, value in zip(("shared", "exclusive"), pools, strict=True)
    ]
    then, now = (
        [sum(pools) for node, pools in watts.items() if node.startswith(group)]
        for group in ("old", "new")
    )
    saved, low, high = interval(then, now)
    values = {"of the others": mean(then), "of the nodes": mean(now), "saved a node": saved}
    values |= {"at least": low, "at most": high, "others": nodes, "nodes": nodes}
    table = asked(GROUPS)
    known = nodes >= 5
    wanted = [expectation(table[name], value if known else None) for name, value in values.items()]
    wanted += [expectation(query, None) for query in asked(GROUPS, others="").values()]
    judged([{"interval": "30s", "input_series": lines, "promql_expr_test": wanted}], tmp_path)
