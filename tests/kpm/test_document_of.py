"""Statuses between values and documents, and objects of another version: what is not known is
passed over, never kept out.
"""

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from attrs import NOTHING, fields, has
from hypothesis import given
from hypothesis import strategies as st

from kpm.formats.crds import KINDS, crd
from kpm.formats.wire import WireError, converter, document_of, structure_object
from kpm_planner.model.changes import Pass
from kpm_planner.model.machine import Machine
from kpm_planner.model.problems import Severity
from kpm_planner.plan import NodePlan
from kpm_planner.report.node import node_state
from kpm_planner.report.power_node import power_node
from kpm_planner.report.rollup import (
    ErrorsStatus,
    PowerConfigStatus,
    PowerWorkloadStatus,
    WorkloadNode,
)
from kpm_planner.report.types import (
    Condition,
    PoolState,
    PowerNodeStateStatus,
    PowerNodeStatus,
    ProblemState,
)
from tests.kpm.cli_rig import examples
from tests.kpm.object_samples import OBJECTS, OURS, dotted, sample, set_at
from tests.kpm.random_samples import own_objects
from tests.planner.build import values
from tests.strategies.scenarios import Scenario, scenarios

STATUSES = tuple(dict.fromkeys(kind.status for kind in KINDS))


def values_of(hint: Any, *, empty: bool = True) -> st.SearchStrategy[Any]:
    """Values of a field's type. empty: whether a text may be one; it may not where an empty one is
    as good as none.
    """
    if get_origin(hint) in (Union, UnionType):
        (kind,) = (part for part in get_args(hint) if part is not NoneType)
        return st.none() | values_of(kind, empty=False).filter(
            lambda value: not has(type(value)) or value != _default(kind)
        )
    if get_origin(hint) is tuple:
        return st.lists(values_of(get_args(hint)[0]), max_size=2).map(tuple)
    if has(hint):
        hints = get_type_hints(hint)
        return st.builds(
            hint,
            **{
                item.name: values_of(hints[item.name], empty=item.default is not NOTHING)
                for item in fields(hint)
            },
        )
    simple: dict[type, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(0, 65_535),
        str: st.text(min_size=not empty, max_size=4),
    }
    return simple[hint]


def _default(kind: Any) -> Any:
    """The value of which nothing is written."""
    return kind() if all(item.default is not NOTHING for item in fields(kind)) else None


def structure(document: Any, kind: type) -> Any:
    """A status as the operator reads it."""
    return converter(strict=False).structure(document, kind)


def mappings(
    value: Any, schema: Mapping[str, Any], path: tuple[str | int, ...] = ()
) -> Iterator[tuple[str | int, ...]]:
    """Paths of the objects in a document; maps, whose keys are free, are none."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from mappings(item, schema.get("items", {}), (*path, index))
    elif isinstance(value, Mapping) and "properties" in schema:
        yield path
        for key, item in value.items():
            yield from mappings(item, schema["properties"].get(key, {}), (*path, key))


def spec_levels(document: Mapping[str, Any]) -> list[tuple[str | int, ...]]:
    """Paths of all objects in the spec of a document of ours."""
    (kind,) = (kind for kind in KINDS if kind.name == document["kind"])
    schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return [("spec", *path) for path in mappings(document["spec"], schema["properties"]["spec"])]


# --- statuses ---


@pytest.mark.parametrize("kind", STATUSES, ids=lambda kind: kind.__name__)
@given(data=st.data())
@examples(50)
def test_any_status_there_and_back(kind: type, data: st.DataObject) -> None:
    """Through JSON as it goes to the API server, with nothing lost."""
    value = data.draw(values_of(kind))
    document = json.loads(json.dumps(document_of(value)))
    assert structure(document, kind) == value
    assert document_of(structure(document, kind)) == document


@given(scenarios())
@examples(50)
def test_the_status_of_any_plan_there_and_back(scenario: Scenario) -> None:
    """As an agent makes it and an operator reads it."""
    plan, machine = scenario.plan(), scenario.machine
    for status in (
        node_state(plan, machine, Pass(), [("uncore", False, "none")], {}),
        power_node(plan, machine, ("a/b",), {"performance": "w"}),
    ):
        assert structure(json.loads(json.dumps(document_of(status))), type(status)) == status


@pytest.mark.parametrize("kind", STATUSES, ids=lambda kind: kind.__name__)
@given(data=st.data())
@examples(30)
def test_nothing_empty_is_written(kind: type, data: st.DataObject) -> None:
    """But for errors, whose emptiness is the news; 0 and false are values."""

    def check(value: Any) -> None:
        assert value is not None
        if isinstance(value, dict):
            assert all(
                item not in ("", {}) and (item != [] or key == "errors")
                for key, item in value.items()
            )
        for item in (
            value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        ):
            check(item)

    check(document_of(data.draw(values_of(kind))))


def test_names_and_values_are_the_api_s() -> None:
    """Irregular names, numbers that are 0, words of closed sets as plain text."""
    state = PowerNodeStateStatus(
        shared_pool=(PoolState("0-3", "shared"),),
        problems=(ProblemState(Severity.ERROR, "pod-count", "Pod/a/b"),),
        omitted=0,
    )
    document = document_of(state)
    assert document == {
        "sizes": {"shared": 0, "reserved": 0, "exclusive": 0, "unmanaged": 0, "offline": 0},
        "sharedPool": [{"cpus": "0-3", "powerProfile": "shared"}],
        "problems": [{"severity": "error", "code": "pod-count", "object": "Pod/a/b"}],
        "omitted": 0,
    }
    assert not isinstance(document["problems"][0]["severity"], StrEnum)
    assert document_of(
        values(min_khz=1, max_khz=2, governor="powersave", epp="power", idle_on=("C1",))
    ) == {
        "minKHz": 1,
        "maxKHz": 2,
        "governor": "powersave",
        "epp": "power",
        "idleOn": ["C1"],
    }
    assert document_of(Condition("Ready", "True", "Settled", "", "t")) == {
        "type": "Ready",
        "status": "True",
        "reason": "Settled",
        "lastTransitionTime": "t",
    }


def test_an_empty_list_of_errors_is_written() -> None:
    """So that a corrected object shows that nothing is wrong; a node that has not been planned
    shows nothing else.
    """
    assert document_of(ErrorsStatus()) == document_of(PowerConfigStatus()) == {"errors": []}
    assert document_of(PowerWorkloadStatus(WorkloadNode("n"))) == {
        "workloadNodes": {"name": "n"},
        "errors": [],
    }
    assert document_of(PowerNodeStatus()) == {}
    assert document_of(power_node(NodePlan("n"), Machine(), (), {})) == {}


@pytest.mark.parametrize("kind", STATUSES, ids=lambda kind: kind.__name__)
@given(data=st.data())
@examples(30)
def test_a_status_of_a_newer_version_is_read_without_what_is_new(
    kind: type, data: st.DataObject
) -> None:
    """Agent and operator of neighbouring minors work together: an unknown field at any
    level is passed over.
    """
    value = data.draw(values_of(kind))
    document = document_of(value)
    schema = crd(next(item for item in KINDS if item.status is kind))["spec"]["versions"][0][
        "schema"
    ]["openAPIV3Schema"]["properties"]["status"]
    for path in mappings(document, schema):
        document = set_at(document, (*path, "addedLater"), {"any": ["thing"]})
    assert structure(document, kind) == value


# --- objects ---


@pytest.mark.parametrize("name", OURS)
def test_strict_refuses_an_unknown_field_at_every_level_and_lenient_passes_over_it(
    name: str,
) -> None:
    """The message names the field; the object is the same as without it."""
    for path in spec_levels(OBJECTS[name]):
        strange = set_at(sample(name), (*path, "addedLater"), {"any": ["thing"]})
        with pytest.raises(WireError) as caught:
            structure_object(strange)
        assert str(caught.value).startswith(f"{dotted((*path, 'addedLater'))}: is no field here"), (
            path
        )
        assert structure_object(strange, strict=False) == structure_object(OBJECTS[name])


@given(own_objects())
@examples(100)
def test_lenient_reads_what_strict_reads(document: dict[str, Any]) -> None:
    """The same, also with unknown fields everywhere at once."""
    expected = structure_object(document)
    assert structure_object(document, strict=False) == expected
    for path in spec_levels(document):
        document = set_at(document, (*path, "addedLater"), None if path == ("spec",) else 7)
    assert structure_object(document, strict=False) == expected


@pytest.mark.parametrize("name", OURS)
def test_lenient_is_no_less_strict_about_known_fields(name: str) -> None:
    """A wrong type is a fault in every version."""
    for path in spec_levels(OBJECTS[name])[1:]:
        for strict in (True, False):
            with pytest.raises(WireError, match="a mapping"):
                structure_object(set_at(sample(name), path, 7), strict=strict)
