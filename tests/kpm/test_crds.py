"""The custom resource definitions: what is in crds/ is what the code makes, and it says all that
the classes say.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml
from attrs import fields, has
from hypothesis import given
from jsonschema import Draft202012Validator

from kpm.formats.crds import KINDS, ResourceKind, crd
from kpm.formats.documents import read_documents
from kpm.formats.wire import (
    EARLIER_FIELDS,
    GROUPS,
    WireError,
    api_name,
    document_of,
    structure_object,
)
from kpm.formats.wire import KINDS as OURS
from kpm_planner.model.changes import Pass
from kpm_planner.report.node import node_state
from kpm_planner.report.power_node import power_node
from tests.kpm.cli_rig import REPO, examples, kpm
from tests.kpm.object_samples import OBJECTS, get_at, paths_of, set_at
from tests.kpm.random_samples import own_objects
from tests.strategies.scenarios import Scenario, scenarios

FOLDERS = dict(zip(GROUPS[:2], ("crds", "crds/intel"), strict=True))
EVERY = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
BY_NAME = {kind.name: kind for kind in KINDS}
#: The API server describes these itself.
STANDARD = {"apiVersion", "kind", "metadata"}
INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]


def schema_of(kind: ResourceKind) -> dict[str, Any]:
    """The schema of a whole object."""
    found = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert isinstance(found, dict)
    return found


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node of a schema with its path; "[]" are items, "{}" values of a map."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in schema:
            yield from nodes(schema[key], path + mark)


def plain(schema: Any) -> Any:
    """A schema as JSON Schema has it, without Kubernetes' own keys; a field that is not named is
    wrong, metadata is free.
    """
    if isinstance(schema, list):
        return [plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: plain(value) for key, value in schema.items() if not key.startswith("x-")}
    return (
        {**found, "additionalProperties": False}
        if isinstance(schema.get("properties"), dict)
        else found
    )


def validator(kind: ResourceKind) -> Draft202012Validator:
    """What the API server would check of types, names and bounds."""
    return Draft202012Validator(plain(schema_of(kind)))


VALIDATORS = {kind.name: validator(kind) for kind in KINDS}


def faults(document: dict[str, Any]) -> list[str]:
    """What the schema of its kind has against a document."""
    return [
        f"{fault.json_path}: {fault.message[:200]}"
        for fault in VALIDATORS[document["kind"]].iter_errors(document)
    ]


# --- files ---


@pytest.mark.parametrize("group", FOLDERS)
def test_the_files_are_what_the_code_makes(group: str, tmp_path: Path) -> None:
    """`make crds` has been run; nothing else is in the folder but the list of them."""
    assert kpm("crds", "--group", group, "--dir", tmp_path).code == 0
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    folder = REPO / FOLDERS[group]
    assert {
        path.name: path.read_text()
        for path in folder.glob("*.yaml")
        if path.name != "kustomization.yaml"
    } == made
    assert yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"] == sorted(made)


@pytest.mark.parametrize("group", GROUPS)
def test_printed_and_written_ones_are_the_same(group: str) -> None:
    """One document for each kind, named after it and the group."""
    printed = list(yaml.safe_load_all(kpm("crds", "--group", group).out))
    assert printed == [crd(kind, group) for kind in KINDS]
    assert [item["metadata"]["name"] for item in printed] == [
        f"{kind.plural}.{group}" for kind in KINDS
    ]


def test_every_kind_that_is_read_has_a_definition() -> None:
    """And the two that the agents write."""
    assert {kind.name for kind in KINDS} == OURS.keys() | {"PowerNode", "PowerNodeState"}


# --- schemas ---


@EVERY
def test_every_property_is_described(kind: ResourceKind) -> None:
    """So that kubectl explain answers."""
    for path, node in nodes(schema_of(kind)):
        if not path.endswith(("[]", "{}")) and path.lstrip(".") not in STANDARD:
            assert len(node.get("description", "")) > 3, path


@EVERY
def test_a_schema_is_structural(kind: ResourceKind) -> None:
    """Every node has a type, or is an integer or a text in the one form that is allowed; a map has
    no properties beside.
    """
    for path, node in nodes(schema_of(kind)):
        if node.get("x-kubernetes-int-or-string"):
            assert ("type" in node, node["anyOf"]) == (False, INT_OR_STRING), path
            continue
        assert node["type"] in ("object", "array", "string", "integer", "boolean"), path
        assert not {"properties", "additionalProperties"} <= node.keys(), path
        assert not {"anyOf", "allOf", "oneOf", "not", "$ref"} & node.keys(), path
        assert ("items" in node) == (node["type"] == "array"), path
        free = path == ".metadata" or node.get("x-kubernetes-preserve-unknown-fields")
        assert (
            node["type"] != "object" or free or {"properties", "additionalProperties"} & node.keys()
        ), path
        assert set(node.get("required", ())) <= node.get("properties", {}).keys(), path
    Draft202012Validator.check_schema(plain(schema_of(kind)))


@EVERY
def test_lists_are_bounded_or_written_as_a_whole(kind: ResourceKind) -> None:
    """Of those that are merged, the key is a field that every item has; what users write is bounded
    anyhow, since rules look at it.
    """
    for path, node in nodes(schema_of(kind)):
        if node.get("type") != "array":
            continue
        assert "maxItems" in node or node["x-kubernetes-list-type"] in ("atomic", "map"), path
        if node["x-kubernetes-list-type"] == "map":
            assert set(node["x-kubernetes-list-map-keys"]) <= set(node["items"]["required"]), path
        if path.startswith(".spec") and OURS.get(kind.name):
            assert "maxItems" in node, path
            assert node["items"].get("type") != "string" or node["items"]["maxLength"], path


@EVERY
def test_rules_name_fields_that_exist(kind: ResourceKind) -> None:
    """In their text and in the path that they blame."""
    for path, node in nodes(schema_of(kind)):
        for rule in node.get("x-kubernetes-validations", ()):
            named = set(re.findall(r"\bself\.([a-zA-Z]+)\b(?!\()", rule["rule"]))
            known = node.get("properties", {})
            if "additionalProperties" in node:  # a map of labels is spoken of by its keys
                assert rule["rule"].startswith("self.all(key, ")
                named -= {"all"}
            assert named <= known.keys(), (path, rule["rule"])
            assert rule.get("fieldPath", ".").removeprefix(".") in {"", *known}, (
                path,
                rule["fieldPath"],
            )
            assert rule["message"]


@EVERY
def test_columns_show_fields_that_exist(kind: ResourceKind) -> None:
    """Names are unique, and none shows a list as a list: it is its first entry, or counted."""
    version = crd(kind)["spec"]["versions"][0]
    found = dict(nodes(schema_of(kind)))
    known = found.keys()
    columns = version["additionalPrinterColumns"]
    for column in columns:
        path = re.sub(r"\[\?\(@\.(\w+)==\"\w+\"\)\]", "[]", column["jsonPath"])
        path = path.replace("[0]", "[]")
        assert path == ".metadata.creationTimestamp" or path in known, column
        assert found.get(path, {}).get("type") not in ("array", "object"), column
    assert len({column["name"] for column in columns}) == len(columns)


# --- classes ---


def assert_same(cls: type, schema: dict[str, Any]) -> None:
    """A class and a schema have the same fields, all the way down."""
    own = {
        api_name(item.name): item.name for item in fields(cls) if item.name not in ("meta", "group")
    }
    assert own.keys() == schema["properties"].keys(), cls
    hints = get_type_hints(cls)
    for name, attribute in own.items():
        parts = [
            hints[attribute],
            *get_args(hints[attribute]),
            *(inner for part in get_args(hints[attribute]) for inner in get_args(part)),
        ]
        inner = next((part for part in parts if isinstance(part, type) and has(part)), None)
        if inner is not None:
            node = schema["properties"][name]
            assert_same(inner, node.get("items", node))


@EVERY
def test_a_schema_has_the_fields_of_its_classes_and_no_others(kind: ResourceKind) -> None:
    """Spec and status, by their names in the API."""
    schema = schema_of(kind)["properties"]
    assert_same(kind.status, schema["status"])
    if kind.spec is None:
        assert schema["spec"]["properties"].keys() == {"nodeName"}
    else:
        assert kind.spec is OURS[kind.name]
        kept = EARLIER_FIELDS.get(kind.name, ())
        own = {
            name: item for name, item in schema["spec"]["properties"].items() if name not in kept
        }
        assert_same(kind.spec, {**schema["spec"], "properties": own})


@EVERY
def test_what_an_earlier_operator_stored_is_kept(kind: ResourceKind) -> None:
    """Of what the system writes everything, of what users write the fields that it wrote there; the
    rest is as strict as ever.
    """
    schema = schema_of(kind)["properties"]
    free = {
        path
        for path, node in nodes(schema_of(kind))
        if node.get("x-kubernetes-preserve-unknown-fields")
    }
    spec = (
        {".spec"}
        if kind.spec is None
        else {f".spec.{name}" for name in EARLIER_FIELDS.get(kind.name, ())}
    )
    assert free == {".status", *spec}
    assert schema["status"]["x-kubernetes-preserve-unknown-fields"] is True


# --- documents ---


@pytest.mark.parametrize(
    "file",
    sorted((REPO / "examples").rglob("*.yaml")),
    ids=lambda file: str(file.relative_to(REPO / "examples")),
)
def test_an_example_that_the_strict_reader_takes_fits_the_schema(file: Path) -> None:
    """Types, names and bounds; also those whose sense is wrong on purpose."""
    for item in read_documents([str(file)]) if file.name != "scenario.yaml" else ():
        if str(item.content["apiVersion"]).partition("/")[0] in GROUPS:
            structure_object(item.content)
            assert faults(dict(item.content)) == []


def test_the_samples_of_all_fields_fit_the_schema() -> None:
    """Every field that there is, once."""
    for document in OBJECTS.values():
        if document["kind"] in BY_NAME:
            assert faults(document) == []


@pytest.mark.parametrize(
    "name", [name for name, document in OBJECTS.items() if document["kind"] in BY_NAME]
)
def test_a_schema_refuses_an_unknown_field_at_every_level(name: str) -> None:
    """The API server prunes it and warns; here it shows that the tests above would see a wrong
    name.
    """
    for path in [(), *paths_of(OBJECTS[name])]:
        if isinstance(get_at(OBJECTS[name], path), dict) and not {
            "metadata",
            "matchLabels",
            "names",
            "powerNodeSelector",
        } & set(path):
            assert faults(set_at(OBJECTS[name], (*path, "surprise"), 1)), path


@given(own_objects())
@examples(100)
def test_what_the_strict_reader_takes_fits_the_schema(document: dict[str, Any]) -> None:
    """A file that is planned offline can be applied to a cluster."""
    try:
        structure_object(document)
    except WireError:
        return
    assert faults(document) == []


@given(scenarios())
@examples(60)
def test_what_the_agent_reports_fits_the_schema(scenario: Scenario) -> None:
    """PowerNode and PowerNodeState of any plan."""
    plan, machine = scenario.plan(), scenario.machine
    statuses = {
        "PowerNode": power_node(plan, machine, ("a/b",), {}),
        "PowerNodeState": node_state(plan, machine, Pass(), [("cpufreq", True, "x")], {}),
    }
    for kind, status in statuses.items():
        assert (
            faults(
                {
                    "apiVersion": f"{GROUPS[0]}/v1",
                    "kind": kind,
                    "metadata": {"name": "n"},
                    "spec": {"nodeName": "n"},
                    "status": document_of(status),
                }
            )
            == []
        )
