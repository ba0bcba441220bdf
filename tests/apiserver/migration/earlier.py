"""The earlier operators' definitions and objects, out of the notation of definitions.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
Document = dict[str, Any]
#: The components of the newer operator that write a PowerNodeState, each by server-side apply.
WRITERS = {
    "nodeInfo": "powerconfig-controller",
    "powerProfiles": "powerprofile-controller",
    "cpuPools": "powernodeconfig-controller",
    "uncore": "uncore-controller",
}


def kinds(group: str) -> dict[str, str]:
    """Kind → plural."""
    return {kind: str(entry["plural"]) for kind, entry in _table()[group].items()}


def definitions(group: str) -> list[Document]:
    """The CustomResourceDefinitions of a group as its operator has them."""
    return [_definition(group, kind, entry) for kind, entry in _table()[group].items()]


def objects(name: str) -> list[Document]:
    """The objects of a file, each with its status."""
    return list(yaml.safe_load_all((FOLDER / f"{name}.yaml").read_text()))


def _table() -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / "definitions.yaml").read_text()))


def _definition(group: str, kind: str, entry: Document) -> Document:
    root = {
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _schema(entry["spec"]),
            "status": _schema(entry["status"]),
        },
    }
    plural = entry["plural"]
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": root},
        "subresources": {"status": {}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def _schema(shape: Any) -> Document:
    if isinstance(shape, list):
        keyed = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": shape[1:]}
        return {"type": "array", "items": _schema(shape[0]), **(keyed if shape[1:] else {})}
    if isinstance(shape, dict):
        return _object(shape)
    kind, given, default = shape.partition("=")
    value: Any = {"integer": int}.get(kind, str)(default) if given else None
    schema: Document = {"type": kind}
    if kind == "int-or-string":
        either = [{"type": "integer"}, {"type": "string"}]
        schema = {"x-kubernetes-int-or-string": True, "anyOf": either}
    return {**schema, **({"default": value} if given else {})}


def _object(shape: Document) -> Document:
    if list(shape) == ["*"]:
        return {"type": "object", "additionalProperties": _schema(shape["*"])}
    properties = {name.removesuffix("!"): _schema(inner) for name, inner in shape.items()}
    needed = [name.removesuffix("!") for name in shape if name.endswith("!")]
    found: Document = {"type": "object"}
    if properties:
        found["properties"] = properties
    return {**found, **({"required": needed} if needed else {})}
