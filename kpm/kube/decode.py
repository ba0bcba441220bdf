"""What an API server sends, as values: whole where it can be read so, else item by item.

Whoever may create an object may nest it deeper than this process's stack is, or write a number of
thousands of digits: a list that holds it cannot be read in one go. Then it is cut at its items
without recursion, and what cannot be read costs itself: `managedFields`, which nobody here uses,
are left out first; of what still cannot be read the identity is kept.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TypeGuard

from attrs import frozen

from kpm.formats.unread import Unread

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},:]', re.DOTALL)
_IDENTITY = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
)
_LONGEST_IDENTITY = 600
_OPENING, _CLOSING = (b"{", b"["), (b"}", b"]")


@frozen
class Page:
    """A page of a list. token: of the next one, None where there is none."""

    items: tuple[dict[str, Any], ...]
    version: str
    token: str | None


def decode(data: bytes) -> Any:
    """A value. Errors: ValueError, also for one that is nested too deep."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("is nested too deep") from None


def decode_list(data: bytes) -> Any:
    """A list of objects; those that cannot be read are `Unread`.

    Errors: ValueError where not even its items can be told apart.
    """
    try:
        return decode(data)
    except ValueError:
        members = _members(data)
        found = {key: decode(data[slice(*span)]) for key, span in members.items() if key != "items"}
        return {
            **found,
            "items": [
                _item(data[slice(*span)]) for span in _elements(data, members.get("items", (0, 0)))
            ],
        }


def decode_event(line: bytes) -> Any:
    """An event of a watch; its object is `Unread` where it cannot be read. Errors: ValueError."""
    try:
        return decode(line)
    except ValueError:
        members = _members(line)
        if not {"type", "object"} <= members.keys():
            raise
        return {
            "type": decode(line[slice(*members["type"])]),
            "object": _item(line[slice(*members["object"])]),
        }


def page_of(content: Any) -> Page:
    """A list as it is used; an item that is no object is left out.

    Errors: ValueError for what is no list.
    """
    meta, items = content.get("metadata"), content.get("items")
    if not isinstance(meta, dict) or not isinstance(items, list | None):
        raise ValueError("is no list")  # noqa: TRY004  # one kind of error for what is no list
    token = meta.get("continue")
    if not isinstance(token, str | None):
        raise ValueError("has a token that is none")  # noqa: TRY004
    return Page(
        tuple(filter(is_object, items or ())), str(meta.get("resourceVersion") or ""), token or None
    )


def is_object(item: Any) -> TypeGuard[dict[str, Any]]:
    """Whether something has the shape of an object: a mapping with metadata that is one."""
    return isinstance(item, dict) and isinstance(item.get("metadata"), dict)


def _item(data: bytes) -> Any:
    """An object, without its managedFields if it cannot be read with them; else its identity and
    why.
    """
    try:
        return decode(data)
    except ValueError as failure:
        why = str(failure)
    start, end = _places(data).get("metadata", (0, 0))
    metadata = data[start:end]
    inner = _places(metadata)
    if "managedFields" in inner:
        first, last = inner["managedFields"]
        with suppress(ValueError):
            return decode(data[: start + first] + b"null" + data[start + last :])
    return Unread(_identity(metadata, inner), why)


def _identity(metadata: bytes, places: dict[str, tuple[int, int]]) -> dict[str, str]:
    found = {}
    for name in _IDENTITY:
        first, last = places.get(name, (0, 0))
        with suppress(ValueError):
            value = decode(metadata[first:last]) if last - first <= _LONGEST_IDENTITY else None
            if isinstance(value, str):
                found[name] = value
    return found


def _places(data: bytes) -> dict[str, tuple[int, int]]:
    """Where the value of each member of an object is; nothing for what is no object."""
    try:
        return _members(data)
    except ValueError:
        return {}


def _members(data: bytes) -> dict[str, tuple[int, int]]:
    """Where the value of each member of an object is. Errors: ValueError for what is no object."""
    found: dict[str, tuple[int, int]] = {}
    key, start = None, 0
    for depth, token, at in _tokens(data):
        if depth == 1 and token == b":" and key is not None:
            start = at + 1
        elif depth == 1 and token[:1] == b'"' and not start:
            key = str(decode(token))
        elif (depth == 1 and token == b",") or depth == 0:
            if key is not None and start:
                found[key] = (start, at)
            key, start = None, 0
    return found


def _elements(data: bytes, span: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Where each element of an array is."""
    offset = span[0]
    start = None
    for depth, token, at in _tokens(data[slice(*span)]):
        if depth == 1 and token == b"[" and start is None:
            start = at + 1
        elif (depth == 1 and token == b",") or depth == 0:
            if start is not None and data[offset + start : offset + at].strip():
                yield offset + start, offset + at
            start = at + 1


def _tokens(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Depth, text and place of every mark and string; the depth of a bracket that opens counts it,
    of one that closes does not.
    """
    depth = 0
    for match in _TOKEN.finditer(data):
        token = match[0]
        if token in _OPENING:
            depth += 1
        elif token in _CLOSING:
            depth -= 1
        if depth < 0:
            break
        yield depth, token, match.start()
        if depth == 0:
            return
    raise ValueError("ends before its end")
