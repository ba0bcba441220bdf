"""Documents out of files: YAML and JSON, many in one, Lists unpacked; bounded in size, depth and expansion."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from attrs import frozen

from kpm.errors import InputError, one_line

#: Largest input file; larger clusters are given as several files.
LARGEST_FILE = 64 << 20
#: Values that a document may expand to through YAML aliases, and how deep it may nest.
LARGEST_DOCUMENT, DEEPEST = 2_000_000, 60
_ENDINGS = (".yaml", ".yml", ".json")

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """YAML as Kubernetes reads it: times stay text, a key stands once, no aliases to itself."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the library's own way to say it
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [item.value for item, _ in node.value if isinstance(item, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            twice = next(key for index, key in enumerate(keys) if key in keys[:index])
            raise yaml.constructor.ConstructorError(None, None, f"key {twice!r} stands twice in one mapping", node.start_mark)
        return super().construct_mapping(node, deep)


@frozen
class Document:
    """One document and where it stands, for messages."""

    content: Mapping[str, Any]
    source: str


def read_documents(paths: Sequence[str]) -> list[Document]:
    """All documents of files, folders (their .yaml, .yml, .json, sorted) and "-" for standard input.

    Errors: InputError.
    """
    found: list[Document] = []
    for path in paths:
        for file in _files(path):
            found += parse_documents(read_file(file), "standard input" if file == "-" else file)
    return found


def _files(path: str) -> list[str]:
    if path == "-" or not os.path.isdir(path):
        return [path]
    try:
        names = sorted(os.listdir(path))
    except OSError as failure:
        raise InputError(f"{path}: cannot read the folder: {failure.strerror}") from None
    files = [os.path.join(path, name) for name in names if name.endswith(_ENDINGS)]
    if not files:
        raise InputError(f"{path}: holds no file that ends in {', '.join(_ENDINGS)}")
    return files


def read_file(path: str) -> bytes:
    """A whole input file. Errors: InputError where it cannot be read or is larger than allowed."""
    try:
        if path == "-":
            data = sys.stdin.buffer.read(LARGEST_FILE + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(LARGEST_FILE + 1)
    except OSError as failure:
        raise InputError(f"{path}: cannot read: {failure.strerror}") from None
    if len(data) > LARGEST_FILE:
        raise InputError(f"{path}: is larger than the {LARGEST_FILE >> 20} MiB that are allowed")
    return data


def parse_documents(data: bytes, source: str) -> list[Document]:
    """The documents of a text, Lists unpacked. Errors: InputError that names source and document."""
    found: list[Document] = []
    for number, content in enumerate(_parse(data, source), 1):
        place = f"{source}: document {number}"
        if content is None:
            continue
        _measure(content, place)
        if not isinstance(content, Mapping):
            raise InputError(f"{place}: is no mapping but {one_line(repr(content), 60)}; an object with apiVersion and kind is allowed")
        found += _unpack(content, place)
    return found


def parse_mapping(data: bytes, source: str) -> Mapping[str, Any]:
    """The only document of a text. Errors: InputError."""
    contents = [content for content in _parse(data, source) if content is not None]
    if len(contents) != 1 or not isinstance(contents[0], Mapping):
        raise InputError(f"{source}: exactly one mapping is allowed here, not {len(contents)} documents")
    _measure(contents[0], source)
    return contents[0]


def _parse(data: bytes, source: str) -> Iterator[Any]:
    number = 1
    try:
        text = data.decode()
        if text.lstrip()[:1] == "{" and not source.endswith((".yaml", ".yml")):
            yield _parse_json(text)
            return
        _check_depth(text)
        for content in yaml.load_all(text, Loader=_Loader):
            yield content
            number += 1
    except yaml.MarkedYAMLError as failure:
        line = failure.problem_mark.line + 1 if failure.problem_mark else "?"
        raise InputError(f"{source}: document {number}: line {line}: {one_line(failure.problem)}; YAML or JSON is allowed") from None
    except (yaml.YAMLError, ValueError, RecursionError) as failure:
        raise InputError(f"{source}: document {number}: {one_line(failure, 200)}; YAML or JSON is allowed") from None


def _parse_json(text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            keys = [key for key, _ in pairs]
            raise ValueError(f"key {next(key for index, key in enumerate(keys) if key in keys[:index])!r} stands twice in one mapping")
        return content

    return json.loads(text, object_pairs_hook=once)


def _check_depth(text: str) -> None:
    """Refuse nesting so deep that a parser would run out of stack: brackets of flow style, and indentation."""
    deepest = text.count("[") + text.count("{")
    if deepest > DEEPEST:
        depth = 0
        for char in text:
            depth += (char in "[{") - (char in "]}")
            if depth > 10 * DEEPEST:
                raise ValueError(f"nests deeper than the {DEEPEST} levels that are allowed")


def _measure(content: Any, place: str) -> None:
    """Refuse a document that expands beyond all measure through its aliases, or contains itself."""
    sizes: dict[int, int] = {}

    def size(value: Any, depth: int) -> int:
        if not isinstance(value, (dict, list)):
            return 1
        if depth > DEEPEST:
            raise InputError(f"{place}: nests deeper than the {DEEPEST} levels that are allowed")
        if id(value) not in sizes:
            inner = value.values() if isinstance(value, dict) else value
            sizes[id(value)] = 1 + sum(size(item, depth + 1) for item in inner)
            if sizes[id(value)] > LARGEST_DOCUMENT:
                raise InputError(f"{place}: expands to more than the {LARGEST_DOCUMENT} values that are allowed")
        return sizes[id(value)]

    size(content, 0)


def _unpack(content: Mapping[str, Any], place: str) -> Iterator[Document]:
    kind = content.get("kind")
    items = content.get("items")
    if not isinstance(kind, str) or not kind.endswith("List") or items is None:
        yield Document(content, place)
        return
    if not isinstance(items, list):
        raise InputError(f"{place}: items: {one_line(repr(items), 60)} is not allowed: a list")
    for index, item in enumerate(items):
        if not isinstance(item, Mapping):
            raise InputError(f"{place}: items[{index}]: {one_line(repr(item), 60)} is not allowed: an object with apiVersion and kind")
        defaults = {"apiVersion": content.get("apiVersion"), "kind": kind.removesuffix("List")} if kind != "List" else {}
        yield Document({**defaults, **item}, f"{place} items[{index}]")
