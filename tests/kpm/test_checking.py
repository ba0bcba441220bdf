"""kpm validate: every fault of every file in one run, each with file, document and line, with a
hint where what is meant can be guessed; pods and templates are looked at too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.kpm.cli_rig import Ran, kpm
from tests.kpm.object_samples import as_yaml, node, profile

HEAD = "apiVersion: power.openshift.io/v1\nkind: {}\nmetadata: {{name: it}}\n"


def checked(tmp_path: Path, *texts: str) -> tuple[Ran, list[dict[str, Any]]]:
    """The run on files a.yaml, b.yaml and so on, and its problems."""
    words: list[object] = []
    for name, text in zip("abcdef", texts, strict=False):
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        words += ["-f", path]
    return kpm("validate", *words), json.loads(kpm("validate", *words, "-o", "json").out)[
        "problems"
    ]


def test_objects_that_are_for_none_of_the_nodes_given_are_named(tmp_path: Path) -> None:
    """Without a Node nothing is "here", and nothing is said."""
    here = profile("here", nodeSelector={"labelSelector": {"matchLabels": {"zone": "a"}}})
    away = profile("away", nodeSelector={"labelSelector": {"matchLabels": {"zone": "b"}}})
    path = tmp_path / "a.yaml"
    path.write_text(as_yaml(here, away))
    alone = kpm("validate", "-f", path)
    assert (alone.code, "not in force" in alone.out) == (0, False)
    nodes = as_yaml(node("n", zone="a"), node("m", zone="a"), node("n", zone="a"))
    ran = kpm("validate", "-f", path, "-f", "-", stdin=as_yaml(node("n", zone="a")))
    assert ran.code == 0
    (line,) = [line for line in ran.out.splitlines() if "not in force" in line]
    assert line.startswith("PowerProfile/away is not in force on n: ")
    assert "zone" in line
    words = ("validate", "-f", path, "-f", "-", "-o", "json")
    found = json.loads(kpm(*words, stdin=as_yaml(node("n", zone="a"))).out)["notInForce"]
    assert [(item["node"], item["object"]) for item in found] == [("n", "PowerProfile/away")]
    assert kpm("validate", "-f", path, "-f", "-", stdin=nodes).code == 2, "a node given twice"


def test_one_fault_hides_no_other(tmp_path: Path) -> None:
    """Neither in a document, nor among documents, nor among files."""
    first = HEAD.format("PowerProfile") + (
        "spec:\n  bogus: 1\n  surprise: 2\n  pstates:\n    min: 2000\n    max: 1000\n"
    )
    second = "---\nkind: PowerProfile\n"
    ran, problems = checked(
        tmp_path, first + second, "a: [1\n", HEAD.format("Uncore") + "spec: 3\n"
    )
    assert ran.code == 2
    places = {(Path(item["file"]).name, item["line"], item["field"]) for item in problems}
    assert places >= {
        ("a.yaml", 5, "spec.bogus"),
        ("a.yaml", 6, "spec.surprise"),
        ("a.yaml", 8, "spec.pstates.min"),
        ("a.yaml", 11, ""),
        ("c.yaml", 4, "spec"),
    }
    assert any(Path(item["file"]).name == "b.yaml" for item in problems)


@pytest.mark.parametrize(
    ("kind", "spec", "hint"),
    [
        ("PowerProfile", "labelSelector: {}", "labelSelector belongs under spec.nodeSelector"),
        ("PowerProfile", "governor: {}", ""),
        ("PowerProfile", "maxLatencyUs: 5", "maxLatencyUs belongs under spec.cstates"),
        ("PowerProfile", "pstate: {}", "is pstates meant?"),
        ("PowerWorkload", "powerProfiel: a", "is powerProfile meant?"),
        ("PowerProfile", "nodeSelector: {labelSelector: {matchLabels: {“a”: b}}}", "typographic"),
    ],
)
def test_what_is_meant_is_said(tmp_path: Path, kind: str, spec: str, hint: str) -> None:
    ran, _ = checked(tmp_path, f"{HEAD.format(kind)}spec:\n  {spec}\n")
    assert ran.code in (1, 2)
    assert hint in ran.out + ran.err


def pod(cpu: str, amount: str, name: str = "fast", memory: bool = True) -> dict[str, Any]:
    asked = {"cpu": cpu, f"power.openshift.io/{name}": amount}
    asked |= {"memory": "1Gi"} if memory else {}
    return {"containers": [{"name": "c", "resources": {"requests": asked, "limits": asked}}]}


TEMPLATES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "Pod": lambda spec: spec,
    "Deployment": lambda spec: {"template": {"spec": spec}},
    "StatefulSet": lambda spec: {"template": {"spec": spec}},
    "DaemonSet": lambda spec: {"template": {"spec": spec}},
    "Job": lambda spec: {"template": {"spec": spec}},
    "CronJob": lambda spec: {"jobTemplate": {"spec": {"template": {"spec": spec}}}},
}
FAULTS = {
    "right": (pod("2", "2"), None),
    "not whole": (pod("1500m", "1"), "pod-count"),
    "another count": (pod("2", "3"), "pod-count"),
    "not Guaranteed": (pod("2", "2", memory=False), "pod-not-guaranteed"),
    "an unknown profile": (pod("2", "2", "fats"), "profile-missing"),
    "a shared profile": (pod("2", "2", "slow"), "pod-profile"),
}


@pytest.mark.parametrize("kind", TEMPLATES)
@pytest.mark.parametrize("name", FAULTS)
def test_pods_and_what_makes_pods_are_looked_at(tmp_path: Path, kind: str, name: str) -> None:
    spec, code = FAULTS[name]
    meta = {"name": "web"}
    version = "v1" if kind == "Pod" else "batch/v1" if "Job" in kind else "apps/v1"
    made = {"apiVersion": version, "kind": kind, "metadata": meta, "spec": TEMPLATES[kind](spec)}
    profiles = as_yaml(profile("fast"), profile("slow", shared=True))
    ran, problems = checked(tmp_path, yaml.safe_dump(made), profiles)
    assert [item["code"] for item in problems] == ([code] if code else [])
    assert ran.code == (1 if code and code != "profile-missing" else 0)
    for item in problems:
        assert item["object"] == f"{kind}/web"
        assert item["line"] > 1
    if name == "an unknown profile":
        assert "given, fast, slow" in ran.out


def test_without_profiles_nothing_is_said_of_their_names(tmp_path: Path) -> None:
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "w"}, "spec": pod("2", "2")}
    ran, problems = checked(tmp_path, yaml.safe_dump(made))
    assert (ran.code, problems) == (0, [])


@given(
    st.lists(
        st.sampled_from(
            ["spec:\n", "  pstates:\n", "    min: 1\n", "---\n", "kind: PowerProfile\n", "- a\n",
             "apiVersion: power.openshift.io/v1\n", "metadata: {name: a}\n", "  x: [1, {a: b}]\n",
             "items:\n", "kind: List\n", "\t", "spec: &a {b: *a}\n", '"', "kind: CronJob\n"]
        ),
        max_size=12,
    )
)  # fmt: skip
def test_no_text_is_a_traceback(lines: list[str]) -> None:
    """And what every other verb refuses, it refuses too."""
    text = "".join(lines)
    ran = kpm("validate", "-f", "-", stdin=text)
    assert ran.code in (0, 1, 2)
    other = kpm("plan", "-f", "-", "--sysfs", "/nowhere", stdin=text)
    if other.err.startswith("kpm: standard input"):
        assert ran.code == 2, (text, other.err)
