"""Objects and answers out of files: what is taken, what is ignored, and in which words."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpm.formats.documents import Document, parse_documents, parse_mapping, read_documents
from kpm.process.errors import InputError, one_line
from kpm.request.objects import GivenObjects, cluster_of, read_cluster, read_pod_resources
from kpm_planner.model.allocation import ContainerCpus
from tests.kpm.cli_rig import examples
from tests.kpm.object_samples import (
    GROUP,
    INTEL_GROUP,
    OBJECTS,
    as_json,
    as_yaml,
    node,
    pod,
    profile,
    sample,
    workload,
)
from tests.kpm.random_samples import clusters


def cluster(*documents: Any) -> GivenObjects:
    return cluster_of(
        [Document(item, f"f.yaml: document {number}") for number, item in enumerate(documents, 1)]
    )


def parsed(text: str, source: str = "f.yaml") -> list[Any]:
    return [item.content for item in parse_documents(text.encode(), source)]


# --- documents ---


def test_yaml_reads_as_kubernetes_reads_it() -> None:
    """Times stay text; numbers, truth and null are what they look like."""
    (found,) = parsed(
        "a: 2026-01-31T08:00:00Z\nb: 2026-01-31\nc: 0x10\nd: yes\ne: ~\nf: '1'\ng: 1.5\nh: |\n  x\n"
        "  y\n"
    )
    assert found == {
        "a": "2026-01-31T08:00:00Z",
        "b": "2026-01-31",
        "c": 16,
        "d": True,
        "e": None,
        "f": "1",
        "g": 1.5,
        "h": "x\ny\n",
    }
    (found,) = parsed("a: 12:30\nb: =\nc: 1:2:3.5\nd: 0b11\ne: 1_000\n")
    assert found == {
        "a": "12:30",
        "b": "=",
        "c": "1:2:3.5",
        "d": 3,
        "e": 1000,
    }, "no numbers of base 60, no special signs"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
    )
)
@examples(100)
def test_json_reads_as_it_was_written(value: Any) -> None:
    """In a file of any name; lone surrogates of JSON among it."""
    for text in (json.dumps({"a": value}), json.dumps({"a": value}, indent=2)):
        for source in ("f.json", "f.yaml", "standard input"):
            assert parsed(text, source) == [{"a": value}]


@given(
    st.lists(st.sampled_from([*OBJECTS]), max_size=5),
    st.lists(st.integers(0, 5), min_size=0, max_size=4),
)
@examples(40)
def test_documents_are_the_same_in_any_wrapping(names: list[str], cuts: list[int]) -> None:
    """One stream, or some of them in Lists, or all in one: the same documents in the same order."""
    documents = [sample(name) for name in names]
    wrapped: list[Any] = []
    last = 0
    for cut in sorted({min(cut, len(documents)) for cut in cuts}):
        wrapped.append(
            {"apiVersion": "v1", "kind": "List", "metadata": {}, "items": documents[last:cut]}
        )
        last = cut
    wrapped += documents[last:]
    assert parsed(as_yaml(*wrapped)) == documents
    if len(wrapped) == 1:
        assert parsed(as_json(wrapped[0]), "f.json") == documents


def test_lists_give_their_items_their_kind() -> None:
    text = as_yaml(
        {
            "apiVersion": GROUP,
            "kind": "PowerProfileList",
            "items": [{"metadata": {"name": "a"}}, {"kind": "Uncore", "metadata": {"name": "b"}}],
        }
    )
    assert [(item["apiVersion"], item["kind"]) for item in parsed(text)] == [
        (GROUP, "PowerProfile"),
        (GROUP, "Uncore"),
    ]
    assert parsed(as_yaml({"apiVersion": "v1", "kind": "List", "items": []})) == []


def test_messages_say_where_an_item_stands() -> None:
    _, second = parse_documents(
        as_yaml(node("a"), {"apiVersion": "v1", "kind": "List", "items": [node("b")]}).encode(),
        "f.yaml",
    )
    assert second.source == "f.yaml: document 2 items[0]"


def test_a_folder_is_read_in_order_and_not_below(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.json", "c.yml"):
        (tmp_path / name).write_text(as_json(node(name[0])))
    (tmp_path / "d.txt").write_text("{")
    (tmp_path / ".hidden").write_text("{")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "e.yaml").write_text("{")
    assert [item.content["metadata"]["name"] for item in read_documents([str(tmp_path)])] == [
        "a",
        "b",
        "c",
    ]


def test_one_mapping_is_one_mapping() -> None:
    assert parse_mapping(b"a: 1\n", "f") == {"a": 1}
    assert parse_mapping(b"---\n---\na: 1\n---\n", "f") == {"a": 1}
    for text in (b"", b"---\n", b"- a\n", b"a: 1\n---\nb: 2\n", b"7"):
        with pytest.raises(InputError, match="f"):
            parse_mapping(text, "f")


@given(st.text(max_size=60), st.integers(5, 40))
@examples(100)
def test_one_line_is_one_line(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert line.isprintable()
    assert len(line.splitlines()) <= 1
    assert len(line) <= limit + 1
    if text.isprintable() and len(text) <= limit:
        assert line == text


# --- clusters ---


def test_every_kind_has_its_place() -> None:
    found = cluster(*OBJECTS.values())
    intent = found.intent
    assert [
        len(items)
        for items in (
            intent.profiles,
            intent.workloads,
            intent.node_configs,
            intent.uncores,
            intent.configs,
            found.pods,
        )
    ] == [2, 1, 1, 1, 1, 1]
    assert list(found.nodes) == ["n"]
    assert found.warnings == ()
    assert list(found.documents) == list(OBJECTS.values())


def test_what_is_not_known_is_ignored_with_a_warning() -> None:
    odd = [
        {"apiVersion": "v1", "kind": "ConfigMap"},
        {"apiVersion": "example.com/v1", "kind": "PowerProfile"},
        {"apiVersion": GROUP, "kind": "Deployment"},
        {"apiVersion": "v1", "kind": "PowerProfile"},
    ]
    found = cluster(*odd, profile("p"))
    assert len(found.intent.profiles) == 1
    assert found.warnings == tuple(
        f"f.yaml: document {number}: {item['kind']} of {item['apiVersion']} is ignored"
        for number, item in enumerate(odd, 1)
    )
    assert list(found.documents) == [profile("p")]


def test_status_kinds_are_ignored_in_silence() -> None:
    for group in (GROUP, INTEL_GROUP):
        for kind in ("PowerNode", "PowerNodeState"):
            assert (
                cluster(
                    {
                        "apiVersion": group,
                        "kind": kind,
                        "metadata": {"name": "n"},
                        "spec": {"any": 1},
                    }
                ).warnings
                == ()
            )


def test_both_groups_may_use_one_name() -> None:
    """What it means is the planner's to say; the input is not wrong."""
    found = cluster(profile("p"), {**profile("p"), "apiVersion": INTEL_GROUP})
    assert sorted(item.group for item in found.intent.profiles) == [
        "power.intel.com",
        "power.openshift.io",
    ]


def test_what_may_be_called_the_same() -> None:
    """Another kind, another namespace, another group: not the same object."""
    other = {**profile("x"), "metadata": {"name": "x", "namespace": "elsewhere"}}
    cluster(
        profile("x"),
        other,
        workload("x", "p"),
        node("x"),
        pod("x", namespace="a"),
        pod("x", namespace="b"),
        {**profile("x"), "apiVersion": INTEL_GROUP},
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (profile("p"), profile("p", shared=True)),
        (profile("p"), {**profile("p"), "metadata": {"name": "p"}}),
        (
            {**profile("p"), "metadata": {"name": "p"}},
            {**profile("p"), "metadata": {"name": "p", "namespace": ""}},
        ),
        (
            {**profile("p"), "apiVersion": INTEL_GROUP, "metadata": {"name": "p"}},
            {
                **profile("p"),
                "apiVersion": INTEL_GROUP,
                "metadata": {"name": "p", "namespace": "intel-power"},
            },
        ),
        (node("n"), node("n", role="x")),
        (pod("a"), pod("a", 4)),
        (pod("a"), {**pod("a"), "metadata": {"name": "a"}}),
    ],
)
def test_the_same_object_twice(first: Any, second: Any) -> None:
    """Whether or not the namespace is written out: one without is in the system's, a pod in
    default.
    """
    with pytest.raises(
        InputError,
        match=(
            r"^f\.yaml: document 2: \w+: metadata\.name: .* stands twice, first in f\.yaml:"
            r" document 1"
        ),
    ):
        cluster(first, second)


@given(clusters(), st.randoms(use_true_random=False))
@examples(40)
def test_order_of_input_changes_nothing(documents: list[dict[str, Any]], chance: Any) -> None:
    """R5 at the file level: the same sets of objects, whatever their order."""
    shuffled = list(documents)
    chance.shuffle(shuffled)
    first, second = cluster(*documents), cluster(*shuffled)
    assert first.nodes == second.nodes
    assert sorted(first.pods, key=str) == sorted(second.pods, key=str)
    for name in ("profiles", "workloads", "node_configs", "uncores", "configs"):
        assert sorted(getattr(first.intent, name), key=str) == sorted(
            getattr(second.intent, name), key=str
        )


def test_files_and_standard_input_together(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(as_yaml(node("a"), profile("p")))
    (tmp_path / "b.json").write_text(as_json(node("b")))
    found = read_cluster([str(tmp_path / "b.json"), str(tmp_path / "a.yaml")])
    assert sorted(found.nodes) == ["a", "b"]
    with pytest.raises(InputError, match="twice"):
        read_cluster([str(tmp_path), str(tmp_path / "a.yaml")])


# --- the kubelet's answer ---


def answer(tmp_path: Path, content: Any) -> Any:
    file = tmp_path / "answer.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_pod_resources(str(file))


def test_an_answer_in_every_spelling(tmp_path: Path) -> None:
    wanted = (ContainerCpus("x", "web", "app", frozenset({2, 3})),)
    for content in (
        {
            "podResources": [
                {"namespace": "x", "name": "web", "containers": [{"name": "app", "cpuIds": [2, 3]}]}
            ]
        },
        {
            "podResources": [
                {
                    "namespace": "x",
                    "name": "web",
                    "containers": [{"name": "app", "cpuIds": ["2", "3"]}],
                }
            ]
        },
        {
            "pod_resources": [
                {
                    "namespace": "x",
                    "name": "web",
                    "containers": [{"name": "app", "cpu_ids": ["3", 2, 2]}],
                }
            ]
        },
        {
            "podResources": [
                {
                    "namespace": "x",
                    "name": "web",
                    "containers": [
                        {
                            "name": "app",
                            "cpuIds": [2, 3],
                            "devices": [{}],
                            "memory": None,
                            "dynamicResources": [],
                        }
                    ],
                    "more": 1,
                }
            ],
            "more": {},
        },
    ):
        assert answer(tmp_path, content) == (wanted, None)
    assert answer(
        tmp_path,
        "podResources:\n- {namespace: x, name: web, containers: [{name: app, cpuIds: [2, 3]}]}\n",
    ) == (wanted, None)


def test_an_answer_may_name_the_allocatable_cpus(tmp_path: Path) -> None:
    """Left out is not known; an empty list says that the kubelet hands out none."""
    assert answer(tmp_path, {"podResources": []}) == ((), None)
    assert answer(tmp_path, {"podResources": [], "cpuIds": []}) == ((), frozenset())
    assert answer(tmp_path, {"podResources": [], "cpuIds": ["1", 2]}) == ((), frozenset({1, 2}))
    assert answer(tmp_path, {"pod_resources": [], "cpu_ids": [4]}) == ((), frozenset({4}))


def test_what_an_answer_may_leave_out(tmp_path: Path) -> None:
    """As protobuf's JSON does with empty lists: no containers, no ids."""
    content = {
        "podResources": [
            {"name": "a"},
            {"name": "b", "containers": [{"name": "c"}]},
            {"name": "d", "namespace": "e", "containers": None},
        ]
    }
    assert answer(tmp_path, content) == ((ContainerCpus("default", "b", "c", frozenset()),), None)
    assert answer(tmp_path, {"podResources": []})[0] == ()


def test_an_answer_that_has_nothing_to_say_is_an_empty_object(tmp_path: Path) -> None:
    """Strictly read: without podResources it is no answer of the kubelet."""
    with pytest.raises(InputError, match="podResources: is missing"):
        answer(tmp_path, {})
