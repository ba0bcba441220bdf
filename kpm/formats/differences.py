"""Where two documents differ, place by place."""

from collections.abc import Iterator, Mapping
from typing import Any

from kpm.process.errors import show


def differences(before: Any, now: Any, place: str = "") -> Iterator[str]:
    """A line for each place at which two documents of JSON differ, such as
    `nodes[0].cpus[3].pool: was 'shared', is 'exclusive'`.

    >>> list(differences({"a": [1, 2], "b": 1}, {"a": [1, 3, 4]}))
    ['a[1]: was 2, is 3', 'a[2]: was not there, is 4', 'b: was 1, is not there']
    """
    if before == now:
        return
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*before, *now]):
            inner = f"{place}.{key}" if place else str(key)
            yield from differences(before.get(key, _NOTHING), now.get(key, _NOTHING), inner)
    elif isinstance(before, list) and isinstance(now, list):
        for index in range(max(len(before), len(now))):
            was, is_now = (
                entries[index] if index < len(entries) else _NOTHING for entries in (before, now)
            )
            yield from differences(was, is_now, f"{place}[{index}]")
    else:
        yield f"{place}: was {_told(before)}, is {_told(now)}"


_NOTHING = object()


def _told(value: object) -> str:
    return "not there" if value is _NOTHING else show(value)
