"""How much of a status there is room for: an object of the API is to stay below 16 KiB whatever a
node is like.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

from attrs import fields, has

LONGEST_MESSAGE = 240
#: Quotes, colons and commas around a key or an entry.
_AROUND = 8
_Entry = TypeVar("_Entry")


def cut(text: str) -> str:
    """A message as statuses hold it."""
    return text if len(text) <= LONGEST_MESSAGE else f"{text[: LONGEST_MESSAGE - 1]}…"


def fitted(entries: Sequence[_Entry], room: int) -> tuple[tuple[_Entry, ...], int]:
    """As many of the entries, from the first on, as fit in so many bytes; and how many do not."""
    kept = []
    for entry in entries:
        room -= _size(entry) + _AROUND
        if room < 0:
            break
        kept.append(entry)
    return tuple(kept), len(entries) - len(kept)


def _size(value: Any) -> int:
    """About the bytes of a value as JSON; not below them."""
    if isinstance(value, str):
        return 2 + sum(
            1 if char.isascii() and char.isprintable() and char not in '"\\' else 6
            for char in value
        )
    if isinstance(value, tuple):
        return sum(_size(item) + 2 for item in value)
    if has(type(value)):
        parts = ((item.name, getattr(value, item.name)) for item in fields(type(value)))
        return sum(
            len(name) + _AROUND + _size(part) for name, part in parts if part not in (None, "", ())
        )
    return len(str(value))
