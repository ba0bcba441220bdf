"""Documents out of files: YAML and JSON, many in one, Lists unpacked; bounded in size, depth and
expansion.
"""

import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from attrs import frozen

from kpm.process.errors import InputError, one_line

#: Largest input file; larger clusters are given as several files.
LARGEST_FILE = 64 << 20
#: Values that a document may expand to through YAML aliases, and how deep it may nest.
LARGEST_DOCUMENT, DEEPEST = 2_000_000, 60
#: A line that begins with so much indentation and so many dashes that it may nest deeply.
_DEEP_LINE = re.compile(rf"^[ \-?]{{{2 * DEEPEST},}}", re.MULTILINE)
_ENDINGS = (".yaml", ".yml", ".json")

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """YAML as Kubernetes reads it: times stay text, a key stands once, no aliases to itself."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the library's own way to say it
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag.rpartition(":")[2] not in ("timestamp", "value", "int", "float")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [item.value for item, _ in node.value if isinstance(item, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            twice = next(key for index, key in enumerate(keys) if key in keys[:index])
            raise yaml.constructor.ConstructorError(
                None, None, f"key {twice!r} stands twice in one mapping", node.start_mark
            )
        return super().construct_mapping(node, deep)


#: Numbers as YAML 1.2 and JSON have them, and not the base 60 of YAML 1.1, in which 12:30 is one.
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+)\Z")
_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))\Z|\.(?:nan|NaN|NAN)\Z"
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INTEGER, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


@frozen
class Document:
    """One document and where it stands, for messages."""

    content: Mapping[str, Any]
    source: str


def read_documents(paths: Sequence[str]) -> list[Document]:
    """All documents of files, folders (their .yaml, .yml, .json, sorted) and "-" for standard
    input.

    Errors: InputError.
    """
    found: list[Document] = []
    for path in paths:
        for file in files_of(path):
            found += parse_documents(read_file(file), "standard input" if file == "-" else file)
    if not found:
        raise InputError(nothing_in(paths))
    return found


def nothing_in(paths: Sequence[str]) -> str:
    """That there is no object in files, for people."""
    return f"{', '.join(paths)}: holds no object; one with apiVersion and kind is needed"


def files_of(path: str) -> list[str]:
    """The files of a path: itself, or those of a folder, sorted. Errors: InputError."""
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
            if sys.stdin is None:
                raise InputError(
                    "standard input: is closed; a file, a folder or open standard input is allowed"
                )
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
    """The documents of a text, Lists unpacked.

    Errors: InputError that names source and document.
    """
    found: list[Document] = []
    for number, content in enumerate(_parse(data, source), 1):
        place = f"{source}: document {number}"
        if content is None:
            continue
        _measure(content, place)
        if not isinstance(content, Mapping):
            raise InputError(
                f"{place}: expected an object with apiVersion and kind, got"
                f" {one_line(repr(content), 60)}"
            )
        found += _unpack(content, place)
    return found


def parse_mapping(data: bytes, source: str) -> Mapping[str, Any]:
    """The only document of a text. Errors: InputError."""
    contents = [content for content in _parse(data, source) if content is not None]
    if len(contents) != 1 or not isinstance(contents[0], Mapping):
        raise InputError(
            f"{source}: exactly one mapping is allowed here, not {len(contents)} documents"
        )
    _measure(contents[0], source)
    check_json(contents[0], source)
    return contents[0]


def _parse(data: bytes, source: str) -> Iterator[Any]:
    number = 1
    try:
        text = data.decode()
        if text.lstrip()[:1] == "{":
            try:
                yield _parse_json(text)
            except (json.JSONDecodeError, RecursionError):
                pass  # flow-style YAML and several documents begin so too
            else:
                return
        if _suspicious(text):
            _check_events(text)
        for content in yaml.load_all(text, Loader=_Loader):
            yield content
            number += 1
    except yaml.MarkedYAMLError as failure:
        line = failure.problem_mark.line + 1 if failure.problem_mark else "?"
        raise InputError(
            f"{source}: document {number}: line {line}: {one_line(failure.problem)}; YAML or JSON"
            " is allowed"
        ) from None
    # of the library's constructors, for tags that do not fit their text
    except (KeyError, AttributeError, IndexError, TypeError):
        raise InputError(
            f"{source}: document {number}: a value does not fit its tag; YAML without tags or JSON"
            " is allowed"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as failure:
        raise InputError(
            f"{source}: document {number}: {one_line(failure, 200)}; YAML or JSON is allowed"
        ) from None


def _parse_json(text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            keys = [key for key, _ in pairs]
            raise ValueError(
                f"key {next(key for index, key in enumerate(keys) if key in keys[:index])!r} stands"
                " twice in one mapping"
            )
        return content

    return json.loads(text, object_pairs_hook=once)


def _suspicious(text: str) -> bool:
    """Whether a text may nest deeply or refer to parts of itself, and has to be looked through
    before it is built.
    """
    return (
        "*" in text
        or text.count("[") + text.count("{") > DEEPEST
        or _DEEP_LINE.search(text) is not None
    )


def _check_events(text: str) -> None:
    """Refuse what would nest too deep or expand beyond all measure; the parser's events need no
    stack. Errors: ValueError.
    """
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, Loader=_Loader):
        size = 1
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            open_nodes.append((event.anchor, total))
            if len(open_nodes) > DEEPEST:
                raise ValueError(f"nests deeper than the {DEEPEST} levels that are allowed")
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_nodes):
                raise ValueError(f"alias {event.anchor} contains itself")
            size = sizes.get(str(event.anchor), 1)
        elif isinstance(event, yaml.ScalarEvent) and event.anchor:
            sizes[event.anchor] = 1
        total += size
        if isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = total - before
        if total > LARGEST_DOCUMENT * 4:
            raise ValueError(f"expands to more than the {LARGEST_DOCUMENT} values that are allowed")


def _measure(content: Any, place: str) -> None:
    """Refuse a document that is too large or too deep."""
    left = LARGEST_DOCUMENT

    def count(value: Any, depth: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise InputError(
                f"{place}: expands to more than the {LARGEST_DOCUMENT} values that are allowed"
            )
        if depth > DEEPEST:
            raise InputError(f"{place}: nests deeper than the {DEEPEST} levels that are allowed")
        for item in (
            value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        ):
            count(item, depth + 1)

    count(content, 0)


def check_json(content: Any, place: str) -> None:
    """Refuse what JSON does not have, in a document that is read.

    Errors: InputError that names the field.
    """

    def check(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                if type(key) is not str:
                    raise InputError(
                        f"{place}: {path.removesuffix('.') or 'keys'}: expected keys that are text"
                        f" (quote numbers, true and yes), got {one_line(repr(key), 60)}"
                    )
                check(item, f"{path}{one_line(key, 80)}.")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                check(item, f"{path.removesuffix('.')}[{index}].")
        else:
            _check_scalar(value, f"{place}: {path.removesuffix('.')}")

    check(content, "")


def _check_scalar(value: Any, place: str) -> None:
    """Refuse what JSON does not have, and numbers that no field of the API holds."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{place}: expected a finite number, got {value}")
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise InputError(
            f"{place}: expected a number of at most 64 bits, got one of {value.bit_length()}"
        )
    if (
        isinstance(value, str)
        and not value.isascii()
        and any("\ud800" <= char <= "\udfff" for char in value)
    ):
        raise InputError(
            f"{place}: expected text of whole characters, got {one_line(ascii(value), 60)}"
        )
    if type(value) not in (str, int, float, bool, type(None)):
        raise InputError(
            f"{place}: expected text, number, true, false or null, got {type(value).__name__}"
            f" {one_line(repr(value), 60)}"
        )


def _unpack(content: Mapping[str, Any], place: str) -> Iterator[Document]:
    kind = content.get("kind")
    items = content.get("items")
    if not isinstance(kind, str) or not kind.endswith("List") or items is None:
        yield Document(content, place)
        return
    if not isinstance(items, list):
        raise InputError(f"{place}: items: expected a list, got {one_line(repr(items), 60)}")
    for index, item in enumerate(items):
        if not isinstance(item, Mapping):
            raise InputError(
                f"{place}: items[{index}]: expected an object with apiVersion and kind, got"
                f" {one_line(repr(item), 60)}"
            )
        defaults = (
            {"apiVersion": content.get("apiVersion"), "kind": kind.removesuffix("List")}
            if kind != "List"
            else {}
        )
        yield Document({**defaults, **item}, f"{place} items[{index}]")
