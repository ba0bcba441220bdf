"""The OLM bundle says the same as the manifests: accounts, rights, Deployment, definitions; its
images are those that were asked for; and its examples are valid.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from types import ModuleType
from typing import cast

import pytest
import yaml

from kpm import __version__
from kpm.request.objects import read_cluster
from kpm_planner.model.problems import has_errors
from kpm_planner.validate import validate_intent
from tests.charts.helm import Object
from tests.programs import load_program

IMAGE = f"quay.io/me/kubernetes-power-manager@sha256:{'1' * 64}"
AGENT = f"quay.io/me/agent@sha256:{'2' * 64}"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return cast(ModuleType, load_program("deploy/bundle/make.py"))


@pytest.fixture(scope="module")
def files(maker: ModuleType) -> dict[str, str]:
    found: dict[str, str] = maker.files(IMAGE, AGENT)
    return found


@pytest.fixture(scope="module")
def version(files: dict[str, str]) -> Object:
    """The ClusterServiceVersion."""
    (name,) = [name for name in files if name.endswith("clusterserviceversion.yaml")]
    found: Object = yaml.safe_load(files[name])
    return found


def test_every_kind_is_owned_and_described(version: Object, files: dict[str, str]) -> None:
    owned = version["spec"]["customresourcedefinitions"]["owned"]
    defined = [
        yaml.safe_load(text) for name, text in files.items() if "/power.openshift.io_" in name
    ]
    assert {item["name"] for item in owned} == {item["metadata"]["name"] for item in defined}
    assert all(item["description"] and item["displayName"] for item in owned)
    shown = {
        item["kind"] for item in json.loads(version["metadata"]["annotations"]["alm-examples"])
    }
    assert shown == {item["kind"] for item in owned}


def test_its_examples_are_valid(version: Object, tmp_path: Path) -> None:
    file = tmp_path / "examples.json"
    shown = json.loads(version["metadata"]["annotations"]["alm-examples"])
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": shown}))
    assert not has_errors(validate_intent(read_cluster([str(file)]).intent))


def test_its_images_are_the_ones_asked_for(version: Object) -> None:
    """By digest, and all of them related, so that a mirror takes them along."""
    related = {item["image"] for item in version["spec"]["relatedImages"]}
    assert related == {IMAGE, AGENT}
    (deployment,) = version["spec"]["install"]["spec"]["deployments"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["env"][0]["value"]) == (IMAGE, AGENT)


def test_accounts_have_the_rights_of_the_manifests(version: Object, maker: ModuleType) -> None:
    """No more and no less, by scope."""
    install = version["spec"]["install"]["spec"]
    for scope, kind in (("permissions", "Role"), ("clusterPermissions", "ClusterRole")):
        rules = [rule for account in install[scope] for rule in account["rules"]]
        roles = maker.manifests("base/rbac-operator.yaml", "base/rbac-agent.yaml")
        wanted = [rule for item in roles if item["kind"] == kind for rule in item["rules"]]
        assert sorted(map(str, rules)) == sorted(map(str, wanted))
        names = {account["serviceAccountName"] for account in install[scope]}
        assert names == {"power-manager-operator", "power-manager-node-agent"}


def test_versions_lead_to_this_one(files: dict[str, str]) -> None:
    """Channel, upgrade edge, package and labels agree."""
    package, channel, bundle = yaml.safe_load_all(files["catalog/catalog.yaml"])
    minor = ".".join(__version__.split(".")[:2])
    assert package["defaultChannel"] == channel["name"] == f"v{minor}"
    (entry,) = channel["entries"]
    assert entry == {"name": bundle["name"], "skipRange": f"<{__version__}"}
    said = yaml.safe_load(files["bundle/metadata/annotations.yaml"])["annotations"]
    for key, value in said.items():
        assert f"LABEL {key}={value}\n" in files["bundle/bundle.Containerfile"]
    assert said["operators.operatorframework.io.bundle.channels.v1"] == f"v{minor}"


def test_the_policies_beside_it_name_its_agents(files: dict[str, str]) -> None:
    """A policy of another image would refuse every agent."""
    found = yaml.safe_load_all(files["admission-policies.yaml"])
    images = [
        variable["expression"]
        for item in found
        for variable in item["spec"].get("variables") or ()
        if variable["name"] == "images"
    ]
    assert images == [f"['{AGENT}']"]


def test_its_icon_is_a_picture(version: Object) -> None:
    (icon,) = version["spec"]["icon"]
    assert base64.b64decode(icon["base64data"]).startswith(b"<svg ")
