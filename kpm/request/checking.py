"""Every fault of every file: what `kpm validate` says, each with file, document and line.

One fault hides no other: a file that cannot be read, a document that is none and a field that is
wrong cost themselves. Pods and what makes pods are looked at too: whether a container that asks for
a profile can get CPUs of its own.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import yaml
from attrs import Factory, evolve, frozen

from kpm.formats.documents import Document, files_of, nothing_in, parse_documents, read_file
from kpm.formats.pods import structure_pod
from kpm.formats.wire import KINDS, WireError, names_of, structure_object
from kpm.process.errors import InputError, one_line
from kpm.request.objects import cluster_of
from kpm_planner.left_out import left_out_of_nodes
from kpm_planner.model.cluster import Node
from kpm_planner.model.objects import Intent
from kpm_planner.model.problems import Code, Problem, Severity, error, warning
from kpm_planner.model.why import Why
from kpm_planner.pod_requests import pod_faults
from kpm_planner.validate import validate_intent

#: Kinds that make pods → where the pod's template is.
_TEMPLATES: dict[str, tuple[str, ...]] = {
    "Pod": (),
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
_PLACE = re.compile(r"document (\d+)(?: items\[(\d+)\])?$")
#: Of a fault's field, the steps of a path.
_STEP = re.compile(r"[^.\[\]]+|\[\d+\]")


@frozen
class Fault:
    """A problem and where it stands. line: 0 where it is not known. refusal: what every other verb
    says of a document that it cannot read, "" for one that can be read.
    """

    file: str
    document: int
    line: int
    problem: Problem
    refusal: str = ""

    def __str__(self) -> str:
        if self.refusal:
            return f"kpm: {self.refusal}" + (f" (line {self.line})" if self.line else "")
        return f"{self.file}:{self.line}: {self.problem}"


@frozen
class Checked:
    """All that was found. left_out: of the nodes that are given, why objects are not about them."""

    faults: tuple[Fault, ...]
    objects: int
    warnings: tuple[str, ...] = ()
    left_out: Mapping[str, tuple[Why, ...]] = Factory(dict)

    @property
    def errors(self) -> int:
        """How many are errors."""
        return sum(item.problem.severity is Severity.ERROR for item in self.faults)

    @property
    def unreadable(self) -> bool:
        """Whether there is something that no verb can read."""
        return any(item.refusal for item in self.faults)


@frozen
class _Found:
    """What stands in one document."""

    file: str
    number: int
    item: int | None
    document: Document
    label: str

    @property
    def content(self) -> Mapping[str, Any]:
        return self.document.content


def check_files(paths: Sequence[str]) -> Checked:
    """Check all files. Errors: InputError for a folder that cannot be listed."""
    documents: list[_Found] = []
    faults: list[Fault] = []
    texts: dict[str, str] = {}
    for path in paths:
        for file in files_of(path):
            name = "standard input" if file == "-" else file
            try:
                data = read_file(file)
                texts[name] = data.decode("utf-8", "replace")
                documents += [_found(name, item) for item in parse_documents(data, name)]
            except InputError as failure:
                problem = error(Code.OBJECT_UNREADABLE, "", "", str(failure))
                faults.append(Fault(name, 0, 0, problem, str(failure)))
    values: dict[type, list[Any]] = {kind: [] for kind in (*KINDS.values(), Node)}
    warnings: list[str] = []
    readable = []
    for item in documents:
        found = list(_of_document(item, texts[item.file], values, warnings))
        faults += found
        readable += [] if any(fault.refusal for fault in found) else [item.document]
    faults += _twice(readable)
    intent = Intent(*(tuple(values[KINDS[kind]]) for kind in _ORDER))
    faults += _of_intent(intent, documents, texts)
    faults += _of_pods(intent, documents, texts)
    order = {name: number for number, name in enumerate(texts)}
    unique = sorted(dict.fromkeys(faults), key=lambda it: (order.get(it.file, -1), it.line))
    if not documents and not faults:
        problem = error(Code.OBJECT_UNREADABLE, "", "", nothing_in(paths))
        unique = [Fault(paths[0], 0, 0, problem, problem.message)]
    reasons = left_out_of_nodes(intent, values[Node])
    return Checked(tuple(unique), len(documents), tuple(dict.fromkeys(warnings)), reasons)


_ORDER = ("PowerProfile", "PowerWorkload", "PowerNodeConfig", "Uncore", "PowerConfig", "PowerCap")


def _found(file: str, item: Document) -> _Found:
    place = _PLACE.search(item.source)
    number = int(place[1]) if place else 1
    index = int(place[2]) if place and place[2] else None
    meta = item.content.get("metadata")
    name = meta.get("name") if isinstance(meta, Mapping) else None
    label = f"{one_line(item.content.get('kind'), 60)}/{one_line(name, 253)}"
    return _Found(file, number, index, item, label)


# --- a document by itself ---


def _of_document(
    item: _Found, text: str, values: dict[type, list[Any]], warnings: list[str]
) -> Iterator[Fault]:
    """What is wrong with its shape; what is right goes to `values`."""
    kind = str(item.content.get("kind"))
    try:
        found = cluster_of([item.document])
    except InputError as failure:
        yield from _refused(item, text, failure)
        # what is no field is passed over, so that the rest is judged too
        if kind in KINDS and isinstance(failure.__context__, WireError):
            with suppress(WireError):
                values[KINDS[kind]].append(structure_object(item.content, strict=False))
    else:
        if kind not in _TEMPLATES:
            warnings += found.warnings
        values[Node] += found.nodes.values()
        for objects in (found.intent.profiles, found.intent.workloads, found.intent.node_configs,
                        found.intent.uncores, found.intent.configs, found.intent.caps):  # fmt: skip
            for obj in objects:
                values[type(obj)].append(obj)


def _refused(item: _Found, text: str, failure: InputError) -> Iterator[Fault]:
    """Every fault of a document that cannot be read, the first in the words of all verbs."""
    cause, kind = failure.__context__, str(item.content.get("kind"))
    if not isinstance(cause, WireError):
        problem = error(Code.OBJECT_UNREADABLE, item.label, "", str(failure))
        yield _at(item, text, problem, str(failure))
        return
    head, mark, _ = str(failure).partition(one_line(cause))
    for path, what in cause.faults:
        message = what + (_hint(path, kind) if kind in KINDS else "")
        problem = error(Code.OBJECT_UNREADABLE, item.label, path, message)
        said = f"{path}: {message}" if path else message
        yield _at(item, text, problem, f"{head}{one_line(said)}" if mark else str(failure))


def _twice(documents: Sequence[Document]) -> Iterator[Fault]:
    """That an object is given twice."""
    try:
        cluster_of(documents)
    except InputError as failure:
        problem = error(Code.OBJECT_UNREADABLE, "", "", str(failure))
        yield Fault("", 0, 0, problem, str(failure))


def _hint(path: str, kind: str) -> str:
    """Where a field that stands one level off belongs."""
    parent, _, name = path.rpartition(".")
    below = names_of(KINDS[kind])
    if name in below.get(parent, ()):
        return ""
    homes = [home for home, fields in below.items() if name in fields and home != parent]
    return f"; {name} belongs under {homes[0]}" if homes and parent.startswith("spec") else ""


# --- all of them together ---


def _of_intent(
    intent: Intent, documents: Sequence[_Found], texts: Mapping[str, str]
) -> Iterator[Fault]:
    """What the rules say of the objects."""
    by_label: dict[str, _Found] = {}
    for item in documents:
        by_label.setdefault(item.label, item)
    for problem in validate_intent(intent):
        if problem.code is Code.NAME_MISMATCH:  # the API server refuses it
            problem = evolve(problem, severity=Severity.ERROR)
        found = by_label.get(problem.object)
        if found is not None:
            yield _at(found, texts[found.file], problem)
        else:
            first = documents[0]
            yield Fault(first.file, first.number, 0, problem)


def _of_pods(
    intent: Intent, documents: Sequence[_Found], texts: Mapping[str, str]
) -> Iterator[Fault]:
    """Whether the containers of pods and templates can own CPUs under the profiles they ask for."""
    profiles = {item.meta.name: item for item in intent.profiles}
    for item in documents:
        kind = item.content.get("kind")
        if kind not in _TEMPLATES:
            continue
        path = _TEMPLATES[str(kind)]
        template: Any = item.content
        for step in path:
            template = template.get(step) if isinstance(template, Mapping) else None
        if not isinstance(template, Mapping):
            continue
        named = {**template, "metadata": {**_meta(template), "name": item.label.partition("/")[2]}}
        try:
            pod = structure_pod({**named, "spec": template.get("spec")})
        except WireError as failure:
            place = ".".join(path)
            problem = error(Code.OBJECT_UNREADABLE, item.label, place, str(failure))
            if path:  # of a Pod it has been said
                yield _at(item, texts[item.file], problem)
            continue
        for field, code, message in pod_faults(pod, profiles if intent.profiles else None):
            say = warning if code is Code.PROFILE_MISSING else error
            place = ".".join((*path, field))
            yield _at(item, texts[item.file], say(code, item.label, place, message))


def _meta(template: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = template.get("metadata")
    return meta if isinstance(meta, Mapping) else {}


# --- lines ---


def _at(item: _Found, text: str, problem: Problem, refusal: str = "") -> Fault:
    """A problem with its line: that of the deepest step of its field that is there."""
    field = problem.field
    steps = [] if item.item is None else ["items", f"[{item.item}]"]
    steps += _STEP.findall(field)
    return Fault(item.file, item.number, _line(text, item.number, steps), problem, refusal)


def _line(text: str, number: int, steps: Iterable[str]) -> int:
    """The line of a step in a document; the text has been read without a fault before."""
    try:
        nodes = list(yaml.compose_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except (yaml.YAMLError, ValueError, RecursionError):
        return 0
    node = nodes[number - 1] if number <= len(nodes) else None
    line = 0
    for step in (None, *steps):
        if step is not None:
            node = _inner(node, step)
        if node is None:
            break
        line = node.start_mark.line + 1
    return line


def _inner(node: Any, step: str) -> Any:
    if isinstance(node, yaml.MappingNode):
        pairs = ((key, value) for key, value in node.value if getattr(key, "value", None) == step)
        return next((value if isinstance(value, yaml.ScalarNode) else key if not value.value
                     else value for key, value in pairs), None)  # fmt: skip
    if isinstance(node, yaml.SequenceNode) and step.startswith("["):
        index = int(step[1:-1])
        return node.value[index] if index < len(node.value) else None
    return None
