"""Limits: the size of a status, one line for one fault, and what is remembered of the kubelet's
answers (R7).
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given

from kpm.formats.wire import document_of
from kpm_planner.model.allocation import Allocation, ContainerCpus
from kpm_planner.model.changes import Pass
from kpm_planner.model.machine import Machine
from kpm_planner.model.problems import Code, error
from kpm_planner.ownership import resolve_ownership
from kpm_planner.ownership_memory import remembered
from kpm_planner.plan import NodePlan
from kpm_planner.report.node import node_state
from kpm_planner.report.power_node import power_node
from kpm_planner.report.rollup import errors_by_object
from tests.planner.build import (
    allocation,
    asking,
    machine,
    moment,
    owns,
    plan,
    pod,
    profile,
    workload,
)
from tests.planner.reading import held_cpus, with_code
from tests.planner.test_ownership_memory import (
    NODE,
    OBJECTS,
    Answer,
    Story,
    ask,
    look,
    seen,
    stories,
)

LARGEST = 16 << 10


def big() -> tuple[Machine, NodePlan]:
    """256 CPUs, 110 pods of two CPUs, 50 profiles of which 25 are wrong, 50 more problems of 200
    characters.
    """
    name = "profile-{:02}-of-the-platform-team".format
    on = machine("0-255")
    profiles = [
        (
            profile(
                name(i), min=1000 + i, max=2000 + i, governor="powersave", epp="balance_performance"
            )
            if i < 25
            else profile(name(i), min="90%", max="10%")
        )
        for i in range(50)
    ]
    pods = [
        pod(
            asking(2, name(i % 25), name="application", id="cri-o://" + "e" * 64),
            name=f"deployment-{i:03}-5d9c7b6f4-x2x7q",
            namespace="team",
            uid=f"0f1e2d3c-0000-0000-0000-{i:012}",
        )
        for i in range(110)
    ]
    reports = [
        owns(
            f"{2 * i + 2}-{2 * i + 3}", f"deployment-{i:03}-5d9c7b6f4-x2x7q", "application", "team"
        )
        for i in range(110)
    ]
    found = plan(*profiles, workload(uses=name(0)), on=on, with_=allocation(pods, reports))
    return on, evolve(
        found,
        problems=found.problems
        + tuple(
            error(Code.POD_COUNT, f"Pod/team/{i}", "spec.containers", "m" * 200) for i in range(50)
        ),
    )


def test_power_node_state_of_a_big_node_stays_below_16_kib() -> None:
    """S12: at most 16 KiB."""
    on, found = big()
    document = document_of(node_state(found, on, Pass(), [("uncore", False, "x" * 200)] * 6, {}))
    assert len(json.dumps(document)) <= LARGEST, {
        key: len(json.dumps(value)) for key, value in document.items()
    }


def test_power_node_of_a_big_node_stays_below_16_kib() -> None:
    """S12: at most 16 KiB."""
    on, found = big()
    document = document_of(power_node(found, on, (), {}))
    assert len(json.dumps(document)) <= LARGEST, {
        key: len(json.dumps(value)) for key, value in document.items()
    }


def test_a_long_message_is_one_line_also_where_nodes_report_it_cut() -> None:
    """The operator's own problem is uncut, the node's is cut to 240 characters: said twice."""
    problem = error(Code.OBJECT_UNREADABLE, "PowerProfile/fast", "spec.x", "m" * 300)
    state = node_state(evolve(plan(), problems=(problem,)), machine(), Pass(), (), {})
    assert len(errors_by_object([problem], {"node-1": state})["PowerProfile/fast"]) == 1


def test_an_empty_answer_with_no_allocatable_cpus_forgets_nothing() -> None:
    """A kubelet that has just started answers so until its CPU manager has started."""
    pods = (pod(),)
    before = remembered(allocation(pods, [owns("1-2")], allocatable=frozenset({1, 2, 3})))
    hollow = Allocation(pods, (), True, frozenset(), before.last_known, before.accepted)
    assert [(item.ref.pod, set(item.cpus)) for item in resolve_ownership(hollow).owners] == [
        ("web", {1, 2})
    ]
    assert remembered(hollow).last_known == before.last_known


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ((owns("1-2"),), "the last known CPUs stay"),
        ((), "no CPU that could be allocated is written"),
        (None, "no CPU that could be allocated is written"),
    ],
)
def test_while_the_kubelet_does_not_answer_it_is_said_what_holds(
    before: tuple[ContainerCpus, ...] | None, words: str
) -> None:
    """What was known last of the pod; where nothing ever was, nobody's CPU is touched."""
    silent = allocation([pod()], answered=False, last_known=before)
    (problem,) = with_code(plan(profile(), with_=silent).problems, Code.ALLOCATION_UNKNOWN)
    assert problem.message.endswith(f"not known; {words}")


@given(stories())
def test_a_running_container_that_was_never_reported_leaves_cpus_unwritten_also_on_an_error(
    story: Story,
) -> None:
    """R7: with no last known allocation no CPU that could be allocated
    is written until it answers.
    """
    everybody = {(entry.pod, entry.container) for entry in story.truth}
    for step, now in enumerate(look(story), 1):
        said = next(
            (
                answer.reported
                for answer in reversed(story.answers[:step])
                if answer.reported is not None
            ),
            (),
        )
        # listed without CPUs is known to own none, till it is said otherwise
        known = seen(story.answers[:step]) | {(entry.pod, entry.container) for entry in said}
        assert bool(held_cpus(plan(*OBJECTS, on=NODE, with_=now))) == (
            known != everybody
            or not any(answer.reported is not None for answer in story.answers[:step])
        )


def test_a_pod_does_not_inherit_the_cpus_of_an_earlier_one_of_its_name() -> None:
    """web-0 is deleted and made anew; the kubelet has not reported the new one yet (or does not
    answer).
    """
    old, new = pod(uid="old"), pod(uid="new", created=moment(9), started=moment(9))
    for said in (Answer(()), Answer(None)):
        _, before = ask(Allocation(), [old], Answer((owns("1-2"),)))
        now, _ = ask(before, [new], said)
        assert not resolve_ownership(now).owners
        assert held_cpus(plan(*OBJECTS, on=NODE, with_=now)) >= {1, 2}


def test_an_unknown_field_beside_spec_is_passed_over_by_the_lenient_reader() -> None:
    """structure_object(strict=False): "else it is passed over, as between versions"."""
    from kpm.formats.wire import structure_object

    document = {
        "apiVersion": "power.openshift.io/v1",
        "kind": "PowerProfile",
        "metadata": {"name": "a"},
        "addedLater": 1,
    }
    assert structure_object(document, strict=False).meta.name == "a"


def test_every_list_of_a_schema_is_bounded_or_atomic() -> None:
    """status.conditions of PowerNodeState is a map list without maxItems."""
    from kpm.formats.crds import KINDS, crd

    def lists(node: dict[str, Any], path: str) -> Iterator[str]:
        if (
            node.get("type") == "array"
            and "maxItems" not in node
            and node.get("x-kubernetes-list-type") != "atomic"
        ):
            yield path
        for name, inner in node.get("properties", {}).items():
            yield from lists(inner, f"{path}.{name}")
        if "items" in node:
            yield from lists(node["items"], f"{path}[]")

    assert [
        path
        for kind in KINDS
        for path in lists(crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"], kind.name)
    ] == []
