"""The JSON of `plan`, `discover` and the state file has the documented keys, and no value of
another type.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator

from kpm.formats.documents import Document
from kpm.formats.views import machine_view, plan_view
from kpm.request.machines import MODELS, build_machine
from kpm.request.nodes import AllocationOptions, TimeOptions, targets_of
from kpm.request.objects import cluster_of
from kpm_planner.plan import ClusterPlan, plan_cluster
from tests.kpm.cli_rig import SCHEMAS, examples, kpm
from tests.kpm.object_samples import (
    POLICY,
    as_json,
    as_yaml,
    dotted,
    get_at,
    paths_of,
    pod,
    profile,
    workload,
)
from tests.kpm.random_samples import clusters, machines
from tests.kpm.tree_samples import CPU, TREES, build_tree, put
from tests.strategies.scenarios import Scenario, scenarios

#: The contract, word for word (issue 2): which keys every object of the output has.
PLAN_KEYS = {
    "": {"version", "nodes", "problems"},
    "nodes": {"node", "cpus", "uncore", "extendedResources", "problems"},
    "nodes.cpus": {
        "cpu",
        "pool",
        "profile",
        "container",
        "minKHz",
        "maxKHz",
        "governor",
        "epp",
        "cstates",
        "because",
    },
    "nodes.cpus.container": {"namespace", "pod", "uid", "name", "id"},
    "nodes.uncore": {"name", "package", "die", "minKHz", "maxKHz", "because"},
    "nodes.problems": {"severity", "code", "object", "field", "message"},
    "problems": {"severity", "code", "object", "field", "message"},
}
DISCOVER_KEYS = {
    "": {
        "version",
        "architecture",
        "cpuModel",
        "cpus",
        "frequencyDomains",
        "idle",
        "uncore",
        "boost",
        "features",
    },
    "cpus": {"cpu", "online", "package", "die", "cluster", "core", "siblings", "frequencyDomain"},
    "frequencyDomains": {
        "id",
        "cpus",
        "driver",
        "hardwareMinKHz",
        "hardwareMaxKHz",
        "availableKHz",
        "governors",
        "epps",
        "minKHz",
        "maxKHz",
        "governor",
        "epp",
    },
    "idle": {"driver", "cpus"},
    "idle.cpus": {"cpu", "states"},
    "idle.cpus.states": {"index", "name", "latencyUs", "enabled", "default"},
    "uncore": {
        "name",
        "package",
        "die",
        "domain",
        "cluster",
        "hardwareMinKHz",
        "hardwareMaxKHz",
        "minKHz",
        "maxKHz",
    },
    "features": {"name", "supported", "reason"},
}
NOW = TimeOptions(datetime(2026, 1, 31, 8, tzinfo=UTC))
#: A policy under which every key of a plan has a value on a Xeon: containers, idle states, uncore,
#: problems at both levels.
FULL_POLICY = [
    *POLICY,
    pod("web", 2),
    profile("other", name="odd"),
    profile("broken", pstates={"min": "90%", "max": "10%"}),
    workload("second", "slow"),
]


def schema(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((SCHEMAS / f"{name}.schema.json").read_text()))


PLAN, DISCOVER, STATE = schema("plan"), schema("discover"), schema("state")


def assert_valid(validator: Draft202012Validator, content: Any) -> None:
    faults = [
        f"{dotted(tuple(fault.absolute_path))}: {fault.message[:200]}"
        for fault in validator.iter_errors(content)
    ]
    assert not faults, faults[:5]


def objects_at(content: Any, path: str) -> list[Any]:
    """All objects of an output at a documented place; a null stands for none."""
    found = [content]
    for key in path.split(".") if path else []:
        found = [
            item
            for outer in found
            for value in [outer[key]]
            if value is not None
            for item in (value if isinstance(value, list) else [value])
        ]
    return found


def assert_sane_plan(content: Any) -> None:
    """What a schema cannot say: every CPU once and in order."""
    for item in content["nodes"]:
        numbers = [cpu["cpu"] for cpu in item["cpus"]]
        assert numbers == sorted(set(numbers))


def assert_sane_machine(content: Any) -> None:
    """What a schema cannot say: numbers in order, and references that lead somewhere."""
    numbers = [cpu["cpu"] for cpu in content["cpus"]]
    assert numbers == sorted(set(numbers))
    domains = {domain["id"]: domain["cpus"] for domain in content["frequencyDomains"]}
    assert len(domains) == len(content["frequencyDomains"])
    for cpu in content["cpus"]:
        assert cpu["frequencyDomain"] is None or cpu["cpu"] in domains[cpu["frequencyDomain"]]
        assert not cpu["siblings"] or cpu["cpu"] in cpu["siblings"]
    assert {entry["cpu"] for entry in content["idle"]["cpus"]} <= set(numbers)


@pytest.mark.parametrize("name", sorted(path.name.split(".")[0] for path in SCHEMAS.iterdir()))
def test_the_schemas_are_valid_schemas(name: str) -> None:
    Draft202012Validator.check_schema(json.loads((SCHEMAS / f"{name}.schema.json").read_text()))


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_the_documented_machine(model: str) -> None:
    content = json.loads(json.dumps(machine_view(build_machine(MODELS[model]))))
    assert_valid(DISCOVER, content)
    assert_sane_machine(content)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_gives_the_documented_plan(model: str, tmp_path: Path) -> None:
    (tmp_path / "o.yaml").write_text(as_yaml(*FULL_POLICY))
    (tmp_path / "m.json").write_text(as_json({"model": model}))
    ran = kpm(
        "plan",
        "-f",
        tmp_path / "o.yaml",
        "--machine",
        tmp_path / "m.json",
        "--assign-cpus",
        "-o",
        "json",
    )
    content = json.loads(ran.out)
    assert_valid(PLAN, content)
    assert_sane_plan(content)
    assert {cpu["pool"] for cpu in content["nodes"][0]["cpus"]} >= {
        "exclusive",
        "reserved",
        "shared",
    }


@pytest.mark.parametrize("name", TREES)
def test_every_tree_has_the_documented_machine_and_plan(name: str, tmp_path: Path) -> None:
    root = build_tree(tmp_path / "sys", TREES[name])
    found = json.loads(kpm("discover", "--sysfs", root, "-o", "json").out)
    assert_valid(DISCOVER, found)
    assert_sane_machine(found)
    (tmp_path / "o.yaml").write_text(as_yaml(*FULL_POLICY))
    content = json.loads(
        kpm("plan", "-f", tmp_path / "o.yaml", "--sysfs", root, "--assign-cpus", "-o", "json").out
    )
    assert_valid(PLAN, content)
    assert_sane_plan(content)


def test_dumps_have_the_documented_machine_and_plan(dump: Path, tmp_path: Path) -> None:
    found = json.loads(kpm("discover", "--sysfs", dump, "-o", "json").out)
    assert_valid(DISCOVER, found)
    assert_sane_machine(found)
    (tmp_path / "o.yaml").write_text(as_yaml(*FULL_POLICY))
    content = json.loads(
        kpm("plan", "-f", tmp_path / "o.yaml", "--sysfs", dump, "--assign-cpus", "-o", "json").out
    )
    assert_valid(PLAN, content)
    assert_sane_plan(content)


@given(machines())
@examples(60)
def test_any_machine_has_the_documented_form(machine: Any) -> None:
    content = json.loads(json.dumps(machine_view(machine)))
    assert_valid(DISCOVER, content)
    assert_sane_machine(content)


@given(machines(), clusters())
@examples(100)
def test_any_plan_has_the_documented_form(machine: Any, documents: list[dict[str, Any]]) -> None:
    cluster = cluster_of([Document(item, "generated") for item in documents])
    targets = targets_of(cluster, {"n": machine}, AllocationOptions(assign=True), NOW)
    content = json.loads(
        json.dumps(plan_view(plan_cluster(cluster.intent, targets.inputs, targets.instant)))
    )
    assert_valid(PLAN, content)
    assert_sane_plan(content)
    assert [cpu["cpu"] for cpu in content["nodes"][0]["cpus"]] == [cpu.id for cpu in machine.cpus]


@given(scenarios())
@examples(60)
def test_any_scenario_has_the_documented_form(scenario: Scenario) -> None:
    """With what the kubelet reports, of pods of all kinds, awkward ones among them."""
    content = json.loads(json.dumps(plan_view(ClusterPlan((scenario.plan(),)))))
    assert_valid(PLAN, content)
    assert_sane_plan(content)
    machine = json.loads(json.dumps(machine_view(scenario.machine)))
    assert_valid(DISCOVER, machine)
    assert_sane_machine(machine)


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_every_documented_key_is_there(output: str, tmp_path: Path) -> None:
    """Not only required by the schema: each is present, and each place of the documented tree
    occurs.
    """
    import yaml

    (tmp_path / "o.yaml").write_text(as_yaml(*FULL_POLICY))
    (tmp_path / "m.json").write_text(as_json({"model": "xeon"}))
    planned = yaml.safe_load(
        kpm(
            "plan",
            "-f",
            tmp_path / "o.yaml",
            "--machine",
            tmp_path / "m.json",
            "--assign-cpus",
            "-o",
            output,
        ).out
    )
    found = yaml.safe_load(
        kpm("discover", "--sysfs", build_tree(tmp_path / "sys"), "-o", output).out
    )
    for content, documented in ((planned, PLAN_KEYS), (found, DISCOVER_KEYS)):
        for place, keys in documented.items():
            objects = objects_at(content, place)
            assert objects, f"nothing at {place}"
            for item in objects:
                assert keys <= item.keys(), place


#: Keys that are left out where there is nothing to say, with the place of the schema's object that
#: has them, and values that they may not have.
OPTIONAL_KEYS: dict[str, tuple[str, list[Any]]] = {
    "minPercent": ("", ["10", 1.5, None, True, []]),
    "maxPercent": ("", ["10", 1.5, None, True, []]),
    "limitNamed": ("frequencyDomains", ["false", 0, None, []]),
}


@pytest.mark.parametrize("key", OPTIONAL_KEYS)
def test_a_key_that_may_be_left_out_is_documented_with_its_type(key: str, tmp_path: Path) -> None:
    """It is there where a file says so, of the type that the schema
    has for it, and not required.
    """
    root = build_tree(tmp_path / "sys")
    for name, percent in (("min_perf_pct", 10), ("max_perf_pct", 50)):
        put(root, f"{CPU}/intel_pstate/{name}", percent)
    # with turbo off no file of this tree says how far it goes
    put(root, f"{CPU}/intel_pstate/no_turbo", 1)
    content = json.loads(kpm("discover", "--sysfs", root, "-o", "json").out)
    assert_valid(DISCOVER, content)
    place, wrong = OPTIONAL_KEYS[key]
    holder = objects_at(content, place)[0]
    assert holder.pop(key) == {"minPercent": 10, "maxPercent": 50, "limitNamed": False}[key]
    assert_valid(DISCOVER, content)
    (documented,) = (
        found
        for part in (DISCOVER.schema, *DISCOVER.schema["$defs"].values())
        for name, found in part.get("properties", {}).items()
        if name == key
    )
    assert documented["description"]
    for value in wrong:
        holder[key] = value
        assert not DISCOVER.is_valid(content), value


@pytest.mark.parametrize(
    ("validator", "documented"),
    [(PLAN, PLAN_KEYS), (DISCOVER, DISCOVER_KEYS)],
    ids=["plan", "discover"],
)
def test_the_schema_requires_every_documented_key(
    validator: Draft202012Validator, documented: dict[str, set[str]], tmp_path: Path
) -> None:
    """Taking any documented key out of a real output makes it invalid; adding one does not."""
    if validator is PLAN:
        (tmp_path / "o.yaml").write_text(as_yaml(*FULL_POLICY))
        (tmp_path / "m.json").write_text(as_json({"model": "xeon"}))
        text = kpm(
            "plan",
            "-f",
            tmp_path / "o.yaml",
            "--machine",
            tmp_path / "m.json",
            "--assign-cpus",
            "-o",
            "json",
        ).out
    else:
        text = kpm("discover", "--sysfs", build_tree(tmp_path / "sys"), "-o", "json").out
    for place, keys in documented.items():
        for key in keys:
            content = json.loads(text)
            del objects_at(content, place)[0][key]
            assert not validator.is_valid(content), f"{place}.{key} is not required"
        content = json.loads(text)
        objects_at(content, place)[0]["addedLater"] = {"any": ["thing"]}
        assert validator.is_valid(content), f"{place} does not grow by addition"


@pytest.mark.parametrize(
    ("validator", "name"), [(PLAN, "plan"), (DISCOVER, "discover")], ids=["plan", "discover"]
)
def test_the_schema_holds_every_type(
    validator: Draft202012Validator, name: str, tmp_path: Path
) -> None:
    """A list where a scalar stands, and a text where a number or list stands, is invalid at every
    place of a real output.
    """
    if name == "plan":
        (tmp_path / "o.yaml").write_text(as_yaml(*FULL_POLICY))
        (tmp_path / "m.json").write_text(as_json({"model": "vm"}))
        text = kpm(
            "plan",
            "-f",
            tmp_path / "o.yaml",
            "--machine",
            tmp_path / "m.json",
            "--assign-cpus",
            "-o",
            "json",
        ).out
        undocumented = {"held", "validUntil", "turbo", "powerCaps", "fabrics"}
    else:
        text = kpm("discover", "--sysfs", build_tree(tmp_path / "sys"), "-o", "json").out
        undocumented = {"limitMaxKHz", "driverStatus", "powerZones", "fabrics", "fabricFault"}
    content = json.loads(text)
    for path in paths_of(content):
        if undocumented.intersection(path):
            continue
        value = get_at(content, path)
        outer = get_at(content, path[:-1])
        outer[path[-1]] = 1.5 if not isinstance(value, float) else []
        assert not validator.is_valid(content), dotted(path)
        outer[path[-1]] = value


def test_the_state_file_has_the_documented_form(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "o.yaml").write_text(as_yaml(*POLICY))
    assert (
        kpm(
            "apply", "-f", tmp_path / "o.yaml", "--sysfs", tree, "--state-dir", tmp_path / "state"
        ).code
        == 0
    )
    (file,) = (tmp_path / "state").glob("*.json")
    content = json.loads(file.read_text())
    assert_valid(STATE, content)
    assert content["root"] == str(tree)
    assert content["bootId"] is None
    assert {
        group.partition(":")[0] for record in content["records"] for group in record["groups"]
    } == {"cpufreq", "idle", "uncore"}
