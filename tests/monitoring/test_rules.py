"""Recording rules and alerts by promtool's own judgement, and the files of deploy/monitoring as
make.py writes them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring.prometheus_server import REPO, RULES, promtool

TESTS = Path(__file__).with_name("rules_test.yaml")
FOLDER = REPO / "deploy/monitoring"


def rules(path: Path = RULES) -> list[dict[str, Any]]:
    """All rules of a file."""
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


@pytest.mark.monitoring
def test_prometheus_takes_the_rules() -> None:
    """`promtool check rules` has nothing to say, by its lint neither."""
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f"SUCCESS: {len(rules())} rules found" in done.stdout


@pytest.mark.monitoring
def test_every_rule_and_alert_does_what_it_should() -> None:
    """The unit tests in rules_test.yaml pass."""
    done = promtool("test", "rules", str(TESTS))
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_rule_is_without_its_tests() -> None:
    """Each recorded name is asked for; each alert fires once and is silent once."""
    tests = yaml.safe_load(TESTS.read_text())["tests"]
    asked = " ".join(item["expr"] for test in tests for item in test.get("promql_expr_test", ()))
    for name in (rule["record"] for rule in rules() if "record" in rule):
        assert name in asked, name
    judged = [
        (item["alertname"], bool(item["exp_alerts"]))
        for test in tests
        for item in test.get("alert_rule_test", ())
    ]
    for name in (rule["alert"] for rule in rules() if "alert" in rule):
        assert {fires for alert, fires in judged if alert == name} == {True, False}, name


def test_the_files_are_what_their_sources_make(tmp_path: Path) -> None:
    """`make monitoring` would change nothing, and leaves nothing out."""
    subprocess.run(
        [sys.executable, str(FOLDER / "make.py"), str(tmp_path)], check=True, cwd=tmp_path
    )
    made = {
        str(path.relative_to(tmp_path)): path.read_text()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert made.keys() == {
        "rules.yaml",
        "prometheusrule.yaml",
        *(f"dashboards/{path.name}" for path in (FOLDER / "dashboards").iterdir()),
    }
    for name, text in made.items():
        assert (FOLDER / name).read_text() == text, f"{name}: run make monitoring"


def test_the_operators_object_holds_the_same_groups() -> None:
    """prometheusrule.yaml, which the Prometheus operator reads, and rules.yaml, which Prometheus
    does.
    """
    document = yaml.safe_load((FOLDER / "prometheusrule.yaml").read_text())
    assert (document["apiVersion"], document["kind"]) == (
        "monitoring.coreos.com/v1",
        "PrometheusRule",
    )
    assert document["spec"] == yaml.safe_load(RULES.read_text())
