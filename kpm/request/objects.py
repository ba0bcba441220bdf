"""Objects out of documents: the planner's intent, nodes and pods of one cluster, and what was
ignored.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from kpm.formats.documents import Document, check_json, parse_mapping, read_documents, read_file
from kpm.formats.pods import structure_node, structure_pod, structure_pod_resources
from kpm.formats.wire import GROUPS, KINDS, WireError, intent_of, structure_object
from kpm.process.errors import InputError, one_line, show
from kpm_planner.model.allocation import ContainerCpus
from kpm_planner.model.cluster import SYSTEM_NAMESPACE, Node, Pod
from kpm_planner.model.objects import (
    Intent,
)

#: Kinds that are written by this system and only reported back; there is nothing in them to plan
#: from.
_STATUS_KINDS = frozenset({"PowerNode", "PowerNodeState"})


@frozen
class GivenObjects:
    """The objects of a cluster. warnings: one line each, of what was ignored. documents: what they
    came from.
    """

    intent: Intent = Intent()
    nodes: Mapping[str, Node] = field(factory=dict)
    pods: tuple[Pod, ...] = ()
    warnings: tuple[str, ...] = ()
    documents: tuple[Mapping[str, Any], ...] = ()


def read_cluster(paths: Sequence[str]) -> GivenObjects:
    """The objects of files, folders and standard input. Errors: InputError, one line."""
    cluster = cluster_of(read_documents(paths))
    if not cluster.documents:
        raise InputError(
            f"{', '.join(paths)}: holds no object of a kind that is read:"
            f" {', '.join((*KINDS, 'Node', 'Pod'))}"
        )
    return cluster


def cluster_of(documents: Iterable[Document]) -> GivenObjects:
    """The objects of documents.

    Errors: InputError that names source, object, field, value and what is allowed.
    """
    found: dict[type, list[Any]] = {kind: [] for kind in (*KINDS.values(), Node, Pod)}
    seen: dict[tuple[str, str, str], str] = {}
    warnings, kept = [], []
    for document in documents:
        content = document.content
        kind = content.get("kind")
        reader = _reader(content, document.source)
        if reader is None:
            if kind not in _STATUS_KINDS:
                warnings.append(
                    f"{document.source}: {one_line(kind)}{_name_of(content, '/')} of"
                    f" {one_line(content.get('apiVersion'))} is ignored"
                )
            continue
        check_json(content, f"{document.source}: {kind}")
        try:
            obj = reader(content)
        except WireError as failure:
            raise InputError(
                f"{document.source}: {kind}{_name_of(content)}: {one_line(failure)}"
            ) from None
        _note_twice(obj, str(content["apiVersion"]), str(kind), document.source, seen)
        found[type(obj)].append(obj)
        kept.append(content)
    nodes = {node.name: node for node in found[Node]}
    return GivenObjects(intent_of(found), nodes, tuple(found[Pod]), tuple(warnings), tuple(kept))


def _name_of(content: Mapping[str, Any], mark: str = " ") -> str:
    """A mark and the name of an object, "" where it has none."""
    meta = content.get("metadata")
    name = meta.get("name") if isinstance(meta, Mapping) else None
    return f"{mark}{one_line(name, 60)}" if name else ""


def _reader(content: Mapping[str, Any], source: str) -> Any:
    version, kind = content.get("apiVersion"), content.get("kind")
    if not isinstance(version, str) or not isinstance(kind, str):
        wrong = "kind" if isinstance(version, str) else "apiVersion"
        raise InputError(
            f"{source}: {wrong}: expected text such as"
            f" {'PowerProfile' if wrong == 'kind' else 'power.openshift.io/v1'}, got"
            f" {show(content.get(wrong))}"
        )
    if version == "v1":
        return {"Node": structure_node, "Pod": structure_pod}.get(kind)
    group, _, number = version.partition("/")
    if group not in GROUPS or kind not in KINDS:
        return None
    if number != "v1":
        raise InputError(
            f"{source}: {kind}: apiVersion: expected {group}/v1, got {one_line(version, 60)!r}"
        )
    return structure_object


def _note_twice(
    obj: Any, version: str, kind: str, source: str, seen: dict[tuple[str, str, str], str]
) -> None:
    if isinstance(obj, Node):
        name, namespace = obj.name, ""
    else:
        name, namespace = (
            obj.meta.name,
            obj.meta.namespace or SYSTEM_NAMESPACE.get(version.partition("/")[0], "default"),
        )
    key = (f"{version}/{kind}", namespace, name)
    if key in seen:
        where = f"{namespace}/{name}" if namespace else name
        raise InputError(
            f"{source}: {kind}: metadata.name: {where!r} stands twice, first in {seen[key]}; each"
            " name is allowed once"
        )
    seen[key] = source


def read_pod_resources(path: str) -> tuple[tuple[ContainerCpus, ...], frozenset[int] | None]:
    """What the kubelet reported, from a file of its JSON. Errors: InputError."""
    try:
        return structure_pod_resources(parse_mapping(read_file(path), path))
    except WireError as failure:
        raise InputError(f"{path}: {one_line(failure)}") from None
