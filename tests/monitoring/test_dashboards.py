"""The dashboards by Grafana's own schema, and their queries by the names that there are; what the
queries return is in test_prometheus.py.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client import CollectorRegistry, generate_latest

from kpm.agent.metrics import AgentMetrics
from kpm.energy.collector import EnergyMeter, EnergySettings
from kpm.energy.names import known_containers
from kpm.energy.sampler import Roots, Sampler
from kpm.formats.pods import structure_pod
from kpm.process.logs import make_log
from kpm.request.machines import MODELS, MachineSpec, PowerSpec, build_machine
from kpm_applier.kernel_model.model import KernelModel
from tests.applier.power import RAPL, put_zone
from tests.kpm.tree_samples import CPU, put
from tests.monitoring.prometheus_server import REPO, RULES, promtool
from tests.trees import write_tree

FILES = sorted((REPO / "deploy/monitoring/dashboards").glob("*.json"))
#: Words of the query language that are not followed by a bracket where they are used.
WORDS = {
    "and",
    "or",
    "unless",
    "offset",
    "bool",
    "group_left",
    "group_right",
    "by",
    "without",
    "on",
    "ignoring",
}
UID = "0a1b2c3d-0000-4000-8000-000000000001"
CONTAINER = "ab" * 32

each_dashboard = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def queries(dashboard: dict[str, Any]) -> Iterator[str]:
    """What panels and variables ask."""
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.*), *\w+\)", variable["query"])
            assert found, variable
            yield found[1]


def metrics_of(query: str) -> set[str]:
    """The metrics that a query names."""
    text = re.sub(r'"(?:[^"\\]|\\.)*"', "", query)
    text = re.sub(r"\{[^}]*\}|\[[^]]*\]|\$\w+|\b(?:by|without|on|ignoring)\s*\([^)]*\)", " ", text)
    found = re.findall(r"(?<![\w.])([A-Za-z_:][\w:]*)(?!\s*\()(?![\w:])", text)
    return {name for name in found if name not in WORDS}


def exposed(folder: Path) -> set[str]:
    """The metrics of an agent that measures a small machine, made of files, with one pod."""
    model = build_machine(
        MachineSpec(
            cores=2,
            idle_driver="intel_idle",
            idle_states=MODELS["xeon"].idle_states,
            power=PowerSpec(),
        )
    )
    write_tree(KernelModel(model), folder)
    sysfs, proc, cgroup = folder / "sys", folder / "proc", folder / "cgroup"
    put_zone(sysfs, f"{RAPL}/intel-rapl:0/intel-rapl:0:0", "dram", ())
    put_zone(sysfs, f"{RAPL}/intel-rapl:0/intel-rapl:0:1", "core", ())
    (sysfs / f"{RAPL}/intel-rapl:0/intel-rapl:0:1/energy_uj").write_text("not now\n")
    put(cgroup, "cgroup.controllers", "cpu")
    pod = structure_pod(
        {
            "metadata": {"name": "web", "namespace": "shop", "uid": UID},
            "spec": {
                "nodeName": "one",
                "containers": [{"name": "app", "resources": {"requests": {"cpu": "1"}}}],
            },
            "status": {
                "containerStatuses": [{"name": "app", "containerID": f"containerd://{CONTAINER}"}]
            },
        }
    )
    sampler = Sampler(Roots(str(sysfs), str(proc), str(cgroup)))
    meter = EnergyMeter("one", EnergySettings(proc=str(proc)), sampler, make_log("energy", "error"))
    meter.follow(model, *known_containers([pod], (), ()), {0: "shared", 1: "shared"})
    for turn in (1, 2):
        put(
            proc,
            "stat",
            f"cpu  0 0 0 0\ncpu0 {turn * 5} 0 0 {turn * 5}\ncpu1 {turn * 2} 0 0 {turn * 8}",
        )
        put(cgroup, f"kubepods/pod{UID}/{CONTAINER}/cpu.stat", f"usage_usec {turn * 40_000}")
        for zone in ("", "/intel-rapl:0:0"):
            put(sysfs, f"{RAPL}/intel-rapl:0{zone}/energy_uj", turn * 1_000_000)
        for cpu in (0, 1):
            put(sysfs, f"{CPU}/cpufreq/policy{cpu}/scaling_cur_freq", 1_500_000)
            for state in range(4):
                put(sysfs, f"{CPU}/cpu{cpu}/cpuidle/state{state}/time", turn * 1000)
        meter.sample()
        time.sleep(0.02)  # some time has to pass for energy to have passed
    registry = CollectorRegistry()
    AgentMetrics.on(registry)
    text = (generate_latest(registry) + meter.metrics("127.0.0.1")).decode()
    sampler.close()
    return set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """All metrics that an agent tells or a rule records."""
    recorded = {
        rule["record"]
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    return exposed(tmp_path_factory.mktemp("exposed")) | recorded


def test_there_are_four_dashboards_and_kustomize_takes_them_all() -> None:
    """Each file is in the ConfigMap that Grafana's sidecar finds; no two have one uid or title."""
    kustomization = yaml.safe_load((REPO / "deploy/monitoring/kustomization.yaml").read_text())
    assert sorted(kustomization["configMapGenerator"][0]["files"]) == [
        f"dashboards/{path.name}" for path in FILES
    ]
    assert [path.stem for path in FILES] == ["cluster", "node", "pod", "savings"]
    for name in ("uid", "title"):
        assert max(Counter(read(path)[name] for path in FILES).values()) == 1, name


@each_dashboard
def test_a_dashboard_is_one_by_grafanas_own_types(path: Path) -> None:
    """Read as Grafana's types and written again, nothing is lost or added."""
    register_default_plugins()
    document = read(path)
    again = json.loads(json.dumps(Dashboard.from_json(document), cls=JSONEncoder))
    for panel in (*again["panels"], *document["panels"]):
        if panel["fieldConfig"]["defaults"].get("custom") == {}:  # the types add one that is empty
            del panel["fieldConfig"]["defaults"]["custom"]
    assert again == document


@each_dashboard
def test_no_panel_lies_on_another_or_outside_of_the_grid(path: Path) -> None:
    """Every panel has a place of its own in the 24 columns."""
    places = [(panel["title"], panel["gridPos"]) for panel in read(path)["panels"]]
    for title, at in places:
        assert at["x"] >= 0, title
        assert at["y"] >= 0, title
        assert at["w"] > 0, title
        assert at["h"] > 0, title
        assert at["x"] + at["w"] <= 24, title
    for (one, a), (other, b) in combinations(places, 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, (one, other)
    rows = sorted({at["y"] for _, at in places})
    assert all(
        upper + max(at["h"] for _, at in places if at["y"] == upper) >= lower
        for upper, lower in pairwise(rows)
    ), "an empty stripe"


@each_dashboard
def test_a_dashboard_says_what_it_shows(path: Path) -> None:
    """Every panel has its own title, a unit and queries with a letter each; every variable that a
    query uses is there.
    """
    dashboard = read(path)
    titles = [panel["title"] for panel in dashboard["panels"]]
    assert len(set(titles)) == len(titles)
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    for panel in dashboard["panels"]:
        letters = [target["refId"] for target in panel["targets"]]
        assert letters, panel["title"]
        assert len(set(letters)) == len(letters), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    used = {name for query in queries(dashboard) for name in re.findall(r"\$\{?(\w+)", query)}
    assert used <= variables | {"__range", "__range_s", "__interval", "__rate_interval"}
    assert variables - {"datasource"} <= used, "a variable that nothing uses"


@each_dashboard
def test_variables_have_ids_of_their_own(path: Path) -> None:
    """Grafana 8 to 10 keeps a dashboard's variables by their id: of those with one id only the last
    is left.
    """
    ids = [variable.get("id", variable["name"]) for variable in read(path)["templating"]["list"]]
    assert len(set(ids)) == len(ids), ids


@each_dashboard
def test_a_table_of_several_queries_merges_them(path: Path) -> None:
    """Grafana shows one query's rows of a table at a time, unless they are merged."""
    tables = [
        panel
        for panel in read(path)["panels"]
        if panel["type"] == "table" and len(panel["targets"]) > 1
    ]
    apart = [
        panel["title"]
        for panel in tables
        if "merge" not in [item["id"] for item in panel["transformations"]]
    ]
    assert not apart


@each_dashboard
def test_queries_name_only_metrics_that_there_are(path: Path, known: set[str]) -> None:
    """Whatever a panel or a variable asks for is told by the agent or recorded by a rule."""
    for query in queries(read(path)):
        found = metrics_of(query)
        assert found, query
        assert found <= known, query


def test_rules_name_only_metrics_that_there_are(known: set[str]) -> None:
    """So do rules and alerts; `up` is Prometheus' own."""
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            assert metrics_of(rule["expr"]) <= known | {"up"}, rule


@pytest.mark.monitoring
def test_what_a_machine_does_not_support_is_no_fault(tmp_path: Path) -> None:
    """The conditions of a machine without uncore, whose intent is wrong, and of one that drifts."""
    (cluster,) = [path for path in FILES if path.stem == "cluster"]
    (query,) = [
        panel["targets"][0]["expr"]
        for panel in read(cluster)["panels"]
        if panel["title"] == "Conditions that are not as they should be"
    ]
    series = [
        {
            "series": f'kpm_agent_condition{{node="{node}",type="{kind}",reason="R"}}',
            "values": value,
        }
        for node, kind, value in (
            ("one", "UncoreSupported", "0x9"),
            ("one", "Ready", "1x9"),
            ("one", "IntentValid", "0x9"),
            ("one", "Drifted", "0x9"),
            ("two", "Drifted", "1x9"),
        )
    ]
    wanted = [
        {"labels": f'{{node="{node}",type="{kind}",reason="R"}}', "value": value}
        for node, kind, value in (("one", "IntentValid", 0), ("two", "Drifted", 1))
    ]
    asked = [{"expr": query, "eval_time": "3m", "exp_samples": wanted}]
    path = tmp_path / "conditions_test.yaml"
    tests = [{"interval": "30s", "input_series": series, "promql_expr_test": asked}]
    path.write_text(yaml.safe_dump({"tests": tests}))
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_metrics_of_a_query() -> None:
    """The reading of queries above reads them rightly."""
    assert metrics_of(
        'sum by (a, b) (rate(x_total{c=~"y|z"}[5m])) / on (p) group_left count by (p)'
        ' (q:r{n=~"$node"} > 0) * 3.6e6 * $price'
    ) == {"x_total", "q:r"}
    assert metrics_of("topk(10, a:b) offset 1d or (c unless d and on (node) e)") == {
        "a:b",
        "c",
        "d",
        "e",
    }
