"""The charts: whatever the values, valid objects of the namespace that is used; a wrong value is
named; and what has a source elsewhere is what the source says.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from kpm import __version__
from kpm.cli import _VERBS
from kpm.request.objects import read_cluster
from kpm_planner.model.problems import has_errors
from kpm_planner.validate import validate_intent
from tests.charts.helm import CHARTS, CRDS, MAIN, REPO, Object, helm, is_hook, refused, rendered
from tests.programs import load_program

GROUPS = ("power.openshift.io", "power.intel.com")
#: Each value that switches something.
SWITCHES: dict[str, Object] = {
    "nothing": {},
    "openshift": {"openshift": True},
    "measuring": {"measureOnly": True, "monitoring.enabled": True},
    "privileged": {"agents.privileged": True, "agents.idleStates": "byLatency"},
    "hsmp": {"agents.hsmp": True},
    "everything": {
        "sharedProfile.create": True,
        "monitoring.enabled": True,
        "metrics.tokens": True,
        "openshift": True,
        "agents.imagesAllowed": ["quay.io/me/*"],
        "agents.externalHosts": ["power.example.com"],
        "imagePullSecrets": ["pull"],
        "image.digest": f"sha256:{'0' * 64}",
        "operator.priorityClassName": "system-cluster-critical",
        "operator.tolerations": [{"operator": "Exists"}],
        "operator.nodeSelector": {"a": "b"},
        "operator.affinity": {"nodeAffinity": {}},
        "powerConfig.customDevices": ["example.com/cpus"],
    },
    "little": {"powerConfig.create": False, "networkPolicy.enabled": False},
}
#: Kinds of others, of which nobody has a schema here.
FOREIGN = {"PodMonitor", "ServiceMonitor", "PrometheusRule", "SecurityContextConstraints"}
OURS = {"PowerConfig", "PowerProfile", "PowerWorkload"}
#: Of Kubernetes, from the oldest that is supported to the newest whose schemas there are.
VERSIONS = sorted(
    {item for item in kubernetes_validate.utils.all_versions() if int(item.split(".")[1]) >= 30}
)


@cache
def made(name: str, group: str, namespace: str = "cpu-power") -> list[Object]:
    return rendered({**SWITCHES[name], "group": group}, namespace)


def files() -> dict[str, str]:
    """What `make charts` would write."""
    found: dict[str, str] = load_program("deploy/charts/make.py").files()
    return found


def test_what_has_a_source_elsewhere_is_what_the_source_says() -> None:
    """`make charts` would change nothing."""
    stale = [name for name, text in files().items() if (CHARTS / name).read_text() != text]
    assert stale == [], "run make charts"


@pytest.mark.parametrize("chart", [MAIN, CRDS])
def test_helm_finds_nothing_wrong(chart: str) -> None:
    helm("lint", "--strict", str(CHARTS / chart))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", SWITCHES)
def test_every_object_is_valid(name: str, version: str) -> None:
    """By the schemas of Kubernetes, without a field that it does not know."""
    for item in made(name, GROUPS[0]):
        if item["kind"] not in FOREIGN | OURS:
            kubernetes_validate.validate(item, version, strict=True)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("name", SWITCHES)
def test_our_own_objects_are_valid(name: str, group: str, tmp_path: Path) -> None:
    """By the same rules as `kpm validate`."""
    ours = [item for item in made(name, group) if item["kind"] in OURS]
    text = yaml.safe_dump_all(ours)
    file = tmp_path / "ours.yaml"
    file.write_text(text)
    if ours:
        assert not has_errors(validate_intent(read_cluster([str(file)]).intent))


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("name", SWITCHES)
def test_nothing_names_another_namespace_or_group(name: str, group: str) -> None:
    """Accounts in policies and bindings too: a policy that names nobody keeps nobody."""
    text = json.dumps(made(name, group))
    (other,) = set(GROUPS) - {group}
    assert other not in text
    spaces = {item["metadata"].get("namespace", "cpu-power") for item in made(name, group)}
    assert spaces == {"cpu-power"}
    assert set(re.findall(r"system:serviceaccount:([^:]+):", text)) == {"cpu-power"}
    subjects = [
        subject for item in made(name, group) for subject in item.get("subjects", ())
        if not subject["name"].startswith("prometheus")
    ]  # fmt: skip
    assert {subject["namespace"] for subject in subjects} == {"cpu-power"}


@pytest.mark.parametrize("chart", [MAIN, CRDS])
def test_the_version_is_that_of_the_program(chart: str) -> None:
    found = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())
    assert (found["version"], found["appVersion"]) == (__version__, __version__)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"group": "power.example.com"}, "group"),
        ({"powerconfig": {}}, "powerconfig"),
        ({"image.tags": "x"}, "tags"),
        ({"image.digest": "sha256:12"}, "digest"),
        ({"agents.imagesAllowed": ["x' || true || '"]}, "imagesAllowed"),
        ({"agents.idleStates": "all"}, "idleStates"),
        ({"operator.replicas": "two"}, "replicas"),
        ({"uninstall.timeoutSeconds": 1}, "timeoutSeconds"),
        ({"sharedProfile.reservedCPUs": ["0-1"]}, "reservedCPUs"),
    ],
)
def test_a_wrong_value_is_named(values: Object, words: str) -> None:
    """Also one that would change what a policy says."""
    assert words in refused(values)


def test_every_value_is_described() -> None:
    """In the README, by its comment, and in the schema, by its type."""
    for chart in (MAIN, CRDS):
        values = yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
        schema = json.loads((CHARTS / chart / "values.schema.json").read_text())
        readme = (CHARTS / chart / "README.md").read_text()
        for path in paths(values, schema):
            assert f"| `{path}` |" in readme, path


def paths(values: Object, schema: Object, before: str = "") -> list[str]:
    """Paths of values down to those that the schema leaves open. KeyError for one that it lacks."""
    found = []
    for name, value in values.items():
        inner: Any = schema["properties"][name]
        if isinstance(value, dict) and "properties" in inner and name != "prometheus":
            found += paths(value, inner, f"{before}{name}.")
        else:
            found.append(f"{before}{name}")
    return found


def test_the_definitions_stay_unless_asked() -> None:
    """All of a group, as `crds/` has them, and kept."""
    for group, folder in zip(GROUPS, ("crds", "crds/intel"), strict=True):
        found = rendered({"group": group}, chart=CRDS)
        source = [
            yaml.safe_load(path.read_text())
            for path in sorted((REPO / folder).glob("power.*.yaml"))
        ]
        for item in found:
            kept = item["metadata"].pop("annotations")
            assert kept == {"helm.sh/resource-policy": "keep"}
        assert found == source
        going = rendered({"group": group, "keep": False}, chart=CRDS)
        assert going == source


def test_hooks_run_verbs_that_exist() -> None:
    """As an account that the chart makes, without privilege."""
    accounts = {item["metadata"]["name"] for item in made("nothing", GROUPS[0])
                if item["kind"] == "ServiceAccount"}  # fmt: skip
    hooks = [item for item in made("nothing", GROUPS[0]) if is_hook(item)]
    assert {item["kind"] for item in hooks} == {"Job", "Pod"}
    for item in hooks:
        spec = item["spec"]["template"]["spec"] if item["kind"] == "Job" else item["spec"]
        (container,) = spec["containers"]
        assert container["args"][0] in _VERBS
        assert spec["serviceAccountName"] in accounts
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_measuring_alone_is_what_the_example_asks() -> None:
    example = yaml.safe_load((REPO / "examples/example-powerconfig-measuring.yaml").read_text())
    (config,) = [item for item in rendered({"measureOnly": True}) if item["kind"] == "PowerConfig"]
    assert config["spec"]["agent"] == example["spec"]["agent"]


def test_a_packaged_chart_renders_the_same(tmp_path: Path) -> None:
    """`helm package` takes everything along."""
    for chart in (MAIN, CRDS):
        helm("package", str(CHARTS / chart), "-d", str(tmp_path))
        packed = tmp_path / f"{chart}-{__version__}.tgz"
        words = ("-n", "power-manager")
        whole = helm("template", "kpm", str(CHARTS / chart), *words).stdout
        assert helm("template", "kpm", str(packed), *words).stdout == whole
