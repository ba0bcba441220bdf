"""Bad input ends in one line on standard error that says where, what, and what is allowed; exit 2;
nothing is written.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kpm.formats import documents
from kpm.formats.documents import parse_documents
from kpm.formats.views import machine_view
from kpm.process.errors import InputError
from kpm.request.machines import MODELS, build_machine, read_machine
from kpm.request.objects import cluster_of
from tests.kpm.cli_rig import (
    CONTROLS,
    Ran,
    assert_names,
    examples,
    kpm,
    only_complaint,
    open_to_all,
    run_as_nobody,
    run_bounded,
    run_process,
    tree_hash,
)
from tests.kpm.object_samples import (
    GROUP,
    NUMBER_OR_TEXT,
    OBJECTS,
    OURS,
    POLICY,
    as_json,
    as_yaml,
    dotted,
    get_at,
    node,
    paths_of,
    pod,
    profile,
    read_paths,
    sample,
    set_at,
    workload,
)
from tests.parts import in_parts

XEON = json.dumps({"model": "xeon"})


def reading_verbs(file: Path | str, tree: Path, where: Path) -> dict[str, list[object]]:
    """Every verb that reads objects, with its arguments."""
    given_file = ["-f", file]
    return {
        "validate": ["validate", *given_file],
        "plan": ["plan", *given_file, "--sysfs", tree],
        "explain": ["explain", *given_file, "--sysfs", tree, "cpu", "0"],
        "diff": ["diff", *given_file, "--sysfs", tree, "--state-dir", where / "state"],
        "apply": ["apply", *given_file, "--sysfs", tree, "--state-dir", where / "state"],
        "snapshot": ["snapshot", where / "snapshot", *given_file, "--sysfs", tree],
    }


def refused_everywhere(
    file: Path | str, tree: Path, where: Path, stdin: bytes | None = None
) -> str:
    """Every verb refuses the file in the same words, and leaves tree, state and folders alone.

    Returns the line.
    """
    before = tree_hash(tree)
    verbs = reading_verbs(file, tree, where)
    every = kpm(*verbs.pop("validate"), stdin=stdin)
    lines = {verb: only_complaint(kpm(*words, stdin=stdin)) for verb, words in verbs.items()}
    assert len(set(lines.values())) == 1, lines
    assert every.code == 2
    # it tells every fault, and adds lines and hints
    assert any(line.startswith(lines["plan"]) for line in every.complaints), every.err
    assert not CONTROLS.search(every.out + every.err.replace("\n", ""))
    assert tree_hash(tree) == before
    assert not (where / "state").exists()
    assert not (where / "snapshot").exists()
    return lines["plan"]


def a_profile(**spec: Any) -> str:
    return as_yaml(profile("fast", **spec))


def a_pod(**limits: Any) -> str:
    found = pod("web")
    found["spec"]["containers"][0]["resources"]["limits"] = limits
    return as_json(found)


TEXT = "apiVersion: power.openshift.io/v1\nkind: PowerProfile\nmetadata: {name: fast}\n"
#: Content of a file, and what the message must name besides the file.
CASES: dict[str, tuple[str | bytes, list[str]]] = {
    "a flow that does not end": (TEXT + "spec: {shared: true", ["document 1", "line"]),
    "a tab as indentation": (TEXT + "spec:\n\tshared: true\n", ["document 1", "line 5"]),
    "an unknown alias": (TEXT + "spec: *nothing\n", ["document 1", "line 4", "alias"]),
    "a tag of Python": (
        TEXT + "spec: !!python/object/apply:os.system [id]\n",
        ["document 1", "line 4"],
    ),
    "an unknown tag": (TEXT + "spec: !mine {}\n", ["document 1", "line 4", "!mine"]),
    "the second document": (TEXT + "---\n{", ["document 2"]),
    "JSON that does not end": ('{"apiVersion": "v1"', ["document 1"]),
    "JSON with a comma too many": ('{"apiVersion": "v1",}', ["document 1"]),
    "binary": (bytes(range(256)), ["document 1"]),
    "compressed": (b"\x1f\x8b\x08\x00" + b"\x00\xff" * 40, ["document 1"]),
    "UTF-16": (TEXT.encode("utf-16"), ["document 1"]),
    "a NUL": (TEXT + "spec: {name: 'a\0b'}\n", ["document 1"]),
    "nothing": ("", []),
    "blanks": ("\n \n# only a comment\n", []),
    "only separators": ("---\n---\n...\n", []),
    "a text": ("just words\n", ["document 1", "just words"]),
    "a number": ("7\n", ["document 1", "7"]),
    "a list": ("- a\n- b\n", ["document 1"]),
    "a mapping with no kind": ("a: b\n", ["document 1", "apiVersion"]),
    "no kind": ("apiVersion: v1\nmetadata: {name: a}\n", ["document 1", "kind"]),
    "no apiVersion": ("kind: Node\nmetadata: {name: a}\n", ["document 1", "apiVersion"]),
    "a version that is not known": (
        TEXT.replace("/v1", "/v2"),
        [
            "document 1",
            "PowerProfile",
            "apiVersion",
            "power.openshift.io/v2",
            "power.openshift.io/v1",
        ],
    ),
    "a group without version": (
        TEXT.replace("/v1", ""),
        ["document 1", "apiVersion", "power.openshift.io"],
    ),
    "no metadata": (
        f"apiVersion: {GROUP}\nkind: PowerProfile\nspec: {{}}\n",
        ["document 1", "PowerProfile", "metadata"],
    ),
    "no name": (
        f"apiVersion: {GROUP}\nkind: PowerProfile\nmetadata: {{}}\n",
        ["document 1", "PowerProfile", "metadata.name", "None"],
    ),
    "an empty name": (TEXT.replace("fast", "''"), ["metadata.name", "''"]),
    "a name with a blank": (TEXT.replace("fast", "'a b'"), ["metadata.name", "'a b'"]),
    "a name with a slash": (TEXT.replace("fast", "../up"), ["metadata.name", "'../up'"]),
    "a long name": (TEXT.replace("fast", "n" * 254), ["metadata.name", "253"]),
    "a name with umlauts": (TEXT.replace("fast", "schnell-für"), ["metadata.name", "schnell"]),
    "a label that is a number": (
        TEXT.replace("name: fast", "name: fast, labels: {a: 1}"),
        ["metadata.labels"],
    ),
    "a label that is true": (
        TEXT.replace("name: fast", "name: fast, labels: {a: yes}"),
        ["metadata.labels"],
    ),
    "a time that is none": (
        TEXT.replace("name: fast", "name: fast, creationTimestamp: yesterday"),
        ["metadata.creationTimestamp", "yesterday", "2026"],
    ),
    "an unknown field": (
        TEXT + "spec: {pstates: {minimum: 5}}\n",
        [
            "document 1",
            "PowerProfile fast",
            "spec.pstates.minimum",
            "allowed are",
            "min, max, governor, epp",
        ],
    ),
    "a field in another case": (TEXT + "spec: {Shared: true}\n", ["spec.Shared", "shared"]),
    "a field at the top": (TEXT + "sepc: {}\n", ["sepc", "spec"]),
    "fields of several types at the top": (
        TEXT + "1: 2\nsurprise: 3\n",
        ["document 1", "expected keys"],
    ),
    "a frequency that is a float": (
        TEXT + "spec: {pstates: {min: 1.5}}\n",
        ["spec.pstates.min", "1.5", "percentage"],
    ),
    "a frequency that is a list": (
        TEXT + "spec: {pstates: {min: [1]}}\n",
        ["spec.pstates.min", "a list"],
    ),
    "shared as a text": (
        TEXT + "spec: {shared: 'true'}\n",
        ["spec.shared", "'true'", "true or false"],
    ),
    "shared as a number": (TEXT + "spec: {shared: 1}\n", ["spec.shared", "1", "true or false"]),
    "spec as a list": (TEXT + "spec: []\n", ["spec", "a list", "a mapping"]),
    "a name that YAML reads as true": (TEXT + "spec: {name: on}\n", ["spec.name", "True", "text"]),
    "a core that is a range": (
        as_yaml(workload("w", "p", reservedCPUs=[{"cores": ["0-3"]}])),
        ["spec.reservedCPUs[0].cores[0]", "'0-3'", "a whole number"],
    ),
    "a core that is null": (
        as_yaml(workload("w", "p", reservedCPUs=[{"cores": [None]}])),
        ["spec.reservedCPUs[0].cores[0]", "None"],
    ),
    "a key twice": (
        TEXT + "spec:\n  shared: true\n  shared: false\n",
        ["document 1", "line", "'shared'", "twice"],
    ),
    "a key twice in flow": (
        TEXT + "spec: {shared: true, pstates: {}, shared: false}\n",
        ["document 1", "'shared'", "twice"],
    ),
    "an alias to itself": ("a: &a [*a]\n", ["document 1"]),
    "a mapping that contains itself": (
        "apiVersion: v1\nkind: Pod\nmetadata: &m {name: p, x: *m}\n",
        ["document 1"],
    ),
    "aliases that multiply": (
        "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)),
        ["document 1"],
    ),
    "items that are no list": (
        "apiVersion: v1\nkind: List\nitems: {a: b}\n",
        ["document 1", "items", "a list"],
    ),
    "an item that is no object": (
        "apiVersion: v1\nkind: List\nitems: [7]\n",
        ["document 1", "items[0]", "7"],
    ),
    "an item with a fault": (
        as_yaml({"apiVersion": "v1", "kind": "List", "items": [node("n"), profile("p", shared=3)]}),
        ["document 1", "items[1]", "PowerProfile p", "spec.shared"],
    ),
    "one object twice": (
        as_yaml(profile("p"), profile("q"), profile("p")),
        ["document 3", "PowerProfile", "metadata.name", "power-manager/p", "twice", "document 1"],
    ),
    "a node twice": (
        as_yaml(node("n"), node("n")),
        ["document 2", "Node", "metadata.name", "'n'", "twice", "document 1"],
    ),
    "a pod twice": (as_yaml(pod("a"), pod("a", 4)), ["document 2", "Pod", "default/a", "twice"]),
    "twice in a list": (
        as_yaml(node("n"), {"apiVersion": "v1", "kind": "List", "items": [node("n")]}),
        ["document 2", "items[0]", "twice"],
    ),
    "a pod twice, once without its namespace": (
        as_yaml(pod("a", namespace="default"), {**pod("a"), "metadata": {"name": "a"}}),
        ["document 2", "Pod", "twice"],
    ),
    "a profile twice, once without its namespace": (
        as_yaml(profile("p"), {**profile("p"), "metadata": {"name": "p"}}),
        ["document 2", "PowerProfile", "twice"],
    ),
    "a YAML set in a pod": (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {x: !!set {a, b}}\n",
        ["document 1"],
    ),
    "YAML bytes in a pod": (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {x: !!binary aGk=}\n",
        ["document 1"],
    ),
    "a YAML time in a pod": (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {x: !!timestamp 2026-01-31}\n",
        ["document 1"],
    ),
    **{
        f"the tag in {value}": (
            f"apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{x: {value}}}\n",
            ["document 1"],
        )
        for value in (
            "!!bool x",
            "!!timestamp x",
            "!!int ''",
            "!!int '-'",
            "!!int '1:'",
            "!!float ''",
            "!!float _",
            "!!set [a]",
            "!!omap [a]",
            "!!map x",
        )
    },
    "a key that is a list": (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {? [a] : b}\n",
        ["document 1"],
    ),
    "a number of 5000 digits": (
        TEXT + f"spec: {{pstates: {{min: 0x{'f' * 4200}}}}}\n",
        ["document 1"],
    ),
    "a decimal of 5000 digits": (
        TEXT + f"spec: {{pstates: {{min: {'9' * 5000}}}}}\n",
        ["document 1"],
    ),
    "a quantity of 5000 digits": (
        as_yaml(pod("a")).replace("cpu: 2", f"cpu: 0x{'f' * 4200}"),
        ["document 1"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_bad_file_ends_in_one_line_everywhere(name: str, tree: Path, tmp_path: Path) -> None:
    content, parts = CASES[name]
    file = tmp_path / "bad.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    line = refused_everywhere(file, tree, tmp_path)
    assert_names(line, [file, *parts])
    assert len(line) < 1000


@pytest.mark.parametrize(
    "name", [name for name in CASES if name not in ("nothing", "blanks", "only separators")]
)
def test_a_bad_standard_input_is_named_so(name: str) -> None:
    content, _ = CASES[name]
    line = only_complaint(
        kpm(
            "validate", "-f", "-", stdin=content if isinstance(content, bytes) else content.encode()
        )
    )
    assert_names(line, ["standard input"])


QUANTITIES = [
    "2x",
    "1e",
    "",
    "-1",
    " ",
    "1 ",
    "1.2.3",
    "0x2",
    "1e400",
    "1e-400",
    "Ki",
    "1KiB",
    "1mm",
    "1_000",
    "½",
    "٣",
    "inf",
    "nan",
    "--1",
    "1e1e1",
    "9" * 41,
    True,
    False,
    [],
    {},
    [2],
]


@pytest.mark.parametrize("field", ["cpu", "memory", "power.openshift.io/fast"])
def test_a_quantity_that_is_none(field: str, tree: Path, tmp_path: Path) -> None:
    """Whatever the resource and the text; the line names field, value and what is expected."""
    file = tmp_path / "pod.json"
    for value in QUANTITIES:
        file.write_text(a_pod(**{"cpu": 1, field: value}))
        line = only_complaint(kpm("plan", "-f", file, "--sysfs", tree))
        assert_names(
            line,
            [
                file,
                "document 1",
                "Pod web",
                f"spec.containers[0].resources.limits.{field}",
                "expected a quantity such as",
            ],
        )
        assert repr(value)[:20] in line or "a list" in line or "a mapping" in line, line


@pytest.mark.parametrize("text", ["1e400", "-1e400", "1E999", "Infinity", "NaN"])
def test_a_number_of_json_that_is_none(text: str, tmp_path: Path) -> None:
    file = tmp_path / "pod.json"
    file.write_text(a_pod(cpu=12321).replace("12321", text))
    line = only_complaint(kpm("validate", "-f", file))
    assert_names(line, [file, "document 1", "spec.containers[0].resources.limits.cpu", "expected"])
    file.write_text(as_json(profile("p", pstates={"min": 12321})).replace("12321", text))
    assert_names(only_complaint(kpm("validate", "-f", file)), [file, "spec.pstates.min"])


@pytest.mark.parametrize(
    "text",
    ["2", "2000m", "1e3", "1E3", "0.5", ".5", "+2", "1Ki", "2.5Gi", "100n", "1e-3", 2, 0, 1.5],
)
def test_a_quantity_as_kubernetes_writes_it(text: object) -> None:
    assert kpm("validate", "-f", "-", stdin=a_pod(cpu=text)).code == 0


# --- wrong types, everywhere ---

WRONG: list[Any] = ["text", 7, 1.5, True, [1], {"a": 1}, "", 0, 0.0, False, [], {}]


def allowed_types(path: tuple[str | int, ...], value: Any) -> tuple[type, ...]:
    """The types that a field of a sample may have."""
    if "limits" in path[:-1] or "requests" in path[:-1]:
        return (int, str, float)
    ends = path[-1] in ("min", "max") and "dieSelector" in path
    alone = path[-1] in ("cpuCapacity", "sysMin", "sysMax")
    if (path[-1] in NUMBER_OR_TEXT and "pstates" in path) or ends or alone:
        return (int, str)
    return (type(value),)


def wrong_values(name: str) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every path of a sample with every value of a wrong type."""
    for path in read_paths(name):
        allowed = allowed_types(path, get_at(OBJECTS[name], path))
        yield from ((path, wrong) for wrong in WRONG if type(wrong) not in allowed)


def shown_as(value: Any) -> str:
    return (
        "a list"
        if isinstance(value, list)
        else "a mapping"
        if isinstance(value, dict)
        else repr(value)
    )


def named_path(path: tuple[str | int, ...]) -> str:
    """What a message calls a field; labels are named as a whole."""
    return "metadata.labels" if path[:2] == ("metadata", "labels") else dotted(path)


@pytest.mark.parametrize("name", OBJECTS)
def test_the_samples_are_valid(name: str, tmp_path: Path) -> None:
    for ending, text in {"yaml": as_yaml(sample(name)), "json": as_json(sample(name))}.items():
        file = tmp_path / f"o.{ending}"
        file.write_text(text)
        ran = kpm("validate", "-f", file)
        assert ran.code == 0, ran
        assert not ran.complaints


@pytest.mark.parametrize("name", OBJECTS)
def test_a_value_of_a_wrong_type_is_refused_wherever_it_stands(name: str) -> None:
    """Every field that is read × every wrong type: the message names document, field, value and
    what is expected.
    """
    faults = []
    for path, wrong in wrong_values(name):
        try:
            cluster_of(
                parse_documents(json.dumps(set_at(OBJECTS[name], path, wrong)).encode(), "f.json")
            )
        except InputError as failure:
            line = str(failure)
            shown = shown_as(
                {} if named_path(path) == "metadata.labels" and path[-1] != "labels" else wrong
            )
            if (
                not line.startswith("f.json: document 1: ")
                or named_path(path) not in line
                or shown not in line
                or "expected" not in line
                or "\n" in line
            ):
                faults.append(f"{dotted(path)} = {wrong!r}: said {line}")
        except Exception as failure:  # noqa: BLE001 - any other exception is the fault that is looked for
            faults.append(f"{dotted(path)} = {wrong!r}: {failure!r}")
        else:
            faults.append(f"{dotted(path)} = {wrong!r}: accepted")
    assert not faults, f"{len(faults)} faults: " + "\n".join(faults[:12])


@pytest.mark.parametrize("name", OURS)
def test_what_is_ignored_may_be_anything(name: str) -> None:
    """Status, and metadata that nobody reads, have no type that must be right."""
    for wrong in WRONG:
        document = sample(name)
        document["status"] = wrong
        document["metadata"].update(
            {
                "annotations": wrong,
                "generation": wrong,
                "managedFields": wrong,
                "ownerReferences": wrong,
                "resourceVersion": wrong,
            }
        )
        cluster_of(parse_documents(json.dumps(document).encode(), "f.json"))


@pytest.mark.parametrize("name", OBJECTS)
def test_null_is_the_same_as_left_out(name: str) -> None:
    """As the API server stores it; only identity may not be left out."""
    for path in read_paths(name):
        if (
            isinstance(path[-1], int)
            or path in (("apiVersion",), ("kind",), ("metadata",), ("metadata", "name"))
            or path[-1] in ("name", "key", "operator")
        ):
            continue
        if set(path[:-1]) & {
            "labels",
            "matchLabels",
            "powerNodeSelector",
            "names",
            "limits",
            "requests",
        }:
            continue
        without = sample(name)
        del get_at(without, path[:-1])[path[-1]]
        nulled = set_at(OBJECTS[name], path, None)
        results = [
            cluster_of(parse_documents(json.dumps(item).encode(), "f.json"))
            for item in (without, nulled)
        ]
        assert results[0].intent == results[1].intent, dotted(path)
        assert results[0].pods == results[1].pods, dotted(path)
        assert results[0].nodes == results[1].nodes, dotted(path)


FREE = {"labels", "matchLabels", "powerNodeSelector", "names", "metadata", "status"}


@pytest.mark.parametrize("name", OURS)
def test_an_unknown_field_is_refused_wherever_it_stands(name: str) -> None:
    """Every mapping of our kinds that has a schema × odd keys."""
    faults = []
    places = [
        (),
        *(
            path
            for path in paths_of(OBJECTS[name])
            if isinstance(get_at(OBJECTS[name], path), dict) and not FREE.intersection(path)
        ),
    ]
    for place in places:
        for key in ("surprise", "Spec", "node-selector", "", 7, True, None, 1.5):
            document = sample(name)
            target = get_at(document, place)
            target[key] = 1
            if key == 7:
                target["another"] = 2  # keys of unlike types together
            try:
                cluster_of(parse_documents(as_yaml(document).encode(), "f.yaml"))
            except InputError as failure:
                words = str(failure)
                if (
                    "document 1" not in words
                    or ("expected" not in words and "allowed are" not in words)
                    or (place and dotted(place) not in words)
                    or (isinstance(key, str) and "no field here; allowed are" not in words)
                ):
                    faults.append(f"{dotted(place)} {key!r}: said {words}")
            except Exception as failure:  # noqa: BLE001 - any other exception is the fault that is looked for
                faults.append(f"{dotted(place)} {key!r}: {failure!r}")
            else:
                faults.append(f"{dotted(place)} {key!r}: accepted")
    assert not faults, f"{len(faults)} faults: " + "\n".join(faults[:12])


@pytest.mark.parametrize("name", ["Pod", "Node"])
def test_kinds_that_are_not_ours_may_grow(name: str) -> None:
    """Unknown fields of Node and Pod are ignored wherever they stand."""
    plain = cluster_of(parse_documents(as_yaml(sample(name)).encode(), "f.yaml"))
    places = [
        (),
        *(
            path
            for path in paths_of(OBJECTS[name])
            if isinstance(get_at(OBJECTS[name], path), dict)
            and not {"labels", "limits", "requests"}.intersection(path)
        ),
    ]
    for place in places:
        document = sample(name)
        get_at(document, place)["grown"] = {"in": ["a", "later", "release"]}
        found = cluster_of(parse_documents(as_yaml(document).encode(), "f.yaml"))
        assert (found.pods, found.nodes, found.warnings) == (plain.pods, plain.nodes, ()), dotted(
            place
        )


@pytest.mark.parametrize("ending", ["yaml", "json"])
@pytest.mark.parametrize("name", OBJECTS)
def test_a_key_twice_is_refused_wherever_it_stands(name: str, ending: str) -> None:
    """Also in parts that nobody reads: which of the two was meant is not known."""
    for place in [
        (),
        *(
            path
            for path in paths_of(OBJECTS[name])
            if isinstance(get_at(OBJECTS[name], path), dict)
        ),
    ]:
        document = sample(name)
        target = get_at(document, place)
        key = next(iter(target), None)
        if key is None:
            continue
        target["TWICE"] = target[key]
        text = json.dumps(document).replace('"TWICE"', json.dumps(key))
        with pytest.raises(InputError, match=re.escape(repr(key))) as failure:
            cluster_of(parse_documents(text.encode(), f"f.{ending}"))
        assert "twice" in str(failure.value)


ALL_WRONG = [(name, path, wrong) for name in OBJECTS for path, wrong in wrong_values(name)]


@given(st.data())
@examples(40)
def test_a_wrong_type_through_the_command_line(data: st.DataObject) -> None:
    name, path, wrong = data.draw(st.sampled_from(ALL_WRONG))
    document = set_at(OBJECTS[name], path, wrong)
    for text in (as_yaml(document), as_json(document)):
        line = only_complaint(kpm("validate", "-f", "-", stdin=text))
        assert_names(line, ["standard input: document 1: ", named_path(path)])


# --- files, folders, sizes ---


def test_a_missing_file(tree: Path, tmp_path: Path) -> None:
    line = refused_everywhere(tmp_path / "nothing.yaml", tree, tmp_path)
    assert_names(line, [tmp_path / "nothing.yaml", "No such file"])


def test_no_file_at_all(tree: Path, tmp_path: Path) -> None:
    for verb, words in reading_verbs("x", tree, tmp_path).items():
        at = words.index("-f")
        assert_names(only_complaint(kpm(*words[:at], *words[at + 2 :])), ["-f", "missing"])
        assert verb


def test_an_empty_folder(tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    folder.mkdir()
    assert_names(refused_everywhere(folder, tree, tmp_path), [folder, ".yaml", ".json"])
    (folder / "readme.txt").write_text("{")
    assert_names(refused_everywhere(folder, tree, tmp_path), [folder, ".yaml", ".json"])


def test_a_folder_with_one_bad_file(tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    folder.mkdir()
    (folder / "a.yaml").write_text(as_yaml(*POLICY))
    (folder / "b.yml").write_text("a: [")
    assert_names(refused_everywhere(folder, tree, tmp_path), [folder / "b.yml", "document 1"])


def test_a_folder_that_looks_like_a_file(tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    (folder / "sub.yaml").mkdir(parents=True)
    assert_names(refused_everywhere(folder, tree, tmp_path), [folder / "sub.yaml"])


def test_a_link_that_leads_nowhere(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / "a.yaml").symlink_to("gone")
    assert_names(
        refused_everywhere(tmp_path / "objects", tree, tmp_path),
        [tmp_path / "objects" / "a.yaml", "No such file"],
    )


def test_an_object_twice_in_two_files(tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    folder.mkdir()
    (folder / "a.yaml").write_text(as_yaml(profile("p")))
    (folder / "b.json").write_text(as_json(profile("p", shared=True)))
    assert_names(
        refused_everywhere(folder, tree, tmp_path),
        [folder / "b.json", "power-manager/p", "twice", folder / "a.yaml"],
    )


def test_a_file_past_the_stated_size(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert documents.LARGEST_FILE <= 256 << 20
    monkeypatch.setattr(documents, "LARGEST_FILE", 2 << 20)
    file = tmp_path / "large.yaml"
    file.write_text(as_yaml(*POLICY) + "# comment\n" * 300_000)
    assert_names(refused_everywhere(file, tree, tmp_path), [file, "larger", "2 MiB"])
    assert_names(only_complaint(kpm("validate", "-f", "-", stdin=file.read_bytes())), ["2 MiB"])
    good = tmp_path / "o.yaml"
    good.write_text(as_yaml(*POLICY))
    assert_names(only_complaint(kpm("plan", "-f", good, "--machine", file)), [file, "2 MiB"])
    assert_names(
        only_complaint(kpm("plan", "-f", good, "--sysfs", tree, "--pod-resources", file)),
        [file, "2 MiB"],
    )
    file.write_bytes(file.read_bytes()[: 2 << 20].rpartition(b"\n")[0])
    assert kpm("validate", "-f", file).code == 0


def test_the_stated_depth_and_number_of_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the limits everything is read, one step past them nothing; in YAML of both styles and
    in JSON.
    """

    def nested(levels: int) -> dict[str, Any]:
        inner: Any = 1
        for _ in range(levels - 2):  # the document and spec are two
            inner = {"a": inner}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p"},
            "spec": {"extra": inner},
        }

    for levels, code in ((documents.DEEPEST - 2, 0), (documents.DEEPEST + 3, 2)):
        for text in (
            as_json(nested(levels)),
            as_yaml(nested(levels)),
            f"---\n{as_json(nested(levels))}",
        ):
            ran = kpm("validate", "-f", "-", stdin=text)
            assert ran.code == code, (levels, text[:20], ran)
            assert code == 0 or f"{documents.DEEPEST} levels" in only_complaint(ran)
    monkeypatch.setattr(documents, "LARGEST_DOCUMENT", 1000)
    for count, code in ((900, 0), (1100, 2)):
        pod_with_many = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p"},
            "spec": {"extra": [1] * count},
        }
        for text in (as_json(pod_with_many), as_yaml(pod_with_many)):
            ran = kpm("validate", "-f", "-", stdin=text)
            assert ran.code == code, (count, ran)
            assert code == 0 or "1000 values" in only_complaint(ran)


def test_a_file_without_end_is_not_read_whole() -> None:
    assert_names(
        only_complaint(run_bounded("validate", "-f", "/dev/zero")), ["/dev/zero", "larger"]
    )


DEEP = {
    "flow lists": "[" * 100_000,
    "flow mappings": "{a: " * 100_000,
    "closed flow lists": "[" * 20_000 + "]" * 20_000,
    "block lists": "- " * 200_000 + "x",
    "complex keys": "? " * 50_000 + "x",
    "JSON": '{"a": ' * 100_000 + "1" + "}" * 100_000,
    "JSON lists": '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "indented": "".join(f"{' ' * depth}a:\n" for depth in range(700)),
    "brackets in quotes": '"' + "[" * 5000 + '": ' + "- " * 50_000,
    "a little": TEXT + "spec: " + "{a: " * 70 + "1" + "}" * 70,
}


@pytest.mark.parametrize("ending", ["yaml", "json"])
@pytest.mark.parametrize("name", DEEP)
def test_deep_nesting(name: str, ending: str, tmp_path: Path) -> None:
    """Too deep a recursion would end the process by a signal."""
    file = tmp_path / f"deep.{ending}"
    file.write_text(DEEP[name])
    assert_names(only_complaint(run_bounded("validate", "-f", file)), [file])


BOMBS = {
    "merge keys": (
        "a0: &a0 {k1: 1, k2: 2}\n"
        + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12))
    ),
    "merge keys of one": (
        "a0: &a0 {k1: 1, k2: 2}\n"
        + "".join(
            f"a{n}: &a{n} {{b: *a{n - 1}, <<: [*a{n - 1}, *a{n - 1}, *a{n - 1}]}}\n"
            for n in range(1, 24)
        )
    ),
    "lists": (
        "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    ),
    "mappings": (
        "a0: &a0 {k: x}\n"
        + "".join(
            f"a{n}: &a{n} {{{', '.join(f'k{k}: *a{n - 1}' for k in range(9))}}}\n"
            for n in range(1, 12)
        )
    ),
    "keys": (
        "a0: &a0 x\n"
        + "".join(f"a{n}: {{? *a0 : {{? *a0 : *a0}}}}\n" for n in range(9))
        + "b: &b [*b, *b]\n"
    ),
    "a long chain": "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 5000)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_of_aliases_costs_neither_time_nor_memory(name: str, tmp_path: Path) -> None:
    file = tmp_path / "bomb.yaml"
    file.write_text(BOMBS[name])
    assert_names(only_complaint(run_bounded("validate", "-f", file)), [file, "document 1"])


def test_aliases_and_merge_keys_in_measure_are_fine() -> None:
    text = (
        "apiVersion: v1\nkind: List\nitems:\n- "
        + TEXT.replace("\n", "\n  ")
        + "spec: {pstates: &p {min: 900, max: 1500}, cstates: &c {names: {C1: true}}}\n- "
    )
    text += (
        TEXT.replace("fast", "slow").replace("\n", "\n  ")
        + "spec: {shared: true, pstates: {<<: *p, min: 1000}, cstates: *c}\n"
    )
    first, second = cluster_of(parse_documents(text.encode(), "f.yaml")).intent.profiles
    assert (first.pstates.min, second.pstates.min, second.pstates.max) == (900, 1000, 1500)
    assert first.cstates == second.cstates


def test_a_foreign_kind_may_hold_anything(tmp_path: Path) -> None:
    """It is ignored with a warning, whatever is in it: numbers as keys, which kubectl takes, and
    values of any type.
    """
    text = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {8080: x, on: y, 1.5:"
        " z}\nother: [[[]], {a: 1.5}]\n---\n" + TEXT
    )
    ran = kpm("validate", "-f", "-", stdin=text)
    assert ran.code == 0, ran
    assert ran.err == "warning: standard input: document 1: ConfigMap/c of v1 is ignored\n"


@pytest.fixture
def as_nobody(tmp_path: Path, tree: Path) -> Callable[..., Ran]:
    """Runs a verb without any right beyond other people's."""
    open_to_all(tmp_path)
    (tmp_path / "warm.yaml").write_text(as_yaml(*POLICY))
    kpm("plan", "-f", tmp_path / "warm.yaml", "--sysfs", tree)
    return run_as_nobody


def test_what_may_not_be_read(as_nobody: Callable[..., Ran], tmp_path: Path) -> None:
    folder, file = tmp_path / "objects", tmp_path / "o.yaml"
    folder.mkdir()
    (folder / "a.yaml").write_text(as_yaml(*POLICY))
    file.write_text(as_yaml(*POLICY))
    file.chmod(0)
    assert_names(only_complaint(as_nobody("validate", "-f", file)), [file, "Permission denied"])
    (folder / "a.yaml").chmod(0)
    assert_names(
        only_complaint(as_nobody("validate", "-f", folder)),
        [folder / "a.yaml", "Permission denied"],
    )
    folder.chmod(0)
    assert_names(only_complaint(as_nobody("validate", "-f", folder)), [folder, "Permission denied"])
    assert_names(
        only_complaint(as_nobody("validate", "-f", folder / "a.yaml")),
        [folder / "a.yaml", "Permission denied"],
    )
    folder.chmod(0o755)


def test_a_tree_or_machine_that_may_not_be_read(
    as_nobody: Callable[..., Ran], tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "o.yaml").write_text(as_yaml(*POLICY))
    (tmp_path / "m.json").write_text(XEON)
    (tmp_path / "m.json").chmod(0)
    words = ["plan", "-f", tmp_path / "o.yaml"]
    assert_names(
        only_complaint(as_nobody(*words, "--machine", tmp_path / "m.json")),
        [tmp_path / "m.json", "Permission denied"],
    )
    assert_names(
        only_complaint(as_nobody(*words, "--sysfs", tree, "--pod-resources", tmp_path / "m.json")),
        [tmp_path / "m.json", "Permission denied"],
    )
    tree.chmod(0)
    assert_names(only_complaint(as_nobody(*words, "--sysfs", tree)), ["--sysfs", tree])
    assert_names(only_complaint(as_nobody("discover", "--sysfs", tree)), ["--sysfs", tree])
    tree.chmod(0o755)


def test_a_closed_standard_input() -> None:
    line = only_complaint(run_process("validate", "-f", "-", before="sys.stdin = None"))
    assert "standard input" in line or " -: " in line


# --- options ---


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    file = tmp_path / "policy.yaml"
    file.write_text(as_yaml(*POLICY))
    return file


POD_RESOURCES: dict[str, tuple[str, list[str]]] = {
    "no JSON": ("{", []),
    "nothing": ("", []),
    "a list": ("[]", []),
    "two documents": ("{}\n---\n{}\n", []),
    "no podResources": ('{"pods": []}', ["podResources"]),
    "podResources as a mapping": ('{"podResources": {}}', ["podResources", "a mapping", "a list"]),
    "an entry that is none": ('{"podResources": [7]}', ["podResources[0]", "7"]),
    "a name that is a number": (
        (
            '{"podResources": [{"namespace": "x", "name": 7, "containers": [{"name": "c", "cpuIds":'
            " [1]}]}]}"
        ),
        ["podResources[0]", "7", "text"],
    ),
    "containers that are none": (
        '{"podResources": [{"name": "p", "containers": {}}]}',
        ["podResources[0].containers", "a mapping"],
    ),
    "ids that are no list": (
        '{"podResources": [{"name": "p", "containers": [{"name": "c", "cpuIds": "1-3"}]}]}',
        ["podResources[0].containers[0].cpuIds", "'1-3'"],
    ),
    **{
        f"the id {text}": (
            (
                '{"podResources": [{"name": "p", "containers": [{"name": "c", "cpuIds": [0,'
                f" {text}]}}]}}]}}"
            ),
            ["podResources[0].containers[0].cpuIds[1]", "expected"],
        )
        for text in (
            "-1",
            "1.5",
            "true",
            '"x"',
            '""',
            '"-1"',
            '"1.0"',
            '"0x1"',
            "[1]",
            "65536",
            "9" * 4000,
            '"²"',
        )
    },
    "allocatable ids that are none": (
        '{"podResources": [], "cpuIds": [0, -1]}',
        ["cpuIds[1]", "-1"],
    ),
    "a key twice": ('{"podResources": [], "podResources": []}', ["'podResources'", "twice"]),
}


@pytest.mark.parametrize("name", POD_RESOURCES)
def test_bad_pod_resources(name: str, policy: Path, tree: Path, tmp_path: Path) -> None:
    text, parts = POD_RESOURCES[name]
    file = tmp_path / "answer.json"
    file.write_text(text)
    before = tree_hash(tree)
    for verb in ("plan", "diff", "apply"):
        line = only_complaint(
            kpm(
                verb,
                "-f",
                policy,
                "--sysfs",
                tree,
                "--pod-resources",
                file,
                "--state-dir",
                tmp_path / "state",
            )
        )
        assert_names(line, [file, *parts])
    assert tree_hash(tree) == before
    assert not (tmp_path / "state").exists()


def test_bad_pod_resources_options(policy: Path, tree: Path, tmp_path: Path) -> None:
    file, machine = tmp_path / "answer.json", tmp_path / "m.json"
    file.write_text('{"podResources": []}')
    machine.write_text(XEON)
    several = ["--machine", f"a={machine}", "--machine", f"b={machine}"]
    words = ["plan", "-f", policy]
    state = ["--state-dir", tmp_path / "state"]
    assert_names(
        only_complaint(kpm(*words, "--sysfs", tree, "--pod-resources", tmp_path / "none")),
        [tmp_path / "none", "No such file"],
    )
    assert_names(
        only_complaint(kpm(*words, "--sysfs", tree, "--pod-resources", file, "--assign-cpus")),
        ["--assign-cpus", "--pod-resources"],
    )
    assert_names(
        only_complaint(
            kpm(
                "apply",
                "-f",
                policy,
                "--sysfs",
                tree,
                *state,
                "--pod-resources",
                file,
                "--assign-cpus",
            )
        ),
        ["--assign-cpus", "--pod-resources"],
    )
    assert_names(
        only_complaint(kpm(*words, *several, "--pod-resources", file)),
        ["--pod-resources", "NODE=FILE", "a, b"],
    )
    assert_names(
        only_complaint(kpm(*words, *several, "--pod-resources", f"c={file}")),
        ["--pod-resources", "c=", "a, b"],
    )
    line = only_complaint(
        kpm(*words, "--sysfs", tree, "--pod-resources", file, "--pod-resources", file)
    )
    assert_names(line, ["--pod-resources", "twice"])
    assert not (tmp_path / "state").exists()


MACHINES: dict[str, tuple[str, list[str]]] = {
    "no JSON": ("{", []),
    "nothing": ("", []),
    "a list": ("[]", []),
    "a text": ("xeon", []),
    "two documents": ("model: xeon\n---\nmodel: xeon\n", []),
    "an unknown model": ('{"model": "cray"}', ["model", "'cray'", "xeon", "arm"]),
    "an unknown field": ('{"model": "xeon", "sockets": 2}', ["sockets", "allowed are", "packages"]),
    "an unknown field of a part": ('{"uncore": {"min": 5}}', ["uncore.min", "minMHz"]),
    "a field in Python's words": ('{"min_mhz": 800}', ["min_mhz", "minMHz"]),
    "a text for a number": ('{"packages": "2"}', ["packages", "'2'", "a whole number"]),
    "true for a number": ('{"packages": true}', ["packages", "True"]),
    "no package": ('{"packages": 0}', ["packages", "0", "1"]),
    "fewer than no thread": ('{"threads": -1}', ["threads", "-1"]),
    "too many CPUs": ('{"packages": 4096, "cores": 4096}', ["4096"]),
    "a kind with no core": ('{"kinds": [{"cores": 0}]}', ["CPUs"]),
    "kinds that are no list": ('{"kinds": {"cores": 1}}', ["kinds", "a mapping", "a list"]),
    "a kind without cores": ('{"kinds": [{"name": "P"}]}', ["kinds[0]"]),
    "minimum above maximum": ('{"minMHz": 4000}', ["minMHz", "4000", "maxMHz"]),
    "no frequency": ('{"minMHz": 0}', ["minMHz", "0"]),
    "kHz for MHz": ('{"maxMHz": 3700000}', ["maxMHz", "3700000"]),
    "a numbering that is none": (
        '{"numbering": "odd"}',
        ["numbering", "'odd'", "split or adjacent"],
    ),
    "offline that is no list": ('{"offline": "0..3"}', ["offline", "'0..3'", "3,8-9"]),
    "offline that falls": ('{"offline": "3-0"}', ["offline", "'3-0'"]),
    "offline CPUs that do not exist": ('{"cores": 4, "offline": "99"}', ["offline", "99"]),
    "an uncore layout that is none": (
        '{"uncore": {"layout": "odd"}}',
        ["uncore.layout", "'odd'", "package or tpmi"],
    ),
    "an uncore minimum above its maximum": ('{"uncore": {"minMHz": 9000}}', ["uncore", "9000"]),
    "a latency below nothing": (
        '{"idleStates": [{"name": "C1", "latencyUs": -1}]}',
        ["idleStates[0].latencyUs", "-1"],
    ),
    "a state without name": ('{"idleStates": [{"latencyUs": 1}]}', ["idleStates[0]", "missing"]),
    "a number of 4000 digits": (f'{{"packages": {"9" * 4000}}}', ["packages"]),
    "a number of 5000 hexadecimal digits": (f"packages: 0x{'f' * 5000}\n", []),
    "no version": ('{"cpus": [{"cpu": 0}]}', ["version"]),
    "another version": ('{"version": 2, "cpus": [{"cpu": 0}]}', ["version", "2", "1"]),
    "no CPU": ('{"version": 1, "cpus": []}', ["cpus"]),
    "a CPU without number": ('{"version": 1, "cpus": [{}]}', ["cpus[0].cpu", "None"]),
    "a CPU below nothing": ('{"version": 1, "cpus": [{"cpu": -1}]}', ["cpus", "-1"]),
    "a CPU past all": ('{"version": 1, "cpus": [{"cpu": 65536}]}', ["cpus", "65536"]),
    "a CPU twice": ('{"version": 1, "cpus": [{"cpu": 0}, {"cpu": 0}]}', ["cpus", "0", "once"]),
    "a domain that is not there": (
        '{"version": 1, "cpus": [{"cpu": 0, "frequencyDomain": 3}]}',
        ["CPU 0", "3"],
    ),
    "a domain twice": (
        (
            '{"version": 1, "cpus": [{"cpu": 0, "frequencyDomain": 0}], "frequencyDomains": [{"id":'
            ' 0, "cpus": [0]}, {"id": 0, "cpus": [0]}]}'
        ),
        ["frequencyDomains", "once"],
    ),
    "idle that is a number": (
        '{"version": 1, "cpus": [{"cpu": 0}], "idle": 0}',
        ["idle", "0", "a mapping"],
    ),
    "a default that is none": (
        (
            '{"version": 1, "cpus": [{"cpu": 0}], "idle": {"cpus": [{"cpu": 0, "states": [{"index":'
            ' 0, "name": "C1", "default": "on"}]}]}}'
        ),
        ["idle.cpus[0].states[0].default", "'on'"],
    ),
}


@pytest.mark.parametrize("name", MACHINES)
def test_a_bad_machine(name: str, policy: Path, tmp_path: Path) -> None:
    text, parts = MACHINES[name]
    file = tmp_path / "machine.yaml"
    file.write_text(text)
    for option in (file, f"n={file}"):
        assert_names(only_complaint(kpm("plan", "-f", policy, "--machine", option)), [file, *parts])


def test_a_machine_with_a_value_of_a_wrong_type(tmp_path: Path) -> None:
    """Every field of `discover -o json` that is read × every wrong type."""
    content = json.loads(json.dumps(machine_view(build_machine(MODELS["arm"]))))
    content["cpus"], content["idle"]["cpus"], content["frequencyDomains"] = (
        content["cpus"][:2],
        content["idle"]["cpus"][:1],
        content["frequencyDomains"][:1],
    )
    content["uncore"] = machine_view(build_machine(MODELS["xeon"]))["uncore"][:1]
    numbers = {"package", "die", "cluster", "core", "domain"}
    file, faults = tmp_path / "m.json", []
    for path in paths_of(content):
        value = get_at(content, path)
        if path[0] == "features":
            continue
        kind = (
            int
            if path[-1] in numbers
            else bool
            if path[-1] == "boost"
            else str
            if value is None
            else type(value)
        )
        for wrong in WRONG:
            if type(wrong) is kind:
                continue
            file.write_text(json.dumps(set_at(content, path, wrong)))
            try:
                read_machine(str(file))
            except InputError as failure:
                items = r"\[\d+\]$"
                if re.sub(items, "", dotted(path)) not in str(failure) or "\n" in str(failure):
                    faults.append(f"{dotted(path)} = {wrong!r}: said {failure}")
            except Exception as failure:  # noqa: BLE001 - any other exception is the fault that is looked for
                faults.append(f"{dotted(path)} = {wrong!r}: {failure!r}")
            else:
                faults.append(f"{dotted(path)} = {wrong!r}: accepted")
    assert not faults, f"{len(faults)} faults: " + "\n".join(faults[:12])


def test_bad_machine_options(policy: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    file.write_text(XEON)
    words = ["plan", "-f", policy]
    assert_names(
        only_complaint(kpm(*words, "--machine", tmp_path / "none.json")),
        [tmp_path / "none.json", "No such file"],
    )
    assert_names(only_complaint(kpm(*words, "--machine", tmp_path)), [tmp_path])
    assert_names(
        only_complaint(kpm(*words, "--machine", file, "--machine", file)),
        ["--machine", file, "NODE=FILE"],
    )
    assert_names(
        only_complaint(kpm(*words, "--machine", f"a={file}", "--machine", f"a={file}")),
        ["--machine", "'a'", "twice"],
    )
    assert_names(
        only_complaint(kpm(*words, "--machine", f"={file}", "--machine", f"a={file}")),
        ["--machine", "NODE=FILE"],
    )
    assert_names(
        only_complaint(kpm(*words, "--machine", f"a={tmp_path / 'none'}")), [tmp_path / "none"]
    )


def test_a_bad_node(policy: Path, tree: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    file.write_text(XEON)
    several = ["--machine", f"a={file}", "--machine", f"b={file}"]
    assert_names(
        only_complaint(kpm("plan", "-f", policy, *several, "--node", "c")), ["--node", "'c'"]
    )
    policy.write_text(as_yaml(node("a"), node("b")))
    for verb in ("plan", "diff", "apply"):
        line = only_complaint(
            kpm(verb, "-f", policy, "--sysfs", tree, "--state-dir", tmp_path / "state")
        )
        assert_names(line, ["--node", "missing", "a, b"])
    assert not (tmp_path / "state").exists()


def test_a_bad_sysfs(policy: Path, tmp_path: Path) -> None:
    empty, file, damaged = tmp_path / "empty", tmp_path / "file", tmp_path / "damaged"
    empty.mkdir()
    file.write_text("")
    (damaged / "devices/system/cpu").mkdir(parents=True)
    (damaged / "devices/system/cpu/online").write_text("many\n")
    only_complaint(kpm("discover", "--sysfs", ""))
    for root, parts in {
        tmp_path / "none": [],
        file: [],
        empty: ["online"],
        damaged: ["online", "'many'", "0-3,8"],
    }.items():
        for words in (
            ["discover"],
            ["plan", "-f", policy],
            ["diff", "-f", policy],
            ["apply", "-f", policy],
            ["restore"],
            ["snapshot", tmp_path / "snap", "-f", policy],
        ):
            state = [] if words == ["discover"] else ["--state-dir", tmp_path / "state"]
            line = only_complaint(kpm(*words, "--sysfs", root, *state))
            assert_names(line, [f"--sysfs {root}", *parts])
    assert not (tmp_path / "state").exists()
    assert not (tmp_path / "snap").exists()


@pytest.mark.parametrize("name", ["99", "-1", "x", "1.0", "²", "", "1" * 30, "0-3"])
def test_a_cpu_that_is_none(name: str, policy: Path, tree: Path) -> None:
    line = only_complaint(kpm("explain", "-f", policy, "--sysfs", tree, "cpu", "--", name))
    assert_names(line, ["cpu", repr(name), "0", "3"])


def test_a_damaged_recording(policy: Path, tmp_path: Path) -> None:
    """Each file of a recording missing, empty, unparsable or of another shape."""
    folder = tmp_path / "case"
    (tmp_path / "m.json").write_text(XEON)
    assert kpm("snapshot", folder, "-f", policy, "--machine", tmp_path / "m.json").code == 0
    good = {path.name: path.read_text() for path in folder.iterdir()}
    unreadable = [None, "", "{", "[]", "7"]
    wrong = {
        "snapshot.json": [
            "{}",
            '{"version": 2, "nodes": []}',
            '{"version": 1}',
            *(
                f'{{"version": 1, "nodes": {text}}}'
                for text in ('{"a": 1}', "[1]", "[{}]", '[{"name": 7, "labels": {}}]')
            ),
        ],
        "objects.json": ["{}", '{"apiVersion": "v1"}'],
        "machine-0.json": ['{"version": 2}', '{"model": "none"}', '{"version": 1, "cpus": []}'],
        "allocation-0.json": [
            '{"version": 2}',
            '{"version": 1, "containers": {}}',
            '{"version": 1, "containers": [{"cpus": ["x"]}]}',
            '{"version": 1, "pods": [7]}',
        ],
        "plan.json": [],
    }
    assert good.keys() == wrong.keys()
    faults = []
    for name, text in good.items():
        for damage in [*unreadable, *wrong[name]]:
            (folder / name).unlink()
            if damage is not None:
                (folder / name).write_text(damage)
            ran = kpm("replay", folder)
            if ran.code != 2 or len(ran.complaints) != 1 or str(folder / name) not in ran.err:
                faults.append(f"{name} = {damage}: exit {ran.code} {ran.err}")
            (folder / name).write_text(text)
    assert not faults, "\n".join(faults)
    assert kpm("replay", folder).code == 0
    assert_names(only_complaint(kpm("replay", tmp_path / "none")), [tmp_path / "none"])


def test_a_snapshot_that_cannot_be_written(policy: Path, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        assert_names(
            only_complaint(kpm("snapshot", folder, "-f", policy, "--sysfs", tree)), [folder]
        )


# --- anything at all ---

ANSWER = (
    '{"podResources": [{"namespace": "default", "name": "web", "containers": [{"name": "app",'
    ' "cpuIds": [2, "3"]}]}], "cpuIds": [1, 2, 3]}'
)
BASES = [
    *map(as_yaml, OBJECTS.values()),
    *map(as_json, OBJECTS.values()),
    as_yaml({"apiVersion": "v1", "kind": "List", "items": [*OBJECTS.values()]}),
    as_yaml(*POLICY),
]
TOKENS = [
    "\t",
    "&a ",
    "*a",
    "<<: ",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "!!binary ",
    "!!set ",
    "!!omap ",
    "!!int ",
    "!!float ",
    "!!timestamp ",
    "!!null ",
    "!!str ",
    "!x ",
    "\0",
    "null",
    "~",
    "0x",
    "1e400",
    ".nan",
    ".inf",
    "-1",
    "1:30",
    "010",
    "yes",
    "\n",
    "\n---\n",
    "\n...\n",
    "%YAML 2.0\n",
    "%TAG ! !\n",
    "| ",
    ">-\n",
    "'",
    '"',
    "#",
    "? ",
    "é",
    "\u2028",
    "\x85",
    "\ufeff",
    "\x1b[31m",
    "\x9b",
    "\r",
    "\\",
    "@",
    "`",
    "[/x]",
    "0" * 50,
    "9" * 50,
    " " * 20,
]
_EDITS = st.lists(
    st.tuples(
        st.sampled_from(["insert", "delete", "repeat", "swap"]),
        st.integers(0, 10_000),
        st.sampled_from(TOKENS),
        st.integers(1, 30),
    ),
    min_size=1,
    max_size=4,
)


def edited(text: str, edits: list[tuple[str, int, str, int]]) -> str:
    """A text with parts inserted, taken out, repeated or written over."""
    for what, where, token, length in edits:
        at = where % (len(text) + 1)
        cut = {"insert": token, "delete": "", "repeat": text[at : at + length] * 2, "swap": token}[
            what
        ]
        text = text[:at] + cut + text[at + (0 if what == "insert" else length) :]
    return text


def assert_civil(ran: Ran) -> None:
    """Whatever came in: an exit status of the contract, one line where it is 2, no control
    characters.
    """
    assert ran.code in (0, 1, 2), ran
    assert not CONTROLS.search(ran.err), ran.err
    assert not CONTROLS.search(ran.out), ran.out
    if ran.code == 2:
        only_complaint(ran)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("fuzz")
    (where / "m.json").write_text(XEON)
    (where / "o.yaml").write_text(as_yaml(*POLICY, pod("web")))
    return where


@given(st.binary(max_size=200))
@example(b"\xef\xbb\xbf{}")
@example(b"\xff\xfe")
@examples(60)
def test_random_bytes_are_no_traceback(folder: Path, data: bytes) -> None:
    for ending in ("yaml", "json", "txt"):
        (folder / f"x.{ending}").write_bytes(data)
        assert_civil(kpm("validate", "-f", folder / f"x.{ending}"))
    assert_civil(kpm("validate", "-f", "-", stdin=data))
    assert_civil(kpm("plan", "-f", folder / "o.yaml", "--machine", folder / "x.yaml"))
    assert_civil(
        kpm(
            "plan",
            "-f",
            folder / "o.yaml",
            "--machine",
            folder / "m.json",
            "--pod-resources",
            folder / "x.yaml",
        )
    )


@given(st.sampled_from(BASES), _EDITS)
@examples(150)
def test_damaged_objects_are_no_traceback(
    folder: Path, base: str, edits: list[tuple[str, int, str, int]]
) -> None:
    (folder / "edited.yaml").write_bytes(edited(base, edits).encode())
    assert_civil(kpm("validate", "-f", folder / "edited.yaml"))
    assert_civil(
        kpm(
            "plan",
            "-f",
            folder / "edited.yaml",
            "--machine",
            folder / "m.json",
            "--node",
            "n",
            "--assign-cpus",
        )
    )


@given(
    st.sampled_from(
        [
            as_json(machine_view(build_machine(MODELS["arm"])))[:4000],
            as_yaml({"model": "xeon", "packages": 1, "offline": "3"}),
            as_json({"kinds": [{"cores": 2}]}),
            ANSWER,
        ]
    ),
    _EDITS,
)
@examples(60)
def test_damaged_machines_and_answers_are_no_traceback(
    folder: Path, base: str, edits: list[tuple[str, int, str, int]]
) -> None:
    (folder / "edited.json").write_bytes(edited(base, edits).encode())
    assert_civil(kpm("plan", "-f", folder / "o.yaml", "--machine", folder / "edited.json"))
    assert_civil(
        kpm(
            "plan",
            "-f",
            folder / "o.yaml",
            "--machine",
            folder / "m.json",
            "--pod-resources",
            folder / "edited.json",
        )
    )


# --- the terminal ---

ESCAPES = "a\x1b[31mb\x1b]0;title\x07c\x9b2Jd\re\x08f\x00g\x7fh\u202ei\n\tj"
MARKUP = "[/x][red]a[/red]\\[b][link=http://x]c"


def texts_of(name: str) -> list[tuple[tuple[str | int, ...], bool]]:
    """The texts of a sample: each value that is one, and (True) each key that the user chose."""
    values = [
        (path, False)
        for path in paths_of(OBJECTS[name])
        if isinstance(get_at(OBJECTS[name], path), str)
    ]
    keys = [
        (path, True)
        for path in paths_of(OBJECTS[name])
        if len(path) > 1
        and isinstance(path[-1], str)
        and path[-2]
        in ("labels", "matchLabels", "powerNodeSelector", "names", "limits", "requests")
    ]
    return [*values, *keys]


def with_text(name: str, path: tuple[str | int, ...], is_key: bool, text: str) -> dict[str, Any]:
    if not is_key:
        changed: dict[str, Any] = set_at(OBJECTS[name], path, text)
        return changed
    document = sample(name)
    target = get_at(document, path[:-1])
    target[f"{path[-1]}{text}"] = target.pop(path[-1])
    return document


@in_parts(4)
@pytest.mark.parametrize("name", OBJECTS)
def test_texts_of_objects_never_reach_the_terminal_raw(
    name: str, part: int, tree: Path, tmp_path: Path
) -> None:
    """Any text of any object, in any verb that prints tables: escaped or shown as it is, never
    obeyed. A part is every fourth text.
    """
    faults = []
    file, rest = tmp_path / "o.json", tmp_path / "rest.yaml"
    others = [
        item
        for key, item in OBJECTS.items()
        if item["kind"] != OBJECTS[name]["kind"] and key != "PowerConfig"
    ]
    rest.write_text(as_yaml(*others))
    for path, is_key in texts_of(name)[part::4]:
        file.write_text(as_json(with_text(name, path, is_key, MARKUP + ESCAPES)))
        both = ["-f", file, "-f", rest, "--node", "n", "--assign-cpus", "--sysfs", tree]
        what = {"Pod": ("pod", "default/web"), "PowerProfile": ("profile", "fast")}.get(
            OBJECTS[name]["kind"], ("cpu", "2")
        )
        runs = [
            ["validate", "-f", file],
            ["plan", *both],
            ["diff", *both],
            ["explain", *both, *what],
        ]
        for words in runs:
            try:
                ran = kpm(*words)
            except AssertionError as failure:
                faults.append(f"{words[0]} {dotted(path)}: {failure.__cause__!r}")
                continue
            if CONTROLS.search(ran.out + ran.err):
                faults.append(f"{words[0]} {dotted(path)}: raw controls")
            elif ran.code == 2 and words[0] != "diff" and len(ran.complaints) != 1:
                faults.append(f"{words[0]} {dotted(path)}: {ran.complaints}")
    assert not faults, f"{len(faults)} faults: " + "\n".join(faults[:12])


@pytest.mark.parametrize("output", ["table", "json", "yaml"])
def test_half_a_character_is_no_traceback(output: str, tmp_path: Path) -> None:
    """JSON can say what no encoding can: a lone surrogate."""
    web = pod("web")
    web["spec"]["containers"][0]["name"] = "a\ud800b"
    (tmp_path / "o.json").write_text(
        json.dumps({"apiVersion": "v1", "kind": "List", "items": [*POLICY, web]})
    )
    (tmp_path / "m.json").write_text(XEON)
    words = ["-f", tmp_path / "o.json", "--machine", tmp_path / "m.json", "--assign-cpus"]
    assert_civil(kpm("plan", *words, "-o", output))
    assert_civil(kpm("explain", *words, "pod", "web"))
    assert_civil(kpm("snapshot", tmp_path / "case", *words))


def test_markup_is_shown_as_it_is(tmp_path: Path) -> None:
    """A container may be called [red]; the table says so."""
    web = pod("web")
    web["spec"]["containers"][0]["name"] = "[red]app"
    (tmp_path / "o.yaml").write_text(as_yaml(*POLICY, web))
    (tmp_path / "m.json").write_text(XEON)
    ran = kpm(
        "plan",
        "-f",
        tmp_path / "o.yaml",
        "--machine",
        tmp_path / "m.json",
        "--assign-cpus",
        env={"COLUMNS": "300"},
    )
    assert "default/web:[red]app" in ran.out
    assert kpm(
        "plan", "-f", tmp_path / "o.yaml", "--machine", tmp_path / "m.json", "--node", "[/x]"
    ).code in (0, 2)


@pytest.mark.parametrize("text", ["\x1b[31mx\x07\x9by", "[/x][red]y"], ids=["escapes", "markup"])
def test_texts_of_machines_never_reach_the_terminal_raw(
    text: str, policy: Path, tree: Path, tmp_path: Path
) -> None:
    content = json.loads(json.dumps(machine_view(build_machine(MODELS["xeon"]))))
    content["cpus"] = content["cpus"][:2]
    content["frequencyDomains"], content["idle"]["cpus"] = (
        content["frequencyDomains"][:2],
        content["idle"]["cpus"][:1],
    )
    for path in paths_of(content):
        if isinstance(get_at(content, path), str) and path[0] != "features":
            (tmp_path / "m.json").write_text(json.dumps(set_at(content, path, text)))
            assert_civil(kpm("plan", "-f", policy, "--machine", tmp_path / "m.json"))
            assert_civil(kpm("explain", "-f", policy, "--machine", tmp_path / "m.json", "cpu", "0"))
    for name in (
        "cpuidle/current_driver",
        "cpu0/cpuidle/state1/name",
        "cpufreq/policy0/scaling_governor",
        "cpufreq/policy0/scaling_driver",
        "cpufreq/policy0/scaling_available_governors",
    ):
        file = tree / "devices/system/cpu" / name
        before = file.read_text()
        file.write_bytes(f"{text}\n".encode())
        for words in (
            ["discover"],
            ["plan", "-f", policy],
            ["diff", "-f", policy],
            ["explain", "-f", policy, "cpu", "0"],
        ):
            assert_civil(kpm(*words, "--sysfs", tree))
        file.write_text(before)


@pytest.mark.parametrize(
    "name", ["\x1b[31mred\x07.yaml", "new\nline.yaml", "[red].yaml", "ünï.yaml"]
)
def test_names_of_files_never_reach_the_terminal_raw(
    name: str, policy: Path, tree: Path, tmp_path: Path
) -> None:
    file = tmp_path / "folder" / name
    file.parent.mkdir()
    for content in (
        "{",
        "7",
        as_yaml(profile("p", shared=7)),
        as_yaml(node("n"), node("n")),
        as_yaml({"apiVersion": "x/v1", "kind": "Odd"}),
    ):
        file.write_text(content)
        for words in (
            ["validate", "-f", file],
            ["validate", "-f", file.parent],
            ["plan", "-f", policy, "--machine", file],
            ["plan", "-f", policy, "--sysfs", tree, "--pod-resources", file],
        ):
            assert_civil(kpm(*words))
    calls: tuple[list[object], ...] = (
        ["validate", "-f", f"{file}-none"],
        ["discover", "--sysfs", file],
        ["plan", "-f", policy, "--sysfs", f"{file}-none"],
        ["replay", file],
        ["snapshot", file / "x", "-f", policy],
    )
    for call in calls:
        ran = kpm(*call) if call[0] != "snapshot" else kpm(*call, "--sysfs", tree)
        assert_civil(ran)
        assert ran.code == 2


def test_a_name_of_a_file_that_is_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.yaml")
    only_complaint(run_process("validate", "-f", name))
    Path(name).write_text("{")
    only_complaint(run_process("validate", "-f", name))
    only_complaint(run_process("validate", "-f", tmp_path, env={"LC_ALL": "C", "PYTHONUTF8": "0"}))
